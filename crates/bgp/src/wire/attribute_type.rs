//! Attribute type codes and flags (RFC 4271 §4.3), and how an attribute's header is written.

use smallvec::SmallVec;

/// Optional bit.
pub(super) const OPTIONAL: u8 = 0x80;
/// Transitive bit.
pub(super) const TRANSITIVE: u8 = 0x40;
/// Partial bit.
pub(super) const PARTIAL: u8 = 0x20;
/// Extended Length bit.
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const MULTI_EXIT_DISC: u8 = 4;
pub(super) const LOCAL_PREF: u8 = 5;
pub(super) const ATOMIC_AGGREGATE: u8 = 6;
pub(super) const AGGREGATOR: u8 = 7;
pub(super) const COMMUNITIES: u8 = 8;
pub(super) const ORIGINATOR_ID: u8 = 9;
pub(super) const CLUSTER_LIST: u8 = 10;
pub(super) const MP_REACH_NLRI: u8 = 14;
pub(super) const MP_UNREACH_NLRI: u8 = 15;
pub(super) const EXTENDED_COMMUNITIES: u8 = 16;
pub(super) const AS4_PATH: u8 = 17;
pub(super) const AS4_AGGREGATOR: u8 = 18;
pub(super) const PMSI_TUNNEL: u8 = 22;
pub(super) const TUNNEL_ENCAPSULATION: u8 = 23;
pub(super) const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
pub(super) const AIGP: u8 = 26;
pub(super) const BGP_LS: u8 = 29;
pub(super) const LARGE_COMMUNITY: u8 = 32;
pub(super) const ONLY_TO_CUSTOMER: u8 = 35;
pub(super) const NEXT_HOP_CHARACTERISTICS: u8 = 39;
pub(super) const PREFIX_SID: u8 = 40;

/// The Optional and Transitive bits that the attribute's specification gives it; `None` for a type we do not know.
pub(super) const fn specified_flags(code: u8) -> Option<u8> {
    Some(match code {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => TRANSITIVE,
        MULTI_EXIT_DISC | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH_NLRI | MP_UNREACH_NLRI | AIGP | BGP_LS => OPTIONAL,
        AGGREGATOR
        | COMMUNITIES
        | EXTENDED_COMMUNITIES
        | AS4_PATH
        | AS4_AGGREGATOR
        | PMSI_TUNNEL
        | TUNNEL_ENCAPSULATION
        | IPV6_EXTENDED_COMMUNITIES
        | LARGE_COMMUNITY
        | ONLY_TO_CUSTOMER
        | NEXT_HOP_CHARACTERISTICS
        | PREFIX_SID => OPTIONAL | TRANSITIVE,
        _ => return None,
    })
}

/// The attribute's name, for people.
pub(super) const fn name(code: u8) -> &'static str {
    match code {
        ORIGIN => "ORIGIN",
        AS_PATH => "AS_PATH",
        NEXT_HOP => "NEXT_HOP",
        MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
        LOCAL_PREF => "LOCAL_PREF",
        ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
        AGGREGATOR => "AGGREGATOR",
        COMMUNITIES => "COMMUNITIES",
        ORIGINATOR_ID => "ORIGINATOR_ID",
        CLUSTER_LIST => "CLUSTER_LIST",
        MP_REACH_NLRI => "MP_REACH_NLRI",
        MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
        EXTENDED_COMMUNITIES => "EXTENDED_COMMUNITIES",
        AS4_PATH => "AS4_PATH",
        AS4_AGGREGATOR => "AS4_AGGREGATOR",
        PMSI_TUNNEL => "PMSI_TUNNEL",
        TUNNEL_ENCAPSULATION => "TUNNEL_ENCAPSULATION",
        IPV6_EXTENDED_COMMUNITIES => "IPV6_EXTENDED_COMMUNITIES",
        AIGP => "AIGP",
        BGP_LS => "BGP-LS",
        LARGE_COMMUNITY => "LARGE_COMMUNITY",
        ONLY_TO_CUSTOMER => "ONLY_TO_CUSTOMER",
        NEXT_HOP_CHARACTERISTICS => "NEXT_HOP_CHARACTERISTICS",
        PREFIX_SID => "PREFIX_SID",
        _ => "an unknown attribute",
    }
}

/// One attribute inside a well-formed run of attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    /// The flags as they stand there.
    pub(super) flags: u8,
    /// The type code.
    pub(super) code: u8,
    /// The value.
    pub(super) value: &'a [u8],
    /// Header and value.
    pub(super) whole: &'a [u8],
}

/// Why the next attribute cannot be read: the Total Attribute Length ends inside it (RFC 7606 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun {
    /// The type code, where there is still one.
    pub(super) code: Option<u8>,
    /// Octets that the attribute needs.
    pub(super) needed: usize,
    /// Octets that are left.
    pub(super) left: usize,
}

/// Takes the first attribute off `rest`.
#[inline]
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Option<Result<Attribute<'a>, Overrun>> {
    let bytes = *rest;
    let &flags = bytes.first()?;
    let code = bytes.get(1).copied();
    let header = if flags & EXTENDED_LENGTH == 0 { 3 } else { 4 };
    let length = match (header, bytes) {
        (3, [_, _, length, ..]) => usize::from(*length),
        (4, [_, _, high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
        _ => {
            return Some(Err(Overrun {
                code,
                needed: header,
                left: bytes.len(),
            }));
        }
    };
    let end = header + length;
    let (Some(whole), Some(code)) = (bytes.get(..end), code) else {
        return Some(Err(Overrun {
            code,
            needed: end,
            left: bytes.len(),
        }));
    };
    *rest = &bytes[end..];
    Some(Ok(Attribute {
        flags,
        code,
        value: &whole[header..],
        whole,
    }))
}

/// The attributes of canonical bytes, which are well-formed by construction.
pub(super) fn iter(bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || take(&mut rest)?.ok())
}

/// Appends an attribute. The Extended Length bit is set where the value needs it, and kept where `flags` have it: an attribute
/// that we only carry keeps the form it came in.
#[inline]
pub(super) fn write<const N: usize>(out: &mut SmallVec<[u8; N]>, flags: u8, code: u8, value: &[u8])
where
    [u8; N]: smallvec::Array<Item = u8>,
{
    match u8::try_from(value.len()) {
        Ok(length) if flags & EXTENDED_LENGTH == 0 => out.extend_from_slice(&[flags, code, length]),
        _ => {
            let [high, low] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes();
            out.extend_from_slice(&[flags | EXTENDED_LENGTH, code, high, low]);
        }
    }
    out.extend_from_slice(value);
}
