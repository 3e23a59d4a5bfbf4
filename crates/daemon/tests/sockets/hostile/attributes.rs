//! Attributes of every type, with every flag and many lengths: what is right goes on octet by octet, what is wrong costs the route.

use std::collections::{BTreeMap, BTreeSet};

use bgp::IpNet;

use super::messages::{attribute, nlri, update, usual_capabilities};
use super::raw::{Raw, Told};
use super::{Scene, among, asn, id, prefix};

crate::tests![
    unknown_attributes_of_every_type_and_flags_reach_another_peer_octet_by_octet,
    malformed_attributes_of_every_type_flags_and_length_cost_the_route_and_nothing_else,
    unknown_well_known_attributes_end_the_session_and_the_peer_comes_back,
    updates_without_what_they_need_withdraw_their_routes,
    mp_attributes_that_cannot_be_read_end_the_session_and_the_peer_comes_back,
];

/// Types that we know: what is right of them is their own rules'.
const KNOWN: [u8; 24] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 22, 23, 25, 26, 29, 32, 35, 39, 40,
];
/// Their routes are in the attribute itself.
const MULTI_PROTOCOL: [u8; 2] = [14, 15];
const MARK: usize = 65_000;

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const PARTIAL: u8 = 0x20;
const EXTENDED_LENGTH: u8 = 0x10;

/// A sender and somebody who hears what it is told of it.
async fn pair() -> (Raw, Raw) {
    (Raw::establish(0).await, Raw::establish(1).await)
}

/// The sender's usual attributes with one more, or in the place of the one of its type.
fn with(raw: &Raw, attribute: Vec<u8>) -> Vec<u8> {
    let mut all = raw.good_attributes();
    match all.iter_mut().find(|usual| usual[1] == attribute[1]) {
        Some(usual) => *usual = attribute,
        None => all.push(attribute),
    }
    all.concat()
}

// 2023-06-02 (attribute 28), 2010-08-27 (99), 2019-01 (255), 2025-10-24 (35), BIRD 2.0.12 (254), BIRD 3.3.2 (253 without the transitive bit).
fn unknown_attributes_of_every_type_and_flags_reach_another_peer_octet_by_octet() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let (mut sender, mut receiver) = pair().await;
            let unknown = (0..=255u8).filter(|code| !KNOWN.contains(code));
            let flags = (0..16u8)
                .map(|nibble| nibble << 4)
                .filter(|flags| flags & OPTIONAL != 0);
            let lengths = [0, 1, 5, 255, 256];
            let cases: Vec<(u8, u8, usize)> = unknown
                .flat_map(|code| flags.clone().map(move |flags| (code, flags)))
                .enumerate()
                .map(|(n, (code, flags))| (code, flags, lengths[n % lengths.len()]))
                .collect();
            let value = |code: u8, length: usize| (0..length).map(|at| code ^ at as u8).collect::<Vec<u8>>();
            let mut table = BTreeMap::new();
            for (n, (code, flags, length)) in cases.iter().enumerate() {
                let attributes = with(&sender, attribute(*flags, *code, &value(*code, *length)));
                sender.send(&update(&[], &attributes, &nlri([prefix(n)]))).await;
            }
            let all = |table: &BTreeMap<IpNet, Told>| (0..cases.len()).all(|n| table.contains_key(&prefix(n)));
            receiver.hears("all routes", &mut table, all).await;
            for (n, (code, flags, length)) in cases.iter().enumerate() {
                let told = &table[&prefix(n)].attributes;
                let is_told = told.get(code).map(|(_, octets)| octets.clone());
                let goes_on = flags & TRANSITIVE != 0;
                // RFC 4271 §5: who passes on what it does not know sets the Partial bit; all else stays.
                let wanted = goes_on.then(|| attribute(flags | PARTIAL, *code, &value(*code, *length)));
                assert_eq!(
                    is_told, wanted,
                    "attribute {code} flags {flags:#04x} of {length} octets"
                );
                let ours = [1, 2, 3, 8]
                    .into_iter()
                    .chain(goes_on.then_some(*code))
                    .collect::<BTreeSet<u8>>();
                assert!(told.keys().copied().eq(ours), "and nothing else: {told:02x?}");
            }
            is_unharmed(&scene, 0).await;
            scene
        },
    );
}

