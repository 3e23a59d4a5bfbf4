//! How connections end: who is told what, and when we try again.

use std::time::{Duration, Instant};

use super::{Dialling, Session};
use crate::session::connection::{Progress, Slot};
use crate::session::event::{DownReason, Offence, Output};
use crate::session::restart::is_for_good;
use crate::session::timer::Timer;
use crate::wire::{CeaseSubcode, Message, Notification};

/// Before we dial again after a session. A peer that dials at the same time has reached us by then, or has done so before we could look: connections that
/// cross cost one of them, and some speakers more. A peer that restarts has longer: who reaches it while it reads its configuration is told by FRR and
/// GoBGP that they have no routes, and End-of-RIB.
const A_MOMENT: Duration = Duration::from_millis(100);

/// What ends a connection, and what that means for the peer's record.
pub(super) enum End {
    /// We say why and close; what the peer did, if it caused it.
    Notify(Notification, String, Option<Offence>),
    /// The peer has already closed, or said farewell.
    Gone(DownReason),
    /// The peer takes no bytes: saying anything is useless.
    Deaf,
}

impl Session {
    pub(super) fn leave(&mut self, now: Instant, reason: String) {
        self.started = false;
        if self.restart().is_some()
            && let Some(slot) = self.established_slot()
        {
            self.end(now, slot, End::Gone(DownReason::ConnectionLost(reason.clone())));
        }
        self.stop(now, CeaseSubcode::AdministrativeShutdown, reason);
    }

    pub(super) fn close_all(
        &mut self,
        now: Instant,
        notification: &Notification,
        reason: &str,
        offence: Option<Offence>,
    ) {
        for slot in Slot::BOTH {
            let end = End::Notify(notification.clone(), reason.to_owned(), offence);
            self.end(now, slot, end);
        }
    }

    /// Ends the connection in `slot`, tells the owner, and decides when to try again.
    pub(super) fn end(&mut self, now: Instant, slot: Slot, end: End) {
        let Some(connection) = self.at(slot).cloned() else {
            return;
        };
        let is_theirs = matches!(end, End::Gone(_));
        let (reason, offence) = match end {
            End::Notify(notification, why, offence) => {
                if !matches!(connection.progress, Progress::Parked { .. }) {
                    let said = self.as_said(&notification, &connection.progress);
                    self.send(slot, Message::Notification(said));
                }
                (DownReason::NotificationSent(notification, why), offence)
            }
            End::Gone(reason) => {
                let was_established = connection.progress == Progress::Established;
                (reason, was_established.then_some(Offence::Departure))
            }
            End::Deaf => (DownReason::SendHoldTimerExpired, Some(Offence::Error)),
        };
        self.timers.stop_connection(slot);
        self.connections[slot as usize] = None;
        self.outputs.push_back(Output::Close {
            connection: connection.id,
        });
        let was_established = connection.progress == Progress::Established;
        let comes_back = was_established && is_theirs && self.restart().is_some_and(|restart| restart.covers(&reason));
        if was_established {
            self.negotiated = None;
            self.history.down(now, &reason);
            self.outputs.push_back(Output::Down(reason));
        } else {
            self.history.attempt_failed(reason.to_string());
            self.outputs.push_back(Output::AttemptFailed(reason));
        }
        let again = match (was_established, comes_back) {
            (true, false) => A_MOMENT,
            _ => self.config.connect_retry,
        };
        self.try_again(now, again, offence);
    }

    /// To a peer that takes a NOTIFICATION for the beginning of a restart, one that is meant for good is said as a Hard Reset.
    fn as_said(&self, notification: &Notification, progress: &Progress) -> Notification {
        let takes_it_lightly = self.restart().is_some_and(|restart| restart.notification);
        match takes_it_lightly && *progress == Progress::Established && is_for_good(notification) {
            true => Notification::hard_reset(notification),
            false => notification.clone(),
        }
    }

    /// Dials `again` later, unless the peer is held off for longer.
    fn try_again(&mut self, now: Instant, again: Duration, offence: Option<Offence>) {
        if !self.started || self.has_live_connection() {
            return;
        }
        let hold = offence.map_or(Duration::ZERO, |offence| {
            self.backoff.on_reset(now, offence, self.config.max_idle_hold)
        });
        if hold.is_zero() && self.is_held_off() {
            // The IdleHoldTimer runs on.
        } else if !hold.is_zero() {
            self.rest();
            self.timers.set(Timer::IdleHold, now + hold);
        } else if self.dialling != Dialling::Connect {
            self.dial_after(now, again);
        }
    }
}
