//! More routes than a peer may have, at once and again and again.

use bgp::IpNet;

use super::raw::Raw;
use super::{among, id, prefix};
use crate::world::until;

crate::tests![
    a_peer_with_a_million_routes_ends_at_its_limit,
    the_highest_limit_and_the_last_percent_are_numbers_like_others,
];

/// How many routes the flood has: `RW_FLOOD_ROUTES`, a million in the long form.
pub(super) fn flood() -> usize {
    std::env::var("RW_FLOOD_ROUTES").map_or(200_000, |routes| routes.parse().unwrap())
}

/// So many prefixes fit one UPDATE beside usual attributes.
pub(super) const PER_UPDATE: usize = 900;

// 2020-04-02: a member's full table took the memory of both route servers of an exchange.
fn a_peer_with_a_million_routes_ends_at_its_limit() {
    const LIMIT: u32 = 4_000;
    among(
        1,
        |_, peer| peer.route_limit = LIMIT,
        |scene| async move {
            for round in 1..=2u64 {
                let mut raw = Raw::establish(0).await;
                let all: Vec<IpNet> = (0..flood()).map(prefix).collect();
                for some in all.chunks(PER_UPDATE) {
                    let announcement = raw.announcement(some.iter().copied());
                    raw.send(&announcement).await;
                }
                // Cease / Maximum Number of Prefixes Reached, if it comes through before the connection is gone.
                let said = raw.is_ended().await;
                assert!(matches!(said, None | Some((6, 1))), "{said:?}");
                until("the instance has ended it", || async {
                    let report = scene.report(0).await;
                    let reason = report.last_down.map(|down| down.reason).unwrap_or_default();
                    report.established_count == round && reason.contains("more than the limit of 4000")
                })
                .await;
                // Kernels come first, then what it said is removed.
                until("nothing is kept of it", || async {
                    scene.report(0).await.routes_received == 0
                })
                .await;
            }
            scene
        },
    );
}

// FRR a2ae427708: an integer overflow in the warning threshold.
fn the_highest_limit_and_the_last_percent_are_numbers_like_others() {
    among(
        1,
        |_, peer| (peer.route_limit, peer.route_limit_warning_percent) = (u32::MAX, 100),
        |scene| async move {
            let mut raw = Raw::establish(0).await;
            for n in 0..100 {
                let announcement = raw.announcement((0..PER_UPDATE).map(|at| prefix(n * PER_UPDATE + at)));
                raw.send(&announcement).await;
            }
            until("all are held", || async {
                scene.report(0).await.routes_received == 100 * PER_UPDATE
            })
            .await;
            assert_eq!(
                scene.world.control.routes_of_peer(&id(0)).await.unwrap().len(),
                100 * PER_UPDATE
            );
            scene
        },
    );
}
