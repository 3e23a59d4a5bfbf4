//! `virtualNetworkGateways`: VPN and ExpressRoute gateways as resources: their addresses, AS number and place. Each instance has an
//! address in GatewaySubnet and speaks BGP there; the instances' intent is made of this in `intent::gateways`.

use std::net::IpAddr;

use routeserver::intent::GatewayKind;
use serde_json::{Map, Value, json};

use super::subnets::GATEWAY_SUBNET;
use super::{Draft, ResourceType, check_region, hybrid, ip_configurations, resolve, subnets, virtual_network_peerings};
use crate::error::ArmError;
use crate::id::{ResourceId, last_segment};
use crate::index::{Reference, Relation};
use crate::read::Reader;
use crate::request::{Ask, Mint, Request};
use crate::resource::{Resource, reference_key};
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualNetworkGateways";

/// A gateway has two instances and, for point-to-site, one address more.
const MAX_CONFIGURATIONS: usize = 3;

/// Where the store keeps what ARM bodies don't show: an ExpressRoute gateway has one ip configuration and two instances all the same.
const SECOND_ADDRESS: &str = "secondInstanceAddress";

pub(super) struct VirtualNetworkGateways;

impl ResourceType for VirtualNetworkGateways {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &["inboundDnsForwardingEndpoint", SECOND_ADDRESS]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, world: &World<'_>, draft: &mut Draft, mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        let kind = reader.one_of("gatewayType", &["Vpn", "ExpressRoute"])?.unwrap_or("Vpn");
        let vpn_type = reader.one_of("vpnType", &["RouteBased", "PolicyBased"])?;
        let active_active = reader.boolean("activeActive")?.unwrap_or(false);
        let bgp = reader.boolean("enableBgp")?.unwrap_or(false);
        let sku = read_sku(&reader, kind)?;
        let configurations = read_configurations(world, draft, kind)?;
        check_instances(draft, active_active, &configurations)?;
        let settings = read_bgp_settings(draft, kind, &configurations)?;
        check_only_one(world, draft, kind, &configurations)?;
        draft.set("gatewayType", kind);
        if kind == "Vpn" {
            draft.set("vpnType", vpn_type.unwrap_or("RouteBased"));
        }
        draft.set("bgpSettings", settings);
        draft.set("activeActive", active_active);
        draft.set("enableBgp", bgp);
        draft.set("sku", sku);
        if let Some(address) = second_address(world, draft, kind, &configurations)? {
            draft.set(SECOND_ADDRESS, address);
        }
        draft.set("ipConfigurations", configurations);
        draft.keep_or("resourceGuid", || json!(mint.guid()));
        Ok(())
    }

    fn settled(&self, world: &World<'_>, id: &ResourceId) -> Result<(), ArmError> {
        hybrid::check_connections_of(world, &id.key())
    }

    fn show(&self, _world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        let shown = ip_configurations::stored(resource).map(|stored| {
            let mut shown = stored.clone();
            shown["id"] = json!(ip_configurations::id(resource, stored));
            shown["properties"]["provisioningState"] = json!("Succeeded");
            shown
        });
        properties.insert("ipConfigurations".to_owned(), shown.collect());
        properties.remove(SECOND_ADDRESS);
        let Some(settings) = properties.get_mut("bgpSettings") else {
            return;
        };
        let addresses: Vec<&str> = ip_configurations::stored(resource).filter_map(address_of).collect();
        settings["bgpPeeringAddress"] = json!(addresses.join(","));
        let peering_addresses = ip_configurations::stored(resource).map(|stored| {
            json!({
                "ipconfigurationId": ip_configurations::id(resource, stored),
                "defaultBgpIpAddresses": [stored["properties"]["privateIPAddress"]],
                "customBgpIpAddresses": [],
                "tunnelIpAddresses": [],
            })
        });
        settings["bgpPeeringAddresses"] = peering_addresses.collect();
    }

    fn references(&self, resource: &Resource) -> Vec<Reference> {
        let mut references = Vec::new();
        for stored in ip_configurations::stored(resource) {
            let id = ip_configurations::id(resource, stored);
            if let Some(public) = reference_key(&stored["properties"]["publicIPAddress"]) {
                references.push(Reference::new(Relation::UserOfPublicAddress, public, &id));
            }
            if let Some(subnet) = reference_key(&stored["properties"]["subnet"]) {
                let address = address_of(stored).and_then(|text| text.parse().ok());
                references.push(Reference::address(subnet, id, address));
            }
        }
        if let Some(subnet) = subnet(resource) {
            if let Some(second) = ip_configurations::stored(resource).next()
                && let Some(address) = resource.property(SECOND_ADDRESS).as_str()
            {
                let id = ip_configurations::id(resource, second);
                references.push(Reference::address(subnet.clone(), id, address.parse().ok()));
            }
            let network = subnets::network_key(&subnet).to_owned();
            references.push(Reference::new(Relation::GatewayIn, network, &resource.id));
        }
        references
    }

    fn removed(&self, world: &mut World<'_>, resource: &Resource, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        match world.first_holder(Relation::ConnectionOf, &resource.key()) {
            Some(connection) => Err(world.in_use(
                "VirtualNetworkGatewayCannotBeDeleted",
                "Virtual network gateway",
                &resource.id,
                connection,
            )),
            None => Ok(()),
        }
    }

    fn action(&self, name: &str, key: String, request: &Request) -> Result<Option<Ask>, ArmError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "getbgppeerstatus" => Some(Ask::GatewayPeers(key, peer_meant(request)?)),
            "getlearnedroutes" => Some(Ask::GatewayLearnedRoutes(key)),
            "getadvertisedroutes" => match peer_meant(request)? {
                Some(peer) => Some(Ask::GatewayAdvertisedRoutes(key, peer)),
                None => return Err(wrong_peer("is required")),
            },
            _ => None,
        })
    }
}

