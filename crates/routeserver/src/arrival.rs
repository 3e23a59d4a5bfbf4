//! When the routes of tables that are arriving are decided.
//!
//! Peers that tell a table mostly tell the same prefixes: decided as they come, a prefix would be decided, and told to everybody,
//! once per peer. So routes that come in bulk wait until nothing more comes for a moment. Whoever changes a route or two is not part of
//! that, and is heard at once.

use std::time::{Duration, Instant};

use bgp::wire::Message;

/// What comes with at least so many prefixes at once is part of a table.
const TABLE_PREFIXES: usize = 256;

/// A table has come to its end, or a peer falls behind the others, when nothing more of any has come for so long.
const LULL: Duration = Duration::from_millis(2);

/// What a peer that has told its table before says waits no longer than this, though more keeps coming: packets may be on their way by it.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The first table of a session waits no longer than this: nobody has a route by it yet, and what is told half-way is told again.
const LONGEST_WAIT_OF_FIRST: Duration = Duration::from_millis(1_500);

/// Tables on their way to one speaker.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The end of what waits longest.
    until: Instant,
    /// When the last piece came, or had been taken in.
    last: Instant,
    /// A piece has come since somebody last asked whether what waits is due.
    goes_on: bool,
}

impl Waiting {
    fn due_at(&self) -> Instant {
        self.until.min(self.last + LULL)
    }
}

impl Arrival {
    /// A piece of a table has come, of the first one of its session or of a later one.
    pub(crate) fn goes_on(&mut self, now: Instant, first_table: bool) {
        let longest = if first_table {
            LONGEST_WAIT_OF_FIRST
        } else {
            LONGEST_WAIT
        };
        let until = now + longest;
        self.waiting = Some(Waiting {
            until: self.waiting.map_or(until, |waiting| waiting.until.min(until)),
            last: now,
            goes_on: true,
        });
    }

    /// When what waits is to be decided.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.waiting.map(|waiting| waiting.due_at())
    }

    /// Whether what waits is to be decided now; it waits no more then.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        if let Some(waiting) = &mut self.waiting
            && std::mem::take(&mut waiting.goes_on)
        {
            // To take a piece in can take longer than a lull (a large hash table grows); that is no silence of the peer's.
            waiting.last = now;
        }
        self.waiting.take_if(|waiting| waiting.due_at() <= now).is_some()
    }
}

/// Whether these messages, which were read at once, are part of a table.
pub(crate) fn are_part_of_a_table(messages: &[Message]) -> bool {
    let mut prefixes = 0;
    messages.iter().any(|message| {
        if let Message::Update(update) = message {
            let announced = update.announced.iter().map(|each| each.prefixes.len());
            prefixes += update.withdrawn.len() + announced.sum::<usize>();
        }
        prefixes >= TABLE_PREFIXES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn what_waits_is_due_after_a_lull() {
        let (mut arrival, start) = (Arrival::default(), Instant::now());
        assert_eq!(arrival.due_at(), None);
        arrival.goes_on(start, false);
        arrival.goes_on(start + MILLISECOND, true);
        assert_eq!(arrival.due_at(), Some(start + MILLISECOND + LULL));
        assert!(!arrival.take_due(start + MILLISECOND));
        assert!(!arrival.take_due(start + LULL));
        assert!(arrival.take_due(start + MILLISECOND + LULL));
        assert_eq!(arrival.due_at(), None);
    }

    #[test]
    fn the_time_that_a_piece_takes_to_be_taken_in_is_no_lull() {
        let (mut arrival, start) = (Arrival::default(), Instant::now());
        arrival.goes_on(start, true);
        let taken_in = start + 10 * LULL;
        assert!(!arrival.take_due(taken_in));
        assert_eq!(arrival.due_at(), Some(taken_in + LULL));
    }

    #[test]
    fn a_stream_without_a_lull_is_due_all_the_same() {
        assert_eq!(waits_at_most(&|_| false), LONGEST_WAIT);
        assert_eq!(waits_at_most(&|_| true), LONGEST_WAIT_OF_FIRST);
    }

    #[test]
    fn whoever_told_a_table_before_waits_no_longer_for_the_first_tables_of_others() {
        let later = Duration::from_millis(100);
        assert_eq!(waits_at_most(&|passed| passed != later), later + LONGEST_WAIT);
    }

    /// When a stream is decided of which a piece comes every millisecond; `first_table` says of which kind the piece is.
    fn waits_at_most(first_table: &dyn Fn(Duration) -> bool) -> Duration {
        let (mut arrival, start) = (Arrival::default(), Instant::now());
        let mut passed = Duration::ZERO;
        while !arrival.take_due(start + passed) {
            arrival.goes_on(start + passed, first_table(passed));
            passed += MILLISECOND;
        }
        passed
    }
}
