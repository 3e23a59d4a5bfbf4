//! The instances' reports as ARM shows them: the bodies of `learnedRoutes`, `advertisedRoutes`, `effectiveRouteTable` and
//! `effectiveRoutes` (arm-shapes §4, §5, §12).
//!
//! Clients drop members that they don't know, so ours (communities, verdict, notInstalled) stand beside Azure's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use rib::RouteSource;
use routeserver::best_next_hops;
use routeserver::report::{AdvertisedReport, EffectiveRoute, RouteReport};
use serde_json::{Map, Value, json};

use crate::id::parent_key;
use crate::intent;
use crate::limits::served_networks;
use crate::resource::Resources;
use crate::settings::Settings;
use crate::types;
use crate::world::World;

/// The weight that Azure shows on learned routes.
pub(crate) const LEARNED_WEIGHT: u32 = 32768;

/// Both keys exist always: PowerShell wants exactly these two.
const INSTANCE_KEYS: [&str; 2] = ["RouteServiceRole_IN_0", "RouteServiceRole_IN_1"];

/// `learnedRoutes` of a bgpConnection (key), from each instance's routes; an instance that can't be asked has none. Rejected routes
/// are left out, as in Azure: they are in our own `/routewright/v1`, with the reason.
pub fn learned_routes(resources: &Resources, connection: &str, routes: [&[RouteReport]; 2]) -> Value {
    let addresses = instance_addresses(resources, connection);
    by_instance(|instance| {
        let accepted = routes[instance]
            .iter()
            .filter(|route| route.verdict != "rejected" || was_learned(route));
        let of_peer = accepted.filter(|route| route.peer.eq_ignore_ascii_case(connection));
        of_peer.map(|route| learned_route(route, addresses[instance])).collect()
    })
}

/// What a route map drops was learned all the same, and so was what it changes, whatever the rules say of what it became (az §3).
fn was_learned(route: &RouteReport) -> bool {
    let by_map = ["dropped-by-route-map", "changed-by-route-map"];
    route.becomes.is_some() || route.reason.as_deref().is_some_and(|reason| by_map.contains(&reason))
}

fn learned_route(route: &RouteReport, local: Option<IpAddr>) -> Value {
    let mut shown = json!({
        "localAddress": local,
        "network": route.network,
        "nextHop": route.next_hop,
        "sourcePeer": route.source_peer,
        "origin": "EBgp",
        "asPath": route.as_path,
        "weight": LEARNED_WEIGHT,
        "communities": route.communities,
        "verdict": route.verdict,
    });
    if let Some(reason) = &route.reason {
        shown["reason"] = json!(reason);
    }
    shown
}

/// `advertisedRoutes` of a bgpConnection (key), from what each instance tells the peer.
pub fn advertised_routes(resources: &Resources, connection: &str, routes: [&[AdvertisedReport]; 2]) -> Value {
    let addresses = instance_addresses(resources, connection);
    by_instance(|instance| {
        let shown = routes[instance].iter().map(|route| {
            json!({
                "localAddress": addresses[instance],
                "network": route.network,
                "nextHop": route.next_hop,
                "origin": "Igp",
                "asPath": route.as_path,
                "weight": 0,
                "communities": route.communities,
            })
        });
        shown.collect()
    })
}

/// `inboundRoutes` of a connection: what its inbound route map left of what came over it, whichever instance received it.
pub fn inbound_routes<'r>(of_peer: impl IntoIterator<Item = &'r RouteReport>) -> Value {
    let of_peer = of_peer.into_iter();
    let accepted = of_peer.filter(|route| route.verdict != "rejected");
    mapped_routes(accepted.map(|route| match &route.becomes {
        Some(became) => (became.network, &became.communities, &became.as_path),
        None => (route.network, &route.communities, &route.as_path),
    }))
}

/// `outboundRoutes` of a connection: what its far end is told, after its outbound route map.
pub fn outbound_routes(routes: &[AdvertisedReport]) -> Value {
    mapped_routes(
        routes
            .iter()
            .map(|route| (route.network, &route.communities, &route.as_path)),
    )
}

