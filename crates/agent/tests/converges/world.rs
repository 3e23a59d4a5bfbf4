//! Two instances, an agent's parts and its kernel, and the simple model of what that has to hold.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use agent::layers::{Layer, Layers};
use agent::merge::{Changes, Merge, NicFacts, Said, WantedWay};
use agent::ours::{NEXTHOP_IDS, PRIORITY};
use agent::plan::{ForeignRoute, Installed, KernelWay, Op, Planner};
use agent::table::{Group, SharedTable, Table, TableRoute, Way};
use ipnet::IpNet;

use crate::kernel::FakeKernel;
use crate::{Event, OWN, PREFIXES, gateway, hop, prefix};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelWay {
    Group(Vec<IpAddr>),
    Plain(KernelWay),
}

pub(crate) struct Instance {
    pub(crate) epoch: u64,
    pub(crate) table: SharedTable,
    pub(crate) base: SharedTable,
    pub(crate) converged: bool,
    pub(crate) silent: bool,
}

pub(crate) struct World {
    pub(crate) portion: usize,
    /// Streams do not end before another life begins.
    pub(crate) stands_still: bool,
    pub(crate) instances: [Instance; 2],
    pub(crate) merge: Merge,
    pub(crate) planner: Planner,
    pub(crate) installed: Installed,
    pub(crate) kernel: FakeKernel,
}

impl Instance {
    pub(crate) fn layer(&self, layer: Layer) -> &SharedTable {
        match layer {
            Layer::Own => &self.table,
            Layer::Base => &self.base,
        }
    }
}

impl World {
    pub(crate) fn new(portion: usize) -> World {
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
            stands_still: false,
            instances: [instance(), instance()],
            merge: Merge::new(2, true),
            planner: Planner::new(&installed, *NEXTHOP_IDS.start()),
            installed,
            kernel: FakeKernel::default(),
        };
        (0..2).for_each(|voice| world.begin_stream(voice));
        world
    }

    pub(crate) fn happen(&mut self, event: Event) {
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
                if !self.stands_still {
                    self.merge.handle(voice, Said::Ended);
                }
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
    pub(crate) fn says_again(&mut self, own: &Table, base: &Table, copy: impl Fn(u8) -> u32) {
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

    pub(crate) fn begin_stream(&mut self, voice: usize) {
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

    pub(crate) fn say_changes(&mut self, voice: usize, layer: Layer, changes: Changes) {
        if !self.instances[voice].silent {
            self.merge.handle(voice, Said::Changed(layer, Arc::new(changes)));
        }
    }

    pub(crate) fn read_again(&mut self) {
        self.installed = self.kernel.read();
        self.planner.start_over();
    }

    /// Carries out all that is to do; the second look must find nothing.
    pub(crate) fn settle(&mut self) {
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

    pub(crate) fn work_off(&mut self) {
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
    pub(crate) fn check_ways_since(&self, before: &BTreeMap<IpNet, ModelWay>, op: &Op) {
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
    pub(crate) fn model(&self) -> BTreeMap<IpNet, ModelWay> {
        (0..PREFIXES)
            .filter_map(|number| Some((prefix(number), self.model_way(prefix(number))?)))
            .collect()
    }

    pub(crate) fn model_way(&self, prefix: IpNet) -> Option<ModelWay> {
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
