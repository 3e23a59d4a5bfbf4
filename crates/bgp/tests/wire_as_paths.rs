//! Long AS paths, and speakers with two-octet AS numbers (RFC 6793).
#![allow(clippy::unwrap_used)]

mod wire_support;

use bgp::wire::*;
use bgp::{Asn, Family};
use bytes::BytesMut;
use wire_support::*;

const OLD_DECODE: DecodeContext = DecodeContext {
    four_octet_as: false,
    ..CONTEXT
};
const OLD_ENCODE: EncodeContext = EncodeContext {
    four_octet_as: false,
    ..ENCODE
};

fn asns(numbers: impl IntoIterator<Item = u32>) -> Vec<Asn> {
    numbers.into_iter().map(Asn).collect()
}

fn builder() -> PathAttributesBuilder {
    PathAttributes::builder("10.0.0.1".parse().unwrap())
}

fn there_and_back(encode: EncodeContext, decode: DecodeContext, attributes: &PathAttributes) -> PathAttributes {
    let mut out = BytesMut::new();
    pack_announcement(
        &mut out,
        encode,
        attributes,
        Family::Ipv4Unicast,
        [net("10.250.0.0/16")],
    );
    let update = decode_update(decode, &out).unwrap();
    assert_eq!(update.mended, []);
    (*update.announced[0].attributes).clone()
}

#[test]
fn paths_of_any_length_survive_and_split_at_255() {
    for length in [0, 1, 254, 255, 256, 509, 510, 511, 900] {
        let path = asns((0..length).map(|n| 100_000 + n));
        let attributes = builder().as_sequence(&path).build();
        assert_eq!(u32::from(attributes.as_path_len()), length);
        assert_eq!(attributes.as_path().len(), length.div_ceil(255) as usize);
        let back = there_and_back(ENCODE, CONTEXT, &attributes);
        assert_eq!(back, attributes);
        assert_eq!(back.as_numbers().collect::<Vec<_>>(), path);
        // One more in front, as export does: the full segment is left alone.
        let longer = attributes.to_builder().prepend(Asn(65515), 1).build();
        assert_eq!(longer.neighbor_as(), Some(Asn(65515)));
        assert_eq!(u32::from(longer.as_path_len()), length + 1);
        assert_eq!(there_and_back(ENCODE, CONTEXT, &longer), longer);
    }
}

#[test]
fn route_that_fits_no_message_is_withdrawn_and_fits_an_extended_one() {
    let attributes = builder().as_sequence(&asns(1..=1_100)).build();
    let mut out = BytesMut::new();
    pack_announcement(
        &mut out,
        ENCODE,
        &attributes,
        Family::Ipv4Unicast,
        [net("10.250.0.0/16")],
    );
    assert_eq!(decode_update(CONTEXT, &out).unwrap().withdrawn, [net("10.250.0.0/16")]);
    let extended = (
        EncodeContext {
            extended_message: true,
            ..ENCODE
        },
        DecodeContext {
            extended_message: true,
            ..CONTEXT
        },
    );
    assert_eq!(there_and_back(extended.0, extended.1, &attributes), attributes);
}

#[test]
fn prepending_is_bounded_whatever_is_asked_for() {
    for times in [0, 1, 255, 256, 300, 100_000, usize::MAX] {
        let attributes = builder().as_sequence(&asns([65001])).prepend(Asn(65515), times).build();
        let expected = times.min(15_000);
        let length = usize::from(attributes.as_path_len()) - 1;
        assert!(
            length == times || (times > 14_000 && length >= expected - 255),
            "{times}: {length}"
        );
        assert_eq!(attributes.origin_as(), Some(Asn(65001)));
    }
}

#[test]
fn four_octet_path_survives_a_two_octet_speaker() {
    for path in [
        vec![],
        vec![65001],
        vec![65515, 65001],
        vec![65515, 4_200_000_000],
        vec![70_000, 65001, 80_000],
        (1..=600)
            .map(|n| if n % 7 == 0 { 4_200_000_000 + n } else { n })
            .collect(),
    ] {
        let attributes = builder()
            .as_sequence(&asns(path.clone()))
            .other(0xC0, 7, &hex("00011170 0a000001"))
            .add_community(Community::new(65517, 65517))
            .other(0xE0, 99, &[1, 2, 3])
            .build();
        assert_eq!(
            there_and_back(OLD_ENCODE, OLD_DECODE, &attributes),
            attributes,
            "{path:?}"
        );
    }
}

#[test]
fn mappable_path_needs_no_as4_path() {
    let attributes = builder().as_sequence(&asns([65515, 65001])).build();
    let mut out = BytesMut::new();
    pack_announcement(
        &mut out,
        OLD_ENCODE,
        &attributes,
        Family::Ipv4Unicast,
        [net("10.250.0.0/16")],
    );
    assert_eq!(
        out[23..],
        hex("40 01 01 00 40 02 06 0202 ffeb fde9 40 03 04 0a000001 10 0afa")
    );
}

