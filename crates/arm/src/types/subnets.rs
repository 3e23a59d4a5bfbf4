//! `virtualNetworks/subnets`: prefixes inside the address space, apart from each other; the place of NICs and instances.

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};

use super::{
    Draft, ResourceType, check_region, network_security_groups, references, resolve, route_tables, virtual_hubs,
    virtual_networks,
};
use crate::address::{first_overlap, parse_prefix};
use crate::error::ArmError;
use crate::id::{ResourceId, parent_key};
use crate::index::{Reference, Relation};
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualNetworks/subnets";

/// The subnet that is the route server's alone (az §4.8).
pub(crate) const ROUTE_SERVER_SUBNET: &str = "RouteServerSubnet";
/// The subnet that virtual network gateways must be in, and nothing else.
pub(crate) const GATEWAY_SUBNET: &str = "GatewaySubnet";

pub(super) struct Subnets;

impl ResourceType for Subnets {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "ipConfigurations",
            "ipConfigurationProfiles",
            "privateEndpoints",
            "purpose",
            "resourceNavigationLinks",
            "serviceAssociationLinks",
        ]
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let prefixes = read_prefixes(draft)?;
        check_inside(world, draft, &prefixes)?;
        check_allocations(world, draft, &prefixes)?;
        // One prefix is shown as `addressPrefix`, several as `addressPrefixes`, however they were written.
        draft.properties.remove("addressPrefix");
        draft.properties.remove("addressPrefixes");
        match prefixes.as_slice() {
            [one] => draft.set("addressPrefix", one.to_string()),
            several => {
                let texts: Vec<String> = several.iter().map(IpNet::to_string).collect();
                draft.set("addressPrefixes", texts);
            }
        }
        read_association(world, draft, "routeTable", route_tables::KIND)?;
        read_association(world, draft, "networkSecurityGroup", network_security_groups::KIND)?;
        for (name, value) in [
            ("delegations", json!([])),
            ("privateEndpointNetworkPolicies", json!("Disabled")),
            ("privateLinkServiceNetworkPolicies", json!("Enabled")),
        ] {
            draft.properties.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        match id.parent() {
            Some(network) => check_overlaps(world, &network.key()),
            None => Ok(()),
        }
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        let mut ids = world.holder_ids(Relation::AddressIn, &resource.key());
        ids.dedup();
        if !ids.is_empty() {
            properties.insert("ipConfigurations".to_owned(), references(ids));
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::AddressIn, &resource.key()) {
            Some(holder) => Err(world.in_use("InUseSubnetCannotBeDeleted", "Subnet", &resource.id, holder)),
            None => Ok(()),
        }
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let associations = [
            ("routeTable", Relation::SubnetOfRouteTable),
            ("networkSecurityGroup", Relation::SubnetOfSecurityGroup),
        ];
        let named = associations
            .iter()
            .filter_map(|(name, relation)| Some((relation, resource.reference_key(name)?)));
        named
            .map(|(relation, key)| Reference::new(*relation, key, &resource.id))
            .collect()
    }
}

/// The prefixes of a stored subnet.
pub(crate) fn prefixes(subnet: &Resource) -> Vec<IpNet> {
    match subnet.property("addressPrefix") {
        Value::String(text) => text.parse().into_iter().collect(),
        _ => texts_to_prefixes(subnet.property("addressPrefixes")),
    }
}

/// A stored list of prefixes.
pub(super) fn texts_to_prefixes(texts: &Value) -> Vec<IpNet> {
    texts
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|text| text.as_str()?.parse().ok())
        .collect()
}

/// Whether every subnet of the network is where it may be: called when the network itself has changed.
pub(super) fn check_all(world: &World<'_>, network: &str) -> Result<(), ArmError> {
    let Some(owner) = world.get(network) else {
        return Ok(());
    };
    let space = virtual_networks::address_space(owner);
    for subnet in world.children(network, "subnets") {
        for prefix in prefixes(subnet) {
            if !space.iter().any(|outer| outer.contains(&prefix)) {
                return Err(prefix_in_use(&prefix, owner.name(), subnet));
            }
        }
    }
    check_overlaps(world, network)
}

fn check_overlaps(world: &World<'_>, network: &str) -> Result<(), ArmError> {
    let all = world
        .children(network, "subnets")
        .into_iter()
        .flat_map(|subnet| prefixes(subnet).into_iter().map(move |prefix| (prefix, subnet)))
        .collect();
    match first_overlap(all) {
        None => Ok(()),
        Some(((a_prefix, a), (b_prefix, b))) => Err(ArmError::bad(
            "NetcfgSubnetRangesOverlap",
            format!(
                "Subnet '{}' ({b_prefix}) is not valid because its IP address range overlaps with that of subnet '{}' ({a_prefix}) \
                 in virtual network '{}'. Choose a range that is free.",
                b.name(),
                a.name(),
                crate::id::last_segment(network)
            ),
        )
        .at(&b.id)),
    }
}

