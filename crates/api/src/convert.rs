//! Between the pure types of `routeserver::delivery` and the agent protocol.

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use prost::Message;
use routeserver::delivery;

use crate::agent::{self, route, to_agent};

/// A message as it goes to every agent that it is for: converted and encoded once, shared by all streams.
pub fn encode(message: &delivery::ToAgent) -> Bytes {
    envelope(match message {
        delivery::ToAgent::Nic(nic) => to_agent::Body::Nic(nic_assignment(nic)),
        delivery::ToAgent::Snapshot(update) => to_agent::Body::Snapshot(table_update(update)),
        delivery::ToAgent::Delta(update) => to_agent::Body::Delta(table_update(update)),
        delivery::ToAgent::Converged(converged) => to_agent::Body::Converged(*converged),
    })
}

/// The first message of a stream.
pub fn welcome(instance: usize, epoch: u64, silence_secs: u64) -> Bytes {
    envelope(to_agent::Body::Welcome(agent::Welcome {
        // Indexes are 0 and 1.
        instance: instance as u32,
        epoch,
        silence_secs: u32::try_from(silence_secs).unwrap_or(u32::MAX),
    }))
}

/// Said each second while nothing else is.
pub fn heartbeat() -> Bytes {
    envelope(to_agent::Body::Heartbeat(agent::Heartbeat {}))
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

fn envelope(body: to_agent::Body) -> Bytes {
    agent::ToAgent { body: Some(body) }.encode_to_vec().into()
}

fn nic_assignment(nic: &delivery::NicAssignment) -> agent::Nic {
    agent::Nic {
        nic: nic.nic.to_string(),
        table: nic.table.map(|table| table.0),
        addresses: nic.addresses.iter().copied().map(octets).collect(),
        subnet_prefixes: nic.subnet_prefixes.iter().map(to_prefix).collect(),
        gateways: nic.gateways.iter().copied().map(octets).collect(),
    }
}

fn table_update(update: &delivery::TableUpdate) -> agent::TableUpdate {
    agent::TableUpdate {
        table: update.table.0,
        generation: update.generation,
        groups: update.groups.iter().map(group).collect(),
        removed_groups: update.removed_groups.iter().map(|group| group.0).collect(),
        routes: update.routes.iter().map(table_route).collect(),
        removed: update.removed.iter().map(to_prefix).collect(),
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
    use std::sync::Arc;

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

    #[test]
    fn a_table_update_keeps_everything_on_its_way() {
        let update = TableUpdate {
            table: TableId(7),
            generation: 3,
            groups: vec![Group {
                id: GroupId(1),
                members: vec!["10.1.1.4".parse().unwrap()],
                fallback: vec!["10.1.1.5".parse().unwrap()],
                rank: rib::Rank(9),
            }],
            removed_groups: vec![GroupId(2)],
            routes: vec![TableRoute {
                prefix: "10.250.0.0/16".parse().unwrap(),
                way: Way::Group(GroupId(1)),
                system: false,
            }],
            removed: vec!["10.251.0.0/16".parse().unwrap()],
        };
        let bytes = encode(&ToAgent::Delta(Arc::new(update)));
        let Some(to_agent::Body::Delta(decoded)) = agent::ToAgent::decode(bytes).unwrap().body else {
            panic!("not a delta")
        };
        assert_eq!(
            (decoded.table, decoded.generation, decoded.removed_groups),
            (7, 3, vec![2])
        );
        assert_eq!(decoded.groups[0].members, [[10, 1, 1, 4]]);
        assert_eq!(decoded.groups[0].fallback, [[10, 1, 1, 5]]);
        assert_eq!(decoded.groups[0].rank, 9);
        assert_eq!(decoded.routes[0].way, Some(route::Way::Group(1)));
        assert_eq!(prefix(&decoded.removed[0]).unwrap().to_string(), "10.251.0.0/16");
    }
}
