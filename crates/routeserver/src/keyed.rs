//! Tables whose keys peers choose (prefixes, next hops): hashed with a key that they don't know.

use std::collections::{HashMap, HashSet};

use rib::HashKey;

/// A map by what peers choose.
pub(crate) type KeyedMap<K, V> = HashMap<K, V, HashKey>;
/// A set of what peers choose.
pub(crate) type KeyedSet<K> = HashSet<K, HashKey>;
