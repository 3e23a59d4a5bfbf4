//! When NVAs are asked for their routes again because a virtual network has come (az §2.1).
//!
//! Azure does so; here refused routes are held with their verdict, so nothing depends on the answer. What an answer costs is all that
//! the NVA announces, so networks that come one after the other are one question.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The least time between two questions: enough for the longest answer, 4,000 routes of each peer.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// What has been asked, and what is to be asked.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    /// Ids of the virtual networks that use the route server's gateways.
    spokes: BTreeSet<String>,
    asked: Option<Instant>,
    due: Option<Instant>,
}

impl Refresh {
    /// Those that are there from the start: sessions that come up bring all routes.
    pub(crate) fn begin(spokes: BTreeSet<String>) -> Refresh {
        Refresh {
            spokes,
            ..Refresh::default()
        }
    }

    /// These are there now.
    pub(crate) fn set_spokes(&mut self, now: Instant, spokes: BTreeSet<String>) {
        if !spokes.is_subset(&self.spokes) && self.due.is_none() {
            let earliest = self.asked.map_or(now, |asked| asked + PAUSE);
            self.due = Some(earliest.max(now));
        }
        self.spokes = spokes;
    }

    /// When to ask.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to ask now; it counts as asked then.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|at| at <= now);
        if is_due {
            self.due = None;
            self.asked = Some(now);
        }
        is_due
    }
}
