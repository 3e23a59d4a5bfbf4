//! What a lab is made of: virtual networks, route servers, VMs, NVAs and the hosts behind them.
//!
//! [`Topology::parse`] reads a YAML file and either returns a topology in which every name resolves and every address fits, or
//! all of its mistakes, each with its line. What the API has an opinion about (address ranges, AS numbers, limits) is left to
//! the API: a lab must be able to try what Azure refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod check;
mod file;
mod hybrid;
mod neighbour;

pub use check::{Mistake, TopologyError};
pub use file::{TopologyFile, json_schema};
pub use hybrid::{Circuit, GATEWAY_SUBNET, Gateway, GatewayType, PROVIDER_ASN, Site};
pub use neighbour::{Neighbour, Side};

/// The reference scenario: an SD-WAN NVA with a site, a firewall NVA with an internet, two VMs.
pub const REFERENCE: &str = include_str!("../../../../topologies/reference.yaml");

/// Azure's name for the subnet that holds the instances (az §2.1).
pub const ROUTE_SERVER_SUBNET: &str = "RouteServerSubnet";

/// A topology without mistakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// For people.
    pub description: Option<String>,
    /// How many instance processes run: 1 or 2.
    pub instances: u8,
    /// Virtual networks.
    pub vnets: Vec<Vnet>,
    /// Route tables that subnets refer to.
    pub route_tables: Vec<RouteTable>,
    /// Route servers.
    pub route_servers: Vec<RouteServer>,
    /// Virtual machines, each with an agent.
    pub vms: Vec<Vm>,
    /// Network virtual appliances.
    pub nvas: Vec<Nva>,
    /// Internal load balancers.
    pub load_balancers: Vec<LoadBalancer>,
    /// Links between NVAs.
    pub links: Vec<Link>,
    /// Route maps.
    pub route_maps: Vec<RouteMap>,
    /// Virtual network gateways.
    pub gateways: Vec<Gateway>,
    /// What is behind gateways.
    pub sites: Vec<Site>,
    /// ExpressRoute circuits.
    pub circuits: Vec<Circuit>,
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vnet {
    /// Its name as an Azure resource.
    pub name: String,
    /// Its address space.
    pub address_prefixes: Vec<IpNet>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Its half of each peering.
    pub peerings: Vec<Peering>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its name within the virtual network.
    pub name: String,
    /// Its prefix.
    pub prefix: Ipv4Net,
    /// Its IPv6 prefix, if it has both families.
    pub prefix_v6: Option<Ipv6Net>,
    /// The route table that is attached to it.
    pub route_table: Option<String>,
}

impl Subnet {
    /// The gateway: the subnet's first usable address, as in Azure.
    pub fn gateway(&self) -> Ipv4Addr {
        nth(self.prefix, 1)
    }

    /// The addresses of the two instances, if this is a RouteServerSubnet: the first two after the platform's three.
    pub fn instance_addresses(&self) -> [Ipv4Addr; 2] {
        [nth(self.prefix, 4), nth(self.prefix, 5)]
    }

    /// The IPv6 address of who has this IPv4 address here: the one of the same number.
    pub fn beside(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let number = u32::from(address).wrapping_sub(u32::from(self.prefix.network()));
        Some(nth_v6(self.prefix_v6?, number))
    }

    /// Its prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        std::iter::once(IpNet::V4(self.prefix)).chain(self.prefix_v6.map(IpNet::V6))
    }

    /// The gateway's addresses.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.both(self.gateway())
    }

    /// An IPv4 address of the subnet, and the IPv6 address beside it.
    pub fn both(&self, address: Ipv4Addr) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(address)).chain(self.beside(address).map(IpAddr::V6))
    }
}

/// One direction of a virtual network peering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peering {
    /// The other virtual network.
    pub to: String,
    /// `allowForwardedTraffic`.
    pub allow_forwarded_traffic: bool,
    /// `allowGatewayTransit`: the other one may use our route server.
    pub allow_gateway_transit: bool,
    /// `useRemoteGateways`: we use the other one's route server.
    pub use_remote_gateways: bool,
}

/// A route table with user routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its name as an Azure resource.
    pub name: String,
    /// `disableBgpRoutePropagation`.
    pub disable_bgp_propagation: bool,
    /// Its routes.
    pub routes: Vec<UserRoute>,
}

/// A user route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRoute {
    /// The destination.
    pub prefix: IpNet,
    /// `VirtualAppliance`, `VirtualApplianceEcmp`, `None`, `Internet`, `VnetLocal`, `VirtualNetworkGateway`.
    pub next_hop_type: String,
    /// One for `VirtualAppliance`, several for `VirtualApplianceEcmp`.
    pub next_hops: Vec<IpAddr>,
}

