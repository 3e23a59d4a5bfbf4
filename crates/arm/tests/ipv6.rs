//! IPv6 behind the setting: what is refused as in Azure while it is off, and what it gives when it is on.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{check_settings, intent};
use common::hybrid::{PRIVATE_PEERING, lab_with_circuit, private_peering, with};
use common::*;
use routeserver::intent::{GatewayIntent, RouteServerIntent};
use serde_json::{Value, json};

const HUB: &str = "virtualHubs/rs";
const PEERING: &str = "virtualHubs/rs/bgpConnections/v6";

/// A subnet of both families, fd01:0:0:`number`::/64 beside its IPv4 prefix.
fn dual(prefix: &str, number: u8) -> Value {
    json!({ "properties": { "addressPrefixes": [prefix, format!("fd01:0:0:{number}::/64")] } })
}

/// Gives the network of the reference scenario, and its subnets, IPv6.
fn make_dual(lab: &mut Lab) {
    let mut network = lab.get_net("virtualNetworks/hub");
    network["properties"]["addressSpace"]["addressPrefixes"] = json!(["10.1.0.0/16", "fd01::/48"]);
    lab.put_net("virtualNetworks/hub", network);
    lab.put_net("virtualNetworks/hub/subnets/RouteServerSubnet", dual("10.1.0.0/26", 1));
    lab.put_net("virtualNetworks/hub/subnets/nva", dual("10.1.1.0/24", 2));
}

fn dual_lab() -> Lab {
    let mut lab = Lab::with_route_server();
    make_dual(&mut lab);
    lab
}

fn set(lab: &mut Lab, path: &str, settings: Value) {
    let key = format!("{NET}/{path}").to_lowercase();
    lab.settings.by_key.insert(key, settings);
}

fn route_server(lab: &Lab) -> RouteServerIntent {
    intent(&lab.resources, &lab.settings).route_servers.remove(0)
}

fn gateway(lab: &Lab, name: &str) -> GatewayIntent {
    let mut gateways = intent(&lab.resources, &lab.settings).gateways.into_iter();
    gateways.find(|gateway| gateway.name == name).unwrap()
}

fn texts<T: std::fmt::Display>(addresses: [Option<T>; 2]) -> [String; 2] {
    addresses.map(|address| address.map_or("-".to_owned(), |address| address.to_string()))
}

#[test]
fn a_peer_has_an_ipv4_address_while_the_setting_is_off() {
    let mut lab = dual_lab();
    assert_eq!(lab.refusal(PEERING, peer("fd01:0:0:2::4", 65001)), "InvalidPeerIp");
    assert_eq!(texts(route_server(&lab).instance_addresses_v6), ["-", "-"]);
    assert!(lab.get_net(HUB)["properties"].get("virtualRouterIpsV6").is_none());
}

#[test]
fn with_the_setting_instances_have_the_ipv6_addresses_of_the_same_numbers() {
    let mut lab = dual_lab();
    set(&mut lab, HUB, json!({ "ipv6": true }));
    let addresses = ["fd01:0:0:1::4", "fd01:0:0:1::5"];
    let intent = route_server(&lab);
    assert!(intent.ipv6);
    assert_eq!(texts(intent.instance_addresses_v6), addresses);
    assert_eq!(lab.get_net(HUB)["properties"]["virtualRouterIpsV6"], json!(addresses));
}

#[test]
fn with_the_setting_a_peer_may_have_an_ipv6_address_of_the_network() {
    let mut lab = dual_lab();
    set(&mut lab, HUB, json!({ "ipv6": true }));
    for address in [
        "fd01:0:0:1::4",   // an instance's
        "fd01:0:0:1::9",   // in RouteServerSubnet
        "fd01:0:0:2::3",   // the platform's
        "fd07::4",         // in no network
        "fe80::4",         // of a link
        "::ffff:10.1.1.9", // none of IPv6
        "ff02::4",
    ] {
        assert_eq!(lab.refusal(PEERING, peer(address, 65001)), "InvalidPeerIp", "{address}");
    }
    let shown = lab.put_net(PEERING, peer("FD01:0:0:2:0::4", 65001));
    assert_eq!(shown["properties"]["peerIp"], "fd01:0:0:2::4");
    assert_eq!(route_server(&lab).peers[1].address.to_string(), "fd01:0:0:2::4");
}

#[test]
fn without_an_ipv6_prefix_of_the_subnet_there_is_nothing_to_speak_from() {
    let mut lab = Lab::with_route_server();
    set(&mut lab, HUB, json!({ "ipv6": true }));
    assert_eq!(lab.refusal(PEERING, peer("fd01:0:0:2::4", 65001)), "InvalidPeerIp");
}

#[test]
fn the_setting_and_the_prefix_stay_while_a_peer_has_an_ipv6_address() {
    let mut lab = dual_lab();
    set(&mut lab, HUB, json!({ "ipv6": true }));
    let subnet = "virtualNetworks/hub/subnets/RouteServerSubnet";
    let hub = format!("{NET}/{HUB}");
    let off = |lab: &Lab| check_settings(&lab.resources, &hub, &json!({ "asn": 65100 }));
    assert!(off(&lab).is_ok());
    lab.put_net(PEERING, peer("fd01:0:0:2::4", 65001));
    let error = off(&lab).unwrap_err();
    assert_eq!(error.details[0].target.as_deref(), Some("ipv6"));
    assert!(
        error.details[0].message.contains("'v6'"),
        "{}",
        error.details[0].message
    );
    assert_eq!(
        lab.refusal(subnet, dual("10.1.0.0/26", 9)),
        "InUsePrefixCannotBeDeleted"
    );
    lab.delete_net(PEERING).unwrap();
    lab.put_net(subnet, json!({ "properties": { "addressPrefix": "10.1.0.0/26" } }));
}

#[test]
fn a_gateway_has_ipv6_addresses_with_its_setting_and_an_ipv6_prefix_of_its_subnet() {
    let mut lab = lab_with_circuit();
    make_dual(&mut lab);
    set(&mut lab, "virtualNetworkGateways/gw", json!({ "ipv6": true }));
    assert_eq!(texts(gateway(&lab, "gw").instance_addresses_v6), ["-", "-"]);
    lab.put_net("virtualNetworks/hub/subnets/GatewaySubnet", dual("10.1.255.0/27", 255));
    let found = gateway(&lab, "gw");
    assert_eq!(
        (found.ipv6, texts(found.instance_addresses_v6)),
        (true, ["fd01:0:0:255::4", "fd01:0:0:255::5"].map(str::to_owned))
    );
    let without = gateway(&lab, "er");
    assert_eq!(
        (without.ipv6, texts(without.instance_addresses_v6)),
        (false, ["-", "-"].map(str::to_owned))
    );
}

#[test]
fn a_circuit_has_ipv6_when_its_private_peering_has() {
    let mut lab = lab_with_circuit();
    assert!(!gateway(&lab, "circuit").ipv6);
    let prefixes = |primary: &str| {
        let config = json!({ "primaryPeerAddressPrefix": primary, "secondaryPeerAddressPrefix": "fd16::4/126" });
        with(private_peering(), "ipv6PeeringConfig", config)
    };
    for wrong in ["fd16::/64", "172.16.0.0/30", "text"] {
        lab.refusal(PRIVATE_PEERING, prefixes(wrong));
    }
    lab.put_net(PRIVATE_PEERING, prefixes("fd16::/126"));
    let edge = gateway(&lab, "circuit");
    assert_eq!(
        (edge.ipv6, texts(edge.instance_addresses_v6)),
        (true, ["fd16::2", "fd16::6"].map(str::to_owned))
    );
}
