//! A lab as a person wants to see it: the topology with who is up, route tables, and which way traffic goes.

use std::fmt::Write;

use crate::converge::is_of;
use crate::kernel::KernelRoute;
use crate::state::{INSTANCE, MANAGER};
use crate::status::{NodeStatus, Probe, Status};
use crate::topology::{
    GATEWAY_SUBNET, Link, LoadBalancer, Nva, ROUTE_SERVER_SUBNET, RouteServer, Subnet, Topology, Vm, Vnet,
};

/// Draws with or without colours.
#[derive(Clone, Copy, Debug)]
pub struct Pen {
    /// Whether to use ANSI colours.
    pub colours: bool,
}

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

impl Pen {
    fn paint(self, style: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A sign that can be told apart without colours too.
    fn sign(self, state: &str) -> String {
        match state {
            "up" => self.paint(GREEN, "●"),
            "degraded" => self.paint(YELLOW, "◐"),
            _ => self.paint(RED, "✗"),
        }
    }

    /// The topology with the state of everything in it.
    pub fn topology(self, topology: &Topology, status: &Status) -> String {
        let mut text = String::new();
        let manager = node(status, MANAGER).map(|n| format!("  {} manager", self.sign(&n.state)));
        let api = status
            .api_url
            .as_ref()
            .map(|url| format!("  API {url}"))
            .unwrap_or_default();
        let title = self.paint(BOLD, &format!("lab {}", status.name));
        writeln!(text, "{title}{}{api}", manager.unwrap_or_default()).expect("a string takes any text");
        for vnet in &topology.vnets {
            text += &self.vnet(topology, vnet, status);
        }
        for link in &topology.links {
            text += &self.link(link, status);
        }
        for circuit in &topology.circuits {
            text += &self.circuit(circuit, status);
        }
        for site in &topology.sites {
            text += &self.site(topology, site, status);
        }
        text
    }

    fn vnet(self, topology: &Topology, vnet: &Vnet, status: &Status) -> String {
        let prefixes = joined(&vnet.address_prefixes);
        let peered = vnet.peerings.iter().map(|p| format!(" ⇄ {}", p.to)).collect::<String>();
        let mut text = format!(
            "{} {prefixes}{peered}\n",
            self.paint(BOLD, &format!("VNet {}", vnet.name))
        );
        for (i, subnet) in vnet.subnets.iter().enumerate() {
            let (corner, bar) = if i + 1 == vnet.subnets.len() {
                ("└─", "  ")
            } else {
                ("├─", "│ ")
            };
            let name = format!("{} {}", subnet.name, joined(&subnet.prefixes().collect::<Vec<_>>()));
            writeln!(text, "{corner} {}", self.paint(DIM, &name)).expect("a string takes any text");
            let members = self.members(topology, vnet, subnet, status);
            for (i, lines) in members.iter().enumerate() {
                let (corner, inner) = if i + 1 == members.len() {
                    ("└─", "  ")
                } else {
                    ("├─", "│ ")
                };
                for (i, line) in lines.iter().enumerate() {
                    let lead = if i == 0 { corner } else { inner };
                    writeln!(text, "{bar} {lead} {line}").expect("a string takes any text");
                }
            }
        }
        text
    }

    fn link(self, link: &Link, status: &Status) -> String {
        let up = status.links.get(&link.name).copied().unwrap_or_default();
        let [one, other] = &link.ends;
        format!(
            "{} {} {} {} ─── {} {}\n",
            self.sign(if up { "up" } else { "down" }),
            self.paint(BOLD, &format!("Link {}", link.name)),
            one.nva,
            one.address,
            other.address,
            other.nva,
        )
    }

    /// What lives in a subnet, each as some lines.
    fn members(self, topology: &Topology, vnet: &Vnet, subnet: &Subnet, status: &Status) -> Vec<Vec<String>> {
        let here = |v: &str, s: &str| v == vnet.name && s == subnet.name;
        let mut members = Vec::new();
        let route_servers = topology.route_servers.iter();
        for rs in route_servers.filter(|rs| rs.vnet == vnet.name && subnet.name == ROUTE_SERVER_SUBNET) {
            members.extend(self.instances(topology, rs, subnet, status));
        }
        let nvas = topology.nvas.iter().filter(|n| here(&n.vnet, &n.subnet));
        members.extend(nvas.map(|n| self.nva(n, status)));
        if subnet.name == GATEWAY_SUBNET {
            let gateways = topology.gateways.iter().filter(|gateway| gateway.vnet == vnet.name);
            members.extend(gateways.flat_map(|gateway| self.gateway(gateway, status)));
        }
        let balancers = topology.load_balancers.iter().filter(|b| here(&b.vnet, &b.subnet));
        members.extend(balancers.map(|b| vec![self.load_balancer(b, status)]));
        let vms = topology.vms.iter().filter(|v| here(&v.vnet, &v.subnet));
        members.extend(vms.map(|v| vec![self.vm(v, status)]));
        members
    }

    fn instances(self, topology: &Topology, rs: &RouteServer, subnet: &Subnet, status: &Status) -> Vec<Vec<String>> {
        let numbers = 0..usize::from(topology.instances);
        let line = |i: usize| {
            let name = format!("{INSTANCE}{i}");
            let state = node(status, &name).map_or("down", |n| n.state.as_str());
            let peers = status.peers.iter().filter(|p| is_of(p, &rs.name));
            let sessions = peers.filter(|p| p.instance == i);
            let up = sessions.clone().filter(|p| p.state == "Established").count();
            let address = subnet.instance_addresses()[i];
            let bgp = if status.peers.is_empty() {
                String::new()
            } else {
                format!("  {up} of {} sessions Established", sessions.count())
            };
            let v6 = beside(subnet.beside(address).filter(|_| rs.ipv6));
            vec![format!(
                "{} {name:<12} {address:<14} AS 65515{v6}{bgp}",
                self.sign(state)
            )]
        };
        numbers.map(line).collect()
    }

    fn nva(self, nva: &Nva, status: &Status) -> Vec<String> {
        let found = node(status, &nva.name);
        let state = found.map_or("gone", |n| n.state.as_str());
        let sessions: String = status
            .peers
            .iter()
            .filter(|p| p.name == nva.name)
            .map(|p| {
                if p.state == "Established" {
                    self.sign("up")
                } else {
                    self.sign("down")
                }
            })
            .collect();
        let unplugged = self.unplugged(found);
        let mut lines = vec![format!(
            "{} {:<12} {:<14} AS {} {}{}  BGP {}{unplugged}",
            self.sign(state),
            nva.name,
            nva.address,
            nva.asn,
            nva.software.name(),
            beside(nva.address_v6),
            if sessions.is_empty() {
                "–".to_owned()
            } else {
                sessions
            },
        )];
        let announces = found.map(|n| joined(&n.announces)).filter(|a| !a.is_empty());
        lines.push(format!(
            "    announces {}",
            announces.unwrap_or_else(|| "nothing".to_owned())
        ));
        lines.extend(self.hosts(nva, status));
        lines
    }

    /// The hosts behind a router.
    fn hosts(self, nva: &Nva, status: &Status) -> Vec<String> {
        let mut lines = Vec::new();
        for host in &nva.behind {
            let found = node(status, &host.name);
            let sign = self.sign(found.map_or("gone", |n| n.state.as_str()));
            lines.push(format!(
                "    └── {sign} {:<8} {}{}{}",
                host.name,
                host.address.addr(),
                beside(host.address_v6.map(|own| own.addr())),
                self.unplugged(found)
            ));
        }
        lines
    }

    fn vm(self, vm: &Vm, status: &Status) -> String {
        let found = node(status, &vm.name);
        let sign = self.sign(found.map_or("gone", |n| n.state.as_str()));
        let agent = found.is_some_and(|n| !n.pids.is_empty());
        let agent = if agent { "agent" } else { "no agent" };
        format!(
            "{sign} {:<12} {:<14} {agent}{}{}",
            vm.name,
            vm.address,
            beside(vm.address_v6),
            self.unplugged(found)
        )
    }

    fn load_balancer(self, balancer: &LoadBalancer, status: &Status) -> String {
        let found = node(status, &balancer.name);
        let sign = self.sign(found.map_or("gone", |n| n.state.as_str()));
        format!(
            "{sign} {:<12} {:<14} load balancer for {}{}",
            balancer.name,
            balancer.address,
            balancer.backends.join(", "),
            self.unplugged(found)
        )
    }

    fn unplugged(self, node: Option<&NodeStatus>) -> String {
        let unplugged = node.is_some_and(|n| n.link == Some(false));
        if unplugged {
            self.paint(RED, "  link down")
        } else {
            String::new()
        }
    }

    /// A node's route table as `ip route` shows it.
    pub fn table(self, node: &str, routes: &[KernelRoute]) -> String {
        let mut text = self.paint(BOLD, &format!("{node} $ ip route")) + "\n";
        for route in routes {
            writeln!(text, "  {route}").expect("a string takes any text");
        }
        text
    }

    /// The ways that packets take.
    pub fn probes(self, probes: &[Probe]) -> String {
        let mut text = String::new();
        for probe in probes {
            let way: String = probe.through.iter().map(|hop| format!("{hop} ─▶ ")).collect();
            let end = match probe.round_trip_us {
                Some(us) => format!("{} {}  {}.{:03} ms", probe.to, probe.address, us / 1000, us % 1000),
                None => format!("{} {}  {}", probe.to, probe.address, self.paint(RED, "no answer")),
            };
            let sign = self.sign(if probe.reached { "up" } else { "down" });
            writeln!(text, "{sign} {} ─▶ {way}{end}", probe.from).expect("a string takes any text");
        }
        text
    }

    /// What to try next, ready to be copied.
    pub fn suggestions(self, topology: &Topology, status: &Status, program: &str) -> String {
        let is_default = status.name == crate::state::DEFAULT_NAME;
        let lab = match status.name.as_str() {
            crate::state::DEFAULT_NAME => format!("{program} lab"),
            name => format!("{program} lab --name {name}"),
        };
        let mut lines = vec![(format!("{lab} status"), "who is up, which way traffic goes")];
        if let Some(vm) = topology.vms.first() {
            lines.push((format!("{lab} exec {} -- ip route", vm.name), "look inside a VM"));
        }
        if let Some(nva) = topology.nvas.iter().find(|n| !n.announce.is_empty()) {
            let prefix = nva.announce[0].prefix;
            lines.push((
                format!("{lab} withdraw {} {prefix}", nva.name),
                "its routes leave every VM",
            ));
            lines.push((format!("{lab} announce {} {prefix}", nva.name), "and return"));
            lines.push((format!("{lab} kill {}", nva.name), "a crash: its routes go"));
            lines.push((format!("{lab} start {}", nva.name), "and return"));
        }
        lines.push((format!("{lab} kill {MANAGER}"), "management dies, routing goes on"));
        lines.push((format!("{lab} start {MANAGER}"), ""));
        if let Some((vnet, url)) = topology.vnets.first().zip(status.api_url.as_ref()) {
            let prefixes = vnet
                .address_prefixes
                .iter()
                .map(|p| p.to_string())
                .collect::<Vec<_>>()
                .join(" ");
            let group = crate::cloud::RESOURCE_GROUP;
            // The command finds the default lab by itself.
            let server = if is_default {
                String::new()
            } else {
                format!(" --server {url}")
            };
            let command = format!(
                "{program} vnet update -g {group} -n {} --address-prefixes {prefixes} 10.77.0.0/16{server}",
                vnet.name
            );
            lines.push((command, "every NVA learns it"));
        }
        lines.push((format!("{lab} down"), "leaves nothing behind"));
        let width = lines
            .iter()
            .map(|(c, _)| c.chars().count())
            .filter(|w| *w < 60)
            .max()
            .unwrap_or(0);
        let line = |(command, why): &(String, &str)| {
            let why = if why.is_empty() {
                String::new()
            } else {
                format!("  # {why}")
            };
            format!("  {command:<width$}{}\n", self.paint(DIM, &why))
        };
        lines.iter().map(line).collect()
    }
}

mod hybrid;

fn node<'a>(status: &'a Status, name: &str) -> Option<&'a NodeStatus> {
    status.nodes.iter().find(|n| n.name == name)
}

/// The IPv6 address behind the rest, if there is one.
fn beside(address: Option<std::net::Ipv6Addr>) -> String {
    address.map_or_else(String::new, |address| format!("  {address}"))
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}
