//! `localNetworkGateways`: the other end of a VPN tunnel, as a resource.

use std::net::IpAddr;

use serde_json::json;

use super::{Draft, ResourceType};
use crate::address::parse_prefix;
use crate::error::ArmError;
use crate::index::Relation;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/localNetworkGateways";

pub(super) struct LocalNetworkGateways;

impl ResourceType for LocalNetworkGateways {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[]
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let address = reader.text("gatewayIpAddress")?.filter(|text| !text.is_empty());
        let name = reader.text("fqdn")?.filter(|text| !text.is_empty());
        match (address, name) {
            (Some(text), None) if text.parse::<IpAddr>().is_err() => {
                return Err(reader.wrong("gatewayIpAddress", "an IP address"));
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Err(reader.missing("gatewayIpAddress", "either that or fqdn, not both")),
        }
        let space = match reader.object("localNetworkAddressSpace")? {
            Some(space) => space.texts("addressPrefixes")?.unwrap_or_default(),
            None => Vec::new(),
        };
        let path = "properties.localNetworkAddressSpace.addressPrefixes";
        let prefixes = space
            .into_iter()
            .map(|text| parse_prefix(text, path).map(|prefix| prefix.to_string()));
        let prefixes: Vec<String> = prefixes.collect::<Result<_, _>>()?;
        if let Some(bgp) = reader.object("bgpSettings")? {
            check_bgp(&bgp)?;
        }
        draft.set("localNetworkAddressSpace", json!({ "addressPrefixes": prefixes }));
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::ConnectionOf, &resource.key()) {
            Some(connection) => Err(ArmError::in_use(
                "LocalNetworkGatewayCannotBeDeleted",
                "Local network gateway",
                &resource.id,
                connection,
            )),
            None => Ok(()),
        }
    }
}

fn check_bgp(settings: &crate::read::Reader<'_>) -> Result<(), ArmError> {
    settings.whole("asn", 1..=u64::from(u32::MAX))?;
    settings.whole("peerWeight", 0..=100)?;
    match settings.text("bgpPeeringAddress")?.filter(|text| !text.is_empty()) {
        Some(text) if text.parse::<IpAddr>().is_err() => Err(settings.wrong("bgpPeeringAddress", "an IP address")),
        _ => Ok(()),
    }
}
