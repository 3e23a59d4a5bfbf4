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
//!
//! As an ordinary user all this runs in a user namespace; where even that is forbidden the tests are reported as ignored.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod fabric;
mod reference;
mod spokes;

use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

/// Far more than anything here takes.
pub const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    let arguments = Arguments::from_args();
    // Before there is a second thread.
    let possible = lab::become_root();
    if let Err(reason) = &possible {
        eprintln!("lab tests NOT RUN: {reason}");
    }
    let tests = fabric::TESTS.iter().chain(reference::TESTS).chain(spokes::TESTS);
    let trials = tests.map(|(name, run)| {
        let run = *run;
        Trial::test(*name, move || {
            run();
            Ok(())
        })
        .with_ignored_flag(possible.is_err())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// A directory for labs of one test.
pub fn labs() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rw-labs-").tempdir().unwrap()
}
