//! A stored resource and the set of all resources.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::index::Index;
use crate::request::Change;

/// A resource as stored: what the user wrote, normalised; computed members are added when it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Id as first written.
    pub id: String,
    /// For example `Microsoft.Network/virtualHubs/bgpConnections`.
    pub kind: String,
    /// The guid inside `W/"…"`.
    pub etag: String,
    /// location, tags, sku, properties …
    pub body: Value,
}

impl Resource {
    /// The key that ids compare by: lower case.
    pub fn key(&self) -> String {
        self.id.to_ascii_lowercase()
    }

    /// The last name of its id.
    pub fn name(&self) -> &str {
        crate::id::last_segment(&self.id)
    }

    /// A member of `properties`; `Null` when absent.
    pub fn property(&self, name: &str) -> &Value {
        &self.body["properties"][name]
    }

    /// The id in a reference property (`{"id": …}`), lower case.
    pub(crate) fn reference_key(&self, name: &str) -> Option<String> {
        reference_key(self.property(name))
    }

    /// Its location; empty for children.
    pub(crate) fn location(&self) -> &str {
        self.body["location"].as_str().unwrap_or_default()
    }
}

/// The id in a reference (`{"id": …}`), lower case.
pub(crate) fn reference_key(reference: &Value) -> Option<String> {
    Some(reference["id"].as_str()?.to_ascii_lowercase())
}

/// All resources, by lower-case id, and who of them refers to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    by_key: BTreeMap<String, Resource>,
    index: Index,
    /// Grows by one with every write: the version of the intent made from them.
    pub version: u64,
}

impl Resources {
    /// The resource with this id, in any case.
    pub fn get(&self, id: &str) -> Option<&Resource> {
        self.by_key.get(&id.to_ascii_lowercase())
    }

    /// The resource with this key.
    pub(crate) fn by_key(&self, key: &str) -> Option<&Resource> {
        self.by_key.get(key)
    }

    /// All of them, in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.by_key.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Adds a resource, or replaces the one with its id.
    pub fn put(&mut self, resource: Resource) {
        let key = resource.key();
        if let Some(replaced) = self.by_key.remove(&key) {
            self.index.remove(&replaced);
        }
        self.index.add(&resource);
        self.by_key.insert(key, resource);
    }

    /// Removes the resource with this id, in any case.
    pub fn remove(&mut self, id: &str) {
        if let Some(removed) = self.by_key.remove(&id.to_ascii_lowercase()) {
            self.index.remove(&removed);
        }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Applies the changes of one request, which the store has taken; the version grows if there are any.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(resource) => self.put(resource.clone()),
                Change::Delete(key) => self.remove(key),
            }
        }
        if !changes.is_empty() {
            self.version += 1;
        }
    }

    /// Children of one type, from the parent's key, in order of their keys.
    pub(crate) fn children<'a>(
        &'a self,
        parent: &str,
        kind_segment: &str,
    ) -> impl Iterator<Item = &'a Resource> + use<'a> {
        let prefix = format!("{parent}/{}/", kind_segment.to_ascii_lowercase());
        self.under(prefix)
    }

    /// Resources whose key begins with `prefix`.
    pub(crate) fn under(&self, prefix: String) -> impl Iterator<Item = &Resource> + use<'_> {
        self.by_key
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(_, resource)| resource)
    }
}
