//! The RIB's face: what happens to peers and routes comes in here, what became best and what peers are told goes out.

use std::net::IpAddr;
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
use crate::hash::HashKey;
use crate::loc_rib::{LocRib, LocalRoute};
use crate::peers::{PeerIndex, PeerInfo, Peers, RouteSource, Sender, fingerprint};
use crate::policy::{ImportPolicy, RejectRule};
use crate::prefix_table::PrefixId;
use crate::said::NextHopsSaid;
use crate::tables::Tables;
use crate::unheld::Unheld;

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
    /// The same for the same set of received prefixes, whichever instance has them and however they came.
    #[serde(default)]
    pub fingerprint: u64,
    /// Of those, accepted ones.
    pub accepted: usize,
    /// Of those received, ones that the peer is to say again: of a session that has ended, or before a refresh.
    #[serde(default)]
    pub stale: usize,
    /// Prefixes in the Adj-RIB-Out.
    pub advertised: usize,
    /// What holding those received takes, in octets and roughly: [`PATH_OCTETS`] and its attributes for each. Attributes count as often as
    /// they were said, though equal ones are held once: it tells who says much, not where each octet is.
    #[serde(default)]
    pub octets: usize,
}

/// What a path takes beside its attributes: its share of the tables by prefix, of what is decided and of what others are told.
pub const PATH_OCTETS: usize = 128;

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
/// this order after a batch of inputs. What comes while [`Rib::put_off`] holds is decided later, from [`Rib::call_due`] on.
#[derive(Debug)]
pub struct Rib {
    pub(crate) preference: Preference,
    pub(crate) peers: Peers,
    pub(crate) tables: Tables,
    pub(crate) adj_rib_in: AdjRibIn,
    pub(crate) loc_rib: LocRib,
    pub(crate) adj_rib_out: AdjRibOut,
}

/// What an announcement changed.
#[derive(Default)]
struct News {
    stored: u32,
    received: usize,
    fingerprint: u64,
    accepted: usize,
    no_longer_accepted: usize,
    no_longer_stale: usize,
    octets: usize,
    octets_before: usize,
    /// Prefixes without a number.
    unheld: Vec<IpNet>,
}

/// What policy said of a peer's attribute set.
struct Asked {
    from: Sender,
    attributes: PathAttributes,
    refused: Option<RejectRule>,
}

/// Peers.
impl Rib {
    /// An empty RIB. Peers must not be able to guess the key.
    pub fn new(preference: Preference, key: HashKey) -> Rib {
        Rib {
            preference,
            peers: Peers::default(),
            tables: Tables::new(key),
            adj_rib_in: AdjRibIn::default(),
            loc_rib: LocRib::new(key),
            adj_rib_out: AdjRibOut::default(),
        }
    }

    /// Adds a peer without routes; it is told nothing until [`Rib::attach`].
    pub fn add_peer(&mut self, info: PeerInfo) -> PeerIndex {
        self.peers.add(info, self.preference)
    }

