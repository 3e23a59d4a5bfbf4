//! Whole-system measurements, with other speakers beside us in the same run. Started by `cargo xtask bench`; needs root, iproute2 and the
//! Debian packages of the speakers.

mod agents;
mod api;
mod api_load;
mod converge;
mod failover;
mod floor;
mod follower;
mod goals;
mod grow;
mod kernel;
mod lab;
mod load;
mod machine;
mod moved;
mod network;
mod outcome;
mod peer;
mod peering;
mod plot;
mod rate;
mod report;
mod reset;
mod settle;
mod speaker;
mod table;
mod watch;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use converge::{Depth, Plan};
use grow::Over;
use outcome::{Outcome, Record, Scenario};
use speaker::Kind;
use workload::{Shape, Workload};

#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Nothing: every scenario, one after the other, then a table of each and one of all goals.
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a scenario: leave out workload C, which takes minutes.
    #[arg(long)]
    quick: bool,
    /// Also put the figures into this JSON file. What it holds of other measurements stays.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Workload A: peers that announce the same prefixes; how long until everybody holds every best path.
    A(Convergence),
    /// Workload B: many peers, each with prefixes of its own.
    B(Convergence),
    /// Workload C: as A, of Internet size.
    C(Convergence),
    /// An UPDATE on the wire until the route is in a VM's kernel.
    Kernel {
        /// Routes installed beforehand, all at once.
        #[arg(long, default_value_t = KERNEL_ROUTES)]
        routes: u32,
        /// Single announcements and withdrawals.
        #[arg(long, default_value_t = KERNEL_PROBES)]
        probes: u32,
    },
    /// Routes into one kernel, against `ip -batch`.
    Rate {
        /// How many; can be given several times.
        #[arg(long, default_values_t = RATE_ROUTES)]
        routes: Vec<u32>,
    },
    /// Many agents on one instance.
    Agents {
        /// How many; can be given several times.
        #[arg(long, default_values_t = [AGENTS])]
        agents: Vec<u32>,
        /// Routes in each agent's table.
        #[arg(long, default_value_t = AGENT_ROUTES)]
        routes: u32,
        /// Single announcements, each withdrawn again.
        #[arg(long, default_value_t = AGENT_CHANGES)]
        changes: u32,
    },
    /// A peering's creation until both its sessions are Established with a waiting NVA.
    Peering,
    /// The ARM API: a route server created, 200 peerings, 10,000 NICs and what is asked about them, reads per second.
    Api,
    /// A change of configuration in a large network, until every NVA and every VM has followed it.
    Settle,
    /// `lab up`, reference scenario.
    Lab,
    /// An NVA dies, silently and not: packets of VMs until they go over another one.
    Failover {
        /// How often.
        #[arg(long, default_value_t = FAILOVERS)]
        rounds: usize,
        /// VMs and routes in each, as 100x10000; can be given several times.
        #[arg(long, default_values_t = MOVED)]
        of: Vec<moved::Shape>,
        /// Leave out what is measured with packets.
        #[arg(long)]
        without_packets: bool,
    },
    /// 200 peers are reset at once by what they send, until all are back.
    Reset,
    /// Convergence and memory as prefixes, peers and agents become more; draws plots.
    Grow {
        /// Only these series; all by default.
        #[arg(long, value_delimiter = ',')]
        over: Vec<Over>,
        /// Only these speakers.
        #[arg(long, value_delimiter = ',', default_values_t = [Kind::Floor, Kind::Routewright, Kind::Bird])]
        speakers: Vec<Kind>,
        /// Seconds after which a size is given up, and with it all larger ones.
        #[arg(long, default_value_t = GROW_PATIENCE_SECS)]
        patience: u64,
        /// The folder for the plots.
        #[arg(long, default_value = DOCS)]
        plots: PathBuf,
    },
    /// Shows a JSON file's figures and the goals, without measuring.
    Report {
        file: PathBuf,
        /// Put them into this document, between its marks.
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
        /// Draw the plots into this folder.
        #[arg(long, value_name = "FOLDER")]
        plots: Option<PathBuf>,
    },
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

#[derive(Args)]
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
    /// Seconds after which a step is given up. A speaker that does not converge until then is tried with a tenth of the prefixes.
    #[arg(long, default_value_t = PATIENCE_SECS)]
    patience: u64,
}

/// With it all scenarios and speakers together take some 20 minutes.
const PATIENCE_SECS: u64 = 60;
const GROW_PATIENCE_SECS: u64 = 30;
const KERNEL_ROUTES: u32 = 10_000;
const KERNEL_PROBES: u32 = 300;
const RATE_ROUTES: [u32; 2] = [10_000, 200_000];
const AGENTS: u32 = 4_000;
const AGENT_ROUTES: u32 = 10_000;
const AGENT_CHANGES: u32 = 50;
const FAILOVERS: usize = 20;
const MOVED: [moved::Shape; 3] = [
    moved::Shape::new(100, 10_000),
    moved::Shape::new(5, 200_000),
    moved::Shape::new(5, 1_000),
];
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

