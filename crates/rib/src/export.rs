//! Adj-RIB-Out: what peers are told. One view per group of peers that are told the same, encoded once, written to many; the
//! originator is left out per message. A slow member's pending changes are a set of prefixes, replaced and never queued.

use std::sync::Arc;

use bgp::wire::{EncodeContext, PathAttributes};
use bgp::{Asn, IpNet};

use crate::peers::{RouteSource, Sender};

/// Peers with equal keys are told the same, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// How UPDATEs are written.
    pub encode: EncodeContext,
    /// Families agreed on.
    pub families: bgp::FamilySet,
    /// The kind of peer: policy looks at it.
    pub source: RouteSource,
    /// The peers' AS number where it is our own (iBGP); `None` for all eBGP peers.
    pub asn: Option<Asn>,
    /// Which of the policy's shapes the group has (an outbound route map); `None`: the Loc-RIB's prefixes, each for itself.
    pub shape: Option<u32>,
    /// The peers take part in RFC 9494: they know what a stale route is.
    pub long_lived: bool,
    /// We are about to leave these peers, or they us: what they are told is a last resort (RFC 8326).
    pub graceful_shutdown: bool,
}

/// What a group with a shape is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshaped {
    /// Of this prefix.
    pub prefix: IpNet,
    /// This.
    pub attributes: PathAttributes,
    /// It stands for several prefixes: it is told rather than a route that has the prefix by itself.
    pub is_summary: bool,
    /// As a summary it is told with what all of its parts that say so have in common, not with one part's attributes.
    pub keeps_attributes: bool,
}

/// Decides on export.
pub trait ExportPolicy {
    /// What members of the group are told of a route that `from` sent: `None` for nothing. Must depend on its
    /// arguments alone until [`crate::Rib::export_policy_changed`] is called. `attributes` are those of the Loc-RIB's best path;
    /// the result's next hop is what is written.
    fn export(&self, group: &GroupKey, from: Sender, attributes: &Arc<PathAttributes>) -> Option<PathAttributes>;

    /// Prefixes that the group is not told, whoever sent them and whatever they have become.
    fn withheld(&self, _group: &GroupKey) -> &[IpNet] {
        &[]
    }

    /// The same for groups with a shape, which may be told of another prefix. Prefixes that become the same one are told as one.
    fn reshape(
        &self,
        group: &GroupKey,
        prefix: &IpNet,
        from: Sender,
        attributes: &Arc<PathAttributes>,
    ) -> Option<Reshaped> {
        let attributes = self.export(group, from, attributes)?;
        Some(Reshaped {
            prefix: *prefix,
            attributes,
            is_summary: false,
            keeps_attributes: false,
        })
    }
}
