//! Between the pure types of `routeserver::delivery` and the agent protocol.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use ipnet::IpNet;
use prost::Message;
use routeserver::delivery;

use crate::agent::{self, route, to_agent};

/// No piece of a table is longer than this by more than one entry: as much as one stream that does not move keeps from being freed.
const PIECE: usize = 16 << 10;

/// The prefix of a gRPC message: whether it is compressed, and its length ("Length-Prefixed-Message", gRPC over HTTP/2).
pub const MESSAGE_PREFIX: usize = 5;

/// A message as it goes to every agent that it is for, in pieces of bounded length: converted, encoded and framed once, shared by all
/// streams.
pub fn encode(message: &delivery::ToAgent) -> Arc<[Bytes]> {
    let update = |update: &delivery::TableUpdate, body: fn(agent::TableUpdate) -> to_agent::Body| {
        pieces(update).into_iter().map(|piece| framed(body(piece))).collect()
    };
    match message {
        delivery::ToAgent::Nic(nic) => one(to_agent::Body::Nic(nic_assignment(nic))),
        delivery::ToAgent::Snapshot(snapshot) => update(snapshot, to_agent::Body::Snapshot),
        delivery::ToAgent::Delta(delta) => update(delta, to_agent::Body::Delta),
        delivery::ToAgent::Converged(converged) => one(to_agent::Body::Converged(*converged)),
    }
}

/// The first message of a stream.
pub fn welcome(instance: usize, epoch: u64, silence_secs: u64) -> Arc<[Bytes]> {
    one(to_agent::Body::Welcome(agent::Welcome {
        // Indexes are 0 and 1.
        instance: instance as u32,
        epoch,
        silence_secs: u32::try_from(silence_secs).unwrap_or(u32::MAX),
    }))
}

/// Said each second while nothing else is.
pub fn heartbeat() -> Bytes {
    framed(to_agent::Body::Heartbeat(agent::Heartbeat {}))
}

/// A prefix of the protocol; `None` if it is none.
pub fn prefix(prefix: &agent::Prefix) -> Option<IpNet> {
    let length = u8::try_from(prefix.length).ok()?;
    IpNet::new(address(&prefix.address)?, length).ok()
}

/// An address of the protocol, 4 or 16 octets; `None` if it is none.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => None,
    }
}

fn one(body: to_agent::Body) -> Arc<[Bytes]> {
    Arc::new([framed(body)])
}

fn framed(body: to_agent::Body) -> Bytes {
    let message = agent::ToAgent { body: Some(body) };
    let length = message.encoded_len();
    let mut out = Vec::with_capacity(MESSAGE_PREFIX + length);
    out.put_u8(0);
    // A piece is far from 4 GiB.
    out.put_u32(length as u32);
    message.encode_raw(&mut out);
    out.into()
}

fn nic_assignment(nic: &delivery::NicAssignment) -> agent::Nic {
    agent::Nic {
        nic: nic.nic.to_string(),
        table: nic.table.map(|table| table.0),
        base: nic.base.map(|table| table.0),
        addresses: nic.addresses.iter().copied().map(octets).collect(),
        subnet_prefixes: nic.subnet_prefixes.iter().map(to_prefix).collect(),
        gateways: nic.gateways.iter().copied().map(octets).collect(),
    }
}

/// Groups come first, since routes name them, and go last. What an overlay hides is told in its first piece and those that follow it.
fn pieces(update: &delivery::TableUpdate) -> Vec<agent::TableUpdate> {
    let mut pieces = Pieces {
        table: update.table.0,
        generation: update.generation,
        done: Vec::new(),
        filling: agent::TableUpdate::default(),
        octets: 0,
    };
    pieces.filling.hides_changed = update.hides.is_some();
    for hidden in update.hides.iter().flatten().map(to_prefix) {
        let octets = hidden.encoded_len();
        pieces.with_room(octets).hides.push(hidden);
    }
    for group in update.groups.iter().map(group) {
        let octets = group.encoded_len();
        pieces.with_room(octets).groups.push(group);
    }
    for route in update.routes.iter().map(table_route) {
        let octets = route.encoded_len();
        pieces.with_room(octets).routes.push(route);
    }
    for removed in update.removed.iter().map(to_prefix) {
        let octets = removed.encoded_len();
        pieces.with_room(octets).removed.push(removed);
    }
    for group in &update.removed_groups {
        pieces.with_room(MAX_VARINT32).removed_groups.push(group.0);
    }
    pieces.finish()
}

/// Octets of a 32-bit number on the wire, at most.
const MAX_VARINT32: usize = 5;
/// Tag and length of an entry, at most.
const ENTRY_PREFIX: usize = 1 + MAX_VARINT32;

/// An update that is being cut.
struct Pieces {
    table: u64,
    generation: u64,
    done: Vec<agent::TableUpdate>,
    filling: agent::TableUpdate,
    octets: usize,
}

impl Pieces {
    /// The piece that an entry of so many octets goes to.
    fn with_room(&mut self, octets: usize) -> &mut agent::TableUpdate {
        if self.octets >= PIECE {
            self.cut(true);
        }
        self.octets += ENTRY_PREFIX + octets;
        &mut self.filling
    }

    fn cut(&mut self, more: bool) {
        self.octets = 0;
        self.done.push(agent::TableUpdate {
            table: self.table,
            generation: self.generation,
            more,
            ..std::mem::take(&mut self.filling)
        });
    }

    fn finish(mut self) -> Vec<agent::TableUpdate> {
        self.cut(false);
        self.done
    }
}

