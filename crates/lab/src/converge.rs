//! Is everything where it belongs? Sessions Established, routes heard, kernels as the API says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use routeserver::report::PeerReport;
use serde_json::Value;

use crate::cloud::Api;
use crate::error::LabError;
use crate::handle::Lab;
use crate::kernel::{self, KernelRoute};
use crate::probe;
use crate::topology::{Nva, Site, Software};

impl Lab {
    /// The lab's API.
    pub fn api(&self) -> Result<Api, LabError> {
        let url = self.state.api_url.as_deref();
        Api::new(url.ok_or_else(|| LabError::NotPossible {
            node: self.state.name.clone(),
            reason: "this lab is only namespaces and links: it has no API".to_owned(),
        })?)
    }

    /// A node's route table, as its kernel has it.
    pub fn kernel_routes(&self, node: &str) -> Result<Vec<KernelRoute>, LabError> {
        kernel::routes(&self.namespace(node)?, node)
    }

    /// Sends an ICMP echo request; the round trip, or `None` without an answer.
    pub fn ping(&self, from: &str, to: IpAddr, patience: Duration) -> Result<Option<Duration>, LabError> {
        let answer = probe::ping(&self.namespace(from)?, to, patience);
        answer.map_err(LabError::system(format!("{from}: probing {to}")))
    }

    /// Finds the way that packets take.
    pub fn trace(&self, from: &str, to: IpAddr, patience: Duration) -> Result<probe::Path, LabError> {
        let answer = probe::trace(&self.namespace(from)?, to, patience);
        answer.map_err(LabError::system(format!("{from}: probing {to}")))
    }

    /// Waits until every NVA's sessions are Established, its routes heard, and each VM's kernel as the API says.
    pub fn wait_converged(&self, patience: Duration) -> Result<(), LabError> {
        let api = self.api()?;
        self.wait_until("BGP sessions and routes", patience, |lab| {
            lab.missing(&api).or_else(not_yet)
        })
    }

    /// Waits until an NVA's sessions with all instances are (or are no longer) Established.
    pub fn wait_for_peer(&self, node: &str, established: bool, patience: Duration) -> Result<(), LabError> {
        let api = self.api()?;
        let nva = self.state.topology.nva(node);
        let wanted = usize::from(self.state.topology.instances) * nva.map_or(1, |nva| nva.route_servers.len());
        self.wait_until(&format!("the sessions of {node}"), patience, |_| {
            let peers = match api.peers() {
                Ok(peers) => peers,
                Err(error) => return not_yet(error),
            };
            let up = peers
                .iter()
                .filter(|p| p.name == node && p.state == "Established")
                .count();
            let reached = if established { up == wanted } else { up == 0 };
            Ok((!reached)
                .then(|| format!("{up} of {wanted} are Established"))
                .into_iter()
                .collect())
        })
    }

    /// Waits until a node's kernel routes satisfy a condition.
    pub fn wait_for_routes(
        &self,
        node: &str,
        patience: Duration,
        condition: impl Fn(&[KernelRoute]) -> bool,
    ) -> Result<Vec<KernelRoute>, LabError> {
        let mut last = Vec::new();
        self.wait_until(&format!("the routes of {node}"), patience, |lab| {
            last = lab.kernel_routes(node)?;
            Ok(if condition(&last) {
                Vec::new()
            } else {
                last.iter().map(|r| r.to_string()).collect()
            })
        })?;
        Ok(last)
    }

    /// What is still missing, one sentence each.
    fn missing(&self, api: &Api) -> Result<Vec<String>, LabError> {
        let peers = api.peers()?;
        let mut missing = self.missing_sessions(&peers);
        missing.extend(self.missing_hybrid_sessions(&peers));
        // Routes follow sessions; asking for them before is only work.
        if missing.is_empty() {
            missing = self.missing_routes(api)?;
        }
        Ok(missing)
    }

    fn missing_sessions(&self, peers: &[PeerReport]) -> Vec<String> {
        let mut missing = Vec::new();
        for nva in self.peering_nvas() {
            let instances = self.state.topology.each_instance();
            let sessions = nva
                .route_servers
                .iter()
                .flat_map(|rs| instances.clone().map(move |i| (rs, i)));
            for (rs, instance) in sessions {
                let is_it = |p: &&PeerReport| p.name == nva.name && p.instance == instance && is_of(p, rs);
                let peer = peers.iter().find(is_it);
                let wanted = self.state.announced.get(&nva.name).map_or(0, Vec::len);
                let name = format!("{} with instance {instance} of {rs}", nva.name);
                match peer {
                    None => missing.push(format!("{name}: not configured yet")),
                    Some(p) if p.state != "Established" => {
                        let why = p.last_error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
                        missing.push(format!("{name}: {}{why}", p.state));
                    }
                    Some(p) if p.routes_received < wanted => {
                        missing.push(format!("{name}: {} of {wanted} routes heard", p.routes_received));
                    }
                    Some(_) => {}
                }
            }
        }
        missing
    }

    /// Sessions of gateways, which know themselves whom they are with. Nobody but the user starts an external site.
    fn missing_hybrid_sessions(&self, peers: &[PeerReport]) -> Vec<String> {
        let topology = &self.state.topology;
        let is_external = |site: &Site| site.router.software == Software::External;
        if topology.gateways.is_empty() || topology.sites.iter().any(is_external) {
            return Vec::new();
        }
        let of_gateways = peers.iter().filter(|peer| topology.nva(&peer.name).is_none());
        let missing = of_gateways.filter(|peer| peer.state != "Established");
        missing
            .map(|peer| format!("{} with instance {}: {}", peer.name, peer.instance, peer.state))
            .collect()
    }

