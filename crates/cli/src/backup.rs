//! `routewright backup` and `routewright restore`: what a data directory keeps, in one file, and back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use daemon::store::backup::{self, Summary};

/// Arguments of `routewright backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The data directory; somebody may be serving it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The file to make. It holds every secret of the data directory.
    file: PathBuf,
}

/// Arguments of `routewright restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The data directory to fill; nobody may be serving it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Lose what the data directory keeps now.
    #[arg(long)]
    replace: bool,
    /// The backup.
    file: PathBuf,
}

/// Copies a data directory's content to a file.
pub(crate) fn backup(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let summary = backup::backup(&args.data_dir, &args.file)?;
    eprintln!("{} holds {}", args.file.display(), words(&summary));
    Ok(ExitCode::SUCCESS)
}

/// Fills a data directory from a file.
pub(crate) fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let summary = backup::restore(&args.file, &args.data_dir, args.replace)?;
    eprintln!("{} holds {}", args.data_dir.display(), words(&summary));
    Ok(ExitCode::SUCCESS)
}

fn words(summary: &Summary) -> String {
    let Summary {
        version,
        resources,
        files,
    } = summary;
    format!("{resources} resources at version {version}, and {files} keys and certificates")
}
