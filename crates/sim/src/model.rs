//! The model beside the clever code: everything from scratch, in the plainest words. It knows the topology, what the NVAs
//! that are alive announce, and Azure's rules; it knows nothing of sessions, generations, groups or deltas.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::{Community, PathAttributes};
use bgp::{Asn, IpNet};
use rib::RouteSource;
use routeserver::intent::{Intent, PeerIntent, PeeringIntent, SubnetIntent, UserNextHop, VirtualNetworkIntent};
use routeserver::route_map::{Outcome, Route, RouteMap};

use crate::kernel::Way;
use crate::nva::Nva;

pub mod branches;

use branches::{Candidate, Who};

/// Where packets go nowhere while nothing better is known (az §2.7).
const PRIVATE_SPACE: [&str; 4] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];

/// What NVAs are not told of has one of these.
const KEPT_BACK: [Community; 3] = [
    Community::NO_ADVERTISE,
    Community::NO_EXPORT,
    Community::NO_EXPORT_SUBCONFED,
];

/// What a VM's kernel should hold.
pub fn kernel_table(intent: &Intent, nvas: &[Nva], nic: &str) -> BTreeMap<IpNet, Way> {
    if let Some(table) = branches::kernel_table(intent, nvas, nic) {
        return table;
    }
    let Some((network, subnet, own)) = find_nic(intent, nic) else {
        return BTreeMap::new();
    };
    let learned = match is_served(intent, network) {
        true => learned(intent, nvas),
        false => BTreeMap::new(),
    };
    table_of(intent, network, subnet, own, learned)
}

/// The routes of a NIC of a subnet that learns these.
fn table_of(
    intent: &Intent,
    network: &VirtualNetworkIntent,
    subnet: &SubnetIntent,
    own: &[IpAddr],
    mut learned: BTreeMap<IpNet, BTreeSet<IpAddr>>,
) -> BTreeMap<IpNet, Way> {
    let mut peered: Vec<&VirtualNetworkIntent> = peered(intent, network).collect();
    if subnet
        .route_table
        .as_ref()
        .is_some_and(|table| table.disable_peering_route)
    {
        peered.clear();
    }
    let not_from_bgp = || {
        peered
            .iter()
            .copied()
            .chain([network])
            .flat_map(|network| &network.address_space)
    };
    learned.retain(|prefix, _| !not_from_bgp().any(|space| space.contains(prefix)));
    let gateway = first_address(&subnet.prefixes[0]);
    let user = subnet.route_table.as_ref();
    let takes_bgp = user.is_none_or(|table| !table.disable_bgp_route_propagation);
    let default: IpNet = net("0.0.0.0/0");
    let own_is_hop = |hops: &BTreeSet<IpAddr>| hops.iter().any(|hop| own.contains(hop));
    let has_user_default = user.is_some_and(|table| table.routes.iter().any(|route| route.prefix == default));
    let bgp_default = takes_bgp
        && learned
            .get(&default)
            .is_some_and(|hops| has_user_default || !own_is_hop(hops));

    let mut table = BTreeMap::new();
    if !bgp_default {
        table.insert(default, Way::Gateway(gateway));
        for block in PRIVATE_SPACE.map(net) {
            if !network.address_space.iter().any(|space| space.contains(&block)) {
                table.insert(block, Way::Blackhole);
            }
        }
    }
    for prefix in not_from_bgp() {
        table.insert(*prefix, Way::Gateway(gateway));
    }
    if takes_bgp {
        for (prefix, hops) in &learned {
            if !own_is_hop(hops) {
                table.insert(*prefix, Way::Via(hops.clone()));
            } else if PRIVATE_SPACE.contains(&prefix.to_string().as_str())
                && !network.address_space.iter().any(|space| space.contains(prefix))
            {
                // The NIC itself is the next hop: the system route below stays.
                table.insert(*prefix, Way::Blackhole);
            }
        }
    }
    for route in user.into_iter().flat_map(|table| &table.routes) {
        let way = match &route.next_hop {
            UserNextHop::VirtualAppliance(hops) => Way::Via(hops.iter().copied().collect()),
            UserNextHop::VnetLocal | UserNextHop::Internet => Way::Gateway(gateway),
            UserNextHop::None | UserNextHop::VirtualNetworkGateway => Way::Blackhole,
        };
        table.insert(route.prefix, way);
    }
    table.insert(subnet.prefixes[0], Way::OnLink);
    table
}

/// Whether it is no summary, what it was before the map, from whom, and as what it is told.
type Part = (bool, IpNet, Option<usize>, PathAttributes);

