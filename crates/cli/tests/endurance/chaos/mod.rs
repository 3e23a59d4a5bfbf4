//! Claim 4: whatever is killed, stopped, cut off or parted, no packet is lost that a surviving path could have carried.
//!
//! ```text
//!   vm1 ─┐                ┌─ relay ── nva0 ── site0 ┐
//!   vm2 ─┴── the fabric ──┼─ relay ── nva1 ── site1 ├ 10.250.0.10, each of them
//!                         └─ relay ── nva2 ── site2 ┘
//!   agents ── relays ── instances, each with its manager ── relays ── three members of etcd
//! ```
//!
//! Packets flow all the time. A round begins with all well; announcements change; then some things go wrong, at random moments; kernels come
//! to what is left, which a model knows; what can be written is written, and what cannot is refused; all is made good again, kernels and
//! sessions are as in the beginning, and what is written then both instances follow. At the end of the round each lost packet is held against
//! what went wrong ([`verdict`]).
//!
//! The long form, an hour by a seed of your own:
//!
//! ```text
//! RW_CHAOS_SECS=3600 RW_CHAOS_BFD_MS=50 RW_SEED=1 \
//!   cargo test --release -p routewright --test endurance chaos -- --nocapture
//! ```

mod fault;
pub mod pulse;
mod shared;
mod tally;
mod tcp_relay;
mod traffic;
mod verdict;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use lab::relay::{Relay, Weather};
use lab::topology::Path;
use lab::{Lab, LabError};
use nix::sys::signal::Signal;

use self::fault::{Fault, INSTANCES};
use self::pulse::Pulse;
use self::shared::{Shared, Written};
use self::tally::{Count, Tally};
use self::tcp_relay::TcpRelay;
use self::traffic::{SITE, Traffic};
use self::verdict::{Detection, Round};
use crate::dice::{Dice, number_from};
use crate::model::{Model, Vm, differences, from_kernel, net};
use crate::world::{DEADLINE, NVAS, VMS, World};

/// What CI plays.
const SECONDS: u64 = 60;
const BFD_MS: u64 = 300;
/// From the moment that a path is noticed to be lost until the last kernel has followed, and more than that.
const MARGIN_MS: u64 = 1_000;
/// BFD's multiplier, and the default silence of instances.
const MULTIPLIER: u32 = 3;
const SILENCE: Duration = Duration::from_secs(10);
const MAX_FAULTS: usize = 4;
/// The last fault begins this long after the first one, at most.
const SPREAD_MS: usize = 1_500;
/// Beyond the silence of instances and the leases of managers.
const LONG_MS: usize = 20_000;
/// What takes longer says meanwhile what it waits for.
const SLOW: Duration = Duration::from_secs(5);
/// So many rounds have faults of all kinds.
const MANY_ROUNDS: usize = 100;
/// What a minute has on a machine that has time to give.
const FEW_ROUNDS: usize = 4;
/// Prefixes that come and go.
const FLOWING: usize = 40;
/// User routes that come and go.
const WRITTEN: usize = 8;
const INSTANCE_ADDRESSES: [Ipv4Addr; INSTANCES] = [Ipv4Addr::new(10, 1, 0, 4), Ipv4Addr::new(10, 1, 0, 5)];
/// NVAs that tell something to this instance alone.
const ONE_LEGGED: [(usize, usize); 2] = [(1, 1), (2, 0)];

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
      - {{ name: web, prefix: 10.1.10.0/24, route_table: rt }}
      - {{ name: data, prefix: 10.1.20.0/24 }}
route_tables:
  - {{ name: rt }}
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
    let start = Instant::now();
    while chaos.tally.rounds == 0 || start.elapsed() < playing {
        chaos.round();
    }
    chaos.report(start.elapsed());
}

/// What a VM's kernel has to be.
struct Expected {
    model: Model,
    /// These may be there or not.
    unknown: BTreeSet<Ipv4Net>,
}

// Dropped in this order: managers go before the lab in which their instances are, and before their etcd.
struct Chaos {
    traffic: Traffic,
    pulse: Pulse,
    /// In the NVAs' links.
    links: Vec<Relay>,
    /// Between each VM's agent and each instance.
    streams: Vec<Vec<TcpRelay>>,
    shared: Shared,
    world: World,
    dice: Dice,
    detection: Detection,
    margin: Duration,
    /// Kernels that agree with the model later than that are findings, too.
    strict: bool,
    tally: Tally,
    findings: Vec<String>,
}

