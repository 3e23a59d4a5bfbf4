//! Loc-RIB: the choice per prefix, and the path that peers are told (RFC 4271 §3.2, §9.1).
//!
//! What happens to a prefix only marks it; [`LocRib::decide`] then decides each marked prefix once, however often it was
//! touched. Marks of a table that is still arriving can be put off, so that its prefixes are not decided again with every peer
//! that has its say. Local routes never enter a choice, they only win what peers are told.

use std::sync::Arc;

use bgp::wire::Origin;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::adj_rib_in::{AdjRibIn, Paths};
use crate::attributes::{AttributeTable, AttributesId, NextHopId};
use crate::choice::{ChoiceId, ChoiceTable, Draft};
use crate::decision::{Candidate, Choice, Rank};
use crate::hash::HashKey;
use crate::ids::{IdSet, shrink};
use crate::peers::{PeerIndex, Peers, RouteSource, Sender};
use crate::prefix_table::{PrefixId, PrefixTable};
use crate::table::Change;
use crate::tables::Tables;

/// The path that peers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Best {
    /// Who sent it; [`PeerIndex::LOCAL`] for local routes, [`PeerIndex::NOBODY`] if there is none.
    pub(crate) originator: PeerIndex,
    pub(crate) attributes: AttributesId,
}

impl Best {
    const NONE: Best = Best {
        originator: PeerIndex::NOBODY,
        attributes: AttributesId(0),
    };

    pub(crate) fn is_none(self) -> bool {
        self.originator == PeerIndex::NOBODY
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    choice: ChoiceId,
    best: Best,
}

impl Entry {
    const EMPTY: Entry = Entry {
        choice: ChoiceId::NONE,
        best: Best::NONE,
    };
}

/// A route that we originate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalRoute {
    pub(crate) source: RouteSource,
    pub(crate) attributes: AttributesId,
}

/// So many of the prefixes that were put off are decided at once: they take some milliseconds, and whoever says something else
/// meanwhile waits no longer.
const DUE_PREFIXES: usize = 16 * 1024;

/// The Loc-RIB.
#[derive(Debug)]
pub(crate) struct LocRib {
    entries: Vec<Entry>,
    choices: ChoiceTable,
    pub(crate) local: FxHashMap<PrefixId, LocalRoute>,
    /// Prefixes to decide with the next [`LocRib::decide`].
    touched: IdSet,
    /// Prefixes to decide when they are due.
    put_off: IdSet,
    /// Prefixes that are due: decided piece by piece.
    due: IdSet,
    /// Where marks go: to `put_off`, or to `touched`.
    pub(crate) puts_off: bool,
    /// Prefixes whose best path changed since they were taken; each is held.
    changed: IdSet,
    /// Prefixes that were decided as before, if somebody wants to know.
    unchanged: Option<Vec<Change>>,
}

/// A path while its prefix is decided.
struct Contender {
    rank: Rank,
    next_hop: NextHopId,
    peer: PeerIndex,
    attributes: AttributesId,
    origin: Origin,
    as_path_len: u16,
    last_resort: bool,
}

type Contenders = SmallVec<[Contender; 16]>;
type NextHops = SmallVec<[NextHopId; 16]>;

/// The last verdict: neighbours in a table mostly have the same paths, so most prefixes cost a comparison. It counts as a user
/// of its choice; the attribute sets are those of paths, which nobody removes while prefixes are decided.
struct Verdict {
    paths: Paths,
    choice: ChoiceId,
    best: Best,
}

impl LocRib {
    pub(crate) fn new(key: HashKey) -> LocRib {
        LocRib {
            entries: Vec::new(),
            choices: ChoiceTable::new(key),
            local: FxHashMap::default(),
            touched: IdSet::default(),
            put_off: IdSet::default(),
            due: IdSet::default(),
            puts_off: false,
            changed: IdSet::default(),
            unchanged: None,
        }
    }

    /// Something happened to a prefix: it will be decided.
    #[inline]
    pub(crate) fn touch(&mut self, prefix: PrefixId, prefixes: &mut PrefixTable) {
        let marks = if self.puts_off {
            &mut self.put_off
        } else {
            &mut self.touched
        };
        if marks.insert(prefix.0) {
            prefixes.hold(prefix);
        }
    }

    /// What was put off is due: each [`LocRib::decide`] decides some of it.
    pub(crate) fn call_due(&mut self, prefixes: &mut PrefixTable) {
        if self.due.is_empty() {
            std::mem::swap(&mut self.due, &mut self.put_off);
            return;
        }
        for id in self.put_off.take() {
            if !self.due.insert(id) {
                prefixes.release(PrefixId(id));
            }
        }
    }

