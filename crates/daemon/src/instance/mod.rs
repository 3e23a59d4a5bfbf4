//! The instance process: sockets, clock, and the driver of [`routeserver::Instance`].

use std::net::SocketAddr;
use std::path::PathBuf;

/// How to run an instance process.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// 0 or 1: which of each route server's two addresses is ours.
    pub index: usize,
    /// Where `instance-N.sock` and its neighbours live.
    pub run_dir: PathBuf,
    /// Where agents connect.
    pub agent_listen: SocketAddr,
    /// Agents no longer count an instance that is silent for so many seconds.
    pub silence_secs: u64,
    /// End when the parent process ends.
    pub die_with_parent: bool,
}

/// Why an instance could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Not written yet.
    #[error("the instance is not built in yet")]
    NotBuiltIn,
}

/// Runs until asked to shut down.
pub async fn run(_options: InstanceOptions) -> Result<(), InstanceError> {
    Err(InstanceError::NotBuiltIn)
}
