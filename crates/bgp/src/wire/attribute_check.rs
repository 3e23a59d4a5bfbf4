//! What is right and wrong with one attribute, and what RFC 7606 §7 (or the attribute's own RFC) does about it.
//!
//! | attribute | may be | otherwise |
//! |---|---|---|
//! | ORIGIN | 1 octet, 0–2 | withdraw (§7.1) |
//! | AS_PATH | whole AS_SEQUENCEs | withdraw (§7.2, RFC 9774) |
//! | NEXT_HOP | 4 octets, a host address | withdraw (§7.3) |
//! | MULTI_EXIT_DISC, LOCAL_PREF | 4 octets | withdraw (§7.4, §7.5) |
//! | LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST from outside | – | discard (§7.5, §7.9, §7.10) |
//! | ATOMIC_AGGREGATE, AGGREGATOR | 0; 6 or 8 octets | discard (§7.6, §7.7) |
//! | communities | a multiple of 4, 8, 12, 20, not 0 | withdraw (§7.8, §7.14, §7.15, RFC 8092) |
//! | any that we know with the wrong flags | – | withdraw (§3 c), but discard what its own RFC discards |
//!
//! Attributes that we only carry for others are checked where their own RFC says what malformed means: we do not pass on what
//! we would not accept.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use rustc_hash::FxHashSet;

use super::as_path::{self, AsnWidth};
use super::attribute_type::{self as code, Attribute, EXTENDED_LENGTH, OPTIONAL, PARTIAL, TRANSITIVE};
use super::attributes::be_u32;
use super::decoder::DecodeContext;

/// What becomes of an attribute that is as it should be.
pub(super) enum Verdict<'a> {
    /// It belongs to the route, with these flags and this value.
    Keep(u8, Cow<'a, [u8]>),
    /// It says something about this UPDATE alone: NEXT_HOP, MP_(UN)REACH_NLRI, AS4_PATH and AS4_AGGREGATOR.
    Use,
    /// Optional, non-transitive and unknown, or meaningless from this peer.
    Ignore,
}

/// What RFC 7606 §2 does with a route whose attribute is wrong.
#[derive(Debug)]
pub(super) enum Fault {
    /// "Treat-as-withdraw".
    Withdraw(String),
    /// "Attribute discard".
    Discard(String),
    /// Session reset: a well-known attribute that we do not know (RFC 4271 §6.3).
    UnrecognizedWellKnown,
}

/// Judges one attribute.
#[inline]
pub(super) fn check<'a>(attribute: &Attribute<'a>, context: DecodeContext) -> Result<Verdict<'a>, Fault> {
    let Some(specified) = code::specified_flags(attribute.code) else {
        return check_unknown(attribute);
    };
    check_flags(attribute, specified)?;
    check_value(attribute, context)?;
    Ok(match attribute.code {
        code::NEXT_HOP | code::MP_REACH_NLRI | code::MP_UNREACH_NLRI | code::AS4_PATH | code::AS4_AGGREGATOR => {
            Verdict::Use
        }
        // We do not implement them, and they are not transitive.
        code::AIGP | code::BGP_LS => Verdict::Ignore,
        code::LARGE_COMMUNITY => Verdict::Keep(kept_flags(attribute), without_duplicates(attribute.value)),
        _ => Verdict::Keep(kept_flags(attribute), Cow::Borrowed(attribute.value)),
    })
}

fn check_unknown<'a>(attribute: &Attribute<'a>) -> Result<Verdict<'a>, Fault> {
    match (attribute.flags & OPTIONAL, attribute.flags & TRANSITIVE) {
        (0, _) => Err(Fault::UnrecognizedWellKnown),
        //= https://www.rfc-editor.org/rfc/rfc4271#section-5
        //# Unrecognized non-transitive optional attributes MUST be
        //# quietly ignored and not passed along to other BGP peers.
        (_, 0) => Ok(Verdict::Ignore),
        //# If a path with an unrecognized transitive optional attribute is accepted and passed to
        //# other BGP speakers, then the unrecognized transitive optional attribute of that path
        //# MUST be passed, along with the path, to other BGP speakers with the Partial bit in the
        //# Attribute Flags octet set to 1.
        // All that we can do with it is to pass it on, so the bit is set from here on. The length keeps its form.
        _ => Ok(Verdict::Keep(
            attribute.flags & (OPTIONAL | TRANSITIVE | EXTENDED_LENGTH) | PARTIAL,
            Cow::Borrowed(attribute.value),
        )),
    }
}

