//! What the kernel's table is after what instances say.

use api::agent::route::Way;
use api::agent::to_agent::Body;

use super::fake::{group, prefix, route, update, via_group};
use super::world::{GATEWAY, World};

pub const TESTS: &[(&str, fn())] = &[
    (
        "routes_are_installed_replaced_and_removed",
        routes_are_installed_replaced_and_removed,
    ),
    (
        "two_members_of_a_group_share_the_packets",
        two_members_of_a_group_share_the_packets,
    ),
    ("ten_thousand_routes_come_and_go", ten_thousand_routes_come_and_go),
    ("a_table_of_its_own_is_used", a_table_of_its_own_is_used),
    (
        "a_next_hop_on_another_link_is_used_over_that_link_as_long_as_the_kernel_says_so",
        a_next_hop_on_another_link_is_used_over_that_link_as_long_as_the_kernel_says_so,
    ),
    (
        "what_a_network_interface_sends_leaves_by_it_whatever_the_kernel_says_of_another",
        what_a_network_interface_sends_leaves_by_it_whatever_the_kernel_says_of_another,
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

/// As at a gateway, whose sites are behind tunnels.
fn a_next_hop_on_another_link_is_used_over_that_link_as_long_as_the_kernel_says_so() {
    const SITE: &str = "10.1.1.4";
    let mut world = World::of(GATEWAY);
    let tunnel_up = |world: &World| {
        world.ip("link set tun0 up");
        world.ip("neighbour replace 10.1.1.4 lladdr 02:00:00:00:00:02 dev tun0 nud permanent");
        world.ip("route add 10.1.1.4/32 dev tun0 scope link");
    };
    world.ip("link add tun0 type veth peer name far0");
    world.ip("link set far0 up");
    tunnel_up(&world);
    let table = update(
        1,
        vec![group(1, &[SITE, "10.1.1.5"])],
        vec![via_group("10.250.0.0/16", 1)],
    );
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let on = |world: &World, link: &str| {
        world.devices("10.250.0.0/16")
            == [
                (SITE.to_owned(), link.to_owned()),
                ("10.1.1.5".to_owned(), "eth0".to_owned()),
            ]
    };
    assert!(on(&world, "tun0"), "{:?}", world.devices("10.250.0.0/16"));

    // One that starts anew finds its own, and leaves nothing behind when the way changes.
    world.stop_agent();
    let written = world.ip("nexthop show");
    let table = update(
        2,
        vec![group(1, &[SITE, "10.1.1.5"])],
        vec![via_group("10.250.0.0/16", 1), via_group("10.251.0.0/16", 1)],
    );
    let instance = world.instance(world.greeting(0, 2, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(world.ip("nexthop show"), written);

    world.ip("route del 10.1.1.4/32 dev tun0");
    world.wait_until("over the NIC's link without that route", || on(&world, "eth0"));
    world.ip("route add 10.1.1.4/32 dev tun0 scope link");
    world.wait_until("over the tunnel with it", || on(&world, "tun0"));
    world.ip("link set tun0 down");
    world.wait_until("over the NIC's link without the tunnel", || on(&world, "eth0"));
    tunnel_up(&world);
    world.wait_until("over the tunnel again", || on(&world, "tun0"));

    let mut removal = update(3, vec![], vec![]);
    removal.removed = vec![prefix("10.250.0.0/16"), prefix("10.251.0.0/16")];
    removal.removed_groups = vec![1];
    instance.say(Body::Delta(removal));
    world.wait_until("nothing is left", || {
        world.routes().is_empty() && world.ip("nexthop show").is_empty()
    });
}

/// Two NICs of a machine, each with a table: the main one says that the next hop is beside the other NIC.
fn what_a_network_interface_sends_leaves_by_it_whatever_the_kernel_says_of_another() {
    let mut world = World::new();
    world.ip("link add eth1 type veth peer name peer1");
    world.ip("link set eth1 up");
    world.ip("link set peer1 up");
    world.ip("address add 10.1.1.9/24 dev eth1");
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(
        world.devices("10.250.0.0/16"),
        [("10.1.1.4".to_owned(), "eth0".to_owned())]
    );
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

fn ten_thousand_routes_come_and_go() {
    let mut world = World::new();
    let routes: Vec<_> = (0..10_000)
        .map(|n| via_group(&format!("20.{}.{}.0/24", n / 256, n % 256), 1))
        .collect();
    let prefixes = routes.iter().filter_map(|route| route.prefix.clone()).collect();
    let instance = world.instance(world.greeting(0, 1, update(1, vec![], vec![])));
    world.start_agent(&[&instance]);
    instance.confirmed(1);
    instance.say(Body::Delta(update(2, vec![group(1, &["10.1.1.4"])], routes)));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(world.routes().len(), 10_000);
    instance.say(Body::Delta(api::agent::TableUpdate {
        removed: prefixes,
        removed_groups: vec![1],
        ..update(3, vec![], vec![])
    }));
    assert_eq!(instance.confirmed(3), Vec::<String>::new());
    assert_eq!(world.routes().len(), 0);
}

fn a_table_of_its_own_is_used() {
    let mut world = World::new();
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent_in(&[&instance], 1000);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(world.routes().len(), 0);
    assert_eq!(world.ip("route show table 1000 proto 157").lines().count(), 1);
}
