//! What goes beyond Azure: settings of ours by ARM id, kept apart from ARM bodies so that a client's GET-change-PUT cannot erase
//! them (`/routewright/v1/<ARM id>/settings`), and the limits of the configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Limits; 0 means none. The defaults are Azure's (az §1.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Peers per route server.
    pub peers: u32,
    /// Distinct prefixes per peer.
    pub routes_per_peer: u32,
    /// Prefixes in all.
    pub total_routes: u32,
    /// Virtual networks.
    pub vnets: u32,
    /// VMs (NICs).
    pub vms: u32,
    /// Towards an ExpressRoute circuit.
    pub routes_to_expressroute: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            peers: 8,
            routes_per_peer: 4000,
            total_routes: 10_000,
            vnets: 500,
            vms: 4000,
            routes_to_expressroute: 1000,
        }
    }
}

/// Everything beside the resources that the intent depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// From the configuration file.
    pub limits: Limits,
    /// `[bind]`: subnet id (lower case) or prefix → network namespace path or interface.
    pub bind: BTreeMap<String, String>,
    /// Settings objects by ARM id (lower case).
    pub by_key: BTreeMap<String, Value>,
}
