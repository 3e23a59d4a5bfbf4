//! The intent's virtual networks with the relations between them: whose route server serves whom, whose prefixes go where.
//!
//! Which speaker's Loc-RIB a table is made of follows from its *place*. NICs of a subnet are in one place, and have the routes of the route
//! server that serves their network. An instance of a gateway is a place of its own: it has the system and user-defined routes of
//! GatewaySubnet, and what the gateway has learned itself. A provider's edge is in no network, and has nothing but what it has learned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use rustc_hash::FxHashMap;

use crate::intent::{
    GatewayIntent, Intent, NicIntent, PeeringIntent, RouteServerIntent, SubnetIntent, VirtualNetworkIntent,
};
use crate::prefix_set::PrefixSet;
use crate::vnet::view::{SubnetView, SystemHop, UserRoute};

/// Where packets to private space go while nothing better is known: nowhere (az §2.7).
const PRIVATE_SPACE: [&str; 4] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];

/// An intent, indexed.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    intent: Arc<Intent>,
    virtual_networks: FxHashMap<String, usize>,
    /// Virtual network to its own route server.
    route_servers: FxHashMap<String, usize>,
    subnets: FxHashMap<String, (usize, usize)>,
    nics: FxHashMap<String, (usize, usize)>,
    /// NIC ids of the gateways' instances that this process is, with their addresses. No other process knows them.
    gateways: FxHashMap<String, (usize, Vec<IpAddr>)>,
}

/// What an agent must know of a NIC besides its table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NicFacts {
    /// What [`Topology::view`] knows its place by: the subnet's id; of a gateway's instance its own.
    pub(crate) place: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) subnet_prefixes: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
}

impl Topology {
    /// As the process of instance `instance` sees it.
    pub(crate) fn new(intent: Arc<Intent>, instance: usize) -> Topology {
        let mut topology = Topology {
            intent: intent.clone(),
            ..Topology::default()
        };
        for (index, route_server) in intent.route_servers.iter().enumerate() {
            let network = route_server.virtual_network.clone();
            topology.route_servers.insert(network, index);
        }
        for (index, network) in intent.virtual_networks.iter().enumerate() {
            topology.virtual_networks.insert(network.id.clone(), index);
            for (subnet, intent) in network.subnets.iter().enumerate() {
                topology.subnets.insert(intent.id.clone(), (index, subnet));
            }
            for (nic, intent) in network.nics.iter().enumerate() {
                topology.nics.insert(intent.id.clone(), (index, nic));
            }
        }
        for (index, gateway) in intent.gateways.iter().enumerate() {
            let address = gateway.instance_addresses[instance].filter(|_| !gateway.is_external);
            if let Some(address) = address {
                let nic = format!("{}/instances/{instance}", gateway.id);
                let v6 = gateway.instance_addresses_v6[instance].map(IpAddr::V6);
                let addresses = std::iter::once(address).chain(v6).collect();
                topology.gateways.insert(nic, (index, addresses));
            }
        }
        topology
    }

    /// What it was made of.
    pub(crate) fn intent(&self) -> &Arc<Intent> {
        &self.intent
    }

    /// The NICs (ids) of each place that has any.
    pub(crate) fn nics_by_place(&self) -> BTreeMap<&str, Vec<&str>> {
        let gateways = self.gateways.keys().map(|id| (id.as_str(), vec![id.as_str()]));
        let mut by_place: BTreeMap<&str, Vec<&str>> = gateways.collect();
        let nics = self.intent.virtual_networks.iter().flat_map(|network| &network.nics);
        for nic in nics {
            by_place.entry(&nic.subnet).or_default().push(&nic.id);
        }
        by_place
    }

    /// The prefixes that a speaker in a virtual network originates: those of the network, and those of its spokes.
    pub(crate) fn space(&self, network: &str) -> (Vec<IpNet>, Vec<IpNet>) {
        let Some(network) = self.virtual_network(network) else {
            return (Vec::new(), Vec::new());
        };
        let spokes = self.spokes(&network.id);
        let transit = spokes.flat_map(|spoke| spoke.address_space.iter().copied()).collect();
        (network.address_space.clone(), transit)
    }

