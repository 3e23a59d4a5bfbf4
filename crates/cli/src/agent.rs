//! `routewright agent` and `routewright agent flush`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::{AgentOptions, AgentTls, FlushOptions, KernelSettings, NicSpec, Resilient, SystemRoutes};
use anyhow::{Context, ensure};
use api::tls::Identity;
use clap::{Args, Subcommand};

/// Arguments of `routewright agent`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The API's URL, or those of the instances' agent listeners; several, if there are several.
    #[arg(long = "server", value_name = "URL", required = true, num_args = 1..)]
    servers: Vec<String>,
    /// A NIC to install routes on: its id, and where its kernel is if not here.
    #[arg(long = "nic", value_name = "ID[,netns=NAME|PATH][,table=N]", required = true, num_args = 1..)]
    nics: Vec<NicSpec>,
    /// Whether to install default routes and blackholes that the platform makes: all, or none, since on a real host they can
    /// cut it off.
    #[arg(long, value_name = "all|none", default_value = "none")]
    system_routes: SystemRoutes,
    /// Resilient groups of next hops, with so many buckets: flows that are under way keep their NVA when another one comes or goes.
    #[arg(long, value_name = "BUCKETS[,IDLE_SECS]")]
    resilient: Option<Resilient>,
    /// Whether to make the settings in the NICs' network namespaces that groups need (nexthop_compat_mode=0, fib_multipath_hash_policy=1).
    #[arg(long, value_name = "set|leave", default_value = "set")]
    kernel_settings: KernelSettings,
    /// File with the token that instances want to see, made by `routewright agent-token create`; needed where the server's `[agents]
    /// tokens` is on.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the authority of the servers' certificates, for URLs that begin with https; no other is believed.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file of the agent's own certificate, where the server's `[agents] client_ca` wants one.
    #[arg(long, value_name = "FILE", requires = "key", requires = "ca")]
    certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// What people shall call this agent; the host's name by default.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Remove the routes that an agent has left; it leaves them when it stops.
    Flush {
        /// Where: the ids don't matter. Without it, the main table here.
        #[arg(long = "nic", value_name = "ID[,netns=NAME|PATH][,table=N]", num_args = 1..)]
        nics: Vec<NicSpec>,
    },
}

/// Runs the agent until it is stopped, or flushes.
pub(crate) fn run(args: AgentArgs) -> anyhow::Result<ExitCode> {
    if let Some(Verb::Flush { nics }) = args.verb {
        let removed = agent::flush(&FlushOptions { nics })?;
        eprintln!("{removed} routes and next hops removed");
        return Ok(ExitCode::SUCCESS);
    }
    crate::runtime::start_logging();
    let host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let identity = args.certificate.zip(args.key);
    let identity = identity.map(|(certificate, key)| Identity { certificate, key });
    let options = AgentOptions {
        name: args.name.or_else(|| host().ok()).unwrap_or_else(|| "agent".to_owned()),
        servers: args.servers,
        nics: args.nics,
        system_routes: args.system_routes,
        resilient: args.resilient,
        kernel_settings: args.kernel_settings,
        tls: args.ca.map(|ca| AgentTls { ca, identity }),
        token: args.token_file.as_deref().map(read_token).transpose()?,
    };
    crate::runtime::block_on(agent::run(options, daemon::service_manager::ready))??;
    Ok(ExitCode::SUCCESS)
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
    let token = text.trim();
    ensure!(
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()),
        "{} holds no token: `routewright agent-token create --nic ID > FILE` makes one",
        file.display()
    );
    Ok(token.to_owned())
}