impl Default for Convergence {
    fn default() -> Convergence {
        Convergence {
            peers: None,
            prefixes: None,
            speakers: Vec::new(),
            patience: PATIENCE_SECS,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ShapeName {
    Overlap,
    FanOut,
}

impl Convergence {
    fn run(self, scenario: Scenario, standard: Workload) -> Vec<Outcome> {
        let plan = Plan {
            scenario,
            workload: Workload {
                shape: standard.shape,
                peers: self.peers.unwrap_or(standard.peers).max(2),
                prefixes: self.prefixes.unwrap_or(standard.prefixes).max(1),
            },
            patience: Duration::from_secs(self.patience.max(1)),
            depth: Depth::AllSteps,
        };
        match &self.speakers[..] {
            [] => converge::run(plan, Kind::value_variants()),
            some => converge::run(plan, some),
        }
    }
}

/// What was measured in this run; in the file, if there is one, as soon as it is known.
struct Run {
    outcomes: Vec<Outcome>,
    json: Option<PathBuf>,
}

impl Run {
    fn keep(&mut self, outcomes: &[Outcome]) -> Result<()> {
        if let Some(path) = &self.json {
            Record::add_to(path, outcomes)?;
        }
        self.outcomes.extend_from_slice(outcomes);
        Ok(())
    }

    /// Measures one scenario.
    fn scenario(&mut self, command: Command) -> Result<()> {
        let outcomes = match command {
            Command::A(how) => how.run(Scenario::A, workload::A),
            Command::B(how) => how.run(Scenario::B, workload::B),
            Command::C(how) => how.run(Scenario::C, workload::C),
            Command::Kernel { routes, probes } => kernel::run(routes.max(1), probes.max(1)),
            Command::Rate { routes } => rate::run(&routes)?,
            Command::Agents {
                agents,
                routes,
                changes,
            } => agents::run(&agents, routes.max(1), changes.max(1)),
            Command::Peering => vec![peering::run()?],
            Command::Api => vec![api_load::run()?],
            Command::Settle => vec![settle::run()?],
            Command::Lab => vec![lab::run()?],
            Command::Failover {
                rounds,
                of,
                without_packets,
            } => {
                let mut outcomes = moved::run(&of, rounds);
                if !without_packets {
                    outcomes.push(failover::run(rounds)?);
                }
                outcomes
            }
            Command::Reset => vec![reset::run()?],
            Command::Grow {
                over,
                speakers,
                patience,
                plots,
            } => return self.grow(&over, &speakers, patience, &plots),
            Command::Report { .. } | Command::Floor { .. } => bail!("this measures nothing"),
        };
        println!("\n{}", report::tables(&outcomes));
        self.keep(&outcomes)
    }

    fn grow(&mut self, over: &[Over], speakers: &[Kind], patience: u64, plots: &Path) -> Result<()> {
        let over = if over.is_empty() { Over::value_variants() } else { over };
        grow::run(over, speakers, Duration::from_secs(patience.max(1)), &mut |outcomes| {
            self.keep(outcomes)
        })?;
        println!("\n{}", report::tables(&self.outcomes));
        // With a file, also what earlier runs measured.
        let drawn = match &self.json {
            Some(path) => grow::draw(&Record::read(path)?.outcomes, plots)?,
            None => grow::draw(&self.outcomes, plots)?,
        };
        drawn.iter().for_each(|path| eprintln!("drawn: {}", path.display()));
        Ok(())
    }

    /// Measures everything; one that fails spoils none of the others.
    fn everything(&mut self, quick: bool) -> Result<()> {
        let mut all = vec![Command::A(Convergence::default()), Command::B(Convergence::default())];
        if !quick {
            all.push(Command::C(Convergence::default()));
        }
        all.extend([
            Command::Kernel {
                routes: KERNEL_ROUTES,
                probes: KERNEL_PROBES,
            },
            Command::Rate {
                routes: RATE_ROUTES.to_vec(),
            },
            Command::Agents {
                agents: vec![AGENTS],
                routes: AGENT_ROUTES,
                changes: AGENT_CHANGES,
            },
            Command::Peering,
            Command::Api,
            Command::Settle,
            Command::Lab,
            Command::Failover {
                rounds: FAILOVERS,
                of: MOVED.to_vec(),
                without_packets: false,
            },
            Command::Reset,
        ]);
        let mut failed = 0;
        for scenario in all {
            if let Err(error) = self.scenario(scenario) {
                eprintln!("failed: {error:#}");
                failed += 1;
            }
        }
        println!("\n{}", report::tables(&self.outcomes));
        println!("{}", goals::table(&self.outcomes, &goals::all()));
        if failed > 0 {
            bail!("{failed} scenarios failed");
        }
        Ok(())
    }
}

fn show(file: &Path, into: Option<&Path>, plots: Option<&Path>) -> Result<()> {
    let record = Record::read(file)?;
    match into {
        Some(document) => report::update(document, &record)?,
        None => println!("{}", report::document(&record)),
    }
    if let Some(folder) = plots {
        grow::draw(&record.outcomes, folder)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut run = Run {
        outcomes: Vec::new(),
        json: arguments.json,
    };
    match arguments.command {
        None => run.everything(arguments.quick),
        Some(Command::Report { file, into, plots }) => show(&file, into.as_deref(), plots.as_deref()),
        Some(Command::Floor { shape, peers, prefixes }) => floor::run(Workload {
            shape: match shape {
                ShapeName::Overlap => Shape::Overlap,
                ShapeName::FanOut => Shape::FanOut,
            },
            peers,
            prefixes,
        }),
        Some(scenario) => {
            run.scenario(scenario)?;
            println!("{}", goals::table(&run.outcomes, &goals::of(&run.outcomes)));
            Ok(())
        }
    }
}
