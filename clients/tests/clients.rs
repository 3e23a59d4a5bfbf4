//! Azure's own clients against a fresh server: `cargo test -p routewright-clients -- az` runs those of one client.
//!
//! What could not run is ignored and says `NOT RUN`; it does not count as passed.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use clients::{Cloud, FLOWS, Flow, Tools, obstacle};
use libtest_mimic::{Arguments, Completion, Trial};

/// Made by the first flow, ended with the last one.
type Shared = Arc<(OnceLock<Result<(), String>>, Mutex<Option<Cloud>>)>;

fn main() -> ExitCode {
    // A lab tries whether it may make namespaces by starting this program with `--version`.
    if std::env::args().nth(1).is_some_and(|a| a == "--version") {
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // There is one fabric, and room for one route server in it.
    arguments.test_threads = Some(1);
    // Must come before there are threads.
    let privilege = if arguments.list {
        Ok(false)
    } else {
        lab::become_root().map_err(|e| e.to_string())
    };
    let tools = Tools::of_this_build();
    let shared = Shared::default();
    let trials = FLOWS.iter().map(|flow| {
        let missing = tools.missing(flow.needs).or_else(obstacle);
        let obstacle = privilege
            .clone()
            .err()
            .or(missing)
            .map(|reason| format!("NOT RUN: {reason}"));
        let (tools, shared) = (tools.clone(), Arc::clone(&shared));
        Trial::ignorable_test(flow.name, move || match obstacle {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => match run(flow, &tools, &shared) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(error.into()),
            },
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    drop(shared.1.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

fn run(flow: &Flow, tools: &Tools, shared: &Shared) -> Result<(), String> {
    let mut cloud = shared.1.lock().unwrap_or_else(PoisonError::into_inner);
    let up = shared.0.get_or_init(|| {
        let made = Cloud::up().and_then(|made| made.sign_in().map(|()| made));
        made.map(|made| *cloud = Some(made))
            .map_err(|error| format!("{error:#}"))
    });
    up.clone()?;
    let cloud = cloud.as_ref().ok_or("the server is gone")?;
    flow.run(cloud, tools).map_err(|error| format!("{error:#}"))
}
