//! BGP diagnostics of virtual network gateways, as ARM shows them (arm-shapes §14), and the state of connections.
//!
//! All instances are in one list; `localAddress` says whose row it is.

use std::net::IpAddr;

use ipnet::IpNet;
use rib::RouteSource;
use routeserver::report::{AdvertisedReport, PeerReport, RouteReport};
use serde_json::{Value, json};

use crate::intent;
use crate::limits::spokes_of;
use crate::reports::LEARNED_WEIGHT;
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;
use crate::world::World;

/// `getBgpPeerStatus` of a gateway (key), of all its peers or of those with one address.
pub fn bgp_peer_status(resources: &Resources, gateway: &str, peers: &[PeerReport], only: Option<IpAddr>) -> Value {
    let Some(gateway) = resources.get(gateway) else {
        return list(Vec::new());
    };
    let asn = types::gateway_asn(gateway).0;
    let mut rows = Vec::new();
    for local in types::gateway_addresses(gateway).into_iter().flatten() {
        // Azure lists each instance as a peer of its own, too, of which nothing is known.
        rows.push((local, local, row(local, local, asn, "Unknown")));
        for peer in peers.iter().filter(|peer| peer.local_address == local) {
            rows.push((local, peer.peer_address, peer_row(peer)));
        }
    }
    rows.sort_by_key(|(local, peer, _)| (*local, *peer));
    rows.retain(|(_, peer, _)| only.is_none_or(|only| only == *peer));
    list(rows.into_iter().map(|(_, _, row)| row))
}

fn row(local: IpAddr, neighbor: IpAddr, asn: u32, state: &str) -> Value {
    json!({
        "localAddress": local,
        "neighbor": neighbor,
        "asn": asn,
        "state": state,
        "connectedDuration": null,
        "routesReceived": 0,
        "messagesSent": 0,
        "messagesReceived": 0,
    })
}

fn peer_row(peer: &PeerReport) -> Value {
    let state = match peer.state.as_str() {
        "Established" => "Connected",
        "Idle" => "Idle",
        _ => "Connecting",
    };
    let mut shown = row(peer.local_address, peer.peer_address, peer.peer_asn, state);
    if state == "Connected" {
        shown["connectedDuration"] = json!(peer.since_secs.map(duration));
    }
    shown["routesReceived"] = json!(peer.routes_received);
    shown["messagesSent"] = json!(peer.messages_sent);
    shown["messagesReceived"] = json!(peer.messages_received);
    shown
}

/// As .NET writes a `TimeSpan`: `[days.]hh:mm:ss.fffffff`.
fn duration(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let time = format!("{:02}:{:02}:{:02}.0000000", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => time,
        days => format!("{days}.{time}"),
    }
}

/// `getLearnedRoutes` of a gateway (key), from each instance's routes: the prefixes of the networks it is the gateway of, what was said
/// to be behind tunnels, and what was learned. Rejected routes are left out, as with a route server.
pub fn learned_routes(resources: &Resources, settings: &Settings, gateway: &str, routes: [&[RouteReport]; 2]) -> Value {
    let Some(found) = resources.get(gateway) else {
        return list(Vec::new());
    };
    let networks = network_prefixes(&World::new(resources, settings), found);
    let mut rows = Vec::new();
    for (local, routes) in types::gateway_addresses(found).into_iter().zip(routes) {
        let Some(local) = local else { continue };
        let own = networks.iter().map(|prefix| own_route(local, *prefix));
        rows.extend(own);
        let accepted = routes.iter().filter(|route| route.verdict != "rejected");
        rows.extend(accepted.map(|route| learned_route(local, route)));
    }
    list(rows)
}

/// The address spaces of the gateway's network and of those that use it as their gateway.
fn network_prefixes(world: &World<'_>, gateway: &Resource) -> Vec<IpNet> {
    let subnet = types::gateway_subnet(gateway).unwrap_or_default();
    let network = crate::id::parent_key(&subnet).unwrap_or_default();
    let own = world.get(network).into_iter();
    own.chain(spokes_of(world, network))
        .flat_map(types::address_space)
        .collect()
}

fn own_route(local: IpAddr, prefix: IpNet) -> Value {
    json!({
        "localAddress": local,
        "network": prefix,
        "nextHop": "",
        "sourcePeer": local,
        "origin": "Network",
        "asPath": "",
        "weight": LEARNED_WEIGHT,
    })
}

