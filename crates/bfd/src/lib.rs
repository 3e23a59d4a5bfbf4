//! Bidirectional Forwarding Detection: whether the path to a neighbour carries packets, known within fractions of a second
//! (RFC 5880; RFC 5881 on a link, RFC 5883 over several hops).
//!
//! ```text
//! octets ─► ControlPacket::parse ─► Sessions (whose is it?) ─► Session (RFC 5880 §6.8) ─► StateChange
//! ```
//!
//! [`Sessions`] is what a driver of sockets uses: all sessions of a process behind one face, `handle(now, input)`, `poll_output()`,
//! `poll_timeout()`. Asynchronous mode in the active role; a neighbour's demand mode is answered as the RFC says, ours is never asked for.
//! The echo function is not offered: its packets go through the neighbour's forwarding, which over several hops RFC 5883 §3 forbids.
//!
//! Pure: no socket, clock, thread or random source. Time is an argument, randomness a seed.

mod authentication;
mod discard;
mod discriminators;
#[doc(hidden)]
pub mod fuzzing;
mod packet;
mod session;
mod sessions;

pub use authentication::{Authentication, AuthenticationType, KeyLength};
pub use discard::Discard;
pub use packet::{ControlPacket, Diagnostic, Discriminator, MIN_LENGTH, SectionOctets, State};
pub use session::{Input as SessionInput, Output as SessionOutput, Session, SessionConfig, SessionStatus, StateChange};
pub use sessions::{Arrival, Input, MAX_SESSIONS, Output, Path, Seed, Sessions};

/// UDP port of sessions on a link (RFC 5881 §4).
pub const SINGLE_HOP_PORT: u16 = 3784;
/// UDP port of sessions over several hops (RFC 5883 §5).
pub const MULTIHOP_PORT: u16 = 4784;
/// What packets leave with, and on a link arrive with (RFC 5881 §5).
pub const TTL: u8 = 255;
