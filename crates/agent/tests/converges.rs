//! Whatever instances say, in whatever order, whenever they restart and whenever the agent does: in the end the kernel has what a
//! simple model says, and there is nothing left to do.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use agent::layers::{Layer, Layers};
use agent::merge::{Changes, Merge, NicFacts, Said, WantedWay};
use agent::ours::{NEXTHOP_IDS, PRIORITY};
use agent::plan::{ForeignRoute, Installed, KernelWay, Op, Planner};
use agent::table::{Group, SharedTable, Table, TableRoute, Way};
use ipnet::IpNet;
use proptest::prelude::*;

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
    fn the_kernel_ends_up_with_what_the_model_says(events in proptest::collection::vec(event(), 0..60), portion in 1..6usize) {
        let mut world = World::new(portion);
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

/// Four prefixes of one kernel group with these next hops, that the instance calls two groups since it restarted: the first so many prefixes,
/// and the others.
fn world_with_two_groups_in_one(first: u8, members: &[u8]) -> World {
    let mut world = World::new(4);
    world.happen(group(0, members, &[1]));
    for prefix in 0..4 {
        world.happen(route(prefix, 0));
    }
    for voice in 0..2 {
        world.happen(Event::Converges { voice });
    }
    world.settle();
    world.happen(Event::Restarts { voice: 0 });
    for prefix in 0..4 {
        let id = u32::from(prefix >= first);
        world.happen(group(id, members, &[1]));
        world.happen(route(prefix, id));
    }
    world.happen(Event::Converges { voice: 0 });
    world.kernel.touched.clear();
    world.settle();
    assert_eq!((world.kernel.touched.len(), world.kernel.groups.len()), (0, 1));
    world
}

fn group(id: u32, members: &[u8], fallback: &[u8]) -> Event {
    Event::Group {
        voice: 0,
        layer: Layer::Own,
        id,
        members: members.to_vec(),
        fallback: fallback.to_vec(),
        rank: 1,
    }
}

fn route(prefix: u8, id: u32) -> Event {
    let (voice, layer, way) = (0, Layer::Own, Some(Way::Group(id)));
    Event::Route {
        voice,
        layer,
        prefix,
        way,
    }
}

/// Both groups of the instance get other members by one word.
fn say_members_of_both(world: &mut World, members: [&[u8]; 2]) {
    for (id, members) in (0..).zip(members) {
        let mut table = world.instances[0].table.write();
        let group = table.groups.get_mut(&id).unwrap();
        group.members = members.iter().copied().map(hop).collect();
        group.fallback.clear();
    }
    let groups = vec![0, 1];
    world.say_changes(
        0,
        Layer::Own,
        Changes {
            groups,
            ..Changes::default()
        },
    );
    world.kernel.touched.clear();
    world.work_off();
    assert_eq!(world.kernel.ways(), world.model());
}

fn prefixes(numbers: std::ops::Range<u8>) -> Vec<IpNet> {
    numbers.map(prefix).collect()
}

/// Routes that were touched, in order.
fn touched(world: &World) -> Vec<IpNet> {
    let mut touched = world.kernel.touched.clone();
    touched.sort_unstable();
    touched
}

#[test]
fn two_groups_in_one_kernel_group_change_together_with_one_operation() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        say_members_of_both(&mut world, [&[1], &[1]]);
        assert_eq!((world.kernel.touched.len(), world.kernel.groups.len()), (0, 1));
        world.settle();
        assert_eq!(world.kernel.touched.len(), 0);
    }
}

#[test]
fn two_groups_in_one_kernel_group_part_when_they_become_different() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        world.happen(group(1, &[2], &[]));
        world.work_off();
        // What stays as it was is not touched, and never goes another way for a moment.
        assert_eq!(touched(&world), prefixes(first..4), "{first} stay");
        assert_eq!(world.kernel.groups.len(), 2);
        assert_eq!(world.kernel.ways(), world.model());
        world.settle();
    }
}

