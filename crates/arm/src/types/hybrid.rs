//! What a connection joins must fit together: the gateway, the network that it is in with its spokes, and the site or circuit at the far
//! end. Looked at when all that a request writes is there, whichever of them it was that changed; a refusal names both sides.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;

use super::local_network_gateways::site_of;
use super::{connections, distinct, express_route_peerings, subnets, virtual_network_gateways};
use crate::error::ArmError;
use crate::index::Relation;
use crate::limits::spokes_of;
use crate::resource::Resource;
use crate::types;
use crate::world::World;

/// Where a connection begins.
struct NearEnd<'w> {
    gateway: &'w Resource,
    /// The prefixes of the gateway's network and of those that use it as their gateway.
    spaces: HashMap<IpNet, &'w Resource>,
}

impl<'w> NearEnd<'w> {
    fn new(world: &'w World<'_>, gateway: &'w Resource) -> NearEnd<'w> {
        let subnet = virtual_network_gateways::subnet(gateway);
        let network = subnet.as_deref().map(subnets::network_key).unwrap_or_default();
        let networks = world.get(network).into_iter().chain(spokes_of(world, network));
        let spaces = networks.flat_map(|network| {
            let space = types::address_space(network).into_iter();
            space.map(move |prefix| (prefix.trunc(), network))
        });
        NearEnd {
            gateway,
            spaces: spaces.collect(),
        }
    }

    /// The network that this prefix is inside of.
    fn around(&self, prefix: IpNet) -> Option<&'w Resource> {
        let mut wider = std::iter::successors(Some(prefix.trunc()), IpNet::supernet);
        wider.find_map(|prefix| self.spaces.get(&prefix).copied())
    }
}

/// Checks the connections that have this gateway, site or circuit (key) at one end.
pub(super) fn check_connections_of(world: &World<'_>, end: &str) -> Result<(), ArmError> {
    let holders = world.holders(Relation::ConnectionOf, end);
    let found = holders.filter_map(|holder| world.get(&holder.id.to_ascii_lowercase()));
    check_all(world, &found.collect::<Vec<_>>())
}

/// Checks the connections of all gateways in a network (key).
pub(super) fn check_network(world: &World<'_>, network: &str) -> Result<(), ArmError> {
    let mut gateways = world.holders(Relation::GatewayIn, network);
    gateways.try_for_each(|gateway| check_connections_of(world, &gateway.id.to_ascii_lowercase()))
}

/// Checks one connection.
pub(super) fn check_connection(world: &World<'_>, connection: &Resource) -> Result<(), ArmError> {
    check_all(world, &[connection])
}

fn check_all(world: &World<'_>, written: &[&Resource]) -> Result<(), ArmError> {
    let mut by_gateway: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    let mut by_circuit: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    for connection in written {
        if let Some(gateway) = connections::gateway_of(connection) {
            by_gateway.entry(gateway).or_default().push(connection);
        }
        if let Some(circuit) = connections::far_end_as(connection, connections::CIRCUIT) {
            by_circuit.entry(circuit).or_default().push(connection);
        }
    }
    for (gateway, written) in by_gateway {
        if let Some(gateway) = world.get(&gateway) {
            check_gateway(world, gateway, &written)?;
        }
    }
    for (circuit, written) in by_circuit {
        if let Some(circuit) = world.get(&circuit) {
            distinct::check_at_circuit(world, circuit, &keys(&written))?;
        }
    }
    Ok(())
}

fn keys(connections: &[&Resource]) -> BTreeSet<String> {
    connections.iter().map(|connection| connection.key()).collect()
}

fn check_gateway(world: &World<'_>, gateway: &Resource, written: &[&Resource]) -> Result<(), ArmError> {
    written
        .iter()
        .try_for_each(|connection| check_type(world, connection, gateway))?;
    distinct::check_at_gateway(world, gateway, &keys(written))?;
    let near = NearEnd::new(world, gateway);
    for connection in written {
        let Some((member, far)) = connections::far_end(connection) else {
            continue;
        };
        match (member, world.get(&far)) {
            (connections::SITE, Some(local)) => check_site(world, &near, local)?,
            (connections::CIRCUIT, Some(circuit)) => check_circuit(world, &near, circuit)?,
            _ => {}
        }
    }
    Ok(())
}

/// IPsec is a VPN gateway's, circuits are ExpressRoute gateways'.
fn check_type(world: &World<'_>, connection: &Resource, gateway: &Resource) -> Result<(), ArmError> {
    let wanted = match connection.property("connectionType").as_str() {
        Some("ExpressRoute") => "ExpressRoute",
        _ => "Vpn",
    };
    let actual = gateway.property("gatewayType").as_str().unwrap_or_default();
    match actual == wanted {
        true => Ok(()),
        false => Err(ArmError::bad(
            "ConnectionTypeDoesNotFitGateway",
            format!(
                "Connection {} of type {} needs a gateway of type {wanted}, and {} is of type {actual}. Name another gateway or another type.",
                connection.id,
                connection.property("connectionType").as_str().unwrap_or_default(),
                world.called(&gateway.id)
            ),
        )
        .at("properties.virtualNetworkGateway1")),
    }
}

fn check_site(world: &World<'_>, near: &NearEnd<'_>, local: &Resource) -> Result<(), ArmError> {
    let site = site_of(local);
    if let Some((address, asn)) = site.speaker {
        if asn == virtual_network_gateways::asn(near.gateway) {
            let error = ArmError::bad(
                "SiteAsnEqualsGatewayAsn",
                format!(
                    "Local network gateway {} and virtual network gateway {} both have ASN {}. Give the site a number of its own.",
                    world.called(&local.id),
                    world.called(&near.gateway.id),
                    asn.0
                ),
            );
            return Err(world.pointing_at(error, &local.id));
        }
        check_outside(world, near, local, IpNet::from(address))?;
    }
    site.prefixes
        .iter()
        .try_for_each(|prefix| check_outside(world, near, local, *prefix))
}

/// What is behind a tunnel is not in the network before it: packets would go round in a circle. A supernet is fine, as with routes.
fn check_outside(world: &World<'_>, near: &NearEnd<'_>, far: &Resource, prefix: IpNet) -> Result<(), ArmError> {
    let Some(network) = near.around(prefix) else {
        return Ok(());
    };
    let error = ArmError::bad(
        "FarEndInVirtualNetwork",
        format!(
            "{prefix} of {} lies in virtual network {}, which is on the near side of gateway {}. Take it out of one of them.",
            world.called(&far.id),
            world.called(&network.id),
            world.called(&near.gateway.id)
        ),
    );
    Err(world.pointing_at(error, &far.id))
}

fn check_circuit(world: &World<'_>, near: &NearEnd<'_>, circuit: &Resource) -> Result<(), ArmError> {
    let peerings = world.children(&circuit.key(), "peerings");
    let links = peerings
        .iter()
        .filter_map(|peering| express_route_peerings::links(peering));
    for link in links.flat_map(|(links, _)| links) {
        check_outside(world, near, circuit, IpNet::V4(link.prefix))?;
    }
    Ok(())
}
