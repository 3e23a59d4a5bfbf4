//! What another intent would change, without anybody following it: a dry run of management, for any change of intent.
//!
//! ```text
//! instance ─► outline ─► what each peer has said ─┬─► state machines of their own, the intent as it is ─┬─► what differs
//!             (intent, peers)   (peer by peer)    └─► others, with the intent as it would be ───────────┘
//!                            and the other process's
//! ```
//!
//! The instance gives out facts only, a peer's table at a time: the state machines are made and compared wherever there is time for it.
//! All are given the same, so what moves meanwhile shows in none. Peers keep saying what they say; what a peer would answer to what it
//! would be told is not known. Speakers of ours, whichever process they are in, say what they would ([`together`]); those whose other end is
//! not here (a real router, or a process that does not answer) are named if they would be told something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bgp::IpNet;
use bgp::session::{DownReason, Negotiated};
use bgp::wire::{Announcement, CeaseSubcode, Notification, PathAttributes};
use rib::HashKey;

use crate::instance::Instance;
use crate::instance::reports::told_report;
use crate::instance::retention::is_over_limit;
use crate::intent::Intent;
use crate::peer::{Peer, needs_reset};
use crate::report::{Alteration, Differences, EffectiveRoute, PeerDifference, TableDifference, WhatIfReport};
use crate::vnet::{LocRib, Scope, SubnetView, dependants, known_inside, prefixes, rows_of};

mod held;
mod together;

pub use held::{NotHeard, read as read_heard, write as write_heard};

/// Routes received by one process, in all, that are looked at: each is held twice more for a while, some 100 octets each time, and so are those
/// of the other process.
pub const MAX_HEARD: usize = 500_000;

/// Routes listed in one answer; more are counted.
const MAX_LISTED: usize = 10_000;

/// Prefixes compared in all subnets together: some seconds of work.
const MAX_COMPARED: usize = 5_000_000;

/// What all subnets share is only counted when nothing more can be listed: that is so much less work.
const COUNTED_PER_COMPARED: usize = 16;

/// What an instance has, but for routes.
#[derive(Clone, Debug)]
pub struct Outline {
    index: usize,
    key: HashKey,
    intent: Arc<Intent>,
    /// Peers whose session is Established, or whose routes are kept, and how many prefixes each has announced.
    peers: Vec<(String, usize)>,
}

/// What a peer has said whose session is Established, or whose routes are kept.
#[derive(Clone, Debug)]
pub struct Heard {
    pub(super) peer: String,
    /// `None`: the session has ended since.
    pub(super) negotiated: Option<Negotiated>,
    pub(super) announcements: Vec<Announcement>,
}

/// More is held than a dry run looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{held} routes are held, and a dry run looks at {MAX_HEARD} at most")]
pub struct TooManyRoutes {
    /// How many.
    pub held: usize,
}

impl Outline {
    /// Peers (ids) of which [`Instance::heard`] is to be asked.
    pub fn peers(&self) -> Result<impl Iterator<Item = &str>, TooManyRoutes> {
        let held = self.peers.iter().map(|(_, held)| held).sum();
        match held > MAX_HEARD {
            true => Err(TooManyRoutes { held }),
            false => Ok(self.peers.iter().map(|(id, _)| id.as_str())),
        }
    }
}

impl Instance {
    /// What [`what_if`] begins with.
    pub fn outline(&self) -> Outline {
        let up = self.peers.values();
        let up = up.filter(|peer| peer.up.is_some() || !peer.retention.is_empty());
        let held = |peer: &Peer| {
            let speaker = self.speakers.get(&peer.speaker);
            speaker.map_or(0, |speaker| speaker.rib.counts(peer.index).received)
        };
        Outline {
            index: self.index,
            key: self.key,
            intent: self.topology.intent().clone(),
            peers: up.map(|peer| (peer.intent.id.clone(), held(peer))).collect(),
        }
    }

    /// What a peer has said; `None`: its session is not Established, and nothing is kept of an earlier one.
    pub fn heard(&self, peer: &str) -> Option<Heard> {
        let peer = self.peers.get(self.peer_ids.get(peer)?)?;
        let speaker = self.speakers.get(&peer.speaker)?;
        Some(Heard {
            peer: peer.intent.id.clone(),
            negotiated: match &peer.up {
                Some(up) => Some(up.negotiated.clone()),
                None if peer.retention.is_empty() => return None,
                None => None,
            },
            announcements: speaker.rib.heard(peer.index),
        })
    }

