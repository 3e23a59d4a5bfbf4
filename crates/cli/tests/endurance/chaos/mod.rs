//! Claim 4: whatever is killed, stopped, cut off or parted, no packet is lost that a surviving path could have carried.
//!
//! ```text
//!   vm1 ─┐                ┌─ relay ── nva0 ── site0 ┐
//!   vm2 ─┴── the fabric ──┼─ relay ── nva1 ── site1 ├ 10.250.0.10, each of them
//!                         └─ relay ── nva2 ── site2 ┘
//!   agents ── relays ── instances
//! ```
//!
//! Packets flow all the time. A round begins with all well; announcements change; then some things go wrong, at random moments; kernels come
//! to what is left, which a model knows; all is made good again, and kernels and sessions are as in the beginning. At the end of the round each lost
//! packet is held against what went wrong ([`verdict`]).
//!
//! The long form, an hour by a seed of your own, on a machine that does nothing else:
//!
//! ```text
//! RW_CHAOS_SECS=3600 RW_CHAOS_BFD_MS=50 RW_CHAOS_MARGIN_MS=1000 RW_SEED=1 \
//!   cargo test --release -p routewright --test endurance chaos -- --nocapture
//! ```

mod fault;
mod tcp_relay;
mod traffic;
mod verdict;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use lab::relay::{Relay, Weather};
use lab::topology::Path;
use lab::{Lab, LabError};
use nix::sys::signal::Signal;

use self::fault::{Fault, INSTANCES};
use self::tcp_relay::TcpRelay;
use self::traffic::{SITE, Traffic};
use self::verdict::{Detection, Round};
use crate::dice::{Dice, number_from};
use crate::model::{Model, differences, from_kernel, net};
use crate::world::{DEADLINE, NVAS, VMS, World};

/// What CI plays.
const SECONDS: u64 = 60;
const BFD_MS: u64 = 300;
/// What a busy machine may take beyond the detection time; it is not what is tested there.
const MARGIN_MS: u64 = 10_000;
/// BFD's multiplier, and the default silence of instances.
const MULTIPLIER: u32 = 3;
const SILENCE: Duration = Duration::from_secs(10);
const MAX_FAULTS: usize = 4;
/// The last fault begins this long after the first one, at most.
const SPREAD_MS: usize = 1_500;
/// Prefixes that come and go.
const FLOWING: usize = 40;
const INSTANCE_ADDRESSES: [[u8; 4]; INSTANCES] = [[10, 1, 0, 4], [10, 1, 0, 5]];

fn topology(bfd_ms: u64) -> String {
    let nva = |n: usize| {
        format!(
            "  - name: nva{n}
    subnet: hub/nva
    address: 10.1.1.{}
    asn: {}
    bfd: {{ interval_ms: {bfd_ms}, multiplier: {MULTIPLIER} }}
    behind: [{{ name: site{n}, address: {SITE}/24 }}]
",
            n + 4,
            65001 + n
        )
    };
    let nvas: String = (0..NVAS).map(nva).collect();
    format!(
        "
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - {{ name: RouteServerSubnet, prefix: 10.1.0.0/27 }}
      - {{ name: nva, prefix: 10.1.1.0/24 }}
      - {{ name: web, prefix: 10.1.10.0/24 }}
      - {{ name: data, prefix: 10.1.20.0/24 }}
route_servers:
  - {{ name: rs, vnet: hub }}
nvas:
{nvas}vms:
  - {{ name: vm1, subnet: hub/web, address: 10.1.10.4 }}
  - {{ name: vm2, subnet: hub/data, address: 10.1.20.4 }}
"
    )
}

pub fn chaos(rootless: bool) {
    let playing = Duration::from_secs(number_from("RW_CHAOS_SECS", SECONDS));
    let mut chaos = Chaos::up(rootless);
    let (start, mut rounds, mut faults) = (Instant::now(), 0, 0);
    while rounds == 0 || start.elapsed() < playing {
        rounds += 1;
        faults += chaos.round(&format!("round {rounds}"));
    }
    eprintln!(
        "{rounds} rounds with {faults} faults in {:.0} s; {} packets, {} lost, none of them but as it must be: {}",
        start.elapsed().as_secs_f64(),
        chaos.sent,
        chaos.lost,
        chaos.findings.is_empty(),
    );
    assert!(chaos.findings.is_empty(), "{}", chaos.findings.join("\n\n"));
}

