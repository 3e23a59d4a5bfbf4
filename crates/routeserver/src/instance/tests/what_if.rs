//! A dry run says before what happens then, and nothing of it happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hybrid::hybrid;
use super::world::*;
use crate::instance::{Heard, MAX_HEARD, TooManyRoutes, read_heard, what_if, write_heard};
use crate::intent::{Intent, StaticRouteIntent};
use crate::report::{Differences, EffectiveRoute, WhatIfReport};
use crate::route_map::{Action, NextStep, RouteMap, Rule};
use crate::testing::*;

/// Every NVA's and every NIC's routes, one text each.
type Tables = BTreeMap<String, Vec<String>>;

fn tables(world: &World) -> Tables {
    let mut tables = Tables::new();
    let gateways = world.intent.gateways.iter().flat_map(|gateway| &gateway.peers);
    let peers = world.intent.route_servers.iter().flat_map(|each| &each.peers);
    for peer in peers.chain(gateways) {
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
    what_if(&outline, &heard, None, Arc::new(wanted), world.now)
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
fn what_gateways_would_tell_on_is_followed_to_sites_customers_and_vms() {
    let mut world = hybrid(65515);
    let report = check("branch-to-branch off", &mut world, |intent| {
        intent.route_servers[0].branch_to_branch = false;
    });
    assert_eq!(report.not_followed, Vec::<String>::new());
    let vanishes = |report: &WhatIfReport, id: &str| -> Vec<String> {
        let peer = report.peers.iter().find(|peer| peer.peer == id);
        let routes = peer.map_or(&[][..], |peer| &peer.told.vanishes).iter();
        routes.map(|route| route.network.to_string()).collect()
    };
    assert_eq!(vanishes(&report, "vpn/site"), ["10.60.0.0/16", "10.250.0.0/16"]);
    assert_eq!(
        vanishes(&report, "edge/customer"),
        ["0.0.0.0/0", "10.50.0.0/16", "10.250.0.0/16"]
    );
    check("and on", &mut world, |intent| {
        intent.route_servers[0].branch_to_branch = true
    });
    // A site's prefixes come to virtual networks through the route server.
    let route = StaticRouteIntent {
        prefix: net("10.70.0.0/16"),
        next_hop: ip("192.168.109.1"),
        peering: None,
    };
    let report = check("a static prefix", &mut world, |intent| {
        intent.gateways[0].static_routes = vec![route.clone()];
    });
    assert!(!report.tables.is_empty() && report.not_followed.is_empty());
    // A prefix of the network goes out to all, and a gateway that goes takes its site along.
    check("a prefix", &mut world, |intent| {
        intent.virtual_networks[0].address_space.push(net("10.9.0.0/16"));
    });
    let report = check("a map of a site", &mut world, |intent| {
        intent.gateways[0].peers[1].inbound_route_map = map(vec![Action::Drop]);
    });
    assert!(report.peers.iter().any(|peer| peer.peer == "edge/customer"));
    let report = check("no gateway", &mut world, |intent| {
        intent.gateways.remove(0);
        intent.route_servers[0].peers.retain(|peer| peer.id != "rs1/vpn/0");
    });
    assert_eq!(report.not_followed, Vec::<String>::new());
}

#[test]
fn it_is_said_of_which_gateways_it_is_not_followed_what_they_would_tell_on() {
    let mut world = hybrid(65515);
    // A real router speaks for the gateway from now on.
    world.edit(|intent| intent.gateways[0].is_external = true);
    world.add_nva("gw", "10.1.5.4", 65515, bgp::FamilySet::IPV4);
    world.advance_secs(30);
    world.announce("gw", path("10.1.5.4", &[64701]), &["10.50.0.0/16"]);
    let ask = |edit: &dyn Fn(&mut Intent)| {
        let mut wanted = world.intent.clone();
        edit(&mut wanted);
        asked(&world, wanted)
    };
    assert_eq!(ask(&|_| {}).not_followed, Vec::<String>::new());
    let report = ask(&|intent| intent.route_servers[0].branch_to_branch = false);
    assert_eq!(report.not_followed, ["rs1/vpn/0"]);
    assert!(report.peers.iter().any(|peer| peer.peer == "edge/customer"));
}

#[test]
fn what_the_other_process_has_heard_comes_into_it_and_crosses_as_octets() {
    // The VPN gateway has its one instance in the other process, where a site says something that is not heard here.
    let mut world = hybrid(65515);
    world.edit(|intent| intent.gateways[0].instance_addresses = [None, Some(ip("10.1.5.4"))]);
    let site = heard(
        &world,
        "nva1",
        "vpn/site",
        path("192.168.101.1", &[64701]),
        &["10.50.0.0/16"],
    );
    let up = |id| heard(&world, "nva1", id, path("10.1.5.4", &[1]), &[]);
    let mut octets = bytes::BytesMut::new();
    for each in [&site, &up("vpn/rs1/0")] {
        write_heard(&mut octets, each);
    }
    let others = read_heard(&octets).unwrap();
    assert_eq!(others.len(), 2);
    assert_eq!(
        (&others[0].peer, &others[0].announcements),
        (&site.peer, &site.announcements)
    );
    // What only one of our own AS says is not lost: by it a reflected route is known.
    let reflected = path("10.1.5.4", &[1])
        .local_pref(Some(200))
        .originator_id(bgp::BgpIdentifier([10, 1, 1, 4].into()));
    let reflected = heard(&world, "nva1", "vpn/rs1/0", reflected, &["10.51.0.0/16"]);
    let mut own_as = bytes::BytesMut::new();
    write_heard(&mut own_as, &reflected);
    assert_eq!(read_heard(&own_as).unwrap()[0].announcements, reflected.announcements);
    for cut in 0..octets.len() {
        let _ = read_heard(&octets[..cut]);
    }
    assert!(read_heard(&octets[..octets.len() - 1]).is_err());

    let outline = world.instance.outline();
    let own: Vec<_> = outline
        .peers()
        .unwrap()
        .filter_map(|peer| world.instance.heard(peer))
        .collect();
    let mut wanted = world.intent.clone();
    wanted.gateways[0].peers[1].inbound_route_map = map(vec![Action::Drop]);
    let wanted = Arc::new(wanted);
    let report = what_if(&outline, &own, Some(&others), Arc::clone(&wanted), world.now);
    let customer = report.peers.iter().find(|peer| peer.peer == "edge/customer").unwrap();
    assert_eq!(customer.told.vanishes[0].network, net("10.50.0.0/16"));
    assert!(
        !report.tables.is_empty() && report.not_followed.is_empty(),
        "{report:#?}"
    );
    // Without the other process nothing of it is known.
    let alone = what_if(&outline, &own, None, wanted, world.now);
    assert!(alone.peers.is_empty(), "{alone:#?}");
}

/// As if a peer, whose session is like another's, had said this.
fn heard(
    world: &World,
    like: &str,
    id: &str,
    attributes: bgp::wire::PathAttributesBuilder,
    prefixes: &[&str],
) -> Heard {
    let announcement = bgp::wire::Announcement {
        attributes: Arc::new(attributes.build()),
        prefixes: prefixes.iter().map(|prefix| net(prefix)).collect(),
    };
    Heard {
        peer: id.to_owned(),
        announcements: Vec::from_iter((!prefixes.is_empty()).then_some(announcement)),
        ..world.instance.heard(like).unwrap()
    }
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
