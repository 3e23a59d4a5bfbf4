//! Whoever means us harm: requests of strangers and of those who have signed in but may not, bodies and paths that nobody sends by
//! accident. Each gets an ARM error; nothing crashes (no answer is ever a 500), nothing is told of what one may not see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::{Body, Bytes};
use serde_json::json;

use super::world::principals::{encoded, form, service_principal, signed_in};
use super::world::{Answer, GROUP, PATIENCE, World, hub};
use crate::manager::DEV_TENANT;
use crate::manager::connections::Way;

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const ELSEWHERE: &str = "/subscriptions/00000000-0000-0000-0000-000000000002";

fn is_arm_error(answer: &Answer) -> bool {
    let error = &answer.body["error"];
    let has = |name: &str| error[name].as_str().is_some_and(|text| !text.is_empty());
    has("code") && has("message")
}

#[tokio::test]
async fn who_may_not_do_it_is_answered_before_the_body_is_read() {
    let world = World::new().await;
    world.make_route_server().await;
    let reader = signed_in(&world, "Reader", SUBSCRIPTION).await;
    for (token, status) in [(None, 401), (Some("nonsense"), 401), (Some(reader.as_str()), 403)] {
        let touched = Arc::new(AtomicBool::new(false));
        let touch = Arc::clone(&touched);
        let endless = futures::stream::poll_fn(move |_| {
            touch.store(true, Ordering::SeqCst);
            Poll::<Option<Result<Bytes, std::io::Error>>>::Pending
        });
        let mut request = http::Request::put(format!("{}?api-version=2022-01-01", hub("/bgpConnections/x")))
            .header("host", "localhost:8443");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut request = request.body(Body::from_stream(endless)).unwrap();
        request.extensions_mut().insert(Way::Tls);
        let answer = tokio::time::timeout(PATIENCE, world.send(request)).await.unwrap();
        assert_eq!(answer.status, status);
        assert!(is_arm_error(&answer), "{}", answer.text);
        assert!(!touched.load(Ordering::SeqCst), "the body was read");
    }
}

#[tokio::test]
async fn a_request_for_a_token_is_short() {
    let world = World::new().await;
    let (client, secret) = service_principal(&world, "").await;
    let path = format!("/{DEV_TENANT}/oauth2/v2.0/token");
    let mut long = form(&client, &secret);
    long.push(("claims", "x".repeat(100_000)));
    let answer = world.over_tls("POST", &path, None, &encoded(&long)).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "RequestContentTooLarge"));
}

