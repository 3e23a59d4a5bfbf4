//! A route server's Loc-RIB as its virtual networks see it: for each prefix the next hops that packets may take. Sets of next
//! hops are shared, so that a table of a million prefixes behind eight NVAs holds a handful of them.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::{Change, Choice, Rank};
use rustc_hash::{FxHashMap, FxHashSet};

/// Next hops that routes share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NextHops {
    /// Sorted, without repetition, never empty.
    pub(crate) members: Vec<IpAddr>,
    /// Takes over when all members are gone.
    pub(crate) fallback: Vec<IpAddr>,
    /// Comparable between instances.
    pub(crate) rank: Rank,
}

/// Sets fewer than these are never worth a purge.
const PURGE_FROM: usize = 1024;

/// Prefix to next hops.
#[derive(Debug, Default)]
pub(crate) struct LocRib {
    routes: FxHashMap<IpNet, Arc<NextHops>>,
    sets: FxHashSet<Arc<NextHops>>,
    purge_at: usize,
}

impl LocRib {
    pub(crate) fn new(changes: impl IntoIterator<Item = Change>) -> LocRib {
        let mut loc_rib = LocRib::default();
        for change in changes {
            loc_rib.apply(change);
        }
        loc_rib
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change.choice {
            Some(choice) => {
                let set = self.intern(choice);
                self.routes.insert(change.prefix, set);
            }
            None => {
                self.routes.remove(&change.prefix);
            }
        }
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Arc<NextHops>> {
        self.routes.get(prefix)
    }

    /// The longest prefix that contains `prefix`, itself included.
    pub(crate) fn longest_match(&self, prefix: &IpNet) -> Option<&Arc<NextHops>> {
        let mut candidate = Some(*prefix);
        while let Some(wider) = candidate {
            if let Some(found) = self.routes.get(&wider) {
                return Some(found);
            }
            candidate = wider.supernet();
        }
        None
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.keys()
    }

    fn intern(&mut self, choice: Choice) -> Arc<NextHops> {
        let set = NextHops {
            members: choice.next_hops,
            fallback: choice.fallback,
            rank: choice.rank,
        };
        if let Some(known) = self.sets.get(&set) {
            return known.clone();
        }
        if self.sets.len() >= self.purge_at.max(PURGE_FROM) {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.purge_at = self.sets.len() * 2;
        }
        let set = Arc::new(set);
        self.sets.insert(set.clone());
        set
    }
}
