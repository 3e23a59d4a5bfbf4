//! A VM's network namespace with one NIC, and an agent that follows fake instances for it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::{AgentOptions, KernelSettings, NicSpec, Resilient, SystemRoutes};
use api::agent::to_agent::Body;
use nix::sched::{CloneFlags, unshare};

use super::DEADLINE;
use super::fake::{self, FakeInstance};

pub const NIC: &str = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/networkinterfaces/vm1";

/// An instance of a gateway, which has tunnels.
pub const GATEWAY: &str =
    "/subscriptions/s/resourcegroups/g/providers/microsoft.network/virtualnetworkgateways/gw/instances/0";

/// The next hops that tests use; they count as answering.
const NEXT_HOPS: [&str; 4] = ["10.1.1.4", "10.1.1.5", "10.1.1.6", "10.1.1.7"];

/// Set for a process that is to be the agent: namespace and URL.
pub const AGENT_PROCESS: &str = "ROUTEWRIGHT_TEST_AGENT";

pub struct World {
    pub runtime: tokio::runtime::Runtime,
    nic: &'static str,
    namespace: PathBuf,
    agent: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    /// Moves the calling test thread into a namespace of its own: `eth0` with 10.1.0.5/24, its other end `peer0` up.
    pub fn new() -> World {
        World::of(NIC)
    }

    /// The same, and the agent is given this id.
    pub fn of(nic: &'static str) -> World {
        // The agent's connections start from the namespace that we are in now.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { tokio::spawn(async {}).await.unwrap() });
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let namespace = std::fs::canonicalize("/proc/thread-self").unwrap().join("ns/net");
        let world = World {
            runtime,
            nic,
            namespace,
            agent: None,
        };
        world.make_links();
        world
    }

    fn make_links(&self) {
        self.ip("link set lo up");
        self.make_link();
    }

    /// The NIC's link, with its neighbours.
    pub fn make_link(&self) {
        self.ip("link add eth0 type veth peer name peer0");
        self.ip("address add 10.1.0.5/24 dev eth0 noprefixroute");
        self.ip("link set eth0 up");
        self.ip("link set peer0 up");
        // Nobody is there behind the link; tests that care about it use others.
        for next_hop in NEXT_HOPS {
            self.ip(&format!(
                "neighbour replace {next_hop} lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
            ));
        }
    }

    /// Another namespace under the old path, as when a container is made anew.
    pub fn make_namespace_anew(&self) {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert_eq!(self.routes(), Vec::<String>::new(), "it is another one");
        self.make_links();
    }

    /// What an instance says first: the NIC, a table, and that it has converged.
    pub fn greeting(&self, instance: u32, epoch: u64, table: api::agent::TableUpdate) -> Vec<Body> {
        vec![
            fake::welcome(instance, epoch),
            fake::nic(self.nic, "10.1.0.5", "10.1.0.0/24", "10.1.0.1"),
            Body::Snapshot(table),
            Body::Converged(true),
        ]
    }

    pub fn instance(&self, greeting: Vec<Body>) -> FakeInstance {
        FakeInstance::start(self.runtime.handle(), "127.0.0.1:0".parse().unwrap(), greeting)
    }

    pub fn nic_spec(&self) -> NicSpec {
        NicSpec {
            id: self.nic.to_owned(),
            namespace: Some(self.namespace.clone()),
            table: 254,
        }
    }

    pub fn start_agent(&mut self, instances: &[&FakeInstance]) {
        self.start_agent_in(instances, 254);
    }

    pub fn start_agent_in(&mut self, instances: &[&FakeInstance], table: u32) {
        self.start_agent_with(instances, |options| options.nics[0].table = table);
    }

    /// With resilient groups.
    pub fn start_resilient_agent(&mut self, instances: &[&FakeInstance], buckets: u16) {
        let idle_secs = 3_600;
        let resilient = Some(Resilient { buckets, idle_secs });
        self.start_agent_with(instances, |options| options.resilient = resilient);
    }

    pub fn start_agent_with(&mut self, instances: &[&FakeInstance], change: impl FnOnce(&mut AgentOptions)) {
        let mut options = AgentOptions {
            name: "test".to_owned(),
            servers: instances.iter().map(|instance| instance.url()).collect(),
            nics: vec![self.nic_spec()],
            system_routes: SystemRoutes::All,
            resilient: None,
            kernel_settings: KernelSettings::Set,
            token: None,
            tls: None,
        };
        change(&mut options);
        self.agent = Some(self.runtime.spawn(async move {
            let error = agent::run(options, || ()).await;
            panic!("the agent ended: {error:?}");
        }));
    }

