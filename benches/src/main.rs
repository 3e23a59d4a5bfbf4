//! Whole-system measurements, with BIRD beside us in the same run. Started by `cargo xtask bench`; needs root, iproute2 and bird2.

mod device;
mod network;
mod overlap;
mod peer;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

#[derive(Subcommand)]
enum Scenario {
    /// Workload A: peers that announce the same prefixes; how long until everybody holds every best path.
    A {
        #[arg(long, default_value_t = 8)]
        peers: u32,
        #[arg(long, default_value_t = 200_000)]
        prefixes: u32,
        /// Only this speaker.
        #[arg(long)]
        only: Option<String>,
    },
}

fn main() -> Result<()> {
    let scenario = Arguments::parse().scenario.unwrap_or(Scenario::A {
        peers: 8,
        prefixes: 200_000,
        only: None,
    });
    match scenario {
        Scenario::A { peers, prefixes, only } => overlap::run(workload::Workload { peers, prefixes }, only.as_deref()),
    }
}
