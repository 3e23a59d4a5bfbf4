//! The small words of BGP: AS numbers, BGP Identifiers, address families.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// An autonomous system number, four octets (RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// AS_TRANS, which stands for a four-octet number towards a two-octet speaker (RFC 6793 §9).
    pub const TRANS: Asn = Asn(23456);
    /// Azure Route Server's own number (az §2.1).
    pub const AZURE_ROUTE_SERVER: Asn = Asn(65515);
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A BGP Identifier (RFC 4271 §4.2, RFC 6286): four octets, not zero, written like an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BgpIdentifier(pub Ipv4Addr);

impl fmt::Display for BgpIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The address families we route (RFC 4760): unicast only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// The family of an AFI and SAFI (RFC 4760 §3), if we route it.
    pub const fn from_afi_safi(afi: u16, safi: u8) -> Option<Family> {
        match (afi, safi) {
            (1, 1) => Some(Family::Ipv4Unicast),
            (2, 1) => Some(Family::Ipv6Unicast),
            _ => None,
        }
    }

    /// The Address Family Identifier. The SAFI is always 1.
    pub const fn afi(self) -> u16 {
        match self {
            Family::Ipv4Unicast => 1,
            Family::Ipv6Unicast => 2,
        }
    }

    /// The family a prefix belongs to.
    pub const fn of(prefix: &ipnet::IpNet) -> Family {
        match prefix {
            ipnet::IpNet::V4(_) => Family::Ipv4Unicast,
            ipnet::IpNet::V6(_) => Family::Ipv6Unicast,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4Unicast => "IPv4 unicast",
            Family::Ipv6Unicast => "IPv6 unicast",
        })
    }
}

/// A set of [`Family`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FamilySet {
    /// IPv4 unicast is in the set.
    pub ipv4_unicast: bool,
    /// IPv6 unicast is in the set.
    pub ipv6_unicast: bool,
}

impl FamilySet {
    /// IPv4 unicast alone.
    pub const IPV4: FamilySet = FamilySet {
        ipv4_unicast: true,
        ipv6_unicast: false,
    };
    /// Both families, which is what Azure offers (az §2.1).
    pub const BOTH: FamilySet = FamilySet {
        ipv4_unicast: true,
        ipv6_unicast: true,
    };

    /// Whether `family` is in the set.
    pub fn contains(self, family: Family) -> bool {
        match family {
            Family::Ipv4Unicast => self.ipv4_unicast,
            Family::Ipv6Unicast => self.ipv6_unicast,
        }
    }

    /// Adds `family`.
    pub fn insert(&mut self, family: Family) {
        match family {
            Family::Ipv4Unicast => self.ipv4_unicast = true,
            Family::Ipv6Unicast => self.ipv6_unicast = true,
        }
    }

    /// What both sets have.
    pub fn intersection(self, other: FamilySet) -> FamilySet {
        FamilySet {
            ipv4_unicast: self.ipv4_unicast && other.ipv4_unicast,
            ipv6_unicast: self.ipv6_unicast && other.ipv6_unicast,
        }
    }

    /// The families in the set, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        [Family::Ipv4Unicast, Family::Ipv6Unicast]
            .into_iter()
            .filter(move |f| self.contains(*f))
    }
}