    /// The agent as a process, to be killed.
    pub fn start_agent_process(&self, instance: &FakeInstance) -> std::process::Child {
        let arguments = format!("{} {}", self.namespace.display(), instance.url());
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.env(AGENT_PROCESS, arguments);
        // From the main thread's namespace, which is the one that the instance is in.
        let own = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let start = std::fs::File::open(format!("/proc/{}/ns/net", std::process::id())).unwrap();
        nix::sched::setns(start, CloneFlags::CLONE_NEWNET).unwrap();
        let child = command.spawn().unwrap();
        nix::sched::setns(own, CloneFlags::CLONE_NEWNET).unwrap();
        child
    }

    /// Ends the agent at whatever it does.
    pub fn stop_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.abort();
        }
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.try_ip(arguments)
            .unwrap_or_else(|error| panic!("ip {arguments}: {error}"))
    }

    /// Changes what the agent may be changing at the same moment, so perhaps not at the first attempt.
    pub fn meddle(&self, arguments: &str) {
        self.wait_until(arguments, || self.try_ip(arguments).is_ok());
    }

    pub fn try_ip(&self, arguments: &str) -> Result<String, String> {
        let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Our routes as `ip` shows them; groups' ids can't be foreseen.
    pub fn routes(&self) -> Vec<String> {
        let shown = self.ip("route show proto 157");
        let word = |word: &str| {
            if word
                .parse::<u32>()
                .is_ok_and(|id| agent::ours::NEXTHOP_IDS.contains(&id))
            {
                "ID".to_owned()
            } else {
                word.to_owned()
            }
        };
        shown
            .lines()
            .map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// The gateways that a route to `destination` may take, sorted.
    pub fn gateways(&self, destination: &str) -> Vec<String> {
        self.devices(destination)
            .into_iter()
            .map(|(gateway, _)| gateway)
            .collect()
    }

    /// The same with the links that they are on.
    pub fn devices(&self, destination: &str) -> Vec<(String, String)> {
        let shown = self.ip(&format!("route show exact {destination}"));
        let Some(id) = shown.split_whitespace().skip_while(|word| *word != "nhid").nth(1) else {
            return Vec::new();
        };
        // What is shown next may be gone by then.
        let group = self.try_ip(&format!("nexthop get id {id}")).unwrap_or_default();
        let members = group
            .split_whitespace()
            .skip_while(|word| *word != "group")
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let gateway = |id: &str| {
            let nexthop = self.try_ip(&format!("nexthop get id {id}")).unwrap_or_default();
            let after = |name: &str| {
                let mut words = nexthop.split_whitespace().skip_while(|word| *word != name);
                words.nth(1).unwrap_or_default().to_owned()
            };
            (after("via"), after("dev"))
        };
        let mut gateways: Vec<_> = members.split('/').filter(|id| !id.is_empty()).map(gateway).collect();
        gateways.sort();
        gateways
    }

    /// The same for the next hop that the kernel takes for one flow: packets from a source port to UDP port 9.
    pub fn next_hop_of_flow(&self, destination: &str, port: u16) -> String {
        let shown = self.ip(&format!(
            "route get {destination} from 10.1.0.5 ipproto udp sport {port} dport 9"
        ));
        let mut words = shown.split_whitespace().skip_while(|word| *word != "via");
        words.nth(1).unwrap_or_default().to_owned()
    }

    /// Waits until something holds.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "{what} does not come true; routes: {:#?}",
                self.routes()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

/// What the process does that [`World::start_agent_process`] starts.
pub fn run_agent_process(arguments: &str) {
    let (namespace, url) = arguments.split_once(' ').unwrap();
    let options = AgentOptions {
        name: "process".to_owned(),
        servers: vec![url.to_owned()],
        nics: vec![NicSpec {
            id: NIC.to_owned(),
            namespace: Some(namespace.into()),
            table: 254,
        }],
        system_routes: SystemRoutes::All,
        resilient: None,
        kernel_settings: KernelSettings::Set,
        token: None,
        tls: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _ = runtime.block_on(agent::run(options, || ()));
}
