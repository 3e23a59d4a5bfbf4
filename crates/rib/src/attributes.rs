//! Attribute sets, each held once (a full table repeats them over and over), with what the decision process reads of them for
//! every path beside the number, so that no path costs a walk through the set's bytes.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::wire::{Origin, PathAttributes};

use crate::intern::{Interned, Interner, hash_of};

/// Most attribute sets held at once: what a path's number has bits for. At some hundred octets each this is gigabytes away.
pub(crate) const MAX_ATTRIBUTE_SETS: usize = 1 << 26;

/// An attribute set's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttributesId(pub(crate) u32);

/// A next hop's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NextHopId(pub(crate) u32);

/// What the decision process reads of an attribute set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) next_hop: NextHopId,
    pub(crate) as_path_len: u16,
    pub(crate) origin: Origin,
}

/// A set in little room: the bytes alone. What they mean is restored where it is needed, which is once per set and change.
#[derive(Debug)]
struct Stored {
    bytes: Box<[u8]>,
    summary: Summary,
    /// Half of the hash, so that growing the index walks through slots and not through all bytes.
    hash: u32,
}

impl Interned for Stored {
    fn hash(&self) -> u64 {
        widened(self.hash)
    }
}

fn hash_of_set(next_hop: NextHopId, bytes: &[u8]) -> u32 {
    (hash_of(&(next_hop, bytes)) >> 16) as u32
}

/// The index looks at both ends of a hash.
fn widened(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Interned for IpAddr {
    fn hash(&self) -> u64 {
        hash_of(self)
    }
}

/// All attribute sets in use, received ones and told ones.
#[derive(Debug, Default)]
pub(crate) struct AttributeTable {
    sets: Interner<Stored>,
    next_hops: Interner<IpAddr>,
    /// The set asked for last: decoders share the value among UPDATEs that repeat it.
    last: Option<(Arc<PathAttributes>, AttributesId)>,
}

impl AttributeTable {
    /// The number of a set, with one user counted. `None`: no number is left ([`MAX_ATTRIBUTE_SETS`]).
    pub(crate) fn intern(&mut self, attributes: &Arc<PathAttributes>) -> Option<AttributesId> {
        if let Some((last, id)) = &self.last
            && Arc::ptr_eq(last, attributes)
        {
            let id = *id;
            self.sets.retain(id.0, 1);
            return Some(id);
        }
        let id = self.find(attributes).or_else(|| self.insert(attributes))?;
        self.sets.retain(id.0, 1);
        self.last = Some((Arc::clone(attributes), id));
        Some(id)
    }

    fn find(&self, attributes: &PathAttributes) -> Option<AttributesId> {
        let next_hop = self.find_next_hop(attributes.next_hop())?;
        let bytes = attributes.as_bytes();
        let same = |held: &Stored| held.summary.next_hop == next_hop && *held.bytes == *bytes;
        let hash = widened(hash_of_set(next_hop, bytes));
        self.sets.find(hash, same).map(AttributesId)
    }

    fn find_next_hop(&self, address: IpAddr) -> Option<NextHopId> {
        self.next_hops
            .find(hash_of(&address), |held| *held == address)
            .map(NextHopId)
    }

    fn insert(&mut self, attributes: &PathAttributes) -> Option<AttributesId> {
        if self.sets.len() >= MAX_ATTRIBUTE_SETS {
            return None;
        }
        let address = attributes.next_hop();
        let next_hop = self
            .find_next_hop(address)
            .unwrap_or_else(|| NextHopId(self.next_hops.insert(address)));
        self.retain_next_hop(next_hop);
        let stored = Stored {
            hash: hash_of_set(next_hop, attributes.as_bytes()),
            bytes: attributes.as_bytes().into(),
            summary: Summary {
                next_hop,
                as_path_len: attributes.as_path_len(),
                origin: attributes.origin(),
            },
        };
        Some(AttributesId(self.sets.insert(stored)))
    }

    /// Counts one more user.
    pub(crate) fn retain(&mut self, id: AttributesId) {
        self.sets.retain(id.0, 1);
    }

    /// Counts one user less; the set is forgotten with its last one.
    pub(crate) fn release(&mut self, id: AttributesId) {
        let Some(gone) = self.sets.release(id.0, 1) else {
            return;
        };
        self.release_next_hop(gone.summary.next_hop);
        self.last.take_if(|(_, last)| *last == id);
    }

    /// The set of a number.
    pub(crate) fn get(&self, id: AttributesId) -> PathAttributes {
        let Stored { bytes, summary, .. } = self.sets.get(id.0);
        PathAttributes::restore(self.next_hop(summary.next_hop), bytes)
    }

    #[inline]
    pub(crate) fn summary(&self, id: AttributesId) -> Summary {
        self.sets.get(id.0).summary
    }

    pub(crate) fn next_hop(&self, id: NextHopId) -> IpAddr {
        *self.next_hops.get(id.0)
    }

    /// Counts one more user of a next hop's number.
    pub(crate) fn retain_next_hop(&mut self, id: NextHopId) {
        self.next_hops.retain(id.0, 1);
    }

    /// Counts one user of a next hop's number less.
    pub(crate) fn release_next_hop(&mut self, id: NextHopId) {
        self.next_hops.release(id.0, 1);
    }

    /// How many sets are held.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Slots allocated, for tests of what is given back.
    pub(crate) fn slots(&self) -> usize {
        self.sets.slots()
    }
}
