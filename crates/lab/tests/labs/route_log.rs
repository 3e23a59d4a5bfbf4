//! The route log from end to end: FRR and BIRD announce, agents write into kernels, and the log of each instance says who, what became
//! best, and which NICs have it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ipnet::IpNet;
use lab::harness::TestLab;
use lab::{Lab, Topology, network_id, nic_id};
use serde_json::{Value, json};

use crate::{DEADLINE, labs};

pub const TESTS: &[(&str, fn())] = &[(
    "the_route_log_says_who_what_became_best_and_which_nics_have_it",
    the_route_log_says_who_what_became_best_and_which_nics_have_it,
)];

const TOPOLOGY: &str = "
description: two NVAs of others and two VMs
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
  - { name: sdwan, subnet: hub/nva, address: 10.1.1.4, asn: 65001, software: frr, announce: [10.250.0.0/16] }
  - { name: firewall, subnet: hub/nva, address: 10.1.1.5, asn: 65002, software: bird, announce: [0.0.0.0/0] }
vms:
  - { name: vm1, subnet: hub/web, address: 10.1.2.4 }
  - { name: vm2, subnet: hub/web, address: 10.1.2.5 }
";
const SDWAN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 1, 4));
const SITE: &str = "10.250.0.0/16";
const MORE: &str = "10.251.0.0/16";
const VMS: [&str; 2] = ["vm1", "vm2"];

