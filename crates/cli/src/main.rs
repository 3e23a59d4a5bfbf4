//! The routewright command: the daemon's processes, the lab, and every resource noun of `az network`.
//!
//! `main` itself starts no runtime: `lab` may have to enter a user namespace first, which only a process with one thread can do.
//! Each verb starts the runtime it needs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod instance;
mod lab;
mod runtime;
mod serve;

/// Routewright: an open Azure Route Server. BGP in, kernel routes out.
#[derive(Debug, Parser)]
#[command(name = "routewright", version, about, propagate_version = true)]
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
    /// Topologies in network namespaces: virtual networks, VMs, NVAs, sites.
    Lab(lab::LabArgs),
    /// Our own small NVA, as the lab runs it.
    #[command(hide = true)]
    Nva(lab::NvaArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Instance(args) => instance::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Nva(args) => lab::run_nva(args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("routewright: {error:#}");
            ExitCode::FAILURE
        }
    }
}
