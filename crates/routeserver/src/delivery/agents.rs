//! Who follows which table, and how far each agent has been told. An agent that takes no more is told nothing until it does,
//! and then whole tables: what it missed is state here, not a queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::{Choice, HashKey};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::delivery::table::Table;
use crate::delivery::{AgentId, NicAssignment, TableId, TableUpdate, ToAgent};
use crate::instance::Output;
use crate::report::AgentReport;
use crate::vnet::{Changed, LocRib, NicFacts, Scope, SubnetView, Topology, dependants, prefixes, resolve};

/// All tables that somebody follows, and all agents.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// For the tables.
    key: HashKey,
    agents: BTreeMap<AgentId, Agent>,
    tables: BTreeMap<TableId, Followed>,
    by_key: FxHashMap<TableKey, TableId>,
    next_table: u64,
    /// NICs with a table of their own, because they are a next hop of their subnet's. Sticky until the topology changes, so that
    /// a flapping route does not make the NIC change tables.
    private: FxHashSet<String>,
    /// Agents that may have to be told something besides deltas.
    dirty: BTreeSet<AgentId>,
    /// As of the last sync.
    converged: bool,
}

/// NICs of a subnet share a table, those that are next hops themselves have their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TableKey {
    place: String,
    /// Addresses of the NIC whose own table this is; empty: shared.
    own: Vec<IpAddr>,
}

#[derive(Debug)]
struct Followed {
    key: TableKey,
    view: SubnetView,
    table: Table,
    /// Addresses of the NICs that share the table.
    addresses: FxHashSet<IpAddr>,
    followers: BTreeSet<AgentId>,
}

#[derive(Debug, Default)]
struct Agent {
    name: String,
    nics: Vec<String>,
    follows: BTreeSet<TableId>,
    told: FxHashMap<String, NicAssignment>,
    /// The generation told of each table.
    tables: FxHashMap<TableId, u64>,
    installed: FxHashMap<String, Installed>,
    converged_told: Option<bool>,
    full: bool,
    /// It was full: what it was told may be lost on the way, so all is told again.
    starts_over: bool,
}

/// What an agent last said of a NIC.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) table: TableId,
    pub(crate) generation: u64,
    pub(crate) problems: Vec<String>,
}

/// Where tables take their routes from.
pub(crate) trait Routes {
    /// The Loc-RIB of a speaker (id).
    fn loc_rib(&self, speaker: &str) -> Option<&LocRib>;
    /// What changed in it since the last call.
    fn changed(&self, speaker: &str) -> Option<&Changed>;
    /// Whether everything may be different.
    fn started_over(&self, speaker: &str) -> bool;
}

impl Delivery {
    pub(crate) fn new(key: HashKey) -> Delivery {
        Delivery {
            key,
            agents: BTreeMap::new(),
            tables: BTreeMap::new(),
            by_key: FxHashMap::default(),
            next_table: 0,
            private: FxHashSet::default(),
            dirty: BTreeSet::new(),
            converged: false,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.agents.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn table_count(&self) -> usize {
        self.tables.len()
    }

    pub(crate) fn agent_count(&self) -> usize {
        self.agents.len()
    }

    pub(crate) fn follows(&mut self, id: AgentId, name: String, nics: Vec<String>) {
        let agent = self.agents.entry(id).or_default();
        agent.name = name;
        let mut seen = FxHashSet::default();
        agent.nics = nics.into_iter().filter(|nic| seen.insert(nic.clone())).collect();
        agent.told.retain(|nic, _| seen.contains(nic));
        agent.installed.retain(|nic, _| seen.contains(nic));
        self.dirty.insert(id);
    }

    pub(crate) fn installed(&mut self, id: AgentId, nic: String, installed: Installed) {
        if let Some(agent) = self.agents.get_mut(&id)
            && agent.told.contains_key(&nic)
        {
            agent.installed.insert(nic, installed);
        }
    }

    pub(crate) fn backpressure(&mut self, id: AgentId, full: bool) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.full = full;
            if full {
                agent.starts_over = true;
                agent.tables.clear();
            }
            self.dirty.insert(id);
        }
    }

    pub(crate) fn gone(&mut self, id: AgentId) {
        self.agents.remove(&id);
        self.dirty.remove(&id);
        for followed in self.tables.values_mut() {
            followed.followers.remove(&id);
        }
        self.drop_unfollowed();
    }

    /// Every agent may have another table now.
    pub(crate) fn topology_changed(
        &mut self,
        topology: &Topology,
        routes: &impl Routes,
        outputs: &mut VecDeque<Output>,
    ) {
        let mut deltas = Vec::new();
        for followed in self.tables.values_mut() {
            let Some(view) = topology.view(&followed.key.place) else {
                continue;
            };
            if view != followed.view {
                followed.view = view;
                deltas.extend(followed.rebuild(routes));
            }
        }
        self.distribute(deltas, outputs);
        self.private.clear();
        self.dirty.extend(self.agents.keys());
    }

