//! Meddling, a lost carrier and a killed agent are made good.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use api::agent::to_agent::Body;

use super::fake::{group, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    ("meddling_is_repaired_and_counted", meddling_is_repaired_and_counted),
    (
        "what_was_changed_while_announcements_were_lost_is_put_right",
        what_was_changed_while_announcements_were_lost_is_put_right,
    ),
    (
        "a_link_that_vanishes_and_comes_back_has_the_table_again",
        a_link_that_vanishes_and_comes_back_has_the_table_again,
    ),
    (
        "the_table_follows_the_nics_address_to_another_link",
        the_table_follows_the_nics_address_to_another_link,
    ),
    (
        "a_group_that_somebody_has_removed_is_there_again_with_its_next_change",
        a_group_that_somebody_has_removed_is_there_again_with_its_next_change,
    ),
    ("time_is_never_the_wall_clocks", time_is_never_the_wall_clocks),
    (
        "the_table_is_whole_again_when_the_carrier_returns",
        the_table_is_whole_again_when_the_carrier_returns,
    ),
    ("the_agent_waits_for_its_link", the_agent_waits_for_its_link),
    (
        "an_agent_that_is_killed_while_it_installs_completes_the_table_when_it_returns",
        killed_while_it_installs,
    ),
    ("a_restarted_agent_moves_no_route", a_restarted_agent_moves_no_route),
    (
        "a_next_hop_that_answers_no_arp_is_reported_until_it_does",
        a_next_hop_that_answers_no_arp_is_reported_until_it_does,
    ),
    (
        "a_namespace_that_is_made_anew_gets_the_table",
        a_namespace_that_is_made_anew_gets_the_table,
    ),
];

fn meddling_is_repaired_and_counted() {
    let mut world = World::new();
    let routes = vec![via_group("10.250.0.0/16", 1), via_group("10.251.0.0/16", 1)];
    let instance = world.instance(world.greeting(0, 1, update(1, vec![group(1, &["10.1.1.4"])], routes)));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());

    let is_whole = |world: &World| {
        ["10.250.0.0/16", "10.251.0.0/16"]
            .iter()
            .all(|prefix| world.gateways(prefix) == ["10.1.1.4"])
    };
    world.meddle("route del 10.250.0.0/16 proto 157");
    world.wait_until("a removed route is back", || is_whole(&world));
    instance.confirmation(|installed| installed.repaired == 1 && installed.problems.is_empty());
    world.meddle("route replace 10.250.0.0/16 via 10.1.0.9 dev eth0 onlink metric 20 proto 157");
    world.wait_until("a changed route is back", || is_whole(&world));
    instance.confirmation(|installed| installed.repaired >= 2 && installed.problems.is_empty());
    world.meddle("nexthop flush proto 157");
    world.wait_until("removed next hops are back", || is_whole(&world));
    world.meddle("route add 10.77.0.0/16 via 10.1.0.9 dev eth0 onlink metric 20 proto 157");
    world.wait_until("an added route is gone", || world.routes().len() == 2);
}

