//! `virtualHubs`: the route server. Without an ip configuration it is an empty shell: harmless, listable, deletable (az's create
//! sometimes leaves one behind).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::{Draft, ResourceType, bgp_connections, connections, hub_ip_configurations, references, subnets};
use crate::address::{beside, instance_addresses};
use crate::error::ArmError;
use crate::id::{ResourceId, parent_key};
use crate::limits;
use crate::read::Reader;
use crate::request::{Ask, Mint, Request};
use crate::resource::Resource;
use crate::settings::Settings;
use crate::world::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualHubs";

/// What makes a hub a Virtual WAN hub, which is something else.
const VIRTUAL_WAN_ONLY: [&str; 3] = ["virtualWan", "addressPrefix", "azureFirewall"];

pub(super) struct VirtualHubs;

impl ResourceType for VirtualHubs {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn read_only(&self) -> &'static [&'static str] {
        &[
            "routingState",
            "virtualRouterAsn",
            "virtualRouterIps",
            "virtualRouterIpsV6",
            "routeTable",
            "virtualHubRouteTableV2s",
            "bgpConnections",
            "ipConfigurations",
            "routeMaps",
        ]
    }

    fn long_running(&self) -> bool {
        true
    }

    fn read(&self, _world: &World<'_>, draft: &mut Draft, _mint: &mut dyn Mint) -> Result<(), ArmError> {
        let reader = draft.reader();
        for name in VIRTUAL_WAN_ONLY {
            let given = reader
                .get(name)
                .is_some_and(|value| value != &json!("") && value != &json!({}));
            if given {
                return Err(ArmError::bad(
                    "VirtualWanNotSupported",
                    format!("properties.{name} belongs to Virtual WAN hubs; only route servers are served here. Leave it out."),
                )
                .at(reader.path_of(name)));
            }
        }
        let sku = reader.one_of("sku", &["Standard"])?.unwrap_or("Standard");
        let branch_to_branch = reader.boolean("allowBranchToBranchTraffic")?.unwrap_or(false);
        let preference = reader
            .one_of("hubRoutingPreference", &["ExpressRoute", "VpnGateway", "ASPath"])?
            .unwrap_or("ExpressRoute");
        let capacity = match reader.object("virtualRouterAutoScaleConfiguration")? {
            Some(scale) => scale
                .whole("minCapacity", 0..=u64::from(limits::MAX_UNITS))?
                .unwrap_or(2),
            None => 2,
        };
        draft.set("sku", sku);
        draft.set("allowBranchToBranchTraffic", branch_to_branch);
        draft.set("hubRoutingPreference", preference);
        draft.set(
            "virtualRouterAutoScaleConfiguration",
            json!({ "minCapacity": capacity }),
        );
        Ok(())
    }

    fn show(&self, world: &World<'_>, resource: &Resource, properties: &mut Map<String, Value>) {
        let key = resource.key();
        let instances = instances_of(world, &key);
        let (state, asn, addresses) = match instances {
            Some(addresses) => ("Provisioned", world.settings.asn_of(&key).0, addresses.to_vec()),
            None => ("None", 0, Vec::new()),
        };
        properties.insert("routingState".to_owned(), json!(state));
        properties.insert("virtualRouterAsn".to_owned(), json!(asn));
        properties.insert("virtualRouterIps".to_owned(), json!(addresses));
        if let Some(addresses) = instances_v6_of(world, &key) {
            properties.insert("virtualRouterIpsV6".to_owned(), json!(addresses));
        }
        properties.insert("routeTable".to_owned(), json!({ "routes": [] }));
        properties.insert("virtualHubRouteTableV2s".to_owned(), json!([]));
        for segment in ["bgpConnections", "ipConfigurations", "routeMaps"] {
            let children = world.children(&key, segment);
            let ids = children.iter().map(|child| child.id.as_str());
            properties.insert(segment.to_owned(), references(ids));
        }
    }

    fn show_outside(&self) -> &'static [(&'static str, &'static str)] {
        &[("kind", "RouteServer")]
    }

    fn action(&self, name: &str, key: String, request: &Request) -> Result<Option<Ask>, ArmError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "effectiveroutes" => Some(Ask::HubEffectiveRoutes(key)),
            "inboundroutes" => Some(Ask::InboundRoutes(connection_meant(&key, request.body.as_ref())?)),
            "outboundroutes" => Some(Ask::OutboundRoutes(connection_meant(&key, request.body.as_ref())?)),
            _ => None,
        })
    }
}

