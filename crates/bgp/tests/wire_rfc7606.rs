//! RFC 7606, attribute by attribute and fault by fault: what becomes of the route, and of the session.
//!
//! Each case is a re-announcement of 10.250.0.0/16 that would be good but for one attribute, which stands in the place of the
//! good one of its type, or behind the others.
#![allow(clippy::unwrap_used)]

mod wire_support;

use bgp::wire::*;
use bgp::{FamilySet, IpNet};
use wire_support::*;

/// What is to become of an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// Announced, the attribute with it, nothing to complain of.
    Kept,
    /// Announced, the attribute gone, nothing to complain of.
    Ignored,
    /// Attribute discard: announced, the attribute gone, and told.
    Discarded,
    /// Treat-as-withdraw.
    Withdrawn,
    /// Session reset with this NOTIFICATION.
    Reset(u8, u8),
}
use Is::{Discarded, Ignored, Kept, Reset, Withdrawn};

const INTERNAL: DecodeContext = DecodeContext {
    external: false,
    ..CONTEXT
};
const OLD: DecodeContext = DecodeContext {
    four_octet_as: false,
    ..CONTEXT
};

const NLRI: &str = "10 0afa";

/// ORIGIN, AS_PATH 65001, NEXT_HOP 10.0.0.1.
fn good_attributes(context: DecodeContext) -> Vec<Vec<u8>> {
    let path: &[u8] = match context.four_octet_as {
        true => &[2, 1, 0, 0, 0xFD, 0xE9],
        false => &[2, 1, 0xFD, 0xE9],
    };
    vec![
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, path),
        attribute(0x40, 3, &[10, 0, 0, 1]),
    ]
}

/// Judges the good UPDATE with one attribute exchanged or added.
fn judge(context: DecodeContext, flags: u8, code: u8, value: &[u8]) -> Is {
    let mut attributes = good_attributes(context);
    let ours = attribute(flags, code, value);
    match attributes.iter_mut().find(|good| good[1] == code) {
        Some(good) => *good = ours,
        None => attributes.push(ours),
    }
    let bytes = update(&[], &attributes.concat(), &hex(NLRI));
    disposition(decode_update(context, &bytes), &hex_net(), code)
}

fn hex_net() -> IpNet {
    net("10.250.0.0/16")
}

fn disposition(result: Result<Update, MessageError>, prefix: &IpNet, code: u8) -> Is {
    let update = match result {
        Ok(update) => update,
        Err(error) => return Reset(error.notification.code, error.notification.subcode),
    };
    let announced = update.announced.iter().find(|a| a.prefixes.contains(prefix));
    let withdrawn = update.withdrawn.contains(prefix);
    let told_withdraw = update.mended.iter().any(|mended| mended.treated_as_withdraw);
    match (announced, withdrawn) {
        (Some(announcement), false) => {
            assert!(!told_withdraw, "{update}");
            let there = announcement.attributes.value(code).is_some() || code == 3;
            match (there, update.mended.is_empty()) {
                (true, true) => Kept,
                (false, true) => Ignored,
                (false, false) => Discarded,
                (true, false) => panic!("kept and complained of: {update}"),
            }
        }
        (None, true) => {
            assert!(told_withdraw, "withdrawn and nothing said: {update}");
            Withdrawn
        }
        other => panic!("{other:?}: {update}"),
    }
}

#[track_caller]
fn check(context: DecodeContext, cases: &[(u8, u8, &str, Is)]) {
    for (flags, code, value, expected) in cases {
        let is = judge(context, *flags, *code, &hex(value));
        assert_eq!(is, *expected, "attribute {code} flags {flags:#04x} value [{value}]");
    }
}

