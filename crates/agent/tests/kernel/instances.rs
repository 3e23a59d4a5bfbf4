//! Two instances: joined, silent, restarted.

use api::agent::to_agent::Body;

use super::fake::{self, FakeInstance, group, update, via_group};
use super::world::{NIC, World};

pub const TESTS: &[(&str, fn())] = &[
    (
        "next_hops_of_equal_rank_are_joined_and_a_better_rank_wins",
        joined_by_rank,
    ),
    (
        "routes_stay_when_both_instances_die",
        routes_stay_when_both_instances_die,
    ),
    (
        "an_instance_that_is_silent_no_longer_counts",
        an_instance_that_is_silent_no_longer_counts,
    ),
    (
        "a_restarted_instance_only_adds_until_it_has_converged",
        a_restarted_instance_only_adds,
    ),
    (
        "nothing_found_at_the_start_goes_before_both_instances_are_heard",
        nothing_goes_before_both_are_heard,
    ),
];

fn joined_by_rank() {
    let mut world = World::new();
    let table = |gateway: &str| update(1, vec![group(1, &[gateway])], vec![via_group("10.250.0.0/16", 1)]);
    let first = world.instance(world.greeting(0, 1, table("10.1.1.4")));
    let second = world.instance(world.greeting(1, 1, table("10.1.1.5")));
    world.start_agent(&[&first, &second]);
    world.wait_until("both next hops", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4", "10.1.1.5"]
    });

    let mut better = group(1, &["10.1.1.6"]);
    better.rank = 1;
    second.say(Body::Delta(update(2, vec![better], vec![])));
    assert_eq!(second.confirmed(2), Vec::<String>::new());
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.6"]);
}

fn routes_stay_when_both_instances_die() {
    let mut world = World::new();
    let table = |gateway: &str| update(1, vec![group(1, &[gateway])], vec![via_group("10.250.0.0/16", 1)]);
    let first = world.instance(world.greeting(0, 1, table("10.1.1.4")));
    let second = world.instance(world.greeting(1, 1, table("10.1.1.5")));
    let address = second.address;
    world.start_agent(&[&first, &second]);
    world.wait_until("both next hops", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4", "10.1.1.5"]
    });
    first.stop();
    second.stop();

    // A third route shows that the agent has taken in all that went before.
    let mut greeting = world.greeting(1, 2, update(1, vec![], vec![]));
    greeting.pop();
    let second = FakeInstance::start(world.runtime.handle(), address, greeting);
    second.confirmed(1);
    assert_eq!(
        world.gateways("10.250.0.0/16"),
        ["10.1.1.4", "10.1.1.5"],
        "it converges, so it only adds"
    );
    second.say(Body::Delta(update(
        2,
        vec![group(3, &["10.1.1.7"])],
        vec![via_group("10.253.0.0/16", 3)],
    )));
    second.confirmed(2);
    assert_eq!(world.gateways("10.253.0.0/16"), ["10.1.1.7"]);
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4", "10.1.1.5"]);

    // Once it has converged its word is the only one: the other one is silent.
    second.say(Body::Converged(true));
    world.wait_until("only its routes are left", || {
        world.gateways("10.250.0.0/16").is_empty()
    });
    assert_eq!(world.gateways("10.253.0.0/16"), ["10.1.1.7"]);
}

fn an_instance_that_is_silent_no_longer_counts() {
    let mut world = World::new();
    let table = |gateway: &str| update(1, vec![group(1, &[gateway])], vec![via_group("10.250.0.0/16", 1)]);
    let first = world.instance(world.greeting(0, 1, table("10.1.1.4")));
    let second = world.instance(world.greeting(1, 1, table("10.1.1.5")));
    world.start_agent(&[&first, &second]);
    world.wait_until("both next hops", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4", "10.1.1.5"]
    });
    let routes = world.routes();
    second.stop();
    world.wait_until("its next hop is gone", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4"]
    });
    assert_eq!(world.routes(), routes);
}

fn a_restarted_instance_only_adds() {
    let mut world = World::new();
    let routes = vec![via_group("10.250.0.0/16", 1), via_group("10.251.0.0/16", 1)];
    let instance = world.instance(world.greeting(0, 1, update(1, vec![group(1, &["10.1.1.4"])], routes)));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let (address, before) = (instance.address, world.ip("route show"));
    instance.stop();

    let greeting = vec![
        fake::welcome(0, 2),
        Body::Converged(false),
        fake::nic(NIC, "10.1.0.5", "10.1.0.0/24", "10.1.0.1"),
        Body::Snapshot(update(1, vec![], vec![])),
    ];
    let instance = FakeInstance::start(world.runtime.handle(), address, greeting);
    instance.confirmed(1);
    assert_eq!(world.ip("route show"), before);
    instance.say(Body::Delta(update(
        2,
        vec![group(5, &["10.1.1.4"])],
        vec![via_group("10.250.0.0/16", 5)],
    )));
    instance.confirmed(2);
    assert_eq!(world.ip("route show"), before);
    instance.say(Body::Converged(true));
    world.wait_until("what it has not said again is gone", || {
        world.gateways("10.251.0.0/16").is_empty()
    });
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4"]);
}

fn nothing_goes_before_both_are_heard() {
    let mut world = World::new();
    let first_table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let second_table = update(
        1,
        vec![group(1, &["10.1.1.5"])],
        vec![via_group("10.250.0.0/16", 1), via_group("10.251.0.0/16", 1)],
    );
    let first = world.instance(world.greeting(0, 1, first_table));
    let second = world.instance(world.greeting(1, 1, second_table.clone()));
    world.start_agent(&[&first, &second]);
    world.wait_until("both next hops", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4", "10.1.1.5"]
    });
    world.stop_agent();
    let (address, before) = (second.address, (world.ip("route show"), world.ip("nexthop show")));
    second.stop();

    // The second one converges while the agent starts.
    let mut greeting = world.greeting(1, 2, update(1, vec![], vec![]));
    greeting.pop();
    let second = FakeInstance::start(world.runtime.handle(), address, greeting);
    world.start_agent(&[&first, &second]);
    second.confirmed(1);
    first.confirmed(1);
    assert_eq!((world.ip("route show"), world.ip("nexthop show")), before);
    second.say(Body::Delta(update(2, second_table.groups, second_table.routes)));
    second.say(Body::Converged(true));
    second.confirmed(2);
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4", "10.1.1.5"]);
    assert_eq!(world.ip("route show"), before.0);
}
