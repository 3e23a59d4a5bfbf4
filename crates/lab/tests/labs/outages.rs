//! NVAs that are killed, half cut off and taken down on purpose.
//!
//! ```text
//!   site 10.250.0.10 ┬─ sdwan (builtin) ──┐ 10.250/16, 10.252/16        ┌── vm1
//!                    │                    ├────────────── route server ─┤
//!   site 10.250.0.10 ┴─ router (builtin) ─┘ 10.250/16                   └── vm2
//! ```
//!
//! 1. `persistRoutes`: what only a killed NVA had announced stays in the VMs, with its age, and goes when it is switched off.
//! 2. An NVA without a way to one instance is told of in health, metrics and log, and not any more when that is mended; VMs have the
//!    union meanwhile.
//! 3. `routewright drain 0` and `… peering drain` wait until packets go other ways, say what has none, and end with `--timeout`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Output};

use ipnet::IpNet;
use lab::harness::TestLab;
use lab::watch::RouteWatch;
use lab::{Lab, RESOURCE_GROUP, Topology, network_id};
use serde_json::{Value, json};

use crate::{DEADLINE, labs};

pub const TESTS: &[(&str, fn())] = &[
    (
        "nvas_that_are_killed_cut_off_and_drained_take_down_what_they_must_and_no_more",
        nvas_that_are_killed_cut_off_and_drained_take_down_what_they_must_and_no_more,
    ),
    (
        "nvas_that_bgp_waits_for_until_bfd_is_up_come_back",
        nvas_that_bgp_waits_for_until_bfd_is_up_come_back,
    ),
];

const TOPOLOGY: &str = "
description: two NVAs before one site
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
    announce: [10.250.0.0/16, 10.252.0.0/16]
    behind: [{ name: site-a, address: 10.250.0.10/16 }]
  - name: router
    subnet: hub/nva
    address: 10.1.1.5
    asn: 65002
    announce: [10.250.0.0/16]
    behind: [{ name: site-b, address: 10.250.0.10/16 }]
vms:
  - { name: vm1, subnet: hub/web, address: 10.1.2.4 }
  - { name: vm2, subnet: hub/web, address: 10.1.2.5 }
";
const VMS: [&str; 2] = ["vm1", "vm2"];
const SDWAN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 4));
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 5));
/// Both have it.
const SHARED: &str = "10.250.0.0/16";
/// Only sdwan has it.
const ALONE: &str = "10.252.0.0/16";

fn nvas_that_are_killed_cut_off_and_drained_take_down_what_they_must_and_no_more() {
    let labs = labs();
    let topology = Topology::parse("outages.yaml", TOPOLOGY).unwrap();
    let mut lab = TestLab::up(&topology, labs.path(), "outages", false).unwrap();
    lab.wait_converged(DEADLINE).unwrap();
    every_vm_has(&lab, SHARED, &[SDWAN, ROUTER]);
    every_vm_has(&lab, ALONE, &[SDWAN]);

    drained_nvas_are_gone_round(&lab);
    drained_instances_have_no_say(&lab);
    routes_persist_as_long_as_is_wanted(&mut lab);
    one_leg_is_told_of_until_it_is_mended(&lab);
}

/// In strict mode.
fn nvas_that_bgp_waits_for_until_bfd_is_up_come_back() {
    let labs = labs();
    let strict = |software: &str| format!("software: {software}, bfd: {{ strict: true }}, asn");
    let text = STRICT
        .replace("FRR, asn", &strict("frr"))
        .replace("BIRD, asn", &strict("bird"));
    let topology = Topology::parse("strict.yaml", &text).unwrap();
    let mut lab = TestLab::up(&topology, labs.path(), "strict", false).unwrap();
    lab.wait_converged(DEADLINE).unwrap();
    for nva in ["sdwan", "router"] {
        lab.stop(nva).unwrap();
        lab.wait_for_peer(nva, false, DEADLINE).unwrap();
        lab.start(nva).unwrap();
        wait(&lab, nva, |lab| {
            let up = |peer: &Value| peer["state"] == "Established" && peer["bfd"]["state"] == "Up";
            let of_nva = peers(lab).into_iter().filter(|peer| peer["name"] == nva);
            of_nva.filter(up).count() == 2
        });
    }
}

const STRICT: &str = "
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - { name: RouteServerSubnet, prefix: 10.1.255.0/27 }
      - { name: nva, prefix: 10.1.1.0/24 }
route_servers:
  - { name: rs, vnet: hub }
