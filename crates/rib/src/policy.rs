//! Import policy: which routes of a peer may compete, and the name of the rule that says no.

use bgp::IpNet;
use bgp::wire::PathAttributes;
use serde::{Deserialize, Serialize};

use crate::peers::{PeerIndex, Sender};

/// Decides on import. Called once per UPDATE for its attributes and once per prefix, and again for every stored path when
/// the owner says that the rules changed ([`crate::Rib::reconsider`]).
pub trait ImportPolicy {
    /// The rule that refuses these attributes, if any.
    fn refuse_attributes(&self, peer: PeerIndex, from: Sender, attributes: &PathAttributes) -> Option<RejectRule>;
    /// The rule that refuses this prefix, if any.
    fn refuse_prefix(&self, from: Sender, prefix: &IpNet) -> Option<RejectRule>;
    /// The rule that refuses the two together, if any; asked last.
    fn refuse_route(&self, _peer: PeerIndex, _prefix: &IpNet, _attributes: &PathAttributes) -> Option<RejectRule> {
        None
    }
}

/// The import rules by name (az §2.3, §2.10). A rejected route stays in the Adj-RIB-In with its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectRule {
    /// The AS_PATH contains our own AS number (65515): a loop.
    OwnAsn,
    /// The AS_PATH contains AS 0 (RFC 7607).
    AsZero,
    /// The prefix is the RouteServerSubnet itself.
    OwnSubnet,
    /// The next hop is an address of the route server, which forwards no packets. At a gateway with an AS number of its own, of the route
    /// server's instance in the other process: where that would send is not known here.
    OwnNextHop,
    /// The prefix equals or lies inside the address space of the virtual network or of a peered one that uses its gateways.
    InsideVirtualNetwork,
    /// The next hop is no usable unicast address.
    UnusableNextHop,
    /// The limit on prefixes in total is reached.
    OverTotalLimit,
    /// A family that is not enabled (IPv6 by default).
    FamilyDisabled,
    /// The prefix lies in a block that no packet is routed by (RFC 6890), or is an address of Azure's own platform.
    SpecialPurposePrefix,
    /// The AS_PATH of an external peer is empty: it would win against everybody who says who they are.
    EmptyAsPath,
    /// More different attribute sets are held than there is room for: the route's own are not kept, and it does not compete. It must be
    /// announced again when there is room.
    OutOfAttributeSets,
    /// More different prefixes are held than there is room for: this one is not held. It must be announced again when there is room.
    OutOfPrefixes,
    /// The peer's inbound route map drops it.
    DroppedByRouteMap,
    /// The peer's inbound route map made another route of it, which competes instead.
    ChangedByRouteMap,
    /// ORIGINATOR_ID is our own BGP Identifier: the route has come back (RFC 4456).
    OwnOriginatorId,
    /// We reflected the route before: our identifier is in its CLUSTER_LIST (RFC 4456).
    OwnClusterId,
}

impl RejectRule {
    /// Every rule.
    pub const ALL: [RejectRule; 16] = [
        RejectRule::OwnAsn,
        RejectRule::AsZero,
        RejectRule::OwnSubnet,
        RejectRule::OwnNextHop,
        RejectRule::InsideVirtualNetwork,
        RejectRule::UnusableNextHop,
        RejectRule::OverTotalLimit,
        RejectRule::FamilyDisabled,
        RejectRule::SpecialPurposePrefix,
        RejectRule::EmptyAsPath,
        RejectRule::OutOfAttributeSets,
        RejectRule::OutOfPrefixes,
        RejectRule::DroppedByRouteMap,
        RejectRule::ChangedByRouteMap,
        RejectRule::OwnOriginatorId,
        RejectRule::OwnClusterId,
    ];

    /// The rule as a path stores it: 1 to 31; 0 stands for an accepted path.
    pub(crate) fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The rule of a code; `None` for 0.
    pub(crate) fn from_code(code: u8) -> Option<RejectRule> {
        RejectRule::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_code() {
        for rule in RejectRule::ALL {
            assert_eq!(RejectRule::from_code(rule.code()), Some(rule));
            assert!(rule.code() < 32);
        }
        assert_eq!(RejectRule::from_code(0), None);
    }
}
