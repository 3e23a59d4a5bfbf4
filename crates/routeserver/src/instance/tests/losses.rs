//! Next hops that are lost with a session: agents hear of it before any prefix is decided, and no route of theirs moves.

use std::time::Duration;

use bgp::wire::{GracefulRestart, LongLived, LongLivedGracefulRestart, RestartOffer};
use bgp::{FamilySet, IpNet};

use super::world::*;
use crate::delivery::{AgentId, Group, TableId, TableUpdate, ToAgent};
use crate::instance::Input;
use crate::intent::PersistRoutes;
use crate::report::AgentCounts;
use crate::testing::*;

const AGENT: AgentId = AgentId(3);
/// More than are decided in one piece.
const MANY: u32 = 40_000;

fn follow(world: &mut World, layers: bool) {
    follow_nics(world, AGENT, &["vm"], layers);
}

fn follow_nics(world: &mut World, agent: AgentId, nics: &[&str], layers: bool) {
    world.input(Input::AgentFollows {
        agent,
        name: "agent".into(),
        nics: nics.iter().map(|nic| (*nic).to_owned()).collect(),
        layers,
    });
    world.to_agents.clear();
}

/// The NVA's connection closes; what goes out first.
fn close(world: &mut World, nva: &'static str) -> Vec<TableUpdate> {
    world.close(nva);
    world.settle_once();
    let told = std::mem::take(&mut world.to_agents);
    told.into_iter().filter_map(|(_, message)| update(message)).collect()
}

fn update(message: ToAgent) -> Option<TableUpdate> {
    match message {
        ToAgent::Delta(update) => Some((*update).clone()),
        _ => None,
    }
}

impl World {
    /// The agent's NIC has the base at this generation in its kernel.
    fn installs(&mut self, base: TableId, generation: u64) {
        // The overlay is another table, which has not changed.
        self.instance.handle(
            self.now,
            Input::AgentInstalled {
                agent: AGENT,
                nic: "vm".into(),
                table: TableId(u64::MAX),
                generation: 1,
                base: Some((base, generation)),
                problems: vec![],
                counts: AgentCounts::default(),
            },
        );
    }
}

/// What is told when everything is decided.
fn then(world: &mut World) -> Vec<TableUpdate> {
    world.advance(Duration::from_millis(200));
    let told = std::mem::take(&mut world.to_agents);
    told.into_iter().filter_map(|(_, message)| update(message)).collect()
}

fn members(groups: &[Group]) -> Vec<Vec<String>> {
    let names = |group: &Group| group.members.iter().map(ToString::to_string).collect();
    groups.iter().map(names).collect()
}

fn table(count: u32) -> Vec<IpNet> {
    let prefix = |n: u32| net(&format!("20.{}.{}.0/24", n >> 8, n & 255));
    (0..count).map(prefix).collect()
}

/// Both NVAs have told so many prefixes, the second one with a longer path.
fn active_and_passive(count: u32, layers: bool) -> World {
    let mut world = world();
    world.edit(|intent| {
        intent.route_servers[0]
            .peers
            .iter_mut()
            .for_each(|peer| peer.route_limit = 0)
    });
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table(count));
    world.announce_nets("nva2", path("10.1.4.5", &[65002, 65002]), table(count));
    world.advance_secs(6);
    follow(&mut world, layers);
    world
}

#[test]
fn a_death_is_told_at_once_as_one_group_and_no_route_is_told_of_then_whatever_their_number() {
    for (layers, count) in [(true, MANY), (false, MANY), (true, 3), (false, 3)] {
        let mut world = active_and_passive(count, layers);
        let first = close(&mut world, "nva1");
        let [lost] = &first[..] else {
            panic!("{} updates", first.len())
        };
        assert_eq!(members(&lost.groups), [["10.1.4.5"]]);
        assert!(lost.routes.is_empty() && lost.removed.is_empty());
        let then = then(&mut world);
        for update in &then {
            assert!(
                update.routes.is_empty() && update.removed.is_empty(),
                "routes stay where they are"
            );
        }
        let decided = then.last().expect("what it is now").groups.last().unwrap();
        assert_eq!(
            (decided.id, members(std::slice::from_ref(decided))),
            (lost.groups[0].id, members(&lost.groups))
        );
        assert!(
            decided.rank < lost.groups[0].rank,
            "it was worse than any before it was decided"
        );
    }
}

