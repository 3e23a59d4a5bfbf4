//! How much was asked: packets that were sent, judged and forgiven, in all and with each kind of fault, so that a reader sees what the
//! test is worth.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{AddAssign, RangeInclusive};
use std::time::Instant;

/// Packets of one VM in one round, or of many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub sent: usize,
    /// Of those, the ones that might be lost.
    pub forgiven: usize,
    pub lost: usize,
}

impl Count {
    /// Of a VM's packets, and what might be lost of them; those that should not have been lost.
    pub fn of(packets: &[(Instant, bool)], may_lose: &[RangeInclusive<Instant>]) -> (Count, Vec<Instant>) {
        let may = |sent: &Instant| may_lose.iter().any(|window| window.contains(sent));
        let lost = packets.iter().filter(|(_, arrived)| !arrived).map(|(sent, _)| *sent);
        let count = Count {
            sent: packets.len(),
            forgiven: packets.iter().filter(|(sent, _)| may(sent)).count(),
            lost: lost.clone().count(),
        };
        (count, lost.filter(|sent| !may(sent)).collect())
    }

    /// Those of which none might be lost.
    pub fn judged(&self) -> usize {
        self.sent - self.forgiven
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.sent += other.sent;
        self.forgiven += other.forgiven;
        self.lost += other.lost;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.judged() as f64 / self.sent.max(1) as f64;
        write!(
            f,
            "{:>9} sent, {:>9} judged ({share:>5.1} %), {:>8} forgiven, {:>7} lost",
            self.sent,
            self.judged(),
            self.forgiven,
            self.lost
        )
    }
}

/// Of a whole run.
#[derive(Default)]
pub struct Tally {
    pub all: Count,
    pub rounds: usize,
    pub faults: usize,
    /// Rounds with such a fault, and their packets.
    kinds: BTreeMap<&'static str, (usize, Count)>,
}

impl Tally {
    /// A round with these kinds of faults.
    pub fn add(&mut self, kinds: &[&'static str], count: Count) {
        self.rounds += 1;
        self.faults += kinds.len();
        self.all += count;
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let (rounds, of_kind) = self.kinds.entry(kind).or_default();
            *rounds += 1;
            *of_kind += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>5} rounds {:<26}{}", self.rounds, "in all", self.all)?;
        for (kind, (rounds, count)) in &self.kinds {
            writeln!(f, "{rounds:>5} with   {kind:<26}{count}")?;
        }
        Ok(())
    }
}
