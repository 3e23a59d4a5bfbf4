//! Load: ten thousand UPDATEs a second, a full table beside BFD, and two hundred peers that are reset at once.

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
            until("BFD is up", || async { bfd().await.state == "Up" }).await;

            // The table again and again, with other paths, for longer than silence may last.
            let mut full = Raw::establish(1).await;
            let all: Vec<_> = (0..flood()).map(prefix).collect();
            let enough = Instant::now() + 4 * u32::from(DETECT_MULT) * interval();
            for round in 0u32.. {
                let med = attribute(0x80, 4, &round.to_be_bytes());
                let attributes = [full.good_attributes().concat(), med].concat();
                for some in all.chunks(PER_UPDATE) {
                    full.send(&update(&[], &attributes, &nlri(some.iter().copied()))).await;
                }
                if Instant::now() > enough {
                    break;
                }
            }
            until("all are held", || async {
                scene.report(1).await.routes_received == all.len()
            })
            .await;
            let bfd = bfd().await;
            assert_eq!((bfd.state.as_str(), bfd.ups, bfd.downs), ("Up", 1, 0), "{bfd:?}");
            while let Ok(event) = heard.try_recv() {
                let was_up = matches!(event, LivenessEvent::Changed { change, .. } if change.from == State::Up);
                assert!(!was_up, "the peer saw {event:?}");
            }
            scene
        },
    );
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
