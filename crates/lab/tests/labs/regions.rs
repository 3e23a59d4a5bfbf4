//! Two regions, each with a route server, joined by a tunnel between their NVAs.

use lab::network_id;
use serde_json::Value;

use crate::design::{Design, until};

pub const TESTS: &[(&str, fn())] = &[
    (
        "regions_reach_each_other_while_their_nvas_replace_65515",
        regions_reach_each_other_while_their_nvas_replace_65515,
    ),
    (
        "routes_with_65515_are_refused_with_a_verdict_and_the_regions_are_apart",
        routes_with_65515_are_refused_with_a_verdict_and_the_regions_are_apart,
    ),
    (
        "an_anycast_service_is_reached_where_it_is_nearest",
        an_anycast_service_is_reached_where_it_is_nearest,
    ),
];

/// With FRR and BIRD.
pub const WITH_OTHERS: &[(&str, fn())] = &[(
    "frr_and_bird_join_regions_as_our_own_nva_does",
    frr_and_bird_join_regions_as_our_own_nva_does,
)];

const TWO_REGIONS: &str = "two-regions.yaml";
const BOTH: [&str; 2] = ["nva-east", "nva-west"];

fn regions_reach_each_other_while_their_nvas_replace_65515() {
    let lab = Design::up(TWO_REGIONS);
    everybody_reaches_everybody(&lab);
    lab.set_link("tunnel", false).unwrap();
    lab.lacks("vm-east", "10.4.0.0/16");
    lab.does_not_reach("vm-east", "vm-spoke-w");
    lab.goes("vm-east", "vm-spoke-e", &["fabric"]);
    lab.set_link("tunnel", true).unwrap();
    everybody_reaches_everybody(&lab);
}

fn frr_and_bird_join_regions_as_our_own_nva_does() {
    let software = |text: &str| {
        text.replace("asn: 65001,", "asn: 65001, software: frr,")
            .replace("asn: 65002,", "asn: 65002, software: bird,")
    };
    everybody_reaches_everybody(&Design::changed(TWO_REGIONS, software));
}

fn everybody_reaches_everybody(lab: &Design) {
    for east in ["vm-east", "vm-spoke-e"] {
        for west in ["vm-west", "vm-spoke-w"] {
            lab.crosses(east, west, &BOTH);
            lab.crosses(west, east, &["nva-west", "nva-east"]);
        }
    }
}

fn routes_with_65515_are_refused_with_a_verdict_and_the_regions_are_apart() {
    let lab = Design::changed(TWO_REGIONS, |text| text.replace(", as_override: true", ""));
    for (region, prefixes) in [
        ("east", ["10.3.0.0/16", "10.4.0.0/16"]),
        ("west", ["10.1.0.0/16", "10.2.0.0/16"]),
    ] {
        for prefix in prefixes {
            until(&format!("{prefix} is refused in the {region}"), || {
                let routes = said_by_the_nva(&lab, region);
                let of_prefix = || routes.iter().filter(|route| route["network"] == prefix);
                of_prefix().count() == 2 && of_prefix().all(|route| route["reason"] == "own-asn")
            });
        }
    }
    lab.lacks("vm-east", "10.4.0.0/16");
    lab.does_not_reach("vm-east", "vm-spoke-w");
}

/// To both instances, with their verdicts.
fn said_by_the_nva(lab: &Design, region: &str) -> Vec<Value> {
    let peering = network_id(&format!("virtualHubs/rs-{region}/bgpConnections/nva-{region}"));
    let path = format!("/routewright/v1/routes?peer={peering}");
    let answer = lab.api().unwrap().get(&path).unwrap();
    answer["value"].as_array().cloned().unwrap_or_default()
}

fn an_anycast_service_is_reached_where_it_is_nearest() {
    let mut lab = Design::up("anycast.yaml");
    lab.goes("vm-east", "dns-east", &["nva-east"]);
    lab.goes("vm-west", "dns-west", &["nva-west"]);

    let service = "192.0.2.0/24".parse().unwrap();
    lab.set_link("dns-east", false).unwrap();
    lab.withdraw("nva-east", &[service]).unwrap();
    lab.goes("vm-east", "dns-west", &BOTH);
    lab.goes("vm-west", "dns-west", &["nva-west"]);

    lab.set_link("dns-east", true).unwrap();
    lab.announce("nva-east", &[service]).unwrap();
    lab.goes("vm-east", "dns-east", &["nva-east"]);
    lab.no_session_ended();
}
