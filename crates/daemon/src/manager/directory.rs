//! Who may come in and do what: service principals, roles and their assignments as the store has them.

use std::collections::BTreeMap;

use arm::Access;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::sign_in::principals::ServicePrincipal;
use crate::store::{Collection, StoreError};

/// Everything of the store's directory, read once and kept up with every write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    /// By client id.
    pub(crate) principals: BTreeMap<String, ServicePrincipal>,
    pub(crate) access: Access,
}

impl Directory {
    /// Takes on what was stored.
    pub(crate) fn put(&mut self, collection: Collection, key: String, body: Value) -> Result<(), StoreError> {
        match collection {
            Collection::ServicePrincipals => {
                let principal = read(collection, &key, body)?;
                self.principals.insert(key, principal);
            }
            Collection::RoleAssignments => {
                let assignment = read(collection, &key, body)?;
                self.access.assignments.insert(key, assignment);
            }
            Collection::RoleDefinitions => {
                let role = read(collection, &key, body)?;
                self.access.definitions.insert(key, role);
            }
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, collection: Collection, key: &str) {
        match collection {
            Collection::ServicePrincipals => drop(self.principals.remove(key)),
            Collection::RoleAssignments => drop(self.access.assignments.remove(key)),
            Collection::RoleDefinitions => drop(self.access.definitions.remove(key)),
        }
    }
}

fn read<T: DeserializeOwned>(collection: Collection, key: &str, body: Value) -> Result<T, StoreError> {
    serde_json::from_value(body).map_err(|error| StoreError::Corrupt {
        what: format!("{} {key}", collection.name()),
        problem: error.to_string(),
    })
}
