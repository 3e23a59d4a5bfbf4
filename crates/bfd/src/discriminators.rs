//! Discriminators and the like from a seed: each once, and none to be guessed from the others.

use std::hash::Hasher;
use std::num::NonZeroU32;

use siphasher::sip::SipHasher24;

use crate::packet::Discriminator;

/// Of 128 bits that nobody outside can know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    high: u64,
    low: u64,
}

impl Seed {
    /// From a random source of the caller's.
    pub fn new(high: u64, low: u64) -> Seed {
        Seed { high, low }
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}

/// A keyed hash of a counter.
#[derive(Debug)]
pub(crate) struct Unpredictable {
    seed: Seed,
    count: u64,
}

impl Unpredictable {
    pub(crate) fn new(seed: Seed) -> Unpredictable {
        Unpredictable { seed, count: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.seed.high, self.seed.low);
        hasher.write_u64(self.count);
        self.count = self.count.wrapping_add(1);
        hasher.finish()
    }

    /// One that is not taken. There are 2³² of them and at most [`crate::MAX_SESSIONS`] are taken, so that the next is nearly always free.
    pub(crate) fn discriminator(&mut self, is_taken: impl Fn(Discriminator) -> bool) -> Discriminator {
        loop {
            let free = NonZeroU32::new(self.next() as u32).map(Discriminator);
            if let Some(free) = free.filter(|discriminator| !is_taken(*discriminator)) {
                return free;
            }
        }
    }
}
