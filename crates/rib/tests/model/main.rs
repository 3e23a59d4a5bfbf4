//! The RIB against a plain, obvious model: whatever happens in whatever order, peers end up holding what the model says.
//!
//! The model recomputes everything from maps each time it is asked. What peers hold is what they decode from the bytes written.

#![allow(clippy::unwrap_used)]

mod fixtures;
mod follower;
mod plain;
mod world;

use proptest::prelude::*;

use plain::Plain;
use world::{Op, World, any_op, route};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn peers_hold_what_the_model_says(ops in prop::collection::vec(any_op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.settle_all();
        world.check();
    }

    #[test]
    fn peers_hold_what_the_model_says_after_every_batch(
        batches in prop::collection::vec(prop::collection::vec(any_op(), 1..6), 1..20),
    ) {
        let mut world = World::new();
        for ops in &batches {
            for op in ops {
                world.apply(op);
            }
            world.settle_all();
            world.check();
        }
    }

    #[test]
    fn everything_is_given_back(ops in prop::collection::vec(any_op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.withdraw_everything();
        world.settle_all();
        world.check();
        prop_assert_eq!(world.usage(), rib::Usage { attribute_slots: 0, ..rib::Usage::default() });
    }

    #[test]
    fn any_order_of_arrival_gives_the_same_loc_rib(
        (straight, shuffled) in prop::collection::vec(route(), 1..24)
            .prop_map(|routes| Plain::last_words(&routes))
            .prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
    ) {
        prop_assert_eq!(world::loc_rib_of(&straight), world::loc_rib_of(&shuffled));
    }
}

#[test]
fn an_identical_announcement_changes_and_sends_nothing() {
    let mut world = World::new();
    let announce = Op::Announce {
        peer: 0,
        attributes: 1,
        prefixes: 0b111,
    };
    for op in [Op::Attach { peer: 0, group: 0 }, Op::Attach { peer: 1, group: 0 }] {
        world.apply(&op);
    }
    world.apply(&announce);
    world.settle_all();
    let written = world.octets_written();
    world.apply(&announce);
    assert!(world.rib.decide().is_empty());
    world.settle_all();
    assert_eq!(world.octets_written(), written);
}

#[test]
fn the_same_words_from_another_mouth_are_news_only_for_the_two() {
    let mut world = World::new();
    for peer in [0, 1, 4] {
        world.apply(&Op::Attach { peer, group: 0 });
    }
    let announce = |peer| Op::Announce {
        peer,
        attributes: 0,
        prefixes: 1,
    };
    world.apply(&announce(1));
    world.settle_all();
    let before = [0, 1, 4].map(|peer| world.octets_written_to(peer));
    // The same attribute set; the lower BGP Identifier wins.
    world.apply(&announce(0));
    world.settle_all();
    world.check();
    let after = [0, 1, 4].map(|peer| world.octets_written_to(peer));
    assert!(after[0] > before[0] && after[1] > before[1]);
    assert_eq!(after[2], before[2]);
}
