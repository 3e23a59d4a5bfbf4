//! `virtualHubs/bgpConnections`: a peering of the route server with an NVA.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::json;

use super::{
    Draft, ResourceType, asn, hub_ip_configurations, routing_configuration, subnets, virtual_hubs,
    virtual_network_peerings, virtual_networks,
};
use crate::address::{self, Unusable};
use crate::error::ArmError;
use crate::id::last_segment;
use crate::index::Reference;
use crate::request::{Ask, Mint, Request};
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualHubs/bgpConnections";

pub(super) struct BgpConnections;

impl ResourceType for BgpConnections {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["connectionState"]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let hub = draft.id.parent().map(|id| id.key()).unwrap_or_default();
        let Some(instances) = virtual_hubs::instances_of(world, &hub) else {
            return Err(ArmError::bad(
                "HubBgpConnectionParentHubMustHaveProvisionedRoutingState",
                format!(
                    "Route server '{}' must have routingState Provisioned before peers can be added. Create its ip configuration first.",
                    last_segment(&hub)
                ),
            ));
        };
        let reader = draft.reader();
        let Some(asn) = reader.whole("peerAsn", 0..=u64::from(u32::MAX))? else {
            return Err(reader.missing("peerAsn", "the AS number of the network virtual appliance"));
        };
        let peer_asn = asn as u32;
        asn::check_peer(peer_asn, world.settings.asn_of(&hub).0, "properties.peerAsn")?;
        let text = reader.required_text("peerIp", "the IPv4 address of the network virtual appliance")?;
        let address = check_address(world, &hub, text)?;
        check_place(world, &hub, address, instances)?;
        check_others(world, draft, &hub, address)?;
        draft.set("peerIp", address.to_string());
        draft.set("peerAsn", peer_asn);
        match routing_configuration::read(world, draft, &hub)? {
            true => check_maps_allowed(world, &hub, address),
            false => Ok(()),
        }
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        routing_configuration::references(resource)
    }

    fn action(&self, name: &str, key: String, _request: &Request) -> Result<Option<Ask>, ArmError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "learnedroutes" => Some(Ask::LearnedRoutes(key)),
            "advertisedroutes" => Some(Ask::AdvertisedRoutes(key)),
            _ => None,
        })
    }
}

/// A peer of a peered network has no route maps (az §2.8).
fn check_maps_allowed(world: &World<'_>, hub: &str, peer: IpAddr) -> Result<(), ArmError> {
    let subnet = hub_ip_configurations::of_hub(world, hub).and_then(hub_ip_configurations::subnet_of);
    let network = subnet.as_deref().map(subnets::network_key).unwrap_or_default();
    let space = world
        .get(network)
        .map(virtual_networks::address_space)
        .unwrap_or_default();
    match space.iter().any(|prefix| prefix.contains(&peer)) {
        true => Ok(()),
        false => Err(ArmError::bad(
            "HubBgpConnectionFromSpokeVnetCannotReferenceRouteMap",
            format!(
                "The peer {peer} is not in virtual network '{}', which the route server is in, so its connection can't have route maps. \
                 Leave them out, or put the appliance there.",
                last_segment(network)
            ),
        )
        .at("properties.routingConfiguration")),
    }
}

fn invalid_address(address: &str, why: &str) -> ArmError {
    ArmError::bad(
        "InvalidPeerIp",
        format!("The peer IP address '{address}' can't be used: {why}"),
    )
    .at("properties.peerIp")
}

