//! What becomes of a peer's routes when its session ends, family by family: kept in which phase, until when, and what comes after.
//!
//! ```text
//! session ends ─► graceful ─► long-lived ─► persisted ─► gone        those that apply, each for its time
//! session is back: what is said again is as before; End-of-RIB, or its bound, ends it all
//! ```
//! Pure: [`crate::instance`] carries it out.

use std::time::{Duration, Instant};

use bgp::Family;
use bgp::session::{DownReason, Negotiated};
use bgp::wire::CeaseSubcode;

use crate::intent::PersistRoutes;

/// A peer that is back has told its table within this, whether or not it says so.
//= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
//# To put an upper bound on the amount of time a router retains the stale routes, an implementation MAY support a (configurable)
//# timer that imposes this upper bound.
pub(crate) const LONGEST_RESYNC: Duration = Duration::from_secs(360);

/// How routes are kept whose session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// As good as before: the peer goes on to forward packets (RFC 4724).
    Graceful,
    /// A last resort (RFC 9494).
    LongLived,
    /// A last resort that we impose (`persistRoutes`).
    Persisted,
}

impl Phase {
    /// As reports say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Graceful => "graceful",
            Phase::LongLived => "long-lived",
            Phase::Persisted => "persisted",
        }
    }
}

/// Which phases apply, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phases {
    graceful: Duration,
    long_lived: Duration,
    persisted: PersistRoutes,
}

impl Phases {
    /// What the way a session ended allows for one of its families. `stale_time` is what we grant at most.
    pub(crate) fn after(
        reason: &DownReason,
        negotiated: &Negotiated,
        family: Family,
        stale_time: Duration,
        persisted: PersistRoutes,
    ) -> Phases {
        if !negotiated.capabilities.families.contains(family) || reason.is_for_good() {
            return Phases::default();
        }
        let mut phases = Phases {
            persisted,
            ..Phases::default()
        };
        let Some(restart) = negotiated.restart.filter(|restart| restart.covers(reason)) else {
            return phases;
        };
        // Where packets do not arrive, nobody goes on to forward them.
        if restart.families.contains(family) && !is_bfd_down(reason) {
            phases.graceful = restart.restart_time;
        }
        if let Some(long_lived) = restart.long_lived.get(family) {
            phases.long_lived = Duration::from_secs(long_lived.stale_time_secs.into()).min(stale_time);
        }
        phases
    }

    /// The first one from `earliest` on that applies.
    fn first(&self, earliest: Phase) -> Option<(Phase, Option<Duration>)> {
        match earliest {
            Phase::Graceful if !self.graceful.is_zero() => Some((Phase::Graceful, Some(self.graceful))),
            Phase::Graceful => self.first(Phase::LongLived),
            Phase::LongLived if !self.long_lived.is_zero() => Some((Phase::LongLived, Some(self.long_lived))),
            Phase::LongLived => self.first(Phase::Persisted),
            Phase::Persisted => match self.persisted {
                PersistRoutes::Off => None,
                PersistRoutes::Forever => Some((Phase::Persisted, None)),
                PersistRoutes::Minutes(minutes) => {
                    Some((Phase::Persisted, Some(Duration::from_secs(60 * u64::from(minutes)))))
                }
            },
        }
    }
}

fn is_bfd_down(reason: &DownReason) -> bool {
    match reason {
        DownReason::NotificationSent(notification, _) | DownReason::NotificationReceived(notification) => {
            notification.is_cease(CeaseSubcode::BfdDown)
        }
        DownReason::ConnectionLost(_) | DownReason::SendHoldTimerExpired => false,
    }
}

/// Routes of a family that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) phase: Phase,
    /// When the session ended.
    pub(crate) since: Instant,
    phase_since: Instant,
    /// When the phase ends; `None`: never.
    pub(crate) until: Option<Instant>,
    phases: Phases,
    /// The peer is back: when it has told all at the latest.
    pub(crate) back_by: Option<Instant>,
}

impl Kept {
    /// From the end of a session; `None`: nothing is kept.
    pub(crate) fn begin(now: Instant, phases: Phases) -> Option<Kept> {
        Kept::enter(now, now, phases, Phase::Graceful)
    }

