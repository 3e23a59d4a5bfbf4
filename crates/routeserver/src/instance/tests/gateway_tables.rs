//! The kernel tables of gateways' instances: what a NIC of GatewaySubnet has, and what the gateway has learned itself.

use bgp::FamilySet;

use super::hybrid::hybrid;
use super::world::*;
use crate::delivery::tests::ModelAgent;
use crate::delivery::{AgentId, ToAgent};
use crate::instance::Input;
use crate::intent::{PeerIntent, PeerKind, StaticRouteIntent};
use crate::testing::*;

const AGENT: AgentId = AgentId(3);
const NICS: [&str; 4] = ["vpn/instances/0", "er/instances/0", "edge/instances/0", "vm"];

/// `hybrid` with an agent that follows everything.
fn followed(asn_of_vpn: u32) -> (World, ModelAgent) {
    let mut world = hybrid(asn_of_vpn);
    world.input(Input::AgentFollows {
        agent: AGENT,
        name: "agent".into(),
        nics: NICS.map(str::to_owned).to_vec(),
        layers: true,
    });
    (world, ModelAgent::default())
}

/// What the agent has been told is what the instance says that it has.
fn check(world: &mut World, agent: &mut ModelAgent) {
    for (_, message) in std::mem::take(&mut world.to_agents) {
        agent.hear(message);
    }
    for nic in NICS {
        let rows = world.instance.effective_routes(nic).unwrap();
        let space = match nic {
            "edge/instances/0" => vec![],
            _ => vec![net("10.1.0.0/16")],
        };
        agent.check(nic, &rows, &space);
    }
}

fn row(world: &World, nic: &str, prefix: &str) -> Option<String> {
    let rows = world.instance.effective_routes(nic).expect("a NIC of this process");
    let row = rows.into_iter().find(|row| row.address_prefix == net(prefix))?;
    let next_hops: Vec<String> = row.next_hop_ip_address.iter().map(ToString::to_string).collect();
    Some(format!("{} {}", row.next_hop_type, next_hops.join(",")))
}

fn check_row(world: &World, nic: &str, prefix: &str, expected: &str) {
    assert_eq!(row(world, nic, prefix).as_deref(), Some(expected), "{nic} {prefix}");
}

#[test]
fn a_vpn_gateway_sends_to_nvas_themselves_and_to_sites_through_their_tunnels() {
    let (mut world, mut agent) = followed(65515);
    let vpn = "vpn/instances/0";
    check_row(&world, vpn, "10.1.0.0/16", "VnetLocal ");
    check_row(&world, vpn, "10.2.0.0/16", "VNetPeering ");
    check_row(&world, vpn, "10.250.0.0/16", "VirtualNetworkGateway 10.1.4.4");
    check_row(&world, vpn, "10.50.0.0/16", "VirtualNetworkGateway 192.168.101.1");
    check_row(&world, vpn, "10.60.0.0/16", "VirtualNetworkGateway 10.1.5.6");
    check_row(
        &world,
        "er/instances/0",
        "10.60.0.0/16",
        "VirtualNetworkGateway 10.200.0.1",
    );
    check_row(
        &world,
        "er/instances/0",
        "10.50.0.0/16",
        "VirtualNetworkGateway 10.1.5.4",
    );
    check(&mut world, &mut agent);
}

#[test]
fn a_providers_edge_has_what_it_has_learned_and_nothing_else() {
    let (world, _) = followed(65515);
    let rows = world.instance.effective_routes("edge/instances/0").unwrap();
    let rows: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {:?}", row.address_prefix, row.next_hop_ip_address))
        .collect();
    assert_eq!(
        rows,
        [
            "0.0.0.0/0 [10.1.5.6]",
            "10.1.0.0/16 [10.1.5.6]",
            "10.2.0.0/16 [10.1.5.6]",
            "10.50.0.0/16 [10.1.5.6]",
            "10.60.0.0/16 [192.168.103.1]",
            "10.250.0.0/16 [10.1.5.6]",
        ]
    );
}

#[test]
fn an_instance_is_known_to_its_own_process_alone() {
    let world = hybrid(65515);
    assert!(world.instance.effective_routes("vpn/instances/1").is_none());
}

#[test]
fn user_defined_routes_of_gateway_subnet_count() {
    let (mut world, mut agent) = followed(65515);
    world.edit(|intent| set_user_routes(intent, "gateways", &["10.2.0.0/16 10.1.4.9"]));
    check_row(&world, "vpn/instances/0", "10.2.0.0/16", "VirtualAppliance 10.1.4.9");
    check(&mut world, &mut agent);
}

#[test]
fn static_routes_go_through_the_far_end_of_their_tunnel() {
    let (mut world, mut agent) = followed(65515);
    world.edit(|intent| {
        intent.gateways[0].static_routes = vec![StaticRouteIntent {
            prefix: net("10.70.0.0/16"),
            next_hop: ip("192.168.109.1"),
            peering: None,
        }];
    });
    check_row(
        &world,
        "vpn/instances/0",
        "10.70.0.0/16",
        "VirtualNetworkGateway 192.168.109.1",
    );
    check_row(&world, "vm", "10.70.0.0/16", "VirtualNetworkGateway 10.1.5.4");
    check(&mut world, &mut agent);
}