/// Azure's peers have IPv4 addresses. With the setting `ipv6` those with IPv6 addresses are dialled as well, from the instances' own.
fn check_address(world: &World<'_>, hub: &str, text: &str) -> Result<IpAddr, ArmError> {
    let takes_v6 = world.settings.ipv6_of(hub);
    let address = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => IpAddr::V4(address),
        Ok(IpAddr::V6(_)) if takes_v6 && virtual_hubs::instances_v6_of(world, hub).is_none() => {
            return Err(invalid_address(
                text,
                "RouteServerSubnet has no IPv6 prefix, so the instances have no IPv6 addresses. Add a /64 to it first.",
            ));
        }
        Ok(IpAddr::V6(address)) if takes_v6 => IpAddr::V6(address),
        _ => {
            return Err(invalid_address(
                text,
                "it must be an IPv4 address, for example 10.0.2.4.",
            ));
        }
    };
    match is_unicast(address) {
        true => Ok(address),
        false => Err(invalid_address(
            text,
            "it must be the unicast address of a network virtual appliance.",
        )),
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let of_its_family = match address {
        IpAddr::V4(v4) => !v4.is_link_local() && v4.octets()[0] != 0 && v4.octets()[0] < 240,
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
    };
    of_its_family && !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// A peer is outside RouteServerSubnet, in the virtual network or in one directly peered with it (az §2.8).
fn check_place(world: &World<'_>, hub: &str, address: IpAddr, instances: [Ipv4Addr; 2]) -> Result<(), ArmError> {
    let text = address.to_string();
    if instances.iter().any(|own| address == IpAddr::V4(*own)) {
        return Err(invalid_address(
            &text,
            "it is one of the route server's own. Give the appliance's address.",
        ));
    }
    let Some(subnet) = hub_ip_configurations::of_hub(world, hub).and_then(hub_ip_configurations::subnet_of) else {
        return Ok(());
    };
    let inside = |prefixes: &[IpNet]| prefixes.iter().any(|prefix| prefix.contains(&address));
    if world
        .get(&subnet)
        .is_some_and(|subnet| inside(&subnets::prefixes(subnet)))
    {
        return Err(invalid_address(
            &text,
            "it is in RouteServerSubnet, which is the route server's alone. Put the appliance in another subnet.",
        ));
    }
    let network = subnets::network_key(&subnet);
    check_host(world, network, address)?;
    let peered = virtual_network_peerings::connected(world, network);
    let reachable = std::iter::once(network)
        .chain(peered.iter().map(|(_, remote)| remote.as_str()))
        .filter_map(|key| world.get(key))
        .any(|network| inside(&virtual_networks::address_space(network)));
    match reachable {
        true => Ok(()),
        false => Err(invalid_address(
            &text,
            &format!(
                "it is neither in virtual network '{}' nor in one peered with it. Put the appliance there, or peer its network first.",
                last_segment(network)
            ),
        )),
    }
}

/// In its subnet, the platform has the first four addresses and of IPv4 the last one: no appliance has them.
fn check_host(world: &World<'_>, network: &str, address: IpAddr) -> Result<(), ArmError> {
    let subnets = world.children(network, "subnets");
    let mut prefixes = subnets.iter().flat_map(|subnet| subnets::prefixes(subnet));
    let reserved = prefixes.any(|prefix| address::check_host(&[prefix], address) == Err(Unusable::Reserved));
    match reserved {
        false => Ok(()),
        true => Err(invalid_address(
            &address.to_string(),
            "the platform has the first four addresses of a subnet and the last one. Give the appliance's own address.",
        )),
    }
}

fn check_others(world: &World<'_>, draft: &Draft, hub: &str, address: IpAddr) -> Result<(), ArmError> {
    let mut others = world.children(hub, "bgpConnections");
    others.retain(|other| other.key() != draft.id.key());
    if let Some(other) = others
        .iter()
        .find(|other| other.property("peerIp") == &json!(address.to_string()))
    {
        return Err(ArmError::bad(
            "PeerIpAlreadyInUse",
            format!(
                "Peering '{}' of this route server already has the peer IP address {address}. Change that one, or delete it first.",
                other.name()
            ),
        )
        .at("properties.peerIp"));
    }
    let limit = world.settings.limits.peers as usize;
    if draft.existing.is_none() && limit != 0 && others.len() >= limit {
        return Err(ArmError::bad(
            "MaximumLocalNetworkSitesLimitReachedForGateway",
            format!(
                "The number of peers has reached the limit of this route server. Current peers: {}, max limit: {limit}. Delete a \
                 peer, or raise [limits] peers in the configuration.",
                others.len()
            ),
        ));
    }
    Ok(())
}