    /// Routes of a speaker changed.
    pub(crate) fn routes_changed(&mut self, routes: &impl Routes, outputs: &mut VecDeque<Output>) {
        let deltas: Vec<_> = self
            .tables
            .values_mut()
            .filter_map(|followed| followed.follow_changes(routes))
            .collect();
        self.distribute(deltas, outputs);
    }

    /// Tells agents what they lack: facts, snapshots, whether the instance has converged.
    pub(crate) fn sync(
        &mut self,
        topology: &Topology,
        routes: &impl Routes,
        converged: bool,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.converged != converged {
            self.converged = converged;
            self.dirty.extend(self.agents.keys());
        }
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            return;
        }
        for id in dirty {
            self.sync_agent(id, topology, routes, converged, outputs);
        }
        self.drop_unfollowed();
    }

    pub(crate) fn reports(&self, instance: usize, epoch: u64) -> Vec<AgentReport> {
        let mut reports = Vec::new();
        for agent in self.agents.values() {
            for nic in &agent.nics {
                let table = agent.told.get(nic).and_then(|assignment| assignment.table);
                let installed = agent.installed.get(nic);
                reports.push(AgentReport {
                    agent: agent.name.clone(),
                    nic: nic.clone(),
                    instance,
                    epoch,
                    generation: table
                        .and_then(|id| self.tables.get(&id))
                        .map_or(0, |followed| followed.table.generation()),
                    installed_generation: installed
                        .filter(|installed| Some(installed.table) == table)
                        .map(|installed| installed.generation),
                    problems: installed
                        .map(|installed| installed.problems.clone())
                        .unwrap_or_default(),
                });
            }
        }
        reports
    }

    /// Sends deltas to those who hold the generation before, and gives NICs that have become next hops a table of their own.
    fn distribute(&mut self, deltas: Vec<Arc<TableUpdate>>, outputs: &mut VecDeque<Output>) {
        for delta in deltas {
            let Some(followed) = self.tables.get(&delta.table) else {
                continue;
            };
            let mut takers = Vec::with_capacity(followed.followers.len());
            for id in &followed.followers {
                let Some(agent) = self.agents.get_mut(id) else {
                    continue;
                };
                match agent.tables.get_mut(&delta.table) {
                    Some(generation) if !agent.full && *generation + 1 == delta.generation => {
                        *generation = delta.generation;
                        takers.push(*id);
                    }
                    _ => {
                        self.dirty.insert(*id);
                    }
                }
            }
            if followed.has_become_next_hop(&delta) {
                self.dirty.extend(&followed.followers);
            }
            if !takers.is_empty() {
                outputs.push_back(Output::ToAgents {
                    agents: takers,
                    message: ToAgent::Delta(delta),
                });
            }
        }
    }

    fn sync_agent(
        &mut self,
        id: AgentId,
        topology: &Topology,
        routes: &impl Routes,
        converged: bool,
        outputs: &mut VecDeque<Output>,
    ) {
        let Some(nics) = self.agents.get(&id).map(|agent| agent.nics.clone()) else {
            return;
        };
        let assignments: Vec<NicAssignment> = nics.iter().map(|nic| self.assign(nic, topology, routes)).collect();
        let tables: BTreeSet<TableId> = assignments.iter().filter_map(|assignment| assignment.table).collect();
        self.set_followed(id, &tables);
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        if agent.full {
            // Nothing now; the report that it takes more brings us back here.
            return;
        }
        let mut tell = |message| {
            outputs.push_back(Output::ToAgents {
                agents: vec![id],
                message,
            });
        };
        let starts_over = std::mem::take(&mut agent.starts_over);
        for assignment in assignments {
            let nic = assignment.nic.to_string();
            if starts_over || agent.told.get(&nic) != Some(&assignment) {
                agent.told.insert(nic, assignment.clone());
                tell(ToAgent::Nic(assignment));
            }
        }
        agent.tables.retain(|table, _| tables.contains(table));
        for table in tables {
            let Some(followed) = self.tables.get_mut(&table) else {
                continue;
            };
            let generation = followed.table.generation();
            if agent.tables.insert(table, generation) != Some(generation) {
                tell(ToAgent::Snapshot(followed.table.snapshot()));
            }
        }
        if agent.converged_told.replace(converged) != Some(converged) || starts_over {
            tell(ToAgent::Converged(converged));
        }
    }

    fn set_followed(&mut self, id: AgentId, tables: &BTreeSet<TableId>) {
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut agent.follows, tables.clone());
        for table in before.difference(tables) {
            if let Some(followed) = self.tables.get_mut(table) {
                followed.followers.remove(&id);
            }
        }
        for table in tables.difference(&before) {
            if let Some(followed) = self.tables.get_mut(table) {
                followed.followers.insert(id);
            }
        }
    }

    fn assign(&mut self, nic: &str, topology: &Topology, routes: &impl Routes) -> NicAssignment {
        let facts = topology.nic(nic).unwrap_or_default();
        NicAssignment {
            nic: Arc::from(nic),
            table: self.choose_table(nic, &facts, topology, routes),
            addresses: facts.addresses,
            subnet_prefixes: facts.subnet_prefixes,
            gateways: facts.gateways,
        }
    }

    fn choose_table(
        &mut self,
        nic: &str,
        facts: &NicFacts,
        topology: &Topology,
        routes: &impl Routes,
    ) -> Option<TableId> {
        if !self.private.contains(nic) {
            let followed = self.ensure(&facts.place, &[], topology, routes)?;
            if !followed.table.mentions(&facts.addresses) {
                followed.addresses.extend(&facts.addresses);
                return Some(followed.table.id());
            }
            self.private.insert(nic.to_owned());
        }
        let followed = self.ensure(&facts.place, &facts.addresses, topology, routes)?;
        Some(followed.table.id())
    }

    /// The table of a subnet, or of a NIC that is a next hop itself; computed if nobody followed it.
    fn ensure(
        &mut self,
        place: &str,
        own: &[IpAddr],
        topology: &Topology,
        routes: &impl Routes,
    ) -> Option<&mut Followed> {
        let key = TableKey {
            place: place.to_owned(),
            own: own.to_vec(),
        };
        if let Some(id) = self.by_key.get(&key) {
            return self.tables.get_mut(id);
        }
        let view = topology.view(place)?;
        self.next_table += 1;
        let id = TableId(self.next_table);
        let mut followed = Followed {
            key: key.clone(),
            view,
            table: Table::new(id, self.key),
            addresses: FxHashSet::default(),
            followers: BTreeSet::new(),
        };
        followed.rebuild(routes);
        self.by_key.insert(key, id);
        Some(self.tables.entry(id).or_insert(followed))
    }

    fn drop_unfollowed(&mut self) {
        let by_key = &mut self.by_key;
        self.tables.retain(|_, followed| {
            let keep = !followed.followers.is_empty();
            if !keep {
                by_key.remove(&followed.key);
            }
            keep
        });
    }
}

