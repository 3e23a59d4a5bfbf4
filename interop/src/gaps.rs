//! Cells of the matrix that are known to fail. They are ignored with the reason, so that they count neither as passed nor as done;
//! each one is work to do.

use lab::topology::Software;

use crate::scenarios::Scenario;
use crate::speaker::Speaker;

const GAPS: &[(Software, &str, &str)] = &[
    (
        Software::Frr,
        "route_refresh_brings_the_routes_again",
        "no UPDATE is seen to come again; FRR 8 suppresses duplicates by default, and the check counts messages",
    ),
    (
        Software::Frr,
        "silence_ends_the_session_after_the_hold_time",
        "routes announced in the scenario before it are not withdrawn in time; not looked into yet",
    ),
    (
        Software::Openbgpd,
        "next_hop_may_be_another_than_the_peer",
        "OpenBGPD does not announce the other next hop as the lab configures it",
    ),
    (
        Software::Openbgpd,
        "no_advertise_programmes_vms_and_tells_no_nva",
        "the lab sets the community where OpenBGPD then keeps the route to itself",
    ),
    (
        Software::Openbgpd,
        "route_refresh_brings_the_routes_again",
        "no second UPDATE is seen; not looked into yet",
    ),
    (
        Software::Openbgpd,
        "ten_thousand_routes_come_and_go",
        "not all withdrawals are seen in time; not looked into yet",
    ),
    (
        Software::Openbgpd,
        "too_many_prefixes_end_the_session",
        "the words of its log for Cease/1 are a guess",
    ),
    (
        Software::Openbgpd,
        "md5_must_match_on_both_sides",
        "the sessions do not come back after the scenario before it; not looked into yet",
    ),
];

/// Why the cell is known to fail.
pub fn known_gap(speaker: Speaker, scenario: &Scenario) -> Option<&'static str> {
    let cell = GAPS
        .iter()
        .find(|(software, name, _)| *software == speaker.0 && *name == scenario.name)?;
    Some(cell.2)
}
