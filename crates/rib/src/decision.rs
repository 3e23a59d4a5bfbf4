//! The decision process (RFC 4271 §9.1, az §2.5): numbered filters over the candidates of one prefix.
//!
//! MED is ignored as Azure ignores it, so no filter depends on pairs; still each step works on the set, and remembers at
//! which step a path lost. Paths that survive the step `AsPathLength` are of equal cost and become ECMP next hops; the
//! steps after it choose the one that is advertised.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Hub routing preference (az §2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Preference {
    /// ExpressRoute-learned before all others, then the shorter AS_PATH.
    #[default]
    ExpressRoute,
    /// VPN- and NVA-learned before ExpressRoute-learned, then the shorter AS_PATH.
    VpnGateway,
    /// The shorter AS_PATH, then ExpressRoute before others.
    ASPath,
}

/// The steps in their order; a loser remembers the one it lost at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionStep {
    /// Our own routes (virtual network prefixes) before any learned one.
    LocalOrigin,
    /// Import preference set per peer (ours; equal by default).
    ImportPreference,
    /// Hub routing preference by source.
    HubRoutingPreference,
    /// The shorter AS_PATH (RFC 4271 §9.1.2.2 a).
    AsPathLength,
    /// The lower ORIGIN (b).
    Origin,
    /// eBGP before iBGP (d).
    ExternalOverInternal,
    /// The lower BGP Identifier (f).
    BgpIdentifier,
    /// The lower peer address (g).
    PeerAddress,
}

/// How good a choice is, comparable between instances: the lower the better. The tuple that the equal-cost steps used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank(pub u64);

/// What the Loc-RIB holds for a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Next hops of the equal-cost set, sorted, without repetition.
    pub next_hops: Vec<IpAddr>,
    /// Next hops that take over when all of `next_hops` are gone (the runner-up set); may be empty.
    pub fallback: Vec<IpAddr>,
    /// The rank of the equal-cost set.
    pub rank: Rank,
}
