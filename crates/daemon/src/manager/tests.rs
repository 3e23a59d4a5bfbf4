//! The manager over HTTP (without a port: requests go straight to the handler) with stand-ins for both instances.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::control::ControlError;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures::FutureExt;
use http::{HeaderMap, StatusCode};
use routeserver::Intent;
use routeserver::report::{AdvertisedReport, AgentReport, EffectiveRoute, InstanceReport, PeerReport, RouteReport};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::control::{Asked, Control, RoutesOf};
use super::core::Core;
use super::keeper::{Keeper, Status};
use super::{InstanceHandle, Manager, Metrics, Results, openapi, own_api};
use crate::config::Config;
use crate::store::SqliteStore;

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";
/// No test waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_peering_is_in_force_in_both_instances_when_its_creation_is_answered() {
    let world = World::new().await;
    world.make_route_server().await;
    let answer = world
        .put(
            &hub("/bgpConnections/sdwan"),
            json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": "65001"}}),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    for fake in &world.fakes {
        let intent = fake.intent();
        assert_eq!(intent.route_servers[0].peers[0].address.to_string(), "10.1.1.4");
        assert_eq!(intent.version, world.version());
    }
}

#[tokio::test]
async fn clients_that_follow_a_long_running_operation_find_its_end() {
    let world = World::new().await;
    world.make_route_server().await;
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    let put = world.put(&hub("/bgpConnections/sdwan"), body).await;
    let operation = put.header("azure-asyncoperation");
    assert!(
        operation.starts_with("http://localhost:8080/subscriptions/"),
        "{operation}"
    );
    assert!(operation.ends_with("?api-version=2022-01-01"), "{operation}");
    assert_eq!(put.header("retry-after"), "1");
    assert!(put.headers.get("location").is_none());
    assert_eq!(put.header("etag"), put.body["etag"].as_str().unwrap());
    let state = world.get(operation.trim_start_matches("http://localhost:8080")).await;
    assert_eq!(state.body, json!({"status": "Succeeded"}));

    let gone = world.delete(&hub("/bgpConnections/sdwan")).await;
    assert_eq!((gone.status, &gone.body), (202, &Value::Null));
    let result = world
        .get(gone.header("location").trim_start_matches("http://localhost:8080"))
        .await;
    assert_eq!((result.status, &result.body), (200, &Value::Null));
    assert_eq!(world.delete(&hub("/bgpConnections/sdwan")).await.status, 204);
    let other = world
        .get("/subscriptions/other/providers/Microsoft.Network/locations/l/operations/x?api-version=2022-01-01")
        .await;
    assert_eq!(other.code(), "OperationNotFound");
}

#[tokio::test]
async fn learned_routes_have_both_keys_and_an_instance_that_is_down_has_an_empty_list() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/sdwan");
    world
        .put(&peer, json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}}))
        .await;
    world.fakes[1].down.store(true, Ordering::Relaxed);
    let asked = world.post(&format!("{peer}/learnedRoutes")).await;
    assert_eq!(asked.status, 202);
    assert!(
        asked.headers.get("azure-asyncoperation").is_none(),
        "JS clients fail on it"
    );
    let location = asked.header("location");
    for _ in 0..2 {
        let routes = world.get(location.trim_start_matches("http://localhost:8080")).await;
        assert_eq!(routes.header("location"), location, "PowerShell fetches it once more");
        let first = routes.body["RouteServiceRole_IN_0"].as_array().unwrap();
        assert_eq!(first.len(), 1, "the rejected one is not shown");
        assert_eq!(first[0]["network"], "10.250.0.0/16");
        assert_eq!(first[0]["localAddress"], "10.1.255.4");
        assert_eq!(routes.body["RouteServiceRole_IN_1"], json!([]));
    }
    let ours = world.get(&format!("/routewright/v1/peers{peer}/routes")).await;
    assert_eq!(ours.body["value"].as_array().unwrap().len(), 2);
    assert_eq!(
        world.get(&peer).await.body["properties"]["connectionState"],
        "Connected"
    );
}

