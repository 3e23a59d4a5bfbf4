//! What marks kernel entries as ours. Everything else is foreign: never touched, reported when it is in the way.

use std::ops::RangeInclusive;

/// `rtm_protocol` and `nh_protocol` of everything that we install.
pub const PROTOCOL: u8 = 157;

/// Priority (metric) of every route that we install.
pub const PRIORITY: u32 = 20;

/// Ids of our nexthop objects, both single next hops and groups.
pub const NEXTHOP_IDS: RangeInclusive<u32> = 0x5257_0000..=0x5257_ffff;

/// The main routing table.
pub const TABLE_MAIN: u32 = libc::RT_TABLE_MAIN as u32;
