//! Every endpoint needs something: each that there is, is asked for by somebody without a role, and by nobody.

use serde_json::{Value, json};

use super::world::principals::{assign, object_id, signed_in};
use super::world::{GROUP, World, hub};
use crate::manager::own_api::ENDPOINTS;

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
/// What whoever has signed in is told, with a role or without.
const FOR_ALL_WHO_SIGNED_IN: [&str; 3] = [
    "/routewright/v1/health",
    "/routewright/v1/openapi.json",
    "/routewright/v1/sign-in",
];

/// The paths that an endpoint of the OpenAPI document may have: with its parameters, and without.
fn paths(template: &str, query: &[(&str, bool, &str)]) -> Vec<String> {
    let peer = hub("/bgpConnections/nva");
    let path = template
        .replace("/{bgpConnectionId}", &peer)
        .replace("/{resourceId}", &peer)
        .replace("{index}", "0")
        .replace("{clientId}", "00000000-0000-0000-0000-00000000000c");
    let with = query.iter().map(|(name, _, _)| {
        let value = match *name {
            "routeServer" => hub(""),
            "nic" => format!("{GROUP}/providers/Microsoft.Network/networkInterfaces/n"),
            "prefix" => "10.0.0.0/8".to_owned(),
            "soft" | "on" => "true".to_owned(),
            _ => peer.clone(),
        };
        format!("{path}?{name}={value}")
    });
    with.chain([path.clone()]).collect()
}

#[tokio::test]
async fn every_endpoint_of_ours_is_refused_to_who_has_no_role_and_to_who_has_not_signed_in() {
    let world = World::new().await;
    world.make_route_server().await;
    let stranger = signed_in(&world, "", "").await;
    for endpoint in ENDPOINTS {
        for path in paths(endpoint.path, endpoint.query) {
            let method = endpoint.method.to_uppercase();
            let unsigned = world.over_tls(&method, &path, None, "{}").await;
            assert_eq!(unsigned.status, 401, "{method} {path}");
            let expected = match FOR_ALL_WHO_SIGNED_IN.contains(&endpoint.path) {
                true => 200,
                false => 403,
            };
            let refused = world.over_tls(&method, &path, Some(&stranger), "{}").await;
            assert_eq!(refused.status, expected, "{method} {path}: {}", refused.text);
            // It is there: the administrator is told something else than that it is not.
            let body = (method != "GET").then(|| json!({}));
            let served = world.request(&method, &path, body).await;
            assert!(!served.text.contains("nothing at this path"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_nobody_has_named_needs_a_role_over_everything() {
    let world = World::new().await;
    let stranger = signed_in(&world, "", "").await;
    let owner = signed_in(&world, "Owner", SUBSCRIPTION).await;
    for path in [
        "/routewright/v1/anything",
        "/routewright/v1/peers/anything/routes",
        "/routewright/v1/service-principals/a/b/c",
        "/anything",
        "/providers?api-version=2022-01-01",
        "/routewright",
    ] {
        for method in ["GET", "PUT", "POST", "DELETE", "OPTIONS", "BREW"] {
            let refused = world.over_tls(method, path, Some(&stranger), "{}").await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (403, "AuthorizationFailed"),
                "{method} {path}: {}",
                refused.text
            );
        }
        let missing = world.over_tls("GET", path, Some(&owner), "").await;
        assert!([400, 404].contains(&missing.status), "{path}: {}", missing.text);
    }
}

#[tokio::test]
async fn every_kind_of_path_of_arms_is_refused_to_who_has_no_role_with_every_method() {
    let world = World::new().await;
    world.make_route_server().await;
    let stranger = signed_in(&world, "", "").await;
    let network = "providers/Microsoft.Network";
    let peer = hub("/bgpConnections/nva");
    for path in [
        SUBSCRIPTION.to_owned(),
        format!("{SUBSCRIPTION}/locations"),
        format!("{SUBSCRIPTION}/providers"),
        format!("{SUBSCRIPTION}/providers/Microsoft.Network"),
        format!("{SUBSCRIPTION}/providers/Microsoft.Network/register"),
        format!("{SUBSCRIPTION}/resources"),
        format!("{SUBSCRIPTION}/resourceGroups"),
        format!("{SUBSCRIPTION}/{network}/virtualHubs"),
        format!("{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"),
        format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments"),
        format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"),
        GROUP.to_owned(),
        format!("{GROUP}/resources"),
        format!("{GROUP}/{network}/virtualHubs"),
        format!("{GROUP}/providers/Microsoft.Resources/deployments"),
        format!("{GROUP}/providers/Microsoft.Resources/deployments/d"),
        format!("{GROUP}/providers/Microsoft.Resources/deployments/d/validate"),
        format!("{GROUP}/deployments/d/operations"),
        hub(""),
        hub("/bgpConnections"),
        peer.clone(),
        format!("{peer}/learnedRoutes"),
        format!("{}/providers/Microsoft.Insights/metrics", hub("")),
        hub("/somethingElse"),
    ] {
        for method in ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"] {
            let refused = world.over_tls(method, &path, Some(&stranger), "{}").await;
            assert_eq!(refused.status, 403, "{method} {path}: {}", refused.text);
            let unsigned = world.over_tls(method, &path, None, "{}").await;
            assert_eq!(unsigned.status, 401, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn names_of_service_principals_are_told_of_those_whose_roles_one_may_know_or_give() {
    let world = World::new().await;
    world.make_route_server().await;
    let other = format!("{SUBSCRIPTION}/resourceGroups/other");
    world.put(&other, json!({"location": "westeurope"})).await;
    let there = signed_in(&world, "Reader", &other).await;
    let here = signed_in(&world, "Reader", GROUP).await;
    let stranger = signed_in(&world, "", "").await;
    let asked = json!({"ids": [object_id(&there), object_id(&here), object_id(&stranger)]}).to_string();
    let told = async |token: &str| -> usize {
        let path = "/v1.0/directoryObjects/getByIds";
        let answer = world.over_tls("POST", path, Some(token), &asked).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let found: &Vec<Value> = answer.body["value"].as_array().unwrap();
        found.len()
    };
    assert_eq!(told(&stranger).await, 1, "itself");
    assert_eq!(told(&here).await, 1, "itself: the other's role is elsewhere");
    assign(&world, &object_id(&there), "Reader", GROUP).await;
    assert_eq!(told(&here).await, 2);
    let owner = signed_in(&world, "Owner", GROUP).await;
    assert_eq!(told(&owner).await, 3, "who gives roles must find whom");
}