#[tokio::test]
async fn what_must_not_come_in_is_refused_in_arms_words() {
    let world = World::new().await;
    let check = async |request: http::Request<Body>, status: u16, code: &str| {
        let text = format!("{} {}", request.method(), request.uri());
        let answer = world.send(request).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{text}");
    };
    let plain = |method: &str, path: &str| {
        http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
    };
    let empty = || Body::empty();
    check(
        plain("GET", "/nothing?api-version=2022-01-01").body(empty()).unwrap(),
        404,
        "InvalidResourceType",
    )
    .await;
    check(
        plain("GET", "/routewright/v1/nothing").body(empty()).unwrap(),
        404,
        "NotFound",
    )
    .await;
    check(
        plain("PUT", "/routewright/v1/health").body(empty()).unwrap(),
        405,
        "MethodNotAllowed",
    )
    .await;
    check(plain("TRACE", GROUP).body(empty()).unwrap(), 405, "MethodNotAllowed").await;
    check(
        plain("GET", "/subscriptions/a/../b").body(empty()).unwrap(),
        400,
        "InvalidRequestUri",
    )
    .await;
    check(
        plain("GET", "/subscriptions//b").body(empty()).unwrap(),
        400,
        "InvalidRequestUri",
    )
    .await;
    check(
        plain("GET", "/subscriptions/a%2Fb").body(empty()).unwrap(),
        400,
        "InvalidRequestUri",
    )
    .await;
    let put = || plain("PUT", "/subscriptions/s/resourceGroups/g?api-version=2022-01-01");
    check(
        put().body(Body::from("{\"a\": ")).unwrap(),
        400,
        "InvalidRequestContent",
    )
    .await;
    check(
        put().body(Body::from(vec![b' '; 5 << 20])).unwrap(),
        413,
        "RequestContentTooLarge",
    )
    .await;
    check(
        put().header("origin", "http://evil.example").body(empty()).unwrap(),
        403,
        "InvalidOrigin",
    )
    .await;
    let evil = http::Request::builder().uri("/metrics").header("host", "evil.example");
    check(evil.body(empty()).unwrap(), 421, "InvalidHost").await;
    check(
        http::Request::builder().uri("/metrics").body(empty()).unwrap(),
        421,
        "InvalidHost",
    )
    .await;
    check(
        plain("GET", GROUP).body(empty()).unwrap(),
        400,
        "MissingApiVersionParameter",
    )
    .await;
}

#[tokio::test]
async fn a_broken_body_is_told_with_line_and_column() {
    let world = World::new().await;
    let request = http::Request::builder()
        .method("PUT")
        .uri(format!("{GROUP}?api-version=2022-01-01"));
    let request = request
        .header("host", "localhost")
        .body(Body::from("{\n  \"a\": 1,,\n}"));
    let answer = world.send(request.unwrap()).await;
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("line 2 column"), "{message}");
}

