//! The limit of routes per peer (az §1.3): what the Adj-RIB-In holds is counted, not what arrives.

use bgp::IpNet;
use bgp::wire::Notification;

use super::world::*;
use crate::instance::{Event, Input};
use crate::testing::*;

fn prefixes(count: u32) -> Vec<IpNet> {
    (0..count)
        .map(|index| net(&format!("20.{}.{}.0/24", index >> 8, index & 255)))
        .collect()
}

fn limited(limit: u32) -> World {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].peers[0].route_limit = limit);
    world.take_events();
    world
}

fn codes(notifications: &[Notification]) -> Vec<(u8, u8)> {
    notifications
        .iter()
        .map(|notification| (notification.code, notification.subcode))
        .collect()
}

#[test]
fn announcing_the_same_prefixes_again_is_not_counted_twice() {
    let mut world = limited(100);
    for _ in 0..3 {
        world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(100));
    }
    assert_eq!(world.nvas["nva1"].notifications, []);
    assert_eq!(world.instance.peers(world.now, None)[0].routes_received, 100);
}

#[test]
fn over_the_limit_the_session_ends_with_cease_1_and_comes_back_later() {
    let mut world = limited(100);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(101));
    assert_eq!(codes(&world.nvas["nva1"].notifications), [(6, 1)]);
    assert_eq!(world.instance.routes_of_peer("nva1"), Some(vec![]));
    assert!(world.next_hops("vm", "20.0.0.0/24").is_empty());
    world.advance_secs(120);
    assert_eq!(world.nvas["nva1"].established, 2);
    assert_eq!(world.nvas["nva2"].established, 1);
}

#[test]
fn a_flood_in_one_batch_ends_at_the_first_update_over_the_limit() {
    let mut world = limited(100);
    let connection = world.nvas["nva1"].connection.unwrap();
    let update = |prefix| {
        bgp::wire::Message::Update(bgp::wire::Update {
            announced: [bgp::wire::Announcement {
                attributes: std::sync::Arc::new(path("10.1.4.4", &[65001]).build()),
                prefixes: vec![prefix],
            }]
            .into(),
            ..Default::default()
        })
    };
    let messages = prefixes(5000).into_iter().map(update).collect();
    world
        .instance
        .handle(world.now, Input::Received { connection, messages });
    let held = world.instance.peers(world.now, None)[0].routes_received;
    assert_eq!(
        held, 0,
        "the session is down and its routes are gone before anything was settled"
    );
    world.run();
    assert_eq!(codes(&world.nvas["nva1"].notifications), [(6, 1)]);
}

#[test]
fn the_warning_comes_once_per_crossing() {
    let mut world = limited(100);
    let warnings = |world: &mut World| {
        let events = world.take_events();
        events
            .into_iter()
            .filter(|event| matches!(event, Event::RouteLimitNear { .. }))
            .count()
    };
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(79));
    assert_eq!(warnings(&mut world), 0);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(80));
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(90));
    assert_eq!(warnings(&mut world), 1);
    let gone: Vec<String> = prefixes(90).iter().map(IpNet::to_string).collect();
    world.withdraw("nva1", &gone.iter().map(String::as_str).collect::<Vec<_>>());
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(85));
    assert_eq!(warnings(&mut world), 1);
}

#[test]
fn a_limit_lowered_below_what_is_held_applies_at_once_and_zero_is_none() {
    let mut world = limited(0);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(5000));
    assert_eq!(world.nvas["nva1"].notifications, []);
    world.edit(|intent| intent.route_servers[0].peers[0].route_limit = 10);
    assert_eq!(codes(&world.nvas["nva1"].notifications), [(6, 1)]);
}

#[test]
fn a_peer_held_off_over_its_limit_is_let_in_when_the_limit_is_raised() {
    let mut world = limited(10);
    for hold_secs in [1, 5, 10, 20, 40] {
        world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(11));
        world.advance_secs(hold_secs + 1);
    }
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(11));
    world.advance_secs(10);
    assert_eq!(
        world.instance.peers(world.now, None)[0].state,
        "Idle",
        "held off for a minute"
    );
    world.edit(|intent| intent.route_servers[0].peers[0].route_limit = 11);
    world.advance_secs(5);
    assert_eq!(world.instance.peers(world.now, None)[0].state, "Established");
}

