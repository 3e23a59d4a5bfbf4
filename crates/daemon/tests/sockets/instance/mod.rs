//! The instance process from outside: control socket, peers, agents, signals.

mod agents;
mod life;

use std::net::IpAddr;
use std::path::Path;

use api::agent::routes_client::RoutesClient;
use api::agent::{FromAgent, Hello, ToAgent, from_agent, to_agent};
use api::control::{ControlClient, ControlError, OrderRef, agents_path, socket_path};
use bgp::{Asn, IpNet};
use routeserver::Intent;
use routeserver::intent::{NicIntent, PeerIntent, RouteServerIntent, SubnetIntent, VirtualNetworkIntent};
use tempfile::TempDir;
use tokio::sync::mpsc::Sender;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::nva::{Nva, establish_and_fall_asleep};
use crate::world::{Process, address, ip, mount_disk, resize_disk, soon, until, with_addresses};

/// All of them.
pub(crate) fn tests() -> Vec<(&'static str, fn())> {
    [life::TESTS, agents::TESTS].concat()
}

pub(crate) const OURS: &str = "10.1.1.4";
pub(crate) const NVA1: &str = "10.1.2.4";
const NVA2: &str = "10.1.3.4";
pub(crate) const ADDRESSES: &[&str] = &[OURS, NVA1, NVA2];

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn peer(id: &str, address: &str, asn: u32) -> PeerIntent {
    PeerIntent {
        dial: false,
        connect_retry_secs: 1,
        route_limit: 0,
        ..PeerIntent::azure(id, self::address(address), Asn(asn))
    }
}

pub(crate) fn intent(version: u64, peers: Vec<PeerIntent>) -> Intent {
    let subnet = |id: &str, prefix: &str| SubnetIntent {
        id: id.into(),
        name: id.into(),
        prefixes: vec![net(prefix)],
        route_table: None,
    };
    Intent {
        gateways: Vec::new(),
        logs_routes: false,
        memory_mib: 0,
        agent_tokens: None,
        version,
        route_servers: vec![RouteServerIntent {
            id: "rs1".into(),
            name: "rs1".into(),
            asn: Asn::AZURE_ROUTE_SERVER,
            virtual_network: "hub".into(),
            subnet: net("10.1.1.0/26"),
            instance_addresses: [address(OURS), address("10.1.1.5")],
            instance_addresses_v6: [None; 2],
            branch_to_branch: true,
            preference: rib::Preference::default(),
            namespace: None,
            converge_secs: 120,
            peers,
            ipv6: false,
            total_routes: 0,
            persist_routes: routeserver::intent::PersistRoutes::Off,
        }],
        virtual_networks: vec![VirtualNetworkIntent {
            id: "hub".into(),
            name: "hub".into(),
            address_space: vec![net("10.1.0.0/16")],
            subnets: vec![
                subnet("rs", "10.1.1.0/26"),
                subnet("nvas", "10.1.2.0/23"),
                subnet("vms", "10.1.4.0/24"),
            ],
            peerings: vec![],
            nics: vec![NicIntent {
                id: "vm".into(),
                name: "vm".into(),
                subnet: "vms".into(),
                addresses: vec![address("10.1.4.4")],
            }],
        }],
    }
}

/// An instance process with a client to its control socket.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) process: Process,
    pub(crate) control: ControlClient,
}

impl World {
    async fn start() -> World {
        World::start_as(0).await
    }

    /// Instance 0 or 1.
    pub(crate) async fn start_as(index: usize) -> World {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start_as(index, directory.path());
        World::of(directory, process, index).await
    }

    async fn of(directory: TempDir, process: Process, index: usize) -> World {
        let control = ControlClient::new(socket_path(directory.path(), index));
        let world = World {
            directory,
            process,
            control,
        };
        world.answers().await;
        world
    }

    pub(crate) async fn put(&self, intent: &Intent) -> Result<(), ControlError> {
        let route_log = None;
        self.control.put_intent(OrderRef { intent, route_log }).await
    }

