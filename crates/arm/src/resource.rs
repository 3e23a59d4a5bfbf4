//! A stored resource and the set of all resources.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// All resources, by lower-case id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// By key.
    pub by_key: BTreeMap<String, Resource>,
    /// Grows by one with every write: the version of the intent made from them.
    pub version: u64,
}
