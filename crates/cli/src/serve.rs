//! `routewright serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use daemon::manager::ServeOptions;

/// Arguments of `routewright serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store and the instances' sockets live.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port of the API; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address and port of the API with TLS and sign-in, which may be any of this machine's; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tls_listen: Option<SocketAddr>,
    /// Run only this instance process on this machine: 0 or 1.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    instance: Option<u8>,
    /// For trying things out: a temporary store unless --data-dir is given, a ready subscription, no sign-in.
    #[arg(long)]
    dev: bool,
    /// SIGTERM and SIGINT end the manager alone: the instances go on routing, and the next `serve` finds them.
    #[arg(long, requires = "data_dir")]
    keep_instances: bool,
    /// The store is a backup that was restored on purpose, with etcd: instances follow it although they follow something newer.
    #[arg(long)]
    restored: bool,
    /// Only read the configuration, tell every mistake in it, and end.
    #[arg(long)]
    check: bool,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        daemon::manager::check(args.config.as_deref())?;
        eprintln!("the configuration is fine");
        return Ok(ExitCode::SUCCESS);
    }
    crate::runtime::start_logging();
    crate::runtime::block_on(daemon::manager::run(ServeOptions {
        config: args.config,
        data_dir: args.data_dir,
        listen: args.listen,
        tls_listen: args.tls_listen,
        instance: args.instance.map(usize::from),
        dev: args.dev,
        keep_instances: args.keep_instances,
        restored: args.restored,
        executable: None,
    }))??;
    Ok(ExitCode::SUCCESS)
}
