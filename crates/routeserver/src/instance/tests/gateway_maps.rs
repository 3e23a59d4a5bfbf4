//! Route maps of gateways' connections (az §3): towards a site, its static prefixes, and a circuit. They take effect at once and reset nobody.

use bgp::wire::Community;

use super::gateways::{edit_gateway, express_route_gateway, set_static_routes, vpn_gateway};
use super::world::*;
use crate::instance::Event;
use crate::intent::{StaticRouteIntent, StaticRouteMapIntent};
use crate::route_map::{Action, Comparison, Criterion, NextStep, RouteMap, Rule};
use crate::testing::*;

/// What happens to prefixes inside this one.
fn map(inside: &str, actions: Vec<Action>) -> RouteMap {
    let criterion = Criterion::Prefix {
        comparison: Comparison::Contains,
        prefixes: vec![net(inside)],
    };
    RouteMap {
        rules: vec![Rule {
            name: "r".into(),
            criteria: vec![criterion],
            actions,
            next_step: NextStep::Terminate,
        }],
    }
}

/// Of the peer that is not the route server.
fn set_inbound(world: &mut World, map: Option<RouteMap>) {
    edit_gateway(world, |gateway| gateway.peers[1].inbound_route_map = map);
}

fn set_outbound(world: &mut World, map: Option<RouteMap>) {
    edit_gateway(world, |gateway| gateway.peers[1].outbound_route_map = map);
}

fn nobody_was_reset(world: &World) {
    for (name, nva) in &world.nvas {
        assert_eq!(nva.established, 1, "{name}");
    }
}

#[test]
fn an_inbound_map_of_a_site_decides_what_the_route_server_and_other_sites_hear_of_it() {
    let mut world = vpn_gateway(65515);
    let said = ["10.50.1.0/24", "10.50.2.0/24", "10.60.0.0/16"];
    world.announce("site1", path("192.168.101.1", &[64701]), &said);
    set_inbound(
        &mut world,
        Some(map("10.50.0.0/16", vec![Action::ReplacePrefix(net("10.50.0.0/16"))])),
    );
    assert_eq!(world.told("rs", "10.50.0.0/16").unwrap(), " 10.1.5.4");
    assert_eq!(world.told("site2", "10.50.0.0/16").unwrap(), "65515 10.1.5.4");
    assert_eq!(world.told("rs", "10.60.0.0/16").unwrap(), "64701 10.1.5.4");
    for part in ["10.50.1.0/24", "10.50.2.0/24"] {
        assert_eq!(world.told("rs", part), None);
        assert_eq!(world.verdict("site1", part), "best");
    }
    // Not even what it became is told back.
    assert_eq!(world.told("site1", "10.50.0.0/16"), None);
    set_inbound(&mut world, Some(map("10.60.0.0/16", vec![Action::Drop])));
    assert_eq!(world.told("rs", "10.60.0.0/16"), None);
    assert_eq!(world.told("rs", "10.50.1.0/24").unwrap(), "64701 10.1.5.4");
    set_inbound(&mut world, None);
    assert_eq!(world.told("rs", "10.60.0.0/16").unwrap(), "64701 10.1.5.4");
    nobody_was_reset(&world);
}

#[test]
fn an_inbound_map_decides_which_of_two_sites_is_used() {
    let mut world = vpn_gateway(65515);
    for (site, address, asn) in [("site1", "192.168.101.1", 64701), ("site2", "192.168.102.1", 64702)] {
        world.announce(site, path(address, &[asn]), &["10.50.0.0/16"]);
    }
    set_inbound(
        &mut world,
        Some(map("10.0.0.0/8", vec![Action::AddAsPath(vec![bgp::Asn(64600)])])),
    );
    assert_eq!(world.told("rs", "10.50.0.0/16").unwrap(), "64702 10.1.5.4");
    // What a map prefers it prefers among sites, too.
    set_inbound(
        &mut world,
        Some(map("10.0.0.0/8", vec![Action::SetImportPreference(200)])),
    );
    assert_eq!(world.told("rs", "10.50.0.0/16").unwrap(), "64701 10.1.5.4");
    nobody_was_reset(&world);
}

