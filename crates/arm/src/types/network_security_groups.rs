//! `networkSecurityGroups`: kept and shown, so that templates that have them work. Their rules do not filter anything here.

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, references};
use crate::error::ArmError;
use crate::index::Relation;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/networkSecurityGroups";

/// Who uses a group: the member that shows them.
const USERS: [(&str, Relation); 2] = [
    ("subnets", Relation::SubnetOfSecurityGroup),
    ("networkInterfaces", Relation::NicOfSecurityGroup),
];

pub(super) struct NetworkSecurityGroups;

impl ResourceType for NetworkSecurityGroups {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["subnets", "networkInterfaces", "defaultSecurityRules", "flowLogs"]
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        draft.reader().list("securityRules")?;
        draft.properties.entry("securityRules").or_insert(json!([]));
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        for (name, relation) in USERS {
            let ids = world.holder_ids(relation, &resource.key());
            if !ids.is_empty() {
                properties.insert(name.to_owned(), references(ids));
            }
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let key = resource.key();
        match USERS
            .iter()
            .find_map(|(_, relation)| world.first_holder(*relation, &key))
        {
            Some(user) => Err(world.in_use(
                "InUseNetworkSecurityGroupCannotBeDeleted",
                "Network security group",
                &resource.id,
                user,
            )),
            None => Ok(()),
        }
    }
}
