//! `routewright lab …` and the hidden `routewright nva`.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `routewright lab`.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {}

/// Arguments of `routewright nva`.
#[derive(Debug, Args)]
pub(crate) struct NvaArgs {}

/// Carries out a lab verb. Called with one thread and no runtime.
pub(crate) fn run(_args: LabArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the lab is not built in yet")
}

/// Runs the builtin NVA. Called with one thread and no runtime.
pub(crate) fn run_nva(_args: NvaArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the builtin NVA is not built in yet")
}
