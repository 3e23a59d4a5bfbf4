//! The instance's sockets towards peers: listeners, dials under way, connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bgp::session::ConnectionId;
use bgp::wire::DecodeContext;
use bytes::Bytes;
use routeserver::Input;
use routeserver::instance::{BfdWanted, Endpoint, PeerKey};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::events::{Owner, connection_queue};
use crate::connection::{
    Accepted, BGP_PORT, Connection, ConnectionEvent, DialOptions, ListenEvent, ListenOptions, Listener, PeerSecurity,
    Permit, Pressure, SocketError, dial,
};
use crate::liveness::{Liveness, Wanted};

/// What a listener is known by: the same address may be in two namespaces.
type ListenerKey = (String, IpAddr, Option<String>);

/// A listener and what it said last.
#[derive(Debug)]
struct Listening {
    listener: Listener,
    problem: Option<String>,
}

/// Everything towards peers.
#[derive(Debug)]
pub(super) struct Peers {
    owner: Owner,
    listeners: HashMap<ListenerKey, Listening>,
    dials: HashMap<PeerKey, AbortHandle>,
    /// There since a session was wanted first.
    liveness: Option<Liveness<PeerKey>>,
    connections: HashMap<ConnectionId, Connection>,
    /// What connections will say that the driver does not listen to yet.
    unheard: Vec<mpsc::Receiver<ConnectionEvent>>,
    /// Closed by us, still letting go out what was written: each for a moment.
    closing: JoinSet<()>,
    next_connection: u64,
}

impl Peers {
    pub(super) fn new(owner: Owner) -> Peers {
        Peers {
            owner,
            listeners: HashMap::new(),
            dials: HashMap::new(),
            liveness: None,
            connections: HashMap::new(),
            unheard: Vec::new(),
            closing: JoinSet::new(),
            next_connection: 0,
        }
    }

    /// What a connection has told, as input. What it told before its close counts no more.
    pub(super) fn connection(&mut self, event: ConnectionEvent) -> Option<Input> {
        match event {
            ConnectionEvent::Received { connection, messages } => {
                self.connections.get(&connection)?;
                Some(Input::Received { connection, messages })
            }
            ConnectionEvent::Malformed { connection, error } => {
                self.connections.get(&connection)?;
                Some(Input::Malformed { connection, error })
            }
            // How full it is now counts: the word may have been overtaken by writes.
            ConnectionEvent::Drained { connection } | ConnectionEvent::Moving { connection } => {
                let full = self.connections.get(&connection)?.is_full();
                Some(Input::Backpressure {
                    connection,
                    full,
                    stalled: false,
                })
            }
            ConnectionEvent::Stalled { connection } => {
                self.connections.get(&connection)?;
                Some(Input::Backpressure {
                    connection,
                    full: true,
                    stalled: true,
                })
            }
            ConnectionEvent::Closed { connection, reason } => {
                self.connections.remove(&connection)?;
                Some(Input::Closed { connection, reason })
            }
        }
    }

    pub(super) fn listen(&mut self, event: ListenEvent) -> Input {
        match event {
            ListenEvent::Accepted(Accepted {
                name,
                local,
                remote,
                stream,
                permit,
            }) => {
                let connection = self.adopt(stream, Some(permit));
                Input::Accepted {
                    connection,
                    speaker: name.to_string(),
                    local,
                    remote,
                }
            }
            ListenEvent::Problem { name, local, problem } => {
                match &problem {
                    Some(problem) => tracing::warn!(speaker = %name, %local, problem, "not listening"),
                    None => tracing::info!(speaker = %name, %local, "listening"),
                }
                let is_it = |(owner, address, _): &ListenerKey| **owner == *name && *address == local;
                let listening = self.listeners.iter_mut().find(|(key, _)| is_it(key));
                if let Some((_, listening)) = listening {
                    listening.problem.clone_from(&problem);
                }
                Input::AddressPresent {
                    speaker: name.to_string(),
                    local,
                    problem,
                }
            }
        }
    }

    pub(super) fn dialled(&mut self, peer: PeerKey, result: Result<TcpStream, SocketError>) -> Input {
        self.dials.remove(&peer);
        match result {
            Ok(stream) => Input::Connected {
                peer,
                connection: self.adopt(stream, None),
            },
            Err(error) => Input::DialFailed {
                peer,
                reason: error.to_string(),
            },
        }
    }