#[test]
fn of_two_groups_in_one_kernel_group_the_smaller_moves_when_one_loses_a_next_hop() {
    for first in [1, 3] {
        let mut world = world_with_two_groups_in_one(first, &[0, 1]);
        world.happen(group(1, &[1], &[]));
        world.work_off();
        // Those that still have both next hops can do with one for a moment, so that the others need not wait for so many operations.
        let smaller = if first == 1 { 0..1 } else { 3..4 };
        assert_eq!(touched(&world), prefixes(smaller), "{first} keep both");
        assert_eq!(world.kernel.ways(), world.model());
        world.settle();
    }
}

#[test]
fn when_a_dead_next_hop_parts_two_groups_the_one_that_only_loses_it_keeps_the_kernel_group() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0, 1]);
        say_members_of_both(&mut world, [&[1], &[1, 2]]);
        assert_eq!(touched(&world), prefixes(first..4), "{first} have nothing else");
        world.settle();
    }
}

#[test]
fn when_no_word_names_what_two_groups_have_the_larger_does_not_wait_for_its_routes() {
    for first in [1, 3] {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        say_members_of_both(&mut world, [&[1], &[2]]);
        let smaller = if first == 1 { 0..1 } else { 3..4 };
        assert_eq!(touched(&world), prefixes(smaller), "{first} go to the first next hop");
        world.settle();
    }
}

#[test]
fn a_group_without_next_hops_does_not_keep_the_kernel_group_from_the_other() {
    for first in 1..4 {
        let mut world = world_with_two_groups_in_one(first, &[0]);
        // Its own address: these routes go.
        say_members_of_both(&mut world, [&[1], &[OWN]]);
        assert_eq!(touched(&world), prefixes(first..4));
        world.settle();
    }
}

/// Both instances name the kernel group's next hops; one of them gives one prefix another group again and again.
#[test]
fn a_prefix_that_flaps_beside_many_that_do_not_costs_few_operations_and_no_look_at_the_others() {
    const STABLE: u8 = 200;
    let mut world = World::new(64);
    let says = |world: &mut World, voice, id, members: &[u8], prefixes: std::ops::Range<u8>| {
        let (members, fallback) = (members.to_vec(), vec![]);
        let (layer, rank) = (Layer::Own, 1);
        world.happen(Event::Group {
            voice,
            layer,
            id,
            members,
            fallback,
            rank,
        });
        for prefix in prefixes {
            let way = Some(Way::Group(id));
            world.happen(Event::Route {
                voice,
                layer,
                prefix,
                way,
            });
        }
    };
    says(&mut world, 0, 0, &[0, 1], 0..STABLE);
    says(&mut world, 1, 0, &[0], 0..STABLE);
    (0..2).for_each(|voice| world.happen(Event::Converges { voice }));
    world.settle();
    world.happen(Event::Restarts { voice: 0 });
    says(&mut world, 0, 0, &[0, 1], 1..STABLE);
    says(&mut world, 0, 1, &[0, 1], 0..1);
    world.happen(Event::Converges { voice: 0 });
    world.settle();
    assert_eq!((world.kernel.groups.len(), world.merge.groups().len()), (1, 2));

    let comparisons = world.planner.comparisons();
    for id in 2..30 {
        world.kernel.touched.clear();
        let carried_out = world.kernel.carried_out;
        // The flap, and what was before is no group any more.
        let members = if id % 2 == 0 { &[0, 1, 2][..] } else { &[0, 1] };
        says(&mut world, 0, id, members, 0..1);
        world.instances[0].table.write().groups.remove(&(id - 1));
        let groups = vec![id - 1];
        world.say_changes(
            0,
            Layer::Own,
            Changes {
                groups,
                ..Changes::default()
            },
        );
        world.work_off();
        assert!(world.kernel.touched.iter().all(|touched| *touched == prefix(0)));
        assert!(world.kernel.carried_out - carried_out <= 6, "flap {id}");
        assert_eq!(world.planner.comparisons(), comparisons, "flap {id}");
        assert_eq!((world.merge.groups().len(), world.planner.group_count()), (2, 2));
    }
    assert_eq!(world.kernel.ways().get(&prefix(0)), world.model().get(&prefix(0)));
    world.settle();
}