#[test]
fn well_known_attributes_with_faults_withdraw_the_route() {
    check(
        CONTEXT,
        &[
            // ORIGIN, §7.1.
            (0x40, 1, "00", Kept),
            (0x40, 1, "01", Kept),
            (0x40, 1, "02", Kept),
            (0x50, 1, "02", Kept),
            (0x4F, 1, "02", Kept),
            (0x40, 1, "03", Withdrawn),
            (0x40, 1, "04", Withdrawn),
            (0x40, 1, "ff", Withdrawn),
            (0x40, 1, "", Withdrawn),
            (0x40, 1, "0000", Withdrawn),
            (0xC0, 1, "00", Withdrawn),
            (0x00, 1, "00", Withdrawn),
            (0x80, 1, "00", Withdrawn),
            (0x60, 1, "00", Withdrawn),
            // AS_PATH, §7.2.
            (0x40, 2, "", Kept),
            (0x40, 2, "0201 0000fde9 0201 0000fdea", Kept),
            (0x40, 2, "0001 0000fde9", Withdrawn),
            (0x40, 2, "0501 0000fde9", Withdrawn),
            (0x40, 2, "ff01 0000fde9", Withdrawn),
            (0x40, 2, "0200", Withdrawn),
            (0x40, 2, "0201 0000fde9 0200", Withdrawn),
            (0x40, 2, "02ff 0000fde9", Withdrawn),
            (0x40, 2, "0201 0000fd", Withdrawn),
            (0x40, 2, "0201 fde9", Withdrawn),
            (0x40, 2, "02", Withdrawn),
            (0x40, 2, "0201 0000fde9 02", Withdrawn),
            (0xC0, 2, "0201 0000fde9", Withdrawn),
            (0x60, 2, "0201 0000fde9", Withdrawn),
            (0x00, 2, "0201 0000fde9", Withdrawn),
            // RFC 9774 and RFC 5065 §5.
            (0x40, 2, "0101 0000fde9", Withdrawn),
            (0x40, 2, "0201 0000fde9 0102 0000fdea 0000fdeb", Withdrawn),
            (0x40, 2, "0301 0000fde9", Withdrawn),
            (0x40, 2, "0401 0000fde9", Withdrawn),
            // AS 0 and our own AS are for import rules, which show the route with its verdict.
            (0x40, 2, "0202 0000fde9 00000000", Kept),
            (0x40, 2, "0202 0000fde9 0000ffeb", Kept),
            // NEXT_HOP, §7.3.
            (0x40, 3, "0a000001", Kept),
            (0x40, 3, "7f000001", Kept),
            (0x40, 3, "f0000001", Kept),
            (0x40, 3, "", Withdrawn),
            (0x40, 3, "0a0000", Withdrawn),
            (0x40, 3, "0a00000101", Withdrawn),
            (0x40, 3, "00000000", Withdrawn),
            (0x40, 3, "e0000001", Withdrawn),
            (0x40, 3, "ffffffff", Withdrawn),
            (0xC0, 3, "0a000001", Withdrawn),
            (0x80, 3, "0a000001", Withdrawn),
        ],
    );
}

#[test]
fn attributes_of_other_speakers_business_are_discarded_or_withdraw() {
    check(
        CONTEXT,
        &[
            // MULTI_EXIT_DISC, §7.4.
            (0x80, 4, "0000000a", Kept),
            (0x80, 4, "", Withdrawn),
            (0x80, 4, "00000a", Withdrawn),
            (0x80, 4, "000000000a", Withdrawn),
            (0xC0, 4, "0000000a", Withdrawn),
            (0x40, 4, "0000000a", Withdrawn),
            (0xA0, 4, "0000000a", Withdrawn),
            // LOCAL_PREF from outside, §7.5, whatever it is.
            (0x40, 5, "00000064", Discarded),
            (0x40, 5, "", Discarded),
            (0x40, 5, "0000000064", Discarded),
            (0xC0, 5, "00000064", Withdrawn),
            // ATOMIC_AGGREGATE, §7.6.
            (0x40, 6, "", Kept),
            (0x40, 6, "00", Discarded),
            (0xC0, 6, "", Withdrawn),
            // AGGREGATOR, §7.7, RFC 7607.
            (0xC0, 7, "0000fde9 0a000001", Kept),
            (0xE0, 7, "0000fde9 0a000001", Kept),
            (0xC0, 7, "", Discarded),
            (0xC0, 7, "fde9 0a000001", Discarded),
            (0xC0, 7, "0000fde9 0a0000", Discarded),
            (0xC0, 7, "0000fde9 0a00000101", Discarded),
            (0xC0, 7, "00000000 0a000001", Discarded),
            (0x80, 7, "0000fde9 0a000001", Withdrawn),
            // ORIGINATOR_ID and CLUSTER_LIST from outside, §7.9, §7.10.
            (0x80, 9, "0a000001", Discarded),
            (0x80, 9, "0a0000", Discarded),
            (0xC0, 9, "0a000001", Withdrawn),
            (0x80, 10, "0a000001", Discarded),
            (0x80, 10, "", Discarded),
            (0xC0, 10, "0a000001", Withdrawn),
        ],
    );
    check(
        INTERNAL,
        &[
            (0x40, 5, "00000064", Kept),
            (0x40, 5, "", Withdrawn),
            (0x40, 5, "000064", Withdrawn),
            (0x40, 5, "0000000064", Withdrawn),
            (0xC0, 5, "00000064", Withdrawn),
            (0x80, 9, "0a000001", Kept),
            (0x80, 9, "0a0000", Withdrawn),
            (0x80, 9, "0a00000101", Withdrawn),
            (0x80, 10, "0a000001", Kept),
            (0x80, 10, "0a000001 0a000002", Kept),
            (0x80, 10, "", Withdrawn),
            (0x80, 10, "0a00000101", Withdrawn),
        ],
    );
}