/// Each once, in the order of prefixes.
fn mapped_routes<'r>(routes: impl Iterator<Item = (IpNet, &'r Vec<String>, &'r String)>) -> Value {
    let routes: BTreeSet<_> = routes.collect();
    let shown = routes.into_iter().map(|(prefix, communities, as_path)| {
        json!({ "prefix": prefix, "bgpCommunities": communities.join(","), "asPath": as_path })
    });
    json!({ "value": shown.collect::<Vec<Value>>() })
}

fn by_instance(list: impl Fn(usize) -> Vec<Value>) -> Value {
    let mut shown = Map::new();
    for (instance, key) in INSTANCE_KEYS.iter().enumerate() {
        shown.insert((*key).to_owned(), Value::Array(list(instance)));
    }
    Value::Object(shown)
}

/// The addresses of IN_0 and IN_1 of the connection's route server.
fn instance_addresses(resources: &Resources, connection: &str) -> [Option<IpAddr>; 2] {
    let connection = connection.to_ascii_lowercase();
    let addresses = parent_key(&connection).and_then(|hub| {
        let configuration = resources.children(hub, "ipConfigurations").next();
        let get = |key: &str| resources.by_key(key);
        let found = resources.by_key(&connection);
        match types::peer_over_ipv6(found.into_iter()) {
            Some(_) => types::provisioned_instances_v6(configuration, get).map(|found| found.map(IpAddr::V6)),
            None => types::provisioned_instances(configuration, get).map(|found| found.map(IpAddr::V4)),
        }
    });
    match addresses {
        Some(addresses) => addresses.map(Some),
        None => [None, None],
    }
}

/// `effectiveRouteTable` of a NIC, from the tables of the instances that answered: rows that agree are one, with the next hops that
/// an agent would take, those of the best rank. Pass only the instances that an agent would believe.
pub fn effective_route_table(tables: &[&[EffectiveRoute]]) -> Value {
    let mut rows: Vec<Vec<&EffectiveRoute>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in tables.iter().flat_map(|table| table.iter()) {
        let place = *places.entry(row_key(row)).or_insert_with(|| {
            rows.push(Vec::new());
            rows.len() - 1
        });
        rows[place].push(row);
    }
    let shown = rows.iter().filter_map(|same| one_row(same));
    json!({ "value": shown.map(|row| effective_row(&row)).collect::<Vec<Value>>() })
}

/// What instances say of one row, as one.
fn one_row(same: &[&EffectiveRoute]) -> Option<EffectiveRoute> {
    let best = same.iter().min_by_key(|row| row.rank)?;
    let next_hops = same.iter().map(|row| (row.next_hop_ip_address.as_slice(), row.rank));
    Some(EffectiveRoute {
        next_hop_ip_address: best_next_hops(next_hops),
        ..EffectiveRoute::clone(best)
    })
}

/// What two instances' rows must share to be one row.
fn row_key(row: &EffectiveRoute) -> String {
    format!(
        "{}|{}|{}|{}|{}",
        row.address_prefix,
        row.source,
        row.state,
        row.next_hop_type,
        row.name.as_deref().unwrap_or_default()
    )
}

fn effective_row(row: &EffectiveRoute) -> Value {
    let mut shown = Map::new();
    if let Some(name) = &row.name {
        shown.insert("name".to_owned(), json!(name));
    }
    shown.insert("source".to_owned(), json!(row.source));
    shown.insert("state".to_owned(), json!(row.state));
    shown.insert("addressPrefix".to_owned(), json!([row.address_prefix]));
    shown.insert("nextHopType".to_owned(), json!(row.next_hop_type));
    shown.insert("nextHopIpAddress".to_owned(), json!(row.next_hop_ip_address));
    shown.insert(
        "disableBgpRoutePropagation".to_owned(),
        json!(row.disable_bgp_route_propagation),
    );
    if let Some(reason) = &row.not_installed {
        shown.insert("notInstalled".to_owned(), json!(reason));
    }
    Value::Object(shown)
}

