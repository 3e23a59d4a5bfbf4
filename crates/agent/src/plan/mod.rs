//! Wanted minus installed, installed minus wanted: the operations that make the kernel's table of one NIC the wanted one.
//!
//! Pure, and in small portions: [`Planner::next`] gives the next operations, the caller carries them out, records in
//! [`Installed`] what the kernel acknowledged, and asks again until there are none. So the caller can look for news between two
//! portions, and being killed between any two operations leaves a table that the next start completes. The order:
//!
//! 1. next hops and groups: a group that changes moves all its routes at once, so it comes before everything else;
//! 2. routes that are missing or go another way;
//! 3. routes that are not wanted;
//! 4. groups, then next hops, that nothing uses any more.
//!
//! Only entries that are marked as ours are replaced or removed; the others are reported as [`Problem`]s.

mod assign;
mod homes;
mod installed;
mod queue;

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

pub use installed::{ForeignRoute, Installed, KernelWay, NexthopId};

use self::homes::Homes;
use self::queue::Queue;
use crate::merge::{Dirty, GroupKey, Merge, WantedWay};
use crate::ours::PRIORITY;

/// One change of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A next hop, on-link on the NIC's link; refused if the id is taken.
    AddNexthop {
        /// Its id.
        id: NexthopId,
        /// Its address.
        gateway: IpAddr,
    },
    /// A group; refused if the id is taken.
    AddGroup {
        /// Its id.
        id: NexthopId,
        /// Its next hops.
        members: Vec<NexthopId>,
    },
    /// Other members for a group of ours.
    ReplaceGroup {
        /// Its id.
        id: NexthopId,
        /// Its next hops.
        members: Vec<NexthopId>,
    },
    /// A route; refused if there is one with our metric.
    AddRoute {
        /// Destination.
        prefix: IpNet,
        /// Way.
        way: KernelWay,
    },
    /// Another way for a route of ours.
    ReplaceRoute {
        /// Destination.
        prefix: IpNet,
        /// Way.
        way: KernelWay,
    },
    /// Removes a route of ours.
    DeleteRoute {
        /// Destination.
        prefix: IpNet,
    },
    /// Removes a group of ours that no route uses.
    DeleteGroup {
        /// Its id.
        id: NexthopId,
    },
    /// Removes a next hop of ours that no group uses.
    DeleteNexthop {
        /// Its id.
        id: NexthopId,
    },
}

/// Why something wanted is not installed, or doesn't have its effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// A foreign route has our metric.
    #[error("{prefix}: a route of protocol {protocol} with metric {PRIORITY} is in the way; it was left alone")]
    InTheWay {
        /// Destination.
        prefix: IpNet,
        /// Whose it is.
        protocol: u8,
    },
    /// A foreign route has a lower metric.
    #[error("{prefix}: a route of protocol {protocol} with metric {priority} goes before ours")]
    Shadowed {
        /// Destination.
        prefix: IpNet,
        /// Whose it is.
        protocol: u8,
        /// Its metric.
        priority: u32,
    },
    /// The NIC would be its own next hop.
    #[error("{prefix}: not installed on this NIC, which is one of its next hops ({address})")]
    OwnAddress {
        /// Destination.
        prefix: IpNet,
        /// The NIC's address.
        address: IpAddr,
    },
    /// An IPv6 route can't have an IPv4 next hop.
    #[error("{prefix}: the next hop {gateway} is of the other address family")]
    OtherFamily {
        /// Destination.
        prefix: IpNet,
        /// The next hop.
        gateway: IpAddr,
    },
    /// All ids of our range are in use.
    #[error("no nexthop id is left in this namespace")]
    OutOfIds,
}

/// Decides what to do next.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    /// Which kernel groups stand for what.
    homes: Homes,
    /// Groups whose routes can't be installed as they are.
    refused: FxHashSet<GroupKey>,
    /// Kernel groups that were tried since the kernel was last read; tried again only after it is read again.
    tried: FxHashSet<NexthopId>,
    /// Found at the first reading and not confirmed by any word yet.
    inherited: FxHashSet<IpNet>,
    settled: bool,
    sure: bool,
    start_over: bool,
    groups: Vec<GroupKey>,
    /// Groups whose routes are to be looked at when groups are as wanted, and whether they lost members: packets go before routes.
    regrouped: Vec<(GroupKey, bool)>,
    changes: Queue,
    removals: Queue,
    tidy: bool,
    next_id: NexthopId,
    problems: FxHashMap<IpNet, Problem>,
    out_of_ids: bool,
    comparisons: u64,
}

