//! How connections end: who is told what, and when we try again.

use std::time::{Duration, Instant};

use super::{Dialling, Session};
use crate::session::connection::{Progress, Slot};
use crate::session::event::{DownReason, Offence, Output};
use crate::session::restart::{Restart, is_for_good};
use crate::session::timer::Timer;
use crate::wire::{CeaseSubcode, Message, Notification};

/// Before we dial again after a session. A peer that dials at the same time has reached us by then, or has done so before we could look: connections that
/// cross cost one of them, and some speakers more.
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
        if self.agreed_restart().is_some()
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
        let was_established = connection.progress == Progress::Established;
        let is_theirs = matches!(end, End::Gone(_));
        let (reason, offence) = match end {
            End::Notify(notification, why, offence) => {
                if !matches!(connection.progress, Progress::Parked { .. }) {
                    let said = self.as_said(&notification, &connection.progress);
                    self.send(slot, Message::Notification(said));
                }
                (DownReason::NotificationSent(notification, why), offence)
            }
            End::Gone(reason) => (reason, was_established.then_some(Offence::Departure)),
            End::Deaf => (DownReason::SendHoldTimerExpired, Some(Offence::Error)),
        };
        self.timers.stop_connection(slot);
        self.connections[slot as usize] = None;
        self.outputs.push_back(Output::Close {
            connection: connection.id,
        });
        if was_established {
            let restart = self
                .agreed_restart()
                .filter(|restart| is_theirs && restart.covers(&reason));
            self.left_alone_until = restart.map(|restart| now + self.time_to_restart(restart));
            self.negotiated = None;
            self.history.down(now, &reason);
            self.outputs.push_back(Output::Down(reason));
            self.try_again(now, A_MOMENT, offence);
        } else {
            self.history.attempt_failed(reason.to_string());
            self.outputs.push_back(Output::AttemptFailed(reason));
            self.try_again(now, self.config.connect_retry, offence);
        }
    }

    /// How long a peer that restarts is left alone: who reaches FRR or GoBGP while they read their configuration is told that they have no routes, and
    /// End-of-RIB. They dial themselves. One that never does has to be dialled while its routes are still kept.
    fn time_to_restart(&mut self, restart: Restart) -> Duration {
        let time = self.config.connect_retry.min(restart.restart_time / 2);
        self.jitter.apply(time)
    }

    /// To a peer that takes a NOTIFICATION for the beginning of a restart, one that is meant for good is said as a Hard Reset.
    fn as_said(&self, notification: &Notification, progress: &Progress) -> Notification {
        let takes_it_lightly = self.agreed_restart().is_some_and(|restart| restart.notification);
        match takes_it_lightly && *progress == Progress::Established && is_for_good(notification) {
            true => Notification::hard_reset(notification),
            false => notification.clone(),
        }
    }

    /// Dials `again` later, or when the peer is not held off any more.
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
