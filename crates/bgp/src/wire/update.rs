//! UPDATE (RFC 4271 §4.3) with MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760), and the error handling of RFC 7606 as a whole.
//!
//! ```text
//! +---------------------------------------+
//! | Withdrawn Routes Length   (2 octets)  |   does not fit the message: session reset
//! | Withdrawn Routes          (variable)  |   no prefixes: session reset
//! | Total Path Attribute Length (2)       |   does not fit the message: session reset
//! | Path Attributes           (variable)  |   do not fit it: treat-as-withdraw (RFC 7606 §4)
//! | NLRI                      (variable)  |   no prefixes: session reset
//! +---------------------------------------+
//! ```
//! An UPDATE's routes are announced only when every attribute is right; with a wrong one they are withdrawn, all of them, or the
//! attribute alone goes, as `attribute_check` says. What cannot be read well enough to know which routes are meant ends the session.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::as_path::{self, AsnWidth};
use super::attribute_check::{self, Fault, Verdict};
use super::attribute_type::{self as code, Attribute};
use super::attributes::{CanonicalBytes, PathAttributes};
use super::cache::{AttributeCache, RawHash};
use super::decoder::DecodeContext;
use super::error::{Mended, MessageError};
use super::message::{Announcement, Notification, Update};
use super::nlri::{self, NlriError};
use super::types::{Asn, Family};

/// So much of what was mended is told; a message can hold thousands of wrong attributes, and one is enough to look into it.
const MAX_MENDED: usize = 16;

/// Reads an UPDATE's body.
pub(super) fn decode(body: &[u8], context: DecodeContext, cache: &mut AttributeCache) -> Result<Update, MessageError> {
    let (withdrawn, rest) = take_field(body, "Withdrawn Routes")?;
    let (raw_attributes, nlri) = take_field(rest, "Path Attributes")?;
    let ipv4 = context.families.contains(Family::Ipv4Unicast);
    let mut update = Update::default();
    if ipv4 && !withdrawn.is_empty() {
        nlri::decode(Family::Ipv4Unicast, withdrawn, &mut update.withdrawn).map_err(invalid_network_field)?;
    }
    let mut announced = Vec::new();
    if ipv4 && !nlri.is_empty() {
        nlri::decode(Family::Ipv4Unicast, nlri, &mut announced).map_err(invalid_network_field)?;
    }
    let hash = RawHash::of(raw_attributes);
    if let Some(attributes) = cache.by_raw(raw_attributes, hash) {
        update.announce(attributes, announced);
        return Ok(update);
    }
    if body == [0; 4] {
        update.end_of_rib = Some(Family::Ipv4Unicast).filter(|_| ipv4);
        return Ok(update);
    }
    decode_slowly(
        Parts {
            withdrawn,
            raw_attributes,
            hash,
            nlri,
        },
        announced,
        update,
        context,
        cache,
    )
}

/// The three variable fields.
#[derive(Clone, Copy)]
struct Parts<'a> {
    withdrawn: &'a [u8],
    raw_attributes: &'a [u8],
    hash: RawHash,
    nlri: &'a [u8],
}

