//! `networkSecurityGroups`: kept and shown, so that templates that have them work. Their rules do not filter anything here.

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, references};
use crate::error::ArmError;
use crate::handle::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/networkSecurityGroups";

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
        let index = world.index();
        let users = [
            ("subnets", index.security_group_subnets.get(&resource.key())),
            ("networkInterfaces", index.security_group_nics.get(&resource.key())),
        ];
        for (name, ids) in users {
            if let Some(ids) = ids {
                properties.insert(name.to_owned(), references(ids.iter().map(String::as_str)));
            }
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let index = world.index();
        let users = [&index.security_group_subnets, &index.security_group_nics];
        match users.iter().find_map(|users| users.get(&resource.key())?.first()) {
            Some(user) => Err(ArmError::in_use(
                "InUseNetworkSecurityGroupCannotBeDeleted",
                "Network security group",
                &resource.id,
                user,
            )),
            None => Ok(()),
        }
    }
}
