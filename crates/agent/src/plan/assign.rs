//! Which kernel group stands for which wanted group.
//!
//! Names of groups don't outlive an instance, and the agent remembers nothing. So after each comparison of everything the
//! groups are found again by their routes: a wanted group takes over the kernel group that its routes go through. A restart of
//! an instance or of the agent then moves no route.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Installed, KernelWay, NexthopId, Planner};
use crate::merge::{GroupKey, Merge, WantedWay};
use crate::ours::NEXTHOP_IDS;

impl Planner {
    /// Keeps the ids that still hold and lets groups without one take over what their routes already use.
    pub(super) fn assign_ids(&mut self, merge: &Merge, installed: &Installed) {
        self.ids
            .retain(|key, id| merge.groups().contains_key(key) && installed.is_of_our_kind(*id));
        let mut claimed: FxHashSet<NexthopId> = self.ids.values().copied().collect();
        let mut claims = claims(merge, installed);
        claims.sort_unstable_by(|a, b| b.strength().cmp(&a.strength()).then(a.id.cmp(&b.id)));
        for claim in claims {
            if claim.is_good(self.settled) && !self.ids.contains_key(&claim.key) && claimed.insert(claim.id) {
                self.ids.insert(claim.key, claim.id);
            }
        }
    }

    /// The kernel group that a route of the group goes through already, if it has the same members and stands for no other.
    pub(super) fn take_over(&mut self, merge: &Merge, installed: &Installed, prefix: IpNet, key: GroupKey) -> bool {
        let Some(KernelWay::Group(id)) = installed.routes().get(&prefix) else {
            return false;
        };
        let same_members = installed.is_of_our_kind(*id)
            && installed
                .gateways(*id)
                .is_some_and(|members| merge.groups().get(&key) == Some(&members));
        let takes = same_members && !self.is_assigned(*id);
        if takes {
            self.ids.insert(key, *id);
        }
        takes
    }

    /// An id for a group that has none; false if there is none left.
    pub(super) fn allocate(&mut self, installed: &Installed, key: GroupKey) -> bool {
        let id = self.free_id(installed);
        self.ids.extend(id.map(|id| (key, id)));
        id.is_some()
    }

    /// The next id that nothing has.
    pub(super) fn free_id(&mut self, installed: &Installed) -> Option<NexthopId> {
        let (first, last) = (*NEXTHOP_IDS.start(), *NEXTHOP_IDS.end());
        for _ in NEXTHOP_IDS {
            let id = self.next_id.clamp(first, last);
            self.next_id = if id == last { first } else { id + 1 };
            // Ids go round, so one that was given in this portion comes up again only when all others are in use.
            if !installed.has_id(id) && !self.is_assigned(id) {
                return Some(id);
            }
        }
        self.out_of_ids = true;
        None
    }

    fn is_assigned(&self, id: NexthopId) -> bool {
        self.ids.values().any(|assigned| *assigned == id)
    }
}

/// Routes of a wanted group go through a kernel group.
struct Claim {
    key: GroupKey,
    id: NexthopId,
    routes: usize,
    same_members: bool,
    /// No other route goes through it, so that its members can be changed.
    alone: bool,
}

impl Claim {
    /// While not all words are heard, no group that was found loses members.
    fn is_good(&self, settled: bool) -> bool {
        self.same_members || (settled && self.alone)
    }

    fn strength(&self) -> (bool, usize) {
        (self.same_members, self.routes)
    }
}

fn claims(merge: &Merge, installed: &Installed) -> Vec<Claim> {
    let mut counts: FxHashMap<(GroupKey, NexthopId), usize> = FxHashMap::default();
    for (prefix, way) in merge.routes() {
        if let (WantedWay::Group(key), Some(KernelWay::Group(id))) = (way, installed.routes().get(prefix)) {
            *counts.entry((*key, *id)).or_insert(0) += 1;
        }
    }
    let mut gateways: FxHashMap<NexthopId, Option<Vec<IpAddr>>> = FxHashMap::default();
    let claim = |((key, id), routes): ((GroupKey, NexthopId), usize)| {
        let members = gateways.entry(id).or_insert_with(|| installed.gateways(id));
        let same_members = members.is_some() && members.as_ref() == merge.groups().get(&key);
        let exists = installed.groups().contains_key(&id);
        Claim {
            key,
            id,
            routes,
            same_members,
            alone: exists && installed.users(id) == routes,
        }
    };
    let of_our_kind = |((_, id), _): &((GroupKey, NexthopId), usize)| installed.is_of_our_kind(*id);
    counts.into_iter().filter(of_our_kind).map(claim).collect()
}
