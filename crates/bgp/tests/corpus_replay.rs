//! Replays the fuzzers' committed corpora (`fuzz/corpus/<target>/`), each input cut and flipped in many ways besides.
//!
//! The hand-made seeds are written by `WRITE_CORPUS=1 cargo test -p routewright-bgp --test corpus_replay`; what a fuzzer finds is
//! put beside them.
#![allow(clippy::unwrap_used)]

mod wire_support;

use std::path::PathBuf;

use bgp::wire::{Capability, CapabilitySet, CeaseSubcode, Message, Notification, Open, fuzzing};
use bgp::{Asn, BgpIdentifier, FamilySet};
use bytes::BytesMut;
use wire_support::*;

type Target = (&'static str, fn(&[u8]), fn() -> Vec<(&'static str, Vec<u8>)>);

const TARGETS: [Target; 3] = [
    ("session", bgp::session::fuzzing::session, session_seeds),
    ("message_stream", fuzzing::message_stream, message_stream_seeds),
    ("update", fuzzing::update, update_seeds),
];

#[test]
fn corpus_of_every_target_runs_through_and_so_do_its_mutations() {
    for (name, target, seeds) in TARGETS {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(name);
        if std::env::var_os("WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            for (seed, bytes) in seeds() {
                std::fs::write(directory.join(seed), bytes).unwrap();
            }
        }
        let files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        for (seed, bytes) in seeds() {
            let file = directory.join(seed);
            assert_eq!(
                std::fs::read(&file).unwrap(),
                bytes,
                "{} is not what makes it",
                file.display()
            );
        }
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            target(&bytes);
            for end in 0..bytes.len() {
                target(&bytes[..end]);
            }
            let mut mutated = bytes.clone();
            for at in 0..bytes.len() {
                for octet in [
                    0x00,
                    0x01,
                    0x7F,
                    0x80,
                    0xFF,
                    bytes[at] ^ 0x10,
                    bytes[at].wrapping_add(1),
                ] {
                    mutated[at] = octet;
                    target(&mutated);
                }
                mutated[at] = bytes[at];
            }
        }
    }
}

/// Steps of the session target: bytes that arrive, time that passes, connections that come and go.
fn session_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let encoded = |message: Message| {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        let mut step = vec![4, out.len() as u8];
        step.extend_from_slice(&out);
        step
    };
    let open = || {
        encoded(Message::Open(Open {
            asn: Asn(65001),
            hold_time_secs: 30,
            identifier: BgpIdentifier([10, 1, 1, 4].into()),
            capabilities: CapabilitySet {
                families: FamilySet::BOTH,
                route_refresh: true,
                enhanced_route_refresh: true,
                extended_message: true,
                four_octet_as: true,
            }
            .to_capabilities(Asn(65001)),
        }))
    };
    let keepalive = || encoded(Message::Keepalive);
    let notification = || {
        encoded(Message::Notification(Notification::cease(
            CeaseSubcode::AdministrativeReset,
        )))
    };
    vec![
        (
            "established-then-silent",
            [open(), keepalive(), vec![0, 29, 0, 2]].concat(),
        ),
        ("collision", [open(), vec![1, 0], open(), keepalive()].concat()),
        (
            "deaf",
            [open(), keepalive(), vec![2, 0, 0, 255, 0, 255, 0, 255]].concat(),
        ),
        (
            "reset-and-back",
            [open(), keepalive(), notification(), vec![1, 0], open(), keepalive()].concat(),
        ),
        (
            "closed-in-open-confirm",
            [open(), vec![3, 0, 0, 5, 1, 0], open(), keepalive()].concat(),
        ),
    ]
}

