//! A route server's Loc-RIB as its virtual networks see it: for each prefix the next hops that packets may take. Equal choices
//! are one allocation, so that a table of a million prefixes behind eight NVAs holds a handful of them.
//!
//! When every prefix of one choice moves to another (an NVA died, or came back), that is noticed here, once for all tables:
//! they give their group other members and look at no prefix.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::{Change, Choice, HashKey, Rank, shrink_map};
use rustc_hash::FxHashMap;

use crate::keyed::{KeyedMap, KeyedSet};

/// Prefix to next hops.
#[derive(Debug)]
pub(crate) struct LocRib {
    routes: KeyedMap<IpNet, Arc<Choice>>,
    /// How many prefixes have a choice, those that `replaced` speaks of the later one.
    counts: KeyedMap<Arc<Choice>, usize>,
    /// Choices that stand in for ones with next hops that were lost. Their prefixes are being decided one by one.
    stand_ins: KeyedSet<Arc<Choice>>,
    /// Such a choice for each that it stands in for, as far as `routes` does not say so yet.
    replaced: Vec<Replaced>,
}

/// A choice, and the one that took its place.
pub(crate) type Replaced = (Arc<Choice>, Arc<Choice>);

/// Next hops that are lost, and what is left beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) next_hops: Vec<IpAddr>,
    /// Those of them whose routes are kept as a last resort: packets go on as before where nothing else is left.
    pub(crate) last_resort: Vec<IpAddr>,
    /// Peers have paths that do not go. Where the next hops and the fallback are lost, packets go on as before until their prefix is decided,
    /// since there may be a path that comes after both. Without a fallback there was no other path, and they have no route any more.
    pub(crate) may_be_found: bool,
}

/// A choice without next hops that are lost ([`LocRib::lose`]) is of this rank where the fallback took over: it is worse than any that was
/// decided. So another instance that decides better, or still hears the peer, is believed.
const STAND_IN_RANK: Rank = Rank(u64::MAX);