#[tokio::test]
async fn bodies_that_nobody_sends_by_accident_are_refused_in_arms_words() {
    let world = World::new().await;
    world.make_route_server().await;
    let network = format!("{GROUP}/providers/Microsoft.Network");
    let mut paths: Vec<(&str, String)> = [
        "virtualHubs/x",
        "virtualHubs/rs/bgpConnections/x",
        "virtualHubs/rs/ipConfigurations/x",
        "virtualNetworks/x",
        "virtualNetworks/hub/subnets/x",
        "virtualNetworks/hub/virtualNetworkPeerings/x",
        "networkInterfaces/x",
        "routeTables/x",
        "routeTables/x/routes/x",
        "publicIPAddresses/x",
        "networkSecurityGroups/x",
        "virtualNetworkGateways/x",
        "localNetworkGateways/x",
        "connections/x",
    ]
    .map(|path| ("PUT", format!("{network}/{path}")))
    .into();
    let authorization = format!("{GROUP}/providers/Microsoft.Authorization");
    paths.extend([
        ("PUT", format!("{SUBSCRIPTION}/resourceGroups/x")),
        (
            "PUT",
            format!("{authorization}/roleAssignments/00000000-0000-0000-0000-0000000000c1"),
        ),
        (
            "PUT",
            format!("{authorization}/roleDefinitions/00000000-0000-0000-0000-0000000000c2"),
        ),
        ("PUT", format!("{GROUP}/providers/Microsoft.Resources/deployments/x")),
        ("PUT", format!("/routewright/v1{}/settings", hub(""))),
        ("PATCH", format!("/routewright/v1{}/settings", hub(""))),
        ("PATCH", hub("")),
        ("POST", "/routewright/v1/service-principals".to_owned()),
    ]);
    let deep = |open: &str| open.repeat(100_000);
    let bodies = [
        "null".to_owned(),
        "[]".to_owned(),
        "0".to_owned(),
        "\"text\"".to_owned(),
        "{\"properties\": [1]}".to_owned(),
        "{\"properties\": \"text\", \"location\": 7, \"tags\": [], \"sku\": 1}".to_owned(),
        "{\"location\": {\"a\": 1}, \"properties\": {\"subnets\": 7, \"addressSpace\": [7], \"template\": 1}}"
            .to_owned(),
        "{\"properties\": {\"peerAsn\": 1e400, \"peerIp\": -1}}".to_owned(),
        "{\"a\": \u{0}}".to_owned(),
        "{\"properties\"".to_owned(),
        deep("["),
        deep("{\"a\":"),
        format!("{{\"properties\": {{\"template\": {}", deep("[")),
    ];
    for (method, path) in &paths {
        for body in &bodies {
            let arm = path.starts_with("/subscriptions");
            let version = if arm { "?api-version=2022-01-01" } else { "" };
            let request = http::Request::builder().method(*method).uri(format!("{path}{version}"));
            let request = request
                .header("host", "localhost")
                .body(Body::from(body.clone()))
                .unwrap();
            let answer = world.send(request).await;
            let shown: String = body.chars().take(40).collect();
            assert!(answer.status < 500, "{method} {path} {shown}: {}", answer.text);
            assert!(
                answer.status < 400 || is_arm_error(&answer),
                "{method} {path} {shown}: {}",
                answer.text
            );
        }
        let request = http::Request::builder()
            .method(*method)
            .uri(format!("{path}?api-version=2022-01-01"));
        let bytes = vec![b'{', b'"', 0xff, 0xfe, b'"', b':', b'1', b'}'];
        let request = request.header("host", "localhost").body(Body::from(bytes)).unwrap();
        let answer = world.send(request).await;
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn questions_of_ours_tell_no_more_than_the_roles_on_what_they_name() {
    let world = World::new().await;
    world.make_route_server().await;
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    world.put(&hub("/bgpConnections/nva"), body).await;
    let other = format!("{SUBSCRIPTION}/resourceGroups/other");
    world.put(&other, json!({"location": "westeurope"})).await;
    let table = format!("{other}/providers/Microsoft.Network/routeTables/mine");
    world.put(&table, json!({"location": "westeurope"})).await;
    let token = signed_in(&world, "Reader", &other).await;
    let hub = hub("");
    for question in [
        "peers".to_owned(),
        "agents".to_owned(),
        // What is named must be what is answered, or nothing.
        format!("peers?nic={table}"),
        format!("peers?peer={table}"),
        "peers?routeServer=nonsense".to_owned(),
        "peers?routeServer=/x".to_owned(),
        "peers?routeServer=".to_owned(),
        format!("peers?routeServer={hub}"),
        format!("peers?routeServer={hub}&routeServer={table}"),
        format!("routes?routeServer={table}&peer={hub}/bgpConnections/nva"),
        format!("routes?nic={table}&routeServer={hub}"),
        format!("effective-routes?routeServer={table}&nic={hub}"),
        format!("peers{hub}/bgpConnections/nva"),
        format!("peers{hub}/bgpConnections/nva/routes"),
        format!("peers{hub}/bgpConnections/nva/advertised"),
        hub.trim_start_matches('/').to_owned() + "/settings",
        "service-principals".to_owned(),
    ] {
        let answer = world
            .over_tls("GET", &format!("/routewright/v1/{question}"), Some(&token), "")
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "AuthorizationFailed"),
            "{question}"
        );
        assert!(!answer.text.contains("10.1.1.4"), "{}", answer.text);
    }
}

#[tokio::test]
async fn another_subscription_is_not_told_from_one_that_is_not_there() {
    let world = World::new().await;
    world.make_route_server().await;
    let owner = signed_in(&world, "Owner", SUBSCRIPTION).await;
    let made = world
        .over_tls("DELETE", &hub("/bgpConnections/nva"), Some(&owner), "")
        .await;
    assert_eq!(made.status, 204);
    let deleted = world.over_tls("DELETE", &hub(""), Some(&owner), "").await;
    let operation = deleted.header("azure-asyncoperation");
    let operation = operation.strip_prefix("https://localhost:8443").unwrap();
    assert_eq!(world.over_tls("GET", operation, Some(&owner), "").await.status, 200);
    // An operation is told only under its own subscription.
    let moved = operation.replace("000000000001", "000000000002");
    assert_eq!(world.over_tls("GET", &moved, Some(&owner), "").await.status, 404);

    let moved = |path: &str| path.replace(SUBSCRIPTION, ELSEWHERE);
    for path in [
        ELSEWHERE.to_owned(),
        moved(GROUP),
        moved(&hub("")),
        format!("{ELSEWHERE}/resourceGroups"),
        format!("{ELSEWHERE}/resources"),
        format!("{ELSEWHERE}/providers/Microsoft.Network/virtualHubs"),
        format!("{ELSEWHERE}/providers/Microsoft.Authorization/roleAssignments"),
        format!("{ELSEWHERE}/providers/Microsoft.Insights/eventtypes/management/values"),
    ] {
        let answer = world.over_tls("GET", &path, Some(&owner), "").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "AuthorizationFailed"),
            "{path}"
        );
    }
    let subscriptions = world
        .over_tls("GET", "/subscriptions?api-version=2022-12-01", Some(&owner), "")
        .await;
    assert_eq!(subscriptions.body["value"].as_array().unwrap().len(), 1);
}
