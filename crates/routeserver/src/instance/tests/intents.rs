//! Changes of intent touch what differs and nothing else; sessions, callers, addresses.

use bgp::FamilySet;

use super::world::*;
use crate::instance::{Event, Input};
use crate::testing::*;

fn last_notification(world: &World, nva: &str) -> Option<(u8, u8)> {
    let notification = world.nvas[nva].notifications.last()?;
    Some((notification.code, notification.subcode))
}

#[test]
fn a_removed_peer_is_told_that_it_is_deconfigured_and_the_other_stays() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    world.edit(|intent| {
        intent.route_servers[0].peers.remove(0);
    });
    assert_eq!(last_notification(&world, "nva1"), Some((6, 3)));
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
    assert!(world.instance.routes_of_peer("nva1").is_none());
    assert_eq!(world.instance.health().peers_established, 1);
    world.advance_secs(300);
    assert_eq!(world.nvas["nva2"].established, 1);
    assert_eq!(world.nvas["nva1"].established, 1);
}

#[test]
fn a_changed_peer_is_reset_and_comes_back_with_its_settings() {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].peers[0].hold_time_secs = 30);
    assert_eq!(last_notification(&world, "nva1"), Some((6, 6)));
    world.advance_secs(10);
    assert_eq!(world.nvas["nva1"].established, 2);
    assert_eq!(world.nvas["nva2"].established, 1);
    let report = &world.instance.peers(world.now, Some("rs1"))[0];
    assert_eq!(report.hold_time_secs, Some(30));
}

#[test]
fn a_peer_held_down_stays_down_until_it_is_released() {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].peers[0].admin_down = true);
    assert_eq!(last_notification(&world, "nva1"), Some((6, 2)));
    world.advance_secs(600);
    assert_eq!(world.nvas["nva1"].established, 1);
    assert_eq!(world.instance.peers(world.now, None)[0].state, "Idle");
    world.edit(|intent| intent.route_servers[0].peers[0].admin_down = false);
    world.advance_secs(10);
    assert_eq!(world.nvas["nva1"].established, 2);
}

#[test]
fn enhanced_route_refresh_is_offered_only_where_it_is_asked_for() {
    let mut world = world();
    let offers = |world: &World| {
        let report = world.instance.peers(world.now, None).remove(0);
        ["route-refresh", "enhanced-route-refresh"].map(|name| report.capabilities.iter().any(|c| c == name))
    };
    assert_eq!(offers(&world), [true, false]);
    world.edit(|intent| intent.route_servers[0].peers[0].enhanced_route_refresh = true);
    world.advance_secs(10);
    assert_eq!(offers(&world), [true, true]);
}

#[test]
fn an_older_intent_is_ignored() {
    let mut world = world();
    world.edit(|intent| intent.version = 10);
    let version = world.intent.version;
    world.intent.version = 3;
    world.intent.route_servers.clear();
    world.send_intent();
    assert_eq!(world.instance.intent_version(), version);
    assert_eq!(world.instance.health().peers_established, 2);
}

#[test]
fn the_same_intent_again_changes_nothing() {
    let mut world = world();
    world.take_events();
    world.send_intent();
    world.edit(|_| {});
    assert_eq!(world.take_events(), []);
    assert_eq!(world.instance.health().peers_established, 2);
}

#[test]
fn a_removed_route_server_leaves_nothing_behind() {
    let mut world = world();
    world.edit(|intent| intent.route_servers.clear());
    for nva in ["nva1", "nva2"] {
        assert_eq!(last_notification(&world, nva), Some((6, 3)));
    }
    assert_eq!(world.listeners, []);
    let health = world.instance.health();
    assert_eq!((health.peers, health.peers_established), (0, 0));
    world.advance_secs(300);
    assert_eq!(world.instance.poll_timeout(), None);
}

#[test]
fn another_as_number_resets_every_session_of_the_route_server() {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].asn = bgp::Asn(65400));
    world.advance_secs(10);
    for nva in ["nva1", "nva2"] {
        assert_eq!(last_notification(&world, nva), Some((6, 6)));
        assert_eq!(world.nvas[nva].established, 2);
        assert_eq!(world.told(nva, "10.1.0.0/16").unwrap(), "65400 10.1.1.4");
    }
}