#[test]
fn routes_without_a_fallback_lose_their_way_at_once_and_go_then() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.4", &[65001]), &["20.0.0.0/24", "20.0.1.0/24"]);
    follow(&mut world, true);
    let first = close(&mut world, "nva1");
    assert_eq!(members(&first[0].groups), [Vec::<String>::new()]);
    let then = then(&mut world);
    assert_eq!((then[0].removed.len(), then[0].removed_groups.len()), (2, 1));
}

#[test]
fn of_next_hops_of_equal_rank_the_others_stay() {
    let mut world = world();
    for (nva, next_hop, asn) in [("nva1", "10.1.4.4", 65001), ("nva2", "10.1.4.5", 65002)] {
        world.announce(nva, path(next_hop, &[asn]), &["20.0.0.0/24", "20.0.1.0/24"]);
    }
    follow(&mut world, true);
    let first = close(&mut world, "nva2");
    assert_eq!(members(&first[0].groups), [["10.1.4.4"]]);
    assert!(then(&mut world).is_empty(), "there is nothing to add");
}

#[test]
fn both_die_one_after_the_other_before_anything_is_decided() {
    let mut world = active_and_passive(MANY, true);
    close(&mut world, "nva1");
    let first = close(&mut world, "nva2");
    assert_eq!(
        members(&first[0].groups),
        [Vec::<String>::new()],
        "nobody else has a path"
    );
    let removed: usize = then(&mut world).iter().map(|update| update.removed.len()).sum();
    assert_eq!(removed, MANY as usize);
}

/// A third NVA, whose path is the longest.
fn with_a_third() -> World {
    let mut world = world();
    world.add_nva("nva3", "10.1.4.6", 65003, FamilySet::IPV4);
    world.edit(|intent| {
        intent.route_servers[0].peers.push(peer("nva3", "10.1.4.6", 65003));
    });
    world.advance_secs(30);
    let prefixes = ["20.0.0.0/24", "20.0.1.0/24"];
    world.announce("nva1", path("10.1.4.4", &[65001]), &prefixes);
    world.announce("nva2", path("10.1.4.5", &[65002, 65002]), &prefixes);
    world.announce("nva3", path("10.1.4.6", &[65003, 65003, 65003]), &prefixes);
    follow(&mut world, true);
    world
}

#[test]
fn where_the_best_and_the_second_die_at_once_no_route_goes_before_the_third_takes_over() {
    for one_by_one in [false, true] {
        let mut world = with_a_third();
        let mut told = Vec::new();
        if one_by_one {
            told.extend(close(&mut world, "nva1"));
        } else {
            world.close("nva1");
        }
        told.extend(close(&mut world, "nva2"));
        told.extend(then(&mut world));
        for update in &told {
            assert!(update.removed.is_empty() && update.routes.is_empty(), "{update:?}");
            assert!(
                update.groups.iter().all(|group| !group.members.is_empty()),
                "{update:?}"
            );
        }
        let last = told.iter().flat_map(|update| &update.groups).next_back().unwrap();
        assert_eq!(members(std::slice::from_ref(last)), [["10.1.4.6"]]);
    }
}

#[test]
fn sessions_that_end_together_are_one_change_of_a_table() {
    let mut world = with_a_third();
    world.close("nva2");
    let first = close(&mut world, "nva3");
    assert_eq!(first.len(), 1, "what was the fallback is none now: {first:?}");
    let mut world = with_a_third();
    world.announce("nva1", path("10.1.4.9", &[65001]), &["30.0.0.0/24"]);
    world.announce("nva2", path("10.1.4.9", &[65002]), &["30.0.0.0/24"]);
    world.to_agents.clear();
    // A next hop that both name is lost with the second of them.
    world.close("nva1");
    let first = close(&mut world, "nva2");
    assert_eq!(first.len(), 1);
    let lost = first[0].groups.iter().filter(|group| group.members.is_empty());
    assert_eq!(lost.count(), 1, "{first:?}");
}

