//! Which wanted groups live in which kernel groups: the routes of a wanted group may go through several kernel groups, and a kernel group
//! may have routes of several wanted ones, as long as all of them want the same.
//!
//! What instances call one group or two depends on the order in which they heard of things: after a restart the same routes may be one group
//! that were two before, or the other way round. Packets go the same ways, so no route need move.

use rustc_hash::FxHashMap;

use super::NexthopId;
use crate::merge::GroupKey;

/// Both directions of it. A home may have no route of the group any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes {
    by_group: FxHashMap<GroupKey, Vec<NexthopId>>,
    by_id: FxHashMap<NexthopId, Vec<GroupKey>>,
}

impl Homes {
    pub(super) fn add(&mut self, key: GroupKey, id: NexthopId) {
        let ids = self.by_group.entry(key).or_default();
        if !ids.contains(&id) {
            ids.push(id);
            self.by_id.entry(id).or_default().push(key);
        }
    }

    pub(super) fn remove(&mut self, key: &GroupKey, id: NexthopId) {
        remove(&mut self.by_group, *key, &id);
        remove(&mut self.by_id, id, key);
    }

    /// A wanted group has no route any more.
    pub(super) fn forget(&mut self, key: &GroupKey) {
        for id in self.by_group.remove(key).unwrap_or_default() {
            remove(&mut self.by_id, id, key);
        }
    }

    /// The kernel groups of a wanted one.
    pub(super) fn of(&self, key: &GroupKey) -> &[NexthopId] {
        self.by_group.get(key).map_or(&[], Vec::as_slice)
    }

    /// The wanted groups that a kernel group stands for.
    pub(super) fn residents(&self, id: NexthopId) -> &[GroupKey] {
        self.by_id.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has(&self, id: NexthopId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NexthopId> {
        self.by_id.keys().copied()
    }

    /// Wanted groups that have one or more.
    pub(super) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.by_group.keys()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(NexthopId) -> bool) {
        let gone: Vec<NexthopId> = self.ids().filter(|id| !keep(*id)).collect();
        for id in gone {
            for key in self.by_id.remove(&id).into_iter().flatten() {
                remove(&mut self.by_group, key, &id);
            }
        }
    }
}

fn remove<K: Eq + std::hash::Hash, V: PartialEq>(map: &mut FxHashMap<K, Vec<V>>, key: K, value: &V) {
    if let Some(values) = map.get_mut(&key) {
        values.retain(|each| each != value);
        if values.is_empty() {
            map.remove(&key);
        }
    }
}
