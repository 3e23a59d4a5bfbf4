//! What is taken and will not do what Azure's documents promise of it: told beside the health, and refused nowhere.

use routeserver::intent::GatewayKind;

use crate::index::Relation;
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;

/// One sentence for each such thing.
pub fn advice(resources: &Resources, settings: &Settings) -> Vec<String> {
    let of_kind = |kind: &'static str| resources.iter().filter(move |it| it.kind == kind);
    let of_hubs = of_kind(types::VIRTUAL_HUB).flat_map(|hub| of_route_server(resources, settings, hub));
    of_hubs
        .chain(of_kind(types::VIRTUAL_NETWORK_GATEWAY).filter_map(of_single_instance))
        .collect()
}

/// Branch-to-branch wants VPN gateways that are active-active, and all gateways in Azure's own AS, as the route server is (az §2.6).
fn of_route_server(resources: &Resources, settings: &Settings, hub: &Resource) -> Vec<String> {
    let is_on = hub.property("allowBranchToBranchTraffic") == true;
    let configuration = resources.children(&hub.key(), "ipConfigurations").next();
    let subnet = configuration.and_then(types::hub_subnet_of).filter(|_| is_on);
    let Some(network) = subnet.as_deref().and_then(crate::id::parent_key) else {
        return Vec::new();
    };
    let asn = settings.asn_of(&hub.key());
    let gateways = resources.index().holders(Relation::GatewayIn, network);
    let gateways = gateways.filter_map(|(key, _)| resources.by_key(key));
    gateways
        .flat_map(|gateway| {
            let standby = of_standby(hub, gateway).into_iter();
            standby.chain(of_numbers(hub, asn, gateway))
        })
        .collect()
}

fn of_standby(hub: &Resource, gateway: &Resource) -> Option<String> {
    let alone = types::gateway_addresses(gateway)[1].is_none();
    (alone && types::gateway_kind(gateway) == GatewayKind::Vpn).then(|| {
        format!(
            "VPN gateway {} is not active-active, and route server {} has branch-to-branch on: Azure requires active-active for that. \
             Here its one instance does all of it.",
            gateway.id, hub.id
        )
    })
}

/// A route server may have a number of its own here; it is with that that a gateway's is compared.
fn of_numbers(hub: &Resource, ours: bgp::Asn, gateway: &Resource) -> Option<String> {
    let theirs = types::gateway_asn(gateway);
    (theirs != ours).then(|| {
        format!(
            "{} gateway {} has ASN {}, and route server {} has ASN {} and branch-to-branch on: Azure requires ASN 65515 of both for \
             that. Here they speak eBGP, with the route server as next hop.",
            called(types::gateway_kind(gateway)),
            gateway.id,
            theirs.0,
            hub.id,
            ours.0
        )
    })
}

/// ExpressRoute gateways have two instances. One that was stored before they had gets its second address when it is written again.
fn of_single_instance(gateway: &Resource) -> Option<String> {
    let alone = types::gateway_addresses(gateway)[1].is_none();
    (alone && types::gateway_kind(gateway) == GatewayKind::ExpressRoute).then(|| {
        format!(
            "ExpressRoute gateway {} was made by an earlier version and has one instance. Write it once more as it is (GET, then PUT), \
             and it has two.",
            gateway.id
        )
    })
}

fn called(kind: GatewayKind) -> &'static str {
    match kind {
        GatewayKind::ExpressRoute => "ExpressRoute",
        _ => "VPN",
    }
}
