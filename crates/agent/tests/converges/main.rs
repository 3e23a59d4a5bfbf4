//! Whatever instances say, in whatever order, whenever they restart and whenever the agent does: in the end the kernel has what a
//! simple model says, and there is nothing left to do.
#![allow(clippy::unwrap_used, missing_docs)]

mod kernel;
mod shared_groups;
mod world;

use std::net::{IpAddr, Ipv4Addr};

use agent::layers::Layer;
use agent::table::Way;
use ipnet::IpNet;
use proptest::prelude::*;

use world::{ModelWay, World};

const PREFIXES: u8 = 6;
const HOPS: u8 = 4;
/// The NIC's own address, which can be among the next hops.
const OWN: u8 = 3;

#[derive(Clone, Debug)]
enum Event {
    Route {
        voice: usize,
        layer: Layer,
        prefix: u8,
        way: Option<Way>,
    },
    Group {
        voice: usize,
        layer: Layer,
        id: u32,
        members: Vec<u8>,
        fallback: Vec<u8>,
        rank: u64,
    },
    /// These prefixes of the base don't count.
    Hides {
        voice: usize,
        prefixes: Vec<u8>,
    },
    Restarts {
        voice: usize,
    },
    Converges {
        voice: usize,
    },
    FallsSilent {
        voice: usize,
    },
    Speaks {
        voice: usize,
    },
    AgentRestarts,
    Foreign {
        prefix: u8,
        there: bool,
    },
    Meddling {
        prefix: u8,
    },
    CarrierReturns,
}

impl Event {
    /// By an instance that goes on living.
    fn is_said(&self) -> bool {
        matches!(self, Event::Route { .. } | Event::Group { .. })
    }
}

fn event() -> impl Strategy<Value = Event> {
    let voice = 0..2usize;
    let way = prop_oneof![
        4 => (0..3u32).prop_map(|id| Some(Way::Group(id))),
        1 => Just(Some(Way::OnLink)),
        1 => Just(Some(Way::SubnetGateway)),
        1 => Just(Some(Way::Blackhole)),
        2 => Just(None),
    ];
    let layer = prop::sample::select(vec![Layer::Own, Layer::Base]);
    let hidden = proptest::collection::vec(0..PREFIXES, 0..3);
    let fallback = proptest::collection::btree_set(0..HOPS, 0..3).prop_map(|members| members.into_iter().collect());
    let members = proptest::collection::btree_set(0..HOPS, 1..4).prop_map(|members| members.into_iter().collect());
    prop_oneof![
        8 => (voice.clone(), layer.clone(), 0..PREFIXES, way)
            .prop_map(|(voice, layer, prefix, way)| Event::Route { voice, layer, prefix, way }),
        4 => (voice.clone(), layer, 0..3u32, members, fallback, 0..2u64)
            .prop_map(|(voice, layer, id, members, fallback, rank)| Event::Group { voice, layer, id, members, fallback, rank }),
        1 => (voice.clone(), hidden).prop_map(|(voice, prefixes)| Event::Hides { voice, prefixes }),
        1 => voice.clone().prop_map(|voice| Event::Restarts { voice }),
        2 => voice.clone().prop_map(|voice| Event::Converges { voice }),
        1 => voice.clone().prop_map(|voice| Event::FallsSilent { voice }),
        1 => voice.prop_map(|voice| Event::Speaks { voice }),
        1 => Just(Event::AgentRestarts),
        1 => (0..PREFIXES, any::<bool>()).prop_map(|(prefix, there)| Event::Foreign { prefix, there }),
        1 => (0..PREFIXES).prop_map(|prefix| Event::Meddling { prefix }),
        1 => Just(Event::CarrierReturns),
    ]
}

