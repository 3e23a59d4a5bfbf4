//! The simulator's seeds: a few hundred here, as many as you like with the example `soak`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Runs the seeds on all cores; the first finding ends it.
fn check(seeds: u64, run: impl Fn(u64) -> Result<(), String> + Sync) {
    let next = AtomicU64::new(0);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Err(finding) = run(seed) {
                        panic!("{finding}");
                    }
                }
            });
        }
    });
}

#[test]
fn after_every_quiet_period_the_kernels_and_the_nvas_hold_what_the_model_says() {
    check(60, |seed| sim::random_history(seed, 4, 25));
}

#[test]
fn after_every_quiet_period_branches_nvas_and_the_kernels_of_gateways_hold_what_the_model_says() {
    check(40, |seed| sim::random_history_of_branches(seed, 4, 25));
}

#[test]
fn after_every_quiet_period_nothing_is_left_of_what_was_kept_for_a_restart() {
    check(40, |seed| sim::random_history_of_restarts(seed, 4, 25));
}

#[test]
fn while_only_nvas_restart_gracefully_no_kernel_changes() {
    check(40, |seed| sim::restarts_only(seed, 12));
}

#[test]
fn while_only_our_processes_die_no_kernel_changes() {
    check(60, |seed| sim::crashes_only(seed, 15));
}

/// Seeds that once found something, beyond those that run above.
#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    // An agent that was started while nobody spoke let the first words of a converging instance shrink an inherited group.
    assert_eq!(sim::crashes_only(1299, 20), Ok(()));
}