#[tokio::test]
async fn settings_survive_what_arm_clients_do_and_go_with_their_resource() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/sdwan");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    world.put(&peer, body.clone()).await;
    let settings = format!("/routewright/v1{peer}/settings");
    assert_eq!(world.get(&settings).await.body, json!({}));
    let wrong = world.put(&settings, json!({"holdTimeSecs": 1, "dail": true})).await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.body["error"]["details"].as_array().unwrap().len(), 2);
    assert_eq!(
        world
            .put(&settings, json!({"holdTimeSecs": 9, "dial": false}))
            .await
            .status,
        200
    );
    world.put(&peer, body.clone()).await;
    let patched = world.request("PATCH", &settings, Some(json!({"dial": null}))).await;
    assert_eq!(patched.body, json!({"holdTimeSecs": 9}));
    world.until(|| world.fakes[0].intent().version == world.version()).await;
    assert_eq!(world.fakes[0].intent().route_servers[0].peers[0].hold_time_secs, 9);
    world.delete(&peer).await;
    world.put(&peer, body).await;
    assert_eq!(world.get(&settings).await.body, json!({}));
    assert_eq!(world.delete(&settings).await.status, 204);
    assert_eq!(
        world
            .get(&format!("/routewright/v1{}/settings", hub("/bgpConnections/none")))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_restarted_instance_is_told_again_and_one_that_follows_is_left_alone() {
    let world = World::new().await;
    world.make_route_server().await;
    world
        .until(|| world.fakes.iter().all(|fake| fake.intent().version == world.version()))
        .await;
    let pushes = world.fakes[1].pushes.load(Ordering::Relaxed);
    *world.fakes[0].intent.lock().unwrap() = Arc::default();
    world.until(|| world.fakes[0].intent().version == world.version()).await;
    assert_eq!(world.fakes[1].pushes.load(Ordering::Relaxed), pushes);
}

#[tokio::test]
async fn an_instance_with_a_newer_intent_than_the_store_is_outrun() {
    let world = World::new().await;
    let newer = Intent {
        version: 1000,
        ..Intent::default()
    };
    *world.fakes[0].intent.lock().unwrap() = Arc::new(newer);
    world.until(|| world.version() > 1000).await;
    world
        .until(|| world.fakes.iter().all(|fake| fake.intent().version == world.version()))
        .await;
}

#[tokio::test]
async fn a_restarted_manager_has_everything_and_makes_no_new_version_unless_the_configuration_changed() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(SqliteStore::open(directory.path()).unwrap());
    let world = World::over(open(), &Config::default()).await;
    world.make_route_server().await;
    let (version, resources) = world
        .manager
        .core
        .read(|state| (state.resources.version, state.resources.clone()));
    world.end().await;
    let again = Core::load(open(), &Config::default()).await.unwrap();
    assert_eq!(again.read(|state| state.resources.clone()), resources);
    drop(again);
    let mut changed = Config::default();
    changed.limits.peers = 0;
    let again = Core::load(open(), &changed).await.unwrap();
    assert_eq!(again.read(|state| state.resources.version), version + 1);
}

#[tokio::test]
async fn health_names_what_is_wrong() {
    let world = World::new().await;
    world
        .until(|| world.manager.statuses().iter().all(|status| status.borrow().is_up()))
        .await;
    let health = world.get("/routewright/v1/health").await.body;
    assert_eq!((&health["status"], &health["problems"]), (&json!("ok"), &json!([])));
    assert_eq!(
        health["instances"][0]["peersDown"],
        json!(["/subscriptions/s/bgpconnections/away"]),
        "a peer that is away is told, and makes nothing degraded"
    );
    world.fakes[1].down.store(true, Ordering::Relaxed);
    world.until(|| !world.manager.statuses()[1].borrow().is_up()).await;
    let health = world.get("/routewright/v1/health").await.body;
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["instances"][1]["state"], "down");
    assert!(
        health["problems"][0]
            .as_str()
            .unwrap()
            .starts_with("instance 1 is down"),
        "{health}"
    );
    let metrics = world.get("/metrics").await.text;
    assert!(
        metrics.contains("routewright_manager_instance_up{instance=\"1\"} 0"),
        "{metrics}"
    );
    assert!(metrics.contains("fake_up{instance=\"0\"} 1"), "{metrics}");
    let doubled: Vec<&str> = metrics.lines().filter(|line| line.ends_with("..")).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
}

#[tokio::test]
async fn a_soft_reset_that_no_instance_can_do_is_a_conflict_that_says_what_to_do() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/sdwan");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    world.put(&peer, body).await;
    let reset = format!("/routewright/v1/peers{peer}/reset");
    assert_eq!(world.request("POST", &reset, None).await.status, 204);
    let refused = world.request("POST", &format!("{reset}?soft=true"), None).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["error"]["code"], "SoftResetNotPossible");
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert_eq!(message.matches("hard reset").count(), 1, "{message}");
}

