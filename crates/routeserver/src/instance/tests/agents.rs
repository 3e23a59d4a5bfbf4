//! From an NVA's UPDATE to what agents hear; converging.

use bgp::FamilySet;

use super::world::*;
use crate::delivery::{AgentId, ToAgent, Way};
use crate::instance::{Event, Input};
use crate::report::AgentCounts;
use crate::testing::*;

const AGENT: AgentId = AgentId(3);

pub(super) fn follow(world: &mut World, nics: &[&str]) {
    world.input(Input::AgentFollows {
        agent: AGENT,
        name: "agent".into(),
        nics: nics.iter().map(|nic| (*nic).to_owned()).collect(),
        layers: false,
    });
}

pub(super) fn heard(world: &mut World) -> Vec<ToAgent> {
    let heard = std::mem::take(&mut world.to_agents);
    heard.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn an_agent_hears_facts_then_the_table_then_whether_it_is_complete() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    follow(&mut world, &["vm"]);
    match heard(&mut world).as_slice() {
        [ToAgent::Nic(nic), ToAgent::Snapshot(table), ToAgent::Converged(false)] => {
            assert_eq!(nic.table, Some(table.table));
            assert_eq!(nic.gateways, [ip("10.1.2.1")]);
            let route = table
                .routes
                .iter()
                .find(|route| route.prefix == net("10.250.0.0/16"))
                .unwrap();
            assert_eq!(route.way, Way::Group(table.groups[0].id));
            assert_eq!(table.groups[0].members, [ip("10.1.4.4")]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_nvas_death_moves_its_routes_to_the_runner_up_as_one_group() {
    let mut world = world();
    world.announce(
        "nva1",
        path("10.1.4.4", &[65001]),
        &["10.250.0.0/16", "10.251.0.0/16", "10.252.0.0/16"],
    );
    let longer = path("10.1.4.5", &[65002, 65002]);
    world.announce("nva2", longer, &["10.250.0.0/16", "10.251.0.0/16", "10.252.0.0/16"]);
    follow(&mut world, &["vm"]);
    let before = heard(&mut world);
    let ToAgent::Snapshot(snapshot) = &before[1] else {
        panic!("{before:?}");
    };
    assert_eq!(snapshot.groups[0].fallback, [ip("10.1.4.5")]);
    world.kill("nva1");
    match heard(&mut world).as_slice() {
        [ToAgent::Delta(lost), ToAgent::Delta(decided)] => {
            assert_eq!(lost.generation, snapshot.generation + 1);
            for delta in [lost, decided] {
                assert!(delta.routes.is_empty() && delta.removed.is_empty());
                assert_eq!(delta.groups[0].id, snapshot.groups[0].id);
                assert_eq!(delta.groups[0].members, [ip("10.1.4.5")]);
                assert!(delta.groups[0].rank > snapshot.groups[0].rank);
            }
            assert!(decided.groups[0].rank < lost.groups[0].rank);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_of_updates_is_one_delta() {
    let mut world = world();
    follow(&mut world, &["vm"]);
    heard(&mut world);
    let prefixes: Vec<String> = (0..200).map(|index| format!("20.0.{index}.0/24")).collect();
    world.announce(
        "nva1",
        path("10.1.4.4", &[65001]),
        &prefixes.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    match heard(&mut world).as_slice() {
        [ToAgent::Delta(delta)] => assert_eq!((delta.routes.len(), delta.groups.len()), (200, 1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_an_agent_installed_is_reported() {
    let mut world = world();
    follow(&mut world, &["vm", "unknown"]);
    let messages = heard(&mut world);
    let ToAgent::Snapshot(table) = &messages[2] else {
        panic!("{messages:?}");
    };
    let reports = world.instance.agents();
    assert_eq!((reports[0].nic.as_str(), reports[0].installed_generation), ("vm", None));
    let counts = AgentCounts {
        stranded: 2,
        repaired: 1,
    };
    world.input(Input::AgentInstalled {
        agent: AGENT,
        nic: "vm".into(),
        table: table.table,
        generation: table.generation,
        base: None,
        problems: vec!["10.250.0.0/16 belongs to somebody else".into()],
        counts,
    });
    let report = &world.instance.agents()[0];
    assert_eq!(report.counts, counts);
    assert_eq!(report.installed_generation, Some(report.generation));
    assert_eq!(report.problems.len(), 1);
    world.input(Input::AgentGone { agent: AGENT });
    assert_eq!(world.instance.agents(), []);
}

#[test]
fn a_nic_has_installed_what_it_follows_when_both_layers_are() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    world.input(Input::AgentFollows {
        agent: AGENT,
        name: "agent".into(),
        nics: vec!["vm".into()],
        layers: true,
    });
    let messages = heard(&mut world);
    let [ToAgent::Nic(nic), ..] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    let generation = |id| {
        let mut snapshots = messages.iter().filter_map(|message| match message {
            ToAgent::Snapshot(table) => Some((table.table, table.generation)),
            _ => None,
        });
        snapshots.find(|(table, _)| *table == id).unwrap().1
    };
    let (table, base) = (nic.table.unwrap(), nic.base.unwrap());
    let mut report = |base_generation| {
        world.input(Input::AgentInstalled {
            agent: AGENT,
            nic: "vm".into(),
            table,
            generation: generation(table),
            base: Some((base, base_generation)),
            problems: Vec::new(),
            counts: AgentCounts::default(),
        });
        world.instance.agents().remove(0)
    };
    let now = generation(base);
    let behind = report(now - 1);
    assert!(behind.installed_generation.unwrap() < behind.generation);
    let there = report(now);
    assert_eq!(there.installed_generation, Some(there.generation));
}

#[test]
fn an_instance_that_leaves_takes_no_route_from_a_vm() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    follow(&mut world, &["vm"]);
    heard(&mut world);
    world.input(Input::Shutdown);
    assert_eq!(heard(&mut world), []);
}

#[test]
fn another_as_number_leaves_no_stale_route() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    follow(&mut world, &["vm"]);
    heard(&mut world);
    world.edit(|intent| intent.route_servers[0].asn = bgp::Asn(65400));
    let removed = heard(&mut world).iter().any(|message| match message {
        ToAgent::Delta(delta) => delta.removed.contains(&net("10.250.0.0/16")),
        _ => false,
    });
    assert!(removed);
}

pub(super) fn converging(world: &World) -> bool {
    world.instance.health().converging
}

#[test]
fn without_an_intent_an_instance_never_converges_and_without_peers_at_once() {
    let mut world = idle_world();
    follow(&mut world, &["vm"]);
    world.advance_secs(1000);
    assert!(converging(&world));
    world.send_intent();
    assert!(!converging(&world));
    assert!(heard(&mut world).contains(&ToAgent::Converged(true)));
    assert_eq!(world.take_events(), [Event::Converged]);
}

#[test]
fn end_of_rib_from_every_peer_ends_converging() {
    let mut world = world();
    world.end_of_rib("nva1");
    assert!(converging(&world));
    world.end_of_rib("nva2");
    assert!(!converging(&world));
}

#[test]
fn five_quiet_seconds_stand_for_end_of_rib() {
    let mut world = world();
    world.advance_secs(3);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.250.0.0/16"]);
    world.advance_secs(4);
    assert!(converging(&world));
    world.advance_secs(1);
    assert!(!converging(&world));
}

#[test]
fn a_peer_that_cannot_connect_holds_it_up_for_converge_secs_only() {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001), peer("nva2", "10.1.4.5", 65002)];
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.send_intent();
    world.advance_secs(119);
    assert!(converging(&world));
    world.advance_secs(1);
    assert!(!converging(&world));
    world.kill("nva1");
    assert!(!converging(&world), "once is enough");
}

#[test]
fn a_peer_held_down_is_not_waited_for() {
    let mut world = idle_world();
    world.intent.route_servers[0].peers = vec![peer("nva1", "10.1.4.4", 65001)];
    world.intent.route_servers[0].peers[0].admin_down = true;
    world.send_intent();
    assert!(!converging(&world));
}