#[test]
fn a_preference_of_a_map_keeps_sites_before_what_the_route_server_says() {
    let mut world = vpn_gateway(65515);
    world.announce("site1", path("192.168.101.1", &[64701, 64711]), &["10.50.0.0/16"]);
    world.announce("rs", path("10.1.4.4", &[65001]), &["10.50.0.0/16"]);
    set_inbound(
        &mut world,
        Some(map("10.0.0.0/8", vec![Action::SetImportPreference(0)])),
    );
    assert_eq!(world.told("rs", "10.50.0.0/16").unwrap(), "64701-64711 10.1.5.4");
}

#[test]
fn an_outbound_map_of_a_site_decides_what_it_is_told_alone() {
    let mut world = vpn_gateway(65515);
    world.announce("rs", path("10.1.4.4", &[65001]), &["10.250.1.0/24", "10.250.2.0/24"]);
    let community = Community::new(64600, 7);
    let mut rules = map("10.250.0.0/16", vec![Action::ReplacePrefix(net("10.250.0.0/16"))]);
    rules
        .rules
        .extend(map("10.2.0.0/16", vec![Action::AddCommunities(vec![community])]).rules);
    set_outbound(&mut world, Some(rules));
    assert_eq!(world.told("site1", "10.250.0.0/16").unwrap(), "65515 10.1.5.4");
    assert_eq!(world.told("site1", "10.250.1.0/24"), None);
    assert_eq!(world.told("site1", "10.2.0.0/16").unwrap(), "65515 10.1.5.4 64600:7");
    assert_eq!(world.told("site2", "10.250.1.0/24").unwrap(), "65515-65001 10.1.5.4");
    set_outbound(&mut world, None);
    assert_eq!(world.told("site1", "10.250.1.0/24").unwrap(), "65515-65001 10.1.5.4");
    assert_eq!(world.told("site1", "10.250.0.0/16"), None);
    nobody_was_reset(&world);
}

#[test]
fn an_outbound_map_makes_no_default_route_for_a_site() {
    let mut world = vpn_gateway(65515);
    world.announce("rs", path("10.1.4.4", &[65001]), &["10.250.1.0/24"]);
    let all = Action::ReplacePrefix(net("0.0.0.0/0"));
    set_outbound(&mut world, Some(map("10.250.0.0/16", vec![all])));
    assert_eq!(world.told("site1", "0.0.0.0/0"), None);
    assert_eq!(world.told("site1", "10.250.1.0/24"), None);
}

#[test]
fn an_inbound_map_is_for_a_sites_static_prefixes_too() {
    let mut world = vpn_gateway(65515);
    set_static_routes(
        &mut world,
        &[
            ("10.70.1.0/24", "192.168.109.1"),
            ("10.70.2.0/24", "192.168.109.1"),
            ("10.80.0.0/16", "192.168.110.1"),
        ],
    );
    let summary = map("10.0.0.0/8", vec![Action::ReplacePrefix(net("10.70.0.0/16"))]);
    edit_gateway(&mut world, |gateway| {
        gateway.static_route_maps = vec![StaticRouteMapIntent {
            next_hop: ip("192.168.109.1"),
            peering: None,
            inbound_route_map: summary,
        }];
    });
    assert_eq!(world.told("rs", "10.70.0.0/16").unwrap(), " 10.1.5.4");
    assert_eq!(world.told("rs", "10.70.1.0/24"), None);
    assert_eq!(world.told("rs", "10.80.0.0/16").unwrap(), " 10.1.5.4");
    let routes = world.instance.routes_of_speaker("gw", None).unwrap();
    let part = routes.iter().find(|route| route.network == net("10.70.1.0/24"));
    let became = part.unwrap().becomes.as_ref().unwrap();
    assert_eq!(became.network, net("10.70.0.0/16"));
    edit_gateway(&mut world, |gateway| gateway.static_route_maps.clear());
    assert_eq!(world.told("rs", "10.70.1.0/24").unwrap(), " 10.1.5.4");
    assert_eq!(world.told("rs", "10.70.0.0/16"), None);
    // And they go with their tunnel, mapped or not.
    edit_gateway(&mut world, |gateway| {
        gateway.static_route_maps = vec![StaticRouteMapIntent {
            next_hop: ip("192.168.109.1"),
            peering: None,
            inbound_route_map: map("10.0.0.0/8", vec![Action::ReplacePrefix(net("10.70.0.0/16"))]),
        }];
    });
    set_static_routes(&mut world, &[]);
    assert!(world.nvas["rs"].learned.is_empty());
    nobody_was_reset(&world);
}

