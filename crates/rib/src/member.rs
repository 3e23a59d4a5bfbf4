//! A member of a group: follows the group's changes as they come, or catches up at its own pace.
//!
//! A member that is behind keeps no messages, only the numbers of the prefixes that changed, each at most once; what they are
//! told is looked up when there is room, so a slow peer costs at most one bit and one number per prefix, and never gets what is
//! out of date.

use bgp::wire::{Message, RefreshKind, RouteRefresh, pack_end_of_rib};
use bgp::{Family, FamilySet};
use bytes::BytesMut;
use rustc_hash::FxHashMap;

use crate::attributes::AttributesId;
use crate::export::GroupKey;
use crate::ids::IdSet;
use crate::moves::{self, Move};
use crate::peers::PeerIndex;
use crate::prefix_table::PrefixId;
use crate::tables::Tables;
use crate::view::ToldTable;

/// A member that catches up gets about this much per flush, so that one peer's table does not hold up another's UPDATE.
const CHUNK_OCTETS: usize = 512 * 1024;
/// Prefixes that are sorted and packed together while catching up.
const BATCH_PREFIXES: usize = 64 * 1024;

/// One peer of a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) peer: PeerIndex,
    /// Its connection takes more.
    pub(crate) writable: bool,
    /// Prefixes of which it has not heard the last word; each is held.
    pending: IdSet,
    /// Of pending prefixes: what the peer knows of them from the group that it was in before. It counts as a user of the attribute sets.
    knows: FxHashMap<PrefixId, AttributesId>,
    /// The walk through the whole table that is under way.
    dump: Option<Dump>,
    /// Refreshes asked for while another walk was under way, at most one per family.
    asked: Vec<(Family, bool)>,
    /// What the walk after the session came up has told is not all yet: End-of-RIB waits.
    pub(crate) holds_end_of_rib: bool,
    /// Families whose End-of-RIB waits.
    owed: FamilySet,
}

/// A walk through the whole table.
#[derive(Debug)]
struct Dump {
    /// The first prefix number not yet looked at.
    next: u32,
    families: FamilySet,
    kind: DumpKind,
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DumpKind {
    /// The first one after the session came up.
    Initial,
    /// The answer to a ROUTE-REFRESH, with the markers of RFC 7313 if both sides know them.
    Refresh { enhanced: bool },
}

impl Member {
    pub(crate) fn new(peer: PeerIndex, families: FamilySet) -> Member {
        Member {
            peer,
            writable: true,
            pending: IdSet::default(),
            knows: FxHashMap::default(),
            dump: Some(Dump {
                next: 0,
                families,
                kind: DumpKind::Initial,
                begun: false,
            }),
            asked: Vec::new(),
            holds_end_of_rib: false,
            owed: FamilySet::default(),
        }
    }

    /// End-of-RIB waits no longer: it comes after all that is pending.
    pub(crate) fn release_end_of_rib(&mut self) {
        self.holds_end_of_rib = false;
        if self.owed != FamilySet::default() && self.dump.is_none() {
            self.dump = Some(Dump {
                next: u32::MAX,
                families: std::mem::take(&mut self.owed),
                kind: DumpKind::Initial,
                begun: true,
            });
        }
    }

    /// It has heard all that the group has been told.
    pub(crate) fn follows(&self) -> bool {
        self.pending.is_empty() && self.dump.is_none()
    }

    /// Its peer asks for a family again.
    pub(crate) fn refresh(&mut self, family: Family, enhanced: bool) {
        match &self.dump {
            Some(_) if self.asked.iter().any(|(asked, _)| *asked == family) => {}
            Some(_) => self.asked.push((family, enhanced)),
            None => self.dump = Some(Dump::refresh(family, enhanced)),
        }
    }

    /// Remembers that a prefix changed.
    pub(crate) fn put_off(&mut self, prefix: PrefixId, tables: &mut Tables) {
        if self.dump.as_ref().is_some_and(|dump| dump.will_tell(prefix)) {
            return;
        }
        if self.pending.insert(prefix.0) {
            tables.prefixes.hold(prefix);
        }
    }

    /// Remembers that its new group may be told something else of a prefix than it has heard.
    pub(crate) fn go_over(&mut self, prefix: PrefixId, heard: AttributesId, tables: &mut Tables) {
        if self.dump.is_some() {
            return self.put_off(prefix, tables);
        }
        // What is pending already, it has not heard.
        if self.pending.insert(prefix.0) {
            tables.prefixes.hold(prefix);
            tables.attributes.retain(heard, 1);
            self.knows.insert(prefix, heard);
        }
    }

    /// Forgets what the peer knows of a prefix; whether that is all there is to tell.
    fn knows_already(&mut self, prefix: PrefixId, told: &ToldTable, tables: &mut Tables) -> bool {
        let Some(heard) = self.knows.remove(&prefix) else {
            return false;
        };
        tables.attributes.release(heard);
        told.to(self.peer, prefix).is_some_and(|now| now.attributes == heard)
    }

