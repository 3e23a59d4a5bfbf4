//! An NVA dies: silently, and having said so. Packets of VMs tell how long it takes until they go over the other one.
//!
//! ```text
//!   site 10.250.0.10 ── left  (short path) ──┐
//!                                            ├── rs, VMs: a packet every millisecond, each answered by the site
//!   site 10.250.0.10 ── right (longer path) ─┘   it reached, with that site's name
//! ```
//!
//! 1. The path to `left` is cut: nobody is told, there is no FIN and no RST. BFD at 50 ms × 3 is all that can notice.
//! 2. `left`'s BGP ends and says so; it forwards on. What counts is when the last VM sends its packets over `right`.
//! 3. An instance is killed, and comes back. No packet may notice.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::{Lab, Namespace, Topology, UpOptions};
use nix::sys::signal::Signal;

use crate::outcome::{Figure, OURS, Outcome, Scenario, Size};
use crate::speaker::routewright::executable;

const TOPOLOGY: &str = "
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - { name: RouteServerSubnet, prefix: 10.1.0.0/27 }
      - { name: nva, prefix: 10.1.1.0/24 }
      - { name: web, prefix: 10.1.10.0/24 }
route_servers:
  - { name: rs, vnet: hub }
nvas:
  - name: left
    subnet: hub/nva
    address: 10.1.1.4
    asn: 65001
    bfd: { interval_ms: 50, multiplier: 3 }
    announce: [10.250.0.0/24]
    behind: [{ name: site-left, address: 10.250.0.10/24 }]
  - name: right
    subnet: hub/nva
    address: 10.1.1.5
    asn: 65002
    bfd: { interval_ms: 50, multiplier: 3 }
    announce: [{ prefix: 10.250.0.0/24, as_path_prepend: 2 }]
    behind: [{ name: site-right, address: 10.250.0.10/24 }]
vms:
";
/// VMs with packets under way.
const VMS: u8 = 5;
const SITE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 10);
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 4);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 5);
const PORT: u16 = 7_000;
/// What the sites add to their answers.
const OVER_LEFT: u8 = 0;
const OVER_RIGHT: u8 = 1;
/// Between two packets of the VM.
const PACE: Duration = Duration::from_millis(1);
/// Packets flow for so long before, and after they flow again.
const MARGIN: Duration = Duration::from_millis(500);
/// Only what is broken takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures both, so many times.
pub(crate) fn run(rounds: usize) -> Result<Outcome> {
    eprintln!("Failover: an NVA dies, BFD 50 ms × 3, {VMS} VMs with a packet each millisecond; {rounds} times");
    let directory = tempfile::tempdir()?;
    let options = UpOptions {
        name: format!("bench{}", std::process::id()),
        labs: directory.path().to_owned(),
        executable: executable()?,
        rootless: false,
        fabric_only: false,
        interrupted: None,
    };
    let topology = Topology::parse("failover.yaml", &topology())?;
    let up = Lab::up(&topology, &options, &mut |_| {});
    let measured = up
        .map_err(Into::into)
        .and_then(|mut lab| measure(&mut lab, rounds.max(1)));
    Lab::down(&options.labs, &options.name)?;
    let Measured {
        mut lost_ms,
        mut moved_ms,
        lost_packets,
    } = measured?;
    lost_ms.sort_by(f64::total_cmp);
    moved_ms.sort_by(f64::total_cmp);
    let sizes = [(Size::Rounds, lost_ms.len() as u64), (Size::Vms, VMS.into())];
    let mut outcome = Outcome::new(Scenario::Failover, OURS, sizes);
    outcome.set(Figure::LostP50Ms, lost_ms[lost_ms.len() / 2]);
    outcome.set(Figure::LostMaxMs, lost_ms[lost_ms.len() - 1]);
    outcome.set(Figure::MovedP50Ms, moved_ms[moved_ms.len() / 2]);
    outcome.set(Figure::MovedMaxMs, moved_ms[moved_ms.len() - 1]);
    outcome.set(Figure::LostByInstance, lost_packets as f64);
    Ok(outcome)
}

fn topology() -> String {
    let vm = |number| {
        format!(
            "  - {{ name: vm{number}, subnet: hub/web, address: 10.1.10.{} }}\n",
            number + 3
        )
    };
    TOPOLOGY.to_owned() + &(1..=VMS).map(vm).collect::<String>()
}

/// Of each round.
#[derive(Default)]
struct Measured {
    /// Milliseconds in which packets were lost when the path was cut.
    lost_ms: Vec<f64>,
    /// Milliseconds until the last VM had moved when the NVA closed.
    moved_ms: Vec<f64>,
    /// Packets lost in all rounds while an instance died and came back.
    lost_packets: usize,
}

