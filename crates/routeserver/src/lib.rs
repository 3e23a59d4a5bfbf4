//! One instance process as a deterministic state machine: its speakers (route servers and gateways) with their peers and RIBs, the
//! virtual networks, and the effective routes of every NIC. Pure.
//!
//! ```text
//! Input::Intent ─┐                                   ┌─► Output::Listen / Dial / Write / Close      (to sockets)
//! Input::Connection ─► Instance::handle(now, input) ─┼─► Output::ToAgents                           (to agents)
//! Input::Agent ──┘                                   └─► Output::Event                              (to logs and metrics)
//! ```

mod arrival;
pub mod delivery;
pub mod instance;
pub mod intent;
mod keyed;
mod peer;
mod policy;
mod prefix_set;
mod refresh;
pub mod report;
pub mod route_map;
mod speaker;
#[cfg(test)]
mod testing;
mod total_limit;
mod two_instances;
mod vnet;

pub use instance::{Input, Instance, Output};
pub use intent::Intent;
pub use two_instances::best_next_hops;
