//! Adj-RIB-In: what every peer has told us, exactly as received, with the verdict of import policy (RFC 4271 §3.2).
//!
//! A path is four octets: the number of its attribute set and its verdict. Prefixes are taken in blocks of 64; a block has one
//! column per peer with a path in it, so a prefix's candidates and a peer's paths are both found without an index of their own,
//! and no path costs an allocation. The price is a column of 280 octets where a peer has but one path among 64 prefixes.

use smallvec::SmallVec;

use crate::attributes::{AttributesId, MAX_ATTRIBUTE_SETS};
use crate::ids::shrink;
use crate::peers::PeerIndex;
use crate::policy::RejectRule;
use crate::prefix_table::PrefixId;

const BLOCK: usize = 64;

/// Paths of one prefix: who, and which attribute set.
pub(crate) type Paths = SmallVec<[(PeerIndex, AttributesId); 16]>;

/// One received path: attribute set, verdict, and whether a refresh that is under way has not repeated it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path(u32);

const VERDICT_SHIFT: u32 = MAX_ATTRIBUTE_SETS.trailing_zeros();
const VERDICT_MASK: u32 = 0x1f << VERDICT_SHIFT;
const STALE: u32 = 1 << 31;

impl Path {
    #[inline]
    pub(crate) fn new(attributes: AttributesId, verdict: Option<RejectRule>) -> Path {
        Path(attributes.0 | u32::from(verdict.map_or(0, RejectRule::code)) << VERDICT_SHIFT)
    }

    #[inline]
    pub(crate) fn attributes(self) -> AttributesId {
        AttributesId(self.0 & (MAX_ATTRIBUTE_SETS as u32 - 1))
    }

    /// The rule that refused it, if one did.
    pub(crate) fn verdict(self) -> Option<RejectRule> {
        RejectRule::from_code(((self.0 & VERDICT_MASK) >> VERDICT_SHIFT) as u8)
    }

    #[inline]
    pub(crate) fn is_accepted(self) -> bool {
        self.0 & VERDICT_MASK == 0
    }

    /// The same path, judged again.
    pub(crate) fn with_verdict(self, verdict: Option<RejectRule>) -> Path {
        Path(self.0 & STALE | Path::new(self.attributes(), verdict).0)
    }

    #[inline]
    pub(crate) fn is_stale(self) -> bool {
        self.0 & STALE != 0
    }

    #[inline]
    pub(crate) fn fresh(self) -> Path {
        Path(self.0 & !STALE)
    }
}

/// All paths of all peers.
#[derive(Debug, Default)]
pub(crate) struct AdjRibIn {
    blocks: Vec<Block>,
    columns: usize,
}

#[derive(Debug, Default)]
struct Block {
    /// Ascending by peer.
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    peer: PeerIndex,
    /// One bit per prefix of the block that the peer has a path for.
    present: u64,
    paths: Box<[Path; BLOCK]>,
}

impl Block {
    #[inline]
    fn position(&self, peer: PeerIndex) -> Result<usize, usize> {
        self.columns.binary_search_by_key(&peer, |column| column.peer)
    }
}

impl AdjRibIn {
    /// Stores a path. What was there before, if anything.
    #[inline]
    pub(crate) fn insert(&mut self, peer: PeerIndex, prefix: PrefixId, path: Path) -> Option<Path> {
        let (number, place) = locate(prefix);
        if number >= self.blocks.len() {
            self.blocks.resize_with(number + 1, Block::default);
        }
        let block = &mut self.blocks[number];
        let position = block.position(peer).unwrap_or_else(|position| {
            let column = Column {
                peer,
                present: 0,
                paths: Box::new([Path(0); BLOCK]),
            };
            block.columns.insert(position, column);
            self.columns += 1;
            position
        });
        let column = &mut block.columns[position];
        let bit = 1 << place;
        let before = (column.present & bit != 0).then(|| column.paths[place]);
        column.present |= bit;
        column.paths[place] = path;
        before
    }

    /// Removes a path.
    pub(crate) fn remove(&mut self, peer: PeerIndex, prefix: PrefixId) -> Option<Path> {
        let (number, place) = locate(prefix);
        let block = self.blocks.get_mut(number)?;
        let position = block.position(peer).ok()?;
        let column = &mut block.columns[position];
        if column.present & 1 << place == 0 {
            return None;
        }
        column.present &= !(1 << place);
        let path = column.paths[place];
        if column.present == 0 {
            block.columns.remove(position);
            self.columns -= 1;
            self.trim();
        }
        Some(path)
    }

