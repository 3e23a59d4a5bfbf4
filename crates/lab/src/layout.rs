//! From a topology to namespaces, links, addresses and static routes; pure.
//!
//! ```text
//!              namespace `fabric`: bridge br0 with every subnet's first address, forwarding
//!            ┌─────────┬───────────┬──────────┐
//!           rs        sdwan     firewall     vm1 …           eth0 each
//!                      │ eth1       │ eth1
//!                     site       internet                    eth0 each
//! ```
//!
//! Gateways, sites and circuits: `hybrid`. A link between two NVAs is a pair of interfaces with the link's own name.
//!
//! One bridge per set of connected virtual networks: with a bridge per subnet and proxy ARP a packet for an NVA in another subnet
//! would die at the gateway, which cannot know that the NVA was meant.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::topology::{self, Host, LoadBalancer, Nva, Software, Subnet, Topology};

/// The namespace with the bridges.
pub const FABRIC: &str = "fabric";

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// The bridges and gateways.
    Fabric,
    /// Where a route server's two addresses are.
    RouteServer,
    /// A VM.
    Vm,
    /// An NVA.
    Nva,
    /// A host behind an NVA.
    Host,
    /// A load balancer's frontend.
    LoadBalancer,
    /// An instance of a virtual network gateway.
    Gateway,
    /// A provider's edge: one link of a circuit.
    ProviderEdge,
    /// A site's router.
    Site,
}

impl NodeKind {
    /// Whether an agent makes all of its routes.
    pub fn follows_agent(self) -> bool {
        matches!(self, NodeKind::Vm | NodeKind::Gateway | NodeKind::ProviderEdge)
    }
}

/// A namespace to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its interfaces, the fabric's bridges included.
    pub interfaces: Vec<Interface>,
    /// Its static routes.
    pub routes: Vec<StaticRoute>,
    /// Whether it forwards packets.
    pub forwards: bool,
}

/// An interface with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the node.
    pub name: String,
    /// Its addresses, with the subnet's prefix length.
    pub addresses: Vec<IpNet>,
    /// Whether the kernel makes the routes to the subnets; for a VM the agent does.
    pub prefix_routes: bool,
}

/// A route that is there from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// The destination.
    pub prefix: IpNet,
    /// How packets go there.
    pub way: Way,
}

/// How packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a next hop.
    Via(IpAddr),
    /// Out of an interface: who is meant answers there (a tunnel).
    Over(String),
}

/// A pair of connected interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is called: as the node that it joins to the rest, or by a name of its own.
    pub name: String,
    /// The end that `lab link down` switches off, so that the other one loses its carrier.
    pub near: LinkEnd,
    /// The end in the node that the link is named by.
    pub far: LinkEnd,
    /// The bridge that the near end is a port of.
    pub bridge: Option<String>,
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEnd {
    /// The node.
    pub node: String,
    /// The interface there.
    pub interface: String,
}

/// Everything the fabric is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The fabric first.
    pub nodes: Vec<Node>,
    /// Links between them.
    pub links: Vec<Link>,
}

impl Layout {
    /// The layout of a topology.
    pub fn of(topology: &Topology) -> Layout {
        let bridges = bridges(topology);
        let mut layout = Layout {
            nodes: vec![fabric(topology, &bridges)],
            links: Vec::new(),
        };
        for rs in &topology.route_servers {
            let Some(subnet) = topology.route_server_subnet(rs) else {
                continue;
            };
            let addresses = subnet.instance_addresses();
            let addresses = addresses.into_iter().flat_map(|a| within(a, subnet)).collect();
            let routes = everything().filter_map(|all| through_gateway(all, subnet)).collect();
            layout.add(&rs.name, NodeKind::RouteServer, addresses, routes, &bridges[&rs.vnet]);
        }
        for nva in &topology.nvas {
            layout.add_nva(topology, nva, &bridges[&nva.vnet]);
        }
        for vm in &topology.vms {
            let Some(subnet) = topology.subnet(&vm.vnet, &vm.subnet) else {
                continue;
            };
            layout.add(
                &vm.name,
                NodeKind::Vm,
                within(vm.address, subnet),
                vec![],
                &bridges[&vm.vnet],
            );
        }
        for balancer in &topology.load_balancers {
            layout.add_load_balancer(topology, balancer, &bridges[&balancer.vnet]);
        }
        for link in &topology.links {
            layout.add_link(link);
        }
        layout.add_hybrid(topology, &bridges);
        layout
    }

