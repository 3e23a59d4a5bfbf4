//! The manager over HTTP (without a port: requests go straight to the handler) with stand-ins for both instances.
#![allow(clippy::unwrap_used)]

mod activity;
mod deployments;
mod dry_run;
mod gateways;
mod headers;
mod hostile;
mod issuer;
mod linked;
mod needs;
mod roles;
mod shared;
mod sign_in;
mod silent;
mod store_trouble;
mod tls;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use routeserver::report::{AdvertisedReport, BfdReport};
use serde_json::{Value, json};

use super::core::Core;
use super::{openapi, own_api};
use crate::config::Config;
use crate::store::SqliteStore;
use world::{GROUP, World, hub, peer_report, route};

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
async fn settings_of_several_resources_are_changed_together_or_not_at_all() {
    let world = World::new().await;
    world.make_route_server().await;
    let peers = ["a", "b"].map(|name| hub(&format!("/bgpConnections/{name}")));
    for (number, peer) in peers.iter().enumerate() {
        let body = json!({"properties": {"peerIp": format!("10.1.1.{}", 4 + number), "peerAsn": 65001}});
        assert_eq!(world.put(peer, body).await.status, 201);
    }
    let [first, second] = &peers;
    let all = "/routewright/v1/settings";
    let kept = async |peer: &str| world.get(&format!("/routewright/v1{peer}/settings")).await.body;
    let missing = hub("/bgpConnections/c");
    let valid = json!({"holdTimeSecs": 9});
    for (body, status, named) in [
        (json!({first: valid, second: {"holdTimeSecs": 1}}), 400, second),
        (json!({first: valid, &missing: valid}), 404, &missing),
        (json!({first: valid, first.to_uppercase(): valid}), 400, first),
        (json!([]), 400, &"object".to_owned()),
    ] {
        let refused = world.request("PATCH", all, Some(body)).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        let words = refused.text.to_ascii_lowercase();
        assert!(words.contains(&named.to_ascii_lowercase()), "{words}");
        assert_eq!(kept(first).await, json!({}), "nothing was changed");
    }
    let both = json!({first: valid, second: valid});
    let token = world::principals::signed_in(&world, "Contributor", first).await;
    let refused = world.over_tls("PATCH", all, Some(&token), &both.to_string()).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert_eq!(kept(first).await, json!({}), "nothing was changed");
    let one = json!({first: {"holdTimeSecs": 12}}).to_string();
    assert_eq!(world.over_tls("PATCH", all, Some(&token), &one).await.status, 204);
    assert_eq!(kept(first).await, json!({"holdTimeSecs": 12}));

    assert_eq!(world.request("PATCH", all, Some(both)).await.status, 204);
    for peer in &peers {
        assert_eq!(kept(peer).await, valid);
    }
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
    let again = Core::load(open(), &Config::default(), false).await.unwrap();
    assert_eq!(again.read(|state| state.resources.clone()), resources);
    drop(again);
    let mut changed = Config::default();
    changed.limits.peers = 0;
    let again = Core::load(open(), &changed, false).await.unwrap();
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
    let mistaken = world.request("POST", &format!("{reset}?soft=yes"), None).await;
    assert_eq!(
        (mistaken.status, mistaken.code().as_str()),
        (400, "InvalidParameter"),
        "no session was reset"
    );
    let refused = world.request("POST", &format!("{reset}?soft=true"), None).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.body["error"]["code"], "SoftResetNotPossible");
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert_eq!(message.matches("hard reset").count(), 1, "{message}");
}

#[tokio::test]
async fn one_instance_is_drained_until_it_is_not_any_more() {
    let world = World::new().await;
    let post = async |path: &str| {
        let path = format!("/routewright/v1/instances/{path}");
        world.request("POST", &path, None).await.status
    };
    assert_eq!(post("1/drain").await, 204);
    let is_drained = async || {
        let mut drained = Vec::new();
        for instance in &world.manager.instances {
            drained.push(instance.control.health().await.unwrap().drained);
        }
        drained
    };
    assert_eq!(is_drained().await, [false, true]);
    assert_eq!(post("1/drain?on=false").await, 204);
    assert_eq!(is_drained().await, [false, false]);
    for mistaken in ["1/drain?on=null", "1/drain?on=", "1/drain?on=true&on=false"] {
        assert_eq!(post(mistaken).await, 400, "{mistaken}");
    }
    assert_eq!(is_drained().await, [false, false]);
    assert_eq!(post("2/drain").await, 404);
    assert_eq!(world.get("/routewright/v1/instances/1/drain").await.status, 405);
}

#[tokio::test]
async fn one_instance_is_asked_to_leave_when_it_is_to_be_restarted() {
    let world = World::new().await;
    let path = |index| format!("/routewright/v1/instances/{index}/restart");
    assert_eq!(world.get(&path(1)).await.status, 405);
    assert_eq!(world.request("POST", &path(2), None).await.status, 404);
    assert_eq!(world.request("POST", &path(1), None).await.status, 204);
    let mut answers = Vec::new();
    for instance in &world.manager.instances {
        answers.push(instance.control.health().await.is_ok());
    }
    assert_eq!(answers, [true, false]);
    // It is on its way out already.
    let again = world.request("POST", &path(1), None).await;
    assert_eq!((again.status, again.code().as_str()), (503, "InstanceUnavailable"));
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

/// RFC 9110 §15.5.6 wants the header.
#[tokio::test]
async fn a_405_of_our_own_api_says_what_is_allowed() {
    let world = World::new().await;
    for (path, allowed) in [
        ("health", "GET"),
        ("service-principals", "GET, POST"),
        ("service-principals/x/reset", "POST"),
    ] {
        let answer = world.request("TRACE", &format!("/routewright/v1/{path}"), None).await;
        assert_eq!(
            (answer.status, &answer.headers["allow"]),
            (405, &allowed.parse().unwrap()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn to_delete_what_could_never_be_a_service_principal_is_a_mistake() {
    let world = World::new().await;
    let delete = async |id: &str| {
        world
            .delete(&format!("/routewright/v1/service-principals/{id}"))
            .await
            .status
    };
    assert_eq!(delete("null%2Cnull").await, 404);
    assert_eq!(delete("e3e70682-c209-4cac-a29f-6fbed82c07cd").await, 204);
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
    let bfd = BfdReport {
        state: "Down".to_owned(),
        remote_state: None,
        diagnostic: None,
        remote_diagnostic: None,
        strict: false,
        multihop: true,
        authenticated: false,
        tx_interval_ms: None,
        rx_interval_ms: None,
        detection_time_ms: None,
        local_discriminator: None,
        remote_discriminator: None,
        since_secs: None,
        ups: 0,
        downs: 0,
        packets_sent: 0,
        packets_received: 0,
        packets_discarded: 0,
        last_down: None,
        problem: None,
    };
    check("BfdReport", json!(bfd), &[]);
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
