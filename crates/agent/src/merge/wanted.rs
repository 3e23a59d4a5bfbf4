//! The wanted table of one NIC: routes, and the groups that they go through.
//!
//! A group is there as long as a route has it. Names of groups come and go with every change of a prefix's attributes, and one that stayed
//! behind would go on changing with the groups that it is made of, beside those that it once wanted the same as.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::{Dirty, GroupKey, WantedWay, Words, contains_all};

#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) routes: FxHashMap<IpNet, WantedWay>,
    pub(super) groups: FxHashMap<GroupKey, Vec<IpAddr>>,
    /// Of each of them, what takes over from its members.
    pub(super) fallbacks: FxHashMap<GroupKey, Vec<IpAddr>>,
    /// How many routes each of them has.
    users: FxHashMap<GroupKey, usize>,
}

impl Wanted {
    /// Takes in a route while everything is worked out; each prefix once.
    pub(super) fn add(&mut self, prefix: IpNet, way: WantedWay, words: &Words<'_>) {
        if let WantedWay::Group(key) = way {
            self.enter(key, words);
        }
        self.routes.insert(prefix, way);
    }

    /// Gives a prefix its way, or none. True if it had one whose next hops were all lost and has none now.
    pub(super) fn set(&mut self, prefix: IpNet, way: Option<WantedWay>, words: &Words<'_>, dirty: &mut Dirty) -> bool {
        let before = self.routes.get(&prefix).copied();
        if before == way {
            return false;
        }
        if let Some(WantedWay::Group(key)) = way
            && self.enter(key, words)
        {
            dirty.groups.insert(key);
        }
        dirty.prefixes.insert(prefix);
        if before.is_some_and(|before| !self.adds_only(before, way)) {
            dirty.reduced.insert(prefix);
        }
        let stranded = way.is_none() && before.is_some_and(|before| self.leads_nowhere(before));
        match way {
            Some(way) => self.routes.insert(prefix, way),
            None => self.routes.remove(&prefix),
        };
        if let Some(WantedWay::Group(key)) = before {
            self.leave(key, dirty);
        }
        stranded
    }

    /// A group has another route; true if it is its first one.
    fn enter(&mut self, key: GroupKey, words: &Words<'_>) -> bool {
        let users = self.users.entry(key).or_insert(0);
        *users += 1;
        let is_new = *users == 1;
        if is_new {
            let members = words.members(&key);
            self.fallbacks.insert(key, words.fallback(&key, &members));
            self.groups.insert(key, members);
        }
        is_new
    }

    /// A group has a route less, and goes with its last one.
    fn leave(&mut self, key: GroupKey, dirty: &mut Dirty) {
        if let Some(users) = self.users.get_mut(&key) {
            *users -= 1;
            if *users > 0 {
                return;
            }
        }
        self.users.remove(&key);
        self.groups.remove(&key);
        self.fallbacks.remove(&key);
        dirty.groups.remove(&key);
        dirty.reduced_groups.remove(&key);
        dirty.gone.insert(key);
    }

    /// True if all next hops of a way are lost.
    fn leads_nowhere(&self, way: WantedWay) -> bool {
        match way {
            WantedWay::Group(key) => self.groups.get(&key).is_some_and(Vec::is_empty),
            _ => false,
        }
    }

    /// True if packets that went the way before can still do so.
    fn adds_only(&self, before: WantedWay, way: Option<WantedWay>) -> bool {
        match (before, way) {
            (WantedWay::Group(before), Some(WantedWay::Group(key))) => {
                match (self.groups.get(&before), self.groups.get(&key)) {
                    (Some(before), Some(members)) => contains_all(members, before),
                    _ => false,
                }
            }
            _ => false,
        }
    }
}
