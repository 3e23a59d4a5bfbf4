//! NLRI: prefixes as (length, prefix) pairs (RFC 4271 §4.3, RFC 4760 §5).
//!
//! ```text
//! +---------------------------+
//! |   Length (1 octet), bits  |
//! +---------------------------+
//! |   Prefix (0–16 octets)    |   as few octets as hold Length bits
//! +---------------------------+
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::types::Family;

/// A prefix that makes no sense; where it starts is given in octets from the start of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NlriError {
    #[error("prefix length {length} at octet {offset}")]
    Length { offset: usize, length: u8 },
    #[error("the prefix at octet {offset} needs {needed} octets, {left} are left")]
    Overrun { offset: usize, needed: usize, left: usize },
}

/// The most octets that one prefix takes.
pub(super) const MAX_PREFIX_OCTETS: usize = 17;

/// Reads prefixes of `family` until `field` ends. Bits beyond the mask are cleared.
pub(super) fn decode(family: Family, field: &[u8], prefixes: &mut Vec<IpNet>) -> Result<(), NlriError> {
    match family {
        Family::Ipv4Unicast => decode_with(field, 32, 4, prefixes, |octets, length| {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let address = u32::from_be_bytes(padded(octets)) & mask;
            Ipv4Net::new(Ipv4Addr::from(address), length).ok().map(IpNet::V4)
        }),
        Family::Ipv6Unicast => decode_with(field, 128, 8, prefixes, |octets, length| {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            let address = u128::from_be_bytes(padded(octets)) & mask;
            Ipv6Net::new(Ipv6Addr::from(address), length).ok().map(IpNet::V6)
        }),
    }
}

/// `usual` is how many octets a prefix usually takes, to reserve room once.
#[inline]
fn decode_with(
    field: &[u8],
    max_length: u8,
    usual: usize,
    prefixes: &mut Vec<IpNet>,
    read: impl Fn(&[u8], u8) -> Option<IpNet>,
) -> Result<(), NlriError> {
    prefixes.reserve(field.len().div_ceil(usual));
    let mut rest = field;
    while let Some((&length, after)) = rest.split_first() {
        let offset = field.len() - rest.len();
        //= https://www.rfc-editor.org/rfc/rfc7606#section-5.3
        //# o  The length of any of the included NLRI is greater than 32
        if length > max_length {
            return Err(NlriError::Length { offset, length });
        }
        let needed = usize::from(length).div_ceil(8);
        let Some((octets, after)) = after.split_at_checked(needed) else {
            return Err(NlriError::Overrun {
                offset,
                needed,
                left: after.len(),
            });
        };
        let Some(prefix) = read(octets, length) else {
            return Err(NlriError::Length { offset, length });
        };
        prefixes.push(prefix);
        rest = after;
    }
    Ok(())
}

#[inline]
fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut address = [0; N];
    // A loop of known bound; a copy of unknown length would be a call for each prefix.
    for (to, from) in address.iter_mut().zip(octets) {
        *to = *from;
    }
    address
}

/// Writes one prefix.
#[inline]
pub(super) fn encode(prefix: IpNet, out: &mut BytesMut) {
    let mut octets = [0; MAX_PREFIX_OCTETS];
    octets[0] = prefix.prefix_len();
    match prefix {
        IpNet::V4(net) => octets[1..5].copy_from_slice(&net.network().octets()),
        IpNet::V6(net) => octets[1..17].copy_from_slice(&net.network().octets()),
    }
    out.put_slice(&octets[..encoded_len(prefix)]);
}

/// How many octets [`encode`] writes.
#[inline]
pub(super) fn encoded_len(prefix: IpNet) -> usize {
    1 + usize::from(prefix.prefix_len()).div_ceil(8)
}
