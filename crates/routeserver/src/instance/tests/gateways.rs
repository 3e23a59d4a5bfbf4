//! What gateways and the provider's edge take and tell (az §2.6). Route servers, sites and customers are sessions that say what a test
//! wants.

use bgp::wire::Community;
use bgp::{Asn, FamilySet};

use super::world::*;
use crate::instance::Event;
use crate::intent::{GatewayIntent, GatewayKind, Intent, PeerIntent, PeerKind, StaticRouteIntent};
use crate::testing::*;

fn of_kind(kind: PeerKind, id: &str, address: &str, asn: u32) -> PeerIntent {
    PeerIntent {
        kind,
        ..peer(id, address, asn)
    }
}

/// A gateway at 10.1.5.4 in the hub, or a provider edge there.
fn gateway(kind: GatewayKind, asn: u32, peers: Vec<PeerIntent>) -> GatewayIntent {
    let is_edge = kind == GatewayKind::ProviderEdge;
    GatewayIntent {
        id: "gw".into(),
        name: "gw".into(),
        kind,
        asn: Asn(asn),
        virtual_network: (!is_edge).then(|| "hub".into()),
        subnet: (!is_edge).then(|| "gateways".into()),
        instance_addresses: [Some(ip("10.1.5.4")), Some(ip("10.1.5.5"))],
        instance_addresses_v6: [None; 2],
        namespaces: [None, None],
        is_external: false,
        peers,
        static_routes: Vec::new(),
        static_route_maps: Vec::new(),
        routes_to_circuit: 0,
        ipv6: false,
    }
}

fn with_gateway(gateway: GatewayIntent) -> World {
    let mut world = idle_world();
    world.intent.route_servers.clear();
    let names = ["rs", "site1", "site2", "edge", "gateway1", "gateway2"];
    for peer in &gateway.peers {
        let name = names.into_iter().find(|name| **name == peer.id).unwrap();
        world.add_nva(name, &peer.address.to_string(), peer.asn.0, FamilySet::IPV4);
    }
    world.intent.gateways.push(gateway);
    world.send_intent();
    assert!(world.nvas.values().all(|nva| nva.established == 1));
    world
}

/// With a route server and two sites.
pub(super) fn vpn_gateway(asn: u32) -> World {
    let peers = vec![
        of_kind(PeerKind::RouteServer, "rs", "10.1.1.4", 65515),
        of_kind(PeerKind::Site, "site1", "192.168.101.1", 64701),
        of_kind(PeerKind::Site, "site2", "192.168.102.1", 64702),
    ];
    with_gateway(gateway(GatewayKind::Vpn, asn, peers))
}

pub(super) fn express_route_gateway() -> World {
    let peers = vec![
        of_kind(PeerKind::RouteServer, "rs", "10.1.1.4", 65515),
        of_kind(PeerKind::ProviderEdge, "edge", "10.200.0.1", 12076),
    ];
    with_gateway(gateway(GatewayKind::ExpressRoute, 65515, peers))
}

fn provider_edge() -> World {
    let peers = vec![
        of_kind(PeerKind::ExpressRouteGateway, "gateway1", "10.201.5.4", 65515),
        of_kind(PeerKind::ExpressRouteGateway, "gateway2", "10.202.5.4", 65515),
        of_kind(PeerKind::Site, "site1", "192.168.103.1", 64900),
    ];
    with_gateway(gateway(GatewayKind::ProviderEdge, 12076, peers))
}

pub(super) fn edit_gateway(world: &mut World, edit: impl FnOnce(&mut GatewayIntent)) {
    world.edit(|intent: &mut Intent| edit(&mut intent.gateways[0]));
}

pub(super) fn set_static_routes(world: &mut World, routes: &[(&str, &str)]) {
    let routes = routes.iter().map(|(prefix, next_hop)| StaticRouteIntent {
        prefix: net(prefix),
        next_hop: ip(next_hop),
        peering: None,
    });
    let routes = routes.collect();
    edit_gateway(world, |gateway| gateway.static_routes = routes);
}

#[test]
fn a_site_hears_the_virtual_network_and_its_spokes_as_65515() {
    let world = vpn_gateway(65515);
    for prefix in ["10.1.0.0/16", "10.2.0.0/16"] {
        assert_eq!(world.told("site1", prefix).unwrap(), "65515 10.1.5.4");
    }
    assert_eq!(world.told("site1", "10.3.0.0/16"), None);
    assert_eq!(world.told("rs", "10.1.0.0/16"), None);
}