    /// As if a session had come up and its peer had said all this.
    fn assume(&mut self, now: Instant, heard: &Heard) {
        let Some(key) = self.peer_ids.get(&heard.peer).copied() else {
            return;
        };
        if self.peers.get(&key).is_none_or(|peer| peer.intent.admin_down) {
            return;
        }
        if let Some(negotiated) = &heard.negotiated {
            self.established(now, key, negotiated.clone());
        }
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let Some(speaker) = self.speakers.get_mut(&peer.speaker) else {
            return;
        };
        for announcement in &heard.announcements {
            speaker.announce(peer.index, announcement);
        }
        if is_over_limit(peer, speaker.rib.counts(peer.index).received) {
            let notification = Notification::cease(CeaseSubcode::MaximumNumberOfPrefixesReached);
            self.down(now, key, DownReason::NotificationSent(notification, String::new()));
        }
    }

    /// Until all is decided and told, to nobody.
    fn settle_alone(&mut self, now: Instant) {
        loop {
            self.settle(now);
            self.outputs.clear();
            if !self.has_work_left() {
                return;
            }
        }
    }
}

/// What would differ with this intent, for the process that the outline is of. `others` is what the other process's peers have said, if
/// it answers. Takes its time: seconds with the most that is looked at.
pub fn what_if(
    outline: &Outline,
    heard: &[Heard],
    others: Option<&[Heard]>,
    wanted: Arc<Intent>,
    now: Instant,
) -> WhatIfReport {
    let own = (outline.index, heard);
    let processes: Vec<_> = std::iter::once(own)
        .chain(others.map(|others| (1 - outline.index.min(1), others)))
        .collect();
    let assumed = |intent: &Arc<Intent>| together::assume(outline, &processes, intent, now);
    let [before, after] = [assumed(&outline.intent), assumed(&wanted)];
    let comparison = Comparison {
        followed: [before.followed, after.followed],
        before: before.instance,
        after: after.instance,
        left: Left {
            room: MAX_LISTED,
            work: MAX_COMPARED,
        },
    };
    comparison.report(outline)
}

struct Comparison {
    /// Sessions (ids) with speakers of ours that were carried, before and after.
    followed: [BTreeSet<String>; 2],
    before: Instance,
    after: Instance,
    left: Left,
}

struct Left {
    /// Routes that may still be listed.
    room: usize,
    /// Prefixes that may still be compared.
    work: usize,
}

/// The same peer here and there.
type Sides<'a> = [Option<(&'a Instance, &'a Peer)>; 2];

impl Comparison {
    fn report(mut self, outline: &Outline) -> WhatIfReport {
        let mut report = WhatIfReport {
            instance: outline.index,
            intent_version: outline.intent.version,
            ..WhatIfReport::default()
        };
        let ids: BTreeSet<String> = [&self.before, &self.after]
            .into_iter()
            .flat_map(|each| each.peer_ids.keys().cloned())
            .collect();
        report.peers = ids.iter().filter_map(|id| self.peer(id)).collect();
        let differing = report.peers.iter().map(|peer| &peer.peer);
        let lost = differing.filter(|id| self.is_ours(id) && !self.is_followed(id));
        report.not_followed = lost.cloned().collect();
        self.tables(&mut report);
        report
    }

    /// Whether what the peer would say is in here, on each side that has it.
    fn is_followed(&self, id: &str) -> bool {
        let sides = [&self.before, &self.after].into_iter().zip(&self.followed);
        let mut there = sides.filter(|(instance, _)| instance.peer_ids.contains_key(id));
        there.all(|(_, followed)| followed.contains(id))
    }

    /// Whether the peer is a speaker of ours, in whichever process.
    fn is_ours(&self, id: &str) -> bool {
        let both = [&self.after, &self.before].into_iter();
        let mut peers = both.filter_map(|instance| instance.peers.get(instance.peer_ids.get(id)?));
        peers.next().is_some_and(|peer| peer.intent.kind.is_of_ours())
    }

    fn peer(&mut self, id: &str) -> Option<PeerDifference> {
        let side = |instance: &'_ Instance| instance.peer_ids.get(id).copied();
        let keys = [side(&self.before), side(&self.after)];
        let sides: Sides<'_> = [
            keys[0].and_then(|key| Some((&self.before, self.before.peers.get(&key)?))),
            keys[1].and_then(|key| Some((&self.after, self.after.peers.get(&key)?))),
        ];
        let (_, peer) = sides[1].or(sides[0])?;
        let session = session(&sides);
        let [before, after] = sides.map(told);
        let told = differences(&mut self.left.room, before, after, |prefix, attributes| {
            told_report(*prefix, attributes)
        });
        (session != "stays" || !told.is_none()).then(|| PeerDifference {
            peer: peer.intent.id.clone(),
            name: peer.intent.name.clone(),
            route_server: peer.speaker.clone(),
            session: session.to_owned(),
            told,
        })
    }

    /// NICs of a subnet have the same routes, so each place is looked at once; and what BGP brings to all places alike is compared once.
    fn tables(&mut self, report: &mut WhatIfReport) {
        let both = [&self.before, &self.after];
        let loc_ribs = both.map(loc_ribs);
        let changed = changed(&loc_ribs);
        let everywhere = everywhere(&loc_ribs, &changed);
        let nics = both.map(|each| each.topology.nics_by_place());
        let places: BTreeSet<&str> = nics.iter().flat_map(|side| side.keys().copied()).collect();
        for place in places {
            let views = both.map(|each| each.topology.view(place));
            let scopes = [scope(&views[0], &loc_ribs[0]), scope(&views[1], &loc_ribs[1])];
            let Some(routes) = self.left.compare(scopes, &changed, &everywhere) else {
                report.tables_not_compared += 1;
                continue;
            };
            if !routes.is_none() {
                let there = nics.iter().filter_map(|side| side.get(place)).flatten();
                let there: BTreeSet<&str> = there.copied().collect();
                report.tables.push(TableDifference {
                    subnet: place.to_owned(),
                    nics: there.into_iter().map(str::to_owned).collect(),
                    routes,
                });
            }
        }
    }
}

