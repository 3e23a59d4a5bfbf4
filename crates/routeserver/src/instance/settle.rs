//! Settling: what the inputs since the last time changed is decided once, then told to agents and to peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bgp::session;

use crate::delivery::Routes;
use crate::instance::through::Decided;
use crate::instance::{Event, Instance, Output, PeerKey};
use crate::speaker::Speaker;
use crate::vnet::{Changed, LocRib};

/// Prefixes looked at in agents' whole tables, those that are behind and those that nobody followed before, until inputs get their turn: some
/// 100 ms of work each.
const MAX_LOOKED_AT: usize = 131_072;

impl Instance {
    /// Decides what the inputs since the last call changed, and makes the outputs for it. Call it when no input waits, or when some
    /// have been taken: what comes in bulk is put off by itself.
    pub fn settle(&mut self, now: Instant) {
        self.now = now;
        let had_head_start = self.had_head_start();
        let told = self.tell_losses(now);
        if (told && !had_head_start) || self.gives_head_start() {
            // The rest takes its time: what kernels need comes first.
            return;
        }
        self.finish_ended(now);
        self.decide(now);
        if !self.leaving {
            self.tell_agents(now);
        }
        self.tell_peers();
        self.check_circuits();
        self.ask_for_routes(now);
    }

    /// A large table is decided and goes out in bounded pieces, and agents' whole tables follow one by one, so that inputs, and questions,
    /// get their turn in between.
    pub(super) fn has_work_left(&self) -> bool {
        self.has_losses()
            || self.speakers.values().any(|speaker| speaker.unsettled)
            || (!self.leaving && self.delivery.has_work_left())
    }

    fn decide(&mut self, now: Instant) {
        let with_agents = !self.delivery.is_idle();
        let mut decided = Decided::new();
        for (id, speaker) in &mut self.speakers {
            let is_due = speaker.arrival.due_at().is_some_and(|at| at <= now);
            speaker.unsettled |= is_due;
            let starts = with_agents && speaker.loc_rib().is_none();
            if speaker.unsettled || starts {
                let mut changes = speaker.decide(now);
                if self.logs_routes && !changes.is_empty() {
                    let (speaker, changes) = (id.clone(), changes.clone());
                    let event = Event::BestChanged { speaker, changes };
                    self.outputs.push_back(Output::Event(event));
                }
                speaker.add_unchanged(&mut changes);
                let changes = if starts { speaker.rib.loc_rib() } else { changes };
                decided.insert(id.clone(), changes);
            }
        }
        if with_agents {
            // What is decided is held against what tables were told.
            self.speakers.values_mut().for_each(Speaker::take_over_stand_ins);
            self.see_through(&mut decided);
        }
        for (id, speaker) in &mut self.speakers {
            match decided.remove(id) {
                _ if !with_agents => speaker.keep_nothing(),
                Some(changes) => speaker.keep(changes),
                None => {}
            }
        }
    }

    fn tell_agents(&mut self, now: Instant) {
        let routes = LocRibs(&self.speakers);
        let (delivery, outputs) = (&mut self.delivery, &mut self.outputs);
        delivery.routes_changed(&routes, outputs);
        if std::mem::take(&mut self.topology_changed) {
            delivery.topology_changed(&self.topology, &routes, outputs);
        }
        delivery.catch_up(MAX_LOOKED_AT, &routes, outputs);
        self.check_converged(now);
        let routes = LocRibs(&self.speakers);
        let (delivery, outputs) = (&mut self.delivery, &mut self.outputs);
        delivery.sync(MAX_LOOKED_AT, &self.topology, &routes, self.converged, outputs);
        for (id, speaker) in &mut self.speakers {
            speaker.forget_changed();
            if speaker.has_decided_losses() {
                self.delivery.has_decided_losses(id);
            }
        }
    }

    fn tell_peers(&mut self) {
        for speaker in self.speakers.values_mut().filter(|each| each.unsettled) {
            let (connections, outputs) = (&speaker.connections, &mut self.outputs);
            let mut write = |index, bytes| {
                if let Some(connection) = connections.get(&index).copied() {
                    outputs.push_back(Output::Write { connection, bytes });
                }
            };
            let more = speaker.rib.flush(&speaker.export, &mut write);
            speaker.unsettled = more || speaker.rib.has_due();
        }
    }

    /// Asks for a ROUTE-REFRESH where one is due (az §2.1). Azure resets peers without that capability; that would help nobody here, so
    /// they are left alone.
    fn ask_for_routes(&mut self, now: Instant) {
        let due = self
            .speakers
            .values_mut()
            .filter(|each| each.refresh.due_at().is_some());
        let asked = due.filter_map(|each| each.refresh.take_due(now).then(|| each.peers.clone()));
        let peers: Vec<PeerKey> = asked.flatten().collect();
        for key in peers {
            self.drive(now, key, session::Input::RequestRefresh);
        }
    }

    /// When peers are to be asked for their routes again.
    pub(super) fn refresh_due_at(&self) -> Option<Instant> {
        let due = |speaker: &Speaker| speaker.refresh.due_at();
        self.speakers.values().filter_map(due).min()
    }

    /// When what tables have brought so far is to be decided.
    pub(super) fn arrival_due_at(&self) -> Option<Instant> {
        let due = |speaker: &Speaker| speaker.arrival.due_at();
        self.speakers.values().filter_map(due).min()
    }

    /// After a start: has every configured peer been heard out and all been decided, or its speaker waited long enough? From then on
    /// agents remove what we do not name.
    fn check_converged(&mut self, now: Instant) {
        if self.converged || self.intent_version == 0 {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.heard_out |= peer.is_quiet(now);
        }
        let waits = |speaker: &Speaker| {
            let mut peers = speaker.peers.iter().filter_map(|key| self.peers.get(key));
            let hears = peers.any(|peer| !peer.heard_out && !peer.intent.admin_down);
            now < speaker.converge_by && (hears || !speaker.rib.is_decided())
        };
        if !self.speakers.values().any(waits) && !self.delivery.is_behind() {
            (self.converged, self.converges_again) = (true, false);
            self.event(Event::Converged);
            self.has_heard_all();
        }
    }

    /// Peers are told End-of-RIB that is held back until we can know all that there is to tell (RFC 4724 §4.1), and OPENs are no longer those
    /// of a speaker that has restarted.
    fn has_heard_all(&mut self) {
        self.offer_restarts();
        for speaker in self.speakers.values_mut() {
            speaker.rib.release_end_of_rib();
            speaker.unsettled = true;
        }
    }

    /// When convergence may be reached by time alone.
    pub(super) fn convergence_at(&self) -> Option<Instant> {
        if self.converged || self.intent_version == 0 || self.leaving {
            return None;
        }
        let limits = self.speakers.values().map(|speaker| speaker.converge_by);
        let quiet = self
            .peers
            .values()
            .filter(|peer| !peer.heard_out)
            .filter_map(|peer| peer.quiet_at());
        limits.chain(quiet).filter(|at| *at > self.now).min()
    }
}

/// The Loc-RIBs as the tables of agents read them.
struct LocRibs<'a>(&'a BTreeMap<String, Speaker>);

impl Routes for LocRibs<'_> {
    fn loc_rib(&self, speaker: &str) -> Option<&LocRib> {
        self.0.get(speaker)?.loc_rib()
    }

    fn changed(&self, speaker: &str) -> Option<&Arc<Changed>> {
        self.0.get(speaker).map(Speaker::changed)
    }

    fn started_over(&self, speaker: &str) -> bool {
        self.0.get(speaker).is_some_and(Speaker::started_over)
    }
}
