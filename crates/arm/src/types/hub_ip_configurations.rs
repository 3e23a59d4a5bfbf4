//! `virtualHubs/ipConfigurations`: what turns a hub into a running route server: RouteServerSubnet and a public address. The
//! placement rules (az §4.8) are checked here, not at the hub.

use ipnet::IpNet;

use super::{Draft, ResourceType, check_region, public_ip_addresses, resolve, subnets, virtual_network_peerings};
use crate::error::ArmError;
use crate::id::last_segment;
use crate::index::{Reference, Relation};
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualHubs/ipConfigurations";

/// Azure's documents say /26 since 2024, its service takes /27 (az §4.8).
const LONGEST_SUBNET: u8 = 27;

pub(super) struct HubIpConfigurations;

impl ResourceType for HubIpConfigurations {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["privateIPAddress", "privateIPAllocationMethod"]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        check_only_one(world, draft)?;
        let reader = draft.reader();
        let Some(subnet) = resolve(world, draft, &reader, "subnet", subnets::KIND)? else {
            return Err(reader.missing("subnet", "the id of RouteServerSubnet"));
        };
        check_subnet(world, draft, subnet)?;
        let public = resolve(world, draft, &reader, "publicIPAddress", public_ip_addresses::KIND)?;
        let public = check_public_address(world, draft, public)?;
        check_regions(world, draft, subnet, public)?;
        let (subnet, public) = (subnet.id.clone(), public.id.clone());
        draft.set("privateIPAllocationMethod", "Dynamic");
        draft.set_reference("publicIPAddress", Some(&public));
        draft.set_reference("subnet", Some(&subnet));
        Ok(())
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let Some(subnet) = subnet_of(resource) else {
            return Vec::new();
        };
        let network = subnets::network_key(&subnet).to_owned();
        let mut references = vec![
            Reference::new(Relation::RouteServerIn, network, &resource.id),
            // The addresses follow from the subnet's prefix, which therefore can't change while this is here.
            Reference::address(subnet, &resource.id, None),
        ];
        if let Some(public) = resource.reference_key("publicIPAddress") {
            references.push(Reference::new(Relation::UserOfPublicAddress, public, &resource.id));
        }
        references
    }
}

/// The subnet's key.
pub(crate) fn subnet_of(configuration: &Resource) -> Option<String> {
    configuration.reference_key("subnet")
}

fn check_only_one(world: &World<'_>, draft: &Draft) -> Result<(), ArmError> {
    let hub = draft.id.parent().map(|id| id.key()).unwrap_or_default();
    let other = world
        .children(&hub, "ipConfigurations")
        .into_iter()
        .find(|other| other.key() != draft.id.key());
    match other {
        Some(other) => Err(ArmError::bad(
            "RouteServerCanHaveOnlyOneIpConfiguration",
            format!(
                "A route server has exactly one ip configuration, and this one has '{}'. Change that one, or delete it first.",
                other.name()
            ),
        )
        .at(&other.id)),
        None => Ok(()),
    }
}

