//! The resource types: one file each, one line in the table each.
//!
//! What all have in common (groups, parents, names, etags, locations, tags, lists) is done once, in `handle`. A type reads its
//! `properties`, says what it refers to, adds what is computed when it is shown, and refuses to go while it is in use.

mod asn;
mod bgp_connections;
mod connections;
mod distinct;
mod express_route_circuits;
mod express_route_peerings;
mod extended_maps;
mod hub_ip_configurations;
mod hybrid;
mod import_filters;
mod ip_configurations;
mod local_network_gateways;
mod network_interfaces;
mod network_security_groups;
mod public_ip_addresses;
mod route_maps;
mod route_tables;
mod routes;
mod routing_configuration;
mod subnets;
mod virtual_hubs;
mod virtual_network_gateways;
mod virtual_network_peerings;
mod virtual_networks;

use serde_json::{Map, Value, json};

use crate::error::ArmError;
use crate::id::ResourceId;
use crate::index::Reference;
use crate::names;
use crate::read::{Reader, without_nulls};
use crate::request::{Ask, Mint, Request};
use crate::resource::Resource;
use crate::world::World;

pub(crate) use bgp_connections::KIND as BGP_CONNECTION;
pub(crate) use connections::{CIRCUIT, KIND as CONNECTION, SITE, far_end_as, gateway_of};
pub(crate) use express_route_circuits::KIND as EXPRESS_ROUTE_CIRCUIT;
pub(crate) use express_route_peerings::{
    KIND as EXPRESS_ROUTE_PEERING, PROVIDER_ASN, has_impossible_key, links as links_of, links_v6 as links_v6_of,
    shared_key,
};
pub(crate) use hub_ip_configurations::{KIND as HUB_IP_CONFIGURATION, subnet_of as hub_subnet_of};
pub(crate) use import_filters::read as import_filter;
pub(crate) use local_network_gateways::{KIND as LOCAL_NETWORK_GATEWAY, site_of};
pub(crate) use network_interfaces::{
    KIND as NETWORK_INTERFACE, address_of as nic_address, configurations as nic_configurations,
};
pub(crate) use route_maps::{
    KIND as ROUTE_MAP, check_settings as check_route_map_settings, followed as followed_route_map, uses_asn,
    why_not_followed,
};
pub(crate) use route_tables::KIND as ROUTE_TABLE;
pub(crate) use routing_configuration::{INBOUND, OUTBOUND, check_is_of, route_map_of};
pub(crate) use subnets::prefixes as subnet_prefixes;
pub(crate) use virtual_hubs::{KIND as VIRTUAL_HUB, peer_over_ipv6, provisioned_instances, provisioned_instances_v6};
pub(crate) use virtual_network_gateways::{
    KIND as VIRTUAL_NETWORK_GATEWAY, addresses as gateway_addresses, asn as gateway_asn, kind as gateway_kind,
    subnet as gateway_subnet,
};
pub(crate) use virtual_network_peerings::{KIND as VIRTUAL_NETWORK_PEERING, is_connected};
pub(crate) use virtual_networks::{KIND as VIRTUAL_NETWORK, address_space};

/// Every type that is served.
static TYPES: [&dyn ResourceType; 17] = [
    &bgp_connections::BgpConnections,
    &connections::Connections,
    &express_route_circuits::ExpressRouteCircuits,
    &express_route_peerings::ExpressRoutePeerings,
    &hub_ip_configurations::HubIpConfigurations,
    &local_network_gateways::LocalNetworkGateways,
    &network_interfaces::NetworkInterfaces,
    &network_security_groups::NetworkSecurityGroups,
    &public_ip_addresses::PublicIpAddresses,
    &route_maps::RouteMaps,
    &route_tables::RouteTables,
    &routes::Routes,
    &subnets::Subnets,
    &virtual_hubs::VirtualHubs,
    &virtual_network_gateways::VirtualNetworkGateways,
    &virtual_network_peerings::VirtualNetworkPeerings,
    &virtual_networks::VirtualNetworks,
];

/// The rules of one type.
pub(crate) trait ResourceType: Sync {
    /// As Azure writes it, for example `Microsoft.Network/virtualHubs/bgpConnections`.
    fn kind(&self) -> &'static str;

