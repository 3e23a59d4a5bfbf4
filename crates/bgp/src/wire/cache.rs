//! Attribute sets that one connection has sent lately, so that an UPDATE which repeats one costs a comparison and shares the
//! value (performance: most UPDATEs repeat a set already seen).
//!
//! Each slot holds the last set whose hash fell there: no chains to walk, so a peer that chooses its attributes can only make
//! the cache useless, not slow.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::attributes::{CanonicalBytes, PathAttributes};

/// Slots of each kind: with 150 octets each a connection keeps at most 150 KB.
const SLOTS: usize = 512;

/// Attribute bytes longer than this are not kept: sets that long are rare and would make the bound above meaningless.
const MAX_KEPT: usize = 512;

/// See the module.
#[derive(Default)]
pub(super) struct AttributeCache {
    by_raw: Vec<RawSlot>,
    by_value: Vec<Option<Arc<PathAttributes>>>,
}

/// The path attributes of an UPDATE as they came, and what they mean.
#[derive(Clone, Default)]
struct RawSlot {
    /// Of what is kept, or of what was met once since and is kept when it comes again: a table whose sets all differ costs no copies.
    met: u64,
    raw: Vec<u8>,
    attributes: Option<Arc<PathAttributes>>,
}

/// The hash of an UPDATE's raw path attributes.
#[derive(Clone, Copy)]
pub(super) struct RawHash(u64);

impl RawHash {
    pub(super) fn of(raw: &[u8]) -> RawHash {
        RawHash(hash(raw))
    }
}

impl AttributeCache {
    /// What `raw` meant the last time.
    #[inline]
    pub(super) fn by_raw(&self, raw: &[u8], hash: RawHash) -> Option<Arc<PathAttributes>> {
        let slot = self.by_raw.get(index(hash.0))?;
        if slot.met == hash.0 && slot.raw == raw {
            slot.attributes.clone()
        } else {
            None
        }
    }

    /// Remembers what `raw` means. Only for attributes without prefixes and without faults.
    pub(super) fn insert_raw(&mut self, raw: &[u8], hash: RawHash, attributes: &Arc<PathAttributes>) {
        if raw.len() > MAX_KEPT {
            return;
        }
        if self.by_raw.is_empty() {
            self.by_raw.resize(SLOTS, RawSlot::default());
        }
        if let Some(slot) = self.by_raw.get_mut(index(hash.0)) {
            if std::mem::replace(&mut slot.met, hash.0) != hash.0 {
                return;
            }
            slot.raw.clear();
            slot.raw.extend_from_slice(raw);
            slot.attributes = Some(Arc::clone(attributes));
        }
    }

    /// The shared value of canonical bytes and a next hop.
    pub(super) fn intern(&mut self, next_hop: IpAddr, bytes: CanonicalBytes) -> Arc<PathAttributes> {
        if bytes.len() > MAX_KEPT {
            return Arc::new(PathAttributes::from_canonical(next_hop, bytes));
        }
        if self.by_value.is_empty() {
            self.by_value.resize(SLOTS, None);
        }
        let slot = &mut self.by_value[index(hash(&bytes))];
        match slot {
            Some(attributes) if attributes.next_hop() == next_hop && attributes.as_bytes() == bytes.as_slice() => {
                Arc::clone(attributes)
            }
            _ => {
                let attributes = Arc::new(PathAttributes::from_canonical(next_hop, bytes));
                *slot = Some(Arc::clone(&attributes));
                attributes
            }
        }
    }

    /// Forgets everything: the meaning of bytes has changed.
    pub(super) fn clear(&mut self) {
        *self = AttributeCache::default();
    }
}

impl std::fmt::Debug for AttributeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttributeCache").finish_non_exhaustive()
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

fn index(hash: u64) -> usize {
    (hash as usize) % SLOTS
}
