//! Two managers over one etcd, and stores that are not the ones that were followed. Nothing tells a manager here of what the other one
//! writes (nobody runs `Core::follow`), so what it knows is old until it asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::future::{BoxFuture, join_all};
use routeserver::Intent;
use serde_json::{Value, json};

use super::world::principals::{service_principal, sign_in, signed_in, token};
use super::world::{Fake, GROUP, PATIENCE, World, hub};
use crate::config::Config;
use crate::manager::DEV_TENANT;
use crate::manager::core::Core;
use crate::store::etcd::cluster::Cluster;
use crate::store::etcd::tests::{cluster, store};
use crate::store::{
    Activity, ActivityRange, Batch, EtcdStore, Operation, SqliteStore, Store, StoreError, Stored, backup,
};

const NETWORK: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/hub";

async fn two(cluster: &Cluster) -> [World; 2] {
    let world = async |writer| World::over(Arc::new(store(cluster, "/rw/", writer)), &Config::default()).await;
    [world("0").await, world("1").await]
}

fn place() -> Value {
    json!({"location": "westeurope"})
}

fn network() -> Value {
    json!({"location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": ["10.1.0.0/16"]}}})
}

fn message(text: &Value) -> &str {
    text["error"]["message"].as_str().unwrap_or_default()
}

/// Instances of a former life that follow this version.
fn following(version: u64) -> [Fake; 2] {
    [0, 1].map(|index| {
        let fake = Fake::new(index);
        *fake.intent.lock().unwrap() = Arc::new(Intent {
            version,
            ..Intent::default()
        });
        fake
    })
}

async fn over(store: Arc<dyn Store>, is_restored: bool, fakes: [Fake; 2]) -> World {
    let config = Config::default();
    let followed: Vec<(usize, u64)> = fakes.iter().map(|fake| (fake.index, fake.intent().version)).collect();
    let core = Core::load_for(store, &config, is_restored, &followed).await.unwrap();
    World::with(core, &config, fakes)
}

/// Nothing is written, nothing is handed out, and it is said what to do.
async fn is_held(world: &World, followed: u64) {
    world.until(|| world.manager.core.not_held().is_err()).await;
    let refused = world.put(GROUP, place()).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "StoreWentBack"),
        "{}",
        refused.text
    );
    let health = world.get("/routewright/v1/health").await.body;
    assert_eq!(health["status"], "degraded");
    for words in [message(&refused.body), &health["problems"].to_string()] {
        for said in ["went back", "prefix", "--restored", &format!("version {followed}")] {
            assert!(words.contains(said), "{said}: {words}");
        }
    }
    assert_eq!(world.get("/healthz").await.status, 503);
    for fake in &world.fakes {
        assert_eq!(fake.intent().version, followed, "instances keep what they follow");
    }
}