impl Planner {
    /// A planner for what was found at the start: it stays until everything is said that can be expected
    /// ([`Merge::is_settled`]). `first_id` is where in our range the search for free ids starts.
    pub fn new(found: &Installed, first_id: NexthopId) -> Planner {
        Planner {
            inherited: found.routes().keys().copied().collect(),
            start_over: true,
            next_id: first_id,
            ..Planner::default()
        }
    }

    /// Everything is to be compared again, because the kernel was read again.
    pub fn start_over(&mut self) {
        self.start_over = true;
    }

    /// Takes in what has changed.
    pub fn note(&mut self, merge: &Merge, installed: &Installed, dirty: Dirty) {
        if merge.is_sure() != self.sure {
            self.sure = merge.is_sure();
            self.start_over = true;
        }
        if merge.is_settled() && !self.settled {
            self.settled = true;
            self.inherited = FxHashSet::default();
            self.start_over = true;
        }
        // What was found at the start and is less now by an instance's own word need not wait for the other one's.
        for prefix in &dirty.reduced {
            self.inherited.remove(prefix);
        }
        if dirty.all || self.start_over {
            self.start_over = true;
            self.forget_inherited(merge, &dirty.reduced_groups);
            return;
        }
        for key in dirty.gone.iter().filter(|key| !merge.groups().contains_key(*key)) {
            self.homes.forget(key);
            self.refused.remove(key);
        }
        for key in dirty.groups {
            self.note_group(merge, key, dirty.reduced_groups.contains(&key));
        }
        for prefix in dirty.prefixes {
            if !self.is_kept(merge, installed, &prefix) {
                self.enqueue(merge, installed, prefix);
            }
        }
    }

    /// Routes of these groups need not stay because they were found at the start.
    fn forget_inherited(&mut self, merge: &Merge, groups: &FxHashSet<GroupKey>) {
        if groups.is_empty() {
            return;
        }
        let is_of =
            |prefix: &IpNet| matches!(merge.routes().get(prefix), Some(WantedWay::Group(key)) if groups.contains(key));
        self.inherited.retain(|prefix| !is_of(prefix));
    }

    /// The next operations, at most about `limit`; empty when the kernel is as wanted, as far as it can be.
    pub fn next(&mut self, merge: &Merge, installed: &Installed, limit: usize) -> Vec<Op> {
        if std::mem::take(&mut self.start_over) {
            self.compare_all(merge, installed);
        }
        let mut ops = Vec::new();
        self.plan_groups(merge, installed, &mut ops);
        if ops.is_empty() && self.look_at_regrouped(merge, installed) {
            self.plan_groups(merge, installed, &mut ops);
        }
        if ops.is_empty() {
            self.plan_changes(merge, installed, limit, &mut ops);
        }
        if ops.is_empty() {
            self.plan_removals(merge, installed, limit, &mut ops);
        }
        if ops.is_empty() && std::mem::take(&mut self.tidy) {
            self.plan_tidying(installed, &mut ops);
        }
        ops
    }