fn measure(lab: &mut Lab, rounds: usize) -> Result<Measured> {
    let stop = Stop::default();
    for (host, site) in [("site-left", OVER_LEFT), ("site-right", OVER_RIGHT)] {
        answer(&lab.namespace(host)?, site, stop.0.clone())?;
    }
    let mut measured = Measured::default();
    for round in 1..=rounds {
        at_rest(lab)?;
        let cut = Traffic::around(lab, |lab| Ok(lab.set_link("left", false)?))?;
        lab.set_link("left", true)?;
        at_rest(lab)?;
        let closed = Traffic::around(lab, |lab| {
            let left = lab.state().processes_of("left");
            let ids = left.filter_map(|process| process.id);
            Ok(ids.into_iter().try_for_each(|id| id.signal(Signal::SIGTERM))?)
        })?;
        lab.stop("left")?;
        lab.start("left")?;
        let (lost_ms, moved_ms) = (cut.lost_ms()?, closed.moved_ms()?);
        eprintln!(
            "  {round:>2}: cut: {lost_ms:.1} ms lost; closed: the last VM moved after {moved_ms:.1} ms, {:.1} ms lost",
            closed.lost_ms()?
        );
        measured.lost_ms.push(lost_ms);
        measured.moved_ms.push(moved_ms);
        at_rest(lab)?;
        let killed = Traffic::during(lab, |lab| {
            lab.kill("instance0")?;
            wait_until(lab, "sessions with the instance that comes back", all_watched)
        })?;
        let lost = killed.lost_packets()?;
        eprintln!("      an instance was killed and came back: {lost} packets lost");
        measured.lost_packets += lost;
    }
    Ok(measured)
}

/// Both NVAs are watched, and all VMs send over the better one.
fn at_rest(lab: &Lab) -> Result<()> {
    wait_until(lab, "BFD with both NVAs", all_watched)?;
    wait_until(lab, "the route over left", |lab| all_go_over(lab, LEFT))
}

/// Set when dropped: threads that serve a measurement end with it.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a VM sent, when, and who answered which packet.
struct Flow {
    sent: Vec<Instant>,
    answered: BTreeMap<u64, u8>,
}

/// What happened to all VMs' packets while an NVA died.
struct Traffic {
    died: Instant,
    flows: Vec<Flow>,
}

impl Traffic {
    /// Packets flow, `left` dies, all VMs go over to `right`, packets flow on.
    fn around(lab: &mut Lab, die: impl FnOnce(&Lab) -> Result<()>) -> Result<Traffic> {
        Traffic::during(lab, |lab| {
            die(lab)?;
            wait_until(lab, "the route over right", |lab| all_go_over(lab, RIGHT))
        })
    }

    /// Packets flow before, during and after something happens.
    fn during(lab: &mut Lab, happen: impl FnOnce(&mut Lab) -> Result<()>) -> Result<Traffic> {
        let stop = Stop::default();
        let mut flowing = Vec::new();
        for vm in 1..=VMS {
            let namespace = lab.namespace(&format!("vm{vm}"))?;
            let socket = socket(&namespace, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
            socket.connect((SITE, PORT))?;
            let listening = listen(socket.try_clone()?, stop.0.clone());
            flowing.push((send(socket, stop.0.clone()), listening));
        }
        thread::sleep(MARGIN);
        let died = Instant::now();
        happen(lab)?;
        thread::sleep(MARGIN);
        drop(stop);
        let flow = |(sending, listening): (thread::JoinHandle<_>, thread::JoinHandle<_>)| {
            Ok(Flow {
                sent: sending.join().ok().context("a sender died")?,
                answered: listening.join().ok().context("a listener died")?,
            })
        };
        let flows = flowing.into_iter().map(flow).collect::<Result<Vec<Flow>>>()?;
        Ok(Traffic { died, flows })
    }

    /// Of the VM that suffered most: from the first packet that is not answered until the first after the last such one.
    fn lost_ms(&self) -> Result<f64> {
        let each = self.flows.iter().map(Flow::lost_ms).collect::<Result<Vec<f64>>>()?;
        Ok(each.into_iter().fold(0.0, f64::max))
    }

    /// Of all VMs.
    fn lost_packets(&self) -> Result<usize> {
        let each = self
            .flows
            .iter()
            .map(Flow::lost_packets)
            .collect::<Result<Vec<usize>>>()?;
        Ok(each.into_iter().sum())
    }

    /// Until the last VM sent its packets over `right`.
    fn moved_ms(&self) -> Result<f64> {
        let each = self.flows.iter().map(|flow| flow.moved_ms(self.died));
        Ok(each.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max))
    }
}