/// An UPDATE whose attributes have not been seen lately.
fn decode_slowly(
    parts: Parts<'_>,
    announced: Vec<IpNet>,
    mut update: Update,
    context: DecodeContext,
    cache: &mut AttributeCache,
) -> Result<Update, MessageError> {
    let mut attributes = Collected::read(parts.raw_attributes, context)?;
    let mp_reach = match attributes.mp_reach {
        Some(attribute) => Some(MpReach::parse(&attribute)?),
        None => None,
    };
    let mut mp_announced = Vec::new();
    if let Some(reach) = &mp_reach
        && let Some(family) = reach.family.filter(|family| context.families.contains(*family))
    {
        nlri::decode(family, reach.nlri, &mut mp_announced).map_err(|error| attributes.optional_error(error))?;
        if !mp_announced.is_empty() && !is_host(reach.next_hop) {
            let what = format!("next hop {} is no host's address", reach.next_hop);
            attributes.mend(code::MP_REACH_NLRI, true, what);
        }
    }
    if let Some(attribute) = attributes.mp_unreach {
        let (family, nlri) = parse_mp_unreach(&attribute)?;
        if let Some(family) = family.filter(|family| context.families.contains(*family)) {
            nlri::decode(family, nlri, &mut update.withdrawn).map_err(|error| optional_error(&attribute, error))?;
            let alone = parts.withdrawn.is_empty() && parts.nlri.is_empty() && attributes.only_mp_unreach();
            update.end_of_rib = (alone && nlri.is_empty()).then_some(family);
        }
    }
    let reachable = !parts.nlri.is_empty() || mp_reach.as_ref().is_some_and(|reach| !reach.nlri.is_empty());
    if reachable {
        attributes.check_mandatory(!parts.nlri.is_empty());
    } else if attributes.withdraw && !attributes.only_mp_unreach() {
        return Err(attributes.missing_nlri());
    }

    if attributes.withdraw {
        update.withdrawn.extend(announced);
        update.withdrawn.extend(mp_announced);
    } else {
        let bytes = attributes.canonical(context);
        if !mp_announced.is_empty()
            && let Some(reach) = &mp_reach
        {
            update.announce(cache.intern(reach.next_hop, bytes.clone()), mp_announced);
        }
        if let Some(next_hop) = attributes.next_hop.filter(|_| !announced.is_empty()) {
            let set = Arc::new(PathAttributes::from_canonical(next_hop.into(), bytes));
            if attributes.repeatable() {
                cache.insert_raw(parts.raw_attributes, parts.hash, &set);
            }
            update.announce(set, announced);
        }
    }
    update.mended = attributes.mended;
    Ok(update)
}

impl Update {
    fn announce(&mut self, attributes: Arc<PathAttributes>, prefixes: Vec<IpNet>) {
        if !prefixes.is_empty() {
            self.announced.push(Announcement { attributes, prefixes });
        }
    }
}

/// A field that a two-octet length precedes.
fn take_field<'a>(bytes: &'a [u8], name: &str) -> Result<(&'a [u8], &'a [u8]), MessageError> {
    //= https://www.rfc-editor.org/rfc/rfc4271#section-6.3
    //# If the Withdrawn Routes Length or Total Attribute Length is too large (i.e., if Withdrawn
    //# Routes Length + Total Attribute Length + 23 exceeds the message Length), then the Error
    //# Subcode MUST be set to Malformed Attribute List.
    let too_long = || {
        let what = format!("the {name} are longer than the {} octets left", bytes.len());
        MessageError::new(Notification::malformed_attribute_list(), what)
    };
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or_else(too_long)?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
        .ok_or_else(too_long)
}

/// One attribute of the canonical form.
struct Kept<'a> {
    code: u8,
    flags: u8,
    value: Cow<'a, [u8]>,
}

/// The attributes of one UPDATE, each judged.
#[derive(Default)]
struct Collected<'a> {
    kept: SmallVec<[Kept<'a>; 12]>,
    next_hop: Option<Ipv4Addr>,
    as4_path: Option<&'a [u8]>,
    as4_aggregator: Option<&'a [u8]>,
    mp_reach: Option<Attribute<'a>>,
    mp_unreach: Option<Attribute<'a>>,
    /// A bit for each type code met.
    seen: [u128; 2],
    /// The list ended inside an attribute.
    cut_short: bool,
    /// "Treat-as-withdraw" is due.
    withdraw: bool,
    mended: Vec<Mended>,
}

