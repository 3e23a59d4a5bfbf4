//! Route maps on the connections of gateways (az §3): whose maps they are, which connections have any, what they become for the
//! instances, and what `inboundRoutes` and `outboundRoutes` are asked of.
#![allow(clippy::unwrap_used)]

mod common;

use arm::diagnostics::{self, Carries};
use arm::reports::inbound_routes;
use arm::{Ask, Method, Outcome, intent};
use common::hybrid::*;
use common::*;
use routeserver::intent::{GatewayIntent, PeerKind};
use routeserver::report::RouteReport;
use routeserver::route_map::Action;
use serde_json::{Value, json};

const MAP: &str = "virtualHubs/rs/routeMaps/in1";

fn id(path: &str) -> String {
    format!("{NET}/{path}")
}

fn drops() -> Value {
    json!({ "properties": { "rules": [{ "name": "r", "actions": [{ "type": "Drop" }] }] } })
}

fn prepends() -> Value {
    json!({ "properties": { "rules": [{ "name": "r", "actions": [
        { "type": "Add", "parameters": [{ "asPath": ["64600"] }] },
    ] }] } })
}

/// The gateways, a site and a circuit; two maps, of which the connections have none.
fn lab_with_maps() -> Lab {
    let mut lab = lab_with_circuit();
    lab.put_net("localNetworkGateways/site", site());
    lab.put_net(MAP, drops());
    lab.put_net("virtualHubs/rs/routeMaps/out1", prepends());
    lab
}

fn both() -> Value {
    json!({ "inboundRouteMap": { "id": id(MAP) }, "outboundRouteMap": { "id": id("virtualHubs/rs/routeMaps/out1") } })
}

fn with_maps(connection: Value) -> Value {
    with(
        with(connection, "routingConfiguration", both()),
        "enableBgp",
        json!(true),
    )
}

fn gateway_intent(lab: &Lab, name: &str) -> GatewayIntent {
    let gateways = intent(&lab.resources, &lab.settings).gateways;
    gateways.into_iter().find(|gateway| gateway.name == name).unwrap()
}

#[test]
fn a_sites_connection_has_maps_for_its_session_and_its_static_prefixes() {
    let mut lab = lab_with_maps();
    let shown = lab.put_net("connections/c", with_maps(connection()));
    assert_eq!(shown["properties"]["routingConfiguration"], both());
    let gateway = gateway_intent(&lab, "gw");
    for peer in &gateway.peers {
        let has = (peer.inbound_route_map.is_some(), peer.outbound_route_map.is_some());
        assert_eq!(
            has,
            (peer.kind == PeerKind::Site, peer.kind == PeerKind::Site),
            "{}",
            peer.id
        );
    }
    let site = gateway.peers.iter().find(|peer| peer.kind == PeerKind::Site).unwrap();
    let inbound = site.inbound_route_map.as_ref().unwrap();
    assert_eq!(inbound.rules[0].actions, [Action::Drop]);
    let [of_static] = &gateway.static_route_maps[..] else {
        panic!("{:?}", gateway.static_route_maps);
    };
    assert_eq!(&of_static.inbound_route_map, inbound);
    assert_eq!(of_static.next_hop, gateway.static_routes[0].next_hop);
    assert_eq!(of_static.peering, gateway.static_routes[0].peering);
    // PUT replaces: without it there are none.
    lab.put_net("connections/c", with(connection(), "enableBgp", json!(true)));
    let gateway = gateway_intent(&lab, "gw");
    assert!(gateway.peers.iter().all(|peer| peer.inbound_route_map.is_none()));
    assert_eq!(gateway.static_route_maps, []);
}

#[test]
fn a_circuits_connection_has_maps_for_both_links_at_the_gateway_and_none_at_the_providers_edge() {
    let mut lab = lab_with_maps();
    lab.put_net("connections/erc", with_maps(circuit_connection()));
    let mapped = |gateway: GatewayIntent| -> Vec<String> {
        let mapped = gateway
            .peers
            .into_iter()
            .filter(|peer| peer.outbound_route_map.is_some());
        mapped.map(|peer| peer.name).collect()
    };
    assert_eq!(mapped(gateway_intent(&lab, "er")), ["erc-primary", "erc-secondary"]);
    assert!(mapped(gateway_intent(&lab, "circuit")).is_empty());
}

#[test]
fn a_map_knows_the_connections_of_gateways_and_stays_while_it_has_any() {
    let mut lab = lab_with_maps();
    lab.put_net("connections/c", with_maps(connection()));
    let map = lab.get_net(MAP);
    assert_eq!(
        map["properties"]["associatedInboundConnections"],
        json!([id("connections/c")])
    );
    assert_eq!(map["properties"]["associatedOutboundConnections"], json!([]));
    assert_eq!(lab.delete_net(MAP).unwrap_err().code, "InUseRouteMapCannotBeDeleted");
    lab.delete_net("connections/c").unwrap();
    lab.delete_net(MAP).unwrap();
}

