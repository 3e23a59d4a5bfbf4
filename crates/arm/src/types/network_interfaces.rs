//! `networkInterfaces`: addresses in subnets. Their ip configurations live in their body, not as resources of their own.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{
    Draft, ResourceType, check_region, ip_configurations, network_security_groups, quoted_etag, resolve, subnets,
};
use crate::address::{Unusable, check_host};
use crate::error::ArmError;
use crate::id::last_segment;
use crate::index::{Reference, Relation};
use crate::read::Reader;
use crate::request::{Ask, Mint, Request};
use crate::resource::{Resource, reference_key};
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/networkInterfaces";
const CONFIGURATION_KIND: &str = "Microsoft.Network/networkInterfaces/ipConfigurations";

/// Azure's limit of private addresses per NIC.
const MAX_CONFIGURATIONS: usize = 256;

pub(super) struct NetworkInterfaces;

impl ResourceType for NetworkInterfaces {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "macAddress",
            "primary",
            "virtualMachine",
            "privateEndpoint",
            "hostedWorkloads",
            "tapConfigurations",
            "dscpConfiguration",
            "vnetEncryptionSupported",
            "privateLinkService",
            "defaultOutboundConnectivityEnabled",
        ]
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let forwarding = reader.boolean("enableIPForwarding")?.unwrap_or(false);
        let accelerated = reader.boolean("enableAcceleratedNetworking")?.unwrap_or(false);
        let group = resolve(
            world,
            draft,
            &reader,
            "networkSecurityGroup",
            network_security_groups::KIND,
        )?;
        if let Some(group) = group {
            check_region(draft, draft.location(), group, group.location())?;
        }
        let group = group.map(|group| group.id.clone());
        let configurations = read_configurations(world, draft)?;
        draft.set("ipConfigurations", configurations);
        draft.set_reference("networkSecurityGroup", group.as_deref());
        draft.set("enableIPForwarding", forwarding);
        draft.set("enableAcceleratedNetworking", accelerated);
        draft.properties.entry("nicType").or_insert(json!("Standard"));
        let no_dns = || json!({ "dnsServers": [], "appliedDnsServers": [] });
        draft.properties.entry("dnsSettings").or_insert_with(no_dns);
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        draft.keep_or("macAddress", || json!(mac_address(&mint.guid())));
        Ok(())
    }

    fn show(&self, _world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        properties.insert("primary".to_owned(), json!(true));
        let shown = configurations(resource)
            .map(|stored| show_configuration(resource, stored))
            .collect();
        properties.insert("ipConfigurations".to_owned(), Value::Array(shown));
    }

    fn show_outside(&self) -> &'static [(&'static str, &'static str)] {
        &[("kind", "Regular")]
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let mut references = Vec::new();
        for stored in configurations(resource) {
            let properties = &stored["properties"];
            let id = ip_configurations::id(resource, stored);
            if let Some(public) = reference_key(&properties["publicIPAddress"]) {
                references.push(Reference::new(Relation::UserOfPublicAddress, public, &id));
            }
            if let Some(subnet) = reference_key(&properties["subnet"]) {
                references.push(Reference::address(subnet, id, address_of(stored)));
            }
        }
        // All its ip configurations are in one virtual network.
        let subnet = configurations(resource).find_map(|stored| reference_key(&stored["properties"]["subnet"]));
        if let Some(subnet) = subnet {
            let network = subnets::network_key(&subnet).to_owned();
            references.push(Reference::new(Relation::NicIn, network, &resource.id));
        }
        if let Some(group) = resource.reference_key("networkSecurityGroup") {
            references.push(Reference::new(Relation::NicOfSecurityGroup, group, &resource.id));
        }
        references
    }

    fn action(&self, name: &str, key: String, _request: &Request) -> Result<Option<Ask>, ArmError> {
        let is_known = name.eq_ignore_ascii_case("effectiveRouteTable");
        Ok(is_known.then_some(Ask::NicEffectiveRoutes(key)))
    }
}

/// The stored ip configurations, the primary one first.
pub(crate) fn configurations(nic: &Resource) -> impl Iterator<Item = &Value> {
    let is_primary = |stored: &&Value| stored["properties"]["primary"] == json!(true);
    ip_configurations::stored(nic)
        .filter(is_primary)
        .chain(ip_configurations::stored(nic).filter(move |stored| !is_primary(stored)))
}

/// The address of a stored ip configuration.
pub(crate) fn address_of(stored: &Value) -> Option<IpAddr> {
    stored["properties"]["privateIPAddress"].as_str()?.parse().ok()
}

