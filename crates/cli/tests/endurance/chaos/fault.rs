//! What can go wrong, and how it is made good.

use std::fmt;

use crate::dice::Dice;
use crate::world::{NVAS, VMS};

pub const INSTANCES: usize = 2;
/// Of etcd.
pub const MEMBERS: usize = 3;

/// One thing that is wrong. Numbers are those of NVAs, instances, VMs and members of etcd; a manager has its instance's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL; the kernel there forwards on.
    NvaKilled(usize),
    /// SIGSTOP.
    NvaStopped(usize),
    /// Nothing comes through its link any more, and no carrier tells.
    NvaCut(usize),
    /// So many frames of a thousand do not come through.
    NvaLosesPackets(usize, u32),
    /// An instance and an NVA do not hear each other; everybody else hears both.
    NvaParted {
        nva: usize,
        instance: usize,
    },
    /// Its manager starts it again, if there is one.
    InstanceKilled(usize),
    InstanceStopped(usize),
    ManagerKilled(usize),
    ManagerStopped(usize),
    AgentKilled(usize),
    AgentStopped(usize),
    /// Between an agent and an instance.
    AgentParted {
        vm: usize,
        instance: usize,
    },
    /// A VM loses its carrier, and with it the kernel all its routes.
    VmUnplugged(usize),
    /// A member of etcd is killed; the others go on.
    EtcdKilled(usize),
    /// A member hangs.
    EtcdStopped(usize),
    /// One member is killed, another one hangs, and only this one is left: nothing can be written.
    EtcdWithoutMajority(usize),
    /// A manager and all members do not hear each other.
    EtcdParted(usize),
}

/// What only one fault at a time is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    NvaProcess(usize),
    NvaLink(usize),
    Instance(usize),
    Manager(usize),
    Agent(usize),
    AgentStream(usize, usize),
    VmLink(usize),
    Etcd,
    EtcdStream(usize),
}

impl Fault {
    /// Any of them.
    pub fn roll(dice: &mut Dice) -> Fault {
        let (nva, instance, vm) = (dice.below(NVAS), dice.below(INSTANCES), dice.below(VMS.len()));
        let member = dice.below(MEMBERS);
        match dice.below(22) {
            0 | 1 => Fault::NvaKilled(nva),
            2 => Fault::NvaStopped(nva),
            3 | 4 => Fault::NvaCut(nva),
            5 => Fault::NvaLosesPackets(nva, 50 + dice.below(400) as u32),
            6 => Fault::NvaParted { nva, instance },
            7 | 8 => Fault::InstanceKilled(instance),
            9 => Fault::InstanceStopped(instance),
            10 | 11 => Fault::ManagerKilled(instance),
            12 => Fault::ManagerStopped(instance),
            13 => Fault::AgentKilled(vm),
            14 => Fault::AgentStopped(vm),
            15 => Fault::AgentParted { vm, instance },
            16 => Fault::VmUnplugged(vm),
            17 => Fault::EtcdKilled(member),
            18 => Fault::EtcdStopped(member),
            19 | 20 => Fault::EtcdWithoutMajority(member),
            _ => Fault::EtcdParted(instance),
        }
    }

    pub fn target(self) -> Target {
        match self {
            Fault::NvaKilled(nva) | Fault::NvaStopped(nva) => Target::NvaProcess(nva),
            Fault::NvaCut(nva) | Fault::NvaLosesPackets(nva, _) | Fault::NvaParted { nva, .. } => Target::NvaLink(nva),
            Fault::InstanceKilled(instance) | Fault::InstanceStopped(instance) => Target::Instance(instance),
            Fault::ManagerKilled(manager) | Fault::ManagerStopped(manager) => Target::Manager(manager),
            Fault::AgentKilled(vm) | Fault::AgentStopped(vm) => Target::Agent(vm),
            Fault::AgentParted { vm, instance } => Target::AgentStream(vm, instance),
            Fault::VmUnplugged(vm) => Target::VmLink(vm),
            Fault::EtcdKilled(_) | Fault::EtcdStopped(_) | Fault::EtcdWithoutMajority(_) => Target::Etcd,
            Fault::EtcdParted(manager) => Target::EtcdStream(manager),
        }
    }

    /// Packets through the NVA are lost, and nobody is told.
    pub fn loses_packets_of(self) -> Option<usize> {
        match self {
            Fault::NvaCut(nva) | Fault::NvaLosesPackets(nva, _) => Some(nva),
            _ => None,
        }
    }

    /// What is alike for a reader.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::NvaKilled(_) => "NVA killed",
            Fault::NvaStopped(_) => "NVA hangs",
            Fault::NvaCut(_) => "NVA cut off",
            Fault::NvaLosesPackets(..) => "NVA loses packets",
            Fault::NvaParted { .. } => "NVA and instance parted",
            Fault::InstanceKilled(_) => "instance killed",
            Fault::InstanceStopped(_) => "instance hangs",
            Fault::ManagerKilled(_) => "manager killed",
            Fault::ManagerStopped(_) => "manager hangs",
            Fault::AgentKilled(_) => "agent killed",
            Fault::AgentStopped(_) => "agent hangs",
            Fault::AgentParted { .. } => "agent and instance parted",
            Fault::VmUnplugged(_) => "VM unplugged",
            Fault::EtcdKilled(_) => "etcd member killed",
            Fault::EtcdStopped(_) => "etcd member hangs",
            Fault::EtcdWithoutMajority(_) => "etcd without majority",
            Fault::EtcdParted(_) => "manager and etcd parted",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NvaKilled(nva) => write!(f, "nva{nva} killed"),
            Fault::NvaStopped(nva) => write!(f, "nva{nva} stopped"),
            Fault::NvaCut(nva) => write!(f, "nva{nva} cut off"),
            Fault::NvaLosesPackets(nva, permille) => write!(f, "nva{nva} loses {permille} of 1,000 packets"),
            Fault::NvaParted { nva, instance } => write!(f, "nva{nva} and instance {instance} parted"),
            Fault::InstanceKilled(instance) => write!(f, "instance {instance} killed"),
            Fault::InstanceStopped(instance) => write!(f, "instance {instance} stopped"),
            Fault::ManagerKilled(manager) => write!(f, "manager {manager} killed"),
            Fault::ManagerStopped(manager) => write!(f, "manager {manager} stopped"),
            Fault::AgentKilled(vm) => write!(f, "agent of {} killed", VMS[*vm].name),
            Fault::AgentStopped(vm) => write!(f, "agent of {} stopped", VMS[*vm].name),
            Fault::AgentParted { vm, instance } => {
                write!(f, "agent of {} and instance {instance} parted", VMS[*vm].name)
            }
            Fault::VmUnplugged(vm) => write!(f, "{} unplugged", VMS[*vm].name),
            Fault::EtcdKilled(member) => write!(f, "etcd member {member} killed"),
            Fault::EtcdStopped(member) => write!(f, "etcd member {member} stopped"),
            Fault::EtcdWithoutMajority(member) => write!(f, "only etcd member {member} left"),
            Fault::EtcdParted(manager) => write!(f, "manager {manager} and etcd parted"),
        }
    }
}
