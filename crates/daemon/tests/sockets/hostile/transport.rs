//! TCP as nobody should use it: one octet per segment, bursts, a window that stays shut, connections that say nothing, resets, crowds.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp::IpNet;
use bytes::BytesMut;
use futures::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::messages::{self, keepalive, open, usual_capabilities};
use super::raw::{Raw, connected};
use super::{OwnThread, among, asn, hostile, id, prefix};
use crate::instance::{OURS, World, intent, peer};
use crate::nva::Nva;
use crate::world::{address, soon, until, with_addresses};

crate::tests![
    one_octet_per_segment_is_a_session_like_any_other,
    a_burst_of_keepalives_is_read,
    a_window_that_stays_shut_for_the_send_hold_time_ends_that_session_alone,
    connections_that_say_nothing_or_are_reset_do_not_keep_their_peer_out,
    two_hundred_connections_from_one_address_keep_nobody_out,
    keepalives_every_two_seconds_do_not_become_a_storm,
    sigterm_ends_the_process_with_hostile_peers,
];

fn one_octet_per_segment_is_a_session_like_any_other() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let mut receiver = Raw::establish(1).await;
            let mut raw = Raw::greeted(0).await;
            let mut hello = open(asn(0), 0, raw.octets(), &usual_capabilities(asn(0)));
            hello.extend(keepalive());
            send_octet_by_octet(&mut raw, &hello).await;
            // Whoever speaks of routes before it has heard KEEPALIVE is not listened to.
            assert!(matches!(raw.read().await, Some((messages::KEEPALIVE, _))));
            let routes: Vec<u8> = (0..40).flat_map(|n| raw.announcement([prefix(n)])).collect();
            send_octet_by_octet(&mut raw, &routes).await;
            let mut table = BTreeMap::new();
            let all = |table: &BTreeMap<IpNet, _>| (0..40).all(|n| table.contains_key(&prefix(n)));
            receiver.hears("all routes", &mut table, all).await;
            scene
        },
    );
}

async fn send_octet_by_octet(raw: &mut Raw, octets: &[u8]) {
    for octet in octets {
        raw.stream.writable().await.unwrap();
        raw.send(&[*octet]).await;
        // So that the kernel does not gather them.
        tokio::task::yield_now().await;
    }
}

fn a_burst_of_keepalives_is_read() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let (mut sender, mut receiver) = (Raw::establish(0).await, Raw::establish(1).await);
            let before = scene.report(0).await.messages_received;
            let burst = 64 * 1024 / 19;
            sender.send(&keepalive().repeat(burst)).await;
            sender.is_dealt_with(&mut receiver, &mut BTreeMap::new(), 0).await;
            let report = scene.report(0).await;
            assert_eq!(report.messages_received - before, burst as u64 + 1);
            scene
        },
    );
}

/// Established with a hold time, but for what it reads: as little as the kernel lets it.
async fn shut_window(n: usize, hold_time_secs: u16) -> Raw {
    let mut raw = soon("the instance says OPEN", async {
        loop {
            // The kernel makes it its least.
            let shut = |socket: &TcpSocket| socket.set_recv_buffer_size(1).unwrap();
            let mut raw = Raw::on(n, connected(n, shut).await);
            if raw.read().await.is_some() {
                return raw;
            }
        }
    })
    .await;
    assert!(raw.says_hello(hold_time_secs, &usual_capabilities(asn(n))).await);
    raw
}

/// Says KEEPALIVE in time, and never reads, until it is aborted.
fn goes_on_without_reading(mut raw: Raw) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            raw.send(&keepalive()).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    })
}

/// Announces and withdraws 20,000 prefixes again and again, until `done`. The next word waits until a listener has heard the one before: else
/// both may be one change, which is none, and nobody is told anything.
async fn churn_until<F: Future<Output = bool>>(feeder: &Nva, listener: &Nva, what: &str, mut done: impl FnMut() -> F) {
    const MANY: usize = 20_000;
    let prefixes: Vec<IpNet> = (0..MANY).map(prefix).collect();
    until(what, || {
        let done = done();
        async {
            feeder.announce(prefixes.iter().copied()).await;
            listener.sees("all of them", |seen| seen.learned.len() >= MANY).await;
            feeder.withdraw(prefixes.iter().copied()).await;
            listener.sees("none of them", |seen| seen.learned.len() < MANY).await;
            done.await
        }
    })
    .await;
}

// RFC 9687; 2020-08-30: a peer that takes nothing must not keep stale routes for hours.
fn a_window_that_stays_shut_for_the_send_hold_time_ends_that_session_alone() {
    among(
        3,
        |n, peer| peer.send_hold_secs = if n == 0 { 3 } else { 0 },
        |scene| async move {
            let asleep = goes_on_without_reading(shut_window(0, 30).await);
            let [feeder, listener] = [1, 2].map(|n| Nva::start(&hostile(n), asn(n), OURS, None));
            churn_until(&feeder, &listener, "the send hold timer ends it", || async {
                let down = scene.report(0).await.last_down;
                down.is_some_and(|down| down.reason.to_lowercase().contains("send hold"))
            })
            .await;
            asleep.abort();
            assert_eq!(feeder.seen().ups, 1);
            // And it may come back.
            Raw::establish(0).await;
            scene
        },
    );
}