proptest! {
    #[test]
    fn the_kernel_ends_up_with_what_the_model_says(
        events in proptest::collection::vec(event(), 0..60),
        portion in 1..6usize,
        stands_still in any::<bool>(),
    ) {
        let mut world = World::new(portion);
        world.stands_still = stands_still;
        for event in events {
            world.happen(event);
            world.settle();
        }
        for voice in 0..2 {
            world.happen(Event::Speaks { voice });
            world.happen(Event::Converges { voice });
        }
        world.settle();
        prop_assert_eq!(world.kernel.ways(), world.model());
    }

    /// A whole comparison would find what was forgotten, so there is none in between.
    #[test]
    fn step_by_step_it_leaves_nothing_undone(events in proptest::collection::vec(event(), 0..60), portion in 1..6usize) {
        let mut world = World::new(portion);
        for voice in 0..2 {
            world.happen(Event::Converges { voice });
        }
        for event in events.into_iter().filter(Event::is_said) {
            world.happen(event);
            world.work_off();
        }
        world.settle();
    }

    #[test]
    fn an_instance_that_restarts_removes_nothing_until_it_has_converged(
        before in proptest::collection::vec(event(), 0..40),
        after in proptest::collection::vec((0..PREFIXES, 0..3u32), 0..10),
    ) {
        let mut world = World::new(4);
        before.into_iter().filter(|event| !matches!(event, Event::Foreign { .. })).for_each(|event| world.happen(event));
        for voice in 0..2 {
            world.happen(Event::Speaks { voice });
            world.happen(Event::Converges { voice });
        }
        world.settle();
        let had = world.kernel.ways();
        world.happen(Event::Restarts { voice: 0 });
        world.settle();
        prop_assert_eq!(&world.kernel.ways(), &had);
        for (prefix, id) in after {
            // Next hops of the worst rank: they add where there is nothing else.
            world.happen(Event::Group { voice: 0, layer: Layer::Own, id, members: vec![0], fallback: vec![], rank: 9 });
            world.happen(Event::Route { voice: 0, layer: Layer::Own, prefix, way: Some(Way::Group(id)) });
            world.settle();
        }
        let has = world.kernel.ways();
        for (prefix, way) in &had {
            if matches!(way, ModelWay::Group(_)) {
                prop_assert_eq!(has.get(prefix), Some(way));
            } else {
                prop_assert!(has.contains_key(prefix));
            }
        }
    }

    /// A table that comes in pieces may have two groups where a table that comes at once has one.
    #[test]
    fn an_instance_that_restarts_and_says_the_same_in_other_groups_touches_nothing(
        before in proptest::collection::vec(event(), 0..60),
        copies in proptest::collection::vec(0..3u32, 2 * usize::from(PREFIXES)),
        restarts in 1..3usize,
    ) {
        let mut world = World::new(4);
        before.into_iter().for_each(|event| world.happen(event));
        for voice in 0..2 {
            world.happen(Event::Speaks { voice });
            world.happen(Event::Converges { voice });
        }
        world.settle();
        let carried_out = world.kernel.carried_out;
        for restart in 0..restarts {
            let [own, base] = [Layer::Own, Layer::Base].map(|layer| world.instances[0].layer(layer).read().clone());
            world.happen(Event::Restarts { voice: 0 });
            world.settle();
            world.says_again(&own, &base, |prefix| copies[usize::from(prefix) + restart] );
            prop_assert_eq!(world.kernel.carried_out, carried_out, "while it converges");
            world.happen(Event::Converges { voice: 0 });
            world.work_off();
            prop_assert_eq!(world.kernel.carried_out, carried_out, "when it has converged");
            world.settle();
            prop_assert_eq!(world.kernel.carried_out, carried_out);
        }
    }

    #[test]
    fn a_restarted_agent_finds_nothing_to_do(events in proptest::collection::vec(event(), 0..40)) {
        let mut world = World::new(4);
        events.into_iter().for_each(|event| world.happen(event));
        for voice in 0..2 {
            world.happen(Event::Speaks { voice });
            world.happen(Event::Converges { voice });
        }
        world.settle();
        let carried_out = world.kernel.carried_out;
        world.happen(Event::AgentRestarts);
        world.settle();
        prop_assert_eq!(world.kernel.carried_out, carried_out);
    }
}

fn prefix(number: u8) -> IpNet {
    IpNet::new(IpAddr::V4(Ipv4Addr::new(20, number, 0, 0)), 16).unwrap()
}

fn hop(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 1, number + 4))
}

fn gateway() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1))
}
