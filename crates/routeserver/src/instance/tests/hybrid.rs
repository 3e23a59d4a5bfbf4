//! A route server, both kinds of gateways and a provider's edge in one process, with sessions between them: what an NVA, a site and a
//! customer hear of each other (az §2.4, §2.6).

use bgp::{Asn, FamilySet};
use rib::Preference;

use super::world::*;
use crate::intent::{GatewayIntent, GatewayKind, PeerIntent, PeerKind};
use crate::testing::*;

pub(super) fn of_kind(kind: PeerKind, id: &str, address: &str, asn: u32) -> PeerIntent {
    PeerIntent {
        kind,
        ..peer(id, address, asn)
    }
}

pub(super) fn gateway(id: &str, kind: GatewayKind, asn: u32, address: &str, peers: Vec<PeerIntent>) -> GatewayIntent {
    let is_edge = kind == GatewayKind::ProviderEdge;
    GatewayIntent {
        id: id.into(),
        name: id.into(),
        kind,
        asn: Asn(asn),
        virtual_network: (!is_edge).then(|| "hub".into()),
        subnet: (!is_edge).then(|| "gateways".into()),
        instance_addresses: [Some(ip(address)), None],
        instance_addresses_v6: [None; 2],
        namespaces: [None, None],
        is_external: false,
        peers,
        static_routes: Vec::new(),
        static_route_maps: Vec::new(),
        routes_to_circuit: 1000,
        ipv6: false,
    }
}

/// `nva1` and `nva2` at the route server, `site` behind the VPN gateway, `customer` behind the circuit.
pub(super) fn hybrid(asn_of_vpn: u32) -> World {
    let mut world = world();
    world.add_nva("site", "192.168.101.1", 64701, FamilySet::IPV4);
    world.add_nva("customer", "192.168.103.1", 64900, FamilySet::IPV4);
    world.edit(|intent| {
        intent.virtual_networks[0]
            .subnets
            .push(subnet("gateways", "10.1.5.0/26"));
        let route_server = &mut intent.route_servers[0];
        route_server.branch_to_branch = true;
        route_server.peers.extend([
            of_kind(PeerKind::VpnGateway, "rs1/vpn/0", "10.1.5.4", asn_of_vpn),
            of_kind(PeerKind::ExpressRouteGateway, "rs1/er/0", "10.1.5.6", 65515),
        ]);
        let to_route_server = |id: &str| of_kind(PeerKind::RouteServer, id, "10.1.1.4", 65515);
        let vpn = vec![
            to_route_server("vpn/rs1/0"),
            of_kind(PeerKind::Site, "vpn/site", "192.168.101.1", 64701),
        ];
        let express_route = vec![
            to_route_server("er/rs1/0"),
            of_kind(PeerKind::ProviderEdge, "er/edge", "10.200.0.1", 12076),
        ];
        let edge = vec![
            of_kind(PeerKind::ExpressRouteGateway, "edge/er", "10.1.5.6", 65515),
            of_kind(PeerKind::Site, "edge/customer", "192.168.103.1", 64900),
        ];
        intent.gateways = vec![
            gateway("vpn", GatewayKind::Vpn, asn_of_vpn, "10.1.5.4", vpn),
            gateway("er", GatewayKind::ExpressRoute, 65515, "10.1.5.6", express_route),
            gateway("edge", GatewayKind::ProviderEdge, 12076, "10.200.0.1", edge),
        ];
    });
    // Both sides dial; collisions are settled, and who was too early dials again.
    world.advance_secs(30);
    let peers = world.instance.peers(world.now, None);
    for peer in &peers {
        assert_eq!(peer.state, "Established", "{}: {:?}", peer.id, peer.last_error);
    }
    assert_eq!(peers.len(), 10);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16", "0.0.0.0/0"]);
    world.announce("site", path("192.168.101.1", &[64701]), &["10.50.0.0/16"]);
    world.announce("customer", path("192.168.103.1", &[64900]), &["10.60.0.0/16"]);
    world
}

fn check(world: &World, who: &str, prefix: &str, expected: &str) {
    assert_eq!(world.told(who, prefix).as_deref(), Some(expected), "{who} {prefix}");
}