    /// The peered virtual networks that use the gateways and the route server of this one: both sides say so (az §2.8).
    pub(crate) fn spokes(&self, network: &str) -> impl Iterator<Item = &VirtualNetworkIntent> {
        let network = self.virtual_network(network);
        network.into_iter().flat_map(move |network| {
            network
                .peerings
                .iter()
                .filter(|peering| peering.allow_gateway_transit)
                .filter_map(|peering| self.virtual_network(&peering.remote))
                .filter(|remote| peering_with(remote, &network.id).is_some_and(|back| back.use_remote_gateways))
        })
    }

    pub(crate) fn nic(&self, id: &str) -> Option<NicFacts> {
        if let Some((gateway, addresses)) = self.gateway(id) {
            let (_, subnet) = gateway.subnet.as_ref().and_then(|subnet| self.subnet(subnet)).unzip();
            let prefixes = subnet.map_or_else(Vec::new, |subnet| subnet.prefixes.clone());
            return Some(NicFacts {
                place: id.to_owned(),
                addresses: addresses.to_vec(),
                gateways: gateways(&prefixes),
                subnet_prefixes: prefixes,
            });
        }
        let &(network, nic) = self.nics.get(id)?;
        let nic: &NicIntent = &self.intent.virtual_networks[network].nics[nic];
        let (_, subnet) = self.subnet(&nic.subnet)?;
        Some(NicFacts {
            place: nic.subnet.clone(),
            addresses: nic.addresses.clone(),
            subnet_prefixes: subnet.prefixes.clone(),
            gateways: gateways(&subnet.prefixes),
        })
    }

    /// What the NICs of a place share.
    pub(crate) fn view(&self, place: &str) -> Option<SubnetView> {
        let Some((gateway, _)) = self.gateway(place) else {
            return self.subnet_view(place);
        };
        let view = gateway.subnet.as_ref().and_then(|subnet| self.subnet_view(subnet));
        Some(SubnetView {
            speaker: Some(gateway.id.clone()),
            ..view.unwrap_or_default()
        })
    }

    fn subnet_view(&self, subnet: &str) -> Option<SubnetView> {
        let (network, subnet) = self.subnet(subnet)?;
        let table = subnet.route_table.as_ref();
        let peered: Vec<_> = match table.is_some_and(|table| table.disable_peering_route) {
            true => Vec::new(),
            false => self.peered(network).collect(),
        };
        let is_here = |prefix: &IpNet| is_ipv4(prefix) || has_ipv6(subnet);
        let mut user = BTreeMap::new();
        let routes = table.iter().flat_map(|table| &table.routes);
        for route in routes.filter(|route| is_here(&route.prefix)) {
            user.insert(
                route.prefix.trunc(),
                UserRoute {
                    name: route.name.clone(),
                    next_hop: route.next_hop.clone(),
                },
            );
        }
        let mut system = system_routes(network, &peered);
        system.retain(|prefix, _| is_here(prefix));
        Some(SubnetView {
            prefixes: subnet.prefixes.clone(),
            speaker: self.serving(network).map(|route_server| route_server.id.clone()),
            propagation_disabled: table.is_some_and(|table| table.disable_bgp_route_propagation),
            system,
            user,
            not_from_bgp: not_from_bgp(network, subnet, &peered),
            import: table.and_then(|table| table.import.clone()),
        })
    }

    /// The route server whose routes come to `network`: its own, or that of the peered network whose gateways it uses (az §2.8).
    fn serving(&self, network: &VirtualNetworkIntent) -> Option<&RouteServerIntent> {
        if let Some(own) = self.route_server_in(&network.id) {
            return Some(own);
        }
        network
            .peerings
            .iter()
            .filter(|peering| peering.use_remote_gateways)
            .filter(|peering| {
                let remote = self.virtual_network(&peering.remote);
                let back = remote.and_then(|remote| peering_with(remote, &network.id));
                back.is_some_and(|back| back.allow_gateway_transit)
            })
            .find_map(|peering| self.route_server_in(&peering.remote))
    }

