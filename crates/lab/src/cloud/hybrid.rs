//! The resources of gateways, sites, circuits and their connections.

use serde_json::{Value, json};

use super::{Resource, child, network_id, public_ip, subnet_id, tracked, with_ipv6};
use crate::topology::{Circuit, GATEWAY_SUBNET, Gateway, GatewayType, Site, Topology};

/// Where a circuit says that it is.
const PROVIDER: &str = "Routewright lab";
const VLAN: u16 = 100;
const BANDWIDTH_MBPS: u16 = 1000;

/// Gateways with their public addresses, in the order in which they get their own.
pub(super) fn gateways(topology: &Topology) -> impl Iterator<Item = Resource> {
    topology.gateways.iter().flat_map(|gateway| {
        let addresses = public_addresses(gateway);
        let mut all: Vec<Resource> = addresses.iter().map(|name| public_ip(name)).collect();
        all.push(virtual_network_gateway(gateway, &addresses));
        all.extend(with_ipv6(
            &format!("virtualNetworkGateways/{}", gateway.name),
            gateway.ipv6,
        ));
        all
    })
}

/// What is behind gateways, and the connections to it.
pub(super) fn connected(topology: &Topology) -> Vec<Resource> {
    let mut all = Vec::new();
    for site in topology.sites.iter().filter(|site| !site.gateways.is_empty()) {
        all.push(local_network_gateway(site));
        all.extend(site.gateways.iter().map(|gateway| tunnel(gateway, site)));
    }
    for circuit in &topology.circuits {
        all.extend(express_route_circuit(topology, circuit));
        all.extend(circuit.gateways.iter().map(|gateway| line(gateway, circuit)));
    }
    all
}

/// Two of an active-active VPN gateway, one of any other.
fn public_addresses(gateway: &Gateway) -> Vec<String> {
    let count = match gateway.kind {
        GatewayType::Vpn => gateway.addresses.len(),
        GatewayType::ExpressRoute => 1,
    };
    (0..count).map(|instance| gateway.node(instance)).collect()
}

fn virtual_network_gateway(gateway: &Gateway, addresses: &[String]) -> Resource {
    let configurations = addresses.iter().map(|name| {
        json!({ "name": name, "properties": {
            "subnet": { "id": subnet_id(&gateway.vnet, GATEWAY_SUBNET) },
            "publicIPAddress": { "id": network_id(&format!("publicIPAddresses/{name}-ip")) },
        } })
    });
    let mut properties = json!({ "ipConfigurations": configurations.collect::<Vec<_>>() });
    match gateway.kind {
        GatewayType::Vpn => {
            properties["gatewayType"] = json!("Vpn");
            properties["activeActive"] = json!(addresses.len() > 1);
            properties["enableBgp"] = json!(true);
            properties["bgpSettings"] = json!({ "asn": gateway.asn });
        }
        GatewayType::ExpressRoute => properties["gatewayType"] = json!("ExpressRoute"),
    }
    tracked(&format!("virtualNetworkGateways/{}", gateway.name), properties)
}

fn local_network_gateway(site: &Site) -> Resource {
    let prefixes: Vec<_> = site.router.announce.iter().map(|path| path.prefix).collect();
    // There is no internet under the tunnels of a lab, so their far ends have no addresses but the sites' own.
    let mut properties = json!({ "gatewayIpAddress": site.router.address });
    if site.speaks_bgp {
        properties["bgpSettings"] = json!({ "asn": site.router.asn, "bgpPeeringAddress": site.router.address });
    } else {
        properties["localNetworkAddressSpace"] = json!({ "addressPrefixes": prefixes });
    }
    tracked(&format!("localNetworkGateways/{}", site.name()), properties)
}

fn tunnel(gateway: &str, site: &Site) -> Resource {
    connection(
        gateway,
        site.name(),
        json!({
            "connectionType": "IPsec",
            "enableBgp": site.speaks_bgp,
            "sharedKey": "not used in a lab",
            "localNetworkGateway2": { "id": network_id(&format!("localNetworkGateways/{}", site.name())) },
        }),
    )
}

fn line(gateway: &str, circuit: &Circuit) -> Resource {
    connection(
        gateway,
        &circuit.name,
        json!({
            "connectionType": "ExpressRoute",
            "peer": { "id": network_id(&format!("expressRouteCircuits/{}", circuit.name)) },
        }),
    )
}

/// A connection is called by both of its ends.
fn connection(gateway: &str, far_end: &str, mut properties: Value) -> Resource {
    properties["virtualNetworkGateway1"] = json!({ "id": network_id(&format!("virtualNetworkGateways/{gateway}")) });
    tracked(&format!("connections/{gateway}-{far_end}"), properties)
}

fn express_route_circuit(topology: &Topology, circuit: &Circuit) -> [Resource; 2] {
    let path = format!("expressRouteCircuits/{}", circuit.name);
    let mut body = tracked(
        &path,
        json!({ "serviceProviderProperties": {
            "serviceProviderName": PROVIDER, "peeringLocation": PROVIDER, "bandwidthInMbps": BANDWIDTH_MBPS,
        } }),
    );
    body.body["sku"] = json!({ "name": "Standard_MeteredData", "tier": "Standard", "family": "MeteredData" });
    let asn = topology.site(&circuit.site).map_or(0, |site| site.router.asn);
    let [primary, secondary] = circuit.links;
    let peering = child(
        &format!("{path}/peerings/AzurePrivatePeering"),
        json!({
            "peeringType": "AzurePrivatePeering", "peerASN": asn, "vlanId": VLAN,
            "primaryPeerAddressPrefix": primary, "secondaryPeerAddressPrefix": secondary,
        }),
    );
    [body, peering]
}
