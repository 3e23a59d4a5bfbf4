//! Deployments and metrics as `az` asks for them over HTTP.

use axum::body::Body;
use serde_json::json;

use super::world::{Answer, GROUP, World, hub};

/// As `az` writes it: the key `template` unquoted, the file's comments in it.
const ALMOST_JSON: &str = r#"{"properties": {"mode": "Incremental", template:{ // the file as it is
    "resources": [{"type": "Microsoft.Network/routeTables", "name": "rt", "location": "[resourceGroup().location]"}]
}}}"#;

async fn put_text(world: &World, path: &str, text: &str) -> Answer {
    let request = http::Request::builder()
        .method("PUT")
        .uri(format!("{path}?api-version=2025-04-01"));
    world
        .send(
            request
                .header("host", "localhost:8080")
                .body(Body::from(text.to_owned()))
                .unwrap(),
        )
        .await
}

#[tokio::test]
async fn a_deployment_as_az_sends_it_is_made_and_its_operation_has_an_end() {
    let world = World::new().await;
    world.make_route_server().await;
    let path = format!("{GROUP}/providers/Microsoft.Resources/deployments/d");
    let answer = put_text(&world, &path, ALMOST_JSON).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let operation = answer.header("azure-asyncoperation");
    assert!(operation.contains("/deployments/d/operationStatuses/"), "{operation}");
    assert!(answer.headers.get("location").is_none());
    let state = world.get(operation.trim_start_matches("http://localhost:8080")).await;
    assert_eq!(state.body, json!({"status": "Succeeded"}));
    let table = world
        .get(&format!("{GROUP}/providers/Microsoft.Network/routeTables/rt"))
        .await;
    assert_eq!(table.body["location"], "westeurope");
}

#[tokio::test]
async fn elsewhere_only_json_is_json() {
    let world = World::new().await;
    let answer = put_text(&world, GROUP, "{location: 'westeurope'}").await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidRequestContent"));
}

#[tokio::test]
async fn metrics_are_answered_at_once_from_both_instances() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/sdwan");
    world
        .put(&peer, json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}}))
        .await;
    let path = format!(
        "{}/providers/microsoft.insights/metrics?api-version=2018-01-01&metricnames=RoutingInfrastructureUnits",
        hub("")
    );
    let answer = world.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["value"][0]["timeseries"][0]["data"][0]["maximum"], 2.0);
}

#[tokio::test]
async fn a_list_of_several_pages_leads_on_with_an_absolute_link() {
    let world = World::new().await;
    world.make_route_server().await;
    let first = world
        .get(&format!("{GROUP}/resources?api-version=2024-11-01&$top=1"))
        .await;
    let next = first.body["nextLink"].as_str().unwrap();
    let second = world.get(next.strip_prefix("http://localhost:8080").unwrap()).await;
    assert_eq!(second.status, 200, "{}", second.body);
    assert_ne!(first.body["value"], second.body["value"]);
}
