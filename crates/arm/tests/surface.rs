//! What clients ask beside resources: tenants, pages of lists, metrics.
#![allow(clippy::unwrap_used)]

mod common;

use arm::metrics::{MetricsQuery, metrics};
use arm::{ArmError, Ask, Method, Outcome, Request};
use common::*;
use routeserver::report::PeerReport;
use serde_json::{Value, json};

fn get(lab: &mut Lab, path: &str, query: &[(&str, &str)]) -> Result<Outcome, ArmError> {
    let mut request: Request = request(Method::Get, path, None);
    let query = query
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    request.query.extend(query);
    lab.request(request)
}

fn body(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Done { answer, .. } => answer.body.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn there_is_one_tenant_and_it_is_the_subscriptions() {
    let mut lab = Lab::new();
    let tenants = body(get(&mut lab, "/tenants", &[]).unwrap());
    let subscription = body(get(&mut lab, S, &[]).unwrap());
    assert_eq!(tenants["value"][0]["tenantId"], subscription["tenantId"]);
}

#[test]
fn long_lists_come_in_pages_that_lead_to_each_other() {
    let mut lab = Lab::new();
    for number in 0..7 {
        lab.put_net(&format!("routeTables/rt{number}"), json!({ "location": "westeurope" }));
    }
    let path = format!("{NET}/routeTables");
    let mut names = Vec::new();
    let mut query = vec![("$top".to_owned(), "3".to_owned())];
    let mut pages = 0;
    loop {
        let given: Vec<(&str, &str)> = query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let page = body(get(&mut lab, &path, &given).unwrap());
        pages += 1;
        names.extend(
            page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["nextLink"].as_str() else { break };
        let (before, after) = next.split_once('?').unwrap();
        assert_eq!(before, path);
        query = after
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(own)
            .collect();
        assert!(query.iter().any(|(name, _)| name == "api-version"));
        query.retain(|(name, _)| name != "api-version");
    }
    assert_eq!(pages, 3);
    assert_eq!(names, (0..7).map(|number| format!("rt{number}")).collect::<Vec<_>>());
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.replace("%24", "$"))
}

#[test]
fn an_odd_page_token_gives_a_list_and_no_harm() {
    let mut lab = Lab::with_route_server();
    for token in ["zz", "é", "2f", "ffffffff", ""] {
        let page = body(
            get(
                &mut lab,
                &format!("{S}/resources"),
                &[("$skiptoken", token), ("$top", "0")],
            )
            .unwrap(),
        );
        assert!(page["value"].is_array(), "{token}");
    }
}

fn hub() -> String {
    format!("{NET}/virtualHubs/rs")
}

fn ask_metrics(lab: &mut Lab, query: &[(&str, &str)]) -> Result<MetricsQuery, ArmError> {
    match get(lab, &format!("{}/providers/microsoft.insights/metrics", hub()), query)? {
        Outcome::Ask(Ask::Metrics(query), _) => Ok(query),
        other => panic!("{other:?}"),
    }
}

fn peer_report(instance: usize, state: &str, received: usize) -> PeerReport {
    let report = json!({
        "id": "x", "name": "sdwan", "routeServer": hub(), "instance": instance, "localAddress": "10.1.0.4",
        "peerAddress": "10.1.1.4", "peerAsn": 65001, "state": state, "sinceSecs": null, "establishedCount": 1, "lastError": null,
        "holdTimeSecs": null, "peerIdentifier": null, "capabilities": [], "direction": null, "routesReceived": received,
        "routesAccepted": received, "routesAdvertised": 2, "routeLimit": 0, "updatesReceived": 0, "mendedUpdates": 0,
        "messagesReceived": 0, "messagesSent": 0,
    });
    serde_json::from_value(report).unwrap()
}

const NOW: &str = "2026-11-21T06:23:43.237983Z";

#[test]
fn metrics_are_split_by_the_dimensions_that_the_filter_names() {
    let mut lab = Lab::with_route_server();
    let peers = [peer_report(0, "Established", 5), peer_report(1, "Active", 0)];
    let mut series = |query: &[(&str, &str)]| {
        let query = ask_metrics(&mut lab, query).unwrap();
        metrics(&lab.resources, &query, &peers, NOW)["value"].clone()
    };
    let all = series(&[
        ("metricnames", "BgpPeerStatus,CountOfRoutesLearnedFromPeer"),
        ("aggregation", "maximum,total"),
    ]);
    assert_eq!(
        all[0]["timeseries"][0]["data"],
        json!([{ "timeStamp": "2026-11-21T06:23:00Z", "maximum": 1.0, "total": 1.0 }])
    );
    assert_eq!(all[1]["timeseries"][0]["data"][0]["maximum"], 5.0);
    let filter = "BgpPeerIp eq '10.1.1.4' and RouteServiceInstance eq '*'";
    let split = series(&[("metricnames", "BgpPeerStatus"), ("$filter", filter)]);
    let split = split[0]["timeseries"].as_array().unwrap();
    assert_eq!(split.len(), 2);
    assert_eq!(split[1]["metadatavalues"][1]["value"], "RouteServiceRole_IN_1");
    assert_eq!(split[1]["data"][0]["maximum"], 0.0);
    let units = series(&[("metricnames", "RoutingInfrastructureUnits,SpokeVMUtilization")]);
    assert_eq!(units[0]["timeseries"][0]["data"][0]["maximum"], 2.0);
    assert_eq!(units[1]["unit"], "Percent");
}

#[test]
fn a_timespan_may_be_encoded_twice_and_one_long_past_has_no_values() {
    let mut lab = Lab::with_route_server();
    let mut points = |timespan: &str| {
        let query = ask_metrics(&mut lab, &[("timespan", timespan)]).unwrap();
        let peers = [peer_report(0, "Established", 5)];
        let shown = metrics(&lab.resources, &query, &peers, NOW);
        (
            shown["timespan"].clone(),
            shown["value"][0]["timeseries"].as_array().unwrap().len(),
        )
    };
    let now = "2026-11-21T05%3A23%3A43.2%2F2026-11-21T06%3A23%3A43.2";
    assert_eq!(points(now), (json!("2026-11-21T05:23:43.2/2026-11-21T06:23:43.2"), 1));
    assert_eq!(points("2026-11-21T04:00:00Z/2026-11-21T05:00:00Z").1, 0);
    assert_eq!(points("%").1, 1);
}

#[test]
fn metrics_are_refused_for() {
    let mut lab = Lab::with_route_server();
    for query in [
        ("metricnames", "Nothing"),
        ("interval", "PT7M"),
        ("aggregation", "Median"),
        ("$filter", "BgpPeerIp"),
        ("$filter", "Colour eq 'red'"),
        ("$filter", "BgpPeerIp eq 10.1.1.4"),
    ] {
        let error = ask_metrics(&mut lab, &[query]).unwrap_err();
        assert_eq!((error.status, error.code.as_str()), (400, "BadRequest"), "{query:?}");
    }
    let other = format!("{NET}/virtualNetworks/hub/providers/Microsoft.Insights/metrics");
    assert_eq!(get(&mut lab, &other, &[]).unwrap_err().code, "BadRequest");
    let missing = format!("{NET}/virtualHubs/none/providers/Microsoft.Insights/metrics");
    assert_eq!(get(&mut lab, &missing, &[]).unwrap_err().code, "ResourceNotFound");
}

#[test]
fn metric_definitions_name_the_dimensions() {
    let mut lab = Lab::with_route_server();
    let path = format!("{}/providers/Microsoft.Insights/metricDefinitions", hub());
    let shown = body(get(&mut lab, &path, &[]).unwrap());
    let names: Vec<&str> = shown["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"]["value"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "BgpPeerStatus",
            "CountOfRoutesAdvertisedToPeer",
            "CountOfRoutesLearnedFromPeer",
            "RoutingInfrastructureUnits",
            "SpokeVMUtilization"
        ]
    );
    assert_eq!(shown["value"][0]["dimensions"].as_array().unwrap().len(), 3);
}
