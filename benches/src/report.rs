//! What was measured as tables, a scenario each: for the terminal and, word for word, for `docs/performance.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::goals;
use crate::outcome::Figure::{self, *};
use crate::outcome::{Missing, Outcome, Record, Scenario, Size};
use crate::table::{Table, grouped};

/// Between these lines a document shows what a record holds.
const BEGIN: &str = "<!-- figures: from performance.json, by `cargo xtask bench report` -->\n";
const END: &str = "<!-- end of figures -->\n";

/// A title, the figures that share its cells, and their decimals.
struct Column(&'static str, &'static [Figure], usize);

/// How a scenario is shown: its name, what it is about, and its columns.
struct Shown {
    scenario: Scenario,
    title: &'static str,
    columns: &'static [Column],
}

const CONVERGENCE: &[Column] = &[
    Column("converged s", &[ConvergedSecs], 3),
    Column("CPU s", &[CpuSecs], 2),
    Column("told / needed", &[ToldPerNeeded], 2),
    Column("RSS MiB", &[RssMib], 0),
    Column("peak", &[PeakMib], 0),
    Column("B/path", &[BytesPerPath], 0),
    Column("one update p50/p99/max ms", &[UpdateP50Ms, UpdateP99Ms, UpdateMaxMs], 2),
    Column("refresh s", &[RefreshSecs], 3),
    Column("again s", &[AgainSecs], 3),
    Column("join s", &[JoinSecs], 3),
    Column("death s", &[DeathSecs], 3),
    Column("withdraw s", &[WithdrawSecs], 3),
    Column("RSS idle", &[IdleMib], 0),
    Column("after", &[AfterMib], 0),
];

const GROWTH: &[Column] = &[
    Column("converged s", &[ConvergedSecs], 3),
    Column("CPU s", &[CpuSecs], 2),
    Column("told / needed", &[ToldPerNeeded], 2),
    Column("RSS MiB", &[RssMib], 0),
    Column("RSS idle", &[IdleMib], 0),
    Column("B/path", &[BytesPerPath], 0),
];

