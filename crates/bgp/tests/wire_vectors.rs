//! Messages as bytes, taken apart and put together again: OPEN, NOTIFICATION, ROUTE-REFRESH, UPDATE, and how they are framed.
#![allow(clippy::unwrap_used)]

mod wire_support;

use bgp::wire::*;
use bgp::{Asn, BgpIdentifier, Family, FamilySet};
use bytes::BytesMut;
use wire_support::*;

/// What Azure sent to NVA 2 of NVA 1's route (az §2.4): 65515 in front, 65517:65517 added, the instance as next hop.
#[test]
fn azures_own_update_is_understood_and_built_again() {
    let bytes = hex("
        ffffffffffffffffffffffffffffffff 003a 02
        0000                                 no withdrawn routes
        001f                                 31 octets of attributes
        40 01 01 00                          ORIGIN IGP
        40 02 0a 02 02 0000ffeb 0000fdf2     AS_PATH 65515 65010
        40 03 04 0a010004                    NEXT_HOP 10.1.0.4
        c0 08 04 ffedffed                    COMMUNITIES 65517:65517
        18 0afa00                            10.250.0.0/24
    ");
    let update = decode_update(CONTEXT, &bytes).unwrap();
    let [announcement] = &update.announced[..] else {
        panic!("{update:?}")
    };
    let attributes = &announcement.attributes;
    assert_eq!(announcement.prefixes, [net("10.250.0.0/24")]);
    assert_eq!(attributes.as_numbers().collect::<Vec<_>>(), [Asn(65515), Asn(65010)]);
    assert_eq!(attributes.next_hop().to_string(), "10.1.0.4");
    assert_eq!(
        attributes.communities().collect::<Vec<_>>(),
        [Community::new(65517, 65517)]
    );
    assert_eq!(attributes.origin(), Origin::Igp);
    assert_eq!(attributes.as_path_len(), 2);
    assert_eq!((attributes.med(), attributes.local_pref()), (None, None));

    let built = PathAttributes::builder("10.1.0.4".parse().unwrap())
        .as_sequence(&[Asn(65010)])
        .prepend(Asn(65515), 1)
        .add_community(Community::new(65517, 65517))
        .build();
    assert_eq!(built, **attributes);
    let mut out = BytesMut::new();
    pack_announcement(&mut out, ENCODE, &built, Family::Ipv4Unicast, [net("10.250.0.0/24")]);
    assert_eq!(out, bytes);
}

#[test]
fn ipv6_routes_travel_in_mp_reach_which_comes_first() {
    let bytes = hex("
        ffffffffffffffffffffffffffffffff 0045 02
        0000 002e                                        46 octets of attributes
        90 0e 001a 0002 01                               MP_REACH_NLRI, IPv6 unicast
        10 20010db8000000000000000000000004 00           next hop 2001:db8::4
        20 20010db8                                      2001:db8::/32
        40 01 01 00                                      ORIGIN IGP
        40 02 06 0201 0000fde9                           AS_PATH 65001
    ");
    let built = PathAttributes::builder("2001:db8::4".parse().unwrap())
        .as_sequence(&[Asn(65001)])
        .build();
    let mut out = BytesMut::new();
    pack_announcement(&mut out, ENCODE, &built, Family::Ipv6Unicast, [net("2001:db8::/32")]);
    let mut bytes = bytes;
    let lengths = [(bytes.len()) as u16, (bytes.len() - 23) as u16];
    bytes[16..18].copy_from_slice(&lengths[0].to_be_bytes());
    bytes[21..23].copy_from_slice(&lengths[1].to_be_bytes());
    assert_eq!(out, bytes);
    let update = decode_update(CONTEXT, &out).unwrap();
    assert_eq!(*update.announced[0].attributes, built);
}

#[test]
fn open_is_understood_and_built_again() {
    let bytes = hex("
        ffffffffffffffffffffffffffffffff 003f 01
        04 ffeb 00b4 0a010004      version 4, AS 65515, 180 s, 10.1.0.4
        22 02 20                   34 octets: one parameter of 32
        01 04 0001 00 01           IPv4 unicast
        01 04 0002 00 01           IPv6 unicast
        02 00                      route refresh
        46 00                      enhanced route refresh
        06 00                      extended messages
        41 04 0000ffeb             four-octet AS 65515
        49 06 046e7661 00 2e       a hostname: unknown, kept
    ");
    let open = match &decode_all(CONTEXT, &bytes).unwrap()[..] {
        [Message::Open(open)] => open.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(open.asn, Asn(65515));
    assert_eq!(open.hold_time_secs, 180);
    assert_eq!(open.identifier, BgpIdentifier("10.1.0.4".parse().unwrap()));
    let all = CapabilitySet {
        families: FamilySet::BOTH,
        route_refresh: true,
        enhanced_route_refresh: true,
        extended_message: true,
        four_octet_as: true,
    };
    assert_eq!(open.capability_set(), all);
    let mut capabilities = all.to_capabilities(Asn(65515));
    capabilities.push(Capability::Unknown {
        code: 0x49,
        value: hex("046e7661 002e"),
    });
    assert_eq!(open.capabilities, capabilities);
    let mut out = BytesMut::new();
    Message::Open(open).encode(&mut out);
    assert_eq!(out, bytes);
}

/// An OPEN's capabilities with these octets as the only ones.
fn capabilities(octets: &str) -> Vec<Capability> {
    let octets = hex(octets);
    let mut body = hex("04 ffeb 00b4 0a010004");
    body.extend([octets.len() as u8 + 2, 2, octets.len() as u8]);
    body.extend(&octets);
    let open = match &decode_all(CONTEXT, &message(1, &body)).unwrap()[..] {
        [Message::Open(open)] => open.clone(),
        other => panic!("{other:?}"),
    };
    let mut again = BytesMut::new();
    Message::Open(open.clone()).encode(&mut again);
    let decoded = decode_all(CONTEXT, &again).unwrap();
    assert_eq!(decoded, [Message::Open(open.clone())]);
    open.capabilities
}

#[test]
fn graceful_restart_is_understood_family_by_family() {
    let expected = GracefulRestart {
        restarted: true,
        notification: true,
        restart_time_secs: 120,
        families: FamilySet::BOTH,
        forwarding: FamilySet::IPV4,
    };
    // RFC 4724 §3: R and the time; RFC 8538 §2: N. VPNv4 (SAFI 128) is nothing to us.
    let read = capabilities("40 0e c078 0001 01 80 0002 01 00 0001 80 80");
    assert_eq!(read, [Capability::GracefulRestart(expected)]);
    let mut octets = Vec::new();
    Capability::GracefulRestart(expected).encode(&mut octets);
    assert_eq!(octets, hex("40 0a c078 0001 01 80 0002 01 00"));
    // The last one counts, and what is reserved is ignored.
    let offer = RestartOffer::offered_by(&capabilities("40 02 c078 40 06 3001 0001 01 7f"));
    let last = offer.graceful.unwrap();
    assert_eq!(
        (last.restarted, last.notification, last.restart_time_secs),
        (false, false, 1)
    );
    assert_eq!(
        (last.families, last.forwarding),
        (FamilySet::IPV4, FamilySet::default())
    );
}

#[test]
fn long_lived_graceful_restart_means_nothing_without_the_other_one() {
    let times = LongLivedGracefulRestart {
        ipv4_unicast: Some(LongLived {
            forwarding: true,
            stale_time_secs: 86_400,
        }),
        ipv6_unicast: None,
    };
    let read = capabilities("47 0e 0001 01 80 015180 0001 80 80 000001");
    assert_eq!(read, [Capability::LongLivedGracefulRestart(times)]);
    assert_eq!(RestartOffer::offered_by(&read), RestartOffer::default());
    let both = RestartOffer::offered_by(&capabilities("47 07 0001 01 80 015180 40 02 0000"));
    assert_eq!(both.long_lived, Some(times));
}

#[test]
fn restart_capabilities_of_odd_lengths_are_tolerated() {
    for code in [64, 71] {
        for length in 0..=15u8 {
            let whole = match code {
                64 => length >= 2 && length % 4 == 2,
                _ => length % 7 == 0,
            };
            let value = "00".repeat(length.into());
            let read = capabilities(&format!("{code:02x}{length:02x}{value}"));
            assert_eq!(
                !whole,
                matches!(read[..], [Capability::Unknown { .. }]),
                "{code} {length}"
            );
        }
    }
}

#[test]
fn a_hard_reset_says_why() {
    let shutdown = Notification::cease_with_communication(CeaseSubcode::AdministrativeShutdown, "back at noon");
    let hard = Notification::hard_reset(&shutdown);
    assert_eq!((hard.code, hard.subcode, &hard.data[..3]), (6, 9, &[6, 2, 12][..]));
    assert_eq!(hard.hard_reset_reason().as_ref(), Some(&shutdown));
    assert_eq!(
        hard.to_string(),
        "Cease/Hard Reset (6/9) because of Cease/Administrative Shutdown (6/2): \"back at noon\""
    );
    // Without a reason, and with itself as the reason.
    for data in [&[][..], &[6], &[6, 9, 6, 9]] {
        let hard = Notification {
            code: 6,
            subcode: 9,
            data: bytes::Bytes::copy_from_slice(data),
        };
        assert_eq!(hard.to_string(), "Cease/Hard Reset (6/9)");
    }
}

#[test]
fn opens_of_any_length_of_capabilities_come_back_as_they_were() {
    for count in [0, 1, 3, 60, 61, 62, 63, 64, 65, 100, 500] {
        let open = Open {
            asn: Asn(4_200_000_000),
            hold_time_secs: 0,
            identifier: BgpIdentifier("192.0.2.1".parse().unwrap()),
            capabilities: std::iter::repeat_n(Capability::RouteRefresh, count)
                .chain([Capability::FourOctetAs(Asn(4_200_000_000))])
                .chain((0..count).map(|_| Capability::Unknown {
                    code: 73,
                    value: vec![],
                }))
                .collect(),
        };
        let mut out = BytesMut::new();
        Message::Open(open.clone()).encode(&mut out);
        assert_eq!(
            &out[20..22],
            &23456u16.to_be_bytes(),
            "AS_TRANS stands in the two-octet field"
        );
        assert_eq!(decode_all(CONTEXT, &out).unwrap(), [Message::Open(open)]);
    }
}

#[test]
fn open_with_extended_parameters_is_read_whatever_its_short_length_says() {
    for short_length in [1, 254, 255] {
        let mut body = hex("04 fde9 00b4 0a000001");
        body.push(short_length);
        body.extend(hex("ff 0009 02 0006 41 04 0000fde9"));
        let messages = decode_all(CONTEXT, &message(1, &body)).unwrap();
        assert!(matches!(&messages[..], [Message::Open(open)] if open.asn == Asn(65001)));
    }
}

#[test]
fn open_with_a_fault_is_refused_with_its_subcode() {
    let check = |body: &str, expected: Option<u8>| {
        let result = decode_all(CONTEXT, &message(1, &hex(body)));
        let is = result.map_err(|error| {
            assert_eq!(error.notification.code, 2, "{body}");
            error.notification.subcode
        });
        assert_eq!(is.err(), expected, "{body}");
    };
    check("04 fde9 00b4 0a000001 00", None);
    check("03 fde9 00b4 0a000001 00", Some(1));
    check("05 fde9 00b4 0a000001 00", Some(1));
    check("04 0000 00b4 0a000001 00", Some(2));
    check("04 0000 00b4 0a000001 08 02 06 41 04 0000fde9", Some(2));
    check("04 5ba0 00b4 0a000001 08 02 06 41 04 00000000", Some(2));
    check("04 5ba0 00b4 0a000001 00", None);
    check("04 fde9 0001 0a000001 00", Some(6));
    check("04 fde9 0002 0a000001 00", Some(6));
    check("04 fde9 0003 0a000001 00", None);
    check("04 fde9 0000 0a000001 00", None);
    check("04 fde9 00b4 00000000 00", Some(3));
    // RFC 6286: any number but zero, also one that is no host's address.
    check("04 fde9 00b4 e0000001 00", None);
    check("04 fde9 00b4 ffffffff 00", None);
    // Optional parameters: authentication (1) is deprecated, others unknown.
    check("04 fde9 00b4 0a000001 02 01 00", Some(4));
    check("04 fde9 00b4 0a000001 02 03 00", Some(4));
    check("04 fde9 00b4 0a000001 00 00", Some(0));
    check("04 fde9 00b4 0a000001 02 02", Some(0));
    check("04 fde9 00b4 0a000001 02 02 01", Some(0));
    check("04 fde9 00b4 0a000001 03 02 01 41", Some(0));
    check("04 fde9 00b4 0a000001 04 02 02 41 04", Some(0));
    check("04 fde9 00b4 0a000001 ff ff", Some(0));
    check("04 fde9 00b4 0a000001 ff ff 0001", Some(0));
    check("04 fde9 00b4 0a000001 ff ff 0002 02 00", Some(0));
}

/// CVE-2022-40302, -40318, -43681, -36440.
#[test]
fn open_cut_at_any_octet_is_refused_and_never_more() {
    let whole = hex("04 ffeb 00b4 0a010004 16 02 14 01 04 0001 00 01 02 00 06 00 41 04 0000ffeb 47 02 0000");
    let extended = hex("04 ffeb 00b4 0a010004 ff ff 0009 02 0006 41 04 0000fde9");
    for whole in [whole, extended] {
        for end in 0..whole.len() {
            let error = decode_all(CONTEXT, &message(1, &whole[..end])).unwrap_err();
            assert!(
                matches!((error.notification.code, error.notification.subcode), (1, 2) | (2, 0)),
                "{end}: {error}"
            );
        }
    }
}

#[test]
fn capabilities_of_every_code_and_length_are_tolerated() {
    for code in 0..=255u8 {
        for length in 0..=4u8 {
            let mut body = hex("04 fde9 00b4 0a000001");
            body.extend([length + 4, 2, length + 2, code, length]);
            body.extend([0x7F, 1, 2, 3].iter().take(length.into()));
            let messages = decode_all(CONTEXT, &message(1, &body)).unwrap();
            let [Message::Open(open)] = &messages[..] else { panic!() };
            assert_eq!(open.capabilities.len(), 1, "{code} {length}");
            let mut out = BytesMut::new();
            messages[0].encode(&mut out);
            // Of an AS number it is the speaker's own, of graceful restart the reserved bits that do not come back.
            if ![(64, 2), (65, 4)].contains(&(code, length)) {
                assert_eq!(out[19..], body, "{code} {length}");
            }
        }
    }
}

#[test]
fn offering_only_families_that_we_do_not_route_offers_none() {
    let offered = |capabilities: &[Capability]| CapabilitySet::offered_by(capabilities).families;
    assert_eq!(offered(&[]), FamilySet::IPV4);
    assert_eq!(
        offered(&[Capability::MultiProtocol(Family::Ipv6Unicast)])
            .iter()
            .count(),
        1
    );
    let evpn = Capability::Unknown {
        code: 1,
        value: vec![0, 25, 0, 70],
    };
    assert_eq!(offered(&[evpn]), FamilySet::default());
}

#[test]
fn every_notification_comes_back_as_it_was_and_has_words() {
    for code in 0..=255u8 {
        for subcode in 0..=12u8 {
            for length in [0, 1, 128, 4_075] {
                let notification = Notification {
                    code,
                    subcode,
                    data: vec![0xAB; length].into(),
                };
                assert!(!notification.to_string().is_empty());
                let mut out = BytesMut::new();
                Message::Notification(notification.clone()).encode(&mut out);
                assert_eq!(
                    decode_all(CONTEXT, &out).unwrap(),
                    [Message::Notification(notification)]
                );
            }
        }
    }
}

#[test]
fn only_administrative_shutdown_and_reset_carry_a_shutdown_communication() {
    for subcode in [
        CeaseSubcode::MaximumNumberOfPrefixesReached,
        CeaseSubcode::PeerDeconfigured,
        CeaseSubcode::OtherConfigurationChange,
    ] {
        let sent = Notification::cease_with_communication(subcode, "hello");
        assert_eq!(sent, Notification::cease(subcode));
    }
    for subcode in [CeaseSubcode::AdministrativeShutdown, CeaseSubcode::AdministrativeReset] {
        let sent = Notification::cease_with_communication(subcode, "hello");
        assert_eq!(sent.shutdown_communication(), Some("hello"));
    }
}

#[test]
fn shutdown_communication_is_read_and_anything_else_in_its_place_is_not() {
    let sent = Notification::cease_with_communication(CeaseSubcode::AdministrativeShutdown, "back at 12 – see T-1");
    assert_eq!(sent.shutdown_communication(), Some("back at 12 – see T-1"));
    assert_eq!(
        sent.to_string(),
        "Cease/Administrative Shutdown (6/2): \"back at 12 – see T-1\""
    );
    let long = Notification::cease_with_communication(CeaseSubcode::AdministrativeReset, &"é".repeat(200));
    assert_eq!(long.data[0], 254);
    assert_eq!(long.shutdown_communication(), Some("é".repeat(127).as_str()));
    for data in [&[][..], &[0], &[5, b'a'], &[1, 0xFF], &[255]] {
        let odd = Notification {
            code: 6,
            subcode: 2,
            data: bytes::Bytes::copy_from_slice(data),
        };
        assert_eq!(odd.shutdown_communication(), None, "{data:?}");
    }
}

#[test]
fn route_refresh_is_understood_ignored_or_refused() {
    let check = |body: &str, expected: Result<Option<(Family, RefreshKind)>, (u8, u8)>| {
        let is = decode_all(CONTEXT, &message(5, &hex(body)))
            .map(|messages| match &messages[..] {
                [] => None,
                [Message::RouteRefresh(refresh)] => Some((refresh.family, refresh.kind)),
                other => panic!("{other:?}"),
            })
            .map_err(|error| (error.notification.code, error.notification.subcode));
        assert_eq!(is, expected, "{body}");
    };
    check("0001 00 01", Ok(Some((Family::Ipv4Unicast, RefreshKind::Request))));
    check("0002 01 01", Ok(Some((Family::Ipv6Unicast, RefreshKind::Begin))));
    check("0002 02 01", Ok(Some((Family::Ipv6Unicast, RefreshKind::End))));
    check("0001 03 01", Ok(None));
    check("0001 ff 01", Ok(None));
    check("0019 00 46", Ok(None));
    check("0001 00 80", Ok(None));
    // Outbound route filters that nobody asked for.
    check(
        "0001 00 01 01 40 0003 8000 00",
        Ok(Some((Family::Ipv4Unicast, RefreshKind::Request))),
    );
    check("0001 00", Err((1, 2)));
    check("", Err((1, 2)));
    check("0001 01 01 00", Err((7, 1)));
    check("0001 02 01 00", Err((7, 1)));
}

#[test]
fn frames_that_cannot_be_are_refused_as_soon_as_their_header_is_there() {
    let extended = DecodeContext {
        extended_message: true,
        ..CONTEXT
    };
    let check = |context: DecodeContext, length: u16, message_type: u8, expected: Option<(u8, u8)>| {
        let mut decoder = Decoder::new();
        decoder.set_context(context);
        let mut header = vec![0xFF; 16];
        header.extend(length.to_be_bytes());
        header.push(message_type);
        decoder.push(&header);
        let is = decoder
            .next_message()
            .err()
            .map(|error| (error.notification.code, error.notification.subcode));
        assert_eq!(is, expected, "length {length} type {message_type} in {context:?}");
    };
    let bad_length = Some((1, 2));
    for context in [CONTEXT, extended] {
        for message_type in 0..=255 {
            check(context, 0, message_type, bad_length);
            check(context, 18, message_type, bad_length);
        }
        for message_type in [0, 6, 7, 128, 255] {
            check(context, 19, message_type, Some((1, 3)));
        }
        check(context, 28, 1, bad_length);
        check(context, 4_097, 1, bad_length);
        check(context, 22, 2, bad_length);
        check(context, 20, 3, bad_length);
        check(context, 20, 4, bad_length);
        check(context, 4_097, 4, bad_length);
        check(context, 4_096, 2, None);
    }
    for message_type in [2, 3, 5] {
        check(CONTEXT, 4_097, message_type, bad_length);
        check(CONTEXT, 65_535, message_type, bad_length);
        check(extended, 4_097, message_type, None);
        check(extended, 65_535, message_type, None);
    }
    let mut decoder = Decoder::new();
    decoder.push(&[0xFF, 0xFF, 0xFE]);
    assert_eq!(decoder.next_message().unwrap_err().notification.subcode, 1);
    // The stream is lost for good, and takes no more memory.
    decoder.push(&message(4, &[]));
    assert!(decoder.next_message().is_err());
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn updates_before_the_context_is_known_are_empty() {
    let mut decoder = Decoder::new();
    decoder.push(&update(&hex("10 0afa"), &[], &[]));
    assert_eq!(
        decoder.next_message().unwrap(),
        Some(Message::Update(Update::default()))
    );
}

#[test]
fn keepalive_is_nineteen_octets() {
    let mut out = BytesMut::new();
    Message::Keepalive.encode(&mut out);
    assert_eq!(out, hex("ffffffffffffffffffffffffffffffff 0013 04"));
}
