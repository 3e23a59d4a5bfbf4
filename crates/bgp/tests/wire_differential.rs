//! Two decoders that others wrote read what we write, and find the same routes: prefixes, AS path, communities, next hop.
#![allow(clippy::unwrap_used)]

mod wire_support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::wire::*;
use bgp::{Asn, Family, IpNet};
use bytes::{Bytes, BytesMut};
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use wire_support::*;

/// What all three decoders can say of an UPDATE.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    announced: BTreeSet<IpNet>,
    withdrawn: BTreeSet<IpNet>,
    next_hop: Option<IpAddr>,
    path: Vec<u32>,
    communities: Vec<u32>,
    large_communities: Vec<(u32, u32, u32)>,
    med: Option<u32>,
}

fn ours(message: &[u8]) -> Seen {
    let update = decode_update(CONTEXT, message).unwrap();
    assert_eq!(update.mended, []);
    let mut seen = Seen {
        withdrawn: update.withdrawn.iter().copied().collect(),
        ..Seen::default()
    };
    for announcement in &update.announced {
        let attributes = &announcement.attributes;
        seen.announced.extend(&announcement.prefixes);
        seen.next_hop = Some(attributes.next_hop());
        seen.path = attributes.as_numbers().map(|asn| asn.0).collect();
        seen.communities = attributes.communities().map(|community| community.0).collect();
        seen.large_communities = attributes.large_communities().collect();
        seen.med = attributes.med();
    }
    seen
}

fn bgpkits(message: &[u8]) -> Seen {
    use bgpkit_parser::models::{AsnLength, BgpMessage, MetaCommunity};
    let mut bytes = Bytes::copy_from_slice(message);
    let parsed = bgpkit_parser::parser::bgp::parse_bgp_message(&mut bytes, false, &AsnLength::Bits32).unwrap();
    let BgpMessage::Update(update) = parsed else {
        panic!("{parsed:?}")
    };
    let attributes = &update.attributes;
    let reach = attributes.get_reachable_nlri();
    let unreach = attributes.get_unreachable_nlri();
    let of = |nlri: Option<&bgpkit_parser::models::Nlri>| -> Vec<IpNet> {
        nlri.map(|nlri| nlri.prefixes.iter().map(|prefix| prefix.prefix).collect())
            .unwrap_or_default()
    };
    let mut seen = Seen {
        announced: update
            .announced_prefixes
            .iter()
            .map(|prefix| prefix.prefix)
            .chain(of(reach))
            .collect(),
        withdrawn: update
            .withdrawn_prefixes
            .iter()
            .map(|prefix| prefix.prefix)
            .chain(of(unreach))
            .collect(),
        next_hop: attributes
            .next_hop()
            .or_else(|| reach.and_then(|nlri| nlri.next_hop).map(|next_hop| next_hop.addr())),
        path: attributes
            .as_path()
            .and_then(|path| path.to_u32_vec_opt(false))
            .unwrap_or_default(),
        med: attributes.multi_exit_discriminator(),
        ..Seen::default()
    };
    for community in attributes.iter_communities() {
        match community {
            MetaCommunity::Plain(plain) => seen.communities.push(bgpkit_community(plain)),
            MetaCommunity::Large(large) => {
                let [first, second] = large.local_data;
                seen.large_communities.push((large.global_admin, first, second));
            }
            _ => {}
        }
    }
    seen
}

fn bgpkit_community(community: bgpkit_parser::models::Community) -> u32 {
    use bgpkit_parser::models::Community::{Custom, NoAdvertise, NoExport, NoExportSubConfed};
    match community {
        NoExport => bgp::wire::Community::NO_EXPORT.0,
        NoAdvertise => bgp::wire::Community::NO_ADVERTISE.0,
        NoExportSubConfed => bgp::wire::Community::NO_EXPORT_SUBCONFED.0,
        Custom(asn, value) => asn.to_u32() << 16 | u32::from(value),
    }
}

