//! A seeded world around the pure crates: NVAs with real sessions and real bytes, two instances, the agents' merge and plan over
//! a strict kernel, a manager that comes and goes. The same seed gives the same history, so a finding is a seed.
//!
//! The long form: `cargo run --release -p routewright-sim --example soak -- --seeds 10000`.

pub mod check;
pub mod kernel;
pub mod model;
pub mod network;
pub mod nva;
pub mod random;
pub mod scenario;
pub mod vm;
pub mod world;

use std::time::Duration;

use world::World;

/// Longer than hold time, converge time and silence together: after it nothing is left to happen.
const QUIET: Duration = Duration::from_secs(400);

/// Random histories with a check after every quiet period. An error tells the seed's finding with the history before it.
pub fn random_history(seed: u64, rounds: usize, events_per_round: usize) -> Result<(), String> {
    history_of(World::new(seed), seed, rounds, events_per_round)
}

/// The same with gateways, a site and a circuit beside the NVAs.
pub fn random_history_of_branches(seed: u64, rounds: usize, events_per_round: usize) -> Result<(), String> {
    history_of(World::with_branches(seed), seed, rounds, events_per_round)
}

/// The same with NVAs that restart gracefully.
pub fn random_history_of_restarts(seed: u64, rounds: usize, events_per_round: usize) -> Result<(), String> {
    history_of(World::with_graceful_restart(seed), seed, rounds, events_per_round)
}

fn history_of(mut world: World, seed: u64, rounds: usize, events_per_round: usize) -> Result<(), String> {
    world.run(QUIET)?;
    check::quiet(&world).map_err(|finding| format!("seed {seed}, at the start: {finding}"))?;
    for round in 0..rounds {
        let mut history = Vec::new();
        let outcome = (0..events_per_round)
            .try_for_each(|_| {
                history.push(scenario::roll(&mut world));
                let pause = scenario::pause(&mut world);
                world.run(pause)
            })
            .and_then(|()| {
                world.heal();
                world.run(QUIET)
            })
            .and_then(|()| check::quiet(&world));
        outcome.map_err(|finding| format!("seed {seed}, round {round}: {finding}\n  {}", history.join("\n  ")))?;
    }
    Ok(())
}

/// From a quiet state with routes, only our own processes die and come back, one after the other or together: the kernels must not
/// change at any moment.
pub fn crashes_only(seed: u64, crashes: usize) -> Result<(), String> {
    undisturbed_by(World::new(seed), seed, crashes, crash)
}

/// The same, and NVAs that restart gracefully die, too, each for no longer than they said.
pub fn restarts_only(seed: u64, restarts: usize) -> Result<(), String> {
    undisturbed_by(World::with_graceful_restart(seed), seed, restarts, restart)
}

fn undisturbed_by(mut world: World, seed: u64, events: usize, roll: fn(&mut World) -> String) -> Result<(), String> {
    for _ in 0..20 {
        let nva = world.random.below(scenario::NVAS);
        let number = world.random.below(4) as u8;
        let prefix = std::net::Ipv4Addr::new(10, 100 + number, 0, 0);
        let prefix = ipnet::Ipv4Net::new(prefix, 16)
            .map_err(|error| error.to_string())?
            .into();
        let path = vec![world.nvas[nva].asn; 1 + world.random.below(2)];
        let next_hop = world.nvas[nva].address.into();
        world.announce(
            nva,
            prefix,
            bgp::wire::PathAttributes::builder(next_hop).as_sequence(&path).build(),
        );
    }
    world.run(QUIET)?;
    check::quiet(&world)?;
    let before: Vec<_> = world.vms.iter().map(|vm| vm.kernel.table()).collect();
    let mut history = Vec::new();
    for _ in 0..events {
        history.push(roll(&mut world));
        for _ in 0..20 {
            let step = Duration::from_millis(world.random.below(2_000) as u64);
            world
                .run(step)
                .and_then(|()| check::undisturbed(&world, &before))
                .map_err(|finding| format!("seed {seed}: {finding}\n  {}", history.join("\n  ")))?;
        }
    }
    world.heal();
    world.run(QUIET)?;
    check::quiet(&world).map_err(|finding| format!("seed {seed}, healed: {finding}\n  {}", history.join("\n  ")))
}

/// Who is away is started with the next event, which is well within the time that a restart may take, and is left alone by it.
fn restart(world: &mut World) -> String {
    let away: Vec<usize> = (0..scenario::NVAS).filter(|nva| !world.nvas[*nva].alive).collect();
    for nva in &away {
        world.start_nva(*nva);
    }
    let nva = world.random.below(scenario::NVAS);
    let vm = world.random.below(world.vms.len());
    let then = match world.random.below(4) {
        0 => {
            world.kill_agent(vm);
            format!("kill agent {vm}")
        }
        1 => {
            world.start_agent(vm);
            format!("start agent {vm}")
        }
        _ if away.contains(&nva) => "nothing".to_owned(),
        _ => {
            world.kill_nva(nva);
            format!("kill nva{nva}")
        }
    };
    format!("start {away:?}, {then}")
}

fn crash(world: &mut World) -> String {
    let instance = world.random.below(2);
    let vm = world.random.below(world.vms.len());
    match world.random.below(7) {
        0 | 1 => {
            world.kill_instance(instance);
            format!("kill instance {instance}")
        }
        2 => {
            world.kill_instance(0);
            world.kill_instance(1);
            "kill both instances".to_owned()
        }
        3 => {
            world.manager_alive = false;
            "kill the manager".to_owned()
        }
        4 => {
            world.start_manager();
            "start the manager".to_owned()
        }
        5 => {
            world.kill_agent(vm);
            format!("kill agent {vm}")
        }
        _ => {
            world.start_agent(vm);
            format!("start agent {vm}")
        }
    }
}
