//! GoBGP.

use std::fmt::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Speaker;
use crate::network::Network;
use crate::workload::{DEVICE, address_of, asn_of};

pub(super) fn start(network: &Network, peers: u32) -> Result<Speaker> {
    let directory = TempDir::new()?;
    let mut config = format!(
        "[global.config]\nas = 65515\nrouter-id = \"{DEVICE}\"\nport = 179\nlocal-address-list = [\"{DEVICE}\"]\n"
    );
    for peer in 0..peers {
        let (address, asn) = (address_of(peer), asn_of(peer));
        let _ = writeln!(
            config,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {asn}\n\
             [neighbors.transport.config]\npassive-mode = true\n\
             [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\""
        );
    }
    let path = directory.path().join("gobgpd.toml");
    std::fs::write(&path, config)?;
    let child = network
        .device_command("gobgpd")
        .args(["--log-level", "error", "--api-hosts", "127.0.0.1:50051", "-f"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot start gobgpd (package gobgpd)")?;
    Ok(Speaker::of_child(child, directory))
}
