//! Azure's import and export rules (az §2.3, §2.4, §2.10) as policies of the RIB.
//!
//! Knows one route server's own facts: its AS number, its instances' addresses, its virtual network's prefixes. Knows nothing of
//! single peers: every NVA is treated alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use bgp::wire::{Community, PathAttributes};
use bgp::{Asn, IpNet};
use rib::{ExportPolicy, GroupKey, ImportPolicy, PeerIndex, RejectRule, Reshaped, RouteSource};

use crate::prefix_set::PrefixSet;
use crate::route_map::{KEPT_BACK, Outcome, Route, RouteMap};

/// Marks routes learned from NVAs and gateways (az §2.4).
pub(crate) const LEARNED: Community = Community::new(65517, 65517);
/// Marks prefixes of peered virtual networks (az §2.4).
pub(crate) const PEERED_VIRTUAL_NETWORK: Community = Community::new(65518, 65518);

/// What one instance of a route server refuses from NVAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportRules {
    /// The route server's AS number.
    pub(crate) asn: Asn,
    /// The addresses of both instances: neither forwards packets.
    pub(crate) instances: [IpAddr; 2],
    /// RouteServerSubnet.
    pub(crate) subnet: IpNet,
    /// The virtual network's address space, and that of peered ones that use its gateways.
    inside: PrefixSet,
    /// IPv6 routes are exchanged.
    pub(crate) ipv6: bool,
    /// Everything that some rule on prefixes refuses: asked first, since most routes lie in none of it.
    refused: PrefixSet,
}

impl ImportRules {
    /// `inside` is the address space of the virtual network, and of peered ones that use its gateways.
    pub(crate) fn new(asn: Asn, instances: [IpAddr; 2], subnet: IpNet, inside: Vec<IpNet>, ipv6: bool) -> ImportRules {
        let refused = inside.iter().copied().chain(special_purpose()).chain([subnet]);
        ImportRules {
            asn,
            instances,
            subnet,
            refused: refused.collect(),
            inside: inside.into_iter().collect(),
            ipv6,
        }
    }
}

impl ImportRules {
    /// The last rule on attributes.
    pub(crate) fn refuse_next_hop(&self, attributes: &PathAttributes) -> Option<RejectRule> {
        let next_hop = attributes.next_hop();
        if self.instances.contains(&next_hop) {
            return Some(RejectRule::OwnNextHop);
        }
        (!is_usable(next_hop)).then_some(RejectRule::UnusableNextHop)
    }
}

impl ImportPolicy for ImportRules {
    fn refuse_attributes(&self, _peer: PeerIndex, attributes: &PathAttributes) -> Option<RejectRule> {
        for asn in attributes.as_numbers() {
            if asn == self.asn {
                return Some(RejectRule::OwnAsn);
            }
            // RFC 7607 §2: a route with AS 0 is not passed on; az §2.3: it is dropped.
            if asn == Asn(0) {
                return Some(RejectRule::AsZero);
            }
        }
        // RFC 4271 §5.1.2: a speaker puts its own AS number into the path that it tells an external peer.
        if attributes.as_numbers().next().is_none() {
            return Some(RejectRule::EmptyAsPath);
        }
        self.refuse_next_hop(attributes)
    }

    fn refuse_prefix(&self, _peer: PeerIndex, prefix: &IpNet) -> Option<RejectRule> {
        if matches!(prefix, IpNet::V6(_)) && !self.ipv6 {
            return Some(RejectRule::FamilyDisabled);
        }
        if !self.refused.covers(prefix) {
            return None;
        }
        if *prefix == self.subnet {
            return Some(RejectRule::OwnSubnet);
        }
        if SPECIAL_PURPOSE.covers(prefix) {
            return Some(RejectRule::SpecialPurposePrefix);
        }
        self.inside.covers(prefix).then_some(RejectRule::InsideVirtualNetwork)
    }
}