/// The connection that a body's `resourceUri` names (key): one of this hub, or of a gateway.
fn connection_meant(hub: &str, body: Option<&Value>) -> Result<String, ArmError> {
    let what = "the id of a bgpConnection of this route server, or of a connection of a gateway in its network";
    let none = json!({});
    let reader = Reader::of(body.unwrap_or(&none), "")?;
    let text = reader.required_text("resourceUri", what)?;
    let is_meant = |id: &ResourceId| {
        let kind = id.kind();
        kind.eq_ignore_ascii_case(connections::KIND)
            || kind.eq_ignore_ascii_case(bgp_connections::KIND) && parent_key(&id.key()) == Some(hub)
    };
    let id = ResourceId::parse(text).filter(is_meant);
    id.map(|id| id.key()).ok_or_else(|| reader.wrong("resourceUri", what))
}

/// The same, in the world of a request.
pub(super) fn instances_of(world: &World<'_>, hub: &str) -> Option<[Ipv4Addr; 2]> {
    provisioned_instances(hub_ip_configurations::of_hub(world, hub), |key| world.get(key))
}

/// The addresses of IN_0 and IN_1, once the hub has its ip configuration; `get` finds a resource by key.
pub(crate) fn provisioned_instances<'r>(
    configuration: Option<&Resource>,
    get: impl Fn(&str) -> Option<&'r Resource>,
) -> Option<[Ipv4Addr; 2]> {
    let subnet = get(&hub_ip_configurations::subnet_of(configuration?)?)?;
    Some(instance_addresses(&subnets::first_v4(&subnets::prefixes(subnet))?))
}

/// The IPv6 addresses of IN_0 and IN_1, in the world of a request: with the setting `ipv6`, and an IPv6 prefix of RouteServerSubnet.
pub(super) fn instances_v6_of(world: &World<'_>, hub: &str) -> Option<[Ipv6Addr; 2]> {
    let configuration = hub_ip_configurations::of_hub(world, hub).filter(|_| world.settings.ipv6_of(hub));
    provisioned_instances_v6(configuration, |key| world.get(key))
}

/// The IPv6 addresses of IN_0 and IN_1, were the setting on.
pub(crate) fn provisioned_instances_v6<'r>(
    configuration: Option<&Resource>,
    get: impl Fn(&str) -> Option<&'r Resource>,
) -> Option<[Ipv6Addr; 2]> {
    let subnet = get(&hub_ip_configurations::subnet_of(configuration?)?)?;
    let prefixes = subnets::prefixes(subnet);
    let [first, second] = instance_addresses(&subnets::first_v4(&prefixes)?);
    Some([beside(&prefixes, first)?, beside(&prefixes, second)?])
}

/// The first peering of a route server's `connections` with an IPv6 address.
pub(crate) fn peer_over_ipv6<'r>(mut connections: impl Iterator<Item = &'r Resource>) -> Option<&'r Resource> {
    connections.find(|connection| {
        let address = connection.property("peerIp").as_str().map(str::parse::<IpAddr>);
        matches!(address, Some(Ok(IpAddr::V6(_))))
    })
}

impl Settings {
    /// Whether a route server or gateway (key) exchanges IPv6 routes: a setting of ours.
    pub(crate) fn ipv6_of(&self, key: &str) -> bool {
        self.by_key.get(key).is_some_and(|settings| settings["ipv6"] == true)
    }

    /// The AS number of a route server (key): Azure's, unless a setting of ours says otherwise.
    pub fn asn_of(&self, hub: &str) -> bgp::Asn {
        let asn = self.by_key.get(hub).and_then(|settings| settings["asn"].as_u64());
        match asn.and_then(|asn| u32::try_from(asn).ok()) {
            Some(asn) => bgp::Asn(asn),
            None => bgp::Asn::AZURE_ROUTE_SERVER,
        }
    }
}