struct Chaos {
    world: World,
    dice: Dice,
    detection: Detection,
    traffic: Traffic,
    /// In the NVAs' links.
    links: Vec<Relay>,
    /// Between each VM's agent and each instance.
    streams: Vec<Vec<TcpRelay>>,
    sent: usize,
    lost: usize,
    findings: Vec<String>,
}

impl Chaos {
    fn up(rootless: bool) -> Chaos {
        let bfd_ms = number_from("RW_CHAOS_BFD_MS", BFD_MS);
        let margin = Duration::from_millis(number_from("RW_CHAOS_MARGIN_MS", MARGIN_MS));
        let mut world = World::up_as(rootless, &topology(bfd_ms));
        let links = (0..NVAS).map(|nva| Relay::insert(&world.lab, &format!("nva{nva}")).unwrap());
        let links = links.collect();
        let streams = VMS.iter().map(|vm| between(&mut world.lab, vm.name)).collect();
        for nva in 0..NVAS {
            world.announce(nva, &[Path::plain(through())]);
        }
        let hosts: Vec<String> = (0..NVAS).map(|nva| format!("site{nva}")).collect();
        let traffic = Traffic::start(&world.lab, &hosts);
        let chaos = Chaos {
            world,
            dice: Dice::new(),
            detection: Detection {
                of_paths: Duration::from_millis(bfd_ms) * MULTIPLIER + margin,
                of_instances: SILENCE,
            },
            traffic,
            links,
            streams,
            sent: 0,
            lost: 0,
            findings: Vec::new(),
        };
        chaos.all_is_well("in the beginning");
        chaos
    }

    /// Says how many faults there were.
    fn round(&mut self, name: &str) -> usize {
        self.traffic.forget();
        let began = Instant::now();
        let announced = self.announce();
        self.settle(&format!("{name}: announcements"), |_| Some(self.world.model.clone()));

        let mut round = Round {
            faults: Vec::new(),
            end: began,
        };
        for fault in self.faults() {
            thread::sleep(Duration::from_millis(self.dice.below(SPREAD_MS / MAX_FAULTS) as u64));
            let now = Instant::now();
            self.begin(fault);
            round.faults.push((fault, now));
        }
        let told: Vec<String> = round
            .faults
            .iter()
            .map(|(fault, at)| format!("{:.2} s: {fault}", (*at - began).as_secs_f64()))
            .collect();
        let told = format!("{name}: {announced}; {}", told.join(", "));
        let took = self.settle(&told, |vm| self.left(&round, vm));
        thread::sleep(Duration::from_millis(self.dice.below(SPREAD_MS) as u64));

        self.make_good(&round);
        let well = self.all_is_well(&told);
        round.end = Instant::now();
        for vm in 0..VMS.len() {
            self.judge(vm, &round, began, &told);
        }
        eprintln!(
            "{told}; kernels followed in {:.2} s; well again after {:.2} s",
            took.as_secs_f64(),
            well.as_secs_f64()
        );
        round.faults.len()
    }

    /// New preferences for the way to the site, and a few prefixes that come or go. Nothing of it may lose a packet.
    fn announce(&mut self) -> String {
        let mut preferences = Vec::new();
        for nva in 0..NVAS {
            let mut path = Path::plain(through());
            path.as_path_prepend = self.dice.below(2) as u8;
            preferences.push(path.as_path_prepend.to_string());
            self.world.announce(nva, &[path]);
            for _ in 0..self.dice.below(4) {
                let prefix = net(&format!("30.0.{}.0/24", self.dice.below(FLOWING)));
                if self.world.model.nvas[nva].announced.contains_key(&prefix) {
                    self.world.withdraw(nva, &[prefix]);
                } else {
                    self.world.announce(nva, &[Path::plain(prefix)]);
                }
            }
        }
        format!("prepended {}", preferences.join("/"))
    }

    /// Some faults, no two at one thing.
    fn faults(&mut self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..1 + self.dice.below(MAX_FAULTS) {
            let fault = Fault::roll(&mut self.dice);
            if faults.iter().all(|other| other.target() != fault.target()) {
                faults.push(fault);
            }
        }
        faults
    }

