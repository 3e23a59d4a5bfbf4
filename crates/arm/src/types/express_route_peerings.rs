//! `expressRouteCircuits/peerings`: the private peering of a circuit, which is two links: primary and secondary, a /30 each. Of each
//! the customer's edge has the first usable address, and the provider's edge the second.

use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::Asn;
use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, asn, hybrid};
use crate::address::parse_prefix;
use crate::error::ArmError;
use crate::id::ResourceId;
use crate::read::Reader;
use crate::request::Mint;
use crate::resource::Resource;
use crate::settings::MAX_MD5_KEY_BYTES;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/expressRouteCircuits/peerings";

/// The AS number of the provider's edge.
pub(crate) const PROVIDER_ASN: Asn = Asn(12076);

/// The only type that is served, which is also its name.
const PRIVATE: &str = "AzurePrivatePeering";

/// Stored and never shown: the MD5 key of the sessions with the customer's edge.
const SHARED_KEY: &str = "sharedKey";

/// Members that hold the links' prefixes: primary, secondary.
const PREFIXES: [&str; 2] = ["primaryPeerAddressPrefix", "secondaryPeerAddressPrefix"];

/// The same of IPv6, as an object.
const IPV6: &str = "ipv6PeeringConfig";

pub(super) struct ExpressRoutePeerings;

/// One link of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) prefix: Ipv4Net,
}

impl Link {
    fn address(self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.prefix.network()).saturating_add(place))
    }

    /// The customer's edge.
    pub(crate) fn customer(self) -> Ipv4Addr {
        self.address(1)
    }

    /// The provider's edge.
    pub(crate) fn provider(self) -> Ipv4Addr {
        self.address(2)
    }
}

/// The IPv6 prefix of a link: what its ends say as next hops of IPv6 routes. Sessions are over IPv4, and carry both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkV6(Ipv6Net);

impl LinkV6 {
    /// The provider's edge: the second address, as in IPv4.
    pub(crate) fn provider(self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.0.network()).saturating_add(2))
    }
}

/// The links' IPv6 prefixes, if the private peering has IPv6 in use.
pub(crate) fn links_v6(peering: &Resource) -> Option<[LinkV6; 2]> {
    let config = peering.property(IPV6);
    let in_use = peering.property("state") != "Disabled" && config["state"] != "Disabled";
    let link = |name: &str| Some(LinkV6(config[name].as_str().filter(|_| in_use)?.parse().ok()?));
    let [primary, secondary] = PREFIXES.map(link);
    Some([primary?, secondary?])
}

/// A private peering that is in use: its links and the customer's AS number.
pub(crate) fn links(peering: &Resource) -> Option<([Link; 2], Asn)> {
    if peering.property("state") == "Disabled" {
        return None;
    }
    let link = |name: &str| {
        let prefix = peering.property(name).as_str()?.parse().ok()?;
        Some(Link { prefix })
    };
    let asn = peering.property("peerASN").as_u64()?.try_into().ok()?;
    let [primary, secondary] = PREFIXES.map(link);
    Some(([primary?, secondary?], Asn(asn)))
}

/// The MD5 key of the sessions with the customer's edge; an empty one, as earlier versions stored it, is none.
pub(crate) fn shared_key(peering: &Resource) -> Option<&str> {
    let stored = peering.property(SHARED_KEY).as_str();
    stored.filter(|key| !key.is_empty() && key.len() <= MAX_MD5_KEY_BYTES)
}

/// Whether an earlier version has stored a key that no kernel takes. Nobody is spoken with then: not without a key either.
pub(crate) fn has_impossible_key(peering: &Resource) -> bool {
    let stored = peering.property(SHARED_KEY).as_str();
    stored.is_some_and(|key| key.len() > MAX_MD5_KEY_BYTES)
}