impl Left {
    /// The rows of one place; `None`: that is more than may still be compared.
    fn compare(
        &mut self,
        scopes: [Option<Scope<'_>>; 2],
        changed: &BTreeMap<&str, Vec<IpNet>>,
        everywhere: &Everywhere<'_>,
    ) -> Option<Differences<EffectiveRoute>> {
        let shared = shared(&scopes, everywhere);
        let candidates = candidates(&scopes, changed);
        let lists_more = self.room > 0;
        let cost = if lists_more { 1 } else { COUNTED_PER_COMPARED };
        self.work = self.work.checked_sub(candidates.len() + shared.len() / cost)?;
        let comes = |each: &&Shared| comes(each, &scopes, &candidates);
        let coming = shared.iter().filter(comes);
        let [mut before, mut after] = scopes.map(|scope| rows_among(scope, &candidates));
        let mut only_counted = 0;
        match lists_more {
            true => coming.for_each(|each| {
                before.extend(each.before.clone().map(keyed));
                after.extend(each.after.clone().map(keyed));
            }),
            false => only_counted = coming.count(),
        }
        let mut differences = differences(&mut self.room, before, after, |_, row| row.clone());
        differences.not_listed += only_counted;
        Some(differences)
    }
}

/// By route server.
type LocRibs<'a> = BTreeMap<&'a str, LocRib>;

fn scope<'a>(view: &'a Option<SubnetView>, loc_ribs: &'a LocRibs<'_>) -> Option<Scope<'a>> {
    let view = view.as_ref()?;
    let loc_rib = view.speaker.as_deref().and_then(|id| loc_ribs.get(id));
    Some(Scope {
        view,
        loc_rib,
        own: &[],
    })
}

/// Prefixes whose next hops differ, by route server.
fn changed<'a>([before, after]: &[LocRibs<'a>; 2]) -> BTreeMap<&'a str, Vec<IpNet>> {
    let there = before
        .iter()
        .filter_map(|(id, old)| Some((*id, old.differs_from(after.get(id)?))));
    there.collect()
}

/// A row that may be there or not, before and after.
type Shared = Alteration<Option<EffectiveRoute>>;

/// What differs, by route server, where nothing but BGP speaks.
type Everywhere<'a> = BTreeMap<&'a str, Vec<Shared>>;

fn everywhere<'a>([before, after]: &[LocRibs<'a>; 2], changed: &BTreeMap<&'a str, Vec<IpNet>>) -> Everywhere<'a> {
    let view = SubnetView::default();
    let view = &view;
    let row = |loc_rib: Option<&LocRib>, prefix: &IpNet| {
        let own = &[];
        let row = rows_of(Scope { view, loc_rib, own }, prefix).next()?;
        Some(keyed(row).1)
    };
    let of = |(id, prefixes): (&&'a str, &Vec<IpNet>)| {
        let each = prefixes.iter().map(|prefix| Alteration {
            before: row(before.get(id), prefix),
            after: row(after.get(id), prefix),
        });
        (*id, each.filter(|each| each.before != each.after).collect())
    };
    changed.iter().map(of).collect()
}

/// What is the same here as everywhere, but for what the place has of its own.
fn shared<'a>(scopes: &[Option<Scope<'_>>; 2], everywhere: &'a Everywhere<'_>) -> &'a [Shared] {
    let speaker = match scopes {
        [Some(before), Some(after)] if before.view == after.view => before.view.base(),
        _ => None,
    };
    let shared = speaker.and_then(|id| everywhere.get(id));
    shared.map_or(&[], Vec::as_slice)
}