/// The removal comes with the word that gives the prefix its new group.
#[test]
fn a_group_that_goes_with_its_last_route_leaves_the_others_of_its_kernel_group_alone() {
    let mut world = world_with_two_groups_in_one(3, &[0]);
    let comparisons = world.planner.comparisons();
    {
        let mut table = world.instances[0].table.write();
        let mut group = table.groups.remove(&1).unwrap();
        group.members = vec![hop(2)];
        table.groups.insert(2, group);
        let (way, system) = (Way::Group(2), false);
        table.routes.insert(prefix(3), TableRoute { way, system });
    }
    let (groups, prefixes) = (vec![1, 2], vec![prefix(3)]);
    let hides = false;
    world.say_changes(
        0,
        Layer::Own,
        Changes {
            groups,
            prefixes,
            hides,
        },
    );
    world.work_off();
    assert_eq!(touched(&world), [prefix(3)]);
    assert_eq!(world.planner.comparisons(), comparisons);
    assert_eq!(world.kernel.ways(), world.model());
    world.settle();
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ModelWay {
    Group(Vec<IpAddr>),
    Plain(KernelWay),
}

struct Instance {
    epoch: u64,
    table: SharedTable,
    base: SharedTable,
    converged: bool,
    silent: bool,
}

struct World {
    portion: usize,
    instances: [Instance; 2],
    merge: Merge,
    planner: Planner,
    installed: Installed,
    kernel: FakeKernel,
}

impl Instance {
    fn layer(&self, layer: Layer) -> &SharedTable {
        match layer {
            Layer::Own => &self.table,
            Layer::Base => &self.base,
        }
    }
}

impl World {
    fn new(portion: usize) -> World {
        let instance = || Instance {
            epoch: 1,
            table: SharedTable::default(),
            base: SharedTable::default(),
            converged: false,
            silent: false,
        };
        let installed = Installed::default();
        let mut world = World {
            portion,
            instances: [instance(), instance()],
            merge: Merge::new(2, true),
            planner: Planner::new(&installed, *NEXTHOP_IDS.start()),
            installed,
            kernel: FakeKernel::default(),
        };
        (0..2).for_each(|voice| world.begin_stream(voice));
        world
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Route {
                voice,
                layer,
                prefix: number,
                way,
            } => {
                let mut table = self.instances[voice].layer(layer).write();
                match way {
                    Some(Way::Group(id)) if !table.groups.contains_key(&id) => return,
                    Some(way) => table.routes.insert(prefix(number), TableRoute { way, system: false }),
                    None => table.routes.remove(&prefix(number)),
                };
                drop(table);
                self.say_changes(
                    voice,
                    layer,
                    Changes {
                        groups: vec![],
                        prefixes: vec![prefix(number)],
                        hides: false,
                    },
                );
            }
            Event::Group {
                voice,
                layer,
                id,
                members,
                fallback,
                rank,
            } => {
                let [members, fallback] = [members, fallback].map(|hops| hops.into_iter().map(hop).collect());
                let group = Group {
                    members,
                    fallback,
                    rank,
                };
                self.instances[voice].layer(layer).write().groups.insert(id, group);
                self.say_changes(
                    voice,
                    layer,
                    Changes {
                        groups: vec![id],
                        prefixes: vec![],
                        hides: false,
                    },
                );
            }
            Event::Hides { voice, prefixes } => {
                let hidden = prefixes.into_iter().map(prefix).collect();
                self.instances[voice].table.write().hide(hidden);
                self.say_changes(
                    voice,
                    Layer::Own,
                    Changes {
                        hides: true,
                        ..Changes::default()
                    },
                );
            }
            Event::Restarts { voice } => {
                let instance = &mut self.instances[voice];
                instance.epoch += 1;
                instance.table = SharedTable::default();
                instance.base = SharedTable::default();
                instance.converged = false;
                instance.silent = false;
                self.begin_stream(voice);
            }
            Event::Converges { voice } => {
                self.instances[voice].converged = true;
                if !self.instances[voice].silent {
                    self.merge.handle(voice, Said::Converged(true));
                }
            }
            Event::FallsSilent { voice } => {
                self.instances[voice].silent = true;
                self.merge.handle(voice, Said::Silent);
                if !self.instances[1 - voice].silent {
                    self.merge.handle(1 - voice, Said::Alive);
                }
            }
            Event::Speaks { voice } => {
                self.instances[voice].silent = false;
                self.begin_stream(voice);
            }
            Event::AgentRestarts => {
                self.merge = Merge::new(2, true);
                self.installed = self.kernel.read();
                self.planner = Planner::new(&self.installed, *NEXTHOP_IDS.start());
                for voice in 0..2 {
                    if self.instances[voice].silent {
                        self.merge.handle(voice, Said::Silent);
                    } else {
                        self.begin_stream(voice);
                    }
                }
            }
            Event::Foreign { prefix: number, there } => {
                let prefix = prefix(number);
                if !there {
                    self.kernel.foreign.remove(&prefix);
                } else if !self.kernel.routes.contains_key(&prefix) {
                    self.kernel.foreign.insert(
                        prefix,
                        ForeignRoute {
                            priority: PRIORITY,
                            protocol: 4,
                        },
                    );
                }
                self.read_again();
            }
            Event::Meddling { prefix: number } => {
                self.kernel.routes.remove(&prefix(number));
                self.read_again();
            }
            Event::CarrierReturns => {
                self.kernel.nexthops.clear();
                self.kernel.groups.clear();
                self.kernel.routes.retain(|_, way| *way == KernelWay::Blackhole);
                self.read_again();
            }
        }
    }

    /// Instance 0 says these tables, the prefixes of each group in several groups.
    fn says_again(&mut self, own: &Table, base: &Table, copy: impl Fn(u8) -> u32) {
        let mut hides = own.clone();
        hides.routes.clear();
        hides.groups.clear();
        *self.instances[0].table.write() = hides;
        let hides = Changes {
            hides: true,
            ..Changes::default()
        };
        self.say_changes(0, Layer::Own, hides);
        for (layer, table) in [(Layer::Own, own), (Layer::Base, base)] {
            for number in 0..PREFIXES {
                let Some(said) = table.routes.get(&prefix(number)) else {
                    continue;
                };
                let way = match said.way {
                    Way::Group(id) => {
                        let other = id % 3 + 3 * copy(number);
                        let group = table.groups[&id].clone();
                        self.instances[0].layer(layer).write().groups.insert(other, group);
                        let groups = vec![other];
                        self.say_changes(
                            0,
                            layer,
                            Changes {
                                groups,
                                ..Changes::default()
                            },
                        );
                        Way::Group(other)
                    }
                    way => way,
                };
                self.happen(Event::Route {
                    voice: 0,
                    layer,
                    prefix: number,
                    way: Some(way),
                });
                self.work_off();
            }
        }
    }

    fn begin_stream(&mut self, voice: usize) {
        let Instance {
            epoch,
            table,
            base,
            converged,
            ..
        } = &self.instances[voice];
        let facts = NicFacts {
            addresses: vec![hop(OWN)],
            subnet_prefixes: vec![],
            gateways: vec![gateway()],
        };
        let layers = Layers::new(table.clone(), Some(base.clone()));
        self.merge.handle(voice, Said::Welcome { epoch: *epoch });
        self.merge.handle(voice, Said::Table(facts, layers));
        self.merge.handle(voice, Said::Converged(*converged));
    }

    fn say_changes(&mut self, voice: usize, layer: Layer, changes: Changes) {
        if !self.instances[voice].silent {
            self.merge.handle(voice, Said::Changed(layer, Arc::new(changes)));
        }
    }

    fn read_again(&mut self) {
        self.installed = self.kernel.read();
        self.planner.start_over();
    }

    /// Carries out all that is to do; the second look must find nothing.
    fn settle(&mut self) {
        self.work_off();
        assert_eq!(self.installed, self.kernel.read(), "the agent's picture of the kernel");
        let carried_out = self.kernel.carried_out;
        self.planner.start_over();
        self.work_off();
        assert_eq!(
            self.kernel.carried_out, carried_out,
            "a second comparison finds nothing to do"
        );
    }

    fn work_off(&mut self) {
        for _ in 0..1000 {
            let dirty = self.merge.take_dirty();
            self.planner.note(&self.merge, &self.installed, dirty);
            let ops = self.planner.next(&self.merge, &self.installed, self.portion);
            if ops.is_empty() {
                return;
            }
            for op in ops {
                let before = self.kernel.ways();
                self.kernel.carry_out(&op);
                self.installed.record(&op);
                self.check_ways_since(&before, &op);
            }
        }
        panic!("the plan has no end");
    }

    /// After an operation no route goes through a next hop that its prefix neither had before nor wants. Excepted is one that wants nothing
    /// of what it had, not even for want of better: its packets are lost as it is. Before all is said, some stay as they were found.
    fn check_ways_since(&self, before: &BTreeMap<IpNet, ModelWay>, op: &Op) {
        if !self.merge.is_settled() {
            return;
        }
        for (prefix, way) in self.kernel.ways() {
            let (ModelWay::Group(hops), Some(WantedWay::Group(key))) = (&way, self.merge.routes().get(&prefix)) else {
                continue;
            };
            let wanted = &self.merge.groups()[key];
            if before.get(&prefix) == Some(&way) || wanted.is_empty() || wanted.contains(&hop(OWN)) {
                continue;
            }
            let had = match before.get(&prefix) {
                Some(ModelWay::Group(hops)) => hops.as_slice(),
                _ => &[],
            };
            let fallback = self.merge.fallback(key);
            let is_lost = !had.is_empty() && !had.iter().any(|hop| wanted.contains(hop) || fallback.contains(hop));
            let is_right = |hop: &IpAddr| had.contains(hop) || wanted.contains(hop);
            assert!(
                is_lost || hops.iter().all(is_right),
                "{prefix} had {had:?}, wants {wanted:?} and goes through {hops:?} after {op:?}"
            );
        }
    }

    /// What the kernel should have once both instances are live and have converged.
    fn model(&self) -> BTreeMap<IpNet, ModelWay> {
        (0..PREFIXES)
            .filter_map(|number| Some((prefix(number), self.model_way(prefix(number))?)))
            .collect()
    }

    fn model_way(&self, prefix: IpNet) -> Option<ModelWay> {
        if self.kernel.foreign.contains_key(&prefix) {
            return None;
        }
        let ways: Vec<_> = self
            .instances
            .iter()
            .filter_map(|instance| {
                let (own, base) = (instance.table.read(), instance.base.read());
                if let Some(route) = own.routes.get(&prefix) {
                    return Some((route.way, own));
                }
                let route = base.routes.get(&prefix).filter(|_| !own.hides(&prefix))?;
                Some((route.way, base))
            })
            .collect();
        let groups: Vec<&Group> = ways
            .iter()
            .filter_map(|(way, table)| {
                if let Way::Group(id) = way {
                    table.groups.get(id)
                } else {
                    None
                }
            })
            .collect();
        if let Some(best) = groups.iter().map(|group| group.rank).min() {
            let mut members: Vec<IpAddr> = groups
                .iter()
                .filter(|group| group.rank == best)
                .flat_map(|group| group.members.clone())
                .collect();
            members.sort_unstable();
            members.dedup();
            return (!members.contains(&hop(OWN))).then_some(ModelWay::Group(members));
        }
        let has = |wanted: Way| ways.iter().any(|(way, _)| *way == wanted);
        let order = [
            (Way::OnLink, KernelWay::OnLink),
            (Way::SubnetGateway, KernelWay::Gateway(gateway())),
            (Way::Blackhole, KernelWay::Blackhole),
        ];
        order
            .into_iter()
            .find(|(way, _)| has(*way))
            .map(|(_, way)| ModelWay::Plain(way))
    }
}

