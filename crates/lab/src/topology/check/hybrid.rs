//! Gateways, sites and circuits of a topology file.

use ipnet::Ipv4Net;

use super::{Checker, MAX_NODE_NAME, Text};
use crate::topology::file::{CircuitFile, GatewayFile, SiteFile, TopologyFile};
use crate::topology::{Circuit, GATEWAY_SUBNET, Gateway, GatewayType, Nva, Site, Topology, hybrid};

/// An instance's node is its gateway's name with a dash and a digit.
const MAX_GATEWAY_NAME: usize = MAX_NODE_NAME - 2;
const GATEWAY_TYPES: [&str; 2] = ["vpn", "expressroute"];
/// A link of a circuit.
const CIRCUIT_LINK: u8 = 30;

impl Checker {
    /// One after the other, as the API gives them addresses.
    pub(super) fn gateways(&mut self, file: &TopologyFile, topology: &Topology) -> Vec<Gateway> {
        let mut gateways: Vec<Gateway> = Vec::new();
        for gateway in &file.gateways {
            let before = gateways.iter().filter(|other| other.vnet == gateway.vnet.value);
            let taken = before.map(|other| other.addresses.len()).sum();
            gateways.extend(self.gateway(gateway, taken, topology));
        }
        gateways
    }

    fn gateway(&mut self, file: &GatewayFile, taken: usize, topology: &Topology) -> Option<Gateway> {
        self.names_with_numbers(&file.name);
        let kind = match self.one_of(&file.kind, &GATEWAY_TYPES).as_str() {
            "expressroute" => GatewayType::ExpressRoute,
            _ => GatewayType::Vpn,
        };
        let Some(subnet) = topology.gateway_subnet(&file.vnet.value) else {
            let message = format!("{} has no subnet named {GATEWAY_SUBNET}", file.vnet.value);
            self.mistake(&file.vnet, message);
            return None;
        };
        if file.ipv6 && kind == GatewayType::ExpressRoute {
            self.mistake(&file.name, "in a lab only VPN gateways have ipv6");
        } else if file.ipv6 && subnet.prefix_v6.is_none() {
            self.mistake(&file.name, format!("with ipv6 {GATEWAY_SUBNET} needs a prefix_v6"));
        }
        let count = if file.active_active || kind == GatewayType::ExpressRoute {
            2
        } else {
            1
        };
        Some(Gateway {
            name: file.name.value.clone(),
            vnet: file.vnet.value.clone(),
            kind,
            asn: file.asn.unwrap_or(bgp::Asn::AZURE_ROUTE_SERVER.0),
            addresses: hybrid::addresses(subnet, taken, count),
            ipv6: file.ipv6,
        })
    }

    fn names_with_numbers(&mut self, name: &Text) {
        self.node_name(name);
        if name.value.len() > MAX_GATEWAY_NAME {
            let message = format!(
                "{} is longer than {MAX_GATEWAY_NAME} letters: -0 and -1 are added",
                name.value
            );
            self.mistake(name, message);
        }
        for instance in 0..2 {
            if !self.nodes.insert(format!("{}-{instance}", name.value)) {
                self.mistake(name, format!("there is already a node named {}-{instance}", name.value));
            }
        }
    }

    pub(super) fn site(&mut self, file: &SiteFile, topology: &Topology) -> Option<Site> {
        self.node_name(&file.name);
        for name in &file.gateways {
            self.gateway_of_type(name, GatewayType::Vpn, topology);
        }
        let address_v6 = file.address_v6.as_ref().and_then(|text| self.address_v6(text));
        if file.asn.is_some() {
            self.check_next_hops(&file.announce, address_v6);
        }
        let router = Nva {
            name: file.name.value.clone(),
            vnet: String::new(),
            subnet: String::new(),
            software: self.software(&file.software),
            asn: file.asn.as_ref().map_or(0, |asn| asn.value),
            route_servers: Vec::new(),
            announce: file.announce.iter().map(|path| self.path(path)).collect(),
            behind: file.behind.iter().map(|host| self.host(host, topology)).collect(),
            inbound_route_map: None,
            outbound_route_map: None,
            import_preference: None,
            as_override: false,
            bfd: None,
            graceful_restart: None,
            agent: false,
            address_v6,
            address: self.address(&file.address)?,
        };
        Some(Site {
            router,
            speaks_bgp: file.asn.is_some(),
            gateways: file.gateways.iter().map(|name| name.value.clone()).collect(),
        })
    }

    fn gateway_of_type(&mut self, name: &Text, kind: GatewayType, topology: &Topology) {
        match topology.gateway(&name.value) {
            None => self.mistake(name, format!("there is no gateway named {}", name.value)),
            Some(gateway) if gateway.kind != kind => {
                self.mistake(name, format!("{} is a gateway of the other type", name.value));
            }
            Some(_) => {}
        }
    }

    pub(super) fn circuit(&mut self, file: &CircuitFile, topology: &Topology) -> Option<Circuit> {
        self.names_with_numbers(&file.name);
        for name in &file.gateways {
            self.gateway_of_type(name, GatewayType::ExpressRoute, topology);
        }
        match topology.site(&file.site.value) {
            None => self.mistake(&file.site, format!("there is no site named {}", file.site.value)),
            Some(site) if !site.speaks_bgp => {
                self.mistake(&file.site, format!("{} needs an asn for its circuit", file.site.value));
            }
            Some(_) => {}
        }
        Some(Circuit {
            name: file.name.value.clone(),
            gateways: file.gateways.iter().map(|name| name.value.clone()).collect(),
            site: file.site.value.clone(),
            links: [self.circuit_link(&file.primary)?, self.circuit_link(&file.secondary)?],
        })
    }

    fn circuit_link(&mut self, text: &Text) -> Option<Ipv4Net> {
        let prefix = self.prefix(text);
        if prefix.prefix_len() != CIRCUIT_LINK {
            self.mistake(text, format!("{prefix} is no /{CIRCUIT_LINK}"));
            return None;
        }
        Some(prefix)
    }
}