/// A route server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteServer {
    /// Its name as an Azure resource, and of the node that holds its addresses.
    pub name: String,
    /// The virtual network whose RouteServerSubnet it lives in.
    pub vnet: String,
    /// `allowBranchToBranchTraffic`.
    pub branch_to_branch: bool,
    /// `hubRoutingPreference`: `ExpressRoute`, `VpnGateway` or `ASPath`.
    pub routing_preference: String,
    /// Whether it exchanges IPv6 routes.
    pub ipv6: bool,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Its node's name.
    pub name: String,
    /// Its virtual network.
    pub vnet: String,
    /// Its subnet there.
    pub subnet: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if its subnet has both families.
    pub address_v6: Option<Ipv6Addr>,
}

impl Vm {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.address)).chain(self.address_v6.map(IpAddr::V6))
    }

    /// Whether it has an address of the family.
    pub fn has_family_of(&self, address: IpAddr) -> bool {
        address.is_ipv4() || self.address_v6.is_some()
    }
}

/// A network virtual appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nva {
    /// Its node's name.
    pub name: String,
    /// Its virtual network.
    pub vnet: String,
    /// Its subnet there.
    pub subnet: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if it has both families: then it speaks of both.
    pub address_v6: Option<Ipv6Addr>,
    /// What speaks BGP there.
    pub software: Software,
    /// Its AS number.
    pub asn: u32,
    /// The route servers that it peers with: one, or several of networks that are peered with its own.
    pub route_servers: Vec<String>,
    /// What it announces from the start.
    pub announce: Vec<Path>,
    /// The hosts behind it, each on a link of its own.
    pub behind: Vec<Host>,
    /// The route map of what it announces.
    pub inbound_route_map: Option<String>,
    /// The route map of what it is told.
    pub outbound_route_map: Option<String>,
    /// The setting of its peerings, if it has one.
    pub import_preference: Option<u32>,
    /// Whether it puts its own AS number in place of the route server's in what it passes on.
    pub as_override: bool,
    /// Whether an agent writes its NIC's effective routes into its kernel.
    pub agent: bool,
    /// BFD with its route servers.
    #[serde(default)]
    pub bfd: Option<Bfd>,
    /// Graceful restart with its route servers.
    #[serde(default)]
    pub graceful_restart: Option<GracefulRestart>,
}

/// What an NVA and its route servers keep for each other while one of them is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// The NVA says that it will be back within so many seconds (RFC 4724).
    pub restart_secs: u16,
    /// After that its routes are a last resort for so many seconds (RFC 9494); 0: they go.
    pub long_lived_secs: u32,
}

/// How BFD watches the path between an NVA and its route servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bfd {
    /// How often each end sends and can hear, milliseconds.
    pub interval_ms: u32,
    /// So many lost packets are a lost path.
    pub multiplier: u8,
    /// The route server's BGP waits for it.
    pub strict: bool,
}

/// An address that stands for several NVAs (an internal load balancer with all ports, az §2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Its node's name.
    pub name: String,
    /// Its virtual network.
    pub vnet: String,
    /// Its subnet there.
    pub subnet: String,
    /// The frontend's address.
    pub address: Ipv4Addr,
    /// The NVAs it spreads flows over.
    pub backends: Vec<String>,
}

/// A link between two NVAs, beside the virtual networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What `lab link down` calls it.
    pub name: String,
    /// Its ends.
    pub ends: [LinkEnd; 2],
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// The NVA.
    pub nva: String,
    /// Its address there, with the link's prefix length.
    pub address: Ipv4Net,
}

/// A route map of a route server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMap {
    /// Its name as an Azure resource.
    pub name: String,
    /// The route server it belongs to.
    pub route_server: String,
    /// Its rules, as the API has them: whether they make sense is for the API to say.
    pub rules: Vec<Value>,
}

/// What speaks BGP in an NVA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Software {
    /// Our own speaker; needs no package.
    Builtin,
    /// FRRouting.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP.
    Gobgp,
    /// OpenBGPD.
    Openbgpd,
    /// ExaBGP.
    Exabgp,
    /// Nothing: the namespace is yours.
    External,
}

impl Software {
    /// All of them, in the order that people are told.
    pub const ALL: [Software; 7] = [
        Software::Builtin,
        Software::Frr,
        Software::Bird,
        Software::Gobgp,
        Software::Openbgpd,
        Software::Exabgp,
        Software::External,
    ];

