//! What we want to reach, and whether a run reached it.

use crate::api_load;
use crate::outcome::Figure::{self, *};
use crate::outcome::{FLOOR, Missing, OURS, Outcome, Scenario, Size};
use crate::settle;
use crate::table::Table;
use crate::workload;

/// One goal. It speaks of outcomes of its sizes only: small runs neither meet nor miss it.
#[derive(Debug)]
pub(crate) struct Goal {
    about: &'static str,
    scenario: Scenario,
    sizes: &'static [(Size, u64)],
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// So many times faster than the best of the others in the same run.
    Faster(Figure, f64),
    /// At most so many times what the floor takes.
    Floor(Figure, f64),
    AtMost(Figure, f64),
    AtLeast(Figure, f64),
}

use Wanted::{AtLeast, AtMost, Faster, Floor};

const A: &[(Size, u64)] = &workload::A.sizes();
const B: &[(Size, u64)] = &workload::B.sizes();
const C: &[(Size, u64)] = &workload::C.sizes();
const ONE_VM: &[(Size, u64)] = &[(Size::Routes, 10_000)];
const RATE: &[(Size, u64)] = &[(Size::Routes, 200_000)];
const MOVED: &[(Size, u64)] = &[(Size::Vms, 100), (Size::Routes, 10_000)];
const MOVED_LARGE: &[(Size, u64)] = &[(Size::Vms, 5), (Size::Routes, 200_000)];
const AGENTS: &[(Size, u64)] = &[(Size::Agents, 4_000), (Size::Routes, 10_000)];

const API: &[(Size, u64)] = &[
    (Size::Peers, api_load::PEERINGS as u64),
    (Size::Nics, api_load::NICS as u64),
];

const SETTLE: &[(Size, u64)] = &[
    (Size::Peers, settle::APART.peers as u64),
    (Size::Prefixes, settle::APART.prefixes as u64),
    (Size::Networks, settle::NETWORKS as u64),
];

const fn goal(about: &'static str, scenario: Scenario, sizes: &'static [(Size, u64)], wanted: Wanted) -> Goal {
    Goal {
        about,
        scenario,
        sizes,
        wanted,
    }
}

