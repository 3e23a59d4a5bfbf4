//! The instances' reports in ARM's JSON.
#![allow(clippy::unwrap_used)]

mod common;

use arm::reports::{advertised_routes, effective_route_table, hub_effective_routes, learned_routes};
use common::*;
use routeserver::report::{AdvertisedReport, EffectiveRoute, RouteReport};
use serde_json::{Value, json};

fn connection(name: &str) -> String {
    format!("{NET}/virtualHubs/rs/bgpConnections/{name}").to_lowercase()
}

fn learned(instance: usize, network: &str, verdict: &str) -> RouteReport {
    serde_json::from_value(json!({
        "network": network, "nextHop": "10.1.1.4", "peer": connection("sdwan"), "sourcePeer": "10.1.1.4", "asPath": "65001-65000",
        "origin": "igp", "communities": [], "verdict": verdict, "reason": null, "instance": instance,
    }))
    .unwrap()
}

#[test]
fn learned_routes_have_both_keys_and_no_rejected_ones() {
    let lab = Lab::with_route_server();
    let first = [
        learned(0, "10.250.0.0/16", "best"),
        learned(0, "10.1.0.0/26", "rejected"),
    ];
    let shown = learned_routes(&lab.resources, &connection("sdwan"), [&first, &[]]);
    assert_eq!(
        shown,
        json!({
            "RouteServiceRole_IN_0": [{
                "localAddress": "10.1.0.4", "network": "10.250.0.0/16", "nextHop": "10.1.1.4", "sourcePeer": "10.1.1.4",
                "origin": "EBgp", "asPath": "65001-65000", "weight": 32768, "communities": [], "verdict": "best",
            }],
            "RouteServiceRole_IN_1": [],
        })
    );
}

#[test]
fn advertised_routes_name_the_instance() {
    let lab = Lab::with_route_server();
    let route: AdvertisedReport = serde_json::from_value(json!({
        "network": "10.1.0.0/16", "nextHop": "10.1.0.5", "asPath": "65515", "communities": ["65517:65517"],
    }))
    .unwrap();
    let shown = advertised_routes(&lab.resources, &connection("sdwan"), [&[], &[route]]);
    assert_eq!(shown["RouteServiceRole_IN_0"], json!([]));
    let expected = json!({ "localAddress": "10.1.0.5", "network": "10.1.0.0/16", "nextHop": "10.1.0.5", "origin": "Igp", "asPath": "65515",
        "weight": 0, "communities": ["65517:65517"] });
    assert_eq!(shown["RouteServiceRole_IN_1"], json!([expected]));
}

#[test]
fn rows_that_two_instances_agree_on_are_one() {
    let row = |prefix: &str, kind: &str, hops: &[&str]| -> EffectiveRoute {
        let source = if kind == "VnetLocal" {
            "Default"
        } else {
            "VirtualNetworkGateway"
        };
        serde_json::from_value(
            json!({ "source": source, "state": "Active", "addressPrefix": prefix, "nextHopType": kind,
            "nextHopIpAddress": hops, "disableBgpRoutePropagation": false }),
        )
        .unwrap()
    };
    let first = [
        row("10.1.0.0/16", "VnetLocal", &[]),
        row("10.250.0.0/16", "VirtualNetworkGateway", &["10.1.1.4"]),
    ];
    let second = [
        row("10.1.0.0/16", "VnetLocal", &[]),
        row("10.250.0.0/16", "VirtualNetworkGateway", &["10.1.1.4", "10.1.1.5"]),
    ];
    let shown = effective_route_table(&[&first, &second]);
    let rows = shown["value"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let expected = json!({ "source": "VirtualNetworkGateway", "state": "Active", "addressPrefix": ["10.250.0.0/16"],
        "nextHopType": "VirtualNetworkGateway", "nextHopIpAddress": ["10.1.1.4", "10.1.1.5"], "disableBgpRoutePropagation": false });
    assert_eq!(rows[1], expected);
}

#[test]
fn of_two_instances_the_next_hops_of_the_better_rank_are_shown() {
    let row = |hops: &[&str], rank: u64| -> EffectiveRoute {
        serde_json::from_value(json!({ "source": "VirtualNetworkGateway", "state": "Active",
            "addressPrefix": "10.250.0.0/16", "nextHopType": "VirtualNetworkGateway", "nextHopIpAddress": hops,
            "rank": rank, "disableBgpRoutePropagation": false }))
        .unwrap()
    };
    let shown = |first: EffectiveRoute, second: EffectiveRoute| {
        let table = effective_route_table(&[&[first], &[second]]);
        assert_eq!(table["value"].as_array().unwrap().len(), 1);
        table["value"][0]["nextHopIpAddress"].clone()
    };
    let active = || row(&["10.1.1.4"], 1);
    assert_eq!(shown(active(), row(&["10.1.1.5"], 2)), json!(["10.1.1.4"]));
    assert_eq!(shown(row(&["10.1.1.5"], 2), active()), json!(["10.1.1.4"]));
    assert_eq!(shown(active(), row(&["10.1.1.5"], 1)), json!(["10.1.1.4", "10.1.1.5"]));
}

#[test]
fn a_hub_shows_its_networks_and_the_best_routes() {
    let mut lab = Lab::with_route_server();
    lab.put_net("virtualNetworks/spoke", vnet(&["10.2.0.0/16"], &[]));
    lab.put_net("virtualNetworks/other", vnet(&["10.3.0.0/16"], &[]));
    lab.put_net(
        "virtualNetworks/hub/virtualNetworkPeerings/s",
        peering("spoke", &["allowGatewayTransit"]),
    );
    lab.put_net(
        "virtualNetworks/spoke/virtualNetworkPeerings/h",
        peering("hub", &["useRemoteGateways"]),
    );
    lab.put_net("virtualNetworks/hub/virtualNetworkPeerings/o", peering("other", &[]));
    lab.put_net("virtualNetworks/other/virtualNetworkPeerings/h", peering("hub", &[]));
    let routes = [
        learned(0, "10.250.0.0/16", "best"),
        learned(1, "10.250.0.0/16", "best"),
        learned(0, "10.9.0.0/16", "lost"),
    ];
    let shown = hub_effective_routes(&lab.resources, &format!("{NET}/virtualHubs/rs"), &routes);
    let brief: Vec<(Value, Value, Value)> = shown["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["addressPrefixes"][0].clone(),
                row["nextHopType"].clone(),
                row["nextHops"].clone(),
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            (
                json!("10.1.0.0/16"),
                json!("Virtual Network Connection"),
                json!(["On-link"])
            ),
            (
                json!("10.2.0.0/16"),
                json!("Virtual Network Connection"),
                json!(["On-link"])
            ),
            (json!("10.250.0.0/16"), json!("HubBgpConnection"), json!(["10.1.1.4"])),
        ]
    );
    assert_eq!(
        shown["value"][2]["routeOrigin"],
        format!("{NET}/virtualHubs/rs/bgpConnections/sdwan")
    );
}
