//! Our daemon as a user would set it up: through the API, limits off, branch-to-branch on, both instance processes running.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Speaker, child_of};
use crate::api::Api;
use crate::network::Network;

/// Starts manager and instances; what is measured is instance 0, whose peers they are.
pub(crate) fn start(network: &Network, peers: u32) -> Result<(Speaker, Api)> {
    let directory = TempDir::new()?;
    let config = format!(
        "[limits]\npeers = 0\nroutes_per_peer = 0\ntotal_routes = 0\nvnets = 0\nvms = 0\n\n[bind]\n\"10.9.255.0/27\" = \"{}\"\n",
        network.device_path().display()
    );
    let config_path = directory.path().join("routewright.toml");
    std::fs::write(&config_path, config)?;
    let mut child = Command::new(executable()?)
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config_path)
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .env("RUST_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start routewright")?;
    let stdout = child.stdout.take().context("no output")?;
    let mut speaker = Speaker::of_child(child, directory);
    let mut lines = BufReader::new(stdout).lines();
    let url = loop {
        let line = lines.next().context("routewright ended before it named its URL")??;
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            break url.to_owned();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    let api = Api::new(&url);
    api.set_up(peers)?;
    let instance_0 = |words: &[&str]| words.contains(&"instance") && words.windows(2).any(|w| w == ["--index", "0"]);
    speaker.measured = vec![child_of(speaker.measured[0], instance_0)?];
    Ok((speaker, api))
}

/// The executable that was built with this one.
pub(crate) fn executable() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new(".")).join("routewright");
    if !path.exists() {
        bail!("{} is not there; run this through `cargo xtask bench`", path.display());
    }
    Ok(path)
}
