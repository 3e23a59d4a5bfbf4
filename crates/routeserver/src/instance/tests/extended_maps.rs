//! What route maps do beyond Azure's: preferences of single routes, MED, large communities, summaries that keep what is common.

use bgp::wire::Community;

use super::world::*;
use crate::route_map::{Action, Comparison, Criterion, NextStep, PrefixRange, RouteMap, Rule};
use crate::testing::*;

fn map(criteria: Vec<Criterion>, actions: Vec<Action>) -> Option<RouteMap> {
    let rule = Rule {
        name: "r".into(),
        criteria,
        actions,
        next_step: NextStep::Terminate,
    };
    Some(RouteMap { rules: vec![rule] })
}

fn inside(prefix: &str) -> Vec<Criterion> {
    vec![Criterion::Prefix {
        comparison: Comparison::Contains,
        prefixes: vec![net(prefix)],
    }]
}

fn between(prefix: &str, ge: u8, le: u8) -> Vec<Criterion> {
    vec![Criterion::PrefixRange(vec![PrefixRange {
        prefix: net(prefix),
        ge,
        le,
    }])]
}

#[test]
fn a_map_prefers_single_routes_whatever_their_path_and_gives_them_back() {
    let mut world = world();
    let prefixes = ["10.250.0.0/16", "10.251.0.0/16"];
    world.announce("nva1", path("10.1.4.4", &[65001]), &prefixes);
    world.announce("nva2", path("10.1.4.5", &[65002, 65003, 65004]), &prefixes);
    let prefer = |value| map(inside("10.250.0.0/16"), vec![Action::SetImportPreference(value)]);
    world.edit(|intent| intent.route_servers[0].peers[1].inbound_route_map = prefer(200));
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.5"]);
    assert_eq!(world.next_hops("vm", "10.251.0.0/16"), ["10.1.4.4"]);
    assert_eq!(world.verdict("nva1", "10.250.0.0/16"), "lost import-preference");
    assert_eq!(world.verdict("nva2", "10.250.0.0/16"), "best");
    // A lower one than the other's own.
    world.edit(|intent| {
        intent.route_servers[0].peers[0].import_preference = 100;
        intent.route_servers[0].peers[1].inbound_route_map = prefer(50);
    });
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    world.edit(|intent| intent.route_servers[0].peers[1].inbound_route_map = prefer(300));
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.5"]);
    world.withdraw("nva2", &["10.250.0.0/16"]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    world.edit(|intent| intent.route_servers[0].peers[1].inbound_route_map = None);
    assert_eq!(world.nvas["nva2"].established, 1);
}

#[test]
fn a_summary_of_parts_of_two_preferences_is_said_once() {
    let mut world = world();
    let mut two = map(inside("10.250.1.0/24"), vec![Action::SetImportPreference(9)]).unwrap();
    two.rules[0].next_step = NextStep::Continue;
    two.rules.extend(
        map(inside("10.250.0.0/16"), vec![Action::Aggregate(net("10.250.0.0/16"))])
            .unwrap()
            .rules,
    );
    world.edit(|intent| intent.route_servers[0].peers[0].inbound_route_map = Some(two));
    let parts = ["10.250.1.0/24", "10.250.2.0/24"];
    world.announce("nva1", path("10.1.4.4", &[65001]), &parts);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    let report = &world.instance.peers(world.now, None)[0];
    assert_eq!((report.routes_received, report.routes_accepted), (2, 2));
    world.withdraw("nva1", &parts[..1]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    world.withdraw("nva1", &parts[1..]);
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
}

#[test]
fn an_inbound_summary_that_keeps_attributes_has_what_its_parts_have_in_common() {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        let actions = vec![Action::Aggregate(net("10.250.0.0/16"))];
        intent.route_servers[0].peers[0].inbound_route_map = map(between("10.250.0.0/16", 24, 24), actions);
    });
    let part = |last: u32| path("10.1.4.4", &[65001, 64999, last]).add_community(Community::new(65001, last as u16));
    world.announce("nva1", part(1), &["10.250.1.0/24"]);
    world.announce("nva1", part(2), &["10.250.2.0/24"]);
    world.announce("nva1", part(3), &["10.250.3.0/25"]);
    assert_eq!(
        world.told("nva2", "10.250.0.0/16").unwrap(),
        "65515-65001-64999 10.1.1.4 65001:1 65001:2 65517:65517"
    );
    assert!(world.told("nva2", "10.250.3.0/25").is_some(), "longer than the range");
    world.withdraw("nva1", &["10.250.1.0/24"]);
    assert_eq!(
        world.told("nva2", "10.250.0.0/16").unwrap(),
        "65515-65001-64999-2 10.1.1.4 65001:2 65517:65517"
    );
}

