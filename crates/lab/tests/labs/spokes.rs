//! A hub and two spokes, as shipped.
//!
//! ```text
//!   internet ── firewall ──┐             ┌── spoke1 ── vm1
//!                          ├── hub ──────┤
//!   site ────── sdwan ─────┘   shared    └── spoke2 ── vm2
//! ```

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use lab::harness::TestLab;
use lab::{KernelRoute, Lab, Topology, network_id};
use serde_json::json;

use crate::{DEADLINE, PATIENCE, labs};

pub const TESTS: &[(&str, fn())] = &[(
    "two_spokes_reach_each_other_through_the_firewall_only",
    two_spokes_reach_each_other_through_the_firewall_only,
)];

const TOPOLOGY: &str = include_str!("../../../../topologies/hub-and-two-spokes.yaml");
const SDWAN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 4));
const FIREWALL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 5));
const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 10, 4));
const VM2: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 10, 4));

fn two_spokes_reach_each_other_through_the_firewall_only() {
    let topology = Topology::parse("hub-and-two-spokes.yaml", TOPOLOGY).unwrap();
    let labs = labs();
    let mut lab = TestLab::up(&topology, labs.path(), "spokes", false).unwrap();

    every_spoke_reaches_what_is_behind_the_nvas(&lab);
    assert_eq!(way(&lab, "vm1", VM2).unwrap()[0], Some(FIREWALL));
    assert_ne!(way(&lab, "vm1", SHARED).unwrap().first(), Some(&Some(FIREWALL)));
    assert_ne!(way(&lab, "shared", VM2).unwrap().first(), Some(&Some(FIREWALL)));

    // Peering is not transitive.
    lab.kill("firewall").unwrap();
    wait(&lab, "vm1", |routes| {
        ["10.0.0.0/8", "0.0.0.0/0"]
            .iter()
            .all(|to| !leads(routes, to, FIREWALL))
    });
    assert_eq!(way(&lab, "vm1", VM2), None);
    assert!(way(&lab, "vm1", SHARED).is_some());
    lab.start("firewall").unwrap();
    for vm in ["vm1", "vm2"] {
        wait(&lab, vm, |routes| leads(routes, "10.0.0.0/8", FIREWALL));
    }
    wait(&lab, "firewall", |routes| {
        has(routes, "10.1.0.0/16") && has(routes, "10.2.0.0/16")
    });
    assert_eq!(way(&lab, "vm1", VM2).unwrap()[0], Some(FIREWALL));

    // Every NVA hears of a spoke that leaves and of one that comes back, and so do the spoke's own VMs.
    set_remote_gateways(&lab, false);
    for nva in ["sdwan", "firewall"] {
        wait(&lab, nva, |routes| !has(routes, "10.2.0.0/16"));
        wait(&lab, nva, |routes| has(routes, "10.1.0.0/16"));
    }
    wait(&lab, "vm2", |routes| !leads(routes, "10.250.0.0/16", SDWAN));
    assert!(way(&lab, "shared", VM2).is_some());
    set_remote_gateways(&lab, true);
    for nva in ["sdwan", "firewall"] {
        wait(&lab, nva, |routes| has(routes, "10.2.0.0/16"));
    }
    wait(&lab, "vm2", |routes| {
        leads(routes, "10.250.0.0/16", SDWAN) && leads(routes, "0.0.0.0/0", FIREWALL)
    });
    every_spoke_reaches_what_is_behind_the_nvas(&lab);
}

fn every_spoke_reaches_what_is_behind_the_nvas(lab: &Lab) {
    let probes = lab.probe_all(PATIENCE);
    assert_eq!(probes.len(), 6);
    for probe in probes {
        let nva = if probe.to == "site" { "sdwan" } else { "firewall" };
        assert!(probe.reached && probe.through == [nva], "{probe:?}");
    }
}

/// Who forwards on the way, if there is one.
fn way(lab: &Lab, from: &str, to: IpAddr) -> Option<Vec<Option<IpAddr>>> {
    let path = lab.trace(from, to, PATIENCE).unwrap();
    path.reached.then_some(path.hops)
}

/// As `az network vnet peering update --set useRemoteGateways=…` does: GET, change, PUT.
fn set_remote_gateways(lab: &Lab, used: bool) {
    let api = lab.api().unwrap();
    let id = network_id("virtualNetworks/spoke2/virtualNetworkPeerings/spoke2-to-hub");
    let path = format!("{id}?api-version=2024-05-01");
    let mut peering = api.get(&path).unwrap();
    peering["properties"]["useRemoteGateways"] = json!(used);
    api.put(&path, &peering).unwrap();
}

fn wait(lab: &Lab, node: &str, condition: impl Fn(&[KernelRoute]) -> bool) {
    lab.wait_for_routes(node, DEADLINE, condition).unwrap();
}

fn has(routes: &[KernelRoute], to: &str) -> bool {
    let to: IpNet = to.parse().unwrap();
    routes.iter().any(|r| r.prefix == to)
}

fn leads(routes: &[KernelRoute], to: &str, via: IpAddr) -> bool {
    let to: IpNet = to.parse().unwrap();
    let mut of_prefix = routes.iter().filter(|r| r.prefix == to);
    of_prefix.any(|r| r.hops.iter().any(|h| h.via == Some(via)))
}
