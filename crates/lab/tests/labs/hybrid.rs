//! Gateways, sites and circuits, with packets.

use lab::network_id;
use serde_json::json;

use crate::design::{Design, until};

pub const TESTS: &[(&str, fn())] = &[
    (
        "the_hub_routing_preference_moves_packets_between_tunnels_and_circuit",
        the_hub_routing_preference_moves_packets_between_tunnels_and_circuit,
    ),
    (
        "branches_reach_each_other_while_branch_to_branch_is_on",
        branches_reach_each_other_while_branch_to_branch_is_on,
    ),
    (
        "a_tunnel_that_is_cut_is_left_when_its_hold_time_is_over",
        a_tunnel_that_is_cut_is_left_when_its_hold_time_is_over,
    ),
    (
        "one_site_takes_over_from_another_and_a_route_map_of_its_connection_decides_which",
        one_site_takes_over_from_another_and_a_route_map_of_its_connection_decides_which,
    ),
];

const SITE: &str = "10.50.0.0/16";

fn the_hub_routing_preference_moves_packets_between_tunnels_and_circuit() {
    let mut lab = Design::up("vpn-and-expressroute.yaml");
    let sessions = lab.sessions();
    by_circuit(&lab);
    for preference in ["VpnGateway", "ASPath"] {
        set(&lab, "hubRoutingPreference", preference.into());
        by_tunnels(&lab);
    }
    set(&lab, "hubRoutingPreference", "ExpressRoute".into());
    by_circuit(&lab);
    assert_eq!(lab.sessions(), sessions, "no session has ended");

    // The provider's edges lose the customer: what the circuit said goes, the tunnels are there.
    lab.kill("dc").unwrap();
    lab.lacks("vm1", SITE);
    lab.start("dc").unwrap();
    by_circuit(&lab);
}

fn by_circuit(lab: &Design) {
    lab.leads("vm1", SITE, &["ergw-0", "ergw-1"]);
    // The site turns its way back when it has noticed by itself; a router on the way may not be heard until then.
    lab.until_way("vm1", "db", |way| {
        matches!(way, [gateway, edge, site] if gateway.starts_with("ergw-") && edge.starts_with("line-") && site == "dc")
    });
}

fn by_tunnels(lab: &Design) {
    lab.leads("vm1", SITE, &["vpngw-0", "vpngw-1"]);
    lab.until_way(
        "vm1",
        "db",
        |way| matches!(way, [gateway, site] if gateway.starts_with("vpngw-") && site == "dc"),
    );
}

fn branches_reach_each_other_while_branch_to_branch_is_on() {
    let mut lab = Design::up("branch-to-branch.yaml");
    let sessions = lab.sessions();
    for host in ["pc", "till", "store"] {
        lab.way("vm1", host);
    }
    lab.lacks("branch", "10.250.0.0/16");
    lab.does_not_reach("pc", "store");

    it_is_said_before_what_the_branch_will_hear(&lab);
    lab.lacks("branch", "10.250.0.0/16");
    set(&lab, "allowBranchToBranchTraffic", true.into());
    lab.has("branch", "10.250.0.0/16");
    lab.has("sdwan", SITE);
    lab.has("sdwan", "10.60.0.0/16");
    let through = |from: &str, to: &str, ends: [&str; 2]| {
        let way = lab.way(from, to);
        let [first, gateway_or_nva, .., last] = &way[..] else {
            panic!("{way:?}")
        };
        assert_eq!([first.as_str(), last.as_str()], ends, "{way:?}");
        assert!(!gateway_or_nva.starts_with("rs"), "{way:?}");
    };
    through("pc", "store", ["branch", "sdwan"]);
    through("store", "pc", ["sdwan", "branch"]);
    through("store", "till", ["sdwan", "kiosk"]);

    set(&lab, "allowBranchToBranchTraffic", false.into());
    lab.lacks("branch", "10.250.0.0/16");
    lab.does_not_reach("pc", "store");
    assert_eq!(lab.sessions(), sessions, "no session has ended");

    lab.kill("branch").unwrap();
    lab.does_not_reach("vm1", "pc");
    lab.way("vm1", "till");
    lab.start("branch").unwrap();
    lab.way("vm1", "pc");
}

