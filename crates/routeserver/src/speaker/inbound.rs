//! Inbound route maps at work (az §3): what a map makes of a peer's routes competes instead of them.
//!
//! ```text
//! UPDATE ─► Adj-RIB-In of the peer: as received; what the map drops or changes is refused, with that verdict
//!             └─► map ─► Adj-RIB-In of the peer's voice: what it changed
//! ```
//!
//! The voice is a second peer of the RIB with the same facts; there is one more for each import preference that the map gives. Since nothing of what was received is lost, a map is attached, changed and
//! detached without a word from the peer, and the limit counts what the peer said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgp::IpNet;
use bgp::wire::{Announcement, Community, PathAttributes, PathAttributesBuilder};
use rib::report::PathReport;
use rib::{Carried, PeerIndex, PeerInfo, RejectRule, RouteSource, Standing};

use super::{Speaker, precedence};
use crate::route_map::{KEPT_BACK, Outcome, Route, RouteMap};
use crate::total_limit::Import;

/// A peer's map and what it has made.
#[derive(Debug)]
pub(crate) struct Inbound {
    map: RouteMap,
    /// What the peer is.
    source: RouteSource,
    /// By the import preference that the map gives; `None`: the peer's own.
    voices: BTreeMap<Option<u32>, PeerIndex>,
    /// What the peer's prefixes became, where that is something else.
    parts: BTreeMap<IpNet, Part>,
    /// What the voice's prefixes are made of.
    wholes: BTreeMap<IpNet, Whole>,
}

#[derive(Debug)]
struct Part {
    whole: IpNet,
    attributes: Arc<PathAttributes>,
    is_summary: bool,
    keeps_attributes: bool,
    import_preference: Option<u32>,
}

/// What is said of a whole, and by which voice.
#[derive(Debug)]
struct Word {
    attributes: Arc<PathAttributes>,
    voice: PeerIndex,
}

#[derive(Debug, Default)]
struct Whole {
    parts: BTreeSet<IpNet>,
    /// How many of the summary's parts have each of these communities.
    kept_back: [usize; KEPT_BACK.len()],
}

/// What a map makes of a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// The same.
    Same,
    /// Nothing.
    Nothing,
    /// Another one.
    Other(Route),
}

impl Inbound {
    pub(crate) fn is_voice(&self, peer: PeerIndex) -> bool {
        self.voices.values().any(|voice| *voice == peer)
    }

    /// What the map makes of a route.
    pub(crate) fn make(&self, prefix: &IpNet, attributes: &PathAttributes) -> Made {
        let before = Route::new(*prefix, attributes.clone(), self.source);
        let is_same = |route: &Route| {
            route.prefix == *prefix && route.attributes == *attributes && route.import_preference.is_none()
        };
        match self.map.apply(before) {
            Outcome::Dropped { .. } => Made::Nothing,
            Outcome::Pass(route) if is_same(&route) => Made::Same,
            Outcome::Pass(mut route) => {
                //= https://www.rfc-editor.org/rfc/rfc9494#section-4.3
                //# The LLGR_STALE community MUST NOT be removed when the route is further advertised.
                let lost = |route: &Route| !route.attributes.has_community(Community::LLGR_STALE);
                if attributes.has_community(Community::LLGR_STALE) && lost(&route) {
                    let marked = route.attributes.to_builder().add_community(Community::LLGR_STALE);
                    route.attributes = marked.build();
                }
                Made::Other(route)
            }
        }
    }

