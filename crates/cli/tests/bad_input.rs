//! Wrong input of every kind: a clear error that says what to do, an exit code that is not 0, nothing half-done.
//!
//! Real processes in a network namespace of their own, so that no port is taken and no address is there unless a test wants it.
//! As an ordinary user this runs in a user namespace; what cannot be tried there is reported as ignored.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/command.rs"]
mod command;
#[path = "common/namespaces.rs"]
mod namespaces;
#[path = "common/serve.rs"]
mod serve;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use command::routewright;
use namespaces::ip;

/// Far more than anything here takes, also on a machine ten times slower.
const DEADLINE: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const NOBODY: u32 = 65534;
const NIC: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkInterfaces/n";

fn main() {
    let mut arguments = Arguments::from_args();
    // They share the namespace's port 179 and its addresses.
    arguments.test_threads = Some(1);
    let root = nix::unistd::geteuid().is_root();
    let possible = namespaces::enter(&["ip"]);
    if let Err(reason) = &possible {
        eprintln!("bad input NOT RUN: {reason}");
    }
    let copy = reachable_copy();
    let as_nobody = root && possible.is_ok() && copy.is_some();
    if !as_nobody {
        eprintln!("what needs root to become an ordinary user is NOT RUN");
    }
    let test = |name: &'static str, run: fn(), can_run: bool| {
        let test = move || match std::panic::catch_unwind(run) {
            Ok(()) => Ok(()),
            Err(_) => Err(Failed::from("see above")),
        };
        Trial::test(name, test).with_ignored_flag(!can_run)
    };
    let can = possible.is_ok();
    let trials = vec![
        test(
            "all_mistakes_in_a_configuration_are_told_with_their_places",
            configuration,
            can,
        ),
        test("all_mistakes_in_a_topology_are_told_with_their_places", topology, can),
        test("what_the_command_line_does_not_know_is_refused", unknown_arguments, can),
        test(
            "an_occupied_api_port_is_told_and_nothing_is_left",
            occupied_api_port,
            can,
        ),
        test(
            "a_data_directory_in_use_is_refused_and_its_owner_goes_on",
            data_directory_in_use,
            can,
        ),
        test(
            "a_data_directory_that_is_a_file_is_refused",
            data_directory_is_a_file,
            can,
        ),
        test("no_server_there_is_told_with_what_to_do", no_server, can),
        test("wrong_bodies_get_an_arm_error_and_change_nothing", wrong_bodies, can),
        test(
            "a_missing_address_and_an_occupied_bgp_port_are_told_and_recovered_from",
            bgp_address,
            can,
        ),
        test(
            "a_data_directory_that_cannot_be_written_is_refused",
            unwritable_data_directory,
            as_nobody,
        ),
        test(
            "an_agent_without_cap_net_admin_is_refused",
            agent_without_permission,
            as_nobody,
        ),
        test(
            "a_lab_where_user_namespaces_are_forbidden_says_what_to_do",
            forbidden_user_namespaces,
            as_nobody,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn configuration() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("serve.toml");
    let text =
        "[limits]\npeers = -1\nroutes = 7\n[bind]\n\"10.1.0.0/33\" = \"eth0\"\n[store]\nkind = \"paper\"\n[extra]\n";
    fs::write(&file, text).unwrap();
    let data = place.path().join("data");
    let serve = [
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let told = refused(&mut routewright(&serve));
    for line in [2, 3, 5, 7, 8] {
        let place = format!("{}:{line}:", file.display());
        assert!(told.contains(&place), "{place} is missing in:\n{told}");
    }
    assert!(!data.exists(), "a refused configuration made the data directory");
}

fn topology() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("lab.yaml");
    let text = "vnets:\n  - name: hub\n    address_prefixes: [10.1.0.0/99]\n    subnets:\n      - { name: web, prefix: pear }\nvms:\n  \
                - { name: vm1, subnet: hub/nowhere }\n";
    fs::write(&file, text).unwrap();
    let mut up = routewright(&["lab", "up", file.to_str().unwrap()]);
    let told = refused(up.env("ROUTEWRIGHT_LAB_DIR", place.path().join("labs")));
    for line in [3, 5, 7] {
        let place = format!("{}:{line}:", file.display());
        assert!(told.contains(&place), "{place} is missing in:\n{told}");
    }
    assert!(
        !place.path().join("labs").exists(),
        "a refused topology made a directory"
    );
}

fn unknown_arguments() {
    let check = |arguments: &[&str], expected: &str| {
        let told = refused(&mut routewright(arguments));
        assert!(
            told.contains(expected),
            "{arguments:?}: {expected} is missing in:\n{told}"
        );
    };
    check(&["serve", "--porrt", "1"], "--porrt");
    check(&["serve", "--listen", "here"], "here");
    check(&["serve", "--instance", "2", "--dev"], "0..=1");
    check(&["serve"], "--data-dir");
    check(&["serve", "--dev", "--listen", "192.0.2.1:8080"], "loopback");
    check(&["agent", "--server", "http://127.0.0.1:1"], "--nic");
    check(
        &["agent", "--server", "http://127.0.0.1:1", "--nic", "n,colour=red"],
        "colour=red",
    );
    check(
        &["agent", "--server", "http://127.0.0.1:1", "--nic", "n,table=0"],
        "table=0",
    );
    check(&["lab", "--name", "../x", "up"], "../x");
    check(&["lab", "--name", "nobody", "status"], "nobody");
    check(&["routeserverr", "list"], "routeserverr");
}

fn occupied_api_port() {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupant.local_addr().unwrap().to_string();
    let serve = ["serve", "--listen", &address, "--data-dir", data.to_str().unwrap()];
    let told = refused(&mut routewright(&serve));
    assert!(told.contains(&address) && told.contains("--listen"), "{told}");
    assert!(
        !data.exists(),
        "the data directory was made though serve could not start"
    );
    assert_eq!(instances_of(&data), 0);
}

fn data_directory_in_use() {
    let first = Serve::start(&[]);
    let data = first.data();
    let told = refused(&mut routewright(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ]));
    assert!(
        told.contains("another routewright serve") && told.contains("--data-dir"),
        "{told}"
    );
    assert!(
        told.contains(&first.process.id().to_string()),
        "whose it is is missing in: {told}"
    );
    assert_eq!(
        instances_of(&data),
        2,
        "the instances of the first are still there, and no others"
    );
    assert!(first.health().contains("\"instances\""));
}

