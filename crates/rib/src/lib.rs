//! One BGP speaker thinking: Adj-RIB-In → policy → decision → Loc-RIB → Adj-RIB-Out (RFC 4271 §3.2, §9).
//!
//! Pure. Policy is passed in; what peers are to be told goes out as packed UPDATEs; what became best goes out as
//! [`Change`]s. Structures are dense: prefixes and attribute sets have small ids, a path is a few bytes.

mod adj_rib_in;
mod adj_rib_out;
mod attributes;
mod choice;
pub mod decision;
pub mod export;
mod hash;
mod ids;
mod intern;
mod loc_rib;
mod member;
mod moves;
pub mod peers;
pub mod policy;
mod prefix_table;
pub mod report;
mod reshape;
mod said;
pub mod table;
mod tables;
mod unheld;
mod view;

pub use decision::{Choice, DecisionStep, Preference, Rank};
pub use export::{ExportPolicy, GroupKey, Reshaped};
pub use hash::HashKey;
pub use ids::{shrink_map, shrink_set};
pub use peers::{PeerIndex, PeerInfo, RouteSource, Sender};
pub use policy::{ImportPolicy, RejectRule};
pub use report::{Carried, PathReport, Standing};
pub use table::{Change, Counts, PATH_OCTETS, Rib, Usage};
