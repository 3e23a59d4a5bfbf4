//! From a byte stream to messages: framing (RFC 4271 §4.1) and decoding, for one connection.
//!
//! ```text
//! +------------------------------------------+
//! |            Marker (16 octets, all ones)  |
//! +----------------------+-------------------+
//! |  Length (2 octets)   |  Type (1 octet)   |
//! +----------------------+-------------------+
//! ```

use bytes::Bytes;

use super::cache::AttributeCache;
use super::error::MessageError;
use super::message::{
    HEADER_LENGTH, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Message, Notification, RefreshKind, RouteRefresh, Update,
    message_type,
};
use super::types::{Family, FamilySet};
use super::{open, update};

/// What the negotiation settled that changes how bytes are read. Known once both OPENs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeContext {
    /// AS_PATH carries four octets per AS (RFC 6793).
    pub four_octet_as: bool,
    /// Messages up to 65,535 octets are allowed (RFC 8654): we offered to take them.
    pub extended_message: bool,
    /// Families negotiated; others are ignored (RFC 7606 §5.3 keeps the session).
    pub families: FamilySet,
    /// The peer is in another AS: LOCAL_PREF is discarded (RFC 7606 §7.5).
    pub external: bool,
}

/// Reads one connection's byte stream. Pure; also what the simulator and the fuzzers drive.
///
/// Between two calls of [`Decoder::push`] call [`Decoder::next_message`] until it has none left: then what is kept is less than
/// one message.
#[derive(Debug, Default)]
pub struct Decoder {
    context: Option<DecodeContext>,
    /// Octets not read yet are those from `read` on.
    buffer: Vec<u8>,
    read: usize,
    cache: AttributeCache,
    /// Why the stream is lost, once it is.
    failed: Option<MessageError>,
}

impl Decoder {
    /// A decoder that accepts no UPDATE yet: until [`Decoder::set_context`] every UPDATE decodes to an empty one, which the
    /// state machine answers with an FSM error.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// From now on UPDATEs are read in this context.
    pub fn set_context(&mut self, context: DecodeContext) {
        self.context = Some(context);
        self.cache.clear();
    }

    /// Takes bytes from the socket. Memory is bounded by one message and what is pushed at once.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Octets that were pushed and are not yet part of a message.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.read
    }

    /// The next whole message. After an error the stream is lost: the same error comes again, close the connection.
    pub fn next_message(&mut self) -> Result<Option<Message>, MessageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.decode_next();
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            self.read = 0;
        }
        result
    }

    fn decode_next(&mut self) -> Result<Option<Message>, MessageError> {
        loop {
            let unread = &self.buffer[self.read..];
            let Some((length, message_type)) = check_header(unread, self.context)? else {
                return Ok(None);
            };
            let Some(message) = unread.get(..length) else {
                return Ok(None);
            };
            self.read += length;
            // A message that says nothing to us (an unknown refresh) is skipped; the loop ends with the buffer.
            if let Some(message) = decode_message(message_type, message, self.context, &mut self.cache)? {
                return Ok(Some(message));
            }
        }
    }
}

/// The length and type of the message that begins here, once its header is there (RFC 4271 §6.1).
#[inline]
fn check_header(bytes: &[u8], context: Option<DecodeContext>) -> Result<Option<(usize, u8)>, MessageError> {
    let marker = &bytes[..bytes.len().min(16)];
    if marker.iter().any(|octet| *octet != 0xFF) {
        return Err(MessageError::new(
            Notification::connection_not_synchronized(),
            "the marker is not all ones",
        ));
    }
    let &[high, low, message_type] = bytes.get(16..HEADER_LENGTH).unwrap_or_default() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]);
    let extended = context.is_some_and(|context| context.extended_message);
    let (least, most) = match message_type {
        message_type::OPEN => (29, MAX_MESSAGE),
        message_type::UPDATE => (23, longest(extended)),
        message_type::NOTIFICATION => (21, longest(extended)),
        //= https://www.rfc-editor.org/rfc/rfc8654#section-4
        //# The BGP Extended Message Capability applies to all messages except for OPEN and KEEPALIVE messages.
        message_type::KEEPALIVE => (HEADER_LENGTH, HEADER_LENGTH),
        message_type::ROUTE_REFRESH => (HEADER_LENGTH, longest(extended)),
        _ => {
            // A wrong length is the graver error: it says that the stream is lost.
            check_length(length, HEADER_LENGTH, longest(extended))?;
            return Err(MessageError::new(
                Notification::bad_message_type(message_type),
                format!("message type {message_type}"),
            ));
        }
    };
    check_length(length, least, most)?;
    Ok(Some((length.into(), message_type)))
}