/// The peer that the query names by its address.
fn peer_meant(request: &Request) -> Result<Option<IpAddr>, ArmError> {
    match request.parameter("peer").filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(wrong_peer(&format!("is '{text}'"))),
        },
    }
}

fn wrong_peer(what: &str) -> ArmError {
    ArmError::bad(
        "InvalidPeer",
        format!("The parameter peer {what}. Give the IP address of a peer, for example ?peer=10.0.1.4."),
    )
    .at("peer")
}

/// What kind of gateway it is.
pub(crate) fn kind(gateway: &Resource) -> GatewayKind {
    match gateway.property("gatewayType").as_str() {
        Some("ExpressRoute") => GatewayKind::ExpressRoute,
        _ => GatewayKind::Vpn,
    }
}

/// Its AS number: 65515, unless it is a VPN gateway with one of its own.
pub(crate) fn asn(gateway: &Resource) -> bgp::Asn {
    let own = gateway.property("bgpSettings")["asn"].as_u64();
    let own = own.and_then(|asn| u32::try_from(asn).ok());
    let own = own.filter(|_| kind(gateway) == GatewayKind::Vpn);
    own.map_or(bgp::Asn::AZURE_ROUTE_SERVER, bgp::Asn)
}

/// GatewaySubnet (key): all its ip configurations are in one.
pub(crate) fn subnet(gateway: &Resource) -> Option<String> {
    ip_configurations::stored(gateway).find_map(|stored| reference_key(&stored["properties"]["subnet"]))
}

/// The addresses of IN_0 and IN_1. A VPN gateway that is not active-active has a standby, which speaks to nobody.
pub(crate) fn addresses(gateway: &Resource) -> [Option<IpAddr>; 2] {
    let parse = |text: &str| text.parse().ok();
    let mut configured = ip_configurations::stored(gateway).map(|stored| address_of(stored).and_then(parse));
    let first = configured.next().flatten();
    let second = configured.next().flatten();
    match kind(gateway) {
        GatewayKind::Vpn => [first, second.filter(|_| is_active_active(gateway))],
        _ => {
            let hidden = gateway.property(SECOND_ADDRESS).as_str().and_then(parse);
            [first, second.or(hidden)]
        }
    }
}

/// Whether both its instances carry traffic.
pub(crate) fn is_active_active(gateway: &Resource) -> bool {
    gateway.property("activeActive") == &json!(true)
}

fn address_of(stored: &Value) -> Option<&str> {
    stored["properties"]["privateIPAddress"].as_str()
}

