//! Whether next hops answer on the NIC's link.
//!
//! Routes to next hops are installed `onlink`: the kernel takes our word that somebody there answers ARP (or neighbour discovery), and
//! drops packets silently when nobody does. So the kernel is asked to resolve each next hop once it is in use, and what
//! stays silent is reported. The route stays: the next hop may be starting.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Times between questions to next hops that are silent.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The next hops of one NIC.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    used: BTreeSet<IpAddr>,
    silent: BTreeSet<IpAddr>,
    again_at: Option<Instant>,
}

impl Neighbours {
    /// Takes in which next hops are in use; returns those that are new, to be asked.
    pub(crate) fn note_used(&mut self, used: BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let new = used.difference(&self.used).copied().collect();
        self.silent.retain(|address| used.contains(address));
        self.used = used;
        new
    }

    /// Nothing is known any more: the link or its carrier is gone.
    pub(crate) fn forget(&mut self) {
        *self = Neighbours::default();
    }

    /// Takes in the kernel's word about an address; true if something has changed for us.
    pub(crate) fn heard(&mut self, address: IpAddr, answers: bool, now: Instant) -> bool {
        if !self.used.contains(&address) {
            return false;
        }
        let changed = if answers {
            self.silent.remove(&address)
        } else {
            self.silent.insert(address)
        };
        self.again_at = (!self.silent.is_empty()).then_some(self.again_at.unwrap_or(now + ASK_AGAIN));
        changed
    }

    /// When silent next hops are to be asked again.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// The ones to be asked again, if it is time.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<IpAddr> {
        if self.again_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.again_at = Some(now + ASK_AGAIN);
        self.silent.iter().copied().collect()
    }

    /// What people should know.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        self.silent.iter().map(|address| {
            format!(
                "next hop {address} does not answer on this link (ARP, neighbour discovery): packets to it are lost"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn only_what_is_new_is_asked() {
        let mut neighbours = Neighbours::default();
        assert_eq!(
            neighbours.note_used([address(1), address(2)].into()),
            [address(1), address(2)]
        );
        assert_eq!(neighbours.note_used([address(2), address(3)].into()), [address(3)]);
    }

    #[test]
    fn silence_is_a_problem_until_it_answers_or_is_used_no_more() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note_used([address(1), address(2)].into());
        assert!(neighbours.heard(address(1), false, now));
        assert!(!neighbours.heard(address(1), false, now));
        assert!(neighbours.heard(address(2), false, now));
        assert!(!neighbours.heard(address(9), false, now));
        assert_eq!(neighbours.problems().count(), 2);
        assert!(neighbours.heard(address(1), true, now));
        neighbours.note_used([address(1)].into());
        assert_eq!(neighbours.problems().count(), 0);
    }

    #[test]
    fn the_silent_are_asked_again_and_again() {
        let now = Instant::now();
        let mut neighbours = Neighbours::default();
        neighbours.note_used([address(1)].into());
        neighbours.heard(address(1), false, now);
        assert!(neighbours.due(now).is_empty());
        let due = neighbours.again_at().expect("someone is silent");
        assert_eq!(neighbours.due(due), [address(1)]);
        assert!(neighbours.due(due).is_empty());
        assert!(neighbours.again_at() > Some(due));
    }
}