#[test]
fn communities_come_in_whole_ones() {
    check(
        CONTEXT,
        &[
            (0xC0, 8, "ffff0001", Kept),
            (0xE0, 8, "ffff0001 ffffff01", Kept),
            (0xC0, 8, "", Withdrawn),
            (0xC0, 8, "ffff00", Withdrawn),
            (0xC0, 8, "ffff000100", Withdrawn),
            (0x80, 8, "ffff0001", Withdrawn),
            (0x40, 8, "ffff0001", Withdrawn),
            (0xC0, 16, "0002fde900000001", Kept),
            (0xC0, 16, "", Withdrawn),
            (0xC0, 16, "0002fde9000001", Withdrawn),
            (0xC0, 16, "0002fde90000000100", Withdrawn),
            (0x80, 16, "0002fde900000001", Withdrawn),
            (0xC0, 25, "000220010db80000000000000000000000010001", Kept),
            (0xC0, 25, "", Withdrawn),
            (0xC0, 25, "000220010db8000000000000000000000001000100", Withdrawn),
            (0x80, 25, "000220010db80000000000000000000000010001", Withdrawn),
            (0xC0, 32, "0000fde9 00000001 00000002", Kept),
            (0xC0, 32, "", Withdrawn),
            (0xC0, 32, "0000fde9 00000001 000002", Withdrawn),
            (0xC0, 32, "0000fde9 00000001 00000002 00", Withdrawn),
            (0x80, 32, "0000fde9 00000001 00000002", Withdrawn),
        ],
    );
}

#[test]
fn what_we_only_carry_is_not_passed_on_when_its_own_rfc_calls_it_malformed() {
    check(
        CONTEXT,
        &[
            // PMSI_TUNNEL, RFC 6514.
            (0xC0, 22, "0006000000 0a000002", Kept),
            (0x80, 22, "0006000000 0a000002", Withdrawn),
            (0xC0, 22, "00060000", Withdrawn),
            (0xC0, 22, "0008000000 0a000002", Withdrawn),
            (0xC0, 22, "00ff000000 0a000002", Withdrawn),
            (0xC0, 22, "0006000000 0a00000200", Withdrawn),
            // Tunnel encapsulation, RFC 9012: the attribute of CVE-2023-38802.
            (0xC0, 23, "0007 0006 01 04 0a000001", Kept),
            (0x80, 23, "0007 0000", Withdrawn),
            (0xC0, 23, "", Withdrawn),
            (0xC0, 23, "000700", Withdrawn),
            (0xC0, 23, "0007 0004 01", Withdrawn),
            (0xC0, 23, "0007 0002 01ff", Withdrawn),
            (0xC0, 23, "0007 0003 80ffff", Withdrawn),
            // AIGP is not for us and not transitive.
            (0x80, 26, "01000b 000000000000000a", Ignored),
            (0x80, 26, "", Ignored),
            (0xC0, 26, "01000b 000000000000000a", Discarded),
            // BGP-LS likewise.
            (0x80, 29, "0400 00ff 00", Ignored),
            (0xC0, 29, "0400 0001 00", Discarded),
            // Only to customer, RFC 9234.
            (0xC0, 35, "0000fde9", Kept),
            (0x80, 35, "0000fde9", Withdrawn),
            (0xC0, 35, "0000fd", Withdrawn),
            (0xC0, 35, "0000fde900", Withdrawn),
            (0xC0, 35, "00000000", Withdrawn),
            // Next hop characteristics.
            (0xC0, 39, "00010104 0a000001 0001 0001 00", Kept),
            (0xC0, 39, "00ff0100 0100 0100", Discarded),
            (0xC0, 39, "00010100 01ff00", Discarded),
            // Prefix-SID, RFC 8669; all zero is what reset sessions in May 2025.
            (0xC0, 40, "01 0007 00000000000001", Kept),
            (0x80, 40, "01 0007 00000000000001", Discarded),
            (0xC0, 40, "01 00ff 000000", Discarded),
            (0xC0, 40, "0100", Discarded),
            (0xC0, 40, "010000", Discarded),
            (0xC0, 40, "000000 000000 000000", Discarded),
            (0xC0, 40, "", Discarded),
            // The entropy label attribute of June 2023: deprecated, so unknown, so carried whatever it is.
            (0xC0, 28, "", Kept),
            (0xE0, 28, "deadbeef", Kept),
        ],
    );
}

