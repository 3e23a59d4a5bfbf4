//! What is in the kernel for one NIC: ours, and what is in our way. Read from the kernel, then kept by what the kernel acknowledged.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Op;
use crate::ours::PRIORITY;

/// A nexthop object's id.
pub type NexthopId = u32;

/// A route's way in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelWay {
    /// Through a nexthop group.
    Group(NexthopId),
    /// Scope link on the NIC's link.
    OnLink,
    /// Through a gateway on the NIC's link.
    Gateway(IpAddr),
    /// Dropped.
    Blackhole,
    /// Marked as ours, but of a form that we don't write.
    Other,
}

/// Somebody else's route that comes before ours, or stands where ours would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignRoute {
    /// Its metric, at most ours.
    pub priority: u32,
    /// Its `rtm_protocol`.
    pub protocol: u8,
}

/// What is in the kernel for one NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    nexthops: FxHashMap<NexthopId, Option<IpAddr>>,
    by_gateway: FxHashMap<IpAddr, NexthopId>,
    groups: FxHashMap<NexthopId, Vec<NexthopId>>,
    taken: FxHashSet<NexthopId>,
    other_kind: FxHashSet<NexthopId>,
    routes: FxHashMap<IpNet, KernelWay>,
    users: FxHashMap<NexthopId, usize>,
    foreign: FxHashMap<IpNet, ForeignRoute>,
}

impl Installed {
    /// Takes in one of our nexthop objects on this NIC's link. `None`: not one that a group of ours should have.
    pub fn add_nexthop(&mut self, id: NexthopId, gateway: Option<IpAddr>) {
        self.nexthops.insert(id, gateway);
        if let Some(gateway) = gateway {
            self.by_gateway.entry(gateway).or_insert(id);
        }
    }

    /// Takes in a group. It is ours if it has members on this NIC's link, so the next hops come first.
    pub fn add_group(&mut self, id: NexthopId, members: Vec<NexthopId>) {
        if members.iter().any(|member| self.nexthops.contains_key(member)) {
            self.groups.insert(id, members);
        } else {
            self.taken.insert(id);
        }
    }

    /// A group of ours is not of the kind that groups are to be: it is not changed, its routes go over to another one.
    pub fn note_other_kind(&mut self, id: NexthopId) {
        self.other_kind.insert(id);
    }

    /// Whether a group may stand for a wanted one.
    pub fn is_of_our_kind(&self, id: NexthopId) -> bool {
        self.groups.contains_key(&id) && !self.other_kind.contains(&id)
    }

    /// Takes in an id of our range that somebody else has (perhaps we, for another NIC).
    pub fn add_taken(&mut self, id: NexthopId) {
        self.taken.insert(id);
    }

    /// An object that is none of ours has come, and has its id, or has gone.
    pub fn note_other(&mut self, id: NexthopId, is_there: bool) {
        match is_there {
            true => self.taken.insert(id),
            false => self.taken.remove(&id),
        };
    }

    /// Takes in a route of ours.
    pub fn add_route(&mut self, prefix: IpNet, way: KernelWay) {
        let before = self.routes.insert(prefix, way);
        self.count(before, Some(way));
    }

    /// Takes in somebody else's route.
    pub fn add_foreign(&mut self, prefix: IpNet, route: ForeignRoute) {
        if route.priority <= PRIORITY {
            let first = self.foreign.entry(prefix).or_insert(route);
            if route.priority < first.priority {
                *first = route;
            }
        }
    }

    /// Our routes.
    pub fn routes(&self) -> &FxHashMap<IpNet, KernelWay> {
        &self.routes
    }

    /// Somebody else's routes with a metric up to ours.
    pub fn foreign(&self) -> &FxHashMap<IpNet, ForeignRoute> {
        &self.foreign
    }

    /// Our groups with their members.
    pub fn groups(&self) -> &FxHashMap<NexthopId, Vec<NexthopId>> {
        &self.groups
    }

    /// Our next hops with their gateways.
    pub fn nexthops(&self) -> &FxHashMap<NexthopId, Option<IpAddr>> {
        &self.nexthops
    }

    /// The nexthop object for a gateway.
    pub fn nexthop(&self, gateway: IpAddr) -> Option<NexthopId> {
        self.by_gateway.get(&gateway).copied()
    }

    /// A group's gateways, sorted; `None` if a member is none of ours.
    pub fn gateways(&self, group: NexthopId) -> Option<Vec<IpAddr>> {
        let members = self.groups.get(&group)?;
        let mut gateways = members
            .iter()
            .map(|id| self.nexthops.get(id).copied().flatten())
            .collect::<Option<Vec<IpAddr>>>()?;
        gateways.sort_unstable();
        Some(gateways)
    }

    /// How many of our routes go through a group.
    pub fn users(&self, group: NexthopId) -> usize {
        self.users.get(&group).copied().unwrap_or(0)
    }

    /// True if a nexthop object has this id.
    pub fn has_id(&self, id: NexthopId) -> bool {
        self.is_ours(id) || self.taken.contains(&id)
    }

    /// True if a next hop or group of ours has this id.
    pub fn is_ours(&self, id: NexthopId) -> bool {
        self.nexthops.contains_key(&id) || self.groups.contains_key(&id)
    }

    /// How many of our routes, groups and next hops are not as here in what was read since: somebody else changed or removed them.
    pub fn changed_in(&self, read: &Installed) -> usize {
        let routes = self
            .routes
            .iter()
            .filter(|(prefix, way)| read.routes.get(*prefix) != Some(*way));
        let groups = self
            .groups
            .iter()
            .filter(|(id, members)| read.groups.get(*id) != Some(*members));
        let nexthops = self
            .nexthops
            .iter()
            .filter(|(id, gateway)| read.nexthops.get(*id) != Some(*gateway));
        routes.count() + groups.count() + nexthops.count()
    }

    /// Takes in an operation that the kernel has carried out.
    pub fn record(&mut self, op: &Op) {
        match op {
            Op::AddNexthop { id, gateway } => self.add_nexthop(*id, Some(*gateway)),
            Op::AddGroup { id, members } | Op::ReplaceGroup { id, members } => {
                self.groups.insert(*id, members.clone());
            }
            Op::AddRoute { prefix, way } | Op::ReplaceRoute { prefix, way } => self.add_route(*prefix, *way),
            Op::DeleteRoute { prefix } => {
                let before = self.routes.remove(prefix);
                self.count(before, None);
            }
            Op::DeleteGroup { id } => {
                self.groups.remove(id);
                self.other_kind.remove(id);
            }
            Op::DeleteNexthop { id } => {
                if let Some(Some(gateway)) = self.nexthops.remove(id)
                    && self.by_gateway.get(&gateway) == Some(id)
                {
                    self.by_gateway.remove(&gateway);
                }
            }
        }
    }

    fn count(&mut self, before: Option<KernelWay>, after: Option<KernelWay>) {
        if let Some(KernelWay::Group(id)) = before
            && let Some(count) = self.users.get_mut(&id)
        {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&id);
            }
        }
        if let Some(KernelWay::Group(id)) = after {
            *self.users.entry(id).or_insert(0) += 1;
        }
    }
}
