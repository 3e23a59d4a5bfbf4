//! What becomes of routes when a session ends: graceful restart (RFC 4724, RFC 8538), its long-lived kind (RFC 9494), persisted routes,
//! and what an operator drains (RFC 8326).

use ::bfd::State;
use std::time::Duration;

use bgp::wire::{
    CeaseSubcode, Community, GracefulRestart, LongLived, LongLivedGracefulRestart, Notification, RestartOffer,
};
use bgp::{FamilySet, session};

use super::bfd;
use super::world::*;
use crate::instance::{Event, Input, Instance};
use crate::intent::{PeerIntent, PersistRoutes};
use crate::peer::retention::LONGEST_RESYNC;
use crate::testing::*;

const ROUTE: &str = "10.250.0.0/16";
const OTHER: &str = "10.251.0.0/16";
const RESTART_SECS: u64 = 60;
const STALE_SECS: u32 = 600;

fn graceful() -> GracefulRestart {
    GracefulRestart {
        restarted: false,
        notification: true,
        restart_time_secs: RESTART_SECS as u16,
        families: FamilySet::IPV4,
        forwarding: FamilySet::IPV4,
    }
}

fn gracefully() -> RestartOffer {
    RestartOffer {
        graceful: Some(graceful()),
        long_lived: None,
    }
}

fn for_long() -> RestartOffer {
    let long_lived = LongLived {
        forwarding: true,
        stale_time_secs: STALE_SECS,
    };
    RestartOffer {
        graceful: Some(graceful()),
        long_lived: Some(LongLivedGracefulRestart::of(FamilySet::IPV4, long_lived)),
    }
}

/// Two NVAs of which the first offers this and the peering's settings are these; it has told `ROUTE` and `OTHER`.
fn world_with(offer: RestartOffer, settings: impl Fn(&mut PeerIntent)) -> World {
    let mut world = idle_world();
    let mut first = peer("nva1", "10.1.4.4", 65001);
    settings(&mut first);
    world.intent.route_servers[0].peers = vec![first, peer("nva2", "10.1.4.5", 65002)];
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    world.add_nva("nva2", "10.1.4.5", 65002, FamilySet::IPV4);
    world.offer("nva1", offer);
    world.send_intent();
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE, OTHER]);
    world.end_of_rib("nva1");
    world.take_events();
    world
}

fn restarts(intent: &mut PeerIntent) {
    intent.graceful_restart = true;
    intent.long_lived_stale_time_secs = 3600;
}

fn persisting(persisted: PersistRoutes) -> World {
    let mut world = world_with(RestartOffer::default(), |_| {});
    world.edit(|intent| intent.route_servers[0].persist_routes = persisted);
    world
}

impl World {
    fn offer(&mut self, nva: &'static str, offer: RestartOffer) {
        self.nvas.get_mut(nva).unwrap().session.offer_restart(offer);
    }

    fn has(&self, prefix: &str) -> bool {
        self.next_hops("vm", prefix) == ["10.1.4.4"]
    }

    /// The phases of the first peer.
    fn phases(&self) -> Vec<String> {
        let peers = self.instance.peers(self.now, None);
        peers[0].kept.iter().map(|kept| kept.phase.clone()).collect()
    }
}

#[test]
fn routes_of_a_peer_that_restarts_are_as_good_as_before_until_it_has_said_them_again() {
    let mut world = world_with(gracefully(), restarts);
    world.announce("nva2", path("10.1.4.5", &[65002]), &[ROUTE]);
    world.kill("nva1");
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.4", "10.1.4.5"]);
    assert!(world.has(OTHER));
    assert_eq!(world.phases(), ["graceful"]);
    assert_eq!(world.route("nva1", ROUTE).unwrap().stale_secs, Some(0));
    assert!(world.events.iter().any(|event| matches!(
        event,
        Event::RoutesKept {
            routes: 2,
            until_secs: Some(RESTART_SECS),
            ..
        }
    )));

    world.advance_secs(10);
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    assert!(world.has(OTHER), "nothing is known of it before End-of-RIB");
    //= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
    //# Once the End-of-RIB marker for an address family is received from the peer, it MUST immediately remove any routes from the peer
    //# that are still marked as stale for that address family.
    world.end_of_rib("nva1");
    assert!(!world.has(OTHER));
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.4", "10.1.4.5"]);
    assert_eq!(
        (world.phases(), world.route("nva1", ROUTE).unwrap().stale_secs),
        (vec![], None)
    );
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::RoutesReleased { routes: 1, .. }))
    );
}

