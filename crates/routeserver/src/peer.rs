//! One peering of this instance: its session, and what we know of the peer beside its routes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bgp::session::{ConnectionId, Negotiated, Session, SessionConfig, SessionHistory};
use bgp::wire::{
    CapabilitySet, GracefulRestart, LongLived, LongLivedGracefulRestart, MAX_RESTART_TIME_SECS, MAX_STALE_TIME_SECS,
    RestartOffer,
};
use bgp::{BgpIdentifier, FamilySet};
use rib::{PeerIndex, PeerInfo};

use crate::instance::{Endpoint, Fullness, Liveness, PeerKey};
use crate::intent::PeerIntent;
use crate::speaker::{Speaker, precedence, source_of};

pub(crate) mod retention;
use retention::{Kept, Retention};

/// A peer that has said nothing of routes for so long after Established, or after its last UPDATE, has said all that it has.
/// End-of-RIB says so at once, but only speakers of RFC 4724 send it, and many of those only to speakers of graceful restart.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
/// The table that a session begins with takes no longer, whether or not its end is ever told: one who never stops talking must not be
/// waited for as one who has just come.
pub(crate) const LONGEST_FIRST_TABLE: Duration = Duration::from_secs(60);

/// A peer that is dialled more seldom might as well be held down.
const MAX_CONNECT_RETRY_SECS: u64 = 3600;

/// One peering.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) intent: PeerIntent,
    /// Id of the speaker that it is a peer of.
    pub(crate) speaker: String,
    /// It is of another AS.
    pub(crate) external: bool,
    /// In the speaker's RIB.
    pub(crate) index: PeerIndex,
    pub(crate) session: Session,
    pub(crate) up: Option<Up>,
    /// What is kept of a session that has ended.
    pub(crate) retention: Retention,
    /// The operator drains the instance: see [`Peer::is_drained`].
    pub(crate) instance_drained: bool,
    /// Has told all its routes once: the instance need not wait for it any more.
    pub(crate) heard_out: bool,
    /// The warning threshold was crossed and told.
    pub(crate) warned: bool,
    /// What it held for long, in octets: what is more has come lately.
    pub(crate) settled_octets: usize,
    /// How full the circuit was when it was last looked at, if the peer is one's edge.
    pub(crate) circuit: Fullness,
    /// Of its BFD session, if it is to have one.
    pub(crate) bfd: Liveness,
    pub(crate) updates_received: u64,
    pub(crate) mended_updates: u64,
    /// The last failure told as an event: a peer that is away for a day makes one, not a thousand.
    pub(crate) last_failure: Option<String>,
    /// Where its session stands in the instance's timers.
    pub(crate) deadline: Option<Instant>,
}

/// What outlives a peering's session when a change of settings makes another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerHistory {
    pub(crate) session: SessionHistory,
    pub(crate) updates_received: u64,
    pub(crate) mended_updates: u64,
}

/// An Established session.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) connection: ConnectionId,
    pub(crate) negotiated: Negotiated,
    pub(crate) since: Instant,
    /// Established, or the last UPDATE, whichever is later.
    pub(crate) last_update: Instant,
    pub(crate) end_of_rib: FamilySet,
    /// What comes in bulk before is still of the table that the session began with.
    pub(crate) first_table_until: Instant,
    /// The session was told that nothing moves.
    pub(crate) write_blocked: bool,
}

impl Peer {
    pub(crate) fn new(
        key: PeerKey,
        intent: PeerIntent,
        speaker: &Speaker,
        index: PeerIndex,
        seed: u64,
        history: PeerHistory,
    ) -> Peer {
        let config = session_config(key, &intent, speaker, seed);
        let session = Session::with_history(config, history.session);
        Peer {
            speaker: speaker.intent.id.clone(),
            external: intent.asn != speaker.intent.asn,
            index,
            session,
            up: None,
            retention: Retention::default(),
            instance_drained: false,
            heard_out: false,
            warned: false,
            settled_octets: 0,
            circuit: Fullness::default(),
            bfd: Liveness::default(),
            updates_received: history.updates_received,
            mended_updates: history.mended_updates,
            last_failure: None,
            deadline: None,
            intent,
        }
    }

    pub(crate) fn into_history(self) -> PeerHistory {
        PeerHistory {
            session: self.session.status().history,
            updates_received: self.updates_received,
            mended_updates: self.mended_updates,
        }
    }

    /// What the decision process must know of it.
    pub(crate) fn info(&self) -> PeerInfo {
        let identifier = self.up.as_ref().map(|up| up.negotiated.peer_identifier);
        PeerInfo {
            last_resort: self.is_drained(),
            ..peer_info(&self.intent, self.external, identifier)
        }
    }

    /// The operator wants packets to go other ways: what it says, and what it is told, is a last resort.
    pub(crate) fn is_drained(&self) -> bool {
        self.intent.drain || self.instance_drained
    }

    /// When what is kept of a family ends, or changes.
    pub(crate) fn kept_until(&self, kept: &Kept) -> Option<Instant> {
        let Some(back_by) = kept.back_by else {
            return kept.until;
        };
        // A speaker of RFC 4724 says End-of-RIB, and may take its time before: silence means nothing. Of others it is all there is.
        let says_when = |up: &Up| up.negotiated.restart.is_some();
        let quiet_at = self.quiet_at().filter(|_| !self.up.as_ref().is_some_and(says_when));
        Some(quiet_at.map_or(back_by, |at| at.min(back_by)))
    }

