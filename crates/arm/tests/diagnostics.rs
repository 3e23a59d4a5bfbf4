//! BGP diagnostics of gateways in ARM's JSON, what connections live by, and what is advised.
#![allow(clippy::unwrap_used)]

mod common;

use arm::diagnostics::{
    Lifeline, advertised_routes, bgp_peer_status, fill_connection_statuses, learned_routes, lifeline, peerings_with,
};
use arm::reports::hub_effective_routes;
use common::hybrid::*;
use common::*;
use routeserver::intent::PeerIntent;
use routeserver::report::{AdvertisedReport, PeerReport, RouteReport};
use routeserver::route_map::Action;
use serde_json::{Value, json};

fn key(path: &str) -> String {
    format!("{NET}/{path}").to_lowercase()
}

fn gw() -> String {
    key("virtualNetworkGateways/gw")
}

fn session(local: &str, peer: &str, asn: u32, state: &str) -> PeerReport {
    serde_json::from_value(json!({
        "id": "x", "name": "x", "routeServer": gw(), "kind": "RouteServer", "instance": 0, "localAddress": local, "peerAddress": peer,
        "peerAsn": asn, "state": state, "sinceSecs": 6199, "establishedCount": 1, "lastError": null, "holdTimeSecs": 180,
        "peerIdentifier": null, "capabilities": [], "direction": null, "routesReceived": 4, "routesAccepted": 4, "routesAdvertised": 1,
        "routeLimit": 0, "updatesReceived": 0, "mendedUpdates": 0, "messagesReceived": 144, "messagesSent": 350,
    }))
    .unwrap()
}

fn route(peer: &str, network: &str, source: &str, internal: bool, verdict: &str) -> RouteReport {
    serde_json::from_value(json!({
        "network": network, "nextHop": "10.1.1.4", "peer": peer, "sourcePeer": "10.1.0.4", "source": source, "internal": internal,
        "asPath": "65001", "origin": "igp", "communities": [], "verdict": verdict, "reason": null, "instance": 0,
    }))
    .unwrap()
}

