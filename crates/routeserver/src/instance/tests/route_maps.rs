//! Route maps of connections (az §3): they take effect at once and reset nobody.

use bgp::wire::{Community, Message, RefreshKind, RouteRefresh};
use bgp::{Asn, Family};
use bytes::BytesMut;

use super::world::*;
use crate::route_map::{Action, Comparison, Criterion, NextStep, RouteMap, Rule};
use crate::testing::*;

/// What happens to prefixes inside this one.
fn map(inside: &str, actions: Vec<Action>) -> RouteMap {
    let criterion = Criterion::Prefix {
        comparison: Comparison::Contains,
        prefixes: vec![net(inside)],
    };
    RouteMap {
        rules: vec![Rule {
            name: "r".into(),
            criteria: vec![criterion],
            actions,
            next_step: NextStep::Terminate,
        }],
    }
}

/// A map that makes other routes of all.
pub(super) fn clearing_communities() -> RouteMap {
    map(
        "0.0.0.0/0",
        vec![Action::ReplaceCommunities(vec![Community::new(65001, 1)])],
    )
}

fn summary(of: &str) -> RouteMap {
    map(of, vec![Action::ReplacePrefix(net(of))])
}

fn set_inbound(world: &mut World, map: Option<RouteMap>) {
    world.edit(|intent| intent.route_servers[0].peers[0].inbound_route_map = map);
}

fn set_outbound(world: &mut World, map: Option<RouteMap>) {
    world.edit(|intent| intent.route_servers[0].peers[0].outbound_route_map = map);
}

fn branch_to_branch() -> World {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].branch_to_branch = true);
    world
}

fn refresh(world: &mut World, kind: RefreshKind) {
    let mut bytes = BytesMut::new();
    let family = Family::Ipv4Unicast;
    Message::RouteRefresh(RouteRefresh { family, kind }).encode(&mut bytes);
    world.say("nva1", &bytes);
}

fn nobody_was_reset(world: &World) {
    for (name, nva) in &world.nvas {
        assert_eq!(nva.established, 1, "{name}");
    }
}

#[test]
fn an_inbound_map_decides_which_nva_is_used_from_the_moment_it_is_attached() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.250.0.0/16"]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4", "10.1.4.5"]);
    set_inbound(
        &mut world,
        Some(map("10.0.0.0/8", vec![Action::AddAsPath(vec![Asn(64600)])])),
    );
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.5"]);
    // What was received is what is shown, with where it stands now.
    assert_eq!(world.verdict("nva1", "10.250.0.0/16"), "lost as-path-length");
    assert_eq!(world.route("nva1", "10.250.0.0/16").unwrap().as_path, "65001");
    set_inbound(&mut world, Some(map("10.0.0.0/8", vec![Action::ReplaceAsPath(vec![])])));
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    set_inbound(&mut world, None);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4", "10.1.4.5"]);
    nobody_was_reset(&world);
}

#[test]
fn a_route_that_an_inbound_map_drops_is_shown_and_comes_back_with_the_map_gone() {
    let mut world = branch_to_branch();
    set_inbound(&mut world, Some(map("10.250.0.0/16", vec![Action::Drop])));
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.7.0/24", "10.251.0.0/16"]);
    assert_eq!(world.verdict("nva1", "10.250.7.0/24"), "rejected dropped-by-route-map");
    assert_eq!(world.verdict("nva1", "10.251.0.0/16"), "best");
    assert_eq!(world.told("nva2", "10.250.7.0/24"), None);
    set_inbound(&mut world, None);
    assert_eq!(world.verdict("nva1", "10.250.7.0/24"), "best");
    assert!(world.told("nva2", "10.250.7.0/24").is_some());
    nobody_was_reset(&world);
}

