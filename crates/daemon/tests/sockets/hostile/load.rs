//! Load: ten thousand UPDATEs a second, and two hundred peers that are reset at once.

use std::time::Duration;

use futures::future::join_all;

use super::messages::{attribute, nlri, update};
use super::raw::Raw;
use super::{among, asn, hostile, prefix};
use crate::instance::OURS;
use crate::nva::Nva;
use crate::world::until;

crate::tests![
    ten_thousand_updates_a_second_are_taken_and_told,
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