fn check_flags(attribute: &Attribute<'_>, specified: u8) -> Result<(), Fault> {
    let wrong = (attribute.flags ^ specified) & (OPTIONAL | TRANSITIVE) != 0;
    //= https://www.rfc-editor.org/rfc/rfc4271#section-4.3
    //# For well-known attributes and for optional non-transitive attributes,
    //# the Partial bit MUST be set to 0.
    let partial = attribute.flags & PARTIAL != 0 && specified != OPTIONAL | TRANSITIVE;
    if !wrong && !partial {
        return Ok(());
    }
    let what = format!("flags {:#04x}", attribute.flags);
    //= https://www.rfc-editor.org/rfc/rfc7606#section-3
    //# If the value of either the Optional or Transitive bits in the
    //# Attribute Flags is in conflict with their specified values, then
    //# the attribute MUST be treated as malformed and the "treat-as-
    //# withdraw" approach used, unless the specification for the
    //# attribute mandates different handling for incorrect Attribute Flags.
    match attribute.code {
        code::AIGP | code::BGP_LS | code::NEXT_HOP_CHARACTERISTICS | code::PREFIX_SID => Err(Fault::Discard(what)),
        _ => Err(Fault::Withdraw(what)),
    }
}

fn check_value(attribute: &Attribute<'_>, context: DecodeContext) -> Result<(), Fault> {
    let value = attribute.value;
    match attribute.code {
        code::ORIGIN => match value {
            [0..=2] => Ok(()),
            [other] => Err(Fault::Withdraw(format!("value {other}"))),
            _ => Err(Fault::Withdraw(format!("length {}", value.len()))),
        },
        code::AS_PATH => as_path::check(value, width(context)).map_err(|error| Fault::Withdraw(error.to_string())),
        code::NEXT_HOP => check_next_hop(value),
        code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if context.external => {
            Err(Fault::Discard("from another AS".to_owned()))
        }
        code::MULTI_EXIT_DISC | code::LOCAL_PREF | code::ORIGINATOR_ID => withdraw_unless(value.len() == 4, value),
        code::ATOMIC_AGGREGATE => discard_unless(value.is_empty(), value),
        code::AGGREGATOR => check_aggregator(value, width(context)),
        code::AS4_AGGREGATOR => check_aggregator(value, AsnWidth::Four),
        code::AS4_PATH => check_as4_path(value, context),
        code::COMMUNITIES | code::CLUSTER_LIST => check_multiple(value, 4),
        code::EXTENDED_COMMUNITIES => check_multiple(value, 8),
        code::LARGE_COMMUNITY => check_multiple(value, 12),
        code::IPV6_EXTENDED_COMMUNITIES => check_multiple(value, 20),
        //= https://www.rfc-editor.org/rfc/rfc9234#section-5
        //# the OTC Attribute is considered malformed if the length value is not 4.
        code::ONLY_TO_CUSTOMER => withdraw_unless(value.len() == 4 && be_u32(value) != 0, value),
        code::PMSI_TUNNEL => withdraw_unless(is_pmsi_tunnel(value), value),
        code::TUNNEL_ENCAPSULATION => withdraw_unless(is_tunnel_encapsulation(value), value),
        code::PREFIX_SID => discard_unless(is_prefix_sid(value), value),
        code::NEXT_HOP_CHARACTERISTICS => discard_unless(is_next_hop_characteristics(value), value),
        _ => Ok(()),
    }
}

/// How wide AS numbers are in this peer's AS_PATH and AGGREGATOR.
pub(super) fn width(context: DecodeContext) -> AsnWidth {
    if context.four_octet_as {
        AsnWidth::Four
    } else {
        AsnWidth::Two
    }
}

/// Syntactically correct means a valid host address (RFC 4271 §6.3). Loopback and reserved ones are hosts' too: whether they
/// are of use is for import policy to say, with its reason.
fn check_next_hop(value: &[u8]) -> Result<(), Fault> {
    let Ok(octets) = <[u8; 4]>::try_from(value) else {
        return Err(Fault::Withdraw(format!("length {}", value.len())));
    };
    let address = Ipv4Addr::from(octets);
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(Fault::Withdraw(format!("{address} is no host's address")));
    }
    Ok(())
}

fn check_aggregator(value: &[u8], width: AsnWidth) -> Result<(), Fault> {
    let (length, zero) = match width {
        AsnWidth::Two => (6, value.starts_with(&[0; 2])),
        AsnWidth::Four => (8, value.starts_with(&[0; 4])),
    };
    discard_unless(value.len() == length, value)?;
    // RFC 7607 §2: an AGGREGATOR of AS 0 is malformed, and RFC 7606 §7.7 discards those.
    if zero {
        return Err(Fault::Discard("AS 0".to_owned()));
    }
    Ok(())
}

fn check_as4_path(value: &[u8], context: DecodeContext) -> Result<(), Fault> {
    match as_path::as4_numbers(value) {
        Ok(_) => Ok(()),
        // RFC 9774 §3 names AS4_PATH, too.
        Err(error @ as_path::AsPathError::Set) => Err(Fault::Withdraw(error.to_string())),
        //= https://www.rfc-editor.org/rfc/rfc6793#section-6
        //# A NEW BGP speaker that receives a malformed AS4_PATH attribute in an UPDATE message from
        //# an OLD BGP speaker MUST discard the attribute and continue processing the UPDATE message.
        Err(error) if !context.four_octet_as => Err(Fault::Discard(error.to_string())),
        // A four-octet speaker may not send it at all (we ignore a good one), and this one is damaged as well: the rest of
        // the UPDATE is not to be trusted.
        Err(error) => Err(Fault::Withdraw(error.to_string())),
    }
}