#[test]
fn maps_are_for_sites_and_circuits_and_of_the_route_server_in_the_gateways_network() {
    let mut lab = lab_with_maps();
    lab.put_net("virtualHubs/other", json!({ "location": "westeurope" }));
    lab.put_net("virtualHubs/other/routeMaps/in1", drops());
    let refusal = |lab: &mut Lab, connection: Value, routing: Value| {
        let body = with(connection, "routingConfiguration", routing);
        lab.refusal("connections/c", body)
    };
    let of = |map: &str| json!({ "inboundRouteMap": { "id": id(map) } });
    let vnet_to_vnet = json!({ "location": "westeurope", "properties": {
        "connectionType": "Vnet2Vnet",
        "virtualNetworkGateway1": { "id": id("virtualNetworkGateways/gw") },
        "virtualNetworkGateway2": { "id": id("virtualNetworkGateways/gw") },
    } });
    assert_eq!(
        refusal(&mut lab, vnet_to_vnet.clone(), of(MAP)),
        "InvalidRoutingConfigurationForConnectionType"
    );
    for (map, code) in [
        ("virtualHubs/other/routeMaps/in1", "InvalidResourceReference"),
        ("virtualHubs/rs/routeMaps/none", "InvalidResourceReference"),
        ("virtualHubs/rs", "LinkedInvalidPropertyId"),
    ] {
        assert_eq!(refusal(&mut lab, connection(), of(map)), code, "{map}");
    }
    // One that names no map is Virtual WAN's business, and kept.
    let others = json!({ "propagatedRouteTables": { "labels": [], "ids": [] } });
    let shown = lab.put_net(
        "connections/v",
        with(vnet_to_vnet, "routingConfiguration", others.clone()),
    );
    assert_eq!(shown["properties"]["routingConfiguration"], others);
    // Without its ip configuration the route server is in no network.
    lab.delete_net("virtualHubs/rs/ipConfigurations/Default").unwrap();
    assert_eq!(refusal(&mut lab, connection(), of(MAP)), "InvalidResourceReference");
}

#[test]
fn the_routes_of_a_gateways_connection_are_asked_of_the_route_server_in_its_network() {
    let mut lab = lab_with_maps();
    lab.put_net("connections/c", with_maps(connection()));
    lab.put_net("virtualHubs/other", json!({ "location": "westeurope" }));
    let key = id("connections/c").to_lowercase();
    let body = json!({ "resourceUri": id("connections/c"), "connectionType": "VpnConnection" });
    let ask = |lab: &mut Lab, path: &str, body: Value| lab.request(request(Method::Post, &id(path), Some(body)));
    match ask(&mut lab, "virtualHubs/rs/inboundRoutes", body.clone()).unwrap() {
        Outcome::Ask(asked, _) => assert_eq!(asked, Ask::InboundRoutes(key)),
        other => panic!("{other:?}"),
    }
    assert!(ask(&mut lab, "virtualHubs/other/inboundRoutes", body).is_err());
    let missing = json!({ "resourceUri": id("connections/none") });
    assert!(ask(&mut lab, "virtualHubs/rs/inboundRoutes", missing).is_err());
}

#[test]
fn what_comes_over_a_connection_is_what_its_sessions_said_and_its_static_prefixes() {
    let mut lab = lab_with_maps();
    lab.put_net("connections/c", with_maps(connection()));
    let carries = |lab: &Lab, path: &str| diagnostics::carries(&lab.resources, &lab.settings, &id(path).to_lowercase());
    let of_site = carries(&lab, "connections/c").unwrap();
    let key = id("connections/c").to_lowercase();
    let expected = Carries {
        gateway: id("virtualNetworkGateways/gw").to_lowercase(),
        sessions: vec![key.clone()],
        far_end: Some("198.51.100.7".parse().unwrap()),
    };
    assert_eq!(of_site, expected);
    let of_circuit = carries(&lab, "connections/erc").unwrap();
    let links = ["primary", "secondary"].map(|link| format!("{}/{link}", id("connections/erc").to_lowercase()));
    assert_eq!(of_circuit.sessions, links);
    assert_eq!(carries(&lab, "virtualHubs/rs/bgpConnections/sdwan"), None);

    let route = |network: &str, peer: &str, from: &str, source: &str| -> RouteReport {
        serde_json::from_value(json!({
            "network": network, "nextHop": from, "peer": peer, "sourcePeer": from, "source": source, "asPath": "",
            "origin": "igp", "communities": [], "verdict": "best", "instance": 0,
        }))
        .unwrap()
    };
    let routes = [
        route("10.50.0.0/16", &key, "192.168.255.1", "Site"),
        route("10.51.0.0/16", "", "198.51.100.7", "Static"),
        route("10.52.0.0/16", "", "198.51.100.8", "Static"),
        route("10.53.0.0/16", "another", "198.51.100.7", "RouteServer"),
    ];
    let shown = inbound_routes(routes.iter().filter(|route| of_site.is_of(route)));
    let prefixes: Vec<&Value> = shown["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["prefix"])
        .collect();
    assert_eq!(prefixes, ["10.50.0.0/16", "10.51.0.0/16"]);
}
