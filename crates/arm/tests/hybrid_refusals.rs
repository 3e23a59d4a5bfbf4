//! Configurations of gateways that contradict themselves or go round in a circle: each is refused, from whichever side it is written,
//! and the refusal names both sides.
#![allow(clippy::unwrap_used)]

mod common;

use arm::Method;
use common::hybrid::*;
use common::*;
use serde_json::{Value, json};

/// A gateway with a site, a circuit with a gateway, and what a second site and circuit need.
fn joined() -> Lab {
    let mut lab = lab_with_circuit();
    lab.put_net("localNetworkGateways/site", site());
    lab.put_net("connections/c", connection());
    lab.put_net("localNetworkGateways/other", other_site());
    lab
}

fn other_site() -> Value {
    json!({ "location": "westeurope", "properties": {
        "gatewayIpAddress": "198.51.100.8",
        "localNetworkAddressSpace": { "addressPrefixes": ["192.0.2.0/24"] },
        "bgpSettings": { "asn": 65011, "bgpPeeringAddress": "192.0.2.1" },
    } })
}

fn to(mut body: Value, member: &str, path: &str) -> Value {
    body["properties"][member] = json!({ "id": format!("{NET}/{path}") });
    body
}

fn prefixes(list: &[&str]) -> Value {
    json!({ "addressPrefixes": list })
}

