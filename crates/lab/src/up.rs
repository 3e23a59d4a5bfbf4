//! `lab up`: fabric, manager, resources through the API, NVAs, agents; then waiting until routes are where they belong.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::Value;

use crate::balancer::BalancerConfig;
use crate::cloud::{self, Api};
use crate::error::LabError;
use crate::handle::{Lab, UpOptions};
use crate::process::{ProcessId, ProcessSpec};
use crate::software::{self, Appliance};
use crate::state::{MANAGER, ManagedProcess, Phase};
use crate::topology::{Nva, Topology};

/// The port of the API when it is free; agents take the two after it.
const FAVOURITE_PORT: u16 = 8080;
/// API, agents of instance 0, agents of instance 1.
const PORTS: u16 = 3;
/// How many ports the manager may find taken.
const PORT_ATTEMPTS: usize = 5;
/// How long the manager may take until it answers.
const MANAGER_START: Duration = Duration::from_secs(60);
/// How long the instances may take until agents can reach them.
const INSTANCE_START: Duration = Duration::from_secs(60);
/// How long routes may take from the NVAs to the kernels of all VMs.
pub const CONVERGENCE: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Told of each step as it begins.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

impl Lab {
    /// Makes a lab and waits until its routes are where they belong.
    ///
    /// If it cannot be built, nothing is left of it; if only its routes don't come about, it stays for whoever wants to look.
    pub fn up(topology: &Topology, options: &UpOptions, progress: Progress<'_>) -> Result<Lab, LabError> {
        if !options.fabric_only {
            software::check_installed(topology, options.rootless)?;
        }
        let mut lab = Lab::make(topology, options)?;
        let lock = lab.directory.lock()?;
        if let Err(error) = lab.build(options, progress) {
            drop(lock);
            let _ = Lab::down(&options.labs, &options.name);
            return Err(error);
        }
        if !options.fabric_only {
            progress("waiting for BGP sessions and routes");
            let done = lab.wait_converged(CONVERGENCE);
            if matches!(done, Err(LabError::Interrupted)) {
                drop(lock);
                let _ = Lab::down(&options.labs, &options.name);
            }
            done?;
        }
        Ok(lab)
    }

    fn build(&mut self, options: &UpOptions, progress: Progress<'_>) -> Result<(), LabError> {
        progress("namespaces, bridges and links");
        self.build_fabric()?;
        if options.fabric_only {
            return self.finish(Phase::FabricOnly);
        }
        progress("route server: manager and instances");
        let api = self.start_manager()?;
        progress("resources, through the API");
        for resource in cloud::resources(&self.state.topology) {
            api.provision(&resource)?;
            self.check_interrupted()?;
        }
        progress("NVAs");
        self.start_nvas()?;
        self.start_load_balancers()?;
        progress("agents");
        self.start_agents(&api)?;
        self.finish(Phase::Up)
    }

    fn finish(&mut self, phase: Phase) -> Result<(), LabError> {
        self.state.phase = phase;
        self.state.builder = None;
        self.save()
    }

    /// Records a process, then starts it: a crash in between leaves a record too many, not a process too many.
    pub(crate) fn start_process(&mut self, name: &str, node: &str, spec: ProcessSpec) -> Result<(), LabError> {
        self.state.processes.push(ManagedProcess {
            name: name.to_owned(),
            node: node.to_owned(),
            spec,
            id: None,
        });
        self.save()?;
        self.respawn(self.state.processes.len() - 1)
    }

    pub(crate) fn respawn(&mut self, index: usize) -> Result<(), LabError> {
        let process = &mut self.state.processes[index];
        let context = format!("starting {}", process.name);
        let id = process.spec.spawn(self.directory.path());
        let id = id.map_err(LabError::system(context.clone()))?;
        process.id = Some(id);
        // Recorded before it is waited for: `lab down` must find it.
        self.save()?;
        let spec = &self.state.processes[index].spec;
        spec.wait_listening(id).map_err(LabError::system(context))
    }

