//! What NVAs are told (az §2.4, §2.10).

use bgp::wire::{Community, Origin};

use super::world::*;
use crate::testing::*;

fn branch_to_branch() -> World {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].branch_to_branch = true);
    world
}

#[test]
fn network_prefixes_are_told_with_our_as_number_alone() {
    let world = world();
    assert_eq!(world.told("nva1", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
    let attributes = &world.nvas["nva1"].learned[&net("10.1.0.0/16")];
    assert_eq!((attributes.origin(), attributes.med()), (Origin::Igp, None));
    assert_eq!(world.nvas["nva1"].end_of_rib, 1);
}

#[test]
fn prefixes_of_spokes_that_use_our_gateways_carry_65518() {
    let world = world();
    assert_eq!(world.told("nva1", "10.2.0.0/16").unwrap(), "65515 10.1.1.4 65518:65518");
    assert_eq!(world.told("nva1", "10.3.0.0/16"), None);
}

#[test]
fn address_space_changes_are_told_at_once() {
    let mut world = world();
    world.edit(|intent| intent.virtual_networks[0].address_space.push(net("192.168.0.0/16")));
    for nva in ["nva1", "nva2"] {
        assert_eq!(world.told(nva, "192.168.0.0/16").unwrap(), "65515 10.1.1.4");
    }
    world.edit(|intent| intent.virtual_networks[0].address_space = vec![net("192.168.0.0/16")]);
    assert_eq!(world.told("nva1", "10.1.0.0/16"), None);
    world.edit(|intent| intent.virtual_networks[1].peerings.clear());
    assert_eq!(world.told("nva1", "10.2.0.0/16"), None);
    assert_eq!(world.nvas["nva1"].established, 1);
}

#[test]
fn nvas_hear_of_each_other_only_with_branch_to_branch_and_toggling_resets_nobody() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
    world.edit(|intent| intent.route_servers[0].branch_to_branch = true);
    assert_eq!(
        world.told("nva2", "10.250.0.0/16").unwrap(),
        "65515-65001 10.1.1.4 65517:65517"
    );
    world.edit(|intent| intent.route_servers[0].branch_to_branch = false);
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
    assert_eq!(world.told("nva2", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
    assert_eq!(world.nvas["nva2"].established, 1);
}

#[test]
fn nva_routes_keep_origin_and_communities_and_lose_med() {
    let mut world = branch_to_branch();
    let attributes = path("10.1.4.200", &[65001, 64999])
        .origin(Origin::Incomplete)
        .med(Some(50))
        .add_community(Community::new(65001, 7));
    world.announce("nva1", attributes, &["10.250.0.0/16"]);
    let told = world.told("nva2", "10.250.0.0/16").unwrap();
    assert!(told.starts_with("65515-65001-64999 10.1.1.4 "), "{told}");
    assert!(told.contains(" 65001:7") && told.contains(" 65517:65517"), "{told}");
    let attributes = &world.nvas["nva2"].learned[&net("10.250.0.0/16")];
    assert_eq!(
        (attributes.origin(), attributes.med(), attributes.local_pref()),
        (Origin::Incomplete, None, None)
    );
}

#[test]
fn a_route_is_never_told_to_the_nva_it_came_from() {
    let mut world = branch_to_branch();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(world.told("nva1", "10.250.0.0/16"), None);
    world.announce("nva2", path("10.1.4.5", &[65002, 65002]), &["10.250.0.0/16"]);
    // One best path: the loser is told to nobody, not even to the winner's sender.
    assert_eq!(world.told("nva1", "10.250.0.0/16"), None);
    assert_eq!(
        world.told("nva2", "10.250.0.0/16").unwrap(),
        "65515-65001 10.1.1.4 65517:65517"
    );
    world.withdraw("nva1", &["10.250.0.0/16"]);
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
    assert_eq!(
        world.told("nva1", "10.250.0.0/16").unwrap(),
        "65515-65002-65002 10.1.1.4 65517:65517"
    );
}

#[test]
fn peers_of_the_same_as_are_told_as_well() {
    let mut world = branch_to_branch();
    world.announce("nva1", path("10.1.4.4", &[65002]), &["10.250.0.0/16"]);
    assert_eq!(
        world.told("nva2", "10.250.0.0/16").unwrap(),
        "65515-65002 10.1.1.4 65517:65517"
    );
}

#[test]
fn no_advertise_and_no_export_programme_vms_and_tell_no_nva() {
    for community in [
        Community::NO_ADVERTISE,
        Community::NO_EXPORT,
        Community::NO_EXPORT_SUBCONFED,
    ] {
        let mut world = branch_to_branch();
        world.announce(
            "nva1",
            path("10.1.4.4", &[65001]).add_community(community),
            &["10.250.0.0/16"],
        );
        assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
        assert_eq!(world.told("nva2", "10.250.0.0/16"), None, "{community:?}");
    }
}

#[test]
fn rejected_routes_are_not_told() {
    let mut world = branch_to_branch();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.1.7.0/24"]);
    world.announce("nva1", path("10.1.4.4", &[65001, 65515]), &["10.250.0.0/16"]);
    assert_eq!(world.told("nva2", "10.1.7.0/24"), None);
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
}

#[test]
fn a_peer_that_takes_nothing_is_told_the_latest_when_it_does() {
    let mut world = branch_to_branch();
    let connection = world.nvas["nva2"].connection.unwrap();
    let pressure = |full| crate::instance::Input::Backpressure {
        connection,
        full,
        stalled: false,
    };
    world.input(pressure(true));
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16", "10.251.0.0/16"]);
    world.withdraw("nva1", &["10.251.0.0/16"]);
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
    world.input(pressure(false));
    assert!(world.told("nva2", "10.250.0.0/16").is_some());
    assert_eq!(world.told("nva2", "10.251.0.0/16"), None);
}

#[test]
fn what_is_reported_as_advertised_is_what_the_peer_holds() {
    let mut world = branch_to_branch();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    let mut reported: Vec<String> = world
        .instance
        .advertised("nva2")
        .unwrap()
        .iter()
        .map(|route| {
            format!(
                "{} {} {} {}",
                route.network,
                route.as_path,
                route.next_hop,
                route.communities.join(" ")
            )
        })
        .collect();
    reported.sort();
    assert_eq!(
        reported,
        [
            "10.1.0.0/16 65515 10.1.1.4 ",
            "10.2.0.0/16 65515 10.1.1.4 65518:65518",
            "10.250.0.0/16 65515-65001 10.1.1.4 65517:65517",
        ]
    );
}
