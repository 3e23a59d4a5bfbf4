//! The state machine's face: what comes in is handed to the part that knows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bgp::session::{self, ConnectionId, Direction};
use bgp::wire::{CeaseSubcode, Notification};
use rib::HashKey;
use rustc_hash::FxHashMap;

use crate::delivery::{Delivery, Installed};
use crate::instance::losses::{Ended, Loss};
use crate::instance::memory::Memory;
use crate::instance::standstill::Standstill;
use crate::instance::{BfdWanted, Event, Input, Listener, Output, PeerKey};
use crate::peer::{Peer, restart_offer};
use crate::speaker::Speaker;
use crate::vnet::Topology;

/// One instance process's state machine.
///
/// ```text
/// instance.handle(now, input);              // as many as wait
/// instance.settle(now);                     // once, when none waits
/// while let Some(output) = instance.poll_output() { driver.carry_out(output) }
/// let wake_at = instance.poll_timeout();    // then handle_timeout(now), settle(now)
/// ```
#[derive(Debug)]
pub struct Instance {
    pub(super) index: usize,
    pub(super) epoch: u64,
    pub(super) seed: u64,
    pub(super) key: HashKey,
    pub(super) intent_version: u64,
    pub(super) topology: Topology,
    pub(super) topology_changed: bool,
    pub(super) speakers: BTreeMap<String, Speaker>,
    pub(super) peers: BTreeMap<PeerKey, Peer>,
    pub(super) peer_ids: FxHashMap<String, PeerKey>,
    pub(super) next_peer: u32,
    pub(super) connections: FxHashMap<ConnectionId, PeerKey>,
    /// When each session wants to be woken.
    pub(super) timers: BTreeSet<(Instant, PeerKey)>,
    pub(super) listeners: Vec<Listener>,
    pub(super) bfd_wanted: Vec<BfdWanted>,
    pub(super) delivery: Delivery,
    /// Sessions whose routes are still to be kept or removed, and what agents are to be told of them before.
    pub(super) ended: Vec<Ended>,
    pub(super) losses: Vec<Loss>,
    /// Agents have been told of losses, and have until then.
    pub(super) head_start: Option<Instant>,
    /// Every peer was heard out once, or waited for long enough.
    pub(super) converged: bool,
    /// There was a life before this one, whose routes peers may have kept.
    pub(super) restarted: bool,
    pub(super) standstill: Option<Standstill>,
    /// It is since a standstill that it has not converged.
    pub(super) converges_again: bool,
    /// The operator wants packets to go through the other instance.
    pub(super) drained: bool,
    pub(super) leaving: bool,
    /// Whether events are made for the route log.
    pub(super) logs_routes: bool,
    pub(super) memory: Memory,
    /// The latest time we were told; work left over is due then.
    pub(super) now: Instant,
    pub(super) outputs: VecDeque<Output>,
}

impl Instance {
    /// `index` is 0 or 1: which of each speaker's two addresses is ours. `epoch` tells this life from the one before (any
    /// number that differs); `seed` feeds jitter; `key` is that of the tables whose keys peers choose, and nothing else's: jitter can be
    /// watched.
    pub fn new(index: usize, epoch: u64, seed: u64, key: HashKey, now: Instant) -> Instance {
        Instance {
            index: index.min(1),
            epoch,
            seed,
            key,
            intent_version: 0,
            topology: Topology::default(),
            topology_changed: false,
            speakers: BTreeMap::new(),
            peers: BTreeMap::new(),
            peer_ids: FxHashMap::default(),
            next_peer: 0,
            connections: FxHashMap::default(),
            timers: BTreeSet::new(),
            listeners: Vec::new(),
            bfd_wanted: Vec::new(),
            delivery: Delivery::new(key),
            ended: Vec::new(),
            losses: Vec::new(),
            head_start: None,
            converged: false,
            restarted: false,
            standstill: None,
            converges_again: false,
            drained: false,
            leaving: false,
            logs_routes: false,
            memory: Memory::default(),
            now,
            outputs: VecDeque::new(),
        }
    }

    /// This is not the instance's first life: peers that keep its routes are told so (RFC 4724). To be called before the first input.
    pub fn has_restarted(&mut self) {
        self.restarted = true;
    }

    /// Whether an OPEN sent now is of a speaker that has restarted and not heard everybody yet.
    pub(super) fn is_restarting(&self) -> bool {
        self.restarted && !self.converged
    }

    /// OPENs say it from now on.
    pub(super) fn offer_restarts(&mut self) {
        let restarted = self.is_restarting();
        for peer in self.peers.values_mut() {
            peer.session.offer_restart(restart_offer(&peer.intent, restarted));
        }
    }