#[tokio::test]
async fn what_was_written_at_one_machine_can_be_built_upon_at_the_other_at_once() {
    let Some(cluster) = cluster(1) else { return };
    let [first, second] = two(&cluster).await;
    assert_eq!(first.put(GROUP, place()).await.status, 201);
    let made = second.put(NETWORK, network()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let subnet = format!("{NETWORK}/subnets/web");
    let made = first
        .put(&subnet, json!({"properties": {"addressPrefix": "10.1.1.0/24"}}))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    // Who asks for one thing is told of it, and what it is about.
    let found = second.get(&subnet).await;
    assert_eq!(found.status, 200, "{}", found.text);
    let settings = |of: &str| format!("/routewright/v1{of}/settings");
    let table = format!("{GROUP}/providers/Microsoft.Network/routeTables/t");
    assert_eq!(second.put(&table, place()).await.status, 201);
    assert_eq!(first.get(&settings(&table)).await.status, 200);
    // A condition that holds by now is no reason to refuse.
    let tagged = json!({"location": "westeurope", "tags": {"a": "b"}});
    let etag = second.put(&table, tagged.clone()).await.header("etag");
    let request = http::Request::put(format!("{table}?api-version=2022-01-01")).header("host", "localhost");
    let request = request
        .header("if-match", etag)
        .body(tagged.to_string().into())
        .unwrap();
    assert_eq!(first.send(request).await.status, 200);
    // What the other machine has made is deleted, and not taken for something that is gone already.
    let late = format!("{GROUP}/providers/Microsoft.Network/routeTables/late");
    assert_eq!(second.put(&late, place()).await.status, 201);
    assert_eq!(first.delete(&late).await.status, 200);
    let kept = cluster
        .etcdctl(&["get", "--prefix", "--keys-only", "/rw/resources"])
        .unwrap();
    assert!(kept.contains("routetables/t") && !kept.contains("late"), "{kept}");
}

#[tokio::test]
async fn who_was_let_in_at_one_machine_is_let_in_at_the_other_at_once() {
    let Some(cluster) = cluster(1) else { return };
    let [first, second] = two(&cluster).await;
    let (client_id, secret) = service_principal(&first, "Contributor").await;
    let path = format!("/{DEV_TENANT}/oauth2/v2.0/token");
    let token = token(&sign_in(&second, &path, &client_id, &secret).await);
    let made = second.over_tls("PUT", GROUP, Some(&token), &place().to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

#[tokio::test]
async fn how_an_operation_went_is_told_at_either_machine() {
    let Some(cluster) = cluster(1) else { return };
    let [first, second] = two(&cluster).await;
    assert_eq!(first.put(GROUP, place()).await.status, 201);
    let body = json!({"location": "westeurope", "properties": {"sku": "Standard"}});
    let made = first.put(&hub(""), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let operation = made.header("azure-asyncoperation");
    let path = operation.trim_start_matches("http://localhost:8080");
    let version = first.version();
    first
        .until(|| first.fakes.iter().all(|fake| fake.intent().version == version))
        .await;
    for world in [&first, &second] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = world.get(path).await;
            assert_eq!(state.status, 200, "{}", state.text);
            if state.body == json!({"status": "Succeeded"}) {
                break;
            }
            assert!(Instant::now() < deadline, "{}", state.text);
        }
    }
}

#[tokio::test]
async fn a_store_below_another_prefix_ends_no_session() {
    let Some(cluster) = cluster(1) else { return };
    let empty = Arc::new(store(&cluster, "/typo/", "0"));
    let world = over(empty, false, following(1000)).await;
    is_held(&world, 1000).await;
    let kept = async |world: &World, prefix: &str| {
        world.manager.core.probe_store().await;
        world.manager.core.forget_activity(i64::MAX).await;
        cluster.etcdctl(&["get", "--prefix", prefix]).unwrap()
    };
    assert_eq!(kept(&world, "/typo/").await.trim(), "", "nothing is written to it");

    // Another deployment's keeps what it has, and is none of ours before an instance follows what we made of it.
    let theirs = World::over(Arc::new(store(&cluster, "/theirs/", "0")), &Config::default()).await;
    assert_eq!(theirs.put(GROUP, place()).await.status, 201);
    theirs.end().await;
    let before = cluster.etcdctl(&["get", "--prefix", "/theirs/"]).unwrap();
    assert!(before.contains("activity/w/"), "{before}");
    let mistaken = over(Arc::new(store(&cluster, "/theirs/", "1")), false, following(1000)).await;
    is_held(&mistaken, 1000).await;
    assert_eq!(kept(&mistaken, "/theirs/").await, before);
    let restarted = Arc::new(store(&cluster, "/theirs/", "0"));
    let core = Core::load(restarted, &Config::default(), false).await.unwrap();
    core.forget_activity(i64::MAX).await;
    assert_eq!(cluster.etcdctl(&["get", "--prefix", "/theirs/"]).unwrap(), before);
}

/// Counts how often it is asked how far it is.
#[derive(Debug)]
struct Counted {
    store: EtcdStore,
    asked: AtomicU64,
}

impl Store for Counted {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.store.load()
    }
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.commit(batch)
    }
    fn operation(&self, id: &str) -> BoxFuture<'_, Result<Option<Operation>, StoreError>> {
        self.store.operation(id)
    }
    fn record(&self, events: Vec<Activity>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.record(events)
    }
    fn activity(&self, range: ActivityRange) -> BoxFuture<'_, Result<Vec<(i64, Value)>, StoreError>> {
        self.store.activity(range)
    }
    fn forget_activity(&self, before_micros: i64) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.store.forget_activity(before_micros)
    }
    fn probe(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.probe()
    }
    fn describe(&self) -> String {
        self.store.describe()
    }
    fn latest(&self) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.store.latest()
    }
}

#[tokio::test]
async fn many_who_are_refused_at_once_ask_the_store_once() {
    let Some(cluster) = cluster(1) else { return };
    let counted = Arc::new(Counted {
        store: store(&cluster, "/rw/", "0"),
        asked: AtomicU64::new(0),
    });
    let core = Core::load(counted.clone(), &Config::default(), false).await.unwrap();
    let before = counted.asked.load(Ordering::Relaxed);
    join_all((0..100).map(|_| core.look_again())).await;
    // For the first, and for all who came when that was under way.
    let asked = counted.asked.load(Ordering::Relaxed) - before;
    assert!((1..=3).contains(&asked), "{asked}");
}

#[tokio::test]
async fn what_is_wrong_in_itself_is_told_so_also_without_the_store() {
    let Some(mut cluster) = cluster(1) else { return };
    let world = World::over(Arc::new(store(&cluster, "/rw/", "0")), &Config::default()).await;
    assert_eq!(world.put(GROUP, place()).await.status, 201);
    let reader = signed_in(&world, "Reader", GROUP).await;
    cluster.kill(0);
    let wrong = json!({"location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": ["x"]}}});
    let refused = world.put(NETWORK, wrong).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    let refused = world
        .over_tls("PUT", NETWORK, Some(&reader), &network().to_string())
        .await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let refused = world.put(NETWORK, network()).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let refused = world.delete(NETWORK).await;
    assert_eq!(
        refused.status, 503,
        "nothing to do, and not known to be: {}",
        refused.text
    );
}

