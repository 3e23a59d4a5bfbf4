//! Routes to UPDATE messages: as few as fit, each prefix once (RFC 4271 §9.2).

use bytes::BytesMut;
use ipnet::IpNet;

use super::attributes::PathAttributes;
use super::types::Family;

/// What the negotiation settled that changes how UPDATEs are written. Peers that agree on it share encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodeContext {
    /// Write four-octet AS_PATHs; else AS_TRANS with AS4_PATH (RFC 6793 §4.2.2).
    pub four_octet_as: bool,
    /// Messages up to 65,535 octets (RFC 8654), else 4,096.
    pub extended_message: bool,
}

/// Appends UPDATEs that announce `prefixes` (all of `family`) with `attributes`.
pub fn pack_announcement(
    _out: &mut BytesMut,
    _context: EncodeContext,
    _attributes: &PathAttributes,
    _family: Family,
    _prefixes: impl IntoIterator<Item = IpNet>,
) {
    todo!()
}

/// Appends UPDATEs that withdraw `prefixes` (all of `family`).
pub fn pack_withdrawal(
    _out: &mut BytesMut,
    _context: EncodeContext,
    _family: Family,
    _prefixes: impl IntoIterator<Item = IpNet>,
) {
    todo!()
}

/// Appends the End-of-RIB marker of a family (RFC 4724 §2).
pub fn pack_end_of_rib(_out: &mut BytesMut, _family: Family) {
    todo!()
}
