//! The manager: the API over HTTP, the store, and the supervision of the two instance processes.

use std::net::SocketAddr;
use std::path::PathBuf;

/// How to run the manager.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Where the store and the run directory live.
    pub data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Run only this instance process here.
    pub instance: Option<usize>,
    /// Temporary store unless a data directory is given, development subscription, no sign-in on loopback.
    pub dev: bool,
    /// The executable that instances are started from; `None`: our own.
    pub executable: Option<PathBuf>,
}

/// Why the manager could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not written yet.
    #[error("the manager is not built in yet")]
    NotBuiltIn,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(_options: ServeOptions) -> Result<(), ServeError> {
    Err(ServeError::NotBuiltIn)
}
