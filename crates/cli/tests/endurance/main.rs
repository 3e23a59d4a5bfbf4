//! The whole thing under rough treatment: real processes, real BGP, real kernels.
//!
//! ```text
//!   nva0 nva1 nva2 ──BGP──► instance 0, instance 1 ──gRPC──► agent-vm1, agent-vm2 ──netlink──► kernels of vm1, vm2
//!        ▲                        ▲                                                                  │
//!   announce, withdraw, kill   API edits, kill                       compared with the API and with `model`
//! ```
//!
//! 1. After random events each VM's kernel equals its effective routes and a plain recomputation.
//! 2. SIGKILL of the manager, of an instance, of both, of an agent, at any moment, takes no route away that should stay, and once
//!    things are back none is left that should go. Killing the manager drops no BGP session.
//! 3. An agent killed in the middle of installing or removing 10,000 routes makes it good when it is back.
//! 4. Whatever is killed, stopped, cut off or parted, no packet is lost that a surviving path could have carried ([`chaos`]).
//! 5. Two machines over etcd: one that dies, and an etcd without a majority, take no route away.
//!
//! The long form, which takes some minutes; a seed in `RW_SEED` plays the same events again:
//!
//! ```text
//! RW_EVENTS=10000 cargo test -p routewright --test endurance -- --nocapture
//! ```
//!
//! As an ordinary user this runs in a user namespace; where that is forbidden the tests are reported as ignored.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod chaos;
mod dice;
mod events;
mod kills;
mod machines;
mod model;
#[path = "../common/serve.rs"]
mod serve;
mod watch;
mod world;

use libtest_mimic::{Arguments, Trial};

/// A name, and what to do; the argument says whether we are root only in a user namespace.
type Test = (&'static str, fn(bool));

const WITH_ETCD: &str = "a_machine_and_etcd_that_die_take_no_route_away";
const CHAOS: &str = "chaos_loses_no_packet_that_a_surviving_path_could_have_carried";

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test is a lab with many processes; one after the other they disturb each other's timing least.
    arguments.test_threads = Some(1);
    let privileged = lab::become_root();
    if let Err(reason) = &privileged {
        eprintln!("endurance tests NOT RUN: {reason}");
    }
    let rootless = *privileged.as_ref().unwrap_or(&false);
    let has_etcd = daemon::store::etcd::cluster::is_installed();
    if !has_etcd {
        eprintln!("two machines and chaos NOT RUN: /usr/bin/etcd (package etcd-server) is not installed");
    }
    let tests: [Test; 6] = [
        (
            "after_random_events_kernels_equal_the_effective_routes",
            events::random_events,
        ),
        ("killed_processes_lose_no_route_and_leave_none", kills::any_process),
        (
            "an_agent_killed_amid_ten_thousand_routes_makes_it_good",
            kills::agent_amid_many_routes,
        ),
        (CHAOS, chaos::chaos),
        (
            "time_that_the_machine_had_not_does_not_count",
            chaos::pulse::time_that_the_machine_had_not_does_not_count,
        ),
        (WITH_ETCD, machines::machine_and_etcd_die),
    ];
    let trials = tests.map(|(name, run)| {
        let test = move || match std::panic::catch_unwind(|| run(rootless)) {
            Ok(()) => Ok(()),
            Err(_) => Err("see above".into()),
        };
        let is_possible = privileged.is_ok() && (has_etcd || ![WITH_ETCD, CHAOS].contains(&name));
        Trial::test(name, test).with_ignored_flag(!is_possible)
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}
