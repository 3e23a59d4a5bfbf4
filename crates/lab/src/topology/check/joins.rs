//! What joins NVAs: links between two of them, load balancers in front of several.

use ipnet::Ipv4Net;

use super::{Checker, Text};
use crate::topology::file::{LinkEndFile, LinkFile, LoadBalancerFile};
use crate::topology::{Link, LinkEnd, LoadBalancer, Topology};

impl Checker {
    pub(super) fn load_balancer(&mut self, file: &LoadBalancerFile, topology: &Topology) -> Option<LoadBalancer> {
        let place = self.placement(&file.name, &file.subnet, &file.address, topology)?;
        if file.backends.is_empty() {
            self.mistake(&file.name, format!("{} has no backend", file.name.value));
        }
        for backend in &file.backends {
            let beside = |nva: &&crate::topology::Nva| nva.vnet == place.vnet && nva.subnet == place.subnet;
            if topology.nva(&backend.value).filter(beside).is_none() {
                let message = format!("there is no NVA named {} in {}", backend.value, file.subnet.value);
                self.mistake(backend, message);
            }
        }
        Some(LoadBalancer {
            name: file.name.value.clone(),
            vnet: place.vnet,
            subnet: place.subnet,
            address: place.address,
            backends: file.backends.iter().map(|backend| backend.value.clone()).collect(),
        })
    }

    pub(super) fn link(&mut self, file: &LinkFile, topology: &Topology) -> Option<Link> {
        self.node_name(&file.name);
        let [one, other] = file.ends.value.as_slice() else {
            self.mistake(&file.ends, format!("{} needs two ends", file.name.value));
            return None;
        };
        let ends = [self.link_end(one, topology)?, self.link_end(other, topology)?];
        if ends[0].nva == ends[1].nva {
            self.mistake(
                &other.nva,
                format!("both ends of {} are {}", file.name.value, ends[0].nva),
            );
        }
        if ends[0].address.trunc() != ends[1].address.trunc() || ends[0].address == ends[1].address {
            let message = format!(
                "{} and {} are not two addresses of one link",
                ends[0].address, ends[1].address
            );
            self.mistake(&other.address, message);
        }
        Some(Link {
            name: file.name.value.clone(),
            ends,
        })
    }

    fn link_end(&mut self, file: &LinkEndFile, topology: &Topology) -> Option<LinkEnd> {
        if topology.nva(&file.nva.value).is_none() {
            self.mistake(&file.nva, format!("there is no NVA named {}", file.nva.value));
        }
        Some(LinkEnd {
            nva: file.nva.value.clone(),
            address: self.link_address(&file.address)?,
        })
    }

    /// An address with the prefix length of a link.
    pub(super) fn link_address(&mut self, text: &Text) -> Option<Ipv4Net> {
        let address = text.value.parse::<Ipv4Net>().ok();
        let address = address.filter(|address| (8..=31).contains(&address.prefix_len()));
        if address.is_none() {
            let message = format!(
                "{} is not an address with a prefix length, such as 172.31.0.1/30",
                text.value
            );
            self.mistake(text, message);
        }
        address
    }
}