#[test]
fn a_site_hears_an_nvas_route_as_65515_and_the_nvas_path() {
    let mut world = vpn_gateway(65515);
    world.announce("rs", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(world.told("site1", "10.250.0.0/16").unwrap(), "65515-65001 10.1.5.4");
}

#[test]
fn a_vpn_gateway_keeps_the_default_route_from_sites_and_passes_its_halves() {
    let mut world = vpn_gateway(65515);
    let prefixes = ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"];
    world.announce("rs", path("10.1.4.4", &[65001]), &prefixes);
    assert_eq!(world.told("site1", "0.0.0.0/0"), None);
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        assert_eq!(world.told("site1", half).unwrap(), "65515-65001 10.1.5.4");
    }
}

#[test]
fn a_default_route_that_a_site_says_goes_to_the_route_server_and_to_no_other_site() {
    let mut world = vpn_gateway(65515);
    world.announce("site1", path("192.168.101.1", &[64701]), &["0.0.0.0/0", "128.0.0.0/1"]);
    assert_eq!(world.told("rs", "0.0.0.0/0").unwrap(), "64701 10.1.5.4");
    assert_eq!(world.told("site2", "0.0.0.0/0"), None);
    assert_eq!(world.told("site2", "128.0.0.0/1").unwrap(), "65515-64701 10.1.5.4");
}

#[test]
fn a_vpn_gateway_tells_the_route_server_of_sites_with_their_paths_and_itself_as_next_hop() {
    let mut world = vpn_gateway(65515);
    world.announce("site1", path("192.168.101.1", &[64701, 64711]), &["10.50.0.0/16"]);
    assert_eq!(world.told("rs", "10.50.0.0/16").unwrap(), "64701-64711 10.1.5.4");
    let attributes = &world.nvas["rs"].learned[&net("10.50.0.0/16")];
    assert_eq!(attributes.local_pref(), Some(100));
}

#[test]
fn a_vpn_gateway_with_its_own_number_puts_it_in_front() {
    let mut world = vpn_gateway(300);
    world.announce("site1", path("192.168.101.1", &[64701]), &["10.50.0.0/16"]);
    world.announce("rs", path("10.1.1.4", &[65515, 65001]), &["10.250.0.0/16"]);
    assert_eq!(world.told("rs", "10.50.0.0/16").unwrap(), "300-64701 10.1.5.4");
    assert_eq!(
        world.told("site1", "10.250.0.0/16").unwrap(),
        "300-65515-65001 10.1.5.4"
    );
}

#[test]
fn sites_hear_of_each_other_through_a_vpn_gateway_and_never_their_own_routes() {
    let mut world = vpn_gateway(65515);
    world.announce("site1", path("192.168.101.1", &[64701]), &["10.50.0.0/16"]);
    assert_eq!(world.told("site2", "10.50.0.0/16").unwrap(), "65515-64701 10.1.5.4");
    assert_eq!(world.told("site1", "10.50.0.0/16"), None);
}

#[test]
fn a_vpn_gateway_refuses_from_sites_what_came_from_azure_or_is_inside_the_networks() {
    let mut world = vpn_gateway(65515);
    world.announce("site1", path("192.168.101.1", &[64701, 65515]), &["10.50.0.0/16"]);
    world.announce(
        "site1",
        path("192.168.101.1", &[64701]),
        &["10.1.7.0/24", "10.2.0.0/16"],
    );
    world.announce("site1", path("192.168.101.1", &[]), &["10.51.0.0/16"]);
    assert_eq!(world.verdict("site1", "10.50.0.0/16"), "rejected own-asn");
    assert_eq!(world.verdict("site1", "10.1.7.0/24"), "rejected inside-virtual-network");
    assert_eq!(world.verdict("site1", "10.2.0.0/16"), "rejected inside-virtual-network");
    assert_eq!(world.verdict("site1", "10.51.0.0/16"), "rejected empty-as-path");
}

#[test]
fn a_gateways_own_prefixes_win_over_the_same_ones_from_the_route_server() {
    let mut world = vpn_gateway(65515);
    let spoke = path("10.1.1.4", &[]).add_community(Community::new(65518, 65518));
    world.announce("rs", spoke, &["10.2.0.0/16"]);
    assert_eq!(world.verdict("rs", "10.2.0.0/16"), "lost local-origin");
    assert_eq!(world.told("site1", "10.2.0.0/16").unwrap(), "65515 10.1.5.4");
}

