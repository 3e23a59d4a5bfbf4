//! Peered virtual networks come, change and go while sessions stay (az §2.1, §2.7, §2.8).

use bgp::FamilySet;

use super::world::*;
use crate::refresh::PAUSE;
use crate::testing::*;

/// The spoke's side of the peering, and the hub's, as they are written.
fn set_spoke(world: &mut World, uses_gateways: bool, is_offered_gateways: bool) {
    world.edit(|intent| {
        intent.virtual_networks[0].peerings[0].allow_gateway_transit = is_offered_gateways;
        intent.virtual_networks[1].peerings[0].use_remote_gateways = uses_gateways;
    });
}

fn refreshes(world: &World) -> [usize; 2] {
    ["nva1", "nva2"].map(|nva| world.nvas[nva].refreshes)
}

#[test]
fn a_spoke_that_comes_is_told_to_every_nva_at_once_and_its_vms_have_the_routes() {
    let mut world = world();
    set_spoke(&mut world, false, true);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    for nva in ["nva1", "nva2"] {
        assert_eq!(world.told(nva, "10.2.0.0/16"), None);
    }
    assert!(world.next_hops("spokevm", "10.250.0.0/16").is_empty());
    set_spoke(&mut world, true, true);
    for nva in ["nva1", "nva2"] {
        assert_eq!(world.told(nva, "10.2.0.0/16").unwrap(), "65515 10.1.1.4 65518:65518");
        assert_eq!(world.nvas[nva].established, 1);
    }
    assert_eq!(world.next_hops("spokevm", "10.250.0.0/16"), ["10.1.4.4"]);
}

#[test]
fn a_network_is_a_spoke_only_while_both_sides_say_so() {
    for (uses, offered) in [(false, false), (true, false), (false, true)] {
        let mut world = world();
        world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
        set_spoke(&mut world, uses, offered);
        assert_eq!(world.told("nva1", "10.2.0.0/16"), None, "{uses} {offered}");
        assert!(
            world.next_hops("spokevm", "10.250.0.0/16").is_empty(),
            "{uses} {offered}"
        );
    }
}

#[test]
fn a_spoke_that_comes_makes_the_route_server_ask_for_all_routes_again() {
    let mut world = world();
    set_spoke(&mut world, false, true);
    assert_eq!(refreshes(&world), [0, 0]);
    set_spoke(&mut world, true, true);
    assert_eq!(refreshes(&world), [1, 1]);
    // One that goes, or changes, is no reason.
    world.edit(|intent| intent.virtual_networks[1].address_space.push(net("10.12.0.0/16")));
    set_spoke(&mut world, false, true);
    world.advance(PAUSE);
    assert_eq!(refreshes(&world), [1, 1]);
}

#[test]
fn spokes_that_come_one_after_the_other_are_one_question_more() {
    let mut world = world();
    set_spoke(&mut world, false, true);
    for _ in 0..5 {
        set_spoke(&mut world, true, true);
        set_spoke(&mut world, false, true);
    }
    assert_eq!(refreshes(&world), [1, 1]);
    world.advance(PAUSE);
    assert_eq!(refreshes(&world), [2, 2]);
    world.advance(PAUSE * 10);
    assert_eq!(refreshes(&world), [2, 2]);
}

#[test]
fn the_address_space_of_a_spoke_follows_as_it_changes() {
    let mut world = world();
    world.edit(|intent| intent.virtual_networks[1].address_space.push(net("10.12.0.0/16")));
    assert_eq!(
        world.told("nva2", "10.12.0.0/16").unwrap(),
        "65515 10.1.1.4 65518:65518"
    );
    world.edit(|intent| intent.virtual_networks[1].address_space = vec![net("10.12.0.0/16")]);
    assert_eq!(world.told("nva2", "10.2.0.0/16"), None);
    assert_eq!(world.nvas["nva2"].established, 1);
}

#[test]
fn what_an_nva_says_of_a_spokes_addresses_is_refused_while_it_is_one() {
    let mut world = world();
    let inside = ["10.2.0.0/16", "10.2.7.0/24"];
    world.announce("nva1", path("10.1.4.4", &[65001]), &inside);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.0.0.0/8"]);
    for prefix in inside {
        assert_eq!(world.verdict("nva1", prefix), "rejected inside-virtual-network");
    }
    assert_eq!(world.next_hops("spokevm", "10.0.0.0/8"), ["10.1.4.4"]);
    world.edit(|intent| {
        intent.virtual_networks[0].peerings.remove(0);
        intent.virtual_networks[1].peerings.clear();
    });
    for prefix in inside {
        assert_eq!(world.verdict("nva1", prefix), "best");
        assert_eq!(world.next_hops("vm", prefix), ["10.1.4.4"]);
    }
    assert!(world.next_hops("spokevm", "10.0.0.0/8").is_empty());
}

#[test]
fn a_network_that_is_peered_without_gateway_transit_may_be_announced_and_is_not_programmed_beside_it() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.3.0.0/16"]);
    assert_eq!(world.verdict("nva1", "10.3.0.0/16"), "best");
    // The hub is peered with it directly; the spoke is not.
    assert!(world.next_hops("vm", "10.3.0.0/16").is_empty());
    assert_eq!(world.next_hops("spokevm", "10.3.0.0/16"), ["10.1.4.4"]);
}

#[test]
fn an_nva_of_a_peered_network_is_a_peer_like_any_other() {
    let mut world = world();
    world.add_nva("nva3", "10.3.0.4", 65003, FamilySet::IPV4);
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        intent.route_servers[0].peers.push(peer("nva3", "10.3.0.4", 65003));
    });
    assert_eq!(world.nvas["nva3"].established, 1);
    world.announce("nva3", path("10.3.0.4", &[65003]), &["10.250.0.0/16"]);
    assert_eq!(world.told("nva3", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
    assert_eq!(
        world.told("nva1", "10.250.0.0/16").unwrap(),
        "65515-65003 10.1.1.4 65517:65517"
    );
    for nic in ["vm", "spokevm"] {
        assert_eq!(world.next_hops(nic, "10.250.0.0/16"), ["10.3.0.4"]);
    }
}