    /// Everybody's paths for a prefix, ascending by peer.
    #[inline]
    pub(crate) fn paths(&self, prefix: PrefixId) -> impl Iterator<Item = (PeerIndex, Path)> + '_ {
        let (number, place) = locate(prefix);
        self.blocks
            .get(number)
            .into_iter()
            .flat_map(|block| &block.columns)
            .filter(move |column| column.present & 1 << place != 0)
            .map(move |column| (column.peer, column.paths[place]))
    }

    /// Fills `out` with everybody's accepted paths for a prefix, ascending by peer. Every decision begins here.
    #[inline]
    pub(crate) fn accepted(&self, prefix: PrefixId, out: &mut Paths) {
        let (number, place) = locate(prefix);
        out.clear();
        let Some(block) = self.blocks.get(number) else {
            return;
        };
        for column in &block.columns {
            let path = column.paths[place];
            if column.present & 1 << place != 0 && path.is_accepted() {
                out.push((column.peer, path.attributes()));
            }
        }
    }

    /// A peer's paths, ascending by prefix number.
    pub(crate) fn of_peer(&self, peer: PeerIndex) -> impl Iterator<Item = (PrefixId, Path)> + '_ {
        self.blocks.iter().enumerate().flat_map(move |(number, block)| {
            let column = block.position(peer).ok().map(|position| &block.columns[position]);
            column.into_iter().flat_map(move |column| {
                places(column.present).map(move |place| (prefix(number, place), column.paths[place]))
            })
        })
    }

    /// Everybody's paths, ascending by prefix block.
    pub(crate) fn all(&self) -> impl Iterator<Item = (PeerIndex, PrefixId, Path)> + '_ {
        self.blocks.iter().enumerate().flat_map(|(number, block)| {
            block.columns.iter().flat_map(move |column| {
                places(column.present).map(move |place| (column.peer, prefix(number, place), column.paths[place]))
            })
        })
    }

    /// Takes out the paths of a peer that `wanted` picks, given prefix and staleness.
    pub(crate) fn extract(
        &mut self,
        peer: PeerIndex,
        mut wanted: impl FnMut(PrefixId, bool) -> bool,
    ) -> Vec<(PrefixId, Path)> {
        let mut out = Vec::new();
        for (number, block) in self.blocks.iter_mut().enumerate() {
            let Ok(position) = block.position(peer) else {
                continue;
            };
            let column = &mut block.columns[position];
            for place in places(column.present) {
                let path = column.paths[place];
                let id = prefix(number, place);
                if wanted(id, path.is_stale()) {
                    column.present &= !(1 << place);
                    out.push((id, path));
                }
            }
            if column.present == 0 {
                block.columns.remove(position);
                self.columns -= 1;
            }
        }
        self.trim();
        out
    }

    /// Marks the paths of a peer that `wanted` picks as not repeated yet. How many were not marked before.
    pub(crate) fn mark_stale(&mut self, peer: PeerIndex, wanted: impl Fn(PrefixId) -> bool) -> usize {
        let mut marked = 0;
        for (number, block) in self.blocks.iter_mut().enumerate() {
            if let Ok(position) = block.position(peer) {
                let column = &mut block.columns[position];
                for place in places(column.present) {
                    if wanted(prefix(number, place)) {
                        marked += usize::from(!column.paths[place].is_stale());
                        column.paths[place].0 |= STALE;
                    }
                }
            }
        }
        marked
    }

    /// Columns allocated, for tests of what is given back.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    fn trim(&mut self) {
        while self.blocks.last().is_some_and(|block| block.columns.is_empty()) {
            self.blocks.pop();
        }
        shrink(&mut self.blocks);
    }
}

#[inline]
fn locate(prefix: PrefixId) -> (usize, usize) {
    (prefix.index() / BLOCK, prefix.index() % BLOCK)
}

fn prefix(block: usize, place: usize) -> PrefixId {
    PrefixId((block * BLOCK + place) as u32)
}

/// The positions of the bits that are set, ascending.
fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(attributes: u32) -> Path {
        Path::new(AttributesId(attributes), None)
    }

    #[test]
    fn a_path_holds_attributes_and_verdict() {
        for rule in RejectRule::ALL {
            let path = Path::new(AttributesId(MAX_ATTRIBUTE_SETS as u32 - 1), Some(rule));
            assert_eq!(path.attributes(), AttributesId(MAX_ATTRIBUTE_SETS as u32 - 1));
            assert_eq!((path.verdict(), path.is_accepted()), (Some(rule), false));
        }
        assert_eq!((path(7).verdict(), path(7).is_accepted()), (None, true));
    }

    #[test]
    fn paths_are_found_by_prefix_and_by_peer() {
        let mut rib = AdjRibIn::default();
        for (peer, id) in [(2, 5), (1, 5), (1, 700), (3, 6)] {
            assert_eq!(rib.insert(PeerIndex(peer), PrefixId(id), path(peer * 1000 + id)), None);
        }
        let peers: Vec<_> = rib.paths(PrefixId(5)).collect();
        assert_eq!(peers, [(PeerIndex(1), path(1005)), (PeerIndex(2), path(2005))]);
        let prefixes: Vec<_> = rib.of_peer(PeerIndex(1)).collect();
        assert_eq!(prefixes, [(PrefixId(5), path(1005)), (PrefixId(700), path(1700))]);
        assert_eq!(rib.insert(PeerIndex(1), PrefixId(5), path(8)), Some(path(1005)));
    }

    #[test]
    fn stale_paths_are_those_not_repeated() {
        let (mut rib, peer) = (AdjRibIn::default(), PeerIndex(1));
        for id in 0..3 {
            rib.insert(peer, PrefixId(id), path(id));
        }
        assert_eq!(rib.mark_stale(peer, |id| id != PrefixId(2)), 2);
        let before = rib.insert(peer, PrefixId(0), path(0));
        assert!(before.is_some_and(|before| before.is_stale() && before.fresh() == path(0)));
        let extracted = rib.extract(peer, |_, stale| stale);
        assert_eq!(extracted.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [PrefixId(1)]);
    }

    #[test]
    fn nothing_is_left_of_what_is_removed() {
        let (mut rib, peer) = (AdjRibIn::default(), PeerIndex(1));
        for id in 0..1000 {
            rib.insert(peer, PrefixId(id), path(id));
        }
        for id in 0..1000 {
            assert_eq!(rib.remove(peer, PrefixId(id)), Some(path(id)));
        }
        assert_eq!(rib.remove(peer, PrefixId(0)), None);
        assert_eq!((rib.columns(), rib.blocks.len()), (0, 0));
    }
}
