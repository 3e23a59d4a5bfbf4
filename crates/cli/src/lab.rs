//! `routewright lab …` and the hidden `routewright nva`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

mod verbs;

/// Arguments of `routewright lab`.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// Which lab, when there are several.
    #[arg(long, global = true, default_value = lab::DEFAULT_NAME, value_name = "NAME")]
    name: String,
    /// For people or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring up a topology (the reference scenario by default), show its routes and probe its paths.
    Up {
        /// A topology file; see docs/topology.schema.json.
        topology: Option<PathBuf>,
        /// Only namespaces and links: no route server, no agents, no BGP.
        #[arg(long)]
        fabric_only: bool,
    },
    /// Draw the topology: who is up and which way traffic goes.
    Status,
    /// Run a command inside a node.
    Exec {
        /// The node.
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Kill a node's processes at once, as a crash would.
    Kill {
        /// sdwan, vm1 (its agent), manager, instance0, …
        node: String,
    },
    /// Let a node's processes end properly.
    Stop {
        /// sdwan, vm1 (its agent), manager, instance0, …
        node: String,
    },
    /// Start a node's processes again.
    Start {
        /// sdwan, vm1 (its agent), manager, instance0, …
        node: String,
    },
    /// Let an NVA announce prefixes.
    Announce {
        /// The NVA.
        node: String,
        /// The prefixes.
        #[arg(required = true)]
        prefixes: Vec<ipnet::IpNet>,
    },
    /// Let an NVA withdraw prefixes.
    Withdraw {
        /// The NVA.
        node: String,
        /// The prefixes.
        #[arg(required = true)]
        prefixes: Vec<ipnet::IpNet>,
    },
    /// Pull a node's cable, or plug it in again.
    Link {
        /// down or up.
        state: LinkState,
        /// The node.
        node: String,
    },
    /// Take the lab away and leave nothing.
    Down,
    /// Hold a node's namespace open.
    #[command(hide = true)]
    HoldNamespace {
        /// The node, for people who look at the process list.
        node: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LinkState {
    Up,
    Down,
}

/// Arguments of `routewright nva`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// What to be: a JSON file that the lab writes.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Carries out a lab verb. Called with one thread and no runtime.
pub(crate) fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    verbs::run(args)
}

/// Runs the builtin NVA. Called with one thread and no runtime.
pub(crate) fn run_nva(args: NodeArgs) -> anyhow::Result<ExitCode> {
    crate::runtime::start_logging();
    crate::runtime::block_on(lab::nva::run(&args.config))??;
    Ok(ExitCode::SUCCESS)
}

/// Runs a load balancer's frontend.
pub(crate) fn run_balancer(args: NodeArgs) -> anyhow::Result<ExitCode> {
    crate::runtime::start_logging();
    crate::runtime::block_on(lab::balancer::run(&args.config))??;
    Ok(ExitCode::SUCCESS)
}
