//! Values that many share, each held once under a dense number with a count of its users.
//!
//! What is asked often lies close together, apart from the values: counts for every path that comes or goes, hashes for growing the
//! index.

use hashbrown::HashTable;

use crate::hash::widened;
use crate::ids::{IdAllocator, shrink};

/// Values of `T`, each once. Hashes are the caller's, see [`crate::hash::HashKey`].
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: Vec<Option<T>>,
    users: Vec<u32>,
    hashes: Vec<u32>,
    ids: IdAllocator,
    index: HashTable<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            values: Vec::new(),
            users: Vec::new(),
            hashes: Vec::new(),
            ids: IdAllocator::default(),
            index: HashTable::new(),
        }
    }
}

impl<T> Interner<T> {
    /// The number of a value that is held. `equals` is asked about those of this hash, by number and value.
    #[inline]
    pub(crate) fn find(&self, hash: u32, equals: impl Fn(u32, &T) -> bool) -> Option<u32> {
        let same = |id: &u32| {
            self.values[*id as usize]
                .as_ref()
                .is_some_and(|value| equals(*id, value))
        };
        self.index.find(widened(hash), same).copied()
    }

    /// Adds a value that [`Interner::find`] did not find, with no user yet: [`Interner::retain`] it.
    pub(crate) fn insert(&mut self, hash: u32, value: T) -> u32 {
        let id = self.ids.allocate();
        let place = id as usize;
        if place < self.values.len() {
            self.values[place] = Some(value);
            self.users[place] = 0;
            self.hashes[place] = hash;
        } else {
            self.values.push(Some(value));
            self.users.push(0);
            self.hashes.push(hash);
        }
        let hashes = &self.hashes;
        self.index
            .insert_unique(widened(hash), id, |id| widened(hashes[*id as usize]));
        id
    }

    /// What a number in use stands for.
    #[inline]
    pub(crate) fn get(&self, id: u32) -> &T {
        self.values[id as usize]
            .as_ref()
            .expect("a number is only handed out for a value that is held")
    }

    /// Counts more users.
    #[inline]
    pub(crate) fn retain(&mut self, id: u32, users: u32) {
        self.users[id as usize] += users;
    }

    /// Counts one user less; the value leaves with the last one and is handed out.
    #[inline]
    pub(crate) fn release(&mut self, id: u32) -> Option<T> {
        let users = &mut self.users[id as usize];
        *users -= 1;
        if *users > 0 { None } else { self.remove(id) }
    }

    fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.values[id as usize].take()?;
        let hash = widened(self.hashes[id as usize]);
        if let Ok(entry) = self.index.find_entry(hash, |held| *held == id) {
            entry.remove();
        }
        self.ids.release(id);
        self.shrink();
        Some(value)
    }

    /// How many values are held.
    pub(crate) fn len(&self) -> usize {
        self.ids.live()
    }

    /// One more than the highest number in use.
    pub(crate) fn numbers(&self) -> usize {
        self.ids.len()
    }

    /// Slots allocated, for tests of what is given back.
    pub(crate) fn slots(&self) -> usize {
        self.values.capacity()
    }

    fn shrink(&mut self) {
        let numbers = self.ids.len();
        if self.values.len() > numbers {
            self.values.truncate(numbers);
            self.users.truncate(numbers);
            self.hashes.truncate(numbers);
            shrink(&mut self.values);
            shrink(&mut self.users);
            shrink(&mut self.hashes);
        }
        let hashes = &self.hashes;
        shrink_index(&mut self.index, |id| widened(hashes[*id as usize]));
    }
}

/// Gives back an index's memory when most of it is unused.
pub(crate) fn shrink_index(index: &mut HashTable<u32>, hash: impl Fn(&u32) -> u64) {
    const KEPT: usize = 64;
    if index.capacity() > KEPT && index.len() < index.capacity() / 8 {
        index.shrink_to((index.len() * 2).max(KEPT), hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKey;

    const KEY: HashKey = HashKey::new(1, 2);

    fn intern(interner: &mut Interner<String>, value: &str) -> u32 {
        let hash = KEY.hash_of(value);
        let id = interner
            .find(hash, |_, held| held == value)
            .unwrap_or_else(|| interner.insert(hash, value.to_owned()));
        interner.retain(id, 1);
        id
    }

    #[test]
    fn a_value_is_held_once_and_leaves_with_its_last_user() {
        let mut interner = Interner::default();
        let first = intern(&mut interner, "a");
        assert_eq!(intern(&mut interner, "a"), first);
        assert_eq!(interner.release(first), None);
        assert_eq!(interner.release(first), Some("a".to_owned()));
        assert_eq!(interner.len(), 0);
        assert_eq!(interner.find(KEY.hash_of("a"), |_, _| true), None);
    }

    #[test]
    fn values_of_one_hash_are_told_apart() {
        let mut interner = Interner::default();
        let ids = ["a", "b"].map(|value| interner.insert(7, value));
        assert_eq!(interner.find(7, |_, held| *held == "b"), Some(ids[1]));
        assert_eq!(interner.find(7, |id, _| id == ids[0]), Some(ids[0]));
    }

    #[test]
    fn memory_is_given_back() {
        let mut interner = Interner::default();
        let ids: Vec<u32> = (0..10_000).map(|n| intern(&mut interner, &n.to_string())).collect();
        for id in &ids[1..] {
            interner.release(*id);
        }
        assert_eq!(interner.get(ids[0]), "0");
        assert!(interner.slots() <= 64 && interner.index.capacity() < 256);
    }
}
