//! Prefixes of sites that speak no BGP: what a local network gateway says is behind a tunnel (az §2.6).
//!
//! Each far end of a tunnel is a peer of the RIB that has said its prefixes with an empty path: so they are judged, compete, and join
//! others of equal cost as routes of peers do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::{Announcement, PathAttributes};
use bgp::{BgpIdentifier, IpNet};
use rib::report::PathReport;
use rib::{PeerIndex, PeerInfo, RouteSource};

use super::Speaker;
use crate::intent::StaticRouteIntent;

/// The far ends, and what is behind each.
#[derive(Debug, Default)]
pub(crate) struct StaticRoutes(BTreeMap<IpAddr, Tunnel>);

#[derive(Debug)]
struct Tunnel {
    peer: PeerIndex,
    prefixes: BTreeSet<IpNet>,
}

impl Speaker {
    /// From the static routes that are to those that are wanted.
    pub(super) fn set_static_routes(&mut self, wanted: &[StaticRouteIntent]) {
        let mut by_next_hop: BTreeMap<IpAddr, BTreeSet<IpNet>> = BTreeMap::new();
        for route in wanted {
            let prefixes = by_next_hop.entry(route.next_hop).or_default();
            prefixes.insert(route.prefix.trunc());
        }
        let going: Vec<IpAddr> = self
            .static_routes
            .0
            .keys()
            .filter(|next_hop| !by_next_hop.contains_key(*next_hop))
            .copied()
            .collect();
        for next_hop in going {
            if let Some(tunnel) = self.static_routes.0.remove(&next_hop) {
                self.remove_peer(tunnel.peer);
            }
        }
        for (next_hop, prefixes) in by_next_hop {
            self.set_tunnel(next_hop, prefixes);
        }
    }

    fn set_tunnel(&mut self, next_hop: IpAddr, wanted: BTreeSet<IpNet>) {
        let tunnel = self.static_routes.0.remove(&next_hop);
        let Tunnel { peer, prefixes } = tunnel.unwrap_or_else(|| Tunnel {
            peer: self.add_peer(self.tunnel_info(next_hop), None),
            prefixes: BTreeSet::new(),
        });
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
        let tunnel = Tunnel { peer, prefixes: wanted };
        self.static_routes.0.insert(next_hop, tunnel);
    }

    fn tunnel_info(&self, next_hop: IpAddr) -> PeerInfo {
        PeerInfo {
            identifier: BgpIdentifier(Ipv4Addr::UNSPECIFIED),
            address: next_hop,
            asn: self.intent.asn,
            external: true,
            source: RouteSource::Static,
            import_preference: 0,
        }
    }

    /// Static routes with where they stand, and the far end of each.
    pub(crate) fn static_routes(&self) -> impl Iterator<Item = (IpAddr, PathReport)> + '_ {
        let tunnels = self.static_routes.0.iter();
        tunnels.flat_map(|(next_hop, tunnel)| {
            let received = self.rib.received(tunnel.peer);
            received.into_iter().map(|path| (*next_hop, path))
        })
    }

    /// The far end whose static routes these are.
    pub(crate) fn tunnel_of(&self, peer: PeerIndex) -> Option<IpAddr> {
        let mut tunnels = self.static_routes.0.iter();
        tunnels
            .find(|(_, tunnel)| tunnel.peer == peer)
            .map(|(next_hop, _)| *next_hop)
    }
}