#[test]
fn as4_attributes_matter_from_two_octet_speakers_alone() {
    check(
        CONTEXT,
        &[
            (0xC0, 17, "0201 00010001", Ignored),
            (0xC0, 18, "00010001 0a000001", Ignored),
            (0xC0, 18, "00010001 0a0000", Discarded),
            (0xC0, 18, "00000000 0a000001", Discarded),
            (0x80, 17, "0201 00010001", Withdrawn),
            (0xC0, 17, "0001 00010001", Withdrawn),
        ],
    );
    check(
        OLD,
        &[
            (0xC0, 17, "0201 00010001", Ignored),
            (0xC0, 17, "0301 00010001", Ignored),
            (0xC0, 17, "0001 00010001", Discarded),
            (0xC0, 17, "0201 0001", Discarded),
            (0xC0, 17, "02", Discarded),
            (0xC0, 17, "0101 00010001", Withdrawn),
            (0xC0, 7, "fde9 0a000001", Kept),
            (0xC0, 7, "0000fde9 0a000001", Discarded),
            (0xC0, 7, "0000 0a000001", Discarded),
            (0x40, 2, "0201 fde9", Kept),
            (0x40, 2, "0201 0000fde9", Withdrawn),
        ],
    );
}

/// Every type code with every flag nibble: known ones obey the table above, unknown ones are carried, ignored or end the session.
#[test]
fn unknown_attributes_of_every_type_and_flags_are_carried_byte_for_byte_or_dropped() {
    let known = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 22, 23, 25, 26, 29, 32, 35, 39, 40,
    ];
    for code in 0..=255u8 {
        for nibble in 0..16u8 {
            let flags = nibble << 4;
            let value = [0xDE, 0xAD, 0xBE, 0xEF, code];
            let bytes = {
                let mut attributes = good_attributes(CONTEXT);
                attributes.retain(|good| good[1] != code);
                attributes.push(attribute(flags, code, &value));
                update(&[], &attributes.concat(), &hex(NLRI))
            };
            let result = decode_update(CONTEXT, &bytes);
            if known.contains(&code) {
                // Never a reset, but for MP attributes that cannot be read.
                assert!(
                    result.is_ok() || matches!(code, 14 | 15),
                    "{code} {flags:#04x}: {result:?}"
                );
                continue;
            }
            let expected = match (flags & 0x80 != 0, flags & 0x40 != 0) {
                (false, _) => Reset(3, 2),
                (true, false) => Ignored,
                (true, true) => Kept,
            };
            assert_eq!(
                disposition(result.clone(), &hex_net(), code),
                expected,
                "{code} {flags:#04x}"
            );
            if expected != Kept {
                continue;
            }
            // What the next peer gets: the same octets with the Partial bit.
            let mut out = bytes::BytesMut::new();
            let announcement = &result.unwrap().announced[0];
            let prefixes = announcement.prefixes.iter().copied();
            pack_announcement(
                &mut out,
                ENCODE,
                &announcement.attributes,
                bgp::Family::Ipv4Unicast,
                prefixes,
            );
            let wanted = attribute(flags | 0x20, code, &value);
            assert!(
                out.windows(wanted.len()).any(|window| window == wanted),
                "{code} {flags:#04x}"
            );
        }
    }
}