#[test]
fn static_prefixes_of_a_site_go_to_the_route_server_with_an_empty_path_and_to_other_sites_as_65515() {
    let mut world = vpn_gateway(65515);
    set_static_routes(&mut world, &[("10.70.0.0/16", "192.168.109.1")]);
    assert_eq!(world.told("rs", "10.70.0.0/16").unwrap(), " 10.1.5.4");
    assert_eq!(world.told("site1", "10.70.0.0/16").unwrap(), "65515 10.1.5.4");
    let routes = world.instance.routes_of_speaker("gw", None).unwrap();
    let said: Vec<_> = routes.iter().map(|route| (route.source_peer, route.source)).collect();
    assert_eq!(said, [(ip("192.168.109.1"), rib::RouteSource::Static)]);
}

#[test]
fn of_static_prefixes_that_change_only_the_difference_is_told() {
    let mut world = vpn_gateway(65515);
    set_static_routes(
        &mut world,
        &[("10.70.0.0/16", "192.168.109.1"), ("10.71.0.0/16", "192.168.109.1")],
    );
    let before = world.nvas["rs"].updates;
    set_static_routes(
        &mut world,
        &[("10.71.0.0/16", "192.168.109.1"), ("10.72.0.0/16", "192.168.110.1")],
    );
    assert_eq!(world.told("rs", "10.70.0.0/16"), None);
    for prefix in ["10.71.0.0/16", "10.72.0.0/16"] {
        assert_eq!(world.told("rs", prefix).unwrap(), " 10.1.5.4");
    }
    // One that withdraws, and one that announces.
    assert_eq!(world.nvas["rs"].updates, before + 2);
    set_static_routes(&mut world, &[]);
    assert!(world.nvas["rs"].learned.is_empty());
    assert!(world.nvas.values().all(|nva| nva.established == 1));
}

#[test]
fn a_site_that_speaks_bgp_is_not_told_its_own_static_prefixes() {
    let mut world = vpn_gateway(65515);
    // The router speaks with 192.168.101.1; the tunnel ends at another address of the site.
    let route = StaticRouteIntent {
        prefix: net("10.70.0.0/16"),
        next_hop: ip("203.0.113.7"),
        peering: Some("site1".into()),
    };
    edit_gateway(&mut world, |gateway| gateway.static_routes = vec![route]);
    assert_eq!(world.told("site1", "10.70.0.0/16"), None);
    assert_eq!(world.told("site2", "10.70.0.0/16").unwrap(), "65515 10.1.5.4");
    // Its router leaves, and comes back as another peer.
    let router = world.intent.gateways[0].peers[1].clone();
    edit_gateway(&mut world, |gateway| drop(gateway.peers.remove(1)));
    edit_gateway(&mut world, |gateway| gateway.peers.push(router));
    world.advance_secs(60);
    assert_eq!(world.told("site1", "10.70.0.0/16"), None);
    assert_eq!(world.told("rs", "10.70.0.0/16").unwrap(), " 10.1.5.4");
    assert!(world.told("site1", "10.1.0.0/16").is_some());
}

#[test]
fn a_static_prefix_inside_the_networks_is_refused() {
    let mut world = vpn_gateway(65515);
    set_static_routes(&mut world, &[("10.1.9.0/24", "192.168.109.1")]);
    assert_eq!(world.told("rs", "10.1.9.0/24"), None);
    let routes = world.instance.routes_of_speaker("gw", None).unwrap();
    assert_eq!(routes[0].reason.as_deref(), Some("inside-virtual-network"));
}

#[test]
fn a_route_that_a_site_marks_no_export_goes_to_the_route_server_and_to_no_other_site() {
    let mut world = vpn_gateway(65515);
    let marked = path("192.168.101.1", &[64701]).add_community(Community::NO_EXPORT);
    world.announce("site1", marked, &["10.50.0.0/16"]);
    assert!(world.told("rs", "10.50.0.0/16").is_some());
    assert_eq!(world.told("site2", "10.50.0.0/16"), None);
}

#[test]
fn a_site_that_comes_and_one_that_goes_disturb_nobody_else() {
    let mut world = vpn_gateway(65515);
    world.announce("site1", path("192.168.101.1", &[64701]), &["10.50.0.0/16"]);
    edit_gateway(&mut world, |gateway| gateway.peers.retain(|peer| peer.id != "site1"));
    assert_eq!(world.told("rs", "10.50.0.0/16"), None);
    assert_eq!(world.told("site2", "10.50.0.0/16"), None);
    assert_eq!((world.nvas["rs"].established, world.nvas["site2"].established), (1, 1));
}

