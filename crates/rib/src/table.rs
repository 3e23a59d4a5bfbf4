//! The RIB's face: what happens to peers and routes comes in here, what became best and what peers are told goes out.

use std::sync::Arc;

use bgp::wire::{Announcement, PathAttributes};
use bgp::{Family, IpNet};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::adj_rib_in::{AdjRibIn, Path};
use crate::adj_rib_out::AdjRibOut;
use crate::attributes::AttributesId;
use crate::decision::{Choice, Preference};
use crate::export::{ExportPolicy, GroupKey};
use crate::loc_rib::{LocRib, LocalRoute};
use crate::peers::{PeerIndex, PeerInfo, Peers, RouteSource};
use crate::policy::{ImportPolicy, RejectRule};
use crate::prefix_table::PrefixId;
use crate::tables::Tables;

/// A Loc-RIB entry changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// For this prefix.
    pub prefix: IpNet,
    /// What holds now, over learned routes only (local routes never appear here); `None`: nothing. Equal choices that hold at
    /// the same time are one allocation, so prefixes can be grouped by pointer.
    pub choice: Option<Arc<Choice>>,
}

/// Sizes, for limits, reports and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Distinct prefixes in the Adj-RIB-In, rejected ones included.
    pub received: usize,
    /// Of those, accepted ones.
    pub accepted: usize,
    /// Prefixes in the Adj-RIB-Out.
    pub advertised: usize,
}

/// How much is held and how much is allocated: for metrics, and for tests of what is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prefixes that anybody holds.
    pub prefixes: usize,
    /// One more than the highest prefix number: how long tables by prefix are.
    pub prefix_slots: usize,
    /// Attribute sets, received and told.
    pub attribute_sets: usize,
    /// Slots allocated for attribute sets.
    pub attribute_slots: usize,
    /// Distinct choices.
    pub choices: usize,
    /// Blocks of paths.
    pub path_columns: usize,
}

/// All routing state of one route server instance.
///
/// Inputs only mark prefixes; [`Rib::decide`] decides each marked one once, [`Rib::flush`] tells the peers. Call the two in
/// this order after a batch of inputs.
#[derive(Debug)]
pub struct Rib {
    pub(crate) preference: Preference,
    pub(crate) peers: Peers,
    pub(crate) tables: Tables,
    pub(crate) adj_rib_in: AdjRibIn,
    pub(crate) loc_rib: LocRib,
    pub(crate) adj_rib_out: AdjRibOut,
}

/// Peers.
impl Rib {
    /// An empty RIB.
    pub fn new(preference: Preference) -> Rib {
        Rib {
            preference,
            peers: Peers::default(),
            tables: Tables::default(),
            adj_rib_in: AdjRibIn::default(),
            loc_rib: LocRib::default(),
            adj_rib_out: AdjRibOut::default(),
        }
    }

    /// Adds a peer without routes; it is told nothing until [`Rib::attach`].
    pub fn add_peer(&mut self, info: PeerInfo) -> PeerIndex {
        self.peers.add(info, self.preference)
    }

    /// The same peer, new facts (a new session's identifier, another import preference).
    pub fn update_peer(&mut self, peer: PeerIndex, info: PeerInfo) {
        if self.peers.update(peer, info, self.preference) {
            for (prefix, _) in self.adj_rib_in.of_peer(peer) {
                self.loc_rib.touch(prefix, &mut self.tables.prefixes);
                // Export policy looks at the source, which the best path's own numbers do not show.
                self.loc_rib.touch_best(prefix, &mut self.tables.prefixes);
            }
        }
    }

    /// Forgets a peer and all that it said.
    pub fn remove_peer(&mut self, peer: PeerIndex) {
        self.clear_peer(peer);
        self.detach(peer);
        self.peers.remove(peer);
    }
}