    /// A received prefix became this, or nothing of the voice's. Adds the voice's prefixes that this concerns.
    fn set(&mut self, prefix: IpNet, now: Option<Route>, concerned: &mut BTreeSet<IpNet>) {
        if let Some(before) = self.parts.remove(&prefix) {
            if let Some(whole) = self.wholes.get_mut(&before.whole) {
                whole.parts.remove(&prefix);
                for (count, has) in whole.kept_back.iter_mut().zip(before.kept_back()) {
                    *count -= usize::from(has);
                }
                if whole.parts.is_empty() {
                    self.wholes.remove(&before.whole);
                }
            }
            concerned.insert(before.whole);
        }
        if let Some(route) = now {
            let part = Part {
                whole: route.prefix,
                attributes: Arc::new(route.attributes),
                is_summary: route.is_summary,
                keeps_attributes: route.is_summary && route.keeps_attributes,
                import_preference: route.import_preference,
            };
            concerned.insert(part.whole);
            let whole = self.wholes.entry(part.whole).or_default();
            whole.parts.insert(prefix);
            for (count, has) in whole.kept_back.iter_mut().zip(part.kept_back()) {
                *count += usize::from(has);
            }
            self.parts.insert(prefix, part);
        }
    }

    /// What a voice says of a prefix: a summary rather than a route that has the prefix by itself, then the lowest part's attributes, or
    /// what it has in common with the others. A summary goes no farther than any of its parts may, whether or not they keep theirs.
    fn word(&self, whole: &IpNet) -> Option<Word> {
        let Whole {
            parts: parts_of,
            kept_back,
        } = self.wholes.get(whole)?;
        let mut parts = parts_of.iter().filter_map(|prefix| self.parts.get(prefix));
        let chosen = parts.clone().find(|part| part.is_summary).or_else(|| parts.next())?;
        let voice = *self.voices.get(&chosen.import_preference)?;
        let attributes = match chosen.keeps_attributes {
            true => Arc::new(self.in_common(parts_of)?),
            false => chosen.attributes.clone(),
        };
        let missing =
            |(each, count): (Community, &usize)| (*count > 0 && !attributes.has_community(each)).then_some(each);
        let missing: Vec<Community> = KEPT_BACK.into_iter().zip(kept_back).filter_map(missing).collect();
        if missing.is_empty() {
            return Some(Word { attributes, voice });
        }
        let marked = missing
            .into_iter()
            .fold(attributes.to_builder(), PathAttributesBuilder::add_community);
        let attributes = Arc::new(marked.build());
        Some(Word { attributes, voice })
    }

    /// The aggregate of those parts of a summary that keep their attributes.
    fn in_common(&self, parts: &BTreeSet<IpNet>) -> Option<PathAttributes> {
        let parts = parts.iter().filter_map(|prefix| self.parts.get(prefix));
        let kept = parts.filter(|part| part.keeps_attributes);
        PathAttributes::aggregate(kept.map(|part| &*part.attributes))
    }
}

impl Part {
    fn kept_back(&self) -> [bool; KEPT_BACK.len()] {
        KEPT_BACK.map(|each| self.is_summary && self.attributes.has_community(each))
    }
}

impl Speaker {
    /// A peer without routes.
    pub(crate) fn add_peer(&mut self, info: PeerInfo, map: Option<&RouteMap>) -> PeerIndex {
        let peer = self.rib.add_peer(info.clone());
        self.attach_inbound(peer, info, map);
        peer
    }

    /// The same peer, new facts.
    pub(crate) fn update_peer(&mut self, peer: PeerIndex, info: PeerInfo) {
        if let Some(inbound) = self.inbound.get(&peer) {
            for (preference, voice) in &inbound.voices {
                self.rib.update_peer(*voice, preferred(&info, *preference));
            }
        }
        self.rib.update_peer(peer, info);
    }

    /// Forgets a peer and all that it said.
    pub(crate) fn remove_peer(&mut self, peer: PeerIndex) {
        for voice in self
            .inbound
            .remove(&peer)
            .into_iter()
            .flat_map(|inbound| inbound.voices)
        {
            self.rib.remove_peer(voice.1);
        }
        self.rib.remove_peer(peer);
    }

    /// Attaches, changes or detaches a map. What is held is judged and said anew with [`Speaker::reconsider_if_due`].
    pub(crate) fn set_inbound_map(&mut self, peer: PeerIndex, info: PeerInfo, map: Option<&RouteMap>) {
        if self.inbound.get(&peer).map(|inbound| &inbound.map) != map {
            self.attach_inbound(peer, info, map);
            self.reconsider_due = true;
        }
    }

