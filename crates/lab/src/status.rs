//! A lab's whole state, for programs; `draw` shows it to people.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use routeserver::report::PeerReport;
use serde::Serialize;

use crate::error::LabError;
use crate::handle::Lab;
use crate::kernel::KernelRoute;
use crate::layout::NodeKind;
use crate::probe;
use crate::state::{INSTANCE, MANAGER, Phase};

/// How long a look waits for each hop.
const PROBE: Duration = Duration::from_millis(500);

/// A lab's state.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: String,
    /// building, fabricOnly or up.
    pub phase: Phase,
    /// Where its API is.
    pub api_url: Option<String>,
    /// Its directory.
    pub directory: std::path::PathBuf,
    /// Its nodes and processes.
    pub nodes: Vec<NodeStatus>,
    /// Every peering as every instance sees it; empty while the manager does not answer.
    pub peers: Vec<PeerReport>,
    /// Why `peers` is not known, if so.
    pub peers_unknown: Option<String>,
    /// Whether each link between NVAs is plugged in.
    pub links: BTreeMap<String, bool>,
    /// The kernel route table of each VM and NVA.
    pub routes: BTreeMap<String, Vec<KernelRoute>>,
    /// The ways packets take from VMs to hosts.
    pub probes: Vec<Probe>,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// routeServer, vm, nva, loadBalancer, gateway, providerEdge, site, host, fabric, manager or instance.
    pub kind: String,
    /// up, or what is wrong with it: down, degraded (some processes), silent (it runs and does not answer), gone (no namespace).
    pub state: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The process that holds its namespace.
    pub namespace_pid: Option<i32>,
    /// Its namespace, for tools that take a path.
    pub namespace: Option<std::path::PathBuf>,
    /// Its running processes by name.
    pub pids: BTreeMap<String, i32>,
    /// Whether its cable is plugged in.
    pub link: Option<bool>,
    /// What speaks BGP, in an NVA.
    pub software: Option<String>,
    /// The AS number of an NVA.
    pub asn: Option<u32>,
    /// What an NVA announces.
    pub announces: Vec<IpNet>,
}

/// A probed way.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The node that asks.
    pub from: String,
    /// The node that should answer.
    pub to: String,
    /// Its address.
    pub address: IpAddr,
    /// The nodes on the way, or their addresses where they are none.
    pub through: Vec<String>,
    /// Whether it answered.
    pub reached: bool,
    /// The answer's round trip, microseconds.
    pub round_trip_us: Option<u64>,
}