/// Whether one of the shared rows is one of this place, too.
fn comes(each: &Shared, scopes: &[Option<Scope<'_>>; 2], candidates: &BTreeSet<IpNet>) -> bool {
    let row = each.before.as_ref().or(each.after.as_ref());
    let view = scopes[0].map(|scope| scope.view);
    row.zip(view)
        .is_some_and(|(row, view)| !candidates.contains(&row.address_prefix) && view.takes_bgp(&row.address_prefix))
}

/// The prefixes whose rows may differ, but for those of [`shared`] rows. Where the subnet's own facts stay, that is what the Loc-RIB has
/// otherwise, and what depends on it.
fn candidates(scopes: &[Option<Scope<'_>>; 2], changed: &BTreeMap<&str, Vec<IpNet>>) -> BTreeSet<IpNet> {
    match scopes {
        [Some(before), Some(after)] if before.view == after.view => {
            let serving = before.view.speaker.as_deref();
            let changed = serving.and_then(|id| changed.get(id)).map_or(&[][..], Vec::as_slice);
            if before.view.base().is_some() {
                return known_inside(before.view, changed);
            }
            let others = dependants(before.view, changed);
            changed.iter().copied().chain(others).collect()
        }
        scopes => {
            let scopes = scopes.iter().flatten();
            scopes.flat_map(|scope| prefixes(scope.view, scope.loc_rib)).collect()
        }
    }
}

type Rows = BTreeMap<(IpNet, String), EffectiveRoute>;

/// The rows of these prefixes.
fn rows_among(scope: Option<Scope<'_>>, prefixes: &BTreeSet<IpNet>) -> Rows {
    let rows = prefixes
        .iter()
        .flat_map(|prefix| scope.map(|scope| rows_of(scope, prefix)));
    rows.flatten().map(keyed).collect()
}

/// A row by its name, but for how good the route is: that says nothing of where it leads.
fn keyed(row: EffectiveRoute) -> ((IpNet, String), EffectiveRoute) {
    let name = (row.address_prefix, row.source.clone());
    (name, EffectiveRoute { rank: None, ..row })
}

fn loc_ribs(instance: &Instance) -> LocRibs<'_> {
    let made = instance.speakers.iter();
    made.map(|(id, speaker)| (id.as_str(), instance.loc_rib_of(speaker)))
        .collect()
}

/// What becomes of a peer's session.
fn session(sides: &Sides<'_>) -> &'static str {
    let (before, after) = match sides {
        [None, _] => return "starts",
        [_, None] => return "ends",
        [Some(before), Some(after)] => (before, after),
    };
    let is_up = |side: &(&Instance, &Peer)| side.1.up.is_some();
    let keeps = before
        .0
        .speakers
        .get(&before.1.speaker)
        .zip(after.0.speakers.get(&after.1.speaker))
        .is_some_and(|(before, after)| before.intent.keeps_sessions(&after.intent));
    match (is_up(before), is_up(after)) {
        (true, false) if after.1.intent.admin_down => "is-held-down",
        (true, false) => "over-limit",
        _ if before.1.intent.admin_down && !after.1.intent.admin_down => "starts",
        (true, true) if !keeps || needs_reset(&before.1.intent, &after.1.intent) => "resets",
        _ => "stays",
    }
}

/// What a peer is told.
fn told(side: Option<(&Instance, &Peer)>) -> BTreeMap<IpNet, Arc<PathAttributes>> {
    let told = side.filter(|(_, peer)| peer.up.is_some()).and_then(|(instance, peer)| {
        let speaker = instance.speakers.get(&peer.speaker)?;
        Some(speaker.rib.advertised(peer.index))
    });
    told.into_iter().flatten().collect()
}

fn differences<K: Ord, V: PartialEq, T>(
    room: &mut usize,
    before: BTreeMap<K, V>,
    mut after: BTreeMap<K, V>,
    show: impl Fn(&K, &V) -> T,
) -> Differences<T> {
    let mut found = Differences {
        appears: Vec::new(),
        vanishes: Vec::new(),
        changes: Vec::new(),
        not_listed: 0,
    };
    let mut take = |not_listed: &mut usize| match room.checked_sub(1) {
        Some(left) => {
            *room = left;
            true
        }
        None => {
            *not_listed += 1;
            false
        }
    };
    for (key, was) in before {
        match after.remove(&key) {
            Some(is) if is == was => {}
            Some(is) if take(&mut found.not_listed) => {
                let (before, after) = (show(&key, &was), show(&key, &is));
                found.changes.push(Alteration { before, after });
            }
            None if take(&mut found.not_listed) => found.vanishes.push(show(&key, &was)),
            _ => {}
        }
    }
    for (key, is) in after {
        if take(&mut found.not_listed) {
            found.appears.push(show(&key, &is));
        }
    }
    found
}

impl<T> Differences<T> {
    fn is_none(&self) -> bool {
        self.appears.is_empty() && self.vanishes.is_empty() && self.changes.is_empty() && self.not_listed == 0
    }
}
