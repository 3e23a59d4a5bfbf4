//! A table that somebody follows: what it is made of, and how it follows routes and the intent.
//!
//! An overlay has few prefixes, all known from the intent, whatever BGP brings; a change of routes costs it a look at those of them that
//! the change covers. The rest is the base's, which is made once per speaker.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::HashKey;
use rustc_hash::FxHashSet;

use crate::delivery::table::Table;
use crate::delivery::{AgentId, Routes, TableId, TableUpdate};
use crate::vnet::{
    Changed, LocRib, Replaced, Resolved, Scope, SubnetView, Target, Topology, dependants, known_inside, prefixes,
    resolve, resolve_above_base,
};

/// What a table is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TableKey {
    /// A speaker's (id) Loc-RIB.
    Base(String),
    /// What the NICs of a place have above a speaker's base.
    Overlay {
        place: String,
        /// Part of the name: a place that comes to hear another speaker changes both layers at once.
        speaker: String,
    },
    /// All routes of a place.
    Whole {
        place: String,
        /// Addresses of the NIC whose own table this is; empty: NICs share it.
        own: Vec<IpAddr>,
    },
}

/// A table with those who follow it.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) key: TableKey,
    /// The place's facts; of a base there are none.
    view: SubnetView,
    pub(super) table: Table,
    /// Addresses of the NICs that share the table.
    pub(super) addresses: FxHashSet<IpAddr>,
    pub(super) followers: BTreeSet<AgentId>,
    waiting: Waiting,
}

/// What a whole table has not taken over yet. There may be many of them, and each looks at every prefix, so they do it one by one.
#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nothing,
    /// One batch. What it says of choices that were replaced as a whole holds for the table as it was before the batch, and for no other.
    Changes(Arc<Changed>),
    /// More than that: every route is to be computed again.
    Everything,
}

/// What one settling changes in tables, so ordered that at no moment a prefix is without a route that has one before and after: an
/// overlay's routes come before the base's change, and go after it.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    before: Vec<Arc<TableUpdate>>,
    changes: Vec<Arc<TableUpdate>>,
    after: Vec<Arc<TableUpdate>>,
}

impl Deltas {
    pub(super) fn in_order(self) -> impl Iterator<Item = Arc<TableUpdate>> {
        self.before.into_iter().chain(self.changes).chain(self.after)
    }
}

impl TableKey {
    /// What [`Topology::view`] knows the place by.
    fn place(&self) -> Option<&str> {
        match self {
            TableKey::Base(_) => None,
            TableKey::Overlay { place, .. } | TableKey::Whole { place, .. } => Some(place),
        }
    }
}

impl Followed {
    /// `None`: the place is unknown.
    pub(super) fn new(
        id: TableId,
        hash_key: HashKey,
        key: TableKey,
        topology: &Topology,
        routes: &impl Routes,
    ) -> Option<Followed> {
        let view = match key.place() {
            Some(place) => topology.view(place)?,
            None => SubnetView::default(),
        };
        let mut followed = Followed {
            key,
            view,
            table: Table::new(id, hash_key),
            addresses: FxHashSet::default(),
            followers: BTreeSet::new(),
            waiting: Waiting::Nothing,
        };
        followed.rebuild(routes);
        Some(followed)
    }

    /// Takes over the place's facts, if they are others now.
    pub(super) fn follow_topology(&mut self, topology: &Topology, routes: &impl Routes) -> Option<Arc<TableUpdate>> {
        let view = topology.view(self.key.place()?)?;
        if view == self.view || !self.may_have(&view) {
            return None;
        }
        self.view = view;
        if self.is_whole() {
            self.waiting = Waiting::Everything;
            return None;
        }
        self.rebuild(routes)
    }

    /// Takes over what changed in the Loc-RIB.
    pub(super) fn follow_routes(&mut self, routes: &impl Routes, deltas: &mut Deltas) {
        let Some(speaker) = self.speaker() else { return };
        if routes.started_over(speaker) {
            match self.is_whole() {
                true => self.waiting = Waiting::Everything,
                false => deltas.changes.extend(self.rebuild(routes)),
            }
            return;
        }
        let (Some(changed), loc_rib) = (routes.changed(speaker), routes.loc_rib(speaker)) else {
            return;
        };
        match &self.key {
            TableKey::Base(_) => {
                let prefixes = changed.rest.iter().copied();
                deltas.changes.extend(self.apply(&changed.replaced, prefixes, loc_rib));
            }
            TableKey::Overlay { .. } => {
                let prefixes = known_inside(&self.view, &changed.all);
                let wanted = self.wanted(prefixes, loc_rib).into_iter();
                let (come, go): (Vec<_>, Vec<_>) = wanted.partition(|(_, way)| way.is_some());
                deltas.before.extend(self.table.apply(&[], come));
                deltas.after.extend(self.table.apply(&[], go));
            }
            TableKey::Whole { .. } => self.wait_for(changed),
        }
    }

    /// Choices gave way to others, before any prefix was decided.
    pub(super) fn lose(&mut self, replaced: &[Replaced]) -> Option<Arc<TableUpdate>> {
        if matches!(self.waiting, Waiting::Changes(_)) {
            // What they say of replaced choices holds for those that were there before.
            self.waiting = Waiting::Everything;
        }
        if self.follows_prefixes() {
            return None;
        }
        self.table.lose(replaced)
    }

