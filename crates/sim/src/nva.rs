//! An NVA: a speaker with a session to each instance, which says what it announces and remembers what it is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bgp::session::{ConnectionId, Direction, Input, Output, Session, SessionConfig};
use bgp::wire::{
    DecodeContext, Decoder, EncodeContext, GracefulRestart, Message, PathAttributes, RefreshKind, RestartOffer, Update,
    pack_announcement, pack_end_of_rib, pack_withdrawal,
};
use bgp::{Asn, BgpIdentifier, Family, FamilySet, IpNet};
use bytes::{Bytes, BytesMut};

/// How long a restart may take.
pub const RESTART_TIME_SECS: u16 = 120;

/// What an NVA wants done.
#[derive(Debug)]
pub enum Want {
    /// Dial this instance.
    Dial(usize),
    /// Write.
    Write(ConnectionId, Bytes),
    /// Close.
    Close(ConnectionId),
}

/// One of the NVA's two sessions.
#[derive(Debug)]
struct Leg {
    session: Session,
    decoders: BTreeMap<ConnectionId, (Decoder, Option<DecodeContext>)>,
    established: Option<(ConnectionId, EncodeContext)>,
    learned: BTreeMap<IpNet, Arc<PathAttributes>>,
}

/// A network virtual appliance.
#[derive(Debug)]
pub struct Nva {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its AS number.
    pub asn: Asn,
    /// Its process runs.
    pub alive: bool,
    /// It offers graceful restart, and its kernel goes on without it.
    pub restarts_gracefully: bool,
    /// What it announces (to both instances).
    pub announced: BTreeMap<IpNet, PathAttributes>,
    legs: [Leg; 2],
    seed: u64,
}

impl Nva {
    /// An NVA that peers with two instances at these addresses.
    pub fn new(address: Ipv4Addr, asn: Asn, instances: [IpAddr; 2], seed: u64) -> Nva {
        Nva {
            address,
            asn,
            alive: false,
            restarts_gracefully: false,
            announced: BTreeMap::new(),
            legs: instances.map(|instance| leg(address, asn, instance, seed, false)),
            seed,
        }
    }

    /// The process starts, with nothing remembered but its configuration.
    pub fn start(&mut self, now: Instant, instances: [IpAddr; 2]) {
        self.alive = true;
        self.seed = self.seed.wrapping_add(1);
        let gracefully = self.restarts_gracefully;
        self.legs = instances.map(|instance| leg(self.address, self.asn, instance, self.seed, gracefully));
        for leg in &mut self.legs {
            leg.session.handle(now, Input::Start);
        }
    }

    /// The process dies.
    pub fn kill(&mut self) {
        self.alive = false;
    }

    /// What an instance has told it.
    pub fn learned(&self, instance: usize) -> &BTreeMap<IpNet, Arc<PathAttributes>> {
        &self.legs[instance].learned
    }

    /// Whether its session with an instance is Established.
    pub fn is_established(&self, instance: usize) -> bool {
        self.legs[instance].established.is_some()
    }

    /// Announces, or announces otherwise.
    pub fn announce(&mut self, prefix: IpNet, attributes: PathAttributes) -> Vec<Want> {
        let mut wants = Vec::new();
        for leg in &self.legs {
            if let Some((connection, encode)) = leg.established {
                let mut out = BytesMut::new();
                pack_announcement(&mut out, encode, &attributes, family(&prefix), [prefix]);
                wants.push(Want::Write(connection, out.freeze()));
            }
        }
        self.announced.insert(prefix, attributes);
        wants
    }

    /// Withdraws.
    pub fn withdraw(&mut self, prefix: &IpNet) -> Vec<Want> {
        self.announced.remove(prefix);
        let mut wants = Vec::new();
        for leg in &self.legs {
            if let Some((connection, encode)) = leg.established {
                let mut out = BytesMut::new();
                pack_withdrawal(&mut out, encode, family(prefix), [*prefix]);
                wants.push(Want::Write(connection, out.freeze()));
            }
        }
        wants
    }

    /// A session's connection is there.
    pub fn connected(&mut self, now: Instant, instance: usize, connection: ConnectionId, direction: Direction) {
        let leg = &mut self.legs[instance];
        leg.decoders.insert(connection, (Decoder::new(), None));
        leg.session.handle(now, Input::Connected { connection, direction });
    }

    /// A dial failed.
    pub fn dial_failed(&mut self, now: Instant, instance: usize) {
        self.legs[instance].session.handle(
            now,
            Input::DialFailed {
                reason: "refused".to_owned(),
            },
        );
    }

