//! One peer's session: RFC 4271 §8 with collision handling (§6.8), all timers, and both ways of connecting.
//!
//! ```text
//! session.handle(now, Input::Received { connection, message });
//! while let Some(output) = session.poll_output() { driver.carry_out(output) }
//! let wake_at = session.poll_timeout();
//! ```
//!
//! Routes do not pass through here on their way out: once [`Output::Established`] was seen, the owner writes packed UPDATEs
//! to that connection itself.

mod backoff;
mod collision;
mod config;
mod connection;
mod event;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod machine;
mod restart;
mod timer;

#[cfg(test)]
mod tests;

pub use config::SessionConfig;
pub use event::{ConnectionId, Direction, DownReason, Input, Negotiated, Offence, Output, SessionStatus, State};
pub use history::{LastDown, SessionHistory};
pub use machine::Session;
pub use restart::Restart;
