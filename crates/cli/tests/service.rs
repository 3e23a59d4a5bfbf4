//! As a service: what systemd is told, and that `serve` and `agent` do with the capabilities that their units leave them.
//!
//! Real processes in a network namespace of their own; what cannot be tried is reported as ignored.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/command.rs"]
mod command;
#[path = "common/namespaces.rs"]
mod namespaces;
#[path = "common/serve.rs"]
mod serve;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use command::routewright;
use namespaces::ip;

/// Far more than anything here takes, also on a machine ten times slower.
const DEADLINE: Duration = Duration::from_secs(180);
const NIC: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkInterfaces/n";
const SERVE_UNIT: &str = include_str!("../../../packaging/systemd/routewright.service");
const AGENT_UNIT: &str = include_str!("../../../packaging/systemd/routewright-agent.service");

fn main() {
    let mut arguments = Arguments::from_args();
    // They share the namespace's port 179.
    arguments.test_threads = Some(1);
    let possible = namespaces::enter(&["ip", "setpriv"]);
    if let Err(reason) = &possible {
        eprintln!("what needs capabilities to give away is NOT RUN: {reason}");
    }
    let test = |name: &'static str, run: fn(), can_run: bool| {
        let test = move || std::panic::catch_unwind(run).map_err(|_| Failed::from("see above"));
        Trial::test(name, test).with_ignored_flag(!can_run)
    };
    let trials = vec![
        test(
            "systemd_is_told_when_serve_is_ready_that_it_lives_and_that_it_leaves",
            told,
            true,
        ),
        test("the_units_start_what_the_executable_knows", units, true),
        test(
            "serve_needs_no_more_capabilities_than_its_unit_leaves_it",
            serve_with_few_capabilities,
            possible.is_ok(),
        ),
        test(
            "sigterm_ends_serve_and_its_instance_while_a_peer_reads_nothing",
            serve_ends_with_a_hostile_peer,
            possible.is_ok(),
        ),
        test(
            "the_agent_needs_no_more_capabilities_than_its_unit_leaves_it",
            agent_with_few_capabilities,
            possible.is_ok(),
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn told() {
    let systemd = Systemd::new();
    let place = TempDir::new().unwrap();
    let mut command = systemd.start(&[], &serve_words(place.path()));
    let (process, _) = serve::start(command.env("WATCHDOG_USEC", "100000"));
    let process = Process(process);
    systemd.hears("READY=1");
    systemd.hears("WATCHDOG=1");
    systemd.hears("WATCHDOG=1");
    process.terminate();
    systemd.hears("STOPPING=1");
}

/// With `--help` an executable says nothing of arguments that it lacks, and refuses those that it does not know.
fn units() {
    for unit in [SERVE_UNIT, AGENT_UNIT] {
        let words: Vec<&str> = value(unit, "ExecStart").split(' ').collect();
        assert_eq!(words[0], "/usr/local/bin/routewright");
        let output = routewright(&words[1..]).arg("--help").output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

fn serve_with_few_capabilities() {
    let systemd = Systemd::new();
    let place = TempDir::new().unwrap();
    ip(&["address", "add", "10.77.0.4/32", "dev", "lo"]);
    let words = [&serve_words(place.path())[..], &["--instance", "0"].map(str::to_owned)].concat();
    let (process, url) = serve::start(&mut systemd.start(&capabilities(SERVE_UNIT), &words));
    let process = Process(process);
    systemd.hears("READY=1");
    make_route_server(&url);
    let start = Instant::now();
    while TcpStream::connect("10.77.0.4:179").is_err() {
        assert!(start.elapsed() < DEADLINE, "nobody listens for BGP");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(process);
    ip(&["address", "del", "10.77.0.4/32", "dev", "lo"]);
}

/// The peer's window is shut, and what the instance has to say to it waits in the kernel. How long an end may take at most follows from
/// what `daemon::manager` and `daemon::instance` wait for; here it is seen that nothing else is waited for.
fn serve_ends_with_a_hostile_peer() {
    let place = TempDir::new().unwrap();
    for address in ["10.77.0.4/32", "10.77.1.9/32"] {
        ip(&["address", "add", address, "dev", "lo"]);
    }
    let words = [&serve_words(place.path())[..], &["--instance", "0"].map(str::to_owned)].concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (process, url) = serve::start(&mut routewright(&words));
    let mut process = Process(process);
    make_route_server(&url);
    // More than the peer lets in.
    let mut networks: Vec<String> = (0..600)
        .map(|n| format!("10.{}.{}.0/24", 100 + n / 100, n % 100))
        .collect();
    networks.push("10.77.0.0/16".to_owned());
    let update = format!("vnet update -g g -n hub --address-prefixes {}", networks.join(" "));
    let peering = "routeserver peering create -g g --routeserver rs -n nva --peer-ip 10.77.1.9 --peer-asn 65001";
    for command in [&update, peering] {
        let words: Vec<&str> = command.split(' ').chain(["--server", &url]).collect();
        let output = routewright(&words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let peer = peer_that_reads_nothing();
    until("what it is told waits", || is_stalled("10.77.1.9"));
    let lock = place.path().join("data/run/instance-0.lock");
    let instance: u32 = std::fs::read_to_string(lock).unwrap().trim().parse().unwrap();

    process.terminate();
    assert!(process.0.wait().unwrap().success());
    // One that nobody has waited for yet has no command line.
    let command_line = format!("/proc/{instance}/cmdline");
    until("the instance has ended", || {
        std::fs::read(&command_line).map_or(true, |line| line.is_empty())
    });
    drop(peer);
    for address in ["10.77.0.4/32", "10.77.1.9/32"] {
        ip(&["address", "del", address, "dev", "lo"]);
    }
}

/// An established session of AS 65001 with the least receive buffer that the kernel gives, which is never read again.
fn peer_that_reads_nothing() -> TcpStream {
    const KEEPALIVE: [u8; 3] = [0, 19, 4];
    let message = |rest: &[u8]| [&[0xff; 16], rest].concat();
    // Version 4, AS 65001, no hold time, an identifier, no capabilities.
    let open = [0, 29, 1, 4, 0xfd, 0xe9, 0, 0, 10, 77, 1, 9, 0];
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "the instance does not say OPEN");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // The kernel makes it its least.
        socket.set_recv_buffer_size(1).unwrap();
        socket.bind(&SocketAddr::from(([10, 77, 1, 9], 0)).into()).unwrap();
        if socket.connect(&SocketAddr::from(([10, 77, 0, 4], 179)).into()).is_ok() {
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut header = [0; 19];
            // One that the instance does not take (it calls, too, or knows no such peer yet) is closed.
            if stream.read_exact(&mut header).is_ok() && header[18] == 1 {
                let mut rest = vec![0; usize::from(u16::from_be_bytes([header[16], header[17]])) - 19];
                let says = [message(&open), message(&KEEPALIVE)].concat();
                if stream.read_exact(&mut rest).is_ok() && stream.write_all(&says).is_ok() {
                    return stream;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether what is written to an address stays in the kernel's queue, as `/proc/net/tcp` tells.
fn is_stalled(address: &str) -> bool {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    let far = format!("{:08X}:", u32::from_ne_bytes(address.octets()));
    let text = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let queued = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, _state, queues) = (fields.next()?, fields.next()?, fields.next()?);
        let waiting = usize::from_str_radix(queues.split(':').next()?, 16).ok()?;
        remote.starts_with(&far).then_some(waiting)
    };
    text.lines().filter_map(queued).any(|waiting| waiting > 500)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn agent_with_few_capabilities() {
    let systemd = Systemd::new();
    let words = ["agent", "--server", "http://127.0.0.1:1", "--nic", NIC].map(str::to_owned);
    let mut command = systemd.start(&capabilities(AGENT_UNIT), &words);
    let _agent = Process(command.spawn().unwrap());
    systemd.hears("READY=1");
}

/// What listens where systemd does.
struct Systemd {
    place: TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    fn new() -> Systemd {
        let place = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(place.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Systemd { place, socket }
    }

    /// A process that is told where, and is left no capabilities but these; all, if none are named.
    fn start(&self, capabilities: &[String], words: &[String]) -> Command {
        let executable = env!("CARGO_BIN_EXE_routewright");
        let mut command = match capabilities {
            [] => Command::new(executable),
            some => {
                let some = format!("-all,{}", some.join(","));
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set", &some, "--inh-caps", &some, "--", executable]);
                command
            }
        };
        command
            .args(words)
            .env("NOTIFY_SOCKET", self.place.path().join("notify"))
            .stdin(Stdio::null());
        command
    }

    /// Waits until it is told; whatever is told before is not of interest.
    fn hears(&self, wanted: &str) {
        let mut buffer = [0; 4096];
        loop {
            let length = self
                .socket
                .recv(&mut buffer)
                .unwrap_or_else(|e| panic!("{wanted}: {e}"));
            if String::from_utf8_lossy(&buffer[..length])
                .lines()
                .any(|line| line == wanted)
            {
                return;
            }
        }
    }
}

/// Ends when dropped.
struct Process(Child);

impl Process {
    fn terminate(&self) {
        let pid = i32::try_from(self.0.id()).unwrap();
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.0.wait();
    }
}

/// A line of a unit.
fn value<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("no {name}"))
}

/// Those that a unit leaves, as `setpriv` writes them.
fn capabilities(unit: &str) -> Vec<String> {
    let names = value(unit, "CapabilityBoundingSet").split(' ');
    names.map(|name| name.to_lowercase().replace("cap_", "+")).collect()
}

fn serve_words(place: &Path) -> Vec<String> {
    let data = place.join("data").display().to_string();
    ["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", &data]
        .map(str::to_owned)
        .to_vec()
}

/// A route server in 10.77.0.0/27.
fn make_route_server(url: &str) {
    const GROUP: &str =
        "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.Network";
    let subnet = format!("{GROUP}/virtualNetworks/hub/subnets/RouteServerSubnet");
    let commands = [
        "group create -n g -l westeurope".to_owned(),
        "public-ip create -g g -n ip".to_owned(),
        "vnet create -g g -n hub --address-prefixes 10.77.0.0/16".to_owned(),
        "vnet subnet create -g g --vnet-name hub -n RouteServerSubnet --address-prefixes 10.77.0.0/27".to_owned(),
        format!("routeserver create -g g -n rs --hosted-subnet {subnet} --public-ip-address ip"),
    ];
    for command in commands {
        let words: Vec<&str> = command.split(' ').chain(["--server", url]).collect();
        let output = routewright(&words).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}
