//! A dry run says before what happens then, and nothing of it happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hybrid::hybrid;
use super::world::*;
use crate::instance::{MAX_HEARD, TooManyRoutes, what_if};
use crate::intent::{Intent, StaticRouteIntent};
use crate::report::{Differences, EffectiveRoute, WhatIfReport};
use crate::route_map::{Action, NextStep, RouteMap, Rule};
use crate::testing::*;

/// Every NVA's and every NIC's routes, one text each.
type Tables = BTreeMap<String, Vec<String>>;

fn tables(world: &World) -> Tables {
    let mut tables = Tables::new();
    for peer in &world.intent.route_servers[0].peers {
        let told = world.instance.advertised(&peer.id).unwrap();
        let told = told.iter().map(|route| format!("{route:?}"));
        tables.insert(format!("told {}", peer.id), told.collect());
    }
    for nic in world.intent.virtual_networks.iter().flat_map(|network| &network.nics) {
        let rows = world.instance.effective_routes(&nic.id).unwrap().into_iter();
        let rows = rows.map(|row| {
            let row = EffectiveRoute {
                rank: None,
                not_installed: None,
                ..row
            };
            format!("{row:?}")
        });
        tables.insert(format!("nic {}", nic.id), rows.collect());
    }
    tables
}

fn asked(world: &World, wanted: Intent) -> WhatIfReport {
    let outline = world.instance.outline();
    let heard: Vec<_> = outline
        .peers()
        .unwrap()
        .filter_map(|peer| world.instance.heard(peer))
        .collect();
    what_if(&outline, &heard, Arc::new(wanted), world.now)
}

/// What a table would be, going by what is said to differ.
fn foretold<T: std::fmt::Debug>(before: Vec<String>, told: &Differences<T>) -> Vec<String> {
    let text = |route: &T| format!("{route:?}");
    let mut after = before;
    let gone = told.vanishes.iter().chain(told.changes.iter().map(|each| &each.before));
    for route in gone.map(text) {
        let place = after.iter().position(|each| *each == route).expect(&route);
        after.remove(place);
    }
    after.extend(
        told.appears
            .iter()
            .chain(told.changes.iter().map(|each| &each.after))
            .map(text),
    );
    after.sort();
    after
}

