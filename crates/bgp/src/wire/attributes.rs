//! Path attributes (RFC 4271 §4.3, §5), kept as canonical bytes.
//!
//! A full table repeats the same attribute sets over and over, so a set is one immutable value behind an `Arc`: its
//! canonical wire bytes (four-octet AS numbers, ascending type codes, the next hop and MP_(UN)REACH left out) plus the few
//! fields that the decision process reads for every path. Equality and hash are those of the bytes and the next hop.
//!
//! The bytes always begin with ORIGIN and AS_PATH, the two attributes that every route has.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use smallvec::SmallVec;

use super::as_path::{self, AsnWidth};
use super::attribute_type as code;
use super::builder::PathAttributesBuilder;
use super::types::{Asn, BgpIdentifier};

/// Canonical bytes: most sets fit without another allocation (ORIGIN 4, AS_PATH of five 25, three communities 15).
pub(super) type CanonicalBytes = SmallVec<[u8; 64]>;

/// ORIGIN (RFC 4271 §5.1.1); the order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Origin {
    /// 0
    Igp,
    /// 1
    Egp,
    /// 2
    Incomplete,
}

impl Origin {
    /// The octet on the wire.
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// The meaning of the octet on the wire.
    pub const fn from_value(value: u8) -> Option<Origin> {
        match value {
            0 => Some(Origin::Igp),
            1 => Some(Origin::Egp),
            2 => Some(Origin::Incomplete),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "INCOMPLETE",
        })
    }
}

/// A standard community (RFC 1997), for example 65517:65517.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN, 65535:0 (RFC 8326): the way will be gone soon.
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);
    /// LLGR_STALE, 65535:6 (RFC 9494): whoever said the route is away.
    pub const LLGR_STALE: Community = Community(0xFFFF_0006);
    /// NO_LLGR, 65535:7 (RFC 9494): not to be kept when whoever said the route is away.
    pub const NO_LLGR: Community = Community(0xFFFF_0007);
    /// NO_EXPORT, 65535:65281.
    pub const NO_EXPORT: Community = Community(0xFFFF_FF01);
    /// NO_ADVERTISE, 65535:65282.
    pub const NO_ADVERTISE: Community = Community(0xFFFF_FF02);
    /// NO_EXPORT_SUBCONFED, 65535:65283.
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xFFFF_FF03);

    /// `high:low`.
    pub const fn new(high: u16, low: u16) -> Community {
        Community((high as u32) << 16 | low as u32)
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

/// One segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsPathSegment {
    /// AS_SEQUENCE.
    Sequence(Vec<Asn>),
    /// AS_SET (refused from peers, RFC 9774; kept here so that tests and tools can name it).
    Set(Vec<Asn>),
}

/// One validated, immutable set of path attributes together with its next hop.
#[derive(Clone)]
pub struct PathAttributes {
    next_hop: IpAddr,
    as_path_len: u16,
    origin: Origin,
    well_known: WellKnown,
    bytes: CanonicalBytes,
}

/// Which of the communities that every decision asks for are there.
#[derive(Clone, Copy, Default)]
struct WellKnown {
    no_export: bool,
    no_advertise: bool,
    graceful_shutdown: bool,
    llgr_stale: bool,
}

impl PathAttributes {
    /// A builder with ORIGIN IGP and an empty AS_PATH.
    pub fn builder(next_hop: IpAddr) -> PathAttributesBuilder {
        PathAttributesBuilder::new(next_hop)
    }

    /// A builder that starts from this set, to change some of it (export policy, route maps).
    pub fn to_builder(&self) -> PathAttributesBuilder {
        PathAttributesBuilder::from_parts(self.next_hop, self.bytes.clone())
    }

    /// The set that these were taken from with [`PathAttributes::next_hop`] and [`PathAttributes::as_bytes`], for who keeps sets
    /// in less room than they take here. Nothing is checked again.
    pub fn restore(next_hop: IpAddr, bytes: &[u8]) -> PathAttributes {
        PathAttributes::from_canonical(next_hop, CanonicalBytes::from_slice(bytes))
    }

