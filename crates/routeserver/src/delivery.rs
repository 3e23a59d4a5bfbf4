//! What agents are told: tables of kernel-ready routes, in two layers, so that a change is computed and encoded once for all NICs that
//! it reaches.
//!
//! ```text
//! base      one per speaker: what BGP brings, the same for every NIC that hears the speaker
//! overlay   one per subnet: system and user-defined routes; wherever it has a route the base's does not count, nor inside
//!           the prefixes that it hides (BGP may not speak there, az §2.7)
//! whole     one layer alone: for a NIC that is a next hop itself, subnets whose import filter looks at routes, and agents that know
//!           of no layers
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::Rank;

mod agents;
mod awaited;
mod followed;
mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

pub(crate) use agents::{Delivery, Installed, Routes};

/// A table of routes that one or more NICs follow; unique within an instance's life (its epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

/// A nexthop group within a table; unique within the table's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// An agent's stream, named by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u64);

/// A message to agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent {
    /// The NIC's facts and the table that it follows from now on. Without a table the NIC is unknown here (yet).
    Nic(NicAssignment),
    /// The whole table, replacing what was known of it.
    Snapshot(Arc<TableUpdate>),
    /// Changes to apply to the generation before.
    Delta(Arc<TableUpdate>),
    /// Every table of this instance is complete (or not, after a start): until then its word only adds, never removes.
    Converged(bool),
}

/// A NIC's facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicAssignment {
    /// ARM id, lower case.
    pub nic: Arc<str>,
    /// `None`: this instance doesn't know the NIC.
    pub table: Option<TableId>,
    /// The table below it, if that is an overlay.
    pub base: Option<TableId>,
    /// The NIC's addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Prefixes of its subnet: on-link.
    pub subnet_prefixes: Vec<IpNet>,
    /// The first address of the subnet, per family where there is one: the way to everything not on-link and not an NVA.
    pub gateways: Vec<IpAddr>,
}

/// Groups and routes, whole or as a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUpdate {
    /// Which table.
    pub table: TableId,
    /// One more than the generation it builds on; a snapshot may jump.
    pub generation: u64,
    /// Groups that are new or have other members now.
    pub groups: Vec<Group>,
    /// Groups that no route uses any more.
    pub removed_groups: Vec<GroupId>,
    /// Routes that are new or changed.
    pub routes: Vec<TableRoute>,
    /// Prefixes that have no route any more.
    pub removed: Vec<IpNet>,
    /// If they are others than before: the prefixes in which the base's routes don't count, neither for the prefix itself nor inside it.
    pub hides: Option<Vec<IpNet>>,
}

/// Next hops that routes share: routes that have the same best set and the same fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// Sorted. Empty for a moment when all of them are lost and nothing takes over: the group's routes are about to go.
    pub members: Vec<IpAddr>,
    /// What takes over when all members are gone; may be empty.
    pub fallback: Vec<IpAddr>,
    /// Comparable between instances.
    pub rank: Rank,
}

/// One route of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRoute {
    /// Destination.
    pub prefix: IpNet,
    /// Way.
    pub way: Way,
    /// True for routes that only the lab, or `--system-routes all`, installs (Internet, None).
    pub system: bool,
}

/// How packets go (design: how a route reaches a kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Directly on the link.
    OnLink,
    /// Through the subnet's first address.
    SubnetGateway,
    /// Through a group of NVAs.
    Group(GroupId),
    /// Dropped.
    Blackhole,
}
