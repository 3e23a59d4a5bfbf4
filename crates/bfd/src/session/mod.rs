//! One session: whether one neighbour can be reached and can reach us (RFC 5880 §6).
//!
//! ```text
//! session.handle(now, Input::Received(packet));
//! while let Some(output) = session.poll_output() { driver.carry_out(output) }
//! let wake_at = session.poll_timeout();
//! ```

mod event;
mod interval;
mod machine;
mod status;

#[cfg(test)]
mod tests;

pub use event::{Input, Output, SessionConfig, StateChange};
pub use machine::Session;
pub use status::SessionStatus;