const ALL: &[Goal] = &[
    goal("A: converges", Scenario::A, A, Faster(ConvergedSecs, 10.0)),
    goal("A: converges", Scenario::A, A, Floor(ConvergedSecs, 8.0)),
    goal("A: bytes per path", Scenario::A, A, AtMost(BytesPerPath, 40.0)),
    goal("A: one update, p99 ms", Scenario::A, A, AtMost(UpdateP99Ms, 0.5)),
    goal("A: death of a peer, s", Scenario::A, A, AtMost(DeathSecs, 0.050)),
    goal("B: converges", Scenario::B, B, Faster(ConvergedSecs, 8.0)),
    goal("B: converges", Scenario::B, B, Floor(ConvergedSecs, 2.0)),
    goal("B: CPU s", Scenario::B, B, AtMost(CpuSecs, 0.5)),
    goal("B: withdraw all, s", Scenario::B, B, AtMost(WithdrawSecs, 0.150)),
    goal("C: converges", Scenario::C, C, Faster(ConvergedSecs, 10.0)),
    // 500 MB.
    goal("C: resident MiB", Scenario::C, C, AtMost(RssMib, 476.8)),
    goal(
        "UPDATE → VM's kernel, p50 ms",
        Scenario::Kernel,
        ONE_VM,
        AtMost(AnnouncedP50Ms, 2.0),
    ),
    goal(
        "UPDATE → VM's kernel, p99 ms",
        Scenario::Kernel,
        ONE_VM,
        AtMost(AnnouncedP99Ms, 5.0),
    ),
    goal(
        "10,000 routes into one VM, ms",
        Scenario::Kernel,
        ONE_VM,
        AtMost(TableMs, 150.0),
    ),
    goal("agent's rate into a kernel", Scenario::Rate, RATE, Faster(TableMs, 0.9)),
    goal(
        "the second instance knows that an NVA closed → last of 100 VMs moved, p99 ms",
        Scenario::Moved,
        MOVED,
        AtMost(NoticedP99Ms, 20.0),
    ),
    goal(
        "the same, 5 VMs with 200,000 routes each, p99 ms",
        Scenario::Moved,
        MOVED_LARGE,
        AtMost(NoticedP99Ms, 20.0),
    ),
    goal(
        "an instance restarts → entries touched in 100 VMs",
        Scenario::Moved,
        MOVED,
        AtMost(TouchedByRestart, 0.0),
    ),
    goal(
        "an NVA closes → last VM's packets moved, ms",
        Scenario::Failover,
        &[],
        AtMost(MovedMaxMs, 20.0),
    ),
    goal(
        "an instance dies → packets lost",
        Scenario::Failover,
        &[],
        AtMost(LostByInstance, 0.0),
    ),
    goal(
        "lost packets with BFD, ms",
        Scenario::Failover,
        &[],
        AtMost(LostMaxMs, 200.0),
    ),
    goal(
        "200 peers reset at once → back, ms",
        Scenario::Reset,
        &[],
        AtMost(RecoveredMaxMs, 5_000.0),
    ),
    goal(
        "one change → 4,000 agents, ms",
        Scenario::Agents,
        AGENTS,
        AtMost(ChangeMaxMs, 250.0),
    ),
    goal(
        "memory per agent, KiB",
        Scenario::Agents,
        AGENTS,
        AtMost(KibPerAgent, 48.8),
    ),
    goal(
        "peering created → Established, ms",
        Scenario::Peering,
        &[],
        AtMost(EstablishedMaxMs, 2_000.0),
    ),
    goal(
        "route server created, ms",
        Scenario::Api,
        API,
        AtMost(CreateMs, 1_000.0),
    ),
    goal(
        "200 peerings created, s",
        Scenario::Api,
        API,
        AtMost(PeeringsSecs, 10.0),
    ),
    goal("10,000 NICs listed, ms", Scenario::Api, API, AtMost(ListMs, 1_000.0)),
    goal(
        "routes of one of 10,000 NICs, max ms",
        Scenario::Api,
        API,
        AtMost(RoutesOfNicMaxMs, 50.0),
    ),
    goal(
        "mixed reads per second",
        Scenario::Api,
        API,
        AtLeast(ReadsPerSec, 1_000.0),
    ),
    goal(
        "branch-to-branch changed, max ms",
        Scenario::Settle,
        SETTLE,
        AtMost(BranchMaxMs, 1_000.0),
    ),
    goal(
        "VNet peering changed, max ms",
        Scenario::Settle,
        SETTLE,
        AtMost(VnetPeeringMaxMs, 1_000.0),
    ),
    goal(
        "route map changed, max ms",
        Scenario::Settle,
        SETTLE,
        AtMost(RouteMapMaxMs, 1_000.0),
    ),
    goal(
        "preference changed, max ms",
        Scenario::Settle,
        SETTLE,
        AtMost(PreferenceMaxMs, 1_000.0),
    ),
    goal("lab ready, s", Scenario::Lab, &[], AtMost(ReadySecs, 10.0)),
];

/// Every goal there is.
pub(crate) fn all() -> Vec<&'static Goal> {
    ALL.iter().collect()
}

/// The goals that some outcomes can speak of.
pub(crate) fn of(outcomes: &[Outcome]) -> Vec<&'static Goal> {
    let measured = |goal: &&Goal| outcomes.iter().any(|outcome| outcome.scenario == goal.scenario);
    ALL.iter().filter(measured).collect()
}

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Met,
    NotMet,
    NotMeasured(&'static str),
}

/// A figure of somebody else; of one who was given up we only know that it is more.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Theirs<'o> {
    name: &'o str,
    value: f64,
    at_least: bool,
}

/// What a goal's line says.
#[derive(Debug)]
struct Line<'o> {
    measured: Option<f64>,
    best: Option<Theirs<'o>>,
    /// How many times faster, or smaller, than the best of the others, or how many times the floor.
    ratio: Option<f64>,
    verdict: Verdict,
}