fn rejected(world: &World, peer: &str) -> usize {
    let routes = world.instance.routes_of_peer(peer).unwrap();
    let over = |route: &&crate::report::RouteReport| route.reason.as_deref() == Some("over-total-limit");
    routes.iter().filter(over).count()
}

/// The hub's own prefixes count as well.
fn limited_in_total(learned: u32) -> World {
    let mut world = world();
    let local = world.nvas["nva1"].learned.len() as u32;
    world.edit(|intent| intent.route_servers[0].total_routes = local + learned);
    world
}

#[test]
fn a_prefix_over_the_total_is_refused_with_its_verdict_and_the_session_stays() {
    let mut world = limited_in_total(10);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(12));
    assert_eq!(world.nvas["nva1"].notifications, []);
    assert_eq!(rejected(&world, "nva1"), 2);
    assert_eq!(world.verdict("nva1", "20.0.11.0/24"), "rejected over-total-limit");
    assert!(world.next_hops("vm", "20.0.11.0/24").is_empty());
}

#[test]
fn a_prefix_of_two_peers_counts_once_in_the_total() {
    let mut world = limited_in_total(10);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(10));
    world.announce_nets("nva2", path("10.1.4.5", &[65002]), prefixes(10));
    assert_eq!((rejected(&world, "nva1"), rejected(&world, "nva2")), (0, 0));
    // One peer's word for a prefix goes, the other's keeps its place.
    world.withdraw("nva1", &["20.0.0.0/24"]);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["30.0.0.0/24"]);
    assert_eq!(rejected(&world, "nva1"), 1);
}

#[test]
fn what_was_refused_over_the_total_comes_in_when_others_go() {
    let mut world = limited_in_total(10);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(10));
    world.announce("nva2", path("10.1.4.5", &[65002]), &["30.0.0.0/24", "30.0.1.0/24"]);
    assert_eq!(rejected(&world, "nva2"), 2);
    world.withdraw("nva1", &["20.0.3.0/24"]);
    assert_eq!(rejected(&world, "nva2"), 1);
    assert_eq!(world.next_hops("vm", "30.0.0.0/24"), ["10.1.4.5"]);
    world.kill("nva1");
    world.advance_secs(200);
    assert_eq!(rejected(&world, "nva2"), 0);
}

#[test]
fn prefixes_that_come_and_go_at_once_take_no_place_of_the_total() {
    let mut world = limited_in_total(10);
    let connection = world.nvas["nva1"].connection.unwrap();
    let update = |announced: bool, prefix: IpNet| {
        let attributes = std::sync::Arc::new(path("10.1.4.4", &[65001]).build());
        let announcement = bgp::wire::Announcement {
            attributes,
            prefixes: vec![prefix],
        };
        bgp::wire::Message::Update(bgp::wire::Update {
            announced: announced.then_some(announcement).into_iter().collect(),
            withdrawn: (!announced).then_some(prefix).into_iter().collect(),
            ..Default::default()
        })
    };
    let messages = prefixes(10)
        .into_iter()
        .flat_map(|prefix| [update(true, prefix), update(false, prefix)]);
    let messages = messages.collect();
    world
        .instance
        .handle(world.now, Input::Received { connection, messages });
    world.run();
    world.announce_nets("nva2", path("10.1.4.5", &[65002]), prefixes(10));
    assert_eq!(rejected(&world, "nva2"), 0);
}

#[test]
fn another_total_applies_at_once_in_both_directions() {
    let mut world = limited_in_total(10);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(20));
    assert_eq!(rejected(&world, "nva1"), 10);
    world.edit(|intent| intent.route_servers[0].total_routes -= 5);
    assert_eq!(rejected(&world, "nva1"), 15);
    world.edit(|intent| intent.route_servers[0].total_routes += 8);
    assert_eq!(rejected(&world, "nva1"), 7);
    world.edit(|intent| intent.route_servers[0].total_routes = 0);
    assert_eq!(rejected(&world, "nva1"), 0);
}