nvas:
  - { name: sdwan, subnet: hub/nva, address: 10.1.1.4, FRR, asn: 65001 }
  - { name: router, subnet: hub/nva, address: 10.1.1.5, BIRD, asn: 65002 }
";

fn drained_nvas_are_gone_round(lab: &Lab) {
    let router = ["--routeserver", "rs", "--name", "router"];
    let said = peering_drain(lab, &router, &["--timeout", "180"]);
    assert!(said.status.success(), "{said:?}");
    every_vm_has(lab, SHARED, &[SDWAN]);
    let undone = peering_drain(lab, &router, &["--undo"]);
    assert!(undone.status.success(), "{undone:?}");
    every_vm_has(lab, SHARED, &[SDWAN, ROUTER]);

    // What has no other way is told, and goes on through it.
    let sdwan = ["--routeserver", "rs", "--name", "sdwan"];
    let said = peering_drain(lab, &sdwan, &["--timeout", "1"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{text}");
    assert!(text.contains("not done after 1 s, and drained all the same"), "{text}");
    assert!(text.contains("no other way"), "{text}");
    every_vm_has(lab, SHARED, &[ROUTER]);
    every_vm_has(lab, ALONE, &[SDWAN]);
    assert!(peering_drain(lab, &sdwan, &["--undo"]).status.success());
    every_vm_has(lab, SHARED, &[SDWAN, ROUTER]);
}

fn drained_instances_have_no_say(lab: &Lab) {
    let watches = VMS.map(|vm| RouteWatch::start(&lab.namespace(vm).unwrap()).unwrap());
    for instance in ["0", "1"] {
        let said = routewright(lab, &["drain", instance, "--timeout", "180"]);
        assert!(said.status.success(), "{said:?}");
        let index: usize = instance.parse().unwrap();
        let is = |on: bool| move |lab: &Lab| health(lab)["instances"][index]["drained"] == json!(on);
        wait(lab, "health to tell of the drained instance", is(true));
        assert!(routewright(lab, &["drain", instance, "--undo"]).status.success());
        wait(lab, "health to tell that it is not drained any more", is(false));
    }
    // The other instance has the same next hops: nothing changes in a VM.
    for (vm, watch) in VMS.iter().zip(&watches) {
        let changes = watch.changes_of(SHARED.parse().unwrap()).unwrap();
        assert!(changes.is_empty(), "{vm}: {changes:?}");
    }
}

fn routes_persist_as_long_as_is_wanted(lab: &mut Lab) {
    let persist = |lab: &Lab, value: Value| {
        let path = format!("/routewright/v1{}/settings", network_id("virtualHubs/rs"));
        lab.api()
            .unwrap()
            .put(&path, &json!({ "persistRoutes": value }))
            .unwrap();
        wait(lab, "both instances to follow", |lab| {
            let health = health(lab);
            let instances = health["instances"].as_array().unwrap();
            instances.len() == 2
                && instances
                    .iter()
                    .all(|instance| instance["intentVersion"] == health["intentVersion"])
        });
    };
    persist(lab, json!(60));
    lab.kill("sdwan").unwrap();
    wait(lab, "both instances to persist what sdwan has said", |lab| {
        let of_sdwan = peers(lab).into_iter().filter(|peer| peer["name"] == "sdwan");
        of_sdwan
            .filter(|peer| peer["state"] != "Established" && peer["kept"][0]["phase"] == "persisted")
            .count()
            == 2
    });
    // A last resort: used where there is nothing else, and only there.
    every_vm_has(lab, SHARED, &[ROUTER]);
    every_vm_has(lab, ALONE, &[SDWAN]);
    let id = network_id("virtualHubs/rs");
    let path = format!("/routewright/v1/routes?routeServer={id}&prefix={ALONE}");
    let routes = lab.api().unwrap().get(&path).unwrap();
    let rows = routes["value"].as_array().unwrap();
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row["staleSecs"].is_u64()),
        "{routes}"
    );

    lab.start("sdwan").unwrap();
    every_vm_has(lab, SHARED, &[SDWAN, ROUTER]);
    wait(lab, "nothing to be stale", |lab| {
        peers(lab).iter().all(|peer| peer["routesStale"] == json!(0))
    });

    lab.kill("sdwan").unwrap();
    every_vm_has(lab, SHARED, &[ROUTER]);
    every_vm_has(lab, ALONE, &[SDWAN]);
    persist(lab, json!("off"));
    every_vm_has(lab, ALONE, &[]);
    lab.start("sdwan").unwrap();
    every_vm_has(lab, SHARED, &[SDWAN, ROUTER]);
    every_vm_has(lab, ALONE, &[SDWAN]);
}

