//! AS paths of 255, 256, 750 and 1,000 hops, in one segment and in many, and those that fit no message once they are longer by ours.

use std::collections::BTreeMap;

use super::messages::{as_path, attribute, nlri, update};
use super::raw::Raw;
use super::{among, asn, prefix};

crate::tests![
    paths_of_hundreds_of_hops_arrive_whole,
    a_path_that_fits_no_message_any_more_is_withdrawn_from_those_who_had_the_shorter_one,
];

/// The other numbers of a path: none that anybody would refuse.
fn numbers(hops: usize) -> impl Iterator<Item = u32> {
    (0..hops as u32).map(|n| 4_200_000_000 + n)
}

fn with_path(raw: &Raw, path: &[u8]) -> Vec<u8> {
    let [origin, _, next_hop] = <[Vec<u8>; 3]>::try_from(raw.good_attributes()).unwrap();
    [origin, attribute(0x40, 2, path), next_hop].concat()
}

// 2009-02 (over 251 hops), OpenBGPD 2026-05 (750 elements), CVE-2022-37032 and its kin: counts that overflow.
fn paths_of_hundreds_of_hops_arrive_whole() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let (mut sender, mut receiver) = (Raw::establish(0).await, Raw::establish(1).await);
            let lengths = [1, 251, 252, 254, 255, 256, 257, 509, 510, 511, 750, 751, 1_000];
            let mut wanted = Vec::new();
            for hops in lengths {
                let path: Vec<u32> = [asn(0)].into_iter().chain(numbers(hops - 1)).collect();
                wanted.push((path.clone(), as_path(path)));
            }
            // Sixteen segments, and one for each hop.
            for size in [16, 1] {
                let path: Vec<u32> = [asn(0)].into_iter().chain(numbers(255)).collect();
                let segment = |numbers: &[u32]| as_path(numbers.iter().copied());
                let value = path.chunks(size).flat_map(segment).collect();
                wanted.push((path, value));
            }
            let mut table = BTreeMap::new();
            for (n, (_, value)) in wanted.iter().enumerate() {
                sender
                    .send(&update(&[], &with_path(&sender, value), &nlri([prefix(n)])))
                    .await;
            }
            let all = wanted.len();
            receiver
                .hears("all routes", &mut table, |table| {
                    (0..all).all(|n| table.contains_key(&prefix(n)))
                })
                .await;
            for (n, (path, _)) in wanted.iter().enumerate() {
                let told = &table[&prefix(n)].update.announced;
                let told = told.iter().find(|each| each.prefixes.contains(&prefix(n))).unwrap();
                let heard: Vec<u32> = told.attributes.as_numbers().map(|asn| asn.0).collect();
                assert_eq!(heard[0], 65_515);
                assert_eq!(heard[1..], path[..], "{} hops", path.len());
            }
            scene
        },
    );
}

fn a_path_that_fits_no_message_any_more_is_withdrawn_from_those_who_had_the_shorter_one() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            let (mut sender, mut receiver) = (Raw::establish(0).await, Raw::establish(1).await);
            let mut table = BTreeMap::new();
            let short = sender.announcement([prefix(0)]);
            sender.send(&short).await;
            receiver
                .hears("the short one", &mut table, |table| table.contains_key(&prefix(0)))
                .await;
            // As long as a message of 4,096 octets takes.
            let hops = (900..1_100).rev().find(|hops| {
                let path = as_path([asn(0)].into_iter().chain(numbers(hops - 1)));
                update(&[], &with_path(&sender, &path), &nlri([prefix(0)])).len() <= 4_096
            });
            let path = as_path([asn(0)].into_iter().chain(numbers(hops.unwrap() - 1)));
            sender
                .send(&update(&[], &with_path(&sender, &path), &nlri([prefix(0)])))
                .await;
            receiver
                .hears("it is withdrawn", &mut table, |table| !table.contains_key(&prefix(0)))
                .await;
            let report = scene.report(0).await;
            assert_eq!((report.established_count, report.routes_accepted), (1, 1));
            scene
        },
    );
}