    /// Starts the manager on a port of its own. Another lab, or anybody, may take the port between our look and its start; so whoever
    /// answers there is asked who it is.
    fn start_manager(&mut self) -> Result<Api, LabError> {
        self.directory.write("serve.toml", self.serve_config().as_bytes())?;
        let mut attempts = PORT_ATTEMPTS;
        loop {
            let port = free_port().map_err(LabError::system("looking for a free port"))?;
            let url = format!("http://127.0.0.1:{port}");
            self.start_process(MANAGER, MANAGER, self.manager_process(port))?;
            let api = Api::new(&url)?;
            attempts -= 1;
            match self.wait_for_manager(&api) {
                Err(LabError::Died { .. }) if attempts > 0 && !is_free(port) => {
                    self.state.processes.retain(|process| process.name != MANAGER);
                }
                answered => {
                    answered?;
                    self.state.api_url = Some(url.clone());
                    self.save()?;
                    self.directory.write("api-url", format!("{url}\n").as_bytes())?;
                    return Ok(api);
                }
            }
        }
    }

    fn manager_process(&self, port: u16) -> ProcessSpec {
        let path = |name: &str| self.directory.file(name).display().to_string();
        let mut argv: Vec<String> = vec![self.state.executable.display().to_string(), "serve".to_owned()];
        argv.extend(["--dev", "--listen"].map(str::to_owned));
        argv.push(format!("127.0.0.1:{port}"));
        argv.extend(["--config".to_owned(), path("serve.toml")]);
        argv.extend(["--data-dir".to_owned(), path("data")]);
        if self.state.topology.instances == 1 {
            argv.extend(["--instance", "0"].map(str::to_owned));
        }
        ProcessSpec {
            argv,
            log: self.directory.log(MANAGER),
            ..ProcessSpec::default()
        }
    }