/// What an NVA should have been told by an instance: prefix to AS path.
pub fn told_table(intent: &Intent, nvas: &[Nva], nva: usize) -> BTreeMap<IpNet, Vec<u32>> {
    let Some(route_server) = intent.route_servers.first() else {
        return BTreeMap::new();
    };
    let map = peer_of(intent, &nvas[nva]).and_then(|peer| peer.outbound_route_map.as_ref());
    let mut parts: BTreeMap<IpNet, Vec<Part>> = BTreeMap::new();
    let mut told = |route: Route, originator: Option<usize>| {
        let before = route.prefix;
        if let Some(route) = through(map, route) {
            let part = (!route.is_summary, before, originator, route.attributes);
            parts.entry(route.prefix).or_default().push(part);
        }
    };
    let networks: BTreeSet<IpNet> = inside(intent).into_iter().copied().collect();
    for prefix in &networks {
        let own = PathAttributes::builder(Ipv4Addr::UNSPECIFIED.into()).build();
        told(route(*prefix, &own, RouteSource::VirtualNetwork), None);
    }
    if route_server.branch_to_branch {
        let best = best(intent, nvas).into_iter();
        for (prefix, winner) in best.filter(|(prefix, _)| !networks.contains(prefix)) {
            if !stays_back(&winner.attributes) {
                let originator = match winner.who {
                    Who::Nva(number) => Some(number),
                    Who::Gateway(_) => None,
                };
                told(route(prefix, &winner.attributes, RouteSource::Nva), originator);
            }
        }
    }
    let path = |attributes: &PathAttributes| {
        let ours = std::iter::once(Asn::AZURE_ROUTE_SERVER);
        ours.chain(attributes.as_numbers()).map(|asn| asn.0).collect()
    };
    // Of several the summary of the lowest prefix, unless all are the NVA's own.
    let mut table = BTreeMap::new();
    for (prefix, mut parts) in parts {
        parts.sort_by_key(|(is_itself, part, ..)| (*is_itself, *part));
        if parts.iter().any(|(_, _, originator, _)| *originator != Some(nva)) {
            table.insert(prefix, path(&parts[0].3));
        }
    }
    table
}

/// Whether a route may not go to peers of other ASes.
fn stays_back(attributes: &PathAttributes) -> bool {
    KEPT_BACK.iter().any(|community| attributes.has_community(*community))
}

/// Next hops per prefix: all paths of the best cost.
fn learned(intent: &Intent, nvas: &[Nva]) -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
    let mut by_prefix: BTreeMap<IpNet, ((u16, u16), BTreeSet<IpAddr>)> = BTreeMap::new();
    for (prefix, candidate) in candidates(intent, nvas) {
        let cost = candidate.cost(intent);
        let entry = by_prefix.entry(prefix).or_insert((cost, BTreeSet::new()));
        if cost < entry.0 {
            *entry = (cost, BTreeSet::new());
        }
        if cost == entry.0 {
            entry.1.insert(candidate.attributes.next_hop());
        }
    }
    by_prefix
        .into_iter()
        .map(|(prefix, (_, hops))| (prefix, hops))
        .collect()
}

/// The one path per prefix that is told on: the best cost, then the lowest ORIGIN, then those of other ASes, then the lowest BGP Identifier,
/// which is the sender's address.
fn best(intent: &Intent, nvas: &[Nva]) -> BTreeMap<IpNet, Candidate> {
    let order = |candidate: &Candidate| {
        let is_internal = matches!(candidate.who, Who::Gateway(_));
        let origin = candidate.attributes.origin();
        (candidate.cost(intent), origin, is_internal, candidate.sender)
    };
    let mut by_prefix: BTreeMap<IpNet, Candidate> = BTreeMap::new();
    for (prefix, candidate) in candidates(intent, nvas) {
        let before = by_prefix.get(&prefix);
        if before.is_none_or(|before| order(&candidate) < order(before)) {
            by_prefix.insert(prefix, candidate);
        }
    }
    by_prefix
}

/// Everything that the route server may choose from.
fn candidates(intent: &Intent, nvas: &[Nva]) -> Vec<(IpNet, Candidate)> {
    let accepted = accepted(intent, nvas).into_iter();
    let of_nvas = accepted.map(|(prefix, nva, attributes)| {
        let candidate = Candidate {
            who: Who::Nva(nva),
            sender: nvas[nva].address.into(),
            attributes,
        };
        (prefix, candidate)
    });
    of_nvas.chain(branches::candidates(intent, nvas)).collect()
}

