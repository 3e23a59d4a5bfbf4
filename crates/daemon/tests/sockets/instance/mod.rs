//! The instance process from outside: control socket, peers, agents, signals.

use std::net::IpAddr;
use std::path::Path;

use api::agent::routes_client::RoutesClient;
use api::agent::{FromAgent, Hello, ToAgent, from_agent, to_agent};
use api::control::{ControlClient, ControlError, OrderRef, agents_path, socket_path};
use bgp::{Asn, IpNet};
use routeserver::Intent;
use routeserver::intent::{NicIntent, PeerIntent, PeerKind, RouteServerIntent, SubnetIntent, VirtualNetworkIntent};
use tempfile::TempDir;
use tokio::sync::mpsc::Sender;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::nva::{Nva, establish_and_fall_asleep};
use crate::world::{Process, address, ip, mount_disk, resize_disk, soon, until, with_addresses};

crate::tests![
    a_route_travels_from_an_nva_to_an_agent,
    a_killed_instance_comes_back_with_its_intent_and_its_peers,
    sigterm_says_farewell_to_peers,
    an_older_intent_is_refused,
    what_is_asked_about_strangers_is_not_found,
    a_missing_address_is_told_and_taken_when_it_comes,
    a_second_instance_refuses_to_start,
    md5_protects_a_peering,
    a_peer_that_never_reads_does_not_disturb_another,
    a_reset_by_the_operator_ends_the_session_and_it_comes_back,
    metrics_tell_of_peers,
    an_instance_outlives_the_thread_that_started_it_but_not_the_process,
    a_soft_reset_of_a_peer_without_route_refresh_is_refused_with_a_reason,
    an_agent_that_does_not_read_costs_others_nothing_and_catches_up_by_snapshot,
    an_agent_of_a_host_with_thousands_of_nics_is_told_of_each,
    a_connection_that_asks_for_something_else_is_told_so,
    an_agent_follows_only_what_its_token_is_for_and_as_long_as_it_is,
    an_agent_that_comes_before_the_first_intent_is_told_nothing_until_that_says_whether_it_may,
    callers_that_never_say_who_they_are_do_not_keep_an_agent_out,
    an_instance_whose_agents_come_from_anywhere_tells_that_it_lets_nobody_in_once_no_tokens_are_wanted,
    an_agent_that_asks_for_what_cannot_be_is_told_so_in_few_words,
    the_route_log_survives_a_full_disk_without_half_a_line_and_tells_what_is_missing,
];

pub(crate) const OURS: &str = "10.1.1.4";
pub(crate) const NVA1: &str = "10.1.2.4";
const NVA2: &str = "10.1.3.4";
pub(crate) const ADDRESSES: &[&str] = &[OURS, NVA1, NVA2];

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn peer(id: &str, address: &str, asn: u32) -> PeerIntent {
    PeerIntent {
        id: id.into(),
        kind: PeerKind::Nva,
        instance: None,
        name: id.into(),
        address: address.parse().unwrap(),
        asn: Asn(asn),
        hold_time_secs: 180,
        send_hold_secs: 0,
        dial: false,
        connect_retry_secs: 1,
        md5_password: None,
        ttl_security_hops: None,
        route_limit: 0,
        route_limit_warning_percent: 80,
        enhanced_route_refresh: false,
        extended_messages: false,
        import_preference: 0,
        admin_down: false,
        bfd: None,
        drain: false,
        graceful_restart: false,
        graceful_restart_time_secs: routeserver::intent::DEFAULT_RESTART_TIME_SECS,
        long_lived_stale_time_secs: 0,
        inbound_route_map: None,
        outbound_route_map: None,
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

fn a_route_travels_from_an_nva_to_an_agent() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let mut agent = follow(world.directory.path(), "VM").await;
        let welcome = hears(&mut agent, "a welcome", |said| match said {
            to_agent::Body::Welcome(welcome) => Some(welcome),
            other => panic!("{other:?} before the welcome"),
        })
        .await;
        assert_eq!((welcome.instance, welcome.silence_secs), (0, 10));
        hears(&mut agent, "the NIC's table", |said| match said {
            to_agent::Body::Nic(nic) => nic.table,
            _ => None,
        })
        .await;

        let nva = Nva::start(NVA1, 65001, OURS, None);
        nva.sees("the virtual network's prefix", |seen| {
            seen.learned.contains(&net("10.1.0.0/16"))
        })
        .await;
        nva.announce([net("10.250.0.0/16")]).await;
        let wanted = |said| members(&update(said)?, net("10.250.0.0/16"));
        assert_eq!(hears(&mut agent, "the route", wanted).await, [address(NVA1)]);

        let report = world.control.effective_routes("vm").await.unwrap();
        assert!(report.iter().any(|row| row.address_prefix == net("10.250.0.0/16")));
        assert_eq!(world.control.agents().await.unwrap()[0].agent, "test");
        assert_eq!(world.control.routes_of_peer("nva1").await.unwrap().len(), 1);

        nva.withdraw([net("10.250.0.0/16")]).await;
        hears(&mut agent, "the withdrawal", |said| {
            let removed = update(said)?.removed;
            removed
                .iter()
                .any(|each| api::convert::prefix(each) == Some(net("10.250.0.0/16")))
                .then_some(())
        })
        .await;
        hears(&mut agent, "a heartbeat", |said| {
            matches!(said, to_agent::Body::Heartbeat(_)).then_some(())
        })
        .await;
    });
}

