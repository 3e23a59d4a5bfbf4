//! Whole-system measurements, with other speakers beside us in the same run. Started by `cargo xtask bench`; needs root, iproute2 and the
//! Debian packages of the speakers.

mod api;
mod converge;
mod floor;
mod kernel;
mod lab;
mod load;
mod network;
mod peer;
mod rate;
mod speaker;
mod table;
mod watch;
mod workload;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use speaker::Kind;
use workload::{Shape, Workload};

#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Nothing: a, b, kernel, rate and lab, one after the other.
    #[command(subcommand)]
    scenario: Option<Scenario>,
}

#[derive(Subcommand)]
enum Scenario {
    /// Workload A: peers that announce the same prefixes; how long until everybody holds every best path.
    A(Convergence),
    /// Workload B: many peers, each with prefixes of its own.
    B(Convergence),
    /// Workload C: as A, of Internet size.
    C(Convergence),
    /// An UPDATE on the wire until the route is in a VM's kernel.
    Kernel {
        /// Routes installed beforehand, all at once.
        #[arg(long, default_value_t = 10_000)]
        routes: u32,
        /// Single announcements and withdrawals.
        #[arg(long, default_value_t = 300)]
        probes: u32,
    },
    /// Routes into one kernel, against `ip -batch`.
    Rate {
        /// How many; can be given several times.
        #[arg(long, default_values_t = [10_000, 200_000])]
        routes: Vec<u32>,
    },
    /// `lab up`, reference scenario.
    Lab,
    /// The floor's process.
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        shape: ShapeName,
        #[arg(long)]
        peers: u32,
        #[arg(long)]
        prefixes: u32,
    },
}

#[derive(Args, Default)]
struct Convergence {
    /// Peers that announce.
    #[arg(long)]
    peers: Option<u32>,
    /// Prefixes of each.
    #[arg(long)]
    prefixes: Option<u32>,
    /// Only these speakers; all by default.
    #[arg(long, value_delimiter = ',')]
    speakers: Vec<Kind>,
    /// Seconds after which a step is given up.
    #[arg(long, default_value_t = PATIENCE_SECS)]
    patience: u64,
}

const PATIENCE_SECS: u64 = 60;

#[derive(Clone, Copy, ValueEnum)]
enum ShapeName {
    Overlap,
    FanOut,
}

impl Convergence {
    fn run(self, title: &str, shape: Shape, peers: u32, prefixes: u32) -> Result<()> {
        let workload = Workload {
            shape,
            peers: self.peers.unwrap_or(peers).max(2),
            prefixes: self.prefixes.unwrap_or(prefixes).max(1),
        };
        let kinds = match &self.speakers[..] {
            [] => Kind::value_variants(),
            some => some,
        };
        converge::run(title, workload, kinds, Duration::from_secs(self.patience.max(1)))
    }
}

impl Scenario {
    fn run(self) -> Result<()> {
        match self {
            Scenario::A(how) => how.run("A, overlapping tables", Shape::Overlap, 8, 200_000),
            Scenario::B(how) => how.run("B, fan-out", Shape::FanOut, 100, 1_000),
            Scenario::C(how) => how.run("C, Internet size", Shape::Overlap, 10, 1_000_000),
            Scenario::Kernel { routes, probes } => kernel::run(routes.max(1), probes),
            Scenario::Rate { routes } => rate::run(&routes),
            Scenario::Lab => lab::run(),
            Scenario::Floor { shape, peers, prefixes } => floor::run(Workload {
                shape: match shape {
                    ShapeName::Overlap => Shape::Overlap,
                    ShapeName::FanOut => Shape::FanOut,
                },
                peers,
                prefixes,
            }),
        }
    }
}

fn main() -> Result<()> {
    let convergence = || Convergence {
        patience: PATIENCE_SECS,
        ..Convergence::default()
    };
    let scenarios = match Arguments::parse().scenario {
        Some(scenario) => vec![scenario],
        None => vec![
            Scenario::A(convergence()),
            Scenario::B(convergence()),
            Scenario::Kernel {
                routes: 10_000,
                probes: 300,
            },
            Scenario::Rate {
                routes: vec![10_000, 200_000],
            },
            Scenario::Lab,
        ],
    };
    for scenario in scenarios {
        scenario.run()?;
        println!();
    }
    Ok(())
}
