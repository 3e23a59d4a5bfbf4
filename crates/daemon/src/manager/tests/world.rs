//! A manager with stand-ins for both instances, and what its answers are looked at with.

pub(crate) mod principals;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::control::ControlError;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, StatusCode};
use rib::RouteSource;
use routeserver::Intent;
use routeserver::intent::PeerKind;
use routeserver::report::{
    AdvertisedReport, AgentReport, EffectiveRoute, InstanceReport, PeerReport, RouteReport, WhatIfReport,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::config::Config;
use crate::manager::connections::Way;
use crate::manager::control::{Asked, Control, RoutesOf};
use crate::manager::core::Core;
use crate::manager::keeper::{Keeper, Status};
use crate::manager::sign_in::SignIn;
use crate::manager::sign_in::keys::Keys;
use crate::manager::throttle::Throttle;
use crate::manager::{DEV_TENANT, InstanceHandle, Manager, Metrics, Results, access, activity, http as door};
use crate::store::{SqliteStore, Store};

pub(crate) const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";
/// No test waits longer, also on a machine ten times slower.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn hub(below: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/virtualHubs/rs{below}")
}

/// A signing key that is gone again.
pub(crate) fn keys() -> Keys {
    let place = tempfile::tempdir().unwrap();
    Keys::load_or_make(&place.path().join("key.pem")).unwrap()
}