    /// The NVAs whose sessions the lab can wait for.
    fn peering_nvas(&self) -> impl Iterator<Item = &Nva> {
        let nvas = self.state.topology.nvas.iter();
        nvas.filter(|n| !n.route_servers.is_empty() && n.software != Software::External)
    }

    fn missing_routes(&self, api: &Api) -> Result<Vec<String>, LabError> {
        let mut missing = Vec::new();
        for vm in &self.state.topology.vms {
            let kernel: BTreeSet<IpNet> = self.kernel_routes(&vm.name)?.iter().map(|r| r.prefix).collect();
            for row in api.effective_routes(&vm.name)?.iter().filter(|r| is_installed(r)) {
                let prefixes = row.get("addressPrefix").and_then(Value::as_array).into_iter().flatten();
                let prefixes = prefixes.filter_map(|p| p.as_str()?.parse::<IpNet>().ok());
                missing.extend(
                    prefixes
                        .filter(|p| !self.has(&kernel, &vm.name, *p))
                        .map(|p| format!("{}: no route to {p}", vm.name)),
                );
            }
        }
        for nva in self.peering_nvas() {
            missing.extend(self.missing_in_nva(nva)?);
        }
        missing.extend(self.missing_at_gateways()?);
        Ok(missing)
    }

    /// What sites announce is in their gateways' kernels, and the gateways' networks are in theirs.
    fn missing_at_gateways(&self) -> Result<Vec<String>, LabError> {
        let topology = &self.state.topology;
        let mut missing = Vec::new();
        for site in topology
            .sites
            .iter()
            .filter(|site| site.router.software != Software::External)
        {
            let circuits = topology.circuits_of(site.name()).flat_map(|circuit| &circuit.gateways);
            let gateways = site.gateways.iter().chain(circuits);
            for gateway in gateways.filter_map(|name| topology.gateway(name)) {
                let paths = self.state.announced.get(site.name()).into_iter().flatten();
                // What a site has of IPv6 is nothing to a gateway that has it not.
                let taken = |prefix: &IpNet| gateway.ipv6 || is_ipv4(prefix);
                let said: Vec<IpNet> = paths.map(|path| path.prefix).filter(taken).collect();
                for (node, _) in gateway.nodes().take(topology.each_instance().len()) {
                    missing.extend(self.missing_of(&node, &said)?);
                }
                let vnet = topology.vnet(&gateway.vnet).filter(|_| site.speaks_bgp);
                let mut space = vnet.map(|vnet| vnet.address_prefixes.clone()).unwrap_or_default();
                let hears_v6 = gateway.ipv6 && site.router.address_v6.is_some();
                space.retain(|prefix| is_ipv4(prefix) || hears_v6);
                missing.extend(self.missing_of(site.name(), &space)?);
            }
        }
        Ok(missing)
    }

    fn missing_of(&self, node: &str, wanted: &[IpNet]) -> Result<Vec<String>, LabError> {
        let kernel: BTreeSet<IpNet> = self.kernel_routes(node)?.iter().map(|r| r.prefix).collect();
        let missing = wanted.iter().filter(|prefix| !kernel.contains(*prefix));
        Ok(missing.map(|prefix| format!("{node}: no route to {prefix}")).collect())
    }

    /// A virtual network's row stands for its own subnet and the rest of it: the kernel has it whole or in parts.
    fn has(&self, kernel: &BTreeSet<IpNet>, vm: &str, prefix: IpNet) -> bool {
        let vm = self.state.topology.vm(vm);
        let is_own = vm.is_some_and(|vm| vm.addresses().any(|own| prefix.contains(&own)));
        kernel.contains(&prefix) || (is_own && kernel.iter().any(|k| prefix.contains(k)))
    }

    /// Whether an NVA knows the way back.
    fn missing_in_nva(&self, nva: &Nva) -> Result<Vec<String>, LabError> {
        let kernel: BTreeSet<IpNet> = self.kernel_routes(&nva.name)?.iter().map(|r| r.prefix).collect();
        let topology = &self.state.topology;
        let route_servers = nva.route_servers.iter();
        let route_servers = route_servers.filter_map(|name| topology.route_server(name));
        // Not the NVA's own network: the route server may be in one that is peered with it.
        let prefixes = route_servers.flat_map(|route_server| {
            let hears_v6 = route_server.ipv6 && nva.address_v6.is_some();
            let vnet = topology.vnet(&route_server.vnet).into_iter();
            let prefixes = vnet.flat_map(|vnet| &vnet.address_prefixes);
            prefixes.filter(move |prefix| is_ipv4(prefix) || hears_v6)
        });
        // A route map may have made it part of something wider.
        let leads = |p: &IpNet| kernel.iter().any(|k| k.prefix_len() > 0 && k.contains(p));
        let missing = prefixes.filter(|p| !leads(p));
        Ok(missing.map(|p| format!("{}: no route to {p}", nva.name)).collect())
    }
}

/// Whether a peering is one of that route server.
pub(crate) fn is_of(peer: &PeerReport, route_server: &str) -> bool {
    let name = peer.route_server.rsplit('/').next();
    name.is_some_and(|name| name.eq_ignore_ascii_case(route_server))
}

fn is_ipv4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

/// A manager that is just starting does not answer; that is for waiting too.
fn not_yet(error: LabError) -> Result<Vec<String>, LabError> {
    match error {
        LabError::Api { .. } => Ok(vec![error.to_string()]),
        other => Err(other),
    }
}

fn is_installed(row: &Value) -> bool {
    row.get("state").and_then(Value::as_str) == Some("Active") && row.get("notInstalled").is_none_or(Value::is_null)
}