    /// When its session wants to be woken, or something kept ends.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let kept = self.retention.iter().filter_map(|(_, kept)| self.kept_until(&kept));
        kept.chain(self.session.poll_timeout()).min()
    }

    /// Whether a piece of a table that comes now is of the one that the session began with.
    pub(crate) fn is_first_table(&mut self, now: Instant) -> bool {
        let quiet = self.is_quiet(now);
        self.up.as_mut().is_some_and(|up| {
            if quiet || up.said_end_of_rib() {
                up.first_table_until = up.first_table_until.min(now);
            }
            now < up.first_table_until
        })
    }

    /// When it counts as heard out if it stays quiet; `None`: not before something happens.
    pub(crate) fn quiet_at(&self) -> Option<Instant> {
        let up = self.up.as_ref()?;
        Some(up.last_update + QUIET)
    }

    /// Whether it has been quiet for so long that it has told all its routes.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_at().is_some_and(|at| at <= now)
    }
}

impl Up {
    /// Whether End-of-RIB came for every family of the session.
    pub(crate) fn said_end_of_rib(&self) -> bool {
        let families = self.negotiated.capabilities.families;
        self.end_of_rib.intersection(families) == families
    }
}

/// A peer's facts; before its first session its identifier is 0.
pub(crate) fn peer_info(intent: &PeerIntent, external: bool, identifier: Option<BgpIdentifier>) -> PeerInfo {
    let source = source_of(intent.kind);
    PeerInfo {
        identifier: identifier.unwrap_or(BgpIdentifier(Ipv4Addr::UNSPECIFIED)),
        address: intent.address,
        asn: intent.asn,
        external,
        source,
        import_preference: intent.import_preference.saturating_add(precedence(source)),
        last_resort: intent.drain,
    }
}

/// Whether the change of settings needs another session. Limits, preference, route maps, BFD, draining and the operator's hold do not.
pub(crate) fn needs_reset(before: &PeerIntent, after: &PeerIntent) -> bool {
    let same_session = PeerIntent {
        name: after.name.clone(),
        route_limit: after.route_limit,
        route_limit_warning_percent: after.route_limit_warning_percent,
        import_preference: after.import_preference,
        admin_down: after.admin_down,
        bfd: after.bfd.clone(),
        drain: after.drain,
        inbound_route_map: after.inbound_route_map.clone(),
        outbound_route_map: after.outbound_route_map.clone(),
        ..before.clone()
    };
    same_session != *after
}

pub(crate) fn endpoint(intent: &PeerIntent, speaker: &Speaker) -> Endpoint {
    Endpoint {
        local: speaker.intent.address_towards(intent.address),
        remote: intent.address,
        namespace: speaker.intent.namespace.clone(),
        md5_password: intent.md5_password.clone(),
        ttl_security_hops: intent.ttl_security_hops,
    }
}

fn session_config(key: PeerKey, intent: &PeerIntent, speaker: &Speaker, seed: u64) -> SessionConfig {
    let azure = SessionConfig::azure(bgp_identifier(speaker.intent.address), intent.address, intent.asn);
    SessionConfig {
        local_asn: speaker.intent.asn,
        //= https://www.rfc-editor.org/rfc/rfc4271#section-4.2
        //# The Hold Time MUST be either zero or at least three seconds.
        hold_time_secs: match intent.hold_time_secs {
            1 | 2 => 3,
            secs => secs,
        },
        send_hold_time: (intent.send_hold_secs > 0).then(|| Duration::from_secs(intent.send_hold_secs.into())),
        dial: intent.dial,
        connect_retry: Duration::from_secs(intent.connect_retry_secs.clamp(1, MAX_CONNECT_RETRY_SECS)),
        jitter_seed: seed ^ (u64::from(key.0) << 32),
        capabilities: CapabilitySet {
            enhanced_route_refresh: intent.enhanced_route_refresh,
            extended_message: intent.extended_messages,
            ..azure.capabilities
        },
        restart: restart_offer(intent, false),
        ..azure
    }
}

/// What a peer is offered for the time after a session. Kernels keep their routes whatever becomes of an instance, so packets are forwarded
/// on (F); whether this life of ours is not the first (R) is said until it has converged.
pub(crate) fn restart_offer(intent: &PeerIntent, restarted: bool) -> RestartOffer {
    if !intent.graceful_restart {
        return RestartOffer::default();
    }
    let stale_time_secs = intent.long_lived_stale_time_secs.min(MAX_STALE_TIME_SECS);
    let long_lived = LongLived {
        forwarding: true,
        stale_time_secs,
    };
    RestartOffer {
        graceful: Some(GracefulRestart {
            restarted,
            notification: true,
            restart_time_secs: intent.graceful_restart_time_secs.clamp(1, MAX_RESTART_TIME_SECS),
            families: FamilySet::BOTH,
            forwarding: FamilySet::BOTH,
        }),
        long_lived: (stale_time_secs > 0).then(|| LongLivedGracefulRestart::of(FamilySet::BOTH, long_lived)),
    }
}

/// The instance's own address (az §2.1); of an IPv6 address the last four octets.
pub(crate) fn bgp_identifier(address: IpAddr) -> BgpIdentifier {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
    };
    // RFC 6286 §2.1: any number but zero, unique within the AS.
    let bits = u32::from_be_bytes(octets).max(1);
    BgpIdentifier(Ipv4Addr::from(bits))
}