/// The goals as a table.
pub(crate) fn table(outcomes: &[Outcome], goals: &[&Goal]) -> String {
    let mut table = Table::new(["goal", "wanted", "measured", "best of the others", "ratio", ""]);
    for goal in goals {
        let line = goal.line(outcomes);
        table.row(vec![
            goal.about.to_owned(),
            goal.wanted(),
            line.measured.map_or_else(dash, number),
            line.best.map_or_else(dash, |best| {
                format!(
                    "{} {}{}",
                    best.name,
                    if best.at_least { "> " } else { "" },
                    number(best.value)
                )
            }),
            line.ratio.map_or_else(dash, |ratio| {
                let more = line.best.is_some_and(|best| best.at_least);
                format!("{}{ratio:.1} ×", if more { "> " } else { "" })
            }),
            match line.verdict {
                Verdict::Met => "met".to_owned(),
                Verdict::NotMet => "**not met**".to_owned(),
                Verdict::NotMeasured(why) => format!("not measured: {why}"),
            },
        ]);
    }
    table.markdown()
}

impl Goal {
    fn wanted(&self) -> String {
        match self.wanted {
            Faster(_, times) => format!("≥ {times} × as fast as the best of the others"),
            Floor(_, times) => format!("≤ {times} × what the floor takes"),
            AtMost(_, limit) => format!("≤ {}", number(limit)),
            AtLeast(_, limit) => format!("≥ {}", number(limit)),
        }
    }

    fn line<'o>(&self, outcomes: &'o [Outcome]) -> Line<'o> {
        let (Faster(figure, _) | Floor(figure, _) | AtMost(figure, _) | AtLeast(figure, _)) = self.wanted;
        let here = || {
            outcomes
                .iter()
                .filter(|o| o.scenario == self.scenario && o.has_sizes(self.sizes))
        };
        let measured = here().find(|o| o.subject == OURS).and_then(|o| o.get(figure));
        let best = match self.wanted {
            Floor(..) => here().filter(|o| o.subject == FLOOR).find_map(|o| theirs(o, figure)),
            _ => best_of_the_others(here(), figure),
        };
        let ratio = measured.zip(best).map(|(ours, best)| match self.wanted {
            Floor(..) => ours / best.value,
            _ => best.value / ours,
        });
        Line {
            measured,
            best,
            ratio,
            verdict: self.verdict(measured, best, ratio),
        }
    }

    fn verdict(&self, measured: Option<f64>, best: Option<Theirs<'_>>, ratio: Option<f64>) -> Verdict {
        let met = |yes: bool| if yes { Verdict::Met } else { Verdict::NotMet };
        let Some(measured) = measured else {
            return Verdict::NotMeasured("not run at this size");
        };
        match (&self.wanted, ratio) {
            (AtMost(_, limit), _) => met(measured <= *limit),
            (AtLeast(_, limit), _) => met(measured >= *limit),
            (Floor(_, times), Some(ratio)) => met(ratio <= *times),
            (Faster(_, times), Some(ratio)) if ratio < *times && best.is_some_and(|best| best.at_least) => {
                Verdict::NotMeasured("the others were given up too early")
            }
            (Faster(_, times), Some(ratio)) => met(ratio >= *times),
            (Faster(..) | Floor(..), None) => Verdict::NotMeasured("nobody beside it"),
        }
    }
}

fn theirs(outcome: &Outcome, figure: Figure) -> Option<Theirs<'_>> {
    let name = outcome.subject.as_str();
    match (outcome.get(figure), outcome.missing.get(&figure)) {
        (Some(value), _) => Some(Theirs {
            name,
            value,
            at_least: false,
        }),
        (None, Some(Missing::NotWithin(secs))) => Some(Theirs {
            name,
            value: *secs as f64,
            at_least: true,
        }),
        (None, _) => None,
    }
}

fn best_of_the_others<'o>(outcomes: impl Iterator<Item = &'o Outcome>, figure: Figure) -> Option<Theirs<'o>> {
    outcomes
        .filter(|o| o.subject != OURS && o.subject != FLOOR)
        .filter_map(|o| theirs(o, figure))
        .min_by(|a, b| a.value.total_cmp(&b.value))
}

