//! The network between NVAs and instances: connections that deliver bytes in order, late, or never again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bgp::session::ConnectionId;
use bytes::Bytes;

use crate::random::Random;

/// The longest a packet takes.
const LATENCY_MAX_MS: usize = 20;

/// Which NVA and which instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The NVA's number.
    pub nva: usize,
    /// The instance's index.
    pub instance: usize,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The NVA's.
    Nva,
    /// The instance's.
    Instance,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Side {
        match self {
            Side::Nva => Side::Instance,
            Side::Instance => Side::Nva,
        }
    }
}

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A connection is there. For the end that dialled: it succeeded.
    Opened,
    /// Bytes.
    Bytes(Bytes),
    /// The connection is gone.
    Closed,
}

#[derive(Clone, Debug)]
struct Connection {
    link: Link,
    /// Per side: when the last packet towards it arrives. Later ones arrive later.
    last_arrival: [Instant; 2],
    /// Per side: whether it still wants to hear.
    open: [bool; 2],
}

/// A packet with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose.
    pub link: Link,
    /// To which end.
    pub to: Side,
    /// What.
    pub packet: Packet,
}

/// All connections and everything under way.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    under_way: BTreeMap<(Instant, u64), Delivery>,
    sequence: u64,
    cut: std::collections::BTreeSet<Link>,
}

impl Network {
    /// A connection, opened by either end; both hear of it.
    pub fn open(&mut self, now: Instant, random: &mut Random, link: Link) -> ConnectionId {
        self.sequence += 1;
        let id = ConnectionId(self.sequence);
        self.connections.insert(
            id,
            Connection {
                link,
                last_arrival: [now; 2],
                open: [true; 2],
            },
        );
        self.send(now, random, id, Side::Nva, Packet::Opened);
        self.send(now, random, id, Side::Instance, Packet::Opened);
        id
    }

    /// Puts a packet on its way to one end. Nothing passes a cut link.
    pub fn send(&mut self, now: Instant, random: &mut Random, id: ConnectionId, to: Side, packet: Packet) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if self.cut.contains(&connection.link) || !connection.open[to as usize] {
            return;
        }
        let latency = Duration::from_micros(50 + random.below(LATENCY_MAX_MS * 1000) as u64);
        let arrival = (now + latency).max(connection.last_arrival[to as usize]);
        connection.last_arrival[to as usize] = arrival;
        self.sequence += 1;
        let delivery = Delivery {
            connection: id,
            link: connection.link,
            to,
            packet,
        };
        self.under_way.insert((arrival, self.sequence), delivery);
    }

    /// One end closes: it hears nothing more, the other hears that.
    pub fn close(&mut self, now: Instant, random: &mut Random, id: ConnectionId, from: Side) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.open[from as usize] = false;
        }
        self.send(now, random, id, from.other(), Packet::Closed);
    }

    /// A process dies: the kernel closes all its connections.
    pub fn close_all(&mut self, now: Instant, random: &mut Random, from: Side, whose: impl Fn(Link) -> bool) {
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| whose(c.link))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.close(now, random, id, from);
        }
    }

    /// Cuts a link: silence, and what is under way is lost. Connections over it never recover; their ends find out by timers.
    pub fn cut(&mut self, link: Link) {
        self.cut.insert(link);
        self.under_way.retain(|_, delivery| delivery.link != link);
        self.connections.retain(|_, connection| connection.link != link);
    }

    /// Mends a link.
    pub fn mend(&mut self, link: Link) {
        self.cut.remove(&link);
    }

    /// Whether packets pass.
    pub fn passes(&self, link: Link) -> bool {
        !self.cut.contains(&link)
    }

    /// Whether the connection still exists; over a link that was cut meanwhile it does not.
    pub fn exists(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// When the next packet arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// Takes a packet that has arrived.
    pub fn take(&mut self, now: Instant) -> Option<Delivery> {
        let key = *self.under_way.keys().next().filter(|(at, _)| *at <= now)?;
        let delivery = self.under_way.remove(&key)?;
        let open = self
            .connections
            .get(&delivery.connection)
            .is_some_and(|c| c.open[delivery.to as usize]);
        if open { Some(delivery) } else { self.take(now) }
    }
}