#[test]
fn one_that_ends_without_a_loss_does_not_work_off_others_before_their_losses_are_told() {
    let mut world = with_a_third();
    // It has told nothing since, so agents lose nothing with it.
    world.withdraw("nva3", &["20.0.0.0/24", "20.0.1.0/24"]);
    world.to_agents.clear();
    world.close("nva1");
    let told = close(&mut world, "nva3");
    assert_eq!(members(&told[0].groups), [["10.1.4.5"]]);
    for update in then(&mut world) {
        assert!(update.routes.is_empty() && update.removed.is_empty());
    }
}

#[test]
fn nothing_is_decided_before_kernels_have_followed_or_had_time_for_it() {
    for is_installed in [true, false] {
        let mut world = active_and_passive(3, true);
        let lost = close(&mut world, "nva1").remove(0);
        let start = world.now;
        world.settle_once();
        assert!(world.to_agents.is_empty() && world.told("nva2", "20.0.0.0/24").is_none());
        let until = world.instance.head_start_until().unwrap();
        assert!(until > start && until <= start + Duration::from_millis(100));
        if is_installed {
            world.installs(lost.table, lost.generation);
            assert_eq!(
                world.instance.poll_timeout(),
                Some(world.now),
                "the rest is due at once"
            );
        } else {
            world.now = until;
        }
        world.settle_once();
        assert!(!world.to_agents.is_empty(), "decided");
    }
}

#[test]
fn a_next_hop_that_another_nva_names_too_is_not_lost() {
    let mut world = world();
    world.announce("nva1", path("10.1.4.9", &[65001]), &["20.0.0.0/24"]);
    world.announce("nva2", path("10.1.4.9", &[65002]), &["20.0.0.0/24"]);
    follow(&mut world, true);
    assert!(close(&mut world, "nva1").is_empty());
    assert!(then(&mut world).is_empty());
}

/// Two NVAs, of which one has offered to restart: within so many seconds, and with stale routes kept for an hour or not.
fn with_restart(nva: &'static str, restart_time_secs: u16, long_lived: bool) -> World {
    let mut world = idle_world();
    let mut peers = vec![peer("nva1", "10.1.4.4", 65001), peer("nva2", "10.1.4.5", 65002)];
    for peer in peers.iter_mut().filter(|peer| peer.id == nva) {
        peer.graceful_restart = true;
        peer.long_lived_stale_time_secs = 3600;
    }
    world.intent.route_servers[0].peers = peers;
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.add_nva("nva2", "10.1.4.5", 65002, FamilySet::IPV4);
    let graceful = GracefulRestart {
        restarted: false,
        notification: true,
        restart_time_secs,
        families: FamilySet::IPV4,
        forwarding: FamilySet::IPV4,
    };
    let stale = LongLived {
        forwarding: true,
        stale_time_secs: 3600,
    };
    let offer = RestartOffer {
        graceful: Some(graceful),
        long_lived: long_lived.then(|| LongLivedGracefulRestart::of(FamilySet::IPV4, stale)),
    };
    world.nvas.get_mut(nva).unwrap().session.offer_restart(offer);
    world.send_intent();
    world
}

#[test]
fn of_a_session_that_restarts_gracefully_nothing_is_lost() {
    let mut world = with_restart("nva1", 60, false);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["20.0.0.0/24"]);
    world.announce("nva2", path("10.1.4.5", &[65002, 65002]), &["20.0.0.0/24"]);
    follow(&mut world, true);
    assert!(close(&mut world, "nva1").is_empty() && then(&mut world).is_empty());
}

/// `20.*` is the first NVA's with the second one as fallback, `30.*` is the first one's alone, `40.*` the second one's.
fn announce_shared_and_own(world: &mut World) {
    let shared = ["20.0.0.0/24", "20.0.1.0/24"];
    world.announce("nva1", path("10.1.4.4", &[65001]), &shared);
    world.announce("nva2", path("10.1.4.5", &[65002, 65002]), &shared);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["30.0.0.0/24", "30.0.1.0/24"]);
    world.announce("nva2", path("10.1.4.5", &[65002]), &["40.0.0.0/24", "40.0.1.0/24"]);
    follow(world, true);
}

fn removed(told: &[TableUpdate]) -> Vec<String> {
    let removed = told.iter().flat_map(|update| &update.removed);
    let mut removed: Vec<String> = removed.map(ToString::to_string).collect();
    removed.sort_unstable();
    removed
}

