//! Claims 2 and 3: whoever is killed, and whenever, packets find their way.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread::JoinHandle;
use std::time::Instant;

use ipnet::Ipv4Net;
use lab::Lab;
use lab::topology::Path;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::dice::{Dice, number_from};
use crate::model::{Table, from_kernel};
use crate::watch::Watch;
use crate::world::{DEADLINE, VMS, World};

/// Routes that must stay, through nva0 alone and through nva0 and nva1.
const STABLE: u32 = 50;
/// Prefixes that come and go at nva1 and nva2 meanwhile.
const FLOWING: u32 = 100;
/// How often each victim is killed.
const ROUNDS: u64 = 1;
const MANY: u32 = 10_000;

pub fn any_process(rootless: bool) {
    let mut world = World::up(rootless);
    let mut dice = Dice::new();
    let stable: Vec<Path> = (0..STABLE).map(|i| Path::plain(prefix(20, i))).collect();
    let shared: Vec<Path> = (0..STABLE).map(|i| Path::plain(prefix(21, i))).collect();
    world.announce(0, &stable);
    world.announce(0, &shared);
    world.announce(1, &shared);
    world.settle("the routes that stay");
    let victims: [&[&str]; 7] = [
        &["manager"],
        &["instance0"],
        &["instance1"],
        &["instance0", "instance1"],
        &["manager", "instance1"],
        &["agent-vm1"],
        &["agent-vm1", "agent-vm2"],
    ];
    for round in 0..number_from("RW_ROUNDS", ROUNDS) {
        for victims in victims {
            kill(&mut world, &mut dice, victims, round);
        }
    }
}

