//! Rules as tables: a route before, a map, and what comes out.

use bgp::Asn;
use bgp::wire::{Community, PathAttributes};
use rib::RouteSource;

use super::*;
use crate::testing::{ip, net};

/// `prefix path communities`: numbers joined by commas, `-` for none.
fn route(text: &str) -> Route {
    let words: Vec<&str> = text.split(' ').collect();
    let attributes = PathAttributes::builder(ip("10.1.4.4"))
        .as_sequence(&asns(words[1]))
        .communities(&communities(words[2]));
    Route::new(net(words[0]), attributes.build(), RouteSource::Nva)
}

fn asns(text: &str) -> Vec<Asn> {
    items(text).map(|each| Asn(each.parse().unwrap())).collect()
}

fn communities(text: &str) -> Vec<Community> {
    let parse = |text: &str| {
        let (high, low) = text.split_once(':').unwrap();
        Community::new(high.parse().unwrap(), low.parse().unwrap())
    };
    items(text).map(parse).collect()
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|each| *each != "-")
}

fn text(outcome: &Outcome) -> String {
    let Outcome::Pass(route) = outcome else {
        let Outcome::Dropped { rule } = outcome else {
            unreachable!()
        };
        return format!("dropped by {rule}");
    };
    let join = |all: Vec<String>| if all.is_empty() { "-".to_owned() } else { all.join(",") };
    let path = route.attributes.as_numbers().map(|asn| asn.0.to_string()).collect();
    let communities = route.attributes.communities();
    let communities = communities.map(|each| format!("{}:{}", each.0 >> 16, each.0 & 0xffff));
    let summary = if route.is_summary { " summary" } else { "" };
    format!(
        "{} {} {}{summary}",
        route.prefix,
        join(path),
        join(communities.collect())
    )
}

fn rule(name: &str, criteria: Vec<Criterion>, actions: Vec<Action>, next_step: NextStep) -> Rule {
    Rule {
        name: name.to_owned(),
        criteria,
        actions,
        next_step,
    }
}

/// One rule that ends there.
fn check(criteria: Vec<Criterion>, actions: Vec<Action>, before: &str, after: &str) {
    let map = RouteMap {
        rules: vec![rule("r", criteria, actions, NextStep::Terminate)],
    };
    assert_eq!(text(&map.apply(route(before))), after, "{before} through {map:?}");
}

/// Whether a criterion matches: the rule drops what does.
fn matches(criterion: &Criterion, before: &str, expected: bool) {
    let map = RouteMap {
        rules: vec![rule(
            "r",
            vec![criterion.clone()],
            vec![Action::Drop],
            NextStep::Terminate,
        )],
    };
    let matched = matches!(map.apply(route(before)), Outcome::Dropped { .. });
    assert_eq!(matched, expected, "{before} against {criterion:?}");
}

fn prefix(comparison: Comparison, prefixes: &[&str]) -> Criterion {
    Criterion::Prefix {
        comparison,
        prefixes: prefixes.iter().map(|prefix| net(prefix)).collect(),
    }
}

fn community(comparison: Comparison, list: &str) -> Criterion {
    Criterion::Community {
        comparison,
        communities: communities(list),
    }
}

fn as_path(comparison: Comparison, list: &str) -> Criterion {
    Criterion::AsPath {
        comparison,
        path: asns(list),
    }
}

use Comparison::{Contains, Equals, NotContains, NotEquals};

#[test]
fn a_route_that_no_rule_matches_passes_as_it_is() {
    let before = "10.250.0.0/16 65001,65002 65001:7";
    check(
        vec![prefix(Equals, &["10.251.0.0/16"])],
        vec![Action::Drop],
        before,
        before,
    );
    assert_eq!(text(&RouteMap::default().apply(route(before))), before);
}

#[test]
fn a_rule_without_criteria_matches_every_route_and_one_without_actions_changes_none() {
    check(vec![], vec![Action::Drop], "10.250.0.0/16 65001 -", "dropped by r");
    check(vec![], vec![], "10.250.0.0/16 65001 -", "10.250.0.0/16 65001 -");
}

