//! What is taken and will not do what Azure's documents promise of it: told beside the health, and refused nowhere.

use routeserver::intent::GatewayKind;

use crate::index::Relation;
use crate::resource::{Resource, Resources};
use crate::types;

/// One sentence for each such thing.
pub fn advice(resources: &Resources) -> Vec<String> {
    let hubs = resources.iter().filter(|it| it.kind == types::VIRTUAL_HUB);
    hubs.flat_map(|hub| of_route_server(resources, hub)).collect()
}

/// Branch-to-branch wants VPN gateways that are active-active and in Azure's own AS (az §2.6).
fn of_route_server(resources: &Resources, hub: &Resource) -> Vec<String> {
    let is_on = hub.property("allowBranchToBranchTraffic") == true;
    let configuration = resources.children(&hub.key(), "ipConfigurations").next();
    let subnet = configuration.and_then(types::hub_subnet_of).filter(|_| is_on);
    let Some(network) = subnet.as_deref().and_then(crate::id::parent_key) else {
        return Vec::new();
    };
    let gateways = resources.index().holders(Relation::GatewayIn, network);
    let gateways = gateways.filter_map(|(key, _)| resources.by_key(key));
    gateways.flat_map(|gateway| of_gateway(hub, gateway)).collect()
}

fn of_gateway(hub: &Resource, gateway: &Resource) -> Vec<String> {
    if types::gateway_kind(gateway) != GatewayKind::Vpn {
        return Vec::new();
    }
    let mut told = Vec::new();
    if types::gateway_addresses(gateway)[1].is_none() {
        told.push(format!(
            "VPN gateway {} is not active-active, and route server {} has branch-to-branch on: Azure requires active-active for that. \
             Here its one instance does all of it.",
            gateway.id, hub.id
        ));
    }
    let asn = types::gateway_asn(gateway);
    if asn != bgp::Asn::AZURE_ROUTE_SERVER {
        told.push(format!(
            "VPN gateway {} has ASN {}, and route server {} has branch-to-branch on: Azure requires ASN 65515 for that. Here they speak \
             eBGP, with the route server as next hop.",
            gateway.id, asn.0, hub.id
        ));
    }
    told
}
