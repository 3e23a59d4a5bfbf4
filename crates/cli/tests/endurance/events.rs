//! Claim 1: random events in batches, and after each batch the kernels are as they should be.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::topology::Path;

use crate::dice::{Dice, number_from};
use crate::model::net;
use crate::world::{NVAS, VMS, World};

/// What CI plays.
const EVENTS: u64 = 400;
/// Events between two looks.
const MAX_BATCH: usize = 60;

pub fn random_events(rootless: bool) {
    let events = number_from("RW_EVENTS", EVENTS);
    let mut world = World::up(rootless);
    world.settle("the empty virtual network");
    let mut dice = Dice::new();
    let (start, mut done, mut batches, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
    while done < events {
        let mut said = Vec::new();
        for _ in 0..1 + dice.below(MAX_BATCH) {
            said.push(roll(&mut world, &mut dice));
        }
        done += said.len() as u64;
        let waiting = Instant::now();
        world.settle(&format!(
            "all is as it should be after {done} events, the last being\n{}",
            said.join("\n")
        ));
        slowest = slowest.max(waiting.elapsed());
        batches += 1;
    }
    eprintln!(
        "{done} events in {batches} batches took {:.1} s; the slowest batch took {:.2} s to settle",
        start.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
}

/// One thing that happens.
fn roll(world: &mut World, dice: &mut Dice) -> String {
    let nva = dice.below(NVAS);
    let vm = VMS[dice.below(VMS.len())].name;
    match dice.below(100) {
        0..=47 => announce(world, dice, nva),
        48..=76 => withdraw(world, dice, nva),
        77..=78 => {
            world.set_alive(nva, false);
            format!("nva{nva} is killed")
        }
        79..=81 => {
            world.set_alive(nva, true);
            format!("nva{nva} starts")
        }
        82 => {
            world.lab.set_link(vm, false).unwrap();
            world.lab.set_link(vm, true).unwrap();
            format!("{vm} loses its carrier and gets it back")
        }
        83 => {
            let agent = format!("agent-{vm}");
            world.lab.kill(&agent).unwrap();
            world.lab.start(&agent).unwrap();
            format!("{agent} is killed and starts")
        }
        84 => {
            world.toggle_admin_down(nva);
            format!("nva{nva} admin down: {}", world.model.nvas[nva].admin_down)
        }
        _ => edit(world, dice, nva),
    }
}

fn announce(world: &mut World, dice: &mut Dice, nva: usize) -> String {
    let mut path = Path::plain(net(dice.pick(&PREFIXES)));
    path.as_path_prepend = dice.below(3) as u8;
    match dice.below(12) {
        0 => path.as_path.push(65515),
        1 => path.as_path.push(0),
        2 | 3 => path.as_path.push(4_200_000_000),
        _ => {}
    }
    match dice.below(10) {
        0 => path.next_hop = Some(Ipv4Addr::new(10, 1, 1, 100).into()),
        1 => path.next_hop = Some(VMS[1].address.into()),
        _ => {}
    }
    match dice.below(12) {
        // NO_ADVERTISE and NO_EXPORT keep routes from other NVAs, not from VMs.
        0 => path.communities.push((0xffff, 0xff02)),
        1 => path.communities.push((0xffff, 0xff01)),
        _ => {}
    }
    let said = format!("nva{nva} announces {path:?}");
    world.announce(nva, &[path]);
    said
}

fn withdraw(world: &mut World, dice: &mut Dice, nva: usize) -> String {
    let announced: Vec<_> = world.model.nvas[nva].announced.keys().copied().collect();
    if announced.is_empty() {
        return format!("nva{nva} has nothing to withdraw");
    }
    let prefix = dice.pick(&announced);
    world.withdraw(nva, &[prefix]);
    format!("nva{nva} withdraws {prefix}")
}

/// Few prefixes, so that they meet: some outside, a default, some inside the virtual network, one that may come inside.
const PREFIXES: [&str; 12] = [
    "0.0.0.0/0",
    "10.250.0.0/16",
    "10.250.1.0/24",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.128/25",
    "10.2.0.0/16",
    "10.2.7.0/24",
    "192.168.0.0/16",
    "192.168.3.0/24",
    "172.20.0.0/16",
    "203.0.113.7/32",
];

/// Somebody changes something through the API.
fn edit(world: &mut World, dice: &mut Dice, nva: usize) -> String {
    let model = &mut world.model;
    match dice.below(4) {
        0 => {
            model.branch_to_branch ^= true;
            let said = format!("branch-to-branch: {}", model.branch_to_branch);
            world.put_hub();
            said
        }
        1 => {
            let more = net("10.2.0.0/16");
            match model.address_space.iter().position(|prefix| *prefix == more) {
                Some(position) => drop(model.address_space.remove(position)),
                None => model.address_space.push(more),
            }
            let said = format!("address space {:?}", model.address_space);
            world.put_network();
            said
        }
        2 => {
            model.disable_bgp_propagation ^= true;
            let said = format!("propagation off: {}", model.disable_bgp_propagation);
            world.put_route_table();
            said
        }
        _ => {
            let prefix = net(dice.pick(&["10.250.0.0/16", "192.168.0.0/16", "0.0.0.0/0"]));
            if model.user_routes.remove(&prefix).is_none() {
                let appliance = model.nvas[nva].address;
                model
                    .user_routes
                    .insert(prefix, (dice.below(3) > 0).then_some(appliance));
            }
            let said = format!("user routes {:?}", model.user_routes);
            world.put_route_table();
            said
        }
    }
}
