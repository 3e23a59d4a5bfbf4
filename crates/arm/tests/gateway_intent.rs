//! What gateways, sites and connections become for the instances.
#![allow(clippy::unwrap_used)]

mod common;

use arm::intent;
use common::hybrid::{
    connection, express_route_gateway, gateway, lab, lab_with_circuit, lab_with_gateways, site, with,
};
use common::*;
use routeserver::intent::{GatewayIntent, GatewayKind, PeerIntent, PeerKind};
use serde_json::{Value, json};

fn gateway_intent(lab: &Lab, name: &str) -> GatewayIntent {
    let mut gateways = intent(&lab.resources, &lab.settings).gateways.into_iter();
    gateways.find(|gateway| gateway.name == name).unwrap()
}

/// Name, kind, address and AS number of each.
fn told(peers: &[PeerIntent]) -> Vec<String> {
    let one = |peer: &PeerIntent| format!("{} {:?} {} {}", peer.name, peer.kind, peer.address, peer.asn.0);
    peers.iter().map(one).collect()
}

fn addresses(gateway: &GatewayIntent) -> Vec<String> {
    let addresses = gateway.instance_addresses.iter();
    addresses
        .map(|address| address.map_or("-".to_owned(), |address| address.to_string()))
        .collect()
}

fn set(lab: &mut Lab, path: &str, settings: Value) {
    lab.settings
        .by_key
        .insert(format!("{NET}/{path}").to_lowercase(), settings);
}