fn check_subnet(world: &World<'_>, draft: &Draft, subnet: &Resource) -> Result<(), ArmError> {
    let path = "properties.subnet";
    let fail = |code: &str, message: String| Err(ArmError::bad(code, message).at(path));
    if subnet.name() != subnets::ROUTE_SERVER_SUBNET {
        return fail(
            "InvalidRouteServerSubnetName",
            format!(
                "Subnet name used to deploy Route Server should be {}, not '{}'. Create a subnet with that name in the virtual network.",
                subnets::ROUTE_SERVER_SUBNET,
                subnet.name()
            ),
        );
    }
    if let Some(existing) = draft.existing.as_ref().and_then(subnet_of)
        && existing != subnet.key()
    {
        return fail(
            "RouteServerCannotBeMoved",
            "A route server can't move to another subnet. Delete its ip configuration and create it again.".to_owned(),
        );
    }
    let room = subnets::prefixes(subnet)
        .iter()
        .find(|prefix| matches!(prefix, IpNet::V4(_)))
        .is_some_and(|prefix| prefix.prefix_len() <= LONGEST_SUBNET);
    if !room {
        let network = last_segment(subnets::network_key(&subnet.id));
        return fail(
            "NetcfgInvalidSubnet",
            format!(
                "Subnet '{}' is not valid in virtual network '{network}': a route server needs an IPv4 prefix of /{LONGEST_SUBNET} or \
                 larger (/26 is recommended). Make the subnet larger.",
                subnet.name()
            ),
        );
    }
    for (name, what) in [
        ("routeTable", "route table"),
        ("networkSecurityGroup", "network security group"),
    ] {
        if !subnet.property(name).is_null() {
            return fail(
                "NetcfgInvalidSubnet",
                format!(
                    "{} can't have a {what}. Remove it from the subnet first.",
                    subnet.name()
                ),
            );
        }
    }
    let network = subnets::network_key(&subnet.id).to_ascii_lowercase();
    let another = |relation: Relation, target: &str| {
        let mut ids = world.holders(relation, target).map(|holder| holder.id.as_str());
        ids.find(|id| !id.eq_ignore_ascii_case(draft.id.as_str()))
    };
    if let Some(other) = another(Relation::RouteServerIn, &network) {
        return fail(
            "VirtualNetworkCanHaveOnlyOneRouteServer",
            format!(
                "Virtual network '{}' already has a route server ({other}); it can have only one. Use that one, or delete it first.",
                last_segment(&network)
            ),
        );
    }
    if let Some(other) = another(Relation::AddressIn, &subnet.key()) {
        return fail(
            "RouteServerSubnetMustBeDedicated",
            format!(
                "{} must be the route server's alone, but {other} has an address in it. Move that to another subnet.",
                subnet.name(),
            ),
        );
    }
    virtual_network_peerings::check_no_remote_gateways(world, &network, "route server")?;
    check_peers_outside(world, draft, subnet)
}

/// Peers may be older than this ip configuration (it was deleted and comes again elsewhere): none may be in the subnet.
fn check_peers_outside(world: &World<'_>, draft: &Draft, subnet: &Resource) -> Result<(), ArmError> {
    let prefixes = subnets::prefixes(subnet);
    let hub = draft.id.parent().map(|id| id.key()).unwrap_or_default();
    for peer in world.children(&hub, "bgpConnections") {
        let address = peer.property("peerIp").as_str().and_then(|text| text.parse().ok());
        let Some(address) = address else { continue };
        if prefixes
            .iter()
            .any(|prefix| prefix.contains::<&std::net::IpAddr>(&address))
        {
            return Err(ArmError::bad(
                "InvalidPeerIp",
                format!(
                    "Peering {} has the address {address}, which is in RouteServerSubnet. Delete it first.",
                    peer.id
                ),
            )
            .at(&peer.id));
        }
    }
    Ok(())
}

fn check_public_address<'w>(
    world: &World<'_>,
    draft: &Draft,
    public: Option<&'w Resource>,
) -> Result<&'w Resource, ArmError> {
    let refused = |need: &str| {
        ArmError::bad(
            "InvalidOperation",
            format!(
                "The specified operation 'PutHubIpConfiguration' is not supported. Route Server creation requires a public ip \
                 address{need}. Give the id of one in properties.publicIPAddress."
            ),
        )
        .at("properties.publicIPAddress")
    };
    let public = public.ok_or_else(|| refused(""))?;
    if public.body["sku"]["name"] != "Standard" {
        return Err(refused(" of Standard SKU"));
    }
    if public.property("publicIPAllocationMethod") != "Static" {
        return Err(refused(" with static allocation"));
    }
    if public.property("publicIPAddressVersion") != "IPv4" {
        return Err(refused(" of version IPv4"));
    }
    public_ip_addresses::check_free(world, public, draft.id.as_str())?;
    Ok(public)
}

/// The route server's region is its virtual network's (az §4.8).
fn check_regions(world: &World<'_>, draft: &Draft, subnet: &Resource, public: &Resource) -> Result<(), ArmError> {
    let hub = draft.id.parent().and_then(|id| world.get(&id.key()));
    let network = world.get(&subnets::network_key(&subnet.id).to_ascii_lowercase());
    let (Some(hub), Some(network)) = (hub, network) else {
        return Ok(());
    };
    check_region(draft, hub.location(), network, network.location())?;
    check_region(draft, hub.location(), public, public.location())
}

/// The hub's ip configuration.
pub(super) fn of_hub<'w>(world: &'w World<'_>, hub: &str) -> Option<&'w Resource> {
    world.children(hub, "ipConfigurations").into_iter().next()
}
