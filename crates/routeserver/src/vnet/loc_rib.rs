//! A route server's Loc-RIB as its virtual networks see it: for each prefix the next hops that packets may take. Equal choices
//! are one allocation, so that a table of a million prefixes behind eight NVAs holds a handful of them.

use std::sync::Arc;

use bgp::IpNet;
use rib::{Change, Choice};
use rustc_hash::FxHashMap;

/// Prefix to next hops.
#[derive(Debug, Default)]
pub(crate) struct LocRib(FxHashMap<IpNet, Arc<Choice>>);

impl LocRib {
    pub(crate) fn apply(&mut self, change: Change) {
        match change.choice {
            Some(choice) => self.0.insert(change.prefix, choice),
            None => self.0.remove(&change.prefix),
        };
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Arc<Choice>> {
        self.0.get(prefix)
    }

    /// The entry of the longest prefix that contains `prefix`, itself included.
    pub(crate) fn longest_match(&self, prefix: &IpNet) -> Option<&Arc<Choice>> {
        let mut candidate = Some(*prefix);
        while let Some(wider) = candidate {
            if let Some(found) = self.0.get(&wider) {
                return Some(found);
            }
            candidate = wider.supernet();
        }
        None
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.0.keys()
    }
}

impl FromIterator<Change> for LocRib {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> LocRib {
        let mut loc_rib = LocRib::default();
        for change in changes {
            loc_rib.apply(change);
        }
        loc_rib
    }
}