impl ResourceType for ExpressRoutePeerings {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "azureASN",
            "primaryAzurePort",
            "secondaryAzurePort",
            "gatewayManagerEtag",
            "lastModifiedBy",
            "connections",
            "peeredConnections",
            "expressRouteConnection",
            "stats",
        ]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        check_type(draft)?;
        let reader = draft.reader();
        let Some(peer) = reader.whole("peerASN", 0..=u64::from(u32::MAX))? else {
            return Err(reader.missing("peerASN", "the AS number of the customer's edge"));
        };
        asn::check_peer(peer as u32, PROVIDER_ASN.0, &reader.path_of("peerASN"))?;
        let Some(vlan) = reader.whole("vlanId", 1..=4094)? else {
            return Err(reader.missing("vlanId", "a VLAN from 1 to 4094"));
        };
        let state = reader.one_of("state", &["Enabled", "Disabled"])?.unwrap_or("Enabled");
        let [primary, secondary] = PREFIXES.map(|name| read_prefix(&reader, name));
        let prefixes = [primary?, secondary?];
        if prefixes[0] == prefixes[1] {
            return Err(reader.wrong(PREFIXES[1], "another prefix than the primary one"));
        }
        check_key(&reader)?;
        if let Some(config) = reader.object(IPV6)? {
            config.one_of("state", &["Enabled", "Disabled"])?;
            let [primary, secondary] = PREFIXES.map(|name| read_prefix_v6(&config, name));
            if primary? == secondary? {
                return Err(config.wrong(PREFIXES[1], "another prefix than the primary one"));
            }
        }
        draft.set("peeringType", PRIVATE);
        draft.set("peerASN", peer);
        draft.set("vlanId", vlan);
        draft.set("state", state);
        for (name, prefix) in PREFIXES.iter().zip(prefixes) {
            draft.set(name, prefix.to_string());
        }
        draft.keep_secret(SHARED_KEY);
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        match id.parent() {
            Some(circuit) => hybrid::check_connections_of(world, &circuit.key()),
            None => Ok(()),
        }
    }

    fn show(&self, _world: &World<'_>, _resource: &Resource, properties: &mut Map<String, Value>) {
        properties.remove(SHARED_KEY);
        properties.insert("azureASN".to_owned(), json!(PROVIDER_ASN.0));
        properties.insert("primaryAzurePort".to_owned(), json!(""));
        properties.insert("secondaryAzurePort".to_owned(), json!(""));
        properties.insert("lastModifiedBy".to_owned(), json!("Customer"));
        properties.insert("connections".to_owned(), json!([]));
    }
}

/// The kernel takes no longer one, and one listener is for all peers of a link. What was sent is not repeated.
fn check_key(reader: &Reader<'_>) -> Result<(), ArmError> {
    match reader.text(SHARED_KEY)? {
        Some(key) if key.len() > MAX_MD5_KEY_BYTES => {
            let path = reader.path_of(SHARED_KEY);
            Err(ArmError::bad(
                "InvalidRequestFormat",
                format!("{path} must be a text of 1 to {MAX_MD5_KEY_BYTES} bytes, or an empty one, which removes it."),
            )
            .at(path))
        }
        _ => Ok(()),
    }
}

fn check_type(draft: &Draft) -> Result<(), ArmError> {
    let known = [PRIVATE, "AzurePublicPeering", "MicrosoftPeering"];
    let kind = draft.reader().one_of("peeringType", &known)?.unwrap_or(PRIVATE);
    match kind == PRIVATE && draft.id.name().eq_ignore_ascii_case(PRIVATE) {
        true => Ok(()),
        false => Err(ArmError::bad(
            "PeeringTypeNotSupported",
            format!(
                "Peering '{}' of type {kind} can't be made: only {PRIVATE} is served here, under that name. Leave the others out.",
                draft.id.name()
            ),
        )
        .at("properties.peeringType")),
    }
}

fn read_prefix_v6(reader: &Reader<'_>, name: &str) -> Result<Ipv6Net, ArmError> {
    let what = "a /126 in CIDR notation, for example fd00:15::/126";
    let text = reader.required_text(name, what)?;
    match parse_prefix(text, &reader.path_of(name))? {
        ipnet::IpNet::V6(prefix) if prefix.prefix_len() == 126 => Ok(prefix),
        _ => Err(reader.wrong(name, what)),
    }
}

fn read_prefix(reader: &Reader<'_>, name: &str) -> Result<Ipv4Net, ArmError> {
    let what = "a /30 in CIDR notation, for example 192.168.15.16/30";
    let text = reader.required_text(name, what)?;
    match parse_prefix(text, &reader.path_of(name))? {
        ipnet::IpNet::V4(prefix) if prefix.prefix_len() == 30 => Ok(prefix),
        _ => Err(reader.wrong(name, what)),
    }
}
