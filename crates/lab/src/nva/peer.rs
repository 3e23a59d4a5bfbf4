//! One peer of the builtin NVA: its session, its connections, and what was learned from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::session::{ConnectionId, Input, Negotiated, Output, Session, SessionConfig};
use bgp::wire::{
    Community, EncodeContext, GracefulRestart, LongLived, LongLivedGracefulRestart, PathAttributes, RefreshKind,
    RestartOffer, Update, pack_announcement, pack_end_of_rib, pack_withdrawal,
};
use bgp::{Asn, BgpIdentifier, Family, FamilySet, IpNet};
use bytes::BytesMut;
use daemon::connection::Connection;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::NvaConfig;
use super::transit::Learned;
use crate::topology::{Neighbour, Path};

/// Dialled again soon: in a lab somebody is watching.
const CONNECT_RETRY: Duration = Duration::from_secs(1);
const MAX_IDLE_HOLD: Duration = Duration::from_secs(4);

/// One peer.
pub(super) struct Peer {
    pub(super) neighbour: Neighbour,
    session: Session,
    connections: HashMap<ConnectionId, Connection>,
    established: Option<Negotiated>,
    learned: BTreeMap<IpNet, Learned>,
    /// Learned in a session that has ended, and kept since both agreed on that (RFC 4724).
    stale: BTreeSet<IpNet>,
    /// Until then.
    stale_until: Option<Instant>,
    /// It has said End-of-RIB in this session.
    has_told_all: bool,
    /// What it has been told in this session.
    told: BTreeMap<IpNet, Path>,
}

/// What a peer wants of its owner.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Dial it.
    pub(super) dial: bool,
    /// What was learned changed.
    pub(super) learned: bool,
    /// It is Established since now.
    pub(super) established: bool,
    /// It is to be told everything.
    pub(super) everything: bool,
}

