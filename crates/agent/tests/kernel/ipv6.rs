//! The same of IPv6: a NIC with both families, and one with IPv4 alone.

use api::agent::route::Way;
use api::agent::to_agent::Body;

use super::fake::{self, group, prefix, route, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "ipv6_routes_are_installed_replaced_and_removed",
        ipv6_routes_are_installed_replaced_and_removed,
    ),
    (
        "a_nic_without_an_ipv6_address_gets_none_of_its_subnets_ipv6_routes",
        a_nic_without_an_ipv6_address_gets_none_of_its_subnets_ipv6_routes,
    ),
    (
        "a_foreign_ipv6_route_in_the_way_is_reported_and_untouched",
        a_foreign_ipv6_route_in_the_way_is_reported_and_untouched,
    ),
    (
        "the_ipv6_table_is_whole_again_when_the_carrier_returns",
        the_ipv6_table_is_whole_again_when_the_carrier_returns,
    ),
    (
        "an_ipv6_next_hop_that_answers_no_solicitation_is_reported_until_it_does",
        an_ipv6_next_hop_that_answers_no_solicitation_is_reported_until_it_does,
    ),
    (
        "the_ipv6_default_route_of_others_stays_beside_ours",
        the_ipv6_default_route_of_others_stays_beside_ours,
    ),
];

const NVA: &str = "fd00:1:0:4::4";
const SECOND: &str = "fd00:1:0:4::5";

/// A NIC 10.1.0.5 and fd00:1::5.
fn world() -> World {
    let world = World::new();
    world.ip("address add fd00:1::5/64 dev eth0 nodad noprefixroute");
    for next_hop in [NVA, SECOND] {
        world.ip(&format!(
            "neighbour add {next_hop} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
        ));
    }
    world
}

fn greeting(world: &World, table: api::agent::TableUpdate) -> Vec<Body> {
    let mut greeting = world.greeting(0, 1, table);
    for body in &mut greeting {
        if let Body::Nic(nic) = body {
            fake::add_ipv6(nic, "fd00:1::5", "fd00:1::/64", "fd00:1::1");
        }
    }
    greeting
}

/// Our routes, without what `ip` adds to each line.
fn routes(world: &World) -> Vec<String> {
    let shown = world.ip("-6 route show proto 157");
    let is_said = |word: &&str| {
        !word
            .parse::<u32>()
            .is_ok_and(|id| agent::ours::NEXTHOP_IDS.contains(&id))
    };
    let line = |line: &str| {
        let words: Vec<&str> = line.split(" pref ").next().unwrap_or(line).split_whitespace().collect();
        words.into_iter().filter(is_said).collect::<Vec<_>>().join(" ")
    };
    let mut all: Vec<String> = shown
        .lines()
        .filter(|line| line.contains("metric 20"))
        .map(line)
        .collect();
    all.sort();
    all
}

