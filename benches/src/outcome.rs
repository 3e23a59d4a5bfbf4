//! What was measured. Every scenario says it in this one form; tables, goals, plots and the JSON file are made from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::load::NotWithin;
use crate::machine;

/// Our own name among the subjects.
pub(crate) const OURS: &str = "routewright";

/// The name of the speaker that routes nothing.
pub(crate) const FLOOR: &str = "floor";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scenario {
    A,
    B,
    C,
    Kernel,
    Rate,
    Peering,
    Agents,
    Api,
    Settle,
    Lab,
    Failover,
    /// Failover of many VMs, or of many routes in each.
    Moved,
    Reset,
    /// Workload A with more and more prefixes.
    GrowPrefixes,
    /// As many prefixes as ever, from and to more and more peers.
    GrowPeers,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Size {
    Peers,
    /// Of each peer.
    Prefixes,
    /// In one kernel, or in each agent's table.
    Routes,
    Agents,
    Nics,
    /// Virtual networks peered with the route server's.
    Networks,
    Rounds,
    Vms,
}

pub(crate) type Sizes = BTreeMap<Size, u64>;

/// A figure's name; the unit goes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// From the first octet of the tables until everybody holds every route that is his.
    ConvergedSecs,
    /// Of the speaker, until then.
    CpuSecs,
    /// Routes told until then, of those that had to be.
    ToldPerNeeded,
    /// Resident memory before, with all paths, at its highest, and when all is withdrawn.
    IdleMib,
    RssMib,
    PeakMib,
    AfterMib,
    /// Growth of resident memory over paths held.
    BytesPerPath,
    /// One announcement or withdrawal until all other peers know.
    UpdateP50Ms,
    UpdateP99Ms,
    UpdateMaxMs,
    /// One peer asks for everything again.
    RefreshSecs,
    /// One peer says its unchanged table again.
    AgainSecs,
    /// A peer more, from its SYN until it holds the full table.
    JoinSecs,
    /// A peer dies, until its routes have moved everywhere.
    DeathSecs,
    /// All is withdrawn, until nobody holds a route.
    WithdrawSecs,
    /// A whole table, until its last route is in the kernel, or in all kernels.
    TableMs,
    /// One announcement until it is in the kernel.
    AnnouncedP50Ms,
    AnnouncedP99Ms,
    AnnouncedMaxMs,
    /// One withdrawal until it is gone from the kernel.
    WithdrawnP50Ms,
    WithdrawnP99Ms,
    WithdrawnMaxMs,
    RoutesPerSec,
    /// A peering's creation until both sessions are Established.
    EstablishedP50Ms,
    EstablishedMaxMs,
    /// One change until all agents have it.
    ChangeP50Ms,
    ChangeP99Ms,
    ChangeMaxMs,
    /// All agents come back at once, until each has the full table.
    RejoinSecs,
    /// A peering's creation, as the API's client waits for it.
    CreatedP50Ms,
    CreatedP99Ms,
    CreatedMaxMs,
    /// Growth of the instance's resident memory over agents.
    KibPerAgent,
    /// A route server, as az creates it.
    CreateMs,
    /// Peerings one after another.
    PeeringsSecs,
    /// One NIC more where there are few, and where there are all.
    FewNicsMs,
    AllNicsMs,
    /// A list of all NICs, page after page.
    ListMs,
    /// The effective routes of one NIC.
    RoutesOfNicP50Ms,
    RoutesOfNicMaxMs,
    /// Mixed reads, over some connections at once.
    ReadsPerSec,
    /// A change of configuration, until the last NVA and the last agent have heard of it: branch-to-branch,
    BranchP50Ms,
    BranchMaxMs,
    /// whether a virtual network uses the route server,
    VnetPeeringP50Ms,
    VnetPeeringMaxMs,
    /// the rules of a route map,
    RouteMapP50Ms,
    RouteMapMaxMs,
    /// which NVA is preferred.
    PreferenceP50Ms,
    PreferenceMaxMs,
    /// A laboratory, from the start of the binary until it is ready.
    ReadySecs,
    /// A path is cut, until packets go over another one: for so long they were lost.
    LostP50Ms,
    LostMaxMs,
    /// Packets lost while an instance is killed and comes back, in all rounds.
    LostByInstance,
    /// A peer's offence until its session stands again.
    RecoveredP50Ms,
    RecoveredMaxMs,
    /// An NVA says that it ends, until the last VM sends over another one.
    MovedP50Ms,
    MovedP99Ms,
    MovedMaxMs,
    /// The second instance knows that an NVA is gone, until the last VM's kernel has another way.
    NoticedP50Ms,
    NoticedP99Ms,
    NoticedMaxMs,
    /// Routes that kernels had to change for it, in all rounds.
    TouchedByDeath,
    /// Routes and nexthop objects that kernels had to change when an instance was killed and came back.
    TouchedByRestart,
}

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missing {
    /// It was given up after so many seconds.
    NotWithin(u64),
    Failed(String),
}

