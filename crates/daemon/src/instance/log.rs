//! Events of the state machine, for the person at night.

use routeserver::instance::Event;

/// Says an event once, with the peer in a field.
pub(super) fn event(event: &Event) {
    match event {
        Event::PeerUp { peer, direction } => tracing::info!(peer, ?direction, "peer is up"),
        Event::PeerDown { peer, reason } => tracing::warn!(peer, reason, "peer is down"),
        Event::BfdUp { peer } => tracing::info!(peer, "BFD is up"),
        Event::BfdDown {
            peer,
            reason,
            path_lost: true,
        } => tracing::warn!(peer, reason, "BFD says that the path is lost"),
        Event::BfdDown { peer, reason, .. } => tracing::info!(peer, reason, "BFD is not up any more"),
        Event::PeerFailed { peer, reason } => tracing::info!(peer, reason, "no session yet"),
        Event::UpdateMended { peer, what, count } => {
            tracing::info!(peer, what, count, "malformed UPDATEs were mended (RFC 7606)")
        }
        Event::RouteLimitNear { peer, held, limit } => {
            tracing::warn!(peer, held, limit, "peer is near its route limit")
        }
        Event::MemoryShort {
            peer: Some(peer),
            held,
            used_mib,
            ceiling_mib,
        } => tracing::error!(
            peer,
            held,
            used_mib,
            ceiling_mib,
            "memory is near its ceiling (limits.memory_mib): the noisiest peer is ended"
        ),
        Event::MemoryShort {
            used_mib, ceiling_mib, ..
        } => tracing::error!(
            used_mib,
            ceiling_mib,
            "memory is near its ceiling (limits.memory_mib), and no peer holds much of it"
        ),
        Event::CircuitRoutes { peer, told, limit } => {
            tracing::warn!(peer, told, limit, "a circuit is told nearly all it takes, or more")
        }
        Event::RoutesKept {
            peer,
            family,
            phase,
            routes,
            until_secs,
        } => {
            tracing::warn!(peer, %family, phase, routes, until_secs, "routes of a session that has ended are kept")
        }
        Event::RoutesReleased { peer, family, routes } => {
            tracing::info!(peer, %family, routes, "routes that were kept and not said again are gone")
        }
        Event::UnknownCaller { remote } => tracing::info!(%remote, "a caller that is no peer was turned away"),
        // The route log's.
        Event::Announced { .. } | Event::Withdrawn { .. } | Event::BestChanged { .. } => {}
        Event::StoodStill { lasted } => tracing::warn!(
            ?lasted,
            "this process stood still, and peers gave it up: agents keep what it said until peers are back"
        ),
        Event::Converged => tracing::info!("converged: what this instance says now also removes routes"),
    }
}