#[test]
fn a_peer_may_dial_and_others_are_turned_away() {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001)];
    world.intent.route_servers[0].peers[0].dial = false;
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.send_intent();
    assert_eq!(world.listeners[0].local, ip("10.1.1.4"));
    assert_eq!(world.listeners[0].peers[0].remote, ip("10.1.4.4"));
    world.dial_in("nva1", ip("10.1.4.99"));
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::UnknownCaller { .. }))
    );
    assert_eq!(world.nvas["nva1"].connection, None);
    world.advance_secs(10);
    world.dial_in("nva1", ip("10.1.4.4"));
    assert_eq!(world.nvas["nva1"].established, 1);
    assert_eq!(
        world.instance.peers(world.now, None)[0].direction.as_deref(),
        Some("accepted")
    );
}

#[test]
fn a_peer_that_is_away_is_dialled_again_and_told_of_once() {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001)];
    world.send_intent();
    world.advance_secs(60);
    let failures = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::PeerFailed { .. }));
    assert!(failures.count() <= 1);
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.advance_secs(10);
    assert_eq!(world.nvas["nva1"].established, 1);
}

#[test]
fn the_operator_resets_a_peer() {
    let mut world = world();
    world.input(Input::ResetPeer {
        peer: "nva1".into(),
        soft: false,
    });
    assert_eq!(last_notification(&world, "nva1"), Some((6, 4)));
    world.advance_secs(10);
    assert_eq!(world.nvas["nva1"].established, 2);
    world.input(Input::ResetPeer {
        peer: "nva1".into(),
        soft: true,
    });
    assert_eq!(world.nvas["nva1"].established, 2);
}

#[test]
fn shutdown_says_farewell_and_finishes() {
    let mut world = world();
    world.input(Input::Shutdown);
    assert_eq!(last_notification(&world, "nva1"), Some((6, 2)));
    assert!(world.finished);
}

#[test]
fn address_problems_are_in_the_health() {
    let mut world = world();
    let present = |problem: Option<&str>| Input::AddressPresent {
        speaker: "rs1".into(),
        local: ip("10.1.1.4"),
        problem: problem.map(str::to_owned),
    };
    world.input(present(Some("address not present")));
    assert_eq!(
        world.instance.health().address_problems,
        [("rs1".into(), "address not present".into())]
    );
    world.input(present(None));
    assert_eq!(world.instance.health().address_problems, []);
    // Said too late of an address that is not the speaker's any more.
    world.input(Input::AddressPresent {
        speaker: "rs1".into(),
        local: ip("fd01:0:0:1::4"),
        problem: Some("address not present".into()),
    });
    assert_eq!(world.instance.health().address_problems, []);
}

#[test]
fn a_peer_report_tells_what_azure_does_not() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16", "10.1.7.0/24"]);
    world.advance_secs(90);
    let report = world.instance.peers(world.now, None).remove(0);
    assert_eq!(report.state, "Established");
    assert_eq!(report.since_secs, Some(90));
    assert_eq!(report.hold_time_secs, Some(180));
    assert_eq!(report.peer_identifier.as_deref(), Some("10.1.4.4"));
    assert_eq!(
        (report.routes_received, report.routes_accepted, report.routes_advertised),
        (2, 1, 2)
    );
    assert_eq!(report.updates_received, 1);
    assert!(report.capabilities.contains(&"four-octet-as".to_owned()));
    assert!(world.instance.peers(world.now, Some("other")).is_empty());
}

#[test]
fn counters_and_the_last_end_survive_a_change_that_makes_another_session() {
    let mut world = world();
    let before = world.instance.peers(world.now, Some("rs1"))[0].clone();
    world.edit(|intent| intent.route_servers[0].peers[0].hold_time_secs = 30);
    world.advance_secs(10);
    let after = &world.instance.peers(world.now, Some("rs1"))[0];
    assert_eq!((before.established_count, after.established_count), (1, 2));
    assert!(after.messages_received > before.messages_received);
    let down = after.last_down.as_ref().unwrap();
    assert_eq!(
        down.reason,
        "we sent NOTIFICATION Cease/Other Configuration Change (6/6): the peering's configuration changed"
    );
    assert_eq!(world.nvas["nva1"].notifications.last().unwrap().data.len(), 0);

    world.edit(|intent| intent.route_servers[0].asn = bgp::Asn(65010));
    world.advance_secs(10);
    assert!(world.instance.peers(world.now, Some("rs1"))[0].established_count >= 2);
}

#[test]
fn a_peer_that_cannot_be_asked_again_has_a_reason_to_say_so() {
    let mut world = world();
    assert_eq!(world.instance.soft_reset_problem("nva1"), None);
    world.edit(|intent| intent.route_servers[0].peers[0].admin_down = true);
    let problem = world.instance.soft_reset_problem("nva1").unwrap();
    assert!(problem.contains("not Established"), "{problem}");
}