    fn attach_inbound(&mut self, peer: PeerIndex, info: PeerInfo, map: Option<&RouteMap>) {
        for voice in self.inbound.remove(&peer).into_iter().flat_map(|before| before.voices) {
            self.rib.remove_peer(voice.1);
        }
        if let Some(map) = map {
            let inbound = Inbound {
                map: map.clone(),
                source: info.source,
                voices: map
                    .import_preferences()
                    .into_iter()
                    .map(|preference| (preference, self.rib.add_voice(peer, preferred(&info, preference))))
                    .collect(),
                parts: BTreeMap::new(),
                wholes: BTreeMap::new(),
            };
            self.inbound.insert(peer, inbound);
        }
    }

    /// Stores what a peer announces, with verdicts.
    pub(crate) fn announce(&mut self, peer: PeerIndex, announcement: &Announcement) {
        let import = Import {
            rules: &self.import,
            total: &self.total,
            inbound: &self.inbound,
        };
        self.rib.announce(peer, announcement, &import);
        let attributes = Some(&*announcement.attributes);
        self.shape(peer, announcement.prefixes.iter().map(|prefix| (*prefix, attributes)));
    }

    /// Removes prefixes of a peer.
    pub(crate) fn withdraw(&mut self, peer: PeerIndex, prefixes: &[IpNet]) {
        self.rib.withdraw(peer, prefixes);
        self.shape(peer, prefixes.iter().map(|prefix| (*prefix, None)));
    }

    /// Removes all routes of a peer.
    pub(crate) fn clear_peer(&mut self, peer: PeerIndex) {
        self.rib.clear_peer(peer);
        if let Some(inbound) = self.inbound.get_mut(&peer) {
            for voice in inbound.voices.values() {
                self.rib.clear_peer(*voice);
            }
            inbound.parts.clear();
            inbound.wholes.clear();
        }
    }

    /// Removes what a refresh has not brought again.
    pub(crate) fn end_refresh(&mut self, peer: PeerIndex, family: bgp::Family) {
        let gone = self.rib.end_refresh(peer, family);
        self.shape(peer, gone.into_iter().map(|prefix| (prefix, None)));
    }

    /// Where a received path stands; one that a map has changed, where what it became does.
    pub(crate) fn standing(&self, path: &PathReport) -> Standing {
        if path.standing != Standing::Rejected(RejectRule::ChangedByRouteMap) {
            return path.standing;
        }
        let became = self.inbound.get(&path.peer).and_then(|inbound| {
            let part = inbound.parts.get(&path.prefix)?;
            let explained = self.rib.explain(&part.whole);
            explained.into_iter().find(|other| inbound.is_voice(other.peer))
        });
        became.map_or(path.standing, |became| became.standing)
    }

    /// What a map has made of a received path, if it is another route: of the parts of a summary all became the same.
    pub(crate) fn became(&self, path: &PathReport) -> Option<(IpNet, Arc<PathAttributes>)> {
        let inbound = self.inbound.get(&path.peer)?;
        let part = inbound.parts.get(&path.prefix)?;
        Some((part.whole, inbound.word(&part.whole)?.attributes))
    }

    /// Every path for a prefix as it was received, and what a map made the prefix of.
    pub(crate) fn explain(&self, prefix: &IpNet) -> Vec<PathReport> {
        let mut paths = self.rib.explain(prefix);
        for (peer, inbound) in &self.inbound {
            let parts = inbound.wholes.get(prefix).into_iter().flat_map(|whole| &whole.parts);
            for part in parts.filter(|part| *part != prefix) {
                paths.extend(self.rib.explain(part).into_iter().filter(|path| path.peer == *peer));
            }
        }
        paths
    }

    /// How many of a peer's prefixes are accepted; of those that a map has changed, what they became counts.
    pub(crate) fn accepted(&self, peer: PeerIndex) -> usize {
        let mut accepted = self.rib.counts(peer).accepted;
        if let Some(Inbound { wholes, voices, .. }) = self.inbound.get(&peer) {
            let is_refused = |whole: &IpNet| {
                let mut voices = voices.values();
                voices.any(|voice| self.rib.refused_by(*voice, whole).is_some())
            };
            let wholes = wholes.iter().filter(|(whole, _)| !is_refused(whole));
            accepted += wholes.map(|(_, whole)| whole.parts.len()).sum::<usize>();
        }
        accepted
    }

