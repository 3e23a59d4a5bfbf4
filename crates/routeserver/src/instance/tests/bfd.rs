//! BFD (RFC 5882): which sessions are wanted, and what their word means for BGP.

use std::num::NonZeroU32;
use std::time::Duration;

use bfd::{Diagnostic, Discriminator, SessionStatus, State, StateChange};

use super::gateways;
use super::world::*;
use crate::instance::{BfdEvent, Event, Input, PeerKey};
use crate::intent::BfdIntent;
use crate::testing::*;

pub(super) fn fast() -> BfdIntent {
    BfdIntent {
        min_tx_ms: 50,
        min_rx_ms: 60,
        multiplier: 3,
        multihop: None,
        strict: false,
        authentication: None,
    }
}

/// Two NVAs with sessions, `nva1` with BFD.
fn watched(bfd: BfdIntent) -> World {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].peers[0].bfd = Some(bfd));
    world.take_events();
    world
}

fn key(world: &World) -> PeerKey {
    world.bfd_wanted[0].peer
}

fn changed(world: &mut World, from: State, to: State, remote_state: State) {
    changed_of(world, from, to, remote_state, false);
}

/// `independent`: the neighbour's BFD goes on when its BGP restarts.
pub(super) fn changed_of(world: &mut World, from: State, to: State, remote_state: State, independent: bool) {
    changed_after(world, from, to, remote_state, independent, Duration::from_millis(150));
}

/// After so much silence.
pub(super) fn changed_after(
    world: &mut World,
    from: State,
    to: State,
    remote_state: State,
    independent: bool,
    silence: Duration,
) {
    let diagnostic = match (to, remote_state) {
        (State::Up, _) => Diagnostic::NONE,
        (_, State::AdminDown) => Diagnostic::NEIGHBOR_SIGNALED_DOWN,
        _ => Diagnostic::DETECTION_TIME_EXPIRED,
    };
    let change = StateChange {
        from,
        to,
        diagnostic,
        remote_state,
        remote_is_independent: independent,
        silence,
    };
    let status = SessionStatus {
        state: to,
        remote_state,
        diagnostic,
        remote_diagnostic: Diagnostic::NONE,
        discriminator: Discriminator(NonZeroU32::MIN),
        remote_discriminator: None,
        tx_interval: Some(Duration::from_millis(60)),
        rx_interval: None,
        detection_time: None,
        remote_detect_mult: 3,
        since: Some(world.now),
        ups: 1,
        downs: 0,
        sent: 1,
        received: 1,
        discarded: 0,
    };
    let peer = key(world);
    world.input(Input::Bfd(BfdEvent::Changed { peer, change, status }));
}

fn state(world: &World, peer: &str) -> String {
    let peers = world.instance.peers(world.now, None);
    peers.into_iter().find(|each| each.id == peer).unwrap().state
}

#[test]
fn it_is_off_unless_wanted_and_then_over_several_hops_since_nvas_are_in_other_subnets() {
    assert_eq!(world().bfd_wanted, []);
    let world = watched(fast());
    let [wanted] = &world.bfd_wanted[..] else {
        panic!("{:?}", world.bfd_wanted);
    };
    assert!(wanted.multihop);
    assert_eq!(wanted.remote, world.nvas["nva1"].address);
    assert_eq!(wanted.config.desired_min_tx, Duration::from_millis(50));
    assert_eq!(wanted.config.required_min_rx, Duration::from_millis(60));
    assert_eq!(world.nvas["nva1"].established, 1, "the session is not touched");
}

#[test]
fn a_lost_path_ends_the_session_with_cease_bfd_down_and_its_routes_go() {
    let mut world = watched(fast());
    world.announce("nva1", path("10.1.4.4", &[65001]), &["20.0.0.0/24"]);
    changed(&mut world, State::Init, State::Up, State::Up);
    world.nvas.get_mut("nva1").unwrap().alive = false;
    changed(&mut world, State::Up, State::Down, State::Down);
    let told: Vec<_> = world.nvas["nva1"]
        .notifications
        .iter()
        .map(|told| (told.code, told.subcode))
        .collect();
    assert_eq!(told, [(6, 10)]);
    assert_ne!(state(&world, "nva1"), "Established");
    assert_eq!(state(&world, "nva2"), "Established");
    assert!(world.next_hops("vm", "20.0.0.0/24").is_empty());
    let report = world.instance.peers(world.now, None).remove(0);
    let expected = "BFD down after 150 ms without a packet (detection time expired)";
    assert!(report.last_error.unwrap().contains(expected));
    assert_eq!(report.bfd.unwrap().last_down.unwrap().reason, expected);
    let events = world.take_events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::BfdDown { path_lost: true, .. })),
        "{events:?}"
    );
}

