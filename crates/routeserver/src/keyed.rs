//! Tables whose keys peers choose (prefixes, next hops): hashed with a key that they don't know, and given back when they empty.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use rib::HashKey;

/// A map by what peers choose.
pub(crate) type KeyedMap<K, V> = HashMap<K, V, HashKey>;
/// A set of what peers choose.
pub(crate) type KeyedSet<K> = HashSet<K, HashKey>;

/// A table this large is worth giving back, when so much of it is unused.
const KEPT: usize = 64;
const USED_SHARE: usize = 8;

/// Gives memory back when most of it is unused; the slack keeps a table that breathes from reallocating.
pub(crate) fn shrink_map<K: Eq + Hash, V>(map: &mut KeyedMap<K, V>) {
    if map.capacity() > KEPT && map.len() < map.capacity() / USED_SHARE {
        map.shrink_to((map.len() * 2).max(KEPT));
    }
}

/// The same for a set.
pub(crate) fn shrink_set<K: Eq + Hash>(set: &mut KeyedSet<K>) {
    if set.capacity() > KEPT && set.len() < set.capacity() / USED_SHARE {
        set.shrink_to((set.len() * 2).max(KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_empties_gives_its_memory_back_and_one_that_breathes_keeps_it() {
        let mut map: KeyedMap<u32, ()> = KeyedMap::with_hasher(HashKey::new(1, 2));
        map.extend((0..10_000).map(|key| (key, ())));
        map.retain(|key, ()| key % 2 == 0);
        shrink_map(&mut map);
        assert!(map.capacity() > 10_000);
        map.retain(|key, ()| *key == 0);
        shrink_map(&mut map);
        assert!(map.capacity() < 256 && map.contains_key(&0));

        let mut set: KeyedSet<u32> = (0..10_000).fold(KeyedSet::with_hasher(HashKey::new(1, 2)), |mut set, key| {
            set.insert(key);
            set
        });
        set.clear();
        shrink_set(&mut set);
        assert!(set.capacity() < 256);
    }
}
