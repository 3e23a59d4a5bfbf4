//! Values that many share, each held once under a dense number with a count of its users.

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;

use crate::ids::{IdAllocator, shrink};

/// The hash used by all tables of this crate.
pub(crate) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    FxBuildHasher.hash_one(value)
}

/// A value that can be looked up by its hash.
pub(crate) trait Interned {
    fn hash(&self) -> u64;
}

/// Values of `T`, each once.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    slots: Vec<Slot<T>>,
    ids: IdAllocator,
    index: HashTable<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    users: u32,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            slots: Vec::new(),
            ids: IdAllocator::default(),
            index: HashTable::new(),
        }
    }
}

impl<T: Interned> Interner<T> {
    /// The number of a value that is held.
    pub(crate) fn find(&self, hash: u64, equals: impl Fn(&T) -> bool) -> Option<u32> {
        let slots = &self.slots;
        self.index
            .find(hash, |id| slots[*id as usize].value.as_ref().is_some_and(&equals))
            .copied()
    }

    /// Adds a value that [`Interner::find`] did not find, with no user yet: [`Interner::retain`] it.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let hash = value.hash();
        let id = self.ids.allocate();
        let slot = Slot {
            value: Some(value),
            users: 0,
        };
        match self.slots.get_mut(id as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        let slots = &self.slots;
        self.index.insert_unique(hash, id, |id| hash_of_slot(slots, *id));
        id
    }

    /// What a number in use stands for.
    pub(crate) fn get(&self, id: u32) -> &T {
        self.slots[id as usize]
            .value
            .as_ref()
            .expect("a number is only handed out for a value that is held")
    }

    /// Counts more users.
    pub(crate) fn retain(&mut self, id: u32, users: u32) {
        self.slots[id as usize].users += users;
    }

    /// Counts fewer users; the value leaves with the last one and is handed out.
    pub(crate) fn release(&mut self, id: u32, users: u32) -> Option<T> {
        let slot = &mut self.slots[id as usize];
        slot.users -= users;
        if slot.users > 0 {
            return None;
        }
        let value = slot.value.take()?;
        if let Ok(entry) = self.index.find_entry(value.hash(), |held| *held == id) {
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

    /// Slots allocated, for tests of what is given back.
    pub(crate) fn slots(&self) -> usize {
        self.slots.capacity()
    }

    fn shrink(&mut self) {
        self.slots.truncate(self.ids.len());
        shrink(&mut self.slots);
        let slots = &self.slots;
        shrink_index(&mut self.index, |id| hash_of_slot(slots, *id));
    }
}

fn hash_of_slot<T: Interned>(slots: &[Slot<T>], id: u32) -> u64 {
    slots[id as usize].value.as_ref().map_or(0, Interned::hash)
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

    impl Interned for String {
        fn hash(&self) -> u64 {
            hash_of(self.as_str())
        }
    }

    fn intern(interner: &mut Interner<String>, value: &str) -> u32 {
        let id = interner
            .find(hash_of(value), |held| held == value)
            .unwrap_or_else(|| interner.insert(value.to_owned()));
        interner.retain(id, 1);
        id
    }

    #[test]
    fn a_value_is_held_once_and_leaves_with_its_last_user() {
        let mut interner = Interner::default();
        let first = intern(&mut interner, "a");
        assert_eq!(intern(&mut interner, "a"), first);
        assert_eq!(interner.release(first, 1), None);
        assert_eq!(interner.release(first, 1), Some("a".to_owned()));
        assert_eq!(interner.len(), 0);
        assert_eq!(interner.find(hash_of("a"), |_| true), None);
    }

    #[test]
    fn memory_is_given_back() {
        let mut interner = Interner::default();
        let ids: Vec<u32> = (0..10_000).map(|n| intern(&mut interner, &n.to_string())).collect();
        for id in &ids[1..] {
            interner.release(*id, 1);
        }
        assert_eq!(interner.get(ids[0]), "0");
        assert!(interner.slots() <= 64 && interner.index.capacity() < 256);
    }
}
