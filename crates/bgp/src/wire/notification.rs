//! NOTIFICATION (RFC 4271 §4.5): one constructor for each thing that we tell a peer, and its text for people.
//!
//! Codes and subcodes: RFC 4271 §6, RFC 4486 (Cease), RFC 5492 (Unsupported Capability), RFC 6608 (FSM), RFC 7313
//! (ROUTE-REFRESH), RFC 9003 (shutdown communication), RFC 9384 (BFD Down), RFC 9687 (Send Hold Timer).

use std::fmt;

use bytes::Bytes;

use super::message::Notification;

/// A shutdown communication has at most this many octets (RFC 9003 §2).
pub const MAX_SHUTDOWN_COMMUNICATION: usize = 255;

/// The Data field of a NOTIFICATION that we make repeats at most this much of what the peer sent.
pub(super) const MAX_NOTIFICATION_DATA: usize = 4_096 - 21;

const HEADER: u8 = 1;
const OPEN: u8 = 2;
const UPDATE: u8 = 3;
const HOLD_TIMER: u8 = 4;
const FSM: u8 = 5;
const CEASE: u8 = 6;
const ROUTE_REFRESH: u8 = 7;
const SEND_HOLD_TIMER: u8 = 8;

/// Why a session is ended on purpose (RFC 4486, RFC 8538, RFC 9384).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CeaseSubcode {
    /// The peer sent more prefixes than allowed.
    MaximumNumberOfPrefixesReached = 1,
    /// The session was disabled.
    AdministrativeShutdown = 2,
    /// The peering was removed.
    PeerDeconfigured = 3,
    /// The session was restarted on request.
    AdministrativeReset = 4,
    /// We do not want this peer (now).
    ConnectionRejected = 5,
    /// The configuration changed so that the session must start again.
    OtherConfigurationChange = 6,
    /// Another connection to the same peer goes on (RFC 4271 §6.8).
    ConnectionCollisionResolution = 7,
    /// We cannot afford the session.
    OutOfResources = 8,
    /// RFC 8538.
    HardReset = 9,
    /// RFC 9384.
    BfdDown = 10,
}

impl Notification {
    fn new(code: u8, subcode: u8, data: &[u8]) -> Notification {
        Notification {
            code,
            subcode,
            data: Bytes::copy_from_slice(&data[..data.len().min(MAX_NOTIFICATION_DATA)]),
        }
    }

    /// Connection Not Synchronized: the marker is not all ones.
    pub fn connection_not_synchronized() -> Notification {
        Notification::new(HEADER, 1, &[])
    }

    /// Bad Message Length; the Data field holds the erroneous length.
    pub fn bad_message_length(length: u16) -> Notification {
        Notification::new(HEADER, 2, &length.to_be_bytes())
    }

    /// Bad Message Type; the Data field holds the erroneous type.
    pub fn bad_message_type(message_type: u8) -> Notification {
        Notification::new(HEADER, 3, &[message_type])
    }

    /// An OPEN whose fields do not fit each other.
    pub fn open_unspecific() -> Notification {
        Notification::new(OPEN, 0, &[])
    }

    /// Unsupported Version Number; the Data field holds the version that we speak, 4.
    pub fn unsupported_version() -> Notification {
        Notification::new(OPEN, 1, &4u16.to_be_bytes())
    }

    /// Bad Peer AS.
    pub fn bad_peer_as() -> Notification {
        Notification::new(OPEN, 2, &[])
    }

    /// Bad BGP Identifier (RFC 6286).
    pub fn bad_bgp_identifier() -> Notification {
        Notification::new(OPEN, 3, &[])
    }

    /// Unsupported Optional Parameter.
    pub fn unsupported_optional_parameter() -> Notification {
        Notification::new(OPEN, 4, &[])
    }

    /// Unacceptable Hold Time.
    pub fn unacceptable_hold_time() -> Notification {
        Notification::new(OPEN, 6, &[])
    }

    /// Unsupported Capability: `capabilities` are the ones that we miss, encoded (RFC 5492 §5).
    pub fn unsupported_capability(capabilities: &[u8]) -> Notification {
        Notification::new(OPEN, 7, capabilities)
    }

    /// Malformed Attribute List.
    pub fn malformed_attribute_list() -> Notification {
        Notification::new(UPDATE, 1, &[])
    }

    /// Unrecognized Well-known Attribute, with the attribute.
    pub fn unrecognized_well_known_attribute(attribute: &[u8]) -> Notification {
        Notification::new(UPDATE, 2, attribute)
    }

