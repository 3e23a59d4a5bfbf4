//! A change of intent: only what differs is touched, in this order: what is no more leaves, what stays takes over its settings,
//! what is there now comes, addresses are listened on, sessions start.

use std::sync::Arc;
use std::time::Instant;

use bgp::session;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::instance::{Instance, Listener, Output, PeerKey};
use crate::intent::{Intent, PeerIntent};
use crate::peer::{Peer, PeerHistory, endpoint, needs_reset, peer_info, restart_offer};
use crate::speaker::{Speaker, SpeakerIntent};
use crate::vnet::Topology;
use bgp::wire::CeaseSubcode;

/// Histories of peers that were removed, by id: those that come back with another session or at another speaker take them over.
type Histories = FxHashMap<String, PeerHistory>;

impl Instance {
    pub(super) fn apply_intent(&mut self, now: Instant, intent: Arc<Intent>) {
        if intent.version < self.intent_version || self.leaving {
            return;
        }
        self.finish_ended(now);
        self.intent_version = intent.version;
        self.logs_routes = intent.logs_routes;
        self.memory.ceiling_mib = intent.memory_mib;
        self.topology = Topology::new(intent.clone(), self.index);
        self.topology_changed = true;
        let mut histories = Histories::default();
        let speakers = SpeakerIntent::all(&intent, self.index);
        self.remove_speakers(now, &speakers, &mut histories);
        // From all speakers before any gets one: a connection that is moved is another speaker's peer of the same id.
        for speaker in &speakers {
            self.remove_peers(now, speaker, &mut histories);
        }
        let mut fresh = Vec::new();
        for speaker in &speakers {
            self.apply_speaker(now, speaker, &mut histories, &mut fresh);
        }
        self.listen();
        self.want_bfd();
        for key in fresh {
            self.start(now, key);
        }
    }

    /// Removes speakers that are no more, and those that change so much that no session survives it.
    fn remove_speakers(&mut self, now: Instant, wanted: &[SpeakerIntent], histories: &mut Histories) {
        let wanted: FxHashMap<&String, &SpeakerIntent> = wanted.iter().map(|speaker| (&speaker.id, speaker)).collect();
        let mut going = Vec::new();
        for (id, speaker) in &self.speakers {
            match wanted.get(id) {
                Some(intent) if speaker.intent.keeps_sessions(intent) => {}
                Some(_) => going.push((id.clone(), CeaseSubcode::OtherConfigurationChange)),
                None => going.push((id.clone(), CeaseSubcode::PeerDeconfigured)),
            }
        }
        for (id, subcode) in going {
            let keys = self.speakers.get(&id).map(|speaker| speaker.peers.clone());
            for key in keys.into_iter().flatten() {
                histories.extend(self.remove_peer(now, key, subcode));
            }
            self.speakers.remove(&id);
        }
    }

    fn apply_speaker(
        &mut self,
        now: Instant,
        intent: &SpeakerIntent,
        histories: &mut Histories,
        fresh: &mut Vec<PeerKey>,
    ) {
        match self.speakers.get_mut(&intent.id) {
            Some(speaker) => {
                self.topology_changed = true;
                speaker.update(now, intent.clone(), &self.topology);
            }
            None => {
                let speaker = Speaker::new(intent.clone(), self.key, now, &self.topology);
                self.speakers.insert(intent.id.clone(), speaker);
            }
        }
        let mut keys = Vec::with_capacity(intent.peers.len());
        let mut seen = FxHashSet::default();
        for peer in intent.peers.iter().filter(|peer| seen.insert(&peer.id)) {
            match self.peer_ids.get(&peer.id).copied() {
                Some(key) if self.peers.get(&key).is_some_and(|peer| peer.speaker == intent.id) => {
                    self.update_peer(now, key, peer);
                    keys.push(key);
                }
                // Another speaker's, and wanted there: ids are unique among all peerings of an intent.
                Some(_) => {}
                None => {
                    let history = histories.remove(&peer.id).unwrap_or_default();
                    let Some(key) = self.add_peer(&intent.id, peer, history) else {
                        continue;
                    };
                    keys.push(key);
                    fresh.push(key);
                }
            }
        }
        if let Some(speaker) = self.speakers.get_mut(&intent.id) {
            let peers = keys.iter().filter_map(|key| self.peers.get(key));
            let routers = peers.map(|peer| (&*peer.intent.id, peer.index)).collect();
            speaker.set_static_routes(&routers);
            speaker.reconsider_if_due();
            // Another outbound route map has another number.
            for peer in keys.iter().filter_map(|key| self.peers.get(key)) {
                if let Some(up) = &peer.up {
                    let group = speaker.group(&peer.intent, &up.negotiated, peer.is_drained());
                    speaker.rib.regroup(peer.index, group);
                }
            }
            speaker.peers = keys.clone();
        }
        self.set_persistence(&keys);
    }

    /// Removes a speaker's peers that are no more, and those that need another session; these come back as others, and so do those that
    /// are another speaker's from now on.
    fn remove_peers(&mut self, now: Instant, intent: &SpeakerIntent, histories: &mut Histories) {
        let wanted: FxHashMap<&String, &PeerIntent> = intent.peers.iter().map(|peer| (&peer.id, peer)).collect();
        let Some(speaker) = self.speakers.get(&intent.id) else {
            return;
        };
        let before = speaker.intent.clone();
        for key in speaker.peers.clone() {
            let Some(peer) = self.peers.get(&key) else {
                continue;
            };
            // Only what the session stands on: IPv6 that comes or goes leaves sessions over IPv4 alone.
            let address = peer.intent.address;
            let moves = before.address_towards(address) != intent.address_towards(address);
            match wanted.get(&peer.intent.id) {
                None => histories.extend(self.remove_peer(now, key, CeaseSubcode::PeerDeconfigured)),
                Some(after) if moves || needs_reset(&peer.intent, after) => {
                    histories.extend(self.remove_peer(now, key, CeaseSubcode::OtherConfigurationChange));
                }
                Some(_) => {}
            }
        }
    }

