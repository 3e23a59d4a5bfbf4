//! Address arithmetic of virtual networks: prefixes as Azure wants them written, and which addresses of a subnet are free.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::error::ArmError;

/// The platform keeps the network address and the next three of every subnet (.0 to .3).
pub(crate) const PLATFORM_ADDRESSES: u32 = 4;

/// Addresses that no virtual network may hold.
const FORBIDDEN: [(&str, &str); 5] = [
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("168.63.129.16/32", "the platform's own address"),
];

/// A prefix in CIDR notation whose host bits are zero.
pub(crate) fn parse_prefix(text: &str, path: &str) -> Result<IpNet, ArmError> {
    let Ok(prefix) = text.parse::<IpNet>() else {
        return Err(ArmError::bad(
            "InvalidAddressPrefixFormat",
            format!(
                "Address prefix '{text}' at {path} is not formatted correctly. Write it in CIDR notation, for example 10.0.0.0/24."
            ),
        )
        .at(path));
    };
    if prefix.trunc() == prefix {
        return Ok(prefix);
    }
    Err(ArmError::bad(
        "InvalidCIDRNotation",
        format!(
            "The address prefix {text} at {path} has an invalid CIDR notation. For the given prefix length, the address prefix \
             should be {}.",
            prefix.trunc()
        ),
    )
    .at(path))
}

/// Whether a virtual network may hold the prefix.
pub(crate) fn check_address_space(prefix: &IpNet, path: &str) -> Result<(), ArmError> {
    let fail = |why: String| {
        Err(ArmError::bad(
            "AddressPrefixNotAllowed",
            format!("The address prefix {prefix} at {path} {why}"),
        )
        .at(path))
    };
    match prefix {
        IpNet::V4(v4) if !(2..=29).contains(&v4.prefix_len()) => {
            fail("must be between /2 and /29. Choose another length.".to_owned())
        }
        IpNet::V6(v6) if !(3..=64).contains(&v6.prefix_len()) => {
            fail("must be between /3 and /64. Choose another length.".to_owned())
        }
        _ => {
            let clash = FORBIDDEN
                .iter()
                .find(|(text, _)| text.parse().is_ok_and(|forbidden| overlap(&forbidden, prefix)));
            match clash {
                Some((text, what)) => fail(format!(
                    "overlaps {text} ({what}), which no virtual network may hold. Choose another."
                )),
                None => Ok(()),
            }
        }
    }
}

pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// A pair of prefixes that overlap: `None` when all are apart.
pub(crate) fn first_overlap<T: Clone>(mut prefixes: Vec<(IpNet, T)>) -> Option<((IpNet, T), (IpNet, T))> {
    prefixes.sort_by_key(|(prefix, _)| (prefix.network(), prefix.prefix_len()));
    // Prefixes are nested or apart; so whatever stands between an outer one and an inner one of it is inside the outer one too.
    prefixes
        .windows(2)
        .find(|pair| overlap(&pair[0].0, &pair[1].0))
        .map(|pair| (pair[0].clone(), pair[1].clone()))
}

/// The addresses of IN_0 and IN_1: the first two after the platform's.
pub(crate) fn instance_addresses(subnet: &Ipv4Net) -> [Ipv4Addr; 2] {
    let base = u32::from(subnet.network());
    [PLATFORM_ADDRESSES, PLATFORM_ADDRESSES + 1].map(|offset| Ipv4Addr::from(base.saturating_add(offset)))
}

/// The IPv6 address that an instance of a route server or gateway has beside an IPv4 address of the same subnet: the one of the same
/// number in the subnet's first IPv6 prefix. `None`: the subnet has none.
pub(crate) fn beside(prefixes: &[IpNet], address: Ipv4Addr) -> Option<Ipv6Addr> {
    let number = prefixes.iter().find_map(|prefix| match prefix {
        IpNet::V4(v4) if v4.contains(&address) => Some(u32::from(address) - u32::from(v4.network())),
        _ => None,
    })?;
    let network = prefixes.iter().find_map(|prefix| match prefix {
        IpNet::V6(v6) => Some(v6.network()),
        IpNet::V4(_) => None,
    })?;
    Some(Ipv6Addr::from(u128::from(network).saturating_add(number.into())))
}

