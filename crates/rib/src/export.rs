//! Adj-RIB-Out: what peers are told. One view per group of peers that are told the same, encoded once, written to many; the
//! originator is left out per message. A slow member's pending changes are a set of prefixes, replaced and never queued.

use std::sync::Arc;

use bgp::Asn;
use bgp::wire::{EncodeContext, PathAttributes};

use crate::peers::RouteSource;

/// Peers with equal keys are told the same, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// How UPDATEs are written.
    pub encode: EncodeContext,
    /// Families agreed on.
    pub families: bgp::FamilySet,
    /// The kind of peer: policy looks at it.
    pub source: RouteSource,
    /// The peers' AS number, where policy distinguishes; `None` for all eBGP peers.
    pub asn: Option<Asn>,
}

/// Decides on export.
pub trait ExportPolicy {
    /// What members of the group are told of a route that came from `source`: `None` for nothing. Must depend on its
    /// arguments alone until [`crate::Rib::export_policy_changed`] is called. `attributes` are those of the Loc-RIB's best path;
    /// the result's next hop is what is written.
    fn export(&self, group: &GroupKey, source: RouteSource, attributes: &Arc<PathAttributes>)
    -> Option<PathAttributes>;
}
