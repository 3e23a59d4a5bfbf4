//! The codec at work on a table: UPDATEs of five prefixes, each with attributes of its own, and a table that repeats few sets.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use bgp::wire::{DecodeContext, Decoder, EncodeContext, PathAttributes, pack_announcement};
use bgp::{Asn, Family, FamilySet, IpNet};
use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ipnet::Ipv4Net;

const PREFIXES: u32 = 50_000;
const RUN: u32 = 5;

const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    extended_message: false,
};

const DECODE: DecodeContext = DecodeContext {
    four_octet_as: true,
    extended_message: false,
    families: FamilySet::IPV4,
    external: true,
};

fn attributes(number: u32) -> PathAttributes {
    let path = [Asn(65001), Asn(100_000 + number), Asn(200_000 + number % 97)];
    let next_hop = Ipv4Addr::new(10, 0, 1, 4).into();
    PathAttributes::builder(next_hop).as_sequence(&path).build()
}

/// The prefixes that share the attributes of a run.
fn run_of(number: u32) -> impl Iterator<Item = IpNet> {
    let prefix = |n: u32| IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(0x1400_0000 + (n << 8)), 24).unwrap());
    (number * RUN..(number + 1) * RUN).map(prefix)
}

/// The table as UPDATEs, with so many different sets of attributes in turn.
fn table(distinct: u32) -> BytesMut {
    let mut out = BytesMut::new();
    for run in 0..PREFIXES / RUN {
        let set = attributes(run % distinct);
        pack_announcement(&mut out, ENCODE, &set, Family::Ipv4Unicast, run_of(run));
    }
    out
}

fn decode(table: &[u8]) -> usize {
    let mut decoder = Decoder::new();
    decoder.set_context(DECODE);
    let mut messages = 0;
    for read in table.chunks(32 << 10) {
        decoder.push(read);
        while let Some(message) = decoder.next_message().unwrap() {
            black_box(message);
            messages += 1;
        }
    }
    messages
}

fn tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("50,000 prefixes");
    group.throughput(Throughput::Elements(PREFIXES.into()));
    for (name, distinct) in [("decode, all sets differ", PREFIXES), ("decode, 100 sets", 100)] {
        let bytes = table(distinct);
        group.bench_function(name, |b| b.iter(|| decode(&bytes)));
    }
    let sets: Vec<PathAttributes> = (0..PREFIXES / RUN).map(attributes).collect();
    group.bench_function("encode", |b| {
        b.iter_batched(
            || BytesMut::with_capacity(4 << 20),
            |mut out| {
                for (run, set) in (0..).zip(&sets) {
                    pack_announcement(&mut out, ENCODE, set, Family::Ipv4Unicast, run_of(run));
                }
                out
            },
            BatchSize::PerIteration,
        )
    });
    group.finish();
}

criterion_group!(benches, tables);
criterion_main!(benches);
