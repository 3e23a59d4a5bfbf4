#![allow(clippy::unwrap_used)]
use super::*;
use crate::topology::{Bfd, GracefulRestart, Topology};

/// A topology that is right, into which the mistakes are put.
const GOOD: &str = "\
vnets:
  - name: hub
    address_prefixes: [10.1.0.0/16]
    subnets:
      - { name: RouteServerSubnet, prefix: 10.1.0.0/27 }
      - { name: nva, prefix: 10.1.1.0/24 }
route_servers:
  - { name: rs, vnet: hub }
nvas:
  - { name: sdwan, subnet: hub/nva, address: 10.1.1.4, asn: 65001, announce: [10.250.0.0/16] }
vms:
  - { name: vm1, subnet: hub/nva, address: 10.1.1.10 }
";

fn check(replace: &str, by: &str, line: u64, says: &str) {
    assert!(GOOD.contains(replace), "{replace} is not in the topology");
    match Topology::parse("t.yaml", &GOOD.replace(replace, by)) {
        Err(TopologyError::Mistakes { mistakes, .. }) => {
            let found = mistakes.iter().any(|m| m.line == line && m.message.contains(says));
            assert!(found, "no mistake in line {line} says {says:?}: {mistakes:#?}");
        }
        other => panic!("{replace} → {by}: {other:?}"),
    }
}

#[test]
fn each_mistake_is_reported_at_its_line() {
    check("10.1.0.0/16]", "10.1.0.1/16]", 3, "did you mean 10.1.0.0/16?");
    check("10.1.0.0/16]", "banana]", 3, "banana is not a prefix");
    check("10.1.0.0/27 }", "10.2.0.0/27 }", 5, "outside the virtual network");
    check("10.1.1.0/24 }", "10.1.0.0/24 }", 6, "overlaps subnet RouteServerSubnet");
    check("10.1.1.0/24 }", "10.1.1.0/30 }", 6, "smaller than a /29");
    check(
        "10.1.1.0/24 }",
        "10.1.1.0/24, route_table: none }",
        6,
        "no route table named none",
    );
    check("vnet: hub }", "vnet: spoke }", 8, "no virtual network named spoke");
    check(
        "name: RouteServerSubnet",
        "name: other",
        8,
        "no subnet named RouteServerSubnet",
    );
    check("name: rs,", "name: fabric,", 8, "needs for itself");
    check("10.1.1.4,", "10.1.1.3,", 10, "must be one of 10.1.1.4 to 10.1.1.254");
    check("10.1.1.4,", "10.1.1.x,", 10, "is not an IPv4 address");
    check("asn: 65001", "asn: 0", 10, "RFC 7607");
    check(
        "asn: 65001",
        "asn: 65001, software: quagga",
        10,
        "software is one of builtin, frr",
    );
    check("[10.250.0.0/16]", "[10.250.0.1/16]", 10, "bits beyond its mask");
    check(
        "[10.250.0.0/16]",
        "[{ prefix: 10.250.0.0/16, communities: [x] }]",
        10,
        "x is not a community",
    );
    check("hub/nva, address: 10.1.1.4", "hub/none", 10, "no subnet hub/none");
    check(
        "hub/nva, address: 10.1.1.4",
        "hub/RouteServerSubnet",
        10,
        "nothing but its service",
    );
    check(
        "asn: 65001",
        "asn: 65001, behind: [{ name: s, address: 10.1.9.9/24 }]",
        10,
        "overlaps the virtual network",
    );
    check(
        "asn: 65001",
        "asn: 65001, behind: [{ name: s, address: 10.9.9.1/24 }]",
        10,
        "the NVA's own address",
    );
    check(
        "asn: 65001",
        "asn: 65001, route_server: other",
        10,
        "no route server named other",
    );
    check("name: vm1", "name: sdwan", 12, "already a node named sdwan");
    check("name: vm1", "name: VM1", 12, "is no node name");
    check("10.1.1.10", "10.1.1.4", 12, "already belongs to sdwan");
}

#[test]
fn bfd_needs_software_that_speaks_it_and_intervals_that_the_route_server_takes() {
    let with = |bfd: &str, says: &str| check("asn: 65001", &format!("asn: 65001, {bfd}"), 10, says);
    with(
        "software: gobgp, bfd: {}",
        "bfd needs builtin, frr or bird; gobgp has none",
    );
    with("bfd: { interval_ms: 49 }", "interval_ms is from 50 to 60000");
    with("bfd: { multiplier: 1 }", "multiplier is from 2 to 255");
    let good = GOOD.replace("asn: 65001", "asn: 65001, bfd: { interval_ms: 50, strict: true }");
    let topology = Topology::parse("t.yaml", &good).unwrap();
    let expected = Bfd {
        interval_ms: 50,
        multiplier: 3,
        strict: true,
    };
    assert_eq!(topology.nvas[0].bfd, Some(expected));
    assert!(
        topology
            .neighbours_of(&topology.nvas[0])
            .iter()
            .all(|neighbour| neighbour.bfd == Some(expected))
    );
}