impl<'a> Collected<'a> {
    fn read(raw: &'a [u8], context: DecodeContext) -> Result<Collected<'a>, MessageError> {
        let mut collected = Collected::default();
        let mut rest = raw;
        while let Some(next) = code::take(&mut rest) {
            match next {
                Ok(attribute) => collected.add(attribute, context)?,
                Err(overrun) => {
                    collected.cut_short(overrun)?;
                    break;
                }
            }
        }
        Ok(collected)
    }

    fn add(&mut self, attribute: Attribute<'a>, context: DecodeContext) -> Result<(), MessageError> {
        if self.has_seen(attribute.code) {
            return self.duplicate(&attribute);
        }
        self.seen[usize::from(attribute.code >> 7)] |= 1 << (attribute.code & 0x7F);
        // Even with wrong flags they say which routes to withdraw.
        match attribute.code {
            code::MP_REACH_NLRI => self.mp_reach = Some(attribute),
            code::MP_UNREACH_NLRI => self.mp_unreach = Some(attribute),
            _ => {}
        }
        match attribute_check::check(&attribute, context) {
            Ok(Verdict::Keep(flags, value)) => self.kept.push(Kept {
                code: attribute.code,
                flags,
                value,
            }),
            Ok(Verdict::Use) => self.remember(&attribute),
            Ok(Verdict::Ignore) => {}
            Err(Fault::Withdraw(what)) => self.mend(attribute.code, true, what),
            Err(Fault::Discard(what)) => self.mend(attribute.code, false, what),
            Err(Fault::UnrecognizedWellKnown) => {
                return Err(MessageError::new(
                    Notification::unrecognized_well_known_attribute(attribute.whole),
                    format!("well-known attribute {} is not known", attribute.code),
                ));
            }
        }
        Ok(())
    }

    fn remember(&mut self, attribute: &Attribute<'a>) {
        match attribute.code {
            code::NEXT_HOP => self.next_hop = <[u8; 4]>::try_from(attribute.value).ok().map(Ipv4Addr::from),
            code::AS4_PATH => self.as4_path = Some(attribute.value),
            code::AS4_AGGREGATOR => self.as4_aggregator = Some(attribute.value),
            _ => {}
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc7606#section-3
    //# If the MP_REACH_NLRI attribute or the MP_UNREACH_NLRI [RFC4760] attribute
    //# appears more than once in the UPDATE message, then a NOTIFICATION message MUST be sent
    //# with the Error Subcode "Malformed Attribute List". If any other attribute (whether
    //# recognized or unrecognized) appears more than once in an UPDATE
    //# message, then all the occurrences of the attribute other than the
    //# first one SHALL be discarded and the UPDATE message will continue to be processed.
    fn duplicate(&mut self, attribute: &Attribute<'_>) -> Result<(), MessageError> {
        if matches!(attribute.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
            return Err(MessageError::new(
                Notification::malformed_attribute_list(),
                format!("{} twice", code::name(attribute.code)),
            ));
        }
        self.mend(attribute.code, false, "it came twice, the first counts".to_owned());
        Ok(())
    }

    //= https://www.rfc-editor.org/rfc/rfc7606#section-4
    //# In either of these cases, an error condition exists and the "treat-
    //# as-withdraw" approach MUST be used (unless some other, more severe
    //# error is encountered dictating a stronger approach), and the Total
    //# Attribute Length MUST be relied upon to enable the beginning of the
    //# NLRI field to be located.
    fn cut_short(&mut self, overrun: code::Overrun) -> Result<(), MessageError> {
        let attribute = overrun.code.unwrap_or(0);
        let what = format!(
            "{} needs {} octets, {} are left",
            code::name(attribute),
            overrun.needed,
            overrun.left
        );
        // The stronger approach: the routes of this attribute cannot be known.
        if matches!(attribute, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
            return Err(MessageError::new(Notification::malformed_attribute_list(), what));
        }
        self.cut_short = true;
        self.mend(attribute, true, what);
        Ok(())
    }

    fn mend(&mut self, attribute: u8, treated_as_withdraw: bool, what: String) {
        self.withdraw |= treated_as_withdraw;
        if self.mended.len() < MAX_MENDED {
            self.mended.push(Mended {
                attribute,
                treated_as_withdraw,
                what,
            });
        }
    }

    fn has_seen(&self, code: u8) -> bool {
        self.seen[usize::from(code >> 7)] & 1 << (code & 0x7F) != 0
    }

    fn only_mp_unreach(&self) -> bool {
        self.seen == [1 << code::MP_UNREACH_NLRI, 0] && !self.cut_short
    }

    /// Whether the same bytes mean the same again: no prefixes among them, and nothing to tell about them.
    fn repeatable(&self) -> bool {
        self.mp_reach.is_none() && self.mp_unreach.is_none() && self.mended.is_empty()
    }

    //= https://www.rfc-editor.org/rfc/rfc7606#section-3
    //# If any of the well-known mandatory attributes are not present in an
    //# UPDATE message, then "treat-as-withdraw" MUST be used.
    fn check_mandatory(&mut self, with_next_hop: bool) {
        for mandatory in [code::ORIGIN, code::AS_PATH, code::NEXT_HOP] {
            if !self.has_seen(mandatory) && (with_next_hop || mandatory != code::NEXT_HOP) {
                self.mend(mandatory, true, "it is missing".to_owned());
            }
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc7606#section-5.2
    //# For this reason, if any path attribute errors are encountered in such an
    //# UPDATE message and if any encountered error specifies an error-handling
    //# approach other than "attribute discard", then the "session reset" approach MUST be used.
    fn missing_nlri(&self) -> MessageError {
        let first = self.mended.iter().find(|mended| mended.treated_as_withdraw);
        let what = first.map_or_else(String::new, |mended| {
            format!("{}: {}", code::name(mended.attribute), mended.what)
        });
        MessageError::new(
            Notification::malformed_attribute_list(),
            format!("{what}; and no routes that could be withdrawn for it"),
        )
    }

    fn optional_error(&self, error: NlriError) -> MessageError {
        match &self.mp_reach {
            Some(attribute) => optional_error(attribute, error),
            None => invalid_network_field(error),
        }
    }

    /// The canonical bytes: see [`super::attributes`].
    fn canonical(&mut self, context: DecodeContext) -> CanonicalBytes {
        if !context.four_octet_as {
            self.widen();
        }
        if !self.kept.is_sorted_by_key(|kept| kept.code) {
            self.kept.sort_unstable_by_key(|kept| kept.code);
        }
        let mut bytes = CanonicalBytes::new();
        for kept in &self.kept {
            code::write(&mut bytes, kept.flags, kept.code, &kept.value);
        }
        bytes
    }

    /// Puts four-octet AS numbers in the place of a two-octet speaker's (RFC 6793 §4.2.3).
    fn widen(&mut self) {
        let aggregator_as = self
            .kept
            .iter()
            .find(|kept| kept.code == code::AGGREGATOR)
            .and_then(|kept| kept.value.first_chunk::<2>())
            .map(|octets| u16::from_be_bytes(*octets));
        //= https://www.rfc-editor.org/rfc/rfc6793#section-4.2.3
        //# If the AS number in the AGGREGATOR attribute is not AS_TRANS, then:
        //#    -  the AS4_AGGREGATOR attribute and the AS4_PATH attribute SHALL be ignored
        let ignore = self.as4_aggregator.is_some() && aggregator_as.is_some_and(|asn| u32::from(asn) != Asn::TRANS.0);
        let as4_aggregator = self.as4_aggregator.filter(|_| !ignore);
        let as4_path = self.as4_path.filter(|_| !ignore);
        for kept in &mut self.kept {
            match kept.code {
                code::AS_PATH => {
                    let as4_path = as4_path.and_then(|value| as_path::as4_numbers(value).ok());
                    let path = as_path::merge(&kept.value, as4_path.as_deref());
                    let mut value = Vec::new();
                    as_path::write_sequence(&mut value, &path, AsnWidth::Four);
                    kept.value = Cow::Owned(value);
                }
                code::AGGREGATOR => {
                    kept.value = match as4_aggregator {
                        Some(value) => Cow::Borrowed(value),
                        None => Cow::Owned([&[0, 0], kept.value.as_ref()].concat()),
                    };
                }
                _ => {}
            }
        }
    }
}

/// MP_REACH_NLRI (RFC 4760 §3).
///
/// ```text
/// +---------+----------+---------------------+----------+------------+------+
/// | AFI (2) | SAFI (1) | next hop length (1) | next hop | reserved 1 | NLRI |
/// +---------+----------+---------------------+----------+------------+------+
/// ```
struct MpReach<'a> {
    /// `None` for one that we do not route.
    family: Option<Family>,
    next_hop: IpAddr,
    nlri: &'a [u8],
}

impl<'a> MpReach<'a> {
    fn parse(attribute: &Attribute<'a>) -> Result<MpReach<'a>, MessageError> {
        let too_short = || optional_error(attribute, "it is too short");
        let &[a, b, safi, length, ref rest @ ..] = attribute.value else {
            return Err(too_short());
        };
        let (next_hop, rest) = rest.split_at_checked(length.into()).ok_or_else(too_short)?;
        let (_reserved, nlri) = rest.split_first().ok_or_else(too_short)?;
        let family = Family::from_afi_safi(u16::from_be_bytes([a, b]), safi);
        let next_hop = match (family, next_hop.len()) {
            (None, _) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (Some(Family::Ipv4Unicast), 4) => next_hop
                .first_chunk::<4>()
                .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |octets| {
                    IpAddr::V4(Ipv4Addr::from(*octets))
                }),
            // With a link-local address behind the global one (RFC 2545 §3).
            (Some(Family::Ipv6Unicast), 16 | 32) => next_hop
                .first_chunk::<16>()
                .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |octets| {
                    IpAddr::V6(Ipv6Addr::from(*octets))
                }),
            //= https://www.rfc-editor.org/rfc/rfc7606#section-7.11
            //# If the Length of Next Hop Network Address field of the MP_REACH
            //# attribute is inconsistent with that which was expected, the attribute
            //# is considered malformed.  Since the next hop precedes the NLRI field
            //# in the attribute, in this case it will not be possible to reliably
            //# locate the NLRI; thus, the "session reset" or "AFI/SAFI disable"
            //# approach MUST be used.
            (Some(family), length) => {
                let what = format!("a next hop of {length} octets for {family}");
                return Err(optional_error(attribute, what));
            }
        };
        Ok(MpReach { family, next_hop, nlri })
    }
}

/// MP_UNREACH_NLRI (RFC 4760 §4): AFI, SAFI, withdrawn routes.
fn parse_mp_unreach<'a>(attribute: &Attribute<'a>) -> Result<(Option<Family>, &'a [u8]), MessageError> {
    let &[a, b, safi, ref nlri @ ..] = attribute.value else {
        return Err(optional_error(attribute, "it is too short"));
    };
    Ok((Family::from_afi_safi(u16::from_be_bytes([a, b]), safi), nlri))
}

fn is_host(next_hop: IpAddr) -> bool {
    !next_hop.is_unspecified() && !next_hop.is_multicast() && next_hop != IpAddr::V4(Ipv4Addr::BROADCAST)
}

//= https://www.rfc-editor.org/rfc/rfc4760#section-7
//# [...] the speaker MAY terminate the BGP session [...] with the NOTIFICATION message code/subcode
//# indicating "UPDATE Message Error"/"Optional Attribute Error".
fn optional_error(attribute: &Attribute<'_>, what: impl std::fmt::Display) -> MessageError {
    MessageError::new(
        Notification::optional_attribute_error(attribute.whole),
        format!("{}: {what}", code::name(attribute.code)),
    )
}

//= https://www.rfc-editor.org/rfc/rfc4271#section-6.3
//# If the field is syntactically incorrect, then the Error Subcode MUST be set to Invalid Network Field.
fn invalid_network_field(error: NlriError) -> MessageError {
    MessageError::new(Notification::invalid_network_field(), error.to_string())
}
