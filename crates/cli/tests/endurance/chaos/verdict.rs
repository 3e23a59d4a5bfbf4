//! What may be lost, and what a kernel has to hold, while things are wrong: from the faults and when they began.
//!
//! A round begins with all well. So an NVA that nothing is done to in the round has its sessions and its routes in every kernel: it
//! *survives* for a VM if an instance survives that hears it and is heard by the VM's agent, which survives, too. Then a packet may be lost
//! only within the detection time after a fault that loses packets without a word. All else (kills, stops, parted processes, and whatever
//! becomes of managers and etcd) loses none. Time counts as far as the machine had it to give ([`Pulse`]).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::fault::{Fault, INSTANCES, Target};
use super::pulse::Pulse;
use crate::world::NVAS;

/// How soon what nobody tells is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Detection {
    /// BFD between instances and NVAs, and what it takes until kernels follow.
    pub of_paths: Duration,
    /// An instance that says nothing counts no more with agents. Until then its word does.
    pub of_instances: Duration,
    /// A machine that stands still for longer takes paths for lost that are whole: more than half of the multiplier, since a packet was
    /// perhaps due just then.
    pub of_false_alarms: Duration,
}

/// Faults, when they began, and when they were over.
pub struct Round {
    pub began: Instant,
    pub faults: Vec<(Fault, Instant)>,
    /// When all was made good.
    pub mended: Instant,
    /// When all was well again.
    pub end: Instant,
}

/// On its way, or just sent, when it happened.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// Between two ARP requests for one address (`net.ipv4.neigh.*.retrans_time_ms`).
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A manager gives an instance 30 s to answer; a little less is surely before.
const HUNG: Duration = Duration::from_secs(25);

impl Round {
    /// When packets of a VM may be lost.
    pub fn may_lose(&self, vm: usize, detection: Detection, pulse: &Pulse) -> Vec<RangeInclusive<Instant>> {
        let just_before = |moment| pulse.before(moment, UNDER_WAY);
        let until_the_end = |since| just_before(since)..=self.end;
        // Nobody need notice that a link carries all again, but a kernel that asked for the address in vain asks again only after a second.
        let until_mended = |since| just_before(since)..=pulse.after(self.mended, detection.of_paths + ASK_AGAIN);
        // Paths that are taken for lost in the end of one round are away in the beginning of the next.
        let since = self.began.checked_sub(detection.of_paths).unwrap_or(self.began);
        let stood_still = pulse.stood_still(detection.of_false_alarms, since).map(until_the_end);
        let first = self.faults.iter().map(|(_, began)| *began).min();
        // Where nothing is done to any NVA all stays, whoever decides and hears of it or not.
        let nobody_left = self.survivors(vm).is_empty() && self.agent_survives(vm) && self.is_any_nva_hurt();
        let nothing_left = self.has(Fault::VmUnplugged(vm)) || nobody_left;
        let nothing_left = first.filter(|_| nothing_left).map(until_the_end);
        let silent = self
            .faults
            .iter()
            .filter(|(fault, _)| fault.loses_packets_of().is_some());
        let silent = silent.map(|(fault, began)| match fault {
            // Nobody can do anything for the VM.
            _ if !self.agent_survives(vm) => until_mended(*began),
            // Too little may be lost for anybody to notice.
            Fault::NvaLosesPackets(..) => until_mended(*began),
            _ => just_before(*began)..=pulse.after(*began, self.detection(vm, detection)),
        });
        silent.chain(stood_still).chain(nothing_left).collect()
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

    /// Whether a VM's kernel has what an NVA tells to this instance alone, in the end and if that can be told.
    pub fn has_one_leg(&self, vm: usize, nva: usize, instance: usize, now: Instant) -> Option<bool> {
        let loses_some = |(fault, _): &(Fault, Instant)| matches!(fault, Fault::NvaLosesPackets(n, _) if *n == nva);
        if !self.agent_survives(vm) || self.has(Fault::VmUnplugged(vm)) || self.faults.iter().any(loses_some) {
            return None;
        }
        // Then its manager takes it for hung, and starts it again.
        let is_over = |(fault, began): &(Fault, Instant)| {
            *fault == Fault::InstanceStopped(instance) && now.saturating_duration_since(*began) > HUNG
        };
        if self.faults.iter().any(is_over) {
            return None;
        }
        let gone = self.nva_is_gone(nva) || self.is_parted(nva, instance);
        let other = 1 - instance;
        let other_counts = self.instance_survives(other) && self.hears(vm, other);
        match () {
            // It is silent. As soon as the other one has said something, its word is over; where there is none, all stays.
            () if !self.hears(vm, instance) || self.has(Fault::InstanceStopped(instance)) => {
                other_counts.then_some(false)
            }
            () if self.instance_survives(instance) => Some(!gone),
            // What its former life said stays until the new one has heard everybody, and that takes its time where somebody is gone.
            () if gone => None,
            () if self.manager_survives(instance) => Some(true),
            // Nobody starts it again, so it is silent, too.
            () if self.manager_was_away(instance) => other_counts.then_some(false),
            () => None,
        }
    }

    /// Whether a write through this manager is carried out, if anybody is there to say so.
    pub fn may_write(&self, manager: usize) -> Option<bool> {
        let without_majority = |(fault, _): &(Fault, Instant)| matches!(fault, Fault::EtcdWithoutMajority(_));
        let may = !self.has(Fault::EtcdParted(manager)) && !self.faults.iter().any(without_majority);
        self.manager_survives(manager).then_some(may)
    }

    /// How soon a VM's kernel is as it has to be, with what only one instance was told: an instance that ended and that nobody starts again
    /// has had its say when it counts as silent.
    pub fn agreement(&self, vm: usize, detection: Detection) -> Duration {
        let stays_away = |i: usize| self.has(Fault::InstanceKilled(i)) && !self.manager_survives(i);
        match (0..INSTANCES).any(stays_away) {
            true => detection.of_paths + detection.of_instances,
            false => self.detection(vm, detection),
        }
    }

    /// How soon packets go where they have to. A connection that ends is noticed at once, silence is not.
    fn detection(&self, vm: usize, detection: Detection) -> Duration {
        let is_silent = |i: usize| self.has(Fault::InstanceStopped(i)) || !self.hears(vm, i);
        match (0..INSTANCES).any(is_silent) {
            true => detection.of_paths + detection.of_instances,
            false => detection.of_paths,
        }
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

    fn is_any_nva_hurt(&self) -> bool {
        let target = |(fault, _): &(Fault, Instant)| fault.target();
        let is_nva = |target| matches!(target, Target::NvaProcess(_) | Target::NvaLink(_));
        self.faults.iter().map(target).any(is_nva)
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

    fn manager_survives(&self, manager: usize) -> bool {
        !self.has(Fault::ManagerKilled(manager)) && !self.has(Fault::ManagerStopped(manager))
    }

    /// It was already, when its instance was killed: afterwards it may have started it again.
    fn manager_was_away(&self, manager: usize) -> bool {
        let began = |wanted: Fault| self.faults.iter().position(|(fault, _)| *fault == wanted);
        let away = began(Fault::ManagerKilled(manager)).or(began(Fault::ManagerStopped(manager)));
        away < began(Fault::InstanceKilled(manager))
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