fn a_killed_instance_comes_back_with_its_intent_and_its_peers() {
    with_addresses(ADDRESSES, || async {
        let mut world = World::with(intent(7, vec![peer("nva1", NVA1, 65001)])).await;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let before = world.control.health().await.unwrap();
        world.process.0.kill().unwrap();
        world.process.ended().await;
        nva.sees("the session is down", |seen| !seen.established).await;
        world.restart().await;
        let after = world.control.health().await.unwrap();
        assert_eq!(after.intent_version, 7);
        assert_ne!(after.epoch, before.epoch);
        world.established(1).await;
    });
}

fn sigterm_says_farewell_to_peers() {
    with_addresses(ADDRESSES, || async {
        let mut world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        world.process.terminate();
        assert!(world.process.ended().await.success());
        // Cease / Administrative Shutdown (RFC 4486 §4).
        nva.sees("the farewell", |seen| seen.notification == Some((6, 2))).await;
        assert!(!socket_path(world.directory.path(), 0).exists());
    });
}

fn an_older_intent_is_refused() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(5, vec![])).await;
        let refused = world.put(&intent(4, vec![])).await;
        assert_eq!(refused, Err(ControlError::NewerIntent));
        assert_eq!(world.put(&intent(5, vec![])).await, Ok(()));
        assert_eq!(world.put(&intent(6, vec![])).await, Ok(()));
        assert_eq!(world.control.health().await.unwrap().intent_version, 6);
    });
}

fn what_is_asked_about_strangers_is_not_found() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![])).await;
        let is_not_found = |result: Result<usize, ControlError>| {
            assert!(matches!(result, Err(ControlError::NotFound { .. })), "{result:?}");
        };
        is_not_found(world.control.routes_of_peer("x").await.map(|routes| routes.len()));
        is_not_found(
            world
                .control
                .routes_of_route_server("x", None)
                .await
                .map(|routes| routes.len()),
        );
        is_not_found(world.control.advertised("x").await.map(|routes| routes.len()));
        is_not_found(world.control.effective_routes("x").await.map(|routes| routes.len()));
        is_not_found(world.control.reset_peer("x", false).await.map(|()| 0));
    });
}

fn a_missing_address_is_told_and_taken_when_it_comes() {
    with_addresses(&[NVA1], || async {
        let world = World::start().await;
        world.put(&intent(1, vec![peer("nva1", NVA1, 65001)])).await.unwrap();
        let problems = || async { world.control.health().await.unwrap().address_problems };
        until("the problem is told", || async {
            problems().await == [("rs1".to_owned(), "address not present: 10.1.1.4".to_owned())]
        })
        .await;
        ip(&["address", "add", OURS, "dev", "lo"]);
        until("it listens", || async { problems().await.is_empty() }).await;
        let _nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
    });
}

fn a_second_instance_refuses_to_start() {
    with_addresses(ADDRESSES, || async {
        let world = World::start().await;
        let mut second = Process::start(world.directory.path());
        assert_eq!(second.ended().await.code(), Some(3));
        assert!(world.control.health().await.is_ok());
    });
}

