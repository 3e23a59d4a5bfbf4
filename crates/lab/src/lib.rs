//! Topologies in network namespaces: virtual networks, VMs, NVAs, sites.
//!
//! [`Lab::up`] makes one and returns a handle; a later process finds it again with [`Lab::open`]. The command
//! `routewright lab` is a thin layer on this.

pub mod balancer;
mod cloud;
mod control;
mod converge;
mod draw;
mod error;
mod fabric;
mod handle;
pub mod harness;
mod kernel;
mod layout;
mod namespace;
pub mod nva;
mod probe;
mod process;
pub mod relay;
mod software;
mod state;
mod status;
pub mod topology;
mod up;
pub mod watch;

pub use cloud::{Api, RESOURCE_GROUP, Resource, instance_id, network_id, nic_id, resources};
pub use draw::Pen;
pub use error::LabError;
pub use handle::{Lab, Removed, UpOptions};
pub use kernel::{Hop, KernelRoute};
pub use layout::{FABRIC, Layout, NodeKind};
pub use namespace::{Namespace, become_root, is_privileged, join};
pub use probe::Path as ProbedPath;
pub use process::{ProcessId, ProcessSpec};
pub use state::{DEFAULT_NAME, INSTANCE, LabDirectory, LabState, MANAGER, ManagedProcess, Phase, labs_directory};
pub use status::{NodeStatus, Probe, Status};
pub use topology::Topology;
pub use up::{CONVERGENCE, Progress};

/// What the process that holds a node's namespace does: nothing, until it is killed.
pub fn hold_namespace() -> ! {
    // Not interrupted by who closes the terminal or types Ctrl-C.
    loop {
        nix::unistd::pause();
    }
}
