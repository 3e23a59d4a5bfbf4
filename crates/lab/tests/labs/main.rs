//! Whole labs, with real packets.
//!
//! ```text
//!   site 10.250.0.10 ── sdwan ────┐                 ┌── vm1
//!                                 ├── route server ─┤
//!   internet ────────── firewall ─┘                 └── vm2
//! ```
//!
//! 1. The fabric alone carries packets, and `down` leaves nothing, whatever `up` was doing when it was killed.
//! 2. The reference scenario: both NVAs learn the virtual network from both instances; every VM reaches the site through the
//!    SD-WAN NVA and the internet through the firewall; withdrawn, killed and returned routes go and return; an address prefix
//!    that is added reaches both NVAs.
//! 3. Two labs at once do not disturb each other.
//! 4. A hub and two spokes: the spokes reach each other through the firewall, and a spoke that leaves is forgotten at once.
//! 5. The other shipped topologies: which way packets go, and what changes that, each as its file says.
//! 6. An upgrade of both instances loses no route and no packet.
//! 7. NVAs that are killed, half cut off or drained take down what they must, and no more.
//! 8. The route log says who announced or withdrew, what became best, and which NICs have it; the NVAs are FRR and BIRD.
//!
//! As an ordinary user all this runs in a user namespace; where even that is forbidden the tests are reported as ignored.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod appliances;
mod design;
mod dual_homed;
mod dual_stack;
mod fabric;
mod hybrid;
mod outages;
mod reference;
mod regions;
mod route_log;
mod spokes;
mod upgrade;

use std::path::Path;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

/// Far more than anything here takes, also on a machine ten times slower.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// How long a packet may be on its way.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What tests with NVAs of others run on.
const OTHERS: [&str; 2] = ["/usr/lib/frr/bgpd", "/usr/sbin/bird"];

fn main() {
    let arguments = Arguments::from_args();
    // Before there is a second thread.
    let possible = lab::become_root();
    if let Err(reason) = &possible {
        eprintln!("lab tests NOT RUN: {reason}");
    }
    let missing = OTHERS.into_iter().find(|program| !Path::new(program).exists());
    if let Some(program) = missing {
        eprintln!("tests with FRR and BIRD NOT RUN: {program} is not installed");
    }
    let tests = [
        fabric::TESTS,
        reference::TESTS,
        spokes::TESTS,
        appliances::TESTS,
        regions::TESTS,
        hybrid::TESTS,
        dual_homed::TESTS,
        dual_stack::TESTS,
    ]
    .concat();
    let trials = tests.iter().map(|(name, run)| trial(name, *run, possible.is_ok()));
    let with_others = [
        route_log::TESTS,
        regions::WITH_OTHERS,
        dual_stack::WITH_OTHERS,
        upgrade::TESTS,
        outages::TESTS,
    ]
    .concat();
    let with_others = with_others
        .iter()
        .map(|(name, run)| trial(name, *run, possible.is_ok() && missing.is_none()));
    libtest_mimic::run(&arguments, trials.chain(with_others).collect()).exit();
}

fn trial(name: &str, run: fn(), can_run: bool) -> Trial {
    let trial = Trial::test(name, move || {
        run();
        Ok(())
    });
    trial.with_ignored_flag(!can_run)
}

/// A directory for labs of one test.
pub fn labs() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rw-labs-").tempdir().unwrap()
}
