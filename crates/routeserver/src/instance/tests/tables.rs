//! Tables that are still arriving: what comes in bulk waits for the others who tell the same, a single change waits for nobody.

use std::time::Duration;

use bgp::IpNet;

use super::world::*;
use crate::instance::Event;
use crate::peer::{LONGEST_FIRST_TABLE, QUIET};
use crate::testing::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// As many as make a table.
fn table() -> Vec<IpNet> {
    (0..300)
        .map(|index| net(&format!("20.{}.{}.0/24", index >> 8, index & 255)))
        .collect()
}

/// `nva1` and `nva2` announce, `nva3` hears of it.
fn world_with_a_listener() -> World {
    let mut world = world();
    world.add_nva("nva3", "10.1.4.6", 65003, bgp::FamilySet::IPV4);
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        intent.route_servers[0].peers.push(peer("nva3", "10.1.4.6", 65003));
    });
    world
}

#[test]
fn a_table_is_told_when_nothing_more_of_it_comes() {
    let mut world = world_with_a_listener();
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table());
    assert_eq!(world.told("nva3", "20.0.7.0/24"), None);
    world.advance(3 * MILLISECOND);
    let told: Vec<bool> = table()
        .iter()
        .map(|prefix| world.nvas["nva3"].learned.contains_key(prefix))
        .collect();
    assert_eq!(told, vec![true; 300]);
}

#[test]
fn a_single_change_amid_somebody_elses_table_is_told_at_once() {
    let mut world = world_with_a_listener();
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table());
    world.announce("nva2", path("10.1.4.5", &[65002]), &["30.0.0.0/24", "20.0.7.0/24"]);
    assert!(world.told("nva3", "30.0.0.0/24").is_some());
    // With what both have said of it.
    assert_eq!(world.verdict("nva2", "20.0.7.0/24"), "equal-cost");
    assert!(world.told("nva3", "20.0.7.0/24").is_some());
    assert_eq!(world.told("nva3", "20.0.8.0/24"), None);
}

#[test]
fn a_stream_without_a_pause_is_told_all_the_same() {
    let waited = waits_for_a_stream(&mut world_with_a_listener());
    assert!(
        waited > Duration::from_secs(1) && waited < Duration::from_secs(2),
        "{waited:?}"
    );
}

#[test]
fn a_peer_that_has_told_its_table_before_is_waited_for_less_long() {
    let mut world = world_with_a_listener();
    world.end_of_rib("nva1");
    assert!(waits_for_a_stream(&mut world) < Duration::from_secs(1));

    let mut world = world_with_a_listener();
    world.advance(Duration::from_secs(10));
    assert!(waits_for_a_stream(&mut world) < Duration::from_secs(1));
}

#[test]
fn a_peer_that_never_pauses_nor_ends_its_table_is_not_waited_for_as_if_it_had_just_come() {
    let mut world = world_with_a_listener();
    let mut talked = Duration::ZERO;
    while talked < LONGEST_FIRST_TABLE {
        world.announce("nva1", path("10.1.4.4", &[65001]), &["30.0.0.0/24"]);
        world.advance(QUIET - MILLISECOND);
        talked += QUIET - MILLISECOND;
    }
    assert!(waits_for_a_stream(&mut world) < Duration::from_secs(1));
}

/// How long nobody hears of the routes of a table that comes again and again, without a pause.
fn waits_for_a_stream(world: &mut World) -> Duration {
    let mut waited = Duration::ZERO;
    while world.told("nva3", "20.0.7.0/24").is_none() {
        assert!(
            waited < Duration::from_secs(10),
            "nobody hears of a route while others keep coming"
        );
        world.announce_nets("nva1", path("10.1.4.4", &[65001]), table());
        world.advance(MILLISECOND);
        waited += MILLISECOND;
    }
    waited
}

#[test]
fn what_two_tables_say_of_a_prefix_is_told_once() {
    let mut world = world_with_a_listener();
    let updates = world.nvas["nva3"].updates;
    world.announce_nets("nva1", path("10.1.4.4", &[65001, 7, 8]), table());
    world.announce_nets("nva2", path("10.1.4.5", &[65002, 7]), table());
    world.advance(3 * MILLISECOND);
    let told = world.told("nva3", "20.0.7.0/24").unwrap();
    assert!(told.starts_with("65515-65002-7 "), "{told}");
    // One message has room for all, and nothing was told before it.
    assert_eq!(world.nvas["nva3"].updates, updates + 1);
}

#[test]
fn an_instance_has_not_converged_while_a_table_waits() {
    let mut world = world();
    world.end_of_rib("nva2");
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table());
    world.end_of_rib("nva1");
    assert!(!world.take_events().contains(&Event::Converged));
    world.advance(3 * MILLISECOND);
    assert!(world.take_events().contains(&Event::Converged));
}

#[test]
fn a_peer_that_dies_amid_its_table_takes_all_of_it_along() {
    let mut world = world_with_a_listener();
    let learned = world.nvas["nva3"].learned.clone();
    world.announce_nets("nva2", path("10.1.4.5", &[65002]), table());
    world.advance(3 * MILLISECOND);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table());
    world.kill("nva1");
    world.kill("nva2");
    world.run();
    assert_eq!(world.nvas["nva3"].learned, learned);
    assert!(world.next_hops("vm", "20.0.7.0/24").is_empty());
}

#[test]
fn a_prefix_that_came_and_went_within_a_table_makes_room_under_the_total_limit() {
    let mut world = world_with_a_listener();
    let local = 2;
    world.edit(|intent| intent.route_servers[0].total_routes = local + 300);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table());
    // Something is decided while the table waits.
    world.announce("nva2", path("10.1.4.5", &[65002]), &["20.0.7.0/24"]);
    world.withdraw("nva1", &["20.0.8.0/24"]);
    world.advance(3 * MILLISECOND);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["30.0.0.0/24"]);
    assert_eq!(world.verdict("nva2", "30.0.0.0/24"), "best");
}