/// A manager with two stand-ins.
pub(crate) struct World {
    pub(crate) manager: Arc<Manager>,
    pub(crate) fakes: [Arc<Fake>; 2],
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) tasks: Vec<tokio::task::JoinHandle<()>>,
    pub(crate) _directory: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) async fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
        let mut world = World::over(store, &Config::default()).await;
        world._directory = Some(directory);
        world
    }

    pub(crate) async fn over(store: Arc<dyn Store>, config: &Config) -> World {
        let core = Core::load(store, config, false).await.unwrap();
        World::with(core, config, [Fake::new(0), Fake::new(1)])
    }

    /// With instances that may have had a life before.
    pub(crate) fn with(core: Arc<Core>, config: &Config, fakes: [Fake; 2]) -> World {
        core.grant(access::managed_identity_owns_all());
        let (stop, stopping) = watch::channel(false);
        let fakes = fakes.map(Arc::new);
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
                route_log: config.route_log.clone(),
            };
            tasks.push(tokio::spawn(keeper.run(stopping.clone())));
        }
        let statuses = instances.iter().map(|it| it.status.clone()).collect();
        tasks.push(tokio::spawn(Arc::clone(&core).settle(statuses)));
        let manager = Arc::new(Manager {
            core,
            instances,
            results: Results::default(),
            metrics: Metrics::default(),
            sign_in: SignIn::new(keys(), DEV_TENANT, &config.auth, true),
            throttle: Throttle::new(config.throttling),
            refusals: activity::Refusals::default(),
            one_legged: Default::default(),
            published: None,
            is_shared: false,
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

    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        // A thread that makes an intent, which nobody can abort, may hold the store yet.
        let core = Arc::downgrade(&self.manager.core);
        drop(self.manager);
        let deadline = Instant::now() + PATIENCE;
        while core.strong_count() > 0 {
            assert!(
                Instant::now() < deadline,
                "somebody keeps the core, and with it the store"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// With both instances up: what is written then is in force when it is answered.
    pub(crate) async fn make_route_server(&self) {
        self.until(|| self.manager.statuses().iter().all(|status| status.borrow().is_up()))
            .await;
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

    pub(crate) fn version(&self) -> u64 {
        self.manager.core.read(|state| state.resources.version)
    }

    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "the condition did not come true");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As a client over TLS, with a token or without.
    pub(crate) async fn over_tls(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        let arm = path.starts_with("/subscriptions/") && !path.contains('?');
        let version = if arm { "?api-version=2022-01-01" } else { "" };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{path}{version}"))
            .header("host", "localhost:8443");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Way::Tls);
        self.send(request).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.request("PUT", path, Some(body)).await
    }
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None).await
    }
    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.request("POST", path, None).await
    }
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, None).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let arm = path.starts_with("/subscriptions/") && !path.contains('?');
        let version = if arm { "?api-version=2022-01-01" } else { "" };
        let request = http::Request::builder().method(method).uri(format!("{path}{version}"));
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        self.send(request.header("host", "localhost:8080").body(body).unwrap())
            .await
    }

    pub(crate) async fn send(&self, request: http::Request<Body>) -> Answer {
        Answer::read(door::handle(State(Arc::clone(&self.manager)), request).await).await
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Answer {
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

    pub(crate) fn header(&self, name: &str) -> String {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value.to_str().unwrap().to_owned()
    }

    pub(crate) fn code(&self) -> String {
        self.body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Stands in for an instance process.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) index: usize,
    pub(crate) intent: Mutex<Arc<Intent>>,
    pub(crate) pushes: AtomicU64,
    pub(crate) down: AtomicBool,
    pub(crate) drained: AtomicBool,
    /// It answers, and keeps no intent: its run directory is gone, say.
    pub(crate) keeps_nothing: AtomicBool,
    /// The intent of the last dry run.
    pub(crate) tried: Mutex<Option<Arc<Intent>>>,
    /// What it was told that the other one's peers have said.
    pub(crate) others: Mutex<Option<Bytes>>,
}

impl Fake {
    pub(crate) fn new(index: usize) -> Fake {
        Fake {
            index,
            intent: Mutex::default(),
            pushes: AtomicU64::new(0),
            down: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            keeps_nothing: AtomicBool::new(false),
            tried: Mutex::default(),
            others: Mutex::default(),
        }
    }

    pub(crate) fn intent(&self) -> Arc<Intent> {
        Arc::clone(&self.intent.lock().unwrap())
    }

    pub(crate) fn say<T: Send + 'static>(&self, answer: T) -> Asked<'_, T> {
        let answer = match self.down.load(Ordering::Relaxed) {
            true => Err(ControlError::Unreachable("switched off".to_owned())),
            false => Ok(answer),
        };
        std::future::ready(answer).boxed()
    }
}

impl Control for Fake {
    fn put_intent(&self, intent: Arc<Intent>, _route_log: Option<String>) -> Asked<'_, ()> {
        if self.keeps_nothing.load(Ordering::Relaxed) {
            let reason = "the intent cannot be kept: No such file or directory".to_owned();
            return std::future::ready(Err(ControlError::Refused { status: 507, reason })).boxed();
        }
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
            version: None,
            epoch: 1,
            intent_version: self.intent().version,
            converging: false,
            drained: self.drained.load(Ordering::Relaxed),
            peers_established: 0,
            peers: 1,
            peers_down: vec!["/subscriptions/s/bgpconnections/away".to_owned()],
            nvas: Vec::new(),
            agents: 0,
            address_problems: Vec::new(),
            circuit_problems: Vec::new(),
            memory: None,
            agent_port_problem: None,
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

    fn heard(&self) -> Asked<'_, Bytes> {
        self.say(Bytes::from(format!("heard by {}", self.index)))
    }

    fn what_if(&self, wanted: Arc<Intent>, others: Option<Bytes>) -> Asked<'_, WhatIfReport> {
        *self.tried.lock().unwrap() = Some(wanted);
        *self.others.lock().unwrap() = others;
        self.say(WhatIfReport {
            instance: self.index,
            ..WhatIfReport::default()
        })
    }

    fn metrics(&self) -> Asked<'_, String> {
        self.say(format!(
            "# TYPE fake_up gauge\nfake_up{{instance=\"{}\"}} 1\n",
            self.index
        ))
    }

    fn shutdown(&self) -> Asked<'_, ()> {
        let answer = self.say(());
        self.down.store(true, Ordering::Relaxed);
        answer
    }

    fn drain(&self, on: bool) -> Asked<'_, ()> {
        self.drained.store(on, Ordering::Relaxed);
        self.say(())
    }
}

pub(crate) fn peer_report(id: &str, instance: usize) -> PeerReport {
    PeerReport {
        id: id.to_owned(),
        name: "sdwan".to_owned(),
        route_server: String::new(),
        kind: PeerKind::Nva,
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
        routes_stale: 0,
        octets_held: 0,
        kept: Vec::new(),
        drain: None,
        updates_received: 0,
        mended_updates: 0,
        messages_received: 1,
        messages_sent: 1,
        bfd: None,
    }
}

pub(crate) fn route(network: &str, verdict: &str, instance: usize) -> RouteReport {
    RouteReport {
        network: network.parse().unwrap(),
        next_hop: "10.1.1.4".parse().unwrap(),
        peer: hub("/bgpconnections/sdwan").to_ascii_lowercase(),
        source_peer: "10.1.1.4".parse().unwrap(),
        source: RouteSource::Nva,
        internal: false,
        as_path: "65001".to_owned(),
        origin: "igp".to_owned(),
        communities: Vec::new(),
        verdict: verdict.to_owned(),
        reason: None,
        becomes: None,
        stale_secs: None,
        instance,
    }
}