#[test]
fn a_prefix_equals_itself_and_is_contained_with_anything_longer_inside() {
    let equals = prefix(Equals, &["10.0.0.0/8", "192.168.0.0/16"]);
    let contains = prefix(Contains, &["10.0.0.0/8", "192.168.0.0/16"]);
    for (before, is_equal, is_contained) in [
        ("10.0.0.0/8 1 -", true, true),
        ("192.168.0.0/16 1 -", true, true),
        ("10.7.0.0/16 1 -", false, true),
        ("0.0.0.0/0 1 -", false, false),
        ("11.0.0.0/8 1 -", false, false),
        ("fd00::/8 1 -", false, false),
    ] {
        matches(&equals, before, is_equal);
        matches(&contains, before, is_contained);
        matches(&prefix(NotEquals, &["10.0.0.0/8", "192.168.0.0/16"]), before, !is_equal);
        matches(
            &prefix(NotContains, &["10.0.0.0/8", "192.168.0.0/16"]),
            before,
            !is_contained,
        );
    }
}

#[test]
fn communities_equal_when_all_are_there_and_contain_when_any_is() {
    for (before, all, any) in [
        ("10.0.0.0/8 1 65001:1,65001:2,65001:3", true, true),
        ("10.0.0.0/8 1 65001:1", false, true),
        ("10.0.0.0/8 1 65001:9", false, false),
        ("10.0.0.0/8 1 -", false, false),
    ] {
        matches(&community(Equals, "65001:1,65001:2"), before, all);
        matches(&community(Contains, "65001:1,65001:2"), before, any);
        matches(&community(NotEquals, "65001:1,65001:2"), before, !all);
        matches(&community(NotContains, "65001:1,65001:2"), before, !any);
    }
}

#[test]
fn an_as_path_equals_the_ordered_list_and_contains_any_of_it() {
    for (before, equal, any) in [
        ("10.0.0.0/8 65001,65002 -", true, true),
        ("10.0.0.0/8 65002,65001 -", false, true),
        ("10.0.0.0/8 65001,65002,65003 -", false, true),
        ("10.0.0.0/8 65003 -", false, false),
    ] {
        matches(&as_path(Equals, "65001,65002"), before, equal);
        matches(&as_path(Contains, "65001,65002"), before, any);
        matches(&as_path(NotEquals, "65001,65002"), before, !equal);
        matches(&as_path(NotContains, "65001,65002"), before, !any);
    }
}

#[test]
fn all_criteria_of_a_rule_must_match() {
    let criteria = vec![prefix(Contains, &["10.0.0.0/8"]), as_path(Contains, "65002")];
    let drop = || vec![Action::Drop];
    check(criteria.clone(), drop(), "10.7.0.0/16 65001,65002 -", "dropped by r");
    check(criteria.clone(), drop(), "10.7.0.0/16 65001 -", "10.7.0.0/16 65001 -");
    check(criteria, drop(), "11.0.0.0/8 65002 -", "11.0.0.0/8 65002 -");
}

#[test]
fn numbers_are_added_in_front_of_the_path_in_their_order_or_replace_it() {
    let before = "10.0.0.0/8 65001,65002 65001:7";
    for (action, after) in [
        (Action::AddAsPath(asns("64600,64601")), "64600,64601,65001,65002"),
        (Action::AddAsPath(asns("-")), "65001,65002"),
        (Action::ReplaceAsPath(asns("64600")), "64600"),
        (Action::ReplaceAsPath(asns("-")), "-"),
    ] {
        check(vec![], vec![action], before, &format!("10.0.0.0/8 {after} 65001:7"));
    }
}

#[test]
fn a_path_may_grow_beyond_a_segment() {
    let numbers = |range: std::ops::Range<u32>| -> Vec<Asn> { range.map(Asn).collect() };
    let text = |range: std::ops::Range<u32>| -> String {
        let numbers: Vec<String> = range.map(|asn| asn.to_string()).collect();
        numbers.join(",")
    };
    for added in [254, 255, 256, 600] {
        check(
            vec![],
            vec![Action::AddAsPath(numbers(1..added + 1))],
            &format!("10.0.0.0/8 {} -", text(added + 1..added + 3)),
            &format!("10.0.0.0/8 {} -", text(1..added + 3)),
        );
    }
}