// CVE-2023-38802, CVE-2023-38283, CVE-2024-31948, CVE-2024-44070, CVE-2026-30405, -37461; 2025-05-20: not passed on what we would not take.
fn malformed_attributes_of_every_type_flags_and_length_cost_the_route_and_nothing_else() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let (mut sender, mut receiver) = pair().await;
            let mut table = BTreeMap::new();
            let mut n = 0;
            let codes = KNOWN.into_iter().filter(|code| !MULTI_PROTOCOL.contains(code));
            for (code, nibble) in codes.flat_map(|code| (0..16u8).map(move |nibble| (code, nibble))) {
                let flags = nibble << 4;
                let lengths = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 19, 20, 21, 255, 256];
                for (length, filler) in lengths.into_iter().flat_map(|length| [(length, 0), (length, 0xFF)]) {
                    let wrong = attribute(flags, code, &vec![filler; length]);
                    sender
                        .send(&update(&[], &with(&sender, wrong), &nlri([prefix(n)])))
                        .await;
                    n += 1;
                }
                // It says that it is longer than all attributes together, by one octet and by far.
                for says in [2u16, 0xFFFF] {
                    let [high, low] = says.to_be_bytes();
                    let overrun = vec![flags | EXTENDED_LENGTH, code, high, low, 0];
                    let attributes = [sender.good_attributes().concat(), overrun].concat();
                    sender.send(&update(&[], &attributes, &nlri([prefix(n)]))).await;
                    n += 1;
                }
            }
            assert!(n < MARK);
            // Whoever reads what it is told would have complained of anything malformed.
            sender.is_dealt_with(&mut receiver, &mut table, MARK).await;
            let report = scene.report(0).await;
            assert_eq!(report.updates_received, n as u64 + 1, "all were read");
            assert!(
                report.mended_updates > n as u64 / 2,
                "{} of {n} were mended",
                report.mended_updates
            );
            is_unharmed(&scene, 0).await;
            scene
        },
    );
}

/// The session is the one that it was.
async fn is_unharmed(scene: &Scene, n: usize) {
    let report = scene.report(n).await;
    assert_eq!((report.established_count, report.last_down), (1, None));
}

/// What it sends ends the session with this NOTIFICATION; then it is let in again, and its route goes everywhere.
async fn is_reset_and_comes_back(scene: &Scene, bytes: &[u8], code: u8, subcode: Option<u8>) {
    let mut raw = Raw::establish(0).await;
    raw.send(bytes).await;
    let said = raw.is_ended().await;
    let is_it = said.is_some_and(|said| said.0 == code && subcode.is_none_or(|subcode| said.1 == subcode));
    assert!(is_it, "{said:?} to {bytes:02x?}");
    // The more often, the longer it would be held off.
    scene.pardon(0).await;
}

fn unknown_well_known_attributes_end_the_session_and_the_peer_comes_back() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let mut receiver = Raw::establish(1).await;
            let mut raw = Raw::establish(0).await;
            let template = raw.good_attributes().concat();
            raw.send(&update(&[], &template, &nlri([prefix(0)]))).await;
            drop(raw);
            for code in [0, 11, 28, 99, 255] {
                for flags in (0..8u8).map(|nibble| nibble << 4) {
                    let attributes = [template.clone(), attribute(flags, code, &[1, 2, 3])].concat();
                    is_reset_and_comes_back(&scene, &update(&[], &attributes, &nlri([prefix(1)])), 3, Some(2)).await;
                }
            }
            let (mut raw, mut table) = (Raw::establish(0).await, BTreeMap::new());
            raw.is_dealt_with(&mut receiver, &mut table, MARK).await;
            assert!(
                !table.contains_key(&prefix(1)),
                "a route of an UPDATE that ended the session"
            );
            scene
        },
    );
}

