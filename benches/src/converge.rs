//! Workloads A, B and C, step by step: converge, single updates, a route refresh, an unchanged table again, a peer that joins, one that
//! dies, withdraw all. One speaker after the other in the same set-up.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bgp::Family;
use bgp::wire::{Message, RefreshKind, RouteRefresh};
use bytes::BytesMut;

use crate::load::{Load, Step};
use crate::machine;
use crate::network::Network;
use crate::outcome::{Figure, Outcome, Scenario, percentiles};
use crate::speaker::{Kind, Speaker};
use crate::table::grouped;
use crate::workload::{NOBODY, Workload, encode_one};

/// Single updates measured.
const PROBES: u32 = 300;

/// A single update that takes longer is lost.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a speaker has to give back memory before what it kept is read.
const REST: Duration = Duration::from_millis(500);

/// A speaker that does not converge within the patience there is gets so many tries with a tenth of the prefixes each time.
const SMALLER_TRIES: u32 = 2;

/// The share of the patience that each of these tries gets.
const SMALLER_SHARE: u32 = 3;

/// The share of the machine's memory that a speaker may take. One that takes more is given up before it takes down what else runs.
const MEMORY_SHARE: f64 = 0.5;

/// The share of the patience that a route refresh gets: some never answer one.
const REFRESH_SHARE: u32 = 3;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only until all have converged.
    Converge,
    /// All steps, and a smaller size for whom this one is too large.
    AllSteps,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) workload: Workload,
    /// For each step.
    pub(crate) patience: Duration,
    pub(crate) depth: Depth,
}

/// Runs the workload against every speaker in turn.
pub(crate) fn run(plan: Plan, kinds: &[Kind]) -> Vec<Outcome> {
    let Workload { peers, prefixes, .. } = plan.workload;
    let (paths, routes) = amounts(plan.workload);
    eprintln!(
        "{:?}: {peers} peers × {} prefixes: {} paths in, {} routes out",
        plan.scenario,
        grouped(prefixes.into()),
        grouped(paths),
        grouped(routes)
    );
    kinds.iter().flat_map(|kind| of_speaker(plan, *kind)).collect()
}

/// A speaker at the plan's size and, if that is too much for it, at the first smaller one that is not.
fn of_speaker(mut plan: Plan, kind: Kind) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for _ in 0..=SMALLER_TRIES {
        let outcome = at_size(plan, kind);
        let converged = outcome.get(Figure::ConvergedSecs).is_some();
        outcomes.push(outcome);
        match plan.workload.tenth() {
            Some(smaller) if !converged && plan.depth == Depth::AllSteps => {
                plan.workload = smaller;
                plan.patience /= SMALLER_SHARE;
            }
            _ => break,
        }
    }
    outcomes
}

/// A speaker at one size.
fn at_size(plan: Plan, kind: Kind) -> Outcome {
    let mut outcome = Outcome::new(plan.scenario, kind.name(), plan.workload.sizes());
    let done = measure(plan, kind, &mut outcome);
    if let Err(error) = done
        && outcome.figures.is_empty()
        && outcome.missing.is_empty()
    {
        // It failed before the first step.
        outcome.fail(Figure::ConvergedSecs, &error);
    }
    outcome
}

fn measure(plan: Plan, kind: Kind, outcome: &mut Outcome) -> Result<()> {
    let workload = plan.workload;
    let network = Network::new(workload.configured_peers())?;
    let speaker = Speaker::start(kind, &network, workload)?;
    let mut measuring = Measuring {
        plan,
        kind,
        tables: (0..workload.peers).map(|peer| workload.encode_table(peer)).collect(),
        wanted: Wanted::of(workload),
        load: Load::establish(&network, workload)?,
        network: &network,
        speaker: &speaker,
        outcome,
    };
    thread::sleep(REST);
    measuring.figure(Figure::ConvergedSecs, Measuring::converge)?;
    if kind == Kind::Floor || plan.depth == Depth::Converge {
        return Ok(());
    }
    if let Err(error) = measuring.probe() {
        measuring.outcome.fail(Figure::UpdateP50Ms, &error);
    }
    // One that does not answer can be measured all the same.
    let _ = measuring.figure(Figure::RefreshSecs, Measuring::refresh);
    measuring.figure(Figure::AgainSecs, Measuring::again)?;
    measuring.figure(Figure::JoinSecs, Measuring::join)?;
    measuring.figure(Figure::DeathSecs, Measuring::death)?;
    measuring.figure(Figure::WithdrawSecs, Measuring::withdraw)?;
    thread::sleep(REST);
    measuring
        .outcome
        .set(Figure::AfterMib, measuring.speaker.memory_mib()?.0);
    Ok(())
}

