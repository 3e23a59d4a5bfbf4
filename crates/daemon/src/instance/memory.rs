//! How much memory this process has, as the system counts it, looked at now and then.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// What can come between two looks must fit between the mark and the ceiling.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Giving back what is free takes time where much was freed.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(500);

/// When to look, and when freed memory was last given back for it.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    statm: Option<File>,
    looked: Option<Instant>,
    given_back: Option<Instant>,
}

impl Gauge {
    /// When it wants to be asked again although nothing happens, while memory is short.
    pub(super) fn look_again_at(&self) -> Option<Instant> {
        self.looked.map(|at| at + LOOK_EVERY)
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.look_again_at().is_none_or(|at| at <= now);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// Whether freed memory may be given back now, before anybody is ended for it.
    pub(super) fn may_give_back(&mut self, now: Instant) -> bool {
        let may = self.given_back.is_none_or(|at| at + GIVE_BACK_EVERY <= now);
        if may {
            self.given_back = Some(now);
        }
        may
    }

    /// Octets that are resident; `None`: the system does not tell.
    pub(super) fn resident(&mut self) -> Option<u64> {
        if self.statm.is_none() {
            self.statm = File::open("/proc/self/statm").ok();
        }
        let mut text = [0; 128];
        let length = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        // Size, resident, …: in pages (proc_pid_statm(5)).
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * page_size())
    }
}

fn page_size() -> u64 {
    // SAFETY: takes no pointer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_resident() {
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        // Whatever other tests of this process take or give back meanwhile.
        let resident = Gauge::default().resident().unwrap();
        assert!(resident >= 64 << 20, "{resident}");
        drop(touched);
    }

    #[test]
    fn it_is_looked_at_now_and_then() {
        let (mut gauge, now) = (Gauge::default(), Instant::now());
        assert!(gauge.is_due(now) && !gauge.is_due(now));
        assert!(gauge.is_due(now + LOOK_EVERY));
    }
}
