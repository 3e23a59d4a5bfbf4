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
        .chain(of_kind(types::VIRTUAL_NETWORK_GATEWAY).filter_map(|gateway| of_route_table(resources, gateway)))
        .chain(of_kind(types::EXPRESS_ROUTE_PEERING).filter_map(of_shared_key))
        .chain(of_kind(types::ROUTE_MAP).filter_map(|map| of_route_map(settings, map)))
        .collect()
}

/// Propagation is never to be disabled on GatewaySubnet (az §2.7): the gateway does not send to what it has learned then.
fn of_route_table(resources: &Resources, gateway: &Resource) -> Option<String> {
    let subnet = resources.by_key(&types::gateway_subnet(gateway)?)?;
    let table = resources.by_key(&subnet.reference_key("routeTable")?)?;
    (table.property("disableBgpRoutePropagation") == true).then(|| {
        format!(
            "Route table {} of GatewaySubnet disables BGP route propagation, so gateway {} does not send to what it has learned by BGP. \
             Enable it there, as Azure requires.",
            table.id, gateway.id
        )
    })
}

fn of_shared_key(peering: &Resource) -> Option<String> {
    types::has_impossible_key(peering).then(|| {
        format!(
            "{} was given a shared key that is longer than TCP MD5 signatures take by an earlier version, so its sessions are held down. \
             Write it with another key, or with an empty one for none.",
            peering.id
        )
    })
}

fn of_route_map(settings: &Settings, map: &Resource) -> Option<String> {
    let why = types::why_not_followed(map, settings.by_key.get(&map.key()))?;
    Some(format!(
        "Route map {} was stored by an earlier version and cannot be followed: {why} Nothing passes it until it is written again.",
        map.id
    ))
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
