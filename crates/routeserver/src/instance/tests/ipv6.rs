//! IPv6 with the setting on: routes over sessions of either family, with next hops that a kernel can use; NICs with IPv6 addresses.

use bgp::FamilySet;

use super::hybrid::{gateway, of_kind};
use super::world::*;
use crate::intent::{GatewayKind, Intent, NicIntent, PeerKind};
use crate::testing::*;

/// An address of instance 0 and of instance 1.
const INSTANCES: [&str; 2] = ["fd01:0:0:1::4", "fd01:0:0:1::5"];

/// The hub and spoke with IPv6 in the hub (fd01::/48) and in the spoke (fd02::/48): `vm` has both families, `vm4` has IPv4 alone.
fn dual_stack(intent: &mut Intent) {
    let spaces = ["fd01::/48", "fd02::/48"];
    for (network, space) in intent.virtual_networks.iter_mut().zip(spaces) {
        network.address_space.push(net(space));
    }
    for (subnet, prefix) in [
        ("rs", "fd01:0:0:1::/64"),
        ("vms", "fd01:0:0:2::/64"),
        ("nvas", "fd01:0:0:4::/64"),
    ] {
        let mut subnets = intent.virtual_networks[0].subnets.iter_mut();
        let subnet = subnets.find(|each| each.id == subnet).unwrap();
        subnet.prefixes.push(net(prefix));
    }
    let nics = &mut intent.virtual_networks[0].nics;
    for (nic, address) in nics.iter_mut().zip(["fd01:0:0:2::4", "fd01:0:0:4::4", "fd01:0:0:4::5"]) {
        nic.addresses.push(ip(address));
    }
    nics.push(NicIntent {
        id: "vm4".into(),
        name: "vm4".into(),
        subnet: "vms".into(),
        addresses: vec![ip("10.1.2.5")],
    });
    set_ipv6(intent, true);
}

/// The setting, and with it the instances' addresses.
pub(super) fn set_ipv6(intent: &mut Intent, on: bool) {
    let route_server = &mut intent.route_servers[0];
    route_server.ipv6 = on;
    route_server.instance_addresses_v6 = INSTANCES.map(|address| address.parse().ok().filter(|_| on));
}

/// `nva1` and `nva2` over IPv4 as ever, both with both families.
pub(super) fn world_of_both() -> World {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001), peer("nva2", "10.1.4.5", 65002)];
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::BOTH);
    world.add_nva("nva2", "10.1.4.5", 65002, FamilySet::BOTH);
    dual_stack(&mut world.intent);
    world.send_intent();
    world
}

fn told(world: &World, nva: &str, prefix: &str) -> Option<String> {
    let attributes = world.nvas[nva].learned.get(&net(prefix))?;
    Some(attributes.next_hop().to_string())
}

fn has_row(world: &World, nic: &str, prefix: &str) -> bool {
    let rows = world.instance.effective_routes(nic).unwrap();
    rows.iter().any(|row| row.address_prefix == net(prefix))
}

#[test]
fn nvas_hear_of_ipv6_prefixes_with_the_instances_ipv6_address_over_their_ipv4_sessions() {
    let world = world_of_both();
    for prefix in ["fd01::/48", "fd02::/48"] {
        assert_eq!(told(&world, "nva1", prefix).as_deref(), Some(INSTANCES[0]));
    }
    assert_eq!(told(&world, "nva1", "10.1.0.0/16").as_deref(), Some("10.1.1.4"));
}

#[test]
fn ipv6_routes_come_to_nics_with_an_ipv6_address_alone() {
    let mut world = world_of_both();
    world.announce("nva1", path("fd01:0:0:4::4", &[65001]), &["2001:db8::/32", "::/0"]);
    assert_eq!(world.next_hops("vm", "2001:db8::/32"), ["fd01:0:0:4::4"]);
    assert_eq!(world.next_hops("vm", "::/0"), ["fd01:0:0:4::4"]);
    // `spokevm` is in a subnet without IPv6, though its network has it.
    for nic in ["vm4", "spokevm"] {
        for prefix in ["2001:db8::/32", "::/0", "fd01::/48"] {
            assert!(!has_row(&world, nic, prefix), "{nic} {prefix}");
        }
        assert!(has_row(&world, nic, "10.1.0.0/16"), "{nic}");
    }
    assert!(has_row(&world, "vm", "fd02::/48"));
}

#[test]
fn the_rules_on_prefixes_and_next_hops_are_those_of_ipv4() {
    let mut world = world_of_both();
    let mut check = |next_hop: &str, prefix: &str, expected: &str| {
        world.announce("nva1", path(next_hop, &[65001]), &[prefix]);
        assert_eq!(world.verdict("nva1", prefix), expected, "{prefix} {next_hop}");
    };
    let nva = "fd01:0:0:4::4";
    check(nva, "fd01:0:0:9::/64", "rejected inside-virtual-network");
    check(nva, "fd01:0:0:1::/64", "rejected inside-virtual-network");
    check(nva, "fd02:0:0:9::/64", "rejected inside-virtual-network");
    check(nva, "fe80::/64", "rejected special-purpose-prefix");
    check(INSTANCES[0], "2001:db8:1::/48", "rejected own-next-hop");
    check(INSTANCES[1], "2001:db8:1::/48", "rejected own-next-hop");
    check("::ffff:10.1.4.4", "2001:db8:1::/48", "rejected unusable-next-hop");
    check("fe80::4", "2001:db8:1::/48", "rejected unusable-next-hop");
    check(nva, "fd00::/8", "best");
}

