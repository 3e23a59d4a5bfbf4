//! Peers, prefixes, attribute sets and policies that tests name by number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use bgp::wire::{Community, EncodeContext, Origin, PathAttributes};
use bgp::{Asn, BgpIdentifier, Family, FamilySet, IpNet};
use rib::{ExportPolicy, GroupKey, ImportPolicy, PeerIndex, PeerInfo, RejectRule, Reshaped, RouteSource, Sender};

/// Refuses prefixes by mask, and one attribute set.
pub(crate) struct Import {
    pub(crate) refused: u16,
}

impl ImportPolicy for Import {
    fn refuse_attributes(&self, _: PeerIndex, _: Sender, attributes: &PathAttributes) -> Option<RejectRule> {
        let zero = attributes.as_numbers().any(|asn| asn == Asn(0));
        zero.then_some(RejectRule::AsZero)
    }

    fn refuse_prefix(&self, _: Sender, prefix: &IpNet) -> Option<RejectRule> {
        let number = (0..16).find(|n| prefix_of(*n) == *prefix)?;
        (self.refused & 1 << number != 0).then_some(RejectRule::OwnSubnet)
    }
}

/// Azure's export in short: own next hop, own AS number in front, communities obeyed.
pub(crate) struct Export {
    pub(crate) branch_to_branch: bool,
}

impl ExportPolicy for Export {
    fn export(&self, group: &GroupKey, from: Sender, attributes: &Arc<PathAttributes>) -> Option<PathAttributes> {
        let source = from.source;
        // As a route reflector.
        if group.asn.is_some()
            && let Some(originator) = from.internal
        {
            let reflected = attributes.to_builder().local_pref(Some(100)).originator_id(originator);
            return Some(reflected.build());
        }
        let local = source == RouteSource::VirtualNetwork;
        if !local && (!self.branch_to_branch || attributes.has_community(Community::NO_ADVERTISE)) {
            return None;
        }
        let next_hop: IpAddr = match attributes.next_hop() {
            IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 4).into(),
            IpAddr::V6(_) => "2001:db8::4".parse::<Ipv6Addr>().unwrap().into(),
        };
        let out = attributes.to_builder().next_hop(next_hop).prepend(Asn(65515), 1);
        let out = match source {
            RouteSource::ExpressRoute => out.add_community(Community::new(65517, 12076)),
            RouteSource::Nva => out.add_community(Community::new(65517, 65517)),
            _ => out,
        };
        Some(out.strip_for_external_peer().build())
    }

    /// The default route, to the internal group.
    fn withheld(&self, group: &GroupKey) -> &[IpNet] {
        static DEFAULT: LazyLock<[IpNet; 1]> = LazyLock::new(|| [prefix_of(0)]);
        if group.asn.is_some() { &*DEFAULT } else { &[] }
    }

    /// Drops one prefix; makes some into one that nobody announces (of IPv6 with what they have in common), and others into one that is
    /// announced too.
    fn reshape(
        &self,
        group: &GroupKey,
        prefix: &IpNet,
        from: Sender,
        attributes: &Arc<PathAttributes>,
    ) -> Option<Reshaped> {
        let told = self.export(group, from, attributes)?;
        let whole = match (0..16).find(|number| prefix_of(*number) == *prefix)? {
            3 => return None,
            4..=6 => "172.16.4.0/22".parse().unwrap(),
            7 | 9 => prefix_of(8),
            13 | 14 => "2001:db8::/32".parse().unwrap(),
            number => prefix_of(number),
        };
        let is_summary = whole != *prefix;
        let keeps_attributes = is_summary && whole.addr().is_ipv6();
        let attributes = if is_summary && !keeps_attributes {
            let marks: Vec<Community> = told.communities().collect();
            let summary = PathAttributes::builder(told.next_hop()).as_sequence(&[Asn(65515)]);
            summary.communities(&marks).build()
        } else {
            told
        };
        Some(Reshaped {
            prefix: whole,
            attributes,
            is_summary,
            keeps_attributes,
        })
    }
}

/// Twelve IPv4 and four IPv6 prefixes, overlapping ones among them.
pub(crate) fn prefix_of(number: usize) -> IpNet {
    match number {
        0 => "0.0.0.0/0".parse().unwrap(),
        1 => "10.0.0.0/8".parse().unwrap(),
        2 => "10.0.0.0/16".parse().unwrap(),
        12 => "::/0".parse().unwrap(),
        3..12 => format!("172.16.{number}.0/24").parse().unwrap(),
        _ => format!("2001:db8:{number}::/48").parse().unwrap(),
    }
}

pub(crate) fn prefixes_of(mask: u16, ipv6: bool) -> Vec<IpNet> {
    let prefixes = (0..16).filter(|n| mask & 1 << n != 0).map(prefix_of);
    prefixes
        .filter(|prefix| matches!(prefix, IpNet::V6(_)) == ipv6)
        .collect()
}

pub(crate) fn family(ipv6: bool) -> Family {
    if ipv6 { Family::Ipv6Unicast } else { Family::Ipv4Unicast }
}

/// Attribute sets that meet each other in all steps of the decision.
pub(crate) fn attributes_of(number: usize, ipv6: bool) -> Arc<PathAttributes> {
    let host = [5, 6, 6, 7][number % 4];
    let next_hop: IpAddr = match ipv6 {
        false => Ipv4Addr::new(10, 0, 1, host).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(host)).into(),
    };
    let path: &[Asn] = match number {
        11 => &[Asn(65001), Asn(0)],
        n if n % 3 == 0 => &[Asn(65001)],
        n if n % 3 == 1 => &[Asn(65002), Asn(70000)],
        _ => &[Asn(65003), Asn(65004)],
    };
    let origin = if number == 4 { Origin::Incomplete } else { Origin::Igp };
    let builder = PathAttributes::builder(next_hop).as_sequence(path).origin(origin);
    let builder = match number {
        7 => builder.add_community(Community::NO_ADVERTISE),
        8 => builder.med(Some(50)),
        9 => builder.add_community(Community::LLGR_STALE),
        _ => builder,
    };
    Arc::new(builder.build())
}

pub(crate) fn info_of(peer: usize, variant: u32) -> PeerInfo {
    let address = Ipv4Addr::new(10, 0, 1, 5 + peer as u8);
    PeerInfo {
        identifier: BgpIdentifier(if variant == 1 {
            Ipv4Addr::new(1, 1, 1, 1)
        } else {
            address
        }),
        address: address.into(),
        asn: Asn(65001),
        external: peer != 2,
        source: match (peer, variant) {
            (3, _) | (_, 3) => RouteSource::ExpressRoute,
            (2, _) => RouteSource::VpnGateway,
            _ => RouteSource::Nva,
        },
        import_preference: u32::from(variant == 2),
        last_resort: variant == 4,
    }
}

/// The group that is told all of it unchanged, but the default route.
pub(crate) const INTERNAL: usize = 4;

/// The group whose policy reshapes; otherwise it is like the first.
pub(crate) const SHAPED: usize = 3;

pub(crate) fn group_of(number: usize) -> GroupKey {
    GroupKey {
        encode: EncodeContext {
            four_octet_as: true,
            extended_message: number == 1,
        },
        families: if number == 2 { FamilySet::IPV4 } else { FamilySet::BOTH },
        source: RouteSource::Nva,
        asn: (number == INTERNAL).then_some(Asn(65515)),
        shape: (number == SHAPED).then_some(0),
        long_lived: false,
        graceful_shutdown: false,
    }
}
