//! Dense numbers for things: [`IdAllocator`] hands out the lowest free one, [`IdSet`] is a set of them in order of insertion.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

/// Hands out small numbers, always the lowest free one, so that tables stay short and a table that is announced again gets its
/// numbers in the order of arrival again.
#[derive(Debug, Default)]
pub(crate) struct IdAllocator {
    /// One bit per number below `len`; set: free.
    free: Vec<u64>,
    /// No word before this one has a free bit.
    lowest: usize,
    len: u32,
    live: u32,
}

impl IdAllocator {
    pub(crate) fn allocate(&mut self) -> u32 {
        self.live += 1;
        while self.lowest < self.free.len() {
            let word = &mut self.free[self.lowest];
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= !(1 << bit);
                return self.lowest as u32 * 64 + bit;
            }
            self.lowest += 1;
        }
        let id = self.len;
        self.len += 1;
        if self.len as usize > self.free.len() * 64 {
            self.free.push(0);
        }
        self.lowest = self.free.len();
        id
    }

    /// Takes a number back. Everything from [`IdAllocator::len`] on is then unused.
    pub(crate) fn release(&mut self, id: u32) {
        let word = id as usize / 64;
        debug_assert!(self.free[word] & 1 << (id % 64) == 0, "released twice");
        self.free[word] |= 1 << (id % 64);
        self.lowest = self.lowest.min(word);
        self.live -= 1;
        self.trim();
    }

    /// One more than the highest number in use.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many numbers are in use.
    pub(crate) fn live(&self) -> usize {
        self.live as usize
    }

    /// The numbers in use, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|id| self.free[*id as usize / 64] & 1 << (id % 64) == 0)
    }

    fn trim(&mut self) {
        while self.len > 0 {
            let last = self.len - 1;
            let word = &mut self.free[last as usize / 64];
            if *word & 1 << (last % 64) == 0 {
                break;
            }
            *word &= !(1 << (last % 64));
            self.len = last;
            if last.is_multiple_of(64) {
                self.free.pop();
            }
        }
        shrink(&mut self.free);
    }
}

/// Gives memory back when three quarters of it are unused; the slack keeps a table that breathes from reallocating.
pub(crate) fn shrink<T>(vec: &mut Vec<T>) {
    const KEPT: usize = 64;
    if vec.capacity() > KEPT && vec.len() < vec.capacity() / 4 {
        vec.shrink_to((vec.len() * 2).max(KEPT));
    }
}

/// A hash table this large is worth giving back,
const KEPT_ENTRIES: usize = 64;
/// when it could hold so many times what it does.
const UNUSED_FACTOR: usize = 8;

/// Gives a map's memory back when most of it is unused; the slack keeps a table that breathes from reallocating.
pub fn shrink_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.capacity() > KEPT_ENTRIES && map.len() < map.capacity() / UNUSED_FACTOR {
        map.shrink_to((map.len() * 2).max(KEPT_ENTRIES));
    }
}

/// The same for a set.
pub fn shrink_set<K: Eq + Hash, S: BuildHasher>(set: &mut HashSet<K, S>) {
    if set.capacity() > KEPT_ENTRIES && set.len() < set.capacity() / UNUSED_FACTOR {
        set.shrink_to((set.len() * 2).max(KEPT_ENTRIES));
    }
}

/// A set of dense numbers that remembers the order of insertion.
#[derive(Debug, Default)]
pub(crate) struct IdSet {
    order: Vec<u32>,
    /// So many at the beginning of `order` were taken out.
    taken: usize,
    members: Vec<u64>,
}

impl IdSet {
    /// Whether it was not in the set before.
    pub(crate) fn insert(&mut self, id: u32) -> bool {
        let word = id as usize / 64;
        if word >= self.members.len() {
            self.members.resize(word + 1, 0);
        }
        let bit = 1 << (id % 64);
        if self.members[word] & bit != 0 {
            return false;
        }
        self.members[word] |= bit;
        self.order.push(id);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.order.len()
    }

    /// Empties the set: its members in order of insertion. A big set gives its memory back; a small one, which is what a
    /// single UPDATE makes, keeps its bits.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        const KEPT_WORDS: usize = 1024;
        let mut order = std::mem::take(&mut self.order);
        order.drain(..std::mem::take(&mut self.taken));
        if self.members.len() > KEPT_WORDS && order.len() > self.members.len() {
            self.members = Vec::new();
        } else {
            for id in &order {
                self.members[*id as usize / 64] = 0;
            }
        }
        order
    }

    /// Takes out up to `most` members, those inserted first.
    pub(crate) fn take_some(&mut self, most: usize) -> Vec<u32> {
        if self.order.len() - self.taken <= most {
            return self.take();
        }
        let first = self.order[self.taken..][..most].to_vec();
        for id in &first {
            self.members[*id as usize / 64] &= !(1 << (id % 64));
        }
        self.taken += most;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_handed_out() {
        let mut ids = IdAllocator::default();
        for expected in 0..200 {
            assert_eq!(ids.allocate(), expected);
        }
        ids.release(7);
        ids.release(130);
        assert_eq!(ids.allocate(), 7);
        assert_eq!(ids.allocate(), 130);
        assert_eq!(ids.allocate(), 200);
    }

    #[test]
    fn numbers_at_the_end_are_forgotten_and_the_others_kept() {
        let mut ids = IdAllocator::default();
        for _ in 0..200 {
            ids.allocate();
        }
        for id in 1..200 {
            ids.release(id);
        }
        assert_eq!((ids.len(), ids.live()), (1, 1));
        assert_eq!(ids.iter().collect::<Vec<_>>(), [0]);
        assert_eq!(ids.allocate(), 1);
    }

    #[test]
    fn a_set_keeps_order_and_says_what_it_had() {
        let mut set = IdSet::default();
        assert!(set.insert(70));
        assert!(set.insert(3));
        assert!(!set.insert(70));
        assert_eq!(set.take_some(1), [70]);
        assert!(set.insert(70));
        assert_eq!(set.take(), [3, 70]);
        assert!(set.is_empty());
        assert!(set.insert(70));
    }

    #[test]
    fn a_set_is_taken_piece_by_piece_while_it_grows() {
        let mut set = IdSet::default();
        for id in 0..10 {
            set.insert(id);
        }
        assert_eq!(set.take_some(4), [0, 1, 2, 3]);
        assert!(set.insert(1));
        assert!(!set.insert(9));
        assert_eq!(set.take_some(4), [4, 5, 6, 7]);
        assert_eq!(set.take_some(4), [8, 9, 1]);
        assert!(set.is_empty());
    }

    #[test]
    fn a_table_that_empties_gives_its_memory_back_and_one_that_breathes_keeps_it() {
        let mut map: HashMap<u32, ()> = (0..10_000).map(|key| (key, ())).collect();
        map.retain(|key, ()| key % 2 == 0);
        shrink_map(&mut map);
        assert!(map.capacity() > 10_000);
        map.retain(|key, ()| *key == 0);
        shrink_map(&mut map);
        assert!(map.capacity() < 256 && map.contains_key(&0));

        let mut set: HashSet<u32> = (0..10_000).collect();
        set.clear();
        shrink_set(&mut set);
        assert!(set.capacity() < 256);
    }
}