#[tokio::test]
async fn a_password_is_taken_kept_and_never_told() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/sdwan");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    world.put(&peer, body).await;
    let settings = format!("/routewright/v1{peer}/settings");
    let stored = || {
        world
            .manager
            .core
            .read(|state| state.settings.by_key[&peer.to_ascii_lowercase()].clone())
    };

    let answer = world
        .put(&settings, json!({"md5Password": "hunter2", "dial": false}))
        .await;
    let shown = json!({"dial": false, "md5PasswordSet": true});
    assert_eq!((answer.status, &answer.body), (200, &shown));
    assert_eq!(world.get(&settings).await.body, shown);

    // GET, change, PUT, as clients do: the password stays although it was never told.
    let mut changed = shown.clone();
    changed["dial"] = json!(true);
    assert_eq!(world.put(&settings, changed).await.status, 200);
    assert_eq!(stored(), json!({"dial": true, "md5Password": "hunter2"}));
    let patched = world
        .request("PATCH", &settings, Some(json!({"holdTimeSecs": 9})))
        .await;
    assert_eq!(
        patched.body,
        json!({"dial": true, "holdTimeSecs": 9, "md5PasswordSet": true})
    );

    assert_eq!(world.put(&settings, json!({"md5Password": null})).await.body, json!({}));
    assert_eq!(stored(), json!({}));
    let patch = json!({"md5Password": "again"});
    world.request("PATCH", &settings, Some(patch)).await;
    let gone = world
        .request("PATCH", &settings, Some(json!({"md5Password": null})))
        .await;
    assert_eq!(gone.body, json!({}));
}

#[test]
fn the_checked_in_openapi_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&openapi::document()).unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        checked_in == current,
        "docs/openapi.json is out of date: run this test with UPDATE_DOCS=1"
    );
}

#[test]
fn the_openapi_schemas_name_exactly_the_members_that_reports_have() {
    let document = openapi::document();
    let check = |schema: &str, sample: Value, also: &[&str]| {
        let schema_members = document["components"]["schemas"][schema]["properties"]
            .as_object()
            .unwrap();
        let mut members: Vec<&str> = sample.as_object().unwrap().keys().map(String::as_str).collect();
        members.extend(also);
        members.sort_unstable();
        let mut told: Vec<&str> = schema_members.keys().map(String::as_str).collect();
        told.sort_unstable();
        assert_eq!(told, members, "{schema}");
    };
    check("PeerReport", json!(peer_report("p", 0)), &[]);
    check("RouteReport", json!(route("10.0.0.0/8", "best", 0)), &[]);
    let advertised = AdvertisedReport {
        network: "10.0.0.0/8".parse().unwrap(),
        next_hop: "10.0.0.1".parse().unwrap(),
        as_path: String::new(),
        communities: Vec::new(),
    };
    check("AdvertisedReport", json!(advertised), &["instance"]);
    assert!(
        own_api::ENDPOINTS
            .iter()
            .all(|endpoint| endpoint.path.starts_with("/routewright/v1/"))
    );
}

fn hub(below: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/virtualHubs/rs{below}")
}

/// A manager with two stand-ins.
struct World {
    manager: Arc<Manager>,
    fakes: [Arc<Fake>; 2],
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _directory: Option<tempfile::TempDir>,
}

