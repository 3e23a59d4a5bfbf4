//! The model beside the clever code: everything from scratch, in the plainest words. It knows the topology, what the NVAs
//! that are alive announce, and Azure's rules; it knows nothing of sessions, generations, groups or deltas.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bgp::wire::{Community, PathAttributes};
use bgp::{Asn, IpNet};
use routeserver::intent::{Intent, PeeringIntent, SubnetIntent, UserNextHop, VirtualNetworkIntent};

use crate::kernel::Way;
use crate::nva::Nva;

/// Where packets go nowhere while nothing better is known (az §2.7).
const PRIVATE_SPACE: [&str; 4] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];

/// What a VM's kernel should hold.
pub fn kernel_table(intent: &Intent, nvas: &[Nva], nic: &str) -> BTreeMap<IpNet, Way> {
    let Some((network, subnet, own)) = find_nic(intent, nic) else {
        return BTreeMap::new();
    };
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
    let mut learned = match is_served(intent, network) {
        true => learned(intent, nvas),
        false => BTreeMap::new(),
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

/// What an NVA should have been told by an instance: prefix to AS path.
pub fn told_table(intent: &Intent, nvas: &[Nva], nva: usize) -> BTreeMap<IpNet, Vec<u32>> {
    let Some(route_server) = intent.route_servers.first() else {
        return BTreeMap::new();
    };
    let mut table: BTreeMap<IpNet, Vec<u32>> = BTreeMap::new();
    if route_server.branch_to_branch {
        for (prefix, (winner, attributes)) in best(intent, nvas) {
            let kept_back = [
                Community::NO_ADVERTISE,
                Community::NO_EXPORT,
                Community::NO_EXPORT_SUBCONFED,
            ];
            if winner != nva && !kept_back.iter().any(|community| attributes.has_community(*community)) {
                let mut path = vec![Asn::AZURE_ROUTE_SERVER.0];
                path.extend(attributes.as_numbers().map(|asn| asn.0));
                table.insert(prefix, path);
            }
        }
    }
    for prefix in inside(intent) {
        table.insert(*prefix, vec![Asn::AZURE_ROUTE_SERVER.0]);
    }
    table
}

/// Next hops per prefix: all paths of the shortest AS path.
fn learned(intent: &Intent, nvas: &[Nva]) -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
    let mut by_prefix: BTreeMap<IpNet, (u16, BTreeSet<IpAddr>)> = BTreeMap::new();
    for (prefix, _, attributes) in accepted(intent, nvas) {
        let length = attributes.as_path_len();
        let entry = by_prefix.entry(prefix).or_insert((length, BTreeSet::new()));
        if length < entry.0 {
            *entry = (length, BTreeSet::new());
        }
        if length == entry.0 {
            entry.1.insert(attributes.next_hop());
        }
    }
    by_prefix
        .into_iter()
        .map(|(prefix, (_, hops))| (prefix, hops))
        .collect()
}

/// The one path per prefix that is told on: shortest, then lowest ORIGIN, then lowest BGP Identifier, which is the NVA's address.
fn best<'a>(intent: &Intent, nvas: &'a [Nva]) -> BTreeMap<IpNet, (usize, &'a PathAttributes)> {
    let mut by_prefix: BTreeMap<IpNet, (usize, &PathAttributes)> = BTreeMap::new();
    for (prefix, nva, attributes) in accepted(intent, nvas) {
        let order = |nva: usize, attributes: &PathAttributes| {
            (
                attributes.as_path_len(),
                attributes.origin(),
                u32::from(nvas[nva].address),
            )
        };
        let better = by_prefix
            .get(&prefix)
            .is_none_or(|(n, a)| order(nva, attributes) < order(*n, a));
        if better {
            by_prefix.insert(prefix, (nva, attributes));
        }
    }
    by_prefix
}

/// Everything that import accepts.
fn accepted<'a>(intent: &Intent, nvas: &'a [Nva]) -> Vec<(IpNet, usize, &'a PathAttributes)> {
    let Some(route_server) = intent.route_servers.first() else {
        return Vec::new();
    };
    let inside = inside(intent);
    let mut accepted = Vec::new();
    for (number, nva) in nvas.iter().enumerate().filter(|(_, nva)| nva.alive) {
        if !route_server
            .peers
            .iter()
            .any(|peer| peer.address == IpAddr::V4(nva.address) && !peer.admin_down)
        {
            continue;
        }
        for (prefix, attributes) in &nva.announced {
            let loops = attributes
                .as_numbers()
                .any(|asn| asn == Asn::AZURE_ROUTE_SERVER || asn == Asn(0));
            if !loops && !inside.iter().any(|space| space.contains(prefix)) {
                accepted.push((*prefix, number, attributes));
            }
        }
    }
    accepted
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
