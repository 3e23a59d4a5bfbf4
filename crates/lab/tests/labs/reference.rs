//! The reference scenario, brought up as a user would, and disturbed.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use lab::harness::TestLab;
use lab::{KernelRoute, Lab, NodeStatus, Topology, network_id};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::{DEADLINE, PATIENCE, labs};

pub const TESTS: &[(&str, fn())] = &[
    ("the_reference_scenario", the_reference_scenario),
    (
        "two_labs_at_once_do_not_disturb_each_other",
        two_labs_at_once_do_not_disturb_each_other,
    ),
    (
        "labs_of_two_directories_may_come_up_at_the_same_moment",
        labs_of_two_directories_may_come_up_at_the_same_moment,
    ),
];

const SDWAN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 4));
const FIREWALL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 5));
const VMS: [&str; 2] = ["vm1", "vm2"];
const NVAS: [&str; 2] = ["sdwan", "firewall"];

fn the_reference_scenario() {
    let labs = labs();
    let mut lab = TestLab::up(&Topology::reference(), labs.path(), "reference", false).unwrap();

    both_nvas_learn_the_virtual_network_from_both_instances(&lab);
    every_vm_has(&lab, "10.250.0.0/16", SDWAN);
    every_vm_has(&lab, "0.0.0.0/0", FIREWALL);
    every_path_goes_through_its_nva(&lab);

    let site = prefix("10.250.0.0/16");
    lab.withdraw("sdwan", &[site]).unwrap();
    no_vm_has(&lab, site);
    lab.announce("sdwan", &[site]).unwrap();
    every_vm_has(&lab, "10.250.0.0/16", SDWAN);

    // Without the firewall the platform's own default route shows again.
    lab.kill("firewall").unwrap();
    lab.wait_for_peer("firewall", false, DEADLINE).unwrap();
    for vm in VMS {
        lab.wait_for_routes(vm, DEADLINE, |routes| !leads(routes, prefix("0.0.0.0/0"), FIREWALL))
            .unwrap();
    }
    lab.start("firewall").unwrap();
    every_vm_has(&lab, "0.0.0.0/0", FIREWALL);
    every_path_goes_through_its_nva(&lab);

    add_address_prefix(&lab, "10.77.0.0/16");
    for nva in NVAS {
        let learned = |routes: &[KernelRoute]| routes.iter().any(|r| r.prefix == prefix("10.77.0.0/16"));
        lab.wait_for_routes(nva, DEADLINE, learned).unwrap();
    }

    // One that hangs is there and does nothing: it is not shown as up.
    let instance = node(&lab, "instance0");
    let signal = |signal| {
        instance
            .pids
            .values()
            .try_for_each(|pid| kill(Pid::from_raw(*pid), signal))
    };
    signal(Signal::SIGSTOP).unwrap();
    assert_eq!(node(&lab, "instance0").state, "silent");
    every_path_goes_through_its_nva(&lab);
    signal(Signal::SIGCONT).unwrap();
    wait(&lab, "instance 0 to answer again", |lab| {
        node(lab, "instance0").state == "up"
    });

    // Each process alone may die, and traffic goes on.
    for node in ["instance0", "manager", "vm1"] {
        lab.kill(node).unwrap();
        every_path_goes_through_its_nva(&lab);
        if node != "instance0" {
            lab.start(node).unwrap();
        }
    }
    lab.wait_converged(DEADLINE).unwrap();
}

fn two_labs_at_once_do_not_disturb_each_other() {
    let labs = labs();
    let topology = Topology::reference();
    let mut one = TestLab::up(&topology, labs.path(), "one", false).unwrap();
    let other = TestLab::up(&topology, labs.path(), "other", false).unwrap();
    assert_ne!(one.state().api_url, other.state().api_url);
    one.kill("sdwan").unwrap();
    no_vm_has(&one, prefix("10.250.0.0/16"));
    drop(one);
    every_path_goes_through_its_nva(&other);
}

/// Neither knows of the other's directory, and both want the same port.
fn labs_of_two_directories_may_come_up_at_the_same_moment() {
    let topology = Topology::reference();
    let directories = [labs(), labs()];
    let both: Vec<TestLab> = std::thread::scope(|scope| {
        let coming = directories
            .each_ref()
            .map(|labs| scope.spawn(|| TestLab::up(&topology, labs.path(), "lab", false).unwrap()));
        coming.map(|lab| lab.join().unwrap()).into()
    });
    assert_ne!(both[0].state().api_url, both[1].state().api_url);
    for lab in &both {
        every_path_goes_through_its_nva(lab);
    }
}

fn both_nvas_learn_the_virtual_network_from_both_instances(lab: &Lab) {
    for nva in NVAS {
        wait(lab, &format!("both instances to tell {nva}"), |lab| {
            let peers = lab.api().unwrap().peers().unwrap();
            let advertised = peers
                .iter()
                .filter(|p| p.name == nva && p.state == "Established" && p.routes_advertised > 0);
            advertised.count() == 2
        });
        let routes = lab.kernel_routes(nva).unwrap();
        assert!(
            leads(&routes, prefix("10.1.0.0/16"), IpAddr::V4(Ipv4Addr::new(10, 1, 1, 1))),
            "{nva}: {routes:#?}"
        );
    }
}

fn every_vm_has(lab: &Lab, to: &str, via: IpAddr) {
    for vm in VMS {
        lab.wait_for_routes(vm, DEADLINE, |routes| leads(routes, prefix(to), via))
            .unwrap();
    }
}

fn no_vm_has(lab: &Lab, to: IpNet) {
    for vm in VMS {
        lab.wait_for_routes(vm, DEADLINE, |routes| routes.iter().all(|r| r.prefix != to))
            .unwrap();
    }
}

fn every_path_goes_through_its_nva(lab: &Lab) {
    let probes = lab.probe_all(PATIENCE);
    assert_eq!(probes.len(), 4);
    for probe in probes {
        let nva = if probe.to == "site" { "sdwan" } else { "firewall" };
        assert!(probe.reached && probe.through == [nva], "{probe:?}");
    }
}

/// As `az network vnet update --address-prefixes` does: GET, change, PUT.
fn add_address_prefix(lab: &Lab, more: &str) {
    let api = lab.api().unwrap();
    let path = format!("{}?api-version=2024-05-01", network_id("virtualNetworks/hub"));
    let mut vnet = api.get(&path).unwrap();
    let prefixes = vnet.pointer_mut("/properties/addressSpace/addressPrefixes").unwrap();
    prefixes.as_array_mut().unwrap().push(json!(more));
    api.put(&path, &vnet).unwrap();
}

fn leads(routes: &[KernelRoute], to: IpNet, via: IpAddr) -> bool {
    let best = routes.iter().filter(|r| r.prefix == to).min_by_key(|r| r.metric);
    best.is_some_and(|r| r.hops.iter().any(|h| h.via == Some(via)))
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn wait(lab: &Lab, what: &str, holds: impl Fn(&Lab) -> bool) {
    let missing = |lab: &Lab| Ok(if holds(lab) { vec![] } else { vec![what.to_owned()] });
    lab.wait_until(what, DEADLINE, missing).unwrap();
}

fn node(lab: &Lab, name: &str) -> NodeStatus {
    let status = lab.status().unwrap();
    status.nodes.into_iter().find(|node| node.name == name).unwrap()
}