#[test]
fn nothing_is_kept_unless_both_sides_offer_it() {
    for (offer, settings) in [
        (gracefully(), (|_| {}) as fn(&mut PeerIntent)),
        (RestartOffer::default(), restarts),
    ] {
        let mut world = world_with(offer, settings);
        world.kill("nva1");
        assert!(!world.has(ROUTE));
        assert_eq!(world.phases(), Vec::<String>::new());
    }
}

//= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
//# If the session does not get re-established within the "Restart Time" that the peer advertised previously, the Receiving Speaker
//# MUST delete all the stale routes from the peer that it is retaining.
#[test]
fn routes_go_when_the_restart_time_has_passed() {
    let mut world = world_with(gracefully(), restarts);
    world.kill("nva1");
    world.advance_secs(RESTART_SECS - 1);
    assert!(world.has(ROUTE));
    world.advance_secs(1);
    assert!(!world.has(ROUTE));
    assert_eq!(world.instance.routes_of_peer("nva1"), Some(vec![]));
}

#[test]
fn a_peer_that_is_back_without_its_forwarding_state_loses_the_routes_at_once() {
    let lost = GracefulRestart {
        forwarding: FamilySet::default(),
        ..graceful()
    };
    let unlisted = GracefulRestart {
        families: FamilySet::default(),
        ..lost
    };
    let back_with = [Some(lost), Some(unlisted), None];
    for graceful in back_with {
        let mut world = world_with(gracefully(), restarts);
        world.kill("nva1");
        let long_lived = None;
        world.offer("nva1", RestartOffer { graceful, long_lived });
        world.revive("nva1");
        assert!(!world.has(ROUTE), "{graceful:?}");
    }
}

#[test]
fn a_peer_that_never_says_end_of_rib_is_waited_for_no_longer_than_the_bound_and_silence_says_nothing() {
    let mut world = world_with(gracefully(), restarts);
    world.kill("nva1");
    world.revive("nva1");
    world.advance(LONGEST_RESYNC - Duration::from_secs(1));
    assert!(world.has(ROUTE));
    world.advance_secs(1);
    assert!(!world.has(ROUTE));
    assert_eq!(world.nvas["nva1"].established, 2, "the session goes on");
}

//= https://www.rfc-editor.org/rfc/rfc4724#section-4.2
//# To deal with possible consecutive restarts, a route (from the peer) previously marked as stale MUST be deleted.
#[test]
fn what_was_not_said_again_before_the_next_restart_goes() {
    let mut world = world_with(gracefully(), restarts);
    world.kill("nva1");
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    world.kill("nva1");
    assert!(world.has(ROUTE) && !world.has(OTHER));
}

#[test]
fn a_notification_is_a_restart_where_both_have_the_n_bit_and_a_hard_reset_never_is() {
    let shutdown = || Notification::cease(CeaseSubcode::AdministrativeShutdown);
    let without = RestartOffer {
        graceful: Some(GracefulRestart {
            notification: false,
            ..graceful()
        }),
        long_lived: None,
    };
    let cases = [
        (gracefully(), shutdown(), true),
        (without, shutdown(), false),
        (gracefully(), Notification::hard_reset(&shutdown()), false),
    ];
    for (offer, notification, expected) in cases {
        let mut world = world_with(offer, restarts);
        world.notify("nva1", notification.clone());
        assert_eq!(world.has(ROUTE), expected, "{notification}");
    }
}