fn a_tunnel_that_is_cut_is_left_when_its_hold_time_is_over() {
    let lab = Design::up("vpn-and-expressroute.yaml");
    set(&lab, "hubRoutingPreference", "VpnGateway".into());
    // Azure's is three minutes.
    let settings = format!("/routewright/v1{}/settings", network_id("connections/vpngw-dc"));
    let api = lab.api().unwrap();
    api.put(&settings, &json!({ "holdTimeSecs": HOLD_TIME_SECS })).unwrap();
    // The site must know, too, before it is cut off: it waits for as long as it has agreed to.
    until("both tunnels' sessions have the hold time", || {
        let peers = api.peers().unwrap();
        let ends = peers.iter().filter(|peer| peer.name == "vpngw-dc");
        ends.filter(|end| end.hold_time_secs == Some(HOLD_TIME_SECS)).count() == 2
    });
    by_tunnels(&lab);
    lab.set_link("vpngw-0-dc", false).unwrap();
    lab.leads("vm1", SITE, &["vpngw-1"]);
    lab.goes("vm1", "db", &["vpngw-1", "dc"]);
    lab.set_link("vpngw-1-dc", false).unwrap();
    by_circuit(&lab);
    for tunnel in ["vpngw-0-dc", "vpngw-1-dc"] {
        lab.set_link(tunnel, true).unwrap();
    }
    by_tunnels(&lab);
}

/// Short enough to wait for, and long enough for a busy machine.
const HOLD_TIME_SECS: u16 = 20;

fn one_site_takes_over_from_another_and_a_route_map_of_its_connection_decides_which() {
    // Both sites speak BGP and have the same behind them; the kiosk's path is longer.
    let mut lab = Design::changed("branch-to-branch.yaml", |text| {
        text.replace("  - name: kiosk\n", "  - name: kiosk\n    asn: 65011\n").replace(
            "announce: [10.60.0.0/16]\n    behind: [{ name: till, address: 10.60.0.10/16 }]",
            "announce: [{ prefix: 10.50.0.0/16, as_path_prepend: 1 }]\n    behind: [{ name: till, address: 10.50.0.10/16 }]",
        )
    });
    by(&lab, "branch");
    lab.kill("branch").unwrap();
    by(&lab, "kiosk");
    lab.start("branch").unwrap();
    by(&lab, "branch");

    let sessions = lab.sessions();
    let longer = network_id("virtualHubs/rs/routeMaps/longer");
    let prepend = json!({ "type": "Add", "parameters": [{ "asPath": ["64600", "64600", "64600"] }] });
    let rules = json!([{ "name": "all", "actions": [prepend], "nextStepIfMatched": "Terminate" }]);
    let api = lab.api().unwrap();
    api.put(
        &format!("{longer}?api-version=2024-10-01"),
        &json!({ "properties": { "rules": rules } }),
    )
    .unwrap();
    let connection = network_id("connections/vpngw-branch");
    lab.change(&connection, |connection| {
        connection["properties"]["routingConfiguration"] = json!({ "inboundRouteMap": { "id": longer } });
    });
    by(&lab, "kiosk");
    let inbound = lab.ask_of("inboundRoutes", &connection);
    assert_eq!(inbound[0]["asPath"], "64600-64600-64600-65010", "{inbound:#}");
    lab.change(&connection, |connection| {
        connection["properties"]["routingConfiguration"] = json!({ "outboundRouteMap": { "id": longer } });
    });
    by(&lab, "branch");
    let outbound = lab.ask_of("outboundRoutes", &connection);
    assert_eq!(outbound[0]["asPath"], "65515-64600-64600-64600", "{outbound:#}");
    assert_eq!(lab.sessions(), sessions, "no session has ended");
}

fn by(lab: &Design, site: &str) {
    let host = if site == "branch" { "pc" } else { "till" };
    lab.until_way("vm1", host, |way| way.last().is_some_and(|last| last == site));
}

/// By a dry run, through the route server and the gateway, whichever process has which.
fn it_is_said_before_what_the_branch_will_hear(lab: &Design) {
    let path = network_id("virtualHubs/rs");
    let api = lab.api().unwrap();
    let mut body = api.get(&format!("{path}?api-version=2024-05-01")).unwrap();
    body["properties"]["allowBranchToBranchTraffic"] = json!(true);
    let changes = json!({ "changes": [{ "method": "PUT", "path": path, "body": body }] });
    let connection = network_id("connections/vpngw-branch").to_lowercase();
    let answer = api.ask("/routewright/v1/dry-run", Some(&changes)).unwrap();
    let reports = answer["value"].as_array().unwrap();
    assert_eq!(reports.len(), 2, "{answer:#}");
    for report in reports {
        let peers = report["peers"].as_array().unwrap();
        let branch = peers.iter().find(|peer| peer["peer"] == connection);
        let told = &branch.unwrap_or_else(|| panic!("{report:#}"))["told"]["appears"];
        let told = told.as_array().unwrap().iter();
        let networks: Vec<_> = told.map(|route| (&route["network"], &route["asPath"])).collect();
        assert_eq!(networks, [(&json!("10.250.0.0/16"), &json!("65515-65001"))]);
        assert_eq!(report["notFollowed"], json!([]));
    }
}

/// A property of the route server.
fn set(lab: &Design, property: &str, value: serde_json::Value) {
    lab.change(&network_id("virtualHubs/rs"), |hub| {
        hub["properties"][property] = json!(value);
    });
}
