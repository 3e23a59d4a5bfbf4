//! The hidden `routewright instance`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use api::tls::Identity;
use clap::Args;
use daemon::instance::{AgentTls, InstanceOptions};

/// Arguments of `routewright instance`.
#[derive(Debug, Args)]
pub(crate) struct InstanceArgs {
    /// Which of each route server's two addresses is ours: 0 or 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    index: u8,
    /// Where the control socket lives.
    #[arg(long)]
    run_dir: PathBuf,
    /// Where agents connect.
    #[arg(long)]
    agent_listen: SocketAddr,
    /// PEM file of the certificate that agents are shown, if they are to come with TLS.
    #[arg(long, requires = "agent_key")]
    agent_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "agent_certificate")]
    agent_key: Option<PathBuf>,
    /// PEM file of the authorities of agents' own certificates, if they need one.
    #[arg(long, requires = "agent_certificate")]
    agent_client_ca: Option<PathBuf>,
    /// Agents no longer count an instance that is silent for so many seconds.
    #[arg(long, default_value_t = 10)]
    silence_secs: u64,
    /// End when the parent process ends: when the other end of standard input is closed.
    #[arg(long)]
    die_with_parent: bool,
}

/// Runs until asked to shut down.
pub(crate) fn run(args: InstanceArgs) -> anyhow::Result<ExitCode> {
    crate::runtime::start_logging();
    let identity = args.agent_certificate.zip(args.agent_key);
    let agent_tls = identity.map(|(certificate, key)| AgentTls {
        identity: Identity { certificate, key },
        client_ca: args.agent_client_ca,
    });
    crate::runtime::block_on(daemon::instance::run(InstanceOptions {
        index: usize::from(args.index),
        run_dir: args.run_dir,
        agent_listen: args.agent_listen,
        agent_tls,
        silence_secs: args.silence_secs,
        die_with_parent: args.die_with_parent,
        give_back_memory: crate::memory::give_back,
    }))??;
    Ok(ExitCode::SUCCESS)
}