impl Chaos {
    fn up(rootless: bool) -> Chaos {
        let bfd_ms = number_from("RW_CHAOS_BFD_MS", BFD_MS);
        let margin = Duration::from_millis(number_from("RW_CHAOS_MARGIN_MS", MARGIN_MS));
        let mut world = World::up_as(rootless, &topology(bfd_ms));
        let shared = Shared::take_over(&mut world);
        let links = (0..NVAS).map(|nva| Relay::insert(&world.lab, &format!("nva{nva}")).unwrap());
        let links = links.collect();
        let streams = VMS.iter().map(|vm| between(&mut world.lab, vm.name)).collect();
        for nva in 0..NVAS {
            world.announce(nva, &[Path::plain(through())]);
        }
        for (nva, instance) in ONE_LEGGED {
            let mut path = Path::plain(one_legged(nva));
            path.only_to = Some(INSTANCE_ADDRESSES[instance]);
            world.announce(nva, &[path]);
        }
        let hosts: Vec<String> = (0..NVAS).map(|nva| format!("site{nva}")).collect();
        let traffic = Traffic::start(&world.lab, &hosts);
        let pulse = Pulse::start(&world.lab.namespace("site0").unwrap());
        let chaos = Chaos {
            traffic,
            pulse,
            links,
            streams,
            shared,
            world,
            dice: Dice::new(),
            detection: Detection {
                of_paths: Duration::from_millis(bfd_ms) * MULTIPLIER + margin,
                of_instances: SILENCE,
                of_false_alarms: Duration::from_millis(bfd_ms) * 3 / 2,
            },
            margin,
            strict: number_from("RW_CHAOS_STRICT", 0) > 0,
            tally: Tally::default(),
            findings: Vec::new(),
        };
        chaos.all_is_well("in the beginning");
        chaos
    }

    fn round(&mut self) {
        let name = format!("round {}", self.tally.rounds + 1);
        self.traffic.forget();
        let began = Instant::now();
        let announced = self.announce();
        let last = Instant::now();
        self.settle(&format!("{name}: announcements"), |_| Some(self.all()));
        let late = self.late(&format!("{name}: announcements"), last, self.margin);
        late.into_iter().for_each(|finding| self.find(finding));

        let mut round = Round {
            began,
            faults: Vec::new(),
            mended: began,
            end: began,
        };
        for fault in self.faults() {
            thread::sleep(Duration::from_millis(self.dice.below(SPREAD_MS / MAX_FAULTS) as u64));
            // Before it has begun: what is judged by it may be judged too early, never too late.
            let now = Instant::now();
            self.begin(fault);
            round.faults.push((fault, now));
        }
        let last = Instant::now();
        let told: Vec<String> = round
            .faults
            .iter()
            .map(|(fault, at)| format!("{:.2} s: {fault}", (*at - began).as_secs_f64()))
            .collect();
        let told = format!("{name}: {announced}; {}", told.join(", "));
        let (took, written) = self.follow_and_write(&round, &told, last);
        // Now and then so long that whoever is silent is known to be.
        let longest = self.dice.pick(&[
            SPREAD_MS, SPREAD_MS, SPREAD_MS, SPREAD_MS, SPREAD_MS, SPREAD_MS, LONG_MS,
        ]);
        thread::sleep(Duration::from_millis(self.dice.below(longest) as u64));

        self.make_good(&round);
        round.mended = Instant::now();
        let well = self.all_is_well(&told);
        self.write_and_follow(&told);
        round.end = Instant::now();
        self.judge(&round, &told);
        eprintln!(
            "{told}; kernels followed in {:.2} s; {written}; well again after {:.2} s",
            took.as_secs_f64(),
            well.as_secs_f64()
        );
    }

