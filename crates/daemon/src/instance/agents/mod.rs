//! Agents: the gRPC service that they connect to, and what waits for each.
//!
//! ```text
//!  driver ── Agents::send ──► queue of each agent (bounded, emptied on overflow) ──► HTTP/2 stream ──► agent
//!  driver ◄── AgentEvent (bounded channel) ── listening task ◄────────────────────── HTTP/2 stream ◄── agent
//! ```
//!
//! A message is encoded once; queues and streams hold references to the same octets, down to the socket's own buffer.

mod access;
mod port;
mod queue;
mod serve;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::convert;
use bytes::Bytes;
use routeserver::Input;
use routeserver::delivery::{AgentId, TableId, TableUpdate, ToAgent};

use queue::{AgentQueue, Pushed};

pub(super) use access::Access;
pub(super) use port::{AgentPortProblem, listen};
pub use queue::{MAX_WAITING, MAX_WAITING_OCTETS};
pub(super) use serve::{AgentService, serve};
pub use serve::{MAX_AGENTS, MAX_JUDGED, MAX_NICS_PER_AGENT};
pub use tls::AgentTls;
pub(super) use tls::shown;

/// What happens with agents.
pub(super) enum AgentEvent {
    /// One has come, and this is how to tell it something.
    Joined(AgentId, AgentQueue),
    /// It said something.
    Said(Input),
    /// It was too far behind, and has taken by now what was under way.
    Drained(AgentId),
    /// Its stream ended.
    Gone(AgentId),
}

/// The agents that the driver knows.
#[derive(Debug, Default)]
pub(super) struct Agents {
    queues: HashMap<AgentId, AgentQueue>,
    snapshots: HashMap<TableId, EncodedSnapshot>,
    turn: u64,
}

/// A whole table as it goes out, for as long as the table is at that generation.
#[derive(Debug)]
struct EncodedSnapshot {
    of: Weak<TableUpdate>,
    frames: Arc<[Bytes]>,
}

impl Agents {
    pub(super) fn happened(&mut self, event: AgentEvent) -> Option<Input> {
        match event {
            AgentEvent::Joined(agent, queue) => {
                self.queues.insert(agent, queue);
                None
            }
            AgentEvent::Said(input) => Some(input),
            AgentEvent::Drained(agent) => {
                self.queues.get(&agent)?.begin_again();
                Some(Input::AgentBackpressure { agent, full: false })
            }
            AgentEvent::Gone(agent) => {
                self.queues.remove(&agent);
                Some(Input::AgentGone { agent })
            }
        }
    }

    /// What is sent until the next call belongs together: one settling of the state machine.
    pub(super) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Tells these agents, and says which are too far behind now.
    pub(super) fn send(&mut self, agents: &[AgentId], message: &ToAgent) -> Vec<AgentId> {
        let frames = self.encode(message);
        let falls_behind = |agent: &&AgentId| {
            let queue = self.queues.get(*agent);
            queue.is_some_and(|queue| queue.push(&frames, self.turn) == Pushed::FellBehind)
        };
        agents.iter().filter(falls_behind).copied().collect()
    }

    /// Agents ask for the same snapshot one by one; it is encoded for the first.
    fn encode(&mut self, message: &ToAgent) -> Arc<[Bytes]> {
        let ToAgent::Snapshot(update) = message else {
            return convert::encode(message);
        };
        if let Some(known) = self.snapshots.get(&update.table)
            && known.of.as_ptr() == Arc::as_ptr(update)
        {
            return Arc::clone(&known.frames);
        }
        // The state machine lets go of a snapshot when the table is of another generation, or gone.
        self.snapshots.retain(|_, known| known.of.strong_count() > 0);
        let frames = convert::encode(message);
        let known = EncodedSnapshot {
            of: Arc::downgrade(update),
            frames: Arc::clone(&frames),
        };
        self.snapshots.insert(update.table, known);
        frames
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn snapshot(table: u64, generation: u64) -> ToAgent {
        ToAgent::Snapshot(Arc::new(TableUpdate {
            table: TableId(table),
            generation,
            groups: vec![],
            removed_groups: vec![],
            routes: vec![],
            removed: vec![],
            hides: None,
        }))
    }

    #[test]
    fn a_snapshot_is_encoded_once_per_generation_and_kept_no_longer_than_its_table() {
        let mut agents = Agents::default();
        let (first, other) = (snapshot(1, 1), snapshot(2, 1));
        let frames = agents.encode(&first);
        agents.encode(&other);
        assert!(Arc::ptr_eq(&frames, &agents.encode(&first)));
        let second = snapshot(1, 2);
        assert!(!Arc::ptr_eq(&frames, &agents.encode(&second)));
        drop(other);
        agents.encode(&snapshot(3, 1));
        assert!(!agents.snapshots.contains_key(&TableId(2)));
    }
}