/// Adj-RIB-In.
impl Rib {
    /// Stores what a peer announces, replacing what it said of the same prefixes before.
    pub fn announce(&mut self, peer: PeerIndex, announcement: &Announcement, policy: &impl ImportPolicy) {
        let Some(mut likely) = self.peers.get(peer).map(|peer| peer.likely_next) else {
            return;
        };
        let Some(attributes) = self.tables.attributes.intern(&announcement.attributes) else {
            return self.withdraw(peer, &announcement.prefixes);
        };
        let refused = policy.refuse_attributes(peer, &announcement.attributes);
        for prefix in &announcement.prefixes {
            let verdict = refused.or_else(|| policy.refuse_prefix(peer, prefix));
            if let Some(id) = self.tables.prefixes.find_or_insert(prefix, likely) {
                self.insert(peer, id, attributes, verdict);
                likely = PrefixId(id.0 + 1);
            }
        }
        self.tables.attributes.release(attributes);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.likely_next = likely;
        }
    }

    #[inline]
    fn insert(&mut self, peer: PeerIndex, prefix: PrefixId, attributes: AttributesId, verdict: Option<RejectRule>) {
        let path = Path::new(attributes, verdict);
        let before = self.adj_rib_in.insert(peer, prefix, path);
        if before == Some(path) {
            return;
        }
        self.tables.attributes.retain(attributes);
        let accepted_before = before.is_some_and(Path::is_accepted);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.received += usize::from(before.is_none());
            peer.accepted += usize::from(path.is_accepted());
            peer.accepted -= usize::from(accepted_before);
        }
        match before {
            Some(before) => self.tables.attributes.release(before.attributes()),
            None => self.tables.prefixes.hold(prefix),
        }
        if path.is_accepted() || accepted_before {
            self.loc_rib.touch(prefix, &mut self.tables.prefixes);
        }
    }

    /// Removes prefixes of a peer; unknown ones are no error.
    pub fn withdraw(&mut self, peer: PeerIndex, prefixes: &[IpNet]) {
        let Some(mut likely) = self.peers.get(peer).map(|peer| peer.likely_next) else {
            return;
        };
        for prefix in prefixes {
            if let Some(id) = self.tables.prefixes.find_near(prefix, likely) {
                likely = PrefixId(id.0 + 1);
                if let Some(path) = self.adj_rib_in.remove(peer, id) {
                    self.removed(peer, id, path);
                }
            }
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.likely_next = likely;
        }
    }

    /// Removes all routes of a peer (its session went down).
    pub fn clear_peer(&mut self, peer: PeerIndex) {
        for (prefix, path) in self.adj_rib_in.extract(peer, |_, _| true) {
            self.removed(peer, prefix, path);
        }
    }

    /// BoRR (RFC 7313 §4): marks the family's routes stale.
    pub fn begin_refresh(&mut self, peer: PeerIndex, family: Family) {
        let prefixes = &self.tables.prefixes;
        self.adj_rib_in
            .mark_stale(peer, |prefix| prefixes.family(prefix) == family);
    }

    /// EoRR: removes what is still stale.
    pub fn end_refresh(&mut self, peer: PeerIndex, family: Family) {
        let prefixes = &self.tables.prefixes;
        let stale = self
            .adj_rib_in
            .extract(peer, |prefix, stale| stale && prefixes.family(prefix) == family);
        for (prefix, path) in stale {
            self.removed(peer, prefix, path);
        }
    }

    fn removed(&mut self, peer: PeerIndex, prefix: PrefixId, path: Path) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.received -= 1;
            peer.accepted -= usize::from(path.is_accepted());
        }
        if path.is_accepted() {
            self.loc_rib.touch(prefix, &mut self.tables.prefixes);
        }
        self.tables.attributes.release(path.attributes());
        self.tables.prefixes.release(prefix);
    }

    /// Asks the policy again about every stored path.
    pub fn reconsider(&mut self, policy: &impl ImportPolicy) {
        let mut asked: Option<(PeerIndex, AttributesId, Option<RejectRule>)> = None;
        let mut news = Vec::new();
        for (peer, prefix, path) in self.adj_rib_in.all() {
            let id = path.attributes();
            let refused = match asked {
                Some((same_peer, same_id, refused)) if (same_peer, same_id) == (peer, id) => refused,
                _ => policy.refuse_attributes(peer, &self.tables.attributes.get(id)),
            };
            asked = Some((peer, id, refused));
            let verdict = refused.or_else(|| policy.refuse_prefix(peer, &self.tables.prefixes.get(prefix)));
            if verdict != path.verdict() {
                news.push((peer, prefix, path.with_verdict(verdict)));
            }
        }
        for (peer, prefix, path) in news {
            self.replace_verdict(peer, prefix, path);
        }
    }

    fn replace_verdict(&mut self, peer: PeerIndex, prefix: PrefixId, path: Path) {
        let before = self.adj_rib_in.insert(peer, prefix, path);
        let was = usize::from(before.is_some_and(Path::is_accepted));
        let is = usize::from(path.is_accepted());
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.accepted = peer.accepted + is - was;
        }
        if was != is {
            self.loc_rib.touch(prefix, &mut self.tables.prefixes);
        }
    }

    /// Another hub routing preference: everything is decided again.
    pub fn set_preference(&mut self, preference: Preference) {
        if self.preference == preference {
            return;
        }
        self.preference = preference;
        self.peers.set_preference(preference);
        for (_, prefix, _) in self.adj_rib_in.all() {
            self.loc_rib.touch(prefix, &mut self.tables.prefixes);
        }
    }
}

