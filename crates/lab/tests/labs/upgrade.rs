//! Both instances exchanged under traffic.
//!
//! ```text
//!   site 10.250.0.10 ── sdwan (FRR) ───────┐                 ┌── vm1
//!                                          ├── route server ─┤          routewright upgrade
//!   far  10.251.0.10 ── router (builtin) ──┘                 └── vm2
//! ```
//!
//! 1. `routewright upgrade` exchanges instance 0 and, when it has converged and everybody is back, instance 1.
//! 2. No packet through either NVA is lost, from either VM.
//! 3. No route in a VM's kernel changes: not one notification.
//! 4. Neither NVA loses its way back.
//! 5. An instance whose peers have no other way is not restarted unless one insists on it, and is not left drained.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

use ipnet::IpNet;
use lab::harness::TestLab;
use lab::watch::{Flow, RouteWatch};
use lab::{Lab, Topology};
use serde_json::{Value, json};

use crate::{DEADLINE, labs};

pub const TESTS: &[(&str, fn())] = &[(
    "an_upgrade_of_both_instances_loses_no_route_and_no_packet",
    an_upgrade_of_both_instances_loses_no_route_and_no_packet,
)];

const TOPOLOGY: &str = "
description: two NVAs that restart gracefully, two VMs
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - { name: RouteServerSubnet, prefix: 10.1.255.0/27 }
      - { name: nva, prefix: 10.1.1.0/24 }
      - { name: web, prefix: 10.1.2.0/24 }
route_servers:
  - { name: rs, vnet: hub }
nvas:
  - name: sdwan
    subnet: hub/nva
    address: 10.1.1.4
    asn: 65001
    software: frr
    announce: [10.250.0.0/16]
    behind: [{ name: site, address: 10.250.0.10/16 }]
    graceful_restart: {}
  - name: router
    subnet: hub/nva
    address: 10.1.1.5
    asn: 65002
    announce: [10.251.0.0/16]
    behind: [{ name: far, address: 10.251.0.10/16 }]
    graceful_restart: {}
vms:
  - { name: vm1, subnet: hub/web, address: 10.1.2.4 }
  - { name: vm2, subnet: hub/web, address: 10.1.2.5 }
";
const NVAS: [&str; 2] = ["sdwan", "router"];
const VMS: [&str; 2] = ["vm1", "vm2"];
const BEHIND: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 250, 0, 10), Ipv4Addr::new(10, 251, 0, 10)];
/// The agents' routes and nexthop objects.
const OURS: u8 = 157;

fn an_upgrade_of_both_instances_loses_no_route_and_no_packet() {
    let labs = labs();
    let topology = Topology::parse("upgrade.yaml", TOPOLOGY).unwrap();
    let mut lab = TestLab::up(&topology, labs.path(), "upgrade", false).unwrap();
    lab.wait_converged(DEADLINE).unwrap();
    wait(&lab, "agents and NVAs to have everything", all_is_there);

    let lives = epochs(&lab);
    let watches = VMS.map(|vm| RouteWatch::start(&lab.namespace(vm).unwrap()).unwrap());
    let ways_back = NVAS.map(|nva| RouteWatch::start(&lab.namespace(nva).unwrap()).unwrap());
    let flows = VMS.map(|vm| BEHIND.map(|host| Flow::start(&lab.namespace(vm).unwrap(), host).unwrap()));

    let said = upgrade(&lab, &[]);
    assert!(said.status.success(), "{said:?}");
    let after = epochs(&lab);
    assert!(
        lives.iter().zip(&after).all(|(before, after)| before != after),
        "{after:?}"
    );

    for (vm, flows) in VMS.iter().zip(flows) {
        for flow in flows {
            let echoes = flow.end().unwrap();
            assert!(echoes.sent > 0 && echoes.lost.is_empty(), "{vm}: {echoes:?}");
        }
    }
    for (vm, watch) in VMS.iter().zip(&watches) {
        let changes = watch.changes().unwrap();
        assert!(
            changes.iter().all(|change| change.protocol != OURS),
            "{vm}: {changes:?}"
        );
    }
    let home: IpNet = "10.1.0.0/16".parse().unwrap();
    for (nva, watch) in NVAS.iter().zip(&ways_back) {
        let changes = watch.changes_of(home).unwrap();
        assert!(changes.iter().all(|change| !change.gone), "{nva}: {changes:?}");
    }
    let kept = |peers: &[Value]| peers.iter().any(|peer| peer["routesStale"] != json!(0));
    assert!(!kept(&peers(&lab)), "{:#?}", peers(&lab));

    an_instance_that_is_the_only_way_is_left_alone(&mut lab);
}