#[test]
fn an_express_route_gateway_tells_the_edge_of_networks_and_nvas_the_default_route_as_well() {
    let mut world = express_route_gateway();
    world.announce("rs", path("10.1.4.4", &[65001]), &["10.250.0.0/16", "0.0.0.0/0"]);
    assert_eq!(world.told("edge", "10.1.0.0/16").unwrap(), "65515 10.1.5.4");
    for prefix in ["10.250.0.0/16", "0.0.0.0/0"] {
        assert_eq!(world.told("edge", prefix).unwrap(), "65515-65001 10.1.5.4");
    }
}

#[test]
fn an_express_route_gateway_tells_the_route_server_what_the_customer_says_behind_12076() {
    let mut world = express_route_gateway();
    world.announce("edge", path("10.200.0.1", &[12076, 64900]), &["10.60.0.0/16"]);
    assert_eq!(world.told("rs", "10.60.0.0/16").unwrap(), "12076-64900 10.1.5.4");
}

#[test]
fn the_edge_tells_gateways_of_the_customer_with_12076_in_front() {
    let mut world = provider_edge();
    world.announce("site1", path("192.168.103.1", &[64900]), &["10.60.0.0/16"]);
    for gateway in ["gateway1", "gateway2"] {
        assert_eq!(world.told(gateway, "10.60.0.0/16").unwrap(), "12076-64900 10.1.5.4");
    }
}

#[test]
fn the_customer_sees_12076_and_public_numbers_alone() {
    let mut world = provider_edge();
    let through = [65515, 65001, 3356, 4_200_000_000];
    world.announce("gateway1", path("10.201.5.4", &through), &["10.250.0.0/16"]);
    world.announce("gateway1", path("10.201.5.4", &[65515]), &["10.1.0.0/16"]);
    assert_eq!(world.told("site1", "10.250.0.0/16").unwrap(), "12076-3356 10.1.5.4");
    assert_eq!(world.told("site1", "10.1.0.0/16").unwrap(), "12076 10.1.5.4");
}

#[test]
fn one_gateways_routes_are_not_told_to_another_gateway_of_the_circuit() {
    let mut world = provider_edge();
    world.announce("gateway1", path("10.201.5.4", &[65515, 65001]), &["10.250.0.0/16"]);
    assert_eq!(world.told("gateway2", "10.250.0.0/16"), None);
}

#[test]
fn a_circuit_that_is_told_too_much_says_so_at_four_fifths_and_when_it_is_passed() {
    let mut world = express_route_gateway();
    edit_gateway(&mut world, |gateway| gateway.routes_to_circuit = 10);
    let said = |world: &mut World| -> Vec<String> {
        let events = world.take_events().into_iter();
        let said = events.filter_map(|event| match event {
            Event::CircuitRoutes { told, limit, .. } => Some(format!("{told} of {limit}")),
            _ => None,
        });
        said.collect()
    };
    // The network and its spoke are two of them.
    let nets = |range: std::ops::Range<usize>| range.map(|n| net(&format!("10.100.{n}.0/24"))).collect();
    world.announce_nets("rs", path("10.1.4.4", &[65001]), nets(0..5));
    assert!(said(&mut world).is_empty() && world.instance.health().circuit_problems.is_empty());
    world.announce_nets("rs", path("10.1.4.4", &[65001]), nets(5..6));
    assert_eq!(said(&mut world), ["8 of 10"]);
    world.announce_nets("rs", path("10.1.4.4", &[65001]), nets(6..9));
    assert_eq!(said(&mut world), ["11 of 10"]);
    let problems = world.instance.health().circuit_problems;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].0 == "edge" && problems[0].1.contains("11") && problems[0].1.contains("10"));
    assert_eq!(world.nvas["edge"].established, 1);
    world.withdraw(
        "rs",
        &["10.100.0.0/24", "10.100.1.0/24", "10.100.2.0/24", "10.100.3.0/24"],
    );
    assert!(said(&mut world).is_empty() && world.instance.health().circuit_problems.is_empty());
}

#[test]
fn where_others_speak_for_a_gateway_nothing_is_spoken_for_it_here() {
    let mut world = vpn_gateway(65515);
    edit_gateway(&mut world, |gateway| gateway.is_external = true);
    assert!(world.instance.peers(world.now, Some("gw")).is_empty() && world.listeners.is_empty());
    edit_gateway(&mut world, |gateway| {
        gateway.is_external = false;
        gateway.instance_addresses = [None, Some(ip("10.1.5.5"))];
    });
    assert!(world.listeners.is_empty());
}