// CVE-2023-41358, -41909, -46752, -46753, -47234, -47235; BGPLite #484, #288; GoBGP CVE-2026-41643.
fn updates_without_what_they_need_withdraw_their_routes() {
    among(
        2,
        |n, peer| peer.graceful_restart = n == 0,
        |scene| async move {
            let mut capabilities = usual_capabilities(asn(0));
            capabilities.push((64, vec![0, 120, 0, 1, 1, 0x80, 0, 2, 1, 0x80]));
            let (mut sender, mut receiver) = (Raw::establish_with(0, 0, &capabilities).await, Raw::establish(1).await);
            let mut table = BTreeMap::new();
            let [origin, path, next_hop] = <[Vec<u8>; 3]>::try_from(sender.good_attributes()).unwrap();
            let unknown = attribute(OPTIONAL | TRANSITIVE, 99, &[1]);
            let unreach = attribute(OPTIONAL, 15, &[0, 2, 1, 32, 0x20, 1, 0x0d, 0xb8]);
            let end_of_rib_v6 = attribute(OPTIONAL, 15, &[0, 2, 1]);
            let as4_path = attribute(OPTIONAL | TRANSITIVE, 17, &[2, 1, 0, 0, 0xFC, 0x58]);
            let bad_origin = attribute(TRANSITIVE, 1, &[9]);
            let without: &[&[&[u8]]] = &[
                &[],
                &[&unknown],
                &[&path, &next_hop],
                &[&origin, &next_hop],
                &[&origin, &path],
                &[&unreach],
                &[&unreach, &unknown],
                &[&end_of_rib_v6],
                &[&bad_origin, &path, &next_hop],
                &[&bad_origin, &path, &next_hop, &end_of_rib_v6],
                &[&as4_path],
                // In the wrong place, twice.
                &[&as4_path, &path, &as4_path],
            ];
            for (n, attributes) in without.iter().enumerate() {
                let announcement = sender.announcement([prefix(n)]);
                sender.send(&announcement).await;
                receiver
                    .hears("the route", &mut table, |table| table.contains_key(&prefix(n)))
                    .await;
                sender
                    .send(&update(&[], &attributes.concat(), &nlri([prefix(n)])))
                    .await;
                receiver
                    .hears("it is withdrawn", &mut table, |table| !table.contains_key(&prefix(n)))
                    .await;
            }
            // MP_REACH alone, and with others missing: an IPv6 route without what is mandatory is none.
            let reach = attribute(OPTIONAL, 14, &mp_reach());
            for attributes in [
                vec![reach.clone()],
                vec![reach.clone(), origin.clone()],
                vec![reach, path, unknown],
            ] {
                sender.send(&update(&[], &attributes.concat(), &[])).await;
            }
            sender.is_dealt_with(&mut receiver, &mut table, MARK).await;
            let held = scene.world.control.routes_of_peer(&id(0)).await.unwrap();
            assert!(held.iter().all(|route| route.network.addr().is_ipv4()), "{held:?}");
            is_unharmed(&scene, 0).await;
            scene
        },
    );
}

/// 2001:db8::/32 by 2001:db8::1.
fn mp_reach() -> Vec<u8> {
    let mut value = vec![0, 2, 1, 16];
    value.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    value.extend([0, 32, 0x20, 1, 0x0d, 0xb8]);
    value
}

// BIRD 3.3.2: after a malformed MP_REACH_NLRI the peer was locked out for good. FRR #22563: a bad UPDATE without NLRI.
fn mp_attributes_that_cannot_be_read_end_the_session_and_the_peer_comes_back() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let raw = Raw::greeted(0).await;
            let usual = raw.good_attributes().concat();
            drop(raw);
            let whole = mp_reach();
            let mut wrong: Vec<Vec<u8>> = (0..whole.len())
                // Without a prefix it is whole.
                .filter(|cut| *cut != whole.len() - 5)
                .map(|cut| attribute(OPTIONAL, 14, &whole[..cut]))
                .collect();
            // A next hop of no such length, a prefix of 129 bits, MP_UNREACH that ends early, MP_REACH twice.
            let edited = |at: usize, octet: u8| {
                let mut value = whole.clone();
                value[at] = octet;
                attribute(OPTIONAL, 14, &value)
            };
            wrong.extend([edited(3, 5), edited(3, 255), edited(21, 129)]);
            wrong.extend([
                attribute(OPTIONAL, 15, &[0, 2]),
                attribute(OPTIONAL, 15, &[0, 2, 1, 32, 0x20]),
            ]);
            let twice = attribute(OPTIONAL, 14, &whole);
            wrong.push([twice.clone(), twice].concat());
            for wrong in wrong {
                let attributes = [usual.clone(), wrong].concat();
                is_reset_and_comes_back(&scene, &update(&[], &attributes, &[]), 3, None).await;
            }
            let (mut sender, mut receiver, mut table) =
                (Raw::establish(0).await, Raw::establish(1).await, BTreeMap::new());
            sender.is_dealt_with(&mut receiver, &mut table, MARK).await;
            scene
        },
    );
}
