//! What is accepted from an NVA (az §2.3, §2.10), and the verdict that says so.

use bgp::wire::{Community, Origin};
use bgp::{Asn, FamilySet};

use super::world::*;
use crate::testing::*;

fn check(next_hop: &str, as_path: &[u32], prefix: &str, verdict: &str) {
    let mut world = world();
    world.announce("nva1", path(next_hop, as_path), &[prefix]);
    assert_eq!(
        world.verdict("nva1", prefix),
        verdict,
        "{prefix} via {next_hop}, {as_path:?}"
    );
    let programmed = !world.next_hops("spokevm", prefix).is_empty();
    assert_eq!(programmed, verdict == "best");
}

#[test]
fn a_path_with_our_own_as_number_is_a_loop() {
    check("10.1.4.4", &[65001, 65515], "10.250.0.0/16", "rejected own-asn");
    check("10.1.4.4", &[65001, 65516], "10.250.0.0/16", "best");
}

#[test]
fn a_prefix_equal_to_the_route_server_subnet_is_ignored() {
    check("10.1.4.4", &[65001], "10.1.1.0/26", "rejected own-subnet");
}

#[test]
fn a_next_hop_that_is_either_instance_is_refused() {
    check("10.1.1.4", &[65001], "10.250.0.0/16", "rejected own-next-hop");
    // Azure's instances know only their own (az §2.10, 4); but the other one forwards no packets either.
    check("10.1.1.5", &[65001], "10.250.0.0/16", "rejected own-next-hop");
}

#[test]
fn prefixes_equal_to_or_inside_the_virtual_network_are_refused_and_supernets_are_not() {
    check("10.1.4.4", &[65001], "10.1.0.0/16", "rejected inside-virtual-network");
    check("10.1.4.4", &[65001], "10.1.7.0/24", "rejected inside-virtual-network");
    check("10.1.4.4", &[65001], "10.0.0.0/8", "best");
}

#[test]
fn prefixes_inside_a_peered_network_are_refused_only_when_it_uses_our_gateways() {
    check("10.1.4.4", &[65001], "10.2.0.0/16", "rejected inside-virtual-network");
    check("10.1.4.4", &[65001], "10.2.3.0/24", "rejected inside-virtual-network");
    check("10.1.4.4", &[65001], "10.3.0.0/16", "best");
}

#[test]
fn default_and_host_routes_are_accepted() {
    check("10.1.4.4", &[65001], "0.0.0.0/0", "best");
    check("10.1.4.4", &[65001], "172.31.9.9/32", "best");
}

#[test]
fn a_next_hop_other_than_the_peer_is_honoured() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.200", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.200"]);
}

#[test]
fn ipv6_routes_are_refused_unless_enabled() {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001)];
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::BOTH);
    world.send_intent();
    world.announce("nva1", path("fd00::4", &[65001]), &["2001:db8::/32"]);
    assert_eq!(world.verdict("nva1", "2001:db8::/32"), "rejected family-disabled");
    world.edit(|intent| intent.route_servers[0].ipv6 = true);
    assert_eq!(world.verdict("nva1", "2001:db8::/32"), "best");
    assert_eq!(world.nvas["nva1"].established, 1);
}

#[test]
fn verdicts_follow_the_address_space() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["192.168.0.0/24"]);
    assert_eq!(world.verdict("nva1", "192.168.0.0/24"), "best");
    world.edit(|intent| intent.virtual_networks[0].address_space.push(net("192.168.0.0/16")));
    assert_eq!(
        world.verdict("nva1", "192.168.0.0/24"),
        "rejected inside-virtual-network"
    );
    world.edit(|intent| intent.virtual_networks[0].address_space.truncate(1));
    assert_eq!(world.verdict("nva1", "192.168.0.0/24"), "best");
    assert_eq!(world.next_hops("vm", "192.168.0.0/24"), ["10.1.4.4"]);
}

#[test]
fn only_the_length_of_the_as_path_expresses_preference() {
    let mut world = world();
    let low = path("10.1.4.4", &[65001, 65001]).med(Some(0)).local_pref(Some(500));
    world.announce("nva1", low, &["10.250.0.0/16"]);
    world.announce("nva2", path("10.1.4.5", &[65002]).med(Some(900)), &["10.250.0.0/16"]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.5"]);
    assert_eq!(world.verdict("nva1", "10.250.0.0/16"), "lost as-path-length");
}

#[test]
fn equal_lengths_are_equal_cost_whatever_the_neighbour_as() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["0.0.0.0/0"]);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["0.0.0.0/0"]);
    assert_eq!(world.next_hops("vm", "0.0.0.0/0"), ["10.1.4.4", "10.1.4.5"]);
    let verdicts = [world.verdict("nva1", "0.0.0.0/0"), world.verdict("nva2", "0.0.0.0/0")];
    assert_eq!(verdicts, ["best", "equal-cost"]);
}

#[test]
fn import_preference_wins_over_the_path_and_applies_live() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001, 65001]), &["10.250.0.0/16"]);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.250.0.0/16"]);
    world.edit(|intent| intent.route_servers[0].peers[0].import_preference = 7);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    assert_eq!(world.nvas["nva1"].established, 1);
}

#[test]
fn a_withdrawn_route_is_gone() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16", "10.251.0.0/16"]);
    world.withdraw("nva1", &["10.250.0.0/16"]);
    assert!(world.route("nva1", "10.250.0.0/16").is_none());
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
    assert_eq!(world.next_hops("vm", "10.251.0.0/16"), ["10.1.4.4"]);
}

#[test]
fn a_session_that_is_down_has_empty_lists() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    world.kill("nva1");
    assert_eq!(world.instance.routes_of_peer("nva1"), Some(vec![]));
    assert_eq!(world.instance.advertised("nva1"), Some(vec![]));
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
}

#[test]
fn routes_are_reported_as_received() {
    let mut world = world();
    let attributes = path("10.1.4.4", &[65001, 65009])
        .origin(Origin::Egp)
        .add_community(Community::new(65001, 7));
    world.announce("nva1", attributes, &["10.250.0.0/16"]);
    let route = world.route("nva1", "10.250.0.0/16").unwrap();
    assert_eq!(route.as_path, "65001-65009");
    assert_eq!((route.origin.as_str(), route.source_peer), ("egp", ip("10.1.4.4")));
    assert_eq!(route.communities, ["65001:7"]);
    let routes = world
        .instance
        .routes_of_speaker("rs1", Some(&net("10.250.0.0/16")))
        .unwrap();
    assert_eq!(routes, world.instance.routes_of_speaker("rs1", None).unwrap());
    assert_eq!(routes, [route]);
    assert!(world.instance.routes_of_peer("nobody").is_none());
    assert_eq!(Asn::AZURE_ROUTE_SERVER, Asn(65515));
}
