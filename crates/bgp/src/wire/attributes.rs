//! Path attributes (RFC 4271 §4.3, §5), kept as canonical bytes.
//!
//! A full table repeats the same attribute sets over and over, so a set is one immutable value behind an `Arc`: its
//! canonical wire bytes (four-octet AS numbers, ascending type codes, the next hop and MP_(UN)REACH left out) plus the few
//! fields that the decision process reads for every path. Equality and hash are those of the bytes and the next hop.

use std::net::IpAddr;

use super::types::Asn;

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

/// A standard community (RFC 1997), for example 65517:65517.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
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

/// One segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsPathSegment {
    /// AS_SEQUENCE.
    Sequence(Vec<Asn>),
    /// AS_SET (refused from peers, RFC 9774; kept here so that tests and tools can name it).
    Set(Vec<Asn>),
}

/// One validated, immutable set of path attributes together with its next hop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathAttributes {
    next_hop: IpAddr,
    bytes: Box<[u8]>,
}

impl PathAttributes {
    /// A builder with ORIGIN IGP and an empty AS_PATH.
    pub fn builder(next_hop: IpAddr) -> PathAttributesBuilder {
        let _ = next_hop;
        todo!()
    }
    /// A builder that starts from this set, to change some of it (export policy, route maps).
    pub fn to_builder(&self) -> PathAttributesBuilder {
        todo!()
    }
    /// NEXT_HOP, or the global next hop of MP_REACH_NLRI.
    pub fn next_hop(&self) -> IpAddr {
        self.next_hop
    }
    /// ORIGIN.
    pub fn origin(&self) -> Origin {
        todo!()
    }
    /// The AS_PATH's length as the decision process counts it: a set counts one (RFC 4271 §9.1.2.2 a).
    pub fn as_path_len(&self) -> u16 {
        todo!()
    }
    /// The AS_PATH, segment by segment.
    pub fn as_path(&self) -> Vec<AsPathSegment> {
        todo!()
    }
    /// Every AS number in the AS_PATH, in order.
    pub fn as_numbers(&self) -> impl Iterator<Item = Asn> + '_ {
        std::iter::empty()
    }
    /// MULTI_EXIT_DISC.
    pub fn med(&self) -> Option<u32> {
        todo!()
    }
    /// LOCAL_PREF.
    pub fn local_pref(&self) -> Option<u32> {
        todo!()
    }
    /// Standard communities, in the order received.
    pub fn communities(&self) -> impl Iterator<Item = Community> + '_ {
        std::iter::empty()
    }
    /// Whether a standard community is among them.
    pub fn has_community(&self, community: Community) -> bool {
        self.communities().any(|c| c == community)
    }
    /// Large communities (RFC 8092) as (global administrator, local data 1, local data 2).
    pub fn large_communities(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        std::iter::empty()
    }
    /// The canonical bytes: attributes with header, ascending type codes, without NEXT_HOP and MP_(UN)REACH_NLRI.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Builds or changes a [`PathAttributes`].
#[derive(Clone, Debug)]
pub struct PathAttributesBuilder {}

impl PathAttributesBuilder {
    /// Sets the next hop.
    pub fn next_hop(self, _next_hop: IpAddr) -> Self {
        self
    }
    /// Sets ORIGIN.
    pub fn origin(self, _origin: Origin) -> Self {
        self
    }
    /// Replaces the AS_PATH by one AS_SEQUENCE (split where it is longer than 255).
    pub fn as_sequence(self, _path: &[Asn]) -> Self {
        self
    }
    /// Puts `asn` in front of the AS_PATH `times` times.
    pub fn prepend(self, _asn: Asn, _times: usize) -> Self {
        self
    }
    /// Sets or removes MULTI_EXIT_DISC.
    pub fn med(self, _med: Option<u32>) -> Self {
        self
    }
    /// Sets or removes LOCAL_PREF.
    pub fn local_pref(self, _local_pref: Option<u32>) -> Self {
        self
    }
    /// Adds a standard community unless it is there already.
    pub fn add_community(self, _community: Community) -> Self {
        self
    }
    /// Replaces all standard communities.
    pub fn communities(self, _communities: &[Community]) -> Self {
        self
    }
    /// Removes what must not cross an eBGP session: MED, LOCAL_PREF, and non-transitive attributes.
    pub fn strip_for_external_peer(self) -> Self {
        self
    }
    /// The finished set.
    pub fn build(self) -> PathAttributes {
        todo!()
    }
}