#[test]
fn a_site_of_a_gateway_is_watched_as_any_peer() {
    let mut world = gateways::vpn_gateway(65515);
    gateways::edit_gateway(&mut world, |gateway| gateway.peers[1].bfd = Some(fast()));
    let [wanted] = &world.bfd_wanted[..] else {
        panic!("{:?}", world.bfd_wanted);
    };
    assert_eq!(wanted.local, ip("10.1.5.4"), "the gateway's own address");
    assert_eq!(wanted.remote, world.nvas["site1"].address);
    assert!(wanted.multihop, "a tunnel is no link of the gateway's subnet");
    world.announce("site1", path("192.168.101.1", &[64701]), &["20.0.0.0/24"]);
    assert!(world.told("rs", "20.0.0.0/24").is_some());
    changed(&mut world, State::Init, State::Up, State::Up);
    world.nvas.get_mut("site1").unwrap().alive = false;
    changed(&mut world, State::Up, State::Down, State::Down);
    assert_ne!(state(&world, "site1"), "Established");
    assert_eq!(state(&world, "site2"), "Established");
    assert_eq!(world.told("rs", "20.0.0.0/24"), None);
}

#[test]
fn a_path_that_flaps_does_not_become_a_storm_of_sessions() {
    let mut world = watched(fast());
    let before = world.nvas["nva1"].established;
    for _ in 0..20 {
        changed(&mut world, State::Init, State::Up, State::Up);
        changed(&mut world, State::Up, State::Down, State::Down);
    }
    assert!(
        world.nvas["nva1"].established <= before + 2,
        "{}",
        world.nvas["nva1"].established
    );
    world.advance_secs(10);
    assert_eq!(state(&world, "nva1"), "Established");
}

#[test]
fn a_peer_that_holds_bfd_down_keeps_its_session() {
    let mut world = watched(fast());
    changed(&mut world, State::Init, State::Up, State::Up);
    changed(&mut world, State::Up, State::Down, State::AdminDown);
    assert_eq!(state(&world, "nva1"), "Established");
    assert_eq!(world.nvas["nva1"].notifications, []);
}

#[test]
fn without_strict_mode_a_session_waits_for_nothing() {
    let mut world = watched(fast());
    changed(&mut world, State::Init, State::Up, State::Up);
    changed(&mut world, State::Up, State::Down, State::Down);
    world.advance_secs(10);
    assert_eq!(
        state(&world, "nva1"),
        "Established",
        "BGP came back although BFD has not"
    );
}

#[test]
fn in_strict_mode_a_session_comes_up_when_bfd_is_up_and_not_before() {
    let mut world = watched(BfdIntent { strict: true, ..fast() });
    assert_eq!(state(&world, "nva1"), "Established", "switching it on ends nothing");
    changed(&mut world, State::Init, State::Up, State::Up);
    changed(&mut world, State::Up, State::Down, State::Down);
    world.advance_secs(600);
    assert_eq!(state(&world, "nva1"), "Idle");
    let told: Vec<_> = world.nvas["nva1"]
        .notifications
        .iter()
        .map(|told| (told.code, told.subcode))
        .collect();
    assert_eq!(told, [(6, 10)]);
    changed(&mut world, State::Init, State::Up, State::Up);
    world.advance_secs(1);
    assert_eq!(state(&world, "nva1"), "Established");
}

#[test]
fn a_peer_that_is_dialled_while_strict_mode_is_switched_on_waits_for_bfd_as_well() {
    let mut world = watched(fast());
    world.kill("nva1");
    world.edit(|intent| intent.route_servers[0].peers[0].bfd = Some(BfdIntent { strict: true, ..fast() }));
    world.nvas.get_mut("nva1").unwrap().alive = true;
    world.advance_secs(600);
    assert_eq!(state(&world, "nva1"), "Idle");
    changed(&mut world, State::Init, State::Up, State::Up);
    world.advance_secs(1);
    assert_eq!(state(&world, "nva1"), "Established");
}

#[test]
fn a_session_that_waits_comes_up_when_strict_mode_or_bfd_is_switched_off() {
    let strict = BfdIntent { strict: true, ..fast() };
    for after in [None, Some(fast())] {
        let mut world = watched(strict.clone());
        changed(&mut world, State::Init, State::Up, State::Up);
        changed(&mut world, State::Up, State::Down, State::Down);
        world.advance_secs(10);
        assert_eq!(state(&world, "nva1"), "Idle");
        world.edit(|intent| intent.route_servers[0].peers[0].bfd = after.clone());
        world.advance_secs(1);
        assert_eq!(state(&world, "nva1"), "Established", "{after:?}");
    }
}

#[test]
fn a_peer_that_is_held_down_has_no_bfd_and_a_leaving_instance_has_none_at_all() {
    let mut world = watched(fast());
    world.edit(|intent| intent.route_servers[0].peers[0].admin_down = true);
    assert_eq!(world.bfd_wanted, []);
    world.edit(|intent| intent.route_servers[0].peers[0].admin_down = false);
    assert_eq!(world.bfd_wanted.len(), 1);
    world.input(Input::Shutdown);
    assert_eq!(world.bfd_wanted, []);
}

#[test]
fn other_intervals_are_another_wish_and_no_other_session() {
    let mut world = watched(fast());
    let before = key(&world);
    world.edit(|intent| {
        intent.route_servers[0].peers[0].bfd = Some(BfdIntent {
            min_tx_ms: 300,
            ..fast()
        })
    });
    assert_eq!(world.bfd_wanted[0].config.desired_min_tx, Duration::from_millis(300));
    assert_eq!(key(&world), before);
    assert_eq!(world.nvas["nva1"].established, 1);
}
