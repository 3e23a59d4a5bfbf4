//! An NVA closes its sessions: how long until the kernel of the last of many VMs sends over another one, and whether any route is touched
//! on the way. Then an instance is killed, and comes back: what kernels notice of that.
//!
//! ```text
//!   NVA 0 (short path) ─┐                       ┌─ VM 0: kernel
//!                       ├─ both instances ─ agent ─ …
//!   NVA 1 (longer path) ┘                       └─ VM n: kernel
//! ```
//!
//! A clock starts when NVA 0 begins to close, which is before either instance can have noticed, and another one when the second of them
//! has. Both stop at the last kernel's announcement that a group of next hops of the agent's has changed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use agent::ours::PROTOCOL;
use anyhow::{Context, Result, bail, ensure};
use bgp::wire::{PathAttributes, pack_announcement, pack_end_of_rib};
use bgp::{Asn, Family};
use bytes::BytesMut;

use crate::api::Api;
use crate::load::connect_from;
use crate::network::{Network, batch_ip, batch_ip_in};
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::speaker::{routewright, stop};
use crate::table::grouped;
use crate::watch::{RTNLGRP_IPV4_ROUTE, RTNLGRP_NEXTHOP, open};
use crate::workload::{DEVICE, ENCODE, SECOND, address_of, asn_of, prefix};

// linux/rtnetlink.h, linux/nexthop.h.
const RTM_NEWNEXTHOP: u16 = 104;
const NHA_GROUP: u16 = 2;

/// Room for a whole table's announcements in each VM.
const RECEIVE_BUFFER: libc::c_int = 64 << 20;

/// Without announcements for so long all kernels are at rest.
const REST: Duration = Duration::from_secs(2);
/// A restarted instance has converged by then: its peers say End-of-RIB.
const CONVERGED: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(240);
/// More often than the hold time asks for.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE: [u8; 19] = {
    let mut message = [0xff; 19];
    (message[16], message[17], message[18]) = (0, 19, 4);
    message
};

/// How many VMs, and routes in each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) vms: u32,
    pub(crate) routes: u32,
}

impl Shape {
    pub(crate) const fn new(vms: u32, routes: u32) -> Shape {
        Shape { vms, routes }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.vms, self.routes)
    }
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Shape> {
        let (vms, routes) = text.split_once('x').context("expected VMSxROUTES, as 100x10000")?;
        Ok(Shape::new(vms.parse()?, routes.parse()?))
    }
}

/// Measures each, so many times.
pub(crate) fn run(shapes: &[Shape], rounds: usize) -> Vec<Outcome> {
    let one = |shape: &Shape| {
        let (vms, routes) = (shape.vms.max(1), shape.routes.max(1));
        eprintln!(
            "Moved: an NVA closes, {vms} VMs with {} routes each; {rounds} times",
            grouped(routes.into())
        );
        let sizes = [(Size::Vms, vms.into()), (Size::Routes, routes.into())];
        let mut outcome = Outcome::new(Scenario::Moved, OURS, sizes);
        if let Err(error) = measure(Shape { vms, routes }, rounds.max(1), &mut outcome) {
            outcome.fail(Figure::MovedMaxMs, &error);
        }
        outcome
    };
    shapes.iter().map(one).collect()
}

