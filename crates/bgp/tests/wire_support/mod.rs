//! What the tests of the wire share: octets from text, UPDATEs from parts, decoding in a usual context.
#![allow(dead_code)]

use bgp::wire::{DecodeContext, Decoder, EncodeContext, Message, MessageError, Update};
use bgp::{FamilySet, IpNet};

/// An eBGP peer with four-octet AS numbers and both families.
pub(crate) const CONTEXT: DecodeContext = DecodeContext {
    four_octet_as: true,
    extended_message: false,
    families: FamilySet::BOTH,
    external: true,
};

/// How to write for such a peer.
pub(crate) const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    extended_message: false,
};

/// Octets from a text of hexadecimal numbers; on each line what follows three spaces is a remark.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .map(|line| line.trim().split("   ").next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// A message of any type around a body.
pub(crate) fn message(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFF; 16];
    bytes.extend(((19 + body.len()) as u16).to_be_bytes());
    bytes.push(message_type);
    bytes.extend(body);
    bytes
}

/// An UPDATE of its three fields.
pub(crate) fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(2, &body)
}

/// An attribute with the shortest header.
pub(crate) fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = match u8::try_from(value.len()) {
        Ok(length) if flags & 0x10 == 0 => vec![flags, code, length],
        _ => {
            let [high, low] = (value.len() as u16).to_be_bytes();
            vec![flags | 0x10, code, high, low]
        }
    };
    bytes.extend(value);
    bytes
}

/// All messages of a stream that comes at once.
pub(crate) fn decode_all(context: DecodeContext, bytes: &[u8]) -> Result<Vec<Message>, MessageError> {
    let mut decoder = Decoder::new();
    decoder.set_context(context);
    decoder.push(bytes);
    let mut messages = Vec::new();
    while let Some(message) = decoder.next_message()? {
        messages.push(message);
    }
    assert_eq!(decoder.buffered(), 0, "an incomplete message is left");
    Ok(messages)
}

/// The one UPDATE that `bytes` are.
pub(crate) fn decode_update(context: DecodeContext, bytes: &[u8]) -> Result<Update, MessageError> {
    let messages = decode_all(context, bytes)?;
    match <[Message; 1]>::try_from(messages) {
        Ok([Message::Update(update)]) => Ok(update),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}