fn the_route_log_says_who_what_became_best_and_which_nics_have_it() {
    let labs = labs();
    let topology = Topology::parse("route-log.yaml", TOPOLOGY).unwrap();
    let mut lab = TestLab::up(&topology, labs.path(), "route-log", false).unwrap();
    lab.wait_converged(DEADLINE).unwrap();
    let logs = turn_on(&mut lab, labs.path());
    // Which table each NIC follows is told when its agent comes.
    for vm in VMS {
        lab.kill(vm).unwrap();
        lab.start(vm).unwrap();
        for log in &logs {
            log.until(0, "the NIC's table", |line| is(line, "nicFollows", "nic", &nic_id(vm)));
        }
    }

    let marks = logs.each_ref().map(Log::len);
    lab.announce("sdwan", &[prefix(MORE)]).unwrap();
    in_every_kernel(&lab, MORE, true);
    for (log, mark) in logs.iter().zip(marks) {
        let said = log.until(mark, "the announcement", |line| {
            of_peer(line, "announced", "sdwan", MORE)
        });
        assert_eq!(said["nextHop"], json!(SDWAN));
        assert_eq!(said["asPath"], "65001");
        log.until(mark, "the best", |line| {
            line["nextHops"] == json!([SDWAN]) && about(line, "best", MORE)
        });
        log.reaches_every_nic(mark, "routes");
    }

    let marks = logs.each_ref().map(Log::len);
    lab.withdraw("sdwan", &[prefix(MORE)]).unwrap();
    in_every_kernel(&lab, MORE, false);
    for (log, mark) in logs.iter().zip(marks) {
        log.until(mark, "the withdrawal", |line| of_peer(line, "withdrawn", "sdwan", MORE));
        log.until(mark, "that there is no best", |line| {
            line["nextHops"] == json!([]) && about(line, "best", MORE)
        });
        log.reaches_every_nic(mark, "removed");
    }

    let marks = logs.each_ref().map(Log::len);
    lab.kill("sdwan").unwrap();
    in_every_kernel(&lab, SITE, false);
    for (log, mark) in logs.iter().zip(marks) {
        let down = log.until(mark, "the session's end", |line| {
            is(line, "peerDown", "peer", &peer_id("sdwan"))
        });
        assert!(
            down["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
            "{down}"
        );
        log.until(mark, "that the site is gone", |line| {
            line["nextHops"] == json!([]) && about(line, "best", SITE)
        });
        log.reaches_every_nic(mark, "removed");
        // The other peer has said nothing and lost nothing.
        assert!(
            !log.lines()[mark..]
                .iter()
                .any(|line| same(&line["peer"], &peer_id("firewall")))
        );
    }
    lab.start("sdwan").unwrap();
    in_every_kernel(&lab, SITE, true);
}

/// The log of one instance.
struct Log(PathBuf);

impl Log {
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        // The last may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn len(&self) -> usize {
        self.lines().len()
    }

    /// The first line after `mark` that holds.
    fn until(&self, mark: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            let lines = self.lines();
            if let Some(line) = lines[mark..].iter().find(|line| holds(line)) {
                return line.clone();
            }
            assert!(
                Instant::now() < end,
                "{} never says {what}: {:#?}",
                self.0.display(),
                &lines[mark..]
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// After `mark` a table is told whose change has this (`routes` or `removed`); both VMs follow it and have it in their kernels.
    fn reaches_every_nic(&self, mark: usize, change: &str) {
        let ids = VMS.map(nic_id);
        let followed = ids.each_ref().map(|id| self.tables_of(id));
        let told = self.until(mark, "what the NICs were told", |line| {
            let is_followed = followed.iter().all(|tables| tables.contains(&line["table"]));
            line["event"] == "told" && line[change].as_u64() > Some(0) && is_followed
        });
        let has = |line: &Value, table: &str, generation: &str| {
            line[table] == told["table"] && line[generation].as_u64() >= told["generation"].as_u64()
        };
        for id in &ids {
            self.until(mark, "that it is in a kernel", |line| {
                is(line, "installed", "nic", id)
                    && (has(line, "table", "generation") || has(line, "base", "baseGeneration"))
                    && line["problems"] == json!([])
            });
        }
    }

    /// What a NIC follows, as was told last: its table, and the one below it.
    fn tables_of(&self, nic: &str) -> [Value; 2] {
        let lines = self.lines();
        let mut told = lines.iter().rev();
        let told = told.find(|line| is(line, "nicFollows", "nic", nic)).unwrap();
        [told["table"].clone(), told["base"].clone()]
    }
}

/// Turns the log on: a setting of the manager, which is exchanged alone; sessions and routes stay.
fn turn_on(lab: &mut Lab, place: &Path) -> [Log; 2] {
    let config = lab.directory().file("serve.toml");
    let mut config = std::fs::OpenOptions::new().append(true).open(config).unwrap();
    let log = place.join("routes.jsonl");
    write!(config, "[audit]\nroutes = \"{}\"\n", log.display()).unwrap();
    lab.kill("manager").unwrap();
    lab.start("manager").unwrap();
    lab.wait_converged(DEADLINE).unwrap();
    [0, 1].map(|instance| Log(log.with_extension(format!("{instance}.jsonl"))))
}

fn in_every_kernel(lab: &Lab, to: &str, there: bool) {
    let to = prefix(to);
    for vm in VMS {
        lab.wait_for_routes(vm, DEADLINE, |routes| {
            routes.iter().any(|route| route.prefix == to) == there
        })
        .unwrap();
    }
}

fn is(line: &Value, event: &str, member: &str, value: &str) -> bool {
    line["event"] == event && same(&line[member], value)
}

/// Ids compare without regard to case.
fn same(id: &Value, other: &str) -> bool {
    id.as_str().is_some_and(|id| id.eq_ignore_ascii_case(other))
}

fn about(line: &Value, event: &str, prefix: &str) -> bool {
    let prefixes = line["prefixes"].as_array();
    line["event"] == event && prefixes.is_some_and(|prefixes| prefixes.contains(&json!(prefix)))
}

fn of_peer(line: &Value, event: &str, nva: &str, prefix: &str) -> bool {
    about(line, event, prefix) && same(&line["peer"], &peer_id(nva))
}

fn peer_id(nva: &str) -> String {
    network_id(&format!("virtualHubs/rs/bgpConnections/{nva}"))
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}
