//! The project's own chores: `cargo xtask test`, `check`, `deps`, `install`, `bench`.

mod chores;
mod deps;
mod packages;
mod report;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must hold: install what is missing, formatting, lints, the dependency rule, all tests, the interop matrix.
    Test {
        /// Leave out what needs other speakers and long runs.
        #[arg(long)]
        quick: bool,
        /// Fail when a test could not run (the default when the environment variable CI is set).
        #[arg(long)]
        strict: bool,
    },
    /// Formatting, lints and the dependency rule.
    Check,
    /// Only the dependency rule: imports point back along the route's path, pure crates stay pure.
    Deps,
    /// Install the Debian packages and the clients that the tests want, or say which are missing.
    Install,
    /// Measure, side by side with other speakers in the same run. Arguments go to the bench program.
    Bench {
        /// For example `a --speakers routewright,bird`, `kernel`, `grow`, `--quick`; `--help` names all. Nothing: every scenario, then all goals.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Test { quick, strict } => chores::test(quick, strict || std::env::var_os("CI").is_some()),
        Chore::Check => chores::check(),
        Chore::Deps => deps::check(),
        Chore::Install => chores::install(),
        Chore::Bench { arguments } => chores::bench(&arguments),
    }
}
