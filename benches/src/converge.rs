//! Workloads A, B and C, step by step: converge, single updates, a route refresh, an unchanged table again, a peer that joins, one that
//! dies, withdraw all. One speaker after the other in the same set-up.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bgp::Family;
use bgp::wire::{Message, RefreshKind, RouteRefresh};
use bytes::BytesMut;

use crate::load::Load;
use crate::network::Network;
use crate::speaker::{Kind, Speaker};
use crate::table::{Column, Table};
use crate::workload::{NOBODY, Workload, encode_one};

/// Single updates measured.
const PROBES: u32 = 300;

/// A single update that takes longer is lost.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a speaker has given back memory before what it kept is read.
const REST: Duration = Duration::from_millis(500);

/// What was measured of one speaker; `None`: the speaker did not get so far.
#[derive(Default)]
pub(crate) struct Figures {
    converged: Option<f64>,
    cpu: Option<f64>,
    /// Routes told, of those that had to be.
    told: Option<f64>,
    idle_mib: f64,
    rss_mib: Option<f64>,
    peak_mib: Option<f64>,
    bytes_per_path: Option<f64>,
    latency_ms: Option<[f64; 3]>,
    refresh: Option<f64>,
    again: Option<f64>,
    join: Option<f64>,
    death: Option<f64>,
    withdraw: Option<f64>,
    rss_after_mib: Option<f64>,
}

/// Runs the workload against every speaker in turn and prints them side by side.
pub(crate) fn run(title: &str, workload: Workload, kinds: &[Kind], patience: Duration) -> Result<()> {
    let (paths, routes) = sizes(workload);
    println!("{title}: {paths} paths in, {routes} routes out");
    let mut rows = Vec::new();
    for kind in kinds {
        let mut figures = Figures::default();
        if let Err(error) = measure(*kind, workload, patience, &mut figures) {
            eprintln!("{}: {error:#}", kind.name());
        }
        rows.push((*kind, figures));
    }
    print(&rows);
    Ok(())
}

