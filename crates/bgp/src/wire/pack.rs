//! Routes to UPDATE messages: as few as fit, each prefix once (RFC 4271 §9.2).
//!
//! IPv4 routes go into the message's own fields, IPv6 routes into MP_REACH_NLRI and MP_UNREACH_NLRI. Everything is appended to one
//! buffer, straight from the canonical bytes; only towards a two-octet speaker are they rewritten.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::attribute_type::{self as code, EXTENDED_LENGTH, OPTIONAL, TRANSITIVE};
use super::attributes::PathAttributes;
use super::message::{MAX_EXTENDED_MESSAGE, MAX_MESSAGE, finish_message, message_type, put_header};
use super::types::Family;
use super::{nlri, old_speaker};

/// What the negotiation settled that changes how UPDATEs are written. Peers that agree on it share encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodeContext {
    /// Write four-octet AS_PATHs; else AS_TRANS with AS4_PATH (RFC 6793 §4.2.2).
    pub four_octet_as: bool,
    /// Messages up to 65,535 octets (RFC 8654), else 4,096.
    pub extended_message: bool,
}

impl EncodeContext {
    /// The longest message that the peer takes.
    pub const fn max_message(self) -> usize {
        if self.extended_message {
            MAX_EXTENDED_MESSAGE
        } else {
            MAX_MESSAGE
        }
    }
}

/// Appends UPDATEs that announce `prefixes` (all of `family`; others are left out) with `attributes`.
///
/// Where that is impossible (the attributes alone fill a message, or the next hop cannot be written for the family) the prefixes
/// are withdrawn instead: the peer must not keep an older route that we no longer mean.
pub fn pack_announcement(
    out: &mut BytesMut,
    context: EncodeContext,
    attributes: &PathAttributes,
    family: Family,
    prefixes: impl IntoIterator<Item = IpNet>,
) {
    let mut prefixes = of_family(family, prefixes).peekable();
    if prefixes.peek().is_none() {
        return;
    }
    let canonical = match context.four_octet_as {
        true => Cow::Borrowed(attributes.as_bytes()),
        false => Cow::Owned(old_speaker::narrow(attributes.as_bytes()).into_vec()),
    };
    let frame = match family {
        Family::Ipv4Unicast => announcement_ipv4(attributes.next_hop(), &canonical),
        Family::Ipv6Unicast => Some(announcement_ipv6(attributes.next_hop(), &canonical)),
    };
    match frame.filter(|frame| frame.has_room(context)) {
        Some(frame) => frame.fill(out, context, prefixes),
        //= https://www.rfc-editor.org/rfc/rfc8654#section-4
        //# If the message is still too big, then it must not be sent to the neighbor ... Additionally, if the NLRI was
        //# previously advertised to that peer, it must be withdrawn from service
        None => pack_withdrawal(out, context, family, prefixes),
    }
}

/// Appends UPDATEs that withdraw `prefixes` (all of `family`; others are left out).
pub fn pack_withdrawal(
    out: &mut BytesMut,
    context: EncodeContext,
    family: Family,
    prefixes: impl IntoIterator<Item = IpNet>,
) {
    withdrawal(family).fill(out, context, of_family(family, prefixes).peekable());
}

/// Appends the End-of-RIB marker of a family (RFC 4724 §2).
pub fn pack_end_of_rib(out: &mut BytesMut, family: Family) {
    withdrawal(family).write(out, &mut std::iter::empty().peekable(), MAX_MESSAGE);
}

fn of_family(family: Family, prefixes: impl IntoIterator<Item = IpNet>) -> impl Iterator<Item = IpNet> {
    prefixes.into_iter().filter(move |prefix| Family::of(prefix) == family)
}

/// An UPDATE's body around its prefixes. The lengths count the prefixes, so they are filled in afterwards: each is where it is
/// said, two octets, and counts what follows it up to the end of the prefixes (and `after`, where it is the attributes').
struct Frame<'a> {
    before: SmallVec<[u8; 128]>,
    after: &'a [u8],
    lengths: SmallVec<[LengthField; 2]>,
    max_prefix_octets: usize,
}

#[derive(Clone, Copy)]
struct LengthField {
    /// From the start of the body.
    at: usize,
    counts_after: bool,
}