fn data_directory_is_a_file() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("data");
    fs::write(&file, "something of somebody").unwrap();
    let told = refused(&mut routewright(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        file.to_str().unwrap(),
    ]));
    assert!(told.contains(file.to_str().unwrap()), "{told}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "something of somebody");
}

fn unwritable_data_directory() {
    let place = TempDir::new().unwrap();
    let data = place.path().join("data");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let told = refused(&mut as_nobody(&serve));
    assert!(
        told.contains(data.to_str().unwrap()) && told.contains("ermission denied"),
        "{told}"
    );
    assert!(!data.exists());
}

fn agent_without_permission() {
    let told = refused(&mut as_nobody(&[
        "agent",
        "--server",
        "http://127.0.0.1:1",
        "--nic",
        NIC,
    ]));
    assert!(told.contains("CAP_NET_ADMIN"), "{told}");
    let told = refused(&mut as_nobody(&["agent", "flush"]));
    assert!(told.contains("CAP_NET_ADMIN"), "{told}");
}

/// A user namespace in which no others may be made, and a process in it without capabilities: what a distribution does that
/// forbids them.
fn forbidden_user_namespaces() {
    let place = TempDir::new().unwrap();
    let labs = place.path().join("labs");
    let script =
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" lab up";
    let mut shell = Command::new("unshare");
    shell.args(["--user", "--map-root-user", "sh", "-c", script]);
    let told = refused(
        shell
            .arg(env!("CARGO_BIN_EXE_routewright"))
            .env("ROUTEWRIGHT_LAB_DIR", &labs),
    );
    assert!(told.contains("user namespace"), "{told}");
    assert!(
        told.contains("sudo sysctl user.max_user_namespaces"),
        "what to do is missing in: {told}"
    );
    assert!(!labs.exists(), "a directory is left");
}