#[test]
fn missing_mandatory_attributes_withdraw_the_route() {
    for missing in [1, 2, 3] {
        let mut attributes = good_attributes(CONTEXT);
        attributes.retain(|good| good[1] != missing);
        let update = decode_update(CONTEXT, &update(&[], &attributes.concat(), &hex(NLRI))).unwrap();
        assert_eq!(update.withdrawn, [net("10.250.0.0/16")]);
        assert_eq!(update.mended.iter().map(|m| m.attribute).collect::<Vec<_>>(), [missing]);
    }
    // NLRI without any attribute (CVE-2023-41358, -41909), and with nothing but an unknown one (CVE-2023-46753).
    for attributes in [vec![], attribute(0xC0, 99, &[1])] {
        let update = decode_update(CONTEXT, &update(&[], &attributes, &hex(NLRI))).unwrap();
        assert_eq!(update.withdrawn, [net("10.250.0.0/16")]);
        assert!(update.announced.is_empty());
    }
}

#[test]
fn first_of_two_equal_attributes_counts() {
    let mut attributes = good_attributes(CONTEXT);
    attributes.push(attribute(0x80, 4, &[0, 0, 0, 7]));
    attributes.push(attribute(0x80, 4, &[0, 0, 0, 9]));
    attributes.push(attribute(0xC0, 99, &[1]));
    attributes.push(attribute(0xC0, 99, &[2]));
    // Not even a wrong second one matters.
    attributes.push(attribute(0x40, 1, &[77]));
    let update = decode_update(CONTEXT, &update(&[], &attributes.concat(), &hex(NLRI))).unwrap();
    let kept = &update.announced[0].attributes;
    assert_eq!(kept.med(), Some(7));
    assert_eq!(kept.value(99), Some(&[1][..]));
    assert_eq!(update.mended.len(), 3);
    assert!(update.mended.iter().all(|mended| !mended.treated_as_withdraw));
}

#[test]
fn second_mp_attribute_ends_the_session() {
    let reach = attribute(
        0x80,
        14,
        &hex("0002 01 10 20010db8000000000000000000000001 00 20 20010db8"),
    );
    let unreach = attribute(0x80, 15, &hex("0002 01 20 20010db8"));
    for twice in [[reach.clone(), reach], [unreach.clone(), unreach]] {
        let attributes = [good_attributes(CONTEXT).concat(), twice.concat()].concat();
        let error = decode_update(CONTEXT, &update(&[], &attributes, &[])).unwrap_err();
        assert_eq!((error.notification.code, error.notification.subcode), (3, 1));
    }
}

#[test]
fn attributes_that_overrun_their_total_length_withdraw_the_routes_behind_them() {
    for tail in [
        "c0",
        "c0 08",
        "d0 08 00",
        "c0 08 08 ffff0001",
        "c0 08 ff",
        "d0 08 ffff 00",
        "c0 63 05 01020304",
    ] {
        let attributes = [good_attributes(CONTEXT).concat(), hex(tail)].concat();
        let update = decode_update(CONTEXT, &update(&[], &attributes, &hex(NLRI))).unwrap();
        assert_eq!(update.withdrawn, [net("10.250.0.0/16")], "{tail}");
        assert!(update.announced.is_empty(), "{tail}");
    }
}

/// §5.2: with no routes that could be withdrawn, an error that is more than attribute discard ends the session.
#[test]
fn faults_without_nlri_end_the_session_unless_they_only_cost_the_attribute() {
    let check = |tail: &str, expected: Option<(u8, u8)>| {
        let attributes = [good_attributes(CONTEXT).concat(), hex(tail)].concat();
        let result = decode_update(CONTEXT, &update(&[], &attributes, &[]));
        let is = result.map_err(|error| (error.notification.code, error.notification.subcode));
        assert_eq!(is.err(), expected, "{tail}");
    };
    check("", None);
    check("c0 08 03 ffffff", Some((3, 1)));
    check("c0 08", Some((3, 1)));
    check("40 06 01 00", None);
    check("80 0e 15 0002 01 10 20010db8000000000000000000000001 00", None);
    check(
        "80 0e 15 0002 01 10 20010db8000000000000000000000001 00 c0 08 03 ffffff",
        Some((3, 1)),
    );
}

