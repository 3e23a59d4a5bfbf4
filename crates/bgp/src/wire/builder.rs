//! Building and changing a set of path attributes: what export policy and route maps do for every route they touch.
//!
//! The builder edits canonical bytes in place, so changing one attribute costs a copy of a few dozen octets and no more.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::as_path::{self, AsnWidth};
use super::attribute_type::{self as code, OPTIONAL, TRANSITIVE};
use super::attributes::{CanonicalBytes, Community, Origin, PathAttributes, communities};
use super::types::{Asn, BgpIdentifier};

/// An attribute's value has at most this many octets here, so that it always fits an extended message (RFC 8654) beside
/// other attributes; what would grow beyond it is left as it was.
pub const MAX_ATTRIBUTE_VALUE: usize = 60_000;

/// Builds or changes a [`PathAttributes`].
#[derive(Clone, Debug)]
pub struct PathAttributesBuilder {
    next_hop: IpAddr,
    bytes: CanonicalBytes,
}

impl PathAttributesBuilder {
    /// ORIGIN IGP and an empty AS_PATH.
    pub(super) fn new(next_hop: IpAddr) -> PathAttributesBuilder {
        let origin_and_path = [TRANSITIVE, code::ORIGIN, 1, 0, TRANSITIVE, code::AS_PATH, 0];
        PathAttributesBuilder::from_parts(next_hop, CanonicalBytes::from_slice(&origin_and_path))
    }

    pub(super) fn from_parts(next_hop: IpAddr, bytes: CanonicalBytes) -> PathAttributesBuilder {
        PathAttributesBuilder { next_hop, bytes }
    }

    /// Sets the next hop.
    pub fn next_hop(mut self, next_hop: IpAddr) -> Self {
        self.next_hop = next_hop;
        self
    }

    /// Sets ORIGIN.
    pub fn origin(self, origin: Origin) -> Self {
        self.set(TRANSITIVE, code::ORIGIN, &[origin.value()])
    }

    /// Replaces the AS_PATH by one AS_SEQUENCE (split where it is longer than 255).
    pub fn as_sequence(self, path: &[Asn]) -> Self {
        let numbers: as_path::AsnList = path.iter().map(|asn| asn.0).collect();
        let mut value = CanonicalBytes::new();
        as_path::write_sequence(&mut value, &numbers, AsnWidth::Four);
        self.set(TRANSITIVE, code::AS_PATH, &value)
    }

    /// Puts `asn` in front of the AS_PATH `times` times.
    pub fn prepend(self, asn: Asn, times: usize) -> Self {
        let Some(times) = u8::try_from(times).ok().filter(|times| *times > 0) else {
            // More than a segment holds: several times, each bounded by MAX_ATTRIBUTE_VALUE as a whole.
            let times = times.min(MAX_ATTRIBUTE_VALUE / 4);
            return (0..times).step_by(as_path::MAX_SEGMENT).fold(self, |builder, done| {
                builder.prepend(asn, (times - done).min(as_path::MAX_SEGMENT))
            });
        };
        self.prepend_segment(times, std::iter::repeat_n(asn, times.into()))
    }

    /// Puts these numbers in front of the AS_PATH, in this order.
    pub fn prepend_sequence(self, path: &[Asn]) -> Self {
        let segments = path.rchunks(as_path::MAX_SEGMENT);
        segments.fold(self, |builder, segment| {
            builder.prepend_segment(segment.len() as u8, segment.iter().copied())
        })
    }

    /// `times` numbers, at least one.
    fn prepend_segment(self, times: u8, numbers: impl Iterator<Item = Asn>) -> Self {
        let old = self.value(code::AS_PATH);
        let mut value = CanonicalBytes::new();
        //= https://www.rfc-editor.org/rfc/rfc4271#section-5.1.2
        //# If the act of prepending will cause an overflow in the AS_PATH segment
        //# (i.e., more than 255 ASes), it SHOULD prepend a new segment of type AS_SEQUENCE
        let rest = match old {
            [as_path::AS_SEQUENCE, count, rest @ ..] if count.checked_add(times).is_some() => {
                value.extend_from_slice(&[as_path::AS_SEQUENCE, count + times]);
                rest
            }
            other => {
                value.extend_from_slice(&[as_path::AS_SEQUENCE, times]);
                other
            }
        };
        for asn in numbers {
            value.extend_from_slice(&asn.0.to_be_bytes());
        }
        value.extend_from_slice(rest);
        self.set(TRANSITIVE, code::AS_PATH, &value)
    }