#[test]
fn what_the_operator_ends_is_not_kept_and_what_is_kept_goes_when_the_operator_says_so() {
    let ends: [fn(&mut World); 4] = [
        |world| world.edit(|intent| intent.route_servers[0].peers[0].admin_down = true),
        |world| world.edit(|intent| _ = intent.route_servers[0].peers.remove(0)),
        |world| world.edit(|intent| intent.route_servers[0].peers[0].hold_time_secs = 30),
        |world| {
            let peer = "nva1".to_owned();
            world.input(Input::ResetPeer { peer, soft: false });
        },
    ];
    for end in ends {
        let mut world = world_with(for_long(), restarts);
        world.edit(|intent| intent.route_servers[0].persist_routes = PersistRoutes::Forever);
        world.nvas.get_mut("nva1").unwrap().alive = false;
        end(&mut world);
        assert!(!world.has(ROUTE));

        let mut world = world_with(for_long(), restarts);
        world.kill("nva1");
        assert!(world.has(ROUTE));
        end(&mut world);
        assert!(!world.has(ROUTE));
    }
}

#[test]
fn a_peer_over_its_limit_keeps_nothing_and_stale_routes_do_not_count() {
    let mut world = world_with(gracefully(), |intent| {
        restarts(intent);
        intent.route_limit = 2;
    });
    world.kill("nva1");
    world.revive("nva1");
    // Two others: with what is stale these are four.
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.252.0.0/16", "10.253.0.0/16"]);
    assert_eq!(world.instance.peers(world.now, None)[0].routes_stale, 2);
    assert_eq!(world.nvas["nva1"].notifications, []);
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.254.0.0/16"]);
    let notification = &world.nvas["nva1"].notifications[0];
    assert_eq!(notification.hard_reset_reason().unwrap().subcode, 1);
    assert_eq!(world.instance.routes_of_peer("nva1"), Some(vec![]));
}

#[test]
fn after_the_restart_time_routes_are_a_last_resort_for_the_shorter_of_both_stale_times() {
    let mut world = world_with(for_long(), restarts);
    world.kill("nva1");
    world.advance_secs(RESTART_SECS);
    assert_eq!(world.phases(), ["long-lived"]);
    assert!(world.has(ROUTE));
    assert_eq!(world.route("nva1", ROUTE).unwrap().communities, ["65535:6"]);
    // However long its path is, any other wins.
    world.announce("nva2", path("10.1.4.5", &[65002, 65003, 65004]), &[ROUTE]);
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.5"]);
    assert_eq!(world.verdict("nva1", ROUTE), "lost last-resort");
    world.advance_secs(u64::from(STALE_SECS) - 1);
    assert!(world.has(OTHER));
    world.advance_secs(1);
    assert!(!world.has(OTHER));

    let mut world = world_with(for_long(), |intent| {
        restarts(intent);
        intent.long_lived_stale_time_secs = 10;
    });
    world.kill("nva1");
    world.advance_secs(RESTART_SECS + 10);
    assert!(!world.has(OTHER));
}

//= https://www.rfc-editor.org/rfc/rfc9494#section-4.2
//# If any of the routes from the peer have been marked with the NO_LLGR community, ... they MUST NOT be retained
#[test]
fn routes_that_are_not_to_be_kept_for_long_go_with_the_restart_time() {
    let mut world = world_with(for_long(), restarts);
    let brief = path("10.1.4.4", &[65001]).add_community(Community::NO_LLGR);
    world.announce("nva1", brief, &[ROUTE]);
    world.kill("nva1");
    world.advance_secs(RESTART_SECS - 1);
    assert!(world.has(ROUTE));
    world.advance_secs(1);
    assert!(!world.has(ROUTE) && world.has(OTHER));
}

#[test]
fn a_long_lived_route_that_is_said_again_is_none_any_more() {
    let mut world = world_with(for_long(), restarts);
    world.kill("nva1");
    world.advance_secs(RESTART_SECS);
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    assert_eq!(world.route("nva1", ROUTE).unwrap().communities, Vec::<String>::new());
    assert_eq!(world.route("nva1", OTHER).unwrap().communities, ["65535:6"]);
    world.end_of_rib("nva1");
    assert!(world.has(ROUTE) && !world.has(OTHER));
}

//= https://www.rfc-editor.org/rfc/rfc9494#section-4.2
//# in the case of consecutive restarts, the previously marked stale routes MUST NOT be deleted before the timer for the Long-Lived
//# Stale Time expires.
#[test]
fn a_session_that_comes_and_goes_does_not_change_how_long_long_lived_routes_last() {
    let mut world = world_with(for_long(), restarts);
    world.kill("nva1");
    world.advance_secs(RESTART_SECS);
    let ends = world.now + Duration::from_secs(STALE_SECS.into());
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    world.kill("nva1");
    assert!(world.has(ROUTE) && world.has(OTHER));
    assert_eq!(world.route("nva1", ROUTE).unwrap().communities, ["65535:6"]);
    world.advance(ends - world.now - Duration::from_secs(1));
    assert!(world.has(ROUTE) && world.has(OTHER));
    world.advance_secs(1);
    assert!(!world.has(ROUTE) && !world.has(OTHER));
}

