//! Attribute sets, each held once (a full table repeats them over and over), with what the decision process reads of them for
//! every path apart from the sets, so that no path costs a walk through the set's bytes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::{Origin, PathAttributes};

use crate::hash::HashKey;
use crate::ids::shrink;
use crate::intern::Interner;

/// Most attribute sets held at once: what a path's number has bits for. At some hundred octets each this is gigabytes away.
pub(crate) const MAX_ATTRIBUTE_SETS: usize = 1 << 26;
/// So many of them may be taken before peers' announcements are refused. The others are left for what we originate and tell:
/// telling a route takes at most one set for each that was received.
const MAX_RECEIVED_SETS: usize = MAX_ATTRIBUTE_SETS / 2;

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
    pub(crate) last_resort: bool,
}

/// All attribute sets in use, received ones and told ones. A set is its bytes alone; what they mean is restored where it is
/// needed, which is once per set and change.
#[derive(Debug)]
pub(crate) struct AttributeTable {
    key: HashKey,
    sets: Interner<Box<[u8]>>,
    /// By the sets' numbers.
    summaries: Vec<Summary>,
    next_hops: Interner<IpAddr>,
    /// The set asked for last: decoders share the value among UPDATEs that repeat it.
    last: Option<(Arc<PathAttributes>, AttributesId)>,
    /// [`MAX_RECEIVED_SETS`], and less in tests.
    max_received: usize,
}

impl AttributeTable {
    pub(crate) fn new(key: HashKey) -> AttributeTable {
        AttributeTable {
            key,
            sets: Interner::default(),
            summaries: Vec::new(),
            next_hops: Interner::default(),
            last: None,
            max_received: MAX_RECEIVED_SETS,
        }
    }

    /// The number of a set that a peer announces, with one user counted. `None`: too many are held ([`MAX_RECEIVED_SETS`]).
    #[inline]
    pub(crate) fn intern_received(&mut self, attributes: &Arc<PathAttributes>) -> Option<AttributesId> {
        self.intern_below(self.max_received, attributes)
    }

    /// The number of a set of ours, with one user counted. `None`: no number is left ([`MAX_ATTRIBUTE_SETS`]).
    pub(crate) fn intern(&mut self, attributes: &Arc<PathAttributes>) -> Option<AttributesId> {
        self.intern_below(MAX_ATTRIBUTE_SETS, attributes)
    }

    /// The number that stands for sets that could not be kept, with one user counted.
    pub(crate) fn intern_unkept(&mut self) -> Option<AttributesId> {
        self.intern(&Arc::new(PathAttributes::builder(Ipv4Addr::UNSPECIFIED.into()).build()))
    }

    #[inline]
    fn intern_below(&mut self, limit: usize, attributes: &Arc<PathAttributes>) -> Option<AttributesId> {
        if let Some((last, id)) = &self.last
            && Arc::ptr_eq(last, attributes)
        {
            let id = *id;
            self.retain(id, 1);
            return Some(id);
        }
        let id = self.find_or_insert(limit, attributes)?;
        self.retain(id, 1);
        self.last = Some((Arc::clone(attributes), id));
        Some(id)
    }

    fn find_or_insert(&mut self, limit: usize, attributes: &PathAttributes) -> Option<AttributesId> {
        let (address, bytes) = (attributes.next_hop(), attributes.as_bytes());
        let address_hash = self.key.hash_of(&address);
        let known = self.next_hops.find(address_hash, |_, held| *held == address);
        let known = known.map(|id| (NextHopId(id), self.key.hash_of_octets(id, bytes)));
        if let Some((next_hop, hash)) = known
            && let Some(id) = self.sets.find(hash, |id, held| {
                **held == *bytes && self.summaries[id as usize].next_hop == next_hop
            })
        {
            return Some(AttributesId(id));
        }
        if self.sets.len() >= limit {
            return None;
        }
        let (next_hop, hash) = known.unwrap_or_else(|| {
            let id = self.next_hops.insert(address_hash, address);
            (NextHopId(id), self.key.hash_of_octets(id, bytes))
        });
        Some(self.insert(next_hop, hash, attributes))
    }

    fn insert(&mut self, next_hop: NextHopId, hash: u32, attributes: &PathAttributes) -> AttributesId {
        self.retain_next_hop(next_hop);
        let id = self.sets.insert(hash, attributes.as_bytes().into());
        let summary = Summary {
            next_hop,
            as_path_len: attributes.as_path_len(),
            origin: attributes.origin(),
            last_resort: attributes.is_last_resort(),
        };
        match self.summaries.get_mut(id as usize) {
            Some(free) => *free = summary,
            None => self.summaries.push(summary),
        }
        AttributesId(id)
    }

    /// Counts more users.
    #[inline]
    pub(crate) fn retain(&mut self, id: AttributesId, users: u32) {
        self.sets.retain(id.0, users);
    }

    /// Counts one user less; the set is forgotten with its last one.
    #[inline]
    pub(crate) fn release(&mut self, id: AttributesId) {
        if self.sets.release(id.0).is_some() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: AttributesId) {
        self.release_next_hop(self.summary(id).next_hop);
        self.last.take_if(|(_, last)| *last == id);
        self.summaries.truncate(self.sets.numbers());
        shrink(&mut self.summaries);
    }

    /// The set of a number.
    pub(crate) fn get(&self, id: AttributesId) -> PathAttributes {
        PathAttributes::restore(self.next_hop(self.summary(id).next_hop), self.sets.get(id.0))
    }

    /// How many octets a set has.
    #[inline]
    pub(crate) fn octets(&self, id: AttributesId) -> usize {
        self.sets.get(id.0).len()
    }

    #[inline]
    pub(crate) fn summary(&self, id: AttributesId) -> Summary {
        self.summaries[id.0 as usize]
    }

    /// The next hop of a set.
    #[inline]
    pub(crate) fn next_hop_of(&self, set: AttributesId) -> IpAddr {
        self.next_hop(self.summary(set).next_hop)
    }

    /// A next hop.
    pub(crate) fn next_hop(&self, id: NextHopId) -> IpAddr {
        *self.next_hops.get(id.0)
    }

    /// Counts one more user of a next hop's number.
    pub(crate) fn retain_next_hop(&mut self, id: NextHopId) {
        self.next_hops.retain(id.0, 1);
    }

    /// Counts one user of a next hop's number less.
    pub(crate) fn release_next_hop(&mut self, id: NextHopId) {
        self.next_hops.release(id.0);
    }

    /// How many sets are held.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Slots allocated, for tests of what is given back.
    pub(crate) fn slots(&self) -> usize {
        self.sets.slots()
    }

    /// As if so many received sets were all that there is room for.
    #[cfg(test)]
    pub(crate) fn set_max_received(&mut self, sets: usize) {
        self.max_received = sets;
    }
}
