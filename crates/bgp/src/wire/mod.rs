//! The wire format: RFC 4271 §4 and its extensions, with the error handling of RFC 7606.
//!
//! Bytes become meaning once: [`Decoder`] takes what the socket gave and hands out [`Message`]s or a [`MessageError`]
//! that knows its NOTIFICATION. What RFC 7606 mends (treat-as-withdraw, attribute-discard) is already mended in the
//! [`Update`] that comes out, and told in [`Update::mended`].
//!
//! | to know | read |
//! |---|---|
//! | how bytes become messages | [`decoder`] (framing), `open`, `update` (RFC 7606 as a whole), `attribute_check` (attribute by attribute) |
//! | how routes become bytes | [`pack`], `old_speaker` (RFC 6793) |
//! | what a route's attributes are | [`attributes`], [`builder`] |
//! | what we tell a peer that errs | [`notification`] |

mod aggregate;
mod as_path;
mod attribute_check;
mod attribute_type;
pub mod attributes;
pub mod builder;
mod cache;
pub mod capability;
pub mod decoder;
mod display;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod graceful;
pub mod message;
mod nlri;
pub mod notification;
mod old_speaker;
mod open;
pub mod pack;
pub mod types;
mod update;

pub use attributes::{AsPathSegment, Community, Origin, PathAttributes};
pub use builder::PathAttributesBuilder;
pub use capability::{Capability, CapabilitySet};
pub use decoder::{DecodeContext, Decoder};
pub use error::{Mended, MessageError};
pub use graceful::{
    GracefulRestart, LongLived, LongLivedGracefulRestart, MAX_RESTART_TIME_SECS, MAX_STALE_TIME_SECS, RestartOffer,
};
pub use message::{Announcement, Message, Notification, Open, RefreshKind, RouteRefresh, Update};
pub use notification::CeaseSubcode;
pub use pack::{EncodeContext, pack_announcement, pack_end_of_rib, pack_withdrawal};
