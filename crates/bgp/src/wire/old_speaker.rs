//! Attributes for a peer with two-octet AS numbers (RFC 6793 §4.2.2): AS_TRANS in the old attributes, the truth in AS4_PATH and
//! AS4_AGGREGATOR, which are sent only when there is something to tell.

use smallvec::SmallVec;

use super::as_path::{self, AsnWidth};
use super::attribute_type::{self as code, OPTIONAL, TRANSITIVE};
use super::attributes::{CanonicalBytes, be_u32};
use super::types::Asn;

/// Canonical bytes with two-octet AS numbers, still in ascending order of type codes.
pub(super) fn narrow(canonical: &[u8]) -> CanonicalBytes {
    let mut attributes: SmallVec<[(u8, u8, CanonicalBytes); 12]> = SmallVec::new();
    for attribute in code::iter(canonical) {
        let flags = attribute.flags;
        match attribute.code {
            code::AS_PATH => {
                attributes.push((flags, code::AS_PATH, narrow_path(attribute.value)));
                //= https://www.rfc-editor.org/rfc/rfc6793#section-4.2.2
                //# except for the case where all of the AS path information is composed of mappable four-octet AS
                //# numbers only. In this case, the NEW BGP speaker MUST NOT send the AS4_PATH attribute.
                if as_path::numbers(attribute.value, AsnWidth::Four).any(|asn| !mappable(asn.0)) {
                    let value = CanonicalBytes::from_slice(attribute.value);
                    attributes.push((OPTIONAL | TRANSITIVE, code::AS4_PATH, value));
                }
            }
            code::AGGREGATOR => {
                let asn = be_u32(attribute.value);
                let mut value = CanonicalBytes::from_slice(&two_octets(asn));
                value.extend_from_slice(attribute.value.get(4..).unwrap_or_default());
                attributes.push((flags, code::AGGREGATOR, value));
                if !mappable(asn) {
                    let value = CanonicalBytes::from_slice(attribute.value);
                    attributes.push((OPTIONAL | TRANSITIVE, code::AS4_AGGREGATOR, value));
                }
            }
            other => attributes.push((flags, other, CanonicalBytes::from_slice(attribute.value))),
        }
    }
    attributes.sort_by_key(|(_, code, _)| *code);
    let mut bytes = CanonicalBytes::new();
    for (flags, code, value) in &attributes {
        code::write(&mut bytes, *flags, *code, value);
    }
    bytes
}

fn narrow_path(value: &[u8]) -> CanonicalBytes {
    let mut narrowed = CanonicalBytes::new();
    for segment in as_path::segments(value, AsnWidth::Four).map_while(Result::ok) {
        narrowed.extend_from_slice(&[segment.kind, (segment.octets.len() / 4) as u8]);
        for octets in segment.octets.chunks_exact(4) {
            narrowed.extend_from_slice(&two_octets(be_u32(octets)));
        }
    }
    narrowed
}

fn mappable(asn: u32) -> bool {
    u16::try_from(asn).is_ok()
}

fn two_octets(asn: u32) -> [u8; 2] {
    u16::try_from(asn).unwrap_or(Asn::TRANS.0 as u16).to_be_bytes()
}
