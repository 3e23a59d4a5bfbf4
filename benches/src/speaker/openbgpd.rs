//! OpenBGPD. Its processes all count.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Speaker, children_of};
use crate::network::Network;
use crate::workload::{DEVICE, address_of, asn_of};

/// Parent, session engine, route decision engine, RTR engine.
const PROCESSES: usize = 4;

pub(super) fn start(network: &Network, peers: u32) -> Result<Speaker> {
    let directory = TempDir::new()?;
    let mut config = format!(
        "AS 65515\nrouter-id {DEVICE}\nlisten on {DEVICE}\nfib-update no\nsocket \"{}\"\n",
        directory.path().join("bgpd.sock").display()
    );
    for peer in 0..peers {
        let (address, asn) = (address_of(peer), asn_of(peer));
        let _ = writeln!(
            config,
            "neighbor {address} {{\n remote-as {asn}\n passive\n multihop 8\n announce IPv4 unicast\n set nexthop self\n}}"
        );
    }
    // It locks itself into its user's home, which Debian makes only when its service starts.
    if let Some(user) = nix::unistd::User::from_name("_openbgpd")? {
        std::fs::create_dir_all(user.dir)?;
    }
    config.push_str("allow from any\nallow to any\n");
    let path = directory.path().join("bgpd.conf");
    std::fs::write(&path, config)?;
    // It refuses a file that others may read.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let child = network
        .device_command("/usr/sbin/bgpd")
        .args(["-d", "-f"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start bgpd (package openbgpd)")?;
    let mut speaker = Speaker::of_child(child, directory);
    let parent = speaker.measured[0];
    let deadline = Instant::now() + Duration::from_secs(10);
    while speaker.measured.len() < PROCESSES {
        if Instant::now() > deadline {
            bail!("OpenBGPD does not start its processes");
        }
        std::thread::sleep(Duration::from_millis(50));
        speaker.measured = std::iter::once(parent).chain(children_of(parent)?).collect();
    }
    Ok(speaker)
}
