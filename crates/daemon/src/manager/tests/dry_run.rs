//! Dry runs: what would be written is made into an intent, the instances are asked about it, and nothing is written.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bgp::Asn;
use routeserver::Intent;
use serde_json::{Value, json};

use super::world::principals::signed_in;
use super::world::{GROUP, World, hub};

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const PATH: &str = "/routewright/v1/dry-run";

fn nva(asn: u32) -> Value {
    let body = json!({ "properties": { "peerIp": "10.1.1.4", "peerAsn": asn } });
    json!({ "method": "PUT", "path": hub("/bgpConnections/nva"), "body": body })
}

async fn tried(world: &World, changes: Value) -> Arc<Intent> {
    let answer = world.request("POST", PATH, Some(json!({ "changes": changes }))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let instances: Vec<&Value> = answer.body["value"].as_array().unwrap().iter().collect();
    assert_eq!(instances.len(), 2, "both are asked");
    world.fakes[0].tried.lock().unwrap().clone().unwrap()
}

#[tokio::test]
async fn a_dry_run_asks_about_the_intent_that_writes_would_make_and_writes_nothing() {
    let world = World::new().await;
    world.make_route_server().await;
    let version = world.version();
    let settings = format!("/routewright/v1{}/settings", hub("/bgpConnections/nva"));
    let intent = tried(
        &world,
        json!([
            nva(65001),
            { "method": "PATCH", "path": settings, "body": { "importPreference": 7 } },
            { "method": "PATCH", "path": hub(""), "body": { "tags": { "a": "b" } } },
        ]),
    )
    .await;
    let [peer] = &intent.route_servers[0].peers[..] else {
        panic!("one peer: {intent:?}");
    };
    assert_eq!((peer.asn, peer.import_preference), (Asn(65001), 7));
    assert_eq!(world.version(), version);
    assert_eq!(world.get(&hub("/bgpConnections/nva")).await.status, 404);
    assert_eq!(
        world
            .put(&hub("/bgpConnections/nva"), nva(65001)["body"].clone())
            .await
            .status,
        201
    );
    let gone = json!([{ "method": "DELETE", "path": hub("/bgpConnections/nva") }]);
    assert!(tried(&world, gone).await.route_servers[0].peers.is_empty());
    assert_eq!(tried(&world, json!([])).await.route_servers[0].peers.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn each_instance_is_told_what_the_others_peers_have_said_unless_that_one_is_away() {
    let world = World::new().await;
    world.make_route_server().await;
    tried(&world, json!([])).await;
    let told = |fake: usize| world.fakes[fake].others.lock().unwrap().clone();
    assert_eq!(told(0).unwrap(), "heard by 1");
    assert_eq!(told(1).unwrap(), "heard by 0");
    world.fakes[1].down.store(true, Ordering::Relaxed);
    let answer = world.request("POST", PATH, Some(json!({ "changes": [] }))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(told(0), None);
    world.end().await;
}

#[tokio::test]
async fn a_dry_run_is_refused_what_a_write_would_be_and_says_which() {
    let world = World::new().await;
    world.make_route_server().await;
    let check = async |body: Value, status: u16, code: &str, words: &str| {
        let refused = world.request("POST", PATH, Some(body)).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{}",
            refused.text
        );
        assert!(refused.text.contains(words), "{}", refused.text);
    };
    let settings = format!("/routewright/v1{}/settings", hub(""));
    let wrong = json!({ "method": "PUT", "path": settings, "body": { "asn": "x", "colour": 1 } });
    check(
        json!({ "changes": [nva(65001), nva(65515)] }),
        400,
        "InvalidPeerAsn",
        "changes[1]",
    )
    .await;
    check(json!({ "changes": [wrong] }), 400, "InvalidSettings", "colour").await;
    check(
        json!({ "changes": [{ "method": "BREW", "path": "/x" }] }),
        400,
        "InvalidRequestContent",
        "BREW",
    )
    .await;
    check(json!({ "changes": 7 }), 400, "InvalidRequestContent", "changes").await;
    check(
        json!({ "changes": vec![nva(65001); 801] }),
        400,
        "InvalidRequestContent",
        "800",
    )
    .await;
    for fake in &world.fakes {
        fake.down.store(true, Ordering::Relaxed);
    }
    check(json!({ "changes": [] }), 503, "InstanceUnavailable", "health").await;
    world.end().await;
}

#[tokio::test]
async fn whoever_may_not_write_may_not_try_it_and_whoever_sees_one_group_is_not_told_of_all() {
    let world = World::new().await;
    world.make_route_server().await;
    let body = json!({ "changes": [nva(65001)] }).to_string();
    for (role, scope, status) in [
        ("Reader", SUBSCRIPTION, 403),
        ("Network Contributor", GROUP, 403),
        ("Network Contributor", SUBSCRIPTION, 200),
    ] {
        let token = signed_in(&world, role, scope).await;
        let answer = world.over_tls("POST", PATH, Some(&token), &body).await;
        assert_eq!(answer.status, status, "{role} over {scope}: {}", answer.text);
    }
    world.end().await;
}
