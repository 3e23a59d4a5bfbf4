//! What the tests want from Debian: the other BGP speakers, and the tools that some checks compare against.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

struct Package {
    name: &'static str,
    /// A file that is there when the package is.
    proof: &'static str,
    why: &'static str,
}

const PACKAGES: [Package; 6] = [
    Package {
        name: "frr",
        proof: "/usr/lib/frr/bgpd",
        why: "interop and benchmarks with FRR",
    },
    Package {
        name: "bird2",
        proof: "/usr/sbin/bird",
        why: "interop and benchmarks with BIRD 2",
    },
    Package {
        name: "gobgpd",
        proof: "/usr/bin/gobgpd",
        why: "interop and benchmarks with GoBGP",
    },
    Package {
        name: "openbgpd",
        proof: "/usr/sbin/bgpctl",
        why: "interop and benchmarks with OpenBGPD",
    },
    Package {
        name: "exabgp",
        proof: "/usr/sbin/exabgp",
        why: "interop with ExaBGP",
    },
    Package {
        name: "iproute2",
        proof: "/sbin/ip",
        why: "comparing the agent with ip -batch",
    },
];

/// Installs what is missing when it may, otherwise says what is missing and goes on: tests that need it say that they did not run.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|p| !Path::new(p.proof).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("   missing: {} ({})", package.name, package.why);
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if !Path::new("/usr/bin/apt-get").exists() || !is_root()? {
        eprintln!(
            "   not installed, because this needs root and apt: apt-get install {}",
            names.join(" ")
        );
        return Ok(());
    }
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"][..], &names].concat())
}

fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default();
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}

fn apt(arguments: &[&str]) -> Result<()> {
    // The packages' own services must not start: the tests run each speaker in a namespace of its own.
    let output = Command::new("apt-get")
        .args(["--quiet", "--quiet"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .output()
        .context("cannot start apt-get")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
