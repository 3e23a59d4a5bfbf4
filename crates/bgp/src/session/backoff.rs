//! How long a peer waits before it is let in again.
//!
//! A reset costs a point, half a minute of peace takes one away. The first few points cost next to nothing, because a peer
//! that was restarted, or sent one bad message, should be back within seconds; a peer that goes on and on waits longer and longer.

use std::time::{Duration, Instant};

/// Points that cost no more than [`SHORT_HOLD`].
const PATIENCE: u32 = 8;
/// The wait while patience lasts, after the first reset, which is free.
const SHORT_HOLD: Duration = Duration::from_secs(1);
/// Peace that takes one point away.
const DECAY: Duration = Duration::from_secs(30);

/// The record of one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    points: u32,
    since: Option<Instant>,
}

impl Backoff {
    /// Counts a reset that the peer caused and says how long to hold off.
    pub(super) fn on_reset(&mut self, now: Instant, max: Duration) -> Duration {
        self.decay(now);
        self.points = self.points.saturating_add(1);
        match self.points {
            0 | 1 => Duration::ZERO,
            points if points <= PATIENCE => SHORT_HOLD.min(max),
            points => SHORT_HOLD
                .saturating_mul(2u32.saturating_pow(points - PATIENCE))
                .min(max),
        }
    }

    fn decay(&mut self, now: Instant) {
        let since = self.since.get_or_insert(now);
        let periods = now.saturating_duration_since(*since).as_secs() / DECAY.as_secs();
        self.points = self.points.saturating_sub(periods.try_into().unwrap_or(u32::MAX));
        *since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn first_reset_costs_nothing_and_the_wait_then_grows_to_the_maximum() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let waits: Vec<u64> = (0..16).map(|_| backoff.on_reset(now, MAX).as_secs()).collect();
        assert_eq!(waits, [0, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn peace_is_rewarded() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        for _ in 0..12 {
            backoff.on_reset(start, MAX);
        }
        assert_eq!(backoff.on_reset(start + Duration::from_secs(3600), MAX), Duration::ZERO);
    }
}
