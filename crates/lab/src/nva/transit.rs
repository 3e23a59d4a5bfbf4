//! What the builtin NVA makes of all that it has learned: the best paths for its kernel, and what each neighbour is told.
//!
//! The shortest AS path wins; equal ones share the traffic. What came from one side (route servers, or links) is passed on to the other,
//! never back: two instances of a route server do not hear of each other through an NVA.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::NvaConfig;
use crate::topology::{Neighbour, Path, Side};

/// The AS number that a route server looks for in what it hears (az §2.3).
const ROUTE_SERVER_ASN: u32 = bgp::Asn::AZURE_ROUTE_SERVER.0;

/// A path as a neighbour told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) next_hop: IpAddr,
    pub(super) as_path: Vec<u32>,
}

/// What each neighbour has told.
pub(super) type Told<'a> = [(Neighbour, &'a BTreeMap<IpNet, Learned>)];

/// Prefix → the next hops of its shortest paths.
pub(super) fn next_hops(told: &Told<'_>) -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
    let hops = |paths: Vec<(Side, &Learned)>| paths.into_iter().map(|(_, path)| path.next_hop).collect();
    best(told)
        .into_iter()
        .map(|(prefix, paths)| (prefix, hops(paths)))
        .collect()
}

/// All that a neighbour is to know: what is announced, and the best of what the other side says.
pub(super) fn wanted(config: &NvaConfig, told: &Told<'_>, to: &Neighbour) -> BTreeMap<IpNet, Path> {
    let mut wanted = BTreeMap::new();
    if told.iter().any(|(neighbour, _)| neighbour.side != to.side) {
        for (prefix, paths) in best(told) {
            if let Some((_, path)) = paths.first().filter(|(side, _)| *side != to.side) {
                wanted.insert(prefix, passed_on(config, prefix, path, to));
            }
        }
    }
    let is_for = |path: &&Path| path.only_to.is_none_or(|neighbour| neighbour == to.address);
    let announced = config.announce.iter().filter(is_for);
    wanted.extend(announced.map(|path| (path.prefix, path.clone())));
    wanted
}

fn passed_on(config: &NvaConfig, prefix: IpNet, learned: &Learned, to: &Neighbour) -> Path {
    let overrides = config.as_override && to.side == Side::Azure;
    let number = |asn: &u32| match *asn {
        ROUTE_SERVER_ASN if overrides => config.asn,
        other => other,
    };
    Path {
        as_path: learned.as_path.iter().map(number).collect(),
        ..Path::plain(prefix)
    }
}

/// The shortest paths to each prefix.
fn best<'a>(told: &'a Told<'_>) -> BTreeMap<IpNet, Vec<(Side, &'a Learned)>> {
    let mut best: BTreeMap<IpNet, Vec<(Side, &Learned)>> = BTreeMap::new();
    for (neighbour, learned) in told {
        for (prefix, path) in *learned {
            let known = best.entry(*prefix).or_default();
            let length = known.first().map_or(usize::MAX, |(_, first)| first.as_path.len());
            if path.as_path.len() < length {
                known.clear();
            }
            if path.as_path.len() <= length {
                known.push((neighbour.side, path));
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;

    fn neighbour(side: Side) -> Neighbour {
        Neighbour {
            bfd: None,
            graceful_restart: None,
            address: Ipv4Addr::LOCALHOST,
            asn: 65515,
            local: Ipv4Addr::LOCALHOST,
            local_v6: None,
            side,
        }
    }

    fn learned(prefix: &str, next_hop: [u8; 4], as_path: &[u32]) -> BTreeMap<IpNet, Learned> {
        let path = Learned {
            next_hop: next_hop.into(),
            as_path: as_path.to_vec(),
        };
        BTreeMap::from([(prefix.parse().unwrap(), path)])
    }

    fn config(as_override: bool) -> NvaConfig {
        NvaConfig {
            name: "nva".into(),
            asn: 65001,
            address: Ipv4Addr::LOCALHOST,
            address_v6: None,
            neighbours: Vec::new(),
            announce: vec![Path::plain("10.9.0.0/16".parse::<IpNet>().unwrap())],
            as_override,
            install: true,
            control: "c".into(),
        }
    }

    #[test]
    fn what_one_side_says_is_passed_on_to_the_other_and_never_back() {
        let (azure, link) = (neighbour(Side::Azure), neighbour(Side::Link));
        let (hub, far) = (
            learned("10.1.0.0/16", [10, 1, 0, 4], &[65515]),
            learned("10.2.0.0/16", [172, 31, 0, 2], &[65002, 65515]),
        );
        let told = [(azure, &hub), (link, &far)];
        let keys = |to: &Neighbour| {
            wanted(&config(false), &told, to)
                .into_keys()
                .map(|p| p.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&azure), ["10.2.0.0/16", "10.9.0.0/16"]);
        assert_eq!(keys(&link), ["10.1.0.0/16", "10.9.0.0/16"]);
    }

    #[test]
    fn the_route_servers_number_is_replaced_towards_route_servers_only() {
        let (azure, link) = (neighbour(Side::Azure), neighbour(Side::Link));
        let far = learned("10.2.0.0/16", [172, 31, 0, 2], &[65002, 65515]);
        let hub = learned("10.1.0.0/16", [10, 1, 0, 4], &[65515]);
        let told = [(azure, &hub), (link, &far)];
        let path = |as_override, to, prefix: &str| {
            wanted(&config(as_override), &told, to)[&prefix.parse().unwrap()]
                .as_path
                .clone()
        };
        assert_eq!(path(false, &azure, "10.2.0.0/16"), [65002, 65515]);
        assert_eq!(path(true, &azure, "10.2.0.0/16"), [65002, 65001]);
        assert_eq!(path(true, &link, "10.1.0.0/16"), [65515]);
    }

    #[test]
    fn the_shortest_paths_share_the_traffic_and_longer_ones_wait() {
        let side = neighbour(Side::Azure);
        let [one, two, three] = [
            learned("10.2.0.0/16", [10, 1, 0, 4], &[65515, 65002]),
            learned("10.2.0.0/16", [10, 1, 0, 5], &[65515, 65003]),
            learned("10.2.0.0/16", [10, 1, 0, 6], &[65515, 65003, 65004]),
        ];
        let hops = next_hops(&[(side, &three), (side, &one), (side, &two)]);
        let hops: Vec<_> = hops
            .into_values()
            .flatten()
            .map(|hop| hop.to_string().rsplit('.').next().unwrap().parse::<u8>().unwrap())
            .collect();
        assert_eq!(hops, [4, 5]);
    }
}