/// Local routes and decision.
impl Rib {
    /// Sets the routes we originate: exactly these, with their source and attributes.
    pub fn set_local(&mut self, routes: &[(IpNet, RouteSource, Arc<PathAttributes>)]) {
        let before = std::mem::take(&mut self.loc_rib.local);
        for (prefix, source, attributes) in routes {
            let Some(attributes) = self.tables.attributes.intern(attributes) else {
                continue;
            };
            let Some(id) = self.tables.prefixes.find_or_insert(&prefix.trunc(), PrefixId(0)) else {
                self.tables.attributes.release(attributes);
                continue;
            };
            self.tables.prefixes.hold(id);
            let route = LocalRoute {
                source: *source,
                attributes,
            };
            if before.get(&id) != Some(&route) {
                self.touch_local(id);
            }
            if let Some(twice) = self.loc_rib.local.insert(id, route) {
                self.release_local(id, twice);
            }
        }
        for (id, route) in before {
            if !self.loc_rib.local.contains_key(&id) {
                self.touch_local(id);
            }
            self.release_local(id, route);
        }
    }

    fn touch_local(&mut self, prefix: PrefixId) {
        self.loc_rib.touch(prefix, &mut self.tables.prefixes);
        self.loc_rib.touch_best(prefix, &mut self.tables.prefixes);
    }

    fn release_local(&mut self, prefix: PrefixId, route: LocalRoute) {
        self.tables.attributes.release(route.attributes);
        self.tables.prefixes.release(prefix);
    }

    /// Decides every prefix that something happened to since the last call, and hands out what changed in the Loc-RIB.
    /// What is to be told to peers becomes pending.
    pub fn decide(&mut self) -> Vec<Change> {
        self.loc_rib.decide(&self.adj_rib_in, &self.peers, &mut self.tables)
    }
}

/// Adj-RIB-Out.
impl Rib {
    /// The peer is Established: it is told everything its group is told, then End-of-RIB, then changes.
    pub fn attach(&mut self, peer: PeerIndex, group: GroupKey) {
        self.adj_rib_out.attach(peer, group, &mut self.tables);
    }

    /// The peer is told nothing any more.
    pub fn detach(&mut self, peer: PeerIndex) {
        self.adj_rib_out.detach(peer, &mut self.tables);
    }

    /// The peer asked for a family again (RFC 2918); with `enhanced`, BoRR and EoRR go around it.
    pub fn refresh(&mut self, peer: PeerIndex, family: Family, enhanced: bool) {
        self.adj_rib_out.refresh(peer, family, enhanced);
    }

    /// Whether the peer takes more now. A peer that doesn't gathers replaceable pending state.
    pub fn set_writable(&mut self, peer: PeerIndex, writable: bool) {
        self.adj_rib_out.set_writable(peer, writable);
    }

    /// Export policy changed (branch-to-branch): every view is computed again and differences become pending.
    pub fn export_policy_changed(&mut self) {
        self.adj_rib_out.policy_changed();
    }

    /// Writes what is pending to the writable peers: packed UPDATEs, few large chunks, shared between peers where equal. True
    /// when a writable peer still has something to come (a large table goes out in bounded chunks): call again soon.
    pub fn flush(&mut self, policy: &impl ExportPolicy, write: &mut impl FnMut(PeerIndex, Bytes)) -> bool {
        let more = self
            .adj_rib_out
            .flush(&mut self.loc_rib, &self.peers, policy, &mut self.tables, write);
        if self.loc_rib.is_settled() {
            self.peers.reuse_numbers();
        }
        more
    }
}
