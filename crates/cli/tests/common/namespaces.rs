//! Tests that need links and routes of their own.

use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// A network namespace for all of this, with these programs to work in it; an ordinary user makes a user namespace first.
pub(crate) fn enter(programs: &[&str]) -> Result<(), String> {
    for program in programs {
        let version = Command::new(program).arg("-V").stdout(Stdio::null()).status();
        version.map_err(|error| format!("there is no `{program}` to work with: {error}"))?;
    }
    lab::become_root().map_err(|error| error.to_string())?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("network namespace: {error}"))?;
    ip(&["link", "set", "lo", "up"]);
    Ok(())
}

/// `ip ARGUMENTS` has to work.
pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}
