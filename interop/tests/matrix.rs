//! The interop matrix: every scenario × every speaker, with real packets in network namespaces.
//!
//! `cargo test -p routewright-interop -- frr` runs one column, `-- withdrawn` one row. What could not run is ignored and says
//! `NOT RUN`; what a speaker cannot do is ignored and says `n/a`. Neither counts as passed.

use std::process::ExitCode;
use std::sync::Arc;

use interop::{SCENARIOS, SPEAKERS, Scenario, Speaker, Station};
use libtest_mimic::{Arguments, Completion, Trial};

/// Two labs at work keep two cores busy; more would only make each wait for the others.
const SPEAKERS_AT_ONCE: usize = 2;

fn main() -> ExitCode {
    // A lab tries whether it may make namespaces by starting this program with `--version`.
    if std::env::args().nth(1).is_some_and(|a| a == "--version") {
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SPEAKERS_AT_ONCE);
    // Must come before there are threads.
    let privilege = if arguments.list {
        Ok(false)
    } else {
        lab::become_root().map_err(|e| e.to_string())
    };
    let rootless = matches!(privilege, Ok(true));
    let stations = SPEAKERS.map(|speaker| (speaker, Arc::new(Station::new(speaker, rootless))));

    let mut trials = Vec::new();
    // Neighbours take turns, so that both threads have a lab of their own to work in.
    for neighbours in stations.chunks(SPEAKERS_AT_ONCE) {
        for scenario in &SCENARIOS {
            for (speaker, station) in neighbours {
                let obstacle = match &privilege {
                    Err(reason) => Some(format!("NOT RUN: {reason}")),
                    Ok(_) => obstacle(*speaker, scenario, rootless),
                };
                trials.push(trial(*speaker, scenario, station.clone(), obstacle));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for (_, station) in &stations {
        station.close();
    }
    conclusion.exit_code()
}

fn obstacle(speaker: Speaker, scenario: &Scenario, rootless: bool) -> Option<String> {
    let not_run = speaker.cannot_run(rootless).map(|reason| format!("NOT RUN: {reason}"));
    let not_applicable = || (scenario.not_applicable)(speaker).map(|reason| format!("n/a: {reason}"));
    not_run.or_else(not_applicable)
}

fn trial(speaker: Speaker, scenario: &'static Scenario, station: Arc<Station>, obstacle: Option<String>) -> Trial {
    Trial::ignorable_test(
        format!("{}::{}", speaker.name(), scenario.name),
        move || match obstacle {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => match station.run(scenario) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(format!("{error:#}").into()),
            },
        },
    )
}
