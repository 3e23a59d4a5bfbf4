//! Network namespaces joined by a bridge: the speaker under test in one, the load in another, a VM in the third if there is one.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::api::NIC_ADDRESS;
use crate::workload::{DEVICE, SECOND, address_of};

/// The namespaces; removed when dropped.
pub(crate) struct Network {
    device: String,
    load: String,
    vm: Option<String>,
}

impl Network {
    /// The namespaces of speaker and load, with addresses for `peers` load peers, joined by a veth pair.
    pub(crate) fn new(peers: u32) -> Result<Network> {
        let id = std::process::id();
        let network = Network {
            device: format!("rwb{id}d"),
            load: format!("rwb{id}l"),
            vm: None,
        };
        let (device, load) = (&network.device, &network.load);
        let mut batch = format!(
            "netns add {device}\nnetns add {load}\nlink add eth0 netns {device} type veth peer name eth0 netns {load}\n"
        );
        batch_ip(&batch)?;
        batch = format!(
            "link set lo up\nlink set eth0 up\naddress add {DEVICE}/16 dev eth0\naddress add {SECOND}/16 dev eth0\n"
        );
        batch_ip_in(device, &batch)?;
        batch = "link set lo up\nlink set eth0 up\n".to_owned();
        for peer in 0..peers {
            let _ = writeln!(batch, "address add {}/16 dev eth0", address_of(peer));
        }
        batch_ip_in(load, &batch)?;
        Ok(network)
    }

    /// The same with a VM, on a link to the load's namespace. Its neighbours are never asked for, so the link need not lead on.
    pub(crate) fn with_vm(peers: u32) -> Result<Network> {
        let mut network = Network::new(peers)?;
        let vm = format!("rwb{}v", std::process::id());
        network.vm = Some(vm.clone());
        batch_ip(&format!(
            "netns add {vm}\nlink add eth0 netns {vm} type veth peer name vm netns {}\n",
            network.load
        ))?;
        batch_ip_in(&network.load, "link set vm up\n")?;
        batch_ip_in(
            &vm,
            &format!("link set lo up\nlink set eth0 up\naddress add {NIC_ADDRESS}/17 dev eth0 noprefixroute\n"),
        )?;
        Ok(network)
    }

    /// Path of the speaker's namespace.
    pub(crate) fn device_path(&self) -> PathBuf {
        path(&self.device)
    }

    /// Path of the VM's namespace.
    pub(crate) fn vm_path(&self) -> Option<PathBuf> {
        self.vm.as_deref().map(path)
    }

    /// A command that runs in the speaker's namespace.
    pub(crate) fn device_command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.device, program]);
        command
    }

    /// Moves the calling thread into the load's namespace.
    pub(crate) fn enter_load(&self) -> Result<()> {
        enter(&path(&self.load))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [Some(&self.device), Some(&self.load), self.vm.as_ref()]
            .into_iter()
            .flatten()
        {
            let _ = Command::new("ip")
                .args(["netns", "delete", name])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("no namespace {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", namespace.display()))
}

/// Runs `ip -batch` in the calling thread's namespace.
pub(crate) fn batch_ip(batch: &str) -> Result<()> {
    run_batch(Command::new("ip"), batch)
}

/// Runs `ip -batch` in a named namespace.
pub(crate) fn batch_ip_in(namespace: &str, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace]);
    run_batch(command, batch)
}

fn run_batch(mut command: Command, batch: &str) -> Result<()> {
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start ip (package iproute2)")?;
    child.stdin.take().context("no input")?.write_all(batch.as_bytes())?;
    if !child.wait()?.success() {
        bail!("ip -batch failed");
    }
    Ok(())
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}