fn md5_protects_a_peering() {
    with_addresses(ADDRESSES, || async {
        let protected = PeerIntent {
            md5_password: Some("secret".into()),
            ..peer("nva1", NVA1, 65001)
        };
        let world = World::with(intent(1, vec![protected])).await;
        let _nva = Nva::start(NVA1, 65001, OURS, Some("secret"));
        world.established(1).await;
    });
}

fn a_peer_that_never_reads_does_not_disturb_another() {
    with_addresses(&[OURS, NVA1, NVA2, "10.1.3.5"], || async {
        let peers = vec![
            peer("nva1", NVA1, 65001),
            peer("nva2", NVA2, 65002),
            peer("asleep", "10.1.3.5", 65003),
        ];
        let world = World::with(intent(1, peers)).await;
        let _asleep = establish_and_fall_asleep("10.1.3.5", 65003, OURS).await;
        let (first, second) = (Nva::start(NVA1, 65001, OURS, None), Nva::start(NVA2, 65002, OURS, None));
        world.established(3).await;
        // 300,000 prefixes make more than a megabyte; told again and again, they fill every buffer towards the one asleep.
        let prefixes: Vec<IpNet> = (0..300_000_u32)
            .map(|n| IpNet::new(IpAddr::from((0x1400_0000 + (n << 8)).to_be_bytes()), 24).unwrap())
            .collect();
        for round in 0..4 {
            first.announce(prefixes.iter().copied()).await;
            second
                .sees("all the routes", |seen| seen.learned.len() > prefixes.len())
                .await;
            first.withdraw(prefixes.iter().copied()).await;
            second.sees("no route", |seen| seen.learned.len() < 10).await;
            assert_eq!(
                world.control.health().await.unwrap().peers_established,
                3,
                "round {round}"
            );
        }
    });
}

fn a_reset_by_the_operator_ends_the_session_and_it_comes_back() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let _nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        world.control.reset_peer("nva1", false).await.unwrap();
        let again = || async { world.control.peers(Some("rs1")).await.unwrap()[0].established_count == 2 };
        until("the session is up again", again).await;
    });
}

fn metrics_tell_of_peers() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let _nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let text = world.control.metrics().await.unwrap();
        let doubled: Vec<&str> = text.lines().filter(|line| line.ends_with("..")).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
        let line = text
            .lines()
            .find(|line| line.starts_with("routewright_bgp_peer_up{"))
            .unwrap();
        assert!(
            line.ends_with("} 1") && line.contains("peer=\"nva1\"") && line.contains("instance=\"0\""),
            "{line}"
        );
    });
}

fn an_instance_outlives_the_thread_that_started_it_but_not_the_process() {
    with_addresses(ADDRESSES, || async {
        let directory = tempfile::tempdir().unwrap();
        let run_dir = directory.path().to_owned();
        let mut process = std::thread::scope(|scope| scope.spawn(|| Process::start(&run_dir)).join().unwrap());
        let control = ControlClient::new(socket_path(directory.path(), 0));
        until("the instance answers", || async { control.health().await.is_ok() }).await;
        // What the kernel does for us when this process dies, however it dies.
        drop(process.0.stdin.take());
        assert!(process.ended().await.success());
    });
}

fn a_soft_reset_of_a_peer_without_route_refresh_is_refused_with_a_reason() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let refused = world.control.reset_peer("nva1", true).await;
        let Err(ControlError::Refused { status: 409, reason }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("not Established"), "{reason}");
        let _nva = Nva::start_without_route_refresh(NVA1, 65001, OURS);
        world.established(1).await;
        let refused = world.control.reset_peer("nva1", true).await;
        let Err(ControlError::Refused { status: 409, reason }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("hard reset"), "{reason}");
        assert_eq!(world.control.peers(None).await.unwrap()[0].established_count, 1);
    });
}

/// What an agent's table holds, as far as the number of its routes tells.
#[derive(Default)]
struct Counted {
    generation: u64,
    routes: usize,
    /// Pieces heard, of whatever kind.
    pieces: usize,
    /// Snapshots heard to their end.
    snapshots: usize,
    /// Generation and routes of an update that is not complete.
    unfinished: Option<(u64, usize)>,
}

