//! The routewright command: the daemon's processes, the lab, and every resource noun of `az network`.
//!
//! `main` itself starts no runtime: `lab` may have to enter a user namespace first, which only a process with one thread can do.
//! Each verb starts the runtime it needs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use client::ClientError;

mod agent;
mod agent_token;
mod az_env;
mod backup;
mod client;
mod declare;
mod drain;
mod dry_run;
mod instance;
mod lab;
mod memory;
mod output;
mod own;
mod resource;
mod runtime;
mod serve;
mod sp;
mod target;
mod upgrade;

/// Messages are decoded on one thread and end on another, by the hundred thousand: glibc's allocator takes a lock for each such end, and
/// gives back little of what a large table took. Version 2 gives memory back within 10 ms, and without huge pages also small pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Routewright: an open Azure Route Server. BGP in, kernel routes out.
#[derive(Debug, Parser)]
#[command(name = "routewright", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the manager: the API, the store, and the two instance processes that it supervises.
    Serve(serve::ServeArgs),
    /// Run one instance process. The manager starts these; nobody else needs to.
    #[command(hide = true)]
    Instance(instance::InstanceArgs),
    /// Put the effective routes of NICs into their kernels. Runs on every VM or host.
    Agent(agent::AgentArgs),
    /// Secrets with which agents may follow their NICs, where the server wants to see some.
    AgentToken(agent_token::AgentTokenArgs),
    /// Topologies in network namespaces: virtual networks, VMs, NVAs, sites.
    Lab(lab::LabArgs),
    #[command(flatten)]
    Resource(Box<resource::Noun>),
    /// Make what a file says: YAML or JSON, ordered by references; only what differs is written.
    Apply(declare::ApplyArgs),
    /// Write a resource group as a file for `apply`.
    Export(declare::ExportArgs),
    /// BGP peers of every route server, with full session state.
    Peers(own::PeersArgs),
    /// Routes received, with verdicts.
    Routes(own::RoutesArgs),
    /// Agents, with what they have installed.
    Agents(own::Plain),
    /// Have packets go through the other instance, so that one can be taken down: upgraded, moved.
    Drain(drain::DrainArgs),
    /// Exchange both instances, one after the other, for the executable that is there now.
    Upgrade(upgrade::UpgradeArgs),
    /// The manager and both instances.
    Health(own::Plain),
    /// Service principals, what programs sign in as.
    Sp(sp::SpArgs),
    /// Print the lines that point an unmodified `az` at this server: eval "$(routewright az-env)".
    AzEnv(az_env::AzEnvArgs),
    /// Copy what a data directory keeps to a file, also while it is served.
    Backup(backup::BackupArgs),
    /// Fill a data directory from a backup.
    Restore(backup::RestoreArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write a man page for every verb into a directory.
    Man {
        /// The directory; it is made.
        directory: PathBuf,
    },
    /// Our own small NVA, as the lab runs it.
    #[command(hide = true)]
    Nva(lab::NodeArgs),
    /// The frontend of a load balancer, as the lab runs it.
    #[command(hide = true)]
    Balancer(lab::NodeArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Instance(args) => instance::run(args),
        Command::Agent(args) => agent::run(args),
        Command::AgentToken(args) => ask(agent_token::run(args)),
        Command::Lab(args) => lab::run(args),
        Command::Nva(args) => lab::run_nva(args),
        Command::Balancer(args) => lab::run_balancer(args),
        Command::Resource(noun) => ask(resource::run(*noun)),
        Command::Apply(args) => ask(declare::apply(args)),
        Command::Export(args) => ask(declare::export(args)),
        Command::Peers(args) => ask(own::peers(args)),
        Command::Routes(args) => ask(own::routes(args)),
        Command::Agents(args) => ask(own::agents(args)),
        Command::Drain(args) => ask(drain::instance(args)),
        Command::Upgrade(args) => ask(upgrade::run(args)),
        Command::Health(args) => ask(own::health(args)),
        Command::Sp(args) => ask(sp::run(args)),
        Command::AzEnv(args) => ask(az_env::run(args)),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "routewright", &mut script);
            let printed = output::print_text(&String::from_utf8_lossy(&script));
            printed.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Man { directory } => write_man_pages(&directory).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("routewright: {}", told_once(&error));
            ExitCode::FAILURE
        }
    }
}

fn write_man_pages(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("cannot write man pages into {}", directory.display()))
}

/// An error and its causes. Many of our errors tell their cause themselves, where it reads best; it is not told again then.
fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.contains(&cause) {
            let separator = if told.is_empty() { "" } else { ": " };
            told = format!("{told}{separator}{cause}");
        }
    }
    told
}

/// Runs a verb that speaks to the API.
fn ask(verb: impl Future<Output = Result<(), ClientError>>) -> anyhow::Result<ExitCode> {
    Ok(resource::finish(runtime::block_on(verb)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_has_completions_for_every_noun() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "routewright", &mut script);
            let script = String::from_utf8_lossy(&script);
            for noun in ["routeserver", "vnet-gateway", "az-env", "--dry-run"] {
                // fish writes options without their dashes.
                assert!(script.contains(noun.trim_start_matches('-')), "{shell}: {noun}");
            }
        }
    }

    #[test]
    fn every_verb_has_a_man_page() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        write_man_pages(&directory.path().join("man1"))?;
        let page = std::fs::read_to_string(directory.path().join("man1/routewright-routeserver-peering-show.1"))?;
        assert!(page.contains("routeserver"), "{page}");
        Ok(())
    }

    #[test]
    fn a_cause_that_is_told_already_is_not_told_again() {
        let error = anyhow::anyhow!("in use")
            .context("cannot listen: in use; try another")
            .context("serve");
        assert_eq!(told_once(&error), "serve: cannot listen: in use; try another");
        let error = anyhow::anyhow!("in use").context("serve");
        assert_eq!(told_once(&error), "serve: in use");
    }
}
