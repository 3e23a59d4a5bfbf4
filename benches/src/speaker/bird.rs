//! BIRD 2.

use std::fmt::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Speaker;
use crate::network::Network;
use crate::workload::{DEVICE, address_of, asn_of};

pub(super) fn start(network: &Network, peers: u32, more: &str) -> Result<Speaker> {
    let directory = TempDir::new()?;
    let mut config = format!("log stderr {{ fatal, error }};\nrouter id {DEVICE};\nprotocol device {{}}\n{more}");
    for peer in 0..peers {
        let (address, asn) = (address_of(peer), asn_of(peer));
        let _ = writeln!(
            config,
            "protocol bgp p{peer} {{ local {DEVICE} as 65515; neighbor {address} as {asn}; passive on; multihop; \
             ipv4 {{ import all; export all; next hop self; }}; }}"
        );
    }
    let path = directory.path().join("bird.conf");
    std::fs::write(&path, config)?;
    let child = network
        .device_command("bird")
        .args(["-f", "-c"])
        .arg(&path)
        .arg("-s")
        .arg(directory.path().join("bird.ctl"))
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot start BIRD (package bird2)")?;
    Ok(Speaker::of_child(child, directory))
}
