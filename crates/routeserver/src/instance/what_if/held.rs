//! What peers have said, as octets: from one process to the other, since each is asked what would differ with both.
//!
//! ```text
//! a peering:  length of the id (2) · id · BGP Identifier (4) · what was agreed (1) · length (4) · UPDATEs
//! ```

use bgp::session::{ConnectionId, Direction, Negotiated};
use bgp::wire::{DecodeContext, Decoder, EncodeContext, Message, pack_announcement};
use bgp::{Asn, BgpIdentifier, FamilySet};
use bytes::{Buf, BufMut, BytesMut};

use super::Heard;
use super::together::capabilities;

/// Bits of what was agreed.
const IPV4: u8 = 1;
const IPV6: u8 = 2;
const FOUR_OCTET_AS: u8 = 4;
const EXTENDED_MESSAGE: u8 = 8;
/// The session has ended, and what was said is kept.
const ENDED: u8 = 16;

/// UPDATEs are written as to a peer that takes everything.
const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    extended_message: true,
};

/// These octets are no [`Heard`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the other instance has heard cannot be read from octet {0}")]
pub struct NotHeard(pub usize);

/// Appends what one peer has said.
pub fn write(out: &mut BytesMut, heard: &Heard) {
    let id = heard.peer.as_bytes();
    // ARM ids are far shorter.
    let length = u16::try_from(id.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&id[..usize::from(length)]);
    let agreed = heard.negotiated.as_ref();
    out.put_u32(agreed.map_or(0, |agreed| agreed.peer_identifier.0.into()));
    out.put_u8(agreed.map_or(ENDED, bits));
    let at = out.len();
    out.put_u32(0);
    for announcement in &heard.announcements {
        for family in FamilySet::BOTH.iter() {
            pack_announcement(
                out,
                ENCODE,
                &announcement.attributes,
                family,
                announcement.prefixes.iter().copied(),
            );
        }
    }
    let written = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&written.to_be_bytes());
}

fn bits(agreed: &Negotiated) -> u8 {
    let families = agreed.capabilities.families;
    let bits = [
        (families.ipv4_unicast, IPV4),
        (families.ipv6_unicast, IPV6),
        (agreed.encode.four_octet_as, FOUR_OCTET_AS),
        (agreed.encode.extended_message, EXTENDED_MESSAGE),
    ];
    bits.iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum()
}

/// All that was written.
pub fn read(octets: &[u8]) -> Result<Vec<Heard>, NotHeard> {
    let mut rest = octets;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let at = octets.len() - rest.len();
        all.push(one(&mut rest).ok_or(NotHeard(at))?);
    }
    Ok(all)
}

fn one(rest: &mut &[u8]) -> Option<Heard> {
    let length = usize::from(rest.try_get_u16().ok()?);
    let peer = String::from_utf8(take(rest, length)?.to_vec()).ok()?;
    let identifier = BgpIdentifier(rest.try_get_u32().ok()?.into());
    let bits = rest.try_get_u8().ok()?;
    let length = usize::try_from(rest.try_get_u32().ok()?).ok()?;
    let updates = take(rest, length)?;
    Some(Heard {
        peer,
        negotiated: (bits & ENDED == 0).then(|| negotiated(identifier, bits)),
        announcements: announcements(updates)?,
    })
}

fn negotiated(peer_identifier: BgpIdentifier, bits: u8) -> Negotiated {
    let has = |bit: u8| bits & bit != 0;
    let families = FamilySet {
        ipv4_unicast: has(IPV4),
        ipv6_unicast: has(IPV6),
    };
    let encode = EncodeContext {
        four_octet_as: has(FOUR_OCTET_AS),
        extended_message: has(EXTENDED_MESSAGE),
    };
    Negotiated {
        // Nothing is sent to it here.
        connection: ConnectionId(0),
        direction: Direction::Accepted,
        hold_time_secs: 0,
        peer_identifier,
        peer_asn: Asn(0),
        capabilities: capabilities(families, encode),
        encode,
        restart: None,
    }
}

fn take<'o>(rest: &mut &'o [u8], length: usize) -> Option<&'o [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn announcements(updates: &[u8]) -> Option<Vec<bgp::wire::Announcement>> {
    let mut decoder = Decoder::new();
    decoder.set_context(DecodeContext {
        four_octet_as: true,
        extended_message: true,
        families: FamilySet::BOTH,
        // What a peer of another AS must not say was left out when it said it; what one of ours says is all needed.
        external: false,
    });
    decoder.push(updates);
    let mut all = Vec::new();
    while let Some(message) = decoder.next_message().ok()? {
        let Message::Update(update) = message else { return None };
        all.extend(update.announced);
    }
    (decoder.buffered() == 0).then_some(all)
}
