//! Questions that only the instances can answer, in ARM's shapes. An instance that doesn't answer has an empty list.

use std::time::Duration;

use arm::Ask;
use futures::future::join_all;
use routeserver::report::{EffectiveRoute, PeerReport, RouteReport};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Manager;
use super::control::{Asked, Control, RoutesOf};

/// An instance that takes longer counts as one that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The two keys that clients expect, always both.
const ROLES: [&str; 2] = ["RouteServiceRole_IN_0", "RouteServiceRole_IN_1"];

/// Answers a question in ARM's shape.
pub(crate) async fn answer(manager: &Manager, question: &Ask) -> Value {
    match question {
        Ask::LearnedRoutes(peer) => learned_routes(manager, &peer.to_ascii_lowercase()).await,
        Ask::AdvertisedRoutes(peer) => advertised_routes(manager, &peer.to_ascii_lowercase()).await,
        Ask::NicEffectiveRoutes(nic) => {
            let rows = effective_routes(manager, &nic.to_ascii_lowercase()).await;
            json!({ "value": rows.iter().map(nic_row).collect::<Vec<_>>() })
        }
        Ask::HubEffectiveRoutes(hub) => hub_routes(manager, &hub.to_ascii_lowercase()).await,
    }
}

/// Asks both instances at once; those that don't answer are left out.
pub(crate) async fn both<'m, T>(
    manager: &'m Manager,
    question: impl Fn(&'m dyn Control) -> Asked<'m, T>,
) -> Vec<(usize, T)> {
    let asked = manager.instances.iter().map(|instance| {
        let answer = question(instance.control.as_ref());
        async move { (instance.index, timeout(PATIENCE, answer).await) }
    });
    let mut answers = Vec::new();
    for (index, answer) in join_all(asked).await {
        match answer {
            Ok(Ok(answer)) => answers.push((index, answer)),
            Err(_) => tracing::warn!(instance = index, "a question was not answered in time"),
            Ok(Err(error)) => tracing::debug!(instance = index, %error, "a question has no answer"),
        }
    }
    answers
}

/// As both instances see it, the first one's rows first; a row both have is there once.
pub(crate) async fn effective_routes(manager: &Manager, nic: &str) -> Vec<EffectiveRoute> {
    let mut merged: Vec<EffectiveRoute> = Vec::new();
    for (_, rows) in both(manager, |control| control.effective_routes(nic)).await {
        let known = merged.len();
        for row in rows {
            let same = |other: &EffectiveRoute| {
                (other.address_prefix, &other.source, &other.state) == (row.address_prefix, &row.source, &row.state)
            };
            if !merged[..known].iter().any(same) {
                merged.push(row);
            }
        }
    }
    merged
}

async fn learned_routes(manager: &Manager, peer: &str) -> Value {
    let of = RoutesOf::Peer(peer.to_owned());
    let answers = both(manager, |control| control.routes(&of)).await;
    roles(answers, |index, route: &RouteReport| {
        // What Azure refuses it doesn't show here; `/routewright/v1/routes` does, with the reason.
        (route.verdict != "rejected").then(|| {
            json!({
                "localAddress": manager.local_address(peer, index),
                "network": route.network,
                "nextHop": route.next_hop,
                "sourcePeer": route.source_peer,
                "origin": "EBgp",
                "asPath": route.as_path,
                "weight": 32768,
                "communities": route.communities,
                "verdict": route.verdict,
            })
        })
    })
}

async fn advertised_routes(manager: &Manager, peer: &str) -> Value {
    let answers = both(manager, |control| control.advertised(peer)).await;
    roles(answers, |index, route| {
        Some(json!({
            "localAddress": manager.local_address(peer, index),
            "network": route.network,
            "nextHop": route.next_hop,
            "origin": "Igp",
            "asPath": route.as_path,
            "weight": 0,
            "communities": route.communities,
        }))
    })
}

