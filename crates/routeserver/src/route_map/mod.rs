//! Route maps (az §3): ordered rules that let a route pass, change it, or drop it.
//!
//! ```text
//! route ─► rule 1 ─► rule 2 ─► … ─► route      a rule whose criteria all match applies its actions, in order
//!            │ Terminate ──────────────►        Continue goes on with the changed route, Terminate does not
//!            └ Drop ─► nothing
//! ```
//!
//! Knows routes and rules. Knows nothing of peers, tables, or where a map is attached: an inbound map comes before the decision, an
//! outbound one after it. A map is a function: the same route gives the same answer.

mod action;
mod criterion;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeSet;

use bgp::IpNet;
use bgp::wire::{Community, PathAttributes};
use rib::RouteSource;
use serde::{Deserialize, Serialize};

pub use action::Action;
pub use criterion::{Comparison, Criterion, LargeCommunity, PrefixRange};

/// Communities that Azure gives meaning to; no map takes them off a route (az §2.4).
pub const RESERVED_COMMUNITIES: [Community; 11] = [
    Community::new(65517, 12001),
    Community::new(65517, 12002),
    Community::new(65517, 12003),
    Community::new(65517, 12005),
    Community::new(65517, 12006),
    Community::new(65517, 12076),
    Community::new(65517, 65517),
    Community::new(65518, 65518),
    Community::new(65518, 12076),
    Community::new(65515, 10000),
    Community::new(65515, 20000),
];

/// Well-known communities (RFC 1997) that keep a route from external peers, as all of ours are. A summary has those of its parts.
pub(crate) const KEPT_BACK: [Community; 3] = [
    Community::NO_ADVERTISE,
    Community::NO_EXPORT,
    Community::NO_EXPORT_SUBCONFED,
];

/// An ordered list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMap {
    /// The first that matches is applied first.
    pub rules: Vec<Rule>,
}

/// What happens to routes of some kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// All of them must match; without any, every route does.
    pub criteria: Vec<Criterion>,
    /// Applied in order; without any, the route passes as it is.
    pub actions: Vec<Action>,
    /// Whether the rules that follow see the route too.
    pub next_step: NextStep,
}

/// nextStepIfMatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextStep {
    /// The next rule sees the route as this one left it.
    Continue,
    /// The route is done.
    Terminate,
}

/// A route on its way through a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub prefix: IpNet,
    /// How.
    pub attributes: PathAttributes,
    /// Where it came from.
    pub source: RouteSource,
    /// It stands for all routes of which a rule has made the same prefix: their AS paths are gone, and their communities but for those that
    /// keep a route back.
    pub is_summary: bool,
    /// As a summary it keeps what its parts have in common, and these are one part's.
    pub keeps_attributes: bool,
    /// What an inbound map prefers it by, if it says so.
    pub import_preference: Option<u32>,
    /// The MULTI_EXIT_DISC that it is told with, if an outbound map says so.
    pub med: Option<u32>,
}

impl Route {
    /// One that no rule has seen.
    pub fn new(prefix: IpNet, attributes: PathAttributes, source: RouteSource) -> Route {
        Route {
            prefix,
            attributes,
            source,
            is_summary: false,
            keeps_attributes: false,
            import_preference: None,
            med: None,
        }
    }
}

/// What a map does with a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passes, perhaps changed.
    Pass(Route),
    /// It is dropped by the rule of this name.
    Dropped {
        /// Which.
        rule: String,
    },
}

impl RouteMap {
    /// The import preferences that routes may have after it; `None`: that of their peer.
    pub(crate) fn import_preferences(&self) -> BTreeSet<Option<u32>> {
        let actions = self.rules.iter().flat_map(|rule| &rule.actions);
        let given = actions.filter_map(|action| match action {
            Action::SetImportPreference(preference) => Some(Some(*preference)),
            _ => None,
        });
        given.chain([None]).collect()
    }

    /// What becomes of a route. One that no rule matches passes as it is.
    pub fn apply(&self, mut route: Route) -> Outcome {
        for rule in &self.rules {
            if !rule.matches(&route) {
                continue;
            }
            for action in &rule.actions {
                route = match action.apply(route) {
                    Some(route) => route,
                    None => {
                        return Outcome::Dropped {
                            rule: rule.name.clone(),
                        };
                    }
                };
            }
            if rule.next_step == NextStep::Terminate {
                break;
            }
        }
        Outcome::Pass(route)
    }
}

impl Rule {
    fn matches(&self, route: &Route) -> bool {
        self.criteria.iter().all(|criterion| criterion.matches(route))
    }
}
