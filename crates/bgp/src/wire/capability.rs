//! Capabilities (RFC 5492) that we know, and those we tolerate.
//!
//! ```text
//! +------------------------------+
//! | Capability Code (1 octet)    |
//! +------------------------------+
//! | Capability Length (1 octet)  |
//! +------------------------------+
//! | Capability Value (variable)  |
//! +------------------------------+
//! ```

use super::graceful::{GracefulRestart, LongLivedGracefulRestart};
use super::types::{Asn, Family, FamilySet};

const MULTI_PROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;

/// One capability of an OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Code 1 (RFC 4760), for a family that we route.
    MultiProtocol(Family),
    /// Code 2 (RFC 2918).
    RouteRefresh,
    /// Code 6 (RFC 8654).
    ExtendedMessage,
    /// Code 64 (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestart),
    /// Code 65 (RFC 6793).
    FourOctetAs(Asn),
    /// Code 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// Code 71 (RFC 9494).
    LongLivedGracefulRestart(LongLivedGracefulRestart),
    /// Any other, or one of ours in a form we do not understand: tolerated (RFC 5492 §3).
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value, at most 255 octets.
        value: Vec<u8>,
    },
}

impl Capability {
    /// The meaning of a code and its value. A length that is not ours makes it [`Capability::Unknown`], never an error.
    pub(super) fn decode(code: u8, value: &[u8]) -> Capability {
        match (code, value) {
            (MULTI_PROTOCOL, &[a, b, _reserved, safi]) => {
                match Family::from_afi_safi(u16::from_be_bytes([a, b]), safi) {
                    Some(family) => Capability::MultiProtocol(family),
                    None => Capability::unknown(code, value),
                }
            }
            (ROUTE_REFRESH, []) => Capability::RouteRefresh,
            (EXTENDED_MESSAGE, []) => Capability::ExtendedMessage,
            (FOUR_OCTET_AS, &[a, b, c, d]) => Capability::FourOctetAs(Asn(u32::from_be_bytes([a, b, c, d]))),
            (ENHANCED_ROUTE_REFRESH, []) => Capability::EnhancedRouteRefresh,
            (GRACEFUL_RESTART, value) => match GracefulRestart::decode(value) {
                Some(graceful) => Capability::GracefulRestart(graceful),
                None => Capability::unknown(code, value),
            },
            (LONG_LIVED_GRACEFUL_RESTART, value) => match LongLivedGracefulRestart::decode(value) {
                Some(long_lived) => Capability::LongLivedGracefulRestart(long_lived),
                None => Capability::unknown(code, value),
            },
            _ => Capability::unknown(code, value),
        }
    }

    fn unknown(code: u8, value: &[u8]) -> Capability {
        Capability::Unknown {
            code,
            value: value.to_vec(),
        }
    }

    /// Appends code, length and value, as in an OPEN and in the Data field of Unsupported Capability.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Capability::MultiProtocol(family) => {
                let [a, b] = family.afi().to_be_bytes();
                out.extend([MULTI_PROTOCOL, 4, a, b, 0, 1]);
            }
            Capability::RouteRefresh => out.extend([ROUTE_REFRESH, 0]),
            Capability::ExtendedMessage => out.extend([EXTENDED_MESSAGE, 0]),
            Capability::FourOctetAs(asn) => {
                out.extend([FOUR_OCTET_AS, 4]);
                out.extend(asn.0.to_be_bytes());
            }
            Capability::EnhancedRouteRefresh => out.extend([ENHANCED_ROUTE_REFRESH, 0]),
            Capability::GracefulRestart(graceful) => append(out, GRACEFUL_RESTART, &graceful.encode()),
            Capability::LongLivedGracefulRestart(long_lived) => {
                append(out, LONG_LIVED_GRACEFUL_RESTART, &long_lived.encode());
            }
            Capability::Unknown { code, value } => append(out, *code, value),
        }
    }
}

fn append(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    let value = &value[..value.len().min(255)];
    out.extend([code, value.len() as u8]);
    out.extend_from_slice(value);
}

/// What a speaker can do, or what both can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CapabilitySet {
    /// Families offered; none offered means IPv4 unicast (RFC 4760 §8).
    pub families: FamilySet,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 7313.
    pub enhanced_route_refresh: bool,
    /// RFC 8654.
    pub extended_message: bool,
    /// RFC 6793.
    pub four_octet_as: bool,
}

impl CapabilitySet {
    /// What an OPEN with these capabilities offers.
    pub fn offered_by(capabilities: &[Capability]) -> CapabilitySet {
        let mut set = CapabilitySet::default();
        let mut offers_families = false;
        for capability in capabilities {
            match capability {
                Capability::MultiProtocol(family) => {
                    offers_families = true;
                    set.families.insert(*family);
                }
                // A family that we do not route is still an offer, so IPv4 unicast is not implied.
                Capability::Unknown {
                    code: MULTI_PROTOCOL, ..
                } => offers_families = true,
                Capability::RouteRefresh => set.route_refresh = true,
                Capability::ExtendedMessage => set.extended_message = true,
                Capability::FourOctetAs(_) => set.four_octet_as = true,
                Capability::EnhancedRouteRefresh => set.enhanced_route_refresh = true,
                // What these offer is not the same from both sides: see `RestartOffer`.
                Capability::GracefulRestart(_) | Capability::LongLivedGracefulRestart(_) => {}
                Capability::Unknown { .. } => {}
            }
        }
        if !offers_families {
            set.families = FamilySet::IPV4;
        }
        set
    }

    /// The capabilities that offer this set, for an OPEN of a speaker in `asn`.
    pub fn to_capabilities(self, asn: Asn) -> Vec<Capability> {
        let mut capabilities: Vec<Capability> = self.families.iter().map(Capability::MultiProtocol).collect();
        let mut offer = |wanted: bool, capability: Capability| {
            if wanted {
                capabilities.push(capability);
            }
        };
        offer(self.route_refresh, Capability::RouteRefresh);
        offer(self.enhanced_route_refresh, Capability::EnhancedRouteRefresh);
        offer(self.extended_message, Capability::ExtendedMessage);
        offer(self.four_octet_as, Capability::FourOctetAs(asn));
        capabilities
    }

    /// What both can.
    pub fn intersection(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet {
            families: self.families.intersection(other.families),
            route_refresh: self.route_refresh && other.route_refresh,
            enhanced_route_refresh: self.enhanced_route_refresh && other.enhanced_route_refresh,
            extended_message: self.extended_message && other.extended_message,
            four_octet_as: self.four_octet_as && other.four_octet_as,
        }
    }
}
