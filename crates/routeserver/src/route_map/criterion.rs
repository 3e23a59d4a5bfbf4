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
        /// Beyond Azure: of these lengths only.
        lengths: Option<Lengths>,
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
    /// Beyond Azure: LOCAL_PREF is this.
    LocalPreference(u32),
    /// Beyond Azure: MULTI_EXIT_DISC is this.
    Med(u32),
    /// Beyond Azure: it has any of these large communities (RFC 8092).
    LargeCommunity(Vec<(u32, u32, u32)>),
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

/// Prefix lengths, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The shortest.
    pub least: u8,
    /// The longest.
    pub most: u8,
}

impl Criterion {
    pub(super) fn matches(&self, route: &Route) -> bool {
        let attributes = &route.attributes;
        match self {
            Criterion::Prefix {
                comparison,
                prefixes,
                lengths,
            } => {
                let length = route.prefix.prefix_len();
                lengths.is_none_or(|lengths| (lengths.least..=lengths.most).contains(&length))
                    && comparison.holds(
                        || prefixes.contains(&route.prefix),
                        || prefixes.iter().any(|prefix| prefix.contains(&route.prefix)),
                    )
            }
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
            Criterion::LocalPreference(value) => attributes.local_pref() == Some(*value),
            Criterion::Med(value) => attributes.med() == Some(*value),
            Criterion::LargeCommunity(any) => attributes.large_communities().any(|each| any.contains(&each)),
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
