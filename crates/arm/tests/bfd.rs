//! BFD of a peering: settings of ours, off as in Azure until they say otherwise.
#![allow(clippy::unwrap_used)]

mod common;

use arm::settings::show_settings;
use arm::{check_settings, intent};
use common::*;
use routeserver::intent::BfdIntent;
use serde_json::{Value, json};

const PEER: &str = "virtualHubs/rs/bgpConnections/sdwan";

fn bfd_with(settings: Value) -> Option<BfdIntent> {
    let mut lab = Lab::with_route_server();
    let key = format!("{NET}/{PEER}").to_lowercase();
    lab.settings.by_key.insert(key, settings);
    let intent = intent(&lab.resources, &lab.settings);
    intent.route_servers[0].peers[0].bfd.clone()
}

#[test]
fn there_is_none_until_it_is_switched_on() {
    assert_eq!(bfd_with(json!({})), None);
    assert_eq!(bfd_with(json!({ "bfd": false, "bfdMinTxMs": 50, "bfdKey": "x" })), None);
    let on = bfd_with(json!({ "bfd": true })).unwrap();
    assert_eq!((on.min_tx_ms, on.min_rx_ms, on.multiplier), (300, 300, 3));
    assert_eq!((on.multihop, on.strict, on.authentication), (None, false, None));
}

#[test]
fn every_setting_comes_through() {
    let bfd = bfd_with(json!({
        "bfd": true,
        "bfdMinTxMs": 50,
        "bfdMinRxMs": 60,
        "bfdMultiplier": 5,
        "bfdMultihop": false,
        "bfdStrict": true,
        "bfdAuthentication": "keyedMd5",
        "bfdKeyId": 7,
        "bfdKey": "secret",
    }))
    .unwrap();
    assert_eq!((bfd.min_tx_ms, bfd.min_rx_ms, bfd.multiplier), (50, 60, 5));
    assert_eq!((bfd.multihop, bfd.strict), (Some(false), true));
    let with = bfd.authentication.unwrap();
    assert_eq!(format!("{:?}", with.kind), "KeyedMd5");
    assert_eq!((with.key_id, with.key.expose()), (7, "secret"));
    let by_default = bfd_with(json!({ "bfd": true, "bfdKey": "secret" })).unwrap();
    let kind = by_default.authentication.unwrap().kind;
    assert_eq!(format!("{kind:?}"), "MeticulousKeyedSha1");
}

#[test]
fn mistakes_are_told_with_their_places() {
    let lab = Lab::with_route_server();
    let check = |settings: Value, expected: &[&str]| {
        let checked = check_settings(&lab.resources, &format!("{NET}/{PEER}"), &settings);
        let error = checked.err();
        let details = error.iter().flat_map(|error| &error.details);
        let targets: Vec<&str> = details.filter_map(|detail| detail.target.as_deref()).collect();
        assert_eq!(targets, expected, "{settings}");
    };
    check(
        json!({ "bfd": true, "bfdMinTxMs": 50, "bfdMinRxMs": 60_000, "bfdMultiplier": 2 }),
        &[],
    );
    check(json!({ "bfdMinTxMs": 49 }), &["bfdMinTxMs"]);
    check(json!({ "bfdMinRxMs": 60_001 }), &["bfdMinRxMs"]);
    check(json!({ "bfdMultiplier": 1 }), &["bfdMultiplier"]);
    check(json!({ "bfdAuthentication": "sha256" }), &["bfdAuthentication"]);
    check(
        json!({ "bfdKey": "seventeen octets.", "bfdAuthentication": "keyedMd5" }),
        &["bfdKey"],
    );
    check(json!({ "bfdKey": "seventeen octets." }), &[]);
    check(json!({ "bfdKey": "more than twenty octets" }), &["bfdKey"]);
}

#[test]
fn the_key_is_never_told() {
    let shown = show_settings(&json!({ "bfd": true, "bfdKey": "secret" }));
    assert_eq!(shown, json!({ "bfd": true, "bfdKeySet": true }));
}
