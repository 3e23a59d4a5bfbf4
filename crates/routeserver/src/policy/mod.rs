//! Azure's import and export rules (az §2.3–2.6, §2.10) as policies of the RIB.
//!
//! What a speaker takes is much the same whatever it is ([`import`]); what it tells is not: each role has a file that says what goes to
//! whom and what is changed on the way. None knows single peers: peers of a kind are treated alike.

mod export;
mod express_route_gateway;
mod import;
mod provider_edge;
mod route_server;
mod vpn_gateway;

use std::net::{IpAddr, Ipv6Addr};

pub(crate) use export::ExportRules;
pub(crate) use import::ImportRules;

/// The instance as next hop of a family, whatever family the session is of. An instance that has an IPv6 address says that one; one that
/// has none says its IPv4 address IPv4-mapped, as routers without an IPv6 address do, and speakers of ours refuse that
/// (`unusable-next-hop`): no kernel sends IPv6 there. An IPv4 route with an IPv6 next hop would need RFC 8950, which is not spoken.
pub(crate) fn next_hop_self(address: IpAddr, address_v6: Option<Ipv6Addr>, ipv6: bool) -> Option<IpAddr> {
    match (address, address_v6) {
        //= https://www.rfc-editor.org/rfc/rfc2545#section-3
        //# A BGP speaker shall advertise to its peer in the Network Address of
        //# Next Hop field the global IPv6 address of the next hop, potentially
        //# followed by the link-local IPv6 address of the next hop.
        (_, Some(v6)) if ipv6 => Some(v6.into()),
        (IpAddr::V4(v4), None) if ipv6 => Some(v4.to_ipv6_mapped().into()),
        (address, _) => (address.is_ipv6() == ipv6).then_some(address),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::ip;

    #[test]
    fn next_hop_self_is_of_the_routes_family() {
        let v6 = Some("fd00::4".parse().unwrap());
        for address_v6 in [None, v6] {
            assert_eq!(next_hop_self(ip("10.1.1.4"), address_v6, false), Some(ip("10.1.1.4")));
            assert_eq!(next_hop_self(ip("fd00::4"), address_v6, true), Some(ip("fd00::4")));
            assert_eq!(next_hop_self(ip("fd00::4"), address_v6, false), None);
        }
        assert_eq!(next_hop_self(ip("10.1.1.4"), v6, true), Some(ip("fd00::4")));
        assert_eq!(next_hop_self(ip("10.1.1.4"), None, true), Some(ip("::ffff:10.1.1.4")));
    }
}
