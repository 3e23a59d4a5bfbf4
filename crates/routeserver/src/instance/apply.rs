//! A change of intent: only what differs is touched, in this order: what is no more leaves, what stays takes over its settings,
//! what is there now comes, addresses are listened on, sessions start.

use std::sync::Arc;
use std::time::Instant;

use bgp::session;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::instance::{Instance, Listener, Output, PeerKey};
use crate::intent::{Intent, PeerIntent, RouteServerIntent};
use crate::peer::{Peer, PeerHistory, endpoint, needs_reset, peer_info};
use crate::route_server::RouteServer;
use crate::vnet::Topology;
use bgp::wire::CeaseSubcode;

/// Histories of peers that were removed to come back with another session, by id.
type Histories = FxHashMap<String, PeerHistory>;

impl Instance {
    pub(super) fn apply_intent(&mut self, now: Instant, intent: Arc<Intent>) {
        if intent.version < self.intent_version || self.leaving {
            return;
        }
        self.intent_version = intent.version;
        self.logs_routes = intent.logs_routes;
        self.topology = Topology::new(intent.clone());
        self.topology_changed = true;
        let mut histories = Histories::default();
        self.remove_route_servers(now, &intent, &mut histories);
        let mut fresh = Vec::new();
        for route_server in &intent.route_servers {
            self.apply_route_server(now, route_server, &mut histories, &mut fresh);
        }
        self.listen();
        for key in fresh {
            self.start(now, key);
        }
    }

    /// Removes route servers that are no more, and those that change so much that no session survives it.
    fn remove_route_servers(&mut self, now: Instant, intent: &Intent, histories: &mut Histories) {
        let wanted: FxHashMap<&String, &RouteServerIntent> = intent
            .route_servers
            .iter()
            .map(|route_server| (&route_server.id, route_server))
            .collect();
        let mut going = Vec::new();
        for (id, route_server) in &self.route_servers {
            match wanted.get(id) {
                Some(intent) if route_server.keeps_sessions(intent) => {}
                Some(_) => going.push((id.clone(), CeaseSubcode::OtherConfigurationChange)),
                None => going.push((id.clone(), CeaseSubcode::PeerDeconfigured)),
            }
        }
        for (id, subcode) in going {
            let keys = self
                .route_servers
                .get(&id)
                .map(|route_server| route_server.peers.clone());
            for key in keys.into_iter().flatten() {
                histories.extend(self.remove_peer(now, key, subcode));
            }
            self.route_servers.remove(&id);
        }
    }

    fn apply_route_server(
        &mut self,
        now: Instant,
        intent: &RouteServerIntent,
        histories: &mut Histories,
        fresh: &mut Vec<PeerKey>,
    ) {
        match self.route_servers.get_mut(&intent.id) {
            Some(route_server) => {
                self.topology_changed = true;
                route_server.update(now, intent.clone(), &self.topology);
            }
            None => {
                let route_server = RouteServer::new(intent.clone(), self.index, self.key, now, &self.topology);
                self.route_servers.insert(intent.id.clone(), route_server);
            }
        }
        self.remove_peers(now, intent, histories);
        let mut keys = Vec::with_capacity(intent.peers.len());
        let mut seen = FxHashSet::default();
        for peer in intent.peers.iter().filter(|peer| seen.insert(&peer.id)) {
            match self.peer_ids.get(&peer.id).copied() {
                Some(key) => {
                    self.update_peer(now, key, peer);
                    keys.push(key);
                }
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
        if let Some(route_server) = self.route_servers.get_mut(&intent.id) {
            route_server.reconsider_if_due();
            // Another outbound route map has another number.
            for peer in keys.iter().filter_map(|key| self.peers.get(key)) {
                if let Some(up) = &peer.up {
                    let group = route_server.group(&peer.intent, &up.negotiated);
                    route_server.rib.regroup(peer.index, group);
                }
            }
            route_server.peers = keys;
        }
    }

    /// Removes peers that are no more, and those that need another session; these come back as others.
    fn remove_peers(&mut self, now: Instant, intent: &RouteServerIntent, histories: &mut Histories) {
        let wanted: FxHashMap<&String, &PeerIntent> = intent.peers.iter().map(|peer| (&peer.id, peer)).collect();
        let keys = self
            .route_servers
            .get(&intent.id)
            .map(|route_server| route_server.peers.clone());
        for key in keys.into_iter().flatten() {
            let Some(peer) = self.peers.get(&key) else {
                continue;
            };
            match wanted.get(&peer.intent.id) {
                None => {
                    self.remove_peer(now, key, CeaseSubcode::PeerDeconfigured);
                }
                Some(after) if needs_reset(&peer.intent, after) => {
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
        if let Some(route_server) = self.route_servers.get_mut(&peer.route_server) {
            route_server.connections.remove(&peer.index);
            route_server.remove_peer(peer.index);
            route_server.unsettled = true;
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

    fn add_peer(&mut self, route_server: &str, intent: &PeerIntent, history: PeerHistory) -> Option<PeerKey> {
        let route_server = self.route_servers.get_mut(route_server)?;
        let key = PeerKey(self.next_peer);
        self.next_peer += 1;
        let index = route_server.add_peer(peer_info(intent, None), intent.inbound_route_map.as_ref());
        let peer = Peer::new(key, intent.clone(), route_server, index, self.seed, history);
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
            && let Some(route_server) = self.route_servers.get_mut(&peer.route_server)
        {
            route_server.update_peer(peer.index, peer.info());
            route_server.unsettled = true;
        }
        if before.inbound_route_map != intent.inbound_route_map
            && let Some(route_server) = self.route_servers.get_mut(&peer.route_server)
        {
            route_server.set_inbound_map(peer.index, peer.info(), intent.inbound_route_map.as_ref());
        }
        if (before.route_limit, before.route_limit_warning_percent)
            != (intent.route_limit, intent.route_limit_warning_percent)
        {
            peer.warned = false;
            self.drive(now, key, session::Input::Pardon);
            self.check_limit(now, key);
        }
        match (before.admin_down, intent.admin_down) {
            (false, true) => {
                let stop = stop(CeaseSubcode::AdministrativeShutdown, "held down by the operator");
                self.drive(now, key, stop);
            }
            (true, false) => self.start(now, key),
            _ => {}
        }
    }

    fn start(&mut self, now: Instant, key: PeerKey) {
        if self.peers.get(&key).is_some_and(|peer| !peer.intent.admin_down) {
            self.drive(now, key, session::Input::Start);
        }
    }

    /// Says where to listen, and for whom, if that changed.
    fn listen(&mut self) {
        let listeners: Vec<Listener> = self
            .route_servers
            .values()
            .map(|route_server| Listener {
                route_server: route_server.intent.id.clone(),
                local: route_server.address,
                namespace: route_server.intent.namespace.clone(),
                peers: route_server
                    .peers
                    .iter()
                    .filter_map(|key| self.peers.get(key))
                    .map(|peer| endpoint(&peer.intent, route_server))
                    .collect(),
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