fn connections_that_say_nothing_or_are_reset_do_not_keep_their_peer_out() {
    among(
        3,
        |_, _| {},
        |scene| async move {
            // As many as the instance takes.
            let mut silent = Vec::new();
            for _ in 0..10 {
                silent.push(Raw::call(0).await);
            }
            // RST in OpenSent, in OpenConfirm and in Established.
            for established in [None, Some(false), Some(true)] {
                let mut raw = Raw::greeted(1).await;
                match established {
                    None => {}
                    Some(false) => {
                        let open = open(asn(1), 0, raw.octets(), &usual_capabilities(asn(1)));
                        raw.send(&open).await;
                    }
                    Some(true) => assert!(raw.says_hello(0, &usual_capabilities(asn(1))).await),
                }
                raw.stream.set_zero_linger().unwrap();
            }
            // Half of a message, then nothing.
            let mut half = Raw::establish(2).await;
            let announcement = half.announcement([prefix(0)]);
            half.send(&announcement[..announcement.len() - 1]).await;
            join_all([0, 1].map(Raw::establish)).await;
            half.send(&announcement[announcement.len() - 1..]).await;
            until("the second half counts", || async {
                scene.report(2).await.routes_received == 1
            })
            .await;
            drop(silent);
            scene
        },
    );
}

fn two_hundred_connections_from_one_address_keep_nobody_out() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            // A peer's own address, while another comes.
            let mut calls: Vec<TcpStream> = Vec::new();
            for _ in 0..200 {
                calls.push(Raw::call(0).await.stream);
            }
            Raw::establish(1).await;
            // Most were turned away; the others are the session's, which lets go of all but the last ones.
            let mut open = 0;
            for call in &mut calls {
                let mut first = BytesMut::new();
                let read = tokio::time::timeout(Duration::from_millis(1), call.read_buf(&mut first)).await;
                open += usize::from(!matches!(read, Ok(Ok(0) | Err(_))));
            }
            assert!(open <= daemon::connection::MAX_PER_ADDRESS, "{open} are open");
            drop(calls);
            // And the peer itself is not kept out by its own crowd.
            Raw::establish(0).await;
            scene
        },
    );
}

/// Says KEEPALIVE every two seconds and drops what it hears, until the session ends.
async fn keeps_alive(n: usize) {
    let mut raw = Raw::establish_with(n, 6, &usual_capabilities(asn(n))).await;
    let mut beat = tokio::time::interval(Duration::from_secs(2));
    let mut sink = vec![0; 64 << 10];
    loop {
        tokio::select! {
            _ = beat.tick() => raw.send(&keepalive()).await,
            read = raw.stream.read(&mut sink) => if matches!(read, Ok(0) | Err(_)) { return },
        }
    }
}

// 2013: peers with KEEPALIVEs every two seconds had route servers flap.
fn keepalives_every_two_seconds_do_not_become_a_storm() {
    const QUICK: usize = 100;
    among(
        QUICK + 2,
        |_, _| {},
        |scene| async move {
            let thread = OwnThread::start();
            for n in 0..QUICK {
                thread.runtime().spawn(keeps_alive(n));
            }
            scene.world.established(QUICK + 2).await;
            let [feeder, listener] = [QUICK, QUICK + 1].map(|n| Nva::start(&hostile(n), asn(n), OURS, None));
            let before: u64 = scene.report(0).await.messages_received;
            // Several hold times long.
            churn_until(&feeder, &listener, "ten KEEPALIVEs of each", || async {
                scene.report(0).await.messages_received > before + 10
            })
            .await;
            let peers = scene.world.control.peers(None).await.unwrap();
            for peer in peers {
                assert_eq!((peer.established_count, peer.last_down), (1, None), "{}", peer.id);
            }
            scene
        },
    );
}

/// How long it may take is [`daemon::instance`]'s own bound, which has a test there; here it is seen to end at all, and to say farewell.
fn sigterm_ends_the_process_with_hostile_peers() {
    let addresses = [0, 1, 2, 3, 4].map(hostile);
    let all: Vec<&str> = addresses.iter().map(String::as_str).chain([OURS]).collect();
    with_addresses(&all, || async {
        let peers = (0..5).map(|n| peer(&id(n), &hostile(n), asn(n))).collect();
        let mut world = World::with(intent(1, peers)).await;
        let asleep = goes_on_without_reading(shut_window(0, 30).await);
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(Raw::call(1).await);
        }
        let [feeder, listener] = [2, 4].map(|n| Nva::start(&hostile(n), asn(n), OURS, None));
        let mut half = Raw::establish(3).await;
        half.send(&messages::keepalive()[..7]).await;
        churn_until(&feeder, &listener, "the window is shut", || async { is_stalled(0) }).await;

        world.process.terminate();
        assert!(world.process.ended().await.success());
        feeder
            .sees("the farewell", |seen| seen.notification == Some((6, 2)))
            .await;
        asleep.abort();
    });
}

/// Whether what is written to hostile peer `n` stays in the kernel's queue.
fn is_stalled(n: usize) -> bool {
    let text = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let std::net::IpAddr::V4(far) = address(&hostile(n)) else {
        unreachable!()
    };
    let far = format!("{:08X}:", u32::from_ne_bytes(far.octets()));
    let queued = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, _state, queues) = (fields.next()?, fields.next()?, fields.next()?);
        let waiting = usize::from_str_radix(queues.split(':').next()?, 16).ok()?;
        remote.starts_with(&far).then_some(waiting)
    };
    text.lines().filter_map(queued).any(|waiting| waiting > 20_000)
}