fn netgauzes(message: &[u8]) -> Seen {
    use netgauze_bgp_pkt::BgpMessage;
    use netgauze_bgp_pkt::path_attribute::{AsPath, MpReach, MpUnreach, PathAttributeValue as Value};
    use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
    use netgauze_parse_utils::reader::SliceReader;
    use netgauze_parse_utils::traits::ParseFromWithOneInput;

    let mut context = BgpParsingContext::asn2_default();
    context.set_asn4(true);
    let parsed = BgpMessage::parse(&mut SliceReader::new(message), &mut context).unwrap();
    let BgpMessage::Update(update) = parsed else {
        panic!("{parsed:?}")
    };
    let v4 = |nlri: &[netgauze_bgp_pkt::nlri::Ipv4UnicastAddress]| -> Vec<IpNet> {
        nlri.iter()
            .map(|address| IpNet::V4(address.network().address()))
            .collect()
    };
    let v6 = |nlri: &[netgauze_bgp_pkt::nlri::Ipv6UnicastAddress]| -> Vec<IpNet> {
        nlri.iter()
            .map(|address| IpNet::V6(address.network().address()))
            .collect()
    };
    let mut seen = Seen {
        announced: v4(update.nlri()).into_iter().collect(),
        withdrawn: v4(update.withdraw_routes()).into_iter().collect(),
        ..Seen::default()
    };
    for attribute in update.path_attributes() {
        match attribute.value() {
            Value::AsPath(AsPath::As4PathSegments(segments)) => {
                seen.path = segments
                    .iter()
                    .flat_map(|segment| segment.as_numbers().to_vec())
                    .collect();
            }
            Value::NextHop(next_hop) => seen.next_hop = Some(next_hop.next_hop().into()),
            Value::MultiExitDiscriminator(med) => seen.med = Some(med.metric()),
            Value::Communities(communities) => {
                seen.communities = communities
                    .communities()
                    .iter()
                    .map(|community| community.value())
                    .collect();
            }
            Value::LargeCommunities(communities) => {
                let all = communities.communities().iter();
                seen.large_communities = all
                    .map(|c| (c.global_admin(), c.local_data1(), c.local_data2()))
                    .collect();
            }
            Value::MpReach(MpReach::Ipv6Unicast {
                next_hop_global, nlri, ..
            }) => {
                seen.next_hop = Some((*next_hop_global).into());
                seen.announced.extend(v6(nlri));
            }
            Value::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => seen.withdrawn.extend(v6(nlri)),
            _ => {}
        }
    }
    seen
}

fn messages(stream: &[u8]) -> Vec<&[u8]> {
    let mut rest = stream;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
        let (message, after) = rest.split_at(length);
        messages.push(message);
        rest = after;
    }
    messages
}

fn compare(stream: &[u8]) -> Result<(), TestCaseError> {
    for message in messages(stream) {
        let seen = ours(message);
        prop_assert_eq!(&seen, &bgpkits(message), "bgpkit-parser");
        prop_assert_eq!(&seen, &netgauzes(message), "netgauze");
    }
    Ok(())
}

prop_compose! {
    fn builder()(
        origin in 0..3u8,
        path in vec(1..4_200_000_000u32, 0..300),
        med in any::<Option<u32>>(),
        communities in btree_set(any::<u32>(), 0..20),
        large in btree_set(any::<(u32, u32, u32)>(), 0..5),
        unknown in any::<bool>(),
    ) -> PathAttributesBuilder {
        let builder = PathAttributes::builder(Ipv4Addr::new(10, 0, 0, 1).into())
            .origin(Origin::from_value(origin).unwrap())
            .as_sequence(&path.into_iter().map(Asn).collect::<Vec<_>>())
            .med(med)
            .communities(&communities.into_iter().map(Community).collect::<Vec<_>>())
            .large_communities(&large.into_iter().collect::<Vec<_>>());
        if unknown { builder.other(0xE0, 99, &[1, 2, 3]) } else { builder }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ipv4_updates_mean_the_same_to_others(
        builder in builder(),
        next_hop in 0x0100_0000..0x7F00_0000u32,
        prefixes in btree_set((0x0100_0000..0xDF00_0000u32, 8..=32u8), 1..300),
    ) {
        let attributes = builder.next_hop(Ipv4Addr::from(next_hop).into()).build();
        let prefixes: Vec<IpNet> = prefixes.into_iter().map(|(a, length)| IpNet::V4(Ipv4Net::new(a.into(), length).unwrap().trunc())).collect();
        let mut out = BytesMut::new();
        pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv4Unicast, prefixes.clone());
        pack_withdrawal(&mut out, ENCODE, Family::Ipv4Unicast, prefixes);
        compare(&out)?;
    }

    #[test]
    fn ipv6_updates_mean_the_same_to_others(
        builder in builder(),
        next_hop in any::<u64>(),
        prefixes in btree_set((any::<u64>(), 16..=128u8), 1..200),
    ) {
        let global = |low: u64| Ipv6Addr::from(0x2001_0DB8_u128 << 96 | u128::from(low) << 20);
        let attributes = builder.next_hop(global(next_hop).into()).build();
        let prefixes: Vec<IpNet> = prefixes.into_iter().map(|(a, length)| IpNet::V6(Ipv6Net::new(global(a), length).unwrap().trunc())).collect();
        let mut out = BytesMut::new();
        pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv6Unicast, prefixes.clone());
        pack_withdrawal(&mut out, ENCODE, Family::Ipv6Unicast, prefixes);
        compare(&out)?;
    }
}
