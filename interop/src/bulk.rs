//! Ten thousand prefixes at once: through the lab, but for GoBGP, whose tool takes them one by one and reads many from a file only.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use ipnet::IpNet;
use lab::topology::Software;

use crate::world::{LEFT_ADDRESS, World, plain};

/// As many as Azure allows in all (az §1.1).
pub(crate) const MANY: usize = 10_000;
const FIRST: u32 = 20 << 24;

fn prefixes() -> impl Iterator<Item = IpNet> {
    (FIRST..)
        .step_by(256)
        .take(MANY)
        .map(|address| IpNet::new_assert(Ipv4Addr::from(address).into(), 24))
}

/// Whether a prefix is one of them.
pub(crate) fn is_one(prefix: IpNet) -> bool {
    let IpNet::V4(prefix) = prefix else { return false };
    let place = u32::from(prefix.network()).wrapping_sub(FIRST) as usize;
    prefix.prefix_len() == 24 && place < MANY * 256
}

/// Announces all of them.
pub(crate) fn announce(world: &mut World, node: &str) -> Result<()> {
    match world.speaker.0 {
        Software::Gobgp => {
            let file = world.nva_file(node, "many.mrt");
            fs::write(&file, table_dump())?;
            let file = file.display().to_string();
            world.tool(
                node,
                &[
                    "gobgp",
                    "mrt",
                    "inject",
                    "global",
                    &file,
                    "--nexthop",
                    &LEFT_ADDRESS.to_string(),
                ],
            )?;
            Ok(())
        }
        _ => Ok(world
            .lab
            .announce_paths(node, &prefixes().map(plain).collect::<Vec<_>>())?),
    }
}

/// Withdraws all of them.
pub(crate) fn withdraw(world: &mut World, node: &str) -> Result<()> {
    match world.speaker.0 {
        Software::Gobgp => {
            world.tool(node, &["gobgp", "global", "rib", "del", "all"])?;
            Ok(())
        }
        _ => Ok(world.lab.withdraw(node, &prefixes().collect::<Vec<_>>())?),
    }
}

/// A RIB as MRT file (RFC 6396 §4.3), with one peer: all that `gobgp mrt inject` reads.
fn table_dump() -> Vec<u8> {
    const PEER_INDEX_TABLE: u16 = 1;
    const RIB_IPV4_UNICAST: u16 = 2;
    let IpAddr::V4(own) = LEFT_ADDRESS else {
        return Vec::new();
    };
    let own = own.octets();
    let mut peers = Vec::new();
    // Collector, empty view name, one peer: type 0 (IPv4, AS number of two octets), identifier, address, AS number.
    peers.extend(own);
    peers.extend([0, 0, 0, 1, 0]);
    peers.extend(own);
    peers.extend(own);
    peers.extend([0xFD, 0xE9]);
    let mut file = record(PEER_INDEX_TABLE, &peers);
    // Twice: `gobgp mrt inject` ends before the last few hundred records have been taken.
    for (number, prefix) in (0u32..).zip(prefixes().chain(prefixes())) {
        // ORIGIN igp, an empty AS_PATH, NEXT_HOP.
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4];
        attributes.extend(own);
        let mut rib = number.to_be_bytes().to_vec();
        rib.push(prefix.prefix_len());
        let IpAddr::V4(network) = prefix.network() else {
            continue;
        };
        rib.extend(&network.octets()[..3]);
        // One entry: peer 0, originated at 0.
        rib.extend([0, 1, 0, 0, 0, 0, 0, 0, 0, 14]);
        rib.extend(attributes);
        file.extend(record(RIB_IPV4_UNICAST, &rib));
    }
    file
}

fn record(subtype: u16, body: &[u8]) -> Vec<u8> {
    const TABLE_DUMP_V2: u16 = 13;
    let length = u32::try_from(body.len()).expect("records are short");
    let mut record = vec![0; 4];
    record.extend(TABLE_DUMP_V2.to_be_bytes());
    record.extend(subtype.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}