/// Some members of each row, joined.
fn rows(shown: &Value, members: &[&str]) -> Vec<String> {
    let rows = shown["value"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let one = |row: &Value| {
        members
            .iter()
            .map(|name| text(&row[*name]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    rows.map(one).collect()
}

#[test]
fn peer_status_lists_every_session_of_every_instance_and_the_instance_itself_as_unknown() {
    let lab = lab_with_gateways();
    let sessions = [
        session("10.1.255.5", "10.1.0.4", 65515, "Active"),
        session("10.1.255.4", "10.1.0.4", 65515, "Established"),
        session("10.1.255.4", "192.168.255.1", 65010, "Idle"),
    ];
    let shown = bgp_peer_status(&lab.resources, &gw(), &sessions, None);
    assert_eq!(
        rows(
            &shown,
            &[
                "localAddress",
                "neighbor",
                "asn",
                "state",
                "connectedDuration",
                "routesReceived"
            ]
        ),
        [
            "10.1.255.4 10.1.0.4 65515 Connected 01:43:19.0000000 4",
            "10.1.255.4 10.1.255.4 65515 Unknown null 0",
            "10.1.255.4 192.168.255.1 65010 Idle null 4",
            "10.1.255.5 10.1.0.4 65515 Connecting null 4",
            "10.1.255.5 10.1.255.5 65515 Unknown null 0",
        ]
    );
    let only = bgp_peer_status(&lab.resources, &gw(), &sessions, "10.1.0.4".parse().ok());
    assert_eq!(
        rows(&only, &["localAddress", "neighbor"]),
        ["10.1.255.4 10.1.0.4", "10.1.255.5 10.1.0.4"]
    );
}

#[test]
fn learned_routes_tell_networks_tunnels_and_inside_from_outside() {
    let lab = lab_with_gateways();
    let first = [
        route("p", "10.250.0.0/16", "RouteServer", true, "best"),
        route("p", "10.251.0.0/16", "Site", false, "lost"),
        route("", "192.168.0.0/16", "Static", false, "best"),
        route("p", "10.1.0.0/24", "Site", false, "rejected"),
    ];
    let shown = learned_routes(&lab.resources, &lab.settings, &gw(), [&first, &[]]);
    assert_eq!(
        rows(&shown, &["localAddress", "network", "origin", "sourcePeer", "asPath"]),
        [
            "10.1.255.4 10.1.0.0/16 Network 10.1.255.4 ",
            "10.1.255.4 10.250.0.0/16 IBgp 10.1.0.4 65001",
            "10.1.255.4 10.251.0.0/16 EBgp 10.1.0.4 65001",
            "10.1.255.4 192.168.0.0/16 Network 10.1.0.4 65001",
            "10.1.255.5 10.1.0.0/16 Network 10.1.255.5 ",
        ]
    );
}

#[test]
fn advertised_routes_are_asked_of_the_peering_that_has_the_address() {
    let lab = lab_with_gateways();
    let peerings = |address: &str| peerings_with(&lab.resources, &lab.settings, &gw(), address.parse().unwrap());
    assert_eq!(peerings("10.1.0.5"), [format!("{}/routeservers/rs-in_1", gw())]);
    assert_eq!(peerings("10.9.9.9"), [""; 0]);
    let told: AdvertisedReport = serde_json::from_value(json!({
        "network": "10.1.0.0/16", "nextHop": "10.1.255.5", "asPath": "", "communities": [],
    }))
    .unwrap();
    let shown = advertised_routes(&lab.resources, &gw(), [&[], &[told]]);
    assert_eq!(
        rows(&shown, &["localAddress", "network", "nextHop", "origin", "weight"]),
        ["10.1.255.5 10.1.0.0/16 10.1.255.5 Igp 0"]
    );
}

#[test]
fn a_connection_lives_by_its_sessions_or_else_by_its_gateway() {
    let mut lab = lab_with_circuit();
    lab.put_net("localNetworkGateways/site", site());
    let c = key("connections/c");
    let find = |lab: &Lab, connection: &str| lifeline(&lab.resources, &lab.settings, connection);
    lab.put_net("connections/c", connection());
    assert_eq!(find(&lab, &c), Lifeline::Gateway(gw()));
    lab.put_net("connections/c", with(connection(), "enableBgp", json!(true)));
    assert_eq!(find(&lab, &c), Lifeline::Sessions(vec![c.clone()]));
    let erc = key("connections/erc");
    let links = vec![format!("{erc}/primary"), format!("{erc}/secondary")];
    assert_eq!(find(&lab, &erc), Lifeline::Sessions(links));
    lab.delete_net(PRIVATE_PEERING).unwrap();
    assert_eq!(find(&lab, &erc), Lifeline::Nothing);
    let mut shown = lab.get_net("connections");
    fill_connection_statuses(&mut shown, &|key| if key == c { "Connected" } else { "NotConnected" });
    let status = |at: usize| shown["value"][at]["properties"]["connectionStatus"].clone();
    assert_eq!((status(0), status(1)), (json!("Connected"), json!("NotConnected")));
}

#[test]
fn a_hub_shows_routes_of_gateways_with_their_type_and_one_row_for_each_path() {
    let lab = lab_with_gateways();
    let hub = key("virtualHubs/rs");
    let at = |mut route: RouteReport, next_hop: &str| {
        route.next_hop = next_hop.parse().unwrap();
        route
    };
    let vpn = |instance| format!("{hub}/gateways/vpn-gw-in_{instance}");
    let nva = format!("{hub}/bgpconnections/sdwan");
    let routes = [
        at(
            route(&vpn(0), "192.168.0.0/16", "VpnGateway", true, "best"),
            "10.1.255.4",
        ),
        at(
            route(&vpn(1), "192.168.0.0/16", "VpnGateway", true, "equal-cost"),
            "10.1.255.5",
        ),
        at(route(&nva, "192.168.0.0/16", "Nva", false, "equal-cost"), "10.1.1.4"),
        at(
            route(
                &format!("{hub}/gateways/expressroute-er-in_0"),
                "10.99.0.0/16",
                "ExpressRoute",
                true,
                "best",
            ),
            "10.1.255.6",
        ),
    ];
    let shown = hub_effective_routes(&lab.resources, &hub, &routes);
    assert_eq!(
        rows(&shown, &["addressPrefixes", "nextHopType", "nextHops", "routeOrigin"])[1..],
        [
            format!(r#"["10.99.0.0/16"] ExpressRoute ["10.1.255.6"] {NET}/virtualNetworkGateways/er"#),
            format!(r#"["192.168.0.0/16"] HubBgpConnection ["10.1.1.4"] {NET}/virtualHubs/rs/bgpConnections/sdwan"#),
            format!(r#"["192.168.0.0/16"] VPN ["10.1.255.4","10.1.255.5"] {NET}/virtualNetworkGateways/gw"#),
        ]
    );
}

#[test]
fn branch_to_branch_with_a_vpn_gateway_that_azure_would_not_have_is_advised_against() {
    let mut lab = lab();
    let own = with(gateway(&["gw-pip0"]), "bgpSettings", json!({ "asn": 300 }));
    lab.put_net("virtualNetworkGateways/gw", own);
    lab.put_net("virtualNetworkGateways/er", express_route_gateway());
    assert_eq!(arm::advice(&lab.resources, &lab.settings), [""; 0]);
    let hub =
        json!({ "location": "westeurope", "properties": { "sku": "Standard", "allowBranchToBranchTraffic": true } });
    lab.put_net("virtualHubs/rs", hub);
    let told = arm::advice(&lab.resources, &lab.settings);
    assert_eq!(told.len(), 2, "{told:?}");
    for (sentence, part) in told.iter().zip(["active-active", "ASN 300"]) {
        assert!(
            sentence.contains(part) && sentence.contains("/virtualHubs/rs"),
            "{sentence}"
        );
        assert!(sentence.contains("/virtualNetworkGateways/gw"), "{sentence}");
    }
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0", "gw-pip1"]));
    assert_eq!(arm::advice(&lab.resources, &lab.settings), [""; 0]);
}

#[test]
fn the_number_of_a_gateway_is_compared_with_that_of_its_route_server() {
    let mut lab = lab_with_gateways();
    let hub =
        json!({ "location": "westeurope", "properties": { "sku": "Standard", "allowBranchToBranchTraffic": true } });
    lab.put_net("virtualHubs/rs", hub);
    lab.settings.by_key.insert(key("virtualHubs/rs"), json!({ "asn": 300 }));
    let told = arm::advice(&lab.resources, &lab.settings);
    assert_eq!(told.len(), 2, "{told:?}");
    for (sentence, gateway) in told.iter().zip(["ExpressRoute gateway", "VPN gateway"]) {
        assert!(
            sentence.starts_with(gateway) && sentence.contains("ASN 300"),
            "{sentence}"
        );
    }
    let own = with(gateway(&["gw-pip0", "gw-pip1"]), "bgpSettings", json!({ "asn": 300 }));
    lab.put_net("virtualNetworkGateways/gw", own);
    let told = arm::advice(&lab.resources, &lab.settings);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("ExpressRoute gateway"), "{told:?}");
}

#[test]
fn an_express_route_gateway_of_an_earlier_version_is_advised_to_be_written_again_and_has_two_instances_then() {
    let mut lab = lab_with_gateways();
    let id = format!("{NET}/virtualNetworkGateways/er");
    let mut stored = lab.resources.get(&id).unwrap().clone();
    let properties = stored.body["properties"].as_object_mut().unwrap();
    properties.remove("secondInstanceAddress").unwrap();
    lab.resources.put(stored);
    let told = arm::advice(&lab.resources, &lab.settings);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("one instance") && told[0].contains(&id), "{told:?}");
    let shown = lab.get_net("virtualNetworkGateways/er");
    lab.put_net("virtualNetworkGateways/er", shown);
    assert_eq!(arm::advice(&lab.resources, &lab.settings), [""; 0]);
}

#[test]
fn a_route_table_of_gateway_subnet_that_keeps_bgp_away_is_advised_against() {
    let mut lab = lab_with_gateways();
    let table =
        |disabled: bool| json!({ "location": "westeurope", "properties": { "disableBgpRoutePropagation": disabled } });
    lab.put_net("routeTables/t", table(true));
    assert_eq!(arm::advice(&lab.resources, &lab.settings), [""; 0]);
    let mut subnet = lab.get_net("virtualNetworks/hub/subnets/GatewaySubnet");
    subnet["properties"]["routeTable"] = json!({ "id": format!("{NET}/routeTables/t") });
    lab.put_net("virtualNetworks/hub/subnets/GatewaySubnet", subnet);
    let told = arm::advice(&lab.resources, &lab.settings);
    assert_eq!(told.len(), 2, "one for each gateway: {told:?}");
    assert!(
        told.iter().all(|sentence| sentence.contains("/routeTables/t")),
        "{told:?}"
    );
    lab.put_net("routeTables/t", table(false));
    assert_eq!(arm::advice(&lab.resources, &lab.settings), [""; 0]);
}

#[test]
fn what_an_earlier_version_stored_and_this_one_would_refuse_is_not_followed_and_said() {
    let mut lab = lab_with_circuit();
    let path = format!("{NET}/{PRIVATE_PEERING}");
    let mut peering = lab.resources.get(&path).unwrap().clone();
    peering.body["properties"]["sharedKey"] = json!("k".repeat(81));
    lab.resources.put(peering);
    let gateways = arm::intent(&lab.resources, &lab.settings).gateways;
    let edge = gateways.iter().find(|gateway| gateway.name == "circuit").unwrap();
    for customer in edge.peers.iter().filter(|peer| peer.instance.is_some()) {
        assert!(customer.admin_down && customer.md5_password.is_none(), "{customer:?}");
    }
    let told = arm::advice(&lab.resources, &lab.settings);
    assert!(
        told.len() == 1 && told[0].contains("shared key") && !told[0].contains("kkk"),
        "{told:?}"
    );

    lab.put_net(PRIVATE_PEERING, with(private_peering(), "sharedKey", json!("")));
    assert_eq!(arm::advice(&lab.resources, &lab.settings), [""; 0]);
    let rules = json!([{ "name": "r", "actions": [{ "type": "Add", "parameters": [{ "asPath": ["64600"] }] }] }]);
    let map = "virtualHubs/rs/routeMaps/m";
    lab.put_net(map, json!({ "properties": { "rules": rules } }));
    let mut connection = peer("10.1.1.4", 65001);
    connection["properties"]["routingConfiguration"] = json!({ "inboundRouteMap": { "id": format!("{NET}/{map}") } });
    lab.put_net("virtualHubs/rs/bgpConnections/sdwan", connection);
    let mut stored = lab.resources.get(&format!("{NET}/{map}")).unwrap().clone();
    let many: Vec<String> = vec!["64600".to_owned(); 256];
    stored.body["properties"]["rules"][0]["actions"][0]["parameters"][0]["asPath"] = json!(many);
    lab.resources.put(stored);
    let route_server = &arm::intent(&lab.resources, &lab.settings).route_servers[0];
    let nvas = route_server.peers.iter().filter(|peer| peer.name == "sdwan");
    let drops_all = |peer: &&PeerIntent| {
        let rules = peer.inbound_route_map.as_ref().map(|map| &map.rules[..]);
        matches!(rules, Some([rule]) if rule.criteria.is_empty() && rule.actions == [Action::Drop])
    };
    assert_eq!(nvas.filter(drops_all).count(), 1);
    let told = arm::advice(&lab.resources, &lab.settings);
    assert!(
        told.len() == 1 && told[0].contains("256") && told[0].contains("/routeMaps/m"),
        "{told:?}"
    );
}

#[test]
fn an_express_route_gateway_shows_the_number_that_it_has() {
    let mut lab = lab();
    let body = with(express_route_gateway(), "bgpSettings", json!({ "asn": 300 }));
    let shown = lab.put_net("virtualNetworkGateways/er", body);
    assert_eq!(shown["properties"]["bgpSettings"]["asn"], 65515);
}
