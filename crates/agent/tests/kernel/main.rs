//! The agent against a real kernel: each test in a network namespace of its own.
//!
//! ```text
//!   fake instance(s) ◄──gRPC on loopback──► agent ──netlink──► namespace: eth0 10.1.0.5/24 ═══ peer0
//! ```
//!
//! 1. Routes go through groups of next hops, change with their group, and leave.
//! 2. What is not ours is reported and never touched.
//! 3. Meddling, a lost carrier and a killed agent are made good.
//!
//! As an ordinary user all this runs in a user namespace; where even that is forbidden the tests are reported as ignored.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod buffers;
mod failover;
mod failures;
mod fake;
mod foreign;
mod instances;
mod ipv6;
mod manager;
mod routes;
mod two_agents;
mod world;

use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

/// Far more than anything here takes, also on a machine ten times slower.
pub const DEADLINE: Duration = Duration::from_secs(180);

fn main() {
    // The process-level tests start this program again as the agent.
    if let Ok(arguments) = std::env::var(world::AGENT_PROCESS) {
        return world::run_agent_process(&arguments);
    }
    let arguments = Arguments::from_args();
    let possible = enter_namespaces();
    if let Err(reason) = &possible {
        eprintln!("kernel tests NOT RUN: {reason}");
    }
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .init();
    }
    let test = |(name, run): &(&'static str, fn())| {
        let run = *run;
        let test = move || {
            // A thread of its own, since it moves into its own namespace.
            match std::thread::spawn(run).join() {
                Ok(()) => Ok(()),
                Err(_) => Err("see above".into()),
            }
        };
        Trial::test(*name, test).with_ignored_flag(possible.is_err())
    };
    let tests = [
        routes::TESTS,
        foreign::TESTS,
        failures::TESTS,
        failover::TESTS,
        instances::TESTS,
        ipv6::TESTS,
        manager::TESTS,
        two_agents::TESTS,
        buffers::TESTS,
    ];
    libtest_mimic::run(&arguments, tests.into_iter().flatten().map(test).collect()).exit();
}

/// Root can make namespaces; others can after they have made a user namespace.
fn enter_namespaces() -> Result<(), String> {
    use nix::sched::{CloneFlags, unshare};
    if std::process::Command::new("ip").arg("-V").output().is_err() {
        return Err("there is no `ip` command (package iproute2)".to_owned());
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("user namespace: {error}"))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("{file}: {error}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))?;
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    up.ok()
        .filter(|status| status.success())
        .map(|_| ())
        .ok_or_else(|| "loopback cannot be set up".to_owned())
}
