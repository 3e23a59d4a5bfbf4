//! Load: ten thousand UPDATEs a second, a full table beside BFD, and two hundred peers that are reset at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bfd::{SessionConfig, State};
use daemon::liveness::{Liveness, LivenessEvent, Wanted};
use futures::future::join_all;
use routeserver::intent::BfdIntent;
use tokio::sync::mpsc;

use super::limits::{PER_UPDATE, flood};
use super::messages::{attribute, nlri, update};
use super::raw::Raw;
use super::{among, asn, hostile, prefix};
use crate::instance::OURS;
use crate::nva::Nva;
use crate::world::{address, until};

crate::tests![
    ten_thousand_updates_a_second_are_taken_and_told,
    a_full_table_makes_no_bfd_session_late,
    two_hundred_peers_that_are_reset_at_once_all_come_back,
];

/// How long the load lasts: `RW_LOAD_SECS`, 3,600 in the long form.
fn load_secs() -> u64 {
    std::env::var("RW_LOAD_SECS").map_or(5, |secs| secs.parse().unwrap())
}

const UPDATES_PER_SEC: usize = 10_000;
/// They come in so many portions a second.
const PORTIONS: usize = 100;

fn ten_thousand_updates_a_second_are_taken_and_told() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let (mut sender, receiver) = (Raw::establish(0).await, Nva::start(&hostile(1), asn(1), OURS, None));
            receiver.watch([]).await;
            // Each prefix gets another path each time.
            let portion = UPDATES_PER_SEC / PORTIONS;
            let mut beat = tokio::time::interval(Duration::from_secs(1) / PORTIONS as u32);
            let mut sent = 0usize;
            for _ in 0..load_secs() * PORTIONS as u64 {
                beat.tick().await;
                let mut bytes = Vec::new();
                for n in sent..sent + portion {
                    let med = attribute(0x80, 4, &(n as u32).to_be_bytes());
                    let attributes = [sender.good_attributes().concat(), med].concat();
                    bytes.extend(update(&[], &attributes, &nlri([prefix(n % 5_000)])));
                }
                sender.send(&bytes).await;
                sent += portion;
            }
            until("all were taken", || async {
                scene.report(0).await.updates_received == sent as u64
            })
            .await;
            receiver
                .sees("all routes", |seen| {
                    (0..sent.min(5_000)).all(|n| seen.learned.contains(&prefix(n)))
                })
                .await;
            assert!(receiver.seen().noticed.is_empty(), "{:?}", receiver.seen().noticed);
            let report = scene.report(0).await;
            assert_eq!((report.established_count, report.last_down), (1, None));
            scene
        },
    );
}

/// How often BFD is heard: `RW_BFD_MS`, 50 in the long form; by default what a test machine with much else to do keeps as well.
fn interval() -> Duration {
    Duration::from_millis(std::env::var("RW_BFD_MS").map_or(500, |ms| ms.parse().unwrap()))
}

const DETECT_MULT: u8 = 3;

fn a_full_table_makes_no_bfd_session_late() {
    let watched = BfdIntent {
        min_tx_ms: interval().as_millis() as u32,
        min_rx_ms: interval().as_millis() as u32,
        multiplier: DETECT_MULT,
        multihop: None,
        strict: false,
        authentication: None,
    };
    among(
        2,
        |n, peer| peer.bfd = (n == 0).then(|| watched.clone()),
        |scene| async move {
            let (events, mut heard) = mpsc::channel(4_096);
            let other_end = Liveness::spawn(events).unwrap();
            other_end.want(vec![other_end_of_bfd()]);
            let bfd = || async { scene.report(0).await.bfd.unwrap() };
            let is_up = || async { bfd().await.state == "Up" };
            let mut full = Raw::establish(1).await;
            let mut sent = 0;
            for attempt in 1..=ATTEMPTS {
                until("BFD is up", is_up).await;
                let before = bfd().await.downs;
                while heard.try_recv().is_ok() {}
                let machine = StandStill::watch();
                sent += say_the_table_again_and_again(&mut full, attempt).await;
                until("all was taken", || async {
                    scene.report(1).await.updates_received == sent
                })
                .await;
                let downs = bfd().await.downs - before;
                let went_down = |event: LivenessEvent<()>| matches!(event, LivenessEvent::Changed { change, .. } if change.from == State::Up);
                let seen_by_peer = std::iter::from_fn(|| heard.try_recv().ok()).any(went_down);
                if downs == 0 && !seen_by_peer {
                    break;
                }
                // Then nobody was on time, whoever had what priority.
                let stood_still = machine.longest();
                assert!(
                    stood_still > interval() && attempt < ATTEMPTS,
                    "BFD went down in attempt {attempt}, and the machine stood still for {stood_still:?} at most"
                );
            }
            assert_eq!(scene.report(1).await.routes_received, flood());
            scene
        },
    );
}