    /// Members of `properties` that only we write: ignored on input.
    fn read_only(&self) -> &'static [&'static str];

    /// Long-running in Azure's eyes: answered with an operation to follow (arm-clients §3).
    fn long_running(&self) -> bool {
        false
    }

    /// Reads and checks the properties, which become those stored.
    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError>;

    /// Stores the draft; types with children in their body store those too.
    fn put(&self, world: &mut World<'_>, mut draft: Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        self.read(world, &mut draft, mint)?;
        draft.store(self.kind(), world, mint);
        Ok(())
    }

    /// Rules over siblings, checked when all that the request writes is stored.
    fn settled(&self, _world: &World<'_>, _id: &ResourceId) -> Result<(), ArmError> {
        Ok(())
    }

    /// Adds computed properties.
    fn show(&self, _world: &World<'_>, _resource: &Resource, _properties: &mut Map<String, Value>) {}

    /// Members beside `properties` that are computed, such as `kind`.
    fn show_outside(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Called after the resource is gone from the world: refuses if something there still needs it.
    fn removed(&self, _world: &mut World<'_>, _resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        Ok(())
    }

    /// What the resource refers to, from its body alone.
    fn references(&self, _resource: &Resource) -> Vec<Reference> {
        Vec::new()
    }

    /// The question behind a POST.
    fn action(&self, _name: &str, _key: String, _request: &Request) -> Result<Option<Ask>, ArmError> {
        Ok(None)
    }
}

/// The type with this name, in any case.
pub(crate) fn find(kind: &str) -> Option<&'static dyn ResourceType> {
    TYPES.into_iter().find(|known| known.kind().eq_ignore_ascii_case(kind))
}

/// Names of the types without the namespace, for the provider's description.
pub(crate) fn names_without_namespace() -> impl Iterator<Item = &'static str> {
    TYPES
        .into_iter()
        .filter_map(|known| known.kind().split_once('/').map(|(_, name)| name))
}

/// The type's own path segment, for example `bgpConnections`.
pub(crate) fn segment(kind: &str) -> &str {
    crate::id::last_segment(kind)
}

/// Whether resources of this type have a location and tags (children have none).
pub(crate) fn is_tracked(kind: &dyn ResourceType) -> bool {
    kind.kind().matches('/').count() == 1
}

/// A resource that is about to be written.
pub(crate) struct Draft {
    pub(crate) id: ResourceId,
    pub(crate) existing: Option<Resource>,
    /// Members beside `properties`.
    pub(crate) outside: Map<String, Value>,
    pub(crate) properties: Map<String, Value>,
}

/// Members beside `properties` that users write.
const WRITABLE_OUTSIDE: [&str; 6] = ["location", "tags", "sku", "zones", "extendedLocation", "identity"];

impl Draft {
    /// Takes a body apart: nulls and read-only members go.
    pub(crate) fn new(
        kind: &dyn ResourceType,
        id: ResourceId,
        existing: Option<Resource>,
        body: Value,
    ) -> Result<Draft, ArmError> {
        let Value::Object(mut body) = without_nulls(body) else {
            return Err(ArmError::bad(
                "InvalidRequestContent",
                "The request content must be a JSON object with the resource's members.",
            ));
        };
        let mut properties = match body.remove("properties") {
            None => Map::new(),
            Some(Value::Object(properties)) => properties,
            Some(_) => {
                return Err(ArmError::bad("InvalidRequestFormat", "properties must be an object.").at("properties"));
            }
        };
        for name in kind.read_only() {
            properties.remove(*name);
        }
        properties.remove("provisioningState");
        properties.remove("resourceGuid");
        let tracked = is_tracked(kind);
        body.retain(|name, _| tracked && WRITABLE_OUTSIDE.contains(&name.as_str()));
        if let Some(tags) = body.get("tags") {
            let tags = names::check_tags(tags)?;
            body.insert("tags".to_owned(), Value::Object(tags));
        }
        Ok(Draft {
            id,
            existing,
            outside: body,
            properties,
        })
    }

    pub(crate) fn location(&self) -> &str {
        self.outside.get("location").and_then(Value::as_str).unwrap_or_default()
    }

    /// The properties, to read.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.properties, "properties")
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.properties.insert(name.to_owned(), value.into());
    }

    /// Writes a reference with the id as first written, or removes it.
    pub(crate) fn set_reference(&mut self, name: &str, target: Option<&str>) {
        match target {
            Some(id) => self.set(name, json!({ "id": id })),
            None => {
                self.properties.remove(name);
            }
        }
    }

    /// A member that is made once and stays: as it was, else fresh.
    pub(crate) fn keep_or(&mut self, name: &str, fresh: impl FnOnce() -> Value) {
        let value = self.kept(name).unwrap_or_else(fresh);
        self.set(name, value);
    }

    /// What the resource had as this property before.
    pub(crate) fn kept(&self, name: &str) -> Option<Value> {
        let kept = self.existing.as_ref()?.property(name);
        (!kept.is_null()).then(|| kept.clone())
    }

    /// A member that is never shown: a client that writes back what it has read doesn't have it, so it stays. An empty one removes it.
    pub(crate) fn keep_secret(&mut self, name: &str) {
        let kept = self.kept(name);
        let wanted = self.properties.remove(name).or(kept);
        if let Some(secret) = wanted.filter(|secret| secret != "") {
            self.set(name, secret);
        }
    }

    fn store(self, kind: &str, world: &mut World<'_>, mint: &mut dyn Mint) {
        let mut body = self.outside;
        body.insert("properties".to_owned(), Value::Object(self.properties));
        world.store(self.id.as_str(), kind, Value::Object(body), mint);
    }
}

