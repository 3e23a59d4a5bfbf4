//! From resources to what an instance is to do.

mod circuits;
mod gateways;
mod peers;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bgp::IpNet;
use rib::Preference;
use routeserver::Intent;
use routeserver::intent::{
    AgentTokens, GatewayIntent, NicIntent, PeeringIntent, RouteServerIntent, RouteTableIntent, SubnetIntent,
    UserNextHop, UserRouteIntent, VirtualNetworkIntent,
};
use serde_json::Value;

pub(crate) use self::gateways::behind as gateway_behind;
use self::peers::SettingsOf;

use crate::id::parent_key;
use crate::resource::{Resource, Resources, reference_key};
use crate::settings::Settings;
use crate::types;

/// How long an instance waits for End-of-RIB after a start.
const CONVERGE_SECS: u64 = 120;
/// The whole intent; its version is that of the resources, which therefore must grow also when only settings change.
pub fn intent(resources: &Resources, settings: &Settings) -> Intent {
    let nics = nics_by_network(resources);
    let peerings = Peerings::of(resources);
    let of_kind = |kind: &'static str| resources.iter().filter(move |resource| resource.kind == kind);
    let route_servers: Vec<RouteServerIntent> = of_kind(types::VIRTUAL_HUB)
        .filter_map(|hub| route_server(resources, settings, hub))
        .collect();
    let mut gateways = gateways::all(resources, settings, &route_servers);
    gateways.extend(circuits::all(resources, settings));
    Intent {
        version: resources.version,
        gateways,
        route_servers,
        virtual_networks: of_kind(types::VIRTUAL_NETWORK)
            .map(|network| virtual_network(resources, settings, network, &nics, &peerings))
            .collect(),
        logs_routes: settings.logs_routes,
        memory_mib: settings.limits.memory_mib,
        agent_tokens: settings.agents_need_tokens.then(|| agent_tokens(resources, settings)),
    }
}

/// The token of whatever has one; what has none is followed by nobody.
fn agent_tokens(resources: &Resources, settings: &Settings) -> AgentTokens {
    let has_agents = |kind: &str| matches!(kind, types::NETWORK_INTERFACE | types::VIRTUAL_NETWORK_GATEWAY);
    let all = settings.by_key.iter().filter_map(|(id, own)| {
        let hash = own.get(crate::settings::AGENT_TOKEN)?.as_str()?;
        let resource = resources.by_key(id)?;
        has_agents(&resource.kind).then(|| (id.clone(), hash.to_ascii_lowercase()))
    });
    all.collect()
}

/// What one gateway (key) is to do.
pub(crate) fn of_gateway(resources: &Resources, settings: &Settings, gateway: &str) -> Option<GatewayIntent> {
    gateways::one(resources, settings, resources.get(gateway)?)
}

fn route_server(resources: &Resources, settings: &Settings, hub: &Resource) -> Option<RouteServerIntent> {
    let id = hub.key();
    let configuration = resources.children(&id, "ipConfigurations").next()?;
    let subnet_id = types::hub_subnet_of(configuration)?;
    let subnet_resource = resources.by_key(&subnet_id)?;
    let subnet = types::subnet_prefixes(subnet_resource)
        .into_iter()
        .find(|prefix| matches!(prefix, IpNet::V4(_)))?;
    let addresses = types::provisioned_instances(Some(configuration), |key| resources.by_key(key))?;
    let ipv6 = settings.ipv6_of(&id);
    let addresses_v6 = types::provisioned_instances_v6(Some(configuration), |key| resources.by_key(key));
    let addresses_v6 = addresses_v6.filter(|_| ipv6);
    let own = SettingsOf::new(settings, &id);
    let network = parent_key(&subnet_id)?;
    let mut peers = peers::of_route_server(resources, settings, &id);
    // Refused as long as it is looked at; without addresses to speak from there is nobody to speak.
    peers.retain(|peer| peer.address.is_ipv4() || addresses_v6.is_some());
    peers.extend(gateways::peers_of_route_server(resources, settings, &id, network));
    Some(RouteServerIntent {
        name: hub.name().to_owned(),
        asn: settings.asn_of(&id),
        virtual_network: network.to_owned(),
        subnet,
        instance_addresses: addresses.map(IpAddr::V4),
        instance_addresses_v6: addresses_v6.map_or([None; 2], |addresses| addresses.map(Some)),
        branch_to_branch: is_true(hub.property("allowBranchToBranchTraffic")),
        preference: preference(hub.property("hubRoutingPreference")),
        namespace: bound(settings, None, Some(&subnet_id), Some(&subnet)),
        converge_secs: own.whole("convergeSecs").unwrap_or(CONVERGE_SECS),
        peers,
        ipv6,
        total_routes: own.whole("totalRoutes").unwrap_or(settings.limits.total_routes),
        persist_routes: own.persist_routes(),
        id,
    })
}

/// `[bind]`: by the address itself, else by its subnet's id, else by that one's prefix.
fn bound(settings: &Settings, address: Option<IpAddr>, subnet: Option<&str>, prefix: Option<&IpNet>) -> Option<String> {
    let by_address = address.and_then(|address| settings.bind.get(&IpNet::from(address).to_string()));
    let by_id = || settings.bind.get(subnet?);
    let by_prefix = || settings.bind.get(&prefix?.to_string());
    by_address.or_else(by_id).or_else(by_prefix).cloned()
}

fn preference(value: &Value) -> Preference {
    match value.as_str() {
        Some("VpnGateway") => Preference::VpnGateway,
        Some("ASPath") => Preference::ASPath,
        _ => Preference::ExpressRoute,
    }
}

