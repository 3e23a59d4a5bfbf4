//! Azure's resource model: ids, shapes, placement rules and errors, as a pure function from the resources there are and a
//! request to what changes and what is answered. (az §4, shapes in Azure's published schemas.)
//!
//! ```text
//! Request + Resources ──► handle() ──► Outcome { answer, changes } or ArmError
//! Resources + Settings ─► intent()  ──► routeserver::Intent
//! ```
//!
//! The daemon stores `changes` in one transaction before it sends the answer; nothing here does I/O. GUIDs and the time come in.

pub mod error;
pub mod handle;
pub mod id;
pub mod intent;
pub mod resource;
pub mod settings;

pub use error::ArmError;
pub use handle::{Answer, Ask, Change, Method, Mint, Outcome, Request, handle};
pub use id::ResourceId;
pub use intent::intent;
pub use resource::{Resource, Resources};
pub use settings::Settings;
