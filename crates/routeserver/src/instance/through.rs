//! Where packets of a gateway go that hears a route server over eBGP. A gateway of the route server's AS is told the NVA's own address as
//! next hop; one with a number of its own is told the instance's (az §2.6), and that forwards nothing. So for its kernel the route
//! server's choice of this process stands in for the instance. What it is told with the other process's instance as next hop it refuses
//! (`SpeakerIntent::out_of_sight`): it would tell sites of prefixes that its kernel drops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rib::{Change, Choice};

use crate::instance::Instance;
use crate::intent::PeerKind;
use crate::speaker::Speaker;
use crate::vnet::LocRib;

/// What changed in the Loc-RIB of each speaker that was decided, by id.
pub(super) type Decided = BTreeMap<String, Vec<Change>>;

impl Instance {
    /// Says of such gateways what changed for their kernels: what they have decided, and what the route server has.
    pub(super) fn see_through(&self, decided: &mut Decided) {
        for (id, gateway) in &self.speakers {
            let Some(route_server) = self.heard_over_ebgp(gateway) else {
                continue;
            };
            let both = [id, &route_server.intent.id];
            let changes = both.into_iter().filter_map(|id| decided.get(id)).flatten();
            let prefixes: BTreeSet<IpNet> = changes.map(|change| change.prefix).collect();
            let held = |prefix: &IpNet| gateway.loc_rib().and_then(|loc_rib| loc_rib.get(prefix).cloned());
            let changes = prefixes
                .into_iter()
                .map(|prefix| seen_through(prefix, gateway, route_server))
                .filter(|change| held(&change.prefix) != change.choice);
            let changes: Vec<Change> = changes.collect();
            decided.insert(id.clone(), changes);
        }
    }

    /// The Loc-RIB of a speaker as tables read it, made anew.
    pub(super) fn loc_rib_of(&self, speaker: &Speaker) -> LocRib {
        let all = speaker.rib.loc_rib();
        let all = match self.heard_over_ebgp(speaker) {
            None => all,
            Some(route_server) => {
                let prefixes = all.into_iter().map(|change| change.prefix);
                prefixes
                    .map(|prefix| seen_through(prefix, speaker, route_server))
                    .collect()
            }
        };
        let mut loc_rib = LocRib::new(self.key);
        loc_rib.apply(all);
        loc_rib
    }

    /// The route server that a gateway hears over eBGP, if it is spoken for here.
    pub(super) fn heard_over_ebgp<'a>(&'a self, gateway: &Speaker) -> Option<&'a Speaker> {
        let peers = gateway.intent.peers.iter();
        let mut route_servers = peers.filter(|peer| peer.kind == PeerKind::RouteServer);
        let peer = route_servers.find(|peer| peer.asn != gateway.intent.asn)?;
        let mut speakers = self.speakers.values();
        speakers.find(|speaker| {
            speaker.intent.instances.contains(&peer.address)
                && speaker.intent.virtual_network == gateway.intent.virtual_network
        })
    }
}

/// A gateway's choice for a prefix, the route server's in place of its instances.
fn seen_through(prefix: IpNet, gateway: &Speaker, route_server: &Speaker) -> Change {
    let through = route_server.rib.choice(&prefix);
    let through = through.as_deref();
    let instances = &route_server.intent.instances;
    let choice = gateway.rib.choice(&prefix).and_then(|choice| {
        let next_hops = replaced(&choice.next_hops, instances, through.map(|choice| &choice.next_hops));
        let fallback = replaced(&choice.fallback, instances, through.map(|choice| &choice.fallback));
        let fallback = fallback.into_iter().filter(|hop| !next_hops.contains(hop)).collect();
        (!next_hops.is_empty()).then(|| {
            Arc::new(Choice {
                next_hops,
                fallback,
                rank: choice.rank,
            })
        })
    });
    Change { prefix, choice }
}

fn replaced(next_hops: &[IpAddr], instances: &[IpAddr], through: Option<&Vec<IpAddr>>) -> Vec<IpAddr> {
    let others = next_hops.iter().filter(|hop| !instances.contains(hop));
    let is_through = next_hops.iter().any(|hop| instances.contains(hop));
    let through = through.filter(|_| is_through).into_iter().flatten();
    let all: BTreeSet<IpAddr> = others.chain(through).copied().collect();
    all.into_iter().collect()
}
