//! What gateways have to do with it: what the site and the customer say, where it goes, and what they are told (az §2.4–2.6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::wire::{Community, PathAttributes};
use bgp::{Asn, IpNet};
use rib::Preference;
use routeserver::intent::{GatewayKind, Intent};

use super::{best, inside, net, network_of, stays_back, table_of};
use crate::kernel::Way;
use crate::nva::Nva;
use crate::scenario::addresses;
use crate::scenario::branches::{CUSTOMER, EDGE, EXPRESS_ROUTE, SITE, VPN};

/// Who tells the route server something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// An NVA, by its number.
    Nva(usize),
    /// A gateway of this kind.
    Gateway(GatewayKind),
}

/// A route that the route server may choose.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who told it.
    pub who: Who,
    /// From this address.
    pub sender: IpAddr,
    /// As told.
    pub attributes: PathAttributes,
}

impl Candidate {
    /// Hub routing preference and the length of the path, in their order.
    pub fn cost(&self, intent: &Intent) -> (u16, u16) {
        let is_express_route = self.who == Who::Gateway(GatewayKind::ExpressRoute);
        let length = self.attributes.as_path_len();
        match intent.route_servers[0].preference {
            Preference::ExpressRoute => (u16::from(!is_express_route), length),
            Preference::VpnGateway => (u16::from(is_express_route), length),
            Preference::ASPath => (length, u16::from(!is_express_route)),
        }
    }
}

type Said = BTreeMap<IpNet, PathAttributes>;

/// What both instances of the gateways tell the route server.
pub(super) fn candidates(intent: &Intent, nvas: &[Nva]) -> Vec<(IpNet, Candidate)> {
    let vpn = at_vpn_gateway(intent, nvas);
    let express_route = at_express_route_gateway(intent, nvas);
    let both = [
        (GatewayKind::Vpn, VPN, vpn),
        (GatewayKind::ExpressRoute, EXPRESS_ROUTE, express_route),
    ];
    let mut candidates = Vec::new();
    for (kind, id, said) in both {
        for (prefix, attributes) in said {
            if attributes.has_community(Community::NO_ADVERTISE) {
                continue;
            }
            for sender in addresses(id) {
                let candidate = Candidate {
                    who: Who::Gateway(kind),
                    sender,
                    attributes: attributes.to_builder().next_hop(sender).build(),
                };
                candidates.push((prefix, candidate));
            }
        }
    }
    candidates
}

/// What a VPN gateway has from outside.
fn at_vpn_gateway(intent: &Intent, nvas: &[Nva]) -> Said {
    let mut said = said_by(nvas, SITE);
    said.retain(|prefix, attributes| is_taken(intent, prefix, attributes, Asn::AZURE_ROUTE_SERVER));
    let gateway = intent.gateways.iter().find(|gateway| gateway.id == VPN);
    for route in gateway.into_iter().flat_map(|gateway| &gateway.static_routes) {
        said.insert(route.prefix, PathAttributes::builder(route.next_hop).build());
    }
    said
}

/// What the provider's edge has from outside.
fn at_edge(nvas: &[Nva]) -> Said {
    let mut said = said_by(nvas, CUSTOMER);
    said.retain(|_, attributes| !attributes.as_numbers().any(|asn| asn == Asn(12_076) || asn == Asn(0)));
    said
}

/// What an ExpressRoute gateway has from outside.
fn at_express_route_gateway(intent: &Intent, nvas: &[Nva]) -> Said {
    let told = at_edge(nvas)
        .into_iter()
        .filter(|(_, attributes)| !stays_back(attributes));
    let told = told.map(|(prefix, attributes)| (prefix, attributes.to_builder().prepend(Asn(12_076), 1).build()));
    told.filter(|(prefix, attributes)| is_taken(intent, prefix, attributes, Asn::AZURE_ROUTE_SERVER))
        .collect()
}

fn said_by(nvas: &[Nva], branch: usize) -> Said {
    let alive = nvas.get(branch).filter(|branch| branch.alive);
    alive.map(|branch| branch.announced.clone()).unwrap_or_default()
}

fn is_taken(intent: &Intent, prefix: &IpNet, attributes: &PathAttributes, own: Asn) -> bool {
    let loops = attributes.as_numbers().any(|asn| asn == own || asn == Asn(0));
    !loops && !inside(intent).iter().any(|space| space.contains(prefix))
}

/// What the route server tells a gateway: one path for each prefix, none of the gateway's own kind.
fn told_to_gateway(intent: &Intent, nvas: &[Nva], kind: GatewayKind) -> Said {
    if !intent.route_servers[0].branch_to_branch {
        return Said::new();
    }
    let best = best(intent, nvas).into_iter();
    best.filter(|(_, winner)| winner.who != Who::Gateway(kind))
        .filter(|(_, winner)| !winner.attributes.has_community(Community::NO_ADVERTISE))
        .map(|(prefix, winner)| (prefix, winner.attributes))
        .collect()
}