fn signal(agent: &Child, name: &str) {
    let status = Command::new("kill").args([name, &agent.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// More than the receive buffer of the agent's monitor holds, while nobody reads.
fn what_was_changed_while_announcements_were_lost_is_put_right() {
    const FLOOD: u32 = 40_000;
    let world = World::new();
    let routes = vec![via_group("10.250.0.0/16", 1), via_group("10.251.0.0/16", 1)];
    let instance = world.instance(world.greeting(0, 1, update(1, vec![group(1, &["10.1.1.4"])], routes)));
    let mut agent = world.start_agent_process(&instance);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    signal(&agent, "-STOP");
    let flood: String = (0..FLOOD)
        .map(|n| format!("route add blackhole 30.{}.{}.0/24 metric 10\n", n / 256, n % 256))
        .collect();
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    ip.stdin.take().unwrap().write_all(flood.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
    let drops = |line: &str| {
        line.split_whitespace()
            .nth(8)
            .and_then(|drops| drops.parse::<u64>().ok())
    };
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    assert!(
        sockets.lines().filter_map(drops).sum::<u64>() > 0,
        "announcements are lost:\n{sockets}"
    );
    world.ip("route del 10.250.0.0/16 proto 157");
    signal(&agent, "-CONT");
    world.wait_until("the route is back", || world.gateways("10.250.0.0/16") == ["10.1.1.4"]);
    instance.confirmation(|installed| installed.repaired == 1 && installed.problems.is_empty());
    agent.kill().unwrap();
    agent.wait().unwrap();
}

fn a_link_that_vanishes_and_comes_back_has_the_table_again() {
    let mut world = World::new();
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    for _ in 0..3 {
        world.ip("link del eth0");
        instance.confirmation(|installed| installed.problems == ["no link has the NIC's address 10.1.0.5 (yet)"]);
        world.make_link();
        instance.confirmation(|installed| installed.problems.is_empty());
        assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4"]);
    }
    instance.confirmation(|installed| installed.repaired == 0);
}

fn the_table_follows_the_nics_address_to_another_link() {
    let mut world = World::new();
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    world.ip("link add eth1 type veth peer name peer1");
    world.ip("link set peer1 up");
    world.ip("link set eth1 up");
    world.ip("address add 10.1.0.5/24 dev eth1 noprefixroute");
    world.ip("address del 10.1.0.5/24 dev eth0");
    world.wait_until("the next hop is on the other link", || {
        world.devices("10.250.0.0/16") == [("10.1.1.4".to_owned(), "eth1".to_owned())]
    });
}

/// It hears of the change and of the removal at once, so the change is refused.
fn a_group_that_somebody_has_removed_is_there_again_with_its_next_change() {
    let world = World::new();
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    let mut agent = world.start_agent_process(&instance);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    signal(&agent, "-STOP");
    world.ip("nexthop flush proto 157");
    assert_eq!(world.routes(), Vec::<String>::new());
    instance.say(Body::Delta(update(2, vec![group(1, &["10.1.1.5"])], vec![])));
    signal(&agent, "-CONT");
    world.wait_until("the route is back", || world.gateways("10.250.0.0/16") == ["10.1.1.5"]);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// A jump of the wall clock can mean nothing to who never asks for it.
fn time_is_never_the_wall_clocks() {
    fn look(folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in ["SystemTime", "CLOCK_REALTIME", "chrono::"] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
    look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}

fn the_table_is_whole_again_when_the_carrier_returns() {
    let mut world = World::new();
    let table = update(
        1,
        vec![group(1, &["10.1.1.4", "10.1.1.5"])],
        vec![via_group("10.250.0.0/16", 1)],
    );
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    for _ in 0..3 {
        world.ip("link set peer0 down");
        let problems = instance.confirmation(|installed| !installed.problems.is_empty());
        assert_eq!(problems, ["link eth0 is down or has no carrier"]);
        world.ip("link set peer0 up");
        instance.confirmation(|installed| installed.problems.is_empty());
        assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4", "10.1.1.5"]);
    }
    for _ in 0..10 {
        world.ip("link set peer0 down");
        world.ip("link set peer0 up");
    }
    world.wait_until("the table is whole", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4", "10.1.1.5"]
    });
}

fn the_agent_waits_for_its_link() {
    let mut world = World::new();
    world.ip("link del eth0");
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), ["no link has the NIC's address 10.1.0.5 (yet)"]);
    world.ip("link add eth1 type veth peer name peer1");
    world.ip("link set peer1 up");
    world.ip("link set eth1 up");
    world.ip("address add 10.1.0.5/24 dev eth1 noprefixroute");
    assert_eq!(
        instance.confirmation(|installed| installed.problems.is_empty()),
        Vec::<String>::new()
    );
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4"]);
}

fn killed_while_it_installs() {
    const ROUTES: u32 = 40_000;
    let world = World::new();
    let routes = (0..ROUTES)
        .map(|n| via_group(&format!("20.{}.{}.0/24", n / 256, n % 256), n % 8))
        .collect();
    let groups = (0..8).map(|id| group(id, &[&format!("10.1.1.{}", id + 4)])).collect();
    let instance = world.instance(world.greeting(0, 1, update(1, groups, routes)));
    let count = || world.ip("route show proto 157").lines().count();
    let mut interrupted = 0;
    // Whether it is caught in the middle is up to the scheduler.
    world.wait_until("an agent is killed in the middle", || {
        for stop_at in [0, 1, 5_000, 15_000, 30_000] {
            let mut agent = world.start_agent_process(&instance);
            world.wait_until("the agent is at it", || count() >= stop_at);
            agent.kill().unwrap();
            agent.wait().unwrap();
            interrupted += usize::from(count() < ROUTES as usize);
        }
        if interrupted == 0 {
            world.ip("route flush proto 157");
        }
        interrupted > 0
    });
    let mut agent = world.start_agent_process(&instance);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(count(), ROUTES as usize);
    for n in [0, 1, 2, 3, 4, 5, 6, 7, ROUTES - 1] {
        let gateways = world.gateways(&format!("20.{}.{}.0/24", n / 256, n % 256));
        assert_eq!(gateways, [format!("10.1.1.{}", n % 8 + 4)]);
    }
    assert_eq!(
        world.ip("nexthop show proto 157").lines().count(),
        16,
        "nothing is left over"
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
}

fn a_restarted_agent_moves_no_route() {
    let mut world = World::new();
    let routes = vec![
        via_group("10.250.0.0/16", 1),
        via_group("10.251.0.0/16", 2),
        via_group("10.252.0.0/16", 1),
    ];
    let groups = vec![group(1, &["10.1.1.4", "10.1.1.5"]), group(2, &["10.1.1.5"])];
    let instance = world.instance(world.greeting(0, 1, update(1, groups, routes)));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let show = |world: &World| (world.ip("route show"), world.ip("nexthop show"));
    let before = show(&world);
    world.stop_agent();
    instance.stop();
    // Another life of the instance has other names for the groups.
    let routes = vec![
        via_group("10.250.0.0/16", 8),
        via_group("10.251.0.0/16", 9),
        via_group("10.252.0.0/16", 8),
    ];
    let groups = vec![group(8, &["10.1.1.4", "10.1.1.5"]), group(9, &["10.1.1.5"])];
    let instance = world.instance(world.greeting(0, 2, update(5, groups, routes)));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(5), Vec::<String>::new());
    assert_eq!(show(&world), before);

    instance.say(Body::Delta(update(6, vec![group(9, &["10.1.1.6"])], vec![])));
    assert_eq!(instance.confirmed(6), Vec::<String>::new());
    assert_eq!(world.gateways("10.251.0.0/16"), ["10.1.1.6"]);
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4", "10.1.1.5"]);
    assert_eq!(
        world.ip("route show"),
        before.0,
        "a changed group moves its routes without touching them"
    );
}

fn a_next_hop_that_answers_no_arp_is_reported_until_it_does() {
    let mut world = World::new();
    std::fs::write("/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms", "20").unwrap();
    let table = update(
        1,
        vec![group(1, &["10.1.1.4", "10.1.1.99"])],
        vec![via_group("10.250.0.0/16", 1)],
    );
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    let silent = "next hop 10.1.1.99 does not answer on this link (ARP, neighbour discovery): packets to it are lost";
    assert_eq!(
        instance.confirmation(|installed| !installed.problems.is_empty()),
        [silent]
    );
    // It stays installed: the appliance may be starting.
    assert_eq!(world.gateways("10.250.0.0/16"), ["10.1.1.4", "10.1.1.99"]);
    world.ip("neighbour replace 10.1.1.99 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
    instance.confirmation(|installed| installed.problems.is_empty());
}

fn a_namespace_that_is_made_anew_gets_the_table() {
    let mut world = World::new();
    let table = update(1, vec![group(1, &["10.1.1.4"])], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    world.make_namespace_anew();
    world.wait_until("the new namespace has the route", || {
        world.gateways("10.250.0.0/16") == ["10.1.1.4"]
    });
}
