//! Where route servers, gateways and what is beside them may be (az §4.8), with the code of each refusal.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{Method, check_settings};
use common::*;
use serde_json::{Value, json};

fn reference(path: &str) -> Value {
    json!({ "id": format!("{NET}/{path}") })
}

#[test]
fn subnets_of_a_service_take_nothing_else() {
    check(
        || {
            let mut lab = Lab::with_route_server();
            lab.put_net("routeTables/rt", json!({ "location": "westeurope" }));
            lab.put_net("networkSecurityGroups/nsg", json!({ "location": "westeurope" }));
            lab.put_net("routeTables/far", json!({ "location": "eastus" }));
            lab.put_net(
                "virtualNetworks/hub/subnets/GatewaySubnet",
                json!({ "properties": { "addressPrefix": "10.1.255.0/27" } }),
            );
            lab
        },
        vec![
            (
                "virtualNetworks/hub/subnets/RouteServerSubnet",
                json!({ "properties": { "addressPrefix": "10.1.0.0/26", "routeTable": reference("routeTables/rt") } }),
                "RouteServerSubnetCannotHaveRouteTable",
            ),
            (
                "virtualNetworks/hub/subnets/RouteServerSubnet",
                json!({ "properties": { "addressPrefix": "10.1.0.0/26", "networkSecurityGroup": reference("networkSecurityGroups/nsg") } }),
                "RouteServerSubnetCannotHaveNetworkSecurityGroup",
            ),
            (
                "networkInterfaces/n",
                nic("hub", "RouteServerSubnet", None),
                "RouteServerSubnetMustBeDedicated",
            ),
            // The code is the subnet's own name.
            (
                "networkInterfaces/n",
                nic("hub", "GatewaySubnet", None),
                "GatewaySubnet",
            ),
            (
                "virtualNetworks/hub/subnets/nva",
                json!({ "properties": { "addressPrefix": "10.1.1.0/24", "routeTable": reference("routeTables/far") } }),
                "InvalidResourceReference",
            ),
            (
                "virtualNetworks/hub/subnets/nva",
                json!({ "properties": { "addressPrefix": "10.1.1.0/24", "routeTable": reference("routeTables/none") } }),
                "InvalidResourceReference",
            ),
            (
                "virtualNetworks/hub/subnets/nva",
                json!({ "properties": { "addressPrefix": "10.1.1.0/24", "routeTable": reference("virtualHubs/rs") } }),
                "LinkedInvalidPropertyId",
            ),
        ],
    );
}

#[test]
fn ip_configurations_are_refused_for() {
    let setup = || {
        let mut lab = Lab::with_route_server();
        lab.put_net(
            "virtualNetworks/small",
            vnet(
                &["10.3.0.0/16"],
                &[("RouteServerSubnet", "10.3.0.0/28"), ("other", "10.3.1.0/24")],
            ),
        );
        lab.put_net(
            "virtualNetworks/v",
            vnet(&["10.4.0.0/16"], &[("RouteServerSubnet", "10.4.0.0/27")]),
        );
        lab.put_net(
            "virtualNetworks/far",
            json!({ "location": "eastus", "properties": { "addressSpace": { "addressPrefixes": ["10.5.0.0/16"] },
            "subnets": [{ "name": "RouteServerSubnet", "properties": { "addressPrefix": "10.5.0.0/27" } }] } }),
        );
        lab.put_net("virtualHubs/rs2", json!({ "location": "westeurope" }));
        lab.put_net("publicIPAddresses/free", public_ip());
        lab.put_net(
            "publicIPAddresses/basic",
            json!({ "location": "westeurope", "sku": { "name": "Basic" } }),
        );
        lab
    };
    let path = "virtualHubs/rs2/ipConfigurations/Default";
    let mut wrong_name = ip_configuration("small", "free");
    wrong_name["properties"]["subnet"]["id"] = json!(subnet_id("small", "other"));
    let mut no_public = ip_configuration("v", "free");
    no_public["properties"]["publicIPAddress"] = Value::Null;
    check(
        setup,
        vec![
            (path, json!({}), "MissingRequiredProperty"),
            (path, ip_configuration("none", "free"), "InvalidResourceReference"),
            (path, wrong_name, "InvalidRouteServerSubnetName"),
            (path, ip_configuration("small", "free"), "NetcfgInvalidSubnet"),
            (
                path,
                ip_configuration("hub", "free"),
                "VirtualNetworkCanHaveOnlyOneRouteServer",
            ),
            (path, no_public, "InvalidOperation"),
            (path, ip_configuration("v", "basic"), "InvalidOperation"),
            (path, ip_configuration("v", "none"), "InvalidResourceReference"),
            (path, ip_configuration("v", "rs-pip"), "PublicIPAddressInUse"),
            (path, ip_configuration("far", "free"), "InvalidResourceReference"),
            (
                "virtualHubs/rs/ipConfigurations/second",
                ip_configuration("v", "free"),
                "RouteServerCanHaveOnlyOneIpConfiguration",
            ),
            (
                "virtualHubs/rs/ipConfigurations/Default",
                ip_configuration("v", "rs-pip"),
                "RouteServerCannotBeMoved",
            ),
            (
                "virtualHubs/none/ipConfigurations/Default",
                ip_configuration("v", "free"),
                "ParentResourceNotFound",
            ),
        ],
    );
    let mut lab = setup();
    lab.put_net(path, ip_configuration("v", "free"));
}