fn learned_route(local: IpAddr, route: &RouteReport) -> Value {
    let origin = match (route.source, route.internal) {
        (RouteSource::Static, _) => "Network",
        (_, true) => "IBgp",
        (_, false) => "EBgp",
    };
    json!({
        "localAddress": local,
        "network": route.network,
        "nextHop": route.next_hop,
        "sourcePeer": route.source_peer,
        "origin": origin,
        "asPath": route.as_path,
        "weight": LEARNED_WEIGHT,
        "communities": route.communities,
        "verdict": route.verdict,
    })
}

/// The peerings (ids) of a gateway (key) with the peer that has this address.
pub fn peerings_with(resources: &Resources, settings: &Settings, gateway: &str, peer: IpAddr) -> Vec<String> {
    let gateway = intent::of_gateway(resources, settings, gateway);
    let peers = gateway.into_iter().flat_map(|gateway| gateway.peers);
    peers
        .filter(|found| found.address == peer)
        .map(|found| found.id)
        .collect()
}

/// `getAdvertisedRoutes` of a gateway (key), from what each instance tells the peer.
pub fn advertised_routes(resources: &Resources, gateway: &str, routes: [&[AdvertisedReport]; 2]) -> Value {
    let addresses = resources.get(gateway).map(types::gateway_addresses);
    let told = addresses.unwrap_or_default().into_iter().zip(routes);
    list(told.flat_map(|(local, routes)| {
        routes.iter().map(move |route| {
            json!({
                "localAddress": local,
                "network": route.network,
                "nextHop": route.next_hop,
                "sourcePeer": local,
                "origin": "Igp",
                "asPath": route.as_path,
                "weight": 0,
                "communities": route.communities,
            })
        })
    }))
}

fn list(rows: impl IntoIterator<Item = Value>) -> Value {
    json!({ "value": rows.into_iter().collect::<Vec<Value>>() })
}

/// What a connection lives by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifeline {
    /// One of these peerings (ids) is Established.
    Sessions(Vec<String>),
    /// An instance of this gateway (key) is there: the tunnel is not ours to look at.
    Gateway(String),
    /// It carries nothing.
    Nothing,
}

/// What comes and goes over a gateway's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carries {
    /// The gateway (key).
    pub gateway: String,
    /// The peerings (ids).
    pub sessions: Vec<String>,
    /// Where its static routes lead.
    pub far_end: Option<IpAddr>,
}

impl Carries {
    /// Whether a route of the gateway came over it.
    pub fn is_of(&self, route: &RouteReport) -> bool {
        match route.source {
            RouteSource::Static => self.far_end == Some(route.source_peer),
            _ => self.sessions.contains(&route.peer),
        }
    }
}

/// What the connection (key) of a gateway carries; `None`: it is of none.
pub fn carries(resources: &Resources, settings: &Settings, connection: &str) -> Option<Carries> {
    let found = resources.get(connection)?;
    let gateway = types::gateway_of(found)?;
    let intent = intent::of_gateway(resources, settings, &gateway)?;
    let below = format!("{connection}/");
    let ids = intent.peers.into_iter().map(|peer| peer.id);
    let site = types::far_end_as(found, types::SITE).and_then(|key| resources.get(&key));
    Some(Carries {
        gateway,
        sessions: ids.filter(|id| id == connection || id.starts_with(&below)).collect(),
        far_end: site.and_then(|site| types::site_of(site).address),
    })
}

/// What tells whether the connection (key) is Connected.
pub fn lifeline(resources: &Resources, settings: &Settings, connection: &str) -> Lifeline {
    let Some(Carries { gateway, sessions, .. }) = carries(resources, settings, connection) else {
        return Lifeline::Nothing;
    };
    let is_site = resources
        .get(connection)
        .is_some_and(|found| types::far_end_as(found, types::SITE).is_some());
    match (sessions.is_empty(), is_site) {
        (false, _) => Lifeline::Sessions(sessions),
        (true, true) => Lifeline::Gateway(gateway),
        (true, false) => Lifeline::Nothing,
    }
}

/// Fills `connectionStatus` of connections in an answer's body, be it one resource or a list. `status` is asked by key.
pub fn fill_connection_statuses(body: &mut Value, status: &dyn Fn(&str) -> &'static str) {
    crate::reports::fill(body, types::CONNECTION, "connectionStatus", status);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_azure_writes_them() {
        for (secs, expected) in [
            (0, "00:00:00.0000000"),
            (6199, "01:43:19.0000000"),
            (86_400, "1.00:00:00.0000000"),
            (1_000_000, "11.13:46:40.0000000"),
        ] {
            assert_eq!(duration(secs), expected);
        }
    }
}