fn no_server() {
    let told = refused(&mut routewright(&["health", "--server", "http://127.0.0.1:9"]));
    assert!(told.contains("127.0.0.1:9") && told.contains("--server"), "{told}");
    let told = refused(&mut routewright(&["vnet", "list", "--server", "http://127.0.0.1:9"]));
    assert!(told.contains("127.0.0.1:9"), "{told}");
}

fn wrong_bodies() {
    let serve = Serve::start(&["--dev"]);
    let group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g";
    serve.put(group, r#"{"location":"westeurope"}"#, 201);
    let network = format!("{group}/providers/Microsoft.Network/virtualNetworks/hub");
    let check = |path: &str, body: &str, status: u16| {
        let answer = serve.put(path, body, status);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        let error = &answer["error"];
        assert!(
            error["code"].as_str().is_some_and(|code| !code.is_empty()),
            "{body}: {answer}"
        );
        assert!(
            error["message"].as_str().is_some_and(|message| message.len() > 10),
            "{body}: {answer}"
        );
    };
    check(&network, "{", 400);
    check(&network, "[]", 400);
    check(&network, "\"hub\"", 400);
    check(&network, "", 400);
    check(&network, r#"{"location":7}"#, 400);
    check(
        &network,
        r#"{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.1.0.0/99"]}}}"#,
        400,
    );
    check(
        &network,
        r#"{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":"10.1.0.0/16"}}}"#,
        400,
    );
    check(
        &network,
        &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        400,
    );
    let (status, _) = serve.request("GET", &format!("{network}?api-version=2024-05-01"), "");
    assert_eq!(status, 404, "a refused body made a virtual network");
    let told = refused(&mut routewright(&[
        "vnet",
        "create",
        "-g",
        "g",
        "-n",
        "hub",
        "--address-prefixes",
        "10.1.0.0/99",
        "--server",
        &serve.url,
    ]));
    assert!(told.contains("10.1.0.0/99"), "{told}");
}

/// The instance's address is nowhere, then it comes; its port is somebody else's, then it is free.
fn bgp_address() {
    let serve = Serve::start(&["--dev", "--instance", "0"]);
    serve.make_route_server();
    serve.wait_for_health("address not present", true);
    ip(&["address", "add", "10.77.0.4/32", "dev", "lo"]);
    serve.wait_for_health("address not present", false);
    wait("somebody listens for BGP", || {
        TcpStream::connect("10.77.0.4:179").is_ok()
    });
    drop(serve);

    let occupant = TcpListener::bind("10.77.0.4:179").unwrap();
    let serve = Serve::start(&["--dev", "--instance", "0"]);
    serve.make_route_server();
    serve.wait_for_health("in use", true);
    drop(occupant);
    serve.wait_for_health("in use", false);
    wait("somebody listens for BGP", || {
        TcpStream::connect("10.77.0.4:179").is_ok()
    });
    drop(serve);
    ip(&["address", "del", "10.77.0.4/32", "dev", "lo"]);
}

/// `routewright serve` with its data directory, until it is dropped.
struct Serve {
    process: Child,
    url: String,
    place: TempDir,
}

impl Serve {
    fn start(more: &[&str]) -> Serve {
        let place = TempDir::new().unwrap();
        let data = place.path().join("data");
        let mut command = routewright(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
        let (process, url) = serve::start(command.args(more).stderr(Stdio::null()));
        let serve = Serve { process, url, place };
        wait("the instances are up", || {
            serve.health().matches("\"up\"").count() == serve.wanted_instances(more)
        });
        serve
    }

    fn wanted_instances(&self, arguments: &[&str]) -> usize {
        if arguments.contains(&"--instance") { 1 } else { 2 }
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn health(&self) -> String {
        self.request("GET", "/routewright/v1/health", "").1
    }

    /// A route server in 10.77.0.0/27, by the command line.
    fn make_route_server(&self) {
        const SUBNET: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.Network/\
                              virtualNetworks/hub/subnets/RouteServerSubnet";
        let commands = [
            "group create -n g -l westeurope".to_owned(),
            "vnet create -g g -n hub --address-prefixes 10.77.0.0/16".to_owned(),
            "vnet subnet create -g g --vnet-name hub -n RouteServerSubnet --address-prefixes 10.77.0.0/27".to_owned(),
            format!("routeserver create -g g -n rs --hosted-subnet {SUBNET} --public-ip-address ip"),
        ];
        let address = SUBNET.replace("virtualNetworks/hub/subnets/RouteServerSubnet", "publicIPAddresses/ip");
        let body =
            r#"{"location":"westeurope","sku":{"name":"Standard"},"properties":{"publicIPAllocationMethod":"Static"}}"#;
        for (number, command) in commands.iter().enumerate() {
            if number == 1 {
                self.put(&address, body, 201);
            }
            let words: Vec<&str> = command.split(' ').chain(["--server", &self.url]).collect();
            let output = routewright(&words).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command}: {told}");
        }
    }

    fn wait_for_health(&self, problem: &str, there: bool) {
        let what = format!("health {} {problem:?}", if there { "says" } else { "no longer says" });
        wait(&what, || self.health().contains(problem) == there);
    }

    fn put(&self, id: &str, body: &str, expected: u16) -> String {
        let (status, answer) = self.request("PUT", &format!("{id}?api-version=2024-05-01"), body);
        assert_eq!(status, expected, "{}: {answer}", &body[..body.len().min(200)]);
        answer
    }

    /// Plain HTTP, so that bodies may be anything.
    fn request(&self, method: &'static str, path: &str, body: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let host = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who refuses a body early need not read it to its end.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (
            status.unwrap_or_else(|| panic!("{method} {path}: {answer:?}")),
            body.unwrap_or_default(),
        )
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).unwrap();
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.process.wait();
        let data = self.data();
        if !std::thread::panicking() {
            wait("the instances are gone", || instances_of(&data) == 0);
        }
    }
}

/// The same as an ordinary user, from a place that one can reach.
fn as_nobody(arguments: &[&str]) -> Command {
    let mut command = Command::new(reachable_copy().unwrap());
    command.args(arguments).stdin(Stdio::null());
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

/// The executable, where an ordinary user may run it; `None` where there is no such place.
fn reachable_copy() -> Option<&'static Path> {
    static COPY: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    let found = COPY.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_routewright"));
        let mut version = Command::new(&path);
        version
            .arg("--version")
            .uid(NOBODY)
            .gid(NOBODY)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        version.status().ok().filter(|status| status.success()).map(|_| path)
    });
    found.as_deref()
}

/// Runs what should fail by itself; returns what it said.
fn refused(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            let _ = child.kill();
            let output: Output = child.wait_with_output().unwrap();
            panic!("{command:?} did not end: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} succeeded: {told}");
    assert!(output.status.code().is_some(), "{command:?} was killed: {told}");
    assert!(!told.trim().is_empty(), "{command:?} said nothing");
    assert!(!told.contains("panicked"), "{command:?}: {told}");
    told
}

/// How many instance processes of a data directory there are.
fn instances_of(data: &Path) -> usize {
    let run_dir = data.join("run").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            let line = String::from_utf8_lossy(line);
            line.contains("\0instance\0") && line.contains(&run_dir)
        })
        .count()
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}
