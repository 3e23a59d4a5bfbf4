//! How cost grows with the work, as plots: convergence and memory against prefixes and against peers, changes and memory against agents.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agents;
use crate::converge::{self, Depth, Plan};
use crate::outcome::Figure::{self, ChangeP50Ms, ConvergedSecs, RssMib};
use crate::outcome::{Outcome, Scenario, Size};
use crate::plot::{Panel, Series, svg};
use crate::speaker::Kind;
use crate::workload::{Shape, Workload};

/// Prefixes of each of [`PEERS`] peers, as in workload A.
const PREFIXES: [u32; 8] = [10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];
const PEERS: u32 = 8;

/// Peers that share [`SHARED_PREFIXES`]: what goes out grows as the peers do, what comes in stays.
const PEER_COUNTS: [u32; 8] = [2, 5, 10, 20, 50, 100, 200, 500];
const SHARED_PREFIXES: u32 = 20_000;

/// Agents that all follow a table of [`AGENT_ROUTES`], which changes so often.
const AGENT_COUNTS: [u32; 6] = [10, 50, 200, 1_000, 2_000, 4_000];
const AGENT_CHANGES: u32 = 20;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    Prefixes,
    Peers,
    Agents,
}

/// The series asked for, each speaker until the first size that it does not finish in time. `keep` gets each point as it is measured.
pub(crate) fn run(
    over: &[Over],
    kinds: &[Kind],
    patience: Duration,
    keep: &mut dyn FnMut(&[Outcome]) -> Result<()>,
) -> Result<()> {
    let prefixes = PREFIXES.map(|prefixes| (Scenario::GrowPrefixes, Shape::Overlap, PEERS, prefixes));
    let peers = PEER_COUNTS.map(|peers| (Scenario::GrowPeers, Shape::FanOut, peers, SHARED_PREFIXES / peers));
    if over.contains(&Over::Agents) {
        for agents in AGENT_COUNTS {
            keep(&agents::run(&[agents], AGENT_ROUTES as u32, AGENT_CHANGES))?;
        }
    }
    for kind in kinds {
        for over in over {
            let series = match over {
                Over::Prefixes => prefixes,
                Over::Peers => peers,
                Over::Agents => continue,
            };
            for (scenario, shape, peers, prefixes) in series {
                let plan = Plan {
                    scenario,
                    workload: Workload { shape, peers, prefixes },
                    patience,
                    depth: Depth::Converge,
                };
                let outcomes = converge::run(plan, &[*kind]);
                keep(&outcomes)?;
                if outcomes.iter().any(|outcome| outcome.get(ConvergedSecs).is_none()) {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// One file: a scenario's time and memory, over one of its sizes.
struct Drawing {
    file: &'static str,
    scenario: Scenario,
    over: Size,
    axis: &'static str,
    panels: [(&'static str, Figure); 2],
}

const DRAWINGS: [Drawing; 3] = [
    Drawing {
        file: "growth-prefixes.svg",
        scenario: Scenario::GrowPrefixes,
        over: Size::Prefixes,
        axis: "prefixes of each of 8 peers",
        panels: [("converged, s", ConvergedSecs), ("resident memory, MiB", RssMib)],
    },
    Drawing {
        file: "growth-peers.svg",
        scenario: Scenario::GrowPeers,
        over: Size::Peers,
        axis: "peers that share 20,000 prefixes",
        panels: [("converged, s", ConvergedSecs), ("resident memory, MiB", RssMib)],
    },
    Drawing {
        file: "growth-agents.svg",
        scenario: Scenario::Agents,
        over: Size::Agents,
        axis: "agents with 10,000 routes each",
        panels: [
            ("one change to all, p50, ms", ChangeP50Ms),
            ("resident memory, MiB", RssMib),
        ],
    },
];

/// The most routes per agent that are drawn; others were measured for other reasons.
const AGENT_ROUTES: u64 = 10_000;

/// Draws what was measured into a folder; returns what was written.
pub(crate) fn draw(outcomes: &[Outcome], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for drawing in &DRAWINGS {
        let panels = drawing.panels.map(|(title, figure)| Panel {
            title,
            axis: drawing.axis,
            series: drawing.series(outcomes, figure),
        });
        if panels
            .iter()
            .any(|panel| panel.series.iter().all(|series| series.points.len() < 2))
        {
            continue;
        }
        let path = folder.join(drawing.file);
        std::fs::write(&path, svg(&panels)).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}

impl Drawing {
    /// A line per subject, in the order in which they were measured.
    fn series(&self, outcomes: &[Outcome], figure: Figure) -> Vec<Series> {
        let mut series: Vec<Series> = Vec::new();
        for outcome in outcomes.iter().filter(|outcome| self.shows(outcome)) {
            let Some((x, y)) = outcome.sizes.get(&self.over).zip(outcome.get(figure)) else {
                continue;
            };
            let point = (*x as f64, y);
            match series.iter_mut().find(|series| series.name == outcome.subject) {
                Some(series) => series.points.push(point),
                None => series.push(Series {
                    name: outcome.subject.clone(),
                    points: vec![point],
                }),
            }
        }
        for series in &mut series {
            series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        series
    }

    fn shows(&self, outcome: &Outcome) -> bool {
        let routes = outcome.sizes.get(&Size::Routes);
        outcome.scenario == self.scenario && routes.is_none_or(|routes| *routes == AGENT_ROUTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::OURS;

    #[test]
    fn peers_divide_the_prefixes_that_they_share() {
        assert!(PEER_COUNTS.iter().all(|peers| SHARED_PREFIXES.is_multiple_of(*peers)));
    }

    #[test]
    fn only_what_has_two_points_is_drawn() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut outcomes = vec![point(10), point(20)];
        assert_eq!(
            draw(&outcomes, folder.path())?,
            [folder.path().join("growth-prefixes.svg")]
        );
        outcomes.pop();
        assert!(draw(&outcomes, folder.path())?.is_empty());
        Ok(())
    }

    #[test]
    fn a_series_goes_from_left_to_right_whatever_the_order_of_measuring() {
        let series = DRAWINGS[0].series(&[point(20), point(10)], ConvergedSecs);
        assert_eq!(series[0].points, [(10.0, 1.0), (20.0, 1.0)]);
    }

    fn point(prefixes: u64) -> Outcome {
        let sizes = [(Size::Peers, 8), (Size::Prefixes, prefixes)];
        let mut outcome = Outcome::new(Scenario::GrowPrefixes, OURS, sizes);
        outcome.set_all([ConvergedSecs, RssMib], [1.0, 2.0]);
        outcome
    }
}
