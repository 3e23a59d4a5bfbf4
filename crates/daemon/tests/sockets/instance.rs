//! The instance process from outside: control socket, peers, agents, signals.

use std::net::IpAddr;
use std::path::Path;

use api::agent::routes_client::RoutesClient;
use api::agent::{FromAgent, Hello, ToAgent, from_agent, to_agent};
use api::control::{ControlClient, ControlError, agents_path, socket_path};
use bgp::{Asn, IpNet};
use routeserver::Intent;
use routeserver::intent::{NicIntent, PeerIntent, RouteServerIntent, SubnetIntent, VirtualNetworkIntent};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::nva::{Nva, establish_and_fall_asleep};
use crate::world::{Process, address, ip, soon, until, with_addresses};

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
];

const OURS: &str = "10.1.1.4";
const NVA1: &str = "10.1.2.4";
const NVA2: &str = "10.1.3.4";
const ADDRESSES: &[&str] = &[OURS, NVA1, NVA2];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn peer(id: &str, address: &str, asn: u32) -> PeerIntent {
    PeerIntent {
        id: id.into(),
        name: id.into(),
        address: address.parse().unwrap(),
        asn: Asn(asn),
        hold_time_secs: 180,
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
    }
}

fn intent(version: u64, peers: Vec<PeerIntent>) -> Intent {
    let subnet = |id: &str, prefix: &str| SubnetIntent {
        id: id.into(),
        name: id.into(),
        prefixes: vec![net(prefix)],
        route_table: None,
    };
    Intent {
        route_log: None,
        version,
        route_servers: vec![RouteServerIntent {
            id: "rs1".into(),
            name: "rs1".into(),
            asn: Asn::AZURE_ROUTE_SERVER,
            virtual_network: "hub".into(),
            subnet: net("10.1.1.0/26"),
            instance_addresses: [address(OURS), address("10.1.1.5")],
            branch_to_branch: true,
            preference: rib::Preference::default(),
            namespace: None,
            converge_secs: 120,
            peers,
            ipv6: false,
            total_routes: 0,
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
struct World {
    directory: tempfile::TempDir,
    process: Process,
    control: ControlClient,
}

impl World {
    async fn start() -> World {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(directory.path());
        let control = ControlClient::new(socket_path(directory.path(), 0));
        let world = World {
            directory,
            process,
            control,
        };
        world.answers().await;
        world
    }

    async fn answers(&self) {
        until("the instance answers", || async { self.control.health().await.is_ok() }).await;
    }

    async fn with(intent: Intent) -> World {
        let world = World::start().await;
        world.control.put_intent(&intent).await.unwrap();
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

    async fn established(&self, peers: usize) {
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
    let file = agents_path(run_dir, 0);
    until("agents may connect", || async { file.exists() }).await;
    let at = std::fs::read_to_string(file).unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", at.trim())).unwrap();
    let mut client = RoutesClient::new(endpoint.connect().await.unwrap());
    let hello = Hello {
        agent: "test".into(),
        nics: vec![nic.into()],
    };
    let (sender, said) = tokio::sync::mpsc::channel(8);
    sender
        .send(FromAgent {
            body: Some(from_agent::Body::Hello(hello)),
        })
        .await
        .unwrap();
    // The agent goes on listening although it says nothing more.
    std::mem::forget(sender);
    client.follow(ReceiverStream::new(said)).await.unwrap().into_inner()
}

/// Reads until something is said that is wanted.
async fn hears<T>(
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

fn update(body: to_agent::Body) -> Option<api::agent::TableUpdate> {
    match body {
        to_agent::Body::Snapshot(update) | to_agent::Body::Delta(update) => Some(update),
        _ => None,
    }
}

/// The next hops of a prefix, if the update has it with a group.
fn members(update: &api::agent::TableUpdate, prefix: IpNet) -> Option<Vec<IpAddr>> {
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
        let status = tokio::time::timeout(std::time::Duration::from_secs(5), world.process.ended()).await;
        assert!(status.expect("it takes more than 5 s").success());
        // Cease / Administrative Shutdown (RFC 4486 §4).
        nva.sees("the farewell", |seen| seen.notification == Some((6, 2))).await;
        assert!(!socket_path(world.directory.path(), 0).exists());
    });
}

fn an_older_intent_is_refused() {
    with_addresses(ADDRESSES, || async {
        let world = World::with(intent(5, vec![])).await;
        let refused = world.control.put_intent(&intent(4, vec![])).await;
        assert_eq!(refused, Err(ControlError::NewerIntent));
        assert_eq!(world.control.put_intent(&intent(5, vec![])).await, Ok(()));
        assert_eq!(world.control.put_intent(&intent(6, vec![])).await, Ok(()));
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
        world
            .control
            .put_intent(&intent(1, vec![peer("nva1", NVA1, 65001)]))
            .await
            .unwrap();
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
