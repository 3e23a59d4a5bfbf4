//! Prefixes of sites that speak no BGP: what a local network gateway says is behind a tunnel (az §2.6).
//!
//! Each far end of a tunnel is a peer of the RIB that has said its prefixes with an empty path: so they are judged, compete, and join
//! others of equal cost as routes of peers do. Where a site's router speaks BGP as well, it is not told them back: whose they are is said
//! by the intent, since a router seldom speaks with the address that the tunnel ends at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::{Announcement, PathAttributes};
use bgp::{BgpIdentifier, IpNet};
use rib::report::PathReport;
use rib::{PeerIndex, PeerInfo, RouteSource};
use rustc_hash::FxHashMap;

use super::{Speaker, precedence};
use crate::route_map::RouteMap;

/// The far ends, and what is behind each.
#[derive(Debug, Default)]
pub(crate) struct StaticRoutes(BTreeMap<FarEnd, Tunnel>);

/// A tunnel's address there, and the peering (id) with the router behind it.
type FarEnd = (IpAddr, Option<String>);

#[derive(Debug)]
struct Tunnel {
    peer: PeerIndex,
    /// The site's router.
    router: Option<PeerIndex>,
    prefixes: BTreeSet<IpNet>,
}

impl Speaker {
    /// From the static routes that are to those that the intent wants. `routers` are the peers that there are, by id.
    pub(crate) fn set_static_routes(&mut self, routers: &FxHashMap<&str, PeerIndex>) {
        let mut by_far_end: BTreeMap<FarEnd, BTreeSet<IpNet>> = BTreeMap::new();
        for route in &self.intent.static_routes {
            let far_end = (route.next_hop, route.peering.clone());
            by_far_end.entry(far_end).or_default().insert(route.prefix.trunc());
        }
        let router = |(_, peering): &FarEnd| routers.get(peering.as_deref()?).copied();
        let tunnels = self.static_routes.0.iter();
        let going: Vec<FarEnd> = tunnels
            .filter(|(far_end, tunnel)| !by_far_end.contains_key(*far_end) || tunnel.router != router(far_end))
            .map(|(far_end, _)| far_end.clone())
            .collect();
        for far_end in going {
            if let Some(tunnel) = self.static_routes.0.remove(&far_end) {
                self.remove_peer(tunnel.peer);
                self.unsettled = true;
            }
        }
        for (far_end, prefixes) in by_far_end {
            let router = router(&far_end);
            self.set_tunnel(far_end, router, prefixes);
        }
    }

    fn set_tunnel(&mut self, far_end: FarEnd, router: Option<PeerIndex>, wanted: BTreeSet<IpNet>) {
        let tunnel = self.static_routes.0.remove(&far_end);
        let next_hop = far_end.0;
        let info = self.tunnel_info(next_hop);
        let Tunnel { peer, prefixes, .. } = tunnel.unwrap_or_else(|| Tunnel {
            peer: match router {
                Some(router) => self.rib.add_voice(router, info.clone()),
                None => self.rib.add_peer(info.clone()),
            },
            router,
            prefixes: BTreeSet::new(),
        });
        let map = self.tunnel_map(&far_end);
        self.set_inbound_map(peer, info, map.as_ref());
        let gone: Vec<IpNet> = prefixes.difference(&wanted).copied().collect();
        let come: Vec<IpNet> = wanted.difference(&prefixes).copied().collect();
        if !gone.is_empty() {
            self.withdraw(peer, &gone);
        }
        if !come.is_empty() {
            let announcement = Announcement {
                attributes: Arc::new(PathAttributes::builder(next_hop).build()),
                prefixes: come,
            };
            self.announce(peer, &announcement);
        }
        let tunnel = Tunnel {
            peer,
            router,
            prefixes: wanted,
        };
        self.static_routes.0.insert(far_end, tunnel);
        self.unsettled = true;
    }

    /// The inbound route map of the connection whose tunnel this is.
    fn tunnel_map(&self, (next_hop, peering): &FarEnd) -> Option<RouteMap> {
        let mut maps = self.intent.static_route_maps.iter();
        let found = maps.find(|map| map.next_hop == *next_hop && map.peering == *peering);
        found.map(|map| map.inbound_route_map.clone())
    }

    fn tunnel_info(&self, next_hop: IpAddr) -> PeerInfo {
        PeerInfo {
            identifier: BgpIdentifier(Ipv4Addr::UNSPECIFIED),
            address: next_hop,
            asn: self.intent.asn,
            external: true,
            source: RouteSource::Static,
            import_preference: precedence(RouteSource::Static),
            last_resort: false,
        }
    }

    /// Static routes with where they stand, and the far end of each.
    pub(crate) fn static_routes(&self) -> impl Iterator<Item = (IpAddr, PathReport)> + '_ {
        let tunnels = self.static_routes.0.iter();
        tunnels.flat_map(|((next_hop, _), tunnel)| {
            let received = self.rib.received(tunnel.peer);
            received.into_iter().map(|path| (*next_hop, path))
        })
    }

    /// The far end whose static routes these are.
    pub(crate) fn tunnel_of(&self, peer: PeerIndex) -> Option<IpAddr> {
        let mut tunnels = self.static_routes.0.iter();
        tunnels
            .find(|(_, tunnel)| tunnel.peer == peer)
            .map(|((next_hop, _), _)| *next_hop)
    }
}
