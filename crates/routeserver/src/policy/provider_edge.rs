//! What the provider's edge of a circuit tells (az §2.6): what the customer says to gateways, and what gateways say to the customer. Nothing
//! goes from one gateway to another: what is behind one route server is not reached through a circuit from behind another.

use bgp::Asn;
use bgp::wire::PathAttributesBuilder;
use rib::RouteSource;

/// Whether peers of kind `to` hear what comes from `source`.
pub(super) fn tells(to: RouteSource, source: RouteSource) -> bool {
    matches!(
        (to, source),
        (RouteSource::Site, RouteSource::ExpressRoute) | (RouteSource::ExpressRoute, RouteSource::Site)
    )
}

/// The customer sees the provider's number and public ones (az §2.6). What the customer says keeps its own, public or not: the gateways
/// are to see where a route is from.
pub(super) fn hide_private_asns(told: PathAttributesBuilder, to: RouteSource) -> PathAttributesBuilder {
    match to {
        RouteSource::Site => told.retain_as_numbers(|asn| !is_private(asn)),
        _ => told,
    }
}

/// RFC 6996 §5.
fn is_private(asn: Asn) -> bool {
    matches!(asn.0, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
}
