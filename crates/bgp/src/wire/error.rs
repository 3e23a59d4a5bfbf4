//! Errors of the wire: each knows the NOTIFICATION it earns; what RFC 7606 mends is told as [`Mended`].

use super::message::Notification;

/// A message that cannot be mended: the session ends with this NOTIFICATION (RFC 4271 §6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct MessageError {
    /// What is wrong, for people, with the offset where it is known.
    pub what: String,
    /// What to tell the peer.
    pub notification: Notification,
}

impl MessageError {
    pub(super) fn new(notification: Notification, what: impl Into<String>) -> MessageError {
        MessageError {
            what: what.into(),
            notification,
        }
    }
}

/// An attribute error that did not cost the session (RFC 7606 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The attribute's type code; 0 when the attributes as a whole do not add up.
    pub attribute: u8,
    /// Whether the routes were withdrawn (true) or the attribute alone dropped (false).
    pub treated_as_withdraw: bool,
    /// What was wrong, for people.
    pub what: String,
}
