//! One instance, its NVAs and an agent.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::session::{self, ConnectionId, Direction, Session, SessionConfig};
use bgp::wire::{
    Decoder, EncodeContext, Message, Notification, PathAttributes, PathAttributesBuilder, pack_announcement,
    pack_end_of_rib, pack_withdrawal,
};
use bgp::{Asn, Family, FamilySet, IpNet};
use bytes::BytesMut;
use rib::HashKey;

use crate::delivery::{AgentId, ToAgent};
use crate::instance::{BfdWanted, Endpoint, Event, Input, Instance, Listener, Output, PeerKey};
use crate::intent::{Intent, PeerIntent};
use crate::peer::bgp_identifier;
use crate::report::RouteReport;
use crate::testing::*;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) instance: Instance,
    pub(super) intent: Intent,
    pub(super) nvas: BTreeMap<&'static str, Nva>,
    pub(super) events: Vec<Event>,
    pub(super) listeners: Vec<Listener>,
    pub(super) bfd_wanted: Vec<BfdWanted>,
    pub(super) to_agents: Vec<(Vec<AgentId>, ToAgent)>,
    /// How often another life has begun.
    pub(super) lives: usize,
    pub(super) finished: bool,
    connections: BTreeMap<ConnectionId, Link>,
    /// Both ends of connections between speakers of the instance itself.
    within: BTreeMap<ConnectionId, Within>,
    next_connection: u64,
}

/// One end.
struct Within {
    other: ConnectionId,
    /// What the other end has written.
    unread: Decoder,
}

/// A network virtual appliance.
pub(super) struct Nva {
    pub(super) address: IpAddr,
    /// It answers dials.
    pub(super) alive: bool,
    pub(super) session: Session,
    pub(super) connection: Option<ConnectionId>,
    /// What it has been told.
    pub(super) learned: BTreeMap<IpNet, Arc<PathAttributes>>,
    pub(super) notifications: Vec<Notification>,
    pub(super) end_of_rib: usize,
    /// UPDATE messages.
    pub(super) updates: usize,
    /// Prefixes announced and withdrawn to it, each time.
    pub(super) prefixes_heard: usize,
    /// ROUTE-REFRESH requests.
    pub(super) refreshes: usize,
    pub(super) established: usize,
    /// What its session wants sent or closed, in order.
    pending: VecDeque<session::Output>,
}

struct Link {
    nva: &'static str,
    to_nva: Decoder,
    to_instance: Decoder,
}

pub(super) fn peer(id: &str, address: &str, asn: u32) -> PeerIntent {
    PeerIntent::azure(id, ip(address), Asn(asn))
}

/// The hub and spoke with two NVAs, `nva1` (AS 65001) and `nva2` (AS 65002), sessions Established.
pub(super) fn world() -> World {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001), peer("nva2", "10.1.4.5", 65002)];
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.add_nva("nva2", "10.1.4.5", 65002, FamilySet::IPV4);
    world.send_intent();
    assert_eq!(world.nvas["nva1"].established, 1);
    assert_eq!(world.nvas["nva2"].established, 1);
    world
}

/// The hub and spoke without peers, intent not sent.
pub(super) fn idle_world() -> World {
    let now = Instant::now();
    World {
        now,
        instance: Instance::new(0, 1, 42, HashKey::new(1, 2), now),
        intent: hub_and_spoke(),
        nvas: BTreeMap::new(),
        events: Vec::new(),
        listeners: Vec::new(),
        bfd_wanted: Vec::new(),
        to_agents: Vec::new(),
        lives: 0,
        finished: false,
        connections: BTreeMap::new(),
        within: BTreeMap::new(),
        next_connection: 0,
    }
}

/// Attributes of an NVA's route: next hop and AS path.
pub(super) fn path(next_hop: &str, path: &[u32]) -> PathAttributesBuilder {
    let path: Vec<Asn> = path.iter().copied().map(Asn).collect();
    PathAttributes::builder(ip(next_hop)).as_sequence(&path)
}

