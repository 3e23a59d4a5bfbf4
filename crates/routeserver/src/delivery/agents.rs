//! Who follows which table, and how far each agent has been told. An agent that takes no more is told nothing until it does,
//! and then whole tables: what it missed is state here, not a queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use rib::HashKey;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::delivery::awaited::Awaited;
use crate::delivery::followed::{Deltas, Followed, TableKey};
use crate::delivery::{AgentId, NicAssignment, TableId, TableUpdate, ToAgent};
use crate::instance::Output;
use crate::report::{AgentCounts, AgentReport};
use crate::vnet::{Changed, LocRib, NicFacts, Replaced, Topology};

/// What it takes to see what a NIC is to follow, compared with a look at a prefix.
const PREFIXES_PER_NIC: usize = 16;

/// All tables that somebody follows, and all agents.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// For the tables.
    key: HashKey,
    agents: BTreeMap<AgentId, Agent>,
    tables: BTreeMap<TableId, Followed>,
    by_key: FxHashMap<TableKey, TableId>,
    next_table: u64,
    /// The speaker (id) whose base holds in a place, if one does. What is asked for every NIC is made once per topology.
    bases: FxHashMap<String, Option<String>>,
    /// NICs with a table of their own, because they are a next hop of their subnet's. Sticky until the topology changes, so that
    /// a flapping route does not make the NIC change tables.
    private: FxHashSet<String>,
    /// Agents that may have to be told something besides deltas, and which of them had its turn last.
    dirty: BTreeSet<AgentId>,
    last_told: AgentId,
    /// Whole tables that have not taken over all changes, and which of them had its turn last.
    behind: BTreeSet<TableId>,
    last_turn: TableId,
    /// Prefixes, since the present piece of work began.
    looked_at: usize,
    /// As of the last sync.
    converged: bool,
    /// Who is to say that kernels are without lost next hops.
    awaited: Awaited,
}

#[derive(Debug, Default)]
struct Agent {
    name: String,
    nics: Vec<String>,
    /// It puts an overlay above a base.
    layers: bool,
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
    /// The base below, if there is one.
    pub(crate) base: Option<(TableId, u64)>,
    pub(crate) problems: Vec<String>,
    pub(crate) counts: AgentCounts,
}

impl Installed {
    fn layers(&self) -> [Option<(TableId, u64)>; 2] {
        [Some((self.table, self.generation)), self.base]
    }

    fn names(&self) -> (TableId, Option<TableId>) {
        (self.table, self.base.map(|(base, _)| base))
    }

    /// Of both layers together. No agent is ahead of a table, so sums are equal only if both layers are.
    fn generation(&self) -> u64 {
        let base = self.base.map_or(0, |(_, generation)| generation);
        self.generation.saturating_add(base)
    }
}

/// Where tables take their routes from.
pub(crate) trait Routes {
    /// The Loc-RIB of a speaker (id).
    fn loc_rib(&self, speaker: &str) -> Option<&LocRib>;
    /// What changed in it since the last call.
    fn changed(&self, speaker: &str) -> Option<&Arc<Changed>>;
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
            bases: FxHashMap::default(),
            private: FxHashSet::default(),
            dirty: BTreeSet::new(),
            last_told: AgentId(0),
            behind: BTreeSet::new(),
            last_turn: TableId(0),
            looked_at: 0,
            converged: false,
            awaited: Awaited::default(),
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

    pub(crate) fn follows(&mut self, id: AgentId, name: String, nics: Vec<String>, layers: bool) {
        let agent = self.agents.entry(id).or_default();
        agent.name = name;
        agent.layers = layers;
        let mut seen = FxHashSet::default();
        agent.nics = nics.into_iter().filter(|nic| seen.insert(nic.clone())).collect();
        agent.told.retain(|nic, _| seen.contains(nic));
        agent.installed.retain(|nic, _| seen.contains(nic));
        self.awaited.keep(id, &seen);
        self.dirty.insert(id);
    }

