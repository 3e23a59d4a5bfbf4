//! Why a received packet was dropped: the checks of RFC 5880 §6.8.6, in its order.

use serde::Serialize;

/// The check that a packet did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Discard {
    /// There are not even the octets that tell version and length.
    #[error("the packet is too short")]
    Truncated,
    /// Version is not 1.
    #[error("the version is not 1")]
    Version,
    /// Length is less than the mandatory section, with A set less than that and an authentication section; or more than has come.
    #[error("the Length field is wrong")]
    Length,
    /// Detect Mult is 0.
    #[error("Detect Mult is 0")]
    DetectMult,
    /// The Multipoint bit is set.
    #[error("the Multipoint bit is set")]
    Multipoint,
    /// My Discriminator is 0.
    #[error("My Discriminator is 0")]
    MyDiscriminator,
    /// Your Discriminator is 0, but State says that the sender knows us.
    #[error("Your Discriminator is 0, but State is Init or Up")]
    YourDiscriminator,
    /// No session has the discriminator, or none is with that neighbour.
    #[error("there is no such session")]
    NoSession,
    /// The session is with another address than the packet is from.
    #[error("the packet comes from somebody else than the session is with")]
    WrongPath,
    /// It has come from farther than the session's neighbour may be (RFC 5881 §5, RFC 5082).
    #[error("the TTL is too small")]
    Ttl,
    /// An authentication section where there should be none, none where there should be one, of another type, key id or length.
    #[error("the authentication section is not what the session uses")]
    AuthenticationSection,
    /// The sequence number is outside the window: an old packet.
    #[error("the authentication sequence number is not in the window")]
    Sequence,
    /// The password or digest is wrong.
    #[error("the authentication key or digest is wrong")]
    Key,
    /// We are held down.
    #[error("the session is administratively down")]
    AdminDown,
}
