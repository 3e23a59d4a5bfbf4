//! All sessions of a process: whose a packet is (RFC 5880 §6.3, RFC 5881 §3, RFC 5883 §4), and who is to be woken next.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Instant;

use crate::authentication::Authentication;
use crate::discard::Discard;
pub use crate::discriminators::Seed;
use crate::discriminators::Unpredictable;
use crate::packet::{ControlPacket, Discriminator};
use crate::session::{self, Session, SessionConfig, SessionStatus, StateChange};

/// No process has more peers; those beyond get no session.
pub const MAX_SESSIONS: usize = 16_384;

/// Between whom a session is. No two sessions have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Which of the owner's networks: the same addresses may be in several.
    pub network: u32,
    /// Our address.
    pub local: IpAddr,
    /// The neighbour's.
    pub remote: IpAddr,
    /// Over several hops (RFC 5883) rather than on one link (RFC 5881).
    pub multihop: bool,
}

/// Where and how a packet has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Between whom it went.
    pub path: Path,
    /// What was left of its time to live.
    pub ttl: u8,
}

/// What can happen to sessions, which the owner names by `K`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<K> {
    /// There is to be this session. Other intervals leave a session up, another path or authentication is another session.
    Want {
        /// Its name.
        key: K,
        /// Between whom.
        path: Path,
        /// How often.
        config: SessionConfig,
        /// With which key.
        authentication: Option<Authentication>,
        /// Packets with less are dropped; on one link 255, whatever is here (RFC 5881 §5).
        least_ttl: u8,
    },
    /// There is to be no such session any more: the neighbour is told for a while that it is held down.
    Drop {
        /// Its name.
        key: K,
    },
    /// Octets have come in.
    Received {
        /// Where.
        arrival: Arrival,
        /// Which.
        octets: Vec<u8>,
    },
}

/// What sessions want done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<K> {
    /// Send this, from a source port of the session's own (RFC 5881 §4), with a TTL of 255.
    Transmit {
        /// Whose.
        key: K,
        /// Between whom.
        path: Path,
        /// What.
        octets: Vec<u8>,
    },
    /// A session is in another state.
    Changed {
        /// Which.
        key: K,
        /// How.
        change: StateChange,
    },
    /// Nothing will be sent for this session any more.
    Gone {
        /// Which.
        key: K,
        /// Between whom it was.
        path: Path,
    },
}

#[derive(Debug)]
struct Member<K> {
    key: K,
    path: Path,
    least_ttl: u8,
    authentication: Option<Authentication>,
    config: SessionConfig,
    session: Session,
    /// Held down for good; forgotten then.
    leaves_at: Option<Instant>,
    /// Where it stands in `deadlines`.
    deadline: Option<Instant>,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions<K> {
    /// By discriminator: that is what packets have.
    members: HashMap<Discriminator, Member<K>>,
    keys: BTreeMap<K, Discriminator>,
    paths: HashMap<Path, Discriminator>,
    deadlines: BTreeSet<(Instant, Discriminator)>,
    unpredictable: Unpredictable,
    discarded: BTreeMap<Discard, u64>,
    outputs: VecDeque<Output<K>>,
}

impl<K: Clone + Debug + Ord + Hash> Sessions<K> {
    /// None yet.
    pub fn new(seed: Seed) -> Sessions<K> {
        Sessions {
            members: HashMap::new(),
            keys: BTreeMap::new(),
            paths: HashMap::new(),
            deadlines: BTreeSet::new(),
            unpredictable: Unpredictable::new(seed),
            discarded: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Instant, input: Input<K>) {
        match input {
            Input::Want {
                key,
                path,
                config,
                authentication,
                least_ttl,
            } => self.want(now, key, path, config, authentication, least_ttl),
            Input::Drop { key } => self.hold_down(now, &key),
            Input::Received { arrival, octets } => {
                if let Err(reason) = self.received(now, &arrival, &octets) {
                    *self.discarded.entry(reason).or_default() += 1;
                }
            }
        }
    }

    /// Acts on what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, discriminator)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            let Some(member) = self.members.get_mut(&discriminator) else {
                self.deadlines.pop_first();
                continue;
            };
            if member.leaves_at.is_some_and(|at| at <= now) {
                self.forget(discriminator);
                continue;
            }
            member.session.handle_timeout(now);
            self.drain(discriminator);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output<K>> {
        self.outputs.pop_front()
    }

    /// When [`Sessions::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Where each wanted session stands.
    pub fn statuses(&self) -> impl Iterator<Item = (&K, Path, SessionStatus)> {
        let members = self
            .keys
            .values()
            .filter_map(|discriminator| self.members.get(discriminator));
        members.map(|member| (&member.key, member.path, member.session.status()))
    }

    /// Where a wanted session stands.
    pub fn status(&self, key: &K) -> Option<SessionStatus> {
        let member = self.members.get(self.keys.get(key)?)?;
        Some(member.session.status())
    }