    /// Waits until the manager that we started answers; a stranger's answer counts for nothing.
    fn wait_for_manager(&self, api: &Api) -> Result<(), LabError> {
        let ours = self.state.processes.iter().find(|process| process.name == MANAGER);
        let ours = ours.and_then(|process| process.id).map(|id| i64::from(id.pid));
        self.wait_until("the manager's API", MANAGER_START, |_| {
            let missing = match api.get("/routewright/v1/health") {
                Ok(health) if health.get("pid").and_then(Value::as_i64) == ours => None,
                Ok(_) => Some("another program answers on its port".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            Ok(missing.into_iter().collect())
        })
    }

    /// A configuration for `routewright serve`: where each instance finds its addresses.
    pub fn serve_config(&self) -> String {
        let topology = &self.state.topology;
        let mut text = "[bind]\n".to_owned();
        for rs in &topology.route_servers {
            let (Some(subnet), Some(holder)) = (topology.route_server_subnet(rs), self.state.holders.get(&rs.name))
            else {
                continue;
            };
            text += &bind(subnet.prefix.into(), holder);
        }
        for gateway in &topology.gateways {
            for (node, address) in gateway.nodes() {
                text.extend(
                    self.state
                        .holders
                        .get(&node)
                        .map(|holder| bind(IpNet::from(IpAddr::V4(address)), holder)),
                );
            }
        }
        for circuit in &topology.circuits {
            for link in 0..circuit.links.len() {
                let holder = self.state.holders.get(&circuit.node(link));
                text.extend(holder.map(|holder| bind(IpNet::from(IpAddr::V4(circuit.provider(link))), holder)));
            }
        }
        text
    }

    /// Starts the NVAs' software. Only a lab that is a fabric and nothing else needs to be told.
    pub fn start_nvas(&mut self) -> Result<(), LabError> {
        let routers: Vec<Nva> = self.state.topology.routers().cloned().collect();
        // A site without BGP has nothing to start.
        for nva in routers.into_iter().filter(|nva| nva.asn > 0) {
            let directory = self.appliance(&nva)?.needs_directory();
            self.make_directory(directory)?;
            let appliance = self.appliance(&nva)?;
            appliance.configure()?;
            let processes = appliance.processes();
            for (name, spec) in processes {
                self.start_process(&format!("{}.{name}", nva.name), &nva.name, spec)?;
            }
        }
        for nva in self.state.topology.routers().filter(|nva| nva.asn > 0) {
            self.appliance(nva)?.after_start()?;
        }
        Ok(())
    }

    fn start_load_balancers(&mut self) -> Result<(), LabError> {
        for balancer in self.state.topology.load_balancers.clone() {
            let nvas = balancer
                .backends
                .iter()
                .filter_map(|name| self.state.topology.nva(name));
            let config = BalancerConfig {
                backends: nvas.map(|nva| nva.address).collect(),
            };
            let text = serde_json::to_vec(&config).expect("the configuration holds only what JSON can say");
            let file = format!("{}.json", balancer.name);
            self.directory.write(&file, &text)?;
            let executable = self.state.executable.display().to_string();
            let file = self.directory.file(&file).display().to_string();
            let spec = ProcessSpec {
                argv: [&executable, "balancer", "--config", &file].map(str::to_owned).to_vec(),
                namespace: Some(self.namespace(&balancer.name)?.path().to_owned()),
                log: self.directory.log(&balancer.name),
                ..ProcessSpec::default()
            };
            self.start_process(&balancer.name, &balancer.name, spec)?;
        }
        Ok(())
    }

    /// Makes a directory outside the lab's own, recorded first.
    fn make_directory(&mut self, directory: Option<PathBuf>) -> Result<(), LabError> {
        let Some(directory) = directory.filter(|d| !d.exists()) else {
            return Ok(());
        };
        self.state.directories.push(directory.clone());
        self.save()?;
        fs::create_dir(&directory).map_err(LabError::system(format!("making {}", directory.display())))
    }

    /// An NVA with what its software needs to know.
    pub(crate) fn appliance<'a>(&'a self, nva: &'a Nva) -> Result<Appliance<'a>, LabError> {
        let topology = &self.state.topology;
        let routes = self.layout().node(&nva.name).map(|node| node.routes.clone());
        Ok(Appliance {
            nva,
            paths: self
                .state
                .announced
                .get(&nva.name)
                .map(Vec::as_slice)
                .unwrap_or_default(),
            neighbours: topology.neighbours_of(nva),
            static_routes: routes.unwrap_or_default(),
            directory: self.directory.file("nva").join(&nva.name),
            namespace: self.namespace(&nva.name)?,
            executable: self.state.executable.clone(),
            log: self.directory.file("logs").join(&nva.name),
        })
    }

    fn start_agents(&mut self, api: &Api) -> Result<(), LabError> {
        let servers = self.agent_urls(api)?;
        for follower in self.followers() {
            let namespace = self.namespace(&follower.node)?;
            let nic = format!("{},netns={}", follower.nic, namespace.path().display());
            // An instance of a gateway is known to its own process alone.
            let servers = match follower.instance {
                Some(instance) => servers.get(instance..=instance).unwrap_or_default(),
                None => &servers[..],
            };
            let mut argv = vec![self.state.executable.display().to_string(), "agent".to_owned()];
            argv.extend(servers.iter().flat_map(|url| ["--server".to_owned(), url.clone()]));
            argv.extend(["--nic".to_owned(), nic]);
            if follower.is_vm {
                argv.extend(["--system-routes", "all"].map(str::to_owned));
            }
            argv.extend(["--name".to_owned(), follower.node.clone()]);
            let name = format!("agent-{}", follower.node);
            let spec = ProcessSpec {
                argv,
                log: self.directory.log(&name),
                ..ProcessSpec::default()
            };
            self.start_process(&name, &follower.node, spec)?;
        }
        Ok(())
    }

    /// The nodes whose routes agents make.
    fn followers(&self) -> Vec<Follower> {
        let topology = &self.state.topology;
        let of_nic = |name: &String, is_vm| Follower {
            nic: cloud::nic_id(name),
            node: name.clone(),
            instance: None,
            is_vm,
        };
        let vms = topology.vms.iter().map(|vm| of_nic(&vm.name, true));
        let nvas = topology.nvas.iter().filter(|nva| nva.agent);
        let nvas = nvas.map(|nva| of_nic(&nva.name, false));
        let of_process = |path: String, instance, node| Follower {
            nic: cloud::instance_id(&path, instance),
            node,
            instance: Some(instance),
            is_vm: false,
        };
        let running = topology.each_instance();
        let gateways = topology.gateways.iter().flat_map(|gateway| {
            let path = format!("virtualNetworkGateways/{}", gateway.name);
            let instances = (0..gateway.addresses.len()).filter(|instance| running.contains(instance));
            instances
                .map(|instance| of_process(path.clone(), instance, gateway.node(instance)))
                .collect::<Vec<_>>()
        });
        let edges = topology.circuits.iter().flat_map(|circuit| {
            let path = format!("expressRouteCircuits/{}", circuit.name);
            let links = running.clone();
            links
                .map(|link| of_process(path.clone(), link, circuit.node(link)))
                .collect::<Vec<_>>()
        });
        vms.chain(nvas).chain(gateways).chain(edges).collect()
    }

    /// Where agents reach the instances: these answer also while there is no manager.
    fn agent_urls(&self, api: &Api) -> Result<Vec<String>, LabError> {
        let wanted = usize::from(self.state.topology.instances);
        let mut urls = Vec::new();
        self.wait_until("the instances' agent listeners", INSTANCE_START, |_| {
            let health = api.get("/routewright/v1/health")?;
            let instances = health
                .get("instances")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            urls = instances
                .iter()
                .filter_map(|i| i.get("agentUrl")?.as_str().map(str::to_owned))
                .collect();
            let missing = wanted.saturating_sub(urls.len());
            Ok((missing > 0)
                .then(|| format!("{missing} of {wanted} have none yet"))
                .into_iter()
                .collect())
        })?;
        Ok(urls)
    }

    /// Waits until a condition names nothing missing any more; ends early when a process of the lab died.
    pub fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        mut missing: impl FnMut(&Lab) -> Result<Vec<String>, LabError>,
    ) -> Result<(), LabError> {
        let start = Instant::now();
        loop {
            let still = missing(self)?;
            if still.is_empty() {
                return Ok(());
            }
            self.check_interrupted()?;
            self.check_alive()?;
            if start.elapsed() > patience {
                return Err(LabError::TimedOut {
                    what: what.to_owned(),
                    seconds: patience.as_secs(),
                    missing: still,
                });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn check_interrupted(&self) -> Result<(), LabError> {
        match self.interrupted {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(LabError::Interrupted),
            _ => Ok(()),
        }
    }

    /// Fails when a process that should run does not.
    fn check_alive(&self) -> Result<(), LabError> {
        for process in &self.state.processes {
            if process.id.is_some_and(|id| !id.is_alive()) {
                return Err(LabError::Died {
                    process: process.name.clone(),
                    log: process.spec.log.clone(),
                    last_words: last_lines(&fs::read_to_string(&process.spec.log).unwrap_or_default()),
                });
            }
        }
        Ok(())
    }
}

/// A node whose routes an agent makes.
struct Follower {
    node: String,
    /// What its table is told under.
    nic: String,
    /// The one instance process that knows it, if not both do.
    instance: Option<usize>,
    /// It has the platform's own routes, too: to the internet, and to nowhere.
    is_vm: bool,
}

/// A line of `[bind]`.
fn bind(prefix: IpNet, holder: &ProcessId) -> String {
    format!("\"{prefix}\" = \"/proc/{}/ns/net\"\n", holder.pid)
}

/// The end of a log.
fn last_lines(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|l| format!("  {l}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a port on loopback is free together with the next two.
fn is_free(port: u16) -> bool {
    (port..port + PORTS).all(|p| TcpListener::bind(("127.0.0.1", p)).is_ok())
}

fn free_port() -> std::io::Result<u16> {
    const ATTEMPTS: usize = 100;
    if is_free(FAVOURITE_PORT) {
        return Ok(FAVOURITE_PORT);
    }
    for _ in 0..ATTEMPTS {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if port < u16::MAX - PORTS && is_free(port) {
            return Ok(port);
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}