    /// From bytes that are canonical already.
    pub(super) fn from_canonical(next_hop: IpAddr, bytes: CanonicalBytes) -> PathAttributes {
        let mut attributes = PathAttributes {
            next_hop,
            as_path_len: 0,
            origin: Origin::Incomplete,
            well_known: WellKnown::default(),
            bytes: CanonicalBytes::new(),
        };
        for attribute in code::iter(&bytes) {
            match attribute.code {
                code::ORIGIN => {
                    attributes.origin = attribute
                        .value
                        .first()
                        .and_then(|value| Origin::from_value(*value))
                        .unwrap_or(Origin::Incomplete);
                }
                code::AS_PATH => attributes.as_path_len = as_path::length(attribute.value),
                code::COMMUNITIES => {
                    for community in communities(attribute.value) {
                        let well_known = &mut attributes.well_known;
                        match community {
                            Community::NO_EXPORT => well_known.no_export = true,
                            Community::NO_ADVERTISE => well_known.no_advertise = true,
                            Community::GRACEFUL_SHUTDOWN => well_known.graceful_shutdown = true,
                            Community::LLGR_STALE => well_known.llgr_stale = true,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        attributes.bytes = bytes;
        attributes
    }

    /// NEXT_HOP, or the global next hop of MP_REACH_NLRI.
    pub fn next_hop(&self) -> IpAddr {
        self.next_hop
    }

    /// ORIGIN.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The AS_PATH's length as the decision process counts it: a set counts one (RFC 4271 §9.1.2.2 a).
    pub fn as_path_len(&self) -> u16 {
        self.as_path_len
    }

    /// The AS_PATH, segment by segment.
    pub fn as_path(&self) -> Vec<AsPathSegment> {
        as_path::segments(self.as_path_value(), AsnWidth::Four)
            .map_while(Result::ok)
            .map(|segment| {
                let numbers = segment
                    .octets
                    .chunks_exact(4)
                    .map(|octets| Asn(be_u32(octets)))
                    .collect();
                match segment.kind {
                    as_path::AS_SET => AsPathSegment::Set(numbers),
                    _ => AsPathSegment::Sequence(numbers),
                }
            })
            .collect()
    }

    /// Every AS number in the AS_PATH, in order.
    pub fn as_numbers(&self) -> impl Iterator<Item = Asn> + '_ {
        as_path::numbers(self.as_path_value(), AsnWidth::Four)
    }

    /// The AS that we hear the route from: the first of the AS_PATH.
    pub fn neighbor_as(&self) -> Option<Asn> {
        self.as_numbers().next()
    }

    /// The AS that the route comes from: the last of the AS_PATH.
    pub fn origin_as(&self) -> Option<Asn> {
        self.as_numbers().last()
    }

    /// MULTI_EXIT_DISC.
    pub fn med(&self) -> Option<u32> {
        self.value(code::MULTI_EXIT_DISC).map(be_u32)
    }

    /// LOCAL_PREF.
    pub fn local_pref(&self) -> Option<u32> {
        self.value(code::LOCAL_PREF).map(be_u32)
    }

    /// ORIGINATOR_ID (RFC 4456 §8): who brought the route into the AS, where it was reflected.
    pub fn originator_id(&self) -> Option<BgpIdentifier> {
        self.value(code::ORIGINATOR_ID).map(identifier)
    }

    /// CLUSTER_LIST (RFC 4456 §8): through whom it was reflected, the last one first.
    pub fn cluster_list(&self) -> impl Iterator<Item = BgpIdentifier> + '_ {
        self.value(code::CLUSTER_LIST)
            .unwrap_or_default()
            .chunks_exact(4)
            .map(identifier)
    }

    /// Standard communities, in the order received.
    pub fn communities(&self) -> impl Iterator<Item = Community> + '_ {
        communities(self.value(code::COMMUNITIES).unwrap_or_default())
    }

    /// Whether a standard community is among them.
    pub fn has_community(&self, community: Community) -> bool {
        match community {
            Community::NO_EXPORT => self.well_known.no_export,
            Community::NO_ADVERTISE => self.well_known.no_advertise,
            Community::GRACEFUL_SHUTDOWN => self.well_known.graceful_shutdown,
            Community::LLGR_STALE => self.well_known.llgr_stale,
            other => self.communities().any(|c| c == other),
        }
    }

    /// The route is of use only where there is no other.
    //= https://www.rfc-editor.org/rfc/rfc9494#section-4.4
    //# A least preferred route MUST be treated as less preferred than any other route that is not also least preferred.
    // RFC 8326 §4.1 asks nearly the same for what carries GRACEFUL_SHUTDOWN: a low LOCAL_PREF.
    pub fn is_last_resort(&self) -> bool {
        self.well_known.llgr_stale || self.well_known.graceful_shutdown
    }

    /// Large communities (RFC 8092) as (global administrator, local data 1, local data 2).
    pub fn large_communities(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.value(code::LARGE_COMMUNITY)
            .unwrap_or_default()
            .chunks_exact(12)
            .map(|octets| (be_u32(octets), be_u32(&octets[4..]), be_u32(&octets[8..])))
    }

    /// Extended communities (RFC 4360), eight octets each, in the order received.
    pub fn extended_communities(&self) -> impl Iterator<Item = [u8; 8]> + '_ {
        let (communities, _) = self.value(code::EXTENDED_COMMUNITIES).unwrap_or_default().as_chunks();
        communities.iter().copied()
    }

    /// The value of any attribute by its type code, if it is there. Not NEXT_HOP nor MP_(UN)REACH_NLRI.
    pub fn value(&self, type_code: u8) -> Option<&[u8]> {
        code::iter(&self.bytes)
            .take_while(|attribute| attribute.code <= type_code)
            .find(|attribute| attribute.code == type_code)
            .map(|attribute| attribute.value)
    }

    /// The canonical bytes: attributes with header, ascending type codes, without NEXT_HOP and MP_(UN)REACH_NLRI.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn as_path_value(&self) -> &[u8] {
        self.value(code::AS_PATH).unwrap_or_default()
    }
}

impl fmt::Debug for PathAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathAttributes({self})")
    }
}

impl PartialEq for PathAttributes {
    fn eq(&self, other: &PathAttributes) -> bool {
        self.next_hop == other.next_hop && self.bytes == other.bytes
    }
}

impl Eq for PathAttributes {}

impl Hash for PathAttributes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.next_hop.hash(state);
        self.bytes.hash(state);
    }
}

pub(super) fn communities(value: &[u8]) -> impl Iterator<Item = Community> + '_ {
    value.chunks_exact(4).map(|octets| Community(be_u32(octets)))
}

fn identifier(octets: &[u8]) -> BgpIdentifier {
    BgpIdentifier(Ipv4Addr::from(be_u32(octets)))
}

/// The first four octets; a value that was checked has them.
pub(super) fn be_u32(octets: &[u8]) -> u32 {
    octets.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets))
}