/// Name and tier are equal in Azure's answers; any SKU is taken, since it changes nothing here.
fn read_sku(reader: &Reader<'_>, kind: &str) -> Result<Value, ArmError> {
    let by_default = if kind == "Vpn" { "VpnGw1AZ" } else { "ErGw1AZ" };
    let sku = reader.object("sku")?;
    let name = match &sku {
        Some(sku) => sku.text("name")?.unwrap_or(by_default),
        None => by_default,
    };
    let tier = match &sku {
        Some(sku) => sku.text("tier")?.unwrap_or(name),
        None => name,
    };
    Ok(json!({ "name": name, "tier": tier, "capacity": 2 }))
}

fn read_configurations(world: &World<'_>, draft: &Draft, kind: &str) -> Result<Vec<Value>, ArmError> {
    let wanted = "at least one with GatewaySubnet and a public IP address";
    ip_configurations::read_all(draft, MAX_CONFIGURATIONS, wanted, |_, outer, before| {
        read_configuration(world, draft, kind, outer, before)
    })
}

fn read_configuration(
    world: &World<'_>,
    draft: &Draft,
    kind: &str,
    outer: &Reader<'_>,
    before: &[Value],
) -> Result<Value, ArmError> {
    let name = ip_configurations::read_name(outer, before)?;
    let Some(reader) = outer.object("properties")? else {
        return Err(outer.missing("properties", "subnet, for example"));
    };
    let Some(subnet) = resolve(world, draft, &reader, "subnet", subnets::KIND)? else {
        return Err(reader.missing("subnet", "the id of GatewaySubnet"));
    };
    check_subnet(world, draft, subnet, before)?;
    let public = ip_configurations::read_public_address(world, draft, &reader, name, before)?;
    if public.is_none() && kind == "Vpn" {
        return Err(reader.missing(
            "publicIPAddress",
            "the id of a public IP address, which a VPN gateway needs",
        ));
    }
    let existing = draft.existing.as_ref();
    let kept = existing
        .and_then(|gateway| ip_configurations::stored(gateway).find(|it| ip_configurations::is_named(it, name)));
    let address = match kept.and_then(address_of) {
        Some(address) => address.to_owned(),
        None => allocate(world, subnet, before)?,
    };
    let mut properties = json!({
        "privateIPAllocationMethod": "Dynamic",
        "privateIPAddress": address,
        "subnet": { "id": subnet.id },
    });
    if let Some(public) = public {
        properties["publicIPAddress"] = json!({ "id": public.id });
    }
    Ok(json!({ "name": name, "properties": properties }))
}

fn check_subnet(world: &World<'_>, draft: &Draft, subnet: &Resource, before: &[Value]) -> Result<(), ArmError> {
    if subnet.name() != GATEWAY_SUBNET {
        return Err(ArmError::bad(
            "InvalidGatewaySubnetName",
            format!(
                "A virtual network gateway must be in a subnet with the name {GATEWAY_SUBNET}, not '{}'. Create one in the virtual network.",
                subnet.name()
            ),
        )
        .at(&subnet.id));
    }
    let key = subnet.key();
    let elsewhere = |stored: &Value| reference_key(&stored["properties"]["subnet"]).is_some_and(|other| other != key);
    let existing = draft
        .existing
        .as_ref()
        .map(|gateway| gateway.property("ipConfigurations"));
    let stored = existing.and_then(Value::as_array).into_iter().flatten();
    if before.iter().chain(stored).any(elsewhere) {
        return Err(ArmError::bad(
            "VirtualNetworkGatewayCannotBeMoved",
            "All ip configurations of a gateway are in one GatewaySubnet, and stay there. Delete the gateway to move it.",
        )
        .at(&subnet.id));
    }
    match world.get(subnets::network_key(&key)) {
        Some(network) => check_region(draft, draft.location(), network, network.location()),
        None => Ok(()),
    }
}