/// `None` when IPv4 routes cannot have that next hop (RFC 8950 is not negotiated).
fn announcement_ipv4<'a>(next_hop: IpAddr, canonical: &[u8]) -> Option<Frame<'a>> {
    let next_hop = match next_hop.to_canonical() {
        IpAddr::V4(next_hop) => next_hop.octets(),
        IpAddr::V6(_) => return None,
    };
    // NEXT_HOP has its place behind ORIGIN and AS_PATH, which are always there.
    let mut rest = canonical;
    for _ in 0..2 {
        let _ = code::take(&mut rest);
    }
    let (origin_and_path, rest) = canonical.split_at(canonical.len() - rest.len());
    let mut before = SmallVec::from_slice(&[0, 0]);
    let attributes_length = (canonical.len() + 3 + next_hop.len()) as u16;
    before.extend_from_slice(&attributes_length.to_be_bytes());
    before.extend_from_slice(origin_and_path);
    code::write(&mut before, TRANSITIVE, code::NEXT_HOP, &next_hop);
    before.extend_from_slice(rest);
    Some(Frame {
        before,
        after: &[],
        lengths: SmallVec::new(),
        max_prefix_octets: 5,
    })
}

//= https://www.rfc-editor.org/rfc/rfc7606#section-5.1
//# The MP_REACH_NLRI or MP_UNREACH_NLRI attribute (if present) SHALL be
//# encoded as the very first path attribute in an UPDATE message.
fn announcement_ipv6(next_hop: IpAddr, canonical: &[u8]) -> Frame<'_> {
    // An IPv4 next hop is written as an IPv4-mapped address (RFC 4291 §2.5.5.2), as others do on IPv4 sessions.
    let next_hop: Ipv6Addr = match next_hop {
        IpAddr::V6(next_hop) => next_hop,
        IpAddr::V4(next_hop) => next_hop.to_ipv6_mapped(),
    };
    let mut frame = mp_frame(code::MP_REACH_NLRI, Family::Ipv6Unicast);
    frame.before.push(16);
    frame.before.extend_from_slice(&next_hop.octets());
    frame.before.push(0);
    frame.after = canonical;
    frame
}

fn withdrawal(family: Family) -> Frame<'static> {
    match family {
        Family::Ipv4Unicast => Frame {
            before: SmallVec::from_slice(&[0, 0]),
            // Total Path Attribute Length.
            after: &[0, 0],
            lengths: SmallVec::from_slice(&[LengthField {
                at: 0,
                counts_after: false,
            }]),
            max_prefix_octets: 5,
        },
        Family::Ipv6Unicast => mp_frame(code::MP_UNREACH_NLRI, family),
    }
}

/// No withdrawn routes, the attributes' length, and the first attribute up to its SAFI.
fn mp_frame<'a>(type_code: u8, family: Family) -> Frame<'a> {
    let [a, b] = family.afi().to_be_bytes();
    Frame {
        before: SmallVec::from_slice(&[0, 0, 0, 0, OPTIONAL | EXTENDED_LENGTH, type_code, 0, 0, a, b, 1]),
        after: &[],
        lengths: SmallVec::from_slice(&[
            LengthField {
                at: 2,
                counts_after: true,
            },
            LengthField {
                at: 6,
                counts_after: false,
            },
        ]),
        max_prefix_octets: nlri::MAX_PREFIX_OCTETS,
    }
}

impl Frame<'_> {
    /// Whether any one prefix fits.
    fn has_room(&self, context: EncodeContext) -> bool {
        let header = super::message::HEADER_LENGTH;
        header + self.before.len() + self.max_prefix_octets + self.after.len() <= context.max_message()
    }

    fn fill<I>(&self, out: &mut BytesMut, context: EncodeContext, mut prefixes: std::iter::Peekable<I>)
    where
        I: Iterator<Item = IpNet>,
    {
        while prefixes.peek().is_some() {
            self.write(out, &mut prefixes, context.max_message());
        }
    }

    /// One message with as many prefixes as it holds.
    fn write<I>(&self, out: &mut BytesMut, prefixes: &mut std::iter::Peekable<I>, max_message: usize)
    where
        I: Iterator<Item = IpNet>,
    {
        let start = out.len();
        put_header(out, message_type::UPDATE);
        let body = out.len();
        out.put_slice(&self.before);
        let limit = start + max_message - self.after.len();
        while let Some(prefix) = prefixes.next_if(|prefix| out.len() + nlri::encoded_len(*prefix) <= limit) {
            nlri::encode(prefix, out);
        }
        let end = out.len();
        out.put_slice(self.after);
        for field in &self.lengths {
            let at = body + field.at;
            let counted = if field.counts_after { out.len() } else { end };
            let length = (counted - at - 2) as u16;
            out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        }
        finish_message(out, start);
    }
}