fn check_multiple(value: &[u8], unit: usize) -> Result<(), Fault> {
    withdraw_unless(!value.is_empty() && value.len().is_multiple_of(unit), value)
}

fn withdraw_unless(right: bool, value: &[u8]) -> Result<(), Fault> {
    if right {
        return Ok(());
    }
    Err(Fault::Withdraw(malformed(value)))
}

fn discard_unless(right: bool, value: &[u8]) -> Result<(), Fault> {
    if right {
        return Ok(());
    }
    Err(Fault::Discard(malformed(value)))
}

fn malformed(value: &[u8]) -> String {
    /// Enough to see what it is, and no more, since it goes to the log.
    const SHOWN: usize = 24;
    let mut what = format!("length {}, value", value.len());
    for octet in value.iter().take(SHOWN) {
        what.push_str(&format!(" {octet:02x}"));
    }
    if value.len() > SHOWN {
        what.push('…');
    }
    what
}

/// The four high-order bits as the specification has them; Partial stays as it came, the length form is ours.
fn kept_flags(attribute: &Attribute<'_>) -> u8 {
    attribute.flags & (OPTIONAL | TRANSITIVE | PARTIAL)
}

//= https://www.rfc-editor.org/rfc/rfc8092#section-5
//# A receiving speaker MUST silently remove redundant BGP Large Community values from a BGP Large Community attribute.
fn without_duplicates(value: &[u8]) -> Cow<'_, [u8]> {
    let (communities, _) = value.as_chunks::<12>();
    if communities.len() < 2 {
        return Cow::Borrowed(value);
    }
    let mut seen = FxHashSet::default();
    if communities.iter().all(|community| seen.insert(community)) {
        return Cow::Borrowed(value);
    }
    seen.clear();
    let kept = communities.iter().filter(|community| seen.insert(community));
    Cow::Owned(kept.flatten().copied().collect())
}

/// RFC 6514 §5: flags, tunnel type, label, identifier.
fn is_pmsi_tunnel(value: &[u8]) -> bool {
    let &[_flags, tunnel_type, _, _, _, ref identifier @ ..] = value else {
        return false;
    };
    match tunnel_type {
        // Ingress replication: the egress PE's address.
        6 => matches!(identifier.len(), 4 | 16),
        0..=7 | 0x0A..=0x0D => true,
        _ => false,
    }
}

/// RFC 9012 §2: tunnels (type 2, length 2), in each of them sub-TLVs (type 1, length 1, or 2 from type 128 on).
fn is_tunnel_encapsulation(value: &[u8]) -> bool {
    !value.is_empty()
        && tlvs(value, 2, |_| 2).all(|tunnel| {
            tunnel.is_some_and(|(_, sub_tlvs)| {
                let length_octets = |kind| if kind < 128 { 1 } else { 2 };
                tlvs(sub_tlvs, 1, length_octets).all(|sub_tlv| sub_tlv.is_some())
            })
        })
}

/// RFC 8669 §3: TLVs (type 1, length 2). Type 0 is reserved: the all-zero attribute of May 2025 ends here.
fn is_prefix_sid(value: &[u8]) -> bool {
    !value.is_empty()
        && tlvs(value, 1, |_| 2).all(|tlv| match tlv {
            Some((1, label_index)) => label_index.len() == 7,
            Some((3, originator_srgb)) => originator_srgb.len() >= 8 && (originator_srgb.len() - 2).is_multiple_of(6),
            Some((kind, _)) => kind != 0,
            None => false,
        })
}

/// draft-ietf-idr-entropy-label: AFI 2, SAFI 1, next hop length 1, next hop, TLVs (code 2, length 2).
fn is_next_hop_characteristics(value: &[u8]) -> bool {
    let &[0, 1 | 2, _safi, next_hop_length, ref rest @ ..] = value else {
        return false;
    };
    rest.get(usize::from(next_hop_length)..)
        .is_some_and(|characteristics| tlvs(characteristics, 2, |_| 2).all(|tlv| tlv.is_some()))
}

/// Types and values until the bytes end; a `None` where they end too early.
fn tlvs(
    bytes: &[u8],
    type_octets: usize,
    length_octets: impl Fn(u16) -> usize,
) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    let mut rest = bytes;
    let be = |octets: &[u8]| octets.iter().fold(0u16, |value, octet| value << 8 | u16::from(*octet));
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let tlv = (|| {
            let (kind, after) = rest.split_at_checked(type_octets)?;
            let kind = be(kind);
            let (length, after) = after.split_at_checked(length_octets(kind))?;
            let (value, after) = after.split_at_checked(be(length).into())?;
            rest = after;
            Some((kind, value))
        })();
        if tlv.is_none() {
            rest = &[];
        }
        Some(tlv)
    })
}
