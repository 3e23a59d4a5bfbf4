//! Azure's own clients, unmodified, against a fresh `routewright serve` with real NVAs.
//!
//! ```text
//!   az, Python SDK, JavaScript SDK ──https──► serve ──► instances ──BGP──► nva1 (FRR), nva2 (BIRD), in a lab's fabric
//! ```
//! Beside them schemathesis, which asks our own API what its OpenAPI document says one may ask.
//!
//! Each flow is a script in the client's own language under `flows/`: what a user would type, and what must come of it.

mod cloud;
mod flows;
mod tools;

pub use cloud::{Cloud, obstacle};
pub use flows::{FLOWS, Flow};
pub use tools::Tools;