#[test]
fn communities_are_added_replaced_and_removed_and_azures_own_stay() {
    let before = "10.0.0.0/8 65001 65001:7,65517:65517";
    for (action, after) in [
        (
            Action::AddCommunities(communities("65001:7,65001:8")),
            "65001:7,65517:65517,65001:8",
        ),
        (
            Action::ReplaceCommunities(communities("65001:8")),
            "65517:65517,65001:8",
        ),
        (Action::ReplaceCommunities(communities("-")), "65517:65517"),
        (
            Action::RemoveCommunities(communities("65001:7,65517:65517")),
            "65517:65517",
        ),
        (Action::RemoveCommunities(communities("65001:9")), "65001:7,65517:65517"),
    ] {
        check(vec![], vec![action], before, &format!("10.0.0.0/8 65001 {after}"));
    }
}

#[test]
fn a_summary_has_nothing_of_its_parts_but_the_next_hop() {
    let summary = || vec![Action::ReplacePrefix(net("10.250.0.0/15"))];
    check(
        vec![],
        summary(),
        "10.250.0.0/16 65001 65001:7",
        "10.250.0.0/15 - - summary",
    );
    check(
        vec![],
        summary(),
        "10.250.0.0/15 65001 65001:7",
        "10.250.0.0/15 65001 65001:7",
    );
    // Later actions are the summary's own.
    let mut actions = summary();
    actions.push(Action::AddCommunities(communities("65001:9")));
    check(
        vec![],
        actions,
        "10.250.0.0/16 65001 65001:7",
        "10.250.0.0/15 - 65001:9 summary",
    );
    check(vec![], summary(), "fd00::/16 65001 -", "fd00::/16 65001 -");
}

#[test]
fn a_networks_prefix_is_made_wider_only_and_never_the_default_route() {
    let through = |source, to: &str| {
        let map = RouteMap {
            rules: vec![rule(
                "r",
                vec![],
                vec![Action::ReplacePrefix(net(to))],
                NextStep::Terminate,
            )],
        };
        let before = Route {
            source,
            ..route("10.2.0.0/16 - -")
        };
        match map.apply(before) {
            Outcome::Pass(route) => route.prefix.to_string(),
            dropped => panic!("{dropped:?}"),
        }
    };
    for source in [RouteSource::VirtualNetwork, RouteSource::PeeredVirtualNetwork] {
        assert_eq!(through(source, "10.0.0.0/8"), "10.0.0.0/8");
        assert_eq!(through(source, "10.2.7.0/24"), "10.2.0.0/16");
        assert_eq!(through(source, "10.3.0.0/16"), "10.2.0.0/16");
        assert_eq!(through(source, "0.0.0.0/0"), "10.2.0.0/16");
    }
    assert_eq!(through(RouteSource::Nva, "10.2.7.0/24"), "10.2.7.0/24");
    assert_eq!(through(RouteSource::Nva, "0.0.0.0/0"), "0.0.0.0/0");
}

#[test]
fn continue_shows_the_changed_route_to_the_rules_that_follow_and_terminate_to_none() {
    let through = |next_step| {
        let map = RouteMap {
            rules: vec![
                rule(
                    "first",
                    vec![],
                    vec![Action::AddCommunities(communities("65001:1"))],
                    next_step,
                ),
                rule(
                    "second",
                    vec![community(Contains, "65001:1")],
                    vec![Action::AddAsPath(asns("64600"))],
                    NextStep::Continue,
                ),
                rule(
                    "third",
                    vec![as_path(Contains, "64600")],
                    vec![Action::Drop],
                    NextStep::Terminate,
                ),
            ],
        };
        text(&map.apply(route("10.0.0.0/8 65001 -")))
    };
    assert_eq!(through(NextStep::Continue), "dropped by third");
    assert_eq!(through(NextStep::Terminate), "10.0.0.0/8 65001 65001:1");
}
