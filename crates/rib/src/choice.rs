//! Choices, each held once: many prefixes share next hops, fallback and rank.

use std::sync::Arc;

use crate::attributes::{AttributeTable, NextHopId};
use crate::decision::{Choice, Rank};
use crate::hash::HashKey;
use crate::intern::Interner;

/// A choice's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChoiceId(pub(crate) u32);

impl ChoiceId {
    /// Stands for no choice: nothing is reachable.
    pub(crate) const NONE: ChoiceId = ChoiceId(u32::MAX);
}

/// A choice written with the numbers of next hops, each list ascending and without repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Draft<'a> {
    pub(crate) next_hops: &'a [NextHopId],
    pub(crate) fallback: &'a [NextHopId],
    pub(crate) rank: Rank,
}

#[derive(Debug)]
struct Stored {
    choice: Arc<Choice>,
    /// The numbers of the next hops, then of the fallback.
    ids: Box<[NextHopId]>,
}

impl Stored {
    fn draft(&self) -> Draft<'_> {
        let (next_hops, fallback) = self.ids.split_at(self.choice.next_hops.len());
        Draft {
            next_hops,
            fallback,
            rank: self.choice.rank,
        }
    }
}

/// All choices in use.
#[derive(Debug)]
pub(crate) struct ChoiceTable {
    key: HashKey,
    choices: Interner<Stored>,
}

impl ChoiceTable {
    pub(crate) fn new(key: HashKey) -> ChoiceTable {
        ChoiceTable {
            key,
            choices: Interner::default(),
        }
    }

    /// The number of a choice, with one user counted.
    pub(crate) fn intern(&mut self, draft: Draft<'_>, attributes: &mut AttributeTable) -> ChoiceId {
        let hash = self.key.hash_of(&draft);
        let id = self
            .choices
            .find(hash, |_, held| held.draft() == draft)
            .unwrap_or_else(|| self.insert(hash, draft, attributes));
        self.choices.retain(id, 1);
        ChoiceId(id)
    }

    fn insert(&mut self, hash: u32, draft: Draft<'_>, attributes: &mut AttributeTable) -> u32 {
        let ids: Box<[NextHopId]> = [draft.next_hops, draft.fallback].concat().into();
        // A number must go on to mean the same address while a choice is keyed by it.
        for id in &ids {
            attributes.retain_next_hop(*id);
        }
        let addresses = |ids: &[NextHopId]| {
            let mut addresses: Vec<_> = ids.iter().map(|id| attributes.next_hop(*id)).collect();
            addresses.sort_unstable();
            addresses
        };
        let choice = Arc::new(Choice {
            next_hops: addresses(draft.next_hops),
            fallback: addresses(draft.fallback),
            rank: draft.rank,
        });
        self.choices.insert(hash, Stored { choice, ids })
    }

    /// Counts one more user.
    pub(crate) fn retain(&mut self, id: ChoiceId) {
        if id != ChoiceId::NONE {
            self.choices.retain(id.0, 1);
        }
    }

    /// Counts one user less.
    pub(crate) fn release(&mut self, id: ChoiceId, attributes: &mut AttributeTable) {
        if id == ChoiceId::NONE {
            return;
        }
        if let Some(gone) = self.choices.release(id.0) {
            for id in &gone.ids {
                attributes.release_next_hop(*id);
            }
        }
    }

    /// Whether a next hop is in the choice, or in its fallback.
    #[inline]
    pub(crate) fn names(&self, id: ChoiceId, next_hop: NextHopId) -> bool {
        id != ChoiceId::NONE && self.choices.get(id.0).ids.contains(&next_hop)
    }

    pub(crate) fn get(&self, id: ChoiceId) -> Option<Arc<Choice>> {
        (id != ChoiceId::NONE).then(|| Arc::clone(&self.choices.get(id.0).choice))
    }

    /// How many choices are held.
    pub(crate) fn len(&self) -> usize {
        self.choices.len()
    }
}
