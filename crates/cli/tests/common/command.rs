//! The command line as a process.

use std::process::{Command, Stdio};

/// `routewright WORDS`, with nothing to read and no server but the one that it is told.
pub(crate) fn routewright(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routewright"));
    command
        .args(words)
        .stdin(Stdio::null())
        .env_remove("ROUTEWRIGHT_SERVER");
    command
}
