//! How fast routes get into the kernel through the agent's netlink, beside `ip -batch` with the same routes in the same run: /24s through
//! one nexthop group, each time in a network namespace of its own.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use agent::netlink::{Kernel, Target};
use agent::ours::{NEXTHOP_IDS, TABLE_MAIN};
use agent::plan::{KernelWay, Op};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};

use crate::network::batch_ip;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size};
use crate::workload::prefix;

/// The best of so many counts, taken in turn, so that whatever else the machine does is shared.
const ROUNDS: usize = 5;

/// As many operations as the agent gives its kernel at once.
const PORTION: usize = 2048;

/// Measures both, for each number of routes.
pub(crate) fn run(sizes: &[u32]) -> Result<Vec<Outcome>> {
    eprintln!("Rate: routes added to one kernel, best of {ROUNDS}");
    let mut outcomes = Vec::new();
    for routes in sizes {
        let (mut ip, mut agent) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            ip = ip.min(in_namespace(*routes, add_with_ip)?);
            agent = agent.min(in_namespace(*routes, add_with_agent)?);
        }
        outcomes.push(outcome(OURS, *routes, agent));
        outcomes.push(outcome("ip -batch", *routes, ip));
    }
    Ok(outcomes)
}

fn outcome(subject: &str, routes: u32, took: Duration) -> Outcome {
    let mut outcome = Outcome::new(Scenario::Rate, subject, [(Size::Routes, routes.into())]);
    outcome.set(Figure::TableMs, took.as_secs_f64() * 1000.0);
    outcome.set(Figure::RoutesPerSec, f64::from(routes) / took.as_secs_f64());
    outcome
}

/// Runs `add` in a namespace of its own, with the number of routes and the id of a nexthop group.
fn in_namespace(routes: u32, add: fn(u32, u32) -> Result<Duration>) -> Result<Duration> {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        let (hop, group) = (NEXTHOP_IDS.start(), NEXTHOP_IDS.start() + 1);
        batch_ip(&format!(
            "link add eth0 type veth peer name peer0\naddress add 10.1.0.5/24 dev eth0\nlink set peer0 up\nlink set eth0 up\n\
             nexthop add id {hop} via 10.1.1.4 dev eth0 onlink proto 157\nnexthop add id {group} group {hop} proto 157\n"
        ))?;
        add(routes, group)
    });
    thread
        .join()
        .unwrap_or_else(|_| bail!("the thread in the namespace died"))
}

fn add_with_agent(routes: u32, group: u32) -> Result<Duration> {
    let mut kernel = Kernel::open()?;
    let link = kernel
        .find_link(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5)))?
        .context("no link")?;
    let target = Target {
        link: link.index,
        table: TABLE_MAIN,
    };
    let add = |number| Op::AddRoute {
        prefix: prefix(number),
        way: KernelWay::Group(group),
    };
    let ops: Vec<Op> = (0..routes).map(add).collect();
    let begin = Instant::now();
    for portion in ops.chunks(PORTION) {
        let failures = kernel.apply(target, portion)?;
        ensure!(failures.is_empty(), "the kernel refuses: {:?}", failures.first());
    }
    let took = begin.elapsed();
    ensure!(
        kernel.read(target)?.routes().len() == routes as usize,
        "routes are missing"
    );
    Ok(took)
}

fn add_with_ip(routes: u32, group: u32) -> Result<Duration> {
    let mut batch = String::new();
    for number in 0..routes {
        let _ = writeln!(batch, "route add {} nhid {group} proto 157 metric 20", prefix(number));
    }
    let begin = Instant::now();
    batch_ip(&batch)?;
    Ok(begin.elapsed())
}
