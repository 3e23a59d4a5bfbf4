//! Kernels that are not known to be without next hops yet that are lost: who was told of them, and has not said that it is done.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::delivery::{AgentId, TableId};

/// Which generation of which tables (one, or two where there is a base) a NIC's kernel is to have.
type Wanted = Vec<(TableId, u64)>;

/// Of each agent the NICs.
#[derive(Debug, Default)]
pub(super) struct Awaited(FxHashMap<AgentId, FxHashMap<Arc<str>, Wanted>>);

impl Awaited {
    /// Whether nobody is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The agent was told that a NIC's table has lost next hops.
    pub(super) fn told(&mut self, agent: AgentId, nic: &Arc<str>, table: TableId, generation: u64) {
        let tables = self.0.entry(agent).or_default().entry(Arc::clone(nic)).or_default();
        tables.retain(|(each, _)| *each != table);
        tables.push((table, generation));
    }

    /// A NIC's kernel has these tables.
    pub(super) fn installed(&mut self, agent: AgentId, nic: &str, tables: &[Option<(TableId, u64)>]) {
        let Some(nics) = self.0.get_mut(&agent) else {
            return;
        };
        if let Some(awaited) = nics.get_mut(nic) {
            awaited.retain(|(table, wanted)| {
                let mut has = tables.iter().flatten();
                !has.any(|(id, generation)| id == table && generation >= wanted)
            });
            if awaited.is_empty() {
                nics.remove(nic);
            }
        }
        if nics.is_empty() {
            self.0.remove(&agent);
        }
    }

    /// The agent follows these NICs and no others.
    pub(super) fn keep(&mut self, agent: AgentId, nics: &FxHashSet<String>) {
        if let Some(awaited) = self.0.get_mut(&agent) {
            awaited.retain(|nic, _| nics.contains(&**nic));
            if awaited.is_empty() {
                self.0.remove(&agent);
            }
        }
    }

    /// The agent is gone, or too far behind to be waited for.
    pub(super) fn forget(&mut self, agent: AgentId) {
        self.0.remove(&agent);
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
