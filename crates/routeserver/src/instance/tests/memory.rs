//! A ceiling of memory: who goes near it, who stays, who comes back when.

use bgp::IpNet;

use super::world::*;
use crate::instance::{Event, Input};
use crate::testing::*;

const MIB: u64 = 1 << 20;
/// The least that holds somebody to be noisy is 1 MiB then.
const CEILING_MIB: u32 = 64;
/// What 10,000 routes take is more, what 1,000 take is less.
const MANY: u32 = 10_000;

fn prefixes(count: u32) -> Vec<IpNet> {
    (0..count)
        .map(|index| net(&format!("20.{}.{}.0/24", index >> 8, index & 255)))
        .collect()
}

/// `nva1` and `nva2` with so many routes.
fn with_routes(first: u32, second: u32) -> World {
    let mut world = world();
    world.edit(|intent| {
        intent.memory_mib = CEILING_MIB;
        for peer in &mut intent.route_servers[0].peers {
            peer.route_limit = 0;
        }
    });
    for (nva, address, asn, count) in [("nva1", "10.1.4.4", 65001, first), ("nva2", "10.1.4.5", 65002, second)] {
        if count > 0 {
            world.announce_nets(nva, path(address, &[asn]), prefixes(count));
        }
    }
    world.advance_secs(2);
    world.take_events();
    world
}

impl World {
    fn memory_is(&mut self, used_mib: u64) {
        self.input(Input::Memory {
            used: used_mib * MIB,
            waiting: Vec::new(),
        });
    }

    /// Cease / Out of Resources that an NVA was told.
    fn ended(&self, nva: &str) -> usize {
        let said = self.nvas[nva].notifications.iter();
        said.filter(|said| (said.code, said.subcode) == (6, 8)).count()
    }

    fn both_ended(&self) -> [usize; 2] {
        ["nva1", "nva2"].map(|nva| self.ended(nva))
    }
}

#[test]
fn near_the_ceiling_the_noisiest_peer_goes_and_the_other_stays() {
    let mut world = with_routes(2 * MANY, MANY);
    world.memory_is(55);
    assert_eq!(world.both_ended(), [0, 0], "an eighth is left");
    world.memory_is(56);
    assert_eq!(world.both_ended(), [1, 0]);
    let told = world.take_events();
    assert!(told.iter().any(|event| matches!(
        event,
        Event::MemoryShort { peer: Some(peer), used_mib: 56, ceiling_mib: 64, .. } if peer == "nva1"
    )));
    let peers = world.instance.peers(world.now, None);
    let reason = &peers[0].last_down.as_ref().unwrap().reason;
    assert!(reason.contains("ceiling of 64 MiB"), "{reason}");
    assert_eq!((peers[0].octets_held, peers[0].routes_received), (0, 0));
    assert_eq!(
        (peers[1].routes_received, peers[1].established_count),
        (MANY as usize, 1)
    );
    let memory = world.instance.health().memory.unwrap();
    assert_eq!((memory.is_short, memory.peers_ended), (true, 1));
    assert_eq!(memory.last_ended.as_deref(), Some("nva1"));
    assert_eq!(world.next_hops("vm", "20.0.0.0/24"), ["10.1.4.5"]);
}

#[test]
fn a_large_table_that_has_been_there_for_long_is_not_the_noisy_one() {
    let mut world = with_routes(3 * MANY, 0);
    for _ in 0..600 {
        world.memory_is(10);
        world.advance_secs(1);
    }
    world.announce_nets("nva2", path("10.1.4.5", &[65002]), prefixes(MANY));
    world.memory_is(60);
    assert_eq!(world.both_ended(), [0, 1]);
}