    fn peered<'a>(&'a self, network: &'a VirtualNetworkIntent) -> impl Iterator<Item = Peered<'a>> {
        network
            .peerings
            .iter()
            .filter_map(|peering| Some((peering, self.virtual_network(&peering.remote)?)))
    }

    fn virtual_network(&self, id: &str) -> Option<&VirtualNetworkIntent> {
        let index = self.virtual_networks.get(id)?;
        self.intent.virtual_networks.get(*index)
    }

    fn route_server_in(&self, network: &str) -> Option<&RouteServerIntent> {
        let index = self.route_servers.get(network)?;
        self.intent.route_servers.get(*index)
    }

    /// Whose instance a NIC is, and its addresses.
    fn gateway(&self, nic: &str) -> Option<(&GatewayIntent, &[IpAddr])> {
        let (index, addresses) = self.gateways.get(nic)?;
        Some((&self.intent.gateways[*index], addresses))
    }

    fn subnet(&self, id: &str) -> Option<(&VirtualNetworkIntent, &SubnetIntent)> {
        let &(network, subnet) = self.subnets.get(id)?;
        let network = &self.intent.virtual_networks[network];
        Some((network, &network.subnets[subnet]))
    }
}

/// A network whose routes are system routes of another's NICs.
type Peered<'a> = (&'a PeeringIntent, &'a VirtualNetworkIntent);

fn system_routes(network: &VirtualNetworkIntent, peered: &[Peered<'_>]) -> BTreeMap<IpNet, SystemHop> {
    let mut system = BTreeMap::new();
    for block in PRIVATE_SPACE {
        let block: IpNet = block.parse().expect("the table holds prefixes");
        // Azure's documentation and captures: a network inside a block leaves it, one that covers the block takes its place.
        if !network.address_space.iter().any(|prefix| prefix.contains(&block)) {
            system.insert(block, SystemHop::None);
        }
    }
    for default in ["0.0.0.0/0", "::/0"] {
        let default: IpNet = default.parse().expect("a prefix");
        if network.address_space.iter().any(|prefix| default.contains(prefix)) {
            system.insert(default, SystemHop::Internet);
        }
    }
    for (peering, remote) in peered {
        let hop = match peering.global {
            true => SystemHop::VNetGlobalPeering,
            false => SystemHop::VNetPeering,
        };
        system.extend(remote.address_space.iter().map(|prefix| (prefix.trunc(), hop)));
    }
    let own = network.address_space.iter();
    system.extend(own.map(|prefix| (prefix.trunc(), SystemHop::VnetLocal)));
    system
}

/// Where routes of BGP are not programmed: system routes of the network and its peerings win (az §2.7). A subnet without IPv6 has no use for
/// IPv6 routes.
fn not_from_bgp(network: &VirtualNetworkIntent, subnet: &SubnetIntent, peered: &[Peered<'_>]) -> PrefixSet {
    let peered = peered.iter().flat_map(|(_, remote)| &remote.address_space);
    let all_of_ipv6 = IpNet::V6(ipnet::Ipv6Net::default());
    let space = network.address_space.iter().chain(peered).copied();
    space.chain((!has_ipv6(subnet)).then_some(all_of_ipv6)).collect()
}

fn is_ipv4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

/// Whether NICs of the subnet can have IPv6 addresses.
fn has_ipv6(subnet: &SubnetIntent) -> bool {
    !subnet.prefixes.iter().all(is_ipv4)
}

fn peering_with<'a>(network: &'a VirtualNetworkIntent, other: &str) -> Option<&'a PeeringIntent> {
    network.peerings.iter().find(|peering| peering.remote == other)
}

/// The first address of the subnet, per family.
fn gateways(prefixes: &[IpNet]) -> Vec<IpAddr> {
    let first = |ipv6: bool| {
        let prefix = prefixes.iter().find(|prefix| prefix.addr().is_ipv6() == ipv6)?;
        Some(match prefix.network() {
            IpAddr::V4(network) => IpAddr::from((u32::from(network).saturating_add(1)).to_be_bytes()),
            IpAddr::V6(network) => IpAddr::from((u128::from(network).saturating_add(1)).to_be_bytes()),
        })
    };
    [false, true].into_iter().filter_map(first).collect()
}
