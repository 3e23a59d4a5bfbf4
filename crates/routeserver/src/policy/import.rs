//! Import rules (az §2.3, §2.10): what a speaker refuses, and why.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use bgp::wire::PathAttributes;
use bgp::{Asn, BgpIdentifier, IpNet};
use rib::{ImportPolicy, PeerIndex, RejectRule, RouteSource, Sender};

use crate::peer::bgp_identifier;
use crate::prefix_set::PrefixSet;
use crate::speaker::SpeakerIntent;

/// What one instance of a speaker refuses from its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportRules {
    /// The speaker's AS number.
    asn: Asn,
    /// Our own, which is also our CLUSTER_ID (RFC 4456 §7).
    identifier: BgpIdentifier,
    /// The addresses of all instances, and those of a route server that are out of sight: none is a next hop of a peer's routes.
    instances: Vec<IpAddr>,
    /// RouteServerSubnet.
    subnet: Option<IpNet>,
    /// The virtual network's address space, and that of peered ones that use its gateways.
    inside: PrefixSet,
    /// IPv6 routes are exchanged.
    ipv6: bool,
    /// Everything that some rule on prefixes refuses: asked first, since most routes lie in none of it.
    refused: PrefixSet,
}

impl ImportRules {
    /// `inside` is the address space of the virtual network, and of peered ones that use its gateways.
    pub(crate) fn new(intent: &SpeakerIntent, inside: Vec<IpNet>) -> ImportRules {
        let refused = inside.iter().copied().chain(special_purpose()).chain(intent.subnet);
        ImportRules {
            asn: intent.asn,
            identifier: bgp_identifier(intent.address),
            instances: intent.instances.iter().chain(&intent.out_of_sight).copied().collect(),
            subnet: intent.subnet,
            refused: refused.collect(),
            inside: inside.into_iter().collect(),
            ipv6: intent.ipv6,
        }
    }

    /// The last rule on attributes.
    pub(crate) fn refuse_next_hop(&self, attributes: &PathAttributes) -> Option<RejectRule> {
        let next_hop = attributes.next_hop();
        if self.instances.contains(&next_hop) {
            return Some(RejectRule::OwnNextHop);
        }
        (!is_usable(next_hop)).then_some(RejectRule::UnusableNextHop)
    }

    /// Loops inside an AS.
    fn refuse_reflected(&self, attributes: &PathAttributes) -> Option<RejectRule> {
        //= https://www.rfc-editor.org/rfc/rfc4456#section-8
        //# A router that recognizes the ORIGINATOR_ID attribute SHOULD ignore a
        //# route received with its BGP Identifier as the ORIGINATOR_ID.
        if attributes.originator_id() == Some(self.identifier) {
            return Some(RejectRule::OwnOriginatorId);
        }
        //# If the local CLUSTER_ID is found in the CLUSTER_LIST, the
        //# advertisement received SHOULD be ignored.
        let mut clusters = attributes.cluster_list();
        clusters
            .any(|cluster| cluster == self.identifier)
            .then_some(RejectRule::OwnClusterId)
    }
}

impl ImportPolicy for ImportRules {
    fn refuse_attributes(&self, _peer: PeerIndex, from: Sender, attributes: &PathAttributes) -> Option<RejectRule> {
        for asn in attributes.as_numbers() {
            if asn == self.asn {
                return Some(RejectRule::OwnAsn);
            }
            // RFC 7607 §2: a route with AS 0 is not passed on; az §2.3: it is dropped.
            if asn == Asn(0) {
                return Some(RejectRule::AsZero);
            }
        }
        if from.internal.is_some() {
            return self
                .refuse_reflected(attributes)
                .or_else(|| self.refuse_next_hop(attributes));
        }
        // RFC 4271 §5.1.2: a speaker puts its own AS number into the path that it tells an external peer.
        if attributes.as_numbers().next().is_none() && from.source != RouteSource::Static {
            return Some(RejectRule::EmptyAsPath);
        }
        self.refuse_next_hop(attributes)
    }

    fn refuse_prefix(&self, from: Sender, prefix: &IpNet) -> Option<RejectRule> {
        if matches!(prefix, IpNet::V6(_)) && !self.ipv6 {
            return Some(RejectRule::FamilyDisabled);
        }
        if !self.refused.covers(prefix) {
            return None;
        }
        if Some(*prefix) == self.subnet {
            return Some(RejectRule::OwnSubnet);
        }
        if SPECIAL_PURPOSE.covers(prefix) {
            return Some(RejectRule::SpecialPurposePrefix);
        }
        // A gateway hears the prefixes of its own network from the route server, too: what it originates itself wins.
        let may_be_inside = from.source == RouteSource::RouteServer;
        (!may_be_inside && self.inside.covers(prefix)).then_some(RejectRule::InsideVirtualNetwork)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{hub_and_spoke, ip, net};

    const NVA: Sender = Sender::external(RouteSource::Nva);
    const GATEWAY: Sender = Sender {
        source: RouteSource::VpnGateway,
        internal: Some(BgpIdentifier(Ipv4Addr::new(10, 1, 5, 4))),
    };

    fn rules() -> ImportRules {
        let mut route_server = SpeakerIntent::all(&hub_and_spoke(), 0).remove(0);
        route_server.ipv6 = true;
        ImportRules::new(&route_server, vec![net("10.1.0.0/16")])
    }

    fn check(next_hop: &str, as_path: &[u32], expected: Option<RejectRule>) {
        let as_path: Vec<Asn> = as_path.iter().copied().map(Asn).collect();
        let attributes = PathAttributes::builder(ip(next_hop)).as_sequence(&as_path).build();
        let verdict = rules().refuse_attributes(PeerIndex(0), NVA, &attributes);
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
        let verdict = |prefix: &str| rules().refuse_prefix(NVA, &net(prefix));
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
        let verdict = |prefix: &str| rules().refuse_prefix(NVA, &net(prefix));
        assert_eq!(verdict("10.1.1.0/26"), Some(RejectRule::OwnSubnet));
        assert_eq!(verdict("10.1.1.0/27"), Some(RejectRule::InsideVirtualNetwork));
        assert_eq!(verdict("10.1.0.0/16"), Some(RejectRule::InsideVirtualNetwork));
        assert_eq!(verdict("10.0.0.0/15"), None);
    }

    fn check_internal(attributes: &PathAttributes, expected: Option<RejectRule>) {
        let verdict = rules().refuse_attributes(PeerIndex(0), GATEWAY, attributes);
        assert_eq!(verdict, expected, "{attributes}");
    }

    #[test]
    fn an_internal_peer_may_have_an_empty_path_and_not_our_own_number_in_it() {
        let path = |path: &[Asn]| PathAttributes::builder(ip("10.1.5.4")).as_sequence(path).build();
        check_internal(&path(&[]), None);
        check_internal(&path(&[Asn(64_700), Asn(65_515)]), Some(RejectRule::OwnAsn));
    }

    #[test]
    fn what_has_been_reflected_by_us_or_was_ours_before_is_refused() {
        let identifier = |last| BgpIdentifier(Ipv4Addr::new(10, 1, 1, last));
        let reflected = |originator, cluster| {
            let reflected = PathAttributes::builder(ip("10.1.5.4")).originator_id(identifier(originator));
            reflected
                .prepend_cluster(identifier(9))
                .prepend_cluster(identifier(cluster))
                .build()
        };
        check_internal(&reflected(4, 8), Some(RejectRule::OwnOriginatorId));
        check_internal(&reflected(7, 4), Some(RejectRule::OwnClusterId));
        check_internal(&reflected(7, 8), None);
    }
}