/// Paths told by the peers, and routes that they must be told.
fn amounts(workload: Workload) -> (u64, u64) {
    let paths = u64::from(workload.peers) * u64::from(workload.prefixes);
    let wanted = Wanted::of(workload);
    let told = &wanted.all_live[..workload.peers as usize];
    (paths, told.iter().map(|count| u64::from(*count)).sum())
}

/// How many routes each peer must hold, the one that joins late included.
struct Wanted {
    all_live: Vec<u32>,
    without_0: Vec<u32>,
}

impl Wanted {
    fn of(workload: Workload) -> Wanted {
        let count = |winners: Vec<u32>| {
            let mut by_winner = vec![0; workload.peers as usize + 1];
            let known = winners.iter().filter(|winner| **winner != NOBODY);
            known.clone().for_each(|winner| by_winner[*winner as usize] += 1);
            let total = known.count() as u32;
            by_winner.into_iter().map(|own| total - own).collect()
        };
        Wanted {
            all_live: count(workload.winners(None)),
            without_0: count(workload.winners(Some(0))),
        }
    }
}

/// One speaker being measured.
struct Measuring<'a> {
    plan: Plan,
    kind: Kind,
    network: &'a Network,
    speaker: &'a Speaker,
    load: Load,
    tables: Vec<Vec<u8>>,
    wanted: Wanted,
    outcome: &'a mut Outcome,
}

