//! A view: what all members of a group are told, once for all of them. A member is told everything but its own routes.

use bgp::IpNet;
use bgp::wire::PathAttributes;
use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::attributes::AttributesId;
use crate::export::{ExportPolicy, GroupKey};
use crate::ids::shrink;
use crate::loc_rib::{Best, LocRib};
use crate::member::Member;
use crate::moves::{self, Move};
use crate::peers::{PeerIndex, Peers, Sender};
use crate::prefix_table::PrefixId;
use crate::reshape::Shapes;
use crate::tables::Tables;

/// What is told of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// As export policy made them.
    pub(crate) attributes: AttributesId,
    /// The one that is not told; [`PeerIndex::NOBODY`]: nothing is told to anyone.
    pub(crate) originator: PeerIndex,
}

impl Told {
    pub(crate) const NOTHING: Told = Told {
        attributes: AttributesId(0),
        originator: PeerIndex::NOBODY,
    };

    pub(crate) fn is_nothing(self) -> bool {
        self.originator == PeerIndex::NOBODY
    }
}

/// What is told, by prefix. It holds its prefixes and counts as a user of its attribute sets.
#[derive(Debug, Default)]
pub(crate) struct ToldTable {
    told: Vec<Told>,
    count: usize,
    by_originator: FxHashMap<PeerIndex, usize>,
}

impl ToldTable {
    #[inline]
    fn at(&self, prefix: PrefixId) -> Told {
        self.told.get(prefix.index()).copied().unwrap_or(Told::NOTHING)
    }

    /// What `peer` is told of a prefix.
    #[inline]
    pub(crate) fn to(&self, peer: PeerIndex, prefix: PrefixId) -> Option<Told> {
        let told = self.at(prefix);
        (!told.is_nothing() && told.originator != peer).then_some(told)
    }

    /// How many prefixes `peer` is told.
    fn count_to(&self, peer: PeerIndex) -> usize {
        self.count - self.by_originator.get(&peer).copied().unwrap_or(0)
    }

    /// One more than the highest prefix number of which something is told.
    pub(crate) fn len(&self) -> usize {
        self.told.len()
    }

    fn set(&mut self, prefix: PrefixId, now: Told, tables: &mut Tables) {
        let before = self.at(prefix);
        if !now.is_nothing() {
            tables.prefixes.hold(prefix);
            tables.attributes.retain(now.attributes, 1);
            self.count += 1;
            *self.by_originator.entry(now.originator).or_default() += 1;
            if self.told.len() <= prefix.index() {
                self.told.resize(prefix.index() + 1, Told::NOTHING);
            }
        }
        if let Some(told) = self.told.get_mut(prefix.index()) {
            *told = now;
        }
        if !before.is_nothing() {
            self.count -= 1;
            if let Some(count) = self.by_originator.get_mut(&before.originator) {
                *count -= 1;
                if *count == 0 {
                    self.by_originator.remove(&before.originator);
                }
            }
            tables.attributes.release(before.attributes);
            tables.prefixes.release(prefix);
        }
    }

    fn trim(&mut self) {
        while self.told.last().is_some_and(|told| told.is_nothing()) {
            self.told.pop();
        }
        shrink(&mut self.told);
    }
}

/// What a look at the changed prefixes brought.
#[derive(Default)]
pub(crate) struct Moves {
    /// For every member but the originator.
    common: Vec<Move>,
    /// For one member: it was told another's route until now and is the originator itself now, or the other way round.
    /// Ascending by member.
    personal: Vec<(PeerIndex, Move)>,
}

/// Export policy's answers within one flush: equal routes are asked for once. They count as users of the sets named.
type Exports = FxHashMap<(AttributesId, Sender), Option<AttributesId>>;

/// A group of peers and what they are told.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) key: GroupKey,
    pub(crate) members: Vec<Member>,
    told: ToldTable,
    pub(crate) shapes: Shapes,
    /// Everything must be looked at: the view is new, or policy changed.
    pub(crate) all_changed: bool,
}

impl View {
    pub(crate) fn new(key: GroupKey) -> View {
        View {
            key,
            members: Vec::new(),
            told: ToldTable::default(),
            shapes: Shapes::default(),
            all_changed: true,
        }
    }

