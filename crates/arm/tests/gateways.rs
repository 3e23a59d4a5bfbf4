//! Gateways, local gateways and connections: kept, checked, tied to each other and to the networks.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{Ask, Method, Outcome};
use common::hybrid::{connection, gateway, lab, site};
use common::*;
use serde_json::{Value, json};

#[test]
fn an_active_active_gateway_has_two_addresses_in_its_subnet() {
    let mut lab = lab();
    let shown = lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0", "gw-pip1"]));
    let settings = &shown["properties"]["bgpSettings"];
    assert_eq!(settings["asn"], 65515);
    assert_eq!(settings["bgpPeeringAddress"], "10.1.255.4,10.1.255.5");
    assert_eq!(
        settings["bgpPeeringAddresses"][1]["defaultBgpIpAddresses"],
        json!(["10.1.255.5"])
    );
    // What a client reads and writes back changes nothing.
    let path = format!("{NET}/virtualNetworkGateways/gw");
    assert_eq!(lab.changes(Method::Put, &path, Some(shown)), []);
    let subnet = lab.get_net("virtualNetworks/hub/subnets/GatewaySubnet");
    assert_eq!(subnet["properties"]["ipConfigurations"].as_array().unwrap().len(), 2);
}

#[test]
fn gateways_are_refused_for() {
    let mut lab = lab();
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0"]));
    let path = "virtualNetworkGateways/other";
    let with = |change: fn(&mut Value)| {
        let mut body = gateway(&["gw-pip1"]);
        change(&mut body["properties"]);
        body
    };
    let cases = [
        (gateway(&["gw-pip1"]), "VirtualNetworkCanHaveOnlyOneGatewayOfAType"),
        (gateway(&["gw-pip0"]), "PublicIPAddressInUse"),
        (gateway(&[]), "MissingRequiredProperty"),
        (with(|p| p["gatewayType"] = json!("Other")), "InvalidRequestFormat"),
        (
            with(|p| p["activeActive"] = json!(true)),
            "ActiveActiveGatewayNeedsTwoIpConfigurations",
        ),
        (
            with(|p| p["ipConfigurations"][0]["properties"]["subnet"]["id"] = json!(subnet_id("hub", "workload"))),
            "InvalidGatewaySubnetName",
        ),
        (
            with(|p| {
                _ = p["ipConfigurations"][0]["properties"]
                    .as_object_mut()
                    .unwrap()
                    .remove("publicIPAddress")
            }),
            "MissingRequiredProperty",
        ),
        (with(|p| p["bgpSettings"] = json!({ "asn": 0 })), "InvalidRequestFormat"),
    ];
    for (body, code) in cases {
        assert_eq!(lab.refusal(path, body.clone()), code, "{body}");
    }
    let mut other_type = gateway(&["gw-pip0"]);
    other_type["properties"]["gatewayType"] = json!("ExpressRoute");
    assert_eq!(
        lab.refusal("virtualNetworkGateways/gw", other_type),
        "PropertyChangeNotAllowed"
    );
}

#[test]
fn local_gateways_and_connections_are_refused_for() {
    let mut lab = lab();
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0"]));
    lab.put_net("localNetworkGateways/site", site());
    let local = |name: &str, value: Value| {
        let mut body = site();
        body["properties"][name] = value;
        body
    };
    for (body, code) in [
        (local("gatewayIpAddress", json!("x")), "InvalidRequestFormat"),
        (local("gatewayIpAddress", json!("")), "MissingRequiredProperty"),
        (local("fqdn", json!("site.example")), "MissingRequiredProperty"),
        (
            local("localNetworkAddressSpace", json!({ "addressPrefixes": ["10.0.0.1/8"] })),
            "InvalidCIDRNotation",
        ),
        (
            local("bgpSettings", json!({ "asn": 65010, "bgpPeeringAddress": "x" })),
            "InvalidRequestFormat",
        ),
    ] {
        assert_eq!(lab.refusal("localNetworkGateways/other", body.clone()), code, "{body}");
    }
    let wrong = |name: &str, value: Value| {
        let mut body = connection();
        body["properties"][name] = value;
        body
    };
    let missing = json!({ "id": format!("{NET}/localNetworkGateways/none") });
    for (body, code) in [
        (wrong("connectionType", json!("Wire")), "InvalidRequestFormat"),
        (wrong("connectionType", json!(null)), "MissingRequiredProperty"),
        (wrong("connectionType", json!("Vnet2Vnet")), "MissingRequiredProperty"),
        (wrong("localNetworkGateway2", json!(null)), "MissingRequiredProperty"),
        (wrong("localNetworkGateway2", missing), "InvalidResourceReference"),
    ] {
        assert_eq!(lab.refusal("connections/c", body.clone()), code, "{body}");
    }
}