#[test]
fn an_inbound_summary_that_keeps_attributes_goes_no_farther_than_parts_that_do_not() {
    let mut world = world();
    let mut both = map(inside("10.250.1.0/24"), vec![Action::Aggregate(net("10.250.0.0/16"))]).unwrap();
    let replaced = vec![Action::ReplacePrefix(net("10.250.0.0/16"))];
    both.rules.extend(map(inside("10.250.0.0/16"), replaced).unwrap().rules);
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        intent.route_servers[0].peers[0].inbound_route_map = Some(both);
    });
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.1.0/24"]);
    assert!(world.told("nva2", "10.250.0.0/16").is_some());
    let secret = path("10.1.4.4", &[65001]).add_community(Community::NO_EXPORT);
    world.announce("nva1", secret, &["10.250.2.0/24"]);
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    world.withdraw("nva1", &["10.250.2.0/24"]);
    assert!(world.told("nva2", "10.250.0.0/16").is_some());
}

#[test]
fn an_outbound_summary_that_keeps_attributes_is_told_with_them_and_with_the_maps_med() {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        let actions = vec![
            Action::Aggregate(net("10.250.0.0/16")),
            Action::SetMed(50),
            Action::AddLargeCommunities(vec![(65001, 1, 2)]),
        ];
        intent.route_servers[0].peers[0].outbound_route_map = map(inside("10.250.0.0/16"), actions);
    });
    world.announce("nva2", path("10.1.4.5", &[65002, 1]), &["10.250.1.0/24"]);
    world.announce("nva2", path("10.1.4.5", &[65002, 2]), &["10.250.2.0/24"]);
    assert_eq!(
        world.told("nva1", "10.250.0.0/16").unwrap(),
        "65515-65002 10.1.1.4 65517:65517"
    );
    let learned = &world.nvas["nva1"].learned[&net("10.250.0.0/16")];
    assert!(learned.large_communities().eq([(65001, 1, 2)]));
    let single = &world.nvas["nva1"].learned[&net("10.1.0.0/16")];
    assert_eq!((single.med(), learned.med()), (None, None), "an aggregate has none");
    world.edit(|intent| {
        intent.route_servers[0].peers[0].outbound_route_map = map(inside("10.250.0.0/16"), vec![Action::SetMed(50)]);
    });
    assert_eq!(world.nvas["nva1"].learned[&net("10.250.1.0/24")].med(), Some(50));
}

#[test]
fn med_and_large_communities_are_looked_for() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]).med(Some(7)), &["10.250.0.0/16"]);
    world.announce(
        "nva1",
        path("10.1.4.4", &[65001]).add_large_community((65001, 1, 1)),
        &["10.251.0.0/16"],
    );
    let large = |comparison| Criterion::LargeCommunity {
        comparison,
        communities: vec![(65001, 1, 1), (65001, 1, 2)],
    };
    for (criterion, dropped) in [
        (Criterion::Med(5, 9), ["10.250.0.0/16"].as_slice()),
        (Criterion::Med(0, 6), &["10.251.0.0/16"]),
        (Criterion::LocalPreference(0, u32::MAX), &[]),
        (large(Comparison::Contains), &["10.251.0.0/16"]),
        (large(Comparison::NotContains), &["10.250.0.0/16"]),
        (large(Comparison::Equals), &[]),
        (large(Comparison::NotEquals), &["10.250.0.0/16", "10.251.0.0/16"]),
    ] {
        let drop = map(vec![criterion.clone()], vec![Action::Drop]);
        world.edit(|intent| intent.route_servers[0].peers[0].inbound_route_map = drop);
        for prefix in ["10.250.0.0/16", "10.251.0.0/16"] {
            let is_dropped = world.verdict("nva1", prefix) == "rejected dropped-by-route-map";
            assert_eq!(is_dropped, dropped.contains(&prefix), "{prefix}: {criterion:?}");
        }
    }
}

#[test]
fn a_peer_that_gets_or_loses_an_outbound_map_is_told_what_differs_alone() {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        for n in 0..50u8 {
            intent.virtual_networks[1]
                .address_space
                .push(net(&format!("10.100.{n}.0/24")));
        }
    });
    let all = world.nvas["nva1"].learned.clone();
    let prefixes = world.nvas["nva1"].prefixes_heard;
    let only_one = || map(inside("10.100.7.0/24"), vec![Action::AddAsPath(vec![bgp::Asn(64600)])]);
    world.edit(|intent| intent.route_servers[0].peers[0].outbound_route_map = only_one());
    assert_eq!(world.nvas["nva1"].prefixes_heard - prefixes, 1);
    assert!(world.told("nva1", "10.100.7.0/24").unwrap().starts_with("65515-64600 "));
    // Another peer of the same map finds the view as it is.
    let prefixes = world.nvas["nva2"].prefixes_heard;
    world.edit(|intent| intent.route_servers[0].peers[1].outbound_route_map = only_one());
    assert_eq!(world.nvas["nva2"].prefixes_heard - prefixes, 1);
    let prefixes = world.nvas["nva1"].prefixes_heard;
    world.edit(|intent| intent.route_servers[0].peers[0].outbound_route_map = None);
    assert_eq!(world.nvas["nva1"].prefixes_heard - prefixes, 1);
    assert_eq!(world.nvas["nva1"].learned, all);
}
