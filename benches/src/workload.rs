//! Workload A: peers that announce the same prefixes, one of them best for each.
//!
//! Everything follows from the prefix's number, so that every receiver can tell at once whether a route is the right one:
//! prefixes come in runs that share attributes; run `r` is best through peer `r mod n`, second best through the next peer.

use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::{Community, EncodeContext, PathAttributes, pack_announcement, pack_withdrawal};
use bgp::{Asn, Family, IpNet};
use bytes::BytesMut;
use ipnet::Ipv4Net;

/// How we write: as every peer of the field can read.
pub(crate) const ENCODE: EncodeContext = EncodeContext {
    four_octet_as: true,
    extended_message: false,
};

/// Prefixes that share a set of attributes.
const RUN: u32 = 5;

/// The first announced prefix, a /24; the others follow.
const BASE: u32 = u32::from_be_bytes([16, 0, 0, 0]);

/// The size of the workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Peers; all announce all prefixes.
    pub(crate) peers: u32,
    /// Prefixes.
    pub(crate) prefixes: u32,
}

impl Workload {
    /// The peer whose path to the prefix is best once `dead` peers are gone.
    pub(crate) fn winner(&self, prefix: u32, dead: Option<u32>) -> u32 {
        let first = (prefix / RUN) % self.peers;
        if dead == Some(first) {
            (first + 1) % self.peers
        } else {
            first
        }
    }

    /// How many prefixes are best through `peer`.
    pub(crate) fn best_through(&self, peer: u32) -> u32 {
        (0..self.prefixes)
            .filter(|prefix| self.winner(*prefix, None) == peer)
            .count() as u32
    }

    /// The whole table of a peer as UPDATE messages.
    pub(crate) fn encode_table(&self, peer: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        for run in 0..self.prefixes.div_ceil(RUN) {
            let attributes = self.attributes(peer, run);
            let prefixes = (run * RUN..(run * RUN + RUN).min(self.prefixes)).map(prefix);
            pack_announcement(&mut out, ENCODE, &attributes, Family::Ipv4Unicast, prefixes);
        }
        out.to_vec()
    }

    /// Everything withdrawn again.
    pub(crate) fn encode_withdrawal(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        pack_withdrawal(&mut out, ENCODE, Family::Ipv4Unicast, (0..self.prefixes).map(prefix));
        out.to_vec()
    }

    fn attributes(&self, peer: u32, run: u32) -> PathAttributes {
        let noise = mix(u64::from(run) << 32 | u64::from(peer));
        let place = (peer + self.peers - run % self.peers) % self.peers;
        let base = 2 + mix(u64::from(run)) as u32 % 3;
        let length = (base + place.min(3)).min(7);
        let mut path = vec![Asn(asn_of(peer))];
        path.extend((1..length).map(|hop| Asn(100_000 + mix(noise + u64::from(hop)) as u32 % 50_000)));
        let communities: Vec<Community> = (0..noise % 4)
            .map(|i| Community::new(3_000 + (noise >> 8) as u16 % 1_000, i as u16))
            .collect();
        PathAttributes::builder(address_of(peer).into())
            .as_sequence(&path)
            .communities(&communities)
            .build()
    }
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

/// The device under test.
pub(crate) const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 9, 255, 4);

/// As [`DEVICE`], for code that wants an [`IpAddr`].
pub(crate) fn device() -> IpAddr {
    DEVICE.into()
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
            peers: 8,
            prefixes: 1_000,
        };
        for number in 0..workload.prefixes {
            let run = number / RUN;
            let mut lengths: Vec<(u16, u32)> = (0..8)
                .map(|peer| (workload.attributes(peer, run).as_path_len(), peer))
                .collect();
            lengths.sort_unstable();
            assert_eq!(lengths[0].1, workload.winner(number, None));
            assert_eq!(lengths[1].1, workload.winner(number, Some(lengths[0].1)));
            assert!(lengths[0].0 < lengths[1].0 && lengths[1].0 < lengths[2].0);
        }
    }
}
