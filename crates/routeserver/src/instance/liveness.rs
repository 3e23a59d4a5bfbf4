//! BFD of peers, whose sessions live beside the instance, on a thread with a clock of its own: which are wanted, what they tell, and what
//! that means for BGP (RFC 5882).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bfd::{Authentication, Diagnostic, SessionConfig, SessionStatus, State, StateChange};
use bgp::session;
use bgp::wire::{CeaseSubcode, Notification};

use crate::instance::{Event, Instance, Output, PeerKey};
use crate::intent::{BfdIntent, PeerIntent};
use crate::report::{BfdReport, LastDownReport};
use crate::speaker::Speaker;

/// A BFD session that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdWanted {
    /// With which peer.
    pub peer: PeerKey,
    /// Our address.
    pub local: IpAddr,
    /// The peer's.
    pub remote: IpAddr,
    /// Network namespace path of our address; `None`: the process's own.
    pub namespace: Option<String>,
    /// Over several hops (RFC 5883).
    pub multihop: bool,
    /// Packets that arrive with a smaller TTL are dropped; of a session on one link that is 255 anyway.
    pub least_ttl: u8,
    /// How often.
    pub config: SessionConfig,
    /// With which key.
    pub authentication: Option<Authentication>,
}

/// What a BFD session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BfdEvent {
    /// It is in another state.
    Changed {
        /// Whose.
        peer: PeerKey,
        /// How.
        change: StateChange,
        /// Where it stands.
        status: SessionStatus,
    },
    /// Where it stands, from time to time.
    Status {
        /// Whose.
        peer: PeerKey,
        /// Where it stands.
        status: SessionStatus,
    },
    /// Whether packets can be sent and received at all.
    Problem {
        /// Whose.
        peer: PeerKey,
        /// `None`: they can. Otherwise why not, for people.
        problem: Option<String>,
    },
}

/// What is known of a peer's BFD session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Liveness {
    status: Option<SessionStatus>,
    problem: Option<String>,
    last_down: Option<(Instant, String)>,
    /// Since when nothing was heard, if it went down by that.
    silent_since: Option<Instant>,
}

impl Liveness {
    fn is_up(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.state == State::Up)
    }

    /// Since when nothing is heard, if that took the session down.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// Whether the peer has ever answered.
    pub(super) fn is_in_use(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.ups > 0)
    }
}

impl Instance {
    /// Says which sessions are wanted, if that changed.
    pub(super) fn want_bfd(&mut self) {
        let peers_of = |speaker: &Speaker| {
            let peers = speaker
                .peers
                .iter()
                .filter_map(|key| Some((*key, self.peers.get(key)?)));
            let wanted = peers.filter_map(|(key, peer)| wanted(key, &peer.intent, speaker));
            wanted.collect::<Vec<_>>()
        };
        let wanted: Vec<BfdWanted> = match self.leaving {
            true => Vec::new(),
            false => self.speakers.values().flat_map(peers_of).collect(),
        };
        if wanted == self.bfd_wanted {
            return;
        }
        for peer in self.peers.values_mut() {
            // What was known is of a session that is no more.
            if peer.intent.bfd.is_none() || peer.intent.admin_down {
                peer.bfd = Liveness::default();
            }
        }
        self.bfd_wanted = wanted.clone();
        self.outputs.push_back(Output::Bfd(wanted));
    }

    /// In strict mode a session waits until the path is known to carry packets (draft-ietf-idr-bgp-bfd-strict-mode).
    pub(super) fn waits_for_bfd(&self, key: PeerKey) -> bool {
        let peer = self.peers.get(&key);
        peer.is_some_and(|peer| peer.intent.bfd.as_ref().is_some_and(|bfd| bfd.strict) && !peer.bfd.is_up())
    }

    pub(super) fn bfd(&mut self, now: Instant, event: BfdEvent) {
        match event {
            BfdEvent::Changed { peer, change, status } => self.bfd_changed(now, peer, change, status),
            BfdEvent::Status { peer, status } => {
                if let Some(peer) = self.peers.get_mut(&peer).filter(|peer| peer.intent.bfd.is_some()) {
                    peer.bfd.status = Some(status);
                }
            }
            BfdEvent::Problem { peer, problem } => {
                if let Some(peer) = self.peers.get_mut(&peer).filter(|peer| peer.intent.bfd.is_some()) {
                    peer.bfd.problem = problem;
                }
            }
        }
    }