#[test]
fn a_connection_keeps_its_key_to_itself_and_its_gateways_from_being_deleted() {
    let mut lab = lab();
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0"]));
    lab.put_net("localNetworkGateways/site", site());
    let mut keyed = connection();
    keyed["properties"]["authorizationKey"] = json!("s3cret too");
    let shown = lab.put_net("connections/c", keyed);
    let listed = lab.get_net("connections");
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    assert!(!listed.to_string().contains("s3cret"), "{listed}");
    let path = format!("{NET}/connections/c");
    assert_eq!(lab.changes(Method::Put, &path, Some(shown)), []);
    let stored = lab.resources.get(&path).unwrap();
    assert_eq!(stored.property("sharedKey"), "s3cret");
    assert_eq!(stored.property("authorizationKey"), "s3cret too");
    let code = |lab: &mut Lab, path: &str| lab.delete_net(path).unwrap_err().code;
    assert_eq!(
        code(&mut lab, "virtualNetworkGateways/gw"),
        "VirtualNetworkGatewayCannotBeDeleted"
    );
    assert_eq!(
        code(&mut lab, "localNetworkGateways/site"),
        "LocalNetworkGatewayCannotBeDeleted"
    );
    assert_eq!(
        code(&mut lab, "virtualNetworks/hub/subnets/GatewaySubnet"),
        "InUseSubnetCannotBeDeleted"
    );
    lab.delete_net("connections/c").unwrap();
    lab.delete_net("virtualNetworkGateways/gw").unwrap();
    lab.delete_net("localNetworkGateways/site").unwrap();
}

#[test]
fn a_gateway_is_something_that_a_peered_network_can_use() {
    let mut lab = lab();
    lab.delete_net("virtualHubs/rs").unwrap();
    lab.put_net("virtualNetworks/spoke", vnet(&["10.2.0.0/16"], &[]));
    let path = "virtualNetworks/spoke/virtualNetworkPeerings/to-hub";
    assert_eq!(
        lab.refusal(path, peering("hub", &["useRemoteGateways"])),
        "RemoteVnetHasNoGateways"
    );
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0"]));
    lab.put_net(path, peering("hub", &["useRemoteGateways"]));
}

#[test]
fn bgp_diagnostics_of_a_gateway_are_questions() {
    let mut lab = lab();
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0"]));
    let key = format!("{NET}/virtualNetworkGateways/gw").to_lowercase();
    let peer: std::net::IpAddr = "10.1.0.4".parse().unwrap();
    let mut ask = |action: &str, peer: Option<&str>| {
        let mut asked = request(Method::Post, &format!("{NET}/virtualNetworkGateways/GW/{action}"), None);
        asked
            .query
            .extend(peer.map(|peer| ("peer".to_owned(), peer.to_owned())));
        lab.request(asked)
    };
    for (action, with, expected) in [
        ("getBgpPeerStatus", None, Ask::GatewayPeers(key.clone(), None)),
        (
            "getBgpPeerStatus",
            Some("10.1.0.4"),
            Ask::GatewayPeers(key.clone(), Some(peer)),
        ),
        ("getLearnedRoutes", None, Ask::GatewayLearnedRoutes(key.clone())),
        (
            "getadvertisedroutes",
            Some("10.1.0.4"),
            Ask::GatewayAdvertisedRoutes(key.clone(), peer),
        ),
    ] {
        let expected = Outcome::Ask(expected, "westeurope".to_owned());
        assert_eq!(ask(action, with).unwrap(), expected, "{action}");
    }
    for with in [None, Some(""), Some("rs")] {
        assert_eq!(ask("getAdvertisedRoutes", with).unwrap_err().code, "InvalidPeer");
    }
}
