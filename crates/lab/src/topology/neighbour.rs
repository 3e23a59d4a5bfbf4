//! Whom an NVA speaks BGP with: the instances of its route server, and the other ends of its links. And a site's router: the instances of
//! gateways, and providers' edges.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{Bfd, GracefulRestart, Nva, PROVIDER_ASN, Site, Topology};

/// A BGP speaker, as one of its neighbours knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its AS number.
    pub asn: u32,
    /// Our own address towards it.
    pub local: Ipv4Addr,
    /// Our IPv6 address, which we say as the next hop of IPv6 routes (the session is over IPv4); `None`: none are told.
    #[serde(default)]
    pub local_v6: Option<Ipv6Addr>,
    /// On which side of us it is.
    pub side: Side,
    /// BFD with it.
    #[serde(default)]
    pub bfd: Option<Bfd>,
    /// What either keeps for the other.
    #[serde(default)]
    pub graceful_restart: Option<GracefulRestart>,
}

/// What is learned on one side may be passed on to the other, and never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// A route server, a gateway, a provider's edge.
    Azure,
    /// The other end of a link.
    Link,
}

/// The hold time that most NVAs propose to a route server.
const HOLD_TIME_SECS: u16 = 180;
/// The ends of a link find out soon that it is cut.
const LINK_HOLD_TIME_SECS: u16 = 9;

impl Neighbour {
    /// The hold time to propose.
    pub fn hold_time_secs(&self) -> u16 {
        match self.side {
            Side::Azure => HOLD_TIME_SECS,
            Side::Link => LINK_HOLD_TIME_SECS,
        }
    }
}

impl Topology {
    /// Whom a router speaks with.
    pub fn neighbours_of(&self, router: &Nva) -> Vec<Neighbour> {
        match self.site(&router.name) {
            Some(site) => self.neighbours_of_site(site),
            None => self.neighbours_of_nva(router),
        }
    }

    /// The instances of its gateways that run, and the provider's edges.
    fn neighbours_of_site(&self, site: &Site) -> Vec<Neighbour> {
        if !site.speaks_bgp {
            return Vec::new();
        }
        let gateways = site.gateways.iter().filter_map(|name| self.gateway(name));
        let tunnels = gateways.flat_map(|gateway| {
            let addresses = gateway.addresses.iter().take(self.each_instance().len());
            addresses.map(|address| Neighbour {
                address: *address,
                asn: gateway.asn,
                local: site.router.address,
                local_v6: site.router.address_v6.filter(|_| gateway.ipv6),
                side: Side::Azure,
                bfd: None,
                graceful_restart: None,
            })
        });
        let edges = self.circuits_of(site.name()).flat_map(|circuit| {
            self.each_instance().map(|link| Neighbour {
                address: circuit.provider(link),
                asn: PROVIDER_ASN,
                local: circuit.customer(link),
                local_v6: None,
                side: Side::Azure,
                bfd: None,
                graceful_restart: None,
            })
        });
        tunnels.chain(edges).collect()
    }

    /// The instances that run, then the ends of links.
    fn neighbours_of_nva(&self, nva: &Nva) -> Vec<Neighbour> {
        let instance = |address| Neighbour {
            address,
            asn: bgp::Asn::AZURE_ROUTE_SERVER.0,
            local: nva.address,
            local_v6: nva.address_v6,
            side: Side::Azure,
            bfd: nva.bfd,
            graceful_restart: nva.graceful_restart,
        };
        let subnets = self.route_server_subnets_of(nva);
        let running = usize::from(self.instances);
        let instances = subnets.flat_map(|subnet| subnet.instance_addresses().into_iter().take(running));
        let mut all: Vec<Neighbour> = instances.map(instance).collect();
        all.extend(self.links.iter().filter_map(|link| {
            let own = link.ends.iter().position(|end| end.nva == nva.name)?;
            let other = &link.ends[1 - own];
            Some(Neighbour {
                address: other.address.addr(),
                asn: self.nva(&other.nva)?.asn,
                local: link.ends[own].address.addr(),
                local_v6: None,
                side: Side::Link,
                bfd: None,
                graceful_restart: None,
            })
        }));
        all
    }
}