    /// Optional Attribute Error, with the attribute.
    pub fn optional_attribute_error(attribute: &[u8]) -> Notification {
        Notification::new(UPDATE, 9, attribute)
    }

    /// Invalid Network Field.
    pub fn invalid_network_field() -> Notification {
        Notification::new(UPDATE, 10, &[])
    }

    /// Hold Timer Expired.
    pub fn hold_timer_expired() -> Notification {
        Notification::new(HOLD_TIMER, 0, &[])
    }

    /// Finite State Machine Error: an unexpected message in OpenSent (1), OpenConfirm (2) or Established (3) (RFC 6608); 0 elsewhere.
    pub fn fsm_error(subcode: u8) -> Notification {
        Notification::new(FSM, subcode, &[])
    }

    /// Invalid Message Length of a ROUTE-REFRESH, with the message (RFC 7313 §5).
    pub fn route_refresh_invalid_length(message: &[u8]) -> Notification {
        Notification::new(ROUTE_REFRESH, 1, message)
    }

    /// Send Hold Timer Expired (RFC 9687).
    pub fn send_hold_timer_expired() -> Notification {
        Notification::new(SEND_HOLD_TIMER, 0, &[])
    }

    /// Whether it says that the other side was silent for too long: a hold timer expired, or BFD went down, for which some send a Cease without
    /// a subcode (RFC 9384 is younger than they are).
    pub fn is_silence(&self) -> bool {
        if let Some(reason) = self.hard_reset_reason() {
            return reason.is_silence();
        }
        match self.code {
            HOLD_TIMER | SEND_HOLD_TIMER => true,
            CEASE => self.subcode == 0 || self.subcode == CeaseSubcode::BfdDown as u8,
            _ => false,
        }
    }

    /// Cease.
    pub fn cease(subcode: CeaseSubcode) -> Notification {
        Notification::new(CEASE, subcode as u8, &[])
    }

    /// Cease, Maximum Number of Prefixes Reached, with the family and the limit (RFC 4486 §4).
    pub fn maximum_prefixes_reached(family: super::types::Family, limit: u32) -> Notification {
        let mut data = [0, 0, 1, 0, 0, 0, 0];
        data[..2].copy_from_slice(&family.afi().to_be_bytes());
        data[3..].copy_from_slice(&limit.to_be_bytes());
        Notification::new(CEASE, CeaseSubcode::MaximumNumberOfPrefixesReached as u8, &data)
    }

    /// Cease with a text for the peer's operator, if the subcode has room for one: only Administrative Shutdown and
    /// Administrative Reset do (RFC 9003 §2). What is longer than 255 octets is cut at a character.
    pub fn cease_with_communication(subcode: CeaseSubcode, communication: &str) -> Notification {
        if communication.is_empty() || !has_communication(subcode as u8) {
            return Notification::cease(subcode);
        }
        let mut end = communication.len().min(MAX_SHUTDOWN_COMMUNICATION);
        while !communication.is_char_boundary(end) {
            end -= 1;
        }
        let text = &communication[..end];
        let mut data = Vec::with_capacity(1 + text.len());
        data.push(text.len() as u8);
        data.extend_from_slice(text.as_bytes());
        Notification::new(CEASE, subcode as u8, &data)
    }

    /// Cease / Hard Reset with another NOTIFICATION in it: the session is not to be taken for one that restarts (RFC 8538 §3.1).
    pub fn hard_reset(of: &Notification) -> Notification {
        let mut data = vec![of.code, of.subcode];
        data.extend_from_slice(&of.data);
        Notification::new(CEASE, CeaseSubcode::HardReset as u8, &data)
    }

    /// Whether it is one that ends more than the session (RFC 8538 §3).
    pub fn is_hard_reset(&self) -> bool {
        self.is_cease(CeaseSubcode::HardReset)
    }

    /// Whether it is a Cease with this subcode.
    pub fn is_cease(&self, subcode: CeaseSubcode) -> bool {
        (self.code, self.subcode) == (CEASE, subcode as u8)
    }

    /// What a Hard Reset has in it: why it was sent.
    pub fn hard_reset_reason(&self) -> Option<Notification> {
        let reason = self.data.split_first_chunk().filter(|_| self.is_hard_reset());
        let (&[code, subcode], data) = reason?;
        // One in another one would say nothing more.
        (code != CEASE || subcode != CeaseSubcode::HardReset as u8).then(|| Notification::new(code, subcode, data))
    }