impl Measuring<'_> {
    /// Takes a step and notes how long it took, or why that is not known.
    fn figure(&mut self, figure: Figure, step: fn(&mut Self) -> Result<f64>) -> Result<()> {
        let subject = self.outcome.subject.clone();
        match step(self) {
            Ok(secs) => {
                eprintln!("  {subject}: {figure:?} {secs:.3}");
                self.outcome.set(figure, secs);
                Ok(())
            }
            Err(error) => {
                self.outcome.fail(figure, &error);
                Err(error)
            }
        }
    }

    fn step<'s>(&'s self, what: &'static str, health: &'s dyn Fn() -> Result<()>) -> Step<'s> {
        Step {
            what,
            started: Instant::now(),
            patience: self.plan.patience,
            health,
        }
    }

    fn converge(&mut self) -> Result<f64> {
        let speaker = self.speaker;
        let idle_mib = speaker.memory_mib()?.0;
        let cpu_before = speaker.cpu_secs()?;
        let health = || health(speaker);
        let step = self.step("convergence", &health);
        let took = self.load.send_and_wait(&self.tables, &step, |peer, holding| {
            holding.right.load(Ordering::Acquire) == self.wanted.all_live[peer as usize]
        });
        let took = took.map(|()| step.started.elapsed().as_secs_f64())?;
        let told = self.load.holdings.iter().map(|h| h.announced.load(Ordering::Acquire));
        let told: u64 = told.sum();
        let (paths, routes) = amounts(self.plan.workload);
        self.outcome.set(Figure::ToldPerNeeded, told as f64 / routes as f64);
        thread::sleep(REST);
        self.outcome.set(Figure::CpuSecs, speaker.cpu_secs()? - cpu_before);
        if self.kind == Kind::Floor {
            // It holds no paths whose size could be told.
            return Ok(took);
        }
        let (rss_mib, peak_mib) = speaker.memory_mib()?;
        self.outcome.set(Figure::IdleMib, idle_mib);
        self.outcome.set(Figure::RssMib, rss_mib);
        self.outcome.set(Figure::PeakMib, peak_mib);
        let grown_bytes = (rss_mib - idle_mib) * 1_048_576.0;
        self.outcome.set(Figure::BytesPerPath, grown_bytes / paths as f64);
        Ok(took)
    }

    /// Single announcements and withdrawals by peer 0, until the last other peer has seen each.
    fn probe(&mut self) -> Result<()> {
        let mut times_ms = Vec::with_capacity(PROBES as usize);
        for round in 0..PROBES {
            let number = self.plan.workload.total() + 1 + round / 2;
            let announce = round.is_multiple_of(2);
            times_ms.push(self.one_update(0, number, announce)?.as_secs_f64() * 1000.0);
        }
        times_ms.sort_by(f64::total_cmp);
        let figures = [Figure::UpdateP50Ms, Figure::UpdateP99Ms, Figure::UpdateMaxMs];
        self.outcome.set_all(figures, percentiles(&times_ms));
        Ok(())
    }

    /// Time until all others have seen one announcement or withdrawal by a peer.
    fn one_update(&self, peer: usize, number: u32, announce: bool) -> Result<Duration> {
        let bytes = encode_one(peer as u32, number, announce);
        let expected = if announce { number } else { 0 };
        let started = Instant::now();
        self.load.sessions[peer].write(&bytes)?;
        let others = || {
            self.load
                .holdings
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != peer)
        };
        while !others().all(|(_, h)| h.probe.load(Ordering::Acquire) == expected) {
            if started.elapsed() > PROBE_PATIENCE {
                bail!("a single update took more than {PROBE_PATIENCE:?}");
            }
            // The speaker may need this processor.
            thread::yield_now();
        }
        Ok(started.elapsed())
    }

    /// Peer 1 asks for everything again.
    fn refresh(&mut self) -> Result<f64> {
        let mut out = BytesMut::new();
        let message = RouteRefresh {
            family: Family::Ipv4Unicast,
            kind: RefreshKind::Request,
        };
        Message::RouteRefresh(message).encode(&mut out);
        let before = self.load.holdings[1].announced.load(Ordering::Acquire);
        let wanted = before + u64::from(self.wanted.all_live[1]);
        let health = || health(self.speaker);
        let step = Step {
            patience: self.plan.patience / REFRESH_SHARE,
            ..self.step("a route refresh", &health)
        };
        self.load.sessions[1].write(&out)?;
        self.load.wait(&step, |peer, holding| {
            peer != 1 || holding.announced.load(Ordering::Acquire) >= wanted
        })?;
        Ok(step.started.elapsed().as_secs_f64())
    }

    /// Peer 1 says its whole table again, unchanged. It is through when all have seen the single update that follows it.
    fn again(&mut self) -> Result<f64> {
        let number = self.plan.workload.total() + PROBES;
        let mut messages = vec![Vec::new(), self.tables[1].clone()];
        messages[1].extend_from_slice(&encode_one(1, number, true));
        let health = || health(self.speaker);
        let step = self.step("an unchanged table", &health);
        self.load.send_and_wait(&messages, &step, |peer, holding| {
            peer == 1 || holding.probe.load(Ordering::Acquire) == number
        })?;
        let took = step.started.elapsed().as_secs_f64();
        self.one_update(1, number, false)?;
        Ok(took)
    }

    /// One peer more, which announces nothing, gets the full table. Counted from its first SYN.
    fn join(&mut self) -> Result<f64> {
        let started = Instant::now();
        self.load.join(self.network, self.plan.workload.peers)?;
        let health = || health(self.speaker);
        let step = Step {
            started,
            ..self.step("a joining peer's table", &health)
        };
        self.load.wait(&step, |peer, holding| {
            holding.right.load(Ordering::Acquire) == self.wanted.all_live[peer as usize]
        })?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Peer 0 dies: the others get the second best, or lose what was its alone.
    fn death(&mut self) -> Result<f64> {
        let health = || health(self.speaker);
        let step = self.step("moving a dead peer's routes", &health);
        self.load.kill_0()?;
        self.load.wait(&step, |peer, holding| {
            let count = self.wanted.without_0[peer as usize];
            peer == 0
                || (holding.held.load(Ordering::Acquire) == count
                    && holding.right_without_0.load(Ordering::Acquire) == count)
        })?;
        Ok(step.started.elapsed().as_secs_f64())
    }

    fn withdraw(&mut self) -> Result<f64> {
        let workload = self.plan.workload;
        let mut withdrawals: Vec<Vec<u8>> = (0..workload.peers)
            .map(|peer| workload.encode_withdrawal(peer))
            .collect();
        withdrawals[0].clear();
        let health = || health(self.speaker);
        let step = self.step("withdrawing all", &health);
        self.load.send_and_wait(&withdrawals, &step, |peer, holding| {
            peer == 0 || holding.held.load(Ordering::Acquire) == 0
        })?;
        Ok(step.started.elapsed().as_secs_f64())
    }
}

/// Alive, and not about to take the whole machine.
fn health(speaker: &Speaker) -> Result<()> {
    let limit_mib = machine::memory_mib() * MEMORY_SHARE;
    let rss_mib = speaker.memory_mib()?.0;
    ensure!(
        rss_mib < limit_mib,
        "given up with {rss_mib:.0} MiB resident, more than half of the machine's memory"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Shape;

    #[test]
    fn everybody_must_hold_what_is_not_his_own() {
        let wanted = Wanted::of(Workload {
            shape: Shape::Overlap,
            peers: 4,
            prefixes: 40,
        });
        assert_eq!(wanted.all_live, [30, 30, 30, 30, 40]);
        // What was best through peer 0 is best through peer 1 then.
        assert_eq!(wanted.without_0, [40, 20, 30, 30, 40]);
    }

    #[test]
    fn with_tables_of_their_own_the_dead_ones_prefixes_are_gone() {
        let wanted = Wanted::of(Workload {
            shape: Shape::FanOut,
            peers: 3,
            prefixes: 10,
        });
        assert_eq!(wanted.all_live, [20, 20, 20, 30]);
        assert_eq!(wanted.without_0, [20, 10, 10, 20]);
    }
}
