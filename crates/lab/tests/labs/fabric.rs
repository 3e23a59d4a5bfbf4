//! Namespaces and links, and what is left of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::harness::{TestLab, executable};
use lab::{Lab, Topology};

use crate::{DEADLINE, PATIENCE, labs};

pub const TESTS: &[(&str, fn())] = &[
    ("the_fabric_carries_packets", the_fabric_carries_packets),
    ("a_vm_without_agent_has_no_routes", a_vm_without_agent_has_no_routes),
    ("a_node_without_carrier_is_cut_off", a_node_without_carrier_is_cut_off),
    (
        "two_fabrics_with_equal_addresses_do_not_meet",
        two_fabrics_with_equal_addresses_do_not_meet,
    ),
    (
        "down_leaves_nothing_wherever_up_was_killed",
        down_leaves_nothing_wherever_up_was_killed,
    ),
    (
        "a_second_lab_of_the_same_name_is_refused",
        a_second_lab_of_the_same_name_is_refused,
    ),
];

fn fabric(labs: &Path, name: &str) -> TestLab {
    TestLab::up(&Topology::reference(), labs, name, true).unwrap()
}

fn reaches(lab: &Lab, from: &str, to: &str) -> bool {
    lab.ping(from, to.parse().unwrap(), PATIENCE).unwrap().is_some()
}

fn the_fabric_carries_packets() {
    let labs = labs();
    let lab = fabric(labs.path(), "a");
    assert!(
        reaches(&lab, "sdwan", "10.1.0.4"),
        "an NVA reaches instance 0 through the gateway"
    );
    assert!(
        reaches(&lab, "firewall", "10.1.0.5"),
        "an NVA reaches instance 1 through the gateway"
    );
    assert!(
        reaches(&lab, "sdwan", "10.1.1.5"),
        "NVAs of one subnet reach each other"
    );
    assert!(reaches(&lab, "site", "10.250.0.1"), "a site reaches its NVA");
    for look in 1..=20 {
        let path = lab.trace("sdwan", "10.1.0.4".parse().unwrap(), PATIENCE).unwrap();
        assert_eq!(
            path.hops,
            [Some("10.1.1.1".parse().unwrap())],
            "the gateway is the subnet's first address, also at look {look}"
        );
    }
    let host_name = lab.exec("vm1", &["cat", "/proc/sys/kernel/hostname"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&host_name.stdout).trim(), "vm1");
}

fn a_vm_without_agent_has_no_routes() {
    let labs = labs();
    let lab = fabric(labs.path(), "a");
    assert_eq!(lab.kernel_routes("vm1").unwrap(), []);
}

fn a_node_without_carrier_is_cut_off() {
    let labs = labs();
    let lab = fabric(labs.path(), "a");
    lab.set_link("sdwan", false).unwrap();
    assert!(!lab.link_is_up("sdwan").unwrap());
    let cut_off = lab
        .ping("sdwan", "10.1.0.4".parse().unwrap(), Duration::from_millis(300))
        .unwrap();
    assert_eq!(cut_off, None);
    lab.set_link("sdwan", true).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while !reaches(&lab, "sdwan", "10.1.1.1") {
        assert!(Instant::now() < deadline, "the link does not come back");
    }
}

fn two_fabrics_with_equal_addresses_do_not_meet() {
    let labs = labs();
    let (one, other) = (fabric(labs.path(), "one"), fabric(labs.path(), "other"));
    one.set_link("firewall", false).unwrap();
    assert!(reaches(&other, "sdwan", "10.1.1.5"));
    Lab::down(labs.path(), "one").unwrap();
    assert!(reaches(&other, "sdwan", "10.1.0.4"));
}

fn a_second_lab_of_the_same_name_is_refused() {
    let labs = labs();
    let _first = fabric(labs.path(), "a");
    let error = TestLab::up(&Topology::reference(), labs.path(), "b c", true).unwrap_err();
    assert!(error.to_string().contains("no name for a lab"), "{error}");
}

/// `up` in a process of its own is killed as soon as its state file holds so many namespaces.
fn down_leaves_nothing_wherever_up_was_killed() {
    let labs = labs();
    for namespaces in [0, 1, 4, 8] {
        let mut up = Command::new(executable().unwrap())
            .args(["lab", "--name", "crash", "up", "--fabric-only"])
            .env("ROUTEWRIGHT_LAB_DIR", labs.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + DEADLINE;
        let holders = |lab: Lab| lab.state().holders.values().copied().collect::<Vec<_>>();
        let mut seen = Vec::new();
        while seen.len() < namespaces || !labs.path().join("crash/state.json").exists() {
            assert!(Instant::now() < deadline, "up does not get to {namespaces} namespaces");
            seen = Lab::open(labs.path(), "crash").map(holders).unwrap_or_default();
        }
        up.kill().unwrap();
        up.wait().unwrap();
        seen = Lab::open(labs.path(), "crash").map(holders).unwrap_or_default();
        let removed = Lab::down(labs.path(), "crash").unwrap();
        assert_eq!(removed.left, [0; 0]);
        assert!(seen.iter().all(|p| !p.is_alive()), "a namespace is left");
        assert!(!labs.path().join("crash").exists());
    }
}
