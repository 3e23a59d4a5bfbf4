//! Many agents on one instance: how long until all have joined, until all have one change, until all have a whole table, and what they
//! cost the instance in memory. Manager and both instances run as users run them, with a NIC in the API for each agent; the agents are
//! connections of this process.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::api::Api;
use crate::follower::Followers;
use crate::load::connect_from;
use crate::network::Network;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::speaker::{Speaker, routewright};
use crate::table::grouped;
use crate::workload::{DEVICE, Shape, Workload, encode_one};

const PATIENCE: Duration = Duration::from_secs(60);

/// A pause between two changes, so that each meets a system at rest.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the system has to come to rest before memory is read.
const REST: Duration = Duration::from_secs(2);

/// Peerings created one after the other, besides the one that announces: as many as Azure allows.
const PEERINGS: u32 = 7;

/// Measures one number of agents after the other.
pub(crate) fn run(agents: &[u32], routes: u32, changes: u32) -> Vec<Outcome> {
    let one = |&agents: &u32| {
        eprintln!(
            "Agents: {} connections to one instance, {changes} single changes, {} routes at once",
            grouped(agents.into()),
            grouped(routes.into())
        );
        let sizes = [(Size::Agents, agents.into()), (Size::Routes, routes.into())];
        let mut outcome = Outcome::new(Scenario::Agents, OURS, sizes);
        if let Err(error) = measure(agents.max(1), routes, changes, &mut outcome) {
            outcome.fail(Figure::KibPerAgent, &error);
        }
        outcome
    };
    agents.iter().map(one).collect()
}

fn measure(agents: u32, routes: u32, changes: u32, outcome: &mut Outcome) -> Result<()> {
    let network = Network::new(1)?;
    let (speaker, api) = routewright::start(&network, 1)?;
    let nics = api.add_nics(agents)?;
    outcome.set_all(
        [Figure::CreatedP50Ms, Figure::CreatedP99Ms, Figure::CreatedMaxMs],
        create_peerings(&api)?,
    );
    let mut nva = connect_from(&network, 0, SocketAddr::new(DEVICE.into(), 179))?;
    drain(&nva)?;
    let instance = api.agent_addresses()?.first().copied();
    let instance = instance.context("no instance takes agents")?;
    thread::sleep(REST);
    let idle = speaker.memory_mib()?.0;
    outcome.set(Figure::IdleMib, idle);

    let started = Instant::now();
    let followers = Followers::join(instance, nics.clone())?;
    outcome.set(Figure::JoinSecs, (followers.wait(PATIENCE)? - started).as_secs_f64());
    let system = followers.held();

    outcome.set_all(
        [Figure::ChangeP50Ms, Figure::ChangeP99Ms, Figure::ChangeMaxMs],
        single_changes(&mut nva, &followers, routes, changes)?,
    );

    let table = Workload {
        shape: Shape::Overlap,
        peers: 1,
        prefixes: routes,
    };
    let bytes = table.encode_table(0);
    followers.expect(system + routes as usize);
    let started = Instant::now();
    nva.write_all(&bytes)?;
    outcome.set(Figure::TableMs, millis(followers.wait(PATIENCE)? - started));

    drop(followers);
    // The instance has noticed by then that they are gone.
    thread::sleep(REST);
    let started = Instant::now();
    let followers = Followers::join(instance, nics)?;
    outcome.set(Figure::RejoinSecs, (followers.wait(PATIENCE)? - started).as_secs_f64());
    thread::sleep(REST);
    memory(&speaker, idle, agents, outcome)
}

fn memory(speaker: &Speaker, idle: f64, agents: u32, outcome: &mut Outcome) -> Result<()> {
    let (full, peak) = speaker.memory_mib()?;
    outcome.set(Figure::RssMib, full);
    outcome.set(Figure::PeakMib, peak);
    outcome.set(Figure::KibPerAgent, (full - idle) * 1024.0 / f64::from(agents));
    Ok(())
}

/// Announces and withdraws a prefix again and again: times until all have it.
fn single_changes(nva: &mut TcpStream, followers: &Followers, routes: u32, changes: u32) -> Result<[f64; 3]> {
    let system = followers.held();
    let mut times = Vec::new();
    for round in 0..changes {
        let number = routes + 1 + round;
        for announce in [true, false] {
            thread::sleep(PAUSE);
            followers.expect(system + usize::from(announce));
            let started = Instant::now();
            nva.write_all(&encode_one(0, number, announce))?;
            times.push(millis(followers.wait(PATIENCE)? - started));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(percentiles(&times))
}

/// How long the API's client waits for each.
fn create_peerings(api: &Api) -> Result<[f64; 3]> {
    let mut times = Vec::new();
    for peer in 1..=PEERINGS {
        let started = Instant::now();
        api.add_peering(peer)?;
        times.push(millis(started.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok(percentiles(&times))
}

/// Reads what the instance tells the NVA, and forgets it.
fn drain(nva: &TcpStream) -> Result<()> {
    let mut nva = nva.try_clone()?;
    nva.set_read_timeout(None)?;
    thread::spawn(move || std::io::copy(&mut nva, &mut std::io::sink()));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