impl World {
    async fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
        let mut world = World::over(store, &Config::default()).await;
        world._directory = Some(directory);
        world
    }

    async fn over(store: Arc<SqliteStore>, config: &Config) -> World {
        let core = Core::load(store, config).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let fakes = [Arc::new(Fake::new(0)), Arc::new(Fake::new(1))];
        let mut tasks = vec![tokio::spawn(Arc::clone(&core).make_intents())];
        let mut instances = Vec::new();
        for (index, fake) in fakes.iter().enumerate() {
            let status = watch::Sender::new(Status::default());
            let control: Arc<dyn Control> = fake.clone();
            instances.push(InstanceHandle {
                index,
                control: Arc::clone(&control),
                status: status.subscribe(),
            });
            let keeper = Keeper {
                index,
                control,
                status,
                launcher: None,
                core: Arc::clone(&core),
            };
            tasks.push(tokio::spawn(keeper.run(stopping.clone())));
        }
        let manager = Arc::new(Manager {
            core,
            instances,
            results: Results::default(),
            metrics: Metrics::default(),
            dev: true,
            started: Instant::now(),
        });
        World {
            manager,
            fakes,
            stop,
            tasks,
            _directory: None,
        }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }

    async fn make_route_server(&self) {
        let network = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/hub");
        let subnet = |name: &str, prefix: &str| json!({"name": name, "properties": {"addressPrefix": prefix}});
        let address = format!("{GROUP}/providers/Microsoft.Network/publicIPAddresses/pip");
        let steps = [
            (GROUP.to_owned(), json!({"location": "westeurope"})),
            (
                network.clone(),
                json!({"location": "westeurope", "properties": {
                    "addressSpace": {"addressPrefixes": ["10.1.0.0/16"]},
                    "subnets": [subnet("RouteServerSubnet", "10.1.255.0/27"), subnet("nva", "10.1.1.0/24")],
                }}),
            ),
            (
                address.clone(),
                json!({"location": "westeurope", "sku": {"name": "Standard"}, "properties": {"publicIPAllocationMethod": "Static"}}),
            ),
            (
                hub(""),
                json!({"location": "westeurope", "properties": {"sku": "Standard"}}),
            ),
            (
                hub("/ipConfigurations/Default"),
                json!({"properties": {
                    "subnet": {"id": format!("{network}/subnets/RouteServerSubnet")}, "publicIPAddress": {"id": address},
                }}),
            ),
        ];
        for (path, body) in steps {
            let answer = self.put(&path, body).await;
            assert_eq!(answer.status, 201, "{path}: {}", answer.body);
        }
    }

    fn version(&self) -> u64 {
        self.manager.core.read(|state| state.resources.version)
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "the condition did not come true");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.request("PUT", path, Some(body)).await
    }
    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None).await
    }
    async fn post(&self, path: &str) -> Answer {
        self.request("POST", path, None).await
    }
    async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, None).await
    }

    async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let arm = path.starts_with("/subscriptions/") && !path.contains('?');
        let version = if arm { "?api-version=2022-01-01" } else { "" };
        let request = http::Request::builder().method(method).uri(format!("{path}{version}"));
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        self.send(request.header("host", "localhost:8080").body(body).unwrap())
            .await
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        Answer::read(super::http::handle(State(Arc::clone(&self.manager)), request).await).await
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Answer {
    async fn read(response: Response) -> Answer {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_ne!(parts.status, StatusCode::INTERNAL_SERVER_ERROR, "{text}");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    fn header(&self, name: &str) -> String {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap().to_owned()
    }

    fn code(&self) -> String {
        self.body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Stands in for an instance process.
#[derive(Debug)]
struct Fake {
    index: usize,
    intent: Mutex<Arc<Intent>>,
    pushes: AtomicU64,
    down: AtomicBool,
}

impl Fake {
    fn new(index: usize) -> Fake {
        Fake {
            index,
            intent: Mutex::default(),
            pushes: AtomicU64::new(0),
            down: AtomicBool::new(false),
        }
    }

    fn intent(&self) -> Arc<Intent> {
        Arc::clone(&self.intent.lock().unwrap())
    }

    fn say<T: Send + 'static>(&self, answer: T) -> Asked<'_, T> {
        let answer = match self.down.load(Ordering::Relaxed) {
            true => Err(ControlError::Unreachable("switched off".to_owned())),
            false => Ok(answer),
        };
        std::future::ready(answer).boxed()
    }
}

impl Control for Fake {
    fn put_intent(&self, intent: Arc<Intent>) -> Asked<'_, ()> {
        let mut own = self.intent.lock().unwrap();
        if own.version > intent.version {
            return std::future::ready(Err(ControlError::NewerIntent)).boxed();
        }
        *own = intent;
        self.pushes.fetch_add(1, Ordering::Relaxed);
        self.say(())
    }

    fn health(&self) -> Asked<'_, InstanceReport> {
        self.say(InstanceReport {
            instance: self.index,
            epoch: 1,
            intent_version: self.intent().version,
            converging: false,
            peers_established: 0,
            peers: 1,
            peers_down: vec!["/subscriptions/s/bgpconnections/away".to_owned()],
            agents: 0,
            address_problems: Vec::new(),
        })
    }

    fn peers(&self, route_server: Option<&str>) -> Asked<'_, Vec<PeerReport>> {
        let id = format!("{}/bgpconnections/sdwan", route_server.unwrap_or_default());
        self.say(vec![peer_report(&id, self.index)])
    }

    fn reset(&self, _peer: &str, soft: bool) -> Asked<'_, ()> {
        if soft {
            let reason = "the peer cannot be asked; use a hard reset".to_owned();
            return std::future::ready(Err(ControlError::Refused { status: 409, reason })).boxed();
        }
        self.say(())
    }

    fn routes(&self, _of: &RoutesOf) -> Asked<'_, Vec<RouteReport>> {
        self.say(vec![
            route("10.250.0.0/16", "best", self.index),
            route("10.1.0.0/16", "rejected", self.index),
        ])
    }

    fn advertised(&self, _peer: &str) -> Asked<'_, Vec<AdvertisedReport>> {
        self.say(Vec::new())
    }

    fn effective_routes(&self, _nic: &str) -> Asked<'_, Vec<EffectiveRoute>> {
        self.say(Vec::new())
    }

    fn agents(&self) -> Asked<'_, Vec<AgentReport>> {
        self.say(Vec::new())
    }

    fn metrics(&self) -> Asked<'_, String> {
        self.say(format!(
            "# TYPE fake_up gauge\nfake_up{{instance=\"{}\"}} 1\n",
            self.index
        ))
    }

    fn shutdown(&self) -> Asked<'_, ()> {
        self.down.store(true, Ordering::Relaxed);
        self.say(())
    }
}

