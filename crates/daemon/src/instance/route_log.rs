//! The route log: every session event and route change of this instance as lines of JSON, if `[audit] routes` asks for it. Who
//! announced or withdrew what, what became best, which NICs were told and which have it in their kernel.
//!
//! ```text
//! driver ─ lines of a turn ─► bounded channel ─► writing thread ─► FILE.N
//! ```
//!
//! The driver never waits for a disk: when too much waits for it, or when it refuses, lines are left out and the writing thread tells
//! their number before the next that it writes. Off, it costs nothing: there is no log then, and the state machine makes no such events.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bgp::IpNet;
use jiff::Timestamp;
use rib::Change;
use routeserver::Input;
use routeserver::delivery::{TableId, TableUpdate, ToAgent};
use routeserver::instance::Event;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

/// Turns whose lines may wait for the disk,
const MAX_WAITING: usize = 4096;
/// and bytes of their lines.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// Bytes of lines that leave together at the latest.
const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Prefixes in one line; a larger change takes several lines.
const MAX_PREFIXES: usize = 500;
/// A file that is larger becomes `FILE.old`, instead of the one before.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// After a failure the file is left alone for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// The driver's side.
#[derive(Debug)]
pub(super) struct RouteLog {
    /// As configured.
    path: String,
    instance: usize,
    chunks: SyncSender<Chunk>,
    /// Bytes of lines that the writing thread has not come to.
    waiting_bytes: Arc<AtomicUsize>,
    next: Chunk,
    /// Which NICs follow a table (but for bases, which too many follow), as far as was told since the log began,
    nics: FxHashMap<TableId, BTreeSet<String>>,
    /// and which table a NIC follows.
    tables: FxHashMap<String, TableId>,
}

/// Lines that leave together.
#[derive(Debug, Default)]
struct Chunk {
    lines: Vec<u8>,
    count: u64,
    /// Lines before them that did not leave.
    left_out: u64,
}

impl RouteLog {
    /// Makes the log follow what the manager says.
    pub(super) fn follow(log: &mut Option<RouteLog>, wanted: Option<&str>, instance: usize) {
        if log.as_ref().map(|log| log.path.as_str()) == wanted {
            return;
        }
        *log = wanted.and_then(|path| RouteLog::start(path, instance));
    }

    fn start(path: &str, instance: usize) -> Option<RouteLog> {
        let (chunks, received) = sync_channel(MAX_WAITING);
        let file = file_of(Path::new(path), instance);
        tracing::info!(file = %file.display(), "logging route changes");
        let writer = std::thread::Builder::new().name("route-log".to_owned());
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let thread = Writer::new(file, instance, Arc::clone(&waiting_bytes));
        if let Err(error) = writer.spawn(move || thread.run(&received)) {
            tracing::error!(%error, "route changes cannot be logged");
            return None;
        }
        Some(RouteLog {
            path: path.to_owned(),
            instance,
            chunks,
            waiting_bytes,
            next: Chunk::default(),
            nics: FxHashMap::default(),
            tables: FxHashMap::default(),
        })
    }