    fn enter(since: Instant, now: Instant, phases: Phases, earliest: Phase) -> Option<Kept> {
        let (phase, time) = phases.first(earliest)?;
        Some(Kept {
            phase,
            since,
            phase_since: now,
            until: time.map(|time| now + time),
            phases,
            back_by: None,
        })
    }

    /// The phase has ended and the peer is not back: the next one, if there is any.
    pub(crate) fn next(&self, now: Instant) -> Option<Kept> {
        let earliest = match self.phase {
            Phase::Graceful => Phase::LongLived,
            Phase::LongLived => Phase::Persisted,
            Phase::Persisted => return None,
        };
        Kept::enter(self.since, now, self.phases, earliest)
    }

    /// The session ended again before the peer had told all.
    //= https://www.rfc-editor.org/rfc/rfc9494#section-4.2
    //# in the case of consecutive restarts, the previously marked stale routes MUST NOT be deleted before the timer for the
    //# Long-Lived Stale Time expires.
    // Nor is the timer set again, whatever the peer has said meanwhile. After a graceful phase they are deleted, as RFC 4724 §4.2 has it:
    // RFC 8538 §4.1 would rather keep them, but the peer was back and has not said them again.
    pub(crate) fn again(&self, now: Instant, phases: Phases) -> Option<Kept> {
        let goes_on =
            self.phase != Phase::Graceful && phases.first(self.phase).is_some_and(|(phase, _)| phase == self.phase);
        let has_time = self.until.is_none_or(|until| until > now);
        (goes_on && has_time).then_some(Kept { back_by: None, ..*self })
    }

    /// Whether a peer that is back has these routes still.
    //= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
    //# if the "Forwarding State" bit for a specific address family is not set in the newly received Graceful Restart Capability, or
    //# if a specific address family is not included in the newly received Graceful Restart Capability, or if the Graceful Restart
    //# Capability is not received in the re-established session at all, then the Receiving Speaker MUST immediately remove all the
    //# stale routes from the peer that it is retaining for that address family.
    // RFC 9494 §4.2 says the same of its own capability. What we persist does not depend on the peer's word.
    pub(crate) fn outlives(&self, negotiated: &Negotiated, family: Family) -> bool {
        let restart = negotiated.restart;
        match self.phase {
            Phase::Graceful => {
                restart.is_some_and(|restart| restart.families.contains(family) && restart.forwarding.contains(family))
            }
            Phase::LongLived => restart.is_some_and(|restart| {
                restart
                    .long_lived
                    .get(family)
                    .is_some_and(|long_lived| long_lived.forwarding)
            }),
            Phase::Persisted => negotiated.capabilities.families.contains(family),
        }
    }

    /// The peer is back, and has until then to tell all.
    pub(crate) fn back(&self, now: Instant) -> Kept {
        Kept {
            back_by: Some(now + LONGEST_RESYNC),
            ..*self
        }
    }

    /// Another setting of the route server. `None`: they are not kept any more.
    pub(crate) fn with_persistence(&self, persisted: PersistRoutes) -> Option<Kept> {
        let mut kept = *self;
        kept.phases.persisted = persisted;
        if kept.phase == Phase::Persisted {
            let (_, time) = kept.phases.first(Phase::Persisted)?;
            kept.until = time.map(|time| kept.phase_since + time);
        }
        Some(kept)
    }
}

/// What is kept of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retention {
    ipv4_unicast: Option<Kept>,
    ipv6_unicast: Option<Kept>,
}

impl Retention {
    pub(crate) fn get(&self, family: Family) -> Option<Kept> {
        match family {
            Family::Ipv4Unicast => self.ipv4_unicast,
            Family::Ipv6Unicast => self.ipv6_unicast,
        }
    }

    pub(crate) fn set(&mut self, family: Family, kept: Option<Kept>) {
        match family {
            Family::Ipv4Unicast => self.ipv4_unicast = kept,
            Family::Ipv6Unicast => self.ipv6_unicast = kept,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Family, Kept)> + use<> {
        let families = [
            (Family::Ipv4Unicast, self.ipv4_unicast),
            (Family::Ipv6Unicast, self.ipv6_unicast),
        ];
        families.into_iter().filter_map(|(family, kept)| Some((family, kept?)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
