//! A route server's Loc-RIB as its virtual networks see it: for each prefix the next hops that packets may take. Equal choices
//! are one allocation, so that a table of a million prefixes behind eight NVAs holds a handful of them.
//!
//! When every prefix of one choice moves to another (an NVA died, or came back), that is noticed here, once for all tables:
//! they give their group other members and look at no prefix.

use std::sync::Arc;

use bgp::IpNet;
use rib::{Change, Choice, HashKey, Rank, shrink_map};

use crate::keyed::KeyedMap;

/// Prefix to next hops.
#[derive(Debug)]
pub(crate) struct LocRib {
    routes: KeyedMap<IpNet, Arc<Choice>>,
    /// How many prefixes have a choice.
    counts: KeyedMap<Arc<Choice>, usize>,
}

/// What a batch changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Every prefix of the batch.
    pub(crate) all: Vec<IpNet>,
    /// Choices that all their prefixes left for one other.
    pub(crate) replaced: Vec<(Arc<Choice>, Arc<Choice>)>,
    /// The prefixes that `replaced` says nothing of.
    pub(crate) rest: Vec<IpNet>,
}

struct Move {
    prefix: IpNet,
    before: Option<Arc<Choice>>,
    after: Option<Arc<Choice>>,
}

/// Fewer prefixes than these move one by one: to the group that is there already, which keeps groups few.
const FEWEST_TO_REPLACE: usize = 2;

impl LocRib {
    pub(crate) fn new(key: HashKey) -> LocRib {
        LocRib {
            routes: KeyedMap::with_hasher(key),
            counts: KeyedMap::with_hasher(key),
        }
    }

    /// Takes over a batch of changes, each prefix at most once.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Changed {
        let mut moves = Vec::new();
        for Change { prefix, choice: after } in changes {
            let before = match &after {
                Some(choice) => self.routes.insert(prefix, choice.clone()),
                None => self.routes.remove(&prefix),
            };
            moves.push(Move { prefix, before, after });
        }
        let replaced = self.whole_moves(&moves);
        let mut changed = Changed::default();
        for Move { prefix, before, after } in moves {
            changed.all.push(prefix);
            let by = before.as_ref().and_then(|before| replaced.get(before));
            if by.is_none() || by != after.as_ref() {
                changed.rest.push(prefix);
            }
            self.count(before, after);
        }
        changed.replaced = replaced.into_iter().collect();
        shrink_map(&mut self.routes);
        shrink_map(&mut self.counts);
        changed
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Arc<Choice>> {
        self.routes.get(prefix)
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.keys()
    }

    /// The prefixes for which another one has other next hops, or none, or some.
    pub(crate) fn differs_from(&self, other: &LocRib) -> Vec<IpNet> {
        let same = |prefix: &&IpNet| match (self.get(prefix), other.get(prefix)) {
            (Some(one), Some(other)) => (&one.next_hops, &one.fallback) == (&other.next_hops, &other.fallback),
            (one, other) => one.is_none() && other.is_none(),
        };
        let gone_or_other = self.prefixes().filter(|prefix| !same(prefix));
        let fresh = other.prefixes().filter(|prefix| self.get(prefix).is_none());
        gone_or_other.chain(fresh).copied().collect()
    }

    /// Choices that every one of their prefixes leaves for the same other. Counts are those before the moves.
    fn whole_moves(&self, moves: &[Move]) -> KeyedMap<Arc<Choice>, Arc<Choice>> {
        let key = *self.counts.hasher();
        let mut leaving: KeyedMap<&Arc<Choice>, (usize, Option<&Arc<Choice>>)> = KeyedMap::with_hasher(key);
        for Move { before, after, .. } in moves {
            if let Some(before) = before {
                let (count, towards) = leaving.entry(before).or_insert((0, after.as_ref()));
                *count += 1;
                *towards = towards.filter(|towards| Some(*towards) == after.as_ref());
            }
        }
        let whole = leaving
            .into_iter()
            // A user-defined route may have the best rank's next hops as well; it does not move with BGP's.
            .filter(|(before, _)| before.rank != Rank(0))
            .filter(|(before, (count, _))| *count >= FEWEST_TO_REPLACE && self.counts.get(*before) == Some(count))
            .filter_map(|(before, (_, towards))| Some((before.clone(), towards?.clone())));
        let mut moves = KeyedMap::with_hasher(key);
        moves.extend(whole);
        moves
    }

    fn count(&mut self, before: Option<Arc<Choice>>, after: Option<Arc<Choice>>) {
        if let Some(choice) = after {
            *self.counts.entry(choice).or_default() += 1;
        }
        if let Some(before) = before
            && let Some(count) = self.counts.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, loc_rib, net};

    fn check(before: &[&str], batch: &[&str], replaced: usize, rest: &[&str]) {
        let mut loc_rib = loc_rib(before);
        let changed = loc_rib.apply(batch.iter().map(|text| change(text)));
        let rest: Vec<IpNet> = rest.iter().map(|prefix| net(prefix)).collect();
        assert_eq!((changed.replaced.len(), changed.rest), (replaced, rest), "{batch:?}");
        assert_eq!(changed.all.len(), batch.len());
        let held: usize = loc_rib.counts.values().sum();
        assert_eq!(held, loc_rib.routes.len());
    }

    #[test]
    fn a_choice_is_replaced_when_all_its_prefixes_move_to_one_other() {
        let before = &["20.0.0.0/24 10.0.0.1", "20.0.1.0/24 10.0.0.1", "20.0.2.0/24 10.0.0.2"];
        check(before, &["20.0.0.0/24 10.0.0.2", "20.0.1.0/24 10.0.0.2"], 1, &[]);
        check(before, &["20.0.0.0/24 10.0.0.2"], 0, &["20.0.0.0/24"]);
        check(
            before,
            &["20.0.0.0/24 10.0.0.2", "20.0.1.0/24 10.0.0.3"],
            0,
            &["20.0.0.0/24", "20.0.1.0/24"],
        );
        check(
            before,
            &["20.0.0.0/24", "20.0.1.0/24"],
            0,
            &["20.0.0.0/24", "20.0.1.0/24"],
        );
        check(before, &["20.0.2.0/24 10.0.0.3"], 0, &["20.0.2.0/24"]);
    }

    #[test]
    fn a_prefix_that_comes_to_a_choice_as_all_others_leave_it_is_not_covered() {
        let before = &["20.0.0.0/24 10.0.0.1", "20.0.1.0/24 10.0.0.1", "20.0.2.0/24 10.0.0.2"];
        let batch = &["20.0.0.0/24 10.0.0.2", "20.0.2.0/24 10.0.0.1", "20.0.1.0/24 10.0.0.2"];
        check(before, batch, 1, &["20.0.2.0/24"]);
    }

    #[test]
    fn memory_is_given_back() {
        let prefixes: Vec<String> = (0..10_000)
            .map(|n| format!("20.{}.{}.0/24", n / 256, n % 256))
            .collect();
        let mut loc_rib = loc_rib(&[]);
        loc_rib.apply(prefixes.iter().map(|prefix| change(&format!("{prefix} 10.0.0.1"))));
        loc_rib.apply(prefixes[1..].iter().map(|prefix| change(prefix)));
        assert!(loc_rib.get(&net(&prefixes[0])).is_some() && loc_rib.routes.capacity() < 256);
    }
}