#[test]
fn lengths_that_do_not_fit_the_message_end_the_session() {
    let check = |body: &str, expected: (u8, u8)| {
        let error = decode_update(CONTEXT, &message(2, &hex(body))).unwrap_err();
        assert_eq!(
            (error.notification.code, error.notification.subcode),
            expected,
            "{body}"
        );
    };
    check("ffff 0000", (3, 1));
    check("0001 0000", (3, 1));
    check("0002 0000", (3, 1));
    check("0003 080a00", (3, 1));
    check("0000 0001", (3, 1));
    check("0000 ffff 00", (3, 1));
    // Prefixes that are none.
    check("0001 21 0000", (3, 10));
    check("0002 180a 0000", (3, 10));
    check("0000 0000 21 0a000000 01", (3, 10));
    check("0000 0000 20 0a0000", (3, 10));
    check("0000 0000 ff", (3, 10));
}

#[test]
fn mp_attributes_that_cannot_be_read_end_the_session() {
    let check = |code: u8, value: &str, expected: Option<(u8, u8)>| {
        let attributes = [good_attributes(CONTEXT).concat(), attribute(0x80, code, &hex(value))].concat();
        let result = decode_update(CONTEXT, &update(&[], &attributes, &[]));
        let is = result.map_err(|error| (error.notification.code, error.notification.subcode));
        assert_eq!(is.err(), expected, "{code} {value}");
    };
    let optional_attribute_error = Some((3, 9));
    // Too short, and next hops of no family's length (§7.11).
    check(14, "", optional_attribute_error);
    check(14, "000201", optional_attribute_error);
    check(14, "000201 00 00", optional_attribute_error);
    check(
        14,
        "000201 09 20010db80000000000 00 40 20010db800000001",
        optional_attribute_error,
    );
    check(
        14,
        "000201 40 20010db8000000000000000000000001 00",
        optional_attribute_error,
    );
    check(14, "000201 10 20010db800000000", optional_attribute_error);
    check(
        14,
        "000201 10 20010db8000000000000000000000001",
        optional_attribute_error,
    );
    check(14, "000201 04 0a000001 00 20 20010db8", optional_attribute_error);
    check(
        14,
        "000101 10 20010db8000000000000000000000001 00 10 0afa",
        optional_attribute_error,
    );
    // NLRI.
    check(
        14,
        "000201 10 20010db8000000000000000000000001 00 81 20010db8",
        optional_attribute_error,
    );
    check(
        14,
        "000201 10 20010db8000000000000000000000001 00 40 20010db8",
        optional_attribute_error,
    );
    check(15, "0002", optional_attribute_error);
    check(15, "000201 40 20010db8", optional_attribute_error);
    check(15, "000201 ff", optional_attribute_error);
    // Families that were not negotiated may hold what they want.
    check(14, "0019 46 04 0a000001 00 ffffff", None);
    check(14, "000180 0c 0000000000000000 0a000001 00 ff", None);
    check(15, "0001 85 ff", None);
    // Good ones.
    check(14, "000201 10 20010db8000000000000000000000001 00 20 20010db8", None);
    check(14, "000101 04 0a000001 00 10 0afa", None);
}

#[test]
fn routes_of_mp_reach_are_withdrawn_when_an_attribute_is_wrong() {
    let prefix = net("2001:db8::/32");
    let good = "0002 01 10 20010db8000000000000000000000001 00 20 20010db8";
    let check = |flags: u8, value: &str, tail: &str, expected: Is| {
        let origin_and_path = good_attributes(CONTEXT)[..2].concat();
        let attributes = [attribute(flags, 14, &hex(value)), origin_and_path, hex(tail)].concat();
        let is = disposition(decode_update(CONTEXT, &update(&[], &attributes, &[])), &prefix, 1);
        assert_eq!(is, expected, "{flags:#04x} {value} {tail}");
    };
    check(0x80, good, "", Kept);
    check(0x90, good, "", Kept);
    check(0xC0, good, "", Withdrawn);
    check(0x40, good, "", Withdrawn);
    check(0x80, good, "c0 08 03 ffffff", Withdrawn);
    check(0x80, good, "c0 08", Withdrawn);
    // NEXT_HOP is for IPv4 NLRI (RFC 4760 §3).
    check(0x80, good, "40 03 04 0a000001", Kept);
    check(
        0x80,
        "0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00 20 20010db8",
        "",
        Kept,
    );
    check(
        0x80,
        "0002 01 10 00000000000000000000000000000000 00 20 20010db8",
        "",
        Withdrawn,
    );
    check(
        0x80,
        "0002 01 10 ff020000000000000000000000000001 00 20 20010db8",
        "",
        Withdrawn,
    );
    check(
        0x80,
        "0002 01 10 fe800000000000000000000000000001 00 20 20010db8",
        "",
        Kept,
    );
}