fn allocate(world: &World<'_>, subnet: &Resource, before: &[Value]) -> Result<String, ArmError> {
    let ours: Vec<IpAddr> = before
        .iter()
        .filter_map(|stored| address_of(stored)?.parse().ok())
        .collect();
    match world.first_free(&subnet.key(), &subnets::prefixes(subnet), false, |address| {
        ours.contains(&address)
    }) {
        Some(address) => Ok(address.to_string()),
        None => Err(ArmError::bad(
            "SubnetIsFull",
            format!(
                "Subnet {} has no free IPv4 address left. Make it larger.",
                subnet.name()
            ),
        )
        .at(&subnet.id)),
    }
}

/// The address of IN_1 of an ExpressRoute gateway with one ip configuration: as it was, else the first that is free.
fn second_address(
    world: &World<'_>,
    draft: &Draft,
    kind: &str,
    configurations: &[Value],
) -> Result<Option<Value>, ArmError> {
    if kind != "ExpressRoute" || configurations.len() > 1 {
        return Ok(None);
    }
    if let Some(kept) = draft.kept(SECOND_ADDRESS) {
        return Ok(Some(kept));
    }
    let first = configurations.first();
    let subnet = first.and_then(|stored| world.get(&reference_key(&stored["properties"]["subnet"])?));
    match subnet {
        Some(subnet) => allocate(world, subnet, configurations).map(|address| Some(json!(address))),
        None => Ok(None),
    }
}

fn check_instances(draft: &Draft, active_active: bool, configurations: &[Value]) -> Result<(), ArmError> {
    if !active_active || configurations.len() >= 2 {
        return Ok(());
    }
    Err(ArmError::bad(
        "ActiveActiveGatewayNeedsTwoIpConfigurations",
        format!(
            "Gateway '{}' is active-active and has one ip configuration. Add a second one with a public IP address of its own.",
            draft.id.name()
        ),
    )
    .at("properties.ipConfigurations"))
}

/// A virtual network has one gateway of each type.
fn check_only_one(world: &World<'_>, draft: &Draft, kind: &str, configurations: &[Value]) -> Result<(), ArmError> {
    if draft.kept("gatewayType").is_some_and(|kept| kept != kind) {
        return Err(ArmError::bad(
            "PropertyChangeNotAllowed",
            format!(
                "Changing properties.gatewayType of {} is not allowed. Delete the gateway and create it again.",
                draft.id
            ),
        )
        .at("properties.gatewayType"));
    }
    let subnet = configurations
        .first()
        .and_then(|stored| reference_key(&stored["properties"]["subnet"]));
    let network = subnet.as_deref().map(subnets::network_key).unwrap_or_default();
    virtual_network_peerings::check_no_remote_gateways(world, network, "gateway")?;
    let other = world
        .holders(Relation::GatewayIn, network)
        .filter(|other| !other.id.eq_ignore_ascii_case(draft.id.as_str()))
        .filter_map(|other| world.get(&other.id.to_ascii_lowercase()))
        .find(|other| other.property("gatewayType") == kind);
    match other {
        Some(other) => {
            let error = ArmError::bad(
                "VirtualNetworkCanHaveOnlyOneGatewayOfAType",
                format!(
                    "Virtual network '{}' already has a gateway of type {kind}: {}. Use that one, or delete it first.",
                    last_segment(network),
                    world.called(&other.id)
                ),
            );
            Err(world.pointing_at(error, &other.id))
        }
        None => Ok(()),
    }
}

/// A VPN gateway's AS number counts, ExpressRoute gateways have Azure's; addresses are the service's to give.
fn read_bgp_settings(draft: &Draft, kind: &str, configurations: &[Value]) -> Result<Value, ArmError> {
    let reader = draft.reader();
    let settings = reader.object("bgpSettings")?;
    let (asn, weight) = match &settings {
        Some(settings) => (
            settings.whole("asn", 1..=u64::from(u32::MAX))?,
            settings.whole("peerWeight", 0..=100)?,
        ),
        None => (None, None),
    };
    let asn = asn.filter(|_| kind == "Vpn");
    let asn = asn.unwrap_or(u64::from(bgp::Asn::AZURE_ROUTE_SERVER.0));
    let addresses: Vec<&str> = configurations.iter().filter_map(address_of).collect();
    Ok(json!({ "asn": asn, "bgpPeeringAddress": addresses.join(","), "peerWeight": weight.unwrap_or(0) }))
}