    /// As written in topology files.
    pub fn name(self) -> &'static str {
        match self {
            Software::Builtin => "builtin",
            Software::Frr => "frr",
            Software::Bird => "bird",
            Software::Gobgp => "gobgp",
            Software::Openbgpd => "openbgpd",
            Software::Exabgp => "exabgp",
            Software::External => "external",
        }
    }

    /// Whether it puts learned routes into the NVA's kernel by itself.
    pub fn installs_routes(self) -> bool {
        !matches!(
            self,
            Software::Gobgp | Software::Openbgpd | Software::Exabgp | Software::External
        )
    }

    /// Whether it speaks BFD, as the lab configures it.
    pub fn speaks_bfd(self) -> bool {
        matches!(self, Software::Builtin | Software::Frr | Software::Bird)
    }

    /// Whether it keeps a route server's routes and has its own kept, as the lab configures it.
    pub fn restarts_gracefully(self) -> bool {
        self != Software::External
    }

    /// Whether it speaks of long-lived stale routes (RFC 9494).
    pub fn knows_long_lived(self) -> bool {
        !matches!(self, Software::External | Software::Openbgpd | Software::Exabgp)
    }

    /// The software of that name.
    pub fn from_name(name: &str) -> Option<Software> {
        Software::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// An announced prefix with its path options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The prefix.
    pub prefix: IpNet,
    /// How many times the NVA's own AS number is put in front once more.
    pub as_path_prepend: u8,
    /// AS numbers after our own, as if learned from elsewhere.
    pub as_path: Vec<u32>,
    /// Standard communities.
    pub communities: Vec<(u16, u16)>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Another next hop than the NVA itself (a load balancer, az §2.6).
    pub next_hop: Option<IpAddr>,
    /// Tell it to the neighbour of this address alone. Only the builtin NVA can do so, and no topology file says it.
    #[serde(default)]
    pub only_to: Option<Ipv4Addr>,
}

impl Path {
    /// The prefix with no options.
    pub fn plain(prefix: impl Into<IpNet>) -> Path {
        Path {
            prefix: prefix.into(),
            as_path_prepend: 0,
            as_path: Vec::new(),
            communities: Vec::new(),
            med: None,
            next_hop: None,
            only_to: None,
        }
    }

    /// Whether it is an IPv6 prefix.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.prefix, IpNet::V6(_))
    }
}

/// A host on a link of its own behind an NVA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its node's name.
    pub name: String,
    /// Its address and the prefix of its link; the NVA has the first address.
    pub address: Ipv4Net,
    /// The same of IPv6, if it has both families.
    pub address_v6: Option<Ipv6Net>,
    /// Prefixes that the NVA sends to this host besides the link's own.
    pub routes: Vec<IpNet>,
}

impl Host {
    /// The NVA's address on the link.
    pub fn gateway(&self) -> Ipv4Addr {
        nth(self.address, 1)
    }

    /// Its addresses, with their prefix lengths, and the NVA's on the link.
    pub fn ends(&self) -> impl Iterator<Item = (IpNet, IpAddr)> {
        let v4 = (IpNet::V4(self.address), IpAddr::V4(self.gateway()));
        let v6 = self.address_v6.map(|own| (IpNet::V6(own), IpAddr::V6(nth_v6(own, 1))));
        std::iter::once(v4).chain(v6)
    }
}

impl Topology {
    /// Reads a topology file; `place` names it in mistakes.
    pub fn parse(place: &str, text: &str) -> Result<Topology, TopologyError> {
        check::parse(place, text)
    }

    /// The reference scenario.
    pub fn reference() -> Topology {
        Topology::parse("reference.yaml", REFERENCE).expect("a test parses the embedded topology")
    }

    /// The virtual network of that name.
    pub fn vnet(&self, name: &str) -> Option<&Vnet> {
        self.vnets.iter().find(|v| v.name == name)
    }

    /// A subnet by the names of its virtual network and itself.
    pub fn subnet(&self, vnet: &str, subnet: &str) -> Option<&Subnet> {
        self.vnet(vnet)?.subnets.iter().find(|s| s.name == subnet)
    }

    /// The NVA of that name.
    pub fn nva(&self, name: &str) -> Option<&Nva> {
        self.nvas.iter().find(|n| n.name == name)
    }

    /// The VM of that name.
    pub fn vm(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|n| n.name == name)
    }

    /// The route server of that name.
    pub fn route_server(&self, name: &str) -> Option<&RouteServer> {
        self.route_servers.iter().find(|r| r.name == name)
    }

    /// Its RouteServerSubnet.
    pub fn route_server_subnet(&self, route_server: &RouteServer) -> Option<&Subnet> {
        self.subnet(&route_server.vnet, ROUTE_SERVER_SUBNET)
    }

    /// The RouteServerSubnets of those that an NVA peers with.
    pub fn route_server_subnets_of(&self, nva: &Nva) -> impl Iterator<Item = &Subnet> {
        let route_servers = nva.route_servers.iter().filter_map(|name| self.route_server(name));
        route_servers.filter_map(|rs| self.route_server_subnet(rs))
    }

    /// Every host, with the router it is behind.
    pub fn hosts(&self) -> impl Iterator<Item = (&Nva, &Host)> {
        self.routers().flat_map(|n| n.behind.iter().map(move |h| (n, h)))
    }
}

/// The `n`-th address of a prefix, counted from its network address.
pub(crate) fn nth(prefix: Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(prefix.network()).wrapping_add(n))
}

/// The same of IPv6.
pub(crate) fn nth_v6(prefix: Ipv6Net, n: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(prefix.network()).wrapping_add(n.into()))
}
