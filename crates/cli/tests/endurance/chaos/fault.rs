//! What can go wrong, and how it is made good.

use std::fmt;

use crate::dice::Dice;
use crate::world::{NVAS, VMS};

pub const INSTANCES: usize = 2;

/// One thing that is wrong. Numbers are those of NVAs, instances and VMs.
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
    /// The manager starts it again, if there is one.
    InstanceKilled(usize),
    InstanceStopped(usize),
    ManagerKilled,
    ManagerStopped,
    AgentKilled(usize),
    AgentStopped(usize),
    /// Between an agent and an instance.
    AgentParted {
        vm: usize,
        instance: usize,
    },
    /// A VM loses its carrier, and with it the kernel all its routes.
    VmUnplugged(usize),
}

/// What only one fault at a time is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    NvaProcess(usize),
    NvaLink(usize),
    Instance(usize),
    Manager,
    Agent(usize),
    AgentStream(usize, usize),
    VmLink(usize),
}

impl Fault {
    /// Any of them.
    pub fn roll(dice: &mut Dice) -> Fault {
        let (nva, instance, vm) = (dice.below(NVAS), dice.below(INSTANCES), dice.below(VMS.len()));
        match dice.below(16) {
            0 | 1 => Fault::NvaKilled(nva),
            2 => Fault::NvaStopped(nva),
            3 | 4 => Fault::NvaCut(nva),
            5 => Fault::NvaLosesPackets(nva, 50 + dice.below(400) as u32),
            6 => Fault::NvaParted { nva, instance },
            7 | 8 => Fault::InstanceKilled(instance),
            9 => Fault::InstanceStopped(instance),
            10 => Fault::ManagerKilled,
            11 => Fault::ManagerStopped,
            12 => Fault::AgentKilled(vm),
            13 => Fault::AgentStopped(vm),
            14 => Fault::AgentParted { vm, instance },
            _ => Fault::VmUnplugged(vm),
        }
    }

    pub fn target(self) -> Target {
        match self {
            Fault::NvaKilled(nva) | Fault::NvaStopped(nva) => Target::NvaProcess(nva),
            Fault::NvaCut(nva) | Fault::NvaLosesPackets(nva, _) | Fault::NvaParted { nva, .. } => Target::NvaLink(nva),
            Fault::InstanceKilled(instance) | Fault::InstanceStopped(instance) => Target::Instance(instance),
            Fault::ManagerKilled | Fault::ManagerStopped => Target::Manager,
            Fault::AgentKilled(vm) | Fault::AgentStopped(vm) => Target::Agent(vm),
            Fault::AgentParted { vm, instance } => Target::AgentStream(vm, instance),
            Fault::VmUnplugged(vm) => Target::VmLink(vm),
        }
    }

    /// Packets through the NVA are lost, and nobody is told.
    pub fn loses_packets_of(self) -> Option<usize> {
        match self {
            Fault::NvaCut(nva) | Fault::NvaLosesPackets(nva, _) => Some(nva),
            _ => None,
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
            Fault::ManagerKilled => f.write_str("manager killed"),
            Fault::ManagerStopped => f.write_str("manager stopped"),
            Fault::AgentKilled(vm) => write!(f, "agent of {} killed", VMS[*vm].name),
            Fault::AgentStopped(vm) => write!(f, "agent of {} stopped", VMS[*vm].name),
            Fault::AgentParted { vm, instance } => {
                write!(f, "agent of {} and instance {instance} parted", VMS[*vm].name)
            }
            Fault::VmUnplugged(vm) => write!(f, "{} unplugged", VMS[*vm].name),
        }
    }
}
