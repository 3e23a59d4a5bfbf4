//! What the peers announce.
//!
//! Everything follows from the prefix's number, so that every receiver can tell at once whether a route is the right one. Prefixes come
//! in runs that share attributes.

use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::{Community, EncodeContext, PathAttributes, pack_announcement, pack_withdrawal};
use bgp::{Asn, Family, IpNet};
use bytes::BytesMut;
use ipnet::Ipv4Net;

use crate::outcome::Size;

/// How we write: as every peer of the field can read.
pub(crate) const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    extended_message: false,
};

/// The speaker under test.
pub(crate) const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 9, 255, 4);

/// The second address of a route server.
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 9, 255, 5);

/// Prefixes that share a set of attributes.
const RUN: u32 = 5;

/// The first announced prefix, a /24; the others follow.
const BASE: u32 = u32::from_be_bytes([16, 0, 0, 0]);

/// Who announces what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All announce the same prefixes; run `r` is best through peer `r mod n`, second best through the next peer.
    Overlap,
    /// Each announces prefixes of its own.
    FanOut,
}

/// The size of the workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) shape: Shape,
    /// Peers that announce.
    pub(crate) peers: u32,
    /// Prefixes of each of them.
    pub(crate) prefixes: u32,
}

/// Workload A: 1.6 M paths in, 1.4 M routes out.
pub(crate) const A: Workload = Workload {
    shape: Shape::Overlap,
    peers: 8,
    prefixes: 200_000,
};

/// Workload B: 0.1 M paths in, 9.9 M routes out.
pub(crate) const B: Workload = Workload {
    shape: Shape::FanOut,
    peers: 100,
    prefixes: 1_000,
};

/// Workload C: 10 M paths in, 9 M routes out.
pub(crate) const C: Workload = Workload {
    shape: Shape::Overlap,
    peers: 10,
    prefixes: 1_000_000,
};

impl Workload {
    /// Its size, as an outcome says it.
    pub(crate) const fn sizes(&self) -> [(Size, u64); 2] {
        [(Size::Peers, self.peers as u64), (Size::Prefixes, self.prefixes as u64)]
    }

    /// A tenth of the prefixes, while there are any.
    pub(crate) fn tenth(self) -> Option<Workload> {
        let prefixes = self.prefixes / 10;
        (prefixes > 0).then_some(Workload { prefixes, ..self })
    }

    /// One peer more than announce: it joins when the table is full.
    pub(crate) fn configured_peers(&self) -> u32 {
        self.peers + 1
    }

    /// Distinct prefixes.
    pub(crate) fn total(&self) -> u32 {
        match self.shape {
            Shape::Overlap => self.prefixes,
            Shape::FanOut => self.peers * self.prefixes,
        }
    }

    /// The peer whose path to the prefix is best while `dead` is gone, if anybody has one.
    pub(crate) fn winner(&self, prefix: u32, dead: Option<u32>) -> Option<u32> {
        match self.shape {
            Shape::Overlap => {
                let first = (prefix / RUN) % self.peers;
                Some(if dead == Some(first) {
                    (first + 1) % self.peers
                } else {
                    first
                })
            }
            Shape::FanOut => Some(prefix / self.prefixes).filter(|owner| dead != Some(*owner)),
        }
    }

    /// The best peer of each prefix; [`NOBODY`] where there is none.
    pub(crate) fn winners(&self, dead: Option<u32>) -> Vec<u32> {
        (0..self.total())
            .map(|number| self.winner(number, dead).unwrap_or(NOBODY))
            .collect()
    }

    /// The whole table of a peer as UPDATE messages.
    pub(crate) fn encode_table(&self, peer: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        self.runs(peer, |run, prefixes| {
            let attributes = self.attributes(peer, run).build();
            pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv4Unicast, prefixes.map(prefix));
        });
        out.to_vec()
    }

    /// What a route server would tell `peer`, all of it.
    pub(crate) fn encode_answer(&self, peer: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        for other in (0..self.peers).filter(|other| *other != peer) {
            self.runs(other, |run, prefixes| {
                let best = prefixes
                    .filter(|number| self.winner(*number, None) == Some(other))
                    .map(prefix);
                let attributes = self
                    .attributes(other, run)
                    .prepend(Asn(65515), 1)
                    .next_hop(DEVICE.into())
                    .build();
                pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv4Unicast, best);
            });
        }
        out.to_vec()
    }

    /// Everything of a peer withdrawn again.
    pub(crate) fn encode_withdrawal(&self, peer: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        let prefixes = self.range(peer).map(prefix);
        pack_withdrawal(&mut out, ENCODE, Family::Ipv4Unicast, prefixes);
        out.to_vec()
    }

    fn range(&self, peer: u32) -> std::ops::Range<u32> {
        match self.shape {
            Shape::Overlap => 0..self.prefixes,
            Shape::FanOut => peer * self.prefixes..(peer + 1) * self.prefixes,
        }
    }

    fn runs(&self, peer: u32, mut each: impl FnMut(u32, std::ops::Range<u32>)) {
        let range = self.range(peer);
        let mut start = range.start;
        while start < range.end {
            let end = ((start / RUN + 1) * RUN).min(range.end);
            each(start / RUN, start..end);
            start = end;
        }
    }

    /// Which path every peer has to each run of its own, to compare with what receivers are told.
    pub(crate) fn paths(&self, peer: u32) -> Paths {
        let range = self.range(peer);
        let runs = range.start / RUN..range.end.div_ceil(RUN);
        Paths {
            first_run: runs.start,
            fingerprints: runs
                .map(|run| fingerprint(self.path(peer, run).into_iter().map(|asn| asn.0)))
                .collect(),
        }
    }

    fn attributes(&self, peer: u32, run: u32) -> bgp::wire::PathAttributesBuilder {
        let noise = noise(peer, run);
        let communities: Vec<Community> = (0..noise % 4)
            .map(|i| Community::new(3_000 + (noise >> 8) as u16 % 1_000, i as u16))
            .collect();
        PathAttributes::builder(address_of(peer).into())
            .as_sequence(&self.path(peer, run))
            .communities(&communities)
    }

    fn path(&self, peer: u32, run: u32) -> Vec<Asn> {
        let noise = noise(peer, run);
        let place = match self.shape {
            Shape::Overlap => (peer + self.peers - run % self.peers) % self.peers,
            Shape::FanOut => 0,
        };
        let base = 2 + mix(u64::from(run)) as u32 % 3;
        let length = (base + place.min(3)).min(7);
        let mut path = vec![Asn(asn_of(peer))];
        path.extend((1..length).map(|hop| Asn(100_000 + mix(noise + u64::from(hop)) as u32 % 50_000)));
        path
    }
}