const fn longest(extended: bool) -> usize {
    if extended { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE }
}

fn check_length(length: u16, least: usize, most: usize) -> Result<(), MessageError> {
    if (least..=most).contains(&usize::from(length)) {
        return Ok(());
    }
    Err(MessageError::new(
        Notification::bad_message_length(length),
        format!("a message length of {length} where {least} to {most} is allowed"),
    ))
}

fn decode_message(
    message_type: u8,
    message: &[u8],
    context: Option<DecodeContext>,
    cache: &mut AttributeCache,
) -> Result<Option<Message>, MessageError> {
    let body = &message[HEADER_LENGTH..];
    Ok(match message_type {
        message_type::OPEN => Some(Message::Open(open::decode(body)?)),
        message_type::UPDATE => Some(Message::Update(match context {
            Some(context) => update::decode(body, context, cache)?,
            None => Update::default(),
        })),
        message_type::NOTIFICATION => match body {
            [code, subcode, data @ ..] => Some(Message::Notification(Notification {
                code: *code,
                subcode: *subcode,
                data: Bytes::copy_from_slice(data),
            })),
            _ => None,
        },
        message_type::KEEPALIVE => Some(Message::Keepalive),
        _ => decode_route_refresh(message, context)?.map(Message::RouteRefresh),
    })
}

/// `None` for what is to be ignored.
fn decode_route_refresh(message: &[u8], context: Option<DecodeContext>) -> Result<Option<RouteRefresh>, MessageError> {
    let length_error = |notification| {
        let what = format!("a ROUTE-REFRESH of {} octets", message.len());
        Err(MessageError::new(notification, what))
    };
    let &[a, b, subtype, safi, ref rest @ ..] = &message[HEADER_LENGTH..] else {
        return length_error(Notification::bad_message_length(message.len() as u16));
    };
    let kind = match subtype {
        // What follows would be ORFs (RFC 5291), which we do not offer; the request is plain enough without.
        0 => RefreshKind::Request,
        1 => RefreshKind::Begin,
        2 => RefreshKind::End,
        //= https://www.rfc-editor.org/rfc/rfc7313#section-5
        //# When the BGP speaker receives a ROUTE-REFRESH message with a "Message Subtype"
        //# field other than 0, 1, or 2, it MUST ignore the received ROUTE-REFRESH message.
        _ => return Ok(None),
    };
    //= https://www.rfc-editor.org/rfc/rfc7313#section-5
    //# If the length, excluding the fixed-size message header, of the
    //# received ROUTE-REFRESH message with Message Subtype 1 and 2 is not 4, then the
    //# BGP speaker MUST send a NOTIFICATION message with the Error Code of "ROUTE-REFRESH
    //# Message Error" and the subcode of "Invalid Message Length".
    if kind != RefreshKind::Request && !rest.is_empty() {
        return length_error(Notification::route_refresh_invalid_length(message));
    }
    //= https://www.rfc-editor.org/rfc/rfc2918#section-4
    //# If a BGP speaker receives from its peer a ROUTE-REFRESH message with
    //# the <AFI, SAFI> that the speaker didn't advertise to the peer at the
    //# session establishment time via capability advertisement, the speaker
    //# shall ignore such a message.
    let family = Family::from_afi_safi(u16::from_be_bytes([a, b]), safi);
    Ok(family
        .filter(|family| context.is_none_or(|context| context.families.contains(*family)))
        .map(|family| RouteRefresh { family, kind }))
}