    /// What depends on a peer, and on what its map has made of its routes.
    pub(crate) fn carried(&self, peer: PeerIndex) -> Carried {
        let voices = self
            .inbound
            .get(&peer)
            .into_iter()
            .flat_map(|inbound| inbound.voices.values());
        let mut all = self.rib.carried(peer);
        for of_voice in voices.map(|voice| self.rib.carried(*voice)) {
            all.prefixes += of_voice.prefixes;
            all.without_other += of_voice.without_other;
        }
        all
    }

    /// Once per intent, however many maps it changes: every route of every peer is looked at.
    pub(crate) fn reconsider_if_due(&mut self) {
        if std::mem::take(&mut self.reconsider_due) {
            self.reconsider();
            self.unsettled = true;
        }
    }

    /// Asks about everything anew: rules, limits or maps changed.
    pub(super) fn reconsider(&mut self) {
        #[cfg(test)]
        {
            self.reconsidered += 1;
        }
        let import = Import {
            rules: &self.import,
            total: &self.total,
            inbound: &self.inbound,
        };
        self.rib.reconsider(&import);
        let mapped: Vec<PeerIndex> = self.inbound.keys().copied().collect();
        for peer in mapped {
            self.shape_all(peer);
        }
    }

    fn shape_all(&mut self, peer: PeerIndex) {
        let Some(inbound) = self.inbound.get(&peer) else {
            return;
        };
        let received = self.rib.received(peer);
        let held: BTreeSet<IpNet> = received.iter().map(|path| path.prefix).collect();
        let gone: Vec<IpNet> = inbound
            .parts
            .keys()
            .filter(|prefix| !held.contains(*prefix))
            .copied()
            .collect();
        let gone = gone.into_iter().map(|prefix| (prefix, None));
        let there = received.iter().map(|path| (path.prefix, Some(&*path.attributes)));
        self.shape(peer, gone.chain(there));
    }

    /// Makes the voices say what the map makes of these: of those alone that are held, and refused because of it.
    fn shape<'a>(&mut self, peer: PeerIndex, said: impl Iterator<Item = (IpNet, Option<&'a PathAttributes>)>) {
        let Some(inbound) = self.inbound.get_mut(&peer) else {
            return;
        };
        let mut concerned = BTreeSet::new();
        for (prefix, attributes) in said {
            let is_changed = self.rib.refused_by(peer, &prefix) == Some(RejectRule::ChangedByRouteMap);
            let now = match attributes
                .filter(|_| is_changed)
                .map(|attributes| inbound.make(&prefix, attributes))
            {
                Some(Made::Other(route)) => Some(route),
                _ => None,
            };
            inbound.set(prefix, now, &mut concerned);
        }
        let voices: Vec<PeerIndex> = inbound.voices.values().copied().collect();
        let words: Vec<_> = concerned
            .into_iter()
            .map(|whole| (whole, inbound.word(&whole)))
            .collect();
        let import = Import {
            rules: &self.import,
            total: &self.total,
            inbound: &self.inbound,
        };
        for (whole, word) in words {
            let prefixes = vec![whole];
            let speaker = word.as_ref().map(|word| word.voice);
            for silent in voices.iter().filter(|voice| Some(**voice) != speaker) {
                self.rib.withdraw(*silent, &prefixes);
            }
            if let Some(Word { attributes, voice }) = word {
                self.rib
                    .announce(voice, &Announcement { attributes, prefixes }, &import);
            }
        }
    }
}

/// A peer's facts with another import preference, if it is given one.
fn preferred(info: &PeerInfo, preference: Option<u32>) -> PeerInfo {
    PeerInfo {
        import_preference: preference.map_or(info.import_preference, |preference| {
            preference.saturating_add(precedence(info.source))
        }),
        ..info.clone()
    }
}
