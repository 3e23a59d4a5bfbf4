//! The activity log over HTTP: what is in it, what is not, and who may read it.

use serde_json::{Value, json};

use super::world::principals::{object_id, signed_in};
use super::world::{Answer, GROUP, World, hub};

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const VALUES: &str =
    "/subscriptions/00000000-0000-0000-0000-000000000001/providers/microsoft.insights/eventtypes/management/values";

/// The log as `az monitor activity-log list` asks for it.
async fn log(world: &World, clause: &str) -> Vec<Value> {
    let answer = world.get(&path(clause)).await;
    values(&answer)
}

fn path(clause: &str) -> String {
    let filter = format!("eventTimestamp ge 2020-01-01T00:00:00.5 and eventTimestamp le 2100-01-01{clause}");
    format!("{VALUES}?$filter={}&api-version=2015-04-01", filter.replace(' ', "%20"))
}

fn values(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["value"].as_array().unwrap().clone()
}

fn facts(event: &Value) -> (&str, &str, &str) {
    let text = |value: &'_ Value| -> &'static str { String::leak(value.as_str().unwrap_or_default().to_owned()) };
    (
        text(&event["operationName"]["value"]),
        text(&event["status"]["value"]),
        text(&event["subStatus"]["value"]),
    )
}

#[tokio::test]
async fn every_write_is_in_the_log_with_who_what_when_and_its_result() {
    let world = World::new().await;
    world.make_route_server().await;
    let token = signed_in(&world, "Contributor", SUBSCRIPTION).await;
    let peer = hub("/bgpConnections/nva");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}}).to_string();
    let before = jiff::Timestamp::now();
    let made = world.over_tls("PUT", &peer, Some(&token), &body).await;
    assert_eq!(made.status, 201);
    world.over_tls("GET", &peer, Some(&token), "").await;
    let settings = format!("/routewright/v1{peer}/settings");
    world
        .over_tls("PUT", &settings, Some(&token), "{\"routeLimit\": 5}")
        .await;
    world.over_tls("DELETE", &peer, Some(&token), "").await;

    let events = log(&world, &format!(" and caller eq '{}'", object_id(&token))).await;
    let found: Vec<_> = events.iter().map(facts).collect();
    assert_eq!(
        found,
        [
            (
                "Microsoft.Network/virtualHubs/bgpConnections/delete",
                "Succeeded",
                "Accepted"
            ),
            ("Microsoft.Network/virtualHubs/bgpConnections/write", "Succeeded", "OK"),
            (
                "Microsoft.Network/virtualHubs/bgpConnections/write",
                "Succeeded",
                "Created"
            ),
        ]
    );
    let event = &events[2];
    assert_eq!(event["resourceId"], peer);
    assert_eq!(event["resourceGroupName"], "rg");
    assert_eq!(event["correlationId"], made.header("x-ms-correlation-request-id"));
    assert_eq!(event["properties"]["serviceRequestId"], made.header("x-ms-request-id"));
    let at: jiff::Timestamp = event["eventTimestamp"].as_str().unwrap().parse().unwrap();
    assert!((before..=jiff::Timestamp::now()).contains(&at), "{at}");
}