fn message_stream_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let encoded = |message: Message| {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        out.to_vec()
    };
    let all = CapabilitySet {
        families: FamilySet::BOTH,
        route_refresh: true,
        enhanced_route_refresh: true,
        extended_message: true,
        four_octet_as: true,
    };
    let open = |capabilities: Vec<Capability>| {
        encoded(Message::Open(Open {
            asn: Asn(65515),
            hold_time_secs: 180,
            identifier: BgpIdentifier("10.1.0.4".parse().unwrap()),
            capabilities,
        }))
    };
    let unknown = |code, length| Capability::Unknown {
        code,
        value: vec![7; length],
    };
    let route = update(
        &hex("10 0afb"),
        &hex("40 01 01 00 40 02 06 0201 0000fde9 40 03 04 0a000001 c0 08 04 ffedffed"),
        &hex("10 0afa 00 20 01020304"),
    );
    let with = |head: [u8; 2], stream: &[&[u8]]| [&head[..], &stream.concat()].concat();
    let keepalive = encoded(Message::Keepalive);
    vec![
        ("whole_session", {
            let shutdown = Notification::cease_with_communication(CeaseSubcode::AdministrativeShutdown, "good night");
            let end = encoded(Message::Notification(shutdown));
            let refresh = message(5, &hex("0001 00 01"));
            with(
                [0, 0],
                &[
                    &open(all.to_capabilities(Asn(65515))),
                    &keepalive,
                    &route,
                    &refresh,
                    &end,
                ],
            )
        }),
        ("octet_by_octet", with([0, 1], &[&keepalive, &route])),
        (
            "open_extended_parameters",
            with([0, 7], &[&open((0..40).map(|n| unknown(n + 71, 8)).collect())]),
        ),
        (
            "open_odd_capabilities",
            with(
                [0, 0],
                &[&open(vec![
                    unknown(65, 3),
                    unknown(1, 3),
                    unknown(64, 1),
                    unknown(71, 0),
                ])],
            ),
        ),
        (
            "refresh_with_filters",
            with([0, 0], &[&message(5, &hex("0001 00 01 01 40 0003 8000 00"))]),
        ),
        ("long_update", {
            let prefixes: Vec<u8> = (0..250u8).flat_map(|n| [24, 10, 1, n]).collect();
            with(
                [0, 200],
                &[&update(
                    &[],
                    &hex("40 01 01 00 40 02 06 0201 0000fde9 40 03 04 0a000001"),
                    &prefixes,
                )],
            )
        }),
    ]
}

fn update_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |flags: u8, withdrawn: &str, attributes: &str, nlri: &str| {
        let message = update(&hex(withdrawn), &hex(attributes), &hex(nlri));
        [&[flags], &message[19..]].concat()
    };
    let good = "40 01 01 00 40 02 06 0201 0000fde9 40 03 04 0a000001";
    let old = "40 01 01 00 40 02 06 0202 fde9 5ba0 40 03 04 0a000001";
    let ipv6 = "80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8 40 01 01 00 40 02 06 0201 0000fde9";
    vec![
        ("ipv4", seed(0, "10 0afb", good, "10 0afa 18 0a0102")),
        ("ipv6", seed(0, "", ipv6, "")),
        ("ipv6_withdrawal", seed(0, "", "80 0f 08 0002 01 20 20010db8", "")),
        ("end_of_rib", seed(0, "", "", "")),
        ("end_of_rib_ipv6", seed(0, "", "80 0f 03 0002 01", "")),
        (
            "communities",
            seed(
                0,
                "",
                &format!(
                    "{good} c0 08 08 ffedffed ffffff02 c0 10 08 0002fde900000001 c0 20 0c 0000fde90000000100000002"
                ),
                "10 0afa",
            ),
        ),
        (
            "two_octets",
            seed(
                1,
                "",
                &format!("{old} c0 07 06 5ba0 0a000001 c0 11 06 0201 00011170 c0 12 08 00011170 0a000001"),
                "10 0afa",
            ),
        ),
        (
            "internal",
            seed(
                16,
                "",
                &format!("{good} 40 05 04 00000064 80 09 04 0a000001 80 0a 04 0a000001"),
                "10 0afa",
            ),
        ),
        (
            "unknown_attributes",
            seed(
                0,
                "",
                &format!("{good} c0 63 02 0102 d0 ff 0001 07 80 fd 04 deadbeef"),
                "10 0afa",
            ),
        ),
        (
            "tunnels",
            seed(
                0,
                "",
                &format!(
                    "{good} c0 16 09 0006000000 0a000002 c0 17 0a 0007 0006 01 04 0a000001 c0 28 0a 01 0007 00000000000001"
                ),
                "10 0afa",
            ),
        ),
        ("cut_short", seed(0, "", &format!("{good} c0 08 ff"), "10 0afa")),
        (
            "both_families",
            seed(
                0,
                "",
                &format!("{good} 80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8"),
                "10 0afa",
            ),
        ),
    ]
}
