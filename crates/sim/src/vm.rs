//! A VM: a kernel, and the agent's pure parts around it, as the agent's threads put them together.

use std::time::{Duration, Instant};

use agent::merge::{Merge, Said};
use agent::plan::{Installed, Op, Planner};
use agent::tables::Tables;
use api::agent::{ToAgent, Welcome};

use crate::kernel::Kernel;

/// An instance that is silent for so long no longer counts.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Operations planned at a time.
const PORTION: usize = 64;

/// The first of the agent's nexthop ids.
const FIRST_ID: u32 = 0x5257_0000;

/// The agent's memory, gone when it is killed.
#[derive(Debug)]
struct Mind {
    tables: [Tables; 2],
    merge: Merge,
    planner: Planner,
    installed: Installed,
    /// Per instance: when something was last heard, and whether silence was already concluded.
    heard: [(Instant, bool); 2],
}

/// One VM with one NIC.
#[derive(Debug)]
pub struct Vm {
    /// The NIC's id.
    pub nic: String,
    /// What is in its kernel.
    pub kernel: Kernel,
    mind: Option<Mind>,
    /// Operations carried out in all.
    pub operations: u64,
}

impl Vm {
    /// A VM whose agent has not been started.
    pub fn new(nic: &str) -> Vm {
        Vm {
            nic: nic.to_owned(),
            kernel: Kernel::default(),
            mind: None,
            operations: 0,
        }
    }

    /// The agent starts: it reads what is installed.
    pub fn start(&mut self, now: Instant) {
        let installed = self.kernel.read();
        self.mind = Some(Mind {
            tables: [Tables::default(), Tables::default()],
            merge: Merge::new(2, true),
            planner: Planner::new(&installed, FIRST_ID),
            installed,
            heard: [(now, false); 2],
        });
    }

    /// The agent dies; the routes stay.
    pub fn kill(&mut self) {
        self.mind = None;
    }

    /// Whether the agent runs.
    pub fn is_alive(&self) -> bool {
        self.mind.is_some()
    }

    /// A stream begins.
    pub fn welcome(&mut self, now: Instant, instance: usize, epoch: u64) {
        let Some(mind) = &mut self.mind else { return };
        mind.heard[instance] = (now, false);
        let welcome = Welcome {
            instance: instance as u32,
            epoch,
            silence_secs: SILENCE.as_secs() as u32,
        };
        let told = mind.tables[instance].welcome(&welcome);
        mind.merge.handle(instance, told.said);
    }

    /// Messages of a stream. An error ends the stream, as in the agent.
    pub fn hear(&mut self, now: Instant, instance: usize, message: ToAgent) -> Result<(), String> {
        let Some(mind) = &mut self.mind else { return Ok(()) };
        mind.heard[instance] = (now, false);
        for told in mind.tables[instance]
            .handle(message)
            .map_err(|error| error.to_string())?
        {
            if told.nic.as_deref().is_none_or(|nic| nic == self.nic) {
                mind.merge.handle(instance, told.said);
            }
        }
        Ok(())
    }

    /// A stream is over.
    pub fn stream_ends(&mut self, instance: usize) {
        if let Some(mind) = &mut self.mind {
            mind.merge.handle(instance, Said::Ended);
        }
    }

    /// When an instance's silence will be concluded, given which streams are open (they have heartbeats).
    pub fn poll_timeout(&self, open: [bool; 2]) -> Option<Instant> {
        let mind = self.mind.as_ref()?;
        (0..2)
            .filter(|i| !open[*i] && !mind.heard[*i].1)
            .map(|i| mind.heard[i].0 + SILENCE)
            .min()
    }

    /// Concludes silence where it is due.
    pub fn handle_timeout(&mut self, now: Instant, open: [bool; 2]) {
        let Some(mind) = &mut self.mind else { return };
        for (instance, open) in open.into_iter().enumerate() {
            let (at, concluded) = mind.heard[instance];
            if !open && !concluded && at + SILENCE <= now {
                mind.heard[instance].1 = true;
                mind.merge.handle(instance, Said::Silent);
            }
        }
        // Heartbeats of the instances that speak.
        for instance in (0..2).filter(|instance| open[*instance]) {
            mind.merge.handle(instance, Said::Alive);
        }
    }

    /// Somebody changed the kernel behind the agent's back, and it was told.
    pub fn look_again(&mut self) {
        if let Some(mind) = &mut self.mind {
            mind.installed = self.kernel.read();
            mind.planner.start_over();
        }
    }

    /// Plans and carries out up to `budget` operations; what is left waits (or is lost with the agent). True when all is done.
    pub fn work(&mut self, mut budget: usize) -> Result<bool, String> {
        let Some(mind) = &mut self.mind else { return Ok(true) };
        if !mind.merge.is_known() {
            return Ok(true);
        }
        let dirty = mind.merge.take_dirty();
        mind.planner.note(&mind.merge, &mind.installed, dirty);
        loop {
            let ops: Vec<Op> = mind.planner.next(&mind.merge, &mind.installed, PORTION);
            if ops.is_empty() {
                return Ok(true);
            }
            for op in &ops {
                if budget == 0 {
                    // What was planned and not done is compared again.
                    mind.planner.start_over();
                    return Ok(false);
                }
                self.kernel.apply(op)?;
                mind.installed.record(op);
                self.operations += 1;
                budget -= 1;
            }
        }
    }
}
