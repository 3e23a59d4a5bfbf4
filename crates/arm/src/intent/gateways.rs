//! Virtual network gateways as speakers, and the hidden peerings between them and the route server of their network: each instance
//! with each instance, made by both sides by themselves (az §2.6).

use std::net::{IpAddr, Ipv6Addr};

use routeserver::intent::{
    GatewayIntent, GatewayKind, PeerIntent, PeerKind, RouteServerIntent, StaticRouteIntent, StaticRouteMapIntent,
};

use super::peers::{RouteMaps, SettingsOf, With, route_map, with_maps};
use super::{bound, circuits, route_server as route_server_intent};
use crate::address::beside;
use crate::id::parent_key;
use crate::index::Relation;
use crate::resource::{Resource, Resources};
use crate::settings::Settings;
use crate::types;

/// A gateway and what its peers need to know of it.
pub(super) struct Gateway<'r> {
    resource: &'r Resource,
    pub(super) key: String,
    pub(super) kind: GatewayKind,
    asn: bgp::Asn,
    /// GatewaySubnet (key).
    subnet: String,
    addresses: [Option<IpAddr>; 2],
}

impl<'r> Gateway<'r> {
    pub(super) fn new(resource: &'r Resource) -> Option<Gateway<'r>> {
        Some(Gateway {
            resource,
            key: resource.key(),
            kind: types::gateway_kind(resource),
            asn: types::gateway_asn(resource),
            subnet: types::gateway_subnet(resource)?,
            addresses: types::gateway_addresses(resource),
        })
    }

    fn network(&self) -> &str {
        parent_key(&self.subnet).unwrap_or_default()
    }

    /// The IPv6 addresses that its instances have beside the others, if GatewaySubnet has an IPv6 prefix.
    fn addresses_v6(&self, resources: &Resources) -> [Option<Ipv6Addr>; 2] {
        let subnet = resources.by_key(&self.subnet);
        let prefixes = subnet.map(types::subnet_prefixes).unwrap_or_default();
        self.addresses.map(|address| match address? {
            IpAddr::V4(v4) => beside(&prefixes, v4),
            IpAddr::V6(_) => None,
        })
    }

    /// The peerings that a speaker has with its instances; `own` are the settings of them all, `id` makes one of the instance's
    /// number.
    pub(super) fn as_peers(&self, own: &SettingsOf<'_>, id: impl Fn(usize) -> String) -> Vec<PeerIntent> {
        let kind = match self.kind {
            GatewayKind::ExpressRoute => PeerKind::ExpressRouteGateway,
            _ => PeerKind::VpnGateway,
        };
        let instances = self.addresses.iter().enumerate();
        let with = instances.filter_map(|(instance, address)| {
            Some(With {
                id: id(instance),
                name: format!("{}-in_{instance}", self.resource.name()),
                kind,
                address: (*address)?,
                asn: self.asn,
            })
        });
        // What a gateway may say is bounded where it hears it; here nothing more is dropped.
        with.map(|with| with.peer(own, 0)).collect()
    }
}

/// The gateways of a virtual network (key), as peers of its route server (key).
pub(super) fn peers_of_route_server(
    resources: &Resources,
    settings: &Settings,
    hub: &str,
    network: &str,
) -> Vec<PeerIntent> {
    let gateways = in_network(resources, network);
    gateways
        .flat_map(|gateway| {
            let own = SettingsOf::new(settings, &gateway.key);
            gateway.as_peers(&own, |instance| peering_id(hub, &gateway, instance))
        })
        .collect()
}

/// The id of a route server's (key) hidden peering with an instance of a gateway. There is one gateway of a kind in a network, so it is
/// unique.
fn peering_id(hub: &str, gateway: &Gateway<'_>, instance: usize) -> String {
    let called = match gateway.kind {
        GatewayKind::ExpressRoute => "expressroute",
        _ => "vpn",
    };
    format!("{hub}/gateways/{called}-{}-in_{instance}", gateway.resource.name()).to_lowercase()
}

/// The gateway that a hidden peering (id) of a route server (key) is with.
pub(crate) fn behind<'r>(resources: &'r Resources, hub: &str, peering: &str) -> Option<&'r Resource> {
    let configuration = resources.children(hub, "ipConfigurations").next()?;
    let subnet = types::hub_subnet_of(configuration)?;
    let mut gateways = in_network(resources, parent_key(&subnet)?);
    let found = gateways.find(|gateway| {
        [0, 1]
            .iter()
            .any(|instance| peering_id(hub, gateway, *instance) == peering)
    });
    found.map(|gateway| gateway.resource)
}