/// The gateways that a route may take.
fn gateways(world: &World, destination: &str) -> Vec<String> {
    let shown = world.ip(&format!("-6 route show exact {destination} proto 157"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "nhid");
    let Some(id) = words.nth(1) else { return Vec::new() };
    // What is shown next may be gone by then.
    let group = world.try_ip(&format!("nexthop get id {id}")).unwrap_or_default();
    let mut words = group.split_whitespace().skip_while(|word| *word != "group");
    let members = words.nth(1).unwrap_or_default().to_owned();
    let via = |id: &str| {
        let nexthop = world.try_ip(&format!("nexthop get id {id}")).unwrap_or_default();
        let mut words = nexthop.split_whitespace().skip_while(|word| *word != "via");
        words.nth(1).unwrap_or_default().to_owned()
    };
    let mut all: Vec<String> = members.split('/').map(via).collect();
    all.sort();
    all
}

fn ipv6_routes_are_installed_replaced_and_removed() {
    let mut world = world();
    let all = vec![
        via_group("2001:db8::/32", 1),
        via_group("2001:db9::/32", 1),
        route("2001:dba::/32", Way::Blackhole(true)),
        route("fd00:1::/64", Way::OnLink(true)),
        route("fd00:1::/48", Way::SubnetGateway(true)),
        route("::/0", Way::SubnetGateway(true)),
    ];
    let table = update(1, vec![group(1, &[NVA, SECOND])], all);
    let instance = world.instance(greeting(&world, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let shown = routes(&world).join("\n");
    for expected in [
        "2001:db8::/32 nhid",
        "blackhole 2001:dba::/32",
        "default via fd00:1::1 dev eth0",
        "fd00:1::/48 via fd00:1::1 dev eth0",
        "fd00:1::/64 dev eth0",
    ] {
        assert!(shown.contains(expected), "{expected} is missing:\n{shown}");
    }
    assert_eq!(routes(&world).len(), 6, "{shown}");
    assert_eq!(gateways(&world, "2001:db8::/32"), [NVA, SECOND]);

    let other_ways = vec![
        route("2001:db9::/32", Way::Blackhole(true)),
        via_group("fd00:1::/48", 1),
        via_group("::/0", 1),
    ];
    let mut changes = update(2, vec![group(1, &[SECOND])], other_ways);
    changes.removed = vec![prefix("2001:dba::/32")];
    instance.say(Body::Delta(changes));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(routes(&world).len(), 5);
    for destination in ["2001:db8::/32", "fd00:1::/48", "::/0"] {
        assert_eq!(gateways(&world, destination), [SECOND], "{destination}");
    }

    // And back: a group in the place of a blackhole, the subnet's first address in that of a group.
    let back = vec![
        via_group("2001:db9::/32", 1),
        route("fd00:1::/48", Way::SubnetGateway(true)),
    ];
    instance.say(Body::Delta(update(3, vec![], back)));
    assert_eq!(instance.confirmed(3), Vec::<String>::new());
    assert_eq!(gateways(&world, "2001:db9::/32"), [SECOND]);
    assert_eq!(gateways(&world, "fd00:1::/48"), Vec::<String>::new());

    let mut removal = update(4, vec![], vec![]);
    let gone = ["2001:db8::/32", "2001:db9::/32", "fd00:1::/64", "fd00:1::/48", "::/0"];
    removal.removed = gone.map(prefix).to_vec();
    removal.removed_groups = vec![1];
    instance.say(Body::Delta(removal));
    assert_eq!(instance.confirmed(4), Vec::<String>::new());
    assert_eq!(routes(&world), Vec::<String>::new());
    assert_eq!(world.ip("nexthop show"), "");
}

fn a_nic_without_an_ipv6_address_gets_none_of_its_subnets_ipv6_routes() {
    let mut world = world();
    let groups = vec![group(1, &["10.1.1.4"]), group(2, &[NVA])];
    let both = vec![
        via_group("10.250.0.0/16", 1),
        via_group("2001:db8::/32", 2),
        route("::/0", Way::SubnetGateway(true)),
    ];
    let instance = world.instance(world.greeting(0, 1, update(1, groups, both)));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(routes(&world), Vec::<String>::new());
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4"]);
}

fn a_foreign_ipv6_route_in_the_way_is_reported_and_untouched() {
    let mut world = world();
    world.ip("-6 route add 2001:db8::/32 via fd00:1::9 dev eth0 onlink metric 20 proto static");
    let before = world.ip("-6 route show proto static");
    let both = ["2001:db8::/32", "2001:db9::/32"].map(|prefix| via_group(prefix, 1));
    let table = update(1, vec![group(1, &[NVA])], both.to_vec());
    let instance = world.instance(greeting(&world, table));
    world.start_agent(&[&instance]);
    assert_eq!(
        instance.confirmed(1),
        ["2001:db8::/32: a route of protocol 4 with metric 20 is in the way; it was left alone"]
    );
    assert_eq!(world.ip("-6 route show proto static"), before);
    assert_eq!(gateways(&world, "2001:db9::/32"), [NVA]);
    world.ip("-6 route del 2001:db8::/32 proto static metric 20");
    let fine = instance.confirmation(|installed| installed.problems.is_empty());
    assert_eq!(fine, Vec::<String>::new());
    assert_eq!(gateways(&world, "2001:db8::/32"), [NVA]);
}

fn the_ipv6_table_is_whole_again_when_the_carrier_returns() {
    let mut world = world();
    let both = vec![via_group("2001:db8::/32", 1), route("::/0", Way::SubnetGateway(true))];
    let table = update(1, vec![group(1, &[NVA])], both);
    let instance = world.instance(greeting(&world, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let before = routes(&world);
    world.ip("link set peer0 down");
    let problems = instance.confirmation(|installed| !installed.problems.is_empty());
    assert_eq!(problems, ["link eth0 is down or has no carrier"]);
    world.ip("link set peer0 up");
    world.wait_until("the table is whole", || {
        routes(&world) == before && gateways(&world, "2001:db8::/32") == [NVA]
    });
}

fn an_ipv6_next_hop_that_answers_no_solicitation_is_reported_until_it_does() {
    let mut world = world();
    std::fs::write("/proc/sys/net/ipv6/neigh/eth0/retrans_time_ms", "20").unwrap();
    let table = update(
        1,
        vec![group(1, &["fd00:1:0:4::99"])],
        vec![via_group("2001:db8::/32", 1)],
    );
    let instance = world.instance(greeting(&world, table));
    world.start_agent(&[&instance]);
    let silent =
        "next hop fd00:1:0:4::99 does not answer on this link (ARP, neighbour discovery): packets to it are lost";
    let problems = instance.confirmation(|installed| !installed.problems.is_empty());
    assert_eq!(problems, [silent]);
    world.meddle("neighbour replace fd00:1:0:4::99 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    let fine = instance.confirmation(|installed| installed.problems.is_empty());
    assert_eq!(fine, Vec::<String>::new());
}

/// As a router's advertisements make one.
fn the_ipv6_default_route_of_others_stays_beside_ours() {
    let mut world = world();
    world.ip("-6 route add default via fd00:1::9 dev eth0 onlink metric 1024 proto ra");
    let table = update(1, vec![group(1, &[NVA])], vec![via_group("::/0", 1)]);
    let instance = world.instance(greeting(&world, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(gateways(&world, "::/0"), [NVA]);
    let mut removal = update(2, vec![], vec![]);
    removal.removed = vec![prefix("::/0")];
    removal.removed_groups = vec![1];
    instance.say(Body::Delta(removal));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(routes(&world), Vec::<String>::new());
    assert!(world.ip("-6 route show default").contains("proto ra"));
}