const SHOWN: &[Shown] = &[
    Shown {
        scenario: Scenario::A,
        title: "**A, overlapping tables** (`cargo xtask bench a`)",
        columns: CONVERGENCE,
    },
    Shown {
        scenario: Scenario::B,
        title: "**B, fan-out** (`cargo xtask bench b`)",
        columns: CONVERGENCE,
    },
    Shown {
        scenario: Scenario::C,
        title: "**C, Internet size** (`cargo xtask bench c`)",
        columns: CONVERGENCE,
    },
    Shown {
        scenario: Scenario::Kernel,
        title: "**Kernel**, an UPDATE on the wire → the route in a VM's kernel (`cargo xtask bench kernel`)",
        columns: &[
            Column("table ms", &[TableMs], 0),
            Column(
                "announced p50/p99/max ms",
                &[AnnouncedP50Ms, AnnouncedP99Ms, AnnouncedMaxMs],
                2,
            ),
            Column(
                "withdrawn p50/p99/max ms",
                &[WithdrawnP50Ms, WithdrawnP99Ms, WithdrawnMaxMs],
                2,
            ),
        ],
    },
    Shown {
        scenario: Scenario::Rate,
        title: "**Rate**, routes into one kernel (`cargo xtask bench rate`)",
        columns: &[Column("ms", &[TableMs], 0), Column("routes/s", &[RoutesPerSec], 0)],
    },
    Shown {
        scenario: Scenario::Peering,
        title: "**Peering**, its creation → both sessions Established with a waiting NVA (`cargo xtask bench peering`)",
        columns: &[Column("p50/max ms", &[EstablishedP50Ms, EstablishedMaxMs], 0)],
    },
    Shown {
        scenario: Scenario::Agents,
        title: "**Agents**, all of one instance (`cargo xtask bench agents`)",
        columns: &[
            Column("all joined s", &[JoinSecs], 2),
            Column("one change p50/p99/max ms", &[ChangeP50Ms, ChangeP99Ms, ChangeMaxMs], 1),
            Column("table to all ms", &[TableMs], 0),
            Column("all back s", &[RejoinSecs], 2),
            Column("RSS idle", &[IdleMib], 0),
            Column("RSS MiB", &[RssMib], 0),
            Column("peak", &[PeakMib], 0),
            Column("KiB/agent", &[KibPerAgent], 1),
            Column("peering created p50/max ms", &[CreatedP50Ms, CreatedMaxMs], 0),
        ],
    },
    Shown {
        scenario: Scenario::Api,
        title: "**API**, one server as it fills (`cargo xtask bench api`)",
        columns: &[
            Column("create ms", &[CreateMs], 0),
            Column("peerings s", &[PeeringsSecs], 2),
            Column("one NIC more ms, few/all there", &[FewNicsMs, AllNicsMs], 1),
            Column("list ms", &[ListMs], 0),
            Column("routes of a NIC p50/max ms", &[RoutesOfNicP50Ms, RoutesOfNicMaxMs], 1),
            Column("reads/s", &[ReadsPerSec], 0),
        ],
    },
    Shown {
        scenario: Scenario::Settle,
        title: "**Settle**, a PUT → every NVA and every VM's agent, of both instances, has followed (`cargo xtask bench settle`)",
        columns: &[
            Column("branch-to-branch p50/max ms", &[BranchP50Ms, BranchMaxMs], 0),
            Column("VNet peering", &[VnetPeeringP50Ms, VnetPeeringMaxMs], 0),
            Column("route map", &[RouteMapP50Ms, RouteMapMaxMs], 0),
            Column("preference", &[PreferenceP50Ms, PreferenceMaxMs], 0),
        ],
    },
    Shown {
        scenario: Scenario::Lab,
        title: "**Lab**, `lab up` of the reference scenario (`cargo xtask bench lab`)",
        columns: &[Column("ready s", &[ReadySecs], 2)],
    },
    Shown {
        scenario: Scenario::Failover,
        title: "**Failover**, an NVA's path is cut, BFD 50 ms × 3, and an NVA ends its sessions (`cargo xtask bench failover`)",
        columns: &[
            Column("cut: lost p50/max ms", &[LostP50Ms, LostMaxMs], 0),
            Column("closed: last VM moved p50/max ms", &[MovedP50Ms, MovedMaxMs], 1),
            Column("instance killed: packets lost", &[LostByInstance], 0),
        ],
    },
    Shown {
        scenario: Scenario::Moved,
        title: "**Failover of many**, an NVA closes its sessions, then an instance is killed and comes back (`cargo xtask bench failover`)",
        columns: &[
            Column("last VM moved p50/p99/max ms", &[MovedP50Ms, MovedP99Ms, MovedMaxMs], 1),
            Column(
                "since the second instance knew p50/p99/max ms",
                &[NoticedP50Ms, NoticedP99Ms, NoticedMaxMs],
                1,
            ),
            Column("routes touched by it", &[TouchedByDeath], 0),
            Column("entries touched by the restart", &[TouchedByRestart], 0),
        ],
    },
    Shown {
        scenario: Scenario::Reset,
        title: "**Reset**, 200 peers are reset at once by what they send, 4 times → all back (`cargo xtask bench reset`)",
        columns: &[Column("back p50/max ms", &[RecoveredP50Ms, RecoveredMaxMs], 0)],
    },
    Shown {
        scenario: Scenario::GrowPrefixes,
        title: "**Growth with prefixes** (`cargo xtask bench grow`)",
        columns: GROWTH,
    },
    Shown {
        scenario: Scenario::GrowPeers,
        title: "**Growth with peers** (`cargo xtask bench grow`)",
        columns: GROWTH,
    },
];

/// The tables of what was measured.
pub(crate) fn tables(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for shown in SHOWN {
        let rows: Vec<&Outcome> = outcomes.iter().filter(|o| o.scenario == shown.scenario).collect();
        if !rows.is_empty() {
            let _ = writeln!(text, "{}\n\n{}", shown.title, table(shown.columns, &rows));
        }
    }
    text
}

fn table(columns: &[Column], rows: &[&Outcome]) -> String {
    let mut table = Table::new(std::iter::once("").chain(columns.iter().map(|column| column.0)));
    let mut notes = String::new();
    for row in rows {
        let name = match sizes(row) {
            none if none.is_empty() => row.subject.clone(),
            sizes => format!("{}, {sizes}", row.subject),
        };
        for why in row.missing.values() {
            if let Missing::Failed(why) = why {
                let _ = writeln!(notes, "\n{name}: {why}.");
            }
        }
        let cells = columns.iter().map(|column| cell(row, column));
        table.row(std::iter::once(name.clone()).chain(cells).collect());
    }
    table.markdown() + &notes
}

