//! What may be lost, and what a kernel has to hold, while things are wrong: pure, from the faults and when they began.
//!
//! A round begins with all well. So an NVA that nothing is done to in the round has its sessions and its routes in every kernel: it
//! *survives* for a VM if an instance survives that hears it and is heard by the VM's agent, which survives, too. Then a packet may be lost
//! only within the detection time after a fault that loses packets without a word. All else (kills, stops, parted processes) loses none.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::fault::{Fault, INSTANCES};
use crate::world::NVAS;

/// How soon what nobody tells is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Detection {
    /// BFD between instances and NVAs, and what it takes until kernels follow.
    pub of_paths: Duration,
    /// An instance that says nothing counts no more with agents. Until then its word does.
    pub of_instances: Duration,
}

/// Faults and when they began; the round's end makes all good.
pub struct Round {
    pub faults: Vec<(Fault, Instant)>,
    pub end: Instant,
}

/// On its way, or just sent, when it happened.
const UNDER_WAY: Duration = Duration::from_millis(50);

impl Round {
    /// When packets of a VM may be lost.
    pub fn may_lose(&self, vm: usize, detection: Detection) -> Vec<RangeInclusive<Instant>> {
        let Some(first) = self.faults.iter().map(|(_, began)| *began).min() else {
            return Vec::new();
        };
        let until_the_end = |since: Instant| since.checked_sub(UNDER_WAY).unwrap_or(since)..=self.end;
        if self.has(Fault::VmUnplugged(vm)) || self.survivors(vm).is_empty() && self.agent_survives(vm) {
            return vec![until_the_end(first)];
        }
        let silent = self
            .faults
            .iter()
            .filter(|(fault, _)| fault.loses_packets_of().is_some());
        let windows = silent.map(|(fault, began)| match fault {
            // Nobody can do anything for the VM.
            _ if !self.agent_survives(vm) => until_the_end(*began),
            // Too little may be lost for anybody to notice.
            Fault::NvaLosesPackets(..) => until_the_end(*began),
            _ => {
                let since = began.checked_sub(UNDER_WAY).unwrap_or(*began);
                since..=*began + self.detection(vm, detection)
            }
        });
        windows.collect()
    }

    /// The NVAs that a VM's kernel has to count on in the end, if that can be told: an instance that the manager starts again may be back or
    /// not, and who loses some packets may keep its sessions or not.
    pub fn visible(&self, vm: usize) -> Option<BTreeSet<usize>> {
        if !self.agent_survives(vm) || self.has(Fault::VmUnplugged(vm)) {
            return None;
        }
        let heard: Vec<usize> = (0..INSTANCES).filter(|instance| self.hears(vm, *instance)).collect();
        let certain = self.survivors(vm);
        let possible: BTreeSet<usize> = (0..NVAS)
            .filter(|nva| heard.iter().any(|instance| !self.is_parted(*nva, *instance)))
            .filter(|nva| !self.nva_is_gone(*nva))
            .collect();
        // Where all are silent everything stays.
        let told = heard.iter().any(|instance| self.instance_survives(*instance));
        (told && certain == possible).then_some(certain)
    }

    /// The NVAs that survive for a VM.
    fn survivors(&self, vm: usize) -> BTreeSet<usize> {
        let instances: Vec<usize> = (0..INSTANCES)
            .filter(|instance| self.instance_survives(*instance) && self.hears(vm, *instance))
            .collect();
        let survives = |nva: &usize| {
            let is_whole = |(fault, _): &(Fault, Instant)| fault.loses_packets_of() != Some(*nva);
            !self.nva_is_gone(*nva)
                && self.faults.iter().all(is_whole)
                && instances.iter().any(|instance| !self.is_parted(*nva, *instance))
        };
        (0..NVAS).filter(survives).collect()
    }

    /// A connection that ends is noticed at once, silence is not.
    fn detection(&self, vm: usize, detection: Detection) -> Duration {
        let is_silent = |i: usize| self.has(Fault::InstanceStopped(i)) || !self.hears(vm, i);
        match (0..INSTANCES).any(is_silent) {
            true => detection.of_paths + detection.of_instances,
            false => detection.of_paths,
        }
    }

    fn nva_is_gone(&self, nva: usize) -> bool {
        self.has(Fault::NvaKilled(nva)) || self.has(Fault::NvaStopped(nva)) || self.has(Fault::NvaCut(nva))
    }

    fn is_parted(&self, nva: usize, instance: usize) -> bool {
        self.has(Fault::NvaParted { nva, instance })
    }

    fn instance_survives(&self, instance: usize) -> bool {
        !self.has(Fault::InstanceKilled(instance)) && !self.has(Fault::InstanceStopped(instance))
    }

    fn agent_survives(&self, vm: usize) -> bool {
        !self.has(Fault::AgentKilled(vm)) && !self.has(Fault::AgentStopped(vm))
    }

    fn hears(&self, vm: usize, instance: usize) -> bool {
        !self.has(Fault::AgentParted { vm, instance })
    }

    fn has(&self, wanted: Fault) -> bool {
        self.faults.iter().any(|(fault, _)| *fault == wanted)
    }
}
