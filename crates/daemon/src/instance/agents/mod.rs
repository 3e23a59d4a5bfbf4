//! Agents: the gRPC service that they connect to, and what waits for each.
//!
//! ```text
//!  driver ── Agents::send ──► queue of each agent (bounded, emptied on overflow) ──► HTTP/2 stream ──► agent
//!  driver ◄── AgentEvent (bounded channel) ── listening task ◄────────────────────── HTTP/2 stream ◄── agent
//! ```
//!
//! A message is encoded once; queues and streams hold references to the same octets, down to the socket's own buffer.

mod access;
mod life;
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

use life::Welcome;
use queue::{AgentQueue, Pushed};

pub(super) use access::Access;
pub(super) use life::Life;
pub(super) use port::{AgentPortProblem, listen};
pub use queue::{MAX_WAITING, MAX_WAITING_OCTETS};
pub(super) use serve::{AgentService, serve};
pub use serve::{MAX_AGENTS, MAX_JUDGED, MAX_NICS_PER_AGENT};
pub use tls::AgentTls;
pub(super) use tls::shown;

/// What happens with agents.
pub(super) enum AgentEvent {
    /// One has come, this is how to tell it something, and to which life (epoch) it was welcomed.
    Joined(AgentId, AgentQueue, u64),
    /// It said something.
    Said(Input),
    /// It was too far behind, and has taken by now what was under way.
    Drained(AgentId),
    /// Its stream ended.
    Gone(AgentId),
}

/// The agents that the driver knows.
#[derive(Debug)]
pub(super) struct Agents {
    life: Life,
    welcome: Welcome,
    followers: HashMap<AgentId, Follower>,
    snapshots: HashMap<TableId, EncodedSnapshot>,
    turn: u64,
}

#[derive(Debug)]
struct Follower {
    queue: AgentQueue,
    /// The life that its stream began with.
    joined: u64,
    /// The one that it was welcomed to last.
    welcomed: u64,
}

/// A whole table as it goes out, for as long as the table is at that generation.
#[derive(Debug)]
struct EncodedSnapshot {
    of: Weak<TableUpdate>,
    frames: Arc<[Bytes]>,
}

impl Agents {
    pub(super) fn new(life: Life) -> Agents {
        Agents {
            welcome: life.welcome(),
            life,
            followers: HashMap::new(),
            snapshots: HashMap::new(),
            turn: 0,
        }
    }

    pub(super) fn happened(&mut self, event: AgentEvent) -> Option<Input> {
        match event {
            AgentEvent::Joined(agent, queue, joined) => {
                let follower = Follower {
                    queue,
                    joined,
                    welcomed: joined,
                };
                self.followers.insert(agent, follower);
                None
            }
            AgentEvent::Said(input) => Some(input),
            AgentEvent::Drained(agent) => {
                let follower = self.followers.get_mut(&agent)?;
                follower.queue.begin_again();
                // What it was told since its stream began may be lost.
                follower.welcomed = follower.joined;
                Some(Input::AgentBackpressure { agent, full: false })
            }
            AgentEvent::Gone(agent) => {
                self.followers.remove(&agent);
                Some(Input::AgentGone { agent })
            }
        }
    }

    /// What is sent until the next call belongs together: one settling of the state machine.
    pub(super) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// From now on each agent is welcomed to the next life before it hears anything more.
    pub(super) fn begin_life(&mut self) {
        self.life.begin();
        self.welcome = self.life.welcome();
    }

    /// Tells these agents, and says which are too far behind now.
    pub(super) fn send(&mut self, agents: &[AgentId], message: &ToAgent) -> Vec<AgentId> {
        let frames = self.encode(message);
        let (welcome, turn) = (&self.welcome, self.turn);
        let mut behind = Vec::new();
        for agent in agents {
            let follower = self.followers.get_mut(agent);
            if follower.is_some_and(|follower| follower.push(welcome, &frames, turn) == Pushed::FellBehind) {
                behind.push(*agent);
            }
        }
        behind
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

impl Follower {
    fn push(&mut self, welcome: &Welcome, frames: &Arc<[Bytes]>, turn: u64) -> Pushed {
        if self.welcomed != welcome.epoch {
            match self.queue.push(&welcome.message, turn) {
                Pushed::Queued => self.welcomed = welcome.epoch,
                behind => return behind,
            }
        }
        self.queue.push(frames, turn)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::StreamExt;

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
        let mut agents = Agents::new(Life::new(0, 1, 10));
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

    #[tokio::test]
    async fn agents_are_welcomed_to_another_life_before_they_hear_more_also_those_that_were_behind() {
        let life = Life::new(0, 7, 10);
        let mut agents = Agents::new(life.clone());
        let (agent, word) = (AgentId(1), ToAgent::Converged(true));
        let (queue, mut messages) = AgentQueue::new();
        queue.let_in(life.welcome().message);
        agents.happened(AgentEvent::Joined(agent, queue.clone(), life.welcome().epoch));
        let next = async |messages: &mut queue::Messages| messages.next().await.unwrap();
        let encoded = |message: &Arc<[Bytes]>| message.concat();
        let said = |welcome: u64| {
            [
                encoded(&convert::welcome(0, welcome, 10)),
                encoded(&convert::encode(&word)),
            ]
            .concat()
        };

        agents.begin_turn();
        agents.send(&[agent], &word);
        assert_eq!(next(&mut messages).await, said(7));
        agents.begin_life();
        agents.begin_turn();
        agents.send(&[agent], &word);
        assert_eq!(next(&mut messages).await, said(8));

        // Behind, it loses what waits: also the welcome to the next one.
        agents.send(&[agent], &snapshot(1, 1));
        agents.begin_turn();
        agents.begin_life();
        let mut turns = 0;
        while agents.send(&[agent], &word).is_empty() {
            agents.begin_turn();
            turns += 1;
            assert!(turns <= 2 * MAX_WAITING);
        }
        assert_eq!(next(&mut messages).await, encoded(&convert::encode(&snapshot(1, 1))));
        assert!(agents.happened(AgentEvent::Drained(agent)).is_some());
        agents.begin_turn();
        agents.send(&[agent], &word);
        assert_eq!(next(&mut messages).await, said(9));
    }
}
