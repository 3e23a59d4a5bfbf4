//! What holds for any routes, and for any bytes: round trips, no panic, no stall, no memory beyond one message.
#![allow(clippy::unwrap_used)]

mod wire_support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::wire::*;
use bgp::{Asn, Family, FamilySet, IpNet};
use bytes::BytesMut;
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use wire_support::*;

fn contexts() -> impl Strategy<Value = (EncodeContext, DecodeContext)> {
    (any::<bool>(), any::<bool>()).prop_map(|(four_octet_as, extended_message)| {
        let encode = EncodeContext {
            four_octet_as,
            extended_message,
        };
        let decode = DecodeContext {
            four_octet_as,
            extended_message,
            families: FamilySet::BOTH,
            external: true,
        };
        (encode, decode)
    })
}

fn host_v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from).prop_filter("a host", |a| {
        !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast()
    })
}

fn host_v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>()
        .prop_map(Ipv6Addr::from)
        .prop_filter("a host", |a| !a.is_unspecified() && !a.is_multicast())
}

prop_compose! {
    fn attributes(next_hop: IpAddr)(
        origin in 0..3u8,
        path in vec(prop_oneof![1..70_000u32, any::<u32>()], 0..400),
        med in any::<Option<u32>>(),
        communities in btree_set(any::<u32>(), 0..40),
        large in btree_set(any::<(u32, u32, u32)>(), 0..10),
        extended in vec(any::<[u8; 8]>(), 0..5),
        unknown in vec((41..=255u8, prop_oneof![Just(0xE0u8), Just(0xF0)], vec(any::<u8>(), 0..300)), 0..4),
    ) -> PathAttributes {
        let path: Vec<Asn> = path.into_iter().map(Asn).collect();
        let communities: Vec<Community> = communities.into_iter().map(Community).collect();
        let large: Vec<_> = large.into_iter().collect();
        let mut builder = PathAttributes::builder(next_hop)
            .origin(Origin::from_value(origin).unwrap())
            .as_sequence(&path)
            .med(med)
            .communities(&communities)
            .large_communities(&large);
        if !extended.is_empty() {
            builder = builder.other(0xC0, 16, &extended.concat());
        }
        for (code, flags, value) in unknown {
            builder = builder.other(flags, code, &value);
        }
        builder.build()
    }
}

fn prefixes_v4() -> impl Strategy<Value = BTreeSet<IpNet>> {
    btree_set(
        (any::<u32>(), 0..=32u8).prop_map(|(a, length)| IpNet::V4(Ipv4Net::new(a.into(), length).unwrap().trunc())),
        1..2_000,
    )
}

fn prefixes_v6() -> impl Strategy<Value = BTreeSet<IpNet>> {
    btree_set(
        (any::<u128>(), 0..=128u8).prop_map(|(a, length)| IpNet::V6(Ipv6Net::new(a.into(), length).unwrap().trunc())),
        1..600,
    )
}

