//! `virtualNetworks/virtualNetworkPeerings`: one side of a link between two virtual networks. One side alone is `Initiated`, both
//! are `Connected`; when one side is deleted the other is `Disconnected` until it is written again, and only then can the deleted side
//! be made anew.

use serde_json::{Map, Value, json};

use super::virtual_networks::{self, pairs};
use super::{Draft, ResourceType, hybrid, resolve};
use crate::address::overlap;
use crate::error::ArmError;
use crate::id::{ResourceId, last_segment, parent_key};
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings";

/// Stored on a side that lost its other side.
const DISCONNECTED: &str = "peeringState";

pub(super) struct VirtualNetworkPeerings;

impl ResourceType for VirtualNetworkPeerings {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "peeringState",
            "peeringSyncLevel",
            "remoteAddressSpace",
            "remoteVirtualNetworkAddressSpace",
            "localAddressSpace",
            "localVirtualNetworkAddressSpace",
            "remoteBgpCommunities",
            "remoteVirtualNetworkEncryption",
            "remoteGateways",
        ]
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let Some(remote) = resolve(world, draft, &reader, "remoteVirtualNetwork", virtual_networks::KIND)? else {
            return Err(reader.missing("remoteVirtualNetwork", "the id of the virtual network to peer with"));
        };
        let mut flags = Vec::new();
        for (name, default) in [
            ("allowVirtualNetworkAccess", true),
            ("allowForwardedTraffic", false),
            ("allowGatewayTransit", false),
            ("useRemoteGateways", false),
            ("doNotVerifyRemoteGateways", false),
            ("peerCompleteVnets", true),
        ] {
            flags.push((name, reader.boolean(name)?.unwrap_or(default)));
        }
        let local = draft.id.parent().map(|id| id.key()).unwrap_or_default();
        check_spaces(world, draft, &local, remote)?;
        check_other_side(
            world,
            draft,
            &local,
            remote,
            flags.contains(&("allowGatewayTransit", true)),
        )?;
        if flags.contains(&("useRemoteGateways", true)) {
            check_remote_gateways(world, draft, &local, remote)?;
        }
        draft.set_reference("remoteVirtualNetwork", Some(&remote.id));
        for (name, value) in flags {
            draft.set(name, value);
        }
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        let local = id.parent().map(|id| id.key());
        let remote = world
            .get(&id.key())
            .and_then(|peering| peering.reference_key("remoteVirtualNetwork"));
        let mut both = local.into_iter().chain(remote);
        both.try_for_each(|network| hybrid::check_network(world, &network))
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        let state = state(world, resource);
        // The other side follows at once, so only one that is not there can be behind.
        let sync_level = match state {
            "Connected" => "FullyInSync",
            _ => "RemoteNotInSync",
        };
        properties.insert("peeringState".to_owned(), json!(state));
        properties.insert("peeringSyncLevel".to_owned(), json!(sync_level));
        let remote = resource
            .reference_key("remoteVirtualNetwork")
            .and_then(|key| world.get(&key));
        if let Some(remote) = remote {
            let space = remote.property("addressSpace");
            properties.insert("remoteAddressSpace".to_owned(), space.clone());
            properties.insert("remoteVirtualNetworkAddressSpace".to_owned(), space.clone());
        }
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let local = parent_key(&resource.key()).unwrap_or_default().to_owned();
        let Some(remote) = resource.reference_key("remoteVirtualNetwork") else {
            return Ok(());
        };
        if let Some(other) = peering_between(world, &remote, &local).cloned() {
            set_disconnected(world, &other, mint);
        }
        Ok(())
    }
}

/// Whether both sides are there and neither was lost.
pub(crate) fn is_connected<'r>(peering: &Resource, other: impl FnOnce() -> Option<&'r Resource>) -> bool {
    peering.property(DISCONNECTED).is_null() && other().is_some_and(|other| other.property(DISCONNECTED).is_null())
}

/// Peerings of a network that are Connected, with the remote network's key.
pub(super) fn connected<'w>(world: &'w World<'_>, network: &str) -> Vec<(&'w Resource, String)> {
    world
        .children(network, "virtualNetworkPeerings")
        .into_iter()
        .filter(|peering| state(world, peering) == "Connected")
        .filter_map(|peering| Some((peering, peering.reference_key("remoteVirtualNetwork")?)))
        .collect()
}