/// `effectiveRoutes` of a route server (key): the virtual network's prefixes and those of networks that use its gateways, then what
/// peers announced, best paths only.
pub fn hub_effective_routes(resources: &Resources, hub: &str, routes: &[RouteReport]) -> Value {
    let hub = hub.to_ascii_lowercase();
    let hub_id = resources.get(&hub).map_or(hub.as_str(), |found| found.id.as_str());
    let settings = Settings::default();
    let mut shown: Vec<Value> = served_networks(&World::new(resources, &settings), &hub)
        .into_iter()
        .flat_map(types::address_space)
        .map(|prefix| {
            json!({
                "addressPrefixes": [prefix],
                "nextHops": ["On-link"],
                "nextHopType": "Virtual Network Connection",
                "routeOrigin": hub_id,
                "asPath": "",
            })
        })
        .collect();
    let own_peers = format!("{hub}/");
    let is_chosen = |route: &&RouteReport| {
        matches!(route.verdict.as_str(), "best" | "equal-cost") && route.peer.starts_with(&own_peers)
    };
    // One row for all next hops that differ in nothing else.
    let mut rows: BTreeMap<(IpNet, &str, &str), (Vec<IpAddr>, &RouteReport)> = BTreeMap::new();
    for route in routes.iter().filter(is_chosen) {
        let became = route.becomes.as_ref();
        let network = became.map_or(route.network, |became| became.network);
        let next_hop = became.map_or(route.next_hop, |became| became.next_hop);
        let as_path = became.map_or(&route.as_path, |became| &became.as_path);
        let row = rows.entry((network, hub_next_hop_type(route.source), as_path));
        let (hops, _) = row.or_insert((Vec::new(), route));
        if !hops.contains(&next_hop) {
            hops.push(next_hop);
        }
    }
    shown.extend(
        rows.into_iter()
            .map(|((network, next_hop_type, as_path), (hops, route))| {
                json!({
                    "addressPrefixes": [network],
                    "nextHops": hops,
                    "nextHopType": next_hop_type,
                    "routeOrigin": hub_route_origin(resources, &hub, route),
                    "asPath": as_path,
                })
            }),
    );
    json!({ "value": shown })
}

/// Whom a route server learned a route from, in Azure's words (az §4.10).
fn hub_next_hop_type(source: RouteSource) -> &'static str {
    match source {
        RouteSource::VpnGateway => "VPN",
        RouteSource::ExpressRoute => "ExpressRoute",
        _ => "HubBgpConnection",
    }
}

/// The bgpConnection, or the gateway, that a route came from.
fn hub_route_origin(resources: &Resources, hub: &str, route: &RouteReport) -> String {
    if let Some(connection) = resources.get(&route.peer) {
        return connection.id.clone();
    }
    let gateway = intent::gateway_behind(resources, hub, &route.peer);
    gateway.map_or_else(|| route.peer.clone(), |gateway| gateway.id.clone())
}

/// Fills `connectionState` of bgpConnections in an answer's body, be it one resource or a list. `state` is asked by key and says
/// Connected, Connecting, NotConnected or Unknown.
pub fn fill_connection_states(body: &mut Value, state: impl Fn(&str) -> &'static str) {
    fill(body, types::BGP_CONNECTION, "connectionState", &state);
}

/// Fills a property of resources of one type, in one or in a list, with what `value` says for the key.
pub(crate) fn fill(body: &mut Value, kind: &str, name: &str, value: &dyn Fn(&str) -> &'static str) {
    if let Some(list) = body.get_mut("value").and_then(Value::as_array_mut) {
        for resource in list {
            fill(resource, kind, name, value);
        }
        return;
    }
    if body["type"] != kind {
        return;
    }
    let key = body["id"].as_str().unwrap_or_default().to_ascii_lowercase();
    if let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(name.to_owned(), json!(value(&key)));
    }
}