#[test]
fn an_inbound_summary_stands_for_its_parts_while_there_are_any() {
    let mut world = branch_to_branch();
    set_inbound(&mut world, Some(summary("10.250.0.0/16")));
    let parts = ["10.250.1.0/24", "10.250.2.0/24"];
    world.announce("nva1", path("10.1.4.4", &[65001, 64999]), &parts);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    assert!(world.next_hops("vm", "10.250.1.0/24").is_empty());
    assert_eq!(
        world.told("nva2", "10.250.0.0/16").unwrap(),
        "65515 10.1.1.4 65517:65517"
    );
    // It is the NVA's own.
    assert_eq!(world.told("nva1", "10.250.0.0/16"), None);
    world.withdraw("nva1", &parts[..1]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    world.withdraw("nva1", &parts[1..]);
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
    assert_eq!(world.told("nva2", "10.250.0.0/16"), None);
}

#[test]
fn what_a_map_makes_is_judged_by_the_rules_again() {
    let mut world = world();
    let actions = vec![Action::ReplacePrefix(net("10.1.7.0/24"))];
    set_inbound(&mut world, Some(map("10.250.0.0/16", actions)));
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    assert_eq!(
        world.verdict("nva1", "10.250.0.0/16"),
        "rejected inside-virtual-network"
    );
    // And what the rules refuse does not come before the map.
    set_inbound(&mut world, Some(map("0.0.0.0/0", vec![Action::ReplaceAsPath(vec![])])));
    world.announce("nva1", path("10.1.4.4", &[65001, 65515]), &["10.251.0.0/16"]);
    assert_eq!(world.verdict("nva1", "10.251.0.0/16"), "rejected own-asn");
    assert!(world.next_hops("vm", "10.251.0.0/16").is_empty());
}

#[test]
fn what_a_map_made_goes_with_the_session_and_comes_back_with_it() {
    let mut world = world();
    set_inbound(&mut world, Some(summary("10.250.0.0/16")));
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.1.0/24"]);
    world.kill("nva1");
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
    world.nvas.get_mut("nva1").unwrap().alive = true;
    world.advance_secs(60);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.1.0/24"]);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
    world.edit(|intent| {
        intent.route_servers[0].peers.remove(0);
    });
    assert!(world.next_hops("vm", "10.250.0.0/16").is_empty());
}

#[test]
fn the_limit_counts_what_the_peer_said_not_what_a_map_made_of_it() {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0].peers[0].route_limit = 2;
        intent.route_servers[0].peers[0].inbound_route_map = Some(summary("10.250.0.0/16"));
    });
    world.announce(
        "nva1",
        path("10.1.4.4", &[65001]),
        &["10.250.1.0/24", "10.250.2.0/24", "10.250.3.0/24"],
    );
    let notification = world.nvas["nva1"].notifications.last().unwrap();
    assert_eq!((notification.code, notification.subcode), (6, 1));
}

#[test]
fn an_outbound_map_is_for_its_own_connection_and_takes_effect_at_once() {
    let mut world = branch_to_branch();
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.250.0.0/16"]);
    set_outbound(&mut world, Some(map("10.2.0.0/16", vec![Action::Drop])));
    assert_eq!(world.told("nva1", "10.2.0.0/16"), None);
    assert_eq!(world.told("nva2", "10.2.0.0/16").unwrap(), "65515 10.1.1.4 65518:65518");
    let actions = vec![
        Action::AddAsPath(vec![Asn(64600), Asn(64601)]),
        Action::AddCommunities(vec![Community::new(65001, 9)]),
    ];
    set_outbound(&mut world, Some(map("10.250.0.0/16", actions)));
    assert_eq!(
        world.told("nva1", "10.250.0.0/16").unwrap(),
        "65515-64600-64601-65002 10.1.1.4 65001:9 65517:65517"
    );
    assert_eq!(world.told("nva1", "10.2.0.0/16").unwrap(), "65515 10.1.1.4 65518:65518");
    set_outbound(&mut world, None);
    assert_eq!(
        world.told("nva1", "10.250.0.0/16").unwrap(),
        "65515-65002 10.1.1.4 65517:65517"
    );
    nobody_was_reset(&world);
}

