//! Configurations of gateways that contradict themselves or go round in a circle: each is refused, from whichever side it is written,
//! and the refusal names both sides, unless whoever asks may not know of one.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{ArmError, May, Method, handle};
use common::hybrid::*;
use common::*;
use serde_json::{Value, json};

/// A gateway with a site, a circuit with a gateway, and a second site and circuit.
fn joined() -> Lab {
    let mut lab = lab_with_circuit();
    lab.put_net("localNetworkGateways/site", site());
    lab.put_net("connections/c", speaking(connection()));
    lab.put_net("localNetworkGateways/other", other_site());
    lab.put_net("expressRouteCircuits/other", circuit());
    lab
}

/// With BGP.
fn speaking(connection: Value) -> Value {
    with(connection, "enableBgp", json!(true))
}

/// [`joined`] with a network `twin` whose ExpressRoute gateway `twin-er` has the addresses of `er`.
fn with_twin() -> Lab {
    let mut lab = joined();
    lab.put_net(
        "virtualNetworks/twin",
        vnet(&["10.1.0.0/16"], &[("GatewaySubnet", "10.1.255.0/27")]),
    );
    for (name, pips, kind) in [
        ("twin-gw", ["twin-pip0", "twin-pip1"].as_slice(), "Vpn"),
        ("twin-er", &["twin-pip2"], "ExpressRoute"),
    ] {
        for pip in pips {
            lab.put_net(&format!("publicIPAddresses/{pip}"), public_ip());
        }
        let mut body = with(gateway(pips), "gatewayType", json!(kind));
        for configuration in body["properties"]["ipConfigurations"].as_array_mut().unwrap() {
            configuration["properties"]["subnet"]["id"] = json!(subnet_id("twin", "GatewaySubnet"));
        }
        lab.put_net(&format!("virtualNetworkGateways/{name}"), body);
    }
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
    let silent = || to(connection(), "localNetworkGateway2", other_path);
    let second = || speaking(silent());
    let with_site_prefix = || {
        (
            other_path,
            with(other_site(), "localNetworkAddressSpace", prefixes(&["192.168.0.0/16"])),
        )
    };
    let other_peering = "expressRouteCircuits/other/peerings/AzurePrivatePeering";
    let apart = |first: &str, second: &str| {
        let body = with(private_peering(), "primaryPeerAddressPrefix", json!(first));
        with(body, "secondaryPeerAddressPrefix", json!(second))
    };
    let second_circuit = || to(circuit_connection(), "peer", "expressRouteCircuits/other");
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
        // BGP is not spoken, whatever the sites could.
        (
            vec![("connections/c", connection()), with_site_prefix()],
            ("connections/d", silent()),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        // One tunnel cannot be told from another that ends at the same address.
        (
            vec![
                ("connections/c", connection()),
                (
                    other_path,
                    with(other_site(), "gatewayIpAddress", json!("198.51.100.7")),
                ),
            ],
            ("connections/d", silent()),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        // Only one of them speaks.
        (
            vec![("connections/d", silent())],
            with_site_prefix(),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        (
            vec![("connections/d", second()), with_site_prefix()],
            ("connections/c", connection()),
            "SitesNotDistinct",
            [site_path, other_path],
        ),
        (
            vec![(other_peering, private_peering())],
            ("connections/d", second_circuit()),
            "CircuitsNotDistinct",
            ["expressRouteCircuits/circuit", "expressRouteCircuits/other"],
        ),
        (
            vec![
                (other_peering, apart("172.16.1.0/30", "172.16.1.4/30")),
                ("connections/d", second_circuit()),
            ],
            (other_peering, apart("172.16.1.0/30", "172.16.0.4/30")),
            "CircuitsNotDistinct",
            ["expressRouteCircuits/circuit", "expressRouteCircuits/other"],
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
fn two_gateways_with_the_same_addresses_are_not_on_one_circuit() {
    let mut lab = with_twin();
    let body = to(
        circuit_connection(),
        "virtualNetworkGateway1",
        "virtualNetworkGateways/twin-er",
    );
    let path = format!("{NET}/connections/twin");
    let error = lab.send(Method::Put, &path, Some(body.clone())).unwrap_err();
    assert_eq!(error.code, "GatewaysNotDistinct");
    for name in [
        "virtualNetworkGateways/er",
        "virtualNetworkGateways/twin-er",
        "10.1.255.6",
    ] {
        assert!(error.message.contains(name), "{name} is not in: {}", error.message);
    }
    lab.delete_net("connections/erc").unwrap();
    lab.send(Method::Put, &path, Some(body)).unwrap();
}

#[test]
fn a_connection_has_no_far_end_of_another_type() {
    let mut lab = joined();
    let circuit_path = "expressRouteCircuits/circuit";
    let site_path = "localNetworkGateways/other";
    let gateway_path = "virtualNetworkGateways/er";
    let (ipsec, line) = (connection(), circuit_connection());
    let client = with(connection(), "connectionType", json!("VPNClient"));
    for (body, member, path, kinds) in [
        (&ipsec, "peer", circuit_path, ["IPsec", "ExpressRoute"]),
        (&ipsec, "virtualNetworkGateway2", gateway_path, ["IPsec", "Vnet2Vnet"]),
        (&line, "localNetworkGateway2", site_path, ["ExpressRoute", "IPsec"]),
        (
            &line,
            "virtualNetworkGateway2",
            gateway_path,
            ["ExpressRoute", "Vnet2Vnet"],
        ),
        (&client, "localNetworkGateway2", site_path, ["VPNClient", "IPsec"]),
    ] {
        let body = to(body.clone(), member, path);
        let path = format!("{NET}/connections/d");
        let error = lab.send(Method::Put, &path, Some(body.clone())).unwrap_err();
        assert_eq!(error.code, "ConnectionTypeDoesNotFitFarEnd", "{body}");
        assert_eq!(error.target, Some(format!("properties.{member}")));
        for part in kinds.into_iter().chain([member]) {
            assert!(error.message.contains(part), "{part} is not in: {}", error.message);
        }
    }
}

#[test]
fn a_site_has_at_most_a_thousand_prefixes() {
    let mut lab = lab();
    let of = |count: u32| {
        let all = (0..count).map(|n| format!("100.64.{}.{}/32", n / 256, n % 256));
        with(
            site(),
            "localNetworkAddressSpace",
            json!({ "addressPrefixes": all.collect::<Vec<_>>() }),
        )
    };
    lab.put_net("localNetworkGateways/site", of(1000));
    assert_eq!(
        lab.refusal("localNetworkGateways/site", of(1001)),
        "AddressPrefixLimitReached"
    );
}

/// What a PUT comes to for somebody who may not read what is called so.
fn refused_without(lab: &mut Lab, hidden: &str, path: &str, body: Value) -> ArmError {
    let read = |id: &str| match id.ends_with(hidden) {
        true => Err(ArmError::new(403, "AuthorizationFailed", "No.")),
        false => Ok(()),
    };
    let may = May {
        read: &read,
        ..May::ALL
    };
    let asked = request(Method::Put, &format!("{NET}/{path}"), Some(body));
    handle(&lab.resources, &lab.settings, &asked, may, &mut lab.mint).unwrap_err()
}

#[test]
fn what_one_may_not_read_is_named_nowhere_in_a_refusal() {
    let site_path = "localNetworkGateways/site";
    let network = |space: &[&str]| json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": space } } });
    let own_as = with(gateway(&["gw-pip0", "gw-pip1"]), "bgpSettings", json!({ "asn": 65010 }));
    let same_prefix = with(other_site(), "localNetworkAddressSpace", prefixes(&["192.168.0.0/16"]));
    let second_gateway = with(gateway(&["free-pip"]), "gatewayType", json!("ExpressRoute"));
    for (hidden, path, body, code) in [
        (
            site_path,
            "virtualNetworks/hub",
            network(&["10.1.0.0/16", "192.168.0.0/16"]),
            "FarEndInVirtualNetwork",
        ),
        (
            "expressRouteCircuits/circuit",
            "virtualNetworks/hub",
            network(&["10.1.0.0/16", "172.16.0.0/24"]),
            "FarEndInVirtualNetwork",
        ),
        (
            site_path,
            "virtualNetworkGateways/gw",
            own_as,
            "SiteAsnEqualsGatewayAsn",
        ),
        (site_path, "localNetworkGateways/other", same_prefix, "SitesNotDistinct"),
        (
            "virtualNetworkGateways/er",
            "virtualNetworkGateways/second",
            second_gateway,
            "VirtualNetworkCanHaveOnlyOneGatewayOfAType",
        ),
    ] {
        let mut lab = joined();
        lab.put_net("publicIPAddresses/free-pip", public_ip());
        lab.put_net(
            "connections/d",
            to(connection(), "localNetworkGateway2", "localNetworkGateways/other"),
        );
        let error = refused_without(&mut lab, hidden, path, body.clone());
        assert_eq!(error.code, code, "{body}");
        let told = error.body().to_string();
        assert!(!told.contains(hidden), "{told}");
        assert!(told.contains("(one that you may not read)"), "{told}");
        let error = refused_without(&mut lab, "nothing", path, body);
        assert!(error.body().to_string().contains(hidden), "{error:?}");
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
    let second = to(connection(), "localNetworkGateway2", "localNetworkGateways/other");
    lab.put_net("connections/d", speaking(second.clone()));
    // Two routers that could speak at one address, and are not spoken with.
    lab.delete_net("connections/d").unwrap();
    let same_address = json!({ "asn": 65010, "bgpPeeringAddress": "192.168.255.1" });
    lab.put_net(
        "localNetworkGateways/other",
        with(other_site(), "bgpSettings", same_address),
    );
    lab.put_net("connections/d", second);
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