fn empty_groups(told: &[TableUpdate]) -> usize {
    let groups = told.iter().flat_map(|update| &update.groups);
    groups.filter(|group| group.members.is_empty()).count()
}

#[test]
fn of_one_that_restarts_gracefully_nothing_is_lost_when_another_one_dies_in_the_same_moment() {
    for dies_first in [true, false] {
        let mut world = with_restart("nva2", 60, false);
        announce_shared_and_own(&mut world);
        let (first, second) = match dies_first {
            true => ("nva1", "nva2"),
            false => ("nva2", "nva1"),
        };
        world.close(first);
        let mut told = close(&mut world, second);
        assert_eq!(
            (
                members(&told[0].groups).contains(&vec!["10.1.4.5".to_owned()]),
                empty_groups(&told)
            ),
            (true, 1),
            "only what the dead one had alone goes: {told:?}"
        );
        told.extend(then(&mut world));
        assert_eq!(empty_groups(&told), 1, "{told:?}");
        assert_eq!(removed(&told), ["30.0.0.0/24", "30.0.1.0/24"]);
    }
}

#[test]
fn what_is_kept_as_a_last_resort_stays_when_another_one_dies_before_anything_is_decided() {
    for one_by_one in [true, false] {
        let mut world = with_restart("nva1", 0, true);
        announce_shared_and_own(&mut world);
        let mut told = Vec::new();
        match one_by_one {
            true => {
                told.extend(close(&mut world, "nva1"));
                assert_eq!(members(&told[0].groups), [["10.1.4.5"]]);
            }
            false => world.close("nva1"),
        }
        told.extend(close(&mut world, "nva2"));
        assert_eq!(
            empty_groups(&told),
            1,
            "only what the dead one had alone goes: {told:?}"
        );
        told.extend(then(&mut world));
        assert_eq!(empty_groups(&told), 1, "{told:?}");
        assert_eq!(removed(&told), ["40.0.0.0/24", "40.0.1.0/24"]);
        assert_eq!(world.next_hops("vm", "20.0.0.0/24"), ["10.1.4.4"]);
        assert_eq!(world.next_hops("vm", "30.0.0.0/24"), ["10.1.4.4"]);
    }
}

#[test]
fn one_that_restarts_gracefully_does_not_take_the_head_start_from_others() {
    let mut world = with_restart("nva2", 60, false);
    announce_shared_and_own(&mut world);
    world.close("nva1");
    let told = close(&mut world, "nva2");
    assert!(removed(&told).is_empty(), "not decided yet: {told:?}");
    assert!(world.instance.poll_timeout().unwrap() > world.now);
}

#[test]
fn a_path_that_is_lost_ends_what_was_to_be_kept_gracefully_also_before_that_was_worked_off() {
    let mut world = with_restart("nva2", 60, false);
    announce_shared_and_own(&mut world);
    world.close("nva1");
    let mut told = close(&mut world, "nva2");
    let key = world.instance.peer_ids["nva2"];
    world.instance.end_graceful(world.now, key);
    told.extend(then(&mut world));
    assert_eq!(removed(&told).len(), 6, "{told:?}");
}

#[test]
fn of_one_that_was_away_already_a_lost_path_takes_the_routes_at_once_whoever_has_a_head_start() {
    let mut world = with_restart("nva2", 60, false);
    announce_shared_and_own(&mut world);
    close(&mut world, "nva2");
    then(&mut world);
    assert!(removed(&close(&mut world, "nva1")).is_empty());
    let key = world.instance.peer_ids["nva2"];
    world.instance.end_graceful(world.now, key);
    world.settle_once();
    let told = std::mem::take(&mut world.to_agents);
    let told: Vec<_> = told.into_iter().filter_map(|(_, message)| update(message)).collect();
    assert_eq!(removed(&told).len(), 6, "{told:?}");
}

#[test]
fn paths_that_are_lost_together_are_one_change_of_a_table() {
    let mut world = with_a_third();
    world.close("nva1");
    // BFD ends what may be kept of the second one before it ends its session.
    let key = world.instance.peer_ids["nva2"];
    world.instance.end_graceful(world.now, key);
    let told = close(&mut world, "nva2");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(members(&told[0].groups), [["10.1.4.6"]]);
}

