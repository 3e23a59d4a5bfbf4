//! Topologies in network namespaces: virtual networks, VMs, NVAs, sites.
//!
//! [`Lab::up`] makes one and returns a handle; a later process finds it again with [`Lab::open`]. The command
//! `routewright lab` is a thin layer on this.

mod error;
mod fabric;
mod handle;
mod layout;
mod namespace;
mod process;
mod state;
pub mod topology;

pub use error::LabError;
pub use handle::{Lab, UpOptions};
pub use layout::{FABRIC, Layout, NodeKind};
pub use namespace::{Namespace, become_root, is_privileged, join};
pub use process::{ProcessId, ProcessSpec};
pub use state::{DEFAULT_NAME, LabDirectory, LabState, ManagedProcess, Phase, labs_directory};
pub use topology::Topology;

/// What the process that holds a node's namespace does: nothing, until it is killed.
pub fn hold_namespace() -> ! {
    // Not interrupted by who closes the terminal or types Ctrl-C.
    loop {
        nix::unistd::pause();
    }
}