/// RFC 6793 §4.2.3, case by case: AS_PATH, AS4_PATH, other attributes, the path that comes out.
#[test]
fn as_path_and_as4_path_are_merged_as_the_rfc_says() {
    let check = |path: &str, others: &str, expected: &[u32]| {
        let attributes = [
            attribute(0x40, 1, &[0]),
            attribute(0x40, 2, &hex(path)),
            attribute(0x40, 3, &[10, 0, 0, 1]),
            hex(others),
        ]
        .concat();
        // In any order: AS4_PATH before AS_PATH broke GoBGP (CVE-2026-41643).
        let reversed = [hex(others), attributes[..attributes.len() - hex(others).len()].to_vec()].concat();
        for attributes in [attributes, reversed] {
            let update = decode_update(OLD_DECODE, &update(&[], &attributes, &hex("10 0afa"))).unwrap();
            let numbers = update.announced[0].attributes.as_numbers().collect::<Vec<_>>();
            assert_eq!(numbers, asns(expected.iter().copied()), "{path} + {others}");
        }
    };
    check("0202 fde9 fdea", "", &[65001, 65002]);
    check("0202 fde9 5ba0", "c0 11 06 0201 00011170", &[65001, 70_000]);
    check("0202 5ba0 5ba0", "c0 11 0a 0202 00011170 00011171", &[70_000, 70_001]);
    // AS4_PATH longer than AS_PATH: ignored.
    check("0201 5ba0", "c0 11 0a 0202 00011170 00011171", &[23456]);
    check("", "c0 11 06 0201 00011170", &[]);
    // Confederation segments in AS4_PATH: discarded (2008-12).
    check(
        "0202 fde9 5ba0",
        "c0 11 0c 0301 0000fde8 0201 00011170",
        &[65001, 70_000],
    );
    check("0202 fde9 5ba0", "c0 11 06 0401 0000fde8", &[65001, 23456]);
    // AGGREGATOR with a real number: someone in between did not know AS4 attributes.
    check(
        "0202 fde9 5ba0",
        "c0 07 06 fde9 0a000001 c0 11 06 0201 00011170 c0 12 08 00011170 0a000001",
        &[65001, 23456],
    );
    check(
        "0202 fde9 5ba0",
        "c0 07 06 5ba0 0a000001 c0 11 06 0201 00011170 c0 12 08 00011170 0a000001",
        &[65001, 70_000],
    );
    check(
        "0202 fde9 5ba0",
        "c0 07 06 fde9 0a000001 c0 11 06 0201 00011170",
        &[65001, 70_000],
    );
}

#[test]
fn builder_changes_what_it_is_told_and_nothing_else() {
    let start = builder()
        .as_sequence(&asns([65001]))
        .med(Some(5))
        .local_pref(Some(200))
        .communities(&[Community::NO_EXPORT, Community::new(1, 2)])
        .other(0xC0, 99, &[7; 300])
        .other(0x80, 98, &[1])
        .add_large_community((1, 2, 3))
        .build();
    assert!(start.has_community(Community::NO_EXPORT));
    assert!(!start.has_community(Community::NO_ADVERTISE));
    assert_eq!((start.med(), start.local_pref()), (Some(5), Some(200)));
    assert_eq!(start.to_builder().build(), start);

    let exported = start
        .to_builder()
        .strip_for_external_peer()
        .prepend(Asn(65515), 2)
        .next_hop("10.1.0.4".parse().unwrap())
        .add_community(Community::new(65517, 65517))
        .add_community(Community::new(1, 2))
        .remove_community(Community::NO_EXPORT)
        .origin(Origin::Incomplete)
        .build();
    assert_eq!((exported.med(), exported.local_pref()), (None, None));
    assert_eq!(exported.value(98), None, "non-transitive");
    assert_eq!(exported.value(99), Some(&[7; 300][..]));
    assert_eq!(exported.as_numbers().collect::<Vec<_>>(), asns([65515, 65515, 65001]));
    let communities = [Community::new(1, 2), Community::new(65517, 65517)];
    assert_eq!(exported.communities().collect::<Vec<_>>(), communities);
    assert_eq!(exported.large_communities().collect::<Vec<_>>(), [(1, 2, 3)]);
    assert_eq!(exported.origin(), Origin::Incomplete);
    assert_ne!(exported, start);
    let none = exported.to_builder().communities(&[]).build();
    assert_eq!(none.value(8), None, "no attribute rather than an empty one");
    assert!(exported.as_bytes().windows(2).count() > 0);
}

#[test]
fn sets_that_differ_in_the_next_hop_alone_are_different() {
    let one = builder().build();
    let other = one.to_builder().next_hop("10.0.0.2".parse().unwrap()).build();
    assert_ne!(one, other);
    assert_eq!(one.as_bytes(), other.as_bytes());
}

#[test]
fn what_is_reflected_keeps_its_originator_and_collects_clusters() {
    let identifier = |last: u8| bgp::BgpIdentifier(std::net::Ipv4Addr::new(10, 0, 0, last));
    let once = builder()
        .originator_id(identifier(1))
        .prepend_cluster(identifier(4))
        .build();
    let twice = once
        .to_builder()
        .originator_id(identifier(2))
        .prepend_cluster(identifier(5))
        .build();
    assert_eq!(twice.originator_id(), Some(identifier(1)));
    assert!(twice.cluster_list().eq([identifier(5), identifier(4)]));
    let told = twice.to_builder().strip_for_external_peer().build();
    assert_eq!((told.originator_id(), told.cluster_list().count()), (None, 0));
}

#[test]
fn as_numbers_are_taken_out_wherever_they_stand() {
    let path = asns([65515, 3356, 65001, 12076, 65001]);
    let kept = builder()
        .as_sequence(&path)
        .retain_as_numbers(|asn| asn != Asn(65001))
        .build();
    assert!(kept.as_numbers().eq(asns([65515, 3356, 12076])));
    let none = builder().as_sequence(&path).retain_as_numbers(|_| false).build();
    assert_eq!((none.as_path_len(), none.as_numbers().count()), (0, 0));
}
