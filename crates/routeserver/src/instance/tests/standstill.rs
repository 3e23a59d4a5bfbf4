//! An instance that stood still, and what ends because of it.

use std::time::Duration;

use ::bfd::State;
use bgp::FamilySet;
use bgp::wire::{CeaseSubcode, Notification};

use super::agents::{converging, follow, heard};
use super::bfd::{changed_after, fast};
use super::world::*;
use crate::delivery::ToAgent;
use crate::instance::Input;
use crate::intent::PeerIntent;
use crate::testing::*;

/// Two thirds of the hold time of these tests' peers, of an NVA without BFD therefore.
const PATIENCE: Duration = Duration::from_secs(120);
const ROUTE: &str = "10.250.0.0/16";

/// A world that has converged, with an agent that has heard all.
fn converged() -> World {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    follow(&mut world, &["vm"]);
    world.end_of_rib("nva1");
    world.end_of_rib("nva2");
    assert!(!converging(&world));
    heard(&mut world);
    world
}

fn stand_still(world: &mut World, lasted: Duration) {
    world.now += lasted;
    world.instance.handle(world.now, Input::StoodStill { lasted });
}

fn state(world: &World) -> (usize, bool) {
    (world.lives, converging(world))
}

#[test]
fn whom_peers_gave_up_begins_another_life_and_has_converged_when_they_are_back() {
    let mut world = converged();
    stand_still(&mut world, PATIENCE);
    world.kill("nva1");
    assert_eq!(state(&world), (1, true));
    // The stream begins anew, and nothing is taken back.
    match heard(&mut world).as_slice() {
        [ToAgent::Nic(_), ToAgent::Snapshot(table), ToAgent::Converged(false), ..] => {
            let has = |prefix: &str| table.routes.iter().any(|route| route.prefix == net(prefix));
            assert!(!has(ROUTE));
        }
        other => panic!("{other:?}"),
    }
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    assert!(converging(&world));
    world.end_of_rib("nva1");
    assert_eq!(state(&world), (1, false));
    assert_eq!(heard(&mut world).last(), Some(&ToAgent::Converged(true)));
}

#[test]
fn a_peer_that_is_not_back_in_half_a_minute_is_waited_for_no_longer_however_often_it_stands_still() {
    let mut world = converged();
    stand_still(&mut world, PATIENCE);
    world.kill("nva1");
    world.advance_secs(10);
    stand_still(&mut world, Duration::from_secs(1));
    world.kill("nva2");
    assert_eq!(state(&world), (1, true), "one life is enough");
    world.advance_secs(18);
    assert!(converging(&world));
    world.advance_secs(1);
    assert!(!converging(&world));
}

#[test]
fn those_that_end_one_after_the_other_are_not_lost_where_the_first_is_back_already() {
    let mut world = converged();
    stand_still(&mut world, PATIENCE);
    world.kill("nva1");
    world.nvas.get_mut("nva1").unwrap().alive = true;
    let remote = world.nvas["nva1"].address;
    world.dial_in("nva1", remote);
    world.run();
    world.end_of_rib("nva1");
    assert_eq!(state(&world), (1, false));
    world.kill("nva2");
    assert_eq!(state(&world), (2, true));
}

#[test]
fn a_session_that_ends_for_another_reason_is_lost_at_once() {
    for (lasted, later) in [
        // Nobody gives up so soon.
        (PATIENCE - Duration::from_secs(1), Duration::ZERO),
        // It came through that.
        (PATIENCE, Duration::from_secs(2)),
    ] {
        let mut world = converged();
        stand_still(&mut world, lasted);
        world.advance(later);
        world.kill("nva1");
        assert_eq!(state(&world), (0, false), "{lasted:?} {later:?}");
    }
    // It came back after that, and dies in earnest.
    let mut world = converged();
    stand_still(&mut world, PATIENCE);
    world.kill("nva1");
    world.revive("nva1");
    world.end_of_rib("nva1");
    world.kill("nva1");
    assert_eq!(state(&world), (1, false));
    // The peer has its own reasons.
    let mut world = converged();
    stand_still(&mut world, PATIENCE);
    world.notify("nva1", Notification::cease(CeaseSubcode::AdministrativeShutdown));
    assert_eq!(state(&world), (0, false));
}

/// One NVA with BFD at 50 ms × 3, which is up or was never.
fn watched(is_up: bool) -> World {
    watched_beside(is_up, vec![])
}

fn watched_beside(is_up: bool, others: Vec<PeerIntent>) -> World {
    let mut world = idle_world();
    let mut first = peer("nva1", "10.1.4.4", 65001);
    first.bfd = Some(fast());
    world.intent.route_servers[0].peers = [vec![first], others].concat();
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.send_intent();
    world.end_of_rib("nva1");
    if is_up {
        bfd(&mut world, State::Init, State::Up, Duration::ZERO);
    }
    world
}

fn bfd(world: &mut World, from: State, to: State, silence: Duration) {
    changed_after(world, from, to, to, false, silence);
}

#[test]
fn with_bfd_a_standstill_of_two_intervals_is_enough() {
    for (is_up, lasted_ms, lives) in [(true, 99, 0), (true, 100, 1), (false, 100, 0)] {
        let mut world = watched(is_up);
        assert!(!converging(&world));
        stand_still(&mut world, Duration::from_millis(lasted_ms));
        world.notify("nva1", Notification::cease(CeaseSubcode::BfdDown));
        assert_eq!(state(&world), (lives, lives > 0), "{is_up} {lasted_ms}");
    }
}

#[test]
fn a_peer_that_says_nothing_after_a_standstill_is_dead() {
    let (short, long) = (Duration::from_millis(150), Duration::from_millis(400));
    // All that it said meanwhile was read afterwards, or at once, since BFD was not still; then it was silent. And: nothing was there to be read.
    for (silence, lives) in [(short, 0), (2 * short, 0), (short + long, 1)] {
        let mut world = watched(true);
        stand_still(&mut world, long);
        world.now += short;
        world.nvas.get_mut("nva1").unwrap().alive = false;
        bfd(&mut world, State::Up, State::Down, silence);
        assert_eq!(state(&world), (lives, lives > 0), "{silence:?}");
    }
}

#[test]
fn a_peer_that_ended_with_a_standstill_is_not_waited_for_when_bfd_says_that_it_died_afterwards() {
    let (short, long) = (Duration::from_millis(150), Duration::from_millis(400));
    // It said something after the standstill, or nothing was there to be read.
    for (silence, waits) in [(short, false), (short + long, true)] {
        let mut world = watched(true);
        stand_still(&mut world, long);
        world.kill("nva1");
        assert_eq!(state(&world), (1, true));
        world.now += short;
        bfd(&mut world, State::Up, State::Down, silence);
        assert_eq!(state(&world), (1, waits), "{silence:?}");
    }
}

#[test]
fn who_still_converges_after_a_start_begins_another_life_and_keeps_its_time() {
    let mut world = watched_beside(true, vec![peer("nva2", "10.1.4.5", 65002)]);
    world.advance_secs(10);
    stand_still(&mut world, Duration::from_secs(1));
    world.notify("nva1", Notification::cease(CeaseSubcode::BfdDown));
    assert_eq!(state(&world), (1, true));
    world.advance_secs(108);
    assert!(converging(&world));
    world.advance_secs(1);
    assert!(!converging(&world));
}
