//! As a service: what systemd is told, and that `serve` and `agent` do with the capabilities that their units leave them.
//!
//! Real processes in a network namespace of their own; what cannot be tried is reported as ignored.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/serve.rs"]
mod serve;

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Far more than anything here takes, also on a machine ten times slower.
const DEADLINE: Duration = Duration::from_secs(180);
const NIC: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkInterfaces/n";
const SERVE_UNIT: &str = include_str!("../../../packaging/systemd/routewright.service");
const AGENT_UNIT: &str = include_str!("../../../packaging/systemd/routewright-agent.service");

fn main() {
    let mut arguments = Arguments::from_args();
    // They share the namespace's port 179.
    arguments.test_threads = Some(1);
    let possible = enter_namespaces();
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

fn routewright(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routewright"));
    command
        .args(words)
        .stdin(Stdio::null())
        .env_remove("ROUTEWRIGHT_SERVER");
    command
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// A network namespace for all of this; an ordinary user makes a user namespace first.
fn enter_namespaces() -> Result<(), String> {
    for program in ["ip", "setpriv"] {
        let version = Command::new(program).arg("-V").stdout(Stdio::null()).status();
        version.map_err(|error| format!("{program}: {error}"))?;
    }
    lab::become_root().map_err(|error| error.to_string())?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("network namespace: {error}"))?;
    ip(&["link", "set", "lo", "up"]);
    Ok(())
}
