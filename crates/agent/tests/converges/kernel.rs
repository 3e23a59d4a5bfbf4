//! The kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent::ours::NEXTHOP_IDS;
use agent::plan::{ForeignRoute, Installed, KernelWay, Op};
use ipnet::IpNet;

use crate::world::ModelWay;
use crate::{OWN, hop};

/// A kernel that refuses what the real one refuses, and what the real one would do but we must not ask for.
#[derive(Default)]
pub(crate) struct FakeKernel {
    pub(crate) nexthops: BTreeMap<u32, IpAddr>,
    pub(crate) groups: BTreeMap<u32, Vec<u32>>,
    pub(crate) routes: BTreeMap<IpNet, KernelWay>,
    pub(crate) foreign: BTreeMap<IpNet, ForeignRoute>,
    pub(crate) carried_out: usize,
    /// Routes that came, went or were changed.
    pub(crate) touched: Vec<IpNet>,
}

impl FakeKernel {
    pub(crate) fn carry_out(&mut self, op: &Op) {
        self.carried_out += 1;
        if let Op::AddRoute { prefix, .. } | Op::ReplaceRoute { prefix, .. } | Op::DeleteRoute { prefix } = op {
            self.touched.push(*prefix);
        }
        match op {
            Op::AddNexthop { id, gateway } => {
                assert!(NEXTHOP_IDS.contains(id) && !self.groups.contains_key(id));
                assert_eq!(self.nexthops.insert(*id, *gateway), None);
            }
            Op::AddGroup { id, members } => {
                self.check_members(members);
                assert!(NEXTHOP_IDS.contains(id) && !self.nexthops.contains_key(id));
                assert_eq!(self.groups.insert(*id, members.clone()), None);
            }
            Op::ReplaceGroup { id, members } => {
                self.check_members(members);
                assert!(self.groups.insert(*id, members.clone()).is_some());
            }
            Op::AddRoute { prefix, way } => {
                self.check_way(*way);
                assert!(!self.foreign.contains_key(prefix));
                assert_eq!(self.routes.insert(*prefix, *way), None);
            }
            Op::ReplaceRoute { prefix, way } => {
                self.check_way(*way);
                assert!(self.routes.insert(*prefix, *way).is_some());
            }
            Op::DeleteRoute { prefix } => assert!(self.routes.remove(prefix).is_some()),
            Op::DeleteGroup { id } => {
                assert!(
                    self.routes.values().all(|way| *way != KernelWay::Group(*id)),
                    "its routes would go with it"
                );
                assert!(self.groups.remove(id).is_some());
            }
            Op::DeleteNexthop { id } => {
                assert!(
                    self.groups.values().all(|members| !members.contains(id)),
                    "groups would lose it"
                );
                assert!(self.nexthops.remove(id).is_some());
            }
        }
    }

    pub(crate) fn check_members(&self, members: &[u32]) {
        assert!(!members.is_empty() && members.iter().all(|member| self.nexthops.contains_key(member)));
        assert!(members.iter().all(|member| self.nexthops[member] != hop(OWN)));
    }

    pub(crate) fn check_way(&self, way: KernelWay) {
        if let KernelWay::Group(id) = way {
            assert!(self.groups.contains_key(&id));
        }
    }

    pub(crate) fn read(&self) -> Installed {
        let mut installed = Installed::default();
        self.nexthops
            .iter()
            .for_each(|(id, gateway)| installed.add_nexthop(*id, Some(*gateway)));
        self.groups
            .iter()
            .for_each(|(id, members)| installed.add_group(*id, members.clone()));
        self.routes
            .iter()
            .for_each(|(prefix, way)| installed.add_route(*prefix, *way));
        self.foreign
            .iter()
            .for_each(|(prefix, route)| installed.add_foreign(*prefix, *route));
        installed
    }

    pub(crate) fn ways(&self) -> BTreeMap<IpNet, ModelWay> {
        let way = |way: &KernelWay| match way {
            KernelWay::Group(id) => {
                let mut members: Vec<IpAddr> = self.groups[id].iter().map(|id| self.nexthops[id]).collect();
                members.sort_unstable();
                ModelWay::Group(members)
            }
            way => ModelWay::Plain(*way),
        };
        self.routes
            .iter()
            .map(|(prefix, kernel_way)| (*prefix, way(kernel_way)))
            .collect()
    }
}