#[test]
fn branches_hear_of_each_other_on_every_leg() {
    let world = hybrid(65515);
    check(&world, "nva2", "10.50.0.0/16", "65515-64701 10.1.1.4 65517:65517");
    check(&world, "nva2", "10.60.0.0/16", "65515-12076-64900 10.1.1.4 65517:12076");
    check(&world, "nva2", "10.250.0.0/16", "65515-65001 10.1.1.4 65517:65517");
    check(&world, "site", "10.1.0.0/16", "65515 10.1.5.4");
    check(&world, "site", "10.250.0.0/16", "65515-65001 10.1.5.4");
    check(&world, "site", "10.60.0.0/16", "65515-12076-64900 10.1.5.4");
    check(&world, "customer", "10.1.0.0/16", "12076 10.200.0.1");
    check(&world, "customer", "10.250.0.0/16", "12076 10.200.0.1");
    check(&world, "customer", "0.0.0.0/0", "12076 10.200.0.1");
    check(&world, "customer", "10.50.0.0/16", "12076 10.200.0.1");
    assert_eq!(world.told("site", "0.0.0.0/0"), None);
    assert_eq!(world.next_hops("vm", "10.50.0.0/16"), ["10.1.5.4"]);
    assert_eq!(world.next_hops("vm", "10.60.0.0/16"), ["10.1.5.6"]);
}

#[test]
fn nobody_hears_a_route_of_its_own_back() {
    let world = hybrid(65515);
    assert_eq!(world.told("nva1", "10.250.0.0/16"), None);
    assert_eq!(world.told("site", "10.50.0.0/16"), None);
    assert_eq!(world.told("customer", "10.60.0.0/16"), None);
}

#[test]
fn branch_to_branch_comes_and_goes_without_a_session_reset() {
    let mut world = hybrid(65515);
    let count = |world: &World| -> u64 {
        let peers = world.instance.peers(world.now, None);
        peers.iter().map(|peer| peer.established_count).sum()
    };
    let before = count(&world);
    world.edit(|intent| intent.route_servers[0].branch_to_branch = false);
    let strangers = [
        ("nva2", "10.50.0.0/16"),
        ("site", "10.250.0.0/16"),
        ("customer", "10.250.0.0/16"),
    ];
    for (who, prefix) in strangers {
        assert_eq!(world.told(who, prefix), None, "{who} {prefix}");
    }
    assert_eq!(world.next_hops("vm", "10.50.0.0/16"), ["10.1.5.4"]);
    world.edit(|intent| intent.route_servers[0].branch_to_branch = true);
    for (who, prefix) in strangers {
        assert!(world.told(who, prefix).is_some(), "{who} {prefix}");
    }
    assert_eq!(count(&world), before);
}

#[test]
fn a_gateway_with_its_own_number_speaks_ebgp_with_the_route_server() {
    let world = hybrid(300);
    check(&world, "nva2", "10.50.0.0/16", "65515-300-64701 10.1.1.4 65517:65517");
    check(&world, "site", "10.250.0.0/16", "300-65515-65001 10.1.5.4");
}

#[test]
fn a_circuit_that_comes_back_is_used_again_though_an_nva_has_told_a_shorter_path() {
    let mut world = hybrid(65515);
    for (who, address, asn, gateway) in [
        ("customer", "192.168.103.1", 64900, "10.1.5.6"),
        ("site", "192.168.101.1", 64701, "10.1.5.4"),
    ] {
        let preference = match who {
            "customer" => Preference::ExpressRoute,
            _ => Preference::VpnGateway,
        };
        world.edit(|intent| intent.route_servers[0].preference = preference);
        world.announce("nva1", path("10.1.4.4", &[65001]), &["10.99.0.0/16"]);
        assert_eq!(world.next_hops("vm", "10.99.0.0/16"), ["10.1.4.4"]);
        world.announce(who, path(address, &[asn]), &["10.99.0.0/16"]);
        let next_hops = world.next_hops("vm", "10.99.0.0/16");
        assert!(next_hops.contains(&gateway.to_owned()), "{who}: {next_hops:?}");
        world.withdraw(who, &["10.99.0.0/16"]);
        world.withdraw("nva1", &["10.99.0.0/16"]);
    }
}

#[test]
fn a_gateway_prefers_its_own_sites_to_what_the_route_server_says() {
    let mut world = hybrid(65515);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.99.0.0/16"]);
    world.announce("site", path("192.168.101.1", &[64701, 64701, 64701]), &["10.99.0.0/16"]);
    let route = world
        .instance
        .routes_of_speaker("vpn", Some(&net("10.99.0.0/16")))
        .unwrap();
    let best = route.iter().find(|route| route.verdict == "best").unwrap();
    assert_eq!(best.source_peer, ip("192.168.101.1"));
    // Virtual networks take the shorter path all the same.
    assert_eq!(world.next_hops("vm", "10.99.0.0/16"), ["10.1.4.4"]);
}

#[test]
fn an_nva_that_dies_is_gone_at_every_branch() {
    let mut world = hybrid(65515);
    world.kill("nva1");
    for who in ["nva2", "site", "customer"] {
        assert_eq!(world.told(who, "10.250.0.0/16"), None);
    }
}

