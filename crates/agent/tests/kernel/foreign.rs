//! What is not ours is reported and never touched.

use api::agent::to_agent::Body;

use super::fake::{group, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "a_foreign_route_in_the_way_is_reported_and_untouched",
        a_foreign_route_in_the_way_is_reported_and_untouched,
    ),
    (
        "a_foreign_nexthop_with_an_id_of_our_range_is_untouched",
        a_foreign_nexthop_with_an_id_of_our_range_is_untouched,
    ),
    ("flush_removes_ours_only", flush_removes_ours_only),
    (
        "a_route_through_the_nic_itself_is_not_installed",
        a_route_through_the_nic_itself_is_not_installed,
    ),
];

fn a_foreign_route_in_the_way_is_reported_and_untouched() {
    let mut world = World::new();
    world.ip("route add 10.250.0.0/16 via 10.1.0.9 dev eth0 onlink metric 20 proto static");
    world.ip("route add 10.251.0.0/16 via 10.1.0.9 dev eth0 onlink metric 5 proto static");
    let before = world.ip("route show proto static");
    let routes = ["10.250.0.0/16", "10.251.0.0/16", "10.252.0.0/16"].map(|prefix| via_group(prefix, 1));
    let table = update(1, vec![group(1, &["10.1.1.4"])], routes.to_vec());
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);

    let mut problems = instance.confirmed(1);
    problems.sort();
    assert_eq!(
        problems,
        [
            "10.250.0.0/16: a route of protocol 4 with metric 20 is in the way; it was left alone",
            "10.251.0.0/16: a route of protocol 4 with metric 5 goes before ours",
        ]
    );
    assert_eq!(world.ip("route show proto static"), before);
    assert_eq!(world.gateways("10.252.0.0/16"), ["10.1.1.4"]);

    // When it goes, ours comes.
    world.ip("route del 10.250.0.0/16 proto static metric 20");
    world.ip("route del 10.251.0.0/16 proto static metric 5");
    assert_eq!(
        instance.confirmation(|installed| installed.problems.is_empty()),
        Vec::<String>::new()
    );
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4"]);
}

fn a_foreign_nexthop_with_an_id_of_our_range_is_untouched() {
    let mut world = World::new();
    for id in agent::ours::NEXTHOP_IDS.step_by(0x400).flat_map(|id| [id, id + 1]) {
        world.ip(&format!("nexthop add id {id} via 10.1.0.9 dev eth0 onlink proto 4"));
    }
    let before = world.ip("nexthop show proto 4");
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4"]);
    assert_eq!(world.ip("nexthop show proto 4"), before);
}

fn flush_removes_ours_only() {
    let mut world = World::new();
    world.ip("route add 10.9.0.0/16 via 10.1.0.9 dev eth0 onlink metric 20 proto static");
    world.ip("route add 10.8.0.0/16 via 10.1.0.9 dev eth0 onlink metric 21 proto 157");
    world.ip("nexthop add id 5 via 10.1.0.9 dev eth0 onlink proto 157");
    let show = |world: &World| (world.ip("route show"), world.ip("nexthop show"));
    let before = show(&world);
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    world.stop_agent();
    assert_eq!(
        world.gateways("10.250.0.0/16"),
        ["10.1.1.4"],
        "routes stay when the agent stops"
    );

    let options = agent::FlushOptions {
        nics: vec![world.nic_spec()],
    };
    // The agent's thread may still be at its last portion: what it does after the flush would be its own.
    world.wait_until("the table is as before", || {
        agent::flush(&options).unwrap();
        show(&world) == before
    });
}

fn a_route_through_the_nic_itself_is_not_installed() {
    let mut world = World::new();
    let groups = vec![group(1, &["10.1.0.5", "10.1.0.6"]), group(2, &["10.1.0.6"])];
    let routes = vec![via_group("10.250.0.0/16", 1), via_group("10.251.0.0/16", 2)];
    let instance = world.instance(world.greeting(0, 1, update(1, groups, routes)));
    world.start_agent(&[&instance]);
    let problems = instance.confirmed(1);
    assert_eq!(
        problems,
        ["10.250.0.0/16: not installed on this NIC, which is one of its next hops (10.1.0.5)"]
    );
    assert_eq!(world.gateways("10.250.0.0/16"), Vec::<String>::new());
    assert_eq!(world.gateways("10.251.0.0/16"), ["10.1.0.6"]);

    instance.say(Body::Delta(update(2, vec![group(1, &["10.1.0.6"])], vec![])));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.0.6"]);
}