fn one_leg_is_told_of_until_it_is_mended(lab: &Lab) {
    let way = |verb: &str| {
        let argv = ["ip", "route", verb, "blackhole", "10.1.255.5/32"];
        assert!(lab.exec("sdwan", &argv).unwrap().status.success());
    };
    assert!(advice_on(lab, "sdwan").is_none());
    way("add");
    let reset = format!(
        "/routewright/v1/peers{}/reset",
        network_id("virtualHubs/rs/bgpConnections/sdwan")
    );
    lab.api().unwrap().post(&reset).unwrap();
    let sentence = "has a session with instance 0 only";
    wait(lab, "advice on the NVA with one leg", |lab| {
        advice_on(lab, "sdwan").is_some_and(|advice| advice.contains(sentence))
    });
    assert!(one_legged(lab).contains("/bgpconnections/sdwan"), "{}", one_legged(lab));
    let log = std::fs::read_to_string(lab.directory().log("manager")).unwrap();
    assert!(
        log.lines()
            .any(|line| line.contains("sdwan") && line.contains(sentence))
    );
    assert!(advice_on(lab, "router").is_none());
    // The union: everything works, as long as instance 0 does.
    every_vm_has(lab, SHARED, &[SDWAN, ROUTER]);
    every_vm_has(lab, ALONE, &[SDWAN]);
    // And it is the only way of that NVA.
    let said = routewright(lab, &["drain", "0", "--timeout", "1"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && text.contains("not done after 1 s"), "{text}");
    assert!(String::from_utf8_lossy(&said.stdout).contains("sdwan"), "{said:?}");
    assert!(routewright(lab, &["drain", "0", "--undo"]).status.success());

    way("del");
    wait(lab, "no advice any more", |lab| advice_on(lab, "sdwan").is_none());
    assert!(
        !one_legged(lab).contains("/bgpconnections/sdwan"),
        "{}",
        one_legged(lab)
    );
}

/// What health advises on an NVA.
fn advice_on(lab: &Lab, nva: &str) -> Option<String> {
    let health = health(lab);
    let advice = health["advice"].as_array()?;
    let mut advice = advice.iter().filter_map(Value::as_str);
    advice
        .find(|advice| advice.to_lowercase().contains(&format!("/bgpconnections/{nva} ")))
        .map(str::to_owned)
}

/// The metric's lines.
fn one_legged(lab: &Lab) -> String {
    let metrics = lab.api().unwrap().text("/metrics").unwrap();
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("routewright_manager_nva_one_legged{"));
    lines.map(str::to_lowercase).collect::<Vec<_>>().join("\n")
}

fn peering_drain(lab: &Lab, which: &[&str], more: &[&str]) -> Output {
    let verb = ["routeserver", "peering", "drain", "--resource-group", RESOURCE_GROUP];
    routewright(lab, &[verb.as_slice(), which, more].concat())
}

fn routewright(lab: &Lab, arguments: &[&str]) -> Output {
    let mut command = Command::new(&lab.state().executable);
    command.args(arguments);
    command.args(["--server", lab.state().api_url.as_deref().unwrap()]);
    command.output().unwrap()
}

/// Every VM's kernel sends the prefix to exactly these.
fn every_vm_has(lab: &Lab, prefix: &str, next_hops: &[IpAddr]) {
    let prefix: IpNet = prefix.parse().unwrap();
    for vm in VMS {
        let exactly = |routes: &[lab::KernelRoute]| {
            let hops = routes
                .iter()
                .filter(|route| route.prefix == prefix)
                .flat_map(|route| &route.hops);
            let mut hops: Vec<IpAddr> = hops.filter_map(|hop| hop.via).collect();
            hops.sort();
            hops == next_hops
        };
        lab.wait_for_routes(vm, DEADLINE, exactly).unwrap();
    }
}

fn peers(lab: &Lab) -> Vec<Value> {
    let peers = lab.api().unwrap().get("/routewright/v1/peers").unwrap();
    peers["value"].as_array().cloned().unwrap_or_default()
}

fn health(lab: &Lab) -> Value {
    lab.api().unwrap().get("/routewright/v1/health").unwrap()
}

fn wait(lab: &Lab, what: &str, holds: impl Fn(&Lab) -> bool) {
    let missing = |lab: &Lab| Ok(if holds(lab) { vec![] } else { vec![what.to_owned()] });
    lab.wait_until(what, DEADLINE, missing).unwrap();
}
