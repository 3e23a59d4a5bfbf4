//! What a rule looks for in a route.

use bgp::wire::Community;
use bgp::{Asn, IpNet};
use serde::{Deserialize, Serialize};

use crate::route_map::Route;

/// One condition on one property of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Criterion {
    /// Its prefix. Equals: it is one of these. Contains: it is one of these or lies inside one.
    Prefix {
        /// How.
        comparison: Comparison,
        /// With what.
        prefixes: Vec<IpNet>,
    },
    /// Its standard communities. Equals: it has all of these. Contains: it has any.
    Community {
        /// How.
        comparison: Comparison,
        /// With what.
        communities: Vec<Community>,
    },
    /// Its AS path. Equals: it is this list in this order. Contains: any of these is in it.
    AsPath {
        /// How.
        comparison: Comparison,
        /// With what.
        path: Vec<Asn>,
    },
    /// Its prefix lies in one of these ranges. Beyond Azure, as are those below.
    PrefixRange(Vec<PrefixRange>),
    /// Its large communities (RFC 8092), as with [`Criterion::Community`].
    LargeCommunity {
        /// How.
        comparison: Comparison,
        /// With what.
        communities: Vec<LargeCommunity>,
    },
    /// Its MULTI_EXIT_DISC lies between these two, both included; a route without one has 0.
    Med(u32, u32),
    /// Its LOCAL_PREF lies between these two, both included; a route without one, as external peers send it, matches never.
    LocalPreference(u32, u32),
}

/// Three numbers: whose, and two of its own.
pub type LargeCommunity = (u32, u32, u32);

/// Prefixes inside one prefix whose length lies between two bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixRange {
    /// Inside this one.
    pub prefix: IpNet,
    /// At least so long.
    pub ge: u8,
    /// At most so long.
    pub le: u8,
}

impl PrefixRange {
    /// Whether a prefix is one of them.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        self.prefix.contains(prefix) && (self.ge..=self.le).contains(&prefix.prefix_len())
    }
}

/// matchCondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// As the property says.
    Equals,
    /// As the property says.
    Contains,
    /// Not Equals.
    NotEquals,
    /// Not Contains.
    NotContains,
}

impl Criterion {
    pub(super) fn matches(&self, route: &Route) -> bool {
        let attributes = &route.attributes;
        match self {
            Criterion::Prefix { comparison, prefixes } => comparison.holds(
                || prefixes.contains(&route.prefix),
                || prefixes.iter().any(|prefix| prefix.contains(&route.prefix)),
            ),
            Criterion::Community {
                comparison,
                communities,
            } => comparison.holds(
                || communities.iter().all(|each| attributes.has_community(*each)),
                || communities.iter().any(|each| attributes.has_community(*each)),
            ),
            Criterion::AsPath { comparison, path } => comparison.holds(
                || attributes.as_numbers().eq(path.iter().copied()),
                || attributes.as_numbers().any(|asn| path.contains(&asn)),
            ),
            Criterion::PrefixRange(ranges) => ranges.iter().any(|range| range.contains(&route.prefix)),
            Criterion::LargeCommunity {
                comparison,
                communities,
            } => {
                let has = |each: &LargeCommunity| attributes.large_communities().any(|there| there == *each);
                comparison.holds(|| communities.iter().all(has), || communities.iter().any(has))
            }
            // RFC 4271 §9.1.2.2 c): a route without the attribute counts as one with the lowest value.
            Criterion::Med(low, high) => (low..=high).contains(&&attributes.med().unwrap_or(0)),
            Criterion::LocalPreference(low, high) => attributes
                .local_pref()
                .is_some_and(|value| (low..=high).contains(&&value)),
        }
    }
}

impl Comparison {
    fn holds(self, equals: impl FnOnce() -> bool, contains: impl FnOnce() -> bool) -> bool {
        match self {
            Comparison::Equals => equals(),
            Comparison::Contains => contains(),
            Comparison::NotEquals => !equals(),
            Comparison::NotContains => !contains(),
        }
    }
}