/// Whether packets can be sent to `address` on a link: a unicast address of one host. Whether it answers is the agent's to see.
fn is_usable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_usable_v4(v4),
        IpAddr::V6(v6) => {
            let link_local = v6.segments()[0] & 0xffc0 == 0xfe80;
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || link_local
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

fn is_usable_v4(address: Ipv4Addr) -> bool {
    // 0/8 is "this network", 240/4 reserved with the broadcast address (RFC 6890).
    address.octets()[0] != 0 && address.octets()[0] < 240 && !address.is_loopback() && !address.is_multicast()
}

/// Blocks that no router forwards by (RFC 6890), and addresses of the platform that every VM must reach (az has no row on
/// them). A route that covers such a block, the default route above all, is none in it.
fn special_purpose() -> [IpNet; 10] {
    [
        block_v4([0, 0, 0, 0], 8),
        block_v4([127, 0, 0, 0], 8),
        block_v4([169, 254, 0, 0], 16),
        // Azure's DNS, DHCP and health probes.
        block_v4([168, 63, 129, 16], 32),
        block_v4([224, 0, 0, 0], 4),
        block_v4([240, 0, 0, 0], 4),
        block_v6(0, 8),
        block_v6(0xfe80, 10),
        block_v6(0xfec0, 10),
        block_v6(0xff00, 8),
    ]
}

static SPECIAL_PURPOSE: LazyLock<PrefixSet> = LazyLock::new(|| special_purpose().into_iter().collect());

fn block_v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

fn block_v6(first: u16, length: u8) -> IpNet {
    let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0);
    IpNet::V6(ipnet::Ipv6Net::new_assert(address, length))
}

/// What one instance of a route server tells NVAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportRules {
    /// The route server's AS number.
    pub(crate) asn: Asn,
    /// This instance's address.
    pub(crate) address: IpAddr,
    /// NVAs hear of other NVAs' routes.
    pub(crate) branch_to_branch: bool,
    /// What groups with a shape are told by, at the shape's number; `None`: no group has it.
    pub(crate) route_maps: Vec<Option<RouteMap>>,
}

impl ExportPolicy for ExportRules {
    fn export(
        &self,
        _group: &GroupKey,
        source: RouteSource,
        attributes: &Arc<PathAttributes>,
    ) -> Option<PathAttributes> {
        match self.goes_out(source, attributes) {
            true => self.as_told(source, attributes),
            false => None,
        }
    }

    /// What may not go out does not come before the map; the map sees the route as the decision left it (az §3). What it adds is for the
    /// peer: a NO_EXPORT of the map's is told.
    fn reshape(
        &self,
        group: &GroupKey,
        prefix: &IpNet,
        source: RouteSource,
        attributes: &Arc<PathAttributes>,
    ) -> Option<Reshaped> {
        if !self.goes_out(source, attributes) {
            return None;
        }
        let route = Route {
            prefix: *prefix,
            attributes: PathAttributes::clone(attributes),
            source,
            is_summary: false,
        };
        let map = self.route_maps.get(group.shape? as usize)?.as_ref()?;
        let Outcome::Pass(route) = map.apply(route) else {
            return None;
        };
        Some(Reshaped {
            prefix: route.prefix,
            attributes: self.as_told(source, &route.attributes)?,
            is_summary: route.is_summary,
        })
    }
}

impl ExportRules {
    /// What leaves, as peers see it.
    fn as_told(&self, source: RouteSource, attributes: &PathAttributes) -> Option<PathAttributes> {
        // The family is that of the route's own next hop; the instance answers for both with one address.
        let next_hop = next_hop_self(self.address, attributes.next_hop().is_ipv6());
        let told = attributes
            .to_builder()
            .strip_for_external_peer()
            .next_hop(next_hop?)
            .prepend(self.asn, 1);
        let told = match source {
            RouteSource::VirtualNetwork => told,
            RouteSource::PeeredVirtualNetwork => told.add_community(PEERED_VIRTUAL_NETWORK),
            RouteSource::Nva | RouteSource::VpnGateway | RouteSource::ExpressRoute => told.add_community(LEARNED),
        };
        Some(told.build())
    }

    fn goes_out(&self, source: RouteSource, attributes: &PathAttributes) -> bool {
        match source {
            RouteSource::VirtualNetwork | RouteSource::PeeredVirtualNetwork => true,
            RouteSource::Nva | RouteSource::VpnGateway | RouteSource::ExpressRoute => {
                self.branch_to_branch && !stays_here(attributes)
            }
        }
    }
}

/// Well-known communities; every NVA is an external peer.
fn stays_here(attributes: &PathAttributes) -> bool {
    //= https://www.rfc-editor.org/rfc/rfc1997
    //# All routes received carrying a communities attribute
    //# containing this value MUST NOT be advertised to other BGP peers.
    KEPT_BACK.iter().any(|each| attributes.has_community(*each))
}