    /// Whether something is due.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether nothing waits to be decided.
    pub(crate) fn is_decided(&self) -> bool {
        [&self.touched, &self.put_off, &self.due]
            .iter()
            .all(|set| set.is_empty())
    }

    /// Whether a path through this next hop can be part of what was decided for a prefix. If not, it ranks behind the runner-up, and
    /// when it goes nothing else follows: most paths of a peer that dies are of this kind. (A prefix that is marked is decided in any
    /// case, from what is stored then.)
    #[inline]
    pub(crate) fn counts_on(&self, prefix: PrefixId, next_hop: NextHopId) -> bool {
        self.entries
            .get(prefix.index())
            .is_some_and(|entry| self.choices.names(entry.choice, next_hop))
    }

    /// What peers are told of a prefix must be looked at, whether or not its best path changes.
    pub(crate) fn touch_best(&mut self, prefix: PrefixId, prefixes: &mut PrefixTable) {
        if self.changed.insert(prefix.0) {
            prefixes.hold(prefix);
        }
    }

    /// Decides what was touched, and some of what is due.
    pub(crate) fn decide(&mut self, adj_rib_in: &AdjRibIn, peers: &Peers, tables: &mut Tables) -> Vec<Change> {
        let mut touched = self.touched.take();
        touched.extend(self.due.take_some(DUE_PREFIXES));
        let mut changes = Vec::with_capacity(touched.len());
        let mut paths = Paths::new();
        let mut verdict = Verdict {
            paths: Paths::new(),
            choice: ChoiceId::NONE,
            best: Best::NONE,
        };
        self.entries
            .resize(tables.prefixes.len().max(self.entries.len()), Entry::EMPTY);
        for id in touched {
            let prefix = PrefixId(id);
            adj_rib_in.accepted(prefix, &mut paths);
            if paths != verdict.paths {
                self.choices.release(verdict.choice, &mut tables.attributes);
                verdict = self.judge(paths.clone(), peers, &mut tables.attributes);
            }
            let changed = self.enter(prefix, &verdict, tables);
            if let Some(into) = if changed {
                Some(&mut changes)
            } else {
                self.unchanged.as_mut()
            } {
                into.push(Change {
                    prefix: tables.prefixes.get(prefix),
                    choice: self.choices.get(verdict.choice),
                });
            }
            tables.prefixes.release(prefix);
        }
        self.choices.release(verdict.choice, &mut tables.attributes);
        self.entries.truncate(tables.prefixes.len());
        shrink(&mut self.entries);
        changes
    }

    pub(crate) fn keep_unchanged(&mut self, keeps: bool) {
        self.unchanged = keeps.then(|| self.take_unchanged());
    }

