//! Two managers over three members of etcd, as on two machines: what can be written while things are wrong, and that all heals.
//!
//! ```text
//!   manager 0 ── relays ─┐              each starts its own instance
//!                        ├── three members
//!   manager 1 ── relays ─┘
//! ```

use std::thread;
use std::time::{Duration, Instant};

use daemon::store::etcd::cluster::Cluster;
use lab::Api;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::fault::{Fault, INSTANCES, MEMBERS};
use super::tcp_relay::TcpRelay;
use crate::machines::Machines;
use crate::world::{DEADLINE, World};

const TRY_AGAIN: Duration = Duration::from_millis(50);
const VERSION: &str = "?api-version=2024-05-01";

pub struct Shared {
    machines: Machines,
    /// Between each manager and each member.
    streams: Vec<Vec<TcpRelay>>,
    /// What each manager has written last, and was not refused.
    stored: [Option<u64>; INSTANCES],
    pub writes: usize,
    pub refusals: usize,
    etcd: Cluster,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// There was nobody to ask.
    NotTried,
    Stored(u64),
    /// In words that say so.
    Refused,
    /// What is wrong with it.
    Finding(String),
}

impl Shared {
    /// Instead of the one manager and its store that the lab came with.
    pub fn take_over(world: &mut World) -> Shared {
        let etcd = Cluster::start(MEMBERS).unwrap();
        let relays = |_| {
            let members = etcd.endpoints();
            let targets = members.iter().map(|url| url.strip_prefix("http://").unwrap());
            targets.map(|target| TcpRelay::to(target.parse().unwrap())).collect()
        };
        let streams: Vec<Vec<TcpRelay>> = (0..INSTANCES).map(relays).collect();
        let configuration = |manager: usize| {
            let endpoints = streams[manager].iter().map(|relay| format!("http://{}", relay.address));
            format!(
                "[store]\nkind = \"etcd\"\nendpoints = {:?}\n",
                endpoints.collect::<Vec<_>>()
            )
        };
        let machines = Machines::take_over(world, [configuration(0), configuration(1)]);
        Shared {
            machines,
            streams,
            stored: Default::default(),
            writes: 0,
            refusals: 0,
            etcd,
        }
    }

    pub fn api(&self, manager: usize) -> &Api {
        self.machines.api(manager)
    }