/// What a batch changed.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Every prefix of the batch.
    pub(crate) all: Vec<IpNet>,
    /// Choices that all their prefixes left for one other.
    pub(crate) replaced: Vec<Replaced>,
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
            stand_ins: KeyedSet::with_hasher(key),
            replaced: Vec::new(),
        }
    }

    /// These next hops are gone, which is known before any prefix is decided: every choice that has them gives way to one without them, or
    /// to its fallback. Looks at choices only, not at prefixes. The prefixes must all be decided next, also those that are decided as
    /// before; [`LocRib::is_decided`] ends that.
    pub(crate) fn lose(&mut self, lost: &Lost) -> Vec<Replaced> {
        let replaced: Vec<Replaced> = self
            .counts
            .keys()
            // A user-defined route may have the best rank's next hops as well; it does not lose them with BGP's.
            .filter(|choice| choice.rank != Rank(0))
            .filter_map(|choice| Some((choice.clone(), Arc::new(without(choice, lost)?))))
            .collect();
        for (before, stand_in) in &replaced {
            if let Some(count) = self.counts.remove(before) {
                *self.counts.entry(stand_in.clone()).or_default() += count;
            }
        }
        self.stand_ins
            .extend(replaced.iter().map(|(_, stand_in)| stand_in.clone()));
        self.add_replaced(&replaced);
        replaced
    }

    /// What stands in for a choice may have to give way in its turn, before any prefix has it.
    fn add_replaced(&mut self, replaced: &[Replaced]) {
        let mut by_value: KeyedMap<&Arc<Choice>, &Arc<Choice>> = KeyedMap::with_hasher(*self.counts.hasher());
        by_value.extend(replaced.iter().map(|(before, stand_in)| (before, stand_in)));
        for (_, stand_in) in &mut self.replaced {
            if let Some(next) = by_value.get(stand_in) {
                *stand_in = Arc::clone(next);
            }
        }
        self.replaced.extend_from_slice(replaced);
    }

    /// Enters the choices that stand in for others, prefix by prefix. To be called before anything else is done with the table.
    pub(crate) fn take_over_stand_ins(&mut self) {
        let replaced = std::mem::take(&mut self.replaced);
        if replaced.is_empty() {
            return;
        }
        let by_value: KeyedMap<&Arc<Choice>, &Arc<Choice>> = {
            let mut by_value = KeyedMap::with_hasher(*self.counts.hasher());
            by_value.extend(replaced.iter().map(|(before, stand_in)| (before, stand_in)));
            by_value
        };
        // Equal choices are mostly one allocation.
        let mut by_address: FxHashMap<*const Choice, Option<&Arc<Choice>>> = FxHashMap::default();
        for choice in self.routes.values_mut() {
            let stand_in = by_address
                .entry(Arc::as_ptr(choice))
                .or_insert_with(|| by_value.get(choice).copied());
            if let Some(stand_in) = stand_in {
                *choice = Arc::clone(stand_in);
            }
        }
    }

    /// Every prefix has been decided since next hops were lost.
    pub(crate) fn is_decided(&mut self) {
        self.stand_ins = KeyedSet::with_hasher(*self.counts.hasher());
    }

    /// Whether choices stand in for others.
    pub(crate) fn has_stand_ins(&self) -> bool {
        !self.stand_ins.is_empty()
    }

    /// Takes over a batch of changes, each prefix at most once.
    pub(crate) fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Changed {
        self.take_over_stand_ins();
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
            // What stands in is not the same for all its tables: each made one of what was decided first of it.
            .filter(|(before, _)| !self.stand_ins.contains(*before))
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

/// What is left of a choice without these next hops; `None`: it has none of them, or stays as it is.
fn without(choice: &Choice, lost: &Lost) -> Option<Choice> {
    let left = |next_hops: &[IpAddr]| -> Vec<IpAddr> {
        let left = next_hops.iter().filter(|next_hop| !lost.next_hops.contains(next_hop));
        left.copied().collect()
    };
    let (next_hops, fallback) = (left(&choice.next_hops), left(&choice.fallback));
    if next_hops.len() == choice.next_hops.len() && fallback.len() == choice.fallback.len() {
        return None;
    }
    if !next_hops.is_empty() {
        let rank = choice.rank;
        return Some(Choice {
            next_hops,
            fallback,
            rank,
        });
    }
    let next_hops = match fallback.is_empty() {
        true => last_resort(choice, lost)?,
        false => fallback,
    };
    Some(Choice {
        next_hops,
        fallback: Vec::new(),
        rank: STAND_IN_RANK,
    })
}

/// Where packets go whose next hops are lost, all of them and their fallback; `None`: as before.
fn last_resort(choice: &Choice, lost: &Lost) -> Option<Vec<IpAddr>> {
    let kept = |next_hops: &[IpAddr]| -> Vec<IpAddr> {
        let kept = next_hops.iter().filter(|next_hop| lost.last_resort.contains(next_hop));
        kept.copied().collect()
    };
    let of_next_hops = kept(&choice.next_hops);
    if !of_next_hops.is_empty() {
        return (of_next_hops.len() < choice.next_hops.len()).then_some(of_next_hops);
    }
    let of_fallback = kept(&choice.fallback);
    let had_fallback = !choice.fallback.is_empty() || choice.rank == STAND_IN_RANK;
    match of_fallback.is_empty() && had_fallback && lost.may_be_found {
        true => None,
        false => Some(of_fallback),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{change, ip, loc_rib, net};

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

    /// These next hops, and whether another way may be found.
    fn lost(next_hops: &[&str], may_be_found: bool) -> Lost {
        Lost {
            next_hops: next_hops.iter().map(|next_hop| ip(next_hop)).collect(),
            last_resort: Vec::new(),
            may_be_found,
        }
    }

    /// Of which the routes of these are kept.
    fn lost_but_kept(next_hops: &[&str], kept: &[&str]) -> Lost {
        Lost {
            last_resort: kept.iter().map(|next_hop| ip(next_hop)).collect(),
            ..lost(next_hops, true)
        }
    }

    fn addresses(loc_rib: &LocRib, prefix: &str) -> Option<(Vec<IpAddr>, Vec<IpAddr>)> {
        let choice = loc_rib.get(&net(prefix))?;
        Some((choice.next_hops.clone(), choice.fallback.clone()))
    }

    /// What `before` (with or without its prefix) is after `10.0.0.1` is lost; `None`: as before.
    fn check_lost(before: &str, lost: &Lost, expected: Option<(&str, Rank)>) {
        let mut loc_rib = loc_rib(&[&format!("20.0.0.0/24 {before}"), "20.0.1.0/24 10.0.0.9"]);
        let replaced = loc_rib.lose(lost);
        let stand_ins = replaced
            .iter()
            .map(|(_, to)| ((to.next_hops.clone(), to.fallback.clone()), to.rank));
        let expected = expected.map(|(text, rank)| {
            let change = change(&format!("20.0.0.0/24 {text}"));
            let choice = change.choice.unwrap();
            ((choice.next_hops.clone(), choice.fallback.clone()), rank)
        });
        assert_eq!(
            stand_ins.collect::<Vec<_>>(),
            expected.clone().into_iter().collect::<Vec<_>>(),
            "{before}"
        );
        loc_rib.take_over_stand_ins();
        if let Some((choice, _)) = expected {
            assert_eq!(addresses(&loc_rib, "20.0.0.0/24"), Some(choice), "{before}");
        }
        let held: usize = loc_rib.counts.values().sum();
        assert_eq!(held, loc_rib.routes.len());
    }

    #[test]
    fn a_choice_gives_way_to_what_is_left_of_it_or_to_its_fallback() {
        let (as_before, worst) = (Rank(100), STAND_IN_RANK);
        let one = ["10.0.0.1"];
        let (goes, may_be_found) = (&lost(&one, false), &lost(&one, true));
        let stays = &lost_but_kept(&one, &one);
        check_lost(
            "10.0.0.1,10.0.0.2|10.0.0.3",
            goes,
            Some(("10.0.0.2|10.0.0.3", as_before)),
        );
        check_lost(
            "10.0.0.2|10.0.0.1,10.0.0.3",
            goes,
            Some(("10.0.0.2|10.0.0.3", as_before)),
        );
        for lost in [goes, stays, may_be_found] {
            check_lost("10.0.0.1|10.0.0.2,10.0.0.3", lost, Some(("10.0.0.2,10.0.0.3", worst)));
        }
        check_lost("10.0.0.1", goes, Some(("", worst)));
        check_lost("10.0.0.1", may_be_found, Some(("", worst)));
        check_lost("10.0.0.1", stays, None);
        check_lost("10.0.0.2", goes, None);
    }

    #[test]
    fn of_lost_next_hops_those_that_are_kept_stay_where_nothing_else_is_left() {
        let both = lost_but_kept(&["10.0.0.1", "10.0.0.2"], &["10.0.0.1"]);
        check_lost("10.0.0.1", &both, None);
        check_lost("10.0.0.1|10.0.0.2", &both, None);
        check_lost("10.0.0.1,10.0.0.2", &both, Some(("10.0.0.1", STAND_IN_RANK)));
        check_lost("10.0.0.2|10.0.0.1", &both, Some(("10.0.0.1", STAND_IN_RANK)));
        check_lost("10.0.0.2", &both, Some(("", STAND_IN_RANK)));
        check_lost("10.0.0.2|10.0.0.3", &both, Some(("10.0.0.3", STAND_IN_RANK)));
    }

    #[test]
    fn where_a_third_way_may_be_found_nothing_takes_the_place_of_what_is_lost_with_its_fallback() {
        for (may_be_found, stand_ins) in [(false, 1), (true, 0)] {
            let [first, second] = ["10.0.0.1", "10.0.0.2"].map(|next_hop| lost(&[next_hop], may_be_found));
            let mut both_at_once = loc_rib(&["20.0.0.0/24 10.0.0.1|10.0.0.2"]);
            let both = lost(&["10.0.0.1", "10.0.0.2"], may_be_found);
            assert_eq!(both_at_once.lose(&both).len(), stand_ins);
            let mut one_by_one = loc_rib(&["20.0.0.0/24 10.0.0.1|10.0.0.2"]);
            assert_eq!(one_by_one.lose(&first).len(), 1);
            assert_eq!(one_by_one.lose(&second).len(), stand_ins);
        }
    }

    #[test]
    fn a_second_loss_looks_at_no_prefix_either() {
        let mut loc_rib = loc_rib(&["20.0.0.0/24 10.0.0.1|10.0.0.2", "20.0.1.0/24 10.0.0.2"]);
        assert_eq!(loc_rib.lose(&lost(&["10.0.0.1"], false)).len(), 1);
        let replaced = loc_rib.lose(&lost(&["10.0.0.1", "10.0.0.2"], false));
        assert_eq!(replaced.len(), 2, "the stand-in, and the other choice");
        let of_first = || (vec![ip("10.0.0.1")], vec![ip("10.0.0.2")]);
        assert_eq!(addresses(&loc_rib, "20.0.0.0/24"), Some(of_first()));
        loc_rib.take_over_stand_ins();
        for prefix in ["20.0.0.0/24", "20.0.1.0/24"] {
            assert_eq!(addresses(&loc_rib, prefix), Some((vec![], vec![])), "{prefix}");
        }
        assert_eq!(loc_rib.counts.values().sum::<usize>(), 2);
    }

    #[test]
    fn what_a_user_defined_route_may_share_is_not_lost() {
        let mut loc_rib = LocRib::new(crate::testing::KEY);
        let mut entry = change("20.0.0.0/24 10.0.0.1");
        Arc::make_mut(entry.choice.as_mut().unwrap()).rank = Rank(0);
        loc_rib.apply([entry]);
        assert!(loc_rib.lose(&lost(&["10.0.0.1"], false)).is_empty());
    }

    #[test]
    fn what_stands_in_is_never_replaced_as_a_whole_and_what_is_decided_as_before_takes_its_place_again() {
        let prefixes = ["20.0.0.0/24", "20.0.1.0/24"];
        let entries = prefixes.map(|prefix| format!("{prefix} 10.0.0.1|10.0.0.2"));
        let mut loc_rib = loc_rib(&[&entries[0], &entries[1]]);
        loc_rib.lose(&lost(&["10.0.0.1"], false));
        let changed = loc_rib.apply(entries.iter().map(|entry| change(entry)));
        assert_eq!((changed.replaced.len(), changed.rest.len()), (0, 2));
        assert_eq!(addresses(&loc_rib, prefixes[0]).unwrap().0, [ip("10.0.0.1")]);
        loc_rib.is_decided();
        assert!(!loc_rib.has_stand_ins());
        let moved = prefixes.map(|prefix| format!("{prefix} 10.0.0.2"));
        assert_eq!(loc_rib.apply(moved.iter().map(|entry| change(entry))).replaced.len(), 1);
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
