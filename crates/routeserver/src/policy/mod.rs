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

use std::net::IpAddr;

pub(crate) use export::ExportRules;
pub(crate) use import::ImportRules;

/// The instance's address as next hop of a family. IPv6 routes over IPv4 sessions carry it IPv4-mapped, as routers without an
/// IPv6 address on the session do; IPv4 routes cannot be told over IPv6 sessions (RFC 8950 is not spoken). Speakers of ours refuse a mapped
/// one (`unusable-next-hop`): no kernel sends IPv6 there.
pub(crate) fn next_hop_self(address: IpAddr, ipv6: bool) -> Option<IpAddr> {
    match (address, ipv6) {
        (IpAddr::V4(v4), true) => Some(IpAddr::V6(v4.to_ipv6_mapped())),
        (IpAddr::V6(_), false) => None,
        (address, _) => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ip;

    #[test]
    fn next_hop_self_is_of_the_routes_family() {
        assert_eq!(next_hop_self(ip("10.1.1.4"), false), Some(ip("10.1.1.4")));
        assert_eq!(next_hop_self(ip("10.1.1.4"), true), Some(ip("::ffff:10.1.1.4")));
        assert_eq!(next_hop_self(ip("fd00::4"), true), Some(ip("fd00::4")));
        assert_eq!(next_hop_self(ip("fd00::4"), false), None);
    }
}
