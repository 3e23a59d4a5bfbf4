//! The wire format: RFC 4271 §4 and its extensions, with the error handling of RFC 7606.
//!
//! Bytes become meaning once: [`Decoder`] takes what the socket gave and hands out [`Message`]s or a [`MessageError`]
//! that knows its NOTIFICATION. What RFC 7606 mends (treat-as-withdraw, attribute-discard) is already mended in the
//! [`Update`] that comes out, and told in [`Update::mended`].

pub mod attributes;
pub mod capability;
pub mod decoder;
pub mod error;
pub mod message;
pub mod pack;
pub mod types;

pub use attributes::{AsPathSegment, Community, Origin, PathAttributes, PathAttributesBuilder};
pub use capability::{Capability, CapabilitySet};
pub use decoder::{DecodeContext, Decoder};
pub use error::{Mended, MessageError};
pub use message::{Announcement, Message, Notification, Open, RefreshKind, RouteRefresh, Update};
pub use pack::{EncodeContext, pack_announcement, pack_end_of_rib, pack_withdrawal};
