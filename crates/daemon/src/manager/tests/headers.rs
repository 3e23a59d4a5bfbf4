//! Headers that clients follow or tell support people (az §4.3).

use std::sync::Arc;

use axum::body::Body;
use serde_json::json;

use super::world::principals::signed_in;
use super::world::{Answer, GROUP, World, hub};
use crate::config::Config;
use crate::store::SqliteStore;

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";

/// A read, or with a tag a write, with these headers.
async fn send(world: &World, tag: Option<&str>, headers: &[(&str, &str)]) -> Answer {
    let path = format!("{GROUP}/providers/Microsoft.Network/routeTables/t?api-version=2022-01-01");
    let method = if tag.is_some() { "PUT" } else { "GET" };
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = tag.map(|tag| json!({"location": "westeurope", "tags": {"tag": tag}}).to_string());
    world
        .send(request.body(Body::from(body.unwrap_or_default())).unwrap())
        .await
}

async fn world() -> World {
    let world = World::new().await;
    world.put(GROUP, json!({"location": "westeurope"})).await;
    world
}

#[tokio::test]
async fn every_answer_has_its_id_and_the_clients_correlation() {
    let world = world().await;
    let mut ids = Vec::new();
    for tag in [None, Some("a"), None] {
        let answer = send(&world, tag, &[("x-ms-correlation-request-id", "mine")]).await;
        let id = answer.header("x-ms-request-id");
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
        ids.push(id);
        assert_eq!(answer.header("x-ms-correlation-request-id"), "mine");
        assert_eq!(answer.header("cache-control"), "no-cache");
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    // Without one, or with one that is too long, ours is the client's.
    let long = "x".repeat(1000);
    for headers in [&[][..], &[("x-ms-correlation-request-id", long.as_str())]] {
        let answer = send(&world, None, headers).await;
        assert_eq!(
            answer.header("x-ms-correlation-request-id"),
            answer.header("x-ms-request-id")
        );
    }
    let own = ("x-ms-client-request-id", "theirs");
    let told = send(&world, None, &[own, ("x-ms-return-client-request-id", "true")]).await;
    assert_eq!(told.header("x-ms-client-request-id"), "theirs");
    assert!(
        send(&world, None, &[own])
            .await
            .headers
            .get("x-ms-client-request-id")
            .is_none()
    );
}

#[tokio::test]
async fn whoever_asks_more_than_the_bound_is_told_when_to_come_back_and_others_are_answered() {
    let mut config = Config::default();
    config.throttling.writes_per_sec = 1;
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
    let world = World::over(store, &config).await;
    world.put(GROUP, json!({"location": "westeurope"})).await;
    let greedy = signed_in(&world, "Owner", SUBSCRIPTION).await;
    let other = signed_in(&world, "Owner", SUBSCRIPTION).await;
    let path = format!("{GROUP}/providers/Microsoft.Network/routeTables/t?api-version=2022-01-01");
    let body = json!({"location": "westeurope"}).to_string();
    let mut left = Vec::new();
    let refused = loop {
        let answer = world.over_tls("PUT", &path, Some(&greedy), &body).await;
        if answer.status == 429 {
            break answer;
        }
        assert!(answer.status < 300, "{}", answer.text);
        let told = answer.header("x-ms-ratelimit-remaining-subscription-writes");
        left.push(told.parse::<u64>().unwrap());
        assert!(left.len() < 10_000, "nobody is held back");
    };
    assert_eq!(left.first(), Some(&19), "a bucket holds what comes in 20 s");
    assert_eq!(left.last(), Some(&0));
    assert_eq!(refused.code(), "SubscriptionRequestsThrottled");
    assert_eq!(refused.header("retry-after"), "1");
    let read = world.over_tls("GET", &path, Some(&greedy), "").await;
    assert_eq!(read.status, 200);
    assert!(!read.header("x-ms-ratelimit-remaining-subscription-reads").is_empty());
    let another = world.over_tls("PUT", &path, Some(&other), &body).await;
    assert_eq!(another.status, 200, "{}", another.text);
    let administrator = send(&world, Some("a"), &[]).await;
    assert_eq!(administrator.status, 200);
    let name = "x-ms-ratelimit-remaining-subscription-writes";
    assert!(!administrator.headers.contains_key(name), "nothing is counted");
}

#[tokio::test]
async fn a_write_that_builds_on_what_is_no_more_is_refused() {
    let world = world().await;
    let first = send(&world, Some("a"), &[("if-none-match", "*")]).await;
    assert_eq!(first.status, 201);
    assert_eq!(send(&world, Some("b"), &[("if-none-match", "*")]).await.status, 412);
    let etag = first.header("etag");
    let second = send(&world, Some("b"), &[("if-match", &etag)]).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.header("etag"), etag);
    let late = send(&world, Some("c"), &[("if-match", &etag)]).await;
    assert_eq!(late.status, 412, "{}", late.text);
    assert_eq!(late.header("x-ms-error-code"), late.code());
    assert_eq!(send(&world, None, &[]).await.body["tags"]["tag"], "b");
}

#[tokio::test]
async fn a_long_running_operation_has_the_headers_that_clients_poll_by() {
    let world = World::new().await;
    world.make_route_server().await;
    let deleted = world.delete(&hub("")).await;
    assert_eq!(deleted.status, 202);
    assert_eq!(deleted.header("retry-after"), "1");
    assert_eq!(deleted.header("azure-asyncnotification"), "Enabled");
    assert!(uuid::Uuid::parse_str(&deleted.header("x-ms-arm-service-request-id")).is_ok());
    for name in ["azure-asyncoperation", "location"] {
        let url = deleted.header(name);
        let path = url.strip_prefix("http://localhost:8080").unwrap();
        assert!(path.ends_with("?api-version=2022-01-01"), "{path}");
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
}
