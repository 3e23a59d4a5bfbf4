//! `routingConfiguration` of a connection, be it a bgpConnection or one of a gateway: the route maps of what its far end says and of what
//! that is told (az §3). The rest of it is Virtual WAN's, and kept.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Draft, bgp_connections, connections, route_maps, subnets, virtual_network_gateways};
use crate::error::ArmError;
use crate::id::{ResourceId, parent_key};
use crate::index::{Reference, Relation};
use crate::resource::{Resource, reference_key};
use crate::world::World;

/// Where it is.
const MEMBER: &str = "routingConfiguration";

/// Its members: the route map of what the far end announces, and of what it is told.
pub(crate) const INBOUND: &str = "inboundRouteMap";
pub(crate) const OUTBOUND: &str = "outboundRouteMap";

/// The key of the connection's route map for a direction.
pub(crate) fn route_map_of(connection: &Resource, direction: &str) -> Option<String> {
    reference_key(&connection.property(MEMBER)[direction])
}

/// The maps that it names, each once.
pub(super) fn references(connection: &Resource) -> Vec<Reference> {
    let maps = [INBOUND, OUTBOUND].map(|direction| route_map_of(connection, direction));
    let maps: BTreeSet<String> = maps.into_iter().flatten().collect();
    maps.into_iter()
        .map(|map| Reference::new(Relation::ConnectionOfRouteMap, map, &connection.id))
        .collect()
}

/// Whether the draft names a map.
pub(super) fn names_a_map(draft: &Draft) -> Result<bool, ArmError> {
    let reader = draft.reader();
    let Some(routing) = reader.object(MEMBER)? else {
        return Ok(false);
    };
    let maps = [INBOUND, OUTBOUND].map(|direction| routing.reference(direction, route_maps::KIND));
    let [inbound, outbound] = maps;
    Ok(inbound?.is_some() || outbound?.is_some())
}

/// Reads the maps, which must be this route server's (key). Whether there are any.
pub(super) fn read(world: &World<'_>, draft: &mut Draft, hub: &str) -> Result<bool, ArmError> {
    let mut found = Vec::new();
    let reader = draft.reader();
    let Some(routing) = reader.object(MEMBER)? else {
        return Ok(false);
    };
    for direction in [INBOUND, OUTBOUND] {
        let Some(id) = routing.reference(direction, route_maps::KIND)? else {
            continue;
        };
        let map = world.get(&id.key()).filter(|map| parent_key(&map.key()) == Some(hub));
        let Some(map) = map else {
            return Err(ArmError::missing_reference(id.as_str(), draft.id.as_str()).at(routing.path_of(direction)));
        };
        found.push((direction, map.id.clone()));
    }
    let any = !found.is_empty();
    for (direction, id) in found {
        draft.properties[MEMBER][direction] = json!({ "id": id });
    }
    Ok(any)
}

/// The key of the route server whose maps a gateway's connections may have: that of its network.
pub(super) fn hub_of_gateway(world: &World<'_>, gateway: &Resource) -> Option<String> {
    let subnet = virtual_network_gateways::subnet(gateway)?;
    let configuration = world.first_holder(Relation::RouteServerIn, subnets::network_key(&subnet))?;
    parent_key(&configuration.to_ascii_lowercase()).map(str::to_owned)
}

/// Refuses to ask a route server (key) about a connection (key) that is none of its own, nor of a gateway in its network.
pub(crate) fn check_is_of(world: &World<'_>, hub: &str, connection: &str) -> Result<(), ArmError> {
    let Some(found) = world.get(connection) else {
        let kind = ResourceId::parse(connection).map(|id| id.kind()).unwrap_or_default();
        return Err(match ResourceId::parse(connection) {
            Some(id) => ArmError::not_found(&id, &kind),
            None => ArmError::no_such_type(connection),
        });
    };
    if found.kind == bgp_connections::KIND {
        return Ok(());
    }
    world.check_readable(&found.id)?;
    let gateway = connections::gateway_of(found).and_then(|gateway| world.get(&gateway));
    match gateway.and_then(|gateway| hub_of_gateway(world, gateway)).as_deref() == Some(hub) {
        true => Ok(()),
        false => Err(ArmError::bad(
            "InvalidRequestFormat",
            format!(
                "Connection {} is of no gateway in the virtual network of route server '{}'. Ask the one that is there.",
                found.id,
                crate::id::last_segment(hub)
            ),
        )
        .at("resourceUri")),
    }
}
