//! `routeTables`: user-defined routes for the subnets that name the table. A PUT that lists `routes` replaces them all; one that
//! leaves the member out keeps them.

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, put_children, references, routes};
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::index::Relation;
use crate::request::Mint;
use crate::resource::Resource;
use crate::types;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/routeTables";

pub(super) struct RouteTables;

impl ResourceType for RouteTables {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["subnets"]
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let disabled = reader.boolean("disableBgpRoutePropagation")?.unwrap_or(false);
        let peering = reader.one_of("disablePeeringRoute", &["None", "All"])?;
        draft.set("disableBgpRoutePropagation", disabled);
        if let Some(peering) = peering {
            draft.set("disablePeeringRoute", peering);
        }
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn put(&self, world: &mut World<'_>, mut draft: Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let id = draft.id.clone();
        let items = draft.reader().list("routes")?.map(<[Value]>::to_vec);
        draft.properties.remove("routes");
        self.read(world, &mut draft, mint)?;
        draft.store(KIND, world, mint);
        match items {
            Some(items) => put_children(world, &routes::Routes, &id, &items, mint),
            None => Ok(()),
        }
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        routes::check_conflicts(world, &id.key())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        let routes: Vec<Value> = world
            .children(&resource.key(), "routes")
            .into_iter()
            .map(|route| types::show(world, route))
            .collect();
        properties.insert("routes".to_owned(), Value::Array(routes));
        let subnets = world.holder_ids(Relation::SubnetOfRouteTable, &resource.key());
        if !subnets.is_empty() {
            properties.insert("subnets".to_owned(), references(subnets));
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::SubnetOfRouteTable, &resource.key()) {
            Some(subnet) => Err(world.in_use("InUseRouteTableCannotBeDeleted", "Route table", &resource.id, subnet)),
            None => Ok(()),
        }
    }
}
