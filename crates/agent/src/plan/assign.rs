//! Which kernel group stands for which wanted group.
//!
//! Names of groups don't outlive an instance, and the agent remembers nothing. So after each comparison of everything the
//! groups are found again by their routes: a wanted group takes over the kernel groups that its routes go through, together with those that
//! want the same. A restart of an instance or of the agent then moves no route.
//!
//! When those that want the same come to want different things, one of them keeps the kernel group and the routes of the others move to
//! other ones. If what is kept is changed, that comes first, and the routes that are still to move follow it for so long. So:
//!
//! - A kernel group is changed only into what does no harm to any route in it: next hops that it has now, or that the route wants as well.
//!   An NVA that never announced a prefix doesn't get its packets, not even for a moment.
//! - Where packets of a route are lost as it is, since it doesn't want any next hop that it has, not even for want of better, there is
//!   nothing to harm. A next hop that died then makes nobody wait for the moves of single routes.
//! - Of those who may have it, who has the most routes gets it: the fewest have to move. So a next hop that died goes from the kernel group
//!   at once if most routes go without it, and those that still have it do without for a moment; if few do, they move.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{Installed, KernelWay, NexthopId, Planner};
use crate::merge::{GroupKey, Merge, WantedWay};
use crate::ours::NEXTHOP_IDS;

impl Planner {
    /// Keeps the homes that still hold and lets wanted groups take over what their routes already use.
    pub(super) fn assign_ids(&mut self, merge: &Merge, installed: &Installed) {
        let before = std::mem::take(&mut self.homes);
        let mut found = found(merge, installed);
        for id in before.ids() {
            // One that is being filled.
            found.entry(id).or_default();
        }
        let mut found: Vec<(NexthopId, Vec<(GroupKey, usize)>)> = found.into_iter().collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        for (id, mut groups) in found.into_iter().filter(|(id, _)| installed.is_of_our_kind(*id)) {
            groups.sort_unstable();
            let lived_here = before.residents(id);
            if groups.is_empty() {
                let wanted = lived_here.iter().filter(|key| merge.groups().contains_key(*key));
                groups.extend(wanted.map(|key| (*key, 0)));
            }
            let present = installed.gateways(id).unwrap_or_default();
            groups.retain(|(key, _)| !self.refused.contains(key));
            let claims = claims(merge, installed, id, &groups, lived_here);
            let good = claims.iter().filter(|claim| {
                let mut others = claims.iter().filter(|other| other.wanted != claim.wanted);
                claim.is_good(self.settled) && others.all(|other| claim.is_harmless_to(other, merge, &present))
            });
            if let Some(claim) = good.max_by_key(|claim| claim.strength()) {
                claim.keys.iter().for_each(|key| self.homes.add(*key, id));
            }
        }
    }

    /// Whether a route of the wanted group is in a kernel group that stands for it, or may: one that stands for groups that want the same,
    /// or for none and has the same members.
    pub(super) fn is_at_home(&mut self, merge: &Merge, installed: &Installed, prefix: IpNet, key: GroupKey) -> bool {
        let Some(KernelWay::Group(id)) = installed.routes().get(&prefix) else {
            return false;
        };
        if self.homes.of(&key).contains(id) {
            return true;
        }
        let may_be = self.may_live_in(merge, installed, *id, key);
        if may_be {
            self.homes.add(key, *id);
        }
        may_be
    }

    fn may_live_in(&self, merge: &Merge, installed: &Installed, id: NexthopId, key: GroupKey) -> bool {
        if !installed.is_of_our_kind(id) {
            return false;
        }
        let wanted = wanted(merge, &key);
        let is_wanted = |key: &&GroupKey| merge.groups().get(*key).is_some_and(|members| !members.is_empty());
        let mut others = self.homes.residents(id).iter().filter(is_wanted).peekable();
        match others.peek() {
            Some(_) => others.all(|other| self::wanted(merge, other) == wanted),
            None => installed.gateways(id).as_deref() == wanted.map(|(members, _)| members),
        }
    }

    /// A kernel group for one that has none; false if there is no id left.
    pub(super) fn allocate(&mut self, installed: &Installed, key: GroupKey) -> bool {
        let id = self.free_id(installed);
        if let Some(id) = id {
            self.homes.add(key, id);
        }
        id.is_some()
    }

    /// The next id that nothing has.
    pub(super) fn free_id(&mut self, installed: &Installed) -> Option<NexthopId> {
        let (first, last) = (*NEXTHOP_IDS.start(), *NEXTHOP_IDS.end());
        for _ in NEXTHOP_IDS {
            let id = self.next_id.clamp(first, last);
            self.next_id = if id == last { first } else { id + 1 };
            // Ids go round, so one that was given in this portion comes up again only when all others are in use.
            if !installed.has_id(id) && !self.homes.has(id) {
                return Some(id);
            }
        }
        self.out_of_ids = true;
        None
    }

