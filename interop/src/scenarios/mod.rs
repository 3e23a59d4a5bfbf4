//! The scenarios. Each opens with what it looks like and what it claims; [`World`] draws the lab that they all start from.

use anyhow::Result;

use crate::speaker::Speaker;
use crate::world::{Kind, World};

mod outlasting;
mod paths;
mod routes;
mod sessions;

/// A row of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// As in trial names: a sentence.
    pub name: &'static str,
    /// In which lab; those of one follow each other.
    pub(crate) kind: Kind,
    /// What it does.
    pub(crate) run: fn(&mut World) -> Result<()>,
    /// Why a speaker cannot do it, if so.
    pub not_applicable: fn(Speaker) -> Option<&'static str>,
}

/// All of them, in the order in which a speaker goes through them.
pub const SCENARIOS: [Scenario; 18] = [
    everybody(
        "session_comes_up_and_goes_down_with_the_nva",
        sessions::comes_up_and_goes_down,
    ),
    everybody("announced_prefix_reaches_the_kernel_of_every_vm", routes::announced),
    everybody("withdrawn_prefix_leaves_every_kernel", routes::withdrawn),
    everybody("equal_paths_of_two_nvas_share_the_load", paths::equal_cost),
    everybody("shorter_as_path_is_used_until_it_goes", paths::active_and_passive),
    everybody("next_hop_may_be_another_than_the_peer", paths::third_party_next_hop),
    everybody("no_advertise_programmes_vms_and_tells_no_nva", routes::no_advertise),
    Scenario {
        name: "route_refresh_brings_the_routes_again",
        kind: Kind::Plain,
        run: routes::refresh,
        not_applicable: Speaker::ignores_route_refresh,
    },
    everybody("ten_thousand_routes_come_and_go", routes::ten_thousand),
    everybody("too_many_prefixes_end_the_session", sessions::prefix_limit),
    everybody("silence_ends_the_session_after_the_hold_time", sessions::hold_timer),
    Scenario {
        name: "md5_must_match_on_both_sides",
        kind: Kind::Plain,
        run: sessions::md5,
        not_applicable: crate::password::not_applicable,
    },
    lasting(
        "an_nva_that_restarts_loses_no_route_and_no_packet",
        outlasting::the_nva_restarts,
        outlasting::cannot_restart,
    ),
    lasting(
        "instances_that_restart_are_waited_for",
        outlasting::both_instances_restart,
        outlasting::keeps_nothing,
    ),
    lasting(
        "long_lived_routes_are_a_last_resort",
        outlasting::long_lived,
        outlasting::not_long_lived,
    ),
    lasting(
        "what_is_about_to_go_is_a_last_resort",
        outlasting::graceful_shutdown,
        |_| None,
    ),
    lasting(
        "a_lost_path_ends_the_sessions_by_bfd",
        outlasting::bfd,
        outlasting::has_no_bfd,
    ),
    lasting(
        "instances_that_stood_still_take_no_route_from_a_vm",
        outlasting::instances_stand_still,
        outlasting::has_no_bfd,
    ),
];

const fn lasting(
    name: &'static str,
    run: fn(&mut World) -> Result<()>,
    not_applicable: fn(Speaker) -> Option<&'static str>,
) -> Scenario {
    Scenario {
        name,
        kind: Kind::Outlasting,
        run,
        not_applicable,
    }
}

const fn everybody(name: &'static str, run: fn(&mut World) -> Result<()>) -> Scenario {
    Scenario {
        name,
        kind: Kind::Plain,
        run,
        not_applicable: |_| None,
    }
}