#[test]
fn graceful_restart_needs_times_that_fit_and_software_that_knows_what_is_asked_of_it() {
    let with = |restart: &str, says: &str| check("asn: 65001", &format!("asn: 65001, {restart}"), 10, says);
    with(
        "software: exabgp, graceful_restart: { long_lived_secs: 1 }",
        "exabgp has no RFC 9494",
    );
    with(
        "graceful_restart: { restart_secs: 0 }",
        "restart_secs is from 1 to 4095",
    );
    with(
        "graceful_restart: { restart_secs: 4096 }",
        "restart_secs is from 1 to 4095",
    );
    let good = GOOD.replace("asn: 65001", "asn: 65001, graceful_restart: { long_lived_secs: 60 }");
    let topology = Topology::parse("t.yaml", &good).unwrap();
    let expected = GracefulRestart {
        restart_secs: 120,
        long_lived_secs: 60,
    };
    assert_eq!(topology.nvas[0].graceful_restart, Some(expected));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = GOOD
        .replace("asn: 65001", "asn: 0")
        .replace("name: vm1", "name: manager")
        .replace("10.1.0.0/27", "no");
    let error = Topology::parse("t.yaml", &text).unwrap_err().to_string();
    assert!(error.lines().count() >= 3, "{error}");
    assert!(error.lines().all(|l| l.starts_with("t.yaml:")), "{error}");
}

#[test]
fn an_unknown_member_is_reported_with_its_place() {
    let error = Topology::parse("t.yaml", &GOOD.replace("asn:", "as:"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("10") && error.contains("as"), "{error}");
}

#[test]
fn addresses_that_are_not_given_are_the_next_free_ones() {
    let text = GOOD
        .replace(", address: 10.1.1.10", "")
        .replace(", address: 10.1.1.4", "");
    let topology = Topology::parse("t.yaml", &text).unwrap();
    assert_eq!(topology.nvas[0].address.to_string(), "10.1.1.4");
    assert_eq!(topology.vms[0].address.to_string(), "10.1.1.5");
}

#[test]
fn the_reference_topology_is_right() {
    let topology = Topology::reference();
    let nodes = ["sdwan", "firewall"].map(|n| topology.nva(n).is_some());
    assert_eq!(nodes, [true, true]);
    assert_eq!(topology.hosts().count(), 2);
    assert_eq!(topology.neighbours_of(&topology.nvas[0]).len(), 2);
}

/// `UPDATE_SCHEMA=1 cargo test -p routewright-lab` writes it.
#[test]
fn mistakes_of_what_joins_are_reported_at_their_lines() {
    let part = |part: &str, entry: &str, says: &str| {
        check("vms:\n", &format!("{part}:\n  - {{ {entry} }}\nvms:\n"), 12, says);
    };
    let one = "{ nva: sdwan, address: 172.31.0.1/30 }";
    part("links", &format!("name: l, ends: [{one}]"), "needs two ends");
    let ends = |other: &str| format!("name: l, ends: [{one}, {{ {other} }}]");
    part(
        "links",
        &ends("nva: other, address: 172.31.0.2/30"),
        "no NVA named other",
    );
    part(
        "links",
        &ends("nva: sdwan, address: 172.31.0.2/30"),
        "both ends of l are sdwan",
    );
    part(
        "links",
        &ends("nva: sdwan, address: 172.31.0.9/30"),
        "not two addresses of one link",
    );
    part("links", &ends("nva: sdwan, address: here"), "with a prefix length");
    part(
        "load_balancers",
        "name: lb, subnet: hub/nva, backends: [other]",
        "no NVA named other in hub/nva",
    );
    part(
        "load_balancers",
        "name: lb, subnet: hub/nva, backends: []",
        "has no backend",
    );
    part(
        "gateways",
        "name: gw, vnet: hub, type: vpn",
        "hub has no subnet named GatewaySubnet",
    );
    part(
        "gateways",
        "name: gw, vnet: hub, type: frame",
        "frame is none of vpn, expressroute",
    );
    part(
        "sites",
        "name: dc, address: 192.168.0.1, gateways: [gw]",
        "no gateway named gw",
    );
    let circuit = "name: line, gateways: [], site: dc, primary: 172.16.0.0/29, secondary: 172.16.0.4/30";
    part("circuits", circuit, "no site named dc");
    part("circuits", circuit, "172.16.0.0/29 is no /30");
    check(
        "asn: 65001",
        "asn: 65001, inbound_route_map: x",
        10,
        "no route map named x",
    );
}

#[test]
fn ipv6_needs_an_address_to_speak_from() {
    check(
        "announce: [10.250.0.0/16]",
        "announce: ['2001:db8::/32']",
        10,
        "without an IPv6 address",
    );
    check("vnet: hub }", "vnet: hub, ipv6: true }", 8, "needs a prefix_v6");
    check(
        "prefix: 10.1.1.0/24 }",
        "prefix: 10.1.1.0/24, prefix_v6: 'fd01::/64' }",
        6,
        "outside the virtual network",
    );
    check(
        "prefix: 10.1.1.0/24 }",
        "prefix: 10.1.1.0/24, prefix_v6: 'fd01::/56' }",
        6,
        "no IPv6 prefix of length 64",
    );
}

#[test]
fn the_checked_in_schema_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/topology.schema.json");
    let schema = format!("{:#}\n", crate::topology::json_schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
}

#[test]
fn every_topology_that_we_ship_is_right() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../topologies");
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        Topology::parse(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap()).unwrap();
    }
}
