//! Connections and the instance process with real sockets: each test in a network namespace of its own.
//!
//! ```text
//!   one namespace, all addresses on lo:
//!     10.1.1.4 instance 0 (a process) ◄──BGP :179──► 10.1.2.4, 10.1.3.4 … NVAs (bgp::session on daemon::connection)
//!        ▲  ▲
//!        │  └── gRPC ── an agent
//!        └───── control socket
//! ```
//!
//! A manager process has a small disk of its own.
//!
//! As an ordinary user all this runs in a user namespace; where even that is forbidden the tests are reported as ignored.
#![allow(clippy::unwrap_used, missing_docs)]

mod connections;
mod full_disk;
mod gateways;
mod hostile;
mod instance;
mod layers;
mod liveness;
mod nva;
mod protection;
mod world;

use libtest_mimic::{Arguments, Trial};

/// As in the product: what an instance has for its routes depends on it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if full_disk::be_manager() || world::start_logging_and_be_instance() {
        return;
    }
    let arguments = Arguments::from_args();
    let possible = world::enter_namespaces();
    if let Err(reason) = &possible {
        eprintln!("socket tests NOT RUN: {reason}");
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
    let (instance, hostile) = (instance::tests(), hostile::tests());
    let tests = [
        connections::TESTS,
        protection::TESTS,
        &instance,
        layers::TESTS,
        gateways::TESTS,
        liveness::TESTS,
        full_disk::TESTS,
        &hostile,
    ]
    .concat();
    libtest_mimic::run(&arguments, tests.iter().map(test).collect()).exit();
}

/// A list of tests by their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[(&str, fn())] = &[$((concat!(module_path!(), "::", stringify!($name)), $name as fn())),*];
    };
}
