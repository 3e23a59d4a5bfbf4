//! FRR's bgpd, alone: without zebra nothing goes to the kernel.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::Speaker;
use crate::network::Network;
use crate::workload::{DEVICE, address_of, asn_of};

pub(super) fn start(network: &Network, peers: u32) -> Result<Speaker> {
    let directory = TempDir::new()?;
    let mut config = format!("router bgp 65515\n bgp router-id {DEVICE}\n no bgp ebgp-requires-policy\n");
    // Without zebra no next hop is known to be reachable.
    config.push_str(" no bgp network import-check\n bgp disable-ebgp-connected-route-check\n");
    for peer in 0..peers {
        let (address, asn) = (address_of(peer), asn_of(peer));
        let _ = writeln!(
            config,
            " neighbor {address} remote-as {asn}\n neighbor {address} passive"
        );
    }
    config.push_str(" address-family ipv4 unicast\n");
    for peer in 0..peers {
        let address = address_of(peer);
        let _ = writeln!(
            config,
            "  neighbor {address} activate\n  neighbor {address} next-hop-self"
        );
    }
    let path = directory.path().join("bgpd.conf");
    std::fs::write(&path, config)?;
    // bgpd drops its privileges before it reads.
    let owner = Command::new("chown")
        .args(["-R", "frr:frr"])
        .arg(directory.path())
        .status();
    owner.context("cannot run chown")?;
    let child = network
        .device_command("/usr/lib/frr/bgpd")
        .args([
            "--no_kernel",
            "--no_zebra",
            "--vty_port",
            "0",
            "-l",
            &DEVICE.to_string(),
            "-f",
        ])
        .arg(&path)
        .arg("-i")
        .arg(directory.path().join("bgpd.pid"))
        .arg("--vty_socket")
        .arg(directory.path())
        .arg("-z")
        .arg(directory.path().join("zserv.api"))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .context("cannot start bgpd (package frr)")?;
    Ok(Speaker::of_child(child, directory))
}