    async fn answers(&self) {
        until("the instance answers", || async { self.control.health().await.is_ok() }).await;
    }

    pub(crate) async fn with(intent: Intent) -> World {
        let world = World::start().await;
        world.put(&intent).await.unwrap();
        let listening = || async {
            world
                .control
                .health()
                .await
                .is_ok_and(|health| health.address_problems.is_empty())
        };
        until("it listens", listening).await;
        world
    }

    async fn restart(&mut self) {
        self.process = Process::start(self.directory.path());
        self.answers().await;
    }

    pub(crate) async fn established(&self, peers: usize) {
        let up = || async {
            self.control
                .health()
                .await
                .is_ok_and(|health| health.peers_established == peers)
        };
        until("the sessions are up", up).await;
    }
}

/// Follows a NIC and gives what the instance says.
async fn follow(run_dir: &Path, nic: &str) -> tonic::Streaming<ToAgent> {
    follow_all(run_dir, vec![nic.to_owned()]).await
}

async fn follow_all(run_dir: &Path, nics: Vec<String>) -> tonic::Streaming<ToAgent> {
    let (agent, sender) = join(run_dir, nics, false).await;
    // The agent goes on listening although it says nothing more.
    std::mem::forget(sender);
    agent
}

/// Follows NICs, as an agent that knows tables in layers or one of an earlier release: what the instance says, and how to answer.
pub(crate) async fn join(
    run_dir: &Path,
    nics: Vec<String>,
    layers: bool,
) -> (tonic::Streaming<ToAgent>, Sender<FromAgent>) {
    let mut client = RoutesClient::new(agent_endpoint(run_dir).await.connect().await.unwrap());
    let hello = Hello {
        agent: "test".into(),
        nics,
        layers,
    };
    let (sender, said) = tokio::sync::mpsc::channel(8);
    let body = Some(from_agent::Body::Hello(hello));
    sender.send(FromAgent { body }).await.unwrap();
    let stream = client.follow(ReceiverStream::new(said)).await.unwrap().into_inner();
    (stream, sender)
}

/// An agent that does not read has so much on its way.
const WINDOW: u32 = 64 << 10;

async fn agent_endpoint(run_dir: &Path) -> tonic::transport::Endpoint {
    let file = agents_path(run_dir, 0);
    until("agents may connect", || async { file.exists() }).await;
    let at = std::fs::read_to_string(file).unwrap();
    tonic::transport::Endpoint::from_shared(format!("http://{}", at.trim()))
        .unwrap()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
}

/// Reads until something is said that is wanted.
pub(crate) async fn hears<T>(
    agent: &mut tonic::Streaming<ToAgent>,
    what: &str,
    mut wanted: impl FnMut(to_agent::Body) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let said = agent.next().await.expect("the stream ended").unwrap().body.unwrap();
            if let Some(found) = wanted(said) {
                return found;
            }
        }
    })
    .await
}

pub(crate) fn update(body: to_agent::Body) -> Option<api::agent::TableUpdate> {
    match body {
        to_agent::Body::Snapshot(update) | to_agent::Body::Delta(update) => Some(update),
        _ => None,
    }
}

/// The next hops of a prefix, if the update has it with a group.
pub(crate) fn members(update: &api::agent::TableUpdate, prefix: IpNet) -> Option<Vec<IpAddr>> {
    let of_prefix = |route: &&api::agent::Route| api::convert::prefix(route.prefix.as_ref().unwrap()) == Some(prefix);
    let route = update.routes.iter().find(of_prefix)?;
    let Some(api::agent::route::Way::Group(id)) = route.way else {
        return None;
    };
    let group = update.groups.iter().find(|group| group.id == id)?;
    Some(
        group
            .members
            .iter()
            .map(|octets| api::convert::address(octets).unwrap())
            .collect(),
    )
}
