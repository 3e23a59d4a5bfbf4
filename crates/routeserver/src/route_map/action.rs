//! What a rule does to a route.

use std::collections::BTreeSet;

use bgp::wire::{Community, PathAttributes};
use bgp::{Asn, IpNet};
use rib::RouteSource;
use serde::{Deserialize, Serialize};

use crate::route_map::{KEPT_BACK, LargeCommunity, RESERVED_COMMUNITIES, Route};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The route goes no farther.
    Drop,
    /// Another prefix. Routes that get the same one become a single route, a summary.
    ReplacePrefix(IpNet),
    /// These in front of the AS path, in this order.
    AddAsPath(Vec<Asn>),
    /// This AS path; an empty one clears it.
    ReplaceAsPath(Vec<Asn>),
    /// These communities besides those that are there.
    AddCommunities(Vec<Community>),
    /// These communities instead of those that are there, but for reserved ones.
    ReplaceCommunities(Vec<Community>),
    /// Without these communities, but for reserved ones.
    RemoveCommunities(Vec<Community>),
    /// Another prefix, as with [`Action::ReplacePrefix`]; the summary keeps what its parts have in common. Beyond Azure, as are those below.
    Aggregate(IpNet),
    /// Preferred before anything else, as with a peer's import preference: of inbound maps.
    SetImportPreference(u32),
    /// Told with this MULTI_EXIT_DISC: of outbound maps.
    SetMed(u32),
    /// These large communities besides those that are there.
    AddLargeCommunities(Vec<LargeCommunity>),
    /// These large communities instead of those that are there.
    ReplaceLargeCommunities(Vec<LargeCommunity>),
    /// Without these large communities.
    RemoveLargeCommunities(Vec<LargeCommunity>),
}

impl Action {
    /// `None`: dropped.
    pub(super) fn apply(&self, mut route: Route) -> Option<Route> {
        match self {
            Action::ReplacePrefix(prefix) => return Some(replace_prefix(route, prefix.trunc(), false)),
            Action::Aggregate(prefix) => return Some(replace_prefix(route, prefix.trunc(), true)),
            Action::SetImportPreference(preference) => route.import_preference = Some(*preference),
            Action::SetMed(med) => route.med = Some(*med),
            _ => {}
        }
        let attributes = route.attributes.to_builder();
        let there = || route.attributes.communities();
        let changed = match self {
            Action::Drop => return None,
            Action::ReplacePrefix(_) | Action::Aggregate(_) => attributes,
            Action::SetImportPreference(_) | Action::SetMed(_) => return Some(route),
            Action::AddAsPath(path) => attributes.prepend_sequence(path),
            Action::ReplaceAsPath(path) => attributes.as_sequence(path),
            Action::AddCommunities(more) => attributes.communities(&joined(there(), more)),
            Action::ReplaceCommunities(others) => {
                let kept = there().filter(|each| is_reserved(*each));
                attributes.communities(&joined(kept, others))
            }
            Action::RemoveCommunities(gone) => {
                attributes.retain_communities(|each| is_reserved(each) || !gone.contains(&each))
            }
            Action::AddLargeCommunities(more) => more
                .iter()
                .fold(attributes, |attributes, each| attributes.add_large_community(*each)),
            Action::ReplaceLargeCommunities(others) => attributes.large_communities(others),
            Action::RemoveLargeCommunities(gone) => {
                let there = route.attributes.large_communities();
                let kept: Vec<_> = there.filter(|each| !gone.contains(each)).collect();
                attributes.large_communities(&kept)
            }
        };
        route.attributes = changed.build();
        Some(route)
    }
}

/// A prefix of a virtual network is not made more specific, and nothing but a learned route becomes the default route (az §3): a route for
/// which the action is not allowed stays as it is.
fn replace_prefix(route: Route, prefix: IpNet, keeps_attributes: bool) -> Route {
    let is_learned = !matches!(
        route.source,
        RouteSource::VirtualNetwork | RouteSource::PeeredVirtualNetwork
    );
    let same_family = matches!(
        (route.prefix, prefix),
        (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_))
    );
    let allowed = is_learned || prefix.prefix_len() > 0 && prefix.contains(&route.prefix);
    if !same_family || !allowed || prefix == route.prefix {
        return route;
    }
    if keeps_attributes {
        return Route {
            prefix,
            is_summary: true,
            keeps_attributes,
            ..route
        };
    }
    // What the parts had is not the summary's: their next hop alone is (az §3), and that they go no farther.
    let kept_back = KEPT_BACK
        .into_iter()
        .filter(|each| route.attributes.has_community(*each));
    let attributes = PathAttributes::builder(route.attributes.next_hop())
        .communities(&kept_back.collect::<Vec<_>>())
        .build();
    Route {
        prefix,
        attributes,
        is_summary: true,
        ..route
    }
}

/// What is there and what is added, each once.
fn joined(there: impl Iterator<Item = Community>, more: &[Community]) -> Vec<Community> {
    let mut seen = BTreeSet::new();
    let all = there.chain(more.iter().copied());
    all.filter(|each| seen.insert(*each)).collect()
}

fn is_reserved(community: Community) -> bool {
    RESERVED_COMMUNITIES.contains(&community)
}
