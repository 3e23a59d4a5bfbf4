//! Next hops are lost: groups change, routes stay where they are; and what becomes of flows.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use agent::KernelSettings;
use api::agent::TableUpdate;
use api::agent::to_agent::Body;

use super::fake::{group, prefix, update, via_group};
use super::world::World;

pub const TESTS: &[(&str, fn())] = &[
    (
        "a_lost_next_hop_is_one_change_of_its_group_and_no_route_is_touched",
        a_lost_next_hop_is_one_change_of_its_group_and_no_route_is_touched,
    ),
    (
        "the_group_changes_when_the_second_instance_has_lost_the_next_hop_too",
        the_group_changes_when_the_second_instance_has_lost_the_next_hop_too,
    ),
    (
        "routes_whose_next_hops_are_all_lost_go_and_are_counted",
        routes_whose_next_hops_are_all_lost_go_and_are_counted,
    ),
    (
        "another_life_of_an_instance_that_says_the_same_touches_nothing",
        another_life_of_an_instance_that_says_the_same_touches_nothing,
    ),
    (
        "flows_are_spread_by_their_ports_and_settings_are_made_or_left",
        flows_are_spread_by_their_ports_and_settings_are_made_or_left,
    ),
    (
        "in_resilient_groups_flows_keep_their_next_hop_when_another_one_goes",
        in_resilient_groups_flows_keep_their_next_hop_when_another_one_goes,
    ),
];

/// What the kernel announces of routes, groups and next hops.
struct Announcements {
    monitor: Child,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Announcements {
    /// Not ours, so that they are heard whatever the agent does: they show that the monitor listens, and that it has heard all before.
    const FIRST: &str = "203.0.113.0/24";
    const LAST: &str = "203.0.114.0/24";

    fn begin(world: &World) -> Announcements {
        let mut monitor = Command::new("ip");
        let monitor = monitor
            .args(["-o", "monitor", "route", "nexthop"])
            .stdout(Stdio::piped());
        let mut monitor = monitor.spawn().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (lines, keep) = (BufReader::new(monitor.stdout.take().unwrap()).lines(), heard.clone());
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| keep.lock().unwrap().push(line))
        });
        let announcements = Announcements { monitor, heard };
        world.wait_until("the monitor listens", || {
            // What is there already is not announced again.
            for verb in ["add", "del"] {
                world.ip(&format!("route {verb} blackhole {}", Announcements::FIRST));
            }
            announcements.has_heard(Announcements::FIRST)
        });
        announcements
    }

    fn has_heard(&self, what: &str) -> bool {
        self.heard.lock().unwrap().iter().any(|line| line.contains(what))
    }

    /// Routes of the agent's that came, changed or went, and its nexthop objects.
    fn end(mut self, world: &World) -> (Vec<String>, Vec<String>) {
        world.ip(&format!("route replace blackhole {}", Announcements::LAST));
        world.wait_until("the monitor has heard all", || self.has_heard(Announcements::LAST));
        self.monitor.kill().unwrap();
        self.monitor.wait().unwrap();
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        let is_object = |line: &String| line.trim_start_matches("Deleted ").starts_with("id ");
        let ours = heard.into_iter().filter(|line| line.contains("proto 157"));
        ours.partition(|line| !is_object(line))
    }
}

const ROUTES: u32 = 2_000;

fn destination(n: u32) -> String {
    format!("20.{}.{}.0/24", n / 256, n % 256)
}

fn table(generation: u64, id: u32, next_hop: &str) -> TableUpdate {
    let routes = (0..ROUTES).map(|n| via_group(&destination(n), id)).collect();
    let mut active = group(id, &[next_hop]);
    active.fallback = group(id, &["10.1.1.5"]).members;
    update(generation, vec![active], routes)
}

/// A group as it is told when its next hops are lost: what takes over is worse than anything that was decided.
fn lost(generation: u64, id: u32, members: &[&str]) -> Body {
    let mut lost = group(id, members);
    lost.rank = u64::MAX;
    Body::Delta(update(generation, vec![lost], vec![]))
}