    fn begin(&mut self, fault: Fault) {
        let lab = &mut self.world.lab;
        let done = match fault {
            Fault::NvaKilled(nva) => lab.kill(&format!("nva{nva}")).map(drop),
            Fault::NvaStopped(nva) => lab.signal(&format!("nva{nva}"), Signal::SIGSTOP).map(drop),
            Fault::InstanceKilled(instance) => lab.kill(&format!("instance{instance}")).map(drop),
            Fault::InstanceStopped(instance) => lab.signal(&format!("instance{instance}"), Signal::SIGSTOP).map(drop),
            Fault::ManagerKilled => lab.kill("manager").map(drop),
            Fault::ManagerStopped => lab.signal("manager", Signal::SIGSTOP).map(drop),
            Fault::AgentKilled(vm) => lab.kill(&agent(vm)).map(drop),
            Fault::AgentStopped(vm) => lab.signal(&agent(vm), Signal::SIGSTOP).map(drop),
            Fault::VmUnplugged(vm) => lab.set_link(VMS[vm].name, false),
            Fault::AgentParted { vm, instance } => {
                self.streams[vm][instance].part(true);
                Ok(())
            }
            Fault::NvaCut(nva) => self.weather(nva, 1_000, &[]),
            Fault::NvaLosesPackets(nva, permille) => self.weather(nva, permille, &[]),
            Fault::NvaParted { nva, instance } => self.weather(nva, 0, &[instance]),
        };
        done.unwrap_or_else(|e| panic!("{fault}: {e}"));
    }

    /// First what packets go over, then who decides where: nobody is to hear old news of what is not there.
    fn make_good(&mut self, round: &Round) {
        let mut faults: Vec<Fault> = round.faults.iter().map(|(fault, _)| *fault).collect();
        faults.sort_by_key(|fault| match fault {
            Fault::NvaCut(_) | Fault::NvaLosesPackets(..) | Fault::NvaParted { .. } | Fault::VmUnplugged(_) => 0,
            Fault::NvaKilled(_) | Fault::NvaStopped(_) => 1,
            Fault::InstanceKilled(_) | Fault::InstanceStopped(_) => 2,
            Fault::ManagerKilled | Fault::ManagerStopped => 3,
            Fault::AgentKilled(_) | Fault::AgentStopped(_) | Fault::AgentParted { .. } => 4,
        });
        for fault in faults {
            self.end(fault);
        }
    }

    fn end(&mut self, fault: Fault) {
        let lab = &mut self.world.lab;
        let done = match fault {
            Fault::NvaKilled(nva) => lab.start(&format!("nva{nva}")).map(drop),
            Fault::NvaStopped(nva) => lab.signal(&format!("nva{nva}"), Signal::SIGCONT).map(drop),
            Fault::InstanceKilled(_) => Ok(()),
            Fault::InstanceStopped(instance) => {
                // The manager may have ended it meanwhile.
                let _ = lab.signal(&format!("instance{instance}"), Signal::SIGCONT);
                Ok(())
            }
            Fault::ManagerKilled => lab.start("manager").map(drop),
            Fault::ManagerStopped => lab.signal("manager", Signal::SIGCONT).map(drop),
            Fault::AgentKilled(vm) => lab.start(&agent(vm)).map(drop),
            Fault::AgentStopped(vm) => lab.signal(&agent(vm), Signal::SIGCONT).map(drop),
            Fault::VmUnplugged(vm) => lab.set_link(VMS[vm].name, true),
            Fault::AgentParted { vm, instance } => {
                self.streams[vm][instance].part(false);
                Ok(())
            }
            Fault::NvaCut(nva) | Fault::NvaLosesPackets(nva, _) | Fault::NvaParted { nva, .. } => {
                self.weather(nva, 0, &[])
            }
        };
        done.unwrap_or_else(|e| panic!("no more {fault}: {e}"));
    }

    fn weather(&self, nva: usize, loss_permille: u32, parted_from: &[usize]) -> Result<(), LabError> {
        self.links[nva].set(Weather {
            loss_permille,
            parted_from: parted_from.iter().map(|i| INSTANCE_ADDRESSES[*i].into()).collect(),
        });
        Ok(())
    }

    /// The model of what is left for a VM, if that can be told.
    fn left(&self, round: &Round, vm: usize) -> Option<Model> {
        let visible = round.visible(vm)?;
        let mut model = self.world.model.clone();
        for (number, nva) in model.nvas.iter_mut().enumerate() {
            nva.alive = visible.contains(&number);
        }
        Some(model)
    }