/// The gateways with an address in this network.
fn in_network<'r>(resources: &'r Resources, network: &str) -> impl Iterator<Item = Gateway<'r>> {
    let holders = resources.index().holders(Relation::GatewayIn, network);
    let keys: Vec<&str> = holders.map(|(owner, _)| owner).collect();
    let found = keys.into_iter().filter_map(|key| resources.by_key(key));
    found.filter_map(Gateway::new)
}

/// All virtual network gateways; `route_servers` are those of the intent.
pub(super) fn all(
    resources: &Resources,
    settings: &Settings,
    route_servers: &[RouteServerIntent],
) -> Vec<GatewayIntent> {
    let kinds = resources.iter().filter(|it| it.kind == types::VIRTUAL_NETWORK_GATEWAY);
    let gateways = kinds.filter_map(Gateway::new);
    gateways
        .map(|gateway| intent(resources, settings, route_servers, &gateway))
        .collect()
}

/// One virtual network gateway; of all route servers that of its network alone is looked at.
pub(super) fn one(resources: &Resources, settings: &Settings, gateway: &Resource) -> Option<GatewayIntent> {
    let gateway = Gateway::new(gateway)?;
    let holders = resources.index().holders(Relation::RouteServerIn, gateway.network());
    let hubs = holders.filter_map(|(configuration, _)| resources.by_key(parent_key(configuration)?));
    let hubs: Vec<RouteServerIntent> = hubs
        .filter_map(|hub| route_server_intent(resources, settings, hub))
        .collect();
    Some(intent(resources, settings, &hubs, &gateway))
}

fn intent(
    resources: &Resources,
    settings: &Settings,
    route_servers: &[RouteServerIntent],
    gateway: &Gateway<'_>,
) -> GatewayIntent {
    let own = SettingsOf::new(settings, &gateway.key);
    let ipv6 = settings.ipv6_of(&gateway.key);
    let mut peers = Vec::new();
    let mut static_routes = Vec::new();
    let mut static_route_maps = Vec::new();
    let mut maps = RouteMaps::new();
    if let Some(hub) = route_servers
        .iter()
        .find(|hub| hub.virtual_network == gateway.network())
    {
        peers.extend(route_server(settings, gateway, hub));
    }
    for connection in connections(resources, &gateway.key) {
        if types::gateway_of(connection).as_ref() != Some(&gateway.key) {
            continue;
        }
        if gateway.kind == GatewayKind::ExpressRoute {
            let edges = circuits::provider_edges(resources, settings, &gateway.key, connection);
            let edges = edges.into_iter();
            peers.extend(edges.map(|edge| with_maps(resources, settings, &mut maps, connection, edge)));
            continue;
        }
        let (peer, routes) = site(resources, settings, gateway, connection);
        peers.extend(peer.map(|peer| with_maps(resources, settings, &mut maps, connection, peer)));
        let inbound = route_map(resources, settings, &mut maps, connection, types::INBOUND);
        static_route_maps.extend(inbound.zip(routes.first()).map(|(map, route)| StaticRouteMapIntent {
            next_hop: route.next_hop,
            peering: route.peering.clone(),
            inbound_route_map: map,
        }));
        static_routes.extend(routes);
    }
    let addresses_v6 = match ipv6 {
        true => gateway.addresses_v6(resources),
        false => [None; 2],
    };
    // Without addresses to speak from there is nobody to speak.
    peers.retain(|peer| peer.address.is_ipv4() || addresses_v6.iter().any(Option::is_some));
    GatewayIntent {
        name: gateway.resource.name().to_owned(),
        kind: gateway.kind,
        asn: gateway.asn,
        virtual_network: Some(gateway.network().to_owned()),
        subnet: Some(gateway.subnet.clone()),
        instance_addresses: gateway.addresses,
        instance_addresses_v6: addresses_v6,
        namespaces: namespaces(resources, settings, gateway),
        is_external: own.flag("external").unwrap_or(false),
        peers,
        static_routes,
        static_route_maps,
        routes_to_circuit: match gateway.kind {
            GatewayKind::ExpressRoute => settings.limits.routes_to_expressroute,
            _ => 0,
        },
        ipv6,
        id: gateway.key.clone(),
    }
}