    /// Its id and history, in case it comes back.
    fn remove_peer(&mut self, now: Instant, key: PeerKey, subcode: CeaseSubcode) -> Option<(String, PeerHistory)> {
        self.drive(now, key, stop(subcode, "the peering's configuration changed"));
        let peer = self.peers.remove(&key)?;
        self.peer_ids.remove(&peer.intent.id);
        if let Some(at) = peer.deadline {
            self.timers.remove(&(at, key));
        }
        if let Some(speaker) = self.speakers.get_mut(&peer.speaker) {
            speaker.connections.remove(&peer.index);
            speaker.remove_peer(peer.index);
            speaker.unsettled = true;
        }
        let outputs = &mut self.outputs;
        self.connections.retain(|connection, owner| {
            if *owner == key {
                outputs.push_back(Output::Close {
                    connection: *connection,
                });
            }
            *owner != key
        });
        Some((peer.intent.id.clone(), peer.into_history()))
    }

    fn add_peer(&mut self, speaker: &str, intent: &PeerIntent, history: PeerHistory) -> Option<PeerKey> {
        let speaker = self.speakers.get_mut(speaker)?;
        let external = intent.asn != speaker.intent.asn;
        let key = PeerKey(self.next_peer);
        self.next_peer += 1;
        let index = speaker.add_peer(peer_info(intent, external, None), intent.inbound_route_map.as_ref());
        let mut peer = Peer::new(key, intent.clone(), speaker, index, self.seed, history);
        peer.instance_drained = self.drained;
        peer.session.offer_restart(restart_offer(intent, self.is_restarting()));
        self.peer_ids.insert(intent.id.clone(), key);
        self.peers.insert(key, peer);
        Some(key)
    }

    /// Takes over what needs no other session.
    fn update_peer(&mut self, now: Instant, key: PeerKey, intent: &PeerIntent) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.intent == *intent {
            return;
        }
        let before = std::mem::replace(&mut peer.intent, intent.clone());
        if before.import_preference != intent.import_preference
            && let Some(speaker) = self.speakers.get_mut(&peer.speaker)
        {
            speaker.update_peer(peer.index, peer.info());
            speaker.unsettled = true;
        }
        if before.inbound_route_map != intent.inbound_route_map
            && let Some(speaker) = self.speakers.get_mut(&peer.speaker)
        {
            speaker.set_inbound_map(peer.index, peer.info(), intent.inbound_route_map.as_ref());
        }
        if (before.route_limit, before.route_limit_warning_percent)
            != (intent.route_limit, intent.route_limit_warning_percent)
        {
            peer.warned = false;
            self.drive(now, key, session::Input::Pardon);
            self.check_limit(now, key);
        }
        if before.drain != intent.drain {
            self.drained_or_not(key);
        }
        match (before.admin_down, intent.admin_down) {
            (false, true) => {
                let stop = stop(CeaseSubcode::AdministrativeShutdown, "held down by the operator");
                self.drive(now, key, stop);
                self.release_all(key);
            }
            (true, false) => self.start(now, key),
            (false, false) if before.bfd != intent.bfd => self.start_or_wait(now, key),
            _ => {}
        }
    }

    /// It may have waited for BFD, and need not any more; or it is dialled, and has to wait from now on.
    fn start_or_wait(&mut self, now: Instant, key: PeerKey) {
        let is_down = self.peers.get(&key).is_some_and(|peer| peer.up.is_none());
        match is_down && self.waits_for_bfd(key) {
            true => self.drive(now, key, stop(CeaseSubcode::BfdDown, "it waits for BFD")),
            false => self.start(now, key),
        }
    }

    pub(super) fn start(&mut self, now: Instant, key: PeerKey) {
        let is_let = self.peers.get(&key).is_some_and(|peer| !peer.intent.admin_down);
        if is_let && !self.leaving && !self.waits_for_bfd(key) {
            self.drive(now, key, session::Input::Start);
        }
    }

    /// Says where to listen, and for whom, if that changed.
    fn listen(&mut self) {
        let listeners: Vec<Listener> = self
            .speakers
            .values()
            .flat_map(|speaker| {
                let peers = speaker.peers.iter().filter_map(|key| self.peers.get(key));
                let endpoints: Vec<_> = peers.map(|peer| endpoint(&peer.intent, speaker)).collect();
                speaker.intent.addresses().map(move |local| Listener {
                    speaker: speaker.intent.id.clone(),
                    local,
                    namespace: speaker.intent.namespace.clone(),
                    peers: endpoints.iter().filter(|peer| peer.local == local).cloned().collect(),
                })
            })
            .collect();
        if listeners != self.listeners {
            self.listeners = listeners.clone();
            self.outputs.push_back(Output::Listen(listeners));
        }
    }
}

fn stop(subcode: CeaseSubcode, reason: &str) -> session::Input {
    session::Input::Stop {
        subcode,
        reason: reason.to_owned(),
    }
}
