//! The model: maps, and everything computed from them anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp::wire::PathAttributes;
use bgp::{Family, IpNet};
use rib::{
    Choice, ExportPolicy, GroupKey, ImportPolicy, PeerIndex, PeerInfo, Preference, Rank, RejectRule, Reshaped,
    RouteSource, Sender,
};

use crate::world::Route;

/// What a peer is and what it said.
pub(crate) struct PlainPeer {
    pub(crate) info: PeerInfo,
    pub(crate) paths: BTreeMap<IpNet, Arc<PathAttributes>>,
    pub(crate) stale: BTreeSet<IpNet>,
    pub(crate) group: Option<GroupKey>,
}

/// All state.
pub(crate) struct Plain {
    pub(crate) preference: Preference,
    pub(crate) peers: BTreeMap<PeerIndex, PlainPeer>,
    pub(crate) local: BTreeMap<IpNet, (RouteSource, Arc<PathAttributes>)>,
}

/// Who is told about, and what.
type Best = (Option<PeerIndex>, Sender, Arc<PathAttributes>);

/// The comparable part of the decision up to equal cost.
type Cost = (bool, Reverse<u32>, u16, u16);

impl Plain {
    /// What each peer said last of each prefix: the order between different peers and prefixes is what may vary.
    pub(crate) fn last_words(routes: &[Route]) -> Vec<Route> {
        let last: BTreeMap<_, _> = routes.iter().map(|r| ((r.peer, r.prefix), r.attributes)).collect();
        last.into_iter()
            .map(|((peer, prefix), attributes)| Route {
                peer,
                prefix,
                attributes,
            })
            .collect()
    }

    pub(crate) fn family_of(prefix: &IpNet) -> Family {
        match prefix {
            IpNet::V4(_) => Family::Ipv4Unicast,
            IpNet::V6(_) => Family::Ipv6Unicast,
        }
    }

    pub(crate) fn prefixes(&self) -> BTreeSet<IpNet> {
        let learned = self.peers.values().flat_map(|peer| peer.paths.keys());
        learned.chain(self.local.keys()).copied().collect()
    }

    fn cost(&self, peer: &PlainPeer, attributes: &PathAttributes) -> Cost {
        let length = attributes.as_path_len();
        let express_route = peer.info.source == RouteSource::ExpressRoute;
        let preference = Reverse(peer.info.import_preference);
        let last_resort = peer.info.last_resort || attributes.is_last_resort();
        match self.preference {
            Preference::ExpressRoute => (last_resort, preference, u16::from(!express_route), length),
            Preference::VpnGateway => (last_resort, preference, u16::from(express_route), length),
            Preference::ASPath => (last_resort, preference, length, u16::from(!express_route)),
        }
    }