#[test]
fn a_route_server_peers_with_each_instance_of_each_gateway_of_its_network_and_they_with_both_of_its() {
    let mut lab = lab_with_gateways();
    let all = intent(&lab.resources, &lab.settings);
    let peers = &all.route_servers[0].peers;
    assert_eq!(
        told(peers),
        [
            "sdwan Nva 10.1.1.4 65001",
            "er-in_0 ExpressRouteGateway 10.1.255.6 65515",
            "er-in_1 ExpressRouteGateway 10.1.255.7 65515",
            "gw-in_0 VpnGateway 10.1.255.4 65515",
            "gw-in_1 VpnGateway 10.1.255.5 65515",
        ]
    );
    let hub = format!("{NET}/virtualHubs/rs").to_lowercase();
    assert_eq!(peers[4].id, format!("{hub}/gateways/vpn-gw-in_1"));
    for name in ["gw", "er"] {
        let gateway = gateway_intent(&lab, name);
        assert_eq!(
            told(&gateway.peers),
            [
                "rs-in_0 RouteServer 10.1.0.4 65515",
                "rs-in_1 RouteServer 10.1.0.5 65515"
            ]
        );
        assert_eq!(gateway.peers[0].id, format!("{}/routeservers/rs-in_0", gateway.id));
    }
    // They are no resources, and don't count against the limit of peers.
    assert_eq!(
        lab.get_net("virtualHubs/rs")["properties"]["bgpConnections"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    lab.settings.limits.peers = 2;
    lab.put_net("virtualHubs/rs/bgpConnections/firewall", peer("10.1.1.5", 65002));
}

#[test]
fn a_vpn_gateway_has_a_second_speaker_only_if_it_is_active_active() {
    let mut lab = lab();
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0"]));
    assert_eq!(addresses(&gateway_intent(&lab, "gw")), ["10.1.255.4", "-"]);
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0", "gw-pip1"]));
    assert_eq!(addresses(&gateway_intent(&lab, "gw")), ["10.1.255.4", "10.1.255.5"]);
    let standby = with(gateway(&["gw-pip0", "gw-pip1"]), "activeActive", json!(false));
    lab.put_net("virtualNetworkGateways/gw", standby);
    let gateway = gateway_intent(&lab, "gw");
    assert_eq!(addresses(&gateway), ["10.1.255.4", "-"]);
    let subnet = format!("{NET}/virtualNetworks/hub/subnets/GatewaySubnet").to_lowercase();
    assert_eq!(gateway.subnet, Some(subnet));
    assert_eq!((gateway.kind, gateway.routes_to_circuit), (GatewayKind::Vpn, 0));
}

#[test]
fn an_express_route_gateway_has_a_second_address_that_its_body_does_not_show() {
    let mut lab = lab_with_gateways();
    let intent = gateway_intent(&lab, "er");
    assert_eq!(addresses(&intent), ["10.1.255.6", "10.1.255.7"]);
    assert_eq!(
        (intent.kind, intent.routes_to_circuit),
        (GatewayKind::ExpressRoute, 1000)
    );
    let shown = lab.get_net("virtualNetworkGateways/er");
    assert!(!shown.to_string().contains("10.1.255.7"), "{shown}");
    // It stays when the gateway is written back, and is nobody else's.
    let path = format!("{NET}/virtualNetworkGateways/er");
    assert_eq!(lab.changes(arm::Method::Put, &path, Some(shown)), []);
    lab.delete_net("virtualNetworkGateways/gw").unwrap();
    lab.delete_net("virtualNetworkGateways/er").unwrap();
    lab.put_net("virtualNetworkGateways/er", express_route_gateway());
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0", "gw-pip1"]));
    assert_eq!(addresses(&gateway_intent(&lab, "er")), ["10.1.255.4", "10.1.255.5"]);
    assert_eq!(addresses(&gateway_intent(&lab, "gw")), ["10.1.255.6", "10.1.255.7"]);
}

#[test]
fn a_site_that_speaks_bgp_is_a_peer_and_its_address_space_is_static_beside() {
    let mut lab = lab_with_gateways();
    lab.put_net("localNetworkGateways/site", site());
    lab.put_net("connections/c", with(connection(), "enableBgp", json!(true)));
    let gateway = gateway_intent(&lab, "gw");
    let site = gateway.peers.last().unwrap();
    assert_eq!(told(&gateway.peers)[2..], ["c Site 192.168.255.1 65010"]);
    assert_eq!(site.id, format!("{NET}/connections/c").to_lowercase());
    assert_eq!((site.kind, site.route_limit), (PeerKind::Site, 4000));
    let routes: Vec<String> = gateway
        .static_routes
        .iter()
        .map(|route| format!("{} {}", route.prefix, route.next_hop))
        .collect();
    assert_eq!(routes, ["192.168.0.0/16 198.51.100.7"]);
    // The tunnel's address is not the router's: whose routes these are is said.
    assert_eq!(gateway.static_routes[0].peering.as_ref(), Some(&site.id));
}

#[test]
fn what_a_gateway_without_an_ipv6_address_cannot_do_with_a_site_is_left_out() {
    let mut lab = lab_with_gateways();
    let mut body = site();
    body["properties"]["bgpSettings"]["bgpPeeringAddress"] = json!("fd00:9::1");
    body["properties"]["localNetworkAddressSpace"]["addressPrefixes"] = json!(["192.168.0.0/16", "2001:db8:50::/48"]);
    lab.put_net("localNetworkGateways/site", body);
    lab.put_net("connections/c", with(connection(), "enableBgp", json!(true)));
    let gateway = gateway_intent(&lab, "gw");
    // Nobody speaks from an IPv4 address to an IPv6 one, nor listens for it there.
    assert!(gateway.peers.iter().all(|peer| peer.kind != PeerKind::Site));
    // The tunnel's far end has an IPv4 address: a static IPv6 prefix would only win against the site's own word.
    let prefixes: Vec<String> = gateway
        .static_routes
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert_eq!(prefixes, ["192.168.0.0/16"]);
}

#[test]
fn a_site_is_static_alone_unless_both_gateways_and_the_connection_speak_bgp() {
    let no_bgp = json!(null);
    for (on_gateway, on_connection, of_site, peers) in [
        (true, true, site()["properties"]["bgpSettings"].clone(), 1),
        (false, true, site()["properties"]["bgpSettings"].clone(), 0),
        (true, false, site()["properties"]["bgpSettings"].clone(), 0),
        (true, true, no_bgp, 0),
        (true, true, json!({ "asn": 65010 }), 0),
    ] {
        let mut lab = lab();
        let gateway = with(gateway(&["gw-pip0"]), "enableBgp", json!(on_gateway));
        lab.put_net("virtualNetworkGateways/gw", gateway);
        lab.put_net("localNetworkGateways/site", with(site(), "bgpSettings", of_site));
        lab.put_net("connections/c", with(connection(), "enableBgp", json!(on_connection)));
        let gateway = gateway_intent(&lab, "gw");
        let sites = gateway.peers.iter().filter(|peer| peer.kind == PeerKind::Site);
        assert_eq!((sites.count(), gateway.static_routes.len()), (peers, 1));
        assert_eq!(gateway.static_routes[0].peering.is_some(), peers > 0);
    }
}

#[test]
fn what_is_no_far_end_of_a_connections_type_is_not_used() {
    let mut lab = lab_with_circuit();
    lab.put_net("localNetworkGateways/site", site());
    lab.put_net("connections/c", with(connection(), "enableBgp", json!(true)));
    let (vpn, line) = (gateway_intent(&lab, "gw"), gateway_intent(&lab, "er"));
    let edge = gateway_intent(&lab, "circuit");
    // As an earlier version took them.
    for (connection, member, of) in [
        ("erc", "localNetworkGateway2", "localNetworkGateways/site"),
        ("c", "peer", "expressRouteCircuits/circuit"),
    ] {
        let id = format!("{NET}/connections/{connection}");
        let mut stored = lab.resources.get(&id).unwrap().clone();
        stored.body["properties"][member] = json!({ "id": format!("{NET}/{of}") });
        lab.resources.put(stored);
    }
    assert_eq!(gateway_intent(&lab, "gw"), vpn);
    assert_eq!(gateway_intent(&lab, "er"), line);
    assert_eq!(gateway_intent(&lab, "circuit"), edge);
}

#[test]
fn an_express_route_gateway_is_in_azures_as_whatever_was_sent_of_it() {
    let mut lab = lab();
    let own = with(express_route_gateway(), "bgpSettings", json!({ "asn": 300 }));
    lab.put_net("virtualNetworkGateways/er", own);
    assert_eq!(gateway_intent(&lab, "er").asn.0, 65515);
}

#[test]
fn a_site_with_a_name_instead_of_an_address_has_no_static_routes() {
    let mut lab = lab_with_gateways();
    let mut named = with(site(), "fqdn", json!("site.example"));
    named["properties"]["gatewayIpAddress"] = json!(null);
    lab.put_net("localNetworkGateways/site", named);
    lab.put_net("connections/c", connection());
    assert_eq!(gateway_intent(&lab, "gw").static_routes, []);
}

#[test]
fn a_gateway_has_its_own_number_and_its_own_namespaces() {
    let mut lab = lab();
    let own = with(gateway(&["gw-pip0", "gw-pip1"]), "bgpSettings", json!({ "asn": 300 }));
    lab.put_net("virtualNetworkGateways/gw", own);
    for (place, namespace) in [
        ("10.1.255.5/32", "/run/netns/gw1"),
        ("10.1.255.0/27", "/run/netns/gateways"),
    ] {
        lab.settings.bind.insert(place.to_owned(), namespace.to_owned());
    }
    let namespaces = gateway_intent(&lab, "gw").namespaces;
    assert_eq!(
        namespaces.each_ref().map(|found| found.as_deref().unwrap()),
        ["/run/netns/gateways", "/run/netns/gw1"]
    );
    assert_eq!(gateway_intent(&lab, "gw").asn.0, 300);
    let subnet = format!("{NET}/virtualNetworks/hub/subnets/GatewaySubnet").to_lowercase();
    lab.settings.bind.insert(subnet, "/run/netns/by-id".to_owned());
    assert_eq!(
        gateway_intent(&lab, "gw").namespaces[0].as_deref(),
        Some("/run/netns/by-id")
    );
}

#[test]
fn settings_of_a_gateway_are_for_its_sessions_with_the_route_server_and_those_of_a_connection_for_its_site() {
    let mut lab = lab_with_gateways();
    lab.put_net("localNetworkGateways/site", site());
    lab.put_net("connections/c", with(connection(), "enableBgp", json!(true)));
    set(
        &mut lab,
        "virtualNetworkGateways/gw",
        json!({ "external": true, "holdTimeSecs": 9 }),
    );
    set(
        &mut lab,
        "localNetworkGateways/site",
        json!({ "md5Password": "of the site", "holdTimeSecs": 30 }),
    );
    set(&mut lab, "connections/c", json!({ "holdTimeSecs": 12 }));
    let gateway = gateway_intent(&lab, "gw");
    assert!(gateway.is_external);
    let hold_times: Vec<u16> = gateway.peers.iter().map(|peer| peer.hold_time_secs).collect();
    assert_eq!(hold_times, [9, 9, 12]);
    assert!(gateway.peers[2].md5_password.is_some());
    let hub = &intent(&lab.resources, &lab.settings).route_servers[0];
    let of_gateway = hub.peers.iter().filter(|peer| peer.kind == PeerKind::VpnGateway);
    assert_eq!(of_gateway.map(|peer| peer.hold_time_secs).collect::<Vec<_>>(), [9, 9]);
}
