//! Two network namespaces joined by a veth pair: the device under test in one, the load in the other.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::workload::{DEVICE, address_of};

/// The namespaces; removed when dropped.
pub(crate) struct Network {
    device: String,
    load: String,
}

impl Network {
    /// Makes the namespaces with addresses for `peers` load peers.
    pub(crate) fn new(peers: u32) -> Result<Network> {
        let id = std::process::id();
        let network = Network {
            device: format!("rwb{id}d"),
            load: format!("rwb{id}l"),
        };
        ip(&["netns", "add", &network.device])?;
        ip(&["netns", "add", &network.load])?;
        ip(&[
            "-n",
            &network.device,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "eth0",
            "netns",
            &network.load,
        ])?;
        for name in [&network.device, &network.load] {
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "eth0", "up"])?;
        }
        ip(&[
            "-n",
            &network.device,
            "address",
            "add",
            &format!("{DEVICE}/16"),
            "dev",
            "eth0",
        ])?;
        for peer in 0..peers {
            ip(&[
                "-n",
                &network.load,
                "address",
                "add",
                &format!("{}/16", address_of(peer)),
                "dev",
                "eth0",
            ])?;
        }
        Ok(network)
    }

    /// Path of the device's namespace.
    pub(crate) fn device_path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.device)
    }

    /// A command that runs in the device's namespace.
    pub(crate) fn device_command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.device, program]);
        command
    }

    /// Moves the calling thread into the load's namespace.
    pub(crate) fn enter_load(&self) -> Result<()> {
        let file = File::open(PathBuf::from("/run/netns").join(&self.load)).context("no load namespace")?;
        setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the load namespace")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.device]);
        let _ = ip(&["netns", "delete", &self.load]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot start ip (package iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