fn a_lost_next_hop_is_one_change_of_its_group_and_no_route_is_touched() {
    let mut world = World::new();
    let instance = world.instance(world.greeting(0, 1, table(1, 1, "10.1.1.4")));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let announcements = Announcements::begin(&world);
    instance.say(lost(2, 1, &["10.1.1.5"]));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(world.gateways(&destination(7)), ["10.1.1.5"]);
    // What was decided then: the same next hops, another rank.
    let mut decided = group(1, &["10.1.1.5"]);
    decided.rank = 200;
    instance.say(Body::Delta(update(3, vec![decided], vec![])));
    assert_eq!(instance.confirmed(3), Vec::<String>::new());
    let (routes, _) = announcements.end(&world);
    assert_eq!(routes, Vec::<String>::new(), "no route is touched");
    assert_eq!(world.routes().len(), ROUTES as usize);
    assert_eq!(world.gateways(&destination(ROUTES - 1)), ["10.1.1.5"]);
}

fn the_group_changes_when_the_second_instance_has_lost_the_next_hop_too() {
    let mut world = World::new();
    let first = world.instance(world.greeting(0, 1, table(1, 1, "10.1.1.4")));
    let second = world.instance(world.greeting(1, 1, table(1, 5, "10.1.1.4")));
    world.start_agent(&[&first, &second]);
    assert_eq!(first.confirmed(1), Vec::<String>::new());
    assert_eq!(second.confirmed(1), Vec::<String>::new());
    world.wait_until("the routes", || world.routes().len() == ROUTES as usize);
    first.say(lost(2, 1, &["10.1.1.5"]));
    assert_eq!(first.confirmed(2), Vec::<String>::new());
    assert_eq!(
        world.gateways(&destination(7)),
        ["10.1.1.4"],
        "the other one still hears it"
    );
    second.say(lost(2, 5, &["10.1.1.5"]));
    assert_eq!(second.confirmed(2), Vec::<String>::new());
    assert_eq!(world.gateways(&destination(7)), ["10.1.1.5"]);
}

fn routes_whose_next_hops_are_all_lost_go_and_are_counted() {
    let mut world = World::new();
    let mut both = table(1, 1, "10.1.1.4");
    both.groups.push(group(2, &["10.1.1.6"]));
    both.routes
        .extend([via_group("10.250.0.0/16", 2), via_group("10.251.0.0/16", 2)]);
    let instance = world.instance(world.greeting(0, 1, both));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    instance.say(lost(2, 2, &[]));
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    assert_eq!(world.routes().len(), ROUTES as usize);
    let mut removal = update(3, vec![], vec![]);
    removal.removed = vec![prefix("10.250.0.0/16"), prefix("10.251.0.0/16")];
    removal.removed_groups = vec![2];
    instance.say(Body::Delta(removal));
    instance.confirmation(|installed| installed.generation == 3 && installed.stranded == 2);
    // One that is taken back is not stranded.
    let mut removal = update(4, vec![], vec![]);
    removal.removed = vec![prefix(&destination(0))];
    instance.say(Body::Delta(removal));
    instance.confirmation(|installed| installed.generation == 4 && installed.stranded == 2);
}

fn another_life_of_an_instance_that_says_the_same_touches_nothing() {
    let mut world = World::new();
    let instance = world.instance(world.greeting(0, 1, table(1, 1, "10.1.1.4")));
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    let (address, announcements) = (instance.address, Announcements::begin(&world));
    instance.stop();
    // Another life has other names for the same.
    let greeting = world.greeting(0, 2, table(9, 4, "10.1.1.4"));
    let instance = super::fake::FakeInstance::start(world.runtime.handle(), address, greeting);
    assert_eq!(instance.confirmed(9), Vec::<String>::new());
    assert_eq!(announcements.end(&world), (vec![], vec![]));
}

fn setting(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    text.trim().to_owned()
}

