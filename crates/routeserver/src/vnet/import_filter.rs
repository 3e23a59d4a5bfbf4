//! Which BGP routes come to the subnets of a route table (beyond Azure, az §6 #14): rules on prefixes and next hops, the first that matches
//! decides. Next hops are looked at one by one, so that a segment may use one of two NVAs that others use both of.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::Choice;

use crate::intent::{ImportFilter, ImportRule};

/// What becomes of a route at a filter.
#[derive(Debug)]
pub(crate) enum Admitted<'a> {
    /// It comes, perhaps with fewer next hops.
    Yes(Cow<'a, Arc<Choice>>),
    /// This rule keeps it away; `None`: no rule lets it in.
    No(Option<&'a str>),
}

impl ImportFilter {
    /// Lets in those of the best next hops that may come; if none may, those of the runner-up that may.
    pub(crate) fn admit<'a>(&'a self, prefix: &IpNet, choice: &'a Arc<Choice>) -> Admitted<'a> {
        let kept = |next_hops: &[IpAddr]| -> Vec<IpAddr> {
            let mut kept = next_hops.to_vec();
            kept.retain(|next_hop| self.verdict(prefix, next_hop).is_ok());
            kept
        };
        let (best, other) = (kept(&choice.next_hops), kept(&choice.fallback));
        if best.len() == choice.next_hops.len() && other.len() == choice.fallback.len() {
            return Admitted::Yes(Cow::Borrowed(choice));
        }
        let (next_hops, fallback) = match best.is_empty() {
            true => (other, Vec::new()),
            false => (best, other),
        };
        match (next_hops.is_empty(), choice.next_hops.first()) {
            (true, Some(first)) => Admitted::No(self.verdict(prefix, first).err().flatten()),
            (true, None) => Admitted::No(None),
            (false, _) => Admitted::Yes(Cow::Owned(Arc::new(Choice {
                next_hops,
                fallback,
                rank: choice.rank,
            }))),
        }
    }

    /// Whether any rule looks at next hops: then routes come and go where others only see other next hops.
    pub(crate) fn looks_at_next_hops(&self) -> bool {
        self.rules.iter().any(|rule| !rule.next_hops.is_empty())
    }

    fn verdict(&self, prefix: &IpNet, next_hop: &IpAddr) -> Result<(), Option<&str>> {
        match self.rules.iter().find(|rule| rule.matches(prefix, next_hop)) {
            Some(rule) if rule.allow => Ok(()),
            Some(rule) => Err(Some(&rule.name)),
            None if self.allow_others => Ok(()),
            None => Err(None),
        }
    }
}

impl ImportRule {
    fn matches(&self, prefix: &IpNet, next_hop: &IpAddr) -> bool {
        (self.prefixes.is_empty() || self.prefixes.iter().any(|range| range.contains(prefix)))
            && (self.next_hops.is_empty() || self.next_hops.contains(next_hop))
    }
}
