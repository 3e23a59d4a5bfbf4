//! A store that takes no writes: what is said, what still works, and that it ends with the trouble.

use std::sync::Arc;

use serde_json::json;

use super::world::{Answer, GROUP, World, hub};
use crate::config::Config;
use crate::store::SqliteStore;

async fn world() -> (World, Arc<SqliteStore>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
    let mut world = World::over(store.clone(), &Config::default()).await;
    world._directory = Some(directory);
    world.make_route_server().await;
    (world, store)
}

fn message(answer: &Answer) -> &str {
    answer.body["error"]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_read_only_store_is_told_with_what_to_do_and_reads_go_on() {
    let (world, store) = world().await;
    world
        .until(|| world.manager.statuses().iter().all(|status| status.borrow().is_up()))
        .await;
    assert_eq!(
        world.get("/healthz").await.body,
        json!({"status": "ok", "problems": []})
    );
    store.pragma_for_test("query_only", 1);
    let peer = hub("/bgpConnections/nva");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    let refused = world.put(&peer, body.clone()).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "ServiceUnavailable"));
    assert_eq!(refused.header("retry-after"), "5");
    assert!(message(&refused).contains("Nothing was changed"), "{}", refused.text);
    assert!(
        message(&refused).contains("Make the data directory writable"),
        "{}",
        refused.text
    );
    assert_eq!(world.get(&peer).await.status, 404, "nothing was changed");
    assert_eq!(world.get(&hub("")).await.status, 200);

    let health = world.get("/healthz").await;
    assert_eq!(health.status, 503);
    let report = world.get("/routewright/v1/health").await;
    assert_eq!(report.body["status"], "degraded");
    for problems in [&health.body["problems"], &report.body["problems"]] {
        assert!(problems.to_string().contains("the store takes no writes"), "{problems}");
    }
    let metrics = world.get("/metrics").await.text;
    assert!(metrics.contains("routewright_manager_store_writable 0"), "{metrics}");
    let stranger = world.over_tls("GET", "/healthz", None, "").await;
    assert_eq!((stranger.status, &stranger.body), (503, &json!({"status": "degraded"})));

    store.pragma_for_test("query_only", 0);
    world.manager.core.probe_store().await;
    assert_eq!(world.get("/healthz").await.status, 200);
    assert_eq!(world.put(&peer, body).await.status, 201);
}

#[tokio::test]
async fn a_full_disk_is_told_with_what_to_do() {
    let (world, store) = world().await;
    // SQLite says the same of a file that may not grow as of a disk that is full.
    store.pragma_for_test("max_page_count", 1);
    let tags: serde_json::Value = (0..40).map(|n| (format!("tag{n}"), json!("x".repeat(200)))).collect();
    let mut refused = None;
    for round in 0..100 {
        let path = format!("{GROUP}/providers/Microsoft.Network/routeTables/t{round}");
        let answer = world.put(&path, json!({"location": "westeurope", "tags": tags})).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "ServiceUnavailable"));
    assert!(message(&refused).contains("Free some space"), "{}", refused.text);
    world.manager.core.probe_store().await;
    store.pragma_for_test("max_page_count", 1_000_000);
    let path = format!("{GROUP}/providers/Microsoft.Network/routeTables/last");
    assert_eq!(world.put(&path, json!({"location": "westeurope"})).await.status, 201);
    assert_eq!(world.get("/routewright/v1/health").await.body["problems"], json!([]));
}

#[tokio::test]
async fn a_store_whose_file_was_removed_takes_no_writes_instead_of_losing_them() {
    let (world, _store) = world().await;
    let directory = world._directory.as_ref().unwrap().path();
    std::fs::remove_file(directory.join("routewright.sqlite3")).unwrap();
    let path = format!("{GROUP}/providers/Microsoft.Network/routeTables/lost");
    let refused = world.put(&path, json!({"location": "westeurope"})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "ServiceUnavailable"),
        "{}",
        refused.text
    );
    assert!(message(&refused).contains("is gone"), "{}", refused.text);
    world.manager.core.probe_store().await;
    let health = world.get("/routewright/v1/health").await.body;
    assert!(
        health["problems"].to_string().contains("the store takes no writes"),
        "{health}"
    );
}
