//! How much is kept of what anybody can cause: so many entries in a period, and then only their number.

use std::time::{Duration, Instant};

/// Entries are counted over this.
pub(crate) const PERIOD: Duration = Duration::from_secs(60);

/// Entries of one kind or cause.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u32,
    began: Instant,
    kept: u32,
    not_kept: u64,
}

impl Allowance {
    /// For `most` entries in each [`PERIOD`].
    pub(crate) fn new(most: u32, now: Instant) -> Allowance {
        Allowance {
            most,
            began: now,
            kept: 0,
            not_kept: 0,
        }
    }

    /// Nothing that was counted counts any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= PERIOD
    }

    /// Whether one more is kept, and how many were not since the last that was.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        if self.is_over(now) {
            self.began = now;
            self.kept = 0;
        }
        if self.kept == self.most {
            self.not_kept += 1;
            return None;
        }
        self.kept += 1;
        Some(std::mem::take(&mut self.not_kept))
    }
}