    /// Removes AS numbers from the AS_PATH wherever they stand, but those that `keep` says yes to.
    pub fn retain_as_numbers(self, mut keep: impl FnMut(Asn) -> bool) -> Self {
        let path = as_path::numbers(self.value(code::AS_PATH), AsnWidth::Four);
        let kept: SmallVec<[Asn; 16]> = path.filter(|asn| keep(*asn)).collect();
        self.as_sequence(&kept)
    }

    /// Sets or removes MULTI_EXIT_DISC.
    pub fn med(self, med: Option<u32>) -> Self {
        self.set_or_remove(
            OPTIONAL,
            code::MULTI_EXIT_DISC,
            med.map(u32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice),
        )
    }

    /// Sets or removes LOCAL_PREF.
    pub fn local_pref(self, local_pref: Option<u32>) -> Self {
        self.set_or_remove(
            TRANSITIVE,
            code::LOCAL_PREF,
            local_pref.map(u32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice),
        )
    }

    /// Sets ORIGINATOR_ID unless it is there already.
    pub fn originator_id(self, originator: BgpIdentifier) -> Self {
        //= https://www.rfc-editor.org/rfc/rfc4456#section-8
        //# A BGP speaker SHOULD NOT create an ORIGINATOR_ID attribute if one already exists.
        if !self.value(code::ORIGINATOR_ID).is_empty() {
            return self;
        }
        self.set(OPTIONAL, code::ORIGINATOR_ID, &originator.0.octets())
    }

    /// Puts a cluster in front of the CLUSTER_LIST.
    pub fn prepend_cluster(self, cluster: BgpIdentifier) -> Self {
        let mut value = CanonicalBytes::from_slice(&cluster.0.octets());
        value.extend_from_slice(self.value(code::CLUSTER_LIST));
        self.set(OPTIONAL, code::CLUSTER_LIST, &value)
    }

    /// Adds a standard community unless it is there already.
    pub fn add_community(self, community: Community) -> Self {
        let old = self.value(code::COMMUNITIES);
        if communities(old).any(|c| c == community) {
            return self;
        }
        let mut value = CanonicalBytes::from_slice(old);
        value.extend_from_slice(&community.0.to_be_bytes());
        self.set(OPTIONAL | TRANSITIVE, code::COMMUNITIES, &value)
    }

    /// Removes a standard community wherever it stands.
    pub fn remove_community(self, community: Community) -> Self {
        self.retain_communities(|c| c != community)
    }

    /// Keeps the standard communities that `keep` says yes to.
    pub fn retain_communities(self, mut keep: impl FnMut(Community) -> bool) -> Self {
        let kept: SmallVec<[Community; 16]> = communities(self.value(code::COMMUNITIES))
            .filter(|community| keep(*community))
            .collect();
        self.communities(&kept)
    }

    /// Replaces all standard communities.
    pub fn communities(self, communities: &[Community]) -> Self {
        let value: CanonicalBytes = communities.iter().flat_map(|c| c.0.to_be_bytes()).collect();
        let value = Some(value.as_slice()).filter(|value| !value.is_empty());
        self.set_or_remove(OPTIONAL | TRANSITIVE, code::COMMUNITIES, value)
    }

