//! The instance: all inputs come in here, in order; all outputs leave here, in order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp::session::{ConnectionId, Direction};
use bgp::wire::{Announcement, DecodeContext, Message, MessageError};
use bgp::{Family, IpNet, Password};
use bytes::Bytes;
use rib::Change;

use crate::delivery::{AgentId, TableId, ToAgent};
use crate::intent::Intent;
use crate::report::AgentCounts;

mod apply;
mod circuits;
mod liveness;
mod losses;
mod machine;
mod memory;
mod reports;
mod retention;
mod sessions;
mod settle;
mod standstill;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod through;
mod what_if;

pub(crate) use circuits::Fullness;
pub(crate) use liveness::Liveness;
pub use liveness::{BfdEvent, BfdWanted};
pub use machine::Instance;
pub use what_if::{Heard, MAX_HEARD, NotHeard, Outline, TooManyRoutes, read_heard, what_if, write_heard};

/// A peering of this instance, dense and stable while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

/// What can happen to an instance.
#[derive(Clone, Debug)]
pub enum Input {
    /// Management wants this. Peers that did not change keep their sessions.
    Intent(Arc<Intent>),
    /// Somebody dialled one of our addresses. Whoever is no peer gets [`Output::Close`].
    Accepted {
        /// Its name from now on.
        connection: ConnectionId,
        /// The [`Listener::speaker`] that accepted: two virtual networks may use the same addresses.
        speaker: String,
        /// Our address and port.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
    },
    /// A dial succeeded.
    Connected {
        /// The peer dialled.
        peer: PeerKey,
        /// The connection's name from now on.
        connection: ConnectionId,
    },
    /// A dial failed.
    DialFailed {
        /// The peer dialled.
        peer: PeerKey,
        /// For people.
        reason: String,
    },
    /// Messages came in on a connection, in order: as many as were read at once.
    Received {
        /// Which connection.
        connection: ConnectionId,
        /// In order.
        messages: Vec<Message>,
    },
    /// The bytes that followed make no message.
    Malformed {
        /// Which connection.
        connection: ConnectionId,
        /// What and which NOTIFICATION.
        error: MessageError,
    },
    /// The connection is gone.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// For people.
        reason: String,
    },
    /// The peer takes no more for now (true) or again (false): the connection's bounded write buffer is full or has drained.
    Backpressure {
        /// Which connection.
        connection: ConnectionId,
        /// Full.
        full: bool,
        /// Nothing at all has moved since the last report: the send hold timer (RFC 9687) should run.
        stalled: bool,
    },
    /// A BFD session tells something.
    Bfd(BfdEvent),
    /// An agent follows these NICs (ARM ids in lower case): all that it follows, replacing what it said before.
    AgentFollows {
        /// Its stream.
        agent: AgentId,
        /// Its name, for reports.
        name: String,
        /// NIC ids.
        nics: Vec<String>,
        /// It knows of tables in layers; one of an earlier release gets whole ones.
        layers: bool,
    },
    /// An agent has installed (or failed to install) a generation for a NIC.
    AgentInstalled {
        /// Its stream.
        agent: AgentId,
        /// NIC id.
        nic: String,
        /// Table.
        table: TableId,
        /// Generation.
        generation: u64,
        /// The base below the table and its generation, if there is one.
        base: Option<(TableId, u64)>,
        /// What could not be done, for people; empty when all is in the kernel.
        problems: Vec<String>,
        /// What happened to the kernel's table since the agent started.
        counts: AgentCounts,
    },
    /// The agent's stream takes no more (true) or again (false). What it was told lately may be lost then: a slow agent catches up by
    /// snapshot.
    AgentBackpressure {
        /// Its stream.
        agent: AgentId,
        /// Full.
        full: bool,
    },
    /// The agent's stream ended.
    AgentGone {
        /// Its stream.
        agent: AgentId,
    },
    /// Whether an own address of a speaker of this instance could be bound: health tells.
    AddressPresent {
        /// Speaker id.
        speaker: String,
        /// The address.
        local: IpAddr,
        /// `None`: listening. Otherwise why not, for people.
        problem: Option<String>,
    },
    /// The operator resets a peer (our API): Cease / Administrative Reset.
    ResetPeer {
        /// bgpConnection id.
        peer: String,
        /// Only ask for a route refresh.
        soft: bool,
    },
    /// So much memory the process has now. To be told often while [`Instance::memory_ceiling`] is one, after freed memory was given back if it
    /// is more than [`Instance::memory_mark`].
    Memory {
        /// Octets.
        used: u64,
        /// What waits to be written on connections, where that is much.
        waiting: Vec<(ConnectionId, usize)>,
    },
    /// Packets are to go through the other instance (true), or through both again.
    Drain {
        /// Until the process ends or the operator says otherwise.
        on: bool,
    },
    /// The process stood still until now: it was stopped, or nobody let it run. Peers may have taken it for dead.
    StoodStill {
        /// For so long.
        lasted: Duration,
    },
    /// The process is asked to leave: Cease / Administrative Shutdown to all but those with whom graceful restart was agreed on.
    Shutdown,
}

/// How to reach or accept a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Our address; port 179 to listen, any to dial.
    pub local: IpAddr,
    /// The peer's address; port 179 to dial.
    pub remote: IpAddr,
    /// Network namespace path of our address; `None`: the process's own.
    pub namespace: Option<String>,
    /// TCP MD5 password.
    pub md5_password: Option<Password>,
    /// TTL security: hops.
    pub ttl_security_hops: Option<u8>,
}

