//! OPENs, headers and NOTIFICATIONs as nobody should send them: they cost their sender the connection, and no more.

use futures::future::join_all;

use super::messages::{self, KEEPALIVE, NOTIFICATION, message, open, update, usual_capabilities};
use super::raw::Raw;
use super::{Scene, among, asn};

crate::tests![
    an_open_cut_at_any_octet_costs_its_sender_one_connection,
    capabilities_of_every_code_and_length_keep_nobody_out,
    what_cannot_be_is_answered_with_its_notification_and_the_peer_is_let_in_when_it_is_right,
    notifications_of_every_code_end_a_session_and_the_next_one_stands,
];

/// An OPEN with everything in it that has length fields of its own.
fn rich_open(raw: &Raw) -> Vec<u8> {
    let mut capabilities = usual_capabilities(asn(raw.n));
    capabilities.extend([
        (2, vec![]),
        (6, vec![]),
        (64, vec![0x40, 120, 0, 1, 1, 0x80]),
        (69, vec![0, 1, 1, 3]),
        (71, vec![0, 1, 1, 0x80, 0, 0, 60]),
        (73, b"\x02fw\x01x".to_vec()),
        (75, b"\x04FRR1".to_vec()),
    ]);
    open(asn(raw.n), 90, raw.octets(), &capabilities)
}

/// All of them can be Established afterwards.
async fn all_are_let_in(peers: usize) {
    join_all((0..peers).map(Raw::establish)).await;
}

// CVE-2022-36440, -40302, -40318, -43681, CVE-2023-31489: a length that lies, or a message that ends early.
fn an_open_cut_at_any_octet_costs_its_sender_one_connection() {
    const PEERS: usize = 30;
    among(
        PEERS,
        |_, _| {},
        |scene| async move {
            let attempts = |n: usize| async move {
                let whole = rich_open(&Raw::greeted(n).await);
                // The rest never comes.
                for cut in (n..whole.len()).step_by(PEERS) {
                    let mut raw = Raw::greeted(n).await;
                    raw.send(&whole[..cut]).await;
                }
                // The header says that this is all.
                for cut in (19 + n..whole.len()).step_by(PEERS) {
                    let mut raw = Raw::greeted(n).await;
                    let mut cut_off = whole[..cut].to_vec();
                    cut_off[16..18].copy_from_slice(&(cut as u16).to_be_bytes());
                    raw.send(&cut_off).await;
                    let said = raw.is_ended().await;
                    assert!(matches!(said, Some((1, 2) | (2, _))), "cut at {cut}: {said:?}");
                }
            };
            join_all((0..PEERS).map(attempts)).await;
            all_are_let_in(PEERS).await;
            scene
        },
    );
}

fn capabilities_of_every_code_and_length_keep_nobody_out() {
    const PEERS: usize = 40;
    among(
        PEERS,
        |_, _| {},
        |scene| async move {
            let all: Vec<(u8, usize)> = (0..=255)
                .flat_map(|code| (0..=4).map(move |length| (code, length)))
                .collect();
            let all = &all;
            let attempts = |n: usize| async move {
                for (code, length) in all.iter().skip(n).step_by(PEERS) {
                    let mut capabilities = usual_capabilities(asn(n));
                    capabilities.push((*code, [0x7F, 1, 2, 3][..*length].to_vec()));
                    let mut raw = Raw::greeted(n).await;
                    let open = open(asn(n), 0, raw.octets(), &capabilities);
                    raw.send(&open).await;
                    let answer = raw.read().await.map(|(kind, _)| kind);
                    // Another AS number than the peer's is one.
                    if (*code, *length) != (65, 4) {
                        assert_eq!(answer, Some(KEEPALIVE), "capability {code} of length {length}");
                    }
                }
            };
            join_all((0..PEERS).map(attempts)).await;
            all_are_let_in(PEERS).await;
            scene
        },
    );
}

