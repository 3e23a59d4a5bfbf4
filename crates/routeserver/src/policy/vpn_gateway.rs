//! What a VPN gateway tells (az §2.6).
//!
//! | from | to route servers | to sites |
//! |---|---|---|
//! | the virtual network and its spokes | never: they have them | always |
//! | route servers | never | but for the default route |
//! | sites, and static routes of sites | always | but for the default route: transit between sites |
//!
//! The default route is known to be kept back where a route server says it. Here it is, too, where a site says it: what a gateway tells
//! its sites of 0.0.0.0/0 does not depend on who is preferred for it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use bgp::IpNet;
use rib::RouteSource;

use super::export::is_of_virtual_networks;

/// Azure's VPN gateways do not pass on a route server's 0.0.0.0/0; its halves go. Nobody's goes here.
static WITHHELD: LazyLock<[IpNet; 2]> = LazyLock::new(|| {
    [
        IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    ]
});

/// Whether peers of kind `to` hear what comes from `source`.
pub(super) fn tells(to: RouteSource, source: RouteSource) -> bool {
    match to {
        RouteSource::RouteServer => matches!(source, RouteSource::Site | RouteSource::Static),
        RouteSource::Site => {
            is_of_virtual_networks(source)
                || matches!(
                    source,
                    RouteSource::RouteServer | RouteSource::Site | RouteSource::Static
                )
        }
        _ => false,
    }
}

/// Prefixes that peers of kind `to` are never told.
pub(super) fn withheld(to: RouteSource) -> &'static [IpNet] {
    match to {
        RouteSource::Site => &*WITHHELD,
        _ => &[],
    }
}