    /// Adds a large community unless it is there already.
    pub fn add_large_community(self, community: (u32, u32, u32)) -> Self {
        let old = self.value(code::LARGE_COMMUNITY);
        let (a, b, c) = community;
        let octets: [u8; 12] = {
            let mut octets = [0; 12];
            octets[..4].copy_from_slice(&a.to_be_bytes());
            octets[4..8].copy_from_slice(&b.to_be_bytes());
            octets[8..].copy_from_slice(&c.to_be_bytes());
            octets
        };
        if old.chunks_exact(12).any(|there| there == octets) {
            return self;
        }
        let mut value = CanonicalBytes::from_slice(old);
        value.extend_from_slice(&octets);
        self.set(OPTIONAL | TRANSITIVE, code::LARGE_COMMUNITY, &value)
    }

    /// Replaces all large communities.
    pub fn large_communities(self, communities: &[(u32, u32, u32)]) -> Self {
        communities
            .iter()
            .fold(self.remove(code::LARGE_COMMUNITY), |builder, community| {
                builder.add_large_community(*community)
            })
    }

    /// Sets any other attribute as it is, for tests and for what no method knows. The codes that have methods of their own, and
    /// NEXT_HOP, MP_(UN)REACH_NLRI and the AS4 attributes, are left alone.
    pub fn other(self, flags: u8, type_code: u8, value: &[u8]) -> Self {
        match type_code {
            code::ORIGIN..=code::LOCAL_PREF
            | code::COMMUNITIES
            | code::MP_REACH_NLRI
            | code::MP_UNREACH_NLRI
            | code::AS4_PATH
            | code::AS4_AGGREGATOR
            | code::LARGE_COMMUNITY => self,
            _ => self.set(flags & 0xF0, type_code, value),
        }
    }

    /// Removes an attribute by its type code; ORIGIN and AS_PATH stay, every route has them.
    pub fn remove(self, type_code: u8) -> Self {
        match type_code {
            code::ORIGIN | code::AS_PATH => self,
            _ => self.set_or_remove(0, type_code, None),
        }
    }

    /// Removes what must not cross an eBGP session: MED, LOCAL_PREF, and non-transitive attributes.
    pub fn strip_for_external_peer(mut self) -> Self {
        let goes =
            |attribute: &code::Attribute<'_>| attribute.code == code::LOCAL_PREF || attribute.flags & TRANSITIVE == 0;
        if code::iter(&self.bytes).any(|attribute| goes(&attribute)) {
            let mut kept = CanonicalBytes::new();
            for attribute in code::iter(&self.bytes).filter(|attribute| !goes(attribute)) {
                kept.extend_from_slice(attribute.whole);
            }
            self.bytes = kept;
        }
        self
    }

    /// The finished set.
    pub fn build(self) -> PathAttributes {
        PathAttributes::from_canonical(self.next_hop, self.bytes)
    }

    fn value(&self, type_code: u8) -> &[u8] {
        code::iter(&self.bytes)
            .find(|attribute| attribute.code == type_code)
            .map_or(&[], |attribute| attribute.value)
    }

    fn set(self, flags: u8, type_code: u8, value: &[u8]) -> Self {
        self.set_or_remove(flags, type_code, Some(value))
    }

    /// Replaces one attribute's octets, or puts them where the ascending order of type codes wants them.
    fn set_or_remove(mut self, flags: u8, type_code: u8, value: Option<&[u8]>) -> Self {
        if value.is_some_and(|value| value.len() > MAX_ATTRIBUTE_VALUE) {
            return self;
        }
        let mut start = 0;
        let mut end = 0;
        for attribute in code::iter(&self.bytes) {
            match attribute.code.cmp(&type_code) {
                std::cmp::Ordering::Less => start += attribute.whole.len(),
                std::cmp::Ordering::Equal => end = start + attribute.whole.len(),
                std::cmp::Ordering::Greater => break,
            }
        }
        let end = end.max(start);
        let mut bytes = CanonicalBytes::with_capacity(self.bytes.len() + value.map_or(0, |value| value.len() + 4));
        bytes.extend_from_slice(&self.bytes[..start]);
        if let Some(value) = value {
            code::write(&mut bytes, flags, type_code, value);
        }
        bytes.extend_from_slice(&self.bytes[end..]);
        self.bytes = bytes;
        self
    }
}
