//! How fast routes get into the kernel, beside `ip -batch` in the same run: 10,000 and 200,000 /24s through one group, each in a
//! network namespace of its own. Needs root and iproute2.
//!
//! ```text
//! cargo run --release -p routewright-agent --example agent_rate
//! ```
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::netlink::{Kernel, Target};
use agent::ours::{NEXTHOP_IDS, TABLE_MAIN};
use agent::plan::{KernelWay, Op};
use ipnet::{IpNet, Ipv4Net};
use nix::sched::{CloneFlags, unshare};

const ROUNDS: usize = 5;

fn main() {
    println!(
        "{:>8}  {:>16}  {:>16}  {:>6}   (routes/s, best of {ROUNDS})",
        "routes", "ip -batch", "agent", "ratio"
    );
    for count in [10_000, 200_000] {
        // Taken in turn, so that whatever else the machine does is shared.
        let (mut ip, mut agent) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            ip = ip.min(in_namespace(move |group| add_with_ip(count, group)));
            agent = agent.min(in_namespace(move |group| add_with_agent(count, group)));
        }
        let rate = |took: Duration| f64::from(count) / took.as_secs_f64();
        let ratio = rate(agent) / rate(ip);
        println!("{count:>8}  {:>16.0}  {:>16.0}  {ratio:>6.2}", rate(ip), rate(agent));
    }
}

fn in_namespace(run: impl FnOnce(u32) -> Duration + Send + 'static) -> Duration {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let (hop, group) = (*NEXTHOP_IDS.start(), NEXTHOP_IDS.start() + 1);
        ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "peer0"]);
        ip(&["address", "add", "10.1.0.5/24", "dev", "eth0"]);
        ip(&["link", "set", "peer0", "up"]);
        ip(&["link", "set", "eth0", "up"]);
        let (hop, group_id) = (hop.to_string(), group.to_string());
        ip(&[
            "nexthop", "add", "id", &hop, "via", "10.1.1.4", "dev", "eth0", "onlink", "proto", "157",
        ]);
        ip(&["nexthop", "add", "id", &group_id, "group", &hop, "proto", "157"]);
        run(group)
    });
    thread.join().unwrap()
}

fn add_with_agent(count: u32, group: u32) -> Duration {
    let mut kernel = Kernel::open().unwrap();
    let link = kernel
        .find_link(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5)))
        .unwrap()
        .unwrap();
    let target = Target {
        link: link.index,
        table: TABLE_MAIN,
    };
    let ops: Vec<Op> = (0..count)
        .map(|n| Op::AddRoute {
            prefix: IpNet::V4(prefix(n)),
            way: KernelWay::Group(group),
        })
        .collect();
    let begin = Instant::now();
    for portion in ops.chunks(2048) {
        assert_eq!(kernel.apply(target, portion).unwrap(), []);
    }
    let took = begin.elapsed();
    assert_eq!(kernel.read(target).unwrap().routes().len(), count as usize);
    took
}

fn add_with_ip(count: u32, group: u32) -> Duration {
    let mut batch = String::new();
    for n in 0..count {
        writeln!(batch, "route add {} nhid {group} proto 157 metric 20", prefix(n)).unwrap();
    }
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    begin.elapsed()
}

fn prefix(n: u32) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::from_bits(0x1400_0000 + (n << 8)), 24).unwrap()
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success());
}
