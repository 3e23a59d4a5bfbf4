//! Clocks that an `Instant` does not tell of. Moments of the machine's monotonic clock, which is one for all of its processes: what others on
//! the machine have measured can be held against them.

use std::time::{Duration, Instant};

use routeserver::report::PeerReport;

/// Says of each peer when its last session ended.
pub(super) fn stamp(peers: &mut [PeerReport], now: Instant) {
    let clock = clock(libc::CLOCK_MONOTONIC).saturating_sub(now.elapsed());
    for peer in peers {
        let bfd = peer.bfd.as_mut().and_then(|bfd| bfd.last_down.as_mut());
        for down in peer.last_down.iter_mut().chain(bfd) {
            let at = clock.saturating_sub(down.ago);
            down.monotonic_micros = u64::try_from(at.as_micros()).ok();
        }
    }
}

/// Time since the machine was started, also while it slept.
pub(super) fn since_boot() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

/// For how long this thread has run.
pub(super) fn of_thread() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(which: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec that outlives the call.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    let secs = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or_default())
}