/// BGPLite #288, #484: whatever else an UPDATE says, its withdrawals count.
#[test]
fn withdrawals_beside_a_wrong_attribute_count() {
    let unreach = attribute(0x80, 15, &hex("0002 01 20 20010db8"));
    let attributes = [good_attributes(CONTEXT).concat(), hex("c0 08 03 ffffff"), unreach].concat();
    let update = decode_update(CONTEXT, &update(&hex("10 0afb"), &attributes, &hex(NLRI))).unwrap();
    assert_eq!(update.withdrawn.len(), 3);
    for prefix in ["10.251.0.0/16", "2001:db8::/32", "10.250.0.0/16"] {
        assert!(update.withdrawn.contains(&net(prefix)), "{prefix}");
    }
}

#[test]
fn families_that_were_not_negotiated_are_ignored() {
    let context = DecodeContext {
        families: FamilySet::IPV4,
        ..CONTEXT
    };
    let reach = attribute(
        0x80,
        14,
        &hex("0002 01 10 20010db8000000000000000000000001 00 20 20010db8"),
    );
    let unreach = attribute(0x80, 15, &hex("0002 01 30 20010db80001"));
    let attributes = [reach, good_attributes(CONTEXT).concat(), unreach].concat();
    let update = decode_update(context, &update(&[], &attributes, &hex(NLRI))).unwrap();
    assert_eq!(update.withdrawn, []);
    assert_eq!(update.announced.len(), 1);
    assert_eq!(update.announced[0].prefixes, [net("10.250.0.0/16")]);
    assert_eq!(update.mended, []);
}

#[test]
fn end_of_rib_is_told_from_other_updates_that_announce_nothing() {
    use bgp::Family::{Ipv4Unicast, Ipv6Unicast};
    let check = |bytes: &[u8], expected| {
        assert_eq!(
            decode_update(CONTEXT, bytes).unwrap().end_of_rib,
            expected,
            "{bytes:02x?}"
        );
    };
    check(&update(&[], &[], &[]), Some(Ipv4Unicast));
    check(&update(&[], &hex("80 0f 03 0002 01"), &[]), Some(Ipv6Unicast));
    check(&update(&[], &hex("90 0f 0003 0002 01"), &[]), Some(Ipv6Unicast));
    check(&update(&[], &hex("80 0f 03 0001 01"), &[]), Some(Ipv4Unicast));
    check(&update(&[], &hex("80 0f 03 0002 02"), &[]), None);
    check(&update(&[], &hex("80 0f 08 0002 01 20 20010db8"), &[]), None);
    check(&update(&hex("10 0afa"), &hex("80 0f 03 0002 01"), &[]), None);
    check(&update(&[], &hex("40 01 01 00 80 0f 03 0002 01"), &[]), None);
    check(&update(&hex("10 0afa"), &[], &[]), None);
    check(&update(&[], &good_attributes(CONTEXT).concat(), &[]), None);
}

#[test]
fn bits_beyond_the_mask_are_cleared() {
    let nlri = hex("00 01ff 09ffff 1fffffffff 20ffffffff");
    let update = decode_update(CONTEXT, &update(&[], &good_attributes(CONTEXT).concat(), &nlri)).unwrap();
    let wanted = [
        "0.0.0.0/0",
        "128.0.0.0/1",
        "255.128.0.0/9",
        "255.255.255.254/31",
        "255.255.255.255/32",
    ];
    assert_eq!(update.announced[0].prefixes, wanted.map(net));
}

/// Thousands of faults in one message are neither stored nor told one by one.
#[test]
fn what_is_told_of_mended_faults_is_bounded() {
    let context = DecodeContext {
        extended_message: true,
        ..CONTEXT
    };
    let many = attribute(0xC0, 99, &[]).repeat(20_000);
    let attributes = [good_attributes(CONTEXT).concat(), many].concat();
    let update = decode_update(context, &update(&[], &attributes, &hex(NLRI))).unwrap();
    assert_eq!(update.announced.len(), 1);
    assert!(update.mended.len() <= 16);
}
