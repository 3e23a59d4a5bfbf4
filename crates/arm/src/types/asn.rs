//! Which AS numbers others may have.

use crate::error::ArmError;

/// Refuses reserved numbers, and says why (az §2.2). 32-bit numbers are fine. `ours` is that of whoever will speak with it, `path` where
/// the number stands.
pub(super) fn check_peer(asn: u32, ours: u32, path: &str) -> Result<(), ArmError> {
    let why = match asn {
        0 => "0 is reserved (RFC 7607)".to_owned(),
        asn if asn == ours => format!("{ours} is the route server's own; a peer must be in another autonomous system"),
        8074 | 8075 | 12076 => "it is one of Azure's public AS numbers (8074, 8075, 12076)".to_owned(),
        65515 | 65517..=65520 => "it is one of Azure's private AS numbers (65515, 65517 to 65520)".to_owned(),
        23456 => "23456 is AS_TRANS (RFC 6793)".to_owned(),
        64496..=64511 => "64496 to 64511 are for documentation (RFC 5398)".to_owned(),
        65535..=65551 => "65535 to 65551 are reserved by IANA".to_owned(),
        u32::MAX => "4294967295 is reserved (RFC 7300)".to_owned(),
        _ => return Ok(()),
    };
    Err(ArmError::bad(
        "InvalidPeerAsn",
        format!(
            "The peer ASN {asn} can't be used: {why}. Choose another, for example a private one from 64512 to 65514."
        ),
    )
    .at(path))
}
