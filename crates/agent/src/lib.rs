//! Effective routes to kernel routes over netlink.
//!
//! ```text
//!   instance 0 ──gRPC──► client task ──┐ Said                       ┌─► netlink socket  ┐
//!                                      ├───────► NIC thread ────────┤                   ├ in the NIC's namespace
//!   instance 1 ──gRPC──► client task ──┘  merge → plan → carry out  └── monitor socket ◄┘
//!                              ▲                      │
//!                              └──── Confirmation ────┘
//! ```
//!
//! One task per instance follows its stream and keeps the tables that it tells. One thread per NIC, which lives in the NIC's
//! network namespace, merges what the instances say ([`merge`]), compares it with what is installed ([`plan`]) and
//! carries out the difference ([`netlink`]). Both pure parts know nothing of sockets. The agent keeps nothing on disk: it
//! can be killed at any line, reads what is installed when it starts, and leaves the routes where they are when it stops.

pub mod layers;
pub mod merge;
pub mod netlink;
pub mod ours;
pub mod plan;
pub mod table;

mod client;
mod confirm;
mod discover;
mod namespace;
mod neighbours;
mod nic;
mod options;
mod permission;
mod run;
pub mod tables;
mod tls;

pub use options::{AgentOptions, FlushOptions, KernelSettings, NicSpec, OptionError, Resilient, SystemRoutes};
pub use run::{AgentError, flush, run};
pub use tls::AgentTls;
