//! One table: routes and nexthop groups as agents hold them, and the smallest difference that takes them from one generation to
//! the next.
//!
//! A group's death or return is one message whatever the number of its routes: when all routes that stay leave a group for the
//! same next hops, the group changes its members and the routes are not mentioned. So two groups may come to hold the same
//! next hops; routes that come later use either.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::{Choice, HashKey, shrink_map};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::delivery::{Group, GroupId, TableId, TableRoute, TableUpdate, Way};
use crate::keyed::KeyedMap;
use crate::vnet::{Replaced, Resolved, Target};

/// A table with its groups.
#[derive(Debug)]
pub(crate) struct Table {
    id: TableId,
    generation: u64,
    routes: KeyedMap<IpNet, Entry>,
    groups: BTreeMap<GroupId, Members>,
    by_next_hops: KeyedMap<Arc<Choice>, GroupId>,
    next_group: u32,
    /// Of an overlay: where the base does not count.
    hides: Option<Vec<IpNet>>,
    hides_untold: bool,
    /// The whole table, built when an agent asked for this generation.
    snapshot: Option<Arc<TableUpdate>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    way: Way,
    system: bool,
}

#[derive(Debug)]
struct Members {
    choice: Arc<Choice>,
    routes: usize,
    /// The choice stands in for one with next hops that were lost; every route of the group will be looked at again.
    stands_in: bool,
}

