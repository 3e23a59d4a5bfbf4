//! Gateways' instances, sites and circuits.
//!
//! ```text
//!   fabric ── vpngw-0 ═══ branch     a tunnel: interface `branch` there, `vpngw-0` here; no addresses of its own
//!   fabric ── ergw-0 ═══ line-0 ─── dc       a circuit: its provider edges, with a /30 to the customer's edge
//!                    ═══ line-1 ─── dc       (and the same for ergw-1)
//! ```
//!
//! At each end of a tunnel a host route leads over it to the address that speaks BGP at the other end. So sessions, next hops and packets
//! go through it, as they would with IPsec; the address answers there although it belongs to another interface.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Interface, Layout, Link, Node, NodeKind, StaticRoute, Way, end, via, with_length, within};
use crate::topology::{Circuit, Gateway, Site, Topology};

/// A single address.
const HOST: u8 = 32;
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
                for (node, address) in gateway.nodes() {
                    self.add_tunnel((&node, address), (site.name(), site.router.address));
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
            self.add(&node, NodeKind::Gateway, vec![within(address, subnet)], vec![], bridge);
        }
    }

    fn add_site(&mut self, site: &Site) {
        let hosts = site.router.behind.iter();
        let routes = hosts.flat_map(|host| host.routes.iter().map(|prefix| via(*prefix, host.address.addr())));
        self.nodes.push(Node {
            name: site.name().to_owned(),
            kind: NodeKind::Site,
            interfaces: vec![Interface {
                name: "lo".to_owned(),
                addresses: vec![host(site.router.address)],
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
            node.routes.push(via(Ipv4Net::default(), instance));
        }
    }

    /// A tunnel between two nodes with the addresses that speak.
    fn add_tunnel(&mut self, near: (&str, Ipv4Addr), far: (&str, Ipv4Addr)) {
        self.links.push(Link {
            name: format!("{}-{}", near.0, far.0),
            near: end(near.0, far.0),
            far: end(far.0, near.0),
            bridge: None,
        });
        for ((node, _), (other, address)) in [(near, far), (far, near)] {
            self.add_unnumbered(node, other, address);
        }
    }

    /// An interface without an address, over which another node's address is reached.
    fn add_unnumbered(&mut self, node: &str, name: &str, reached: Ipv4Addr) {
        if let Some(node) = self.nodes.iter_mut().find(|n| n.name == node) {
            node.interfaces.push(Interface {
                name: name.to_owned(),
                addresses: Vec::new(),
                prefix_routes: true,
            });
            node.routes.push(StaticRoute {
                prefix: host(reached),
                way: Way::Over(name.to_owned()),
            });
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
                    addresses: vec![with_length(circuit.provider(link), *prefix)],
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
            self.add_interface(&circuit.site, &edge, with_length(circuit.customer(link), *prefix));
            for gateway in circuit.gateways.iter().filter_map(|name| topology.gateway(name)) {
                for (node, address) in gateway.nodes() {
                    self.add_tunnel((&node, address), (&edge, circuit.provider(link)));
                }
            }
        }
    }
}

fn host(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new(address, HOST).expect("32 is a prefix length of IPv4")
}
