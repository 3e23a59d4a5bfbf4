//! From an NVA's UPDATE on the wire to the route in a VM's kernel, the whole system up: manager, both instances, an agent, and a table of
//! routes already installed. Beside it BIRD 2 in the VM's place, which writes into its own kernel what the NVA tells it: the
//! shortest way there is, without a route server in between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::load::connect_from;
use crate::network::Network;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::speaker::{Speaker, routewright, stop};
use crate::table::grouped;
use crate::watch::{Seen, watch};
use crate::workload::{DEVICE, SECOND, Shape, Workload, encode_one};

/// The whole table is there by then, or never.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pause between two probes, so that each meets a system at rest.
const PAUSE: Duration = Duration::from_millis(5);

/// Measures both.
pub(crate) fn run(routes: u32, probes: u32) -> Vec<Outcome> {
    eprintln!(
        "Kernel: an UPDATE on the wire until the route is in the VM's kernel; {} routes at once, then {probes} single ones",
        grouped(routes.into())
    );
    type Measure = fn(u32, u32, &mut Outcome) -> Result<()>;
    let subjects: [(&str, Measure); 2] = [(OURS, routewright_figures), ("BIRD 2 in the VM", bird_figures)];
    let one = |(subject, measure): (&str, Measure)| {
        let mut outcome = Outcome::new(Scenario::Kernel, subject, [(Size::Routes, routes.into())]);
        if let Err(error) = measure(routes, probes, &mut outcome) {
            outcome.fail(Figure::TableMs, &error);
        }
        outcome
    };
    subjects.into_iter().map(one).collect()
}

fn routewright_figures(routes: u32, probes: u32, outcome: &mut Outcome) -> Result<()> {
    let network = Network::with_vm(1)?;
    let vm = network.vm_path().context("no VM")?;
    let (_speaker, api) = routewright::start(&network, 1)?;
    let _agent = Agent::start(&api, &vm)?;
    // The NVA announces to both instances, as it would.
    let sessions = [DEVICE, SECOND]
        .map(|address| connect_from(&network, 0, SocketAddr::new(address.into(), 179)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    measure(&vm, sessions, routes, probes, outcome)
}

fn bird_figures(routes: u32, probes: u32, outcome: &mut Outcome) -> Result<()> {
    let network = Network::new(1)?;
    let _bird = Speaker::bird_with_kernel(&network, 1)?;
    let session = connect_from(&network, 0, SocketAddr::new(DEVICE.into(), 179))?;
    measure(&network.device_path(), vec![session], routes, probes, outcome)
}

fn measure(vm: &Path, sessions: Vec<TcpStream>, routes: u32, probes: u32, outcome: &mut Outcome) -> Result<()> {
    let news = watch(vm)?;
    sessions.iter().try_for_each(drain)?;
    let table = Workload {
        shape: Shape::Overlap,
        peers: 1,
        prefixes: routes,
    };
    let mut left = routes;
    let table_ms = send(&sessions, &table.encode_table(0), &news, |it| {
        left -= u32::from(it.added);
        left == 0
    })?;
    outcome.set(Figure::TableMs, table_ms);
    let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
    for round in 0..probes {
        let number = routes + 1 + round;
        for (added, times) in [(true, &mut announced), (false, &mut withdrawn)] {
            thread::sleep(PAUSE);
            let bytes = encode_one(0, number, added);
            times.push(send(&sessions, &bytes, &news, move |it: Seen| {
                it.number == number && it.added == added
            })?);
        }
    }
    announced.sort_by(f64::total_cmp);
    withdrawn.sort_by(f64::total_cmp);
    let figures = [Figure::AnnouncedP50Ms, Figure::AnnouncedP99Ms, Figure::AnnouncedMaxMs];
    outcome.set_all(figures, percentiles(&announced));
    let figures = [Figure::WithdrawnP50Ms, Figure::WithdrawnP99Ms, Figure::WithdrawnMaxMs];
    outcome.set_all(figures, percentiles(&withdrawn));
    Ok(())
}

/// Milliseconds from the first octet written to the announcement that `done` waits for.
fn send(
    sessions: &[TcpStream],
    bytes: &[u8],
    news: &Receiver<Seen>,
    mut done: impl FnMut(Seen) -> bool,
) -> Result<f64> {
    let started = Instant::now();
    for mut session in sessions {
        session.write_all(bytes)?;
    }
    loop {
        match news.recv_timeout(PATIENCE) {
            Ok(seen) if done(seen) => return Ok((seen.at - started).as_secs_f64() * 1000.0),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => bail!("the route is not in the kernel after {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the kernel announces no more"),
        }
    }
}

/// Reads what the speaker tells, and forgets it.
fn drain(session: &TcpStream) -> Result<()> {
    let mut session = session.try_clone()?;
    session.set_read_timeout(None)?;
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while session.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    Ok(())
}

/// An agent for the one NIC.
struct Agent(Child);

impl Agent {
    fn start(api: &Api, vm: &Path) -> Result<Agent> {
        let nic = api.add_nic()?;
        let child = Command::new(routewright::executable()?)
            .args(["agent", "--server", api.url(), "--nic"])
            .arg(format!("{nic},netns={}", vm.display()))
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the agent")?;
        Ok(Agent(child))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}
