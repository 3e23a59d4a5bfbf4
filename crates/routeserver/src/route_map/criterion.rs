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
