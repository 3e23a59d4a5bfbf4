//! What is remembered of a peer beyond one session: how often it was up, why it last went down, why it does not come up.
//!
//! A change of settings makes another [`super::Session`]; the history goes along ([`super::Session::with_history`]), so that
//! counters do not fall back and the reason of the last end is still there to be read.

use std::time::Instant;

use super::event::DownReason;

/// One peer's past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionHistory {
    /// When it entered Established, or last left it.
    pub since: Option<Instant>,
    /// How often it became Established.
    pub established_count: u64,
    /// How the last session that was Established ended.
    pub last_down: Option<LastDown>,
    /// Why the last attempt to become Established failed; none once one succeeds.
    pub last_attempt_error: Option<String>,
    /// Messages received and sent by the state machine (UPDATEs written by the owner are not counted here).
    pub messages_received: u64,
    /// See `messages_received`.
    pub messages_sent: u64,
}

/// The end of a session that was Established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastDown {
    /// When.
    pub at: Instant,
    /// For people.
    pub reason: String,
}

impl SessionHistory {
    pub(super) fn established(&mut self, now: Instant) {
        self.since = Some(now);
        self.established_count += 1;
        self.last_attempt_error = None;
    }

    pub(super) fn down(&mut self, now: Instant, reason: &DownReason) {
        self.since = Some(now);
        self.last_down = Some(LastDown {
            at: now,
            reason: reason.to_string(),
        });
    }

    pub(super) fn attempt_failed(&mut self, reason: String) {
        self.last_attempt_error = Some(reason);
    }

    /// Both in one sentence: why it last went down, and what has kept it from coming back since.
    pub fn last_error(&self) -> Option<String> {
        let down = self.last_down.as_ref().map(|down| &down.reason);
        match (down, &self.last_attempt_error) {
            (Some(down), Some(attempt)) => Some(format!("{down}; since then: {attempt}")),
            (down, attempt) => down.or(attempt.as_ref()).cloned(),
        }
    }
}