fn peer_report(id: &str, instance: usize) -> PeerReport {
    PeerReport {
        id: id.to_owned(),
        name: "sdwan".to_owned(),
        route_server: String::new(),
        instance,
        local_address: "10.1.255.4".parse().unwrap(),
        peer_address: "10.1.1.4".parse().unwrap(),
        peer_asn: 65001,
        state: "Established".to_owned(),
        since_secs: Some(1),
        established_count: 1,
        last_error: None,
        last_down: None,
        last_attempt_error: None,
        hold_time_secs: Some(180),
        peer_identifier: None,
        capabilities: Vec::new(),
        direction: None,
        routes_received: 2,
        routes_accepted: 1,
        routes_advertised: 1,
        route_limit: 4000,
        updates_received: 0,
        mended_updates: 0,
        messages_received: 1,
        messages_sent: 1,
    }
}

fn route(network: &str, verdict: &str, instance: usize) -> RouteReport {
    RouteReport {
        network: network.parse().unwrap(),
        next_hop: "10.1.1.4".parse().unwrap(),
        peer: hub("/bgpconnections/sdwan").to_ascii_lowercase(),
        source_peer: "10.1.1.4".parse().unwrap(),
        as_path: "65001".to_owned(),
        origin: "igp".to_owned(),
        communities: Vec::new(),
        verdict: verdict.to_owned(),
        reason: None,
        instance,
    }
}
