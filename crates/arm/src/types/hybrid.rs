//! What a connection joins must fit together: the gateway, the network that it is in with its spokes, and the site or circuit at the far
//! end. Looked at when all that a request writes is there, whichever of them it was that changed; a refusal names both sides.

use ipnet::IpNet;

use super::local_network_gateways::{Site, site_of};
use super::{connections, express_route_peerings, subnets, virtual_network_gateways};
use crate::error::ArmError;
use crate::index::Relation;
use crate::limits::spokes_of;
use crate::resource::Resource;
use crate::types;
use crate::world::World;

/// Where a connection begins.
struct NearEnd<'w> {
    gateway: &'w Resource,
    /// The gateway's network and those that use it as their gateway.
    networks: Vec<&'w Resource>,
}

/// Checks the connections that have this gateway, site or circuit (key) at one end.
pub(super) fn check_connections_of(world: &World<'_>, end: &str) -> Result<(), ArmError> {
    let holders = world.holders(Relation::ConnectionOf, end);
    let mut found = holders.filter_map(|holder| world.get(&holder.id.to_ascii_lowercase()));
    found.try_for_each(|connection| check_connection(world, connection))
}

/// Checks the connections of all gateways in a network (key).
pub(super) fn check_network(world: &World<'_>, network: &str) -> Result<(), ArmError> {
    let mut gateways = world.holders(Relation::GatewayIn, network);
    gateways.try_for_each(|gateway| check_connections_of(world, &gateway.id.to_ascii_lowercase()))
}

/// Checks one connection.
pub(super) fn check_connection(world: &World<'_>, connection: &Resource) -> Result<(), ArmError> {
    let Some(gateway) = end(world, connection, "virtualNetworkGateway1") else {
        return Ok(());
    };
    check_type(world, connection, gateway)?;
    check_once(world, connection, gateway)?;
    let near = near_end(world, gateway);
    if let Some(local) = end(world, connection, "localNetworkGateway2") {
        check_site(world, &near, local, connection)?;
    }
    if let Some(circuit) = end(world, connection, "peer") {
        check_circuit(world, &near, circuit)?;
    }
    Ok(())
}

fn end<'w>(world: &'w World<'_>, connection: &Resource, member: &str) -> Option<&'w Resource> {
    world.get(&connection.reference_key(member)?)
}

fn near_end<'w>(world: &'w World<'_>, gateway: &'w Resource) -> NearEnd<'w> {
    let subnet = virtual_network_gateways::subnet(gateway);
    let network = subnet.as_deref().map(subnets::network_key).unwrap_or_default();
    let own = world.get(network).into_iter();
    NearEnd {
        gateway,
        networks: own.chain(spokes_of(world, network)).collect(),
    }
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

/// A gateway is connected once with each far end.
fn check_once(world: &World<'_>, connection: &Resource, gateway: &Resource) -> Result<(), ArmError> {
    let far = |connection: &Resource| connections::far_end(connection);
    let Some(wanted) = far(connection) else {
        return Ok(());
    };
    match others(world, connection, gateway).find(|other| far(other).as_ref() == Some(&wanted)) {
        Some(other) => Err(ArmError::bad(
            "AlreadyConnected",
            format!(
                "Connection {} can't join {} with {} because connection {} does. Change that one, or delete it first.",
                connection.id,
                world.called(&gateway.id),
                world.called(&wanted),
                world.called(&other.id)
            ),
        )),
        None => Ok(()),
    }
}

/// The other connections that begin at a gateway.
fn others<'w>(
    world: &'w World<'_>,
    connection: &'w Resource,
    gateway: &Resource,
) -> impl Iterator<Item = &'w Resource> {
    let key = gateway.key();
    let holders = world.holder_ids(Relation::ConnectionOf, &key);
    let found = holders.into_iter().filter_map(|id| world.get(&id.to_ascii_lowercase()));
    found.filter(move |other| {
        other.key() != connection.key() && other.reference_key("virtualNetworkGateway1").as_deref() == Some(&key)
    })
}

fn check_site(world: &World<'_>, near: &NearEnd<'_>, local: &Resource, connection: &Resource) -> Result<(), ArmError> {
    let site = site_of(local);
    if let Some((address, asn)) = site.speaker {
        if asn == virtual_network_gateways::asn(near.gateway) {
            return Err(ArmError::bad(
                "SiteAsnEqualsGatewayAsn",
                format!(
                    "Local network gateway {} and virtual network gateway {} both have ASN {}. Give the site a number of its own.",
                    world.called(&local.id),
                    world.called(&near.gateway.id),
                    asn.0
                ),
            )
            .at(&local.id));
        }
        check_outside(world, near, local, IpNet::from(address))?;
    }
    for prefix in &site.prefixes {
        check_outside(world, near, local, *prefix)?;
    }
    for other in others(world, connection, near.gateway) {
        if let Some(other) = end(world, other, "localNetworkGateway2") {
            check_apart(world, near.gateway, (local, &site), (other, &site_of(other)))?;
        }
    }
    Ok(())
}

/// What is behind a tunnel is not in the network before it: packets would go round in a circle. A supernet is fine, as with routes.
fn check_outside(world: &World<'_>, near: &NearEnd<'_>, far: &Resource, prefix: IpNet) -> Result<(), ArmError> {
    let inside = |network: &&&Resource| {
        let space = types::address_space(network);
        space.iter().any(|own| own.contains(&prefix))
    };
    match near.networks.iter().find(inside) {
        Some(network) => Err(ArmError::bad(
            "FarEndInVirtualNetwork",
            format!(
                "{prefix} of {} lies in virtual network {}, which is on the near side of gateway {}. Take it out of one of them.",
                world.called(&far.id),
                world.called(&network.id),
                world.called(&near.gateway.id)
            ),
        )
        .at(&far.id)),
        None => Ok(()),
    }
}

/// Two sites of a gateway are told apart by where they speak; two that don't speak, by their prefixes.
fn check_apart(
    world: &World<'_>,
    gateway: &Resource,
    (local, site): (&Resource, &Site),
    (other, another): (&Resource, &Site),
) -> Result<(), ArmError> {
    let address = |site: &Site| site.speaker.map(|(address, _)| address);
    let same: Option<String> = match (address(site), address(another)) {
        (Some(ours), Some(theirs)) => (ours == theirs).then(|| format!("the BGP peering address {ours}")),
        (None, None) => {
            let shared = site.prefixes.iter().find(|prefix| another.prefixes.contains(prefix));
            shared.map(|prefix| format!("the address prefix {prefix}"))
        }
        _ => None,
    };
    match same {
        Some(same) => Err(ArmError::bad(
            "SitesNotDistinct",
            format!(
                "Local network gateways {} and {} both have {same}, and gateway {} is connected with both. Change one of them, or \
                 disconnect it.",
                world.called(&local.id),
                world.called(&other.id),
                world.called(&gateway.id)
            ),
        )
        .at(&local.id)),
        None => Ok(()),
    }
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