    /// What it should hear next: a chunk of bounded size.
    pub(crate) fn catch_up(&mut self, told: &ToldTable, group: &GroupKey, tables: &mut Tables) -> BytesMut {
        let mut out = BytesMut::new();
        while out.len() < CHUNK_OCTETS && !self.follows() {
            if self.pending.is_empty() {
                self.walk_on(&mut out, told, group, tables);
            } else {
                let batch = self.pending.take_some(BATCH_PREFIXES);
                let mut news = batch.clone();
                news.retain(|id| !self.knows_already(PrefixId(*id), told, tables));
                self.tell(&mut out, &news, told, group, tables);
                for id in batch {
                    tables.prefixes.release(PrefixId(id));
                }
            }
        }
        out
    }

    /// Appends the last word on each of some prefixes. What does not fit goes back to the pending ones.
    fn tell(&mut self, out: &mut BytesMut, batch: &[u32], told: &ToldTable, group: &GroupKey, tables: &mut Tables) {
        let mut batch: Vec<Move> = batch
            .iter()
            .map(|id| self.last_word(PrefixId(*id), told, tables))
            .collect();
        moves::sort_by_attributes(&mut batch);
        let done = moves::encode(out, CHUNK_OCTETS, &batch, group.encode, tables);
        for left in &batch[done..] {
            if self.pending.insert(left.prefix.0) {
                tables.prefixes.hold(left.prefix);
            }
        }
    }

    fn last_word(&self, prefix: PrefixId, told: &ToldTable, tables: &Tables) -> Move {
        match told.to(self.peer, prefix) {
            Some(now) => Move::announce(prefix, now.attributes, now.originator, tables),
            None => Move::withdraw(prefix, PeerIndex::NOBODY, tables),
        }
    }

    /// Takes the next steps of the walk.
    fn walk_on(&mut self, out: &mut BytesMut, told: &ToldTable, group: &GroupKey, tables: &mut Tables) {
        let Some(dump) = &mut self.dump else {
            return;
        };
        if !std::mem::replace(&mut dump.begun, true) {
            dump.mark(out, RefreshKind::Begin);
        }
        let batch = dump.next_prefixes(self.peer, told, tables);
        if batch.is_empty() {
            match dump.kind {
                DumpKind::Initial if self.holds_end_of_rib => self.owed = dump.families,
                _ => dump.end(out),
            }
            self.dump = None;
            if !self.holds_end_of_rib && self.owed != FamilySet::default() {
                self.release_end_of_rib();
            } else if !self.asked.is_empty() {
                let (family, enhanced) = self.asked.remove(0);
                self.dump = Some(Dump::refresh(family, enhanced));
            }
        } else {
            self.tell(out, &batch, told, group, tables);
        }
    }

    /// Gives back what it holds.
    pub(crate) fn dissolve(mut self, tables: &mut Tables) {
        for heard in self.knows.into_values() {
            tables.attributes.release(heard);
        }
        for id in self.pending.take() {
            tables.prefixes.release(PrefixId(id));
        }
    }
}

impl Dump {
    fn refresh(family: Family, enhanced: bool) -> Dump {
        Dump {
            next: 0,
            families: FamilySet {
                ipv4_unicast: family == Family::Ipv4Unicast,
                ipv6_unicast: family == Family::Ipv6Unicast,
            },
            kind: DumpKind::Refresh { enhanced },
            begun: false,
        }
    }

    /// The walk will come to the prefix, and the peer cannot have heard of it before.
    fn will_tell(&self, prefix: PrefixId) -> bool {
        self.kind == DumpKind::Initial && prefix.0 >= self.next
    }

    /// The next prefixes of which the peer is told something.
    fn next_prefixes(&mut self, peer: PeerIndex, told: &ToldTable, tables: &Tables) -> Vec<u32> {
        let mut batch = Vec::new();
        while (self.next as usize) < told.len() && batch.len() < BATCH_PREFIXES {
            let prefix = PrefixId(self.next);
            if told.to(peer, prefix).is_some() && self.families.contains(tables.prefixes.family(prefix)) {
                batch.push(prefix.0);
            }
            self.next += 1;
        }
        batch
    }

    fn end(&self, out: &mut BytesMut) {
        match self.kind {
            //= https://www.rfc-editor.org/rfc/rfc4724#section-3
            //# including the case when there is no update to send
            DumpKind::Initial => {
                for family in self.families.iter() {
                    pack_end_of_rib(out, family);
                }
            }
            DumpKind::Refresh { .. } => self.mark(out, RefreshKind::End),
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc7313#section-4
    //# Before the speaker starts a route refresh that is either initiated
    //# locally, or in response to a "normal route refresh request" from the
    //# peer, the speaker MUST send a BoRR message.
    fn mark(&self, out: &mut BytesMut, kind: RefreshKind) {
        if self.kind != (DumpKind::Refresh { enhanced: true }) {
            return;
        }
        for family in self.families.iter() {
            Message::RouteRefresh(RouteRefresh { family, kind }).encode(out);
        }
    }
}
