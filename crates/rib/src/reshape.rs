//! Views of groups that are told other prefixes than the Loc-RIB has, or whose policy tells prefixes apart (an outbound route map): what
//! each prefix became, and what is told of prefixes that became the same one.

use std::collections::BTreeSet;
use std::sync::Arc;

use bgp::wire::PathAttributes;
use rustc_hash::FxHashMap;

use crate::attributes::AttributesId;
use crate::export::ExportPolicy;
use crate::ids::{shrink, shrink_map};
use crate::loc_rib::LocRib;
use crate::peers::{PeerIndex, Peers};
use crate::prefix_table::PrefixId;
use crate::tables::Tables;
use crate::view::{Moves, Told, View};

/// What a view's prefixes became.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    parts: FxHashMap<PrefixId, Part>,
    /// What each told prefix is made of.
    wholes: FxHashMap<PrefixId, BTreeSet<PrefixId>>,
    /// Told prefixes of the flush under way; each is held until its messages are written.
    settling: Vec<PrefixId>,
}

/// A prefix of the Loc-RIB as the group would be told it. It holds both prefixes and counts as a user of its attribute set.
#[derive(Clone, Copy, Debug)]
struct Part {
    whole: PrefixId,
    told: Told,
    is_summary: bool,
    keeps_attributes: bool,
}

impl Shapes {
    /// A prefix became this, or nothing. Returns the wholes that this concerns.
    fn set(&mut self, prefix: PrefixId, now: Option<Part>, tables: &mut Tables) -> [Option<PrefixId>; 2] {
        if let Some(part) = now {
            tables.prefixes.hold(prefix);
            tables.prefixes.hold(part.whole);
            self.wholes.entry(part.whole).or_default().insert(prefix);
        }
        let before = match now {
            Some(part) => self.parts.insert(prefix, part),
            None => self.parts.remove(&prefix),
        };
        let concerned = [before, now].map(|part| part.map(|part| part.whole));
        for whole in concerned.into_iter().flatten() {
            tables.prefixes.hold(whole);
            self.settling.push(whole);
        }
        if let Some(before) = before {
            if now.is_none_or(|now| now.whole != before.whole) {
                self.leave(before.whole, prefix);
            }
            before.release(prefix, tables);
        }
        concerned
    }

    fn leave(&mut self, whole: PrefixId, part: PrefixId) {
        if let Some(parts) = self.wholes.get_mut(&whole) {
            parts.remove(&part);
            if parts.is_empty() {
                self.wholes.remove(&whole);
            }
        }
    }

    /// What is told of a whole, as a user of its attribute set. Summaries are preferred to a route that has the prefix by itself, then the
    /// lowest prefix decides: the same parts are told the same, whatever the order of their arrival.
    fn told(&self, whole: PrefixId, tables: &mut Tables) -> Told {
        let ids = self.wholes.get(&whole).into_iter().flatten();
        let parts = || ids.clone().filter_map(|id| Some((*id, self.parts.get(id)?)));
        let chosen = parts().min_by_key(|(id, part)| (!part.is_summary, tables.prefixes.get(*id)));
        let Some((_, chosen)) = chosen else {
            return Told::NOTHING;
        };
        // A whole of several peers' routes is nobody's own.
        let is_one_peers = parts().all(|(_, part)| part.told.originator == chosen.told.originator);
        let originator = if is_one_peers {
            chosen.told.originator
        } else {
            PeerIndex::LOCAL
        };
        let aggregate = chosen.keeps_attributes.then(|| {
            let mut kept: Vec<_> = parts().filter(|(_, part)| part.keeps_attributes).collect();
            kept.sort_by_key(|(id, _)| tables.prefixes.get(*id));
            Self::aggregate(kept.into_iter().map(|(_, part)| part.told.attributes), tables)
        });
        let attributes = aggregate.flatten().unwrap_or_else(|| {
            tables.attributes.retain(chosen.told.attributes, 1);
            chosen.told.attributes
        });
        Told { attributes, originator }
    }

    /// What these have in common, as a user of the attribute set.
    fn aggregate(parts: impl Iterator<Item = AttributesId>, tables: &mut Tables) -> Option<AttributesId> {
        let mut sets: Vec<AttributesId> = parts.collect();
        sets.dedup();
        let sets: Vec<PathAttributes> = sets.into_iter().map(|id| tables.attributes.get(id)).collect();
        tables
            .attributes
            .intern(&Arc::new(PathAttributes::aggregate(sets.iter())?))
    }

    /// The messages of a flush are written.
    pub(crate) fn settled(&mut self, tables: &mut Tables) {
        for whole in self.settling.drain(..) {
            tables.prefixes.release(whole);
        }
        shrink_map(&mut self.parts);
        shrink_map(&mut self.wholes);
        shrink(&mut self.settling);
    }

    /// Gives back what it holds.
    pub(crate) fn dissolve(mut self, tables: &mut Tables) {
        self.settled(tables);
        for (prefix, part) in self.parts.drain() {
            part.release(prefix, tables);
        }
    }
}

impl Part {
    fn release(self, prefix: PrefixId, tables: &mut Tables) {
        tables.attributes.release(self.told.attributes);
        tables.prefixes.release(self.whole);
        tables.prefixes.release(prefix);
    }
}

impl View {
    /// As the update of other views, for one whose policy reshapes.
    pub(crate) fn update_reshaped(
        &mut self,
        changed: &[u32],
        loc_rib: &LocRib,
        peers: &Peers,
        policy: &impl ExportPolicy,
        tables: &mut Tables,
    ) -> Moves {
        let mut wholes = BTreeSet::new();
        for id in changed {
            let prefix = PrefixId(*id);
            let part = self.reshape(prefix, loc_rib, peers, policy, tables);
            wholes.extend(self.shapes.set(prefix, part, tables).into_iter().flatten());
        }
        let mut moves = Moves::default();
        for whole in wholes {
            let now = self.shapes.told(whole, tables);
            self.tell(whole, now, &mut moves, tables);
            if !now.is_nothing() {
                tables.attributes.release(now.attributes);
            }
        }
        moves.sort();
        moves
    }

    /// What the group would be told of a prefix, as a user of the attribute set.
    fn reshape(
        &self,
        prefix: PrefixId,
        loc_rib: &LocRib,
        peers: &Peers,
        policy: &impl ExportPolicy,
        tables: &mut Tables,
    ) -> Option<Part> {
        if !self.key.families.contains(tables.prefixes.family(prefix)) {
            return None;
        }
        let best = loc_rib.best(prefix)?;
        let from = loc_rib.sender(prefix, best, peers)?;
        let received = Arc::new(tables.attributes.get(best.attributes));
        let reshaped = policy.reshape(&self.key, &tables.prefixes.get(prefix), from, &received)?;
        if policy.withheld(&self.key).contains(&reshaped.prefix.trunc()) {
            return None;
        }
        let attributes = tables.attributes.intern(&Arc::new(reshaped.attributes))?;
        let whole = tables.prefixes.find_or_insert(&reshaped.prefix.trunc());
        let fits = whole.filter(|whole| Self::next_hop_fits(*whole, attributes, tables));
        let Some(whole) = fits else {
            tables.attributes.release(attributes);
            if let Some(unheld) = whole {
                tables.prefixes.hold(unheld);
                tables.prefixes.release(unheld);
            }
            return None;
        };
        Some(Part {
            whole,
            told: Told {
                attributes,
                originator: peers.speaks_for(best.originator),
            },
            is_summary: reshaped.is_summary,
            keeps_attributes: reshaped.is_summary && reshaped.keeps_attributes,
        })
    }
}