fn roles<T>(answers: Vec<(usize, Vec<T>)>, row: impl Fn(usize, &T) -> Option<Value>) -> Value {
    let mut result: Map<String, Value> = ROLES.iter().map(|role| (role.to_string(), json!([]))).collect();
    for (index, rows) in answers {
        let rows = rows.iter().filter_map(|entry| row(index, entry)).collect();
        result.insert(ROLES[index].to_owned(), rows);
    }
    Value::Object(result)
}

fn nic_row(row: &EffectiveRoute) -> Value {
    let mut shown = Map::new();
    if let Some(name) = &row.name {
        shown.insert("name".to_owned(), json!(name));
    }
    shown.insert("source".to_owned(), json!(row.source));
    shown.insert("state".to_owned(), json!(row.state));
    shown.insert("addressPrefix".to_owned(), json!([row.address_prefix]));
    shown.insert("nextHopType".to_owned(), json!(row.next_hop_type));
    shown.insert("nextHopIpAddress".to_owned(), json!(row.next_hop_ip_address));
    let propagation = json!(row.disable_bgp_route_propagation);
    shown.insert("disableBgpRoutePropagation".to_owned(), propagation);
    if let Some(why) = &row.not_installed {
        shown.insert("notInstalled".to_owned(), json!(why));
    }
    Value::Object(shown)
}

async fn hub_routes(manager: &Manager, hub: &str) -> Value {
    let of = RoutesOf::RouteServer(hub.to_owned(), None);
    let mut rows = Vec::new();
    for (_, routes) in both(manager, |control| control.routes(&of)).await {
        for route in routes {
            if !["best", "equal-cost"].contains(&route.verdict.as_str()) {
                continue;
            }
            let row = json!({
                "addressPrefixes": [route.network],
                "nextHops": [route.next_hop],
                "nextHopType": "HubBgpConnection",
                "routeOrigin": route.peer,
                "asPath": route.as_path,
            });
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    rows.extend(manager.hub_prefixes(hub).into_iter().map(|prefix| {
        json!({
            "addressPrefixes": [prefix],
            "nextHops": ["On-link"],
            "nextHopType": "Virtual Network Connection",
            "routeOrigin": hub,
            "asPath": "",
        })
    }));
    json!({ "value": rows })
}

/// Writes `connectionState` into bgpConnections on their way out. Azure leaves it out, to everybody's regret.
pub(crate) async fn fill_connection_states(manager: &Manager, body: &mut Value) {
    let mut peers: Vec<&mut Value> = match body.get_mut("value").and_then(Value::as_array_mut) {
        Some(list) => list.iter_mut().collect(),
        None => vec![body],
    };
    peers.retain(|resource| is_bgp_connection(resource));
    let Some(first) = peers.first().and_then(|peer| peer["id"].as_str()) else {
        return;
    };
    let first = first.to_ascii_lowercase();
    let route_server = first.split("/bgpconnections/").next().unwrap_or_default();
    let answers = both(manager, |control| control.peers(Some(route_server))).await;
    for peer in peers {
        let id = peer["id"].as_str().unwrap_or_default().to_ascii_lowercase();
        let reports = answers.iter().flat_map(|(_, reports)| reports);
        let state = connection_state(reports.filter(|report| report.id == id));
        peer["properties"]["connectionState"] = json!(state);
    }
}

fn is_bgp_connection(resource: &Value) -> bool {
    resource["type"]
        .as_str()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("Microsoft.Network/virtualHubs/bgpConnections"))
        && resource["properties"].is_object()
}

/// One session with either instance is a connection.
fn connection_state<'a>(reports: impl Iterator<Item = &'a PeerReport>) -> &'static str {
    let rank = |report: &PeerReport| match report.state.as_str() {
        "Established" => 3,
        "Connect" | "OpenSent" | "OpenConfirm" | "Active" => 2,
        _ => 1,
    };
    match reports.map(rank).max() {
        Some(3) => "Connected",
        Some(2) => "Connecting",
        Some(_) => "NotConnected",
        None => "Unknown",
    }
}
