//! Two agents for one NIC, by mistake: both write the same, and neither keeps the other busy. Two NICs side by side.

use api::agent::to_agent::Body;

use super::fake::{self, group, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "two_agents_of_one_nic_hold_the_same_table_and_one_goes_on_when_the_other_ends",
        two_agents_of_one_nic_hold_the_same_table_and_one_goes_on_when_the_other_ends,
    ),
    (
        "two_nics_in_one_namespace_change_their_groups_and_take_nothing_for_meddling",
        two_nics_in_one_namespace_change_their_groups_and_take_nothing_for_meddling,
    ),
];

fn two_agents_of_one_nic_hold_the_same_table_and_one_goes_on_when_the_other_ends() {
    let mut world = World::new();
    let destinations: Vec<String> = (0..50).map(|n| format!("10.200.{n}.0/24")).collect();
    let routes = |group| destinations.iter().map(|to| via_group(to, group)).collect::<Vec<_>>();
    let table = || update(1, vec![group(1, &["10.1.1.4"])], routes(1));
    // One instance for each, so that it is known what each has confirmed.
    let (first, second) = (world.greeting(0, 1, table()), world.greeting(0, 1, table()));
    let (first, second) = (world.instance(first), world.instance(second));
    world.start_agent(&[&first]);
    let mut other = world.start_agent_process(&second);
    let are_settled = |generation| {
        for instance in [&first, &second] {
            instance.confirmation(|said| said.generation >= generation && said.problems.is_empty());
        }
    };
    are_settled(1);
    let all_go_through = |gateways: &[&str]| destinations.iter().all(|to| world.gateways(to) == gateways);
    world.wait_until("all routes", || all_go_through(&["10.1.1.4"]));

    // Other members, then another group, then fewer routes.
    let changes = [
        update(2, vec![group(1, &["10.1.1.4", "10.1.1.5"])], Vec::new()),
        update(3, vec![group(2, &["10.1.1.6"])], routes(2)),
    ];
    for (change, gateways) in changes.into_iter().zip([&["10.1.1.4", "10.1.1.5"][..], &["10.1.1.6"]]) {
        let generation = change.generation;
        for instance in [&first, &second] {
            instance.say(Body::Delta(change.clone()));
        }
        are_settled(generation);
        world.wait_until("all routes go the new way", || all_go_through(gateways));
    }

    world.stop_agent();
    first.stop();
    let fewer = api::agent::TableUpdate {
        removed: destinations[1..].iter().map(|to| super::fake::prefix(to)).collect(),
        ..update(4, vec![group(2, &["10.1.1.7"])], Vec::new())
    };
    second.say(Body::Delta(fewer));
    second.confirmation(|said| said.generation >= 4 && said.problems.is_empty());
    world.wait_until("one route is left", || world.routes().len() == 1);
    world.wait_until("it goes the new way", || {
        world.gateways(&destinations[0]) == ["10.1.1.7"]
    });
    other.kill().unwrap();
    other.wait().unwrap();
}

fn two_nics_in_one_namespace_change_their_groups_and_take_nothing_for_meddling() {
    const OTHER_NIC: &str = "/subscriptions/s/other";
    const OTHER_TABLE: u32 = 100;
    const TO: &str = "10.200.0.0/24";
    let mut world = World::new();
    world.ip("link add eth1 type veth peer name peer1");
    world.ip("link set peer1 up");
    world.ip("link set eth1 up");
    world.ip("address add 10.2.0.5/24 dev eth1 noprefixroute");
    for next_hop in ["10.1.1.4", "10.1.1.5"] {
        world.ip(&format!(
            "neighbour replace {next_hop} lladdr 02:00:00:00:00:01 dev eth1 nud permanent"
        ));
    }
    let mut greeting = world.greeting(0, 1, update(1, vec![group(1, &["10.1.1.4"])], vec![via_group(TO, 1)]));
    greeting.insert(2, fake::nic(OTHER_NIC, "10.2.0.5", "10.2.0.0/24", "10.2.0.1"));
    let instance = world.instance(greeting);
    let mut other = world.nic_spec();
    (other.id, other.table) = (OTHER_NIC.to_owned(), OTHER_TABLE);
    world.start_agent_with(&[&instance], |options| options.nics.push(other));
    assert_eq!(instance.confirmed(1), Vec::<String>::new());

    for generation in 2..=20 {
        let next_hop = ["10.1.1.4", "10.1.1.5"][generation as usize % 2];
        instance.say(Body::Delta(update(generation, vec![group(1, &[next_hop])], vec![])));
        world.wait_until("each goes through its own link", || {
            let through = |to: &str, link: &str| world.devices(to) == [(next_hop.to_owned(), link.to_owned())];
            through(TO, "eth0") && through(&format!("{TO} table {OTHER_TABLE}"), "eth1")
        });
    }
    instance.confirmation(|said| said.generation == 20 && said.repaired == 0 && said.problems.is_empty());
}
