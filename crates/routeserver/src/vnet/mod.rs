//! The virtual network: from Loc-RIB, topology and user routes to the effective routes of each NIC (az §2.7, §2.10, §5).
//!
//! ```text
//! Intent ─► Topology ─► SubnetView (system and user routes, what BGP may not touch) ─┬─► rows: what Azure lists for a NIC
//! Loc-RIB ───────────────────────────────────────────────────────────────────────────┴─► resolve: what one prefix does
//! ```

mod import_filter;
mod loc_rib;
mod resolve;
mod rows;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod topology;
mod view;

pub(crate) use loc_rib::{Changed, LocRib, Lost, Replaced};
pub(crate) use resolve::{Resolved, Scope, Target, dependants, known_inside, prefixes, resolve, resolve_above_base};
pub(crate) use rows::{rows, rows_of};
pub(crate) use topology::{NicFacts, Topology};
pub(crate) use view::SubnetView;