/// Packs, decodes, and looks whether everything is there once.
fn round_trip(
    (encode, decode): (EncodeContext, DecodeContext),
    attributes: &PathAttributes,
    family: Family,
    prefixes: &BTreeSet<IpNet>,
) -> Result<(), TestCaseError> {
    let mut out = BytesMut::new();
    pack_announcement(&mut out, encode, attributes, family, prefixes.iter().copied());
    let mut announced = Vec::new();
    for message in decode_all(decode, &out).unwrap() {
        let Message::Update(update) = message else {
            panic!("{message:?}")
        };
        prop_assert_eq!(&update.mended, &[]);
        prop_assert!(update.withdrawn.is_empty());
        for announcement in update.announced {
            prop_assert_eq!(&*announcement.attributes, attributes);
            announced.extend(announcement.prefixes);
        }
    }
    prop_assert_eq!(announced.len(), prefixes.len());
    prop_assert_eq!(&announced.into_iter().collect::<BTreeSet<_>>(), prefixes);

    let mut out = BytesMut::new();
    pack_withdrawal(&mut out, encode, family, prefixes.iter().copied());
    let mut withdrawn = Vec::new();
    for message in decode_all(decode, &out).unwrap() {
        let Message::Update(update) = message else {
            panic!("{message:?}")
        };
        prop_assert_eq!(update.end_of_rib, None);
        withdrawn.extend(update.withdrawn);
    }
    prop_assert_eq!(withdrawn.len(), prefixes.len());
    prop_assert_eq!(&withdrawn.into_iter().collect::<BTreeSet<_>>(), prefixes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ipv4_routes_come_back_as_they_were(
        contexts in contexts(),
        attributes in host_v4().prop_flat_map(|next_hop| attributes(next_hop.into())),
        prefixes in prefixes_v4(),
    ) {
        round_trip(contexts, &attributes, Family::Ipv4Unicast, &prefixes)?;
    }

    #[test]
    fn ipv6_routes_come_back_as_they_were(
        contexts in contexts(),
        attributes in host_v6().prop_flat_map(|next_hop| attributes(next_hop.into())),
        prefixes in prefixes_v6(),
    ) {
        round_trip(contexts, &attributes, Family::Ipv6Unicast, &prefixes)?;
    }

    /// Any bytes, and whatever way they are cut up by TCP: the same messages or the same error.
    #[test]
    fn any_bytes_mean_the_same_however_they_arrive(
        context in contexts(),
        bytes in prop_oneof![vec(any::<u8>(), 0..300), framed_noise()],
        cuts in vec(1..40usize, 1..20),
    ) {
        let whole = run(context.1, &[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&run(context.1, &single), &whole);
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(&run(context.1, &pieces), &whole);
    }

    /// A good stream with some octets changed: decodes or fails, and what it decodes to can be written again.
    #[test]
    fn mutations_of_good_messages_never_panic_and_stay_writable(
        context in contexts(),
        attributes in host_v4().prop_flat_map(|next_hop| attributes(next_hop.into())),
        prefixes in prefixes_v4(),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut out = BytesMut::new();
        pack_announcement(&mut out, context.0, &attributes, Family::Ipv4Unicast, prefixes);
        for (index, octet) in mutations {
            // Behind the first header, so that the body is read at all.
            let at = 19 + index.index(out.len() - 19);
            out[at] = octet;
        }
        let (messages, _) = run(context.1, &[&out]);
        for message in messages {
            check_writable(context, &message)?;
        }
    }
}

/// Bodies of noise behind good headers, some of them UPDATEs with lengths that fit.
fn framed_noise() -> impl Strategy<Value = Vec<u8>> {
    let noise = || vec(any::<u8>(), 0..120);
    let attribute = (any::<u8>(), 0..45u8, vec(any::<u8>(), 0..24))
        .prop_map(|(flags, code, value)| attribute(flags & 0xEF, code, &value));
    let update = (vec(any::<u8>(), 0..3), vec(attribute, 0..8), noise())
        .prop_map(|(withdrawn, attributes, nlri)| update(&withdrawn, &attributes.concat(), &nlri));
    let other = (0..7u8, noise()).prop_map(|(message_type, body)| message(message_type, &body));
    vec(prop_oneof![update, other], 1..4).prop_map(|messages| messages.concat())
}

/// What comes out of a stream in pieces: messages, then perhaps an error.
fn run(context: DecodeContext, pieces: &[&[u8]]) -> (Vec<Message>, Option<MessageError>) {
    let mut decoder = Decoder::new();
    decoder.set_context(context);
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(decoder.buffered() < 65_535);
    }
    (messages, None)
}

fn check_writable(context: (EncodeContext, DecodeContext), message: &Message) -> Result<(), TestCaseError> {
    assert!(!message.to_string().is_empty());
    let Message::Update(update) = message else {
        return Ok(());
    };
    for announcement in &update.announced {
        let family = Family::of(&announcement.prefixes[0]);
        let prefixes: BTreeSet<IpNet> = announcement.prefixes.iter().copied().collect();
        round_trip(context, &announcement.attributes, family, &prefixes)?;
    }
    Ok(())
}

/// The cache must not change what anything means.
#[test]
fn attributes_that_repeat_are_shared_and_mean_the_same() {
    let mut decoder = Decoder::new();
    decoder.set_context(CONTEXT);
    let sets: Vec<PathAttributes> = (0..2_000u32)
        .map(|n| {
            PathAttributes::builder("10.0.0.1".parse().unwrap())
                .as_sequence(&[Asn(65001), Asn(n + 1)])
                .build()
        })
        .collect();
    let mut first = Vec::new();
    for round in 0..3 {
        for (n, set) in sets.iter().enumerate() {
            let mut out = BytesMut::new();
            pack_announcement(&mut out, ENCODE, set, Family::Ipv4Unicast, [net("10.250.0.0/16")]);
            for _ in 0..3 {
                decoder.push(&out);
            }
            let mut next = || match decoder.next_message().unwrap() {
                Some(Message::Update(update)) => update.announced[0].attributes.clone(),
                other => panic!("{other:?}"),
            };
            // Kept when it comes again, shared from then on.
            let (one, two, three) = (next(), next(), next());
            assert!(std::sync::Arc::ptr_eq(&two, &three), "{n}");
            assert_eq!((&*one, &*two), (set, set), "{round} {n}");
            first.push(one);
        }
    }
}
