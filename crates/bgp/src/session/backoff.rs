//! How long a peer waits before it is let in again.
//!
//! An offence costs a point, half a minute of peace takes one away; the time that a peer is held off is no peace. The first
//! resets cost next to nothing, because a peer that was restarted, or sent one bad message, should be back within seconds; a
//! peer that goes on and on waits longer and longer. One that only leaves and comes back never waits long: an appliance that is
//! restarted often is wanted back each time, and the short wait bounds what its flapping costs. A peer over its prefix limit would send the same flood again each time
//! it is let in, so there the wait grows from the second time on.

use std::time::{Duration, Instant};

use super::event::Offence;

/// Resets that cost no more than [`SHORT_HOLD`].
const PATIENCE: u32 = 8;
/// The wait while patience lasts, after the first reset, which is free.
const SHORT_HOLD: Duration = Duration::from_secs(1);
/// The waits of a peer that goes over its prefix limit again and again; the last one stays.
const PREFIX_LIMIT_HOLD_SECS: [u64; 6] = [1, 5, 10, 20, 40, 60];
/// The waits of one for which there is not enough memory: the first is long enough to find out what remains when its routes have gone.
const OUT_OF_RESOURCES_HOLD_SECS: [u64; 4] = [10, 20, 40, 60];
/// Peace that takes one point away.
const DECAY: Duration = Duration::from_secs(30);

/// The record of one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    errors: Record,
    departures: Record,
    prefix_limit: Record,
    out_of_resources: Record,
}

/// Points of one kind of offence.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    points: u32,
    /// Peace is counted from here on.
    since: Option<Instant>,
}

impl Backoff {
    /// Counts a reset that the peer caused and says how long to hold off.
    pub(super) fn on_reset(&mut self, now: Instant, offence: Offence, max: Duration) -> Duration {
        match offence {
            Offence::Error => self.errors.add(now, |points| error_hold(points).min(max)),
            Offence::Departure => self
                .departures
                .add(now, |points| error_hold(points).min(SHORT_HOLD).min(max)),
            Offence::PrefixLimit => self
                .prefix_limit
                .add(now, |points| step(&PREFIX_LIMIT_HOLD_SECS, points).min(max)),
            Offence::OutOfResources => self
                .out_of_resources
                .add(now, |points| step(&OUT_OF_RESOURCES_HOLD_SECS, points).min(max)),
        }
    }
}

impl Record {
    fn add(&mut self, now: Instant, hold: impl Fn(u32) -> Duration) -> Duration {
        let since = self.decay(now);
        self.points = self.points.saturating_add(1);
        let hold = hold(self.points);
        self.since = Some(since + hold);
        hold
    }

    /// Takes off what peace has earned. What is left of a started half minute counts the next time.
    fn decay(&mut self, now: Instant) -> Instant {
        let since = self.since.unwrap_or(now);
        let earned = now.saturating_duration_since(since).as_secs() / DECAY.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned >= self.points {
            self.points = 0;
            return now;
        }
        self.points -= earned;
        since + DECAY * earned
    }
}

fn error_hold(points: u32) -> Duration {
    match points {
        0 | 1 => Duration::ZERO,
        points if points <= PATIENCE => SHORT_HOLD,
        points => SHORT_HOLD.saturating_mul(2u32.saturating_pow(points - PATIENCE)),
    }
}

fn step(holds_secs: &[u64], points: u32) -> Duration {
    let step = points.saturating_sub(1) as usize;
    Duration::from_secs(holds_secs[step.min(holds_secs.len() - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(60);

    fn waits(offence: Offence, count: u32, every: Duration) -> Vec<u64> {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        let at = |index: u32| start + every * index;
        (0..count)
            .map(|index| backoff.on_reset(at(index), offence, MAX).as_secs())
            .collect()
    }

    #[test]
    fn first_reset_costs_nothing_and_the_wait_then_grows_to_the_maximum() {
        assert_eq!(
            waits(Offence::Error, 16, Duration::ZERO),
            [0, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 60, 60, 60]
        );
    }

    #[test]
    fn a_peer_that_only_leaves_and_comes_back_never_waits_long() {
        let waits = waits(Offence::Departure, 100, Duration::ZERO);
        assert_eq!(waits[0], 0);
        assert!(waits[1..].iter().all(|wait| *wait == 1), "{waits:?}");
    }

    #[test]
    fn peace_is_rewarded() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        for _ in 0..12 {
            backoff.on_reset(start, Offence::Error, MAX);
        }
        let later = start + Duration::from_secs(3600);
        assert_eq!(backoff.on_reset(later, Offence::Error, MAX), Duration::ZERO);
    }

    #[test]
    fn a_peer_that_resets_a_little_more_often_than_points_go_is_not_shut_out_for_it() {
        // 29 s of peace each time, a second of hold: a point goes for nearly every one that comes.
        let waits = waits(Offence::Error, 100, Duration::from_secs(30));
        assert!(waits.iter().all(|wait| *wait <= 1), "{waits:?}");
    }

    #[test]
    fn peace_too_short_for_a_point_is_not_forgotten() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        for round in 0..4 {
            backoff.on_reset(start + Duration::from_secs(29) * round, Offence::Error, MAX);
        }
        // Four points, and 3 × 29 s of peace without the 1 s holds: two of them have gone.
        assert_eq!(backoff.errors.points, 2);
    }

    #[test]
    fn going_over_the_prefix_limit_again_costs_more_each_time() {
        assert_eq!(
            waits(Offence::PrefixLimit, 8, Duration::ZERO),
            [1, 5, 10, 20, 40, 60, 60, 60]
        );
    }

    #[test]
    fn taking_all_the_memory_again_costs_more_each_time() {
        assert_eq!(
            waits(Offence::OutOfResources, 6, Duration::ZERO),
            [10, 20, 40, 60, 60, 60]
        );
    }

    #[test]
    fn being_held_off_is_no_peace() {
        // Each time as soon as it is let in again: longer waits must not wear the record down.
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            let wait = backoff.on_reset(now, Offence::PrefixLimit, MAX);
            waits.push(wait.as_secs());
            now += wait + Duration::from_secs(1);
        }
        assert_eq!(waits, [1, 5, 10, 20, 40, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn one_kind_of_offence_does_not_make_the_other_dearer() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        for _ in 0..10 {
            backoff.on_reset(now, Offence::Error, MAX);
        }
        assert_eq!(backoff.on_reset(now, Offence::PrefixLimit, MAX).as_secs(), 1);
    }
}