    /// What the state machine says of sessions and routes.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Announced { peer, announcement } => {
                let attributes = &announcement.attributes;
                let numbers = attributes.as_numbers().map(|asn| asn.to_string());
                let communities = attributes.communities().map(|community| community.to_string());
                let facts = json!({
                    "peer": peer, "nextHop": attributes.next_hop(), "asPath": numbers.collect::<Vec<_>>().join(" "),
                    "communities": communities.collect::<Vec<_>>(),
                });
                self.with_prefixes("announced", &facts, &announcement.prefixes);
            }
            Event::Withdrawn { peer, prefixes } => self.with_prefixes("withdrawn", &json!({ "peer": peer }), prefixes),
            Event::BestChanged { speaker, changes } => self.best(speaker, changes),
            Event::PeerUp { peer, direction } => {
                self.line(
                    "peerUp",
                    json!({"peer": peer, "direction": format!("{direction:?}").to_lowercase()}),
                );
            }
            Event::PeerDown { peer, reason } => self.line("peerDown", json!({"peer": peer, "reason": reason})),
            Event::BfdUp { peer } => self.line("bfdUp", json!({"peer": peer})),
            Event::BfdDown {
                peer,
                reason,
                path_lost,
            } => self.line(
                "bfdDown",
                json!({"peer": peer, "reason": reason, "pathLost": path_lost}),
            ),
            Event::PeerFailed { peer, reason } => self.line("peerFailed", json!({"peer": peer, "reason": reason})),
            Event::UpdateMended { peer, what, count } => {
                self.line("updateMended", json!({"peer": peer, "what": what, "count": count}));
            }
            Event::RouteLimitNear { peer, held, limit } => {
                self.line("routeLimitNear", json!({"peer": peer, "held": held, "limit": limit}));
            }
            Event::MemoryShort {
                peer,
                held,
                used_mib,
                ceiling_mib,
            } => self.line(
                "memoryShort",
                json!({"peer": peer, "held": held, "usedMib": used_mib, "ceilingMib": ceiling_mib}),
            ),
            Event::CircuitRoutes { peer, told, limit } => {
                self.line("circuitRoutes", json!({"peer": peer, "told": told, "limit": limit}));
            }
            Event::RoutesKept {
                peer,
                family,
                phase,
                routes,
                until_secs,
            } => self.line(
                "routesKept",
                json!({
                    "peer": peer, "family": family.to_string(), "phase": phase, "routes": routes, "untilSecs": until_secs,
                }),
            ),
            Event::RoutesReleased { peer, family, routes } => self.line(
                "routesReleased",
                json!({"peer": peer, "family": family.to_string(), "routes": routes}),
            ),
            Event::UnknownCaller { remote } => {
                self.line("unknownCaller", json!({ "address": remote.ip().to_string() }));
            }
            Event::StoodStill { lasted } => self.line("stoodStill", json!({"lastedMs": lasted.as_millis() as u64})),
            Event::Converged => self.line("converged", json!({})),
        }
    }

    /// One line (or more) per choice: prefixes that have the same share it.
    fn best(&mut self, speaker: &str, changes: &[Change]) {
        // Equal choices are one allocation.
        let mut by_choice: FxHashMap<_, (_, Vec<IpNet>)> = FxHashMap::default();
        for Change { prefix, choice } in changes {
            let same = by_choice.entry(choice.as_ref().map(Arc::as_ptr));
            same.or_insert((choice.as_ref(), Vec::new())).1.push(*prefix);
        }
        for (choice, prefixes) in by_choice.into_values() {
            let facts = match choice {
                Some(choice) => json!({
                    "routeServer": speaker, "nextHops": choice.next_hops, "fallback": choice.fallback, "rank": choice.rank.0,
                }),
                None => json!({ "routeServer": speaker, "nextHops": [] }),
            };
            self.with_prefixes("best", &facts, &prefixes);
        }
    }

    /// What agents are told.
    pub(super) fn told(&mut self, message: &ToAgent) {
        match message {
            ToAgent::Nic(assignment) => {
                let nic = assignment.nic.to_string();
                self.follows(&nic, assignment.table);
                let number = |table: Option<TableId>| table.map(|table| table.0);
                let (table, base) = (number(assignment.table), number(assignment.base));
                self.line("nicFollows", json!({"nic": nic, "table": table, "base": base}));
            }
            ToAgent::Snapshot(update) => self.update("snapshot", update),
            ToAgent::Delta(update) => self.update("delta", update),
            ToAgent::Converged(_) => {}
        }
    }

    fn follows(&mut self, nic: &str, table: Option<TableId>) {
        if let Some(before) = self.tables.remove(nic)
            && let Some(nics) = self.nics.get_mut(&before)
        {
            nics.remove(nic);
            if nics.is_empty() {
                self.nics.remove(&before);
            }
        }
        if let Some(table) = table {
            self.nics.entry(table).or_default().insert(nic.to_owned());
            self.tables.insert(nic.to_owned(), table);
        }
    }

    fn update(&mut self, kind: &str, update: &TableUpdate) {
        let groups: Vec<Value> = update
            .groups
            .iter()
            .map(|group| json!({"group": group.id.0, "nextHops": group.members}))
            .collect();
        let facts = json!({
            "kind": kind, "table": update.table.0, "generation": update.generation, "groups": groups,
            "nics": self.nics.get(&update.table), "routes": update.routes.len(), "removed": update.removed.len(),
        });
        self.line("told", facts);
    }

    /// What agents say.
    pub(super) fn heard(&mut self, input: &Input) {
        if let Input::AgentInstalled {
            agent,
            nic,
            table,
            generation,
            base,
            problems,
            counts,
        } = input
        {
            let (base, base_generation) = base.map(|(base, generation)| (base.0, generation)).unzip();
            self.line(
                "installed",
                json!({
                    "agent": agent.0, "nic": nic, "table": table.0, "generation": generation,
                    "base": base, "baseGeneration": base_generation, "problems": problems,
                    "stranded": counts.stranded, "repaired": counts.repaired,
                }),
            );
        }
    }

    fn with_prefixes(&mut self, event: &str, facts: &Value, prefixes: &[IpNet]) {
        for chunk in prefixes.chunks(MAX_PREFIXES) {
            let mut facts = facts.clone();
            facts["prefixes"] = chunk.iter().map(IpNet::to_string).collect();
            self.line(event, facts);
        }
    }

    fn line(&mut self, event: &str, facts: Value) {
        self.next.lines.extend(line(self.instance, event, facts));
        self.next.count += 1;
        if self.next.lines.len() >= MAX_CHUNK_BYTES {
            self.flush();
        }
    }

    /// Hands the lines of a turn to the writing thread.
    pub(super) fn flush(&mut self) {
        if self.next.lines.is_empty() {
            return;
        }
        let chunk = std::mem::take(&mut self.next);
        let (bytes, lines) = (chunk.lines.len(), chunk.left_out + chunk.count);
        // Only this thread adds, so what is read here can only be too much.
        let has_room = self.waiting_bytes.load(Ordering::Relaxed) + bytes <= MAX_WAITING_BYTES;
        if has_room {
            self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            if self.chunks.try_send(chunk).is_ok() {
                return;
            }
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.next.left_out = lines;
    }
}