    /// From the listeners that are to those that are wanted. Says again what problems the kept ones have: their route server may be
    /// another one under the same id.
    pub(super) fn listen_on(&mut self, wanted: Vec<routeserver::instance::Listener>) -> Vec<Input> {
        let mut kept = HashMap::new();
        let mut problems = Vec::new();
        for listener in wanted {
            let key = (listener.speaker.clone(), listener.local, listener.namespace.clone());
            let peers: Vec<_> = listener.peers.iter().map(security).collect();
            let listening = match self.listeners.remove(&key) {
                Some(listening) => {
                    listening.listener.set_peers(peers);
                    listening
                }
                None => self.open(&listener, peers),
            };
            if let Some(problem) = listening.problem.clone() {
                problems.push(Input::AddressPresent {
                    speaker: listener.speaker,
                    local: listener.local,
                    problem: Some(problem),
                });
            }
            kept.insert(key, listening);
        }
        // Those that are left are dropped, and with it closed.
        self.listeners = kept;
        problems
    }

    fn open(&self, listener: &routeserver::instance::Listener, peers: Vec<PeerSecurity>) -> Listening {
        let options = ListenOptions {
            name: listener.speaker.as_str().into(),
            local: SocketAddr::new(listener.local, BGP_PORT),
            namespace: listener.namespace.as_ref().map(PathBuf::from),
            peers,
        };
        Listening {
            listener: Listener::spawn(options, self.owner.calls()),
            problem: None,
        }
    }

    /// Other BFD sessions from now on.
    pub(super) fn watch(&mut self, wanted: Vec<BfdWanted>) {
        if self.liveness.is_none() {
            match Liveness::spawn(self.owner.liveness()) {
                Ok(liveness) => self.liveness = Some(liveness),
                // Tried again with the next change.
                Err(error) => return tracing::error!(%error, "BFD cannot start"),
            }
        }
        let wanted = wanted.into_iter().map(|each| Wanted {
            key: each.peer,
            local: each.local,
            remote: each.remote,
            namespace: each.namespace.map(PathBuf::from),
            multihop: each.multihop,
            least_ttl: each.least_ttl,
            config: each.config,
            authentication: each.authentication,
        });
        if let Some(liveness) = &self.liveness {
            liveness.want(wanted.collect());
        }
    }

    pub(super) fn dial(&mut self, peer: PeerKey, endpoint: Endpoint) {
        let options = DialOptions {
            local: endpoint.local,
            remote: SocketAddr::new(endpoint.remote, BGP_PORT),
            namespace: endpoint.namespace.map(PathBuf::from),
            md5_password: endpoint.md5_password,
            ttl_security_hops: endpoint.ttl_security_hops,
        };
        let owner = self.owner.clone();
        let dialling = tokio::spawn(async move {
            let result = dial(options).await;
            owner.dialled(peer, result).await;
        });
        if let Some(before) = self.dials.insert(peer, dialling.abort_handle()) {
            before.abort();
        }
    }

    pub(super) fn set_context(&self, connection: ConnectionId, context: DecodeContext) {
        if let Some(connection) = self.connections.get(&connection) {
            connection.set_context(context);
        }
    }

    /// Queues bytes. An input comes back when the queue has just become full.
    pub(super) fn write(&self, connection: ConnectionId, bytes: Bytes) -> Option<Input> {
        match self.connections.get(&connection)?.write(bytes) {
            Pressure::Unchanged => None,
            Pressure::Full => Some(Input::Backpressure {
                connection,
                full: true,
                stalled: false,
            }),
        }
    }

    /// What waits to be written, of connections on which that is not nothing.
    pub(super) fn waiting(&self) -> Vec<(ConnectionId, usize)> {
        let waiting = self
            .connections
            .iter()
            .map(|(id, connection)| (*id, connection.waiting()));
        waiting.filter(|(_, octets)| *octets > 0).collect()
    }

    pub(super) fn close(&mut self, connection: ConnectionId) {
        while self.closing.try_join_next().is_some() {}
        if let Some(connection) = self.connections.remove(&connection) {
            self.closing.spawn(connection.ended());
        }
    }

    /// Closes everything; ready when what was written has left, or nobody took it.
    pub(super) async fn close_all(&mut self) {
        self.listeners.clear();
        for (_, dialling) in self.dials.drain() {
            dialling.abort();
        }
        for (_, connection) in self.connections.drain() {
            self.closing.spawn(connection.ended());
        }
        while self.closing.join_next().await.is_some() {}
    }

    fn adopt(&mut self, stream: TcpStream, permit: Option<Permit>) -> ConnectionId {
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        let (events, queue) = connection_queue(self.connections.len() + 1);
        self.connections
            .insert(id, Connection::spawn(id, stream, permit, events));
        self.unheard.push(queue);
        id
    }

    /// Connections to listen to from now on.
    pub(super) fn take_unheard(&mut self) -> impl Iterator<Item = mpsc::Receiver<ConnectionEvent>> + '_ {
        self.unheard.drain(..)
    }
}

fn security(endpoint: &Endpoint) -> PeerSecurity {
    PeerSecurity {
        address: endpoint.remote,
        md5_password: endpoint.md5_password.clone(),
        ttl_security_hops: endpoint.ttl_security_hops,
    }
}
