//! AS_PATH and AS4_PATH values (RFC 4271 §4.3 b, RFC 6793 §3): checked, walked, merged, written.
//!
//! ```text
//! +-----------------+------------------+--------------------------------------+
//! | type (1 octet)  | count (1 octet)  | count AS numbers (2 or 4 octets each) |   … repeated
//! +-----------------+------------------+--------------------------------------+
//! ```

use smallvec::SmallVec;

use super::types::Asn;

pub(super) const AS_SET: u8 = 1;
pub(super) const AS_SEQUENCE: u8 = 2;
pub(super) const AS_CONFED_SEQUENCE: u8 = 3;
pub(super) const AS_CONFED_SET: u8 = 4;

/// A segment holds at most this many AS numbers: its count is one octet.
pub(super) const MAX_SEGMENT: usize = 255;

/// AS numbers of a path being put together; few paths are longer.
pub(super) type AsnList = SmallVec<[u32; 16]>;

/// How many octets an AS number takes (RFC 6793).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsnWidth {
    Two,
    Four,
}

impl AsnWidth {
    const fn octets(self) -> usize {
        match self {
            AsnWidth::Two => 2,
            AsnWidth::Four => 4,
        }
    }

    fn read(self, bytes: &[u8]) -> u32 {
        match (self, bytes) {
            (AsnWidth::Two, [a, b, ..]) => u32::from(u16::from_be_bytes([*a, *b])),
            (AsnWidth::Four, [a, b, c, d, ..]) => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    }
}

/// What is wrong with an AS_PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AsPathError {
    #[error("segment type {0} is not known")]
    SegmentType(u8),
    #[error("a segment without AS numbers")]
    EmptySegment,
    #[error("a segment of {needed} octets where {left} are left")]
    Overrun { needed: usize, left: usize },
    #[error("an AS_SET (RFC 9774)")]
    Set,
    #[error("a confederation segment from outside a confederation")]
    Confederation,
}

/// One segment, its AS numbers still in octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) kind: u8,
    pub(super) octets: &'a [u8],
}

/// The segments of a path, or where it stops making sense.
pub(super) fn segments(value: &[u8], width: AsnWidth) -> impl Iterator<Item = Result<Segment<'_>, AsPathError>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (&kind, after) = rest.split_first()?;
        let segment = take_segment(kind, after, width);
        rest = match &segment {
            Ok((_, rest)) => rest,
            Err(_) => &[],
        };
        Some(segment.map(|(segment, _)| segment))
    })
}

fn take_segment(kind: u8, after: &[u8], width: AsnWidth) -> Result<(Segment<'_>, &[u8]), AsPathError> {
    let Some((&count, after)) = after.split_first() else {
        return Err(AsPathError::Overrun { needed: 2, left: 1 });
    };
    //= https://www.rfc-editor.org/rfc/rfc7606#section-7.2
    //# An AS_PATH is considered malformed if an unrecognized segment type is
    //# encountered or if it contains a malformed segment.
    if !(AS_SET..=AS_CONFED_SET).contains(&kind) {
        return Err(AsPathError::SegmentType(kind));
    }
    if count == 0 {
        return Err(AsPathError::EmptySegment);
    }
    let needed = usize::from(count) * width.octets();
    match after.split_at_checked(needed) {
        Some((octets, rest)) => Ok((Segment { kind, octets }, rest)),
        None => Err(AsPathError::Overrun {
            needed,
            left: after.len(),
        }),
    }
}

/// Whether a peer outside our AS may send this AS_PATH: sequences only.
#[inline]
pub(super) fn check(value: &[u8], width: AsnWidth) -> Result<(), AsPathError> {
    for segment in segments(value, width) {
        match segment?.kind {
            AS_SEQUENCE => {}
            // RFC 9774 §3: treat-as-withdraw, for sets and for confederation sets.
            AS_SET => return Err(AsPathError::Set),
            _ => return Err(AsPathError::Confederation),
        }
    }
    Ok(())
}

/// The AS numbers of a path that was checked, in order.
pub(super) fn numbers(value: &[u8], width: AsnWidth) -> impl Iterator<Item = Asn> + '_ {
    segments(value, width)
        .map_while(Result::ok)
        .flat_map(move |segment| segment.octets.chunks_exact(width.octets()))
        .map(move |octets| Asn(width.read(octets)))
}

/// The length that the decision process counts.
pub(super) fn length(value: &[u8]) -> u16 {
    let mut length = 0;
    for segment in segments(value, AsnWidth::Four).map_while(Result::ok) {
        //= https://www.rfc-editor.org/rfc/rfc4271#section-9.1.2.2
        //# when counting this number, an AS_SET counts as 1, no matter how many ASes are in the set.
        length += match segment.kind {
            AS_SEQUENCE => segment.octets.len() / 4,
            AS_SET => 1,
            _ => 0,
        };
    }
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Writes `path` as AS_SEQUENCEs.
pub(super) fn write_sequence(out: &mut impl Extend<u8>, path: &[u32], width: AsnWidth) {
    for segment in path.chunks(MAX_SEGMENT) {
        out.extend([AS_SEQUENCE, segment.len() as u8]);
        for asn in segment {
            match width {
                AsnWidth::Four => out.extend(asn.to_be_bytes()),
                AsnWidth::Two => out.extend(u16::try_from(*asn).unwrap_or(Asn::TRANS.0 as u16).to_be_bytes()),
            }
        }
    }
}

/// The AS numbers that an AS4_PATH gives, confederation segments left out.
pub(super) fn as4_numbers(value: &[u8]) -> Result<AsnList, AsPathError> {
    let mut path = AsnList::new();
    for segment in segments(value, AsnWidth::Four) {
        let segment = segment?;
        match segment.kind {
            AS_SEQUENCE => path.extend(segment.octets.chunks_exact(4).map(|octets| AsnWidth::Four.read(octets))),
            AS_SET => return Err(AsPathError::Set),
            //= https://www.rfc-editor.org/rfc/rfc6793#section-6
            //# A NEW BGP speaker that receives these path segment types in the AS4_PATH attribute
            //# of an UPDATE message from an OLD BGP speaker MUST discard these path segments,
            //# adjust the relevant attribute fields accordingly, and continue processing the UPDATE message.
            AS_CONFED_SEQUENCE | AS_CONFED_SET => {}
            other => return Err(AsPathError::SegmentType(other)),
        }
    }
    Ok(path)
}

/// The real path of a route that came through a two-octet speaker.
pub(super) fn merge(as_path: &[u8], as4_path: Option<&[u32]>) -> AsnList {
    let mut path: AsnList = numbers(as_path, AsnWidth::Two).map(|asn| asn.0).collect();
    let Some(as4_path) = as4_path else { return path };
    //= https://www.rfc-editor.org/rfc/rfc6793#section-4.2.3
    //# If the number of AS numbers in the AS_PATH attribute is less than the
    //# number of AS numbers in the AS4_PATH attribute, then the AS4_PATH
    //# attribute SHALL be ignored
    if let Some(leading) = path.len().checked_sub(as4_path.len()) {
        //# [...] then the AS path information SHALL be
        //# constructed by taking as many AS numbers and path segments as necessary
        //# from the leading part of the AS_PATH attribute, and then prepending
        //# them to the AS4_PATH attribute
        path.truncate(leading);
        path.extend_from_slice(as4_path);
    }
    path
}