/// The instance's address as next hop of a family. IPv6 routes over IPv4 sessions carry it IPv4-mapped, as routers without an
/// IPv6 address on the session do; IPv4 routes cannot be told over IPv6 sessions (RFC 8950 is not spoken).
pub(crate) fn next_hop_self(address: IpAddr, ipv6: bool) -> Option<IpAddr> {
    match (address, ipv6) {
        (IpAddr::V4(v4), true) => Some(IpAddr::V6(v4.to_ipv6_mapped())),
        (IpAddr::V6(_), false) => None,
        (address, _) => Some(address),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{ip, net};

    fn rules() -> ImportRules {
        let instances = [ip("10.1.1.4"), ip("10.1.1.5")];
        ImportRules::new(
            Asn::AZURE_ROUTE_SERVER,
            instances,
            net("10.1.1.0/26"),
            vec![net("10.1.0.0/16")],
            true,
        )
    }

    fn check(next_hop: &str, as_path: &[u32], expected: Option<RejectRule>) {
        let as_path: Vec<Asn> = as_path.iter().copied().map(Asn).collect();
        let attributes = PathAttributes::builder(ip(next_hop)).as_sequence(&as_path).build();
        let verdict = rules().refuse_attributes(PeerIndex(0), &attributes);
        assert_eq!(verdict, expected, "{next_hop} {as_path:?}");
    }

    #[test]
    fn next_hops_that_are_no_host_are_refused() {
        for next_hop in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.5",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            check(next_hop, &[65001], Some(RejectRule::UnusableNextHop));
        }
        for next_hop in ["::", "::1", "ff02::5", "fe80::1", "::ffff:10.1.4.4"] {
            check(next_hop, &[65001], Some(RejectRule::UnusableNextHop));
        }
        check("10.1.4.4", &[65001], None);
        check("fd00::4", &[65001], None);
    }

    #[test]
    fn as_0_anywhere_in_the_path_is_refused() {
        check("10.1.4.4", &[65001, 0, 65002], Some(RejectRule::AsZero));
    }

    #[test]
    fn the_first_rule_that_refuses_gives_its_name() {
        check("10.1.1.4", &[65001, 65515], Some(RejectRule::OwnAsn));
        check("10.1.1.4", &[65001], Some(RejectRule::OwnNextHop));
    }

    #[test]
    fn neither_instance_is_a_next_hop() {
        check("10.1.1.5", &[65001], Some(RejectRule::OwnNextHop));
    }

    #[test]
    fn an_empty_as_path_is_refused() {
        check("10.1.4.4", &[], Some(RejectRule::EmptyAsPath));
    }

    #[test]
    fn prefixes_that_nobody_routes_by_are_refused_and_what_covers_them_is_not() {
        let verdict = |prefix: &str| rules().refuse_prefix(PeerIndex(0), &net(prefix));
        for prefix in [
            "0.0.0.0/32",
            "127.0.0.0/8",
            "169.254.169.254/32",
            "168.63.129.16/32",
            "224.0.0.0/4",
            "255.255.255.255/32",
            "::1/128",
            "fe80::/64",
            "ff02::/16",
        ] {
            assert_eq!(verdict(prefix), Some(RejectRule::SpecialPurposePrefix), "{prefix}");
        }
        for prefix in [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "168.63.0.0/16",
            "::/0",
            "2000::/3",
            "fd00::/8",
        ] {
            assert_eq!(verdict(prefix), None, "{prefix}");
        }
    }

    #[test]
    fn each_rule_on_prefixes_gives_its_own_name() {
        let verdict = |prefix: &str| rules().refuse_prefix(PeerIndex(0), &net(prefix));
        assert_eq!(verdict("10.1.1.0/26"), Some(RejectRule::OwnSubnet));
        assert_eq!(verdict("10.1.1.0/27"), Some(RejectRule::InsideVirtualNetwork));
        assert_eq!(verdict("10.1.0.0/16"), Some(RejectRule::InsideVirtualNetwork));
        assert_eq!(verdict("10.0.0.0/15"), None);
    }

    #[test]
    fn next_hop_self_is_of_the_routes_family() {
        assert_eq!(next_hop_self(ip("10.1.1.4"), false), Some(ip("10.1.1.4")));
        assert_eq!(next_hop_self(ip("10.1.1.4"), true), Some(ip("::ffff:10.1.1.4")));
        assert_eq!(next_hop_self(ip("fd00::4"), true), Some(ip("fd00::4")));
        assert_eq!(next_hop_self(ip("fd00::4"), false), None);
    }
}
