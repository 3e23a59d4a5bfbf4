//! Gateways, and what is behind them: sites at tunnels, customers' edges at circuits.
//!
//! A gateway is two instances in GatewaySubnet (or one). A site is a router with hosts behind it; it is joined to gateways by tunnels, or
//! it is the customer's edge of a circuit, or both.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Nva, Subnet, Topology, nth};

/// Azure's name for the subnet of gateways (az §2.6).
pub const GATEWAY_SUBNET: &str = "GatewaySubnet";
/// The AS number of a provider's edge.
pub const PROVIDER_ASN: u32 = 12076;
/// The platform keeps the addresses before this one.
const FIRST_ADDRESS: u32 = 4;

/// What a gateway joins its network to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayType {
    /// Sites, over tunnels.
    Vpn,
    /// Circuits.
    ExpressRoute,
}

/// A virtual network gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Its name as an Azure resource; its nodes are this with `-0` and `-1`.
    pub name: String,
    /// Its virtual network.
    pub vnet: String,
    /// `gatewayType`.
    pub kind: GatewayType,
    /// Its AS number.
    pub asn: u32,
    /// The addresses of its instances.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether it exchanges IPv6 routes.
    pub ipv6: bool,
}

impl Gateway {
    /// The node of an instance.
    pub fn node(&self, instance: usize) -> String {
        format!("{}-{instance}", self.name)
    }

    /// Its nodes with their addresses.
    pub fn nodes(&self) -> impl Iterator<Item = (String, Ipv4Addr)> {
        let addresses = self.addresses.iter().enumerate();
        addresses.map(|(instance, address)| (self.node(instance), *address))
    }
}

/// What is at the other end of tunnels and circuits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its router: as an NVA, but in no virtual network.
    pub router: Nva,
    /// Whether it speaks BGP; if not, its prefixes are told to the gateway by the API.
    pub speaks_bgp: bool,
    /// The VPN gateways that it is joined to by tunnels.
    pub gateways: Vec<String>,
}

impl Site {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.router.name
    }
}

/// An ExpressRoute circuit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// Its name as an Azure resource; its provider edges' nodes are this with `-0` and `-1`.
    pub name: String,
    /// The ExpressRoute gateways that it is connected to.
    pub gateways: Vec<String>,
    /// The customer's edge.
    pub site: String,
    /// The primary link and the secondary one.
    pub links: [Ipv4Net; 2],
}

impl Circuit {
    /// The provider's edge of a link.
    pub fn node(&self, link: usize) -> String {
        format!("{}-{link}", self.name)
    }

    /// The customer's address on a link: the first.
    pub fn customer(&self, link: usize) -> Ipv4Addr {
        nth(self.links[link], 1)
    }

    /// The provider's: the second.
    pub fn provider(&self, link: usize) -> Ipv4Addr {
        nth(self.links[link], 2)
    }
}

impl Topology {
    /// The gateway of that name.
    pub fn gateway(&self, name: &str) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.name == name)
    }

    /// The site of that name.
    pub fn site(&self, name: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.name() == name)
    }

    /// Where a gateway's instances live.
    pub fn gateway_subnet(&self, vnet: &str) -> Option<&Subnet> {
        self.subnet(vnet, GATEWAY_SUBNET)
    }

    /// What runs routing software: NVAs, then the routers of sites.
    pub fn routers(&self) -> impl Iterator<Item = &Nva> {
        self.nvas.iter().chain(self.sites.iter().map(|site| &site.router))
    }

    /// The router of that name, an NVA's or a site's.
    pub fn router(&self, name: &str) -> Option<&Nva> {
        self.routers().find(|router| router.name == name)
    }

    /// The circuits that end at a site.
    pub fn circuits_of<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a Circuit> {
        self.circuits.iter().filter(move |circuit| circuit.site == site)
    }

    /// How many links of each circuit and instances of each gateway there are: one for each instance process.
    pub fn each_instance(&self) -> std::ops::Range<usize> {
        0..usize::from(self.instances)
    }
}

/// The addresses that the API gives to gateways of one subnet, in the order in which they are made.
pub(super) fn addresses(subnet: &Subnet, taken: usize, count: usize) -> Vec<Ipv4Addr> {
    let first = FIRST_ADDRESS + u32::try_from(taken).unwrap_or_default();
    (first..).take(count).map(|n| nth(subnet.prefix, n)).collect()
}