/// A kernel that refuses what the real one refuses, and what the real one would do but we must not ask for.
#[derive(Default)]
struct FakeKernel {
    nexthops: BTreeMap<u32, IpAddr>,
    groups: BTreeMap<u32, Vec<u32>>,
    routes: BTreeMap<IpNet, KernelWay>,
    foreign: BTreeMap<IpNet, ForeignRoute>,
    carried_out: usize,
    /// Routes that came, went or were changed.
    touched: Vec<IpNet>,
}

impl FakeKernel {
    fn carry_out(&mut self, op: &Op) {
        self.carried_out += 1;
        if let Op::AddRoute { prefix, .. } | Op::ReplaceRoute { prefix, .. } | Op::DeleteRoute { prefix } = op {
            self.touched.push(*prefix);
        }
        match op {
            Op::AddNexthop { id, gateway } => {
                assert!(NEXTHOP_IDS.contains(id) && !self.groups.contains_key(id));
                assert_eq!(self.nexthops.insert(*id, *gateway), None);
            }
            Op::AddGroup { id, members } => {
                self.check_members(members);
                assert!(NEXTHOP_IDS.contains(id) && !self.nexthops.contains_key(id));
                assert_eq!(self.groups.insert(*id, members.clone()), None);
            }
            Op::ReplaceGroup { id, members } => {
                self.check_members(members);
                assert!(self.groups.insert(*id, members.clone()).is_some());
            }
            Op::AddRoute { prefix, way } => {
                self.check_way(*way);
                assert!(!self.foreign.contains_key(prefix));
                assert_eq!(self.routes.insert(*prefix, *way), None);
            }
            Op::ReplaceRoute { prefix, way } => {
                self.check_way(*way);
                assert!(self.routes.insert(*prefix, *way).is_some());
            }
            Op::DeleteRoute { prefix } => assert!(self.routes.remove(prefix).is_some()),
            Op::DeleteGroup { id } => {
                assert!(
                    self.routes.values().all(|way| *way != KernelWay::Group(*id)),
                    "its routes would go with it"
                );
                assert!(self.groups.remove(id).is_some());
            }
            Op::DeleteNexthop { id } => {
                assert!(
                    self.groups.values().all(|members| !members.contains(id)),
                    "groups would lose it"
                );
                assert!(self.nexthops.remove(id).is_some());
            }
        }
    }