#[tokio::test]
async fn every_refusal_is_in_the_log_and_reads_that_succeed_are_not() {
    let world = World::new().await;
    world.make_route_server().await;
    let reader = signed_in(&world, "Reader", GROUP).await;
    let other = format!("{SUBSCRIPTION}/resourceGroups/other");
    let forbidden = format!("{GROUP}/providers/Microsoft.Network/routeTables/t");
    for (method, path, status) in [
        ("GET", hub(""), 200),
        ("GET", hub("/bgpConnections/missing"), 404),
        ("GET", other, 403),
        ("PUT", forbidden.clone(), 403),
    ] {
        let answer = world.over_tls(method, &path, Some(&reader), "{}").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    let owner = signed_in(&world, "Owner", SUBSCRIPTION).await;
    let nonsense = json!({"properties": {"peerIp": "here", "peerAsn": 1}}).to_string();
    let refused = world
        .over_tls("PUT", &hub("/bgpConnections/nva"), Some(&owner), &nonsense)
        .await;
    assert_eq!(refused.status, 400);
    let unsigned = world.over_tls("DELETE", &hub(""), Some("nonsense"), "").await;
    assert_eq!(unsigned.status, 401);

    let found = log(&world, " and status eq 'Failed'").await;
    let what: Vec<_> = found.iter().map(facts).collect();
    assert_eq!(
        what,
        [
            ("Microsoft.Network/virtualHubs/delete", "Failed", "Unauthorized"),
            (
                "Microsoft.Network/virtualHubs/bgpConnections/write",
                "Failed",
                "BadRequest"
            ),
            ("Microsoft.Network/routeTables/write", "Failed", "Forbidden"),
            (
                "Microsoft.Resources/subscriptions/resourceGroups/read",
                "Failed",
                "Forbidden"
            ),
        ]
    );
    assert_eq!(found[0]["caller"], "");
    assert_eq!(found[1]["caller"], object_id(&owner));
    let message = found[2]["properties"]["statusMessage"].as_str().unwrap();
    assert!(message.contains("AuthorizationFailed"), "{message}");
}

#[tokio::test]
async fn what_goes_with_a_group_is_in_the_log_one_by_one() {
    let world = World::new().await;
    world.make_route_server().await;
    assert_eq!(world.delete(GROUP).await.status, 202);
    let deleted = log(&world, " and resourceGroupName eq 'rg'").await;
    let deleted: Vec<_> = deleted
        .iter()
        .map(facts)
        .filter(|(what, ..)| what.ends_with("/delete"))
        .map(|(what, ..)| what)
        .collect();
    for kind in [
        "virtualHubs",
        "virtualHubs/ipConfigurations",
        "virtualNetworks",
        "publicIPAddresses",
    ] {
        let action = format!("Microsoft.Network/{kind}/delete");
        assert_eq!(
            deleted.iter().filter(|what| **what == action).count(),
            1,
            "{action} {deleted:?}"
        );
    }
    assert!(deleted.contains(&"Microsoft.Resources/subscriptions/resourceGroups/delete"));
}

#[tokio::test]
async fn one_reads_of_the_log_what_one_may_read_of_the_resources() {
    let world = World::new().await;
    world.make_route_server().await;
    let other = format!("{SUBSCRIPTION}/resourceGroups/other");
    world.put(&other, json!({"location": "westeurope"})).await;
    let reader = signed_in(&world, "Reader", &other).await;
    let answer = world.over_tls("GET", &path(""), Some(&reader), "").await;
    let shown = values(&answer);
    assert!(!shown.is_empty());
    for event in &shown {
        assert_eq!(event["resourceGroupName"], "other", "{event}");
    }
    let nobody = signed_in(&world, "", "").await;
    let answer = world.over_tls("GET", &path(""), Some(&nobody), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "AuthorizationFailed"));
    // Another subscription has its own log, which is empty here.
    let elsewhere = path("").replacen("000000000001", "000000000002", 1);
    assert_eq!(world.over_tls("GET", &elsewhere, Some(&reader), "").await.status, 403);
}

#[tokio::test]
async fn a_long_log_comes_in_pages_and_select_makes_it_short() {
    let world = World::new().await;
    world.put(GROUP, json!({"location": "westeurope"})).await;
    for _ in 0..250 {
        world.put(GROUP, json!({"location": "westeurope"})).await;
    }
    let mut all = Vec::new();
    let mut next = format!("{}&$select=eventDataId,status", path(""));
    for _ in 0..10 {
        let answer = world.get(&next).await;
        all.extend(values(&answer));
        match answer.body["nextLink"].as_str() {
            Some(link) => next = link.strip_prefix("http://localhost:8080").unwrap().to_owned(),
            None => break,
        }
    }
    assert_eq!(all.len(), 251);
    let mut ids: Vec<_> = all.iter().map(|event| event["eventDataId"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 251);
    assert!(all.iter().all(|event| event.as_object().unwrap().len() == 2));
}

#[tokio::test]
async fn refusals_of_one_caller_are_logged_up_to_a_rate() {
    let world = World::new().await;
    world.put(GROUP, json!({"location": "westeurope"})).await;
    for _ in 0..100 {
        world.put(GROUP, json!({"location": "nowhere else"})).await;
    }
    assert_eq!(log(&world, " and status eq 'Failed'").await.len(), 60);
    assert_eq!(log(&world, " and status eq 'Succeeded'").await.len(), 1);
}

#[tokio::test]
async fn what_changes_nothing_is_logged_and_makes_no_version() {
    let world = World::new().await;
    world.put(GROUP, json!({"location": "westeurope"})).await;
    let version = world.version();
    assert_eq!(world.delete(&hub("/bgpConnections/missing")).await.status, 204);
    assert_eq!(world.version(), version);
    let found = log(&world, "").await;
    assert_eq!(
        facts(&found[0]),
        (
            "Microsoft.Network/virtualHubs/bgpConnections/delete",
            "Succeeded",
            "NoContent"
        )
    );
}

#[tokio::test]
async fn a_filter_that_is_not_understood_is_refused() {
    let world = World::new().await;
    for (query, code) in [
        ("?api-version=2015-04-01&$filter=colour%20eq%20'red'", "BadRequest"),
        (
            "?api-version=2015-04-01&$filter=eventTimestamp%20ge%20yesterday",
            "BadRequest",
        ),
        ("?$filter=", "MissingApiVersionParameter"),
    ] {
        let answer = world.get(&format!("{VALUES}{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{query}");
    }
}
