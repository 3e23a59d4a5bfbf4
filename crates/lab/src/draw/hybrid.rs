//! Gateways, circuits and sites in the drawing.

use super::{Pen, joined, node};
use crate::status::Status;
use crate::topology::{Circuit, Gateway, GatewayType, Site, Topology};

impl Pen {
    /// Its instances, a line each.
    pub(super) fn gateway(self, gateway: &Gateway, status: &Status) -> Vec<Vec<String>> {
        let kind = match gateway.kind {
            GatewayType::Vpn => "VPN gateway",
            GatewayType::ExpressRoute => "ExpressRoute gateway",
        };
        let line = |(name, address): (String, std::net::Ipv4Addr)| {
            let sign = self.sign_of(&name, status);
            vec![format!(
                "{sign} {name:<12} {:<14} AS {} {kind}",
                address.to_string(),
                gateway.asn
            )]
        };
        gateway.nodes().map(line).collect()
    }

    /// A circuit with its provider edges.
    pub(super) fn circuit(self, circuit: &Circuit, status: &Status) -> String {
        let title = self.paint(super::BOLD, &format!("Circuit {}", circuit.name));
        let mut text = format!("{title} {} ═══ {}\n", circuit.gateways.join(", "), circuit.site);
        for (link, prefix) in circuit.links.iter().enumerate() {
            let (name, corner) = (circuit.node(link), if link == 0 { "├─" } else { "└─" });
            let (sign, address) = (self.sign_of(&name, status), circuit.provider(link).to_string());
            let which = if link == 0 { "primary" } else { "secondary" };
            text += &format!("{corner} {sign} {name:<12} {address:<14} AS 12076 provider edge, {which} {prefix}\n");
        }
        text
    }

    /// A site with its router and hosts.
    pub(super) fn site(self, topology: &Topology, site: &Site, status: &Status) -> String {
        let router = &site.router;
        let circuits = topology.circuits_of(site.name()).map(|circuit| &circuit.name);
        let ways: Vec<&String> = site.gateways.iter().chain(circuits).collect();
        let title = self.paint(super::BOLD, &format!("Site {}", site.name()));
        let sign = self.sign_of(site.name(), status);
        let speaks = match site.speaks_bgp {
            true => format!("AS {} {}", router.asn, router.software.name()),
            false => "no BGP".to_owned(),
        };
        let mut text = format!(
            "{title} ═══ {}\n└─ {sign} {:<14} {speaks}\n",
            joined(&ways),
            [router.address.to_string(), super::beside(router.address_v6)].concat()
        );
        let announces = node(status, site.name()).map(|found| joined(&found.announces));
        let verb = if site.speaks_bgp { "announces" } else { "has" };
        if let Some(announces) = announces.filter(|announces| !announces.is_empty()) {
            text += &format!("       {verb} {announces}\n");
        }
        for line in self.hosts(router, status) {
            text += &format!("   {line}\n");
        }
        text
    }

    fn sign_of(self, name: &str, status: &Status) -> String {
        self.sign(node(status, name).map_or("gone", |found| found.state.as_str()))
    }
}
