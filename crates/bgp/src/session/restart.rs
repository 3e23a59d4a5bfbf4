//! What two OPENs agree on for the time after their session (RFC 4724, RFC 8538, RFC 9494), and whether the way it ends allows it.

use std::time::Duration;

use super::event::DownReason;
use crate::FamilySet;
use crate::wire::{CeaseSubcode, LongLivedGracefulRestart, Notification, RestartOffer};

/// What the peer asks for, where we offer as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The peer has restarted: its OPEN had the R bit.
    pub restarted: bool,
    /// Both sides go on after a NOTIFICATION that is no Hard Reset (the N bit of RFC 8538).
    pub notification: bool,
    /// The peer will be back within this.
    pub restart_time: Duration,
    /// Families of the session whose routes are to be kept meanwhile.
    pub families: FamilySet,
    /// Of those, families for which the peer has gone on to forward packets.
    pub forwarding: FamilySet,
    /// What holds after the Restart Time. Families in neither side's capability 71 are in here no more.
    pub long_lived: LongLivedGracefulRestart,
}

impl Restart {
    /// `None`: one of the two offers nothing.
    pub(super) fn agreed(ours: &RestartOffer, theirs: &RestartOffer, families: FamilySet) -> Option<Restart> {
        let (our_graceful, graceful) = ours.graceful.zip(theirs.graceful)?;
        let mut long_lived = LongLivedGracefulRestart::default();
        if let Some((our_times, times)) = ours.long_lived.zip(theirs.long_lived) {
            if families.ipv4_unicast && our_times.ipv4_unicast.is_some() {
                long_lived.ipv4_unicast = times.ipv4_unicast;
            }
            if families.ipv6_unicast && our_times.ipv6_unicast.is_some() {
                long_lived.ipv6_unicast = times.ipv6_unicast;
            }
        }
        Some(Restart {
            restarted: graceful.restarted,
            notification: our_graceful.notification && graceful.notification,
            restart_time: Duration::from_secs(graceful.restart_time_secs.into()),
            families: graceful.families.intersection(families),
            forwarding: graceful.forwarding.intersection(families),
            long_lived,
        })
    }

    /// Whether both sides take part in RFC 9494.
    pub fn is_long_lived(&self) -> bool {
        self.long_lived != LongLivedGracefulRestart::default()
    }

    /// Whether a session that ends like this is one that restarts.
    pub fn covers(&self, reason: &DownReason) -> bool {
        match reason {
            DownReason::ConnectionLost(_) => true,
            _ if reason.is_for_good() => false,
            // RFC 8538 §4: with the N bit of both, after a NOTIFICATION of either that is no Hard Reset, and when the hold timer expires,
            // the rules for the Receiving Speaker hold. Without it RFC 4724 knows lost connections only.
            DownReason::NotificationReceived(_)
            | DownReason::NotificationSent(..)
            | DownReason::SendHoldTimerExpired => self.notification,
        }
    }
}

/// Whether what we say means that the peer's routes, and ours, are to go: what an operator does, and a peer that announces too much.
/// To peers that would take it for a restart it is said in a Hard Reset (RFC 8538 §5).
pub(super) fn is_for_good(notification: &Notification) -> bool {
    [
        CeaseSubcode::MaximumNumberOfPrefixesReached,
        CeaseSubcode::OutOfResources,
        CeaseSubcode::AdministrativeShutdown,
        CeaseSubcode::PeerDeconfigured,
        CeaseSubcode::AdministrativeReset,
        CeaseSubcode::OtherConfigurationChange,
        CeaseSubcode::HardReset,
    ]
    .into_iter()
    .any(|subcode| notification.is_cease(subcode))
}
