//! What a rule does to a route.

use bgp::wire::{Community, PathAttributes, PathAttributesBuilder};
use bgp::{Asn, IpNet};
use rib::RouteSource;
use serde::{Deserialize, Serialize};

use crate::route_map::{RESERVED_COMMUNITIES, Route};

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
}

impl Action {
    /// `None`: dropped.
    pub(super) fn apply(&self, mut route: Route) -> Option<Route> {
        if let Action::ReplacePrefix(prefix) = self {
            return Some(replace_prefix(route, prefix.trunc()));
        }
        let attributes = route.attributes.to_builder();
        let changed = match self {
            Action::Drop => return None,
            Action::ReplacePrefix(_) => attributes,
            Action::AddAsPath(path) => {
                let last_first = path.iter().rev();
                last_first.fold(attributes, |attributes, asn| attributes.prepend(*asn, 1))
            }
            Action::ReplaceAsPath(path) => attributes.as_sequence(path),
            Action::AddCommunities(more) => add(attributes, more),
            Action::ReplaceCommunities(others) => add(attributes.retain_communities(is_reserved), others),
            Action::RemoveCommunities(gone) => {
                attributes.retain_communities(|each| is_reserved(each) || !gone.contains(&each))
            }
        };
        route.attributes = changed.build();
        Some(route)
    }
}

/// A prefix of a virtual network is not made more specific, and nothing but a learned route becomes the default route (az §3): a route for
/// which the action is not allowed stays as it is.
fn replace_prefix(route: Route, prefix: IpNet) -> Route {
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
    // What the parts had is not the summary's: their next hop alone is (az §3).
    let attributes = PathAttributes::builder(route.attributes.next_hop()).build();
    Route {
        prefix,
        attributes,
        is_summary: true,
        ..route
    }
}

fn add(attributes: PathAttributesBuilder, more: &[Community]) -> PathAttributesBuilder {
    more.iter()
        .fold(attributes, |attributes, each| attributes.add_community(*each))
}

fn is_reserved(community: Community) -> bool {
    RESERVED_COMMUNITIES.contains(&community)
}