fn state(world: &World<'_>, peering: &Resource) -> &'static str {
    let other = other_side(world, &peering.key());
    if is_connected(peering, || other) {
        return "Connected";
    }
    let lost = |side: Option<&Resource>| side.is_some_and(|side| !side.property(DISCONNECTED).is_null());
    if lost(Some(peering)) || lost(other) {
        return "Disconnected";
    }
    "Initiated"
}

fn other_side<'w>(world: &'w World<'_>, key: &str) -> Option<&'w Resource> {
    let remote = world.get(key)?.reference_key("remoteVirtualNetwork")?;
    peering_between(world, &remote, parent_key(key)?)
}

/// The peering of one network to another.
fn peering_between<'w>(world: &'w World<'_>, from: &str, to: &str) -> Option<&'w Resource> {
    world
        .children(from, "virtualNetworkPeerings")
        .into_iter()
        .find(|peering| peering.reference_key("remoteVirtualNetwork").as_deref() == Some(to))
}

fn set_disconnected(world: &mut World<'_>, peering: &Resource, mint: &mut dyn Mint) {
    let mut body = peering.body.clone();
    if let Some(properties) = body["properties"].as_object_mut() {
        properties.insert(DISCONNECTED.to_owned(), json!("Disconnected"));
    }
    world.store(&peering.id, KIND, body, mint);
}

fn check_spaces(world: &World<'_>, draft: &Draft, local: &str, remote: &Resource) -> Result<(), ArmError> {
    let Some(network) = world.get(local) else {
        return Ok(());
    };
    if remote.key() == local {
        return Err(ArmError::bad(
            "VnetCannotPeerWithItself",
            "A virtual network can't be peered with itself. Name another one in properties.remoteVirtualNetwork.",
        )
        .at("properties.remoteVirtualNetwork"));
    }
    let space = virtual_networks::address_space(remote);
    for (ours, theirs) in pairs(&virtual_networks::address_space(network), &space) {
        if overlap(&ours, &theirs) {
            return Err(ArmError::bad(
                "VnetAddressSpacesOverlap",
                format!(
                    "Cannot create or update peering {}. Virtual networks {} and {} cannot be peered because {ours} overlaps {theirs}. \
                     Give one of them another address space.",
                    draft.id, network.id, remote.id
                ),
            ));
        }
    }
    for peering in world.children(local, "virtualNetworkPeerings") {
        if peering.key() == draft.id.key() {
            continue;
        }
        let Some(other) = peering
            .reference_key("remoteVirtualNetwork")
            .and_then(|key| world.get(&key))
        else {
            continue;
        };
        if other.key() == remote.key() {
            return Err(ArmError::bad(
                "AnotherPeeringAlreadyReferencesRemoteVnet",
                format!(
                    "Peering {} already references the remote virtual network {}. Change that one, or delete it first.",
                    peering.id, remote.id
                ),
            ));
        }
        for (theirs, others) in pairs(&space, &virtual_networks::address_space(other)) {
            if overlap(&theirs, &others) {
                return Err(ArmError::bad(
                    "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet",
                    format!(
                        "Peering {} can't be made because {theirs} of {} overlaps {others} of {}, which is already peered. Give one \
                         of them another address space.",
                        draft.id, remote.id, other.id
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// What the other side, if it is there, has to say: it must not have lost this one before, nor use gateways that are not offered.
fn check_other_side(
    world: &World<'_>,
    draft: &Draft,
    local: &str,
    remote: &Resource,
    offers_gateways: bool,
) -> Result<(), ArmError> {
    let Some(other) = peering_between(world, &remote.key(), local) else {
        return Ok(());
    };
    if !other.property(DISCONNECTED).is_null() {
        return Err(ArmError::bad(
            "RemotePeeringIsDisconnected",
            format!(
                "Cannot create or update peering {} because remote peering {} referencing parent virtual network is in Disconnected \
                 state. Update or re-create the remote peering to get it back to Initiated state. Peering gets Disconnected when remote \
                 vnet or remote peering is deleted and re-created.",
                draft.id, other.id
            ),
        )
        .at(&other.id));
    }
    if other.property("useRemoteGateways") == &json!(true) && !offers_gateways {
        return Err(ArmError::bad(
            "RemotePeeringUsesRemoteGateways",
            format!(
                "Peering {} must have AllowGatewayTransit true because the corresponding remote peering {} has UseRemoteGateways true. \
                 Set useRemoteGateways to false there first.",
                draft.id, other.id
            ),
        )
        .at("properties.allowGatewayTransit"));
    }
    Ok(())
}

/// Rules of `useRemoteGateways`; a route server counts as a gateway (az §2.8).
fn check_remote_gateways(world: &World<'_>, draft: &Draft, local: &str, remote: &Resource) -> Result<(), ArmError> {
    let path = "properties.useRemoteGateways";
    let fail = |code: &str, message: String| Err(ArmError::bad(code, message).at(path));
    if world.has_gateway(local) {
        return fail(
            "VnetHasGateways",
            format!(
                "Peering {} can't use remote gateways because its virtual network has a route server or gateway of its own. Set \
                 useRemoteGateways to false.",
                draft.id
            ),
        );
    }
    let another = world
        .children(local, "virtualNetworkPeerings")
        .into_iter()
        .find(|peering| peering.key() != draft.id.key() && peering.property("useRemoteGateways") == &json!(true));
    if let Some(another) = another {
        return fail(
            "AnotherPeeringAlreadyUsesRemoteGateways",
            format!(
                "Only one peering of a virtual network may use remote gateways, and {} does. Set useRemoteGateways to false there \
                 first.",
                another.id
            ),
        );
    }
    if !world.has_gateway(&remote.key()) {
        return fail(
            "RemoteVnetHasNoGateways",
            format!(
                "Peering {} can't use remote gateways because virtual network {} has no gateway and no route server. Create one \
                 there first.",
                draft.id, remote.id
            ),
        );
    }
    match peering_between(world, &remote.key(), local) {
        Some(other) if other.property("allowGatewayTransit") != &json!(true) => fail(
            "RemotePeeringDoesNotAllowGatewayTransit",
            format!(
                "Peering {} can't use remote gateways because the corresponding remote peering {} has AllowGatewayTransit false. \
                 Set it to true there first.",
                draft.id, other.id
            ),
        ),
        _ => Ok(()),
    }
}

/// A network that uses remote gateways has none of its own (az §2.8). `what` is about to be made in it.
pub(super) fn check_no_remote_gateways(world: &World<'_>, network: &str, what: &str) -> Result<(), ArmError> {
    let peerings = world.children(network, "virtualNetworkPeerings");
    let uses = |peering: &&&Resource| peering.property("useRemoteGateways") == &json!(true);
    match peerings.iter().find(uses) {
        Some(peering) => Err(ArmError::bad(
            "VnetHasRemoteGateways",
            format!(
                "Virtual network '{}' can't have a {what} while its peering {} uses remote gateways. Set useRemoteGateways to false \
                 there first.",
                last_segment(network),
                peering.id
            ),
        )
        .at(network)),
        None => Ok(()),
    }
}
