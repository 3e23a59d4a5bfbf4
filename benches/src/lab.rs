//! `lab up` with the reference scenario: from the start of the binary until it has shown the tables and probed the paths.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::outcome::{Figure, OURS, Outcome, Scenario};
use crate::speaker::routewright::executable;

const ROUNDS: usize = 3;

/// Measures; the slowest of the rounds counts.
pub(crate) fn run() -> Result<Outcome> {
    eprintln!("Lab: `routewright lab up`, reference scenario, until it returns; {ROUNDS} times");
    let name = format!("bench{}", std::process::id());
    let mut slowest: f64 = 0.0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let up = lab(&name, "up");
        slowest = slowest.max(started.elapsed().as_secs_f64());
        lab(&name, "down").context("lab down")?;
        up.context("lab up")?;
    }
    let mut outcome = Outcome::new(Scenario::Lab, OURS, []);
    outcome.set(Figure::ReadySecs, slowest);
    Ok(outcome)
}

fn lab(name: &str, verb: &str) -> Result<()> {
    let status = Command::new(executable()?)
        .args(["lab", "--name", name, verb])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start routewright")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