    /// Adds a peer whose routes count as another's: what an inbound route map made of them. They are not told back to that one.
    pub fn add_voice(&mut self, of: PeerIndex, info: PeerInfo) -> PeerIndex {
        let voice = self.add_peer(info);
        let of = self.peers.speaks_for(of);
        self.peers.set_speaks_for(voice, of);
        voice
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
        let known = self.peers.get(peer).map(|peer| (peer.likely_next, peer.info.sender()));
        let Some((mut likely, from)) = known else {
            return;
        };
        let (attributes, refused) = match self.tables.attributes.intern_received(&announcement.attributes) {
            Some(attributes) => (
                attributes,
                policy.refuse_attributes(peer, from, &announcement.attributes),
            ),
            None => match self.tables.attributes.intern_unkept() {
                Some(unkept) => (unkept, Some(RejectRule::OutOfAttributeSets)),
                None => return,
            },
        };
        let mut news = News::default();
        for prefix in &announcement.prefixes {
            let verdict = refused
                .or_else(|| policy.refuse_prefix(from, prefix))
                .or_else(|| policy.refuse_route(peer, prefix, &announcement.attributes));
            match self.tables.prefixes.find_or_insert_received(prefix, likely) {
                Some(id) => {
                    if self.insert(peer, id, Path::new(attributes, verdict), &mut news) {
                        news.fingerprint ^= fingerprint(prefix);
                    }
                    likely = PrefixId(id.0 + 1);
                }
                None => news.unheld.push(*prefix),
            }
        }
        self.tables.attributes.retain(attributes, news.stored);
        let next_hop = self.tables.attributes.next_hop_of(attributes);
        self.tables.attributes.release(attributes);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.next_hops.note(next_hop);
            peer.likely_next = likely;
            peer.unheld.heard(announcement, &news.unheld);
            peer.received += news.received;
            peer.fingerprint ^= news.fingerprint;
            peer.accepted = peer.accepted + news.accepted - news.no_longer_accepted;
            peer.stale -= news.no_longer_stale;
            peer.octets = peer.octets + news.octets - news.octets_before;
        }
    }

    /// What a path counts for in [`Counts::octets`].
    #[inline]
    fn octets(&self, path: Path) -> usize {
        PATH_OCTETS + self.tables.attributes.octets(path.attributes())
    }

    /// Whether the peer had no path for the prefix. The path's attribute set gets its users when all prefixes of the announcement are
    /// stored; until then the caller is one.
    #[inline]
    fn insert(&mut self, peer: PeerIndex, prefix: PrefixId, path: Path, news: &mut News) -> bool {
        let before = self.adj_rib_in.insert(peer, prefix, path);
        news.no_longer_stale += usize::from(before.is_some_and(Path::is_stale));
        let before = before.map(Path::fresh);
        if before == Some(path) {
            return false;
        }
        let accepted_before = before.is_some_and(Path::is_accepted);
        news.stored += 1;
        news.received += usize::from(before.is_none());
        news.accepted += usize::from(path.is_accepted());
        news.no_longer_accepted += usize::from(accepted_before);
        news.octets += self.octets(path);
        news.octets_before += before.map_or(0, |before| self.octets(before));
        match before {
            Some(before) => self.tables.attributes.release(before.attributes()),
            None => self.tables.prefixes.hold(prefix),
        }
        if path.is_accepted() || accepted_before {
            self.loc_rib.touch(prefix, &mut self.tables.prefixes);
        }
        before.is_none()
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
            peer.unheld.remove(prefixes);
        }
    }

    /// Removes all routes of a peer (its session went down).
    pub fn clear_peer(&mut self, peer: PeerIndex) {
        for (prefix, path) in self.adj_rib_in.extract(peer, |_, _| true) {
            self.removed(peer, prefix, path);
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.unheld = Unheld::default();
            peer.next_hops = NextHopsSaid::default();
        }
    }

    /// The next hops that nobody has accepted paths through but these peers (and what their route maps made of their words). A peer with very
    /// many next hops is known by the first of them.
    ///
    /// No path is looked at but those of other peers that may have named one of the next hops too, each once at most.
    pub fn only_through(&self, peers: &[PeerIndex]) -> Vec<IpAddr> {
        let (own, others): (Vec<_>, Vec<_>) = self.peers.iter().partition(|(index, _)| self.speaks_for(peers, *index));
        let named = own.iter().flat_map(|(_, peer)| peer.next_hops.known());
        let mut next_hops: Vec<IpAddr> = named.copied().collect();
        next_hops.sort_unstable();
        next_hops.dedup();
        for (index, other) in others {
            let may_be_its: Vec<IpAddr> = (next_hops
                .iter()
                .filter(|next_hop| other.next_hops.may_include(**next_hop))
                .copied())
            .collect();
            let its = self.leads_through(index, may_be_its);
            next_hops.retain(|next_hop| !its.contains(next_hop));
        }
        next_hops
    }

    /// Whether anybody but these peers has an accepted path.
    pub fn has_paths_beside(&self, peers: &[PeerIndex]) -> bool {
        let mut others = self.peers.iter().filter(|(index, _)| !self.speaks_for(peers, *index));
        others.any(|(_, other)| other.accepted > 0)
    }

    /// Whether a peer is one of these, or what a route map made of one of their words.
    fn speaks_for(&self, peers: &[PeerIndex], peer: PeerIndex) -> bool {
        peers.contains(&self.peers.speaks_for(peer))
    }

    /// Through which of these next hops a peer has accepted paths.
    fn leads_through(&self, peer: PeerIndex, mut asked: Vec<IpAddr>) -> Vec<IpAddr> {
        let mut found = Vec::new();
        if asked.is_empty() {
            return found;
        }
        let paths = self.adj_rib_in.of_peer(peer).filter(|(_, path)| path.is_accepted());
        let mut before = None;
        for (_, path) in paths {
            // Neighbouring paths mostly share their attributes.
            if before.replace(path.attributes()) == Some(path.attributes()) {
                continue;
            }
            let next_hop = self.tables.attributes.next_hop_of(path.attributes());
            if let Some(position) = asked.iter().position(|asked| *asked == next_hop) {
                found.push(asked.swap_remove(position));
                if asked.is_empty() {
                    break;
                }
            }
        }
        found
    }

    /// Marks the family's routes stale: at BoRR (RFC 7313 §4), or when the session ends and they are kept (RFC 4724 §4.2).
    pub fn begin_refresh(&mut self, peer: PeerIndex, family: Family) {
        let prefixes = &self.tables.prefixes;
        let marked = self
            .adj_rib_in
            .mark_stale(peer, |prefix| prefixes.family(prefix) == family);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.stale += marked;
            peer.unheld.forget(family);
        }
    }

    /// EoRR, or End-of-RIB: removes what is still stale, and says what that was.
    pub fn end_refresh(&mut self, peer: PeerIndex, family: Family) -> Vec<IpNet> {
        let prefixes = &self.tables.prefixes;
        let stale = self
            .adj_rib_in
            .extract(peer, |prefix, stale| stale && prefixes.family(prefix) == family);
        let gone = stale.iter().map(|(prefix, _)| prefixes.get(*prefix)).collect();
        for (prefix, path) in stale {
            self.removed(peer, prefix, path);
        }
        gone
    }

    fn removed(&mut self, peer: PeerIndex, prefix: PrefixId, path: Path) {
        let mark = fingerprint(&self.tables.prefixes.get(prefix));
        let octets = self.octets(path);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.received -= 1;
            peer.fingerprint ^= mark;
            peer.accepted -= usize::from(path.is_accepted());
            peer.stale -= usize::from(path.is_stale());
            peer.octets -= octets;
        }
        if path.is_accepted() {
            let next_hop = self.tables.attributes.summary(path.attributes()).next_hop;
            if self.loc_rib.counts_on(prefix, next_hop) {
                self.loc_rib.touch(prefix, &mut self.tables.prefixes);
            }
        }
        self.tables.attributes.release(path.attributes());
        self.tables.prefixes.release(prefix);
    }

    /// Asks the policy again about every stored path.
    pub fn reconsider(&mut self, policy: &impl ImportPolicy) {
        let mut asked: Option<(PeerIndex, AttributesId, Asked)> = None;
        let mut news = Vec::new();
        for (peer, prefix, path) in self.adj_rib_in.all() {
            let id = path.attributes();
            if path.verdict() == Some(RejectRule::OutOfAttributeSets) {
                continue;
            }
            let (_, _, answer) = match &mut asked {
                Some(same) if (same.0, same.1) == (peer, id) => same,
                other => {
                    let Some(from) = self.peers.get(peer).map(|peer| peer.info.sender()) else {
                        continue;
                    };
                    let attributes = self.tables.attributes.get(id);
                    let refused = policy.refuse_attributes(peer, from, &attributes);
                    let answer = Asked {
                        from,
                        attributes,
                        refused,
                    };
                    other.insert((peer, id, answer))
                }
            };
            let prefix_itself = self.tables.prefixes.get(prefix);
            let verdict = answer
                .refused
                .or_else(|| policy.refuse_prefix(answer.from, &prefix_itself))
                .or_else(|| policy.refuse_route(peer, &prefix_itself, &answer.attributes));
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
            let Some(id) = self.tables.prefixes.find_or_insert(&prefix.trunc()) else {
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

    /// From now on what happens is part of a table that is still arriving (true): its prefixes wait for [`Rib::call_due`]. Or it is
    /// not (false): they are decided with the next [`Rib::decide`].
    pub fn put_off(&mut self, puts_off: bool) {
        self.loc_rib.puts_off = puts_off;
    }

    /// What was put off is to be decided now, some of it with each [`Rib::decide`] until [`Rib::has_due`] says no.
    pub fn call_due(&mut self) {
        self.loc_rib.call_due(&mut self.tables.prefixes);
    }

    /// What a peer has said, and what its route maps made of that, is decided again.
    pub fn decide_again(&mut self, peer: PeerIndex) {
        let indexes = self.peers.iter().map(|(index, _)| index);
        let same: Vec<PeerIndex> = indexes.filter(|index| self.peers.speaks_for(*index) == peer).collect();
        for index in same {
            for (prefix, path) in self.adj_rib_in.of_peer(index) {
                if path.is_accepted() {
                    self.loc_rib.touch(prefix, &mut self.tables.prefixes);
                }
            }
        }
    }

    /// Whether some of what was put off is to be decided now.
    pub fn has_due(&self) -> bool {
        self.loc_rib.has_due()
    }

    /// Whether nothing waits to be decided.
    pub fn is_decided(&self) -> bool {
        self.loc_rib.is_decided()
    }

    /// Decides every prefix that something happened to since the last call and was not put off, and hands out what changed in the
    /// Loc-RIB. What is to be told to peers becomes pending.
    pub fn decide(&mut self) -> Vec<Change> {
        self.loc_rib.decide(&self.adj_rib_in, &self.peers, &mut self.tables)
    }

    /// From now on (true) prefixes that are decided as before are kept for [`Rib::take_unchanged`]: for who did not wait for the decision.
    pub fn keep_unchanged(&mut self, keeps: bool) {
        self.loc_rib.keep_unchanged(keeps);
    }

    /// The prefixes that were decided as before since the last call, with what holds for them.
    pub fn take_unchanged(&mut self) -> Vec<Change> {
        self.loc_rib.take_unchanged()
    }
}

/// Adj-RIB-Out.
impl Rib {
    /// The peer is Established: it is told everything its group is told, then End-of-RIB, then changes.
    pub fn attach(&mut self, peer: PeerIndex, group: GroupKey) {
        self.adj_rib_out.attach(peer, group, &mut self.tables);
    }

    /// The peer, which was just attached, is not told End-of-RIB before [`Rib::release_end_of_rib`]: what it has heard is not all.
    pub fn hold_end_of_rib(&mut self, peer: PeerIndex) {
        self.adj_rib_out.hold_end_of_rib(peer);
    }

    /// Whoever waits for End-of-RIB is told so after what else there is to tell.
    pub fn release_end_of_rib(&mut self) {
        self.adj_rib_out.release_end_of_rib();
    }

    /// The peer is of another group from now on: it is told what that group is told otherwise, and what of the former group's is no more.
    pub fn regroup(&mut self, peer: PeerIndex, group: GroupKey) {
        self.adj_rib_out.regroup(peer, group, &mut self.tables);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::Ipv4Addr;

    use bgp::{Asn, BgpIdentifier};

    use super::*;
    use crate::report::Standing;

    struct AcceptAll;

    impl ImportPolicy for AcceptAll {
        fn refuse_attributes(&self, _: PeerIndex, _: Sender, _: &PathAttributes) -> Option<RejectRule> {
            None
        }
        fn refuse_prefix(&self, _: Sender, _: &IpNet) -> Option<RejectRule> {
            None
        }
    }

    struct TellNothing;

    impl ExportPolicy for TellNothing {
        fn export(&self, _: &GroupKey, _: Sender, _: &Arc<PathAttributes>) -> Option<PathAttributes> {
            None
        }
    }

    fn rib_with_a_peer() -> (Rib, PeerIndex) {
        let mut rib = Rib::new(Preference::ExpressRoute, HashKey::new(1, 2));
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let peer = rib.add_peer(PeerInfo {
            identifier: BgpIdentifier(address),
            address: address.into(),
            asn: Asn(65001),
            external: true,
            source: RouteSource::Nva,
            import_preference: 0,
            last_resort: false,
        });
        (rib, peer)
    }

    fn announcement(prefix: &str, asn: u32) -> Announcement {
        let attributes = PathAttributes::builder(Ipv4Addr::new(10, 0, 0, 1).into()).as_sequence(&[Asn(asn)]);
        Announcement {
            attributes: Arc::new(attributes.build()),
            prefixes: vec![prefix.parse().unwrap()],
        }
    }

    fn standing(rib: &Rib, prefix: &str) -> Standing {
        rib.explain(&prefix.parse().unwrap())[0].standing
    }

    #[test]
    fn the_same_prefixes_have_the_same_fingerprint_whatever_came_before_and_others_another() {
        let (mut first, one) = rib_with_a_peer();
        let (mut second, other) = rib_with_a_peer();
        let [a, b, c] = ["10.1.0.0/16", "10.2.0.0/16", "2001:db8::/32"];
        for prefix in [a, b, c, a] {
            first.announce(one, &announcement(prefix, 65001), &AcceptAll);
        }
        for prefix in [c, "10.3.0.0/16", b] {
            second.announce(other, &announcement(prefix, 65002), &AcceptAll);
        }
        assert_ne!(first.counts(one).fingerprint, second.counts(other).fingerprint);
        second.withdraw(other, &["10.3.0.0/16".parse().unwrap()]);
        assert_ne!(first.counts(one).fingerprint, second.counts(other).fingerprint);
        second.announce(other, &announcement(a, 65002), &AcceptAll);
        assert_eq!(first.counts(one).fingerprint, second.counts(other).fingerprint);
        first.clear_peer(one);
        assert_eq!(first.counts(one).fingerprint, 0);
    }

    #[test]
    fn a_route_whose_attributes_find_no_room_is_kept_and_says_why_it_does_not_compete() {
        let (mut rib, peer) = rib_with_a_peer();
        rib.tables.attributes.set_max_received(1);
        rib.announce(peer, &announcement("10.1.0.0/16", 65001), &AcceptAll);
        rib.announce(peer, &announcement("10.2.0.0/16", 65002), &AcceptAll);
        rib.reconsider(&AcceptAll);
        assert_eq!(rib.decide().len(), 1);
        let counts = rib.counts(peer);
        assert_eq!((counts.received, counts.accepted, counts.advertised), (2, 1, 0));
        let refused = Standing::Rejected(RejectRule::OutOfAttributeSets);
        assert_eq!(standing(&rib, "10.2.0.0/16"), refused);

        rib.withdraw(peer, &["10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap()]);
        rib.decide();
        rib.announce(peer, &announcement("10.2.0.0/16", 65002), &AcceptAll);
        assert_eq!(standing(&rib, "10.2.0.0/16"), Standing::Best);
        rib.clear_peer(peer);
        rib.decide();
        rib.decide();
        assert_eq!(rib.usage().attribute_sets, 0);
    }

    #[test]
    fn a_route_whose_prefix_finds_no_room_says_why_until_it_is_withdrawn_or_finds_some() {
        let (mut rib, peer) = rib_with_a_peer();
        rib.tables.prefixes.set_max_received(1);
        let two = ["10.2.0.0/16", "10.3.0.0/16"];
        for prefix in ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"] {
            rib.announce(peer, &announcement(prefix, 65001), &AcceptAll);
        }
        let received = || {
            rib.received(peer)
                .into_iter()
                .map(|path| (path.prefix.to_string(), path.standing))
        };
        let refused = Standing::Rejected(RejectRule::OutOfPrefixes);
        let expected = [("10.1.0.0/16", Standing::Best), (two[0], refused), (two[1], refused)];
        assert!(received().eq(expected.map(|(prefix, standing)| (prefix.to_owned(), standing))));
        assert_eq!(two.map(|prefix| standing(&rib, prefix)), [refused; 2]);

        rib.withdraw(peer, &["10.1.0.0/16".parse().unwrap(), "10.3.0.0/16".parse().unwrap()]);
        rib.decide();
        rib.flush(&TellNothing, &mut |_, _| {});
        rib.announce(peer, &announcement("10.2.0.0/16", 65001), &AcceptAll);
        assert_eq!(standing(&rib, "10.2.0.0/16"), Standing::Best);
        assert!(rib.explain(&"10.3.0.0/16".parse().unwrap()).is_empty());
        rib.clear_peer(peer);
        assert!(rib.received(peer).is_empty());
    }

    #[test]
    fn what_is_put_off_is_decided_when_it_is_due_and_other_changes_at_once() {
        let (mut rib, peer) = rib_with_a_peer();
        rib.put_off(true);
        rib.announce(peer, &announcement("10.1.0.0/16", 65001), &AcceptAll);
        rib.put_off(false);
        rib.announce(peer, &announcement("10.2.0.0/16", 65001), &AcceptAll);
        let prefixes =
            |changes: Vec<Change>| -> Vec<String> { changes.iter().map(|change| change.prefix.to_string()).collect() };
        assert_eq!(prefixes(rib.decide()), ["10.2.0.0/16"]);
        assert!(!rib.is_decided() && !rib.has_due());
        rib.call_due();
        assert!(rib.has_due());
        assert_eq!(prefixes(rib.decide()), ["10.1.0.0/16"]);
        assert!(rib.is_decided());
    }

    #[test]
    fn a_next_hop_is_only_through_a_peer_if_no_other_one_has_an_accepted_path_through_it() {
        let (mut rib, first) = rib_with_a_peer();
        let second = rib.add_peer(PeerInfo {
            address: [10, 0, 0, 2].into(),
            ..rib.peers.get(first).unwrap().info.clone()
        });
        let voice = rib.add_voice(first, rib.peers.get(first).unwrap().info.clone());
        let through = |last: u8, prefix: &str| Announcement {
            attributes: Arc::new(PathAttributes::builder([10, 0, 0, last].into()).build()),
            prefixes: vec![prefix.parse().unwrap()],
        };
        let next_hops = |lasts: &[u8]| -> Vec<IpAddr> { lasts.iter().map(|n| [10, 0, 0, *n].into()).collect() };
        rib.announce(first, &through(1, "10.1.0.0/16"), &AcceptAll);
        rib.announce(first, &through(9, "10.9.0.0/16"), &AcceptAll);
        rib.announce(voice, &through(8, "10.8.0.0/16"), &AcceptAll);
        rib.announce(second, &through(9, "10.9.0.0/16"), &AcceptAll);
        assert_eq!(rib.only_through(&[first]), next_hops(&[1, 8]));
        assert_eq!(rib.only_through(&[second]), next_hops(&[]));
        assert_eq!(rib.only_through(&[first, second]), next_hops(&[1, 8, 9]));
        assert!(rib.has_paths_beside(&[first]) && !rib.has_paths_beside(&[first, second]));
        rib.withdraw(second, &["10.9.0.0/16".parse().unwrap()]);
        assert_eq!(rib.only_through(&[first]), next_hops(&[1, 8, 9]));
        rib.clear_peer(first);
        assert_eq!(rib.only_through(&[first]), next_hops(&[8]));
    }

    #[test]
    fn what_is_decided_as_before_is_told_to_who_asked_for_it() {
        let (mut rib, peer) = rib_with_a_peer();
        let prefixes = |changes: &[Change]| changes.iter().map(|change| change.prefix).collect::<Vec<_>>();
        rib.announce(peer, &announcement("10.1.0.0/16", 65001), &AcceptAll);
        rib.decide();
        assert!(rib.take_unchanged().is_empty());
        rib.keep_unchanged(true);
        rib.clear_peer(peer);
        rib.announce(peer, &announcement("10.1.0.0/16", 65001), &AcceptAll);
        assert!(rib.decide().is_empty(), "it came back before anything was decided");
        let unchanged = rib.take_unchanged();
        assert_eq!(prefixes(&unchanged), ["10.1.0.0/16".parse().unwrap()]);
        assert!(unchanged[0].choice.is_some());
        rib.keep_unchanged(false);
        rib.clear_peer(peer);
        rib.announce(peer, &announcement("10.1.0.0/16", 65001), &AcceptAll);
        rib.decide();
        assert!(rib.take_unchanged().is_empty());
    }

    #[test]
    fn a_large_table_is_decided_piece_by_piece() {
        let (mut rib, peer) = rib_with_a_peer();
        let mut large = announcement("10.0.0.0/16", 65001);
        let prefix = |n: u32| IpNet::V4(ipnet::Ipv4Net::new(Ipv4Addr::from_bits(n << 8), 24).unwrap());
        large.prefixes = (0..20_000).map(prefix).collect();
        rib.put_off(true);
        rib.announce(peer, &large, &AcceptAll);
        rib.call_due();
        let pieces: Vec<usize> = std::iter::from_fn(|| rib.has_due().then(|| rib.decide().len())).collect();
        assert_eq!(pieces, [16_384, 3_616]);
    }
}