#[test]
fn what_one_nva_says_over_ipv6_is_passed_on_with_branch_to_branch() {
    let mut world = world_of_both();
    world.announce("nva1", path("fd01:0:0:4::4", &[65001]), &["2001:db8::/32"]);
    assert_eq!(told(&world, "nva2", "2001:db8::/32"), None);
    world.edit(|intent| intent.route_servers[0].branch_to_branch = true);
    assert_eq!(told(&world, "nva2", "2001:db8::/32").as_deref(), Some(INSTANCES[0]));
}

#[test]
fn a_peer_with_an_ipv6_address_has_its_session_with_the_instances_ipv6_address() {
    let mut world = idle_world();
    dual_stack(&mut world.intent);
    let address = "fd01:0:0:4::4";
    world.intent.route_servers[0].peers = vec![peer("nva1", address, 65001)];
    world.add_nva("nva1", address, 65001, FamilySet::BOTH);
    world.send_intent();
    assert_eq!(world.nvas["nva1"].established, 1);
    let report = world.instance.peers(world.now, None).remove(0);
    assert_eq!(report.local_address, ip(INSTANCES[0]));
    let locals: Vec<_> = world.listeners.iter().map(|listener| listener.local).collect();
    assert_eq!(locals, [ip("10.1.1.4"), ip(INSTANCES[0])]);
    // Either family goes over it, each with a next hop of its own.
    assert_eq!(told(&world, "nva1", "fd01::/48").as_deref(), Some(INSTANCES[0]));
    assert_eq!(told(&world, "nva1", "10.1.0.0/16").as_deref(), Some("10.1.1.4"));
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
}

#[test]
fn ipv6_comes_and_goes_with_every_ipv4_session_up() {
    let mut world = world_of_both();
    world.edit(|intent| set_ipv6(intent, false));
    assert_eq!(told(&world, "nva1", "fd01::/48"), None);
    world.edit(|intent| {
        let route_server = &mut intent.route_servers[0];
        (route_server.ipv6, route_server.instance_addresses_v6) = (true, ["fd01::9".parse().ok(), None]);
    });
    assert_eq!(told(&world, "nva1", "fd01::/48").as_deref(), Some("fd01::9"));
    assert_eq!(world.nvas["nva1"].established, 1);
}

#[test]
fn a_session_over_ipv6_begins_anew_when_the_instances_ipv6_address_moves() {
    let mut world = world_of_both();
    let address = "fd01:0:0:4::6";
    world.add_nva("nva3", address, 65003, FamilySet::BOTH);
    world.edit(|intent| intent.route_servers[0].peers.push(peer("nva3", address, 65003)));
    world.edit(|intent| intent.route_servers[0].instance_addresses_v6[0] = "fd01:0:0:1::9".parse().ok());
    world.advance_secs(30);
    assert_eq!(world.nvas["nva3"].established, 2);
    assert_eq!(world.nvas["nva1"].established, 1);
    let reports = world.instance.peers(world.now, None);
    assert_eq!(reports[2].local_address, ip("fd01:0:0:1::9"));
}

#[test]
fn what_a_site_says_over_ipv6_goes_everywhere_through_a_gateway_with_an_ipv6_address() {
    let mut world = world_of_both();
    world.add_nva("site", "192.168.101.1", 64701, FamilySet::BOTH);
    world.edit(|intent| {
        let mut subnet = subnet("gateways", "10.1.5.0/26");
        subnet.prefixes.push(net("fd01:0:0:5::/64"));
        intent.virtual_networks[0].subnets.push(subnet);
        let route_server = &mut intent.route_servers[0];
        route_server.branch_to_branch = true;
        let at_gateway = of_kind(PeerKind::VpnGateway, "rs1/vpn/0", "10.1.5.4", 65515);
        route_server.peers.push(at_gateway);
        let peers = vec![
            of_kind(PeerKind::RouteServer, "vpn/rs1/0", "10.1.1.4", 65515),
            of_kind(PeerKind::Site, "vpn/site", "192.168.101.1", 64701),
        ];
        let mut gateway = gateway("vpn", GatewayKind::Vpn, 65515, "10.1.5.4", peers);
        gateway.ipv6 = true;
        gateway.instance_addresses_v6 = ["fd01:0:0:5::4".parse().ok(), None];
        intent.gateways = vec![gateway];
    });
    world.advance_secs(30);
    let (nva, site) = ("fd01:0:0:4::4", "2001:db8::1");
    world.announce("nva1", path(nva, &[65001]), &["2001:db8:250::/48", "::/0"]);
    world.announce("site", path(site, &[64701]), &["2001:db8:50::/48"]);
    let gateway = "fd01:0:0:5::4";
    assert_eq!(world.next_hops("vm", "2001:db8:50::/48"), [gateway]);
    assert_eq!(told(&world, "nva1", "2001:db8:50::/48").as_deref(), Some(INSTANCES[0]));
    for prefix in ["fd01::/48", "fd02::/48", "2001:db8:250::/48"] {
        assert_eq!(told(&world, "site", prefix).as_deref(), Some(gateway), "{prefix}");
    }
    assert_eq!(told(&world, "site", "::/0"), None);
    let instance = "vpn/instances/0";
    assert_eq!(world.next_hops(instance, "2001:db8:50::/48"), [site]);
    assert_eq!(world.next_hops(instance, "2001:db8:250::/48"), [nva]);
}