    /// A fault of a manager or of etcd.
    pub fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::ManagerKilled(manager) => self.machines.kill_manager(manager),
            Fault::ManagerStopped(manager) => self.machines.signal_manager(manager, Signal::SIGSTOP),
            Fault::EtcdKilled(member) => self.etcd.kill(member),
            Fault::EtcdStopped(member) => self.etcd.freeze(member),
            Fault::EtcdWithoutMajority(left) => {
                self.etcd.kill((left + 1) % MEMBERS);
                self.etcd.freeze((left + 2) % MEMBERS);
            }
            Fault::EtcdParted(manager) => self.part(manager, true),
            other => unreachable!("{other} is nothing of a manager or of etcd"),
        }
    }

    /// Managers come last: they need an etcd that answers.
    pub fn end(&mut self, fault: Fault) {
        match fault {
            Fault::ManagerKilled(manager) => {
                self.etcd.wait_for_leader().unwrap();
                self.machines.start(manager);
            }
            Fault::ManagerStopped(manager) => self.machines.signal_manager(manager, Signal::SIGCONT),
            Fault::EtcdKilled(member) => self.etcd.run(member).unwrap(),
            Fault::EtcdStopped(member) => self.etcd.go_on(member),
            Fault::EtcdWithoutMajority(left) => {
                self.etcd.go_on((left + 2) % MEMBERS);
                self.etcd.run((left + 1) % MEMBERS).unwrap();
            }
            Fault::EtcdParted(manager) => self.part(manager, false),
            other => unreachable!("{other} is nothing of a manager or of etcd"),
        }
    }

    /// Managers that hang go on, for whoever has to find out what is wrong.
    pub fn wake(&self) {
        (0..INSTANCES).for_each(|manager| self.machines.signal_manager(manager, Signal::SIGCONT));
    }

    fn part(&self, manager: usize, parted: bool) {
        for relay in &self.streams[manager] {
            relay.part(parted);
        }
    }

    /// Writes through a manager while things are wrong; `may`: whether that is carried out, if anybody is there to say so.
    pub fn write(&self, manager: usize, may: Option<bool>, number: u64) -> Written {
        let body = json!({ "location": "westeurope", "tags": { "number": number.to_string() } });
        let put = || self.api(manager).put(&by(manager), &body);
        match may {
            None => Written::NotTried,
            Some(true) => {
                // Members choose a leader first, which takes a second or two.
                let begin = Instant::now();
                loop {
                    match put() {
                        Ok(_) => return Written::Stored(number),
                        Err(error) if begin.elapsed() > DEADLINE => {
                            return Written::Finding(format!("manager {manager} refuses what it could write: {error}"));
                        }
                        Err(_) => thread::sleep(TRY_AGAIN),
                    }
                }
            }
            Some(false) => match put().map_err(|error| error.to_string()) {
                Ok(_) => Written::Finding(format!("manager {manager} has written without a majority")),
                Err(words) if is_clear(&words) => Written::Refused,
                Err(words) => {
                    Written::Finding(format!("manager {manager} refuses without saying clearly why: {words}"))
                }
            },
        }
    }

    /// Takes note of what became of a write through a manager; a finding, if it is one.
    pub fn note(&mut self, manager: usize, written: Written) -> Option<String> {
        match written {
            Written::NotTried => {}
            Written::Refused => self.refusals += 1,
            Written::Stored(number) => {
                self.writes += 1;
                self.stored[manager] = Some(number);
            }
            Written::Finding(finding) => return Some(finding),
        }
        None
    }

    /// What is still missing until all has healed: both managers say that all is well, know what was stored, and nothing of what was refused.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for manager in 0..INSTANCES {
            let health = self.api(manager).get("/routewright/v1/health");
            let problems = health.map(|health| health["problems"].to_string());
            let is_meant = |words: &String| !["store", "etcd", "manager"].iter().any(|word| words.contains(word));
            if !problems.as_ref().is_ok_and(is_meant) {
                missing.push(format!("health at manager {manager}: {problems:?}"));
            }
            for (writer, stored) in self.stored.iter().enumerate() {
                let Some(stored) = stored else { continue };
                let found = self.api(manager).get(&by(writer));
                let number = found.map(|table| table["tags"]["number"].clone());
                if !number.as_ref().is_ok_and(|number| *number == json!(stored.to_string())) {
                    missing.push(format!(
                        "at manager {manager}: what manager {writer} wrote is {number:?}, should be {stored}"
                    ));
                }
            }
        }
        missing
    }

    /// Instances that do not follow the intent of this version yet.
    pub fn behind(&self, version: &Value) -> Vec<String> {
        let behind = (0..INSTANCES).filter_map(|manager| {
            let health = self.api(manager).get("/routewright/v1/health");
            let followed = health.map(|health| health["instances"][0]["intentVersion"].clone());
            let arrived = followed
                .as_ref()
                .is_ok_and(|it| it.as_u64().is_some() && it.as_u64() >= version.as_u64());
            (!arrived).then(|| format!("instance {manager} follows {followed:?}, should follow {version}"))
        });
        behind.collect()
    }
}

/// A resource that this manager alone writes, and that changes no route.
fn by(manager: usize) -> String {
    let id = lab::network_id(&format!("routeTables/by-manager-{manager}"));
    format!("{id}{VERSION}")
}

fn is_clear(words: &str) -> bool {
    ["503", "Nothing was changed", "Routing goes on"]
        .iter()
        .all(|part| words.contains(part))
}
