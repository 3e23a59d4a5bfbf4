//! An agent understands an instance of the release before, octet by octet: one that knows no layers.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::IpAddr;

use agent::merge::{Merge, WantedWay};
use agent::tables::Tables;
use api::agent::ToAgent;
use ipnet::IpNet;
use prost::Message;

/// What it sends, recorded.
const SAID: [&[u8]; 8] = [
    // Welcome: instance 0 of life 5, silence 10 s.
    &[10, 4, 16, 5, 24, 10],
    // Nic: vm, table 7, 10.1.0.5, 10.1.0.0/24, gateway 10.1.0.1.
    &[
        18, 28, 10, 2, 118, 109, 16, 7, 26, 4, 10, 1, 0, 5, 34, 8, 10, 4, 10, 1, 0, 0, 16, 24, 42, 4, 10, 1, 0, 1,
    ],
    // Snapshot of generation 1, first piece: group 1 (10.1.1.4), 10.250.0.0/16 through it.
    &[
        26, 32, 8, 7, 16, 1, 26, 10, 8, 1, 18, 4, 10, 1, 1, 4, 32, 100, 42, 12, 10, 8, 10, 4, 10, 250, 0, 0, 16, 16,
        40, 1, 56, 1,
    ],
    // and the last one: a blackhole for 10.251.0.0/16.
    &[26, 18, 8, 7, 16, 1, 42, 12, 10, 8, 10, 4, 10, 251, 0, 0, 16, 16, 48, 1],
    // converged.
    &[40, 1],
    // Delta of generation 2: group 1 is 10.1.1.5.
    &[34, 16, 8, 7, 16, 2, 26, 10, 8, 1, 18, 4, 10, 1, 1, 5, 32, 100],
    // Delta of generation 3: 10.251.0.0/16 goes.
    &[34, 14, 8, 7, 16, 3, 50, 8, 10, 4, 10, 251, 0, 0, 16, 16],
    // Heartbeat.
    &[50, 0],
];

/// What the agent would have in the kernel, as text.
fn wanted(merge: &Merge) -> Vec<String> {
    let way = |way: &WantedWay| match way {
        WantedWay::Group(group) => {
            let members: Vec<String> = merge.groups()[group].iter().map(IpAddr::to_string).collect();
            members.join(",")
        }
        other => format!("{other:?}"),
    };
    let mut wanted: Vec<String> = merge
        .routes()
        .iter()
        .map(|(prefix, wanted): (&IpNet, &WantedWay)| format!("{prefix} {}", way(wanted)))
        .collect();
    wanted.sort();
    wanted
}

#[test]
fn an_instance_of_the_release_before_is_followed() {
    let (mut tables, mut merge) = (Tables::default(), Merge::new(1, true));
    let mut confirmed = None;
    let mut after = |octets: &[u8]| {
        for told in tables.handle(ToAgent::decode(octets).unwrap()).unwrap() {
            confirmed = told.confirm.or(confirmed);
            merge.handle(0, told.said);
        }
        (
            wanted(&merge),
            confirmed.map(|confirm| (confirm.table, confirm.generation, confirm.base)),
        )
    };
    for octets in &SAID[..4] {
        after(octets);
    }
    let (routes, confirmed) = after(SAID[4]);
    assert_eq!(routes, ["10.250.0.0/16 10.1.1.4", "10.251.0.0/16 Blackhole"]);
    assert_eq!(confirmed, Some((7, 1, None)));
    let (routes, _) = after(SAID[5]);
    assert_eq!(routes, ["10.250.0.0/16 10.1.1.5", "10.251.0.0/16 Blackhole"]);
    let (routes, _) = after(SAID[6]);
    assert_eq!(routes, ["10.250.0.0/16 10.1.1.5"]);
    let (routes, confirmed) = after(SAID[7]);
    assert_eq!(routes.len(), 1);
    assert_eq!(confirmed, Some((7, 3, None)));
}