/// Kills while routes come and go, lets more come and go, brings all back, and looks what became of it.
fn kill(world: &mut World, dice: &mut Dice, victims: &[&str], round: u64) {
    let what = format!("{} killed in round {round}", victims.join(" and "));
    let start = Instant::now();
    let before = Sessions::of(world);
    let watches = VMS.map(|vm| {
        let mut stays: Table = world.model.table(&vm);
        // Those that flow are not held to anything until all is back.
        stays.retain(|prefix, _| prefix.addr().octets()[0] != 30);
        Watch::start(world.open_again(), vm.name, stays)
    });
    flow(world, dice);
    for victim in victims {
        world.lab.kill(victim).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    flow(world, dice);
    if victims == ["manager"] {
        world.settle_without_api(&format!("routes flow without a manager: {what}"));
    }
    for victim in victims.iter().filter(|victim| !victim.starts_with("instance")) {
        world.lab.start(victim).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    flow(world, dice);
    wait_for_sessions(world, &what);
    world.settle(&what);
    let looks: usize = watches.map(|watch| watch.finish(&what)).iter().sum();
    let after = Sessions::of(world);
    if victims.iter().all(|victim| !victim.starts_with("instance")) {
        assert_eq!(before, after, "{what}: sessions and instances are as before");
    }
    eprintln!(
        "{what}: settled after {:.1} s, {looks} looks",
        start.elapsed().as_secs_f64()
    );
}

/// A few announcements and withdrawals at nva1 and nva2; nobody waits for them to arrive.
fn flow(world: &mut World, dice: &mut Dice) {
    for _ in 0..1 + dice.below(30) {
        let nva = 1 + dice.below(2);
        let prefix = prefix(30, dice.below(FLOWING as usize) as u32);
        if world.model.nvas[nva].announced.contains_key(&prefix) {
            world.withdraw(nva, &[prefix]);
        } else {
            world.announce(nva, &[Path::plain(prefix)]);
        }
    }
}

/// What killing the manager or an agent must not change.
#[derive(Debug, PartialEq)]
struct Sessions {
    /// NVA and instance → how often the session became Established.
    established: BTreeMap<(String, usize), u64>,
    /// The instances' process ids.
    instances: BTreeMap<String, i32>,
}

impl Sessions {
    fn of(world: &World) -> Sessions {
        let peers = world.api.peers().unwrap();
        let status = world.lab.status().unwrap();
        let instances = status.nodes.into_iter().filter(|node| node.kind == "instance");
        Sessions {
            established: peers
                .into_iter()
                .map(|p| ((p.name, p.instance), p.established_count))
                .collect(),
            instances: instances.flat_map(|node| node.pids).collect(),
        }
    }
}

fn wait_for_sessions(world: &World, what: &str) {
    let waited = world.lab.wait_until(&format!("all sessions: {what}"), DEADLINE, |_| {
        let peers = match world.api.peers() {
            Ok(peers) => peers,
            Err(error) => return Ok(vec![error.to_string()]),
        };
        let up = peers.iter().filter(|peer| peer.state == "Established").count();
        let wanted = 2 * world.model.nvas.len();
        Ok((up != wanted)
            .then(|| format!("{up} of {wanted} are Established"))
            .into_iter()
            .collect())
    });
    waited.unwrap_or_else(|e| panic!("{e}"));
}

pub fn agent_amid_many_routes(rootless: bool) {
    let mut world = World::up(rootless);
    let mut dice = Dice::new();
    world.put_settings("virtualHubs/rs/bgpConnections/nva2", &json!({ "routeLimit": 0 }));
    world.put_settings("virtualHubs/rs", &json!({ "totalRoutes": 0 }));
    world.announce(0, &(0..STABLE).map(|i| Path::plain(prefix(20, i))).collect::<Vec<_>>());
    wait_for_sessions(&world, "before anything is killed");
    world.settle("the routes that stay");
    let watch = Watch::start(world.open_again(), "vm1", world.model.table(&VMS[0]));
    let many: Vec<Ipv4Net> = (0..MANY).map(|i| prefix(40, i)).collect();
    let paths: Vec<Path> = many.iter().copied().map(Path::plain).collect();

    let killer = Killer::start(&world, 1 + dice.below(MANY as usize / 2), true);
    world.announce(2, &paths);
    let installed = killer.finish(&mut world);
    world.settle("10,000 routes after the agent was killed while it installed them");

    let killer = Killer::start(&world, 1 + dice.below(MANY as usize / 20), false);
    world.withdraw(2, &many);
    let left = killer.finish(&mut world);
    world.settle("no more of the 10,000 after the agent was killed while it removed them");
    watch.finish("routes that have nothing to do with the 10,000");
    eprintln!("killed with {installed} of {MANY} installed, and with {left} left");
}

/// Kills the agent of vm1 as soon as it has installed (or removed) that many.
struct Killer(JoinHandle<usize>);

impl Killer {
    fn start(world: &World, progress: usize, installing: bool) -> Killer {
        let lab = world.open_again();
        let agent = lab
            .state()
            .processes_of("agent-vm1")
            .next()
            .and_then(|process| process.id);
        let agent = agent.expect("the agent runs");
        Killer(std::thread::spawn(move || {
            let start = Instant::now();
            loop {
                let there = of_many(&lab);
                let done = if installing { there } else { MANY as usize - there };
                if done >= progress {
                    break;
                }
                assert!(start.elapsed() < DEADLINE, "the agent did {done} of {progress}");
            }
            agent.signal(Signal::SIGKILL).unwrap();
            agent.wait_gone(DEADLINE);
            of_many(&lab)
        }))
    }

    /// Waits for the deed and starts the agent again; returns how many of the many there were when it was dead.
    fn finish(self, world: &mut World) -> usize {
        let there = self.0.join().unwrap();
        world.lab.kill("agent-vm1").unwrap();
        world.lab.start("agent-vm1").unwrap();
        there
    }
}

fn of_many(lab: &Lab) -> usize {
    let kernel = from_kernel(&lab.kernel_routes("vm1").unwrap());
    kernel.keys().filter(|prefix| prefix.addr().octets()[0] == 40).count()
}

/// The `number`-th /24 of a block of its own.
fn prefix(block: u8, number: u32) -> Ipv4Net {
    let base = u32::from(Ipv4Addr::new(block, 0, 0, 0));
    Ipv4Net::new(Ipv4Addr::from(base + (number << 8)), 24).unwrap()
}