    /// A node joined to a bridge by its `eth0`.
    fn add(&mut self, name: &str, kind: NodeKind, addresses: Vec<IpNet>, routes: Vec<StaticRoute>, bridge: &str) {
        self.links.push(Link {
            name: name.to_owned(),
            near: end(FABRIC, name),
            far: end(name, "eth0"),
            bridge: Some(bridge.to_owned()),
        });
        self.nodes.push(Node {
            name: name.to_owned(),
            kind,
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                addresses,
                prefix_routes: !kind.follows_agent(),
            }],
            routes,
            forwards: matches!(kind, NodeKind::Nva | NodeKind::LoadBalancer | NodeKind::Gateway),
        });
    }

    /// A frontend knows the way back by itself; which NVAs it sends to, it finds out.
    fn add_load_balancer(&mut self, topology: &Topology, balancer: &LoadBalancer, bridge: &str) {
        let Some(subnet) = topology.subnet(&balancer.vnet, &balancer.subnet) else {
            return;
        };
        let routes = reachable(topology, &balancer.vnet).filter_map(|prefix| through_gateway(*prefix, subnet));
        self.add(
            &balancer.name,
            NodeKind::LoadBalancer,
            within(balancer.address, subnet),
            routes.collect(),
            bridge,
        );
    }

    /// A link between two NVAs: an interface of the link's name at each.
    fn add_link(&mut self, link: &topology::Link) {
        let [near, far] = link.ends.each_ref().map(|at| end(&at.nva, &link.name));
        self.links.push(Link {
            name: link.name.clone(),
            near,
            far,
            bridge: None,
        });
        for at in &link.ends {
            self.add_interface(&at.nva, &link.name, vec![IpNet::V4(at.address)]);
        }
    }

    fn add_interface(&mut self, node: &str, name: &str, addresses: Vec<IpNet>) {
        if let Some(node) = self.nodes.iter_mut().find(|n| n.name == node) {
            node.interfaces.push(Interface {
                name: name.to_owned(),
                addresses,
                prefix_routes: true,
            });
        }
    }

    fn add_nva(&mut self, topology: &Topology, nva: &Nva, bridge: &str) {
        let Some(subnet) = topology.subnet(&nva.vnet, &nva.subnet) else {
            return;
        };
        // Without it, what the NVA learns from an instance (the virtual network's prefix, through that instance) would lead
        // its own packets to the instance in a circle (az §2.1).
        let rs_subnets = topology.route_server_subnets_of(nva);
        let of_instances = rs_subnets.flat_map(Subnet::prefixes);
        let mut routes: Vec<_> = of_instances
            .filter_map(|prefix| through_gateway(prefix, subnet))
            .collect();
        routes.extend(nva.behind.iter().flat_map(routes_to));
        if !nva.software.installs_routes() && nva.software != Software::External {
            routes.extend(reachable(topology, &nva.vnet).filter_map(|prefix| through_gateway(*prefix, subnet)));
        }
        self.add(&nva.name, NodeKind::Nva, within(nva.address, subnet), routes, bridge);
        self.add_hosts(nva);
    }

    /// The hosts behind a router, each on a link of its own.
    fn add_hosts(&mut self, nva: &Nva) {
        for (i, host) in nva.behind.iter().enumerate() {
            let interface = format!("eth{}", i + 1);
            let gateways: Vec<_> = host.ends().map(|(own, gateway)| with_length(gateway, own)).collect();
            self.links.push(Link {
                name: host.name.clone(),
                near: end(&nva.name, &interface),
                far: end(&host.name, "eth0"),
                bridge: None,
            });
            self.add_interface(&nva.name, &interface, gateways);
            let default = |gateway: IpAddr| {
                everything()
                    .find(|all| all.contains(&gateway))
                    .map(|all| via(all, gateway))
            };
            self.nodes.push(Node {
                name: host.name.clone(),
                kind: NodeKind::Host,
                interfaces: vec![Interface {
                    name: "eth0".to_owned(),
                    addresses: host.ends().map(|(own, _)| own).collect(),
                    prefix_routes: true,
                }],
                routes: host.ends().filter_map(|(_, gateway)| default(gateway)).collect(),
                forwards: false,
            });
        }
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// The link that joins a node to the rest, or the one of that name.
    pub fn link_of(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// The bridge of each virtual network: peered ones share one.
fn bridges(topology: &Topology) -> BTreeMap<String, String> {
    let mut group: BTreeMap<&str, usize> = topology.vnets.iter().map(|v| v.name.as_str()).zip(0..).collect();
    for vnet in &topology.vnets {
        for peering in &vnet.peerings {
            let (a, b) = (group[vnet.name.as_str()], group[peering.to.as_str()]);
            group
                .values_mut()
                .filter(|g| **g == a.max(b))
                .for_each(|g| *g = a.min(b));
        }
    }
    group
        .into_iter()
        .map(|(name, g)| (name.to_owned(), format!("br{g}")))
        .collect()
}

fn fabric(topology: &Topology, bridges: &BTreeMap<String, String>) -> Node {
    let mut interfaces: BTreeMap<&str, Interface> = BTreeMap::new();
    for vnet in &topology.vnets {
        let name = bridges[&vnet.name].as_str();
        let bridge = interfaces.entry(name).or_insert_with(|| Interface {
            name: name.to_owned(),
            addresses: Vec::new(),
            prefix_routes: true,
        });
        bridge
            .addresses
            .extend(vnet.subnets.iter().flat_map(|s| within(s.gateway(), s)));
    }
    Node {
        name: FABRIC.to_owned(),
        kind: NodeKind::Fabric,
        interfaces: interfaces.into_values().collect(),
        routes: Vec::new(),
        forwards: true,
    }
}

/// The address space of a virtual network and of those it peers with: software that leaves its kernel alone needs the way there.
fn reachable<'a>(topology: &'a Topology, vnet: &str) -> impl Iterator<Item = &'a IpNet> {
    let own = topology.vnet(vnet);
    let peered = own
        .into_iter()
        .flat_map(|v| &v.peerings)
        .filter_map(|p| topology.vnet(&p.to));
    own.into_iter().chain(peered).flat_map(|v| &v.address_prefixes)
}