    /// A wanted group has other members now. False if it shares a kernel group with one that wants others than it: who stays there is
    /// then to be found out by their routes.
    pub(super) fn keeps_homes(&mut self, merge: &Merge, key: &GroupKey) -> bool {
        let members = merge.groups().get(key).filter(|members| !members.is_empty());
        let mut keeps = true;
        for id in self.homes.of(key).to_vec() {
            let mut others = self.homes.residents(id).iter().filter(|other| *other != key);
            let of_others = |other: &GroupKey| merge.groups().get(other).filter(|members| !members.is_empty());
            if others.all(|other| of_others(other).is_none_or(|others| Some(others) == members)) {
                continue;
            }
            match members {
                Some(_) => keeps = false,
                // Its routes go, or have gone; the others' stay.
                None => self.homes.remove(key, id),
            }
        }
        keeps
    }
}

/// Members, and what takes over from them.
type Wanted<'a> = (&'a [IpAddr], &'a [IpAddr]);

/// What makes two wanted groups the same: the members, and what takes over from them; that only when all is said, since in the meantime
/// some words may not have been.
fn wanted<'a>(merge: &'a Merge, key: &GroupKey) -> Option<Wanted<'a>> {
    let members = merge.groups().get(key)?;
    let fallback = match merge.is_settled() {
        true => merge.fallback(key),
        false => &[],
    };
    Some((members, fallback))
}

/// Routes of wanted groups that want the same go through a kernel group.
struct Claim<'a> {
    wanted: Wanted<'a>,
    keys: Vec<GroupKey>,
    routes: usize,
    /// The kernel group has the wanted members.
    same_members: bool,
    /// It stood for one of them.
    lived_here: bool,
    /// No other route goes through it, so that its members can be changed.
    alone: bool,
}

impl Claim<'_> {
    /// While not all words are heard, no group that was found loses members.
    fn is_good(&self, settled: bool) -> bool {
        self.same_members || self.lived_here || (settled && self.alone)
    }

    /// True if the kernel group, which has the next hops `present`, can get the claim's before the other's routes have left it.
    fn is_harmless_to(&self, other: &Claim<'_>, merge: &Merge, present: &[IpAddr]) -> bool {
        let members = other.wanted.0;
        let fallback = other.keys.iter().flat_map(|key| merge.fallback(key));
        let mut named = members.iter().chain(fallback);
        let is_lost = !named.any(|hop| present.contains(hop));
        let is_right = |hop: &IpAddr| present.contains(hop) || members.contains(hop);
        other.routes == 0 || is_lost || self.wanted.0.iter().all(is_right)
    }

    fn strength(&self) -> (usize, bool) {
        (self.routes, self.same_members)
    }
}

/// How many routes of which wanted groups go through each kernel group.
fn found(merge: &Merge, installed: &Installed) -> FxHashMap<NexthopId, Vec<(GroupKey, usize)>> {
    let mut counts: FxHashMap<(GroupKey, NexthopId), usize> = FxHashMap::default();
    for (prefix, way) in merge.routes() {
        if let (WantedWay::Group(key), Some(KernelWay::Group(id))) = (way, installed.routes().get(prefix)) {
            *counts.entry((*key, *id)).or_insert(0) += 1;
        }
    }
    let mut found: FxHashMap<NexthopId, Vec<(GroupKey, usize)>> = FxHashMap::default();
    for ((key, id), routes) in counts {
        found.entry(id).or_default().push((key, routes));
    }
    found
}

/// Who may have a kernel group, by what they want.
fn claims<'a>(
    merge: &'a Merge,
    installed: &Installed,
    id: NexthopId,
    groups: &[(GroupKey, usize)],
    lived_here: &[GroupKey],
) -> Vec<Claim<'a>> {
    let has = installed.gateways(id);
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for (key, routes) in groups {
        let Some(wanted) = wanted(merge, key) else { continue };
        let position = claims.iter().position(|claim| claim.wanted == wanted);
        let position = position.unwrap_or_else(|| {
            let claim = Claim {
                wanted,
                keys: Vec::new(),
                routes: 0,
                same_members: has.as_deref() == Some(wanted.0),
                lived_here: false,
                alone: false,
            };
            claims.push(claim);
            claims.len() - 1
        });
        let claim = &mut claims[position];
        claim.keys.push(*key);
        claim.routes += routes;
        claim.lived_here |= lived_here.contains(key);
        claim.alone = claim.routes > 0 && claim.routes == installed.users(id);
    }
    claims
}
