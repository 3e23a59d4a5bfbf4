//! Two BGP speakers talking: bytes to messages (RFC 4271 §4, §6) and the session state machine (RFC 4271 §8).
//!
//! Pure: no socket, no clock, no thread, no random source. Time comes in as an argument, randomness as a seed,
//! bytes as slices; what is to be done goes out as values.

mod password;
pub mod session;
pub mod wire;

pub use ipnet::IpNet;
pub use password::Password;
pub use wire::types::{Asn, BgpIdentifier, Family, FamilySet};