impl Counted {
    fn hear(&mut self, said: to_agent::Body) {
        let (piece, is_snapshot) = match said {
            to_agent::Body::Snapshot(piece) => (piece, true),
            to_agent::Body::Delta(piece) => (piece, false),
            _ => return,
        };
        self.pieces += 1;
        let begun = self
            .unfinished
            .take()
            .filter(|(generation, _)| *generation == piece.generation);
        let before = match (begun, is_snapshot) {
            (Some((_, routes)), _) => routes,
            (None, true) => 0,
            (None, false) => self.routes,
        };
        let routes = before + piece.routes.len() - piece.removed.len();
        if piece.more {
            self.unfinished = Some((piece.generation, routes));
            return;
        }
        assert!(
            is_snapshot || piece.generation == self.generation + 1,
            "a generation is missing"
        );
        self.snapshots += usize::from(is_snapshot);
        (self.generation, self.routes) = (piece.generation, routes);
    }

    async fn read_until(&mut self, agent: &mut tonic::Streaming<ToAgent>, what: &str, done: impl Fn(&Counted) -> bool) {
        hears(agent, what, |said| {
            self.hear(said);
            done(self).then_some(())
        })
        .await;
    }
}

fn an_agent_that_does_not_read_costs_others_nothing_and_catches_up_by_snapshot() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![peer("nva1", NVA1, 65001)])).await;
        let mut asleep = follow(world.directory.path(), "vm").await;
        let mut awake = follow(world.directory.path(), "vm").await;
        let mut counted = Counted::default();
        counted
            .read_until(&mut awake, "a table", |table| table.snapshots > 0)
            .await;
        let system = counted.routes;
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let prefixes: Vec<IpNet> = (0..20_000_u32)
            .map(|n| IpNet::new(IpAddr::from((0x1400_0000 + (n << 8)).to_be_bytes()), 24).unwrap())
            .collect();
        let all = system + prefixes.len();
        for _ in 0..8 {
            nva.announce(prefixes.iter().copied()).await;
            counted
                .read_until(&mut awake, "all routes", |table| table.routes == all)
                .await;
            nva.withdraw(prefixes.iter().copied()).await;
            counted
                .read_until(&mut awake, "no routes", |table| table.routes == system)
                .await;
        }
        nva.announce(prefixes.iter().copied()).await;
        counted
            .read_until(&mut awake, "all routes", |table| table.routes == all)
            .await;

        let mut woken = Counted::default();
        let now = counted.generation;
        woken
            .read_until(&mut asleep, "the table of now", |table| table.generation == now)
            .await;
        assert_eq!(woken.routes, all);
        assert!(woken.snapshots > 1, "it began again");
        assert!(woken.pieces < counted.pieces / 2, "it was spared what was over");
        // And goes on as everybody.
        nva.withdraw(prefixes[..1].iter().copied()).await;
        woken
            .read_until(&mut asleep, "a delta", |table| table.routes == all - 1)
            .await;
    });
}

fn an_agent_of_a_host_with_thousands_of_nics_is_told_of_each() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(1, vec![])).await;
        let nics: Vec<String> = (0..daemon::instance::MAX_NICS_PER_AGENT)
            .map(|n| format!("nic{n}"))
            .collect();
        let mut agent = follow_all(world.directory.path(), nics.clone()).await;
        let mut told = std::collections::BTreeSet::new();
        hears(&mut agent, "each NIC", |said| {
            if let to_agent::Body::Nic(nic) = said {
                told.insert(nic.nic);
            }
            (told.len() == nics.len()).then_some(())
        })
        .await;
    });
}

/// What `sha256sum` says of "one".
const HASH_OF_ONE: &str = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";

