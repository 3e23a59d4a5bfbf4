//! Gateways' instances, sites and circuits.
//!
//! ```text
//!   fabric ── vpngw-0 ═══ branch     a tunnel: interface `branch` there, `vpngw-0` here; no addresses of its own
//!   fabric ── ergw-0 ═══ line-0 ─── dc       a circuit: its provider edges, with a /30 to the customer's edge
//!                    ═══ line-1 ─── dc       (and the same for ergw-1)
//! ```
//!
//! At each end of a tunnel a host route leads over it to the address that speaks BGP at the other end. So sessions, next hops and packets
//! go through it, as they would with IPsec; the address answers there although it belongs to another interface. An IPv6 address would not
//! (RFC 4861 §7.2.3), so a tunnel's ends have their nodes' as well.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Interface, Layout, Link, Node, NodeKind, StaticRoute, Way, end, everything, routes_to, via, with_length, within,
};
use crate::topology::{Circuit, Gateway, Site, Topology};

/// The provider edge's interface to the customer.
const TO_CUSTOMER: &str = "eth0";

impl Layout {
    pub(super) fn add_hybrid(&mut self, topology: &Topology, bridges: &BTreeMap<String, String>) {
        for gateway in &topology.gateways {
            self.add_gateway(topology, gateway, &bridges[&gateway.vnet]);
        }
        for site in &topology.sites {
            self.add_site(site);
            for gateway in site.gateways.iter().filter_map(|name| topology.gateway(name)) {
                for (node, addresses) in gateway_nodes(topology, gateway) {
                    self.add_tunnel((&node, &addresses), (site.name(), &site_addresses(site)));
                }
            }
            self.add_way_back(topology, site);
        }
        for circuit in &topology.circuits {
            self.add_circuit(topology, circuit);
        }
    }

    fn add_gateway(&mut self, topology: &Topology, gateway: &Gateway, bridge: &str) {
        let Some(subnet) = topology.gateway_subnet(&gateway.vnet) else {
            return;
        };
        for (node, address) in gateway.nodes() {
            self.add(&node, NodeKind::Gateway, within(address, subnet), vec![], bridge);
        }
    }

    fn add_site(&mut self, site: &Site) {
        let routes = site.router.behind.iter().flat_map(routes_to);
        self.nodes.push(Node {
            name: site.name().to_owned(),
            kind: NodeKind::Site,
            interfaces: vec![Interface {
                name: "lo".to_owned(),
                addresses: site_addresses(site).into_iter().map(IpNet::from).collect(),
                prefix_routes: true,
            }],
            routes: routes.collect(),
            forwards: true,
        });
        self.add_hosts(&site.router);
    }

    /// Whoever hears no routes sends everything through its first tunnel.
    fn add_way_back(&mut self, topology: &Topology, site: &Site) {
        let first = site.gateways.first().and_then(|name| topology.gateway(name));
        let instance = first.and_then(|gateway| gateway.addresses.first().copied());
        let node = self.nodes.iter_mut().find(|node| node.name == site.name());
        if let (Some(node), Some(instance), false) = (node, instance, site.speaks_bgp) {
            node.routes.extend(everything().take(1).map(|all| via(all, instance)));
        }
    }

    /// A tunnel between two nodes with the addresses that speak.
    fn add_tunnel(&mut self, near: (&str, &[IpAddr]), far: (&str, &[IpAddr])) {
        self.links.push(Link {
            name: format!("{}-{}", near.0, far.0),
            near: end(near.0, far.0),
            far: end(far.0, near.0),
            bridge: None,
        });
        for ((node, own), (other, reached)) in [(near, far), (far, near)] {
            self.add_unnumbered(node, other, own, reached);
        }
    }

    /// An interface without addresses of its own, over which another node's are reached.
    fn add_unnumbered(&mut self, node: &str, name: &str, own: &[IpAddr], reached: &[IpAddr]) {
        if let Some(node) = self.nodes.iter_mut().find(|n| n.name == node) {
            node.interfaces.push(Interface {
                name: name.to_owned(),
                addresses: own.iter().filter(|a| a.is_ipv6()).map(|a| IpNet::from(*a)).collect(),
                prefix_routes: false,
            });
            node.routes.extend(reached.iter().map(|address| StaticRoute {
                prefix: IpNet::from(*address),
                way: Way::Over(name.to_owned()),
            }));
        }
    }

    fn add_circuit(&mut self, topology: &Topology, circuit: &Circuit) {
        for (link, prefix) in circuit.links.iter().enumerate() {
            let edge = circuit.node(link);
            self.nodes.push(Node {
                name: edge.clone(),
                kind: NodeKind::ProviderEdge,
                interfaces: vec![Interface {
                    name: TO_CUSTOMER.to_owned(),
                    addresses: vec![with_length(circuit.provider(link).into(), IpNet::V4(*prefix))],
                    prefix_routes: true,
                }],
                routes: Vec::new(),
                forwards: true,
            });
            self.links.push(Link {
                name: edge.clone(),
                near: end(&circuit.site, &edge),
                far: end(&edge, TO_CUSTOMER),
                bridge: None,
            });
            let customer = with_length(circuit.customer(link).into(), IpNet::V4(*prefix));
            self.add_interface(&circuit.site, &edge, vec![customer]);
            for gateway in circuit.gateways.iter().filter_map(|name| topology.gateway(name)) {
                for (node, address) in gateway.nodes() {
                    self.add_tunnel((&node, &[address.into()]), (&edge, &[circuit.provider(link).into()]));
                }
            }
        }
    }
}

/// The nodes of a gateway with their addresses.
fn gateway_nodes(topology: &Topology, gateway: &Gateway) -> Vec<(String, Vec<IpAddr>)> {
    let subnet = topology.gateway_subnet(&gateway.vnet);
    let both = |address| subnet.map_or_else(Vec::new, |subnet| subnet.both(address).collect());
    gateway.nodes().map(|(node, address)| (node, both(address))).collect()
}

fn site_addresses(site: &Site) -> Vec<IpAddr> {
    let v6 = site.router.address_v6.map(IpAddr::V6);
    std::iter::once(IpAddr::V4(site.router.address)).chain(v6).collect()
}
