//! From a byte stream to messages: framing (RFC 4271 §4.1) and decoding, for one connection.

use super::error::MessageError;
use super::message::Message;
use super::types::FamilySet;

/// What the negotiation settled that changes how bytes are read. Known once both OPENs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeContext {
    /// AS_PATH carries four octets per AS (RFC 6793).
    pub four_octet_as: bool,
    /// Messages up to 65,535 octets are allowed (RFC 8654).
    pub extended_message: bool,
    /// Families negotiated; others are ignored (RFC 7606 §5.3 keeps the session).
    pub families: FamilySet,
    /// The peer is in another AS: LOCAL_PREF is discarded (RFC 7606 §7.5).
    pub external: bool,
}

/// Reads one connection's byte stream. Pure; also what the simulator and the fuzzers drive.
#[derive(Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// A decoder that accepts no UPDATE yet: until [`Decoder::set_context`] every UPDATE decodes to an empty one, which the
    /// state machine answers with an FSM error.
    pub fn new() -> Decoder {
        Decoder {}
    }
    /// From now on UPDATEs are read in this context.
    pub fn set_context(&mut self, _context: DecodeContext) {}
    /// Takes bytes from the socket. Memory is bounded by one message.
    pub fn push(&mut self, _bytes: &[u8]) {}
    /// The next whole message. After an error the stream is lost: close it.
    pub fn next_message(&mut self) -> Result<Option<Message>, MessageError> {
        todo!()
    }
}