    pub(crate) fn take_unchanged(&mut self) -> Vec<Change> {
        self.unchanged.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Decides between paths.
    fn judge(&mut self, paths: Paths, peers: &Peers, attributes: &mut AttributeTable) -> Verdict {
        let contenders = contend(&paths, peers, attributes);
        let (choice, best) = match contenders.iter().map(|contender| contender.rank).min() {
            Some(lowest) => (
                self.choose(lowest, &contenders, attributes),
                best_of(lowest, &contenders, peers),
            ),
            None => (ChoiceId::NONE, Best::NONE),
        };
        Verdict { paths, choice, best }
    }

    /// Enters a verdict for a prefix. Whether the choice changed.
    fn enter(&mut self, prefix: PrefixId, verdict: &Verdict, tables: &mut Tables) -> bool {
        let best = match self.local.get(&prefix) {
            Some(local) => Best {
                originator: PeerIndex::LOCAL,
                attributes: local.attributes,
            },
            None => verdict.best,
        };
        let now = Entry {
            choice: verdict.choice,
            best,
        };
        let before = std::mem::replace(&mut self.entries[prefix.index()], now);
        if best != before.best {
            self.best_changed(prefix, before.best, best, tables);
        }
        if verdict.choice == before.choice {
            return false;
        }
        self.choices.retain(verdict.choice);
        self.choices.release(before.choice, &mut tables.attributes);
        true
    }

    fn best_changed(&mut self, prefix: PrefixId, before: Best, now: Best, tables: &mut Tables) {
        // While it is entered, a number must not come to mean another set: what changed is seen by comparing numbers.
        if !now.is_none() {
            tables.attributes.retain(now.attributes, 1);
        }
        if !before.is_none() {
            tables.attributes.release(before.attributes);
        }
        match (before.is_none(), now.is_none()) {
            (true, false) => tables.prefixes.hold(prefix),
            (false, true) => tables.prefixes.release(prefix),
            _ => {}
        }
        self.touch_best(prefix, &mut tables.prefixes);
    }

    fn choose(&mut self, lowest: Rank, contenders: &Contenders, attributes: &mut AttributeTable) -> ChoiceId {
        let next_hops = next_hops_of(lowest, contenders, &[]);
        let runner_up = contenders
            .iter()
            .filter(|contender| !next_hops.contains(&contender.next_hop))
            .map(|contender| contender.rank)
            .min();
        let fallback = runner_up.map_or_else(NextHops::new, |rank| next_hops_of(rank, contenders, &next_hops));
        let draft = Draft {
            next_hops: &next_hops,
            fallback: &fallback,
            rank: lowest,
        };
        self.choices.intern(draft, attributes)
    }

    /// The best path of a prefix.
    #[inline]
    pub(crate) fn best(&self, prefix: PrefixId) -> Option<Best> {
        let best = self.entries.get(prefix.index())?.best;
        (!best.is_none()).then_some(best)
    }

    /// Who sent the best path.
    pub(crate) fn sender(&self, prefix: PrefixId, best: Best, peers: &Peers) -> Option<Sender> {
        if best.originator == PeerIndex::LOCAL {
            self.local.get(&prefix).map(|local| Sender::external(local.source))
        } else {
            peers.get(best.originator).map(|peer| peer.info.sender())
        }
    }

    /// Prefixes whose best path changed since the last call; the caller releases them.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        self.changed.take()
    }

    /// Nothing waits to be decided or told.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_decided() && self.changed.is_empty()
    }

    /// What holds for a prefix over learned routes.
    pub(crate) fn choice(&self, prefix: PrefixId) -> Option<Arc<Choice>> {
        self.choices.get(self.entries.get(prefix.index())?.choice)
    }

    /// Every choice over learned routes.
    pub(crate) fn choices<'a>(&'a self, prefixes: &'a PrefixTable) -> impl Iterator<Item = Change> + 'a {
        self.entries.iter().enumerate().filter_map(|(id, entry)| {
            self.choices.get(entry.choice).map(|choice| Change {
                prefix: prefixes.get(PrefixId(id as u32)),
                choice: Some(choice),
            })
        })
    }

    /// How many distinct choices are held.
    pub(crate) fn distinct_choices(&self) -> usize {
        self.choices.len()
    }
}

/// What is compared of each path.
fn contend(paths: &Paths, peers: &Peers, attributes: &AttributeTable) -> Contenders {
    let contenders = paths.iter().filter_map(|(index, id)| {
        let summary = attributes.summary(*id);
        Some(Contender {
            rank: peers
                .get(*index)?
                .rank
                .of_path(summary.as_path_len, summary.last_resort),
            next_hop: summary.next_hop,
            peer: *index,
            attributes: *id,
            origin: summary.origin,
            as_path_len: summary.as_path_len,
            last_resort: summary.last_resort,
        })
    });
    contenders.collect()
}

/// The one of the equal-cost set that is advertised.
fn best_of(lowest: Rank, contenders: &Contenders, peers: &Peers) -> Best {
    let mut equal = contenders.iter().filter(|contender| contender.rank == lowest);
    let (Some(mut best), rest) = (equal.next(), equal) else {
        return Best::NONE;
    };
    for contender in rest {
        if tie_break(contender, peers) < tie_break(best, peers) {
            best = contender;
        }
    }
    Best {
        originator: best.peer,
        attributes: best.attributes,
    }
}

fn tie_break(contender: &Contender, peers: &Peers) -> impl Ord + use<> {
    peers.get(contender.peer).map(|peer| {
        Candidate {
            peer: &peer.info,
            as_path_len: contender.as_path_len,
            last_resort: contender.last_resort,
            origin: contender.origin,
        }
        .tie_break()
    })
}

/// The next hops of one rank, ascending, without repetition and without those of `but`.
fn next_hops_of(rank: Rank, contenders: &Contenders, but: &[NextHopId]) -> NextHops {
    let mut next_hops: NextHops = contenders
        .iter()
        .filter(|contender| contender.rank == rank && !but.contains(&contender.next_hop))
        .map(|contender| contender.next_hop)
        .collect();
    next_hops.sort_unstable();
    next_hops.dedup();
    next_hops
}
