//! Messages as bytes, taken apart and put together again.
#![allow(clippy::unwrap_used)]

use bgp::wire::*;
use bgp::{Asn, Family, FamilySet, IpNet};
use bytes::BytesMut;

const CONTEXT: DecodeContext = DecodeContext {
    four_octet_as: true,
    extended_message: false,
    families: FamilySet::BOTH,
    external: true,
};
const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    extended_message: false,
};

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
    let update = decode_one(&bytes);
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

fn decode_one(bytes: &[u8]) -> Update {
    let mut decoder = Decoder::new();
    decoder.set_context(CONTEXT);
    decoder.push(bytes);
    match decoder.next_message().unwrap() {
        Some(Message::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Octets from a text of hexadecimal numbers; on each line what follows three spaces is a remark.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .map(|line| line.trim().split("   ").next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}