    /// Waits until kernels are as their models say; says how long that took.
    fn settle(&self, what: &str, model: impl Fn(usize) -> Option<Model>) -> Duration {
        let begin = Instant::now();
        self.wait(what, |lab| {
            let mut wrong = Vec::new();
            for (number, vm) in VMS.iter().enumerate() {
                let Some(model) = model(number) else { continue };
                let kernel = from_kernel(&lab.kernel_routes(vm.name)?);
                wrong.extend(differences(
                    &format!("kernel of {}", vm.name),
                    &kernel,
                    &model.table(vm),
                ));
            }
            Ok(wrong)
        });
        begin.elapsed()
    }

    /// All sessions are up and watched, all agents hear both instances, all kernels are as the model says.
    fn all_is_well(&self, what: &str) -> Duration {
        let begin = Instant::now();
        self.wait(&format!("all is well: {what}"), |_| {
            let missing = self.not_well();
            Ok(missing.unwrap_or_else(|error| vec![error.to_string()]))
        });
        self.settle(&format!("all is well: {what}"), |_| Some(self.world.model.clone()));
        begin.elapsed()
    }

    fn not_well(&self) -> Result<Vec<String>, LabError> {
        let peers = self.world.api.peers()?;
        let watched = peers
            .iter()
            .filter(|peer| peer.bfd.as_ref().is_some_and(|bfd| bfd.state == "Up"));
        let up = watched.filter(|peer| peer.state == "Established").count();
        let agents = self.world.api.get("/routewright/v1/agents")?;
        let agents = agents["value"].as_array().map_or(0, Vec::len);
        let (sessions, streams) = (NVAS * INSTANCES, VMS.len() * INSTANCES);
        let mut missing = Vec::new();
        if up != sessions {
            missing.push(format!("{up} of {sessions} sessions are up and watched"));
        }
        if agents != streams {
            missing.push(format!("{agents} of {streams} streams to agents"));
        }
        Ok(missing)
    }

    fn wait(&self, what: &str, missing: impl FnMut(&Lab) -> Result<Vec<String>, LabError>) {
        let waited = self.world.lab.wait_until(what, DEADLINE, missing);
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.world.why()));
    }

    /// Holds a VM's lost packets against what went wrong.
    fn judge(&mut self, vm: usize, round: &Round, began: Instant, told: &str) {
        let (lost, sent) = self.traffic.lost(vm);
        self.sent += sent;
        self.lost += lost.len();
        let windows = round.may_lose(vm, self.detection);
        let unforgivable: Vec<Instant> = lost
            .into_iter()
            .filter(|sent| windows.iter().all(|window| !window.contains(sent)))
            .collect();
        let (Some(first), Some(last)) = (unforgivable.first(), unforgivable.last()) else {
            return;
        };
        let finding = format!(
            "{}: {} packets were lost that a surviving path could have carried, from {:.3} s to {:.3} s\n{told}",
            VMS[vm].name,
            unforgivable.len(),
            (*first - began).as_secs_f64(),
            (*last - began).as_secs_f64(),
        );
        eprintln!("FINDING {finding}");
        self.findings.push(finding);
    }
}

/// The way to the site, which every NVA knows.
fn through() -> Ipv4Net {
    Ipv4Net::new(SITE, 24).unwrap().trunc()
}

fn agent(vm: usize) -> String {
    format!("agent-{}", VMS[vm].name)
}

/// Puts relays between a VM's agent and the instances.
fn between(lab: &mut Lab, vm: &str) -> Vec<TcpRelay> {
    let mut relays = Vec::new();
    let through_relays = |argv: &mut Vec<String>| {
        let servers = (1..argv.len()).filter(|i| argv[i - 1] == "--server");
        for at in servers.collect::<Vec<_>>() {
            let url = argv[at].strip_prefix("http://").unwrap();
            let target: SocketAddr = url.trim_end_matches('/').parse().unwrap();
            relays.push(TcpRelay::to(target));
            argv[at] = format!("http://{}", relays[relays.len() - 1].address);
        }
    };
    lab.start_anew(&format!("agent-{vm}"), through_relays).unwrap();
    assert_eq!(relays.len(), INSTANCES);
    relays
}