fn show_configuration(nic: &Resource, stored: &Value) -> Value {
    let mut shown = json!({
        "id": ip_configurations::id(nic, stored),
        "name": stored["name"],
        "type": CONFIGURATION_KIND,
        "etag": quoted_etag(&nic.etag),
        "properties": { "provisioningState": "Succeeded" },
    });
    if let (Some(shown), Some(stored)) = (shown["properties"].as_object_mut(), stored["properties"].as_object()) {
        shown.extend(stored.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    shown
}

/// `00-0D-3A-…`: Microsoft's prefix, then what the GUID begins with.
fn mac_address(guid: &str) -> String {
    let digits: String = guid.chars().filter(char::is_ascii_hexdigit).take(6).collect();
    let digits = format!("{digits:0<6}").to_ascii_uppercase();
    format!("00-0D-3A-{}-{}-{}", &digits[0..2], &digits[2..4], &digits[4..6])
}

fn read_configurations(world: &World<'_>, draft: &Draft) -> Result<Vec<Value>, ArmError> {
    let wanted = "at least one with a name and a subnet";
    let mut read = ip_configurations::read_all(draft, MAX_CONFIGURATIONS, wanted, |item, outer, before| {
        read_configuration(world, draft, item, outer, before)
    })?;
    choose_primary(&mut read)?;
    Ok(read)
}

/// Exactly one is primary: the one that says so, else the first.
fn choose_primary(configurations: &mut [Value]) -> Result<(), ArmError> {
    let is_primary = |stored: &Value| stored["properties"]["primary"] == json!(true);
    let primaries = configurations.iter().filter(|stored| is_primary(stored)).count();
    if primaries > 1 {
        return Err(ArmError::bad(
            "NetworkInterfaceMustHaveOnePrimaryIpConfiguration",
            "Exactly one ip configuration must be primary. Set properties.primary to true on one only.",
        )
        .at("properties.ipConfigurations"));
    }
    let chosen = configurations.iter().position(is_primary).unwrap_or(0);
    for (position, stored) in configurations.iter_mut().enumerate() {
        stored["properties"]["primary"] = json!(position == chosen);
    }
    Ok(())
}

/// Members of an ip configuration's properties that only we write.
const CONFIGURATION_READ_ONLY: [&str; 2] = ["provisioningState", "privateLinkConnectionProperties"];

fn read_configuration(
    world: &World<'_>,
    draft: &Draft,
    item: &Value,
    outer: &Reader<'_>,
    before: &[Value],
) -> Result<Value, ArmError> {
    let name = ip_configurations::read_name(outer, before)?;
    let Some(reader) = outer.object("properties")? else {
        return Err(outer.missing("properties", "subnet, for example"));
    };
    let Some(subnet) = resolve(world, draft, &reader, "subnet", subnets::KIND)? else {
        return Err(reader.missing("subnet", "the id of a subnet"));
    };
    check_subnet(world, draft, subnet, before)?;
    let existing = draft.existing.as_ref();
    let kept = existing.and_then(|nic| ip_configurations::stored(nic).find(|it| ip_configurations::is_named(it, name)));
    let place = Place {
        world,
        nic: draft.id.as_str(),
        subnet,
        before,
    };
    let (method, version, address) = read_address(&place, &reader, kept)?;
    let public = ip_configurations::read_public_address(world, draft, &reader, name, before)?;
    let primary = reader.boolean("primary")?.unwrap_or(false);
    let mut properties = item["properties"].as_object().cloned().unwrap_or_default();
    for name in CONFIGURATION_READ_ONLY {
        properties.remove(name);
    }
    properties.insert("primary".to_owned(), json!(primary));
    properties.insert("privateIPAddress".to_owned(), json!(address.to_string()));
    properties.insert("privateIPAddressVersion".to_owned(), json!(version));
    properties.insert("privateIPAllocationMethod".to_owned(), json!(method));
    properties.insert("subnet".to_owned(), json!({ "id": subnet.id }));
    match public {
        Some(public) => properties.insert("publicIPAddress".to_owned(), json!({ "id": public.id })),
        None => properties.remove("publicIPAddress"),
    };
    let name = kept.and_then(|kept| kept["name"].as_str()).unwrap_or(name);
    Ok(json!({ "name": name, "properties": properties }))
}

fn check_subnet(world: &World<'_>, draft: &Draft, subnet: &Resource, before: &[Value]) -> Result<(), ArmError> {
    if subnet.name().eq_ignore_ascii_case(subnets::ROUTE_SERVER_SUBNET) {
        return Err(ArmError::bad(
            "RouteServerSubnetMustBeDedicated",
            format!(
                "{} is the route server's alone. Put {} in another subnet.",
                subnet.name(),
                draft.id.name()
            ),
        )
        .at(&subnet.id));
    }
    if subnet.name().eq_ignore_ascii_case(subnets::GATEWAY_SUBNET) {
        // Azure's code for a subnet that belongs to another service is the subnet's own name (az §4.7).
        return Err(ArmError::bad(
            subnets::GATEWAY_SUBNET,
            format!(
                "Subnet '{}' can be used only for the Gateway resource. Put {} in another subnet.",
                subnet.name(),
                draft.id.name()
            ),
        )
        .at(&subnet.id));
    }
    let key = subnet.key();
    let network = subnets::network_key(&key);
    if let Some(network) = world.get(network) {
        check_region(draft, draft.location(), network, network.location())?;
    }
    let stored = draft.existing.as_ref().map(|nic| nic.property("ipConfigurations"));
    let elsewhere = before
        .iter()
        .chain(stored.and_then(Value::as_array).into_iter().flatten())
        .filter_map(|stored| reference_key(&stored["properties"]["subnet"]))
        .any(|other| subnets::network_key(&other) != network);
    match elsewhere {
        true => Err(ArmError::bad(
            "SubnetsNotInSameVnet",
            format!(
                "All ip configurations of {} must be in one virtual network, and stay there. Delete it and create it again to move it to '{}'.",
                draft.id.name(),
                last_segment(network)
            ),
        )
        .at(&subnet.id)),
        false => Ok(()),
    }
}

/// Where an address is looked for.
struct Place<'p, 'w> {
    world: &'p World<'w>,
    nic: &'p str,
    subnet: &'p Resource,
    /// Configurations of the same NIC that are read already.
    before: &'p [Value],
}

impl Place<'_, '_> {
    fn prefixes(&self) -> Vec<IpNet> {
        subnets::prefixes(self.subnet)
    }

    /// Who else has the address.
    fn holder(&self, address: IpAddr) -> Option<&str> {
        match self.has_already(address) {
            true => Some("another ip configuration of it"),
            false => {
                let own = self.nic.to_ascii_lowercase();
                self.world.holder_of(&self.subnet.key(), address, &own)
            }
        }
    }

    fn has_already(&self, address: IpAddr) -> bool {
        self.before.iter().any(|stored| address_of(stored) == Some(address))
    }
}

/// Static: as given. Dynamic: as before if it still fits, else the first free one.
fn read_address(
    place: &Place<'_, '_>,
    reader: &Reader<'_>,
    kept: Option<&Value>,
) -> Result<(&'static str, &'static str, IpAddr), ArmError> {
    let given = reader.text("privateIPAddress")?.filter(|text| !text.is_empty());
    let method = reader
        .one_of("privateIPAllocationMethod", &["Static", "Dynamic"])?
        .unwrap_or("Dynamic");
    let version = reader
        .one_of("privateIPAddressVersion", &["IPv4", "IPv6"])?
        .unwrap_or("IPv4");
    let v6 = version == "IPv6";
    let path = reader.path_of("privateIPAddress");
    if method == "Static" {
        let Some(text) = given else {
            return Err(reader.missing(
                "privateIPAddress",
                "a free address of the subnet, or use Dynamic allocation",
            ));
        };
        let address = match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() == v6 => address,
            _ => return Err(reader.wrong("privateIPAddress", &format!("an {version} address"))),
        };
        check_static(place, address).map_err(|error| error.at(path))?;
        return Ok((method, version, address));
    }
    let prefixes = place.prefixes();
    let stays = kept
        .and_then(address_of)
        .filter(|address| address.is_ipv6() == v6)
        .filter(|address| check_host(&prefixes, *address).is_ok() && place.holder(*address).is_none());
    let address = stays.or_else(|| {
        let subnet = place.subnet.key();
        let is_ours = |address| place.has_already(address);
        place.world.first_free(&subnet, &prefixes, v6, is_ours)
    });
    match address {
        Some(address) => Ok((method, version, address)),
        None => Err(ArmError::bad(
            "SubnetIsFull",
            format!(
                "Subnet {} has no free {version} address left. Delete something in it, or use another subnet.",
                place.subnet.name()
            ),
        )
        .at(&place.subnet.id)),
    }
}

fn check_static(place: &Place<'_, '_>, address: IpAddr) -> Result<(), ArmError> {
    let subnet = place.subnet.name();
    let (code, message) = match check_host(&place.prefixes(), address) {
        Err(Unusable::NotInSubnet) => (
            "PrivateIPAddressNotInSubnet",
            format!(
                "Private static IP address {address} does not belong to the range of subnet {subnet}. Choose one inside it."
            ),
        ),
        Err(Unusable::Reserved) => (
            "PrivateIPAddressInReservedRange",
            format!(
                "Private static IP address {address} falls within the reserved range of subnet {subnet}: its first four addresses \
                 and the last. Choose another."
            ),
        ),
        Ok(()) => match place.holder(address) {
            Some(holder) => (
                "PrivateIPAddressIsAllocated",
                format!(
                    "IP configuration of {} can't use {address}, which is allocated to {holder}. Choose another.",
                    place.nic
                ),
            ),
            None => return Ok(()),
        },
    };
    Err(ArmError::bad(code, message))
}