/// Everything that import accepts, after the inbound route maps.
fn accepted(intent: &Intent, nvas: &[Nva]) -> Vec<(IpNet, usize, PathAttributes)> {
    let inside = inside(intent);
    let is_outside = |prefix: &IpNet| !inside.iter().any(|space| space.contains(prefix));
    let mut accepted = Vec::new();
    for (number, nva) in nvas.iter().enumerate().filter(|(_, nva)| nva.alive) {
        let Some(peer) = peer_of(intent, nva).filter(|peer| !peer.admin_down) else {
            continue;
        };
        let mut summaries = BTreeMap::new();
        for (prefix, attributes) in &nva.announced {
            let loops = attributes
                .as_numbers()
                .any(|asn| asn == Asn::AZURE_ROUTE_SERVER || asn == Asn(0));
            if loops || !is_outside(prefix) {
                continue;
            }
            let before = route(*prefix, attributes, RouteSource::Nva);
            let Some(after) = through(peer.inbound_route_map.as_ref(), before) else {
                continue;
            };
            if !is_outside(&after.prefix) {
                continue;
            }
            // Of the parts of a summary the lowest prefix gives the next hop, and any keeps it back.
            match summaries.get(&after.prefix).filter(|_| after.is_summary) {
                Some(place) => {
                    let (_, _, whole): &mut (IpNet, usize, PathAttributes) = &mut accepted[*place];
                    let kept_back = KEPT_BACK.iter().filter(|each| after.attributes.has_community(**each));
                    let builder = whole.to_builder();
                    *whole = kept_back
                        .fold(builder, |whole, each| whole.add_community(*each))
                        .build();
                }
                None => {
                    if after.is_summary {
                        summaries.insert(after.prefix, accepted.len());
                    }
                    accepted.push((after.prefix, number, after.attributes));
                }
            }
        }
    }
    accepted
}

fn route(prefix: IpNet, attributes: &PathAttributes, source: RouteSource) -> Route {
    Route::new(prefix, attributes.clone(), source)
}

fn through(map: Option<&RouteMap>, route: Route) -> Option<Route> {
    match map {
        None => Some(route),
        Some(map) => match map.apply(route) {
            Outcome::Pass(route) => Some(route),
            Outcome::Dropped { .. } => None,
        },
    }
}

fn peer_of<'a>(intent: &'a Intent, nva: &Nva) -> Option<&'a PeerIntent> {
    let peers = intent.route_servers.first()?.peers.iter();
    let mut peers = peers.filter(|peer| peer.address == IpAddr::V4(nva.address));
    peers.next()
}

fn network_of(intent: &Intent) -> Option<&VirtualNetworkIntent> {
    let route_server = intent.route_servers.first()?;
    intent
        .virtual_networks
        .iter()
        .find(|network| network.id == route_server.virtual_network)
}

/// The address space of the route server's network and of its spokes.
fn inside(intent: &Intent) -> Vec<&IpNet> {
    let served = intent
        .virtual_networks
        .iter()
        .filter(|network| is_served(intent, network));
    served.flat_map(|network| &network.address_space).collect()
}

/// Whether the route server's routes come to a network: it is the route server's own, or a spoke, and both sides say so.
fn is_served(intent: &Intent, network: &VirtualNetworkIntent) -> bool {
    let Some(hub) = network_of(intent) else { return false };
    let uses = |peering: &PeeringIntent| peering.remote == hub.id && peering.use_remote_gateways;
    let offers = |peering: &PeeringIntent| peering.remote == network.id && peering.allow_gateway_transit;
    network.id == hub.id || network.peerings.iter().any(uses) && hub.peerings.iter().any(offers)
}

fn peered<'a>(intent: &'a Intent, network: &'a VirtualNetworkIntent) -> impl Iterator<Item = &'a VirtualNetworkIntent> {
    let is_peered = |other: &&VirtualNetworkIntent| network.peerings.iter().any(|peering| peering.remote == other.id);
    intent.virtual_networks.iter().filter(is_peered)
}

fn find_nic<'a>(intent: &'a Intent, nic: &str) -> Option<(&'a VirtualNetworkIntent, &'a SubnetIntent, &'a [IpAddr])> {
    intent.virtual_networks.iter().find_map(|network| {
        let nic = network.nics.iter().find(|candidate| candidate.id == nic)?;
        let subnet = network.subnets.iter().find(|subnet| subnet.id == nic.subnet)?;
        Some((network, subnet, &nic.addresses[..]))
    })
}

fn first_address(prefix: &IpNet) -> IpAddr {
    match prefix.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) + 1).into(),
        other => other,
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix written here")
}
