//! The speakers to measure: our instance, others from Debian's packages, and the floor. Each is set up as a route server that passes
//! on to everybody what anybody announces, and otherwise as it comes.

mod bird;
mod frr;
mod gobgp;
mod openbgpd;
pub(crate) mod routewright;

use std::fmt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::floor;
use crate::network::Network;
use crate::outcome::{FLOOR, OURS};
use crate::workload::Workload;

/// A speaker to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Floor,
    Routewright,
    Bird,
    Frr,
    Openbgpd,
    Gobgp,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Floor => FLOOR,
            Kind::Routewright => OURS,
            Kind::Bird => "BIRD 2",
            Kind::Frr => "FRR",
            Kind::Openbgpd => "OpenBGPD",
            Kind::Gobgp => "GoBGP",
        }
    }
}

impl fmt::Display for Kind {
    /// As it is written on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A running speaker; stopped when dropped.
pub(crate) struct Speaker {
    children: Vec<Child>,
    /// The processes whose CPU and memory count.
    measured: Vec<u32>,
    _directory: TempDir,
}

impl Speaker {
    pub(crate) fn start(kind: Kind, network: &Network, workload: Workload) -> Result<Speaker> {
        match kind {
            Kind::Floor => floor::start(network, workload),
            Kind::Routewright => Ok(routewright::start(network, workload.configured_peers())?.0),
            Kind::Bird => bird::start(network, workload.configured_peers(), ""),
            Kind::Frr => frr::start(network, workload.configured_peers()),
            Kind::Openbgpd => openbgpd::start(network, workload.configured_peers()),
            Kind::Gobgp => gobgp::start(network, workload.configured_peers()),
        }
    }

    /// BIRD that also writes into the kernel of its namespace.
    pub(crate) fn bird_with_kernel(network: &Network, peers: u32) -> Result<Speaker> {
        bird::start(network, peers, "protocol kernel { ipv4 { export all; }; }\n")
    }

    /// A child that is the speaker. `ip netns exec` becomes the program itself, so the pid is the program's.
    pub(crate) fn of_child(child: Child, directory: TempDir) -> Speaker {
        Speaker {
            measured: vec![child.id()],
            children: vec![child],
            _directory: directory,
        }
    }

    /// Kills what is measured, without a word to it; whoever supervises it starts it again.
    pub(crate) fn kill_measured(&self) -> Result<()> {
        for pid in &self.measured {
            let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
            if !status.success() {
                bail!("process {pid} cannot be killed");
            }
        }
        Ok(())
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_secs(&self) -> Result<f64> {
        let mut sum = 0.0;
        for pid in &self.measured {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the speaker has died")?;
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            let ticks = fields.get(11..13).context("odd stat line")?.iter();
            sum += ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0;
        }
        Ok(sum)
    }

    /// Resident memory in MiB: now, and at its highest.
    pub(crate) fn memory_mib(&self) -> Result<(f64, f64)> {
        let (mut now, mut peak) = (0.0, 0.0);
        for pid in &self.measured {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the speaker has died")?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
                let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok());
                kib.unwrap_or(0.0) / 1024.0
            };
            now += field("VmRSS:");
            peak += field("VmHWM:");
        }
        Ok((now, peak))
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        for child in &mut self.children {
            stop(child);
        }
    }
}

/// SIGTERM, then SIGKILL.
pub(crate) fn stop(child: &mut Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Children of a process, by the words of their command lines.
fn child_of(parent: u32, wanted: impl Fn(&[&str]) -> bool) -> Result<u32> {
    for pid in children_of(parent)? {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if wanted(&line.split('\0').collect::<Vec<_>>()) {
            return Ok(pid);
        }
    }
    bail!("the process to measure is not running")
}

fn children_of(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if line.is_some_and(|line| line.trim() == parent.to_string()) {
            children.extend(pid);
        }
    }
    Ok(children)
}