fn dash() -> String {
    "–".to_owned()
}

/// Three digits that count, never fewer than those before the point.
fn number(value: f64) -> String {
    let before_the_point = if value < 1.0 { 0 } else { value.log10() as usize + 1 };
    let text = format!("{value:.*}", 3_usize.saturating_sub(before_the_point));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FASTER: Goal = goal("A: converges", Scenario::A, A, Faster(ConvergedSecs, 10.0));

    #[test]
    fn the_best_of_the_others_is_what_counts_not_the_floor() {
        let outcomes = [
            converged(FLOOR, 0.01),
            converged(OURS, 0.5),
            converged("FRR", 8.0),
            converged("BIRD 2", 4.5),
        ];
        let line = FASTER.line(&outcomes);
        assert_eq!(line.best.map(|best| best.name), Some("BIRD 2"));
        assert_eq!(line.ratio, Some(9.0));
        assert_eq!(line.verdict, Verdict::NotMet);
    }

    #[test]
    fn a_goal_is_met_at_exactly_its_factor() {
        check(&FASTER, &[converged(OURS, 0.5), converged("BIRD 2", 5.0)], Verdict::Met);
        let floor = goal("", Scenario::A, A, Floor(ConvergedSecs, 8.0));
        check(&floor, &[converged(OURS, 8.0), converged(FLOOR, 1.0)], Verdict::Met);
        check(&floor, &[converged(OURS, 8.1), converged(FLOOR, 1.0)], Verdict::NotMet);
        let most = goal("", Scenario::A, A, AtMost(ConvergedSecs, 0.5));
        check(&most, &[converged(OURS, 0.5)], Verdict::Met);
        check(&most, &[converged(OURS, 0.51)], Verdict::NotMet);
        let least = goal("", Scenario::A, A, AtLeast(ConvergedSecs, 0.5));
        check(&least, &[converged(OURS, 0.5)], Verdict::Met);
        check(&least, &[converged(OURS, 0.49)], Verdict::NotMet);
    }

    #[test]
    fn without_anybody_beside_it_a_ratio_is_not_measured() {
        check(
            &FASTER,
            &[converged(OURS, 0.5)],
            Verdict::NotMeasured("nobody beside it"),
        );
        check(
            &FASTER,
            &[converged("BIRD 2", 5.0)],
            Verdict::NotMeasured("not run at this size"),
        );
    }

    #[test]
    fn a_smaller_run_neither_meets_nor_misses_a_goal() {
        let mut small = converged(OURS, 0.001);
        small.sizes.insert(Size::Prefixes, 1_000);
        check(
            &FASTER,
            &[small, converged("BIRD 2", 5.0)],
            Verdict::NotMeasured("not run at this size"),
        );
    }

    #[test]
    fn one_who_was_given_up_late_enough_proves_the_goal_and_too_early_proves_nothing() {
        let given_up = |secs| {
            let mut outcome = Outcome::new(Scenario::A, "GoBGP", A.iter().copied());
            outcome.missing.insert(ConvergedSecs, Missing::NotWithin(secs));
            outcome
        };
        check(&FASTER, &[converged(OURS, 1.0), given_up(60)], Verdict::Met);
        let early = Verdict::NotMeasured("the others were given up too early");
        check(&FASTER, &[converged(OURS, 10.0), given_up(60)], early);
        check(
            &FASTER,
            &[converged(OURS, 1.0), given_up(60), converged("BIRD 2", 5.0)],
            Verdict::NotMet,
        );
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in [
            (0.0449, "0.045"),
            (0.5, "0.5"),
            (6.563, "6.56"),
            (46.12, "46.1"),
            (2_000.0, "2000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    fn converged(subject: &str, secs: f64) -> Outcome {
        let mut outcome = Outcome::new(Scenario::A, subject, A.iter().copied());
        outcome.set(ConvergedSecs, secs);
        outcome
    }

    fn check(goal: &Goal, outcomes: &[Outcome], verdict: Verdict) {
        assert_eq!(goal.line(outcomes).verdict, verdict);
    }
}
