//! The hash of all tables whose keys peers choose: keyed, so that nobody who doesn't know the key can choose keys that fall into
//! one place and make every look-up a walk.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use siphasher::sip::SipHasher13;

/// What the hashes of a RIB depend on. Whoever has real peers draws it from a random source and tells nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// A key of 128 random bits.
    pub const fn new(high: u64, low: u64) -> HashKey {
        HashKey(high, low)
    }

    /// The hash of a value; half of SipHash-1-3's, which is what an [`crate::intern::Interner`] keeps.
    #[inline]
    pub(crate) fn hash_of(self, value: &(impl Hash + ?Sized)) -> u32 {
        self.hash_one(value) as u32
    }

    /// The hash of octets that belong to a number.
    #[inline]
    pub(crate) fn hash_of_octets(self, number: u32, octets: &[u8]) -> u32 {
        SipHasher13::new_with_keys(self.0, self.1 ^ u64::from(number)).hash(octets) as u32
    }
}

/// For the standard library's tables, outside this crate.
impl BuildHasher for HashKey {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// The key is a secret.
impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// A hash as a table's index wants it: it looks at both ends.
#[inline]
pub(crate) fn widened(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_makes_other_hashes() {
        let keys = [HashKey::new(1, 2), HashKey::new(2, 1)];
        let [one, other] = keys.map(|key| (0..64u64).map(move |value| key.hash_of(&value)));
        assert_eq!(one.zip(other).filter(|(a, b)| a == b).count(), 0);
    }

    #[test]
    fn the_number_counts_as_much_as_the_octets() {
        let key = HashKey::new(1, 2);
        assert_ne!(key.hash_of_octets(0, b"a"), key.hash_of_octets(1, b"a"));
        assert_ne!(key.hash_of_octets(0, b"a"), key.hash_of_octets(0, b"b"));
    }
}
