//! Scenarios that hold for every BGP speaker: each is a function with the speaker as parameter, which starts from a quiet
//! [`World`] and fails with the first claim that does not hold. `tests/matrix.rs` runs each against each.

mod bulk;
mod password;
pub mod scenarios;
mod speaker;
mod station;
mod world;

pub use scenarios::{SCENARIOS, Scenario};
pub use speaker::{SPEAKERS, Speaker};
pub use station::Station;
pub use world::World;
