//! Settling: what the inputs since the last time changed is decided once, then told to agents and to peers.

use std::collections::BTreeMap;
use std::time::Instant;

use bgp::session;

use crate::delivery::Routes;
use crate::instance::{Event, Instance, Output, PeerKey};
use crate::route_server::RouteServer;
use crate::vnet::{Changed, LocRib};

impl Instance {
    /// Decides what the inputs since the last call changed, and makes the outputs for it. Call it when no input waits, or when some
    /// have been taken: what comes in bulk is put off by itself.
    pub fn settle(&mut self, now: Instant) {
        self.now = now;
        self.decide(now);
        if !self.leaving {
            self.tell_agents(now);
        }
        self.tell_peers();
        self.ask_for_routes(now);
    }

    /// A large table is decided and goes out in bounded pieces, so that inputs get their turn in between.
    pub(super) fn has_work_left(&self) -> bool {
        self.route_servers.values().any(|route_server| route_server.unsettled)
    }

    fn decide(&mut self, now: Instant) {
        let with_agents = !self.delivery.is_idle();
        for route_server in self.route_servers.values_mut() {
            let is_due = route_server.arrival.due_at().is_some_and(|at| at <= now);
            route_server.unsettled |= is_due;
            if route_server.unsettled || with_agents != route_server.loc_rib().is_some() {
                let changes = route_server.decide(now, with_agents, self.logs_routes);
                if !changes.is_empty() {
                    let route_server = route_server.intent.id.clone();
                    let event = Event::BestChanged { route_server, changes };
                    self.outputs.push_back(Output::Event(event));
                }
            }
        }
    }

    fn tell_agents(&mut self, now: Instant) {
        let routes = LocRibs(&self.route_servers);
        let (delivery, outputs) = (&mut self.delivery, &mut self.outputs);
        delivery.routes_changed(&routes, outputs);
        if std::mem::take(&mut self.topology_changed) {
            delivery.topology_changed(&self.topology, &routes, outputs);
        }
        self.check_converged(now);
        let routes = LocRibs(&self.route_servers);
        self.delivery
            .sync(&self.topology, &routes, self.converged, &mut self.outputs);
        for route_server in self.route_servers.values_mut() {
            route_server.forget_changed();
        }
    }

    fn tell_peers(&mut self) {
        for route_server in self.route_servers.values_mut().filter(|each| each.unsettled) {
            let (connections, outputs) = (&route_server.connections, &mut self.outputs);
            let mut write = |index, bytes| {
                if let Some(connection) = connections.get(&index).copied() {
                    outputs.push_back(Output::Write { connection, bytes });
                }
            };
            let more = route_server.rib.flush(&route_server.export, &mut write);
            route_server.unsettled = more || route_server.rib.has_due();
        }
    }

    /// Asks for a ROUTE-REFRESH where one is due (az §2.1). Azure resets peers without that capability; that would help nobody here, so
    /// they are left alone.
    fn ask_for_routes(&mut self, now: Instant) {
        let due = self
            .route_servers
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
        let due = |route_server: &RouteServer| route_server.refresh.due_at();
        self.route_servers.values().filter_map(due).min()
    }

    /// When what tables have brought so far is to be decided.
    pub(super) fn arrival_due_at(&self) -> Option<Instant> {
        let due = |route_server: &RouteServer| route_server.arrival.due_at();
        self.route_servers.values().filter_map(due).min()
    }

    /// After a start: has every configured peer been heard out and all been decided, or its route server waited long enough? From then on
    /// agents remove what we do not name.
    fn check_converged(&mut self, now: Instant) {
        if self.converged || self.intent_version == 0 {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.heard_out |= peer.is_quiet(now);
        }
        let waits = |route_server: &RouteServer| {
            let mut peers = route_server.peers.iter().filter_map(|key| self.peers.get(key));
            let hears = peers.any(|peer| !peer.heard_out && !peer.intent.admin_down);
            now < route_server.converge_by && (hears || !route_server.rib.is_decided())
        };
        if !self.route_servers.values().any(waits) {
            self.converged = true;
            self.event(Event::Converged);
        }
    }

    /// When convergence may be reached by time alone.
    pub(super) fn convergence_at(&self) -> Option<Instant> {
        if self.converged || self.intent_version == 0 || self.leaving {
            return None;
        }
        let limits = self.route_servers.values().map(|route_server| route_server.converge_by);
        let quiet = self
            .peers
            .values()
            .filter(|peer| !peer.heard_out)
            .filter_map(|peer| peer.quiet_at());
        limits.chain(quiet).filter(|at| *at > self.now).min()
    }
}

/// The Loc-RIBs as the tables of agents read them.
struct LocRibs<'a>(&'a BTreeMap<String, RouteServer>);

impl Routes for LocRibs<'_> {
    fn loc_rib(&self, route_server: &str) -> Option<&LocRib> {
        self.0.get(route_server)?.loc_rib()
    }

    fn changed(&self, route_server: &str) -> Option<&Changed> {
        self.0.get(route_server).map(RouteServer::changed)
    }

    fn started_over(&self, route_server: &str) -> bool {
        self.0.get(route_server).is_some_and(RouteServer::started_over)
    }
}