    /// Kernels come to what is left, while somebody writes through each manager. How long kernels took, and what became of the writes.
    fn follow_and_write(&mut self, round: &Round, told: &str, last: Instant) -> (Duration, String) {
        let number = self.tally.rounds as u64 + 1;
        let (took, late, written) = thread::scope(|scope| {
            let write = |manager| {
                let (shared, may) = (&self.shared, round.may_write(manager));
                scope.spawn(move || shared.write(manager, may, number))
            };
            let writes: Vec<_> = (0..INSTANCES).map(write).collect();
            let took = self.settle(told, |vm| self.left(round, vm));
            let agreement = (0..VMS.len()).map(|vm| round.agreement(vm, self.detection)).max();
            let late = self.late(told, last, agreement.unwrap_or_default());
            let written: Vec<Written> = writes.into_iter().map(|write| write.join().unwrap()).collect();
            (took, late, written)
        });
        late.into_iter().for_each(|finding| self.find(finding));
        let mut words = Vec::new();
        for (manager, written) in written.into_iter().enumerate() {
            words.push(format!("written at {manager}: {written:?}"));
            if let Some(finding) = self.shared.note(manager, written) {
                self.find(format!("{finding}\n{told}"));
            }
        }
        (took, words.join(", "))
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
            of_managers_and_etcd => {
                self.shared.begin(of_managers_and_etcd);
                Ok(())
            }
        };
        done.unwrap_or_else(|e| panic!("{fault}: {e}"));
    }

    /// First what packets go over, then who decides where: nobody is to hear old news of what is not there. etcd comes before those that need it.
    fn make_good(&mut self, round: &Round) {
        let mut faults: Vec<Fault> = round.faults.iter().map(|(fault, _)| *fault).collect();
        faults.sort_by_key(|fault| match fault {
            Fault::NvaCut(_) | Fault::NvaLosesPackets(..) | Fault::NvaParted { .. } | Fault::VmUnplugged(_) => 0,
            Fault::NvaKilled(_) | Fault::NvaStopped(_) => 1,
            Fault::InstanceKilled(_) | Fault::InstanceStopped(_) => 2,
            Fault::EtcdKilled(_) | Fault::EtcdStopped(_) | Fault::EtcdWithoutMajority(_) | Fault::EtcdParted(_) => 3,
            Fault::ManagerKilled(_) | Fault::ManagerStopped(_) => 4,
            Fault::AgentKilled(_) | Fault::AgentStopped(_) | Fault::AgentParted { .. } => 5,
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
            of_managers_and_etcd => {
                self.shared.end(of_managers_and_etcd);
                Ok(())
            }
        };
        done.unwrap_or_else(|e| panic!("no more {fault}: {e}"));
    }

    fn weather(&self, nva: usize, loss_permille: u32, parted_from: &[usize]) -> Result<(), LabError> {
        self.links[nva].set(Weather {
            loss_permille,
            parted_from: parted_from.iter().map(|i| INSTANCE_ADDRESSES[*i]).collect(),
        });
        Ok(())
    }

    /// With all well.
    fn all(&self) -> Expected {
        Expected {
            model: self.world.model.clone(),
            unknown: BTreeSet::new(),
        }
    }

    /// The model of what is left for a VM, if that can be told.
    fn left(&self, round: &Round, vm: usize) -> Option<Expected> {
        let visible = round.visible(vm)?;
        let mut left = self.all();
        for (number, nva) in left.model.nvas.iter_mut().enumerate() {
            nva.alive = visible.contains(&number);
        }
        for (nva, instance) in ONE_LEGGED {
            match round.has_one_leg(vm, nva, instance, Instant::now()) {
                Some(true) => {}
                Some(false) => drop(left.model.nvas[nva].announced.remove(&one_legged(nva))),
                None => drop(left.unknown.insert(one_legged(nva))),
            }
        }
        Some(left)
    }

    /// Waits until kernels are as expected; says how long that took.
    fn settle(&self, what: &str, expected: impl Fn(usize) -> Option<Expected>) -> Duration {
        let begin = Instant::now();
        self.wait(what, |lab| {
            let mut wrong = Vec::new();
            for (number, vm) in VMS.iter().enumerate() {
                let Some(Expected { model, unknown }) = expected(number) else {
                    continue;
                };
                let (mut kernel, mut table) = (from_kernel(&lab.kernel_routes(vm.name)?), model.table(vm));
                kernel.retain(|prefix, _| !unknown.contains(prefix));
                table.retain(|prefix, _| !unknown.contains(prefix));
                wrong.extend(differences(&format!("kernel of {}", vm.name), &kernel, &table));
            }
            Ok(wrong)
        });
        begin.elapsed()
    }

    /// Kernels agree now: was that in time?
    fn late(&self, what: &str, last: Instant, patience: Duration) -> Option<String> {
        let late = Instant::now().saturating_duration_since(self.pulse.after(last, patience));
        let is_finding = self.strict && !late.is_zero();
        is_finding.then(|| format!("kernels agree with the model {late:?} after they should: {what}"))
    }

    /// All sessions are up and watched, all agents hear both instances, managers and etcd have nothing to complain of, all kernels are as
    /// the model says.
    fn all_is_well(&self, what: &str) -> Duration {
        let begin = Instant::now();
        self.wait(&format!("all is well: {what}"), |_| {
            let missing = self.not_well();
            Ok(missing.unwrap_or_else(|error| vec![error.to_string()]))
        });
        self.settle(&format!("all is well: {what}"), |_| Some(self.all()));
        begin.elapsed()
    }

    fn not_well(&self) -> Result<Vec<String>, LabError> {
        let mut missing = Vec::new();
        for instance in 0..INSTANCES {
            let api = self.shared.api(instance);
            let peers = api.peers()?;
            let watched = peers
                .iter()
                .filter(|peer| peer.bfd.as_ref().is_some_and(|bfd| bfd.state == "Up"));
            let up = watched.filter(|peer| peer.state == "Established").count();
            let agents = api.get("/routewright/v1/agents")?;
            let agents = agents["value"].as_array().map_or(0, Vec::len);
            if up != NVAS {
                missing.push(format!(
                    "{up} of {NVAS} sessions of instance {instance} are up and watched"
                ));
            }
            if agents != VMS.len() {
                missing.push(format!("{agents} of {} agents hear instance {instance}", VMS.len()));
            }
        }
        missing.extend(self.shared.missing());
        Ok(missing)
    }

    /// When all is well again, what is written at one machine the instances and kernels of both follow.
    fn write_and_follow(&mut self, told: &str) {
        let prefix = net(&format!("40.0.{}.0/24", self.dice.below(WRITTEN)));
        let routes = &mut self.world.model.user_routes;
        if routes.remove(&prefix).is_none() {
            routes.insert(prefix, None);
        }
        let manager = self.dice.below(INSTANCES);
        let what = format!("what is written at manager {manager} afterwards: {told}");
        // It may have to notice first that etcd is back.
        self.wait(&what, |_| {
            let put = self.world.put_route_table_at(self.shared.api(manager));
            Ok(put.err().map(|error| error.to_string()).into_iter().collect())
        });
        let health = self.shared.api(manager).get("/routewright/v1/health").unwrap();
        self.wait(&what, |_| Ok(self.shared.behind(&health["intentVersion"])));
        self.settle(&what, |_| Some(self.all()));
    }

    fn wait(&self, what: &str, mut missing: impl FnMut(&Lab) -> Result<Vec<String>, LabError>) {
        let (begin, mut told) = (Instant::now(), false);
        let waited = self.world.lab.wait_until(what, DEADLINE, |lab| {
            let missing = missing(lab)?;
            if !missing.is_empty() && begin.elapsed() > SLOW && !std::mem::replace(&mut told, true) {
                eprintln!("slow: {what}\n  {}", missing.join("\n  "));
            }
            Ok(missing)
        });
        waited.unwrap_or_else(|error| {
            self.shared.wake();
            panic!("{error}\n{}", self.world.why())
        });
    }

    /// Holds lost packets against what went wrong.
    fn judge(&mut self, round: &Round, told: &str) {
        let mut all = Count::default();
        for (vm, &Vm { name, .. }) in VMS.iter().enumerate() {
            let packets = self.traffic.so_far(vm);
            let may_lose = round.may_lose(vm, self.detection, &self.pulse);
            let (count, unforgivable) = Count::of(&packets, &may_lose);
            all += count;
            let (Some(first), Some(last)) = (unforgivable.first(), unforgivable.last()) else {
                continue;
            };
            self.find(format!(
                "{name}: {} packets were lost that a surviving path could have carried, from {:.3} s to {:.3} s\n{told}",
                unforgivable.len(),
                (*first - round.began).as_secs_f64(),
                (*last - round.began).as_secs_f64(),
            ));
        }
        let kinds: Vec<&str> = round.faults.iter().map(|(fault, _)| fault.kind()).collect();
        self.tally.add(&kinds, all);
    }

    fn find(&mut self, finding: String) {
        eprintln!("FINDING {finding}");
        self.findings.push(finding);
    }

    /// What was asked, and what was found.
    fn report(self, took: Duration) {
        let (given, longest) = self.pulse.summary();
        eprintln!(
            "{} faults in {:.0} s; {} writes, {} refused as they must be; the machine had {given} % of the time to give, and stood still for \
             {longest:.1?} at most\n{}{} findings",
            self.tally.faults,
            took.as_secs_f64(),
            self.shared.writes,
            self.shared.refusals,
            self.tally,
            self.findings.len(),
        );
        // Before the first fault of a round every packet is judged; many rounds are much more than that.
        let least = match (self.tally.rounds, given) {
            (MANY_ROUNDS.., 50..) => self.tally.all.sent / 4,
            (FEW_ROUNDS.., 50..) => self.tally.all.sent / 20,
            _ => 1,
        };
        let asked = self.tally.all.judged() >= least || longest > self.detection.of_false_alarms;
        assert!(
            asked,
            "fewer packets were judged than {least}, though the machine never stood still"
        );
        assert!(self.findings.is_empty(), "{}", self.findings.join("\n\n"));
    }
}

/// What only one instance is told by this NVA.
fn one_legged(nva: usize) -> Ipv4Net {
    net(&format!("50.0.{nva}.0/24"))
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
