//! A kernel's routing table as the agent knows it: nexthop objects, groups, routes. Strict where the real one is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent::plan::{Installed, KernelWay, NexthopId, Op};
use ipnet::IpNet;

/// Where packets to a prefix go, in plain words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Through any of these.
    Via(BTreeSet<IpAddr>),
    /// Directly on the link.
    OnLink,
    /// Through the subnet's first address.
    Gateway(IpAddr),
    /// Dropped.
    Blackhole,
}

/// One network namespace's entries of ours.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    nexthops: BTreeMap<NexthopId, IpAddr>,
    groups: BTreeMap<NexthopId, Vec<NexthopId>>,
    routes: BTreeMap<IpNet, KernelWay>,
}

impl Kernel {
    /// Carries out an operation, or says why the real kernel would not, or what harm it would do.
    pub fn apply(&mut self, op: &Op) -> Result<(), String> {
        let taken = |kernel: &Kernel, id| kernel.nexthops.contains_key(id) || kernel.groups.contains_key(id);
        let refuse = |what: &str| Err(format!("{what}: {op:?}"));
        match op {
            Op::AddNexthop { id, .. } | Op::AddGroup { id, .. } if taken(self, id) => refuse("the id is taken"),
            Op::AddNexthop { id, gateway } => {
                self.nexthops.insert(*id, *gateway);
                Ok(())
            }
            Op::AddGroup { members, .. } | Op::ReplaceGroup { members, .. }
                if members.is_empty() || members.iter().any(|id| !self.nexthops.contains_key(id)) =>
            {
                refuse("a member does not exist")
            }
            Op::ReplaceGroup { id, .. } if !self.groups.contains_key(id) => refuse("no such group"),
            Op::AddGroup { id, members } | Op::ReplaceGroup { id, members } => {
                self.groups.insert(*id, members.clone());
                Ok(())
            }
            Op::AddRoute { prefix, .. } if self.routes.contains_key(prefix) => refuse("the route exists"),
            Op::AddRoute {
                way: KernelWay::Group(id),
                ..
            }
            | Op::ReplaceRoute {
                way: KernelWay::Group(id),
                ..
            } if !self.groups.contains_key(id) => refuse("no such group"),
            Op::AddRoute { prefix, way } | Op::ReplaceRoute { prefix, way } => {
                self.routes.insert(*prefix, *way);
                Ok(())
            }
            Op::DeleteRoute { prefix } => match self.routes.remove(prefix) {
                Some(_) => Ok(()),
                None => refuse("no such route"),
            },
            // The real kernel would take the routes with it.
            Op::DeleteGroup { id } if self.routes.values().any(|way| *way == KernelWay::Group(*id)) => {
                refuse("routes still use the group")
            }
            Op::DeleteGroup { id } => match self.groups.remove(id) {
                Some(_) => Ok(()),
                None => refuse("no such group"),
            },
            Op::DeleteNexthop { id } if self.groups.values().any(|members| members.contains(id)) => {
                refuse("a group still uses the next hop")
            }
            Op::DeleteNexthop { id } => match self.nexthops.remove(id) {
                Some(_) => Ok(()),
                None => refuse("no such next hop"),
            },
        }
    }

    /// What an agent reads.
    pub fn read(&self) -> Installed {
        let mut installed = Installed::default();
        for (id, gateway) in &self.nexthops {
            installed.add_nexthop(*id, Some(*gateway));
        }
        for (id, members) in &self.groups {
            installed.add_group(*id, members.clone());
        }
        for (prefix, way) in &self.routes {
            installed.add_route(*prefix, *way);
        }
        installed
    }

    /// The link lost its carrier: next hops, groups and the routes on them are gone, and so is every route of the link.
    pub fn lose_carrier(&mut self) {
        *self = Kernel::default();
    }

    /// Somebody removes one of our routes.
    pub fn meddle(&mut self, which: usize) {
        if let Some(prefix) = self.routes.keys().nth(which % self.routes.len().max(1)).copied() {
            self.routes.remove(&prefix);
        }
    }

    /// The table in plain words.
    pub fn table(&self) -> BTreeMap<IpNet, Way> {
        self.routes
            .iter()
            .map(|(prefix, way)| (*prefix, self.plain(*way)))
            .collect()
    }

    /// How many groups and next hops no route needs.
    pub fn litter(&self) -> usize {
        let used: BTreeSet<NexthopId> = self.routes.values().filter_map(group).collect();
        let members: BTreeSet<NexthopId> = used
            .iter()
            .filter_map(|id| self.groups.get(id))
            .flatten()
            .copied()
            .collect();
        self.groups.keys().filter(|id| !used.contains(id)).count()
            + self.nexthops.keys().filter(|id| !members.contains(id)).count()
    }

    fn plain(&self, way: KernelWay) -> Way {
        match way {
            KernelWay::Group(id) => Way::Via(
                self.groups
                    .get(&id)
                    .into_iter()
                    .flatten()
                    .filter_map(|id| self.nexthops.get(id).copied())
                    .collect(),
            ),
            KernelWay::OnLink => Way::OnLink,
            KernelWay::Gateway(gateway) => Way::Gateway(gateway),
            KernelWay::Blackhole | KernelWay::Other => Way::Blackhole,
        }
    }
}

fn group(way: &KernelWay) -> Option<NexthopId> {
    match way {
        KernelWay::Group(id) => Some(*id),
        _ => None,
    }
}