#[test]
fn an_outbound_summary_of_spokes_is_told_with_our_number_alone() {
    let mut world = world();
    world.edit(|intent| intent.virtual_networks[1].address_space.push(net("10.12.0.0/16")));
    set_outbound(&mut world, Some(summary("10.0.0.0/8")));
    let told: Vec<String> = world.nvas["nva1"].learned.keys().map(ToString::to_string).collect();
    assert_eq!(told, ["10.0.0.0/8"]);
    assert_eq!(world.told("nva1", "10.0.0.0/8").unwrap(), "65515 10.1.1.4");
    assert_eq!(world.told("nva2", "10.0.0.0/8"), None);
    // A part that goes changes nothing for the peer.
    let updates = world.nvas["nva1"].updates;
    world.edit(|intent| intent.virtual_networks[1].address_space = vec![net("10.2.0.0/16")]);
    assert_eq!(world.nvas["nva1"].updates, updates);
    set_outbound(&mut world, None);
    assert_eq!(world.told("nva1", "10.0.0.0/8"), None);
    assert_eq!(world.told("nva1", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
    nobody_was_reset(&world);
}

#[test]
fn what_may_not_go_out_does_not_go_out_by_a_map() {
    let mut world = branch_to_branch();
    world.announce(
        "nva2",
        path("10.1.4.5", &[65002]).add_community(Community::NO_ADVERTISE),
        &["10.250.0.0/16"],
    );
    let actions = vec![Action::ReplaceCommunities(vec![])];
    set_outbound(&mut world, Some(map("0.0.0.0/0", actions)));
    assert_eq!(world.told("nva1", "10.250.0.0/16"), None);
    world.edit(|intent| intent.route_servers[0].branch_to_branch = false);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.251.0.0/16"]);
    assert_eq!(world.told("nva1", "10.251.0.0/16"), None);
}

#[test]
fn two_connections_may_have_the_same_map_and_change_them_independently() {
    let mut world = world();
    let drop_spoke = map("10.2.0.0/16", vec![Action::Drop]);
    let drop_hub = map("10.1.0.0/16", vec![Action::Drop]);
    world.edit(|intent| {
        for peer in &mut intent.route_servers[0].peers {
            peer.outbound_route_map = Some(drop_spoke.clone());
        }
    });
    for nva in ["nva1", "nva2"] {
        assert_eq!(world.told(nva, "10.2.0.0/16"), None);
        assert!(world.told(nva, "10.1.0.0/16").is_some());
    }
    // The first connection's map takes the first number; the second's gets another one.
    set_outbound(&mut world, Some(drop_hub));
    assert_eq!(world.told("nva1", "10.1.0.0/16"), None);
    assert!(world.told("nva1", "10.2.0.0/16").is_some());
    assert_eq!(world.told("nva2", "10.2.0.0/16"), None);
    assert!(world.told("nva2", "10.1.0.0/16").is_some());
    nobody_was_reset(&world);
}

#[test]
fn what_an_outbound_map_adds_is_told_even_if_it_is_no_export() {
    let mut world = branch_to_branch();
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.250.0.0/16"]);
    set_outbound(
        &mut world,
        Some(map(
            "0.0.0.0/0",
            vec![Action::AddCommunities(vec![Community::NO_EXPORT])],
        )),
    );
    assert_eq!(
        world.told("nva1", "10.250.0.0/16").unwrap(),
        "65515-65002 10.1.1.4 65535:65281 65517:65517"
    );
    assert_eq!(world.told("nva1", "10.1.0.0/16").unwrap(), "65515 10.1.1.4 65535:65281");
}

#[test]
fn an_inbound_summary_goes_no_farther_than_any_of_its_parts() {
    for kept_back in [
        Community::NO_ADVERTISE,
        Community::NO_EXPORT,
        Community::NO_EXPORT_SUBCONFED,
    ] {
        let mut world = branch_to_branch();
        set_inbound(&mut world, Some(summary("10.250.0.0/16")));
        world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.1.0/24"]);
        assert!(world.told("nva2", "10.250.0.0/16").is_some());
        let secret = path("10.1.4.4", &[65001]).add_community(kept_back);
        world.announce("nva1", secret.clone(), &["10.250.2.0/24"]);
        assert_eq!(world.told("nva2", "10.250.0.0/16"), None, "{kept_back}");
        assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
        world.withdraw("nva1", &["10.250.2.0/24"]);
        assert!(world.told("nva2", "10.250.0.0/16").is_some());
        world.announce("nva1", secret, &["10.250.0.0/24"]);
        assert_eq!(world.told("nva2", "10.250.0.0/16"), None, "{kept_back}");
    }
}

#[test]
fn the_parts_of_an_inbound_summary_are_shown_as_what_they_became_and_counted() {
    let mut world = world();
    set_inbound(&mut world, Some(summary("10.250.0.0/16")));
    world.announce("nva1", path("10.1.4.8", &[65001]), &["10.250.1.0/24"]);
    world.announce("nva1", path("10.1.4.9", &[65001]), &["10.250.2.0/24"]);
    // The summary has one next hop, and so has what each part became.
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.8"]);
    for part in ["10.250.1.0/24", "10.250.2.0/24"] {
        let became = world.route("nva1", part).unwrap().becomes.unwrap();
        assert_eq!(
            (became.network, became.next_hop),
            (net("10.250.0.0/16"), ip("10.1.4.8"))
        );
    }
    let report = &world.instance.peers(world.now, None)[0];
    assert_eq!((report.routes_received, report.routes_accepted), (2, 2));
    let route_server = world.intent.route_servers[0].id.clone();
    let of = |prefix: &str| -> Vec<String> {
        let routes = world.instance.routes_of_speaker(&route_server, Some(&net(prefix)));
        let networks = routes.unwrap().into_iter().map(|route| route.network.to_string());
        networks.collect()
    };
    assert_eq!(of("10.250.0.0/16"), ["10.250.1.0/24", "10.250.2.0/24"]);
    assert_eq!(of("10.250.1.0/24"), ["10.250.1.0/24"]);
}

#[test]
fn what_the_rules_refuse_of_what_a_map_made_is_not_counted_as_accepted() {
    let mut world = world();
    let actions = vec![Action::ReplacePrefix(net("10.1.7.0/24"))];
    set_inbound(&mut world, Some(map("10.250.0.0/16", actions)));
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16", "10.251.0.0/16"]);
    let report = &world.instance.peers(world.now, None)[0];
    assert_eq!((report.routes_received, report.routes_accepted), (2, 1));
}

#[test]
fn all_routes_are_judged_once_however_many_connections_have_a_map() {
    let mut world = world();
    let judged = |world: &World| world.instance.speakers.values().next().unwrap().reconsidered;
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["10.250.0.0/16"]);
    for number in [64600, 64601] {
        let before = judged(&world);
        world.edit(|intent| {
            for peer in &mut intent.route_servers[0].peers {
                peer.inbound_route_map = Some(map("0.0.0.0/0", vec![Action::AddAsPath(vec![Asn(number)])]));
            }
        });
        assert_eq!(judged(&world), before + 1);
        for nva in ["nva1", "nva2"] {
            let became = world.route(nva, "10.250.0.0/16").unwrap().becomes.unwrap();
            assert!(became.as_path.starts_with(&number.to_string()));
        }
    }
}

#[test]
fn a_connection_hears_nothing_of_anothers_map_and_of_its_own_only_what_is_different() {
    let mut world = world();
    world.edit(|intent| {
        let peers = &mut intent.route_servers[0].peers;
        peers[0].outbound_route_map = Some(map("10.2.0.0/16", vec![Action::Drop]));
        let actions = vec![Action::AddAsPath(vec![Asn(64600)])];
        peers[1].outbound_route_map = Some(map("10.2.0.0/16", actions));
    });
    let updates = world.nvas["nva2"].updates;
    set_outbound(&mut world, None);
    assert_eq!(world.nvas["nva2"].updates, updates);
    // The spoke alone is another route now.
    world.edit(|intent| {
        let actions = vec![Action::AddAsPath(vec![Asn(64601)])];
        intent.route_servers[0].peers[1].outbound_route_map = Some(map("10.2.0.0/16", actions));
    });
    assert_eq!(world.nvas["nva2"].updates, updates + 1);
    assert_eq!(
        world.told("nva2", "10.2.0.0/16").unwrap(),
        "65515-64601 10.1.1.4 65518:65518"
    );
    nobody_was_reset(&world);
}

#[test]
fn a_refresh_that_was_not_negotiated_takes_no_routes_away() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    refresh(&mut world, RefreshKind::Begin);
    refresh(&mut world, RefreshKind::End);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.4"]);
}

#[test]
fn a_part_that_a_refresh_did_not_bring_again_leaves_the_summary() {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0].peers[0].enhanced_route_refresh = true;
        intent.route_servers[0].peers[0].inbound_route_map = Some(summary("10.250.0.0/16"));
    });
    world.advance_secs(60);
    let parts = ["10.250.1.0/24", "10.250.2.0/24"];
    world.announce("nva1", path("10.1.4.8", &[65001]), &parts[..1]);
    world.announce("nva1", path("10.1.4.9", &[65001]), &parts[1..]);
    refresh(&mut world, RefreshKind::Begin);
    world.announce("nva1", path("10.1.4.9", &[65001]), &parts[1..]);
    refresh(&mut world, RefreshKind::End);
    assert_eq!(world.next_hops("vm", "10.250.0.0/16"), ["10.1.4.9"]);
}