#[test]
fn a_connection_that_is_moved_to_another_gateway_takes_its_session_along_whatever_the_order_of_names() {
    let mut world = world();
    world.add_nva("site", "192.168.101.1", 64701, FamilySet::IPV4);
    let connection = || of_kind(PeerKind::Site, "c", "192.168.101.1", 64701);
    world.edit(|intent| {
        intent.gateways = vec![
            gateway("gw-a", GatewayKind::Vpn, 65515, "10.1.5.4", vec![]),
            gateway("gw-b", GatewayKind::Vpn, 65515, "10.1.5.6", vec![connection()]),
        ];
    });
    check(&world, "site", "10.1.0.0/16", "65515 10.1.5.6");
    for (moved, (from, to), address) in [(2, (1, 0), "10.1.5.4"), (3, (0, 1), "10.1.5.6")] {
        world.edit(|intent| {
            intent.gateways[from].peers.clear();
            intent.gateways[to].peers.push(connection());
        });
        world.advance_secs(30);
        check(&world, "site", "10.1.0.0/16", &format!("65515 {address}"));
        let peers = world.instance.peers(world.now, Some(&world.intent.gateways[to].id));
        assert_eq!((peers.len(), &*peers[0].state), (1, "Established"));
        assert_eq!(peers[0].established_count, moved, "its history goes along");
    }
}

#[test]
fn two_connections_that_change_places_keep_their_sessions_apart() {
    let mut world = world();
    let sites = [("c1", "192.168.101.1", 64701), ("c2", "192.168.102.1", 64702)];
    for (id, address, asn) in sites {
        world.add_nva(id, address, asn, FamilySet::IPV4);
    }
    let place = |intent: &mut crate::intent::Intent, order: [usize; 2]| {
        let addresses = ["10.1.5.4", "10.1.5.6"];
        let gateways = ["gw-a", "gw-b"].into_iter().zip(addresses).zip(order);
        let gateways = gateways.map(|((id, address), site)| {
            let (connection, router, asn) = sites[site];
            let peers = vec![of_kind(PeerKind::Site, connection, router, asn)];
            gateway(id, GatewayKind::Vpn, 65515, address, peers)
        });
        intent.gateways = gateways.collect();
    };
    world.edit(|intent| place(intent, [0, 1]));
    check(&world, "c1", "10.1.0.0/16", "65515 10.1.5.4");
    world.edit(|intent| place(intent, [1, 0]));
    world.advance_secs(30);
    check(&world, "c1", "10.1.0.0/16", "65515 10.1.5.6");
    check(&world, "c2", "10.1.0.0/16", "65515 10.1.5.4");
}

#[test]
fn what_a_site_says_over_ipv6_stays_at_its_gateway_which_has_an_ipv4_address_alone() {
    let mut world = world();
    world.add_nva("site", "192.168.101.1", 64701, FamilySet::BOTH);
    world.edit(|intent| {
        let route_server = &mut intent.route_servers[0];
        (route_server.branch_to_branch, route_server.ipv6) = (true, true);
        let at_gateway = of_kind(PeerKind::VpnGateway, "rs1/vpn/0", "10.1.5.4", 65515);
        route_server.peers.push(at_gateway);
        let peers = vec![
            of_kind(PeerKind::RouteServer, "vpn/rs1/0", "10.1.1.4", 65515),
            of_kind(PeerKind::Site, "vpn/site", "192.168.101.1", 64701),
        ];
        let mut gateway = gateway("vpn", GatewayKind::Vpn, 65515, "10.1.5.4", peers);
        gateway.ipv6 = true;
        intent.gateways = vec![gateway];
    });
    world.advance_secs(30);
    world.announce("site", path("2001:db8::1", &[64701]), &["2001:db8:50::/48"]);
    assert_eq!(world.verdict("vpn/site", "2001:db8:50::/48"), "best");
    let at_route_server = world.route("rs1/vpn/0", "2001:db8:50::/48").unwrap();
    assert_eq!(at_route_server.next_hop, ip("::ffff:10.1.5.4"));
    assert_eq!(
        world.verdict("rs1/vpn/0", "2001:db8:50::/48"),
        "rejected unusable-next-hop"
    );
}

#[test]
fn a_route_server_that_goes_and_comes_back_interrupts_no_session_of_sites_and_circuits() {
    let mut world = hybrid(65515);
    let before = world.intent.clone();
    world.edit(|intent| {
        intent.route_servers.clear();
        for gateway in &mut intent.gateways {
            gateway.peers.retain(|peer| peer.kind != PeerKind::RouteServer);
        }
    });
    check(&world, "site", "10.1.0.0/16", "65515 10.1.5.4");
    assert_eq!(world.told("site", "10.60.0.0/16"), None);
    world.edit(|intent| {
        intent.route_servers = before.route_servers;
        intent.gateways = before.gateways;
    });
    world.advance_secs(60);
    check(&world, "site", "10.60.0.0/16", "65515-12076-64900 10.1.5.4");
    for far_end in ["site", "customer"] {
        assert_eq!(world.nvas[far_end].established, 1, "{far_end}");
    }
}
