//! `connections`: what joins a virtual network gateway with a site, another gateway or a circuit.

use serde_json::{Map, Value, json};

use super::{
    Draft, ResourceType, check_region, express_route_circuits, hybrid, local_network_gateways, resolve,
    virtual_network_gateways,
};
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::index::{Reference, Relation};
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/connections";

/// References to what is at the ends, and what they refer to.
const GATEWAYS: [(&str, &str); 4] = [
    ("virtualNetworkGateway1", virtual_network_gateways::KIND),
    ("virtualNetworkGateway2", virtual_network_gateways::KIND),
    ("localNetworkGateway2", local_network_gateways::KIND),
    ("peer", express_route_circuits::KIND),
];

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
        reader.text("sharedKey")?;
        let mut found = Vec::new();
        for (name, of) in GATEWAYS {
            let target = resolve(world, draft, &reader, name, of)?;
            if name == "virtualNetworkGateway1"
                && let Some(gateway) = target
            {
                check_region(draft, draft.location(), gateway, gateway.location())?;
            }
            found.push((name, target.map(|target| target.id.clone())));
        }
        let has = |wanted: &str| found.iter().any(|(name, id)| *name == wanted && id.is_some());
        let other = match kind {
            "IPsec" => Some("localNetworkGateway2"),
            "Vnet2Vnet" => Some("virtualNetworkGateway2"),
            "ExpressRoute" => Some("peer"),
            _ => None,
        };
        for needed in ["virtualNetworkGateway1"].into_iter().chain(other) {
            if !has(needed) {
                return Err(reader.missing(needed, &format!("what a connection of type {kind} joins there")));
            }
        }
        draft.set("connectionType", kind);
        draft.set("routingWeight", weight);
        draft.set("enableBgp", bgp);
        for (name, id) in found {
            draft.set_reference(name, id.as_deref());
        }
        // It is never shown, so a client that writes back what it has read doesn't have it.
        if draft.reader().get("sharedKey").is_none()
            && let Some(key) = draft.kept("sharedKey")
        {
            draft.set("sharedKey", key);
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
        properties.remove("sharedKey");
        properties.insert("connectionStatus".to_owned(), json!("NotConnected"));
        properties.insert("egressBytesTransferred".to_owned(), json!(0));
        properties.insert("ingressBytesTransferred".to_owned(), json!(0));
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let gateways = GATEWAYS.iter().filter_map(|(name, _)| resource.reference_key(name));
        gateways
            .map(|gateway| Reference::new(Relation::ConnectionOf, gateway, &resource.id))
            .collect()
    }
}

/// The key of what is at the far end.
pub(super) fn far_end(connection: &Resource) -> Option<String> {
    let (_, far) = GATEWAYS.split_first()?;
    far.iter().find_map(|(name, _)| connection.reference_key(name))
}

/// `enableBgp`, of a connection or a gateway.
pub(crate) fn speaks_bgp(resource: &Resource) -> bool {
    resource.property("enableBgp") == &json!(true)
}