    pub(crate) fn installed(&mut self, id: AgentId, nic: String, installed: Installed) {
        if let Some(agent) = self.agents.get_mut(&id)
            && agent.told.contains_key(&nic)
        {
            self.awaited.installed(id, &nic, &installed.layers());
            agent.installed.insert(nic, installed);
        }
    }

    pub(crate) fn backpressure(&mut self, id: AgentId, full: bool) {
        if let Some(agent) = self.agents.get_mut(&id) {
            agent.full = full;
            if full {
                agent.starts_over = true;
                agent.tables.clear();
                self.awaited.forget(id);
            }
            self.dirty.insert(id);
        }
    }

    /// All agents forget what they were told, and are told it again.
    pub(crate) fn begin_life(&mut self) {
        for agent in self.agents.values_mut() {
            agent.starts_over = true;
            agent.tables.clear();
        }
        self.awaited.clear();
        self.dirty.extend(self.agents.keys());
    }

    pub(crate) fn gone(&mut self, id: AgentId) {
        self.agents.remove(&id);
        self.awaited.forget(id);
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
        self.bases.clear();
        let mut deltas = Vec::new();
        for (id, followed) in &mut self.tables {
            deltas.extend(followed.follow_topology(topology, routes));
            if followed.is_behind() {
                self.behind.insert(*id);
            }
        }
        self.distribute(deltas, outputs);
        self.private.clear();
        self.dirty.extend(self.agents.keys());
    }

    /// Routes of a speaker changed.
    pub(crate) fn routes_changed(&mut self, routes: &impl Routes, outputs: &mut VecDeque<Output>) {
        let mut deltas = Deltas::default();
        for (id, followed) in &mut self.tables {
            followed.follow_routes(routes, &mut deltas);
            if followed.is_behind() {
                self.behind.insert(*id);
            }
        }
        self.distribute(deltas.in_order(), outputs);
    }

    /// A speaker's choices gave way to others, all at once: groups change, no route does. False: tables that have next hops
    /// of the lost ones are told when the prefixes are decided.
    pub(crate) fn lose(
        &mut self,
        speaker: &str,
        lost: &[IpAddr],
        replaced: &[Replaced],
        outputs: &mut VecDeque<Output>,
    ) -> bool {
        let mut all_told = true;
        let mut deltas = Vec::new();
        let tables = self.tables.values_mut();
        for followed in tables.filter(|followed| followed.speaker() == Some(speaker)) {
            all_told &= !(followed.follows_prefixes() && followed.table.mentions(lost));
            deltas.extend(followed.lose(replaced));
        }
        let told: FxHashMap<TableId, u64> = deltas.iter().map(|delta| (delta.table, delta.generation)).collect();
        self.distribute(deltas, outputs);
        self.wait_for_kernels(&told);
        all_told
    }

    /// Those who were told these generations are to say that kernels have them.
    fn wait_for_kernels(&mut self, told: &FxHashMap<TableId, u64>) {
        for (id, agent) in &self.agents {
            for assignment in agent.told.values() {
                for table in [assignment.table, assignment.base].into_iter().flatten() {
                    if let Some(generation) = told.get(&table)
                        && agent.tables.get(&table) == Some(generation)
                    {
                        self.awaited.told(*id, &assignment.nic, table, *generation);
                    }
                }
            }
        }
    }