/// Why a NIC can't have the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    NotInSubnet,
    Reserved,
}

/// Whether a NIC may have the address in a subnet with these prefixes.
pub(crate) fn check_host(prefixes: &[IpNet], address: IpAddr) -> Result<(), Unusable> {
    let prefix = prefixes
        .iter()
        .find(|prefix| prefix.contains(&address))
        .ok_or(Unusable::NotInSubnet)?;
    let reserved = match (prefix, address) {
        (IpNet::V4(prefix), IpAddr::V4(address)) => {
            u32::from(address) - u32::from(prefix.network()) < PLATFORM_ADDRESSES || address == prefix.broadcast()
        }
        (IpNet::V6(prefix), IpAddr::V6(address)) => {
            u128::from(address) - u128::from(prefix.network()) < u128::from(PLATFORM_ADDRESSES)
        }
        _ => true,
    };
    if reserved { Err(Unusable::Reserved) } else { Ok(()) }
}

/// The addresses of a prefix that NICs may have, the first and the last: without the platform's, and in IPv4 without the broadcast
/// address.
pub(crate) fn hosts(prefix: &IpNet) -> (IpAddr, IpAddr) {
    match prefix {
        IpNet::V4(prefix) => {
            let first = u32::from(prefix.network()).saturating_add(PLATFORM_ADDRESSES);
            let last = u32::from(prefix.broadcast()).saturating_sub(1);
            (Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into())
        }
        IpNet::V6(prefix) => {
            let first = u128::from(prefix.network()).saturating_add(u128::from(PLATFORM_ADDRESSES));
            (Ipv6Addr::from(first).into(), prefix.broadcast().into())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_are_those_that_a_nic_may_have() {
        let check = |prefix: &str, first: &str, last: &str| {
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(hosts(&net(prefix)), (first, last));
            assert_eq!(check_host(&[net(prefix)], first), Ok(()));
            assert_eq!(check_host(&[net(prefix)], last), Ok(()));
        };
        check("10.0.0.0/29", "10.0.0.4", "10.0.0.6");
        check("fd00::/64", "fd00::4", "fd00::ffff:ffff:ffff:ffff");
    }

    #[test]
    fn overlaps_are_found_wherever_they_stand() {
        let check = |texts: &[&str], expected: bool| {
            let prefixes = texts.iter().map(|text| (net(text), ())).collect();
            assert_eq!(first_overlap(prefixes).is_some(), expected, "{texts:?}");
        };
        check(&["10.0.0.0/24", "10.0.1.0/24", "fd00::/64"], false);
        check(&["10.0.3.0/24", "10.0.1.0/24", "10.0.0.0/16"], true);
        check(&["10.0.0.0/8", "10.0.0.0/9", "10.200.0.0/24"], true);
        check(&["10.0.0.0/24", "10.0.0.0/24"], true);
    }

    #[test]
    fn the_ipv6_address_beside_one_has_the_same_number() {
        let check = |prefixes: &[&str], address: &str, expected: Option<&str>| {
            let prefixes: Vec<IpNet> = prefixes.iter().map(|text| net(text)).collect();
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(beside(&prefixes, address.parse().unwrap()), expected);
        };
        check(&["10.0.1.64/27", "fd00:0:0:1::/64"], "10.0.1.69", Some("fd00:0:0:1::5"));
        check(&["10.0.1.64/27"], "10.0.1.69", None);
        check(&["10.0.1.64/27", "fd00::/64"], "10.0.2.4", None);
    }

    #[test]
    fn instances_have_the_first_two_addresses_after_the_platforms() {
        let subnet = "10.0.1.64/27".parse().unwrap();
        assert_eq!(
            instance_addresses(&subnet),
            [Ipv4Addr::new(10, 0, 1, 68), Ipv4Addr::new(10, 0, 1, 69)]
        );
    }
}
