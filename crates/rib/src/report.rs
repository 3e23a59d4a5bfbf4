//! Answers to "why": where a received path stands.

use std::sync::Arc;

use bgp::IpNet;
use bgp::wire::PathAttributes;
use serde::{Deserialize, Serialize};

use crate::decision::DecisionStep;
use crate::peers::PeerIndex;
use crate::policy::RejectRule;

/// Where one received path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "standing", content = "reason")]
pub enum Standing {
    /// Chosen, and the one that is advertised.
    Best,
    /// Chosen for VMs beside the best one.
    EqualCost,
    /// Accepted, but another path won at this step.
    Lost(DecisionStep),
    /// Refused by this rule.
    Rejected(RejectRule),
}

/// One received path with its standing.
#[derive(Clone, Debug)]
pub struct PathReport {
    /// The prefix.
    pub prefix: IpNet,
    /// Who sent it.
    pub peer: PeerIndex,
    /// As received.
    pub attributes: Arc<PathAttributes>,
    /// Where it stands.
    pub standing: Standing,
}