    /// Whether everybody who was told of lost next hops has said that kernels are without them.
    pub(crate) fn has_installed_losses(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Nobody is waited for any more.
    pub(crate) fn forget_losses(&mut self) {
        self.awaited.clear();
    }

    /// The speaker has decided every prefix that [`Delivery::lose`] was about.
    pub(crate) fn has_decided_losses(&mut self, speaker: &str) {
        let tables = self.tables.values_mut();
        let of_speaker = tables.filter(|followed| followed.speaker() == Some(speaker));
        of_speaker.for_each(|followed| followed.table.has_decided_losses());
    }

    /// Whole tables take over what changed, in turn, until so many prefixes have been looked at; the last table may go beyond.
    pub(crate) fn catch_up(&mut self, most: usize, routes: &impl Routes, outputs: &mut VecDeque<Output>) {
        self.looked_at = 0;
        while self.looked_at < most
            && let Some(id) = next_in_turn(&self.behind, self.last_turn)
        {
            self.last_turn = id;
            self.finish(id, routes, outputs);
        }
    }

    /// Whether whole tables have not taken over all changes.
    pub(crate) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Whether [`Delivery::catch_up`] or [`Delivery::sync`] have more to do.
    pub(crate) fn has_work_left(&self) -> bool {
        self.is_behind() || !self.dirty.is_empty()
    }

    /// Tells agents what they lack: facts, snapshots, whether the instance has converged; in turn, until so many prefixes have been looked
    /// at for tables that nobody followed before. The last agent may go beyond.
    pub(crate) fn sync(
        &mut self,
        most: usize,
        topology: &Topology,
        routes: &impl Routes,
        converged: bool,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.converged != converged {
            self.converged = converged;
            self.dirty.extend(self.agents.keys());
        }
        if self.dirty.is_empty() {
            return;
        }
        self.looked_at = 0;
        while self.looked_at < most
            && let Some(id) = next_in_turn(&self.dirty, self.last_told)
        {
            self.dirty.remove(&id);
            self.last_told = id;
            self.sync_agent(id, topology, routes, converged, outputs);
        }
        self.drop_unfollowed();
    }

    pub(crate) fn reports(&self, instance: usize, epoch: u64) -> Vec<AgentReport> {
        let mut reports = Vec::new();
        for agent in self.agents.values() {
            for nic in &agent.nics {
                let told = agent.told.get(nic);
                let installed = agent.installed.get(nic);
                let names = told.and_then(|told| Some((told.table?, told.base)));
                reports.push(AgentReport {
                    agent: agent.name.clone(),
                    nic: nic.clone(),
                    instance,
                    epoch,
                    generation: names.map_or(0, |(table, base)| self.generation(table, base)),
                    installed_generation: installed
                        .filter(|installed| Some(installed.names()) == names)
                        .map(Installed::generation),
                    problems: installed
                        .map(|installed| installed.problems.clone())
                        .unwrap_or_default(),
                    counts: installed.map(|installed| installed.counts).unwrap_or_default(),
                });
            }
        }
        reports
    }

    /// Of both layers together: their sum, as [`Installed::generation`].
    fn generation(&self, table: TableId, base: Option<TableId>) -> u64 {
        let layers = [Some(table), base].into_iter().flatten();
        let followed = layers.filter_map(|id| self.tables.get(&id));
        followed.map(|followed| followed.table.generation()).sum()
    }

    /// Sends deltas to those who hold the generation before, and gives NICs that have become next hops a table of their own.
    fn distribute(&mut self, deltas: impl IntoIterator<Item = Arc<TableUpdate>>, outputs: &mut VecDeque<Output>) {
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
        let Some((nics, layers)) = self.agents.get(&id).map(|agent| (agent.nics.clone(), agent.layers)) else {
            return;
        };
        self.looked_at += nics.len() * PREFIXES_PER_NIC;
        let nics = nics.iter();
        let assignments: Vec<_> = nics.map(|nic| self.assign(nic, layers, topology, routes)).collect();
        let both = |assignment: &NicAssignment| [assignment.table, assignment.base];
        let tables: BTreeSet<TableId> = assignments.iter().flat_map(both).flatten().collect();
        self.set_followed(id, &tables);
        self.finish_lacking(id, &tables, routes, outputs);
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

    /// What the agent is about to get as a snapshot is to be what holds now.
    fn finish_lacking(
        &mut self,
        id: AgentId,
        tables: &BTreeSet<TableId>,
        routes: &impl Routes,
        outputs: &mut VecDeque<Output>,
    ) {
        for table in tables {
            let told = self.agents.get(&id).and_then(|agent| agent.tables.get(table)).copied();
            let now = self.tables.get(table).map(|followed| followed.table.generation());
            if told != now && self.behind.contains(table) {
                self.finish(*table, routes, outputs);
            }
        }
    }

    /// A whole table takes over what waits for it.
    fn finish(&mut self, table: TableId, routes: &impl Routes, outputs: &mut VecDeque<Output>) {
        self.behind.remove(&table);
        let Some(followed) = self.tables.get_mut(&table) else {
            return;
        };
        let (looked_at, delta) = followed.catch_up(routes);
        self.looked_at += looked_at;
        self.distribute(delta, outputs);
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

    fn assign(&mut self, nic: &str, layers: bool, topology: &Topology, routes: &impl Routes) -> NicAssignment {
        let facts = topology.nic(nic).unwrap_or_default();
        let (table, base) = self.choose_tables(nic, &facts, layers, topology, routes).unzip();
        NicAssignment {
            nic: Arc::from(nic),
            table,
            base: base.flatten(),
            addresses: facts.addresses,
            subnet_prefixes: facts.subnet_prefixes,
            gateways: facts.gateways,
        }
    }

    /// A NIC's table, and the base below it if that is an overlay.
    fn choose_tables(
        &mut self,
        nic: &str,
        facts: &NicFacts,
        layers: bool,
        topology: &Topology,
        routes: &impl Routes,
    ) -> Option<(TableId, Option<TableId>)> {
        let place = &facts.place;
        if !self.private.contains(nic) {
            let (table, base) = self.ensure_shared(place, layers, topology, routes)?;
            let both = [Some(table), base].into_iter().flatten();
            let mut followed = both.clone().filter_map(|id| self.tables.get(&id));
            let is_next_hop = followed.any(|followed| followed.table.mentions(&facts.addresses));
            for id in both {
                let Some(followed) = self.tables.get_mut(&id) else {
                    continue;
                };
                match is_next_hop {
                    true => followed.addresses.retain(|address| !facts.addresses.contains(address)),
                    false => followed.addresses.extend(&facts.addresses),
                }
            }
            if !is_next_hop {
                return Some((table, base));
            }
            self.private.insert(nic.to_owned());
        }
        let own = TableKey::Whole {
            place: place.clone(),
            own: facts.addresses.clone(),
        };
        Some((self.ensure(own, topology, routes)?, None))
    }

    /// What the NICs of a place share.
    fn ensure_shared(
        &mut self,
        place: &str,
        layers: bool,
        topology: &Topology,
        routes: &impl Routes,
    ) -> Option<(TableId, Option<TableId>)> {
        let speaker = match layers {
            true => self.base_of(place, topology)?,
            false => None,
        };
        let place = place.to_owned();
        let Some(speaker) = speaker else {
            let whole = TableKey::Whole { place, own: Vec::new() };
            return Some((self.ensure(whole, topology, routes)?, None));
        };
        let base = self.ensure(TableKey::Base(speaker.clone()), topology, routes)?;
        let overlay = self.ensure(TableKey::Overlay { place, speaker }, topology, routes)?;
        Some((overlay, Some(base)))
    }

    /// The speaker whose base holds in a place, if one does; `None`: the place is unknown.
    fn base_of(&mut self, place: &str, topology: &Topology) -> Option<Option<String>> {
        if let Some(known) = self.bases.get(place) {
            return Some(known.clone());
        }
        let base = topology.view(place)?.base().map(str::to_owned);
        self.bases.insert(place.to_owned(), base.clone());
        Some(base)
    }

    /// A table, computed if nobody followed it.
    fn ensure(&mut self, key: TableKey, topology: &Topology, routes: &impl Routes) -> Option<TableId> {
        if let Some(id) = self.by_key.get(&key) {
            return Some(*id);
        }
        let id = TableId(self.next_table + 1);
        let followed = Followed::new(id, self.key, key.clone(), topology, routes)?;
        self.looked_at += followed.table.prefixes().count();
        self.next_table += 1;
        self.by_key.insert(key, id);
        self.tables.insert(id, followed);
        Some(id)
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
        let tables = &self.tables;
        self.behind.retain(|id| tables.contains_key(id));
    }
}

/// The one after the last, or the first: nobody's work keeps others from theirs.
fn next_in_turn<T: Copy + Ord>(waiting: &BTreeSet<T>, last: T) -> Option<T> {
    let mut later = waiting.range((Excluded(last), Unbounded));
    later.next().or_else(|| waiting.first()).copied()
}