impl Lab {
    /// The state of everything.
    pub fn status(&self) -> Result<Status, LabError> {
        let (peers, peers_unknown) = match self.api().and_then(|api| api.peers()) {
            Ok(peers) => (peers, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let topology = &self.state.topology;
        let tables = topology
            .vms
            .iter()
            .map(|v| &v.name)
            .chain(topology.nvas.iter().map(|n| &n.name));
        let routes = tables.filter_map(|node| Some((node.clone(), self.kernel_routes(node).ok()?)));
        Ok(Status {
            name: self.state.name.clone(),
            phase: self.state.phase,
            api_url: self.state.api_url.clone(),
            directory: self.directory.path().to_owned(),
            nodes: self.node_states(),
            peers,
            peers_unknown,
            links: self.link_states(),
            routes: routes.collect(),
            probes: self.probe_all(PROBE),
        })
    }

    fn node_states(&self) -> Vec<NodeStatus> {
        let layout = self.layout();
        let mut nodes: Vec<NodeStatus> = layout.nodes.iter().map(|node| self.namespace_node(node)).collect();
        if self.state.processes_of(MANAGER).next().is_some() {
            let api = self.api();
            let answers = || api.as_ref().is_ok_and(|api| api.get("/routewright/v1/health").is_ok());
            nodes.push(process_node(MANAGER, MANAGER, self.pids(MANAGER), answers));
            for number in 0..self.state.topology.instances {
                let name = format!("{INSTANCE}{number}");
                let pids = self
                    .instance(number)
                    .map(|id| (name.clone(), id.pid))
                    .into_iter()
                    .collect();
                let answers = || {
                    let asked = api
                        .as_ref()
                        .map(|api| api.instance_answers(&self.instance_socket(number)));
                    asked.unwrap_or_default()
                };
                nodes.push(process_node(&name, INSTANCE, pids, answers));
            }
        }
        nodes
    }

    fn namespace_node(&self, node: &crate::layout::Node) -> NodeStatus {
        let topology = &self.state.topology;
        let nva = topology.router(&node.name);
        let holder = self.state.holders.get(&node.name).filter(|h| h.is_alive());
        let processes = self.state.processes_of(&node.name).count();
        let pids = self.pids(&node.name);
        let state = match (holder, pids.len()) {
            (None, _) => "gone",
            (Some(_), running) if running == processes => "up",
            (Some(_), 0) => "down",
            (Some(_), _) => "degraded",
        };
        let announced = self.state.announced.get(&node.name).into_iter().flatten();
        NodeStatus {
            name: node.name.clone(),
            kind: kind_name(node.kind).to_owned(),
            state: state.to_owned(),
            addresses: node.interfaces.iter().flat_map(|i| i.addresses.clone()).collect(),
            namespace_pid: holder.map(|h| h.pid),
            namespace: self.state.namespace(&node.name).ok().map(|n| n.path().to_owned()),
            pids,
            link: self.link_is_up(&node.name).ok(),
            software: nva.map(|n| n.software.name().to_owned()),
            asn: nva.map(|n| n.asn),
            announces: announced.map(|p| p.prefix).collect(),
        }
    }

    fn link_states(&self) -> BTreeMap<String, bool> {
        let links = self.state.topology.links.iter();
        let state = |name: &String| (name.clone(), self.link_is_up(name).unwrap_or_default());
        links.map(|link| state(&link.name)).collect()
    }

    fn instance_socket(&self, number: u8) -> std::path::PathBuf {
        api::control::socket_path(&self.directory.file("data").join("run"), usize::from(number))
    }

    fn pids(&self, node: &str) -> BTreeMap<String, i32> {
        let processes = self.state.processes_of(node);
        let running = processes.filter_map(|p| Some((p.name.clone(), p.id.filter(|id| id.is_alive())?.pid)));
        running.collect()
    }

    /// Probes the way from every VM to every host (without any: to every other VM), all at once, waiting `patience` for each hop.
    pub fn probe_all(&self, patience: Duration) -> Vec<Probe> {
        if self.state.phase != Phase::Up {
            return Vec::new();
        }
        let topology = &self.state.topology;
        let hosts = topology.hosts();
        let hosts = hosts.flat_map(|(_, host)| host.ends().map(|(own, _)| (&host.name, own.addr())));
        let mut targets: Vec<_> = hosts.collect();
        // Without hosts it is VMs that want to reach each other.
        if targets.is_empty() {
            targets.extend(
                topology
                    .vms
                    .iter()
                    .flat_map(|vm| vm.addresses().map(|own| (&vm.name, own))),
            );
        }
        let pairs = topology.vms.iter().flat_map(|vm| {
            let targets = targets.iter().filter(|(_, address)| vm.has_family_of(*address));
            targets.map(move |(name, address)| (&vm.name, *name, *address))
        });
        std::thread::scope(|scope| {
            let threads: Vec<_> = pairs
                .filter(|(vm, name, _)| vm != name)
                .map(|(vm, name, address)| scope.spawn(move || self.probe(vm, name, address, patience)))
                .collect();
            threads.into_iter().filter_map(|t| t.join().ok()).collect()
        })
    }

    /// Probes the way from one node to an address of another, waiting `patience` for each hop.
    pub fn probe(&self, from: &str, to: &str, address: IpAddr, patience: Duration) -> Probe {
        let path = self.trace(from, address, patience).unwrap_or(probe::Path {
            hops: Vec::new(),
            reached: false,
            round_trip_us: None,
        });
        Probe {
            from: from.to_owned(),
            to: to.to_owned(),
            address,
            through: path.hops.iter().map(|hop| self.name_of(*hop)).collect(),
            reached: path.reached,
            round_trip_us: path.round_trip_us,
        }
    }

    /// The node that has an address.
    fn name_of(&self, address: Option<IpAddr>) -> String {
        let Some(address) = address else { return "?".to_owned() };
        let has = |node: &crate::layout::Node| {
            let mut all = node.interfaces.iter().flat_map(|i| &i.addresses);
            all.any(|a| a.addr() == address)
        };
        let node = self.layout().nodes.into_iter().find(has);
        node.map_or_else(|| address.to_string(), |n| n.name)
    }
}

/// A process is up when it answers: one that hangs is there as well.
fn process_node(name: &str, kind: &str, pids: BTreeMap<String, i32>, answers: impl FnOnce() -> bool) -> NodeStatus {
    let state = match pids.is_empty() {
        true => "down",
        false if answers() => "up",
        false => "silent",
    };
    NodeStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        state: state.to_owned(),
        addresses: Vec::new(),
        namespace_pid: None,
        namespace: None,
        pids,
        link: None,
        software: None,
        asn: None,
        announces: Vec::new(),
    }
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Fabric => "fabric",
        NodeKind::RouteServer => "routeServer",
        NodeKind::Vm => "vm",
        NodeKind::Nva => "nva",
        NodeKind::Host => "host",
        NodeKind::LoadBalancer => "loadBalancer",
        NodeKind::Gateway => "gateway",
        NodeKind::ProviderEdge => "providerEdge",
        NodeKind::Site => "site",
    }
}
