//! What a route server tells (az §2.4, §2.6, §2.10).
//!
//! | from | to NVAs | to gateways |
//! |---|---|---|
//! | the virtual network and its spokes | always | always |
//! | NVAs | with branch-to-branch | with branch-to-branch |
//! | gateways | with branch-to-branch | with branch-to-branch, to those of the other kind |

use bgp::wire::{Community, PathAttributesBuilder};
use rib::RouteSource;

use super::export::is_of_virtual_networks;

/// Marks routes learned from NVAs and VPN gateways.
const LEARNED: Community = Community::new(65517, 65517);
/// Marks routes learned from ExpressRoute gateways.
const FROM_EXPRESS_ROUTE: Community = Community::new(65517, 12076);
/// Marks prefixes of peered virtual networks.
const PEERED_VIRTUAL_NETWORK: Community = Community::new(65518, 65518);

/// Whether peers of kind `to` hear what comes from `source`.
pub(super) fn tells(to: RouteSource, source: RouteSource, branch_to_branch: bool) -> bool {
    if is_of_virtual_networks(source) {
        return true;
    }
    // The instances of one gateway hear each other's routes from nobody: both have the same sites.
    let is_of_the_same_gateway = to == source && to != RouteSource::Nva;
    branch_to_branch && !is_of_the_same_gateway
}

/// Adds what tells NVAs where a route is from. Gateways get what is learned as it came.
pub(super) fn mark(told: PathAttributesBuilder, to: RouteSource, source: RouteSource) -> PathAttributesBuilder {
    match source {
        RouteSource::PeeredVirtualNetwork => told.add_community(PEERED_VIRTUAL_NETWORK),
        RouteSource::VirtualNetwork => told,
        _ if to != RouteSource::Nva => told,
        RouteSource::ExpressRoute => told.add_community(FROM_EXPRESS_ROUTE),
        _ => told.add_community(LEARNED),
    }
}