/// What the site should have been told: prefix to AS path.
pub fn told_to_site(intent: &Intent, nvas: &[Nva]) -> BTreeMap<IpNet, Vec<u32>> {
    let own = said_by(nvas, SITE);
    let from_outside = at_vpn_gateway(intent, nvas);
    let mut told: BTreeMap<IpNet, Vec<u32>> = BTreeMap::new();
    for (prefix, attributes) in told_to_gateway(intent, nvas, GatewayKind::Vpn) {
        if prefix != net("0.0.0.0/0") && !stays_back(&attributes) {
            told.insert(prefix, in_front(65_515, &attributes));
        }
    }
    for (prefix, attributes) in from_outside {
        match own.get(&prefix).is_some_and(|own| *own == attributes) {
            true => drop(told.remove(&prefix)),
            false => drop(told.insert(prefix, in_front(65_515, &attributes))),
        }
    }
    told.extend(inside(intent).into_iter().map(|prefix| (*prefix, vec![65_515])));
    told
}

/// What the customer should have been told: private numbers are hidden.
pub fn told_to_customer(intent: &Intent, nvas: &[Nva]) -> BTreeMap<IpNet, Vec<u32>> {
    let of_route_server = told_to_gateway(intent, nvas, GatewayKind::ExpressRoute).into_iter();
    let told = of_route_server.filter(|(_, attributes)| !stays_back(attributes));
    let networks = inside(intent).into_iter().copied();
    let prefixes: BTreeSet<IpNet> = told.map(|(prefix, _)| prefix).chain(networks).collect();
    let own = at_edge(nvas);
    let from_others = prefixes.into_iter().filter(|prefix| !own.contains_key(prefix));
    from_others.map(|prefix| (prefix, vec![12_076])).collect()
}

fn in_front(asn: u32, attributes: &PathAttributes) -> Vec<u32> {
    let path = attributes.as_numbers().map(|asn| asn.0);
    std::iter::once(asn).chain(path).collect()
}

/// What the kernel of a gateway's instance should hold; `None`: the NIC is none.
pub(super) fn kernel_table(intent: &Intent, nvas: &[Nva], nic: &str) -> Option<BTreeMap<IpNet, Way>> {
    let (gateway, instance) = nic.split_once("/instances/")?;
    let one = |said: Said| -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
        let hops = said.into_iter();
        hops.map(|(prefix, attributes)| (prefix, BTreeSet::from([attributes.next_hop()])))
            .collect()
    };
    let learned = match gateway {
        VPN => {
            let mut learned = one(told_to_gateway(intent, nvas, GatewayKind::Vpn));
            learned.extend(one(at_vpn_gateway(intent, nvas)));
            learned
        }
        EXPRESS_ROUTE => {
            let mut learned = one(told_to_gateway(intent, nvas, GatewayKind::ExpressRoute));
            let through_both = BTreeSet::from(addresses(EDGE));
            let from_circuit = at_express_route_gateway(intent, nvas).into_keys();
            learned.extend(from_circuit.map(|prefix| (prefix, through_both.clone())));
            learned
        }
        _ => return Some(table_of_edge(intent, nvas, one(at_edge(nvas)))),
    };
    let network = network_of(intent)?;
    let subnet = network.subnets.iter().find(|subnet| subnet.name == "GatewaySubnet")?;
    let own = addresses(gateway)[instance.parse::<usize>().ok()?];
    Some(table_of(intent, network, subnet, &[own], learned))
}

/// Nothing but what it has learned: from both instances of the gateway, and from the customer.
fn table_of_edge(intent: &Intent, nvas: &[Nva], own: BTreeMap<IpNet, BTreeSet<IpAddr>>) -> BTreeMap<IpNet, Way> {
    let through_both = BTreeSet::from(addresses(EXPRESS_ROUTE));
    let told = told_to_gateway(intent, nvas, GatewayKind::ExpressRoute).into_iter();
    let told = told
        .filter(|(_, attributes)| !stays_back(attributes))
        .map(|(prefix, _)| prefix);
    let networks = inside(intent).into_iter().copied();
    let through = told.chain(networks).map(|prefix| (prefix, through_both.clone()));
    let mut learned: BTreeMap<IpNet, BTreeSet<IpAddr>> = through.collect();
    learned.extend(own);
    learned
        .into_iter()
        .map(|(prefix, hops)| (prefix, Way::Via(hops)))
        .collect()
}