    /// What stands in the way of the wanted table.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.problems
            .values()
            .cloned()
            .chain(self.out_of_ids.then_some(Problem::OutOfIds))
    }

    /// How many wanted groups are in the kernel, or on their way there.
    pub fn group_count(&self) -> usize {
        self.homes.groups().count()
    }

    /// How often everything was compared, which takes a look at every route.
    pub fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// True if some operation is due.
    pub fn is_busy(&self) -> bool {
        self.start_over
            || self.tidy
            || !(self.groups.is_empty()
                && self.regrouped.is_empty()
                && self.changes.is_empty()
                && self.removals.is_empty())
    }

    fn compare_all(&mut self, merge: &Merge, installed: &Installed) {
        self.comparisons += 1;
        self.groups.clear();
        self.regrouped.clear();
        self.changes.clear();
        self.removals.clear();
        self.problems.clear();
        self.tried.clear();
        self.out_of_ids = false;
        self.tidy = true;
        self.refused = merge
            .groups()
            .iter()
            .filter(|(_, members)| refuses(members, merge))
            .map(|(key, _)| *key)
            .collect();
        self.assign_ids(merge, installed);
        self.groups.extend(self.homes.groups());
        for prefix in merge
            .routes()
            .keys()
            .chain(installed.routes().keys().filter(|p| !merge.routes().contains_key(p)))
        {
            if !self.is_kept(merge, installed, prefix) {
                self.enqueue(merge, installed, *prefix);
            }
        }
    }

    /// Found at the start, and no word is against it: to be left alone until all words are heard. Words of instances that have
    /// not converged are against nothing: a better path may still come.
    fn is_kept(&self, merge: &Merge, installed: &Installed, prefix: &IpNet) -> bool {
        if !self.inherited.contains(prefix) {
            return false;
        }
        if !self.sure {
            return true;
        }
        match (merge.routes().get(prefix), installed.routes().get(prefix)) {
            (None, Some(_)) => true,
            (Some(WantedWay::Group(key)), Some(KernelWay::Group(id))) => {
                let has = installed.gateways(*id).unwrap_or_default();
                merge
                    .groups()
                    .get(key)
                    .is_some_and(|wants| wants.iter().all(|gateway| has.contains(gateway)))
            }
            _ => false,
        }
    }

    fn note_group(&mut self, merge: &Merge, key: GroupKey, reduced: bool) {
        let Some(members) = merge.groups().get(&key) else {
            return;
        };
        for id in self.homes.of(&key) {
            self.tried.remove(id);
        }
        let refused = refuses(members, merge);
        let was_refused = if refused {
            !self.refused.insert(key)
        } else {
            self.refused.remove(&key)
        };
        let inherited = !self.inherited.is_empty();
        if refused != was_refused || inherited {
            self.regrouped.push((key, reduced));
        }
        if !self.keeps_homes(merge, &key) {
            self.start_over = true;
        } else if !refused && !self.homes.of(&key).is_empty() {
            self.groups.push(key);
            self.tidy = true;
        }
    }

    /// Looks at all routes of the groups that have come to have no next hops, or some again; true if there were such groups.
    fn look_at_regrouped(&mut self, merge: &Merge, installed: &Installed) -> bool {
        let regrouped: FxHashMap<GroupKey, bool> = std::mem::take(&mut self.regrouped).into_iter().collect();
        if regrouped.is_empty() {
            return false;
        }
        for (prefix, way) in merge.routes() {
            let WantedWay::Group(key) = way else { continue };
            let Some(reduced) = regrouped.get(key) else { continue };
            if *reduced {
                self.inherited.remove(prefix);
            }
            if !self.is_kept(merge, installed, prefix) {
                self.enqueue(merge, installed, *prefix);
            }
        }
        true
    }

    /// Puts a prefix where it belongs, if there is something to do for it.
    fn enqueue(&mut self, merge: &Merge, installed: &Installed, prefix: IpNet) {
        match self.target(merge, installed, prefix) {
            Some(target) => {
                self.need_group(merge, installed, prefix, target);
                let way = self.kernel_way(installed, prefix, target);
                if way.is_none_or(|way| installed.routes().get(&prefix) != Some(&way)) {
                    self.changes.push(prefix);
                }
            }
            None if installed.routes().contains_key(&prefix) => self.removals.push(prefix),
            None => {}
        }
    }

    /// The wanted way of a prefix, if it can be installed. Notes the problem if it can't.
    fn target(&mut self, merge: &Merge, installed: &Installed, prefix: IpNet) -> Option<WantedWay> {
        self.problems.remove(&prefix);
        let way = *merge.routes().get(&prefix)?;
        // NICs of a subnet share a table; one that has IPv4 alone has no use for the other half.
        if prefix.addr().is_ipv6() && !merge.facts().addresses.iter().any(IpAddr::is_ipv6) {
            return None;
        }
        if let WantedWay::Group(key) = way {
            let members = merge.groups().get(&key)?;
            if let Some(problem) = member_problem(prefix, members, merge) {
                self.problems.insert(prefix, problem);
                return None;
            }
            if members.is_empty() {
                return None;
            }
        }
        if let Some(foreign) = installed.foreign().get(&prefix) {
            let ForeignRoute { priority, protocol } = *foreign;
            if priority == PRIORITY {
                self.problems.insert(prefix, Problem::InTheWay { prefix, protocol });
                return None;
            }
            // The kernel's own route for the address says the same as our on-link route.
            if !(way == WantedWay::OnLink && protocol == libc::RTPROT_KERNEL) {
                self.problems.insert(
                    prefix,
                    Problem::Shadowed {
                        prefix,
                        protocol,
                        priority,
                    },
                );
            }
        }
        Some(way)
    }

    /// Sees to it that the group of a way has a kernel group, which is made.
    fn need_group(&mut self, merge: &Merge, installed: &Installed, prefix: IpNet, way: WantedWay) {
        if let WantedWay::Group(key) = way
            && !self.is_at_home(merge, installed, prefix, key)
            && self.homes.of(&key).is_empty()
            && self.allocate(installed, key)
        {
            self.groups.push(key);
        }
    }

    /// The kernel's words for the way of a prefix, as they are if that is one of them; `None` if its group has no id yet.
    fn kernel_way(&self, installed: &Installed, prefix: IpNet, way: WantedWay) -> Option<KernelWay> {
        Some(match way {
            WantedWay::Group(key) => {
                let ids = self.homes.of(&key);
                match installed.routes().get(&prefix) {
                    Some(KernelWay::Group(id)) if ids.contains(id) => KernelWay::Group(*id),
                    _ => KernelWay::Group(*ids.first()?),
                }
            }
            WantedWay::OnLink => KernelWay::OnLink,
            WantedWay::Gateway(gateway) => KernelWay::Gateway(gateway),
            WantedWay::Blackhole => KernelWay::Blackhole,
        })
    }

    fn plan_groups(&mut self, merge: &Merge, installed: &Installed, ops: &mut Vec<Op>) {
        let mut added: FxHashMap<IpAddr, NexthopId> = FxHashMap::default();
        let mut group_ops = Vec::new();
        let groups = std::mem::take(&mut self.groups);
        let homes = groups
            .iter()
            .flat_map(|key| self.homes.of(key).iter().map(move |id| (*key, *id)));
        for (key, id) in homes.collect::<Vec<_>>() {
            let Some(gateways) = merge.groups().get(&key) else {
                continue;
            };
            if gateways.is_empty() || self.refused.contains(&key) || !self.tried.insert(id) {
                continue;
            }
            if installed.gateways(id).as_ref() == Some(gateways) {
                continue;
            }
            let mut members = Vec::with_capacity(gateways.len());
            for gateway in gateways {
                let known = installed.nexthop(*gateway).or_else(|| added.get(gateway).copied());
                let Some(member) = known.or_else(|| self.free_id(installed)) else {
                    break;
                };
                if known.is_none() {
                    added.insert(*gateway, member);
                    ops.push(Op::AddNexthop {
                        id: member,
                        gateway: *gateway,
                    });
                }
                members.push(member);
            }
            if members.len() == gateways.len() {
                let exists = installed.groups().contains_key(&id);
                group_ops.push(if exists {
                    Op::ReplaceGroup { id, members }
                } else {
                    Op::AddGroup { id, members }
                });
            }
        }
        // Changed groups first: packets are waiting.
        group_ops.sort_by_key(|op| matches!(op, Op::AddGroup { .. }));
        ops.extend(group_ops);
    }

    fn plan_changes(&mut self, merge: &Merge, installed: &Installed, limit: usize, ops: &mut Vec<Op>) {
        while ops.len() < limit
            && let Some(prefix) = self.changes.pop()
        {
            let Some(target) = self.target(merge, installed, prefix) else {
                if installed.routes().contains_key(&prefix) {
                    self.removals.push(prefix);
                }
                continue;
            };
            let Some(way) = self.kernel_way(installed, prefix, target) else {
                continue;
            };
            if let KernelWay::Group(id) = way
                && !installed.groups().contains_key(&id)
            {
                continue;
            }
            self.tidy = true;
            match installed.routes().get(&prefix) {
                Some(before) if *before == way => {}
                Some(_) => ops.push(Op::ReplaceRoute { prefix, way }),
                None => ops.push(Op::AddRoute { prefix, way }),
            }
        }
    }

    fn plan_removals(&mut self, merge: &Merge, installed: &Installed, limit: usize, ops: &mut Vec<Op>) {
        while ops.len() < limit
            && let Some(prefix) = self.removals.pop()
        {
            self.tidy = true;
            if installed.routes().contains_key(&prefix) && self.target(merge, installed, prefix).is_none() {
                ops.push(Op::DeleteRoute { prefix });
            }
        }
    }

    fn plan_tidying(&mut self, installed: &Installed, ops: &mut Vec<Op>) {
        let is_used = |id: &NexthopId| installed.users(*id) > 0;
        self.homes.retain(|id| is_used(&id));
        // Whoever wants one of those again wants it made again.
        self.tried.retain(|id| self.homes.has(*id));
        let mut needed: FxHashSet<NexthopId> = FxHashSet::default();
        for (id, members) in installed.groups() {
            if is_used(id) {
                needed.extend(members);
            } else {
                ops.push(Op::DeleteGroup { id: *id });
            }
        }
        ops.extend(
            installed
                .nexthops()
                .keys()
                .filter(|id| !needed.contains(id))
                .map(|id| Op::DeleteNexthop { id: *id }),
        );
    }
}

/// True if no route can go through these next hops on this NIC.
fn refuses(members: &[IpAddr], merge: &Merge) -> bool {
    members.is_empty() || members.iter().any(|member| merge.facts().addresses.contains(member))
}

fn member_problem(prefix: IpNet, members: &[IpAddr], merge: &Merge) -> Option<Problem> {
    if let Some(address) = members.iter().find(|member| merge.facts().addresses.contains(member)) {
        return Some(Problem::OwnAddress {
            prefix,
            address: *address,
        });
    }
    let other_family = |member: &&IpAddr| prefix.addr().is_ipv6() && member.is_ipv4();
    members.iter().find(other_family).map(|gateway| Problem::OtherFamily {
        prefix,
        gateway: *gateway,
    })
}