#[test]
fn who_comes_back_with_what_it_has_held_for_long_is_not_the_noisiest() {
    let mut world = with_routes(2 * MANY, 0);
    for _ in 0..300 {
        world.memory_is(20);
        world.advance_secs(1);
    }
    world.kill("nva1");
    for _ in 0..30 {
        world.memory_is(20);
        world.advance_secs(1);
    }
    world.nvas.get_mut("nva1").unwrap().alive = true;
    for _ in 0..60 {
        world.memory_is(20);
        world.advance_secs(1);
    }
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(2 * MANY));
    world.announce_nets("nva2", path("10.1.4.5", &[65002]), prefixes(MANY));
    world.advance_secs(2);
    world.memory_is(60);
    assert_eq!(world.both_ended(), [0, 1]);
}

#[test]
fn who_floods_again_each_time_it_is_let_in_is_the_noisiest_each_time() {
    let mut world = with_routes(0, 0);
    for round in 1..=4 {
        for _ in 0..600 {
            if world.nvas["nva1"].established < round {
                world.memory_is(20);
                world.advance_secs(1);
            }
        }
        assert_eq!(world.nvas["nva1"].established, round, "back");
        world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(2 * MANY));
        for _ in 0..20 {
            world.memory_is(20);
            world.advance_secs(1);
        }
        if round == 4 {
            world.announce_nets("nva2", path("10.1.4.5", &[65002]), prefixes(MANY));
            world.advance_secs(2);
        }
        world.memory_is(60);
        assert_eq!(world.both_ended(), [round, 0]);
    }
}

#[test]
fn nobody_else_goes_before_what_was_freed_could_be_given_back() {
    let mut world = with_routes(2 * MANY, MANY);
    world.memory_is(57);
    world.advance(std::time::Duration::from_millis(500));
    world.memory_is(57);
    assert_eq!(world.both_ended(), [1, 0]);
    world.advance_secs(2);
    world.memory_is(57);
    assert_eq!(world.both_ended(), [1, 1], "it did not help");
}

#[test]
fn where_memory_grows_on_to_the_very_ceiling_the_next_one_goes_at_once() {
    let mut world = with_routes(2 * MANY, MANY);
    world.memory_is(57);
    world.advance(std::time::Duration::from_millis(500));
    world.memory_is(63);
    assert_eq!(world.both_ended(), [1, 1]);
}

#[test]
fn where_nobody_holds_much_nobody_goes_and_that_is_told_once() {
    let mut world = with_routes(1_000, 1_000);
    for _ in 0..10 {
        world.memory_is(63);
        world.advance_secs(1);
    }
    assert_eq!(world.both_ended(), [0, 0]);
    let events = world.take_events();
    let told = events
        .iter()
        .filter(|event| matches!(event, Event::MemoryShort { peer: None, .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn what_waits_to_be_written_counts_as_held() {
    let mut world = with_routes(MANY, 100);
    let connection = world.nvas["nva2"].connection.unwrap();
    world.input(Input::Memory {
        used: 60 * MIB,
        waiting: vec![(connection, 4 << 20)],
    });
    assert_eq!(world.both_ended(), [0, 1]);
}

#[test]
fn who_went_is_let_in_again_each_time_later() {
    let mut world = with_routes(MANY, 0);
    for (round, hold_secs) in [(1, 10), (2, 20), (3, 40)] {
        world.memory_is(60);
        assert_eq!(world.ended("nva1"), round);
        world.memory_is(20);
        world.advance_secs(hold_secs - 2);
        assert_eq!(world.nvas["nva1"].established, round, "held off");
        world.advance_secs(10);
        assert_eq!(world.nvas["nva1"].established, round + 1, "back");
        world.announce_nets("nva1", path("10.1.4.4", &[65001]), prefixes(MANY));
    }
}

#[test]
fn without_a_ceiling_nobody_goes() {
    let mut world = with_routes(2 * MANY, MANY);
    world.edit(|intent| intent.memory_mib = 0);
    world.memory_is(1 << 20);
    assert_eq!(world.both_ended(), [0, 0]);
    assert_eq!(
        (world.instance.memory_ceiling(), world.instance.health().memory),
        (None, None)
    );
}