fn an_agent_follows_only_what_its_token_is_for_and_as_long_as_it_is() {
    with_addresses(ADDRESSES, || async {
        let tokens = |tokens: &[(&str, &str)]| {
            let all = tokens.iter().map(|(nic, hash)| ((*nic).to_owned(), (*hash).to_owned()));
            Some(all.collect())
        };
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = tokens(&[("vm", HASH_OF_ONE)]);
        let world = World::with(wanted.clone()).await;
        let run_dir = world.directory.path();

        let refused = ask(run_dir, None, &["vm"]).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        assert!(refused.message().contains("agent-token create"), "{refused}");
        // Nobody has such a token: not one word of his is read.
        for nics in [&["vm"][..], &[]] {
            let refused = ask(run_dir, Some("two"), nics).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{nics:?}");
            assert!(refused.message().contains("token is not for"), "{refused}");
        }
        let mut stream = ask(run_dir, Some("one"), &[]).await.unwrap();
        assert_eq!(end_of(&mut stream).await.code(), tonic::Code::InvalidArgument);
        for nics in [&["vm", "other"][..], &["other"]] {
            let token = "one";
            let mut stream = ask(run_dir, Some(token), nics).await.unwrap();
            let refused = end_of(&mut stream).await;
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{token} {nics:?}");
            assert!(refused.message().contains("token is not for"), "{refused}");
        }
        let mut stream = ask(run_dir, Some("one"), &["vm"]).await.unwrap();
        hears(&mut stream, "its NIC", |said| match said {
            to_agent::Body::Nic(nic) => Some(nic),
            _ => None,
        })
        .await;
        wanted.version = 2;
        wanted.agent_tokens = tokens(&[]);
        world.put(&wanted).await.unwrap();
        let refused = end_of(&mut stream).await;
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        // Where no tokens are needed one does no harm.
        wanted.version = 3;
        wanted.agent_tokens = None;
        world.put(&wanted).await.unwrap();
        let mut stream = ask(run_dir, Some("one"), &["vm"]).await.unwrap();
        hears(&mut stream, "its NIC", |said| {
            matches!(said, to_agent::Body::Nic(_)).then_some(())
        })
        .await;
    });
}

fn an_agent_that_comes_before_the_first_intent_is_told_nothing_until_that_says_whether_it_may() {
    with_addresses(ADDRESSES, || async {
        let world = World::start().await;
        let run_dir = world.directory.path();
        let mut stranger = ask(run_dir, None, &["vm"]).await.unwrap();
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = Some([("other".to_owned(), "0".repeat(64))].into());
        world.put(&wanted).await.unwrap();
        let first = soon("an answer", stranger.message()).await.unwrap_err();
        // Unavailable where the intent took longer to come than an agent waits.
        let refusals = [tonic::Code::Unauthenticated, tonic::Code::Unavailable];
        assert!(refusals.contains(&first.code()), "{first}");
    });
}

fn callers_that_never_say_who_they_are_do_not_keep_an_agent_out() {
    with_addresses(ADDRESSES, || async {
        let callers = daemon::instance::MAX_JUDGED + 100;
        allow_open_files(callers as u64 + 200);
        let world = World::with(intent(1, vec![])).await;
        let run_dir = world.directory.path();
        // It has asked, and never says for what.
        let mut client = RoutesClient::new(agent_endpoint(run_dir).await.connect().await.unwrap());
        let (_silent, said) = tokio::sync::mpsc::channel(1);
        let mut nobody = client.follow(ReceiverStream::new(said)).await.unwrap().into_inner();

        let at = std::fs::read_to_string(agents_path(run_dir, 0)).unwrap();
        let mut calls = Vec::new();
        for _ in 0..callers {
            calls.push(tokio::net::TcpStream::connect(at.trim()).await.unwrap());
        }
        let mut agent = follow(run_dir, "vm").await;
        hears(&mut agent, "its NIC", |said| {
            matches!(said, to_agent::Body::Nic(_)).then_some(())
        })
        .await;
        assert_ne!(end_of(&mut nobody).await.code(), tonic::Code::Ok);
        drop(calls);
    });
}

fn an_instance_whose_agents_come_from_anywhere_tells_that_it_lets_nobody_in_once_no_tokens_are_wanted() {
    with_addresses(ADDRESSES, || async {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start_for_agents_anywhere(directory.path());
        let world = World::of(directory, process, 0).await;
        let file = agents_path(world.directory.path(), 0);
        until("agents may connect", || async { file.exists() }).await;
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("https://0.0.0.0:"));
        let problem = || async { world.control.health().await.unwrap().agent_port_problem };
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = Some([("vm".to_owned(), HASH_OF_ONE.to_owned())].into());
        world.put(&wanted).await.unwrap();
        assert_eq!(problem().await, None);
        // The manager has another configuration now, and this process is of before.
        wanted.version = 2;
        wanted.agent_tokens = None;
        world.put(&wanted).await.unwrap();
        assert!(problem().await.unwrap().contains("`routewright upgrade`"));
    });
}

/// The kernel's own limit is often just what is needed here.
fn allow_open_files(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).unwrap();
    }
}

