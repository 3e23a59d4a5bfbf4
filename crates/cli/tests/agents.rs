//! Agents of another machine: TLS with certificates on both sides, a token for each, and what happens without them.
//!
//! ```text
//!   network namespace of the test             network namespace of the VM
//!   serve, instances 0 and 1 ── 10.88.0.1/24 ════ 10.88.0.9/24 ── agent
//!                                                 nic: the network interface's own address
//! ```
//!
//! As an ordinary user this runs in a user namespace; where that cannot be it is reported as ignored.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/command.rs"]
mod command;
#[path = "common/namespaces.rs"]
mod namespaces;
#[path = "common/serve.rs"]
mod serve;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use command::routewright;
use namespaces::ip;

/// Far more than anything here takes, also on a machine ten times slower.
const DEADLINE: Duration = Duration::from_secs(240);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const SERVER: &str = "10.88.0.1";
const INSTANCES: [&str; 2] = ["https://10.88.0.1:8081", "https://10.88.0.1:8082"];

fn main() {
    let arguments = Arguments::from_args();
    let possible = namespaces::enter(&["ip", "unshare", "nsenter"]);
    if let Err(reason) = &possible {
        eprintln!("agents of another machine NOT RUN: {reason}");
    }
    let name = "an_agent_of_another_machine_needs_the_right_authority_certificate_and_token_and_sees_only_its_nics";
    let run = || match std::panic::catch_unwind(agents_of_another_machine) {
        Ok(()) => Ok(()),
        Err(_) => Err(Failed::from("see above")),
    };
    let trials = vec![Trial::test(name, run).with_ignored_flag(possible.is_err())];
    libtest_mimic::run(&arguments, trials).exit();
}

fn agents_of_another_machine() {
    let world = World::start();
    let (vm, other) = (world.nic("vm"), world.nic("other"));
    world.machine.has_address(&world.address_of("vm"));
    let token = world.token("vm.token", &vm);
    let others_token = world.token("other.token", &other);

    // Not of the authority that the agent knows.
    let stranger = world.authority("stranger");
    let agent = world.agent("wrong-ca", &vm, &[("ca", &stranger.file), ("token-file", &token)]);
    agent.says_twice("--ca must name the file of the authority");
    drop(agent);
    // Without a certificate of its own.
    let ca = world.ca.file.clone();
    let agent = world.agent("no-certificate", &vm, &[("ca", &ca), ("token-file", &token)]);
    agent.says_twice("the instance wants a certificate of the agent");
    drop(agent);

    let (certificate, key) = world.ca.issues(&world.place, "agent", "vm.example");
    let trusted = [("ca", &ca), ("certificate", &certificate), ("key", &key)];
    let with = |token| [&trusted[..], &[("token-file", token)]].concat();
    let agent = world.agent("no-token", &vm, &trusted);
    agent.says_twice("agents need a token here");
    drop(agent);
    let agent = world.agent("wrong-token", &vm, &with(&others_token));
    agent.says_twice("the agent's token is not for");
    drop(agent);
    let long = format!("{vm}{}", "x".repeat(1_500));
    let agent = world.agent("long-name", &long, &with(&token));
    agent.says_twice("the agent's token is not for");
    world.instances_say_little_of("the agent's token is not for");
    drop(agent);
    assert_eq!(world.machine.routes(), "", "who was refused has installed something");

    // The manager does not know agents, and says so.
    let authority = world.place.path().join("data/tls/ca.pem");
    let agent = world.agent_of(&[&world.tls_url], "manager", &vm, &[("ca", &authority)]);
    agent.says("name the instances' own URLs", 1);
    drop(agent);

    let agent = world.agent("right", &vm, &with(&token));
    wait("the routes of the network", || {
        world.machine.routes().contains("10.77.0.0/16")
    });
    wait("both instances know what is installed", || {
        world.confirmed_by(&vm) == Some(2)
    });
    let routes = world.machine.routes();
    world.does(&format!("agent-token revoke --nic {vm}"));
    agent.says_twice("the agent's token is not for");
    wait("both instances have ended the stream", || {
        world.followed_by(&vm) == Some(0)
    });
    assert_eq!(
        world.machine.routes(),
        routes,
        "routes stay, as of any agent without an instance"
    );
    drop(agent);

    // The same token of the same name is another one.
    let token = world.token("vm.token", &vm);
    let _agent = world.agent("again", &vm, &with(&token));
    wait("both instances are followed again", || {
        world.confirmed_by(&vm) == Some(2)
    });
}