fn read_prefixes(draft: &Draft) -> Result<Vec<IpNet>, ArmError> {
    let reader = draft.reader();
    let several = reader.texts("addressPrefixes")?.filter(|texts| !texts.is_empty());
    let (texts, path) = match several {
        Some(texts) => (texts, reader.path_of("addressPrefixes")),
        None => (
            vec![reader.required_text("addressPrefix", "a prefix in CIDR notation, for example 10.0.1.0/24")?],
            reader.path_of("addressPrefix"),
        ),
    };
    let mut prefixes: Vec<IpNet> = Vec::new();
    for text in texts {
        let prefix = parse_prefix(text, &path)?;
        let fits = match prefix {
            IpNet::V4(v4) => v4.prefix_len() <= 29,
            IpNet::V6(v6) => v6.prefix_len() == 64,
        };
        if !fits {
            return Err(invalid_subnet(
                draft,
                &format!("{prefix} leaves no room for hosts. Use /29 or larger for IPv4 and exactly /64 for IPv6."),
            ));
        }
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    Ok(prefixes)
}

fn check_inside(world: &World<'_>, draft: &Draft, prefixes: &[IpNet]) -> Result<(), ArmError> {
    let Some(network) = draft.id.parent().and_then(|id| world.get(&id.key())) else {
        return Ok(());
    };
    let space = virtual_networks::address_space(network);
    let outside = prefixes
        .iter()
        .find(|prefix| !space.iter().any(|outer| outer.contains(*prefix)));
    let Some(outside) = outside else {
        return Ok(());
    };
    // A subnet that has not moved shows that the address space shrank under it.
    match &draft.existing {
        Some(existing) if self::prefixes(existing).contains(outside) => {
            Err(prefix_in_use(outside, network.name(), existing))
        }
        _ => Err(invalid_subnet(
            draft,
            &format!(
                "{outside} is not within its address space. Choose a prefix inside it, or add one to the address space."
            ),
        )),
    }
}

/// Addresses in use must stay inside; those of a route server's instances follow from the prefix, which therefore stays.
fn check_allocations(world: &World<'_>, draft: &Draft, prefixes: &[IpNet]) -> Result<(), ArmError> {
    for held in world.holders(Relation::AddressIn, &draft.id.key()) {
        let stays = match held.address {
            Some(address) => prefixes.iter().any(|prefix| prefix.contains(&address)),
            None => {
                let before = draft.existing.as_ref().map(self::prefixes).unwrap_or_default();
                let over_ipv6 = peers_over_ipv6(world, &held.id);
                first_v4(prefixes) == first_v4(&before) && (!over_ipv6 || first_v6(prefixes) == first_v6(&before))
            }
        };
        if !stays {
            return Err(ArmError::bad(
                "InUsePrefixCannotBeDeleted",
                format!(
                    "Subnet {} must keep the prefix that {} uses. Delete or move that first.",
                    draft.id.name(),
                    held.id
                ),
            )
            .at(draft.id.as_str()));
        }
    }
    Ok(())
}

/// Whether the route server with this ip configuration (id) has a peering with an IPv6 address, so that its instances' are in use.
fn peers_over_ipv6(world: &World<'_>, configuration: &str) -> bool {
    let configuration = configuration.to_ascii_lowercase();
    let hub = parent_key(&configuration).unwrap_or_default();
    virtual_hubs::peer_over_ipv6(world.children(hub, "bgpConnections").into_iter()).is_some()
}

fn first_v6(prefixes: &[IpNet]) -> Option<IpNet> {
    prefixes.iter().copied().find(|prefix| matches!(prefix, IpNet::V6(_)))
}

/// The prefix that a route server's instances are in.
pub(crate) fn first_v4(prefixes: &[IpNet]) -> Option<Ipv4Net> {
    prefixes.iter().find_map(|prefix| match prefix {
        IpNet::V4(prefix) => Some(*prefix),
        IpNet::V6(_) => None,
    })
}

/// Resolves `routeTable` or `networkSecurityGroup`; the route server's subnet takes neither (az §4.8).
fn read_association(world: &World<'_>, draft: &mut Draft, name: &str, kind: &str) -> Result<(), ArmError> {
    let Some(target) = resolve(world, draft, &draft.reader(), name, kind)? else {
        draft.properties.remove(name);
        return Ok(());
    };
    if draft.id.name().eq_ignore_ascii_case(ROUTE_SERVER_SUBNET) {
        let (code, what) = match name {
            "routeTable" => ("RouteServerSubnetCannotHaveRouteTable", "route table"),
            _ => (
                "RouteServerSubnetCannotHaveNetworkSecurityGroup",
                "network security group",
            ),
        };
        return Err(ArmError::bad(
            code,
            format!("{ROUTE_SERVER_SUBNET} can't have a {what}. Leave properties.{name} out."),
        )
        .at(format!("properties.{name}")));
    }
    if let Some(network) = draft.id.parent().and_then(|id| world.get(&id.key())) {
        check_region(draft, network.location(), target, target.location())?;
    }
    draft.set_reference(name, Some(&target.id));
    Ok(())
}

fn prefix_in_use(prefix: &IpNet, network: &str, subnet: &Resource) -> ArmError {
    ArmError::bad(
        "InUsePrefixCannotBeDeleted",
        format!(
            "The address space of virtual network '{network}' must contain {prefix}, which subnet '{}' uses. Delete that subnet \
             first, or keep the prefix.",
            subnet.name()
        ),
    )
    .at(&subnet.id)
}

fn invalid_subnet(draft: &Draft, why: &str) -> ArmError {
    let network = draft.id.parent();
    let network = network.as_ref().map(|id| id.name()).unwrap_or_default();
    ArmError::bad(
        "NetcfgInvalidSubnet",
        format!(
            "Subnet '{}' is not valid in virtual network '{network}': {why}",
            draft.id.name()
        ),
    )
    .at(draft.id.as_str())
}

/// The virtual network's key, from a subnet's.
pub(super) fn network_key(subnet: &str) -> &str {
    parent_key(subnet).unwrap_or_default()
}
