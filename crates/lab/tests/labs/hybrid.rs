//! Gateways, sites and circuits, with packets.

use lab::network_id;
use serde_json::json;

use crate::design::Design;

pub const TESTS: &[(&str, fn())] = &[
    (
        "the_hub_routing_preference_moves_packets_between_tunnels_and_circuit",
        the_hub_routing_preference_moves_packets_between_tunnels_and_circuit,
    ),
    (
        "branches_reach_each_other_while_branch_to_branch_is_on",
        branches_reach_each_other_while_branch_to_branch_is_on,
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
    let way = lab.way("vm1", "db");
    let [gateway, edge, site] = &way[..] else {
        panic!("{way:?}");
    };
    assert!(
        gateway.starts_with("ergw-") && edge.starts_with("line-") && site == "dc",
        "{way:?}"
    );
}

fn by_tunnels(lab: &Design) {
    lab.leads("vm1", SITE, &["vpngw-0", "vpngw-1"]);
    let way = lab.way("vm1", "db");
    let [gateway, site] = &way[..] else { panic!("{way:?}") };
    assert!(gateway.starts_with("vpngw-") && site == "dc", "{way:?}");
}

fn branches_reach_each_other_while_branch_to_branch_is_on() {
    let mut lab = Design::up("branch-to-branch.yaml");
    let sessions = lab.sessions();
    for host in ["pc", "till", "store"] {
        lab.way("vm1", host);
    }
    lab.lacks("branch", "10.250.0.0/16");
    lab.does_not_reach("pc", "store");

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

/// A property of the route server.
fn set(lab: &Design, property: &str, value: serde_json::Value) {
    lab.change(&network_id("virtualHubs/rs"), |hub| {
        hub["properties"][property] = json!(value);
    });
}
