//! OPEN (RFC 4271 §4.2), with extended optional parameters (RFC 9072).
//!
//! ```text
//! +-----------+-------------------+-------------+--------------------+--------------+---------------------+
//! | Version 1 | My AS           2 | Hold Time 2 | BGP Identifier   4 | Opt Len    1 | Optional Parameters |
//! +-----------+-------------------+-------------+--------------------+--------------+---------------------+
//! ```
//! RFC 9072: a first parameter type of 255 says that a two-octet length follows, and that every parameter has one, too.

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::capability::Capability;
use super::error::MessageError;
use super::message::{Notification, Open};
use super::types::{Asn, BgpIdentifier};

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
const EXTENDED_FORMAT: u8 = 255;

/// Reads an OPEN's body.
pub(super) fn decode(body: &[u8]) -> Result<Open, MessageError> {
    let &[
        version,
        as_high,
        as_low,
        hold_high,
        hold_low,
        a,
        b,
        c,
        d,
        parameters_length,
        ref rest @ ..,
    ] = body
    else {
        return Err(unspecific(format!("an OPEN of {} octets", body.len())));
    };
    if version != VERSION {
        return Err(MessageError::new(
            Notification::unsupported_version(),
            format!("version {version}"),
        ));
    }
    let capabilities = decode_parameters(parameters_length, rest)?;
    let asn = decode_asn(u16::from_be_bytes([as_high, as_low]), &capabilities)?;
    let hold_time_secs = u16::from_be_bytes([hold_high, hold_low]);
    //= https://www.rfc-editor.org/rfc/rfc4271#section-6.2
    //# An implementation MUST reject Hold Time values of one or two seconds.
    if hold_time_secs == 1 || hold_time_secs == 2 {
        return Err(MessageError::new(
            Notification::unacceptable_hold_time(),
            format!("a hold time of {hold_time_secs} s"),
        ));
    }
    // RFC 6286 §2.1: any number but zero.
    let identifier = Ipv4Addr::new(a, b, c, d);
    if identifier.is_unspecified() {
        return Err(MessageError::new(
            Notification::bad_bgp_identifier(),
            "a BGP Identifier of zero",
        ));
    }
    Ok(Open {
        asn,
        hold_time_secs,
        identifier: BgpIdentifier(identifier),
        capabilities,
    })
}

/// The four-octet number counts where there is one (RFC 6793 §4.1); zero is nobody's (RFC 7607 §2).
fn decode_asn(my_as: u16, capabilities: &[Capability]) -> Result<Asn, MessageError> {
    let four_octet = capabilities.iter().find_map(|capability| match capability {
        Capability::FourOctetAs(asn) => Some(*asn),
        _ => None,
    });
    let asn = four_octet.unwrap_or(Asn(my_as.into()));
    // RFC 7607 §2: AS 0 in an OPEN ends the connection with Bad Peer AS.
    if asn == Asn(0) || my_as == 0 {
        return Err(MessageError::new(Notification::bad_peer_as(), "AS 0 in an OPEN"));
    }
    Ok(asn)
}

fn decode_parameters(length: u8, rest: &[u8]) -> Result<Vec<Capability>, MessageError> {
    //= https://www.rfc-editor.org/rfc/rfc9072#section-2
    //# If the value of the "Non-Ext OP Type" field is 255, then the encoding described above is used
    let extended = length != 0 && rest.first() == Some(&EXTENDED_FORMAT);
    let (announced, mut parameters) = match (extended, rest) {
        (true, &[_, high, low, ref parameters @ ..]) => (u16::from_be_bytes([high, low]), parameters),
        (true, _) => return Err(unspecific("the extended optional parameters have no length")),
        (false, _) => (length.into(), rest),
    };
    if usize::from(announced) != parameters.len() {
        return Err(unspecific(format!(
            "optional parameters of {announced} octets where there are {}",
            parameters.len()
        )));
    }
    let mut capabilities = Vec::new();
    while !parameters.is_empty() {
        let (kind, value, rest) = take_parameter(parameters, extended)
            .ok_or_else(|| unspecific("an optional parameter longer than what is left of the OPEN"))?;
        if kind != CAPABILITIES {
            return Err(MessageError::new(
                Notification::unsupported_optional_parameter(),
                format!("optional parameter {kind}"),
            ));
        }
        decode_capabilities(value, &mut capabilities)?;
        parameters = rest;
    }
    Ok(capabilities)
}

fn take_parameter(bytes: &[u8], extended: bool) -> Option<(u8, &[u8], &[u8])> {
    let (kind, length, rest) = match (extended, bytes) {
        (false, &[kind, length, ref rest @ ..]) => (kind, usize::from(length), rest),
        (true, &[kind, high, low, ref rest @ ..]) => (kind, usize::from(u16::from_be_bytes([high, low])), rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((kind, value, rest))
}

fn decode_capabilities(mut bytes: &[u8], capabilities: &mut Vec<Capability>) -> Result<(), MessageError> {
    while !bytes.is_empty() {
        let too_short = || unspecific("a capability longer than what is left of its parameter");
        let &[code, length, ref rest @ ..] = bytes else {
            return Err(too_short());
        };
        let (value, rest) = rest.split_at_checked(length.into()).ok_or_else(too_short)?;
        capabilities.push(Capability::decode(code, value));
        bytes = rest;
    }
    Ok(())
}

//= https://www.rfc-editor.org/rfc/rfc4271#section-6.2
//# If one of the Optional Parameters in the OPEN message is recognized,
//# but is malformed, then the Error Subcode MUST be set to 0 (Unspecific).
fn unspecific(what: impl Into<String>) -> MessageError {
    MessageError::new(Notification::open_unspecific(), what)
}

/// Appends an OPEN's body. Capabilities that would make it longer than a message may be are left out.
pub(super) fn encode(open: &Open, out: &mut BytesMut) {
    out.put_u8(VERSION);
    //= https://www.rfc-editor.org/rfc/rfc6793#section-9
    //# AS_TRANS [...] in the "My Autonomous System" field of the OPEN message
    out.put_u16(u16::try_from(open.asn.0).unwrap_or(Asn::TRANS.0 as u16));
    out.put_u16(open.hold_time_secs);
    out.put_slice(&open.identifier.0.octets());
    let capabilities = encode_capabilities(&open.capabilities);
    match u8::try_from(capabilities.len()) {
        Ok(0) => out.put_u8(0),
        Ok(length) if length <= 253 => {
            out.put_slice(&[length + 2, CAPABILITIES, length]);
            out.put_slice(&capabilities);
        }
        _ => {
            let length = capabilities.len() as u16;
            out.put_slice(&[255, EXTENDED_FORMAT]);
            out.put_u16(length + 3);
            out.put_u8(CAPABILITIES);
            out.put_u16(length);
            out.put_slice(&capabilities);
        }
    }
}

fn encode_capabilities(capabilities: &[Capability]) -> Vec<u8> {
    /// 4,096 less the header, the fixed part and the headers of RFC 9072.
    const ROOM: usize = 4_096 - 19 - 10 - 6;
    let mut octets = Vec::new();
    for capability in capabilities {
        let before = octets.len();
        capability.encode(&mut octets);
        if octets.len() > ROOM {
            octets.truncate(before);
            break;
        }
    }
    octets
}
