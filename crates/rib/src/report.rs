//! What the RIB answers when asked: sizes, tables, and where a received path stands and why.

use std::sync::Arc;

use bgp::wire::{Announcement, PathAttributes};
use bgp::{Family, IpNet};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::adj_rib_in::{Path, Paths};
use crate::attributes::AttributesId;
use crate::decision::{self, Candidate, Choice, DecisionStep};
use crate::peers::PeerIndex;
use crate::policy::RejectRule;
use crate::prefix_table::PrefixId;
use crate::table::{Change, Counts, Rib, Usage};

/// Where one received path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "standing", content = "reason")]
pub enum Standing {
    /// Chosen, and the one that is advertised.
    Best,
    /// Chosen for VMs beside the best one.
    EqualCost,
    /// Accepted, but another path won at this step.
    Lost(DecisionStep),
    /// Refused by this rule.
    Rejected(RejectRule),
}

/// One received path with its standing.
#[derive(Clone, Debug)]
pub struct PathReport {
    /// The prefix.
    pub prefix: IpNet,
    /// Who sent it.
    pub peer: PeerIndex,
    /// As received.
    pub attributes: Arc<PathAttributes>,
    /// Where it stands.
    pub standing: Standing,
    /// Whoever said it is to say it again, or it goes.
    pub stale: bool,
}

/// What depends on a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Prefixes that its routes are in use for.
    pub prefixes: usize,
    /// Of those, ones that nobody tells another next hop of.
    pub without_other: usize,
}

/// Reports.
impl Rib {
    /// A peer's sizes.
    pub fn counts(&self, peer: PeerIndex) -> Counts {
        let held = self.peers.get(peer);
        Counts {
            received: held.map_or(0, |peer| peer.received),
            fingerprint: held.map_or(0, |peer| peer.fingerprint),
            accepted: held.map_or(0, |peer| peer.accepted),
            stale: held.map_or(0, |peer| peer.stale),
            octets: held.map_or(0, |peer| peer.octets),
            advertised: self.adj_rib_out.count_to(peer),
        }
    }

    /// How many prefixes a peer's routes are in use for, and for how many of these there is no other next hop.
    pub fn carried(&self, peer: PeerIndex) -> Carried {
        let Some(next_hops_of) = self.peers.get(peer).map(|_| &self.tables.attributes) else {
            return Carried::default();
        };
        let mut carried = Carried::default();
        let mut paths = Paths::new();
        for (prefix, path) in self.adj_rib_in.of_peer(peer).filter(|(_, path)| path.is_accepted()) {
            self.adj_rib_in.accepted(prefix, &mut paths);
            let rank = |&(peer, attributes): &(PeerIndex, AttributesId)| {
                let summary = next_hops_of.summary(attributes);
                let peer = self.peers.get(peer)?;
                Some(peer.rank.of_path(summary.as_path_len, summary.last_resort))
            };
            let own = rank(&(peer, path.attributes()));
            if paths.iter().filter_map(rank).min() != own {
                continue;
            }
            let next_hop = next_hops_of.summary(path.attributes()).next_hop;
            let mut others = paths.iter().map(|(_, id)| next_hops_of.summary(*id).next_hop);
            carried.prefixes += 1;
            carried.without_other += usize::from(others.all(|other| other == next_hop));
        }
        carried
    }

    /// Every path for a prefix, with its standing.
    pub fn explain(&self, prefix: &IpNet) -> Vec<PathReport> {
        let prefix = prefix.trunc();
        let held = self.tables.prefixes.find(&prefix);
        let mut reports = held.map_or_else(Vec::new, |id| self.explain_id(id));
        let unheld = self
            .peers
            .iter()
            .filter_map(|(index, peer)| Some(unheld(index, prefix, peer.unheld.get(&prefix)?)));
        reports.extend(unheld);
        reports
    }

    fn explain_id(&self, prefix: PrefixId) -> Vec<PathReport> {
        let accepted: Vec<Candidate<'_>> = self
            .adj_rib_in
            .paths(prefix)
            .filter(|(_, path)| path.is_accepted())
            .filter_map(|(peer, path)| {
                let summary = self.tables.attributes.summary(path.attributes());
                Some(Candidate {
                    peer: &self.peers.get(peer)?.info,
                    as_path_len: summary.as_path_len,
                    origin: summary.origin,
                    last_resort: summary.last_resort,
                })
            })
            .collect();
        let has_local = self.loc_rib.local.contains_key(&prefix);
        let mut standings = decision::standings(self.preference, has_local, &accepted).into_iter();
        self.adj_rib_in
            .paths(prefix)
            .filter_map(|(peer, path)| {
                let standing = match path.verdict() {
                    Some(rule) => Standing::Rejected(rule),
                    None => standings.next()?,
                };
                Some(PathReport {
                    prefix: self.tables.prefixes.get(prefix),
                    peer,
                    attributes: Arc::new(self.tables.attributes.get(path.attributes())),
                    standing,
                    stale: path.is_stale(),
                })
            })
            .collect()
    }