fn namespaces(resources: &Resources, settings: &Settings, gateway: &Gateway<'_>) -> [Option<String>; 2] {
    let subnet = resources.by_key(&gateway.subnet);
    let prefixes = subnet.map(types::subnet_prefixes).unwrap_or_default();
    gateway.addresses.map(|address| {
        let address = address?;
        let prefix = prefixes.iter().find(|prefix| prefix.contains(&address));
        bound(settings, Some(address), Some(&gateway.subnet), prefix)
    })
}

/// Both instances of the route server in the same network.
fn route_server<'a>(
    settings: &'a Settings,
    gateway: &'a Gateway<'_>,
    hub: &'a RouteServerIntent,
) -> impl Iterator<Item = PeerIntent> {
    let own = SettingsOf::new(settings, &gateway.key);
    let instances = hub.instance_addresses.iter().enumerate();
    instances.map(move |(instance, address)| {
        let with = With {
            id: format!("{}/routeservers/{}-in_{instance}", gateway.key, hub.name).to_lowercase(),
            name: format!("{}-in_{instance}", hub.name),
            kind: PeerKind::RouteServer,
            address: *address,
            asn: hub.asn,
        };
        with.peer(&own, 0)
    })
}

/// The connections that name what has this key.
pub(super) fn connections<'r>(resources: &'r Resources, end: &str) -> Vec<&'r Resource> {
    let holders = resources.index().holders(Relation::ConnectionOf, end);
    holders.filter_map(|(owner, _)| resources.by_key(owner)).collect()
}

/// A site behind a VPN gateway: the session with its router, if both ends speak BGP, and the prefixes that are said to be there.
fn site(
    resources: &Resources,
    settings: &Settings,
    gateway: &Gateway<'_>,
    connection: &Resource,
) -> (Option<PeerIntent>, Vec<StaticRouteIntent>) {
    let far = types::far_end_as(connection, types::SITE);
    let Some(local) = far.and_then(|key| resources.by_key(&key)) else {
        return (None, Vec::new());
    };
    let far_end = types::site_of(local);
    let speaker = far_end.speaker_over(gateway.resource, connection);
    let peer = speaker.map(|(address, asn)| {
        let own = SettingsOf::new(settings, &connection.key()).or(settings, &local.key());
        let with = With {
            id: connection.key(),
            name: connection.name().to_owned(),
            kind: PeerKind::Site,
            address,
            asn,
        };
        with.peer(&own, settings.limits.routes_per_peer)
    });
    let routes = far_end.address.map(|next_hop| {
        // No kernel sends one family through an address of the other, and such a route would win against the site's own word.
        let prefixes = far_end.prefixes.into_iter();
        let prefixes = prefixes.filter(|prefix| prefix.addr().is_ipv4() == next_hop.is_ipv4());
        let route = |prefix| StaticRouteIntent {
            prefix,
            next_hop,
            peering: peer.as_ref().map(|peer| peer.id.clone()),
        };
        prefixes.map(route).collect()
    });
    (peer, routes.unwrap_or_default())
}