#[test]
fn a_peer_that_comes_and_goes_with_other_routes_each_time_has_no_more_kept_than_it_may_announce() {
    let mut world = world_with(for_long(), |intent| {
        restarts(intent);
        intent.route_limit = 3;
    });
    world.kill("nva1");
    world.advance_secs(RESTART_SECS);
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.252.0.0/16"]);
    world.kill("nva1");
    assert!(world.has(ROUTE) && world.has("10.252.0.0/16"), "these are three");
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &["10.253.0.0/16"]);
    world.kill("nva1");
    assert!(!world.has(ROUTE) && !world.has("10.252.0.0/16"));
    assert!(world.has("10.253.0.0/16"));
    assert_eq!(world.phases(), ["long-lived"]);
}

//= https://www.rfc-editor.org/rfc/rfc9494#section-4.3
//# The route SHOULD NOT be advertised to any neighbor from which the Long-Lived Graceful Restart Capability has not been received.
#[test]
fn stale_routes_are_told_to_those_who_know_what_that_is_unless_they_are_persisted() {
    let mut world = world_with(for_long(), restarts);
    world.edit(|intent| {
        intent.route_servers[0].branch_to_branch = true;
        let mut third = peer("nva3", "10.1.4.6", 65003);
        restarts(&mut third);
        intent.route_servers[0].peers.push(third);
    });
    world.add_nva("nva3", "10.1.4.6", 65003, FamilySet::IPV4);
    world.offer("nva3", for_long());
    world.advance_secs(30);
    assert_eq!(world.told("nva2", ROUTE).unwrap(), "65515-65001 10.1.1.4 65517:65517");
    world.kill("nva1");
    world.advance_secs(RESTART_SECS);
    assert_eq!(world.told("nva2", ROUTE), None);
    assert_eq!(
        world.told("nva3", ROUTE).unwrap(),
        "65515-65001 10.1.1.4 65535:6 65517:65517"
    );
    world.edit(|intent| intent.route_servers[0].persist_routes = PersistRoutes::Forever);
    assert_eq!(
        world.told("nva2", ROUTE).unwrap(),
        "65515-65001 10.1.1.4 65535:6 65517:65517"
    );
}

#[test]
fn what_an_inbound_map_made_of_a_stale_route_is_a_last_resort_too() {
    let mut world = world_with(for_long(), |intent| {
        restarts(intent);
        intent.inbound_route_map = Some(super::route_maps::clearing_communities());
    });
    world.announce("nva2", path("10.1.4.5", &[65002, 65003, 65004]), &[ROUTE]);
    assert!(world.has(ROUTE));
    world.kill("nva1");
    world.advance_secs(RESTART_SECS);
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.5"]);
}

#[test]
fn persisted_routes_are_kept_whatever_the_peer_can_as_long_as_is_set() {
    let mut world = persisting(PersistRoutes::Forever);
    world.kill("nva1");
    assert_eq!(world.phases(), ["persisted"]);
    world.advance_secs(1_000_000);
    assert!(world.has(ROUTE));
    assert!(world.route("nva1", ROUTE).unwrap().stale_secs.unwrap() >= 1_000_000);
    world.announce("nva2", path("10.1.4.5", &[65002, 65003]), &[ROUTE]);
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.5"]);

    let mut world = persisting(PersistRoutes::Minutes(3));
    world.kill("nva1");
    world.advance_secs(179);
    assert!(world.has(ROUTE));
    world.advance_secs(1);
    assert!(!world.has(ROUTE));

    let mut world = persisting(PersistRoutes::Off);
    world.kill("nva1");
    assert!(!world.has(ROUTE));
}