    /// Accepted paths of a prefix, best first.
    fn sorted(&self, prefix: &IpNet, policy: &impl ImportPolicy) -> Vec<(Cost, PeerIndex, Arc<PathAttributes>)> {
        let mut sorted: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(index, peer)| {
                let attributes = peer.paths.get(prefix)?;
                let accepted = verdict(policy, *index, peer.info.sender(), prefix, attributes).is_none();
                accepted.then(|| (self.cost(peer, attributes), *index, Arc::clone(attributes)))
            })
            .collect();
        sorted.sort_by_key(|(cost, index, attributes)| {
            let info = &self.peers[index].info;
            (
                *cost,
                attributes.origin(),
                Reverse(info.external),
                info.identifier,
                info.address,
                *index,
            )
        });
        sorted
    }

    /// The Loc-RIB; ranks are left out, since the model has its own.
    pub(crate) fn loc_rib(&self, policy: &impl ImportPolicy) -> BTreeMap<IpNet, Choice> {
        let mut loc_rib = BTreeMap::new();
        for prefix in self.prefixes() {
            let sorted = self.sorted(&prefix, policy);
            let Some((lowest, ..)) = sorted.first() else {
                continue;
            };
            let hops = |cost: &Cost| -> BTreeSet<IpAddr> {
                let equal = sorted.iter().filter(|(other, ..)| other == cost);
                equal.map(|(_, _, attributes)| attributes.next_hop()).collect()
            };
            let next_hops = hops(lowest);
            let second = sorted
                .iter()
                .find(|(_, _, attributes)| !next_hops.contains(&attributes.next_hop()));
            let fallback = second.map(|(cost, ..)| &hops(cost) - &next_hops).unwrap_or_default();
            let choice = Choice {
                next_hops: next_hops.into_iter().collect(),
                fallback: fallback.into_iter().collect(),
                rank: Rank(0),
            };
            loc_rib.insert(prefix, choice);
        }
        loc_rib
    }

    fn best(&self, prefix: &IpNet, policy: &impl ImportPolicy) -> Option<Best> {
        if let Some((source, attributes)) = self.local.get(prefix) {
            return Some((None, Sender::external(*source), Arc::clone(attributes)));
        }
        let (_, index, attributes) = self.sorted(prefix, policy).into_iter().next()?;
        Some((Some(index), self.peers[&index].info.sender(), attributes))
    }

    /// What a peer must hold.
    pub(crate) fn adj_rib_out(
        &self,
        peer: PeerIndex,
        import: &impl ImportPolicy,
        export: &impl ExportPolicy,
    ) -> BTreeMap<IpNet, PathAttributes> {
        let Some(group) = self.peers[&peer].group else {
            return BTreeMap::new();
        };
        let mut parts: BTreeMap<IpNet, Vec<Part>> = BTreeMap::new();
        for prefix in self.prefixes() {
            let Some((originator, from, attributes)) = self.best(&prefix, import) else {
                continue;
            };
            if !group.families.contains(Plain::family_of(&prefix)) {
                continue;
            }
            let reshaped = match group.shape {
                Some(_) => export.reshape(&group, &prefix, from, &attributes),
                None => export.export(&group, from, &attributes).map(|attributes| Reshaped {
                    prefix,
                    attributes,
                    is_summary: false,
                    keeps_attributes: false,
                }),
            };
            let told_at_all = |told: &Reshaped| !export.withheld(&group).contains(&told.prefix);
            let fits = |told: &Reshaped| told.attributes.next_hop().is_ipv4() == matches!(told.prefix, IpNet::V4(_));
            if let Some(told) = reshaped.filter(told_at_all).filter(fits) {
                let part = (
                    !told.is_summary,
                    prefix,
                    originator,
                    told.keeps_attributes,
                    told.attributes,
                );
                parts.entry(told.prefix).or_default().push(part);
            }
        }
        parts
            .into_iter()
            .filter_map(|(whole, parts)| Some((whole, told_to(peer, parts)?)))
            .collect()
    }
}

/// Whether it is no summary, of which prefix, from whom, whether it keeps attributes, and as what it is told.
type Part = (bool, IpNet, Option<PeerIndex>, bool, PathAttributes);

/// What a peer is told of the parts of a prefix: the first of them, or what it has in common with the others, unless all are its own.
fn told_to(peer: PeerIndex, mut parts: Vec<Part>) -> Option<PathAttributes> {
    parts.sort_by_key(|(is_itself, prefix, ..)| (*is_itself, *prefix));
    let all_own = parts.iter().all(|(_, _, originator, ..)| *originator == Some(peer));
    let (.., keeps, first) = parts.first()?;
    let attributes = match keeps {
        true => PathAttributes::aggregate(parts.iter().filter(|part| part.3).map(|part| &part.4))?,
        false => first.clone(),
    };
    (!all_own).then_some(attributes)
}

/// What import policy says of a path.
pub(crate) fn verdict(
    policy: &impl ImportPolicy,
    peer: PeerIndex,
    from: Sender,
    prefix: &IpNet,
    attributes: &PathAttributes,
) -> Option<RejectRule> {
    policy
        .refuse_attributes(peer, from, attributes)
        .or_else(|| policy.refuse_prefix(from, prefix))
}