#[tokio::test]
async fn a_store_that_went_back_while_it_was_followed_is_held_and_said_so() {
    let Some(cluster) = cluster(1) else { return };
    let [asked, probed] = two(&cluster).await;
    assert_eq!(asked.put(GROUP, place()).await.status, 201);
    probed.manager.core.probe_store().await;
    let version = asked.version();
    assert_eq!(probed.version(), version, "the probe looks for what others wrote, too");
    for world in [&asked, &probed] {
        world
            .until(|| world.fakes.iter().all(|fake| fake.intent().version == version))
            .await;
    }
    cluster.etcdctl(&["del", "--prefix", "/rw/"]).unwrap();
    // The one by a client's write.
    assert_eq!(asked.put(NETWORK, network()).await.code(), "StoreWentBack");
    is_held(&asked, version).await;
    assert_eq!(asked.get(GROUP).await.status, 200, "what is known is told");
    // The other one by itself.
    probed.manager.core.probe_store().await;
    is_held(&probed, version).await;
}

#[tokio::test]
async fn a_store_of_which_it_is_said_that_it_was_restored_is_followed() {
    let Some(cluster) = cluster(1) else { return };
    let restored = Arc::new(store(&cluster, "/rw/", "0"));
    let world = over(restored, true, following(1000)).await;
    world.until(|| world.version() > 1000).await;
    world
        .until(|| world.fakes.iter().all(|fake| fake.intent().version == world.version()))
        .await;
    assert_eq!(world.put(GROUP, place()).await.status, 201);
}

#[tokio::test]
async fn a_data_directory_without_its_store_ends_no_session_and_a_restored_backup_is_followed() {
    let place_of = tempfile::tempdir().unwrap();
    let (directory, saved) = (place_of.path().join("data"), place_of.path().join("saved"));
    let open = || Arc::new(SqliteStore::open(&directory).unwrap());
    let world = World::over(open(), &Config::default()).await;
    assert_eq!(world.put(GROUP, place()).await.status, 201);
    backup::backup(&directory, &saved).unwrap();
    world.end().await;
    std::fs::remove_file(directory.join("routewright.sqlite3")).unwrap();

    let world = over(open(), false, following(1000)).await;
    is_held(&world, 1000).await;
    world.end().await;

    backup::restore(&saved, &directory, true).unwrap();
    let world = over(open(), false, following(1000)).await;
    world.until(|| world.version() > 1000).await;
    world
        .until(|| world.fakes.iter().all(|fake| fake.intent().version == world.version()))
        .await;
    assert_eq!(world.get(GROUP).await.status, 200);
    // That was for once.
    world.until(|| !world.manager.core.is_restored()).await;
    world.end().await;
    assert!(!open().load().await.unwrap().is_restored);

    // Nor is it one for ever where nothing had to be outrun.
    backup::restore(&saved, &directory, true).unwrap();
    let world = over(open(), false, [0, 1].map(Fake::new)).await;
    world.until(|| !world.manager.core.is_restored()).await;
    world.end().await;
    assert!(!open().load().await.unwrap().is_restored);
}

#[tokio::test]
async fn a_restored_backup_is_one_until_each_instance_follows_it() {
    let place_of = tempfile::tempdir().unwrap();
    let directory = place_of.path().join("data");
    let open = || Arc::new(SqliteStore::open(&directory).unwrap());
    let fakes = following(1000);
    fakes[1].intent.lock().unwrap().clone_from(&following(3000)[1].intent());
    fakes[1].down.store(true, Ordering::Relaxed);
    let core = Core::load(open(), &Config::default(), true).await.unwrap();
    let world = World::with(core, &Config::default(), fakes);
    world.until(|| world.version() > 1000).await;
    world.until(|| world.fakes[0].intent().version == world.version()).await;
    assert!(world.manager.core.is_restored());
    world.fakes[1].down.store(false, Ordering::Relaxed);
    world.until(|| world.version() > 3000).await;
    world.until(|| !world.manager.core.is_restored()).await;
    for fake in &world.fakes {
        assert_eq!(fake.intent().version, world.version());
    }
}

#[tokio::test]
async fn what_is_too_large_is_the_requests_problem_and_not_the_stores() {
    let Some(cluster) = cluster(1) else { return };
    let [world, _] = two(&cluster).await;
    assert_eq!(world.put(GROUP, place()).await.status, 201);
    world
        .until(|| world.manager.statuses().iter().all(|status| status.borrow().is_up()))
        .await;
    let deployment = format!("{GROUP}/providers/Microsoft.Resources/deployments/large");
    let body = json!({"properties": {
        "mode": "Incremental",
        "parameters": {"p": {"value": "x".repeat(1 << 20)}},
        "template": {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0", "parameters": {"p": {"type": "string"}}, "resources": [],
        },
    }});
    let refused = world.put(&deployment, body).await;
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert_eq!(world.get("/healthz").await.status, 200);
}