/// The default routes of both families.
fn everything() -> impl Iterator<Item = IpNet> {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into_iter()
}

/// `None`: the subnet has not the prefix's family.
fn through_gateway(prefix: IpNet, subnet: &Subnet) -> Option<StaticRoute> {
    let gateway = subnet
        .gateways()
        .find(|gateway| gateway.is_ipv6() == is_ipv6(&prefix))?;
    Some(via(prefix, gateway))
}

/// A router's routes to what is behind a host.
fn routes_to(host: &Host) -> impl Iterator<Item = StaticRoute> {
    host.routes.iter().filter_map(|prefix| {
        let (own, _) = host.ends().find(|(own, _)| is_ipv6(own) == is_ipv6(prefix))?;
        Some(via(*prefix, own.addr()))
    })
}

fn via(prefix: IpNet, next_hop: impl Into<IpAddr>) -> StaticRoute {
    StaticRoute {
        prefix,
        way: Way::Via(next_hop.into()),
    }
}

fn is_ipv6(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}

/// An address of the subnet, and the one beside it, with the prefixes' lengths.
fn within(address: Ipv4Addr, subnet: &Subnet) -> Vec<IpNet> {
    let pairs = subnet.both(address).zip(subnet.prefixes());
    pairs.map(|(address, prefix)| with_length(address, prefix)).collect()
}

fn with_length(address: IpAddr, prefix: IpNet) -> IpNet {
    IpNet::new(address, prefix.prefix_len()).expect("the length is that of a prefix")
}

fn end(node: &str, interface: &str) -> LinkEnd {
    LinkEnd {
        node: node.to_owned(),
        interface: interface.to_owned(),
    }
}

mod hybrid;
#[cfg(test)]
mod tests;
