//! `routeTables/routes`: user-defined routes.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType};
use crate::address::parse_prefix;
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::read::Reader;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

const KIND: &str = "Microsoft.Network/routeTables/routes";

/// Next hops of a `VirtualApplianceEcmp` route (az §5).
const ECMP_NEXT_HOPS: std::ops::RangeInclusive<usize> = 2..=64;

const NEXT_HOP_TYPES: [&str; 6] = [
    "VirtualNetworkGateway",
    "VnetLocal",
    "Internet",
    "VirtualAppliance",
    "VirtualApplianceEcmp",
    "None",
];

pub(super) struct Routes;

impl ResourceType for Routes {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["hasBgpOverride"]
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let prefix = read_prefix(&reader)?;
        let Some(next_hop_type) = reader.one_of("nextHopType", &NEXT_HOP_TYPES)? else {
            return Err(reader.missing("nextHopType", &format!("one of {}", NEXT_HOP_TYPES.join(", "))));
        };
        check_next_hop(&reader, next_hop_type)?;
        draft.set("addressPrefix", prefix);
        draft.set("nextHopType", next_hop_type);
        if next_hop_type != "VirtualAppliance" {
            draft.properties.remove("nextHopIpAddress");
        }
        if next_hop_type != "VirtualApplianceEcmp" {
            draft.properties.remove("nextHop");
        }
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        match id.parent() {
            Some(table) => check_conflicts(world, &table.key()),
            None => Ok(()),
        }
    }

    fn show(&self, _world: &World<'_>, _resource: &Resource, properties: &mut Map<String, Value>) {
        properties.insert("hasBgpOverride".to_owned(), json!(false));
    }
}

/// A prefix, or a service tag (letters, digits and dots), which stands for no route here.
fn read_prefix(reader: &Reader<'_>) -> Result<String, ArmError> {
    let text = reader.required_text("addressPrefix", "a prefix in CIDR notation, for example 0.0.0.0/0")?;
    let is_tag = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    if is_tag {
        return Ok(text.to_owned());
    }
    Ok(parse_prefix(text, &reader.path_of("addressPrefix"))?.to_string())
}

fn check_next_hop(reader: &Reader<'_>, next_hop_type: &str) -> Result<(), ArmError> {
    let address = reader.text("nextHopIpAddress")?.filter(|text| !text.is_empty());
    match (next_hop_type, address) {
        ("VirtualAppliance", None) => Err(reader.missing("nextHopIpAddress", "the address of the virtual appliance")),
        ("VirtualAppliance", Some(text)) => match text.parse::<IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(reader.wrong("nextHopIpAddress", "an IP address")),
        },
        (_, Some(_)) => Err(ArmError::bad(
            "RouteNextHopIpAddressNotAllowed",
            format!(
                "properties.nextHopIpAddress goes with nextHopType VirtualAppliance only. Leave it out for {next_hop_type}."
            ),
        )
        .at("properties.nextHopIpAddress")),
        ("VirtualApplianceEcmp", None) => check_ecmp(reader),
        _ => Ok(()),
    }
}

fn check_ecmp(reader: &Reader<'_>) -> Result<(), ArmError> {
    let what = "nextHopIpAddresses with 2 to 64 different IP addresses";
    let Some(next_hop) = reader.object("nextHop")? else {
        return Err(reader.missing("nextHop", what));
    };
    let texts = next_hop.texts("nextHopIpAddresses")?.unwrap_or_default();
    let mut addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    if addresses.len() == texts.len() && ECMP_NEXT_HOPS.contains(&texts.len()) {
        return Ok(());
    }
    Err(reader.wrong("nextHop", what))
}

/// The routes of a table have different prefixes.
pub(super) fn check_conflicts(world: &World<'_>, table: &str) -> Result<(), ArmError> {
    let mut seen: HashMap<&str, &Resource> = HashMap::new();
    for route in world.children(table, "routes") {
        let prefix = route.property("addressPrefix").as_str().unwrap_or_default();
        if let Some(other) = seen.insert(prefix, route) {
            return Err(ArmError::bad(
                "RouteConflict",
                format!(
                    "Route: {} conflicts with Route: {}. Routes cannot have the same AddressPrefix: {prefix}. Change one of them, \
                     or leave it out.",
                    route.name(),
                    other.name()
                ),
            )
            .at(&route.id));
        }
    }
    Ok(())
}