    fn bfd_changed(&mut self, now: Instant, key: PeerKey, change: StateChange, status: SessionStatus) {
        // A word of a session that is not wanted any more may have been under way.
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.intent.bfd.is_some()) else {
            return;
        };
        peer.bfd.status = Some(status);
        let id = peer.intent.id.clone();
        if change.to == State::Up {
            peer.bfd.silent_since = None;
            self.event(Event::BfdUp { peer: id });
            self.start(now, key);
        } else if change.from == State::Up {
            let reason = down_reason(&change);
            peer.bfd.last_down = Some((now, reason.clone()));
            let is_silent = change.diagnostic == Diagnostic::DETECTION_TIME_EXPIRED;
            peer.bfd.silent_since = is_silent.then(|| now.checked_sub(change.silence)).flatten();
            self.silent_after_standstill(key);
            let path_lost = change.is_path_lost();
            self.event(Event::BfdDown {
                peer: id,
                reason: reason.clone(),
                path_lost,
            });
            if path_lost {
                //= https://www.rfc-editor.org/rfc/rfc5882#section-4.3.2.1
                //# In this case, a BFD session failure implies that data can no longer be forwarded, so any Graceful Restart in progress at
                //# the time of the BFD session failure SHOULD be aborted
                // Of a neighbour whose BFD dies with its BGP nothing can be told from silence: that is what a restart looks like (§4.3.2.2).
                if change.remote_is_independent {
                    self.end_graceful(now, key);
                }
                self.path_lost(now, key, reason);
            }
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc5882#section-4.2.1
    //# when a BFD session transitions from Up to Down, action SHOULD be taken in the control protocol to signal the lack of connectivity for
    //# the path over which BFD is running.
    fn path_lost(&mut self, now: Instant, key: PeerKey, reason: String) {
        let is_strict = self.waits_for_bfd(key);
        let is_up = self.peers.get(&key).is_some_and(|peer| peer.up.is_some());
        if is_strict {
            let stop = session::Input::Stop {
                subcode: CeaseSubcode::BfdDown,
                reason,
            };
            self.drive(now, key, stop);
        } else if is_up {
            //= https://www.rfc-editor.org/rfc/rfc9384#section-3
            //# When a BGP connection is terminated due to a BFD session going into the Down state, the BGP speaker SHOULD send a NOTIFICATION
            //# message with the error code "Cease" and the error subcode "BFD Down".
            // As one who has left: a path that flaps is tried again soon first, then with pauses.
            let reset = session::Input::Reset {
                notification: Notification::cease(CeaseSubcode::BfdDown),
                reason,
                offence: Some(session::Offence::Departure),
            };
            self.drive(now, key, reset);
        }
    }
}

/// The session that a peer is to have; `None`: none.
fn wanted(peer: PeerKey, intent: &PeerIntent, speaker: &Speaker) -> Option<BfdWanted> {
    let bfd = intent.bfd.as_ref().filter(|_| !intent.admin_down)?;
    let hops = intent.ttl_security_hops;
    Some(BfdWanted {
        peer,
        local: speaker.intent.address,
        remote: intent.address,
        namespace: speaker.intent.namespace.clone(),
        multihop: is_multihop(bfd, intent, speaker),
        least_ttl: hops.map_or(0, |hops| u8::MAX - hops.saturating_sub(1)),
        config: SessionConfig {
            desired_min_tx: Duration::from_millis(bfd.min_tx_ms.into()),
            required_min_rx: Duration::from_millis(bfd.min_rx_ms.into()),
            detect_mult: bfd.multiplier,
        },
        // Its length was checked when it was set.
        authentication: bfd.authentication.as_ref().and_then(|with| {
            let key = with.key.expose().as_bytes();
            Authentication::new(with.kind, with.key_id, key).ok()
        }),
    })
}

/// NVAs are in other subnets than instances, with a router in between; only what shares the instance's subnet is on its link.
fn is_multihop(bfd: &BfdIntent, intent: &PeerIntent, speaker: &Speaker) -> bool {
    let subnet = speaker.intent.subnet;
    let on_link = || subnet.is_some_and(|subnet| subnet.contains(&intent.address));
    bfd.multihop.unwrap_or_else(|| !on_link())
}

fn down_reason(change: &StateChange) -> String {
    match change.diagnostic {
        Diagnostic::DETECTION_TIME_EXPIRED => {
            let silence_ms = change.silence.as_millis();
            format!("BFD down after {silence_ms} ms without a packet (detection time expired)")
        }
        Diagnostic::NEIGHBOR_SIGNALED_DOWN if change.is_path_lost() => {
            "BFD down: the peer says that it hears nothing".to_owned()
        }
        Diagnostic::NEIGHBOR_SIGNALED_DOWN => "BFD down: the peer holds it down; BGP goes on".to_owned(),
        diagnostic => format!("BFD {}: {diagnostic}", change.to),
    }
}

/// What is known of the peer's BFD session; `None`: there is to be none.
pub(super) fn report(now: Instant, intent: &PeerIntent, liveness: &Liveness, speaker: &Speaker) -> Option<BfdReport> {
    let bfd = intent.bfd.as_ref()?;
    let status = liveness.status.as_ref();
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let ago_secs = |at: Instant| now.saturating_duration_since(at).as_secs();
    Some(BfdReport {
        state: status.map_or(State::Down, |status| status.state).to_string(),
        remote_state: status.map(|status| status.remote_state.to_string()),
        diagnostic: status.map(|status| status.diagnostic.to_string()),
        remote_diagnostic: status.map(|status| status.remote_diagnostic.to_string()),
        strict: bfd.strict,
        multihop: is_multihop(bfd, intent, speaker),
        authenticated: bfd.authentication.is_some(),
        tx_interval_ms: status.and_then(|status| status.tx_interval).map(milliseconds),
        rx_interval_ms: status.and_then(|status| status.rx_interval).map(milliseconds),
        detection_time_ms: status.and_then(|status| status.detection_time).map(milliseconds),
        local_discriminator: status.map(|status| status.discriminator.0.get()),
        remote_discriminator: status.and_then(|status| Some(status.remote_discriminator?.0.get())),
        since_secs: status.and_then(|status| status.since).map(ago_secs),
        ups: status.map_or(0, |status| status.ups),
        downs: status.map_or(0, |status| status.downs),
        packets_sent: status.map_or(0, |status| status.sent),
        packets_received: status.map_or(0, |status| status.received),
        packets_discarded: status.map_or(0, |status| status.discarded),
        last_down: (liveness.last_down.as_ref()).map(|(at, reason)| LastDownReport::new(now, *at, reason.clone())),
        problem: liveness.problem.clone(),
    })
}