/// The resource as clients see it.
pub(crate) fn show(world: &World<'_>, resource: &Resource) -> Value {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(resource.id));
    shown.insert("name".to_owned(), json!(resource.name()));
    shown.insert("type".to_owned(), json!(resource.kind));
    shown.insert("etag".to_owned(), json!(quoted_etag(&resource.etag)));
    if let Value::Object(body) = &resource.body {
        shown.extend(body.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    if let Some(kind) = find(&resource.kind) {
        for (name, value) in kind.show_outside() {
            shown.insert((*name).to_owned(), json!(value));
        }
        let mut properties = Map::new();
        properties.insert("provisioningState".to_owned(), json!("Succeeded"));
        if let Some(Value::Object(stored)) = shown.remove("properties") {
            properties.extend(stored);
        }
        kind.show(world, resource, &mut properties);
        shown.insert("properties".to_owned(), Value::Object(properties));
    }
    Value::Object(shown)
}

/// An etag as HTTP has it: always weak.
pub(crate) fn quoted_etag(etag: &str) -> String {
    format!("W/\"{etag}\"")
}

/// References to ids: `[{"id": …}]`.
pub(crate) fn references<'i>(ids: impl IntoIterator<Item = &'i str>) -> Value {
    ids.into_iter().map(|id| json!({ "id": id })).collect()
}

/// Looks up what a reference property names; `location` is the region it must be in.
pub(crate) fn resolve<'w>(
    world: &'w World<'_>,
    draft: &Draft,
    reader: &Reader<'_>,
    name: &str,
    kind: &str,
) -> Result<Option<&'w Resource>, ArmError> {
    let Some(id) = reader.reference(name, kind)? else {
        return Ok(None);
    };
    match world.get(&id.key()) {
        Some(resource) => Ok(Some(resource)),
        None => Err(ArmError::missing_reference(id.as_str(), draft.id.as_str()).at(reader.path_of(name))),
    }
}

/// A reference must be in the same region as what refers to it.
pub(crate) fn check_region(
    draft: &Draft,
    location: &str,
    target: &Resource,
    target_location: &str,
) -> Result<(), ArmError> {
    if location == target_location {
        return Ok(());
    }
    Err(ArmError::bad(
        "InvalidResourceReference",
        format!(
            "Resource {} in {location} refers to {} in {target_location}. Put both in the same region.",
            draft.id, target.id
        ),
    )
    .at(&target.id))
}

/// Stores the children that a parent's body holds: those listed replace all there were of the type.
pub(crate) fn put_children(
    world: &mut World<'_>,
    kind: &'static dyn ResourceType,
    parent: &ResourceId,
    items: &[Value],
    mint: &mut dyn Mint,
) -> Result<(), ArmError> {
    let segment = segment(kind.kind());
    let path = format!("properties.{segment}");
    let mut wanted: Vec<(ResourceId, Value)> = Vec::new();
    for (position, item) in items.iter().enumerate() {
        let reader = Reader::of(item, format!("{path}[{position}]"))?;
        let name = reader.required_text("name", "a name that no other has")?;
        names::check_resource_name(name)?;
        let id = parent.child(segment, name);
        if wanted.iter().any(|(other, _)| other.key() == id.key()) {
            return Err(reader.wrong("name", "a name that no other in the list has"));
        }
        wanted.push((id, item.clone()));
    }
    let gone: Vec<String> = world
        .children(&parent.key(), segment)
        .into_iter()
        .map(Resource::key)
        .filter(|key| !wanted.iter().any(|(id, _)| id.key() == *key))
        .collect();
    for key in gone {
        remove(world, &key, mint)?;
    }
    for (id, body) in wanted {
        let existing = world.get(&id.key()).cloned();
        let id = existing
            .as_ref()
            .and_then(|existing| ResourceId::parse(&existing.id))
            .unwrap_or(id);
        let draft = Draft::new(kind, id, existing, body)?;
        kind.put(world, draft, mint)?;
    }
    Ok(())
}

/// Removes a resource with all below it, unless something else needs one of them.
pub(crate) fn remove(world: &mut World<'_>, key: &str, mint: &mut dyn Mint) -> Result<(), ArmError> {
    let removed = world.remove(key);
    for resource in &removed {
        if let Some(kind) = find(&resource.kind) {
            kind.removed(world, resource, mint)?;
        }
    }
    Ok(())
}

/// The id of the subscription-wide parent of a child, for errors about missing parents.
pub(crate) fn has_parent(kind: &dyn ResourceType) -> bool {
    !is_tracked(kind)
}
