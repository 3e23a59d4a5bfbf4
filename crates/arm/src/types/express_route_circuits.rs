//! `expressRouteCircuits`: a circuit to a customer's edge, with its peerings as children that its body also shows.
//!
//! There is no provider who would have to make it ready, so it always is. What speaks on it follows from its private peering and its
//! connections, in `intent::circuits`.

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, express_route_peerings, hybrid, put_children};
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::index::Relation;
use crate::request::Mint;
use crate::resource::Resource;
use crate::types;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/expressRouteCircuits";

/// The largest circuit that Azure sells, in Mbit/s.
const MAX_MBPS: u64 = 100_000;

pub(super) struct ExpressRouteCircuits;

impl ResourceType for ExpressRouteCircuits {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "circuitProvisioningState",
            "serviceProviderProvisioningState",
            "authorizations",
            "gatewayManagerEtag",
            "stag",
        ]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let classic = reader.boolean("allowClassicOperations")?.unwrap_or(false);
        let global_reach = reader.boolean("globalReachEnabled")?.unwrap_or(false);
        if let Some(provider) = reader.object("serviceProviderProperties")? {
            provider.text("serviceProviderName")?;
            provider.text("peeringLocation")?;
            provider.whole("bandwidthInMbps", 1..=MAX_MBPS)?;
        }
        let sku = read_sku(draft)?;
        draft.outside.insert("sku".to_owned(), sku);
        draft.set("allowClassicOperations", classic);
        draft.set("globalReachEnabled", global_reach);
        draft.properties.remove("serviceKey");
        draft.keep_or("serviceKey", || json!(mint.guid()));
        Ok(())
    }

    fn put(&self, world: &mut World<'_>, mut draft: Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let id = draft.id.clone();
        let peerings = draft.reader().list("peerings")?.map(<[Value]>::to_vec);
        draft.properties.remove("peerings");
        self.read(world, &mut draft, mint)?;
        draft.store(KIND, world, mint);
        match peerings {
            Some(items) => put_children(world, &express_route_peerings::ExpressRoutePeerings, &id, &items, mint),
            None => Ok(()),
        }
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        hybrid::check_connections_of(world, &id.key())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        let peerings = world.children(&resource.key(), "peerings");
        let shown: Vec<Value> = peerings.into_iter().map(|child| types::show(world, child)).collect();
        properties.insert("peerings".to_owned(), Value::Array(shown));
        properties.insert("authorizations".to_owned(), json!([]));
        properties.insert("circuitProvisioningState".to_owned(), json!("Enabled"));
        properties.insert("serviceProviderProvisioningState".to_owned(), json!("Provisioned"));
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::ConnectionOf, &resource.key()) {
            Some(connection) => Err(world.in_use(
                "ExpressRouteCircuitCannotBeDeleted",
                "ExpressRoute circuit",
                &resource.id,
                connection,
            )),
            None => Ok(()),
        }
    }
}

/// Tier and family make the name; any of them is taken, since they change nothing here.
fn read_sku(draft: &Draft) -> Result<Value, ArmError> {
    let reader = crate::read::Reader::new(&draft.outside, "");
    let sku = reader.object("sku")?;
    let text = |name: &str| match &sku {
        Some(sku) => sku.text(name),
        None => Ok(None),
    };
    let tier = text("tier")?.unwrap_or("Standard");
    let family = text("family")?.unwrap_or("MeteredData");
    Ok(json!({ "name": format!("{tier}_{family}"), "tier": tier, "family": family }))
}