fn an_instance_that_is_the_only_way_is_left_alone(lab: &mut Lab) {
    // Without its way to instance 1, an NVA has instance 0 alone.
    let cut = ["ip", "route", "add", "blackhole", "10.1.255.5/32"];
    assert!(lab.exec("router", &cut).unwrap().status.success());
    lab.api().unwrap().post(&reset("router")).unwrap();
    wait(lab, "one session of the router", |lab| {
        let peers = peers(lab);
        let up = |peer: &&Value| peer["name"] == "router" && peer["state"] == "Established";
        peers.iter().filter(up).count() == 1
    });
    let lives = epochs(lab);
    let said = upgrade(lab, &["--instance", "0", "--timeout", "1"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{text}");
    assert!(text.contains("instance 0 was not restarted (--force"), "{text}");
    assert_eq!(epochs(lab), lives);
    wait(lab, "instance 0 not to be drained", |lab| {
        let health = lab.api().unwrap().get("/routewright/v1/health").unwrap();
        health["instances"][0]["drained"] == json!(false)
    });
    let said = upgrade(lab, &["--instance", "0", "--force"]);
    assert!(said.status.success(), "{said:?}");
    let after = epochs(lab);
    assert!(after[0] != lives[0] && after[1] == lives[1], "{after:?}");
}

fn reset(nva: &str) -> String {
    let id = lab::network_id(&format!("virtualHubs/rs/bgpConnections/{nva}"));
    format!("/routewright/v1/peers{id}/reset")
}

fn upgrade(lab: &Lab, more: &[&str]) -> Output {
    let mut command = Command::new(&lab.state().executable);
    command.arg("upgrade").args(more);
    command.args(["--server", lab.state().api_url.as_deref().unwrap()]);
    command.output().unwrap()
}

fn all_is_there(lab: &Lab) -> bool {
    let hosts = BEHIND.map(|host| IpNet::new(host.into(), 16).unwrap().trunc());
    let has = |node: &str, prefix: &IpNet| {
        let routes = lab.kernel_routes(node).unwrap();
        routes.iter().any(|route| route.prefix == *prefix)
    };
    let home = "10.1.0.0/16".parse().unwrap();
    let agents = lab.api().unwrap().get("/routewright/v1/agents").unwrap();
    let rows = agents["value"].as_array().unwrap();
    VMS.iter().all(|vm| hosts.iter().all(|prefix| has(vm, prefix)))
        && NVAS.iter().all(|nva| has(nva, &home))
        && rows.len() == 2 * VMS.len()
        && rows.iter().all(|row| row["installedGeneration"].is_u64())
        && peers(lab).iter().all(|peer| peer["state"] == "Established")
}

fn peers(lab: &Lab) -> Vec<Value> {
    let peers = lab.api().unwrap().get("/routewright/v1/peers").unwrap();
    peers["value"].as_array().cloned().unwrap_or_default()
}

fn epochs(lab: &Lab) -> Vec<u64> {
    let health = lab.api().unwrap().get("/routewright/v1/health").unwrap();
    let instances = health["instances"].as_array().unwrap();
    instances.iter().map(|it| it["epoch"].as_u64().unwrap()).collect()
}

fn wait(lab: &Lab, what: &str, holds: impl Fn(&Lab) -> bool) {
    let missing = |lab: &Lab| Ok(if holds(lab) { vec![] } else { vec![what.to_owned()] });
    lab.wait_until(what, DEADLINE, missing).unwrap();
}