type Case = (&'static str, fn(&Raw) -> Vec<u8>, u8, Option<u8>);

/// What is said in OpenSent, and the NOTIFICATION that it gets.
const CASES: &[Case] = &[
    (
        "a marker that is none",
        |_| edited(messages::keepalive(), 0, 0),
        1,
        Some(1),
    ),
    ("length 18", |_| edited(messages::keepalive(), 17, 18), 1, Some(2)),
    ("length 0", |_| edited(messages::keepalive(), 17, 0), 1, Some(2)),
    ("a KEEPALIVE with a body", |_| message(KEEPALIVE, &[0]), 1, Some(2)),
    ("length 4,097", |_| long(4_097), 1, Some(2)),
    ("length 65,535", |_| long(65_535), 1, Some(2)),
    ("type 0", |_| message(0, &[]), 1, Some(3)),
    ("type 6", |_| message(6, &[1, 2]), 1, Some(3)),
    ("type 255", |_| message(255, &[]), 1, Some(3)),
    ("version 3", |raw| edited(usual(raw), 19, 3), 2, Some(1)),
    ("version 255", |raw| edited(usual(raw), 19, 255), 2, Some(1)),
    (
        "another AS",
        |raw| open(64_999, 90, raw.octets(), &usual_capabilities(64_999)),
        2,
        Some(2),
    ),
    (
        "AS 0",
        |raw| open(0, 90, raw.octets(), &usual_capabilities(0)),
        2,
        Some(2),
    ),
    ("AS_TRANS alone", |raw| open(23_456, 90, raw.octets(), &[]), 2, Some(2)),
    (
        "identifier 0",
        |raw| open(asn(raw.n), 90, [0; 4], &usual_capabilities(asn(raw.n))),
        2,
        Some(3),
    ),
    ("hold time 1", |raw| open(asn(raw.n), 1, raw.octets(), &[]), 2, Some(6)),
    ("hold time 2", |raw| open(asn(raw.n), 2, raw.octets(), &[]), 2, Some(6)),
    (
        "a family that we do not route",
        |raw| open(asn(raw.n), 90, raw.octets(), &[(1, vec![0, 25, 0, 70])]),
        2,
        Some(7),
    ),
    (
        "parameters longer than the message",
        |raw| edited(usual(raw), 28, 254),
        2,
        None,
    ),
    (
        "a parameter longer than all of them",
        |raw| edited(usual(raw), 30, 200),
        2,
        None,
    ),
    (
        "a capability longer than its parameter",
        |raw| edited(usual(raw), 32, 200),
        2,
        None,
    ),
    ("an UPDATE before OPEN", |_| update(&[], &[], &[]), 5, Some(1)),
    ("a KEEPALIVE before OPEN", |_| messages::keepalive(), 5, Some(1)),
    ("a ROUTE-REFRESH before OPEN", |_| message(5, &[0, 1, 0, 1]), 5, Some(1)),
    ("OPEN twice", |raw| usual(raw).repeat(2), 5, Some(2)),
    (
        "an UPDATE instead of KEEPALIVE",
        |raw| [usual(raw), update(&[], &[], &[])].concat(),
        5,
        Some(2),
    ),
];

fn usual(raw: &Raw) -> Vec<u8> {
    open(asn(raw.n), 90, raw.octets(), &usual_capabilities(asn(raw.n)))
}

fn edited(mut bytes: Vec<u8>, at: usize, octet: u8) -> Vec<u8> {
    bytes[at] = octet;
    bytes
}

/// An OPEN that has so many octets, as its header says.
fn long(length: u16) -> Vec<u8> {
    let mut bytes = messages::message(messages::OPEN, &[]);
    bytes[16..18].copy_from_slice(&length.to_be_bytes());
    bytes.resize(usize::from(length), 0);
    bytes
}

fn what_cannot_be_is_answered_with_its_notification_and_the_peer_is_let_in_when_it_is_right() {
    among(
        CASES.len(),
        |_, _| {},
        |scene| async move {
            let attempts = |n: usize| async move {
                let (what, bytes, code, subcode) = &CASES[n];
                let mut raw = Raw::greeted(n).await;
                let bytes = bytes(&raw);
                raw.send(&bytes).await;
                let said = raw.is_ended().await;
                let is_it = said.is_some_and(|said| said.0 == *code && subcode.is_none_or(|subcode| subcode == said.1));
                assert!(is_it, "{what}: {said:?}");
            };
            join_all((0..CASES.len()).map(attempts)).await;
            all_are_let_in(CASES.len()).await;
            scene
        },
    );
}

// FRR #22547: after any NOTIFICATION the session is down. BIRD CVE-2019-16159: a Shutdown Communication of any length.
fn notifications_of_every_code_end_a_session_and_the_next_one_stands() {
    let codes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 255];
    let all: Vec<Vec<u8>> = codes
        .into_iter()
        .flat_map(|code| [0, 2, 9].map(|subcode| (code, subcode)))
        .flat_map(|(code, subcode)| [vec![code, subcode], [&[code, subcode][..], &[0xFF; 128]].concat()])
        .collect();
    let peers = all.len();
    among(
        peers,
        |_, _| {},
        |scene: Scene| async move {
            let all = &all;
            let attempts = |n: usize| async move {
                let mut early = Raw::call(n).await;
                early.send(&message(NOTIFICATION, &all[n])).await;
                early.is_ended().await;
                let mut raw = Raw::establish(n).await;
                raw.send(&message(NOTIFICATION, &all[n])).await;
                // Nothing is said to whoever says farewell.
                assert_eq!(raw.is_ended().await, None, "{:?}", all[n]);
            };
            join_all((0..peers).map(attempts)).await;
            all_are_let_in(peers).await;
            scene
        },
    );
}