#[test]
fn sessions_that_end_one_after_the_other_put_off_decisions_no_longer_than_the_first_one_does() {
    let mut world = world();
    announce_shared_and_own(&mut world);
    close(&mut world, "nva1");
    world.now = world.instance.head_start_until().unwrap();
    let told = close(&mut world, "nva2");
    assert_eq!(removed(&told).len(), 6, "told and decided: {told:?}");
}

#[test]
fn tables_that_are_told_when_prefixes_are_decided_do_not_wait_for_others_kernels() {
    let mut world = active_and_passive(3, true);
    // Its NIC is a next hop, so what is left of a group is not what it does.
    follow_nics(&mut world, AGENT, &["vm", "nva2"], true);
    assert_eq!(close(&mut world, "nva1").len(), 1, "the other table is told before");
    assert_eq!(
        world.instance.poll_timeout(),
        Some(world.now),
        "the rest is due at once"
    );
    world.settle_once();
    assert!(!world.to_agents.is_empty(), "decided");
}

#[test]
fn nobody_is_waited_for_who_is_gone_or_takes_no_more_or_follows_something_else() {
    const OTHER: AgentId = AgentId(4);
    let leave: [fn() -> Input; 3] = [
        || Input::AgentGone { agent: OTHER },
        || Input::AgentBackpressure {
            agent: OTHER,
            full: true,
        },
        || Input::AgentFollows {
            agent: OTHER,
            name: "other".into(),
            nics: vec![],
            layers: true,
        },
    ];
    for leave in leave {
        let mut world = active_and_passive(3, true);
        follow_nics(&mut world, OTHER, &["vm"], true);
        let lost = close(&mut world, "nva1").remove(0);
        world.installs(lost.table, lost.generation);
        assert!(
            world.instance.poll_timeout().unwrap() > world.now,
            "the other one is waited for"
        );
        world.instance.handle(world.now, leave());
        assert_eq!(world.instance.poll_timeout(), Some(world.now));
    }
}

#[test]
fn persisted_routes_give_way_to_others_at_once_and_stay_where_there_are_none() {
    let mut world = world();
    world.edit(|intent| intent.route_servers[0].persist_routes = PersistRoutes::Forever);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["20.0.0.0/24", "20.0.1.0/24"]);
    world.announce("nva1", path("10.1.4.4", &[65001, 7]), &["30.0.0.0/24", "30.0.1.0/24"]);
    world.announce(
        "nva2",
        path("10.1.4.5", &[65002, 65002]),
        &["20.0.0.0/24", "20.0.1.0/24"],
    );
    follow(&mut world, true);
    let first = close(&mut world, "nva1");
    assert_eq!(members(&first[0].groups), [["10.1.4.5"]]);
    for update in then(&mut world) {
        assert!(update.removed.is_empty());
        assert!(update.groups.iter().all(|group| !group.members.is_empty()));
    }
}

#[test]
fn an_nva_that_is_back_before_its_routes_are_decided_has_them_again() {
    let mut world = active_and_passive(MANY, true);
    close(&mut world, "nva1");
    // Its routes go, and some of the prefixes are decided.
    world.now = world.instance.poll_timeout().unwrap();
    world.settle_once();
    world.nvas.get_mut("nva1").unwrap().alive = true;
    let before = world.nvas["nva1"].established;
    for _ in 0..60 {
        world.advance_secs(1);
    }
    assert!(world.nvas["nva1"].established > before);
    world.announce_nets("nva1", path("10.1.4.4", &[65001]), table(MANY));
    world.advance_secs(6);
    world.to_agents.clear();
    world.input(Input::AgentGone { agent: AGENT });
    world.input(Input::AgentFollows {
        agent: AGENT,
        name: "agent".into(),
        nics: vec!["vm".into()],
        layers: true,
    });
    let told = std::mem::take(&mut world.to_agents);
    let base = told.into_iter().find_map(|(_, message)| match message {
        ToAgent::Snapshot(table) if table.routes.len() >= MANY as usize => Some(table),
        _ => None,
    });
    assert_eq!(members(&base.unwrap().groups), [["10.1.4.4"]]);
}