    /// Its name and numbers: `Cease/Administrative Shutdown (6/2)`.
    pub fn name(&self) -> String {
        let code = code_name(self.code);
        match subcode_name(self.code, self.subcode) {
            Some(subcode) => format!("{code}/{subcode} ({}/{})", self.code, self.subcode),
            None => format!("{code} ({}/{})", self.code, self.subcode),
        }
    }

    /// The text of an Administrative Shutdown or Reset, if there is one that can be read.
    pub fn shutdown_communication(&self) -> Option<&str> {
        if self.code != CEASE || !has_communication(self.subcode) {
            return None;
        }
        //= https://www.rfc-editor.org/rfc/rfc9003#section-2
        //# A receiving BGP speaker MUST NOT interpret invalid UTF-8 sequences.
        let (length, text) = self.data.split_first()?;
        let text = text.get(..usize::from(*length))?;
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }
}

/// Which subcodes of Cease carry a Shutdown Communication (RFC 9003 §2).
fn has_communication(subcode: u8) -> bool {
    subcode == CeaseSubcode::AdministrativeShutdown as u8 || subcode == CeaseSubcode::AdministrativeReset as u8
}

impl fmt::Display for Notification {
    /// For example `Cease/Administrative Shutdown (6/2): "back in ten minutes"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(reason) = self.hard_reset_reason() {
            return write!(f, " because of {reason}");
        }
        if let Some(text) = self.shutdown_communication() {
            // Debug escapes control characters, which a peer could use to play with a terminal.
            write!(f, ": {text:?}")?;
        }
        Ok(())
    }
}

fn code_name(code: u8) -> &'static str {
    match code {
        HEADER => "Message Header Error",
        OPEN => "OPEN Message Error",
        UPDATE => "UPDATE Message Error",
        HOLD_TIMER => "Hold Timer Expired",
        FSM => "Finite State Machine Error",
        CEASE => "Cease",
        ROUTE_REFRESH => "ROUTE-REFRESH Message Error",
        SEND_HOLD_TIMER => "Send Hold Timer Expired",
        _ => "Unknown Error",
    }
}

fn subcode_name(code: u8, subcode: u8) -> Option<&'static str> {
    Some(match (code, subcode) {
        (HEADER, 1) => "Connection Not Synchronized",
        (HEADER, 2) => "Bad Message Length",
        (HEADER, 3) => "Bad Message Type",
        (OPEN, 1) => "Unsupported Version Number",
        (OPEN, 2) => "Bad Peer AS",
        (OPEN, 3) => "Bad BGP Identifier",
        (OPEN, 4) => "Unsupported Optional Parameter",
        (OPEN, 6) => "Unacceptable Hold Time",
        (OPEN, 7) => "Unsupported Capability",
        (OPEN, 11) => "Role Mismatch",
        (UPDATE, 1) => "Malformed Attribute List",
        (UPDATE, 2) => "Unrecognized Well-known Attribute",
        (UPDATE, 3) => "Missing Well-known Attribute",
        (UPDATE, 4) => "Attribute Flags Error",
        (UPDATE, 5) => "Attribute Length Error",
        (UPDATE, 6) => "Invalid ORIGIN Attribute",
        (UPDATE, 8) => "Invalid NEXT_HOP Attribute",
        (UPDATE, 9) => "Optional Attribute Error",
        (UPDATE, 10) => "Invalid Network Field",
        (UPDATE, 11) => "Malformed AS_PATH",
        (FSM, 1) => "Unexpected Message in OpenSent",
        (FSM, 2) => "Unexpected Message in OpenConfirm",
        (FSM, 3) => "Unexpected Message in Established",
        (CEASE, 1) => "Maximum Number of Prefixes Reached",
        (CEASE, 2) => "Administrative Shutdown",
        (CEASE, 3) => "Peer De-configured",
        (CEASE, 4) => "Administrative Reset",
        (CEASE, 5) => "Connection Rejected",
        (CEASE, 6) => "Other Configuration Change",
        (CEASE, 7) => "Connection Collision Resolution",
        (CEASE, 8) => "Out of Resources",
        (CEASE, 9) => "Hard Reset",
        (CEASE, 10) => "BFD Down",
        (ROUTE_REFRESH, 1) => "Invalid Message Length",
        _ => return None,
    })
}