fn family_of(prefix: &IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::Ipv4Unicast,
        IpNet::V6(_) => Family::Ipv6Unicast,
    }
}

impl World {
    pub(super) fn add_nva(&mut self, name: &'static str, address: &str, asn: u32, families: FamilySet) {
        let address = ip(address);
        let mut config = SessionConfig::azure(bgp_identifier(address), ip("10.1.1.4"), Asn(asn));
        config.local_asn = Asn(asn);
        config.peer_asn = None;
        config.dial = false;
        config.capabilities.families = families;
        config.capabilities.enhanced_route_refresh = true;
        let mut session = Session::new(config);
        session.handle(self.now, session::Input::Start);
        let nva = Nva {
            address,
            alive: true,
            session,
            connection: None,
            learned: BTreeMap::new(),
            notifications: Vec::new(),
            end_of_rib: 0,
            updates: 0,
            prefixes_heard: 0,
            refreshes: 0,
            established: 0,
            pending: VecDeque::new(),
        };
        self.nvas.insert(name, nva);
    }

    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Intent)) {
        edit(&mut self.intent);
        self.intent.version += 1;
        self.send_intent();
    }

    pub(super) fn send_intent(&mut self) {
        let intent = Arc::new(self.intent.clone());
        self.input(Input::Intent(intent));
    }

    pub(super) fn input(&mut self, input: Input) {
        self.instance.handle(self.now, input);
        self.run();
    }

    /// Until nobody has anything to say.
    pub(super) fn run(&mut self) {
        loop {
            self.instance.settle(self.now);
            let mut busy = false;
            while let Some(output) = self.instance.poll_output() {
                busy = true;
                self.carry_out(output);
            }
            for name in self.nvas.keys().copied().collect::<Vec<_>>() {
                busy |= self.run_nva(name);
            }
            for connection in self.within.keys().copied().collect::<Vec<_>>() {
                busy |= self.read_within(connection);
            }
            if busy {
                continue;
            }
            // Nobody here says what kernels have.
            match self.instance.head_start_until() {
                Some(until) => self.now = until,
                None => return,
            }
        }
    }

    /// Lets time pass, timer by timer.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let nvas = self.nvas.values().filter_map(|nva| nva.session.poll_timeout());
            let next = nvas.chain(self.instance.poll_timeout()).min();
            self.now = next.map_or(end, |next| next.clamp(self.now, end));
            self.instance.handle_timeout(self.now);
            for nva in self.nvas.values_mut() {
                nva.session.handle_timeout(self.now);
            }
            self.run();
            if self.now >= end {
                return;
            }
        }
    }

    pub(super) fn advance_secs(&mut self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    pub(super) fn announce(&mut self, nva: &'static str, attributes: PathAttributesBuilder, prefixes: &[&str]) {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| net(prefix)).collect();
        self.announce_nets(nva, attributes, prefixes);
    }

    pub(super) fn announce_nets(&mut self, nva: &'static str, attributes: PathAttributesBuilder, prefixes: Vec<IpNet>) {
        let mut bytes = BytesMut::new();
        let family = family_of(&prefixes[0]);
        pack_announcement(&mut bytes, ENCODE, &attributes.build(), family, prefixes);
        self.say(nva, &bytes);
    }

    pub(super) fn withdraw(&mut self, nva: &'static str, prefixes: &[&str]) {
        let mut bytes = BytesMut::new();
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| net(prefix)).collect();
        pack_withdrawal(&mut bytes, ENCODE, family_of(&prefixes[0]), prefixes);
        self.say(nva, &bytes);
    }

    pub(super) fn end_of_rib(&mut self, nva: &'static str) {
        let mut bytes = BytesMut::new();
        pack_end_of_rib(&mut bytes, Family::Ipv4Unicast);
        self.say(nva, &bytes);
    }

    /// Settles once and carries out what comes of it; nobody else gets to say anything.
    pub(super) fn settle_once(&mut self) {
        self.instance.settle(self.now);
        while let Some(output) = self.instance.poll_output() {
            self.carry_out(output);
        }
    }

    /// The NVA is gone from one moment to the next; its kernel closes the connection.
    pub(super) fn kill(&mut self, name: &'static str) {
        self.close(name);
        self.run();
    }

    /// The same, but nothing follows from it yet.
    pub(super) fn close(&mut self, name: &'static str) {
        let nva = self.nvas.get_mut(name).unwrap();
        nva.alive = false;
        let connection = nva.connection.take();
        let reason = || "killed".to_owned();
        if let Some(connection) = connection {
            nva.session.handle(
                self.now,
                session::Input::Closed {
                    connection,
                    reason: reason(),
                },
            );
            self.connections.remove(&connection);
            let reason = reason();
            self.instance.handle(self.now, Input::Closed { connection, reason });
        }
    }

    /// The NVA runs again; we dial it sooner or later.
    pub(super) fn revive(&mut self, nva: &'static str) {
        let before = self.nvas[nva].established;
        self.nvas.get_mut(nva).unwrap().alive = true;
        while self.nvas[nva].established == before {
            self.advance_secs(1);
        }
    }

    pub(super) fn notify(&mut self, nva: &'static str, notification: Notification) {
        let mut bytes = bytes::BytesMut::new();
        Message::Notification(notification).encode(&mut bytes);
        self.nvas.get_mut(nva).unwrap().alive = false;
        self.say(nva, &bytes);
    }

    pub(super) fn dial_in(&mut self, name: &'static str, remote: IpAddr) -> ConnectionId {
        let connection = self.connect(name);
        let nva = self.nvas.get_mut(name).unwrap();
        let direction = Direction::Dialled;
        nva.session
            .handle(self.now, session::Input::Connected { connection, direction });
        self.input(Input::Accepted {
            connection,
            speaker: "rs1".into(),
            local: SocketAddr::from((Ipv4Addr::new(10, 1, 1, 4), 179)),
            remote: SocketAddr::from((remote, 40000)),
        });
        connection
    }

    fn connect(&mut self, nva: &'static str) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let link = Link {
            nva,
            to_nva: Decoder::new(),
            to_instance: Decoder::new(),
        };
        self.connections.insert(connection, link);
        self.nvas.get_mut(nva).unwrap().connection = Some(connection);
        connection
    }

    /// Bytes from an NVA; all messages in one input.
    pub(super) fn say(&mut self, nva: &str, bytes: &[u8]) {
        let connection = self.nvas[nva].connection.expect("connected");
        self.send_to_instance(connection, bytes);
        self.run();
    }

    fn send_to_instance(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(link) = self.connections.get_mut(&connection) else {
            return;
        };
        link.to_instance.push(bytes);
        let mut messages = Vec::new();
        let error = loop {
            match link.to_instance.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.instance.handle(self.now, Input::Received { connection, messages });
        if let Some(error) = error {
            self.instance.handle(self.now, Input::Malformed { connection, error });
        }
    }

    fn read(&mut self, connection: ConnectionId) -> Option<Message> {
        let link = self.connections.get_mut(&connection)?;
        link.to_nva.next_message().expect("we write what can be read")
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Listen(listeners) => self.listeners = listeners,
            Output::Bfd(wanted) => self.bfd_wanted = wanted,
            Output::Dial { peer, endpoint } => {
                let accepts = |listener: &&Listener| listener.local == endpoint.remote;
                if let Some(listener) = self.listeners.iter().find(accepts) {
                    let speaker = listener.speaker.clone();
                    self.connect_within(peer, &endpoint, speaker);
                    return;
                }
                let mut nvas = self.nvas.iter().filter(|(_, nva)| nva.alive);
                let Some((name, _)) = nvas.find(|(_, nva)| nva.address == endpoint.remote) else {
                    let reason = "refused".to_owned();
                    self.instance.handle(self.now, Input::DialFailed { peer, reason });
                    return;
                };
                let name = *name;
                let connection = self.connect(name);
                let direction = Direction::Accepted;
                let nva = self.nvas.get_mut(name).unwrap();
                nva.session
                    .handle(self.now, session::Input::Connected { connection, direction });
                self.instance.handle(self.now, Input::Connected { peer, connection });
            }
            Output::SetDecodeContext { connection, context } => {
                if let Some(end) = self.within.get_mut(&connection) {
                    end.unread.set_context(context);
                }
                if let Some(link) = self.connections.get_mut(&connection) {
                    link.to_instance.set_context(context);
                }
            }
            Output::Write { connection, bytes } => {
                if let Some(other) = self.within.get(&connection).map(|end| end.other)
                    && let Some(end) = self.within.get_mut(&other)
                {
                    end.unread.push(&bytes);
                }
                let Some(link) = self.connections.get_mut(&connection) else {
                    return;
                };
                let name = link.nva;
                link.to_nva.push(&bytes);
                while let Some(message) = self.read(connection) {
                    let nva = self.nvas.get_mut(name).unwrap();
                    if let Message::Notification(notification) = &message {
                        nva.notifications.push(notification.clone());
                    }
                    nva.refreshes += usize::from(matches!(message, Message::RouteRefresh(_)));
                    nva.session
                        .handle(self.now, session::Input::Received { connection, message });
                    nva.drain(&mut self.connections);
                }
            }
            Output::Close { connection } => {
                if let Some(Within { other, .. }) = self.within.remove(&connection) {
                    self.within.remove(&other);
                    let reason = "closed".to_owned();
                    let connection = other;
                    self.instance.handle(self.now, Input::Closed { connection, reason });
                }
                if let Some(link) = self.connections.remove(&connection) {
                    let nva = self.nvas.get_mut(link.nva).unwrap();
                    nva.connection = nva.connection.filter(|current| *current != connection);
                    let reason = "closed".to_owned();
                    nva.session
                        .handle(self.now, session::Input::Closed { connection, reason });
                }
            }
            Output::ToAgents { agents, message } => self.to_agents.push((agents, message)),
            Output::NewLife => self.lives += 1,
            Output::Event(event) => self.events.push(event),
            Output::Finished => self.finished = true,
        }
    }

    /// A speaker of the instance has dialled another.
    fn connect_within(&mut self, peer: PeerKey, endpoint: &Endpoint, speaker: String) {
        let [dialled, accepted] = [1, 2].map(|n| ConnectionId(self.next_connection + n));
        self.next_connection += 2;
        for (connection, other) in [(dialled, accepted), (accepted, dialled)] {
            let unread = Decoder::new();
            self.within.insert(connection, Within { other, unread });
        }
        let local = SocketAddr::new(endpoint.remote, 179);
        let remote = SocketAddr::new(endpoint.local, 40_000);
        self.instance.handle(
            self.now,
            Input::Connected {
                peer,
                connection: dialled,
            },
        );
        let connection = accepted;
        self.instance.handle(
            self.now,
            Input::Accepted {
                connection,
                speaker,
                local,
                remote,
            },
        );
    }

    /// One message: what it makes of the decoder comes before the next.
    fn read_within(&mut self, connection: ConnectionId) -> bool {
        let Some(end) = self.within.get_mut(&connection) else {
            return false;
        };
        let Some(message) = end.unread.next_message().expect("we write what can be read") else {
            return false;
        };
        let messages = vec![message];
        self.instance.handle(self.now, Input::Received { connection, messages });
        true
    }

    fn run_nva(&mut self, name: &'static str) -> bool {
        let nva = self.nvas.get_mut(name).unwrap();
        nva.drain(&mut self.connections);
        let pending = std::mem::take(&mut nva.pending);
        let busy = !pending.is_empty();
        for output in pending {
            match output {
                session::Output::Send { connection, message } => {
                    let mut bytes = BytesMut::new();
                    message.encode(&mut bytes);
                    self.send_to_instance(connection, &bytes);
                }
                session::Output::Close { connection } => {
                    self.connections.remove(&connection);
                    let nva = self.nvas.get_mut(name).unwrap();
                    nva.connection = nva.connection.filter(|current| *current != connection);
                    let reason = "closed by the NVA".to_owned();
                    self.instance.handle(self.now, Input::Closed { connection, reason });
                }
                _ => {}
            }
        }
        busy
    }

    /// What the instance thinks of a prefix that a peer sent: `best`, or `rejected own-asn`.
    pub(super) fn verdict(&self, peer: &str, prefix: &str) -> String {
        let route = self.route(peer, prefix).expect("the peer sent it");
        match route.reason {
            Some(reason) => format!("{} {reason}", route.verdict),
            None => route.verdict,
        }
    }

    pub(super) fn route(&self, peer: &str, prefix: &str) -> Option<RouteReport> {
        let routes = self.instance.routes_of_peer(peer).expect("a peer of the intent");
        routes.into_iter().find(|route| route.network == net(prefix))
    }

    /// Next hops of a NIC's BGP route for a prefix.
    pub(super) fn next_hops(&self, nic: &str, prefix: &str) -> Vec<String> {
        let rows = self.instance.effective_routes(nic).expect("a NIC of the intent");
        let bgp = rows.into_iter().filter(|row| row.source == "VirtualNetworkGateway");
        let mut of_prefix = bgp.filter(|row| row.address_prefix == net(prefix));
        let addresses = of_prefix.next().map(|row| row.next_hop_ip_address);
        addresses.unwrap_or_default().iter().map(IpAddr::to_string).collect()
    }

    /// What an NVA has been told of a prefix: `path next-hop communities`.
    pub(super) fn told(&self, nva: &str, prefix: &str) -> Option<String> {
        let attributes = self.nvas[nva].learned.get(&net(prefix))?;
        let numbers: Vec<String> = attributes.as_numbers().map(|asn| asn.to_string()).collect();
        let mut told = format!("{} {}", numbers.join("-"), attributes.next_hop());
        for community in attributes.communities() {
            told += &format!(" {}:{}", community.0 >> 16, community.0 & 0xffff);
        }
        Some(told)
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    // Instances do not offer it.
    extended_message: false,
};