#[test]
fn persisted_routes_of_a_peer_that_never_says_end_of_rib_go_when_it_is_quiet() {
    let mut world = persisting(PersistRoutes::Forever);
    world.kill("nva1");
    world.revive("nva1");
    world.announce("nva1", path("10.1.4.4", &[65001]), &[ROUTE]);
    world.advance_secs(4);
    assert!(world.has(OTHER));
    world.advance_secs(1);
    assert!(world.has(ROUTE) && !world.has(OTHER));
    assert_eq!(world.route("nva1", ROUTE).unwrap().communities, Vec::<String>::new());
}

#[test]
fn another_setting_holds_for_what_is_persisted_already() {
    let mut world = persisting(PersistRoutes::Forever);
    world.kill("nva1");
    world.advance_secs(100);
    world.edit(|intent| intent.route_servers[0].persist_routes = PersistRoutes::Minutes(2));
    assert!(world.has(ROUTE));
    world.advance_secs(20);
    assert!(!world.has(ROUTE));

    let mut world = persisting(PersistRoutes::Forever);
    world.kill("nva1");
    world.edit(|intent| intent.route_servers[0].persist_routes = PersistRoutes::Off);
    assert!(!world.has(ROUTE));
}

#[test]
fn where_bfd_says_that_packets_do_not_arrive_routes_are_a_last_resort_at_once() {
    let mut world = world_with(for_long(), restarts);
    world.notify("nva1", Notification::cease(CeaseSubcode::BfdDown));
    assert_eq!(world.phases(), ["long-lived"]);
}

#[test]
fn a_path_that_is_lost_while_routes_are_kept_ends_the_graceful_phase_if_bfd_outlives_bgp_there() {
    let restarting = |offer: RestartOffer, independent: bool| {
        let mut world = world_with(offer, |peer| {
            restarts(peer);
            peer.bfd = Some(bfd::fast());
        });
        bfd::changed_of(&mut world, State::Init, State::Up, State::Up, independent);
        world.kill("nva1");
        assert_eq!(world.phases(), ["graceful"]);
        bfd::changed_of(&mut world, State::Up, State::Down, State::Down, independent);
        world
    };
    assert!(!restarting(gracefully(), true).has(ROUTE));
    assert_eq!(restarting(for_long(), true).phases(), ["long-lived"]);
    // Its BFD is gone with its BGP, as in any restart: RFC 5882 §4.3.2.2.
    let world = restarting(gracefully(), false);
    assert!(world.has(ROUTE));
    assert_eq!(world.phases(), ["graceful"]);
}