fn an_agent_that_asks_for_what_cannot_be_is_told_so_in_few_words() {
    with_addresses(ADDRESSES, || async {
        let mut wanted = intent(1, vec![]);
        wanted.agent_tokens = Some([("other".to_owned(), HASH_OF_ONE.to_owned())].into());
        let world = World::with(wanted).await;
        let run_dir = world.directory.path();
        for (length, expected) in [
            (2_000, tonic::Code::PermissionDenied),
            (1 << 20, tonic::Code::InvalidArgument),
            // More than is read.
            (3 << 20, tonic::Code::InvalidArgument),
        ] {
            let nic = "n".repeat(length);
            let mut stream = ask(run_dir, Some("one"), &[&nic]).await.unwrap();
            let refused = end_of(&mut stream).await;
            assert_eq!(refused.code(), expected, "{refused}");
            assert!(refused.message().len() < 1_000, "{} octets", refused.message().len());
        }
    });
}

/// An agent with a token.
async fn ask(run_dir: &Path, token: Option<&str>, nics: &[&str]) -> Result<tonic::Streaming<ToAgent>, tonic::Status> {
    let mut client = RoutesClient::new(agent_endpoint(run_dir).await.connect().await.unwrap());
    let hello = Hello {
        agent: "test".into(),
        nics: nics.iter().map(|nic| (*nic).to_owned()).collect(),
        layers: false,
    };
    let (sender, said) = tokio::sync::mpsc::channel(8);
    let body = Some(from_agent::Body::Hello(hello));
    sender.send(FromAgent { body }).await.unwrap();
    // The agent goes on listening although it says nothing more.
    std::mem::forget(sender);
    let mut request = tonic::Request::new(ReceiverStream::new(said));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    client.follow(request).await.map(tonic::Response::into_inner)
}

/// How a stream ends.
async fn end_of(stream: &mut tonic::Streaming<ToAgent>) -> tonic::Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return tonic::Status::ok("ended"),
                Err(status) => return status,
            }
        }
    };
    soon("the stream ends", ended).await
}

fn a_connection_that_asks_for_something_else_is_told_so() {
    with_addresses(ADDRESSES, || async {
        let world = World::start().await;
        let channel = agent_endpoint(world.directory.path()).await.connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<FromAgent, ToAgent>::default();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let answer = client
            .unary(tonic::Request::new(FromAgent::default()), path, codec)
            .await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::Unimplemented);
    });
}

fn the_route_log_survives_a_full_disk_without_half_a_line_and_tells_what_is_missing() {
    let disk = tempfile::tempdir().unwrap();
    mount_disk(disk.path(), 1);
    with_addresses(ADDRESSES, || async {
        let log = disk.path().join("routes.jsonl");
        let mut intent = intent(1, vec![peer("nva1", NVA1, 65001)]);
        intent.logs_routes = true;
        let world = World::start().await;
        let path = log.display().to_string();
        let order = OrderRef {
            intent: &intent,
            route_log: Some(&path),
        };
        world.control.put_intent(order).await.unwrap();
        let nva = Nva::start(NVA1, 65001, OURS, None);
        world.established(1).await;
        let lines = || {
            let text = std::fs::read_to_string(log.with_extension("0.jsonl")).unwrap_or_default();
            // Half a line that stayed would spoil the next one; the last may be on its way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
            whole.lines().map(line).collect::<Vec<_>>()
        };
        let tells = |event: &'static str| lines().iter().any(|line| line["event"] == event);
        until("the session is logged", || async { tells("peerUp") }).await;

        // Far more than the page that the disk has.
        let table: Vec<IpNet> = (0..400u32)
            .map(|n| net(&format!("10.{}.{}.0/24", 64 + n / 256, n % 256)))
            .collect();
        nva.announce(table.clone()).await;
        let held = || async {
            let peers = world.control.peers(None).await.unwrap_or_default();
            peers.iter().any(|peer| peer.routes_received == 400)
        };
        until("the table is held, log or no log", held).await;
        // Whoever writes lets go of the file when the disk is full.
        let file = log.with_extension("0.jsonl");
        until("the disk refuses the table", || async {
            !world.process.has_open(&file)
        })
        .await;
        assert!(!tells("announced"));

        resize_disk(disk.path(), 1024);
        let one = net("10.250.0.0/16");
        let goes_on = || async {
            nva.announce([one]).await;
            nva.withdraw([one]).await;
            tells("withdrawn")
        };
        until("it logs again", goes_on).await;
        assert!(tells("leftOut"));
    });
}