/// What an instance wants done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// The complete list of addresses to listen on, with their peers (for MD5 keys and TTL). Replaces the list before.
    Listen(Vec<Listener>),
    /// The complete list of BFD sessions that are to be there. Replaces the list before.
    Bfd(Vec<BfdWanted>),
    /// Dial a peer; answer with [`Input::Connected`] or [`Input::DialFailed`].
    Dial {
        /// Which peer.
        peer: PeerKey,
        /// How.
        endpoint: Endpoint,
    },
    /// From now on read UPDATEs of this connection so.
    SetDecodeContext {
        /// Which.
        connection: ConnectionId,
        /// How.
        context: DecodeContext,
    },
    /// Write bytes (whole messages, in order).
    Write {
        /// Where.
        connection: ConnectionId,
        /// What; shared between connections without copying.
        bytes: Bytes,
    },
    /// Close after what was written has left, or after 1 s.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Tell these agents.
    ToAgents {
        /// Streams.
        agents: Vec<AgentId>,
        /// The message.
        message: ToAgent,
    },
    /// Another life begins: agents are welcomed to that (another epoch, a later one) before they hear anything more.
    NewLife,
    /// Something a person may want to read.
    Event(Event),
    /// After [`Input::Shutdown`]: all is said, the process may end when the writes are out.
    Finished,
}

/// One speaker's address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Id of the route server or gateway.
    pub speaker: String,
    /// Our address; port 179.
    pub local: IpAddr,
    /// Network namespace path; `None`: the process's own.
    pub namespace: Option<String>,
    /// Its peers: MD5 keys and TTL are per peer, other callers are turned away by [`Output::Close`].
    pub peers: Vec<Endpoint>,
}

/// Events for the log and the route log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session came up.
    PeerUp {
        /// bgpConnection id.
        peer: String,
        /// Who opened the connection.
        direction: Direction,
    },
    /// A session went down.
    PeerDown {
        /// bgpConnection id.
        peer: String,
        /// For people.
        reason: String,
    },
    /// A dial or a session attempt failed.
    PeerFailed {
        /// bgpConnection id.
        peer: String,
        /// For people.
        reason: String,
    },
    /// A BFD session came up: packets get through in both directions.
    BfdUp {
        /// bgpConnection id.
        peer: String,
    },
    /// A BFD session is up no more.
    BfdDown {
        /// bgpConnection id.
        peer: String,
        /// For people.
        reason: String,
        /// The path is lost, and BGP ends for it; otherwise one of both holds BFD down, and BGP goes on.
        path_lost: bool,
    },
    /// RFC 7606 mended something.
    UpdateMended {
        /// bgpConnection id.
        peer: String,
        /// For people: what was wrong with this one.
        what: String,
        /// How many there have been. Told of the first, the second, the fourth, and so on.
        count: u64,
    },
    /// A peer passed the warning threshold of its limit.
    RouteLimitNear {
        /// bgpConnection id.
        peer: String,
        /// Distinct prefixes held.
        held: usize,
        /// The limit.
        limit: u32,
    },
    /// The process has nearly as much memory as it may have: the session with the peer that holds most of what came lately was ended.
    MemoryShort {
        /// bgpConnection id; `None`: no peer holds much, so nobody can help.
        peer: Option<String>,
        /// What the peer holds, in octets and roughly.
        held: usize,
        /// What the process has, MiB.
        used_mib: u64,
        /// What it may have, MiB.
        ceiling_mib: u64,
    },
    /// An ExpressRoute gateway has told a circuit four fifths of what it takes, or more than that.
    CircuitRoutes {
        /// Id of the peering with the provider's edge.
        peer: String,
        /// Prefixes told.
        told: usize,
        /// The limit.
        limit: u32,
    },
    /// A caller from an address that is no peer.
    UnknownCaller {
        /// Who.
        remote: SocketAddr,
    },
    /// A session has ended, and routes that came through it are kept; or they are kept in another way from now on.
    RoutesKept {
        /// bgpConnection id.
        peer: String,
        /// Of this family.
        family: Family,
        /// graceful, long-lived or persisted.
        phase: &'static str,
        /// How many routes of the peer are stale.
        routes: usize,
        /// The phase ends in so many seconds; `None`: never.
        until_secs: Option<u64>,
    },
    /// What was kept and not said again is gone.
    RoutesReleased {
        /// bgpConnection id.
        peer: String,
        /// Of this family.
        family: Family,
        /// How many.
        routes: usize,
    },
    /// Converging has ended.
    Converged,
    /// The process stood still for so long that peers gave it up. It converges again, and what it said before stays meanwhile.
    StoodStill {
        /// For so long.
        lasted: Duration,
    },
    /// A peer announced routes. Only with [`crate::Intent::logs_routes`], like those below.
    Announced {
        /// bgpConnection id.
        peer: String,
        /// As it came.
        announcement: Announcement,
    },
    /// A peer withdrew routes.
    Withdrawn {
        /// bgpConnection id.
        peer: String,
        /// Which.
        prefixes: Vec<IpNet>,
    },
    /// What holds for these prefixes is another choice now, or none.
    BestChanged {
        /// Id of the route server or gateway.
        speaker: String,
        /// Each prefix once.
        changes: Vec<Change>,
    },
}
