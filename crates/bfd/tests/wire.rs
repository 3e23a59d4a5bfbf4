#![allow(clippy::unwrap_used)]
//! Packets as octets: vectors, every check of RFC 5880 §6.8.6 that needs no session, and any octets at all.

use bfd::{Authentication, AuthenticationType, ControlPacket, Discard, MIN_LENGTH, State};
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// Up, detect mult 3, 50 ms both ways.
const PLAIN: &str = "20 c0 03 18  00000007 00000001  0000c350 0000c350 00000000";

#[test]
fn a_plain_packet_is_taken_apart_and_built_again() {
    let packet = ControlPacket::parse(&hex(PLAIN)).unwrap();
    assert_eq!((packet.state, packet.detect_mult), (State::Up, 3));
    assert_eq!(packet.my_discriminator.0.get(), 7);
    assert_eq!(packet.your_discriminator.map(|d| d.0.get()), Some(1));
    assert_eq!((packet.desired_min_tx_us, packet.required_min_rx_us), (50_000, 50_000));
    assert_eq!(packet.encode(), hex(PLAIN));
}

#[test]
fn flags_and_diagnostic_are_where_the_rfc_has_them() {
    // Down, Diagnostic 1, P and C and D; then Init with F.
    let first = ControlPacket::parse(&hex("21 6a 03 18 00000007 00000000 000f4240 0000c350 00000000")).unwrap();
    assert_eq!(first.diagnostic.to_string(), "Control Detection Time Expired");
    assert!(first.poll && !first.is_final && first.control_plane_independent && first.demand);
    assert_eq!((first.state, first.your_discriminator), (State::Down, None));
    let second = ControlPacket::parse(&hex("20 90 03 18 00000007 00000001 000f4240 0000c350 00000000")).unwrap();
    assert!(second.is_final && !second.poll);
    assert_eq!(second.state, State::Init);
}

#[test]
fn each_check_drops_what_it_should() {
    let check = |at: usize, octets: &[u8], expected: Discard| {
        let mut packet = hex(PLAIN);
        packet[at..at + octets.len()].copy_from_slice(octets);
        assert_eq!(ControlPacket::parse(&packet), Err(expected), "{octets:02x?} at {at}");
    };
    check(0, &[0x00], Discard::Version);
    check(0, &[0x40], Discard::Version);
    check(3, &[23], Discard::Length);
    check(3, &[25], Discard::Length);
    // With the A bit 24 and 25 are too little.
    check(1, &[0xC4], Discard::Length);
    check(2, &[0], Discard::DetectMult);
    check(1, &[0xC1], Discard::Multipoint);
    check(4, &[0; 4], Discard::MyDiscriminator);
    check(8, &[0; 4], Discard::YourDiscriminator);
    // In the RFC's order: what is wrong in several ways is told by the first.
    check(0, &[0x00, 0xC1, 0, 23], Discard::Version);
    check(1, &[0xC1, 0, 23], Discard::Length);
    check(1, &[0xC1, 0], Discard::DetectMult);
    for end in 0..MIN_LENGTH {
        let expected = if end < 4 { Discard::Truncated } else { Discard::Length };
        assert_eq!(ControlPacket::parse(&hex(PLAIN)[..end]), Err(expected), "cut at {end}");
    }
}

#[test]
fn octets_behind_the_packet_mean_nothing() {
    let longer = [hex(PLAIN), vec![0xFF; 100]].concat();
    assert_eq!(ControlPacket::parse(&longer).unwrap().encode(), hex(PLAIN));
}

#[test]
fn keys_have_the_lengths_of_the_rfc() {
    use AuthenticationType::{KeyedMd5, KeyedSha1, MeticulousKeyedMd5, MeticulousKeyedSha1, SimplePassword};
    for (kind, longest) in [
        (SimplePassword, 16),
        (KeyedMd5, 16),
        (MeticulousKeyedMd5, 16),
        (KeyedSha1, 20),
        (MeticulousKeyedSha1, 20),
    ] {
        assert!(Authentication::new(kind, 1, &[]).is_err());
        assert!(Authentication::new(kind, 1, &vec![b'x'; longest]).is_ok());
        assert!(Authentication::new(kind, 1, &vec![b'x'; longest + 1]).is_err());
    }
}

#[test]
fn a_key_is_not_printed() {
    let with = Authentication::new(AuthenticationType::KeyedSha1, 3, b"hunter2").unwrap();
    assert_eq!(format!("{with:?}"), "Authentication(KeyedSha1, key 3, …)");
}

proptest! {
    #[test]
    fn any_octets_are_dropped_or_read(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = ControlPacket::parse(&octets);
    }

    #[test]
    fn what_is_read_is_written_again(mut octets in prop::collection::vec(any::<u8>(), 26..60), authenticated: bool) {
        octets[0] = 0x20 | (octets[0] & 0x1F);
        octets[1] &= !0x05;
        octets[3] = MIN_LENGTH as u8;
        if authenticated {
            octets[1] |= 0x04;
            octets[3] = octets.len() as u8;
        }
        if let Ok(packet) = ControlPacket::parse(&octets) {
            prop_assert_eq!(packet.encode(), &octets[..usize::from(octets[3])]);
        }
    }
}
