//! A hub with a route server, gateways and what they are joined with.

use serde_json::{Value, json};

use super::*;

/// The reference scenario's network with GatewaySubnet 10.1.255.0/27 and public addresses `gw-pip0`, `gw-pip1` and `er-pip`.
pub fn lab() -> Lab {
    let mut lab = Lab::with_route_server();
    lab.put_net(
        "virtualNetworks/hub/subnets/GatewaySubnet",
        json!({ "properties": { "addressPrefix": "10.1.255.0/27" } }),
    );
    for name in ["gw-pip0", "gw-pip1", "er-pip"] {
        lab.put_net(&format!("publicIPAddresses/{name}"), public_ip());
    }
    lab
}

/// [`lab`] with the VPN gateway `gw` of two instances (.4 and .5) and the ExpressRoute gateway `er` (.6 and .7).
pub fn lab_with_gateways() -> Lab {
    let mut lab = lab();
    lab.put_net("virtualNetworkGateways/gw", gateway(&["gw-pip0", "gw-pip1"]));
    lab.put_net("virtualNetworkGateways/er", express_route_gateway());
    lab
}

/// A VPN gateway; with two addresses it is active-active.
pub fn gateway(pips: &[&str]) -> Value {
    let configurations: Vec<Value> = pips
        .iter()
        .map(|pip| {
            json!({ "name": format!("cfg-{pip}"), "properties": {
                "subnet": { "id": subnet_id("hub", "GatewaySubnet") },
                "publicIPAddress": { "id": format!("{NET}/publicIPAddresses/{pip}") },
            } })
        })
        .collect();
    json!({ "location": "westeurope", "properties": {
        "gatewayType": "Vpn", "activeActive": pips.len() > 1, "enableBgp": true, "ipConfigurations": configurations,
    } })
}

pub fn express_route_gateway() -> Value {
    let mut body = gateway(&["er-pip"]);
    body["properties"]["gatewayType"] = json!("ExpressRoute");
    body["properties"]["enableBgp"] = json!(false);
    body
}

pub fn site() -> Value {
    json!({ "location": "westeurope", "properties": {
        "gatewayIpAddress": "198.51.100.7",
        "localNetworkAddressSpace": { "addressPrefixes": ["192.168.0.0/16"] },
        "bgpSettings": { "asn": 65010, "bgpPeeringAddress": "192.168.255.1" },
    } })
}

/// Of `gw` to `site`.
pub fn connection() -> Value {
    json!({ "location": "westeurope", "properties": {
        "connectionType": "IPsec", "sharedKey": "s3cret",
        "virtualNetworkGateway1": { "id": format!("{NET}/virtualNetworkGateways/gw") },
        "localNetworkGateway2": { "id": format!("{NET}/localNetworkGateways/site") },
    } })
}

/// The body with a member of its properties changed.
pub fn with(mut body: Value, member: &str, value: Value) -> Value {
    body["properties"][member] = value;
    body
}

/// A circuit without peerings.
pub fn circuit() -> Value {
    json!({ "location": "westeurope", "sku": { "name": "Standard_MeteredData", "tier": "Standard", "family": "MeteredData" },
        "properties": { "serviceProviderProperties": {
            "serviceProviderName": "Contoso", "peeringLocation": "Amsterdam", "bandwidthInMbps": 50,
        } } })
}

/// Where the private peering of `circuit` is.
pub const PRIVATE_PEERING: &str = "expressRouteCircuits/circuit/peerings/AzurePrivatePeering";

pub fn private_peering() -> Value {
    json!({ "properties": {
        "peeringType": "AzurePrivatePeering", "peerASN": 65020, "vlanId": 100,
        "primaryPeerAddressPrefix": "172.16.0.0/30", "secondaryPeerAddressPrefix": "172.16.0.4/30",
    } })
}

/// Of `er` to `circuit`.
pub fn circuit_connection() -> Value {
    json!({ "location": "westeurope", "properties": {
        "connectionType": "ExpressRoute",
        "virtualNetworkGateway1": { "id": format!("{NET}/virtualNetworkGateways/er") },
        "peer": { "id": format!("{NET}/expressRouteCircuits/circuit") },
    } })
}

/// [`lab_with_gateways`] with the circuit `circuit`, its private peering and its connection `erc` to the gateway `er`.
pub fn lab_with_circuit() -> Lab {
    let mut lab = lab_with_gateways();
    lab.put_net("expressRouteCircuits/circuit", circuit());
    lab.put_net(PRIVATE_PEERING, private_peering());
    lab.put_net("connections/erc", circuit_connection());
    lab
}