fn line(instance: usize, event: &str, facts: Value) -> Vec<u8> {
    let mut line = json!({ "at": format!("{:.6}", Timestamp::now()), "instance": instance, "event": event });
    if let (Value::Object(line), Value::Object(facts)) = (&mut line, facts) {
        line.extend(facts);
    }
    let mut line = line.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// `routes.jsonl` becomes `routes.0.jsonl` for instance 0: two processes do not share a file.
fn file_of(path: &Path, instance: usize) -> PathBuf {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) => path.with_extension(format!("{instance}.{extension}")),
        None => path.with_extension(instance.to_string()),
    }
}

/// The thread that writes.
struct Writer {
    path: PathBuf,
    instance: usize,
    waiting_bytes: Arc<AtomicUsize>,
    open: Option<(File, u64)>,
    not_before: Option<Instant>,
    /// Lines that are missing since the last that was written.
    left_out: u64,
}

impl Writer {
    fn new(path: PathBuf, instance: usize, waiting_bytes: Arc<AtomicUsize>) -> Writer {
        Writer {
            path,
            instance,
            waiting_bytes,
            open: None,
            not_before: None,
            left_out: 0,
        }
    }

    /// Until the driver lets go of the log.
    fn run(mut self, chunks: &Receiver<Chunk>) {
        while let Ok(chunk) = chunks.recv() {
            let bytes = chunk.lines.len();
            self.take(chunk);
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Writes the lines, or counts them.
    fn take(&mut self, chunk: Chunk) {
        self.left_out += chunk.left_out;
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            self.left_out += chunk.count;
            return;
        }
        let mut lines = match self.left_out {
            0 => Vec::new(),
            missing => line(self.instance, "leftOut", json!({ "lines": missing })),
        };
        lines.extend(chunk.lines);
        match self.write(&lines) {
            Ok(()) => self.left_out = 0,
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "route changes cannot be logged; trying again later");
                self.left_out += chunk.count;
                self.open = None;
                self.not_before = Some(Instant::now() + PAUSE);
            }
        }
    }

    fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, bytes)| *bytes >= MAX_FILE_BYTES) {
            self.open = None;
            let mut old = self.path.clone().into_os_string();
            old.push(".old");
            std::fs::rename(&self.path, old)?;
        }
        let (file, bytes) = match &mut self.open {
            Some(open) => open,
            none => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .open(&self.path)?;
                let bytes = file.metadata()?.len();
                none.insert((file, bytes))
            }
        };
        if let Err(error) = file.write_all(chunk) {
            // A full disk takes a part: half a line would spoil the next one.
            file.set_len(*bytes)?;
            return Err(error);
        }
        *bytes += chunk.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bgp::Asn;
    use bgp::wire::{Announcement, PathAttributes};
    use routeserver::delivery::{AgentId, NicAssignment};

    use routeserver::report::AgentCounts;

    use super::*;

    #[test]
    fn each_instance_has_a_file_of_its_own() {
        for (path, expected) in [
            ("/v/routes.jsonl", "/v/routes.1.jsonl"),
            ("/v/routes", "/v/routes.1"),
            ("/v.d/routes", "/v.d/routes.1"),
        ] {
            assert_eq!(file_of(Path::new(path), 1), Path::new(expected));
        }
    }

    fn writer(path: PathBuf) -> Writer {
        Writer::new(path, 1, Arc::default())
    }

    fn chunk(text: &str) -> Chunk {
        Chunk {
            lines: text.as_bytes().to_vec(),
            count: 1,
            left_out: 0,
        }
    }

    #[test]
    fn lines_that_the_disk_refused_and_those_of_the_pause_after_it_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not yet").join("routes.jsonl");
        let mut writer = writer(path.clone());
        writer.take(chunk("1\n"));
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        writer.take(chunk("2\n"));
        writer.take(Chunk {
            left_out: 5,
            ..chunk("3\n")
        });
        writer.not_before = None;
        writer.take(chunk("4\n"));
        writer.take(chunk("5\n"));
        let text = std::fs::read_to_string(&path).unwrap();
        let (told, rest) = text.split_once('\n').unwrap();
        let told: Value = serde_json::from_str(told).unwrap();
        assert_eq!((&told["event"], &told["lines"]), (&json!("leftOut"), &json!(8)));
        assert_eq!(rest, "4\n5\n");
    }

    #[test]
    fn a_file_that_is_too_large_makes_room_for_the_next_and_none_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("routes.jsonl");
        let mut writer = writer(path.clone());
        writer.write(b"one\n").unwrap();
        writer.open.as_mut().unwrap().1 = MAX_FILE_BYTES;
        writer.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(
            std::fs::read_to_string(directory.path().join("routes.jsonl.old")).unwrap(),
            "one\n"
        );
    }

    fn log(capacity: usize) -> (RouteLog, Receiver<Chunk>) {
        let (chunks, received) = sync_channel(capacity);
        let log = RouteLog {
            path: String::new(),
            instance: 1,
            chunks,
            waiting_bytes: Arc::default(),
            next: Chunk::default(),
            nics: FxHashMap::default(),
            tables: FxHashMap::default(),
        };
        (log, received)
    }

    fn lines(log: &mut RouteLog, received: &Receiver<Chunk>) -> Vec<Value> {
        log.flush();
        let chunk = received.recv().unwrap().lines;
        let lines = chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    fn assignment(nic: &str, table: Option<u64>) -> ToAgent {
        ToAgent::Nic(NicAssignment {
            nic: nic.into(),
            table: table.map(TableId),
            base: None,
            addresses: Vec::new(),
            subnet_prefixes: Vec::new(),
            gateways: Vec::new(),
        })
    }

    #[test]
    fn a_route_is_followed_from_its_announcement_to_the_nics_that_have_it() {
        let (mut log, received) = log(1);
        let prefix: IpNet = "10.250.0.0/16".parse().unwrap();
        let next_hop = "10.1.1.4".parse().unwrap();
        let attributes = PathAttributes::builder(next_hop)
            .as_sequence(&[Asn(65001), Asn(65002)])
            .build();
        log.told(&assignment("gone", Some(7)));
        log.told(&assignment("vm1", Some(7)));
        log.told(&assignment("gone", None));
        log.event(&Event::Announced {
            peer: "nva".to_owned(),
            announcement: Announcement {
                attributes: Arc::new(attributes),
                prefixes: vec![prefix],
            },
        });
        let choice = rib::Choice {
            next_hops: vec![next_hop],
            fallback: Vec::new(),
            rank: rib::Rank(3),
        };
        log.event(&Event::BestChanged {
            speaker: "rs".to_owned(),
            changes: vec![rib::Change {
                prefix,
                choice: Some(Arc::new(choice)),
            }],
        });
        log.told(&ToAgent::Delta(Arc::new(TableUpdate {
            table: TableId(7),
            generation: 2,
            groups: Vec::new(),
            removed_groups: Vec::new(),
            routes: Vec::new(),
            removed: vec![prefix],
            hides: None,
        })));
        log.heard(&Input::AgentInstalled {
            agent: AgentId(1),
            nic: "vm1".to_owned(),
            table: TableId(7),
            generation: 2,
            base: None,
            problems: Vec::new(),
            counts: AgentCounts::default(),
        });
        let lines = lines(&mut log, &received);
        let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(
            events,
            [
                "nicFollows",
                "nicFollows",
                "nicFollows",
                "announced",
                "best",
                "told",
                "installed"
            ]
        );
        let [.., announced, best, told, installed] = &lines[..] else {
            panic!("there are seven")
        };
        assert_eq!(
            (&announced["peer"], &announced["asPath"]),
            (&json!("nva"), &json!("65001 65002"))
        );
        assert_eq!(announced["prefixes"], json!(["10.250.0.0/16"]));
        assert_eq!((&best["nextHops"], &best["rank"]), (&json!(["10.1.1.4"]), &json!(3)));
        assert_eq!((&told["nics"], &told["generation"]), (&json!(["vm1"]), &json!(2)));
        assert_eq!((&installed["nic"], &installed["problems"]), (&json!("vm1"), &json!([])));
        assert!(lines.iter().all(|line| line["instance"] == 1 && line["at"].is_string()));
    }

    #[test]
    fn a_large_change_takes_several_lines() {
        let (mut log, received) = log(1);
        let prefixes = (0..MAX_PREFIXES as u32 + 1)
            .map(|n| IpNet::new(std::net::Ipv4Addr::from(n << 8).into(), 24).unwrap())
            .collect();
        log.event(&Event::Withdrawn {
            peer: "nva".to_owned(),
            prefixes,
        });
        let lines = lines(&mut log, &received);
        let counts: Vec<_> = lines
            .iter()
            .map(|line| line["prefixes"].as_array().unwrap().len())
            .collect();
        assert_eq!(counts, [MAX_PREFIXES, 1]);
    }

    #[test]
    fn a_disk_that_does_not_keep_up_costs_lines_and_their_number_is_told() {
        let (mut log, received) = log(1);
        for _ in 0..3 {
            log.event(&Event::Converged);
            log.flush();
        }
        assert_eq!(received.recv().unwrap().left_out, 0);
        log.event(&Event::Converged);
        log.flush();
        assert_eq!(received.recv().unwrap().left_out, 2);
        log.event(&Event::Converged);
        log.flush();
        assert_eq!(received.recv().unwrap().left_out, 0);
    }

    #[test]
    fn lines_that_wait_are_bounded_in_bytes() {
        let (mut log, received) = log(MAX_WAITING);
        log.waiting_bytes.store(MAX_WAITING_BYTES, Ordering::Relaxed);
        log.event(&Event::Converged);
        log.flush();
        assert!(received.try_recv().is_err());
        log.waiting_bytes.store(0, Ordering::Relaxed);
        log.event(&Event::Converged);
        log.flush();
        let chunk = received.try_recv().unwrap();
        assert_eq!((chunk.count, chunk.left_out), (1, 1));
        assert_eq!(log.waiting_bytes.load(Ordering::Relaxed), chunk.lines.len());
    }
}