    /// How many packets were dropped, and why.
    pub fn discarded(&self) -> &BTreeMap<Discard, u64> {
        &self.discarded
    }

    fn want(
        &mut self,
        now: Instant,
        key: K,
        path: Path,
        config: SessionConfig,
        authentication: Option<Authentication>,
        least_ttl: u8,
    ) {
        let least_ttl = if path.multihop { least_ttl } else { crate::TTL };
        if let Some(discriminator) = self.keys.get(&key).copied()
            && let Some(member) = self.members.get_mut(&discriminator)
            && member.path == path
            && member.authentication == authentication
        {
            member.least_ttl = least_ttl;
            if member.config != config {
                member.config = config;
                member.session.handle(now, session::Input::Configure(config));
                self.drain(discriminator);
            }
            return;
        }
        if let Some(before) = self.keys.get(&key).copied() {
            self.forget(before);
        }
        // Somebody who is being held down for good, or another name for the same two: the later word counts.
        if let Some(before) = self.paths.get(&path).copied() {
            self.forget(before);
        }
        if self.members.len() >= MAX_SESSIONS {
            return;
        }
        let members = &self.members;
        let discriminator = self.unpredictable.discriminator(|taken| members.contains_key(&taken));
        let seed = self.unpredictable.next();
        let member = Member {
            session: Session::new(now, config, discriminator, authentication.clone(), seed),
            key: key.clone(),
            path,
            least_ttl,
            authentication,
            config,
            leaves_at: None,
            deadline: None,
        };
        self.members.insert(discriminator, member);
        self.keys.insert(key, discriminator);
        self.paths.insert(path, discriminator);
        self.drain(discriminator);
    }

    fn hold_down(&mut self, now: Instant, key: &K) {
        let Some(discriminator) = self.keys.remove(key) else {
            return;
        };
        if let Some(member) = self.members.get_mut(&discriminator) {
            member.session.handle(now, session::Input::AdminDown);
            member.leaves_at = Some(now + member.session.farewell());
        }
        self.drain(discriminator);
    }

    fn forget(&mut self, discriminator: Discriminator) {
        let Some(member) = self.members.remove(&discriminator) else {
            return;
        };
        if self.keys.get(&member.key) == Some(&discriminator) {
            self.keys.remove(&member.key);
        }
        if let Entry::Occupied(entry) = self.paths.entry(member.path)
            && *entry.get() == discriminator
        {
            entry.remove();
        }
        if let Some(at) = member.deadline {
            self.deadlines.remove(&(at, discriminator));
        }
        self.outputs.push_back(Output::Gone {
            key: member.key,
            path: member.path,
        });
    }

    fn received(&mut self, now: Instant, arrival: &Arrival, octets: &[u8]) -> Result<(), Discard> {
        let packet = ControlPacket::parse(octets)?;
        //= https://www.rfc-editor.org/rfc/rfc5880#section-6.8.6
        //# If the Your Discriminator field is nonzero, it MUST be used to select the session with which this BFD packet is associated. If no
        //# session is found, the packet MUST be discarded. If the Your Discriminator field is zero, the session MUST be selected based on some
        //# combination of other fields, possibly including source addressing information.
        let discriminator = match packet.your_discriminator {
            Some(discriminator) => Some(discriminator),
            None => self.paths.get(&arrival.path).copied(),
        };
        let discriminator = discriminator.ok_or(Discard::NoSession)?;
        let member = self.members.get_mut(&discriminator).ok_or(Discard::NoSession)?;
        // BGP peers have one address each, so whoever knows a discriminator and has another one is somebody else.
        if member.path != arrival.path {
            return Err(Discard::WrongPath);
        }
        if arrival.ttl < member.least_ttl {
            return Err(Discard::Ttl);
        }
        member.session.handle(now, session::Input::Received(packet));
        self.drain(discriminator);
        Ok(())
    }

    /// Takes over what a session wants, and notes when it wants to be woken.
    fn drain(&mut self, discriminator: Discriminator) {
        let Some(member) = self.members.get_mut(&discriminator) else {
            return;
        };
        while let Some(output) = member.session.poll_output() {
            let (key, path) = (member.key.clone(), member.path);
            match output {
                session::Output::Transmit(octets) => self.outputs.push_back(Output::Transmit { key, path, octets }),
                // Whoever is leaving is nobody's any more.
                session::Output::Changed(_) if member.leaves_at.is_some() => {}
                session::Output::Changed(change) => self.outputs.push_back(Output::Changed { key, change }),
                session::Output::Discarded(reason) => *self.discarded.entry(reason).or_default() += 1,
            }
        }
        let deadline = member.session.poll_timeout().into_iter().chain(member.leaves_at).min();
        if deadline != member.deadline {
            if let Some(before) = std::mem::replace(&mut member.deadline, deadline) {
                self.deadlines.remove(&(before, discriminator));
            }
            self.deadlines.extend(deadline.map(|at| (at, discriminator)));
        }
    }
}