/// The paths of one peer, by run.
#[derive(Debug)]
pub(crate) struct Paths {
    first_run: u32,
    fingerprints: Vec<u32>,
}

impl Paths {
    /// The fingerprint of the path to a prefix.
    pub(crate) fn to(&self, prefix: u32) -> Option<u32> {
        let run = (prefix / RUN).checked_sub(self.first_run)?;
        self.fingerprints.get(run as usize).copied()
    }
}

/// Tells one AS_PATH from another, cheaply: every receiver does this for every UPDATE.
pub(crate) fn fingerprint(asns: impl Iterator<Item = u32>) -> u32 {
    let hash = asns.fold(0xCBF2_9CE4_8422_2325_u64, |hash, asn| {
        (hash ^ u64::from(asn))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    });
    (hash >> 32) as u32
}

/// Stands for no peer.
pub(crate) const NOBODY: u32 = u32::MAX;

/// One announcement, or one withdrawal, of a single prefix.
pub(crate) fn encode_one(peer: u32, number: u32, announce: bool) -> BytesMut {
    let mut out = BytesMut::new();
    if announce {
        let attributes = PathAttributes::builder(address_of(peer).into())
            .as_sequence(&[Asn(asn_of(peer))])
            .build();
        pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv4Unicast, [prefix(number)]);
    } else {
        pack_withdrawal(&mut out, ENCODE, Family::Ipv4Unicast, [prefix(number)]);
    }
    out
}

/// The n-th prefix.
pub(crate) fn prefix(number: u32) -> IpNet {
    let address = Ipv4Addr::from(BASE + (number << 8));
    Ipv4Net::new(address, 24).map(IpNet::V4).unwrap_or_default()
}

/// The number of a prefix, given its first three octets.
pub(crate) fn number_of(octets: [u8; 3]) -> Option<u32> {
    let value = u32::from_be_bytes([octets[0], octets[1], octets[2], 0]);
    value.checked_sub(BASE).map(|difference| difference >> 8)
}

/// AS number of a peer.
pub(crate) fn asn_of(peer: u32) -> u32 {
    60_000 + peer
}

/// Which peer has this AS number.
pub(crate) fn peer_of(asn: u32) -> Option<u32> {
    asn.checked_sub(60_000)
}

/// Address of a peer.
pub(crate) fn address_of(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be_bytes([10, 9, 0, 11]) + peer)
}

/// As [`DEVICE`], for code that wants an [`IpAddr`].
pub(crate) fn device() -> IpAddr {
    DEVICE.into()
}

fn noise(peer: u32, run: u32) -> u64 {
    mix(u64::from(run) << 32 | u64::from(peer))
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn winner_has_the_shortest_path_and_the_runner_up_the_next() {
        let workload = Workload {
            shape: Shape::Overlap,
            peers: 8,
            prefixes: 1_000,
        };
        for number in 0..workload.prefixes {
            let run = number / RUN;
            let mut lengths: Vec<(u16, u32)> = (0..8)
                .map(|peer| (workload.attributes(peer, run).build().as_path_len(), peer))
                .collect();
            lengths.sort_unstable();
            assert_eq!(Some(lengths[0].1), workload.winner(number, None));
            assert_eq!(Some(lengths[1].1), workload.winner(number, Some(lengths[0].1)));
            assert!(lengths[0].0 < lengths[1].0 && lengths[1].0 < lengths[2].0);
        }
    }

    #[test]
    fn a_peers_paths_are_known_to_its_own_prefixes_only() {
        let workload = Workload {
            shape: Shape::FanOut,
            peers: 3,
            prefixes: 7,
        };
        let paths = workload.paths(1);
        assert!((7..14).all(|number| paths.to(number).is_some()));
        assert_eq!((paths.to(4), paths.to(15)), (None, None));
    }

    #[test]
    fn fingerprints_depend_on_every_as_and_its_place() {
        let of = |asns: &[u32]| fingerprint(asns.iter().copied());
        assert_ne!(of(&[1, 2, 3]), of(&[1, 3, 2]));
        assert_ne!(of(&[1, 2, 3]), of(&[1, 2]));
        assert_ne!(of(&[1, 2, 3]), of(&[1, 2, 4]));
    }
}
