//! What waits to be written on one connection, bounded by bytes.

use std::collections::VecDeque;

use bytes::Bytes;

/// From here on the owner is asked to hold back.
pub const HIGH_WATER_BYTES: usize = 4 << 20;
/// Down to here the owner is asked to hold back, once it was: low enough that the two do not alternate with every write, high
/// enough that the socket does not run dry meanwhile.
pub const LOW_WATER_BYTES: usize = 1 << 20;
/// Room above the high-water mark is for KEEPALIVEs, NOTIFICATIONs and the rest of a batch. A queue that needs more is not being
/// bounded by its owner, and costs the connection.
pub const LIMIT_BYTES: usize = 16 << 20;

/// How many pieces one system call writes at most (the kernel's IOV_MAX is 1,024).
pub(super) const MAX_PIECES: usize = 256;

/// What became of a [`super::Connection::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// There is room for more, or the owner knows already that there is none.
    Unchanged,
    /// The queue has just become full.
    Full,
}

/// The owner has queued more than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    full: bool,
}

impl WriteQueue {
    /// Appends, unless that would go beyond the limit.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<Pressure, Overrun> {
        if bytes.len() > LIMIT_BYTES - self.bytes {
            return Err(Overrun);
        }
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.pieces.push_back(bytes);
        }
        if !self.full && self.bytes >= HIGH_WATER_BYTES {
            self.full = true;
            return Ok(Pressure::Full);
        }
        Ok(Pressure::Unchanged)
    }

    /// What waits, in octets.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The next pieces to write; cloning them only counts references.
    pub(super) fn front(&self, pieces: &mut Vec<Bytes>) {
        pieces.clear();
        pieces.extend(self.pieces.iter().take(MAX_PIECES).cloned());
    }

    /// So many bytes have left. True when the owner, held back until now, is to be told.
    pub(super) fn advance(&mut self, mut written: usize) -> bool {
        self.bytes -= written;
        while written > 0 {
            let Some(front) = self.pieces.front_mut() else { break };
            if written < front.len() {
                let _ = front.split_to(written);
                break;
            }
            written -= front.len();
            self.pieces.pop_front();
        }
        let drained = self.full && self.bytes <= LOW_WATER_BYTES;
        self.full &= !drained;
        drained
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn zeros(length: usize) -> Bytes {
        Bytes::from(vec![0; length])
    }

    #[test]
    fn fullness_is_told_once_and_so_is_the_end_of_it() {
        let mut queue = WriteQueue::default();
        assert_eq!(queue.push(zeros(HIGH_WATER_BYTES - 1)), Ok(Pressure::Unchanged));
        assert_eq!(queue.push(zeros(1)), Ok(Pressure::Full));
        assert_eq!(queue.push(zeros(1)), Ok(Pressure::Unchanged));
        assert!(!queue.advance(HIGH_WATER_BYTES - LOW_WATER_BYTES));
        assert!(queue.advance(1));
        assert!(!queue.advance(1));
    }

    #[test]
    fn a_piece_that_left_in_part_goes_on_where_it_stopped() {
        let mut queue = WriteQueue::default();
        queue.push(Bytes::from_static(b"abc")).unwrap();
        queue.push(Bytes::from_static(b"def")).unwrap();
        queue.advance(4);
        let mut pieces = Vec::new();
        queue.front(&mut pieces);
        assert_eq!(pieces, [Bytes::from_static(b"ef")]);
        queue.advance(2);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_queue_takes_nothing_beyond_its_limit() {
        let mut queue = WriteQueue::default();
        assert_eq!(queue.push(zeros(LIMIT_BYTES)), Ok(Pressure::Full));
        assert_eq!(queue.push(zeros(1)), Err(Overrun));
        queue.advance(1);
        assert_eq!(queue.push(zeros(1)), Ok(Pressure::Unchanged));
    }
}