impl Flow {
    fn lost_ms(&self) -> Result<f64> {
        // The last ones may still have been under way.
        let last = *self.answered.keys().next_back().context("nothing was answered")?;
        let mut missing = (0..last).filter(|number| !self.answered.contains_key(number));
        let Some(first) = missing.next() else { return Ok(0.0) };
        let end = missing.next_back().unwrap_or(first) + 1;
        Ok((self.sent_at(end)? - self.sent_at(first)?).as_secs_f64() * 1_000.0)
    }

    fn lost_packets(&self) -> Result<usize> {
        // The last ones may still have been under way.
        let last = *self.answered.keys().next_back().context("nothing was answered")?;
        Ok((0..last).filter(|number| !self.answered.contains_key(number)).count())
    }

    fn moved_ms(&self, died: Instant) -> Result<f64> {
        let mut over_left = self.answered.iter().filter(|(_, site)| **site == OVER_LEFT);
        let (last, _) = over_left.next_back().context("nothing went over left before")?;
        Ok(self.sent_at(last + 1)?.saturating_duration_since(died).as_secs_f64() * 1_000.0)
    }

    fn sent_at(&self, number: u64) -> Result<Instant> {
        let sent = usize::try_from(number).ok().and_then(|number| self.sent.get(number));
        sent.copied().context("an answer to what was not sent")
    }
}

/// A packet a millisecond; when each was sent.
fn send(socket: UdpSocket, stop: Arc<AtomicBool>) -> thread::JoinHandle<Vec<Instant>> {
    thread::spawn(move || {
        let mut sent = Vec::new();
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let number = sent.len() as u64;
            sent.push(Instant::now());
            // Without a route it is lost, too.
            let _ = socket.send(&number.to_be_bytes());
            next += PACE;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        sent
    })
}

/// Who answered which packet.
fn listen(socket: UdpSocket, stop: Arc<AtomicBool>) -> thread::JoinHandle<BTreeMap<u64, u8>> {
    thread::spawn(move || {
        let mut answered = BTreeMap::new();
        let mut octets = [0; 9];
        while !stop.load(Ordering::Relaxed) {
            // An ICMP error is no answer.
            if let Ok(9) = socket.recv(&mut octets) {
                let [number @ .., site] = octets;
                answered.insert(u64::from_be_bytes(number), site);
            }
        }
        answered
    })
}

/// Sends back what comes, with the site's name.
fn answer(namespace: &Namespace, site: u8, stop: Arc<AtomicBool>) -> Result<()> {
    let socket = socket(namespace, SocketAddr::from((SITE, PORT)))?;
    thread::spawn(move || {
        let mut octets = [0; 9];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((8, from)) = socket.recv_from(&mut octets) {
                octets[8] = site;
                let _ = socket.send_to(&octets, from);
            }
        }
    });
    Ok(())
}

/// A socket stays in the namespace that it was made in. Nobody waits for ever.
fn socket(namespace: &Namespace, local: SocketAddr) -> Result<UdpSocket> {
    let socket = namespace.run(|| UdpSocket::bind(local))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

fn wait_until(lab: &Lab, what: &str, holds: impl Fn(&Lab) -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds(lab)? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Both sessions of both NVAs are watched as fast as is wanted.
fn all_watched(lab: &Lab) -> Result<bool> {
    let peers = lab.api()?.peers()?;
    let watched = peers.iter().filter(|peer| {
        let bfd = peer.bfd.as_ref();
        let is_fast = bfd.is_some_and(|bfd| bfd.state == "Up" && bfd.detection_time_ms == Some(150.0));
        is_fast && peer.state == "Established"
    });
    Ok(watched.count() == 4)
}

fn all_go_over(lab: &Lab, nva: Ipv4Addr) -> Result<bool> {
    for vm in 1..=VMS {
        if !goes_over(lab, &format!("vm{vm}"), nva)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn goes_over(lab: &Lab, vm: &str, nva: Ipv4Addr) -> Result<bool> {
    let prefix: IpNet = "10.250.0.0/24".parse()?;
    let routes = lab.kernel_routes(vm)?;
    let hops = routes
        .iter()
        .filter(|route| route.prefix == prefix)
        .flat_map(|route| &route.hops);
    let hops: Vec<IpAddr> = hops.filter_map(|hop| hop.via).collect();
    Ok(hops == [IpAddr::V4(nva)])
}