/// With other paths each time, for longer than silence may last. How many UPDATEs that were.
async fn say_the_table_again_and_again(full: &mut Raw, attempt: u32) -> u64 {
    let all: Vec<_> = (0..flood()).map(prefix).collect();
    let enough = Instant::now() + 4 * u32::from(DETECT_MULT) * interval();
    let mut sent = 0;
    for round in 0.. {
        let med = attribute(0x80, 4, &(attempt << 16 | round).to_be_bytes());
        let attributes = [full.good_attributes().concat(), med].concat();
        for some in all.chunks(PER_UPDATE) {
            full.send(&update(&[], &attributes, &nlri(some.iter().copied()))).await;
            sent += 1;
        }
        if Instant::now() > enough {
            break;
        }
    }
    sent
}

/// How often the table is said again if it was the machine that was late.
const ATTEMPTS: u32 = 5;

/// Sees for how long a thread did not run that wanted to.
struct StandStill {
    longest_micros: Arc<AtomicU64>,
}

impl StandStill {
    fn watch() -> StandStill {
        let longest_micros = Arc::new(AtomicU64::new(0));
        let seen = Arc::downgrade(&longest_micros);
        std::thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(longest) = seen.upgrade() {
                longest.fetch_max(last.elapsed().as_micros() as u64, Ordering::Relaxed);
                last = Instant::now();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        StandStill { longest_micros }
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_micros.load(Ordering::Relaxed))
    }
}

fn other_end_of_bfd() -> Wanted<()> {
    Wanted {
        key: (),
        local: address(&hostile(0)),
        remote: address(OURS),
        namespace: None,
        multihop: true,
        least_ttl: 0,
        config: SessionConfig {
            desired_min_tx: interval(),
            required_min_rx: interval(),
            detect_mult: DETECT_MULT,
        },
        authentication: None,
    }
}

fn two_hundred_peers_that_are_reset_at_once_all_come_back() {
    const PEERS: usize = 200;
    among(
        PEERS,
        |_, _| {},
        |scene| async move {
            let begin = |n: usize| async move {
                let mut raw = Raw::establish(n).await;
                let own = raw.announcement([prefix(n), prefix(1_000)]);
                raw.send(&own).await;
                raw
            };
            let mut all: Vec<Raw> = join_all((0..PEERS).map(begin)).await;
            let routes = || async {
                let peers = scene.world.control.peers(None).await.unwrap();
                peers.iter().filter(|peer| peer.routes_received == 2).count()
            };
            until("all are heard", || async { routes().await == PEERS }).await;
            // An unknown well-known attribute ends each session (RFC 4271 §6.3).
            for raw in &mut all {
                let attributes = [raw.good_attributes().concat(), attribute(0x40, 99, &[])].concat();
                raw.send(&update(&[], &attributes, &nlri([prefix(0)]))).await;
            }
            for raw in &mut all {
                assert_eq!(raw.is_ended().await, Some((3, 2)));
            }
            let again = join_all((0..PEERS).map(begin)).await;
            until("all are back", || async { routes().await == PEERS }).await;
            let peers = scene.world.control.peers(None).await.unwrap();
            let ups = peers.iter().filter(|peer| peer.established_count == 2).count();
            assert_eq!(ups, PEERS);
            drop(again);
            scene
        },
    );
}