#[test]
fn contradictions_are_refused_from_either_side_and_both_are_named() {
    let site_path = "localNetworkGateways/site";
    let other_path = "localNetworkGateways/other";
    let in_network = |member: &str, value| (site_path, with(site(), member, value));
    let speaks_at = |address: &str| json!({ "asn": 65010, "bgpPeeringAddress": address });
    let second = || to(connection(), "localNetworkGateway2", other_path);
    let network =
        |space: &[&str]| json!({ "location": "westeurope", "properties": { "addressSpace": prefixes(space) } });
    // What is there before, what is written, its code, and what the refusal names.
    type Write = (&'static str, Value);
    let cases: Vec<(Vec<Write>, Write, &str, [&str; 2])> = vec![
        (
            vec![],
            in_network("localNetworkAddressSpace", prefixes(&["10.1.2.0/24"])),
            "FarEndInVirtualNetwork",
            [site_path, "virtualNetworks/hub"],
        ),
        (
            vec![],
            in_network("bgpSettings", speaks_at("10.1.2.4")),
            "FarEndInVirtualNetwork",
            [site_path, "virtualNetworks/hub"],
        ),
        (
            vec![],
            ("virtualNetworks/hub", network(&["10.1.0.0/16", "192.168.0.0/16"])),
            "FarEndInVirtualNetwork",
            [site_path, "virtualNetworks/hub"],
        ),
        (
            vec![],
            ("virtualNetworks/hub", network(&["10.1.0.0/16", "172.16.0.0/24"])),
            "FarEndInVirtualNetwork",
            ["expressRouteCircuits/circuit", "virtualNetworks/hub"],
        ),
        (
            vec![],
            (
                PRIVATE_PEERING,
                with(private_peering(), "primaryPeerAddressPrefix", json!("10.1.9.0/30")),
            ),
            "FarEndInVirtualNetwork",
            ["expressRouteCircuits/circuit", "virtualNetworks/hub"],
        ),
        (
            vec![
                ("virtualNetworks/spoke", vnet(&["192.168.7.0/24"], &[])),
                (
                    "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
                    peering("spoke", &["allowGatewayTransit"]),
                ),
                (
                    other_path,
                    with(other_site(), "localNetworkAddressSpace", prefixes(&["192.168.7.0/25"])),
                ),
                ("connections/d", second()),
            ],
            (
                "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
                peering("hub", &["useRemoteGateways"]),
            ),
            "FarEndInVirtualNetwork",
            [other_path, "virtualNetworks/spoke"],
        ),
        (
            vec![(
                other_path,
                with(other_site(), "bgpSettings", speaks_at("192.168.255.1")),
            )],
            ("connections/d", second()),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        (
            vec![("connections/d", second())],
            (
                other_path,
                with(other_site(), "bgpSettings", speaks_at("192.168.255.1")),
            ),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        (
            vec![
                (site_path, with(site(), "bgpSettings", json!(null))),
                (
                    other_path,
                    with(
                        with(other_site(), "bgpSettings", json!(null)),
                        "localNetworkAddressSpace",
                        prefixes(&["192.168.0.0/16"]),
                    ),
                ),
            ],
            ("connections/d", second()),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        (
            vec![],
            ("connections/d", connection()),
            "AlreadyConnected",
            ["connections/c", "connections/d"],
        ),
        (
            vec![],
            ("connections/erd", circuit_connection()),
            "AlreadyConnected",
            ["connections/erc", "connections/erd"],
        ),
        (
            vec![],
            (
                "connections/d",
                to(
                    circuit_connection(),
                    "virtualNetworkGateway1",
                    "virtualNetworkGateways/gw",
                ),
            ),
            "ConnectionTypeDoesNotFitGateway",
            ["connections/d", "virtualNetworkGateways/gw"],
        ),
        (
            vec![],
            (
                "connections/d",
                to(connection(), "virtualNetworkGateway1", "virtualNetworkGateways/er"),
            ),
            "ConnectionTypeDoesNotFitGateway",
            ["connections/d", "virtualNetworkGateways/er"],
        ),
        (
            vec![],
            (
                "virtualNetworkGateways/gw",
                with(gateway(&["gw-pip0", "gw-pip1"]), "bgpSettings", json!({ "asn": 65010 })),
            ),
            "SiteAsnEqualsGatewayAsn",
            [site_path, "virtualNetworkGateways/gw"],
        ),
    ];
    for (before, (path, body), code, named) in cases {
        let mut lab = joined();
        for (path, body) in before {
            lab.put_net(path, body);
        }
        let wanted = format!("{NET}/{path}");
        let error = lab.send(Method::Put, &wanted, Some(body.clone())).unwrap_err();
        assert_eq!(error.code, code, "{path} {body}: {}", error.message);
        for name in named {
            assert!(error.message.contains(name), "{name} is not in: {}", error.message);
        }
    }
}

#[test]
fn a_site_is_in_another_autonomous_system_than_azures_own() {
    let mut lab = lab();
    for asn in [65515, 12076, 23456] {
        let body = with(
            site(),
            "bgpSettings",
            json!({ "asn": asn, "bgpPeeringAddress": "192.168.255.1" }),
        );
        assert_eq!(lab.refusal("localNetworkGateways/site", body), "InvalidPeerAsn");
    }
}

#[test]
fn what_only_looks_like_a_contradiction_is_taken() {
    let mut lab = joined();
    // A supernet of the network: the more specific prefix wins.
    lab.put_net(
        "localNetworkGateways/site",
        with(site(), "localNetworkAddressSpace", prefixes(&["10.0.0.0/8"])),
    );
    // Two routers of one site, told apart by where they speak.
    let twin = with(other_site(), "localNetworkAddressSpace", prefixes(&["10.0.0.0/8"]));
    lab.put_net("localNetworkGateways/other", twin);
    lab.put_net(
        "connections/d",
        to(connection(), "localNetworkGateway2", "localNetworkGateways/other"),
    );
    // A network that is peered and uses no gateway of ours.
    lab.put_net("virtualNetworks/apart", vnet(&["172.16.0.0/24"], &[]));
    lab.put_net(
        "virtualNetworks/hub/virtualNetworkPeerings/to-apart",
        peering("apart", &["allowGatewayTransit"]),
    );
    lab.put_net(
        "virtualNetworks/apart/virtualNetworkPeerings/to-hub",
        peering("hub", &[]),
    );
}

#[test]
fn a_gateway_and_a_route_server_are_not_in_a_network_that_uses_anothers_gateways() {
    let mut lab = lab_with_gateways();
    lab.put_net(
        "virtualNetworks/spoke",
        vnet(
            &["10.2.0.0/16"],
            &[("GatewaySubnet", "10.2.0.0/27"), ("RouteServerSubnet", "10.2.1.0/26")],
        ),
    );
    lab.put_net("publicIPAddresses/spoke-pip", public_ip());
    lab.put_net(
        "virtualHubs/spoke-rs",
        json!({ "location": "westeurope", "properties": { "sku": "Standard" } }),
    );
    lab.put_net(
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
        peering("hub", &["useRemoteGateways"]),
    );
    let mut in_spoke = gateway(&["spoke-pip"]);
    in_spoke["properties"]["ipConfigurations"][0]["properties"]["subnet"] =
        json!({ "id": subnet_id("spoke", "GatewaySubnet") });
    assert_eq!(
        lab.refusal("virtualNetworkGateways/in-spoke", in_spoke),
        "VnetHasRemoteGateways"
    );
    assert_eq!(
        lab.refusal(
            "virtualHubs/spoke-rs/ipConfigurations/Default",
            ip_configuration("spoke", "spoke-pip")
        ),
        "VnetHasRemoteGateways"
    );
}

#[test]
fn a_peer_of_a_spoke_has_no_route_maps() {
    let mut lab = Lab::with_route_server();
    lab.put_net(
        "virtualNetworks/spoke",
        vnet(&["10.2.0.0/16"], &[("nva", "10.2.0.0/24")]),
    );
    lab.put_net("virtualNetworks/hub/virtualNetworkPeerings/s", peering("spoke", &[]));
    lab.put_net("virtualNetworks/spoke/virtualNetworkPeerings/h", peering("hub", &[]));
    lab.put_net("virtualHubs/rs/routeMaps/in1", json!({ "properties": { "rules": [] } }));
    let path = "virtualHubs/rs/bgpConnections/far";
    let map = json!({ "inboundRouteMap": { "id": format!("{NET}/virtualHubs/rs/routeMaps/in1") } });
    let code = "HubBgpConnectionFromSpokeVnetCannotReferenceRouteMap";
    assert_eq!(
        lab.refusal(path, with(peer("10.2.0.4", 65005), "routingConfiguration", map.clone())),
        code
    );
    lab.put_net(path, peer("10.2.0.4", 65005));
    lab.put_net(
        "virtualHubs/rs/bgpConnections/sdwan",
        with(peer("10.1.1.4", 65001), "routingConfiguration", map),
    );
}