impl Peer {
    /// `restarted`: a life before has left routes in the kernel.
    pub(super) fn new(config: &NvaConfig, neighbour: Neighbour, restarted: bool) -> Peer {
        let Neighbour { address, asn, .. } = neighbour;
        let mut session = SessionConfig::azure(BgpIdentifier(config.address), address.into(), Asn(asn));
        session.local_asn = Asn(config.asn);
        session.hold_time_secs = neighbour.hold_time_secs();
        session.capabilities.families = families(config);
        session.capabilities.enhanced_route_refresh = true;
        session.capabilities.extended_message = true;
        session.restart = offer(config, &neighbour, restarted);
        session.connect_retry = CONNECT_RETRY;
        session.max_idle_hold = MAX_IDLE_HOLD;
        session.jitter_seed = u64::from(u32::from(config.address) ^ u32::from(address));
        Peer {
            neighbour,
            session: Session::new(session),
            connections: HashMap::new(),
            established: None,
            learned: BTreeMap::new(),
            stale: BTreeSet::new(),
            stale_until: None,
            has_told_all: false,
            told: BTreeMap::new(),
        }
    }

    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
    }

    pub(super) fn add_connection(&mut self, connection: Connection) {
        self.connections.insert(connection.id(), connection);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let session = self.session.poll_timeout();
        [session, self.stale_until].into_iter().flatten().min()
    }

    /// Whether its word is still to come, for one that has restarted.
    pub(super) fn is_awaited(&self) -> bool {
        self.neighbour.graceful_restart.is_some() && !self.has_told_all
    }

    /// The restart is over: the next OPEN says nothing of it.
    pub(super) fn has_recovered(&mut self, config: &NvaConfig) {
        self.session.offer_restart(offer(config, &self.neighbour, false));
    }

    pub(super) fn learned(&self) -> &BTreeMap<IpNet, Learned> {
        &self.learned
    }

    pub(super) fn state(&self) -> String {
        format!("{:?}", self.session.status().state)
    }

    /// What resolves when the connections that there are now have ended.
    pub(super) fn connections_ended(&self) -> Vec<BoxFuture<'static, ()>> {
        self.connections.values().map(|c| c.ended().boxed()).collect()
    }

    /// Hands the session an input, or (`None`) fires its timers, and carries out what it wants.
    pub(super) fn handle(&mut self, config: &NvaConfig, input: Option<Input>) -> Wishes {
        let now = Instant::now();
        if let Some(Input::Closed { connection, .. }) = &input {
            self.connections.remove(connection);
        }
        match input {
            Some(input) => self.session.handle(now, input),
            None => self.session.handle_timeout(now),
        }
        let mut wishes = Wishes::default();
        if self.stale_until.is_some_and(|until| until <= now) {
            wishes.learned |= self.drop_stale();
        }
        while let Some(output) = self.session.poll_output() {
            self.carry_out(config, output, &mut wishes);
        }
        wishes
    }

    fn carry_out(&mut self, config: &NvaConfig, output: Output, wishes: &mut Wishes) {
        match output {
            Output::Dial => wishes.dial = true,
            Output::Send { connection, message } => {
                let mut bytes = BytesMut::new();
                message.encode(&mut bytes);
                self.write(connection, bytes);
            }
            Output::SetDecodeContext { connection, context } => {
                if let Some(connection) = self.connections.get(&connection) {
                    connection.set_context(context);
                }
            }
            Output::Close { connection } => drop(self.connections.remove(&connection)),
            Output::Established(negotiated) => {
                tracing::info!(peer = %self.neighbour.address, "established");
                let goes_on = negotiated
                    .restart
                    .is_some_and(|restart| restart.forwarding.contains(Family::Ipv4Unicast));
                if !goes_on {
                    wishes.learned |= self.drop_stale();
                }
                self.established = Some(negotiated);
                wishes.established = true;
                wishes.everything = true;
            }
            Output::Down(reason) => {
                tracing::info!(peer = %self.neighbour.address, ?reason, "down");
                let restart = self.established.take().and_then(|negotiated| negotiated.restart);
                self.has_told_all = false;
                match restart.filter(|restart| restart.covers(&reason)) {
                    Some(restart) => {
                        let long_lived = restart.long_lived.get(Family::Ipv4Unicast);
                        let longer = long_lived.map_or(0, |it| it.stale_time_secs);
                        self.stale = self.learned.keys().copied().collect();
                        self.stale_until =
                            Some(Instant::now() + restart.restart_time + Duration::from_secs(longer.into()));
                    }
                    None => {
                        wishes.learned |= !self.learned.is_empty();
                        self.learned.clear();
                        self.drop_stale();
                    }
                }
            }
            Output::AttemptFailed(reason) => {
                tracing::debug!(peer = %self.neighbour.address, ?reason, "not established")
            }
            Output::Update(update) => wishes.learned |= self.learn(config, &update),
            Output::Refresh(refresh) => {
                wishes.everything |= refresh.kind == RefreshKind::Request;
            }
        }
    }

    /// Takes an UPDATE; says whether anything changed.
    fn learn(&mut self, config: &NvaConfig, update: &Update) -> bool {
        let mut changed = false;
        for prefix in &update.withdrawn {
            self.stale.remove(prefix);
            changed |= self.learned.remove(prefix).is_some();
        }
        for announcement in &update.announced {
            let next_hop = announcement.attributes.next_hop();
            //= https://www.rfc-editor.org/rfc/rfc4271#section-9.1.2
            //# If the AS_PATH attribute of a BGP route contains an AS loop, the BGP
            //# route should be excluded from the Phase 2 decision function.
            let as_path: Vec<u32> = announcement.attributes.as_numbers().map(|asn| asn.0).collect();
            let learned = (!as_path.contains(&config.asn)).then_some(Learned { next_hop, as_path });
            for prefix in &announcement.prefixes {
                self.stale.remove(prefix);
                changed |= match &learned {
                    None => self.learned.remove(prefix).is_some(),
                    Some(path) => self.learned.insert(*prefix, path.clone()).as_ref() != Some(path),
                };
            }
        }
        if update.end_of_rib == Some(Family::Ipv4Unicast) {
            // A session is over IPv4 and always speaks of it; IPv6 is told before.
            self.has_told_all = true;
            changed |= self.drop_stale();
        }
        changed
    }

    /// What was kept of a session that has ended goes; says whether there was any.
    fn drop_stale(&mut self) -> bool {
        self.stale_until = None;
        let stale = std::mem::take(&mut self.stale);
        self.learned.retain(|prefix, _| !stale.contains(prefix));
        !stale.is_empty()
    }

    /// Tells the peer everything, with End-of-RIB.
    pub(super) fn tell_everything(&mut self, config: &NvaConfig, wanted: BTreeMap<IpNet, Path>) {
        self.told.clear();
        self.tell(config, wanted);
        let mut bytes = BytesMut::new();
        for family in families(config).iter() {
            pack_end_of_rib(&mut bytes, family);
        }
        if let Some(connection) = self.established.as_ref().map(|n| n.connection) {
            self.write(connection, bytes);
        }
    }

    /// Tells the peer, if it is Established, how what it is to know differs from what it has been told.
    pub(super) fn tell(&mut self, config: &NvaConfig, mut wanted: BTreeMap<IpNet, Path>) {
        let Some(negotiated) = &self.established else { return };
        let common = negotiated.capabilities.families;
        wanted.retain(|prefix, path| common.contains(family_of(prefix)) && self.next_hop(path).is_some());
        let more = wanted
            .iter()
            .filter(|(prefix, path)| self.told.get(prefix) != Some(path));
        let gone = self.told.keys().filter(|prefix| !wanted.contains_key(prefix));
        self.send(config, more.map(|(_, path)| path), gone.copied());
        self.told = wanted;
    }

    fn send<'a>(&self, config: &NvaConfig, paths: impl Iterator<Item = &'a Path>, gone: impl Iterator<Item = IpNet>) {
        let Some(negotiated) = &self.established else { return };
        let mut bytes = BytesMut::new();
        let context: EncodeContext = negotiated.encode;
        for prefix in gone {
            pack_withdrawal(&mut bytes, context, family_of(&prefix), [prefix]);
        }
        for path in paths {
            let Some(attributes) = self.attributes(config, path) else {
                continue;
            };
            let family = family_of(&path.prefix);
            pack_announcement(&mut bytes, context, &attributes, family, [path.prefix]);
        }
        self.write(negotiated.connection, bytes);
    }

    fn write(&self, connection: ConnectionId, bytes: BytesMut) {
        if let Some(connection) = self.connections.get(&connection).filter(|_| !bytes.is_empty()) {
            // What an NVA announces is configured, so it is bounded, and far below the queue's limit.
            connection.write(bytes.freeze());
        }
    }

    /// What a path is told with: its own next hop, or our address of its family.
    fn next_hop(&self, path: &Path) -> Option<IpAddr> {
        path.next_hop.or(match path.is_ipv6() {
            true => self.neighbour.local_v6.map(IpAddr::V6),
            false => Some(self.neighbour.local.into()),
        })
    }

    fn attributes(&self, config: &NvaConfig, path: &Path) -> Option<PathAttributes> {
        let own = std::iter::repeat_n(config.asn, usize::from(path.as_path_prepend) + 1);
        let as_path: Vec<Asn> = own.chain(path.as_path.iter().copied()).map(Asn).collect();
        let communities: Vec<Community> = path
            .communities
            .iter()
            .map(|(high, low)| Community::new(*high, *low))
            .collect();
        let attributes = PathAttributes::builder(self.next_hop(path)?)
            .as_sequence(&as_path)
            .med(path.med)
            .communities(&communities);
        Some(attributes.build())
    }
}

/// What is offered for the time after a session.
fn offer(config: &NvaConfig, neighbour: &Neighbour, restarted: bool) -> RestartOffer {
    let Some(restart) = neighbour.graceful_restart else {
        return RestartOffer::default();
    };
    let families = families(config);
    // The kernel goes on to forward whatever becomes of this process.
    let graceful = GracefulRestart {
        restarted,
        notification: true,
        restart_time_secs: restart.restart_secs,
        families,
        forwarding: families,
    };
    let long_lived = LongLived {
        forwarding: true,
        stale_time_secs: restart.long_lived_secs,
    };
    RestartOffer {
        graceful: Some(graceful),
        long_lived: (restart.long_lived_secs > 0).then(|| LongLivedGracefulRestart::of(families, long_lived)),
    }
}

fn families(config: &NvaConfig) -> FamilySet {
    match config.address_v6 {
        Some(_) => FamilySet::BOTH,
        None => FamilySet::IPV4,
    }
}

fn family_of(prefix: &IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::Ipv4Unicast,
        IpNet::V6(_) => Family::Ipv6Unicast,
    }
}