fn flows_are_spread_by_their_ports_and_settings_are_made_or_left() {
    const NAMES: [&str; 3] = [
        "ipv4/nexthop_compat_mode",
        "ipv4/fib_multipath_hash_policy",
        "ipv6/fib_multipath_hash_policy",
    ];
    let mut world = World::new();
    let table = update(
        1,
        vec![group(1, &["10.1.1.4", "10.1.1.5"])],
        vec![via_group("10.250.0.0/16", 1)],
    );
    let instance = world.instance(world.greeting(0, 1, table));
    let before = NAMES.map(setting);
    assert_ne!(before, ["0", "1", "1"], "otherwise nothing is shown here");
    world.start_agent_with(&[&instance], |options| options.kernel_settings = KernelSettings::Leave);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    assert_eq!(NAMES.map(setting), before, "left as they were");
    world.stop_agent();
    world.start_agent(&[&instance]);
    world.wait_until("the settings", || NAMES.map(setting) == ["0", "1", "1"]);
    let taken = (10_000..10_064).map(|port| world.next_hop_of_flow("10.250.0.1", port));
    let taken: BTreeSet<String> = taken.collect();
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), ["10.1.1.4", "10.1.1.5"]);
}

fn in_resilient_groups_flows_keep_their_next_hop_when_another_one_goes() {
    const BUCKETS: u16 = 96;
    let mut world = World::new();
    let all = ["10.1.1.4", "10.1.1.5", "10.1.1.6"];
    let table = |generation| update(generation, vec![group(1, &all)], vec![via_group("10.250.0.0/16", 1)]);
    let instance = world.instance(world.greeting(0, 1, table(1)));
    // Groups of the other kind, which an agent without the option has left, are not changed but left.
    world.start_agent(&[&instance]);
    assert_eq!(instance.confirmed(1), Vec::<String>::new());
    world.stop_agent();
    instance.stop();
    let instance = world.instance(world.greeting(0, 2, table(2)));
    world.start_resilient_agent(&[&instance], BUCKETS);
    assert_eq!(instance.confirmed(2), Vec::<String>::new());
    let group_lines = || {
        let shown = world.ip("nexthop show proto 157");
        shown
            .lines()
            .filter(|line| line.contains("group"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // The snapshot is confirmed with what there was; it is changed when the instance has converged.
    world.wait_until(
        "one group, of the other kind",
        || matches!(&group_lines()[..], [group] if group.contains("type resilient")),
    );
    let groups = group_lines();
    assert!(groups.len() == 1 && groups[0].contains("type resilient"), "{groups:?}");
    assert!(groups[0].contains("buckets 96"), "{groups:?}");

    let flows: Vec<u16> = (10_000..10_200).collect();
    let next_hops = || {
        flows
            .iter()
            .map(|port| world.next_hop_of_flow("10.250.0.1", *port))
            .collect::<Vec<_>>()
    };
    let before = next_hops();
    assert!(all.iter().all(|each| before.iter().any(|next_hop| next_hop == each)));
    instance.say(Body::Delta(update(3, vec![group(1, &all[..2])], vec![])));
    assert_eq!(instance.confirmed(3), Vec::<String>::new());
    let after = next_hops();
    for (before, after) in before.iter().zip(&after) {
        match before == all[2] {
            true => assert_ne!(after, all[2], "its next hop is gone"),
            false => assert_eq!(after, before, "it keeps its next hop"),
        }
    }
    assert_eq!(world.gateways("10.250.0.0/16"), all[..2]);
    // It comes back, and takes no flow from the others as long as their buckets are in use or were so an hour ago.
    instance.say(Body::Delta(update(4, vec![group(1, &all)], vec![])));
    assert_eq!(instance.confirmed(4), Vec::<String>::new());
    let moved = next_hops()
        .iter()
        .zip(&after)
        .filter(|(now, after)| now != after)
        .count();
    assert!(moved <= flows.len() / 2, "{moved} flows moved");
}