fn cell(row: &Outcome, Column(_, figures, decimals): &Column) -> String {
    let one = |figure: &Figure| match (row.get(*figure), row.missing.get(figure)) {
        (Some(value), _) => Some(format!("{value:.decimals$}")),
        (None, Some(Missing::NotWithin(secs))) => Some(format!("> {secs}")),
        (None, _) => None,
    };
    let parts: Option<Vec<String>> = figures.iter().map(one).collect();
    parts.map_or_else(|| "–".to_owned(), |parts| parts.join("/"))
}

/// What was measured, in a few characters.
pub(crate) fn sizes(outcome: &Outcome) -> String {
    let parts = outcome.sizes.iter().map(|(size, count)| {
        let count = grouped(*count);
        match size {
            Size::Peers => format!("{count} peers"),
            Size::Prefixes => count,
            Size::Routes => format!("{count} routes"),
            Size::Agents => format!("{count} agents"),
            Size::Nics => format!("{count} NICs"),
            Size::Networks => format!("{count} VNets"),
            Size::Rounds => format!("{count} times"),
            Size::Vms => format!("{count} VMs"),
        }
    });
    parts.collect::<Vec<_>>().join(" × ")
}

/// Everything of a record that a document shows: growth is shown as plots.
pub(crate) fn document(record: &Record) -> String {
    let versions = record
        .versions
        .iter()
        .map(|(package, version)| format!("{package} {version}"));
    let growth = |o: &&Outcome| matches!(o.scenario, Scenario::GrowPrefixes | Scenario::GrowPeers);
    let outcomes: Vec<Outcome> = record.outcomes.iter().filter(|o| !growth(o)).cloned().collect();
    format!(
        "Measured on {}; {}.\n\n{}\n{}",
        record.machine,
        versions.collect::<Vec<_>>().join(", "),
        tables(&outcomes),
        goals::table(&outcomes, &goals::all())
    )
}

/// Puts the record's figures into a document, between its marks.
pub(crate) fn update(document_path: &Path, record: &Record) -> Result<()> {
    let text = fs::read_to_string(document_path).with_context(|| format!("cannot read {}", document_path.display()))?;
    let text = replaced(&text, &document(record)).context("the document has no marks for figures")?;
    fs::write(document_path, text).with_context(|| format!("cannot write {}", document_path.display()))
}

fn replaced(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::OURS;

    const SIZES: [(Size, u64); 2] = [(Size::Peers, 8), (Size::Prefixes, 200_000)];

    #[test]
    fn a_step_that_was_given_up_shows_its_patience_and_a_failed_one_its_reason() {
        let mut outcome = Outcome::new(Scenario::A, "GoBGP", SIZES);
        outcome.missing.insert(ConvergedSecs, Missing::NotWithin(60));
        outcome
            .missing
            .insert(RefreshSecs, Missing::Failed("it died".to_owned()));
        let text = tables(&[outcome]);
        assert!(text.contains("| GoBGP, 8 peers × 200,000 | > 60 "), "{text}");
        assert!(text.contains("\nGoBGP, 8 peers × 200,000: it died.\n"), "{text}");
    }

    #[test]
    fn figures_of_one_column_stand_together() {
        let mut outcome = Outcome::new(Scenario::A, OURS, SIZES);
        outcome.set_all([UpdateP50Ms, UpdateP99Ms, UpdateMaxMs], [0.1, 0.25, 1.0]);
        assert!(tables(&[outcome]).contains("| 0.10/0.25/1.00 "));
    }

    #[test]
    fn the_document_shows_what_the_record_beside_it_holds() -> Result<()> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let record = Record::read(&docs.join("performance.json"))?;
        let text = fs::read_to_string(docs.join("performance.md"))?;
        assert!(
            replaced(&text, &document(&record)) == Some(text),
            "run: cargo xtask bench report docs/performance.json --into docs/performance.md --plots docs"
        );
        Ok(())
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let text = replaced(&text, "new").unwrap_or_default();
        assert_eq!(text, format!("before\n{BEGIN}\nnew\n{END}after\n"));
        assert_eq!(replaced(&text, "new"), Some(text.clone()));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