#[test]
fn a_gateway_with_its_own_number_sends_where_the_route_server_would_and_follows_it() {
    let (mut world, mut agent) = followed(300);
    let vpn = "vpn/instances/0";
    check_row(&world, vpn, "10.250.0.0/16", "VirtualNetworkGateway 10.1.4.4");
    check(&mut world, &mut agent);
    // The gateway hears the same from the instance, whichever of the two it is.
    world.announce("nva2", path("10.1.4.5", &[65001]), &["10.250.0.0/16"]);
    check_row(&world, vpn, "10.250.0.0/16", "VirtualNetworkGateway 10.1.4.4,10.1.4.5");
    check(&mut world, &mut agent);
    world.kill("nva1");
    check_row(&world, vpn, "10.250.0.0/16", "VirtualNetworkGateway 10.1.4.5");
    check(&mut world, &mut agent);
    world.withdraw("nva2", &["10.250.0.0/16"]);
    assert_eq!(row(&world, vpn, "10.250.0.0/16"), None);
    check_row(&world, vpn, "10.50.0.0/16", "VirtualNetworkGateway 192.168.101.1");
    check(&mut world, &mut agent);
}

/// The gateway hears the route server's instance as next hop, so its RIB does not know that the NVA leads there, too.
#[test]
fn a_next_hop_that_a_site_took_with_it_stays_where_the_route_server_leads_through_it() {
    let (mut world, mut agent) = followed(300);
    let vpn = "vpn/instances/0";
    world.announce("site", path("10.1.4.4", &[64701]), &["10.51.0.0/16"]);
    check_row(&world, vpn, "10.51.0.0/16", "VirtualNetworkGateway 10.1.4.4");
    check_row(&world, vpn, "10.250.0.0/16", "VirtualNetworkGateway 10.1.4.4");
    check(&mut world, &mut agent);
    world.close("site");
    world.settle_once();
    for (_, message) in &world.to_agents {
        if let ToAgent::Delta(update) = message {
            let mut groups = update.groups.iter();
            assert!(groups.all(|group| !group.members.is_empty()), "{update:?}");
        }
    }
    world.run();
    check_row(&world, vpn, "10.250.0.0/16", "VirtualNetworkGateway 10.1.4.4");
    check(&mut world, &mut agent);
}

#[test]
fn tables_follow_branch_to_branch_and_a_gateway_that_goes() {
    let (mut world, mut agent) = followed(65515);
    check(&mut world, &mut agent);
    world.edit(|intent| intent.route_servers[0].branch_to_branch = false);
    assert_eq!(row(&world, "vpn/instances/0", "10.250.0.0/16"), None);
    check(&mut world, &mut agent);
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        intent.gateways.retain(|gateway| gateway.id != "er");
    });
    world.advance_secs(1);
    assert!(world.instance.effective_routes("er/instances/0").is_none());
    assert_eq!(row(&world, "vpn/instances/0", "10.60.0.0/16"), None);
}

#[test]
fn a_gateway_with_its_own_number_tells_no_site_what_only_the_other_process_can_send_on() {
    let (mut world, mut agent) = followed(300);
    world.add_nva("rs1-in-1", "10.1.1.5", 65515, FamilySet::IPV4);
    world.edit(|intent| {
        intent.gateways[0].peers.push(PeerIntent {
            kind: PeerKind::RouteServer,
            ..peer("vpn/rs1/1", "10.1.1.5", 65515)
        });
    });
    // An NVA that peers with IN_1 alone has said it there.
    world.announce("rs1-in-1", path("10.1.1.5", &[65515, 65001]), &["10.251.0.0/16"]);
    assert_eq!(world.verdict("vpn/rs1/1", "10.251.0.0/16"), "rejected own-next-hop");
    assert_eq!(row(&world, "vpn/instances/0", "10.251.0.0/16"), None);
    assert_eq!(world.told("site", "10.251.0.0/16"), None);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.251.0.0/16"]);
    check_row(
        &world,
        "vpn/instances/0",
        "10.251.0.0/16",
        "VirtualNetworkGateway 10.1.4.4",
    );
    assert!(world.told("site", "10.251.0.0/16").is_some());
    // In one AS the NVA's own address is the next hop, whoever says it.
    world.edit(|intent| {
        intent.gateways[0].asn = bgp::Asn::AZURE_ROUTE_SERVER;
        for peer in &mut intent.route_servers[0].peers {
            if peer.kind == PeerKind::VpnGateway {
                peer.asn = bgp::Asn::AZURE_ROUTE_SERVER;
            }
        }
    });
    world.advance_secs(30);
    world.announce("rs1-in-1", path("10.1.4.5", &[65001]), &["10.252.0.0/16"]);
    check_row(
        &world,
        "vpn/instances/0",
        "10.252.0.0/16",
        "VirtualNetworkGateway 10.1.4.5",
    );
    assert!(world.told("site", "10.252.0.0/16").is_some());
    check(&mut world, &mut agent);
}
