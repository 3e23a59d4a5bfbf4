//! Azure's resource model: ids, shapes, placement rules and errors, as a pure function from the resources there are and a
//! request to what changes and what is answered. (az §4, shapes in Azure's published schemas.)
//!
//! ```text
//! Request + Resources ──► handle() ──► Outcome { answer, changes } or ArmError
//! Resources + Settings ─► intent()  ──► routeserver::Intent
//! reports of instances ─► reports::…──► the bodies of learnedRoutes and its like
//! ```
//!
//! The daemon stores `changes` in one transaction before it sends the answer; nothing here does I/O. GUIDs and the time come in.
//!
//! The resources carry an `index` of who refers to whom: a request costs what it touches, not what is stored.
//!
//! Inside, a [`request`] goes `route` (what the path means) → `handle` (rules of every type) or `list` → `types` (rules of one type, one
//! file each) on a `World` (the resources with the changes of this request laid over them).

pub mod activity;
pub mod authorization;
pub mod diagnostics;
pub mod error;
pub mod handle;
pub mod id;
pub mod intent;
pub mod metrics;
pub mod reports;
pub mod request;
pub mod resource;
pub mod settings;

mod address;
mod advice;
mod deployments;
mod group;
mod index;
mod limits;
mod list;
mod names;
mod read;
mod route;
mod runs;
mod template;
mod types;
mod world;

pub use advice::advice;
pub use authorization::Access;
pub use error::ArmError;
pub use handle::handle;
pub use id::ResourceId;
pub use intent::intent;
pub use reports::fill_connection_states;
pub use request::{Answer, Ask, Change, May, Method, Mint, OperationStyle, Outcome, Request};
pub use resource::{Resource, Resources};
pub use settings::{Limits, Settings, check_settings};
pub use template::read_loose_json;