/// Asks first, then does it: what happens must be what was said.
fn check(what: &str, world: &mut World, edit: impl Fn(&mut Intent)) -> WhatIfReport {
    let (before, updates) = (tables(world), world.nvas["nva1"].updates + world.nvas["nva2"].updates);
    let mut wanted = world.intent.clone();
    edit(&mut wanted);
    let report = asked(world, wanted);
    world.run();
    assert_eq!(tables(world), before, "{what}: asking changes nothing");
    assert_eq!(
        world.nvas["nva1"].updates + world.nvas["nva2"].updates,
        updates,
        "{what}: nobody hears of it"
    );
    world.edit(&edit);
    for (table, rows) in tables(world) {
        let before = before.get(&table).cloned().unwrap_or_default();
        let name = table.split_once(' ').unwrap().1;
        let expected = match table.starts_with("told") {
            true => match report.peers.iter().find(|peer| peer.peer == name) {
                Some(peer) => foretold(before, &peer.told),
                None => sorted(before),
            },
            false => match report
                .tables
                .iter()
                .find(|each| each.nics.iter().any(|nic| nic == name))
            {
                Some(each) => foretold(before, &each.routes),
                None => sorted(before),
            },
        };
        assert_eq!(sorted(rows), expected, "{what}: {table}");
    }
    report
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// Both NVAs announce some prefixes in common.
fn busy_world() -> World {
    let mut world = world();
    world.announce(
        "nva1",
        path("10.1.4.4", &[65001]),
        &["10.250.0.0/16", "10.251.0.0/16", "0.0.0.0/0"],
    );
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.250.0.0/16", "10.252.0.0/16"]);
    world.announce(
        "nva2",
        path("10.1.4.5", &[65002, 65003]),
        &["10.251.0.0/16", "10.3.7.0/24"],
    );
    world
}

fn map(actions: Vec<Action>) -> Option<RouteMap> {
    let rule = Rule {
        name: "all".into(),
        criteria: Vec::new(),
        actions,
        next_step: NextStep::Terminate,
    };
    Some(RouteMap { rules: vec![rule] })
}

#[test]
fn the_intent_that_is_followed_changes_nothing() {
    let world = busy_world();
    let report = asked(&world, world.intent.clone());
    assert!(report.peers.is_empty() && report.tables.is_empty(), "{report:?}");
    assert_eq!(
        (report.instance, report.intent_version, report.tables_not_compared),
        (0, 1, 0)
    );
}

#[test]
fn what_would_happen_is_what_happens_then_whatever_the_change() {
    let mut world = busy_world();
    check("branch-to-branch on", &mut world, |intent| {
        intent.route_servers[0].branch_to_branch = true
    });
    check("an inbound map", &mut world, |intent| {
        intent.route_servers[0].peers[0].inbound_route_map = map(vec![Action::AddAsPath(vec![bgp::Asn(64600)])]);
    });
    check("another inbound map", &mut world, |intent| {
        intent.route_servers[0].peers[0].inbound_route_map = map(vec![Action::Drop]);
    });
    check("an outbound summary", &mut world, |intent| {
        intent.route_servers[0].peers[1].outbound_route_map = map(vec![Action::ReplacePrefix(net("10.0.0.0/8"))]);
    });
    check("no inbound map", &mut world, |intent| {
        intent.route_servers[0].peers[0].inbound_route_map = None
    });
    check("an import preference", &mut world, |intent| {
        intent.route_servers[0].peers[1].import_preference = 7
    });
    check("a user route", &mut world, |intent| {
        set_user_routes(
            intent,
            "vms",
            &["10.250.0.0/16 10.1.4.9", "0.0.0.0/0 internet", "10.251.7.0/24 gateway"],
        );
    });
    check("no propagation", &mut world, |intent| {
        disable_propagation(intent, "spokevms")
    });
    check("a spoke less", &mut world, |intent| {
        intent.virtual_networks[0].peerings[0].allow_gateway_transit = false
    });
    check("more address space", &mut world, |intent| {
        intent.virtual_networks[0].address_space.push(net("10.250.0.0/17"));
    });
    check("a peer held down", &mut world, |intent| {
        intent.route_servers[0].peers[1].admin_down = true
    });
}

#[test]
fn it_is_said_what_becomes_of_sessions() {
    let mut world = busy_world();
    let session = |report: &WhatIfReport, peer: &str| {
        let found = report.peers.iter().find(|each| each.peer == peer);
        found.map(|each| each.session.clone())
    };
    let ask = |world: &World, edit: &dyn Fn(&mut Intent)| {
        let mut wanted = world.intent.clone();
        edit(&mut wanted);
        asked(world, wanted)
    };
    let report = ask(&world, &|intent| intent.route_servers[0].peers[0].hold_time_secs = 9);
    assert_eq!(session(&report, "nva1").as_deref(), Some("resets"));
    assert_eq!(session(&report, "nva2"), None);
    assert!(report.tables.is_empty(), "it comes back and says the same");
    let report = ask(&world, &|intent| intent.route_servers[0].asn = bgp::Asn(64512));
    assert_eq!(session(&report, "nva2").as_deref(), Some("resets"));
    let report = ask(&world, &|intent| intent.route_servers[0].peers[0].route_limit = 2);
    assert_eq!(session(&report, "nva1").as_deref(), Some("over-limit"));
    assert_eq!(report.tables.len(), 3, "two subnets of the hub and the spoke's");
    let report = check("a peer less", &mut world, |intent| {
        intent.route_servers[0].peers.truncate(1)
    });
    assert_eq!(session(&report, "nva2").as_deref(), Some("ends"));
    let report = ask(&world, &|intent| {
        intent.route_servers[0].peers.push(peer("nva3", "10.1.4.6", 65003));
    });
    assert_eq!(session(&report, "nva3").as_deref(), Some("starts"));
}

#[test]
fn it_is_said_of_which_gateways_it_is_not_followed_what_they_would_tell_on() {
    let world = hybrid(65515);
    let ask = |edit: &dyn Fn(&mut Intent)| {
        let mut wanted = world.intent.clone();
        edit(&mut wanted);
        asked(&world, wanted).not_followed
    };
    let nothing = Vec::<String>::new();
    assert_eq!(ask(&|_| {}), nothing);
    assert_eq!(
        ask(&|intent| intent.route_servers[0].branch_to_branch = false),
        ["rs1/er/0", "rs1/vpn/0"]
    );
    // A site's prefixes come to virtual networks through the route server.
    let route = StaticRouteIntent {
        prefix: net("10.70.0.0/16"),
        next_hop: ip("192.168.109.1"),
        peering: None,
    };
    assert_eq!(
        ask(&|intent| intent.gateways[0].static_routes = vec![route.clone()]),
        ["vpn/rs1/0"]
    );
    assert_eq!(
        ask(&|intent| intent.route_servers[0].peers[0].hold_time_secs = 9),
        nothing
    );
    // Without gateways there is nobody.
    let world = busy_world();
    let mut wanted = world.intent.clone();
    wanted.route_servers[0].branch_to_branch = true;
    let report = asked(&world, wanted);
    assert!(!report.peers.is_empty() && report.not_followed.is_empty());
}

#[test]
fn a_dry_run_lists_so_many_routes_and_counts_the_others_and_refuses_what_is_too_much() {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0].peers[0].route_limit = 0;
        set_user_routes(intent, "vms", &["20.0.7.0/24 none"]);
    });
    let many = (0..5_000u32).map(|n| net(&format!("20.{}.{}.0/24", n / 256, n % 256)));
    // The hub's subnets have a system route for this one.
    let many = many.chain([net("10.3.7.0/24")]).collect();
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), many);
    world.advance_secs(1);
    let mut wanted = world.intent.clone();
    wanted.route_servers[0].peers[0].inbound_route_map = map(vec![Action::Drop]);
    let report = asked(&world, wanted);
    let listed: usize = report.tables.iter().map(|table| table.routes.vanishes.len()).sum();
    let others: usize = report.tables.iter().map(|table| table.routes.not_listed).sum();
    // Subnets with NICs: two of the hub, the spoke's. The network that is only peered has no routes of BGP.
    assert_eq!((listed, others), (10_000, 5_001));
    assert_eq!(report.tables_not_compared, 0);
    let held = MAX_HEARD + 1;
    assert!(TooManyRoutes { held }.to_string().contains("500001"));
}