fn measure(shape: Shape, rounds: usize, outcome: &mut Outcome) -> Result<()> {
    let network = Network::new(2)?;
    let (speaker, api) = routewright::start(&network, 2)?;
    let vms = Vms::new(shape.vms)?;
    let mut kernels = Kernels::watch(&vms)?;
    let _agent = Agent::start(&api, &vms)?;
    let _passive = Nva::start(&network, 1, shape.routes)?;
    let mut active = Nva::start(&network, 0, shape.routes)?;
    kernels.until_all_have("the routes", |kernel| kernel.routes >= u64::from(shape.routes))?;
    kernels.rest()?;
    let (mut last, mut noticed, mut touched) = (Vec::new(), Vec::new(), 0);
    for round in 1..=rounds {
        kernels.forget();
        let closed = Instant::now();
        active.close();
        kernels.until_all_have("another next hop", |kernel| kernel.regrouped.is_some())?;
        let moved = kernels.by_vm.values().filter_map(|kernel| kernel.regrouped);
        let moved = moved.max().context("no VM")?;
        let moved_ms = millis(moved.saturating_duration_since(closed));
        kernels.rest()?;
        let second = second_noticed(&api, closed)?;
        let noticed_ms = millis(moved.saturating_duration_since(second));
        let routes: u64 = kernels.by_vm.values().map(|kernel| kernel.routes).sum();
        eprintln!(
            "  {round:>2}: the last VM moved after {moved_ms:.1} ms, {noticed_ms:.1} ms after the second instance noticed; {routes} routes touched"
        );
        last.push(moved_ms);
        noticed.push(noticed_ms);
        touched += routes;
        kernels.forget();
        active = Nva::start(&network, 0, shape.routes)?;
        kernels.until_all_have("the first NVA again", |kernel| {
            kernel.regrouped.is_some() || kernel.routes > 0
        })?;
        kernels.rest()?;
    }
    last.sort_by(f64::total_cmp);
    let figures = [Figure::MovedP50Ms, Figure::MovedP99Ms, Figure::MovedMaxMs];
    outcome.set_all(figures, percentiles(&last));
    noticed.sort_by(f64::total_cmp);
    let figures = [Figure::NoticedP50Ms, Figure::NoticedP99Ms, Figure::NoticedMaxMs];
    outcome.set_all(figures, percentiles(&noticed));
    outcome.set(Figure::TouchedByDeath, touched as f64);

    kernels.forget();
    speaker.kill_measured()?;
    // Both NVAs come back to it, as real ones do.
    let again = [0, 1].map(|peer| Session::start(&network, peer, DEVICE, shape.routes));
    let again = again.into_iter().collect::<Result<Vec<_>>>()?;
    kernels.listen_for(CONVERGED)?;
    kernels.rest()?;
    drop(again);
    let touched: u64 = kernels
        .by_vm
        .values()
        .map(|kernel| kernel.routes + kernel.objects)
        .sum();
    eprintln!("  an instance was killed and came back: {touched} routes and nexthop objects touched");
    outcome.set(Figure::TouchedByRestart, touched as f64);
    Ok(())
}

/// When the second instance knew that its session with the first NVA was over: the clock that its report is by is the one of an `Instant`.
fn second_noticed(api: &Api, closed: Instant) -> Result<Instant> {
    let (here, now) = (Instant::now(), monotonic());
    let ended = api.ended_at(0)?;
    let second = ended.into_iter().max().context("no session with the first NVA")?;
    let ago = now.saturating_sub(Duration::from_micros(second));
    let second = here.checked_sub(ago).context("before the machine started")?;
    ensure!(second >= closed, "the session ended before the NVA closed it");
    Ok(second)
}

fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec that outlives the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// What a kernel has announced of the agent's entries since [`Kernels::forget`].
#[derive(Debug, Default)]
struct Kernel {
    routes: u64,
    /// Groups and next hops.
    objects: u64,
    /// When a group came or changed, for the first time.
    regrouped: Option<Instant>,
}

enum Seen {
    Route,
    Group,
    NextHop,
}

/// All VMs' kernels.
struct Kernels {
    by_vm: BTreeMap<u32, Kernel>,
    news: Receiver<(u32, Instant, Vec<Seen>)>,
}

