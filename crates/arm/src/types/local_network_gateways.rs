//! `localNetworkGateways`: the other end of a VPN tunnel, as a resource.

use std::net::IpAddr;

use bgp::Asn;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::subnets::texts_to_prefixes;
use super::{Draft, ResourceType, asn, connections, hybrid};
use crate::address::parse_prefix;
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::index::Relation;
use crate::read::Reader;
use crate::request::Mint;
use crate::resource::Resource;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/localNetworkGateways";

/// Address prefixes of one, as in Azure. The checks of connections look at each of them.
const MAX_PREFIXES: usize = 1_000;

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
        if space.len() > MAX_PREFIXES {
            return Err(ArmError::bad(
                "AddressPrefixLimitReached",
                format!(
                    "A local network gateway has at most {MAX_PREFIXES} address prefixes, and these are {}. Summarise them, or let the \
                     site tell them over BGP.",
                    space.len()
                ),
            )
            .at(path));
        }
        let prefixes = space
            .into_iter()
            .map(|text| parse_prefix(text, path).map(|prefix| prefix.to_string()));
        let prefixes: Vec<String> = prefixes.collect::<Result<_, _>>()?;
        let bgp = match reader.object("bgpSettings")? {
            Some(bgp) => Some(read_bgp(&bgp)?),
            None => None,
        };
        draft.set("localNetworkAddressSpace", json!({ "addressPrefixes": prefixes }));
        if let Some(bgp) = bgp {
            draft.set("bgpSettings", bgp);
        }
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        hybrid::check_connections_of(world, &id.key())
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::ConnectionOf, &resource.key()) {
            Some(connection) => Err(world.in_use(
                "LocalNetworkGatewayCannotBeDeleted",
                "Local network gateway",
                &resource.id,
                connection,
            )),
            None => Ok(()),
        }
    }
}

/// What a connection needs to know of a site.
pub(crate) struct Site {
    /// `gatewayIpAddress`: the far end of the tunnel. One that has a name (`fqdn`) has none.
    pub(crate) address: Option<IpAddr>,
    /// `localNetworkAddressSpace`.
    pub(crate) prefixes: Vec<IpNet>,
    /// `bgpSettings`: where its router speaks, and its AS number.
    pub(crate) speaker: Option<(IpAddr, Asn)>,
}

impl Site {
    /// Its router, if BGP is spoken with it over this connection of this gateway: both must enable it.
    pub(crate) fn speaker_over(&self, gateway: &Resource, connection: &Resource) -> Option<(IpAddr, Asn)> {
        let spoken = connections::speaks_bgp(gateway) && connections::speaks_bgp(connection);
        self.speaker.filter(|_| spoken)
    }
}

/// A stored local network gateway as a site.
pub(crate) fn site_of(local: &Resource) -> Site {
    let settings = local.property("bgpSettings");
    let address = settings["bgpPeeringAddress"]
        .as_str()
        .and_then(|text| text.parse().ok());
    let asn = settings["asn"].as_u64().and_then(|asn| u32::try_from(asn).ok());
    Site {
        address: local
            .property("gatewayIpAddress")
            .as_str()
            .and_then(|text| text.parse().ok()),
        prefixes: texts_to_prefixes(&local.property("localNetworkAddressSpace")["addressPrefixes"]),
        speaker: address.zip(asn.map(Asn)),
    }
}

fn read_bgp(settings: &Reader<'_>) -> Result<Value, ArmError> {
    let asn = settings.whole("asn", 1..=u64::from(u32::MAX))?;
    if let Some(asn) = asn {
        asn::check_peer(asn as u32, bgp::Asn::AZURE_ROUTE_SERVER.0, &settings.path_of("asn"))?;
    }
    let weight = settings.whole("peerWeight", 0..=100)?.unwrap_or(0);
    let address = settings.text("bgpPeeringAddress")?.filter(|text| !text.is_empty());
    if address.is_some_and(|text| text.parse::<IpAddr>().is_err()) {
        return Err(settings.wrong("bgpPeeringAddress", "an IP address"));
    }
    Ok(json!({ "asn": asn, "bgpPeeringAddress": address.unwrap_or_default(), "peerWeight": weight }))
}