    /// Whether routes come and go with next hops: then losses follow when the prefixes are decided.
    pub(super) fn follows_prefixes(&self) -> bool {
        !self.own().is_empty() || (self.is_whole() && self.view.looks_at_next_hops())
    }

    /// Whether [`Followed::catch_up`] has something to do.
    pub(super) fn is_behind(&self) -> bool {
        !matches!(self.waiting, Waiting::Nothing)
    }

    /// Takes over what waits, and says how many prefixes were looked at.
    pub(super) fn catch_up(&mut self, routes: &impl Routes) -> (usize, Option<Arc<TableUpdate>>) {
        match std::mem::take(&mut self.waiting) {
            Waiting::Nothing => (0, None),
            Waiting::Changes(changed) => {
                let loc_rib = self.speaker().and_then(|id| routes.loc_rib(id));
                (changed.all.len(), self.follow_whole(&changed, loc_rib))
            }
            Waiting::Everything => {
                let delta = self.rebuild(routes);
                (self.table.prefixes().count(), delta)
            }
        }
    }

    /// Whether a NIC that shares this table is a next hop of the changed groups, and must have its own from now on.
    pub(super) fn has_become_next_hop(&self, delta: &TableUpdate) -> bool {
        let groups = delta.groups.iter();
        let mut addresses = groups.flat_map(|group| group.members.iter().chain(&group.fallback));
        addresses.any(|address| self.addresses.contains(address))
    }

    /// An overlay of a place that hears another speaker now, or has no base any more, is nobody's: its NICs get other tables at once.
    fn may_have(&self, view: &SubnetView) -> bool {
        match &self.key {
            TableKey::Overlay { speaker, .. } => view.base() == Some(speaker.as_str()),
            _ => true,
        }
    }

    fn is_whole(&self) -> bool {
        matches!(self.key, TableKey::Whole { .. })
    }

    fn wait_for(&mut self, changed: &Arc<Changed>) {
        if self.view.propagation_disabled || changed.all.is_empty() {
            return;
        }
        self.waiting = match self.waiting {
            Waiting::Nothing => Waiting::Changes(Arc::clone(changed)),
            Waiting::Changes(_) | Waiting::Everything => Waiting::Everything,
        };
    }

    /// Whose routes the table has.
    pub(super) fn speaker(&self) -> Option<&str> {
        match &self.key {
            TableKey::Base(speaker) | TableKey::Overlay { speaker, .. } => Some(speaker),
            TableKey::Whole { .. } => self.view.speaker.as_deref(),
        }
    }

    /// Addresses of the NIC whose own table this is.
    fn own(&self) -> &[IpAddr] {
        match &self.key {
            TableKey::Whole { own, .. } => own,
            _ => &[],
        }
    }

    /// Computes every route again; the difference to what was.
    fn rebuild(&mut self, routes: &impl Routes) -> Option<Arc<TableUpdate>> {
        let loc_rib = self.speaker().and_then(|id| routes.loc_rib(id));
        let mut all: Vec<IpNet> = self.table.prefixes().copied().collect();
        match &self.key {
            TableKey::Base(_) => all.extend(loc_rib.into_iter().flat_map(LocRib::prefixes)),
            TableKey::Overlay { .. } => {
                all.extend(self.view.known());
                self.table.hide(self.view.not_from_bgp.outermost().collect());
            }
            TableKey::Whole { .. } => all.extend(prefixes(&self.view, loc_rib)),
        }
        all.sort_unstable();
        all.dedup();
        self.apply(&[], all, loc_rib)
    }

    fn follow_whole(&mut self, changed: &Changed, loc_rib: Option<&LocRib>) -> Option<Arc<TableUpdate>> {
        // A NIC that is a next hop itself has routes come and go where others only see other next hops; so has one behind a filter that
        // looks at them.
        let (replaced, prefixes) = match self.own().is_empty() && !self.view.looks_at_next_hops() {
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
        self.apply(replaced, all, loc_rib)
    }

    fn apply(
        &mut self,
        replaced: &[Replaced],
        prefixes: impl IntoIterator<Item = IpNet>,
        loc_rib: Option<&LocRib>,
    ) -> Option<Arc<TableUpdate>> {
        let wanted = self.wanted(prefixes, loc_rib);
        self.table.apply(replaced, wanted)
    }

    /// What the table should have for these prefixes.
    fn wanted(
        &self,
        prefixes: impl IntoIterator<Item = IpNet>,
        loc_rib: Option<&LocRib>,
    ) -> Vec<(IpNet, Option<Resolved>)> {
        let scope = Scope {
            view: &self.view,
            loc_rib,
            own: self.own(),
        };
        let wanted = prefixes.into_iter().map(|prefix| {
            let way = match &self.key {
                TableKey::Base(_) => learned_by(loc_rib, &prefix),
                TableKey::Overlay { .. } => resolve_above_base(scope, &prefix),
                TableKey::Whole { .. } => resolve(scope, &prefix),
            };
            (prefix, way)
        });
        wanted.collect()
    }
}

fn learned_by(loc_rib: Option<&LocRib>, prefix: &IpNet) -> Option<Resolved> {
    let choice = loc_rib?.get(prefix)?;
    Some(Resolved {
        target: Target::NextHops(Arc::clone(choice)),
        system: false,
    })
}