/// A server with two network interfaces, and the machine of one of them.
struct World {
    serve: Child,
    url: String,
    tls_url: String,
    ca: Authority,
    machine: Machine,
    place: TempDir,
}

impl World {
    fn start() -> World {
        let place = TempDir::new().unwrap();
        let machine = Machine::start();
        let ca = Authority::new(&place, "ca");
        let (certificate, key) = ca.issues(&place, "server", SERVER);
        let config = place.path().join("serve.toml");
        let text = format!(
            "[agents]\nlisten = \"{SERVER}:8081\"\ntokens = true\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca = {:?}\n",
            ca.file
        );
        fs::write(&config, text).unwrap();
        let mut serve = routewright(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]);
        serve.arg(place.path().join("data")).arg("--config").arg(config);
        serve.args(["--tls-listen", &format!("{SERVER}:8443")]);
        let (serve, url) = serve::start(serve.stderr(Stdio::null()));
        let world = World {
            serve,
            url,
            tls_url: format!("https://{SERVER}:8443"),
            ca,
            machine,
            place,
        };
        world.does("group create -n g -l westeurope");
        world.does(
            "vnet create -g g -n hub --address-prefixes 10.77.0.0/16 --subnet-name web --subnet-prefixes 10.77.1.0/24",
        );
        for nic in ["vm", "other"] {
            world.does(&format!("nic create -g g -n {nic} --vnet-name hub --subnet web"));
        }
        world
    }

    fn run(&self, words: &str) -> Output {
        let words: Vec<&str> = words.split(' ').chain(["--server", &self.url]).collect();
        routewright(&words).output().unwrap()
    }

    fn does(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn shows(&self, name: &str) -> Value {
        serde_json::from_str(&self.does(&format!("nic show -g g -n {name} -o json"))).unwrap()
    }

    fn nic(&self, name: &str) -> String {
        self.shows(name)["id"].as_str().unwrap().to_owned()
    }

    fn address_of(&self, name: &str) -> String {
        let nic = self.shows(name);
        let address = &nic["ipConfigurations"][0]["privateIPAddress"];
        address.as_str().unwrap_or_else(|| panic!("{nic}")).to_owned()
    }

    /// Makes one; where it is.
    fn token(&self, file: &str, nic: &str) -> PathBuf {
        let file = self.place.path().join(file);
        fs::write(&file, self.does(&format!("agent-token create --nic {nic}"))).unwrap();
        file
    }

    fn authority(&self, name: &str) -> Authority {
        Authority::new(&self.place, name)
    }

    /// An agent on the machine, with files for its options.
    fn agent(&self, name: &str, nic: &str, files: &[(&str, &PathBuf)]) -> Agent {
        self.agent_of(&INSTANCES, name, nic, files)
    }

    fn agent_of(&self, servers: &[&str], name: &str, nic: &str, files: &[(&str, &PathBuf)]) -> Agent {
        let log = self.place.path().join(format!("{name}.log"));
        let mut command = self.machine.enter(env!("CARGO_BIN_EXE_routewright"));
        command
            .args(["agent", "--name", name, "--nic", nic, "--server"])
            .args(servers);
        for (option, file) in files {
            command.arg(format!("--{option}")).arg(file);
        }
        let process = command.stdin(Stdio::null()).stderr(File::create(&log).unwrap()).spawn();
        Agent {
            process: process.unwrap(),
            log,
        }
    }

    /// How many instances have an agent of this NIC that has said what is installed; `None`: not every instance has answered.
    fn confirmed_by(&self, nic: &str) -> Option<usize> {
        let installed = |row: &&Value| row["installedGeneration"].is_u64();
        Some(self.agents_of(nic)?.iter().filter(installed).count())
    }

    /// How many instances have an agent of this NIC; `None`: not every instance has answered.
    fn followed_by(&self, nic: &str) -> Option<usize> {
        Some(self.agents_of(nic)?.len())
    }

    fn agents_of(&self, nic: &str) -> Option<Vec<Value>> {
        let output = self.run("agents -o json");
        // A warning says which instance's agents are missing.
        if !output.status.success() || !output.stderr.is_empty() {
            return None;
        }
        let mut rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        rows.retain(|row| row["nic"].as_str().is_some_and(|id| id.eq_ignore_ascii_case(nic)));
        Some(rows)
    }

    /// Both have said it, in lines of reasonable length.
    fn instances_say_little_of(&self, what: &str) {
        for index in 0..2 {
            let log = self.place.path().join(format!("data/run/instance-{index}.log"));
            let log = || fs::read_to_string(&log).unwrap();
            wait("an instance says that it has refused an agent", || log().contains(what));
            let log = log();
            let longest = log.lines().map(str::len).max().unwrap_or_default();
            assert!(longest < 1_200, "instance {index} has a line of {longest} octets");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        end(&mut self.serve);
    }
}

/// A certificate authority.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(place: &TempDir, name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = place.path().join(format!("{name}.pem"));
        fs::write(&file, issuer.pem()).unwrap();
        Authority { issuer, file }
    }

    /// A certificate for a host name or address, and its key.
    fn issues(&self, place: &TempDir, name: &str, host: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["pem", "key"].map(|kind| place.path().join(format!("{name}-certificate.{kind}")));
        fs::write(&files[0], certificate.pem()).unwrap();
        fs::write(&files[1], key.serialize_pem()).unwrap();
        let [certificate, key] = files;
        (certificate, key)
    }
}