#[test]
fn a_site_is_not_told_what_a_map_made_of_its_static_prefixes() {
    let mut world = vpn_gateway(65515);
    let of_site = |prefix: &str| StaticRouteIntent {
        prefix: net(prefix),
        next_hop: ip("203.0.113.7"),
        peering: Some("site1".into()),
    };
    edit_gateway(&mut world, |gateway| {
        gateway.static_routes = vec![of_site("10.70.1.0/24")];
        gateway.static_route_maps = vec![StaticRouteMapIntent {
            next_hop: ip("203.0.113.7"),
            peering: Some("site1".into()),
            inbound_route_map: map("10.0.0.0/8", vec![Action::ReplacePrefix(net("10.70.0.0/16"))]),
        }];
    });
    assert_eq!(world.told("rs", "10.70.0.0/16").unwrap(), " 10.1.5.4");
    assert_eq!(world.told("site2", "10.70.0.0/16").unwrap(), "65515 10.1.5.4");
    assert_eq!(world.told("site1", "10.70.0.0/16"), None);
}

#[test]
fn maps_of_a_circuit_change_what_its_edge_says_and_is_told() {
    let mut world = express_route_gateway();
    world.announce(
        "edge",
        path("10.200.0.1", &[12076, 64900]),
        &["10.60.0.0/16", "10.61.0.0/16"],
    );
    world.announce("rs", path("10.1.4.4", &[65001]), &["10.250.1.0/24", "10.250.2.0/24"]);
    set_inbound(&mut world, Some(map("10.61.0.0/16", vec![Action::Drop])));
    set_outbound(
        &mut world,
        Some(map("10.250.0.0/16", vec![Action::ReplacePrefix(net("10.250.0.0/16"))])),
    );
    assert_eq!(world.told("rs", "10.60.0.0/16").unwrap(), "12076-64900 10.1.5.4");
    assert_eq!(world.told("rs", "10.61.0.0/16"), None);
    assert_eq!(world.told("edge", "10.250.0.0/16").unwrap(), "65515 10.1.5.4");
    assert_eq!(world.told("edge", "10.250.1.0/24"), None);
    assert_eq!(world.told("edge", "10.1.0.0/16").unwrap(), "65515 10.1.5.4");
    set_inbound(&mut world, None);
    set_outbound(&mut world, None);
    assert!(world.told("rs", "10.61.0.0/16").is_some());
    assert!(world.told("edge", "10.250.1.0/24").is_some());
    nobody_was_reset(&world);
}

#[test]
fn a_summary_keeps_a_circuit_within_its_limit() {
    let mut world = express_route_gateway();
    edit_gateway(&mut world, |gateway| gateway.routes_to_circuit = 10);
    let prefixes: Vec<String> = (0..20).map(|n| format!("10.250.{n}.0/24")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    set_outbound(
        &mut world,
        Some(map("10.250.0.0/16", vec![Action::ReplacePrefix(net("10.250.0.0/16"))])),
    );
    world.take_events();
    world.announce("rs", path("10.1.4.4", &[65001]), &prefixes);
    let full = |event: &Event| format!("{event:?}").contains("Circuit");
    assert!(!world.take_events().iter().any(full));
    set_outbound(&mut world, None);
    assert!(world.take_events().iter().any(full));
}
