//! Devices under test: our daemon, BIRD 2, and the floor.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::network::Network;
use crate::workload::{DEVICE, address_of, asn_of};

/// A speaker to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Routewright,
    Bird,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Routewright => "routewright",
            Kind::Bird => "BIRD 2",
        }
    }
}

/// A running speaker; stopped when dropped.
pub(crate) struct Device {
    child: Child,
    /// The process whose CPU and memory count.
    pid: u32,
    _directory: TempDir,
}

impl Device {
    pub(crate) fn start(kind: Kind, network: &Network, peers: u32) -> Result<Device> {
        match kind {
            Kind::Routewright => start_routewright(network, peers),
            Kind::Bird => start_bird(network, peers),
        }
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_secs(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the device has died")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks: f64 = fields
            .get(11..13)
            .context("odd stat line")?
            .iter()
            .filter_map(|f| f.parse::<f64>().ok())
            .sum();
        Ok(ticks / 100.0)
    }

    /// Resident memory in MiB: now, and at its highest.
    pub(crate) fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the device has died")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.split_whitespace()
                .next()
                .and_then(|kb| kb.parse::<f64>().ok())
                .unwrap_or(0.0)
                / 1024.0
        };
        Ok((field("VmRSS:"), field("VmHWM:")))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_bird(network: &Network, peers: u32) -> Result<Device> {
    let directory = TempDir::new()?;
    let mut config = format!("log stderr {{ fatal, error }};\nrouter id {DEVICE};\nprotocol device {{}}\n");
    for peer in 0..peers {
        let (address, asn) = (address_of(peer), asn_of(peer));
        let _ = writeln!(
            config,
            "protocol bgp p{peer} {{ local {DEVICE} as 65515; neighbor {address} as {asn}; passive on; \
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
    // `ip netns exec` becomes the program itself.
    let pid = child.id();
    Ok(Device {
        child,
        pid,
        _directory: directory,
    })
}

/// Our daemon as a user would set it up: through the API, limits off, branch-to-branch on.
fn start_routewright(network: &Network, peers: u32) -> Result<Device> {
    let directory = TempDir::new()?;
    let config = format!(
        "[limits]\npeers = 0\nroutes_per_peer = 0\ntotal_routes = 0\n\n[bind]\n\"10.9.255.0/27\" = \"{}\"\n",
        network.device_path().display()
    );
    let config_path = directory.path().join("routewright.toml");
    std::fs::write(&config_path, config)?;
    let data = directory.path().join("data");
    let mut child = Command::new(binary()?)
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config_path)
        .arg("--data-dir")
        .arg(&data)
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start routewright")?;
    let stdout = child.stdout.take().context("no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let url = loop {
        let line = lines.next().context("routewright ended before it named its URL")??;
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            break url.trim_end_matches('/').to_owned();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    set_up(&url, peers)?;
    let pid = instance_pid(child.id())?;
    Ok(Device {
        child,
        pid,
        _directory: directory,
    })
}

fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new(".")).join("routewright");
    if !path.exists() {
        bail!("{} is not there; run this through `cargo xtask bench`", path.display());
    }
    Ok(path)
}

/// Instance 0 is the child that was told `--index 0`.
fn instance_pid(manager: u32) -> Result<u32> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read_to_string(entry.path().join("cmdline")) else {
            continue;
        };
        let words: Vec<&str> = line.split('\0').collect();
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let ours = status
            .lines()
            .any(|l| l.strip_prefix("PPid:").is_some_and(|p| p.trim() == manager.to_string()));
        if ours && words.contains(&"instance") && words.windows(2).any(|w| w == ["--index", "0"]) {
            return Ok(pid);
        }
    }
    bail!("instance 0 of routewright is not running")
}

fn set_up(url: &str, peers: u32) -> Result<()> {
    const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/bench";
    let net = format!("{GROUP}/providers/Microsoft.Network");
    let location = "westeurope";
    let put = |path: &str, body: Value| put(url, path, &body);
    put(GROUP, json!({ "location": location }))?;
    put(
        &format!("{net}/virtualNetworks/hub"),
        json!({ "location": location, "properties": {
            "addressSpace": { "addressPrefixes": ["10.9.0.0/16"] },
            "subnets": [
                { "name": "nva", "properties": { "addressPrefix": "10.9.0.0/24" } },
                { "name": "RouteServerSubnet", "properties": { "addressPrefix": "10.9.255.0/27" } } ] } }),
    )?;
    put(
        &format!("{net}/publicIPAddresses/pip"),
        json!({ "location": location, "sku": { "name": "Standard" },
                "properties": { "publicIPAllocationMethod": "Static" } }),
    )?;
    put(
        &format!("{net}/virtualHubs/rs"),
        json!({ "location": location, "properties": { "sku": "Standard", "allowBranchToBranchTraffic": true } }),
    )?;
    put(
        &format!("{net}/virtualHubs/rs/ipConfigurations/Default"),
        json!({ "properties": {
            "subnet": { "id": format!("{net}/virtualNetworks/hub/subnets/RouteServerSubnet") },
            "publicIPAddress": { "id": format!("{net}/publicIPAddresses/pip") } } }),
    )?;
    for peer in 0..peers {
        put(
            &format!("{net}/virtualHubs/rs/bgpConnections/p{peer}"),
            json!({ "properties": { "peerIp": address_of(peer), "peerAsn": asn_of(peer) } }),
        )?;
    }
    Ok(())
}

/// A PUT with nothing but the standard library: a bench needs no HTTP client.
fn put(url: &str, path: &str, body: &Value) -> Result<()> {
    use std::io::{Read, Write};
    let host = url.trim_start_matches("http://");
    let body = body.to_string();
    let mut stream = std::net::TcpStream::connect(host).with_context(|| format!("nobody answers at {url}"))?;
    write!(
        stream,
        "PUT {path}?api-version=2024-05-01 HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("PUT {path}: {answer}");
    }
    Ok(())
}
