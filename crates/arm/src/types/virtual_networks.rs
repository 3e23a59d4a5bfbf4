//! `virtualNetworks`: an address space, with its subnets and peerings as children that its body also shows.
//!
//! A PUT that lists `subnets` (or `virtualNetworkPeerings`) replaces them all; one that leaves the member out keeps them, as Azure
//! does since 2023.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, hybrid, put_children, subnets, virtual_network_peerings};
use crate::address::{check_address_space, first_overlap, overlap, parse_prefix};
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::request::Mint;
use crate::resource::Resource;
use crate::types;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualNetworks";

pub(super) struct VirtualNetworks;

impl ResourceType for VirtualNetworks {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["defaultPublicNatGateway", "flowLogs"]
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let space = read_address_space(draft)?;
        let texts: Vec<String> = space.iter().map(IpNet::to_string).collect();
        draft.set("addressSpace", json!({ "addressPrefixes": texts }));
        let reader = draft.reader();
        let ddos = reader.boolean("enableDdosProtection")?.unwrap_or(false);
        draft.set("enableDdosProtection", ddos);
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        check_peered_overlap(world, draft, &space)
    }

    fn put(&self, world: &mut World<'_>, mut draft: Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let id = draft.id.clone();
        let lists = ["subnets", "virtualNetworkPeerings"];
        let given = lists.map(|name| draft.reader().list(name).map(|items| items.map(<[Value]>::to_vec)));
        for name in lists {
            draft.properties.remove(name);
        }
        let [subnets, peerings] = given;
        let (subnets, peerings) = (subnets?, peerings?);
        self.read(world, &mut draft, mint)?;
        draft.store(KIND, world, mint);
        if let Some(items) = subnets {
            put_children(world, &subnets::Subnets, &id, &items, mint)?;
        }
        if let Some(items) = peerings {
            put_children(
                world,
                &virtual_network_peerings::VirtualNetworkPeerings,
                &id,
                &items,
                mint,
            )?;
        }
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        subnets::check_all(world, &id.key())?;
        hybrid::check_network(world, &id.key())?;
        for remote in peered(world, &id.key()) {
            hybrid::check_network(world, &remote.key())?;
        }
        Ok(())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        for segment in ["subnets", "virtualNetworkPeerings"] {
            let children: Vec<Value> = world
                .children(&resource.key(), segment)
                .into_iter()
                .map(|child| types::show(world, child))
                .collect();
            properties.insert(segment.to_owned(), Value::Array(children));
        }
    }
}

/// The address space of a stored virtual network.
pub(crate) fn address_space(network: &Resource) -> Vec<IpNet> {
    super::subnets::texts_to_prefixes(&network.property("addressSpace")["addressPrefixes"])
}

fn read_address_space(draft: &Draft) -> Result<Vec<IpNet>, ArmError> {
    let path = "properties.addressSpace.addressPrefixes";
    let what = "at least one prefix in CIDR notation, for example [\"10.0.0.0/16\"]";
    let reader = draft.reader();
    let Some(space) = reader.object("addressSpace")? else {
        return Err(reader.missing("addressSpace", "addressPrefixes with at least one prefix"));
    };
    let texts = space.texts("addressPrefixes")?.unwrap_or_default();
    if texts.is_empty() {
        return Err(space.missing("addressPrefixes", what));
    }
    let mut prefixes = Vec::new();
    for text in texts {
        let prefix = parse_prefix(text, path)?;
        check_address_space(&prefix, path)?;
        prefixes.push(prefix);
    }
    match first_overlap(prefixes.iter().map(|prefix| (*prefix, ())).collect()) {
        Some(((a, ()), (b, ()))) => Err(ArmError::bad(
            "NetcfgInvalidVirtualNetworkSite",
            format!(
                "The address prefixes {a} and {b} of virtual network '{}' overlap. Leave one of them out.",
                draft.id.name()
            ),
        )
        .at(path)),
        None => Ok(prefixes),
    }
}

/// Peered networks must stay apart, also when one grows; and so must all those that are peered with the same one.
fn check_peered_overlap(world: &World<'_>, draft: &Draft, space: &[IpNet]) -> Result<(), ArmError> {
    let own = draft.id.key();
    for remote in peered(world, &own) {
        check_apart(draft, space, remote, |theirs| {
            format!("{theirs} of the peered virtual network {}", remote.id)
        })?;
        let remote_key = remote.key();
        let mut others = peered(world, &remote_key);
        // A side alone is no link yet.
        if !others.iter().any(|network| network.key() == own) {
            continue;
        }
        others.retain(|network| network.key() != own);
        for other in others {
            check_apart(draft, space, other, |theirs| match world.check_readable(&other.id) {
                Ok(()) => format!(
                    "{theirs} of a network that the same one is peered with, virtual network {}",
                    other.id
                ),
                Err(_) => "a network that the same one is peered with, and that you may not read".to_owned(),
            })?;
        }
    }
    Ok(())
}

/// The networks that a network's own peerings name.
fn peered<'w>(world: &'w World<'_>, network: &str) -> Vec<&'w Resource> {
    world
        .children(network, "virtualNetworkPeerings")
        .into_iter()
        .filter_map(|peering| peering.reference_key("remoteVirtualNetwork"))
        .filter_map(|key| world.get(&key))
        .collect()
}

/// `told` says of a prefix of the other network whose it is.
fn check_apart(
    draft: &Draft,
    space: &[IpNet],
    other: &Resource,
    told: impl Fn(IpNet) -> String,
) -> Result<(), ArmError> {
    let overlapping = pairs(space, &address_space(other))
        .into_iter()
        .find(|(ours, theirs)| overlap(ours, theirs));
    match overlapping {
        Some((ours, theirs)) => Err(ArmError::bad(
            "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet",
            format!(
                "The address prefix {ours} of virtual network '{}' overlaps {}. Choose another prefix or remove the peering.",
                draft.id.name(),
                told(theirs)
            ),
        )),
        None => Ok(()),
    }
}

pub(super) fn pairs(a: &[IpNet], b: &[IpNet]) -> Vec<(IpNet, IpNet)> {
    a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))).collect()
}
