//! Parts of the RIB at work on tables like those of workloads A and B in docs/performance.md, smaller.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::{Announcement, EncodeContext, PathAttributes};
use bgp::{Asn, BgpIdentifier, FamilySet, IpNet};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ipnet::Ipv4Net;
use rib::{
    ExportPolicy, GroupKey, HashKey, ImportPolicy, PeerIndex, PeerInfo, Preference, RejectRule, Rib, RouteSource,
    Sender,
};

/// Prefixes that share one attribute set.
const RUN: u32 = 5;

struct AcceptAll;

impl ImportPolicy for AcceptAll {
    fn refuse_attributes(&self, _: PeerIndex, _: Sender, _: &PathAttributes) -> Option<RejectRule> {
        None
    }
    fn refuse_prefix(&self, _: Sender, _: &IpNet) -> Option<RejectRule> {
        None
    }
}

struct NextHopSelf;

impl ExportPolicy for NextHopSelf {
    fn export(&self, _: &GroupKey, _: Sender, attributes: &Arc<PathAttributes>) -> Option<PathAttributes> {
        let next_hop = Ipv4Addr::new(10, 0, 0, 4).into();
        let builder = attributes.to_builder().next_hop(next_hop).prepend(Asn(65515), 1);
        Some(builder.build())
    }
}

const GROUP: GroupKey = GroupKey {
    encode: EncodeContext {
        four_octet_as: true,
        extended_message: false,
    },
    families: FamilySet::BOTH,
    source: RouteSource::Nva,
    asn: None,
    shape: None,
    long_lived: false,
    graceful_shutdown: false,
};

/// One peer's table: `prefixes` of them from `first` on, the run's number and the peer deciding who has the shortest path.
fn table(peer: u32, first: u32, prefixes: u32) -> Vec<Announcement> {
    (first..first + prefixes)
        .step_by(RUN as usize)
        .map(|start| {
            let run = start / RUN;
            let length = 2 + (run + peer) % 6;
            let path: Vec<Asn> = (0..length).map(|hop| Asn(65000 + peer * 97 + run * 31 + hop)).collect();
            let next_hop: IpAddr = Ipv4Addr::from_bits(0x0a00_0100 + peer).into();
            let prefix = |n: u32| IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(0x1400_0000 + (n << 8)), 24).unwrap());
            Announcement {
                attributes: Arc::new(PathAttributes::builder(next_hop).as_sequence(&path).build()),
                prefixes: (start..start + RUN).map(prefix).collect(),
            }
        })
        .collect()
}

fn rib_with_peers(peers: u32) -> (Rib, Vec<PeerIndex>) {
    let mut rib = Rib::new(Preference::ExpressRoute, HashKey::new(1, 2));
    let indices = (0..peers)
        .map(|peer| {
            let address = Ipv4Addr::from_bits(0x0a00_0100 + peer);
            let index = rib.add_peer(PeerInfo {
                identifier: BgpIdentifier(address),
                address: address.into(),
                asn: Asn(65000 + peer),
                external: true,
                source: RouteSource::Nva,
                import_preference: 0,
                last_resort: false,
            });
            rib.attach(index, GROUP);
            index
        })
        .collect();
    (rib, indices)
}

fn announce_all(rib: &mut Rib, peers: &[PeerIndex], tables: &[Vec<Announcement>]) {
    for (peer, table) in peers.iter().zip(tables) {
        for announcement in table {
            rib.announce(*peer, announcement, &AcceptAll);
        }
    }
}

fn flush(rib: &mut Rib) -> usize {
    let mut octets = 0;
    while rib.flush(&NextHopSelf, &mut |_, bytes| octets += bytes.len()) {}
    octets
}

fn overlapping_tables(c: &mut Criterion) {
    const PREFIXES: u32 = 50_000;
    let tables: Vec<_> = (0..8).map(|peer| table(peer, 0, PREFIXES)).collect();
    let mut group = c.benchmark_group("8 peers x 50,000 prefixes");
    group.sample_size(10);
    group.bench_function("intern and store", |b| {
        b.iter_batched(
            || rib_with_peers(8),
            |(mut rib, peers)| {
                announce_all(&mut rib, &peers, &tables);
                rib
            },
            BatchSize::PerIteration,
        )
    });
    let stored = || {
        let (mut rib, peers) = rib_with_peers(8);
        announce_all(&mut rib, &peers, &tables);
        (rib, peers)
    };
    group.bench_function("decide", |b| {
        b.iter_batched(
            stored,
            |(mut rib, _)| {
                black_box(rib.decide());
                rib
            },
            BatchSize::PerIteration,
        )
    });
    let decided = || {
        let (mut rib, peers) = stored();
        flush(&mut rib);
        rib.decide();
        (rib, peers)
    };
    group.bench_function("export and encode", |b| {
        b.iter_batched(
            decided,
            |(mut rib, _)| {
                black_box(flush(&mut rib));
                rib
            },
            BatchSize::PerIteration,
        )
    });
    group.bench_function("a peer dies", |b| {
        b.iter_batched(
            || {
                let (mut rib, peers) = decided();
                flush(&mut rib);
                (rib, peers)
            },
            |(mut rib, peers)| {
                rib.detach(peers[0]);
                rib.clear_peer(peers[0]);
                black_box(rib.decide());
                black_box(flush(&mut rib));
                rib
            },
            BatchSize::PerIteration,
        )
    });
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    const PREFIXES: u32 = 1_000;
    let tables: Vec<_> = (0..100).map(|peer| table(peer, peer * PREFIXES, PREFIXES)).collect();
    let mut group = c.benchmark_group("100 peers x 1,000 prefixes");
    group.sample_size(10);
    group.bench_function("a batch per peer", |b| {
        b.iter_batched(
            || rib_with_peers(100),
            |(mut rib, peers)| {
                for (peer, table) in peers.iter().zip(&tables) {
                    for announcement in table {
                        rib.announce(*peer, announcement, &AcceptAll);
                    }
                    black_box(rib.decide());
                    black_box(flush(&mut rib));
                }
                rib
            },
            BatchSize::PerIteration,
        )
    });
    group.finish();
}

fn one_update(c: &mut Criterion) {
    let tables: Vec<_> = (0..8).map(|peer| table(peer, 0, 50_000)).collect();
    let (mut rib, peers) = rib_with_peers(8);
    announce_all(&mut rib, &peers, &tables);
    rib.decide();
    flush(&mut rib);
    let next_hop = Ipv4Addr::new(10, 0, 1, 0).into();
    let ways = [Asn(65001), Asn(65002)].map(|asn| Announcement {
        attributes: Arc::new(PathAttributes::builder(next_hop).as_sequence(&[asn]).build()),
        prefixes: tables[0][0].prefixes[..1].to_vec(),
    });
    let mut turn = 0;
    c.bench_function("one update", |b| {
        b.iter(|| {
            turn ^= 1;
            rib.announce(peers[0], &ways[turn], &AcceptAll);
            black_box(rib.decide());
            black_box(flush(&mut rib))
        })
    });
}

criterion_group!(benches, overlapping_tables, fan_out, one_update);
criterion_main!(benches);