    pub(crate) fn member(&mut self, peer: PeerIndex) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.peer == peer)
    }

    /// Brings the view up to date and its members with it. Whether a writable member waits for more.
    pub(crate) fn flush(
        &mut self,
        changed: &[u32],
        loc_rib: &LocRib,
        peers: &Peers,
        policy: &impl ExportPolicy,
        tables: &mut Tables,
        write: &mut impl FnMut(PeerIndex, Bytes),
    ) -> bool {
        let mut moves = if std::mem::take(&mut self.all_changed) {
            let all: Vec<u32> = tables.prefixes.iter().map(|id| id.0).collect();
            self.update(&all, loc_rib, peers, policy, tables)
        } else {
            self.update(changed, loc_rib, peers, policy, tables)
        };
        self.tell_followers(&mut moves, tables, write);
        self.put_off_for_others(&moves, tables);
        let mut more = false;
        for member in self.members.iter_mut().filter(|member| member.writable) {
            let bytes = member.catch_up(&self.told, &self.key, tables);
            if !bytes.is_empty() {
                write(member.peer, bytes.freeze());
            }
            more |= !member.follows();
        }
        self.shapes.settled(tables);
        self.told.trim();
        more
    }

    fn update(
        &mut self,
        changed: &[u32],
        loc_rib: &LocRib,
        peers: &Peers,
        policy: &impl ExportPolicy,
        tables: &mut Tables,
    ) -> Moves {
        if self.key.shape.is_some() {
            return self.update_reshaped(changed, loc_rib, peers, policy, tables);
        }
        let mut moves = Moves::default();
        let mut exports = Exports::default();
        for id in changed {
            let prefix = PrefixId(*id);
            let now = self
                .export(prefix, loc_rib, peers, policy, &mut exports, tables)
                .unwrap_or(Told::NOTHING);
            self.tell(prefix, now, &mut moves, tables);
        }
        moves.sort();
        for exported in exports.into_values().flatten() {
            tables.attributes.release(exported);
        }
        moves
    }

    /// From now on the group is told this of a prefix.
    pub(crate) fn tell(&mut self, prefix: PrefixId, now: Told, moves: &mut Moves, tables: &mut Tables) {
        let before = self.told.at(prefix);
        if now != before {
            moves.add(prefix, before, now, tables);
            self.told.set(prefix, now, tables);
        }
    }

    /// What is to be told of a prefix now.
    fn export(
        &self,
        prefix: PrefixId,
        loc_rib: &LocRib,
        peers: &Peers,
        policy: &impl ExportPolicy,
        exports: &mut Exports,
        tables: &mut Tables,
    ) -> Option<Told> {
        let family = tables.prefixes.family(prefix);
        if !self.key.families.contains(family) {
            return None;
        }
        let best: Best = loc_rib.best(prefix)?;
        let from = loc_rib.sender(prefix, best, peers)?;
        let withheld = policy.withheld(&self.key);
        if !withheld.is_empty() && withheld.contains(&tables.prefixes.get(prefix)) {
            return None;
        }
        let exported = *exports.entry((best.attributes, from)).or_insert_with(|| {
            let received = Arc::new(tables.attributes.get(best.attributes));
            let attributes = policy.export(&self.key, from, &received)?;
            tables.attributes.intern(&Arc::new(attributes))
        });
        let attributes = exported?;
        Self::next_hop_fits(prefix, attributes, tables).then_some(Told {
            attributes,
            originator: peers.speaks_for(best.originator),
        })
    }

    /// An IPv4 route with an IPv6 next hop would need RFC 8950, which nobody negotiated; the other way round has no form.
    pub(crate) fn next_hop_fits(prefix: PrefixId, attributes: AttributesId, tables: &Tables) -> bool {
        let next_hop = tables.attributes.summary(attributes).next_hop;
        let next_hop = tables.attributes.next_hop(next_hop);
        next_hop.is_ipv6() == (tables.prefixes.family(prefix) == bgp::Family::Ipv6Unicast)
    }

    /// Encodes once, and writes to all members that have heard everything before.
    fn tell_followers(&self, moves: &mut Moves, tables: &Tables, write: &mut impl FnMut(PeerIndex, Bytes)) {
        let followers: Vec<PeerIndex> = self
            .members
            .iter()
            .filter(|member| member.writable && member.follows())
            .map(|member| member.peer)
            .collect();
        if followers.is_empty() {
            return;
        }
        let (bytes, segments) = self.encode_common(moves, tables);
        for peer in followers {
            // All but the member's own routes, which are one segment: at most two pieces of one buffer.
            let own = segments.get(&peer).cloned().unwrap_or(0..0);
            for piece in [0..own.start, own.end..bytes.len()] {
                if !piece.is_empty() {
                    write(peer, bytes.slice(piece));
                }
            }
            let mut personal: Vec<Move> = moves.personal_of(peer).collect();
            if !personal.is_empty() {
                let mut out = BytesMut::new();
                moves::sort_by_attributes(&mut personal);
                moves::encode(&mut out, usize::MAX, &personal, self.key.encode, tables);
                write(peer, out.freeze());
            }
        }
    }

    /// The common moves as UPDATEs, and where each originator's are.
    fn encode_common(&self, moves: &mut Moves, tables: &Tables) -> (Bytes, FxHashMap<PeerIndex, Range<usize>>) {
        let mut out = BytesMut::new();
        let mut segments = FxHashMap::default();
        moves::sort_by_originator(&mut moves.common);
        for segment in moves.common.chunk_by(|a, b| a.originator == b.originator) {
            let start = out.len();
            moves::encode(&mut out, usize::MAX, segment, self.key.encode, tables);
            segments.insert(segment[0].originator, start..out.len());
        }
        (out.freeze(), segments)
    }

    /// Members that are behind remember which prefixes changed; what they are told is looked up when they take it.
    fn put_off_for_others(&mut self, moves: &Moves, tables: &mut Tables) {
        for member in &mut self.members {
            if member.writable && member.follows() {
                continue;
            }
            for it in &moves.common {
                if it.originator != member.peer {
                    member.put_off(it.prefix, tables);
                }
            }
            for it in moves.personal_of(member.peer) {
                member.put_off(it.prefix, tables);
            }
        }
    }

    pub(crate) fn count_to(&self, peer: PeerIndex) -> usize {
        self.told.count_to(peer)
    }

    /// Everything that `peer` is told.
    pub(crate) fn advertised(&self, peer: PeerIndex, tables: &Tables) -> Vec<(IpNet, Arc<PathAttributes>)> {
        tables
            .prefixes
            .iter()
            .filter_map(|prefix| {
                let told = self.told.to(peer, prefix)?;
                let attributes = Arc::new(tables.attributes.get(told.attributes));
                Some((tables.prefixes.get(prefix), attributes))
            })
            .collect()
    }

    /// What `peer` is told, by number.
    pub(crate) fn told_to(&self, peer: PeerIndex) -> Vec<(PrefixId, AttributesId)> {
        let all = (0..self.told.len() as u32).map(PrefixId);
        all.filter_map(|prefix| Some((prefix, self.told.to(peer, prefix)?.attributes)))
            .collect()
    }

    /// Gives back what the view holds.
    pub(crate) fn dissolve(mut self, tables: &mut Tables) {
        std::mem::take(&mut self.shapes).dissolve(tables);
        for id in 0..self.told.len() {
            self.told.set(PrefixId(id as u32), Told::NOTHING, tables);
        }
    }
}

impl Moves {
    pub(crate) fn sort(&mut self) {
        self.personal.sort_by_key(|(whose, _)| *whose);
    }

    fn add(&mut self, prefix: PrefixId, before: Told, now: Told, tables: &Tables) {
        if now.is_nothing() {
            self.common.push(Move::withdraw(prefix, before.originator, tables));
            return;
        }
        let announce = Move::announce(prefix, now.attributes, now.originator, tables);
        if before.is_nothing() {
            self.common.push(announce);
            return;
        }
        if before.attributes != now.attributes {
            self.common.push(announce);
        } else {
            // The same words from another mouth: news only for the one who spoke before.
            self.personal.push((before.originator, announce));
        }
        if before.originator != now.originator {
            let withdraw = Move::withdraw(prefix, now.originator, tables);
            self.personal.push((now.originator, withdraw));
        }
    }

    fn personal_of(&self, peer: PeerIndex) -> impl Iterator<Item = Move> + '_ {
        let first = self.personal.partition_point(|(whose, _)| *whose < peer);
        self.personal[first..]
            .iter()
            .take_while(move |(whose, _)| *whose == peer)
            .map(|(_, it)| *it)
    }
}
