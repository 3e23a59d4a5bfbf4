//! Circuits of ExpressRoute: the provider's edge as a speaker with two instances, one for each link; what it peers with, and what
//! ExpressRoute gateways see of it (az §2.6).

use std::net::IpAddr;

use bgp::{IpNet, Password};
use routeserver::intent::{GatewayIntent, GatewayKind, PeerIntent, PeerKind};

use super::bound;
use super::gateways::{Gateway, connections};
use super::peers::{SettingsOf, With};
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;

/// How the two links of a circuit are called, by instance.
const LINKS: [&str; 2] = ["primary", "secondary"];

/// All circuits with a private peering.
pub(super) fn all(resources: &Resources, settings: &Settings) -> Vec<GatewayIntent> {
    let circuits = resources.iter().filter(|it| it.kind == types::EXPRESS_ROUTE_CIRCUIT);
    circuits
        .filter_map(|circuit| intent(resources, settings, circuit))
        .collect()
}

fn intent(resources: &Resources, settings: &Settings, circuit: &Resource) -> Option<GatewayIntent> {
    let id = circuit.key();
    let peering = private_peering(resources, &id)?;
    let (links, _) = types::links_of(peering)?;
    let links_v6 = types::links_v6_of(peering);
    let mut peers = customers(settings, peering);
    for connection in connections(resources, &id) {
        let gateway = types::gateway_of(connection).filter(|_| is_circuits(connection, &id));
        let gateway = gateway.and_then(|key| Gateway::new(resources.by_key(&key)?));
        if let Some(gateway) = gateway.filter(|gateway| gateway.kind == GatewayKind::ExpressRoute) {
            let own = of_connection(settings, connection, &gateway.key);
            peers.extend(gateway.as_peers(&own, |instance| format!("{}/in_{instance}", connection.key())));
        }
    }
    let addresses = links.map(|link| IpAddr::V4(link.provider()));
    Some(GatewayIntent {
        name: circuit.name().to_owned(),
        kind: GatewayKind::ProviderEdge,
        asn: types::PROVIDER_ASN,
        virtual_network: None,
        subnet: None,
        instance_addresses: addresses.map(Some),
        instance_addresses_v6: links_v6.map_or([None; 2], |links| links.map(|link| Some(link.provider()))),
        namespaces: [0, 1].map(|instance| {
            let prefix = IpNet::V4(links[instance].prefix);
            bound(settings, Some(addresses[instance]), None, Some(&prefix))
        }),
        is_external: SettingsOf::new(settings, &id).flag("external").unwrap_or(false),
        peers,
        static_routes: Vec::new(),
        static_route_maps: Vec::new(),
        routes_to_circuit: 0,
        ipv6: links_v6.is_some(),
        id,
    })
}

/// Whether it joins a gateway with this circuit (key).
fn is_circuits(connection: &Resource, circuit: &str) -> bool {
    types::far_end_as(connection, types::CIRCUIT).as_deref() == Some(circuit)
}

/// What both ends of the sessions over a connection go by, so that they agree: its settings, and where they say nothing those of its
/// gateway (key).
fn of_connection<'s>(settings: &'s Settings, connection: &Resource, gateway: &str) -> SettingsOf<'s> {
    SettingsOf::new(settings, &connection.key()).or(settings, gateway)
}

fn private_peering<'r>(resources: &'r Resources, circuit: &str) -> Option<&'r Resource> {
    resources.children(circuit, "peerings").next()
}

/// The customer's edge, on each link.
fn customers(settings: &Settings, peering: &Resource) -> Vec<PeerIntent> {
    let Some((links, asn)) = types::links_of(peering) else {
        return Vec::new();
    };
    let own = SettingsOf::new(settings, &peering.key());
    let links = links.into_iter().zip(LINKS).enumerate();
    let peers = links.map(|(instance, (link, called))| {
        let with = With {
            id: format!("{}/{called}", peering.key()),
            name: called.to_owned(),
            kind: PeerKind::Site,
            address: IpAddr::V4(link.customer()),
            asn,
        };
        let peer = with.peer(&own, settings.limits.routes_per_peer);
        PeerIntent {
            instance: Some(instance),
            admin_down: peer.admin_down || peer.md5_password.is_none() && types::has_impossible_key(peering),
            // Azure calls it a shared key; a setting of ours says more of the same.
            md5_password: peer
                .md5_password
                .or_else(|| types::shared_key(peering).map(Password::from)),
            ..peer
        }
    });
    peers.collect()
}

/// The provider's edges that an ExpressRoute gateway reaches over a connection.
pub(super) fn provider_edges(
    resources: &Resources,
    settings: &Settings,
    gateway: &str,
    connection: &Resource,
) -> Vec<PeerIntent> {
    let circuit = types::far_end_as(connection, types::CIRCUIT);
    let peering = circuit.and_then(|circuit| private_peering(resources, &circuit));
    let Some((links, _)) = peering.and_then(types::links_of) else {
        return Vec::new();
    };
    let own = of_connection(settings, connection, gateway);
    let links = links.into_iter().zip(LINKS);
    let peers = links.map(|(link, called)| {
        let with = With {
            id: format!("{}/{called}", connection.key()),
            name: format!("{}-{called}", connection.name()),
            kind: PeerKind::ProviderEdge,
            address: IpAddr::V4(link.provider()),
            asn: types::PROVIDER_ASN,
        };
        with.peer(&own, 0)
    });
    peers.collect()
}
