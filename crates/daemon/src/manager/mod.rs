//! The manager: the API over HTTP, the store, and the supervision of the two instance processes.
//!
//! ```text
//!  clients ─HTTP─► http ─┬► arm_api ─► core ─► store
//!                        ├► own_api ─┐   │ intent
//!                        └► metrics ─┤   ▼
//!                                    ├► keeper 0 ─► instance 0      (launch starts it, control speaks to it)
//!                                    └► keeper 1 ─► instance 1
//! ```

mod access;
mod activity;
mod arm_api;
mod ask;
mod asked;
mod connections;
pub mod control;
mod core;
mod data_dir;
pub(crate) mod directory;
mod dry_run;
mod health;
mod http;
mod keeper;
mod keepers;
mod launch;
mod metrics;
mod one_legged;
mod openapi;
mod opened;
mod operations;
mod own_api;
mod path;
mod serve;
mod sign_in;
#[cfg(test)]
mod tests;
mod throttle;
pub mod tls;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use control::Control;
use core::Core;
use keeper::Status;
use metrics::Metrics;
use one_legged::OneLegged;
use operations::Results;
use sign_in::SignIn;
use throttle::Throttle;

pub use serve::{ServeError, ServeOptions, check, run};

pub use arm::read_loose_json;
pub use arm::settings::{DEV_SUBSCRIPTION, DEV_TENANT};

/// What requests are answered with.
#[derive(Debug)]
struct Manager {
    core: Arc<Core>,
    instances: Vec<InstanceHandle>,
    results: Results,
    metrics: Metrics,
    sign_in: SignIn,
    throttle: Throttle,
    refusals: activity::Refusals,
    one_legged: Mutex<OneLegged>,
    /// What clients of https need to know, if they are served.
    published: Option<serve::Published>,
    /// Other managers have the same store: an instance that is not here is elsewhere.
    is_shared: bool,
    dev: bool,
    started: Instant,
}

/// An instance, seen from the API.
#[derive(Debug)]
struct InstanceHandle {
    index: usize,
    control: Arc<dyn Control>,
    status: watch::Receiver<Status>,
}

impl Manager {
    fn one_legged(&self) -> MutexGuard<'_, OneLegged> {
        // What a panic left behind is put right by the next look.
        self.one_legged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Instances of another machine that has the same store: only the manager there can ask them.
    fn elsewhere(&self) -> Vec<usize> {
        let is_here = |index: &usize| self.instances.iter().any(|instance| instance.index == *index);
        (0..2).filter(|index| self.is_shared && !is_here(index)).collect()
    }

    fn statuses(&self) -> Vec<watch::Receiver<Status>> {
        let instances = self.instances.iter();
        instances.map(|instance| instance.status.clone()).collect()
    }
}
