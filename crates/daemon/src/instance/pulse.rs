//! Notices that the process stood still: it was stopped, its machine slept, or nobody let it run. A machine that is paused from outside may
//! have a clock that stands still with it; then nobody here can know.

use std::time::Duration;

use super::monotonic;

/// Of the thread that beats it, which has to be always the same.
#[derive(Debug)]
pub(super) struct Pulse {
    /// The last beat: time as it passed, sleep of the machine included, and as this thread ran.
    passed: Duration,
    ran: Duration,
    /// The longest standstill that was not told yet.
    lasted: Option<Duration>,
}

impl Pulse {
    /// It is to be beaten so often, whatever else there is to wait for.
    pub(super) const EVERY: Duration = Duration::from_millis(50);
    /// A shorter standstill is none: with the fastest BFD (50 ms × 3) peers put up with two intervals.
    const NOTICED: Duration = Duration::from_millis(100);

    pub(super) fn begin() -> Pulse {
        Pulse {
            passed: monotonic::since_boot(),
            ran: monotonic::of_thread(),
            lasted: None,
        }
    }

    /// Beats it; true if there is a standstill to be told.
    pub(super) fn has_stood_still(&mut self) -> bool {
        self.beat(monotonic::since_boot(), monotonic::of_thread());
        self.lasted.is_some()
    }

    /// Beats it, and tells how long the longest standstill since the last call was, at most [`Pulse::EVERY`] too much.
    pub(super) fn stood_still(&mut self) -> Option<Duration> {
        self.has_stood_still();
        self.lasted.take()
    }

    fn beat(&mut self, passed: Duration, ran: Duration) {
        // Whoever works is not still.
        let still = passed
            .saturating_sub(self.passed)
            .saturating_sub(ran.saturating_sub(self.ran));
        (self.passed, self.ran) = (passed, ran);
        if still > Pulse::NOTICED {
            self.lasted = self.lasted.max(Some(still));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_beat_is_a_standstill_unless_the_thread_worked() {
        let mut pulse = Pulse {
            passed: Duration::ZERO,
            ran: Duration::ZERO,
            lasted: None,
        };
        let mut after = |passed_ms: u64, ran_ms: u64| {
            let (passed, ran) = (pulse.passed, pulse.ran);
            pulse.beat(
                passed + Duration::from_millis(passed_ms),
                ran + Duration::from_millis(ran_ms),
            );
            pulse.lasted
        };
        assert_eq!(after(60, 0), None, "it slept until the next beat");
        assert_eq!(after(900, 850), None, "it worked");
        assert_eq!(after(900, 10), Some(Duration::from_millis(890)));
        assert_eq!(after(300, 0), Some(Duration::from_millis(890)), "the longer one");
    }
}
