//! What the kernel's table is after what instances say.

use api::agent::route::Way;
use api::agent::to_agent::Body;

use super::fake::{group, prefix, route, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "routes_are_installed_replaced_and_removed",
        routes_are_installed_replaced_and_removed,
    ),
    (
        "two_members_of_a_group_share_the_packets",
        two_members_of_a_group_share_the_packets,
    ),
];

fn routes_are_installed_replaced_and_removed() {
    let mut world = World::new();
    let routes = vec![
        route("10.1.0.0/24", Way::OnLink(true)),
        route("10.1.0.0/16", Way::SubnetGateway(true)),
        route("192.168.0.0/16", Way::Blackhole(true)),
        via_group("10.250.0.0/16", 1),
    ];
    let instance = world.instance(world.greeting(0, 1, update(1, vec![group(1, &["10.1.1.4"])], routes)));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(
        world.routes(),
        [
            "10.1.0.0/24 dev eth0 scope link metric 20",
            "10.1.0.0/16 via 10.1.0.1 dev eth0 metric 20 onlink",
            "10.250.0.0/16 nhid ID metric 20",
            "blackhole 192.168.0.0/16 metric 20",
        ]
        .map(str::to_owned)
        .to_vec(),
    );

    instance.say(Body::Delta(update(2, vec![group(1, &["10.1.1.5"])], vec![])));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.5"]);

    let mut removal = update(3, vec![], vec![]);
    removal.removed = vec![prefix("10.250.0.0/16"), prefix("192.168.0.0/16")];
    removal.removed_groups = vec![1];
    instance.say(Body::Delta(removal));
    assert_eq!(instance.confirmed(3), Vec::<String>::new());
    assert_eq!(world.routes().len(), 2);
    assert_eq!(world.ip("nexthop show"), "");
}

fn two_members_of_a_group_share_the_packets() {
    let mut world = World::new();
    let table = update(
        1,
        vec![group(1, &["10.1.1.4", "10.1.1.5"])],
        vec![via_group("10.250.0.0/16", 1)],
    );
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4", "10.1.1.5"]);
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/fib_multipath_hash_policy")
            .unwrap()
            .trim(),
        "1"
    );
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/nexthop_compat_mode")
            .unwrap()
            .trim(),
        "0"
    );
}
