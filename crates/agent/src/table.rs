//! A table of routes as one instance tells it: groups of next hops, and routes that name them.
//!
//! NICs that follow the same table share one value; the client task writes it, the NICs' threads read it.

use std::net::IpAddr;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

/// A group's name within a table.
pub type GroupId = u32;

/// How good a group is, comparable between instances: the lower the better.
pub type Rank = u64;

/// Groups and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The generation that this is; deltas build on the one before.
    pub generation: u64,
    /// Next hops that routes share.
    pub groups: FxHashMap<GroupId, Group>,
    /// Routes by prefix.
    pub routes: FxHashMap<IpNet, TableRoute>,
    /// Of an overlay: where the base below does not count. In order, none inside another.
    hides: Vec<IpNet>,
}

/// Next hops that routes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The next hops.
    pub members: Vec<IpAddr>,
    /// What takes over when all of them die, as the instance will say by then.
    pub fallback: Vec<IpAddr>,
    /// The lower the better.
    pub rank: Rank,
}

/// How packets to a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRoute {
    /// The way.
    pub way: Way,
    /// Installed only with `--system-routes all` (Internet, None).
    pub system: bool,
}

/// How packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Directly on the link.
    OnLink,
    /// Through the subnet's first address.
    SubnetGateway,
    /// Through a group of NVAs.
    Group(GroupId),
    /// Dropped.
    Blackhole,
}

/// A table that a client task writes and NICs read.
#[derive(Clone, Debug, Default)]
pub struct SharedTable(Arc<RwLock<Table>>);

impl SharedTable {
    /// A table to share.
    pub fn new(table: Table) -> SharedTable {
        SharedTable(Arc::new(RwLock::new(table)))
    }

    /// For reading. A writer that panicked left a table of which every part is still valid, so its poison is ignored.
    pub fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// For writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// True if both are the same table, not only equal ones.
    pub fn is(&self, other: &SharedTable) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Table {
    /// Hides these prefixes of the base, and what lies inside them, and nothing else.
    pub fn hide(&mut self, mut prefixes: Vec<IpNet>) {
        // A prefix comes before those inside it.
        prefixes.sort_unstable();
        prefixes.dedup_by(|inner, outer| outer.contains(&*inner));
        self.hides = prefixes;
    }

    /// Whether the base does not count for a prefix.
    pub fn hides(&self, prefix: &IpNet) -> bool {
        let after = self.hides.partition_point(|hidden| hidden <= prefix);
        after > 0 && self.hides[after - 1].contains(prefix)
    }

    /// Takes up the groups of another table, under ids that are so much higher.
    pub fn add_groups(&mut self, other: &Table) -> GroupId {
        let offset = self.groups.keys().max().map_or(0, |id| id.saturating_add(1));
        for (id, group) in &other.groups {
            self.groups.insert(offset.saturating_add(*id), group.clone());
        }
        offset
    }

    /// Takes up what `other` says beyond this: prefixes that are missing here or have a better or equally good way there.
    pub fn absorb(&mut self, other: &Table) {
        let offset = self.add_groups(other);
        for (prefix, route) in &other.routes {
            let way = match route.way {
                Way::Group(id) => Way::Group(offset.saturating_add(id)),
                way => way,
            };
            if self.is_better(*prefix, way) {
                self.routes.insert(
                    *prefix,
                    TableRoute {
                        way,
                        system: route.system,
                    },
                );
            }
        }
    }

    fn is_better(&self, prefix: IpNet, way: Way) -> bool {
        match (self.routes.get(&prefix).map(|route| route.way), way) {
            (None, _) => true,
            (Some(Way::Group(have)), Way::Group(get)) => match (self.groups.get(&have), self.groups.get(&get)) {
                (Some(have), Some(get)) => get.rank <= have.rank,
                (have, _) => have.is_none(),
            },
            (Some(_), Way::Group(_)) => true,
            (Some(_), _) => false,
        }
    }
}
