//! `lab up` with the reference scenario: from the start of the binary until it has shown the tables and probed the paths.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::speaker::routewright::executable;

const ROUNDS: usize = 3;

/// What is wanted.
const GOAL: Duration = Duration::from_secs(10);

/// Measures and prints.
pub(crate) fn run() -> Result<()> {
    println!("lab: `routewright lab up`, reference scenario, until it returns; {ROUNDS} times");
    let name = format!("bench{}", std::process::id());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let up = lab(&name, "up");
        times.push(started.elapsed());
        lab(&name, "down").context("lab down")?;
        up.context("lab up")?;
    }
    for took in &times {
        println!("ready after {:.2} s (goal {} s)", took.as_secs_f64(), GOAL.as_secs());
    }
    Ok(())
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
