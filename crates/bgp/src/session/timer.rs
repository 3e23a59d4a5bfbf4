//! Timers are deadlines in a table: a stopped timer has no deadline, so it can never fire late.

use std::time::{Duration, Instant};

use super::connection::Slot;

/// Every timer of a session (RFC 4271 §8.1.3 with additions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Until a peer that caused resets is let in again (IdleHoldTimer).
    IdleHold,
    /// Until we dial again (ConnectRetryTimer).
    ConnectRetry,
    /// Until the silence of the peer ends the connection (HoldTimer).
    Hold(Slot),
    /// Until we must speak again (KeepaliveTimer).
    Keepalive(Slot),
    /// Until the deafness of the peer ends the connection (SendHoldTimer, RFC 9687).
    SendHold(Slot),
}

impl Timer {
    const ALL: [Timer; 8] = [
        Timer::IdleHold,
        Timer::ConnectRetry,
        Timer::Hold(Slot::First),
        Timer::Hold(Slot::Second),
        Timer::Keepalive(Slot::First),
        Timer::Keepalive(Slot::Second),
        Timer::SendHold(Slot::First),
        Timer::SendHold(Slot::Second),
    ];

    fn index(self) -> usize {
        match self {
            Timer::IdleHold => 0,
            Timer::ConnectRetry => 1,
            Timer::Hold(slot) => 2 + slot as usize,
            Timer::Keepalive(slot) => 4 + slot as usize,
            Timer::SendHold(slot) => 6 + slot as usize,
        }
    }
}

/// The deadlines that are set.
#[derive(Clone, Debug, Default)]
pub(super) struct TimerTable {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl TimerTable {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer.index()] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer.index()] = None;
    }

    pub(super) fn stop_connection(&mut self, slot: Slot) {
        for timer in [Timer::Hold(slot), Timer::Keepalive(slot), Timer::SendHold(slot)] {
            self.stop(timer);
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer.index()].is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, the earliest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .filter_map(|timer| self.deadlines[timer.index()].map(|at| (at, timer)))
            .filter(|(at, _)| *at <= now)
            .min_by_key(|(at, _)| *at)?
            .1;
        self.stop(due);
        Some(due)
    }
}

/// A small deterministic generator for jitter; the seed comes from outside.
#[derive(Clone, Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    /// `base` times a random factor between 0.75 and 1.
    //= https://www.rfc-editor.org/rfc/rfc4271#section-10
    //# The suggested default amount of jitter SHALL be determined by multiplying
    //# the base value of the appropriate timer by a random factor, which is uniformly
    //# distributed in the range from 0.75 to 1.0.
    pub(super) fn apply(&mut self, base: Duration) -> Duration {
        // SplitMix64: tiny, and good enough to keep two speakers from dialling in lockstep.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let fraction = (z >> 11) as f64 / (1u64 << 53) as f64;
        base.mul_f64(0.75 + 0.25 * fraction)
    }
}
