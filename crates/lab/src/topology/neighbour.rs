//! Whom an NVA speaks BGP with: the instances of its route server, and the other ends of its links.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Nva, Topology};

/// A BGP speaker, as one of its neighbours knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its AS number.
    pub asn: u32,
    /// Our own address towards it.
    pub local: Ipv4Addr,
    /// On which side of us it is.
    pub side: Side,
}

/// What is learned on one side may be passed on to the other, and never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// A route server.
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
    /// Whom an NVA speaks with: the instances that run, then the ends of links.
    pub fn neighbours_of(&self, nva: &Nva) -> Vec<Neighbour> {
        let instance = |address| Neighbour {
            address,
            asn: bgp::Asn::AZURE_ROUTE_SERVER.0,
            local: nva.address,
            side: Side::Azure,
        };
        let route_server = nva.route_server.as_deref().and_then(|name| self.route_server(name));
        let subnet = route_server.and_then(|rs| self.route_server_subnet(rs));
        let instances = subnet.into_iter().flat_map(|subnet| subnet.instance_addresses());
        let mut all: Vec<Neighbour> = instances.take(usize::from(self.instances)).map(instance).collect();
        all.extend(self.links.iter().filter_map(|link| {
            let own = link.ends.iter().position(|end| end.nva == nva.name)?;
            let other = &link.ends[1 - own];
            Some(Neighbour {
                address: other.address.addr(),
                asn: self.nva(&other.nva)?.asn,
                local: link.ends[own].address.addr(),
                side: Side::Link,
            })
        }));
        all
    }
}