impl Nva {
    /// Notes what the session says; a decode context applies from the next message on, the rest waits its turn.
    fn drain(&mut self, connections: &mut BTreeMap<ConnectionId, Link>) {
        while let Some(output) = self.session.poll_output() {
            match output {
                session::Output::SetDecodeContext { connection, context } => {
                    if let Some(link) = connections.get_mut(&connection) {
                        link.to_nva.set_context(context);
                    }
                }
                session::Output::Send { .. } | session::Output::Close { .. } => self.pending.push_back(output),
                other => self.note(other),
            }
        }
    }

    fn note(&mut self, output: session::Output) {
        match output {
            session::Output::Established(_) => {
                self.established += 1;
                self.learned.clear();
            }
            session::Output::Down(_) => self.learned.clear(),
            session::Output::Update(update) => {
                self.updates += 1;
                let announced = update.announced.iter().map(|each| each.prefixes.len());
                self.prefixes_heard += update.withdrawn.len() + announced.sum::<usize>();
                for prefix in &update.withdrawn {
                    self.learned.remove(prefix);
                }
                for announcement in &update.announced {
                    let told = announcement.prefixes.iter();
                    self.learned
                        .extend(told.map(|prefix| (*prefix, announcement.attributes.clone())));
                }
                self.end_of_rib += usize::from(update.end_of_rib.is_some());
            }
            _ => {}
        }
    }
}
