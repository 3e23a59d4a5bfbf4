//! What an ExpressRoute gateway tells (az §2.6).
//!
//! | from | to route servers | to provider edges |
//! |---|---|---|
//! | the virtual network and its spokes | never: they have them | always |
//! | route servers | never | always, the default route as well |
//! | provider edges | always | never: one circuit is no way to another |

use rib::RouteSource;

use super::export::is_of_virtual_networks;

/// Whether peers of kind `to` hear what comes from `source`.
pub(super) fn tells(to: RouteSource, source: RouteSource) -> bool {
    match to {
        RouteSource::RouteServer => source == RouteSource::ProviderEdge,
        RouteSource::ProviderEdge => is_of_virtual_networks(source) || source == RouteSource::RouteServer,
        _ => false,
    }
}
