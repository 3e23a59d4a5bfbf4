//! Route tables that let some BGP routes in: on other subnets nothing changes, and effective routes say what was kept away and by what.

use super::world::*;
use crate::intent::{ImportFilter, ImportRule};
use crate::report::EffectiveRoute;
use crate::route_map::PrefixRange;
use crate::testing::*;

fn rule(name: &str, allow: bool, prefixes: &[(&str, u8, u8)], next_hops: &[&str]) -> ImportRule {
    let range = |(prefix, ge, le): &(&str, u8, u8)| PrefixRange {
        prefix: net(prefix),
        ge: *ge,
        le: *le,
    };
    ImportRule {
        name: name.into(),
        allow,
        prefixes: prefixes.iter().map(range).collect(),
        next_hops: next_hops.iter().map(|text| ip(text)).collect(),
    }
}

fn filter(world: &mut World, subnet: &str, rules: Vec<ImportRule>, allow_others: bool) {
    world.edit(|intent| set_import(intent, subnet, Some(ImportFilter { rules, allow_others })));
}

fn bgp_row(world: &World, nic: &str, prefix: &str) -> EffectiveRoute {
    let rows = world.instance.effective_routes(nic).unwrap().into_iter();
    let mut bgp = rows.filter(|row| row.source == "VirtualNetworkGateway");
    bgp.find(|row| row.address_prefix == net(prefix)).unwrap()
}

/// Both NVAs announce 10.250.0.0/16 and the default route alike.
fn two_ways() -> World {
    let mut world = world();
    let prefixes = ["10.250.0.0/16", "10.251.7.0/24", "0.0.0.0/0"];
    world.announce("nva1", path("10.1.4.4", &[65001]), &prefixes);
    world.announce("nva2", path("10.1.4.5", &[65002]), &prefixes[..1]);
    world.announce("nva2", path("10.1.4.5", &[65002, 65003]), &prefixes[2..]);
    world
}

#[test]
fn a_route_table_keeps_prefixes_away_from_its_subnets_alone_and_says_by_which_rule() {
    let mut world = two_ways();
    filter(
        &mut world,
        "vms",
        vec![rule("no-lab", false, &[("10.251.0.0/16", 16, 32)], &[])],
        true,
    );
    let row = bgp_row(&world, "vm", "10.251.7.0/24");
    assert_eq!(
        (row.state.as_str(), row.next_hop_ip_address),
        ("Invalid", vec![ip("10.1.4.4")])
    );
    assert!(row.not_installed.unwrap().contains("'no-lab'"));
    assert_eq!(bgp_row(&world, "vm", "10.250.0.0/16").state, "Active");
    assert_eq!(bgp_row(&world, "spokevm", "10.251.7.0/24").state, "Active");
    world.edit(|intent| set_import(intent, "vms", None));
    assert_eq!(bgp_row(&world, "vm", "10.251.7.0/24").state, "Active");
}

#[test]
fn segments_use_one_nva_each_of_two_that_announce_the_same() {
    let mut world = two_ways();
    filter(&mut world, "vms", vec![rule("red", true, &[], &["10.1.4.4"])], false);
    filter(
        &mut world,
        "spokevms",
        vec![rule("blue", true, &[], &["10.1.4.5"])],
        false,
    );
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    assert_eq!(world.next_hops("spokevm", "10.250.0.0/16"), ["10.1.4.5"]);
    assert_eq!(world.next_hops("nva1", "10.250.0.0/16"), ["10.1.4.4", "10.1.4.5"]);
    // The runner-up, where the best may not come.
    assert_eq!(world.next_hops("spokevm", "0.0.0.0/0"), ["10.1.4.5"]);
    let row = bgp_row(&world, "spokevm", "10.251.7.0/24");
    assert!(row.not_installed.unwrap().contains("no import rule"));
    // One segment's NVA dies: the other's stays out of it.
    world.kill("nva1");
    let row = bgp_row(&world, "vm", "10.250.0.0/16");
    assert_eq!(row.state, "Invalid");
    assert_eq!(world.next_hops("spokevm", "10.250.0.0/16"), ["10.1.4.5"]);
}

#[test]
fn a_default_route_that_is_kept_away_leaves_the_systems_in_place() {
    let mut world = two_ways();
    let default = |world: &World| {
        let rows = world.instance.effective_routes("vm").unwrap().into_iter();
        let mut system = rows.filter(|row| row.source == "Default" && row.address_prefix == net("0.0.0.0/0"));
        system.next().map(|row| row.state)
    };
    assert_eq!(default(&world), None);
    filter(
        &mut world,
        "vms",
        vec![rule("internet", false, &[("0.0.0.0/0", 0, 0)], &[])],
        true,
    );
    assert_eq!(default(&world).as_deref(), Some("Active"));
}

#[test]
fn a_user_route_to_the_gateway_takes_the_longest_match_that_may_come() {
    let mut world = two_ways();
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.251.0.0/16"]);
    world.edit(|intent| set_user_routes(intent, "vms", &["10.251.7.0/25 gateway"]));
    let hops = |world: &World| {
        let rows = world.instance.effective_routes("vm").unwrap().into_iter();
        let mut user = rows.filter(|row| row.source == "User");
        user.next().unwrap().next_hop_ip_address
    };
    assert_eq!(hops(&world), [ip("10.1.4.4")]);
    filter(
        &mut world,
        "vms",
        vec![rule("r", false, &[("10.251.7.0/24", 24, 24)], &[])],
        true,
    );
    assert_eq!(hops(&world), [ip("10.1.4.5")]);
}