fn gateway(network: &str, public: &str) -> Value {
    json!({ "location": "westeurope", "properties": { "gatewayType": "Vpn", "ipConfigurations": [{
        "name": "default",
        "properties": { "subnet": { "id": subnet_id(network, "GatewaySubnet") }, "publicIPAddress": reference(&format!("publicIPAddresses/{public}")) },
    }] } })
}

/// A hub with a route server, and a spoke that uses it.
fn with_spoke() -> Lab {
    let mut lab = Lab::with_route_server();
    lab.put_net(
        "virtualNetworks/spoke",
        vnet(
            &["10.2.0.0/16"],
            &[("RouteServerSubnet", "10.2.0.0/26"), ("GatewaySubnet", "10.2.255.0/27")],
        ),
    );
    lab.put_net(
        "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
        peering("spoke", &["allowGatewayTransit"]),
    );
    lab.put_net(
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
        peering("hub", &["useRemoteGateways"]),
    );
    lab.put_net("publicIPAddresses/free", public_ip());
    lab
}

#[test]
fn a_network_that_uses_anothers_gateways_has_none_of_its_own() {
    check(
        || {
            let mut lab = with_spoke();
            lab.put_net("virtualHubs/rs2", json!({ "location": "westeurope" }));
            lab
        },
        vec![
            (
                "virtualHubs/rs2/ipConfigurations/Default",
                ip_configuration("spoke", "free"),
                "VnetHasRemoteGateways",
            ),
            (
                "virtualNetworkGateways/gw",
                gateway("spoke", "free"),
                "VnetHasRemoteGateways",
            ),
        ],
    );
}

#[test]
fn only_one_peering_uses_remote_gateways() {
    let mut lab = with_spoke();
    lab.put_net(
        "virtualNetworks/hub2",
        vnet(&["10.3.0.0/16"], &[("RouteServerSubnet", "10.3.0.0/26")]),
    );
    lab.put_net("virtualHubs/rs2", json!({ "location": "westeurope" }));
    lab.put_net(
        "virtualHubs/rs2/ipConfigurations/Default",
        ip_configuration("hub2", "free"),
    );
    lab.put_net(
        "virtualNetworks/hub2/virtualNetworkPeerings/to-spoke",
        peering("spoke", &["allowGatewayTransit"]),
    );
    assert_eq!(
        lab.refusal(
            "virtualNetworks/spoke/virtualNetworkPeerings/to-hub2",
            peering("hub2", &["useRemoteGateways"])
        ),
        "AnotherPeeringAlreadyUsesRemoteGateways"
    );
}

#[test]
fn gateways_that_the_other_side_uses_stay_offered() {
    let mut lab = with_spoke();
    let (ours, theirs) = (
        "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
    );
    assert_eq!(
        lab.refusal(ours, peering("spoke", &[])),
        "RemotePeeringUsesRemoteGateways"
    );
    lab.put_net(theirs, peering("hub", &[]));
    lab.put_net(ours, peering("spoke", &[]));
}

#[test]
fn a_network_does_not_grow_into_one_that_is_peered_with_the_same() {
    let mut lab = with_spoke();
    lab.put_net("virtualNetworks/sister", vnet(&["10.40.0.0/16"], &[]));
    lab.put_net(
        "virtualNetworks/hub/virtualNetworkPeerings/to-sister",
        peering("sister", &[]),
    );
    let spoke = lab.get_net("virtualNetworks/spoke")["properties"]["addressSpace"]["addressPrefixes"].clone();
    let grown = vnet(&[spoke[0].as_str().unwrap(), "10.40.7.0/24"], &[]);
    assert_eq!(
        lab.refusal("virtualNetworks/spoke", grown.clone()),
        "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet"
    );
    lab.delete_net("virtualNetworks/hub/virtualNetworkPeerings/to-sister")
        .unwrap();
    lab.put_net("virtualNetworks/spoke", grown);
}

#[test]
fn a_gateway_stays_in_its_network() {
    let mut lab = Lab::with_route_server();
    for (network, space) in [("a", "10.6"), ("b", "10.7")] {
        let (space, subnet) = (format!("{space}.0.0/16"), format!("{space}.255.0/27"));
        lab.put_net(
            &format!("virtualNetworks/{network}"),
            vnet(&[&space], &[("GatewaySubnet", &subnet)]),
        );
    }
    lab.put_net("publicIPAddresses/free", public_ip());
    lab.put_net("virtualNetworkGateways/gw", gateway("a", "free"));
    assert_eq!(
        lab.refusal("virtualNetworkGateways/gw", gateway("b", "free")),
        "VirtualNetworkGatewayCannotBeMoved"
    );
}

#[test]
fn a_group_stays_where_it_is_and_its_name_is_one() {
    let mut lab = Lab::new();
    for (name, location, code) in [
        ("rg-net", "eastus", "InvalidResourceGroupLocation"),
        ("bad.", "westeurope", "InvalidResourceGroup"),
    ] {
        let path = format!("{S}/resourceGroups/{name}");
        let error = lab.send(Method::Put, &path, Some(json!({ "location": location })));
        assert_eq!(error.unwrap_err().code, code, "{name}");
    }
}

#[test]
fn only_some_resources_have_settings() {
    let mut lab = Lab::with_route_server();
    lab.put_net("networkSecurityGroups/nsg", json!({ "location": "westeurope" }));
    let refused = |id: &str, settings: Value| check_settings(&lab.resources, &format!("{NET}/{id}"), &settings);
    assert_eq!(
        refused("networkSecurityGroups/nsg", json!({})).unwrap_err().code,
        "NoSettings"
    );
    let error = refused("virtualHubs/rs", json!({ "asn": "many" })).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.details[0].code.as_str()),
        ("InvalidSettings", "InvalidSetting")
    );
}