    /// Bytes came.
    pub fn received(&mut self, now: Instant, instance: usize, connection: ConnectionId, bytes: &[u8]) -> Vec<Want> {
        if let Some((decoder, _)) = self.legs[instance].decoders.get_mut(&connection) {
            decoder.push(bytes);
        }
        let mut wants = Vec::new();
        // One message at a time: what a message makes of the session decides how the next one is read.
        loop {
            let leg = &mut self.legs[instance];
            let Some((decoder, _)) = leg.decoders.get_mut(&connection) else {
                break;
            };
            match decoder.next_message() {
                Ok(Some(message)) => leg.session.handle(now, Input::Received { connection, message }),
                Ok(None) => break,
                Err(error) => {
                    leg.session.handle(now, Input::Malformed { connection, error });
                    leg.decoders.remove(&connection);
                }
            }
            wants.extend(self.drain(instance));
        }
        wants
    }

    /// The connection is gone.
    pub fn closed(&mut self, now: Instant, instance: usize, connection: ConnectionId) {
        let leg = &mut self.legs[instance];
        leg.decoders.remove(&connection);
        leg.session.handle(
            now,
            Input::Closed {
                connection,
                reason: "closed".to_owned(),
            },
        );
    }

    /// Timers.
    pub fn handle_timeout(&mut self, now: Instant) {
        for leg in &mut self.legs {
            leg.session.handle_timeout(now);
        }
    }

    /// When a timer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.legs
            .iter()
            .filter(|_| self.alive)
            .filter_map(|leg| leg.session.poll_timeout())
            .min()
    }

    /// What both sessions want done.
    pub fn poll_wants(&mut self) -> Vec<Want> {
        let mut wants = self.drain(0);
        wants.extend(self.drain(1));
        wants
    }

    fn drain(&mut self, instance: usize) -> Vec<Want> {
        let mut wants = Vec::new();
        while let Some(output) = self.legs[instance].session.poll_output() {
            self.carry_out(instance, output, &mut wants);
        }
        wants
    }

    fn carry_out(&mut self, instance: usize, output: Output, wants: &mut Vec<Want>) {
        let leg = &mut self.legs[instance];
        match output {
            Output::Dial => wants.push(Want::Dial(instance)),
            Output::Send { connection, message } => wants.push(Want::Write(connection, encode(&message))),
            Output::SetDecodeContext { connection, context } => {
                if let Some((decoder, _)) = leg.decoders.get_mut(&connection) {
                    decoder.set_context(context);
                }
            }
            Output::Close { connection } => {
                leg.decoders.remove(&connection);
                wants.push(Want::Close(connection));
            }
            Output::Established(negotiated) => {
                leg.established = Some((negotiated.connection, negotiated.encode));
                wants.push(Want::Write(
                    negotiated.connection,
                    table(&self.announced, negotiated.encode),
                ));
            }
            Output::Down(_) => {
                leg.established = None;
                leg.learned.clear();
            }
            Output::Update(update) => learn(&mut leg.learned, update),
            Output::Refresh(refresh) if refresh.kind == RefreshKind::Request => {
                if let Some((connection, encode)) = leg.established {
                    wants.push(Want::Write(connection, table(&self.announced, encode)));
                }
            }
            Output::Refresh(_) | Output::AttemptFailed(_) => {}
        }
    }
}

fn leg(address: Ipv4Addr, asn: Asn, instance: IpAddr, seed: u64, gracefully: bool) -> Leg {
    let graceful = GracefulRestart {
        restarted: true,
        notification: true,
        restart_time_secs: RESTART_TIME_SECS,
        families: FamilySet::BOTH,
        forwarding: FamilySet::BOTH,
    };
    let config = SessionConfig {
        local_asn: asn,
        // Route servers have another than the edge of a circuit.
        peer_asn: None,
        jitter_seed: seed,
        restart: RestartOffer {
            graceful: gracefully.then_some(graceful),
            long_lived: None,
        },
        ..SessionConfig::azure(BgpIdentifier(address), instance, Asn::AZURE_ROUTE_SERVER)
    };
    Leg {
        session: Session::new(config),
        decoders: BTreeMap::new(),
        established: None,
        learned: BTreeMap::new(),
    }
}

fn learn(learned: &mut BTreeMap<IpNet, Arc<PathAttributes>>, update: Update) {
    for prefix in update.withdrawn {
        learned.remove(&prefix);
    }
    for announcement in update.announced {
        for prefix in announcement.prefixes {
            learned.insert(prefix, announcement.attributes.clone());
        }
    }
}

fn table(announced: &BTreeMap<IpNet, PathAttributes>, encode: EncodeContext) -> Bytes {
    let mut out = BytesMut::new();
    for (prefix, attributes) in announced {
        pack_announcement(&mut out, encode, attributes, family(prefix), [*prefix]);
    }
    pack_end_of_rib(&mut out, Family::Ipv4Unicast);
    pack_end_of_rib(&mut out, Family::Ipv6Unicast);
    out.freeze()
}

fn encode(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

fn family(prefix: &IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::Ipv4Unicast,
        IpNet::V6(_) => Family::Ipv6Unicast,
    }
}