impl Table {
    pub(crate) fn new(id: TableId, key: HashKey) -> Table {
        Table {
            id,
            generation: 0,
            routes: KeyedMap::with_hasher(key),
            groups: BTreeMap::new(),
            by_next_hops: KeyedMap::with_hasher(key),
            next_group: 0,
            hides: None,
            hides_untold: false,
            snapshot: None,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.keys()
    }

    /// Whether any of the addresses is a next hop, or could become one as a fallback.
    pub(crate) fn mentions(&self, addresses: &[IpAddr]) -> bool {
        self.groups.values().any(|group| {
            let choice = &group.choice;
            let mut all = choice.next_hops.iter().chain(&choice.fallback);
            all.any(|address| addresses.contains(address))
        })
    }

    /// The whole table at its generation.
    pub(crate) fn snapshot(&mut self) -> Arc<TableUpdate> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let snapshot = Arc::new(TableUpdate {
            table: self.id,
            generation: self.generation,
            groups: self.groups.iter().map(|(id, group)| told(*id, group)).collect(),
            removed_groups: Vec::new(),
            routes: self.routes.iter().map(|(prefix, entry)| entry.told(*prefix)).collect(),
            removed: Vec::new(),
            hides: self.hides.clone(),
        });
        self.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// Hides these prefixes of the base, and no others; told with what is applied next.
    pub(crate) fn hide(&mut self, prefixes: Vec<IpNet>) {
        if self.hides.as_ref() != Some(&prefixes) {
            self.hides = Some(prefixes);
            self.hides_untold = true;
        }
    }

    /// Gives groups whose choice was replaced as a whole their other members, then makes the routes as wanted (each prefix
    /// once; `None`: no route), and hands out the difference, if there is any.
    pub(crate) fn apply(
        &mut self,
        replaced: &[Replaced],
        wanted: impl IntoIterator<Item = (IpNet, Option<Resolved>)>,
    ) -> Option<Arc<TableUpdate>> {
        let mut changed_groups = self.replace_groups(replaced);
        let moves: Vec<_> = wanted
            .into_iter()
            .filter(|(prefix, wanted)| !self.holds(prefix, wanted.as_ref()))
            .collect();
        let hides = match std::mem::take(&mut self.hides_untold) {
            true => self.hides.clone(),
            false => None,
        };
        if moves.is_empty() && changed_groups.is_empty() && hides.is_none() {
            return None;
        }
        self.generation += 1;
        self.snapshot = None;
        let mut delta = TableUpdate {
            table: self.id,
            generation: self.generation,
            groups: Vec::new(),
            removed_groups: Vec::new(),
            routes: Vec::new(),
            removed: Vec::new(),
            hides,
        };
        changed_groups.extend(self.settle_stand_ins(&moves));
        changed_groups.extend(self.change_groups_whole(&moves));
        let mut left = FxHashSet::default();
        for (prefix, wanted) in moves {
            if !self.holds(&prefix, wanted.as_ref()) {
                self.move_route(prefix, wanted, &mut delta, &mut changed_groups, &mut left);
            }
        }
        delta.removed_groups = self.remove_unused(left);
        shrink_map(&mut self.routes);
        shrink_map(&mut self.by_next_hops);
        changed_groups.sort_unstable();
        changed_groups.dedup();
        for id in changed_groups {
            if let Some(group) = self.groups.get(&id) {
                delta.groups.push(told(id, group));
            }
        }
        Some(Arc::new(delta))
    }

    fn key(&self) -> HashKey {
        *self.routes.hasher()
    }

    /// Whether the prefix already has the wanted route.
    fn holds(&self, prefix: &IpNet, wanted: Option<&Resolved>) -> bool {
        match (self.routes.get(prefix), wanted) {
            (None, None) => true,
            (Some(entry), Some(wanted)) => entry.system == wanted.system && self.leads_to(entry.way, &wanted.target),
            _ => false,
        }
    }

    fn leads_to(&self, way: Way, target: &Target) -> bool {
        match (way, target) {
            (Way::OnLink, Target::OnLink)
            | (Way::SubnetGateway, Target::SubnetGateway)
            | (Way::Blackhole, Target::Blackhole) => true,
            (Way::Group(id), Target::NextHops(next_hops)) => self
                .groups
                .get(&id)
                .is_some_and(|group| Arc::ptr_eq(&group.choice, next_hops) || group.choice == *next_hops),
            _ => false,
        }
    }

    /// Gives the groups of choices that gave way to others their other members, before any prefix was decided: what is decided then decides
    /// what the group is from there on, as long as packets go the same way. So the routes stay where they are.
    pub(crate) fn lose(&mut self, replaced: &[Replaced]) -> Option<Arc<TableUpdate>> {
        let update = self.apply(replaced, [])?;
        for told in &update.groups {
            if let Some(group) = self.groups.get_mut(&told.id) {
                group.stands_in = true;
            }
        }
        Some(update)
    }

    /// Every prefix was decided: groups are what they are.
    pub(crate) fn has_decided_losses(&mut self) {
        for group in self.groups.values_mut() {
            group.stands_in = false;
        }
    }

    /// A group that stands in becomes what most of these prefixes of it are to be, if that has the same next hops.
    fn settle_stand_ins(&mut self, moves: &[(IpNet, Option<Resolved>)]) -> Vec<GroupId> {
        if !self.groups.values().any(|group| group.stands_in) {
            return Vec::new();
        }
        let mut towards: KeyedMap<(GroupId, &Arc<Choice>), usize> = KeyedMap::with_hasher(self.key());
        for (prefix, wanted) in moves {
            let Some(Entry {
                way: Way::Group(id),
                system,
            }) = self.routes.get(prefix)
            else {
                continue;
            };
            if let Some(Resolved {
                target: Target::NextHops(choice),
                system: wanted_system,
            }) = wanted
                && wanted_system == system
                && let Some(group) = self.groups.get(id)
                && group.stands_in
                && group.choice.next_hops == choice.next_hops
            {
                *towards.entry((*id, choice)).or_default() += 1;
            }
        }
        let mut best: BTreeMap<GroupId, (usize, &Arc<Choice>)> = BTreeMap::new();
        for ((id, choice), count) in towards {
            let more = best
                .get(&id)
                .is_none_or(|(most, other)| (count, next_hops_order(choice)) > (*most, next_hops_order(other)));
            if more {
                best.insert(id, (count, choice));
            }
        }
        let moves = best.into_iter().map(|(id, (_, choice))| (id, Arc::clone(choice)));
        self.change_members(moves.collect())
    }

    fn replace_groups(&mut self, replaced: &[Replaced]) -> Vec<GroupId> {
        if replaced.is_empty() {
            return Vec::new();
        }
        let mut by_choice: KeyedMap<&Arc<Choice>, &Arc<Choice>> = KeyedMap::with_hasher(self.key());
        by_choice.extend(replaced.iter().map(|(from, to)| (from, to)));
        let groups = self.groups.iter();
        let moves: Vec<(GroupId, Arc<Choice>)> = groups
            .filter_map(|(id, group)| Some((*id, Arc::clone(by_choice.get(&group.choice)?))))
            .collect();
        self.change_members(moves)
    }

    /// Gives other members to every group that all its routes leave, most of them for the same next hops.
    fn change_groups_whole(&mut self, moves: &[(IpNet, Option<Resolved>)]) -> Vec<GroupId> {
        let moves = self.whole_group_moves(moves);
        self.change_members(moves)
    }

    fn change_members(&mut self, moves: Vec<(GroupId, Arc<Choice>)>) -> Vec<GroupId> {
        let mut changed = Vec::new();
        for (id, choice) in moves {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            let before = std::mem::replace(&mut group.choice, choice.clone());
            group.stands_in = false;
            if self.by_next_hops.get(&before) == Some(&id) {
                self.by_next_hops.remove(&before);
            }
            self.by_next_hops.entry(choice).or_insert(id);
            changed.push(id);
        }
        changed
    }

    fn whole_group_moves(&self, moves: &[(IpNet, Option<Resolved>)]) -> Vec<(GroupId, Arc<Choice>)> {
        let mut leaving: FxHashMap<GroupId, usize> = FxHashMap::default();
        let mut towards: KeyedMap<(GroupId, &Arc<Choice>), usize> = KeyedMap::with_hasher(self.key());
        for (prefix, wanted) in moves {
            let Some(Entry {
                way: Way::Group(id),
                system,
            }) = self.routes.get(prefix)
            else {
                continue;
            };
            *leaving.entry(*id).or_default() += 1;
            match wanted {
                Some(wanted) if wanted.system == *system => {
                    if let Target::NextHops(next_hops) = &wanted.target {
                        *towards.entry((*id, next_hops)).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        let mut best: BTreeMap<GroupId, (usize, &Arc<Choice>)> = BTreeMap::new();
        for ((id, next_hops), count) in towards {
            let all_leave = self.groups.get(&id).is_some_and(|group| group.routes == leaving[&id]);
            // A single route moves to the group that is there already: that keeps groups few.
            let worthwhile = count > 1 || !self.by_next_hops.contains_key(next_hops);
            let more = best
                .get(&id)
                .is_none_or(|(most, towards)| (count, next_hops_order(next_hops)) > (*most, next_hops_order(towards)));
            if all_leave && worthwhile && more {
                best.insert(id, (count, next_hops));
            }
        }
        best.into_iter()
            .map(|(id, (_, next_hops))| (id, next_hops.clone()))
            .collect()
    }

    fn move_route(
        &mut self,
        prefix: IpNet,
        wanted: Option<Resolved>,
        delta: &mut TableUpdate,
        changed_groups: &mut Vec<GroupId>,
        left: &mut FxHashSet<GroupId>,
    ) {
        let entry = wanted.map(|wanted| Entry {
            way: self.way(wanted.target, changed_groups),
            system: wanted.system,
        });
        let before = match entry {
            Some(entry) => {
                delta.routes.push(entry.told(prefix));
                self.routes.insert(prefix, entry)
            }
            None => {
                delta.removed.push(prefix);
                self.routes.remove(&prefix)
            }
        };
        if let Some(Entry {
            way: Way::Group(id), ..
        }) = before
            && let Some(group) = self.groups.get_mut(&id)
        {
            group.routes -= 1;
            left.insert(id);
        }
    }

    /// The way to a target, counting one more route for its group.
    fn way(&mut self, target: Target, changed_groups: &mut Vec<GroupId>) -> Way {
        let next_hops = match target {
            Target::OnLink => return Way::OnLink,
            Target::SubnetGateway => return Way::SubnetGateway,
            Target::Blackhole => return Way::Blackhole,
            Target::NextHops(next_hops) => next_hops,
        };
        let id = match self.by_next_hops.get(&next_hops) {
            Some(id) => *id,
            None => {
                let id = GroupId(self.next_group);
                self.next_group += 1;
                self.by_next_hops.insert(next_hops.clone(), id);
                self.groups.insert(
                    id,
                    Members {
                        choice: next_hops,
                        routes: 0,
                        stands_in: false,
                    },
                );
                changed_groups.push(id);
                id
            }
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.routes += 1;
        }
        Way::Group(id)
    }

    fn remove_unused(&mut self, left: FxHashSet<GroupId>) -> Vec<GroupId> {
        let mut removed: Vec<GroupId> = left
            .into_iter()
            .filter(|id| self.groups.get(id).is_some_and(|group| group.routes == 0))
            .collect();
        removed.sort_unstable();
        for id in &removed {
            if let Some(group) = self.groups.remove(id)
                && self.by_next_hops.get(&group.choice) == Some(id)
            {
                self.by_next_hops.remove(&group.choice);
            }
        }
        removed
    }
}

impl Entry {
    fn told(self, prefix: IpNet) -> TableRoute {
        TableRoute {
            prefix,
            way: self.way,
            system: self.system,
        }
    }
}

fn told(id: GroupId, group: &Members) -> Group {
    Group {
        id,
        members: group.choice.next_hops.clone(),
        fallback: group.choice.fallback.clone(),
        rank: group.choice.rank,
    }
}

/// Any fixed order: equal counts must not be settled by the order of a hash map.
fn next_hops_order(next_hops: &Choice) -> (&[IpAddr], &[IpAddr], rib::Rank) {
    (&next_hops.next_hops, &next_hops.fallback, next_hops.rank)
}