impl Followed {
    /// Computes every route again; the difference to what was.
    fn rebuild(&mut self, routes: &impl Routes) -> Option<Arc<TableUpdate>> {
        let loc_rib = self.view.speaker.as_deref().and_then(|id| routes.loc_rib(id));
        let known = self.table.prefixes().copied();
        let mut all: Vec<IpNet> = prefixes(&self.view, loc_rib).chain(known).collect();
        all.sort_unstable();
        all.dedup();
        self.apply(&[], all, loc_rib)
    }

    fn follow_changes(&mut self, routes: &impl Routes) -> Option<Arc<TableUpdate>> {
        let speaker = self.view.speaker.as_deref()?;
        if routes.started_over(speaker) {
            return self.rebuild(routes);
        }
        if self.view.propagation_disabled {
            return None;
        }
        let changed = routes.changed(speaker)?;
        // A NIC that is a next hop itself has routes come and go where others only see other next hops; so has one behind a filter that
        // looks at them.
        let (replaced, prefixes) = match self.key.own.is_empty() && !self.view.looks_at_next_hops() {
            true => (changed.replaced.as_slice(), &changed.rest),
            false => ([].as_slice(), &changed.all),
        };
        let mut only_dependants = dependants(&self.view, prefixes);
        if !only_dependants.is_empty() {
            for prefix in prefixes {
                only_dependants.remove(prefix);
            }
        }
        let all = prefixes.iter().copied().chain(only_dependants);
        self.apply(replaced, all, routes.loc_rib(speaker))
    }

    fn apply(
        &mut self,
        replaced: &[(Arc<Choice>, Arc<Choice>)],
        prefixes: impl IntoIterator<Item = IpNet>,
        loc_rib: Option<&LocRib>,
    ) -> Option<Arc<TableUpdate>> {
        let scope = Scope {
            view: &self.view,
            loc_rib,
            own: &self.key.own,
        };
        let wanted = prefixes.into_iter().map(|prefix| (prefix, resolve(scope, &prefix)));
        self.table.apply(replaced, wanted)
    }

    /// Whether a NIC that shares this table is a next hop of the changed groups, and must have its own from now on.
    fn has_become_next_hop(&self, delta: &TableUpdate) -> bool {
        let groups = delta.groups.iter();
        let mut addresses = groups.flat_map(|group| group.members.iter().chain(&group.fallback));
        addresses.any(|address| self.addresses.contains(address))
    }
}