/// What was measured of one subject in one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) subject: String,
    pub(crate) sizes: Sizes,
    pub(crate) figures: BTreeMap<Figure, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) missing: BTreeMap<Figure, Missing>,
}

impl Outcome {
    pub(crate) fn new(scenario: Scenario, subject: &str, sizes: impl IntoIterator<Item = (Size, u64)>) -> Outcome {
        Outcome {
            scenario,
            subject: subject.to_owned(),
            sizes: sizes.into_iter().collect(),
            figures: BTreeMap::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Notes a figure.
    pub(crate) fn set(&mut self, figure: Figure, value: f64) {
        self.figures.insert(figure, value);
    }

    /// Notes several, as [`percentiles`] gives them.
    pub(crate) fn set_all<const N: usize>(&mut self, figures: [Figure; N], values: [f64; N]) {
        self.figures.extend(figures.into_iter().zip(values));
    }

    /// Notes that there will be no figure, and says why.
    pub(crate) fn fail(&mut self, figure: Figure, error: &anyhow::Error) {
        eprintln!("  {}: {figure:?}: {error:#}", self.subject);
        let why = match error.downcast_ref::<NotWithin>() {
            Some(given_up) => Missing::NotWithin(given_up.secs),
            None => Missing::Failed(format!("{error:#}")),
        };
        self.missing.insert(figure, why);
    }

    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.figures.get(&figure).copied()
    }

    /// Is at least of these sizes, whatever others it has?
    pub(crate) fn has_sizes(&self, sizes: &[(Size, u64)]) -> bool {
        sizes.iter().all(|(size, count)| self.sizes.get(size) == Some(count))
    }

    fn same_measurement(&self, other: &Outcome) -> bool {
        self.scenario == other.scenario && self.subject == other.subject && self.sizes == other.sizes
    }
}

/// All that was measured on one machine; what the JSON file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) machine: String,
    /// Package → version of what was measured beside us.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Record {
    /// An empty one, of this machine.
    pub(crate) fn here() -> Record {
        Record {
            machine: machine::describe(),
            versions: machine::versions(),
            outcomes: Vec::new(),
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Record> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of measurements", path.display()))
    }

    /// Takes in outcomes; one that was measured before is replaced.
    pub(crate) fn take(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match self.outcomes.iter_mut().find(|old| old.same_measurement(outcome)) {
                Some(old) => old.clone_from(outcome),
                None => self.outcomes.push(outcome.clone()),
            }
        }
        // Stable: within a scenario the order of measuring stays.
        self.outcomes.sort_by_key(|outcome| outcome.scenario);
    }

    /// Adds outcomes to a file; what else is in it stays, so that a long run can be made in pieces.
    pub(crate) fn add_to(path: &Path, outcomes: &[Outcome]) -> Result<()> {
        let mut record = Record::here();
        if path.exists() {
            record.outcomes = Record::read(path)?.outcomes;
        }
        record.take(outcomes);
        let text = serde_json::to_string_pretty(&record)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

/// p50, p99 and max of sorted values.
pub(crate) fn percentiles(sorted: &[f64]) -> [f64; 3] {
    let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or_default();
    [at(50), at(99), sorted.last().copied().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(subject: &str, prefixes: u64, converged: f64) -> Outcome {
        let mut outcome = Outcome::new(Scenario::A, subject, [(Size::Peers, 8), (Size::Prefixes, prefixes)]);
        outcome.set(Figure::ConvergedSecs, converged);
        outcome
    }

    #[test]
    fn percentiles_of_a_hundred_values_are_the_51st_the_last_and_the_last() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentiles(&values), [51.0, 100.0, 100.0]);
        assert_eq!(percentiles(&[]), [0.0; 3]);
    }

    #[test]
    fn measuring_again_replaces_what_was_measured_of_the_same_size_only() {
        let mut record = Record::default();
        record.take(&[
            outcome(OURS, 100, 1.0),
            outcome(OURS, 200, 2.0),
            outcome("BIRD 2", 100, 3.0),
        ]);
        record.take(&[outcome(OURS, 100, 0.5)]);
        let held: Vec<(&str, f64)> = record
            .outcomes
            .iter()
            .map(|o| (o.subject.as_str(), o.figures[&Figure::ConvergedSecs]))
            .collect();
        assert_eq!(held, [(OURS, 0.5), (OURS, 2.0), ("BIRD 2", 3.0)]);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("figures.json");
        let mut given_up = outcome("GoBGP", 100, 1.0);
        given_up.missing.insert(Figure::WithdrawSecs, Missing::NotWithin(60));
        Record::add_to(&path, &[outcome(OURS, 100, 1.0)])?;
        Record::add_to(&path, &[given_up.clone()])?;
        let outcomes = Record::read(&path)?.outcomes;
        assert_eq!(outcomes.len(), 2);
        assert_eq!(outcomes[1].missing, given_up.missing);
        assert_eq!(outcomes[1].figures, given_up.figures);
        Ok(())
    }
}