impl Kernels {
    fn watch(vms: &Vms) -> Result<Kernels> {
        let (sender, news) = mpsc::channel();
        for vm in 0..vms.0.len() as u32 {
            let (sender, namespace) = (sender.clone(), vms.path(vm));
            let (ready, opened) = mpsc::channel();
            thread::spawn(move || {
                let socket = match open(&namespace, &[RTNLGRP_IPV4_ROUTE, RTNLGRP_NEXTHOP], RECEIVE_BUFFER) {
                    Ok(socket) => socket,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let _ = ready.send(Ok(()));
                let mut datagram = Vec::with_capacity(1 << 16);
                loop {
                    datagram.clear();
                    if socket.recv(&mut datagram, 0).is_err() {
                        return;
                    }
                    let at = Instant::now();
                    if sender.send((vm, at, seen(&datagram))).is_err() {
                        return;
                    }
                }
            });
            opened.recv().context("a watcher died")??;
        }
        let by_vm = (0..vms.0.len() as u32).map(|vm| (vm, Kernel::default()));
        Ok(Kernels {
            by_vm: by_vm.collect(),
            news,
        })
    }

    fn forget(&mut self) {
        self.by_vm.values_mut().for_each(|kernel| *kernel = Kernel::default());
    }

    /// False: nothing was announced for so long.
    fn hear(&mut self, patience: Duration) -> Result<bool> {
        match self.news.recv_timeout(patience) {
            Ok((vm, at, seen)) => {
                let kernel = self.by_vm.entry(vm).or_default();
                for seen in seen {
                    match seen {
                        Seen::Route => kernel.routes += 1,
                        Seen::NextHop => kernel.objects += 1,
                        Seen::Group => {
                            kernel.objects += 1;
                            kernel.regrouped.get_or_insert(at);
                        }
                    }
                }
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => bail!("the kernels announce no more"),
        }
    }

    fn until_all_have(&mut self, what: &str, has: impl Fn(&Kernel) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.by_vm.values().all(&has) {
            let without = self.by_vm.values().filter(|kernel| !has(kernel)).count();
            if !self.hear(deadline.saturating_duration_since(Instant::now()))? || Instant::now() > deadline {
                bail!("{without} VMs do not have {what} after {PATIENCE:?}");
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        while self.hear(REST)? {}
        Ok(())
    }

    fn listen_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.hear(end.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }
}

/// Entries of the agent's in a datagram. struct nlmsghdr: length: u32; type, flags: u16; sequence, port: u32.
fn seen(mut datagram: &[u8]) -> Vec<Seen> {
    const HEADER: usize = 16;
    let mut seen = Vec::new();
    while let Some(header) = datagram.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = datagram.get(HEADER..length) else {
            break;
        };
        match kind {
            // struct rtmsg: family, lengths, tos, table, protocol.
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE if body.get(5) == Some(&PROTOCOL) => seen.push(Seen::Route),
            // struct nhmsg: family, scope, protocol.
            RTM_NEWNEXTHOP if body.get(2) == Some(&PROTOCOL) => seen.push(match is_group(body) {
                true => Seen::Group,
                false => Seen::NextHop,
            }),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    seen
}

fn is_group(body: &[u8]) -> bool {
    let mut attributes = body.get(8..).unwrap_or_default();
    while let [low, high, kind_low, kind_high, ..] = attributes {
        if u16::from_ne_bytes([*kind_low, *kind_high]) == NHA_GROUP {
            return true;
        }
        let length = usize::from(u16::from_ne_bytes([*low, *high])).max(4);
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Namespaces of VMs. Nobody is behind their links: what is measured is the kernel's table.
struct Vms(Vec<String>);

impl Vms {
    fn new(count: u32) -> Result<Vms> {
        let names = (0..count).map(|n| format!("rwb{}vm{n}", std::process::id()));
        let vms = Vms(names.collect());
        for (n, name) in vms.0.iter().enumerate() {
            let address = vm_address(n as u32);
            batch_ip(&format!("netns add {name}\n"))?;
            let link = format!(
                "link set lo up\nlink add eth0 type veth peer name peer0\nlink set peer0 up\nlink set eth0 up\naddress add {address}/17 dev eth0 noprefixroute\n"
            );
            batch_ip_in(name, &link)?;
        }
        Ok(vms)
    }

    fn path(&self, vm: u32) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0[vm as usize])
    }
}

impl Drop for Vms {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip")
                .args(["netns", "delete", name])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// As [`Api::add_nics`] gives them.
fn vm_address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be_bytes([10, 9, 16, 0]) + n)
}

/// One agent for all of them.
struct Agent(Child);

impl Agent {
    fn start(api: &Api, vms: &Vms) -> Result<Agent> {
        let nics = api.add_nics(vms.0.len() as u32)?;
        let mut command = Command::new(routewright::executable()?);
        command.args(["agent", "--server", api.url()]);
        for (vm, nic) in nics.iter().enumerate() {
            command
                .arg("--nic")
                .arg(format!("{nic},netns={}", vms.path(vm as u32).display()));
        }
        let child = command.env("RUST_LOG", "warn").stdout(Stdio::null()).spawn();
        Ok(Agent(child.context("cannot start the agent")?))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

/// Sessions with both instances.
struct Nva([Session; 2]);

impl Nva {
    fn start(network: &Network, peer: u32, routes: u32) -> Result<Nva> {
        let first = Session::start(network, peer, DEVICE, routes)?;
        Ok(Nva([first, Session::start(network, peer, SECOND, routes)?]))
    }

    fn close(&self) {
        for session in &self.0 {
            let _ = session.0.shutdown(Shutdown::Both);
        }
    }
}

/// A session that has told its table, and lives until it is dropped.
struct Session(TcpStream);

impl Session {
    /// The second peer's path is longer.
    fn start(network: &Network, peer: u32, to: Ipv4Addr, routes: u32) -> Result<Session> {
        let mut stream = connect_from(network, peer, SocketAddr::new(to.into(), 179))?;
        let path = vec![Asn(asn_of(peer)); 1 + 2 * peer as usize];
        let attributes = PathAttributes::builder(address_of(peer).into())
            .as_sequence(&path)
            .build();
        let mut table = BytesMut::new();
        pack_announcement(
            &mut table,
            ENCODE,
            &attributes,
            Family::Ipv4Unicast,
            (0..routes).map(prefix),
        );
        pack_end_of_rib(&mut table, Family::Ipv4Unicast);
        let mut reading = stream.try_clone()?;
        reading.set_read_timeout(Some(KEEPALIVE_EVERY))?;
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            loop {
                match reading.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        if reading.write_all(&KEEPALIVE).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        stream.write_all(&table)?;
        Ok(Session(stream))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