fn virtual_network(
    resources: &Resources,
    settings: &Settings,
    network: &Resource,
    nics: &BTreeMap<String, Vec<NicIntent>>,
    peerings: &Peerings<'_>,
) -> VirtualNetworkIntent {
    let id = network.key();
    VirtualNetworkIntent {
        name: network.name().to_owned(),
        address_space: types::address_space(network),
        subnets: resources
            .children(&id, "subnets")
            .map(|found| subnet(resources, settings, found))
            .collect(),
        peerings: resources
            .children(&id, "virtualNetworkPeerings")
            .filter_map(|found| peering(resources, peerings, network, found))
            .collect(),
        nics: nics.get(&id).cloned().unwrap_or_default(),
        id,
    }
}

fn subnet(resources: &Resources, settings: &Settings, subnet: &Resource) -> SubnetIntent {
    let table = subnet
        .reference_key("routeTable")
        .and_then(|key| resources.by_key(&key));
    SubnetIntent {
        id: subnet.key(),
        name: subnet.name().to_owned(),
        prefixes: types::subnet_prefixes(subnet),
        route_table: table.map(|table| route_table(resources, settings, table)),
    }
}

fn route_table(resources: &Resources, settings: &Settings, table: &Resource) -> RouteTableIntent {
    let id = table.key();
    // Settings were checked when they were written.
    let import = settings
        .by_key
        .get(&id)
        .and_then(|own| types::import_filter(own).ok().flatten());
    RouteTableIntent {
        disable_bgp_route_propagation: is_true(table.property("disableBgpRoutePropagation")),
        disable_peering_route: table.property("disablePeeringRoute") == "All",
        routes: resources.children(&id, "routes").filter_map(user_route).collect(),
        import,
        id,
    }
}

/// `None` for service tags, which stand for no prefix here.
fn user_route(route: &Resource) -> Option<UserRouteIntent> {
    let addresses = || -> Vec<IpAddr> {
        let one = route.property("nextHopIpAddress").as_str();
        let several = route.property("nextHop")["nextHopIpAddresses"].as_array();
        let several = several.into_iter().flatten().filter_map(Value::as_str);
        one.into_iter()
            .chain(several)
            .filter_map(|text| text.parse().ok())
            .collect()
    };
    let next_hop = match route.property("nextHopType").as_str()? {
        "VirtualAppliance" | "VirtualApplianceEcmp" => UserNextHop::VirtualAppliance(addresses()),
        "VnetLocal" => UserNextHop::VnetLocal,
        "Internet" => UserNextHop::Internet,
        "VirtualNetworkGateway" => UserNextHop::VirtualNetworkGateway,
        _ => UserNextHop::None,
    };
    Some(UserRouteIntent {
        name: route.name().to_owned(),
        prefix: route.property("addressPrefix").as_str()?.parse().ok()?,
        next_hop,
    })
}

/// The peerings of all networks, by the keys of the network and of the one that it leads to: a hub has hundreds, and each looks for its
/// other side.
struct Peerings<'a>(HashMap<(String, String), &'a Resource>);

impl<'a> Peerings<'a> {
    fn of(resources: &'a Resources) -> Peerings<'a> {
        let mut peerings = HashMap::new();
        for peering in resources.iter() {
            if peering.kind != types::VIRTUAL_NETWORK_PEERING {
                continue;
            }
            let (key, remote) = (peering.key(), peering.reference_key("remoteVirtualNetwork"));
            if let (Some(network), Some(remote)) = (parent_key(&key), remote) {
                peerings.entry((network.to_owned(), remote)).or_insert(peering);
            }
        }
        Peerings(peerings)
    }

    fn between(&self, network: String, remote: String) -> Option<&'a Resource> {
        self.0.get(&(network, remote)).copied()
    }
}

/// Connected peerings only.
fn peering(
    resources: &Resources,
    peerings: &Peerings<'_>,
    network: &Resource,
    peering: &Resource,
) -> Option<PeeringIntent> {
    let remote = peering.reference_key("remoteVirtualNetwork")?;
    let remote_network = resources.by_key(&remote)?;
    let other = || peerings.between(remote.clone(), network.key());
    types::is_connected(peering, other).then(|| PeeringIntent {
        use_remote_gateways: is_true(peering.property("useRemoteGateways")),
        allow_gateway_transit: is_true(peering.property("allowGatewayTransit")),
        global: remote_network.location() != network.location(),
        remote: remote.clone(),
    })
}

/// NICs by the virtual network that their primary address is in.
fn nics_by_network(resources: &Resources) -> BTreeMap<String, Vec<NicIntent>> {
    let mut by_network: BTreeMap<String, Vec<NicIntent>> = BTreeMap::new();
    for nic in resources.iter() {
        if nic.kind != types::NETWORK_INTERFACE {
            continue;
        }
        let subnet = types::nic_configurations(nic)
            .next()
            .and_then(|first| reference_key(&first["properties"]["subnet"]));
        let Some(subnet) = subnet else { continue };
        let Some(network) = parent_key(&subnet).map(str::to_owned) else {
            continue;
        };
        by_network.entry(network).or_default().push(NicIntent {
            id: nic.key(),
            name: nic.name().to_owned(),
            subnet,
            addresses: types::nic_configurations(nic).filter_map(types::nic_address).collect(),
        });
    }
    by_network
}

fn is_true(value: &Value) -> bool {
    value == &Value::Bool(true)
}