    /// The rule that refuses what a peer said of a prefix; `None` also if it said nothing that is held.
    pub fn refused_by(&self, peer: PeerIndex, prefix: &IpNet) -> Option<RejectRule> {
        let id = self.tables.prefixes.find(&prefix.trunc())?;
        let mut paths = self.adj_rib_in.paths(id);
        paths.find(|(sender, _)| *sender == peer)?.1.verdict()
    }

    /// Everything received from a peer, in the order of prefixes.
    pub fn received(&self, peer: PeerIndex) -> Vec<PathReport> {
        let mut received: Vec<PathReport> = self
            .adj_rib_in
            .of_peer(peer)
            .flat_map(|(prefix, _)| self.explain_id(prefix))
            .filter(|report| report.peer == peer)
            .collect();
        let known = self.peers.get(peer).into_iter();
        received.extend(
            known
                .flat_map(|known| known.unheld.iter())
                .map(|(prefix, attributes)| unheld(peer, *prefix, attributes)),
        );
        received.sort_by_key(|report| report.prefix);
        received
    }

    /// All that a peer has said and is held, to be said again to another RIB: prefixes of one attribute set are one announcement.
    pub fn heard(&self, peer: PeerIndex) -> Vec<Announcement> {
        self.heard_of(peer, |_| true)
    }

    /// The same of what is still stale.
    pub fn heard_stale(&self, peer: PeerIndex, family: Family) -> Vec<Announcement> {
        self.heard_of(peer, |(prefix, path)| {
            path.is_stale() && self.tables.prefixes.family(*prefix) == family
        })
    }

    fn heard_of(&self, peer: PeerIndex, wanted: impl Fn(&(PrefixId, Path)) -> bool) -> Vec<Announcement> {
        let mut places = FxHashMap::default();
        let mut heard: Vec<Announcement> = Vec::new();
        for (prefix, path) in self.adj_rib_in.of_peer(peer).filter(wanted) {
            if path.verdict() == Some(RejectRule::OutOfAttributeSets) {
                continue;
            }
            let place = *places.entry(path.attributes()).or_insert_with(|| {
                heard.push(Announcement {
                    attributes: Arc::new(self.tables.attributes.get(path.attributes())),
                    prefixes: Vec::new(),
                });
                heard.len() - 1
            });
            heard[place].prefixes.push(self.tables.prefixes.get(prefix));
        }
        heard
    }

    /// Everything the peer has been told or is about to be, as it is on the wire, in the order of prefixes.
    pub fn advertised(&self, peer: PeerIndex) -> Vec<(IpNet, Arc<PathAttributes>)> {
        let mut advertised = self.adj_rib_out.advertised(peer, &self.tables);
        advertised.sort_by_key(|(prefix, _)| *prefix);
        advertised
    }

    /// The Loc-RIB over learned routes, as of the last [`Rib::decide`].
    pub fn loc_rib(&self) -> Vec<Change> {
        self.loc_rib.choices(&self.tables.prefixes).collect()
    }

    /// What the Loc-RIB has for a prefix over learned routes, as of the last [`Rib::decide`].
    pub fn choice(&self, prefix: &IpNet) -> Option<Arc<Choice>> {
        let id = self.tables.prefixes.find(&prefix.trunc())?;
        self.loc_rib.choice(id)
    }

    /// Every prefix that any peer sent.
    pub fn prefixes(&self) -> Vec<IpNet> {
        self.tables
            .prefixes
            .iter()
            .filter(|prefix| self.adj_rib_in.paths(*prefix).next().is_some())
            .map(|prefix| self.tables.prefixes.get(prefix))
            .collect()
    }

    /// How much is held.
    pub fn usage(&self) -> Usage {
        Usage {
            prefixes: self.tables.prefixes.live(),
            prefix_slots: self.tables.prefixes.len(),
            attribute_sets: self.tables.attributes.len(),
            attribute_slots: self.tables.attributes.slots(),
            choices: self.loc_rib.distinct_choices(),
            path_columns: self.adj_rib_in.columns(),
        }
    }
}

fn unheld(peer: PeerIndex, prefix: IpNet, attributes: &Arc<PathAttributes>) -> PathReport {
    PathReport {
        prefix,
        peer,
        attributes: Arc::clone(attributes),
        standing: Standing::Rejected(RejectRule::OutOfPrefixes),
        stale: false,
    }
}