/// A network namespace that a process holds, with a link to ours.
struct Machine {
    holder: Child,
}

impl Machine {
    fn start() -> Machine {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .spawn()
            .unwrap();
        let machine = Machine { holder };
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", machine.holder.id());
        wait("the machine's network", || {
            fs::read_link(&theirs).is_ok_and(|theirs| theirs != own)
        });
        let pid = machine.holder.id().to_string();
        ip(&[
            "link", "add", "up0", "type", "veth", "peer", "name", "mgmt", "netns", &pid,
        ]);
        ip(&["address", "add", &format!("{SERVER}/24"), "dev", "up0"]);
        ip(&["link", "set", "up0", "up"]);
        machine.ip("link set lo up");
        machine.ip("address add 10.88.0.9/24 dev mgmt");
        machine.ip("link set mgmt up");
        machine
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.id().to_string(), "--", program]);
        command
    }

    fn ip(&self, words: &str) -> String {
        let output = self.enter("ip").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The network interface that the routes are for.
    fn has_address(&self, address: &str) {
        self.ip("link add nic type veth peer name fabric");
        self.ip(&format!("address add {address}/24 dev nic noprefixroute"));
        self.ip("link set fabric up");
        self.ip("link set nic up");
    }

    /// What agents have installed.
    fn routes(&self) -> String {
        self.ip("route show proto 157")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Ends when dropped.
struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Of both instances.
    fn says_twice(&self, what: &str) {
        self.says(what, 2);
    }

    fn says(&self, what: &str, times: usize) {
        let log = || fs::read_to_string(&self.log).unwrap();
        let start = Instant::now();
        while log().lines().filter(|line| line.contains(what)).count() < times {
            assert!(
                start.elapsed() < DEADLINE,
                "{what:?} is not said {times} times:\n{}",
                log()
            );
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

fn end(process: &mut Child) {
    let pid = i32::try_from(process.id()).unwrap();
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let _ = process.wait();
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}