#[test]
fn a_drained_peer_is_a_last_resort_and_is_told_that_we_are_one() {
    let mut world = world_with(RestartOffer::default(), |_| {});
    world.announce("nva2", path("10.1.4.5", &[65002, 65003]), &[ROUTE]);
    let drain = |world: &mut World, drain| world.edit(|intent| intent.route_servers[0].peers[0].drain = drain);
    drain(&mut world, true);
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.5"]);
    assert!(world.has(OTHER), "there is no other way");
    assert_eq!(world.told("nva1", "10.1.0.0/16").unwrap(), "65515 10.1.1.4 65535:0");
    assert_eq!(world.told("nva2", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
    let report = world.instance.peers(world.now, None)[0].drain.unwrap();
    assert_eq!((report.prefixes, report.without_other_way), (1, 1));
    drain(&mut world, false);
    assert!(world.has(ROUTE));
    assert_eq!(world.told("nva1", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
    assert_eq!(world.nvas["nva1"].established, 1, "the session goes on");
}

#[test]
fn a_drained_instance_ranks_behind_the_other_whatever_the_paths() {
    let mut world = world_with(RestartOffer::default(), |_| {});
    let rank = |world: &World| {
        let rows = world.instance.effective_routes("vm").unwrap();
        rows.iter()
            .find(|row| row.address_prefix == net(ROUTE))
            .unwrap()
            .rank
            .unwrap()
    };
    let usual = rank(&world);
    world.input(Input::Drain { on: true });
    assert!(rank(&world) > usual && rank(&world) >> 63 == 1);
    assert_eq!(world.told("nva2", "10.1.0.0/16").unwrap(), "65515 10.1.1.4 65535:0");
    assert!(world.instance.health().drained);
    world.input(Input::Drain { on: false });
    assert_eq!(rank(&world), usual);
    assert_eq!(world.told("nva2", "10.1.0.0/16").unwrap(), "65515 10.1.1.4");
}

// RFC 8326 §4.1.
#[test]
fn a_route_of_a_peer_that_is_about_to_leave_is_a_last_resort() {
    let mut world = world_with(RestartOffer::default(), |_| {});
    world.announce("nva2", path("10.1.4.5", &[65002, 65003]), &[ROUTE]);
    assert!(world.has(ROUTE));
    let leaving = path("10.1.4.4", &[65001]).add_community(Community::GRACEFUL_SHUTDOWN);
    world.announce("nva1", leaving, &[ROUTE]);
    assert_eq!(world.next_hops("vm", ROUTE), ["10.1.4.5"]);
}

#[test]
fn an_instance_that_has_restarted_says_so_and_holds_end_of_rib_until_it_has_heard_everybody() {
    let mut world = idle_world();
    world.instance = Instance::new(0, 2, 42, rib::HashKey::new(1, 2), world.now);
    world.instance.has_restarted();
    let mut first = peer("nva1", "10.1.4.4", 65001);
    restarts(&mut first);
    world.intent.route_servers[0].peers = vec![first, peer("nva2", "10.1.4.5", 65002)];
    world.intent.route_servers[0].branch_to_branch = true;
    for (name, address, asn) in [("nva1", "10.1.4.4", 65001), ("nva2", "10.1.4.5", 65002)] {
        world.add_nva(name, address, asn, FamilySet::IPV4);
    }
    world.offer("nva1", gracefully());
    world.send_intent();
    let says = |world: &World| {
        let negotiated = world.nvas["nva1"].session.status().negotiated;
        let restart = negotiated.unwrap().restart.unwrap();
        (restart.restarted, restart.forwarding == FamilySet::IPV4)
    };
    assert_eq!(says(&world), (true, true));
    world.end_of_rib("nva1");
    assert_eq!((world.nvas["nva1"].end_of_rib, world.nvas["nva2"].end_of_rib), (0, 1));
    world.announce("nva2", path("10.1.4.5", &[65002]), &[ROUTE]);
    world.end_of_rib("nva2");
    assert!(world.told("nva1", ROUTE).is_some());
    assert_eq!(world.nvas["nva1"].end_of_rib, 1);
    // What comes later is of a speaker that has not restarted.
    world.kill("nva1");
    world.revive("nva1");
    assert_eq!(says(&world), (false, true));
    assert_eq!(world.nvas["nva1"].end_of_rib, 2);
}

#[test]
fn a_peer_that_has_restarted_as_well_need_not_wait_for_end_of_rib() {
    let mut world = idle_world();
    let mut first = peer("nva1", "10.1.4.4", 65001);
    restarts(&mut first);
    world.intent.route_servers[0].peers = vec![first];
    world.add_nva("nva1", "10.1.4.4", 65001, FamilySet::IPV4);
    let restarted = GracefulRestart {
        restarted: true,
        ..graceful()
    };
    let graceful = Some(restarted);
    world.offer(
        "nva1",
        RestartOffer {
            graceful,
            long_lived: None,
        },
    );
    world.send_intent();
    assert!(world.instance.health().converging);
    assert_eq!(world.nvas["nva1"].end_of_rib, 1);
}

#[test]
fn an_instance_that_leaves_says_nothing_to_those_who_keep_its_routes() {
    let mut world = world_with(gracefully(), restarts);
    world.input(Input::Shutdown);
    assert!(world.finished);
    assert_eq!(world.nvas["nva1"].notifications, []);
    assert_eq!(world.nvas["nva2"].notifications[0].subcode, 2);
    let down = world.nvas["nva1"].session.status().history.last_down.unwrap();
    assert!(down.reason.starts_with("connection lost"), "{}", down.reason);
    assert_eq!(world.nvas["nva1"].session.state(), session::State::Active);
}

#[test]
fn a_dry_run_knows_routes_that_are_kept() {
    let mut world = persisting(PersistRoutes::Forever);
    world.kill("nva1");
    let outline = world.instance.outline();
    let peers: Vec<&str> = outline.peers().unwrap().collect();
    assert_eq!(peers, ["nva1", "nva2"]);
    assert!(world.instance.heard("nva1").is_some());
}
