//! Two agents for one NIC, by mistake: both write the same, and neither keeps the other busy.

use api::agent::to_agent::Body;

use super::fake::{group, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[(
    "two_agents_of_one_nic_hold_the_same_table_and_one_goes_on_when_the_other_ends",
    two_agents_of_one_nic_hold_the_same_table_and_one_goes_on_when_the_other_ends,
)];

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