    fn check_members(&self, members: &[u32]) {
        assert!(!members.is_empty() && members.iter().all(|member| self.nexthops.contains_key(member)));
        assert!(members.iter().all(|member| self.nexthops[member] != hop(OWN)));
    }

    fn check_way(&self, way: KernelWay) {
        if let KernelWay::Group(id) = way {
            assert!(self.groups.contains_key(&id));
        }
    }

    fn read(&self) -> Installed {
        let mut installed = Installed::default();
        self.nexthops
            .iter()
            .for_each(|(id, gateway)| installed.add_nexthop(*id, Some(*gateway)));
        self.groups
            .iter()
            .for_each(|(id, members)| installed.add_group(*id, members.clone()));
        self.routes
            .iter()
            .for_each(|(prefix, way)| installed.add_route(*prefix, *way));
        self.foreign
            .iter()
            .for_each(|(prefix, route)| installed.add_foreign(*prefix, *route));
        installed
    }

    fn ways(&self) -> BTreeMap<IpNet, ModelWay> {
        let way = |way: &KernelWay| match way {
            KernelWay::Group(id) => {
                let mut members: Vec<IpAddr> = self.groups[id].iter().map(|id| self.nexthops[id]).collect();
                members.sort_unstable();
                ModelWay::Group(members)
            }
            way => ModelWay::Plain(*way),
        };
        self.routes
            .iter()
            .map(|(prefix, kernel_way)| (*prefix, way(kernel_way)))
            .collect()
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