fn group(group: &delivery::Group) -> agent::Group {
    agent::Group {
        id: group.id.0,
        members: group.members.iter().copied().map(octets).collect(),
        fallback: group.fallback.iter().copied().map(octets).collect(),
        rank: group.rank.0,
    }
}

fn table_route(route: &delivery::TableRoute) -> agent::Route {
    agent::Route {
        prefix: Some(to_prefix(&route.prefix)),
        system: route.system,
        way: Some(match route.way {
            delivery::Way::OnLink => route::Way::OnLink(true),
            delivery::Way::SubnetGateway => route::Way::SubnetGateway(true),
            delivery::Way::Group(group) => route::Way::Group(group.0),
            delivery::Way::Blackhole => route::Way::Blackhole(true),
        }),
    }
}

fn to_prefix(prefix: &IpNet) -> agent::Prefix {
    agent::Prefix {
        address: octets(prefix.addr()),
        length: prefix.prefix_len().into(),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use routeserver::delivery::{Group, GroupId, TableId, TableRoute, TableUpdate, ToAgent, Way};

    use super::*;

    #[test]
    fn prefixes_and_addresses_of_both_families_come_back_as_they_went() {
        for text in ["0.0.0.0/0", "10.250.0.0/16", "10.1.2.3/32", "::/0", "fd00:1::/48"] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(prefix(&to_prefix(&net)), Some(net), "{text}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for (address, length) in [
            (vec![10, 0, 0, 0], 33),
            (vec![10, 0, 0], 8),
            (vec![0; 16], 129),
            (vec![], 0),
            (vec![0; 4], 257),
        ] {
            assert_eq!(prefix(&agent::Prefix { address, length }), None);
        }
    }

    fn decoded(frame: &Bytes) -> to_agent::Body {
        let length = u32::from_be_bytes(frame[1..MESSAGE_PREFIX].try_into().unwrap());
        assert_eq!((frame[0], length as usize), (0, frame.len() - MESSAGE_PREFIX));
        agent::ToAgent::decode(frame.slice(MESSAGE_PREFIX..))
            .unwrap()
            .body
            .unwrap()
    }

    fn delta(frame: &Bytes) -> agent::TableUpdate {
        match decoded(frame) {
            to_agent::Body::Delta(delta) => delta,
            other => panic!("{other:?} is no delta"),
        }
    }

    fn update(routes: u32) -> TableUpdate {
        let prefix = |n: u32| IpNet::new(IpAddr::from((0x1400_0000 + (n << 8)).to_be_bytes()), 24).unwrap();
        TableUpdate {
            table: TableId(7),
            generation: 3,
            groups: vec![Group {
                id: GroupId(1),
                members: vec!["10.1.1.4".parse().unwrap()],
                fallback: vec!["10.1.1.5".parse().unwrap()],
                rank: rib::Rank(9),
            }],
            removed_groups: vec![GroupId(2)],
            routes: (0..routes)
                .map(|n| TableRoute {
                    prefix: prefix(n),
                    way: Way::Group(GroupId(1)),
                    system: false,
                })
                .collect(),
            removed: vec!["10.251.0.0/16".parse().unwrap()],
            hides: Some(vec!["10.1.0.0/16".parse().unwrap()]),
        }
    }

    #[test]
    fn a_table_update_keeps_everything_on_its_way() {
        let frames = encode(&ToAgent::Delta(Arc::new(update(1))));
        assert_eq!(frames.len(), 1);
        let decoded = delta(&frames[0]);
        assert_eq!(
            (decoded.table, decoded.generation, decoded.removed_groups, decoded.more),
            (7, 3, vec![2], false)
        );
        assert_eq!(decoded.groups[0].members, [[10, 1, 1, 4]]);
        assert_eq!(decoded.groups[0].fallback, [[10, 1, 1, 5]]);
        assert_eq!(decoded.groups[0].rank, 9);
        assert_eq!(decoded.routes[0].way, Some(route::Way::Group(1)));
        assert_eq!(prefix(&decoded.removed[0]).unwrap().to_string(), "10.251.0.0/16");
        assert!(decoded.hides_changed);
        assert_eq!(prefix(&decoded.hides[0]).unwrap().to_string(), "10.1.0.0/16");
    }

    #[test]
    fn a_long_update_goes_in_pieces_of_bounded_length_that_make_the_whole() {
        let frames = encode(&ToAgent::Delta(Arc::new(update(10_000))));
        assert!(frames.len() > 1);
        assert!(frames.iter().all(|frame| frame.len() < PIECE + 1024));
        let pieces: Vec<_> = frames.iter().map(delta).collect();
        let (last, others) = pieces.split_last().unwrap();
        assert!(others.iter().all(|piece| piece.more) && !last.more);
        assert!(pieces.iter().all(|piece| (piece.table, piece.generation) == (7, 3)));
        assert_eq!(
            pieces[0].groups.len(),
            1,
            "groups come before the routes that name them"
        );
        assert_eq!(last.removed_groups, [2], "groups go after the routes that named them");
        assert_eq!(pieces.iter().map(|piece| piece.routes.len()).sum::<usize>(), 10_000);
    }

    #[test]
    fn an_empty_table_is_one_piece() {
        let empty = TableUpdate {
            table: TableId(1),
            generation: 1,
            groups: vec![],
            removed_groups: vec![],
            routes: vec![],
            removed: vec![],
            hides: None,
        };
        let frames = encode(&ToAgent::Snapshot(Arc::new(empty)));
        assert_eq!(frames.len(), 1);
        assert!(matches!(decoded(&frames[0]), to_agent::Body::Snapshot(update) if !update.more));
    }
}
