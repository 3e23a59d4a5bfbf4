//! Capabilities (RFC 5492) that we know, and those we tolerate.

use super::types::{Asn, Family, FamilySet};

/// One capability of an OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Code 1 (RFC 4760), for a family that we route.
    MultiProtocol(Family),
    /// Code 2 (RFC 2918).
    RouteRefresh,
    /// Code 6 (RFC 8654).
    ExtendedMessage,
    /// Code 65 (RFC 6793).
    FourOctetAs(Asn),
    /// Code 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// Any other, or one of ours in a form we do not understand: tolerated (RFC 5492 §3).
    Unknown {
        /// The capability code.
        code: u8,
        /// Its value.
        value: Vec<u8>,
    },
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
