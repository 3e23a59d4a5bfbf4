//! `connections`: what joins a virtual network gateway with a site, another gateway or a circuit.

use serde_json::{Map, Value, json};

use super::{
    Draft, ResourceType, check_region, express_route_circuits, hybrid, local_network_gateways, resolve,
    routing_configuration, virtual_network_gateways,
};
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::index::{Reference, Relation};
use crate::read::Reader;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/connections";

/// The gateway that it begins at.
const GATEWAY: &str = "virtualNetworkGateway1";
/// What it joins that one with: a site,
pub(crate) const SITE: &str = "localNetworkGateway2";
/// a circuit,
pub(crate) const CIRCUIT: &str = "peer";
/// or another gateway.
const OTHER_GATEWAY: &str = "virtualNetworkGateway2";

/// References to what is at the ends, and what they refer to.
const ENDS: [(&str, &str); 4] = [
    (GATEWAY, virtual_network_gateways::KIND),
    (OTHER_GATEWAY, virtual_network_gateways::KIND),
    (SITE, local_network_gateways::KIND),
    (CIRCUIT, express_route_circuits::KIND),
];

/// The types that have a far end, and what that is. One has no other.
const FAR_ENDS: [(&str, &str); 3] = [("IPsec", SITE), ("Vnet2Vnet", OTHER_GATEWAY), ("ExpressRoute", CIRCUIT)];

/// What is stored and never shown.
const SECRETS: [&str; 2] = ["sharedKey", "authorizationKey"];

pub(super) struct Connections;

impl ResourceType for Connections {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "connectionStatus",
            "tunnelConnectionStatus",
            "egressBytesTransferred",
            "ingressBytesTransferred",
        ]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let types = ["IPsec", "Vnet2Vnet", "ExpressRoute", "VPNClient"];
        let Some(kind) = reader.one_of("connectionType", &types)? else {
            return Err(reader.missing("connectionType", "IPsec, Vnet2Vnet or ExpressRoute"));
        };
        let weight = reader.whole("routingWeight", 0..=32_000)?.unwrap_or(0);
        let bgp = reader.boolean("enableBgp")?.unwrap_or(false);
        for secret in SECRETS {
            reader.text(secret)?;
        }
        let mut found = Vec::new();
        for (name, of) in ENDS {
            let target = resolve(world, draft, &reader, name, of)?;
            if name == GATEWAY
                && let Some(gateway) = target
            {
                check_region(draft, draft.location(), gateway, gateway.location())?;
            }
            found.push((name, target.map(|target| target.id.clone())));
        }
        let gateway = found.iter().find(|(name, _)| *name == GATEWAY);
        let gateway = gateway
            .and_then(|(_, id)| id.as_ref())
            .map(|id| id.to_ascii_lowercase());
        let has = |wanted: &str| found.iter().any(|(name, id)| *name == wanted && id.is_some());
        for needed in [GATEWAY].into_iter().chain(far_end_of(kind)) {
            if !has(needed) {
                return Err(reader.missing(needed, &format!("what a connection of type {kind} joins there")));
            }
        }
        check_far_end(&reader, kind, has)?;
        read_route_maps(world, draft, kind, gateway.as_deref())?;
        draft.set("connectionType", kind);
        draft.set("routingWeight", weight);
        draft.set("enableBgp", bgp);
        for (name, id) in found {
            draft.set_reference(name, id.as_deref());
        }
        for secret in SECRETS {
            draft.keep_secret(secret);
        }
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        match world.get(&id.key()) {
            Some(connection) => hybrid::check_connection(world, connection),
            None => Ok(()),
        }
    }

    fn show(&self, _world: &World<'_>, _resource: &Resource, properties: &mut Map<String, Value>) {
        for secret in SECRETS {
            properties.remove(secret);
        }
        properties.insert("connectionStatus".to_owned(), json!("NotConnected"));
        properties.insert("egressBytesTransferred".to_owned(), json!(0));
        properties.insert("ingressBytesTransferred".to_owned(), json!(0));
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let ends = ENDS.iter().filter_map(|(name, _)| resource.reference_key(name));
        ends.map(|end| Reference::new(Relation::ConnectionOf, end, &resource.id))
            .chain(routing_configuration::references(resource))
            .collect()
    }
}

/// Route maps are those of the route server in the gateway's network, and for sites and circuits (az §3).
fn read_route_maps(world: &World<'_>, draft: &mut Draft, kind: &str, gateway: Option<&str>) -> Result<(), ArmError> {
    if !routing_configuration::names_a_map(draft)? {
        return Ok(());
    }
    let refused = |code: &str, why: String| ArmError::bad(code, why).at("properties.routingConfiguration");
    if !matches!(kind, "IPsec" | "ExpressRoute") {
        return Err(refused(
            "InvalidRoutingConfigurationForConnectionType",
            format!("A connection of type {kind} can't have route maps. Those of type IPsec and ExpressRoute can."),
        ));
    }
    let gateway = gateway.and_then(|key| world.get(key));
    let hub = gateway.and_then(|gateway| routing_configuration::hub_of_gateway(world, gateway));
    let Some(hub) = hub else {
        return Err(refused(
            "InvalidResourceReference",
            "The route maps of a connection are those of the route server in its gateway's network, and there is none. Create it first."
                .to_owned(),
        ));
    };
    routing_configuration::read(world, draft, &hub).map(|_| ())
}

/// Refuses what is no far end of the type: it would be there and mean nothing.
fn check_far_end(reader: &Reader<'_>, kind: &str, has: impl Fn(&str) -> bool) -> Result<(), ArmError> {
    let own = far_end_of(kind);
    let mut others = FAR_ENDS.iter().filter(|(_, member)| own != Some(member));
    match others.find(|(_, member)| has(member)) {
        Some((other, member)) => Err(ArmError::bad(
            "ConnectionTypeDoesNotFitFarEnd",
            format!(
                "A connection of type {kind} joins {GATEWAY} with {}, and {member} is for connections of type {other}. Leave it out, \
                 or choose that type.",
                own.unwrap_or("nothing")
            ),
        )
        .at(reader.path_of(member))),
        None => Ok(()),
    }
}

/// The member that is the far end of this type.
fn far_end_of(kind: &str) -> Option<&'static str> {
    let found = FAR_ENDS.iter().find(|(of, _)| *of == kind);
    found.map(|(_, member)| *member)
}

/// The key of the gateway that a connection begins at.
pub(crate) fn gateway_of(connection: &Resource) -> Option<String> {
    connection.reference_key(GATEWAY)
}

/// What a connection of its type joins the gateway with: the member and the key.
pub(crate) fn far_end(connection: &Resource) -> Option<(&'static str, String)> {
    let member = far_end_of(connection.property("connectionType").as_str()?)?;
    Some((member, connection.reference_key(member)?))
}

/// The key of what is at the far end, if its type makes it this member.
pub(crate) fn far_end_as(connection: &Resource, member: &str) -> Option<String> {
    far_end(connection).and_then(|(own, key)| (own == member).then_some(key))
}

/// `enableBgp`, of a connection or a gateway.
pub(crate) fn speaks_bgp(resource: &Resource) -> bool {
    resource.property("enableBgp") == &json!(true)
}