    /// Takes what happened. Routes are decided and told at [`Instance::settle`], so that a batch of inputs costs one decision.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        match input {
            Input::Intent(intent) => self.apply_intent(now, intent),
            Input::Accepted {
                connection,
                speaker,
                local: _,
                remote,
            } => self.accepted(now, connection, &speaker, remote),
            Input::Connected { peer, connection } => self.connected(now, peer, connection, Direction::Dialled),
            Input::DialFailed { peer, reason } => self.drive(now, peer, session::Input::DialFailed { reason }),
            Input::Received { connection, messages } => self.received(now, connection, messages),
            Input::Malformed { connection, error } => {
                self.drive_connection(now, connection, session::Input::Malformed { connection, error });
            }
            Input::Closed { connection, reason } => {
                self.drive_connection(now, connection, session::Input::Closed { connection, reason });
                self.connections.remove(&connection);
            }
            Input::Backpressure {
                connection,
                full,
                stalled,
            } => self.backpressure(now, connection, full, stalled),
            Input::Bfd(event) => self.bfd(now, event),
            Input::AgentFollows {
                agent,
                name,
                nics,
                layers,
            } => self.delivery.follows(agent, name, nics, layers),
            Input::AgentInstalled {
                agent,
                nic,
                table,
                generation,
                base,
                problems,
                counts,
            } => {
                let installed = Installed {
                    table,
                    generation,
                    base,
                    problems,
                    counts,
                };
                self.delivery.installed(agent, nic, installed);
            }
            Input::AgentBackpressure { agent, full } => self.delivery.backpressure(agent, full),
            Input::AgentGone { agent } => self.delivery.gone(agent),
            Input::AddressPresent {
                speaker,
                local,
                problem,
            } => {
                // One that the speaker has no more may have been looked for until now.
                let has = |speaker: &&mut Speaker| speaker.intent.addresses().any(|address| address == local);
                if let Some(speaker) = self.speakers.get_mut(&speaker).filter(has) {
                    match problem {
                        Some(problem) => drop(speaker.address_problems.insert(local, problem)),
                        None => drop(speaker.address_problems.remove(&local)),
                    }
                }
            }
            Input::ResetPeer { peer, soft } => self.reset_peer(now, &peer, soft),
            Input::Memory { used, waiting } => self.memory_is(now, used, &waiting),
            Input::Drain { on } => self.drain_instance(on),
            Input::StoodStill { lasted } => self.stood_still(now, lasted),
            Input::Shutdown => self.shutdown(now),
        }
    }

    /// Fires the timers that are due. [`Instance::settle`] comes after it, as after inputs.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let due: Vec<PeerKey> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.session.handle_timeout(now);
            }
            self.retention_timeout(now, key);
            self.drain(now, key);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Instance::handle_timeout`] and [`Instance::settle`] want to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let head_start = self.head_start_until();
        if head_start.is_none() && self.has_work_left() {
            return Some(self.now);
        }
        let session = self.timers.first().map(|(at, _)| *at);
        session
            .into_iter()
            .chain(head_start)
            .chain(self.convergence_at())
            .chain(self.arrival_due_at())
            .chain(self.refresh_due_at())
            .min()
    }

    /// Version of the intent it follows; 0: none yet. A lower one is refused.
    pub fn intent_version(&self) -> u64 {
        self.intent_version
    }

    /// Why a peer (bgpConnection id) cannot be asked for its routes again, for people; `None`: it can, or there is no such peer.
    pub fn soft_reset_problem(&self, peer: &str) -> Option<String> {
        let peer = self.peers.get(self.peer_ids.get(peer)?)?;
        match &peer.up {
            Some(up) if up.negotiated.capabilities.route_refresh => None,
            Some(_) => Some(
                "the peer did not offer the route refresh capability (RFC 2918), so it cannot be asked for its routes again; \
                 use a hard reset (without soft)"
                    .to_owned(),
            ),
            None => Some("the session is not Established; the peer sends all its routes when it is".to_owned()),
        }
    }

    /// What peers say and are told is a last resort from now on, or is not any more; so other instances' ranks are better.
    fn drain_instance(&mut self, on: bool) {
        self.finish_ended(self.now);
        self.drained = on;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.instance_drained = on;
            }
            self.drained_or_not(key);
        }
    }

    /// A peer is drained from now on, or is not any more.
    pub(super) fn drained_or_not(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
            speaker.piecemeal(|speaker| speaker.update_peer(peer.index, peer.info()));
            if let Some(up) = &peer.up {
                let group = speaker.group(&peer.intent, &up.negotiated, peer.is_drained());
                speaker.rib.regroup(peer.index, group);
            }
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn reset_peer(&mut self, now: Instant, peer: &str, soft: bool) {
        let Some(key) = self.peer_ids.get(peer).copied() else {
            return;
        };
        let input = match soft {
            true => session::Input::RequestRefresh,
            false => session::Input::Reset {
                notification: Notification::cease(CeaseSubcode::AdministrativeReset),
                reason: "reset by the operator".to_owned(),
                offence: None,
            },
        };
        self.drive(now, key, input);
        if !soft {
            self.finish_ended(now);
            self.release_all(key);
            self.drive(now, key, session::Input::Pardon);
        }
    }

    /// Says farewell. From here on agents hear nothing: their routes stay until the other instance or our next life speaks.
    fn shutdown(&mut self, now: Instant) {
        self.finish_ended(now);
        self.leaving = true;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            let leave = session::Input::Leave {
                reason: "the route server instance is leaving".to_owned(),
            };
            self.drive(now, key, leave);
        }
        self.want_bfd();
        self.outputs.push_back(Output::Finished);
    }
}
