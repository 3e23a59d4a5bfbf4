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

/// Routes wait no longer than this, though more keep coming.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Tables on their way to one route server.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// When the first and the last piece came of what waits.
    waiting: Option<(Instant, Instant)>,
}

impl Arrival {
    /// A piece of a table has come.
    pub(crate) fn goes_on(&mut self, now: Instant) {
        let (first, _) = self.waiting.unwrap_or((now, now));
        self.waiting = Some((first, now));
    }

    /// When what waits is to be decided.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.waiting
            .map(|(first, last)| (first + LONGEST_WAIT).min(last + LULL))
    }

    /// Whether what waits is to be decided now; it waits no more then.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let due = self.due_at().is_some_and(|at| at <= now);
        if due {
            self.waiting = None;
        }
        due
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
        arrival.goes_on(start);
        arrival.goes_on(start + MILLISECOND);
        assert_eq!(arrival.due_at(), Some(start + MILLISECOND + LULL));
        assert!(!arrival.take_due(start + LULL));
        assert!(arrival.take_due(start + MILLISECOND + LULL));
        assert_eq!(arrival.due_at(), None);
    }

    #[test]
    fn a_stream_without_a_lull_is_due_all_the_same() {
        let (mut arrival, start) = (Arrival::default(), Instant::now());
        let mut now = start;
        while !arrival.take_due(now) {
            arrival.goes_on(now);
            now += MILLISECOND;
        }
        assert_eq!(now, start + LONGEST_WAIT);
    }
}
