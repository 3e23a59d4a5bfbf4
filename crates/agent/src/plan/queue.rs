//! Prefixes waiting to be planned, each at most once: one that is noted twice between two portions must not become two operations.

use ipnet::IpNet;
use rustc_hash::FxHashSet;

/// A stack without repetitions.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    order: Vec<IpNet>,
    present: FxHashSet<IpNet>,
}

impl Queue {
    pub(super) fn push(&mut self, prefix: IpNet) {
        if self.present.insert(prefix) {
            self.order.push(prefix);
        }
    }

    pub(super) fn pop(&mut self) -> Option<IpNet> {
        let prefix = self.order.pop()?;
        self.present.remove(&prefix);
        Some(prefix)
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.present.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