fn sizes(workload: Workload) -> (u64, u64) {
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

fn measure(kind: Kind, workload: Workload, patience: Duration, figures: &mut Figures) -> Result<()> {
    let network = Network::new(workload.configured_peers())?;
    let speaker = Speaker::start(kind, &network, workload)?;
    let tables: Vec<Vec<u8>> = (0..workload.peers).map(|peer| workload.encode_table(peer)).collect();
    let wanted = Wanted::of(workload);
    let mut load = Load::establish(&network, workload)?;
    thread::sleep(REST);
    figures.idle_mib = speaker.memory_mib()?.0;
    let cpu_before = speaker.cpu_secs()?;

    let started = Instant::now();
    load.send_all(&tables)?;
    load.wait("convergence", patience, |peer, holding| {
        holding.right.load(Ordering::Acquire) == wanted.all_live[peer as usize]
    })?;
    figures.converged = Some(started.elapsed().as_secs_f64());
    let told: u64 = load
        .holdings
        .iter()
        .map(|holding| holding.announced.load(Ordering::Acquire))
        .sum();
    figures.told = Some(told as f64 / sizes(workload).1 as f64);
    thread::sleep(REST);
    figures.cpu = Some(speaker.cpu_secs()? - cpu_before);
    if kind == Kind::Floor {
        return Ok(());
    }
    let (rss_mib, peak_mib) = speaker.memory_mib()?;
    let paths = f64::from(workload.peers) * f64::from(workload.prefixes);
    (figures.rss_mib, figures.peak_mib) = (Some(rss_mib), Some(peak_mib));
    figures.bytes_per_path = Some((rss_mib - figures.idle_mib) * 1_048_576.0 / paths);

    figures.latency_ms = Some(probe(&load, workload)?);
    // OpenBGPD does not answer; the steps after it can be measured all the same.
    match refresh(&load, wanted.all_live[1], patience) {
        Ok(took) => figures.refresh = Some(took),
        Err(error) => eprintln!("{}: {error:#}", kind.name()),
    }
    figures.again = Some(again(&load, workload, &tables[1], patience)?);
    figures.join = Some(join(&mut load, &network, workload, &wanted, patience)?);
    figures.death = Some(death(&load, &wanted, patience)?);
    figures.withdraw = Some(withdraw(&load, workload, patience)?);
    thread::sleep(REST);
    figures.rss_after_mib = Some(speaker.memory_mib()?.0);
    Ok(())
}

/// Single announcements and withdrawals by peer 0, until the last other peer has seen each: p50, p99, max in ms.
fn probe(load: &Load, workload: Workload) -> Result<[f64; 3]> {
    let mut times = Vec::with_capacity(PROBES as usize);
    for round in 0..PROBES {
        let number = workload.total() + 1 + round / 2;
        let announce = round.is_multiple_of(2);
        times.push(one_update(load, 0, number, announce)?.as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(percentiles(&times))
}

/// p50, p99 and max of sorted values.
pub(crate) fn percentiles(sorted: &[f64]) -> [f64; 3] {
    let at = |share: usize| sorted.get(sorted.len() * share / 100).copied().unwrap_or(f64::NAN);
    [at(50), at(99), sorted.last().copied().unwrap_or(f64::NAN)]
}

/// Time until all others have seen one announcement or withdrawal by a peer.
fn one_update(load: &Load, peer: usize, number: u32, announce: bool) -> Result<Duration> {
    let bytes = encode_one(peer as u32, number, announce);
    let expected = if announce { number } else { 0 };
    let started = Instant::now();
    (&load.streams[peer]).write_all(&bytes)?;
    let others = || load.holdings.iter().enumerate().filter(|(other, _)| *other != peer);
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
fn refresh(load: &Load, wanted: u32, patience: Duration) -> Result<f64> {
    let mut out = BytesMut::new();
    let message = RouteRefresh {
        family: Family::Ipv4Unicast,
        kind: RefreshKind::Request,
    };
    Message::RouteRefresh(message).encode(&mut out);
    let before = load.holdings[1].announced.load(Ordering::Acquire);
    let started = Instant::now();
    (&load.streams[1]).write_all(&out)?;
    load.wait("a route refresh", patience, |peer, holding| {
        peer != 1 || holding.announced.load(Ordering::Acquire) >= before + u64::from(wanted)
    })?;
    Ok(started.elapsed().as_secs_f64())
}

/// Peer 1 says its whole table again, unchanged. It is through when all have seen the single update that follows it.
fn again(load: &Load, workload: Workload, table: &[u8], patience: Duration) -> Result<f64> {
    let number = workload.total() + PROBES;
    let mut bytes = table.to_vec();
    bytes.extend_from_slice(&encode_one(1, number, true));
    let started = Instant::now();
    (&load.streams[1]).write_all(&bytes)?;
    load.wait("an unchanged table", patience, |peer, holding| {
        peer == 1 || holding.probe.load(Ordering::Acquire) == number
    })?;
    let took = started.elapsed().as_secs_f64();
    one_update(load, 1, number, false)?;
    Ok(took)
}

/// One peer more, which announces nothing, gets the full table. Counted from its first SYN.
fn join(load: &mut Load, network: &Network, workload: Workload, wanted: &Wanted, patience: Duration) -> Result<f64> {
    let started = Instant::now();
    load.join(network, workload.peers)?;
    load.wait("a joining peer's table", patience, |peer, holding| {
        holding.right.load(Ordering::Acquire) == wanted.all_live[peer as usize]
    })?;
    Ok(started.elapsed().as_secs_f64())
}

/// Peer 0 dies: the others get the second best, or lose what was its alone.
fn death(load: &Load, wanted: &Wanted, patience: Duration) -> Result<f64> {
    let started = Instant::now();
    load.streams[0].shutdown(Shutdown::Both)?;
    load.wait("moving a dead peer's routes", patience, |peer, holding| {
        let count = wanted.without_0[peer as usize];
        peer == 0
            || (holding.held.load(Ordering::Acquire) == count
                && holding.right_without_0.load(Ordering::Acquire) == count)
    })?;
    Ok(started.elapsed().as_secs_f64())
}

fn withdraw(load: &Load, workload: Workload, patience: Duration) -> Result<f64> {
    let mut withdrawals: Vec<Vec<u8>> = (0..workload.peers)
        .map(|peer| workload.encode_withdrawal(peer))
        .collect();
    withdrawals[0].clear();
    let started = Instant::now();
    load.send_all(&withdrawals)?;
    load.wait("withdrawing all", patience, |peer, holding| {
        peer == 0 || holding.held.load(Ordering::Acquire) == 0
    })?;
    Ok(started.elapsed().as_secs_f64())
}

fn print(rows: &[(Kind, Figures)]) {
    let secs = |value: fn(&Figures) -> Option<f64>| {
        move |f: &Figures| value(f).map_or_else(|| "–".to_owned(), |secs| format!("{secs:.3}"))
    };
    let whole = |value: fn(&Figures) -> Option<f64>| {
        move |f: &Figures| value(f).map_or_else(|| "–".to_owned(), |mib| format!("{mib:.0}"))
    };
    let latency = |f: &Figures| {
        f.latency_ms.map_or_else(
            || "–".to_owned(),
            |[p50, p99, max]| format!("{p50:.2}/{p99:.2}/{max:.2}"),
        )
    };
    let columns: Vec<Column<'_, Figures>> = vec![
        Column::new("converged s", secs(|f| f.converged)),
        Column::new("CPU s", secs(|f| f.cpu)),
        Column::new("told / needed", |f: &Figures| {
            f.told.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
        }),
        Column::new("RSS MiB", whole(|f| f.rss_mib)),
        Column::new("peak", whole(|f| f.peak_mib)),
        Column::new("B/path", whole(|f| f.bytes_per_path)),
        Column::new("one update p50/p99/max ms", latency),
        Column::new("refresh s", secs(|f| f.refresh)),
        Column::new("again s", secs(|f| f.again)),
        Column::new("join s", secs(|f| f.join)),
        Column::new("death s", secs(|f| f.death)),
        Column::new("withdraw s", secs(|f| f.withdraw)),
        Column::new("RSS idle", whole(|f| Some(f.idle_mib).filter(|mib| *mib > 0.0))),
        Column::new("after", whole(|f| f.rss_after_mib)),
    ];
    Table::new(columns).print(rows.iter().map(|(kind, figures)| (kind.name(), figures)));
    compare(rows);
}

/// The ratios that count.
fn compare(rows: &[(Kind, Figures)]) {
    let converged = |kind: Kind| rows.iter().find(|(k, _)| *k == kind).and_then(|(_, f)| f.converged);
    let Some(ours) = converged(Kind::Routewright) else {
        return;
    };
    if let Some(floor) = converged(Kind::Floor) {
        println!("routewright takes {:.1} times as long as the floor", ours / floor);
    }
    for kind in [Kind::Bird, Kind::Frr, Kind::Openbgpd, Kind::Gobgp] {
        if let Some(theirs) = converged(kind) {
            println!(
                "{} takes {:.1} times as long as routewright",
                kind.name(),
                theirs / ours
            );
        }
    }
}
