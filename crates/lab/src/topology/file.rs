//! The topology file as people write it. Its JSON Schema is checked in as `docs/topology.schema.json`.
//!
//! Scalars stay text with their place here, so that the check can report every mistake at once.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Text that knows its line and column.
pub(super) type Text = Spanned<String>;

/// A Routewright lab topology.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyFile {
    /// What it shows, for people.
    pub(super) description: Option<String>,
    /// How many instance processes run: 1 or 2 (default 2).
    #[schemars(with = "Option<u8>", range(min = 1, max = 2))]
    pub(super) instances: Option<Spanned<u8>>,
    /// Virtual networks. Those joined by peerings share one link; each subnet's first address is the gateway's.
    pub(super) vnets: Vec<VnetFile>,
    /// Route tables with user routes.
    #[serde(default)]
    pub(super) route_tables: Vec<RouteTableFile>,
    /// Route servers: at most one per virtual network, which needs a subnet named RouteServerSubnet.
    #[serde(default)]
    pub(super) route_servers: Vec<RouteServerFile>,
    /// Virtual machines. An agent keeps the routes of each.
    #[serde(default)]
    pub(super) vms: Vec<VmFile>,
    /// Network virtual appliances, each peering with both instances.
    #[serde(default)]
    pub(super) nvas: Vec<NvaFile>,
    /// Internal load balancers: an address that stands for several NVAs.
    #[serde(default)]
    pub(super) load_balancers: Vec<LoadBalancerFile>,
    /// Links between NVAs beside the virtual networks: tunnels, overlays, lines between regions.
    #[serde(default)]
    pub(super) links: Vec<LinkFile>,
    /// Route maps of route servers, which NVAs refer to.
    #[serde(default)]
    pub(super) route_maps: Vec<RouteMapFile>,
    /// Virtual network gateways; their virtual network needs a subnet named GatewaySubnet.
    #[serde(default)]
    pub(super) gateways: Vec<GatewayFile>,
    /// Sites at tunnels of VPN gateways, or at circuits.
    #[serde(default)]
    pub(super) sites: Vec<SiteFile>,
    /// ExpressRoute circuits.
    #[serde(default)]
    pub(super) circuits: Vec<CircuitFile>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Gateway")]
pub(super) struct GatewayFile {
    /// Name of the Azure resource: small letters, digits and dashes, at most 11. Its nodes are NAME-0 and NAME-1.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// The virtual network it lives in.
    #[schemars(with = "String")]
    pub(super) vnet: Text,
    /// vpn or expressroute.
    #[serde(rename = "type")]
    #[schemars(with = "String", extend("enum" = ["vpn", "expressroute"]))]
    pub(super) kind: Text,
    /// Its AS number (default 65515).
    pub(super) asn: Option<u32>,
    /// Two instances (default true). An ExpressRoute gateway always has two.
    #[serde(default = "yes")]
    pub(super) active_active: bool,
    /// Exchange IPv6 routes (default false): beyond Azure's route server.
    #[serde(default)]
    pub(super) ipv6: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Site")]
pub(super) struct SiteFile {
    /// Name of the node: small letters, digits and dashes, at most 13.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// What routes there: builtin (default), frr, bird, gobgp, openbgpd, exabgp, or external.
    #[schemars(with = "Option<String>", extend("enum" = ["builtin", "frr", "bird", "gobgp", "openbgpd", "exabgp", "external", null]))]
    pub(super) software: Option<Text>,
    /// Its router's own address, which BGP speaks from over tunnels.
    #[schemars(with = "String")]
    pub(super) address: Text,
    /// The router's IPv6 address, if it has both families: the next hop of its IPv6 routes.
    #[schemars(with = "Option<String>")]
    pub(super) address_v6: Option<Text>,
    /// Its AS number. Without one it speaks no BGP, and its gateways are told by the API which prefixes are there.
    #[schemars(with = "Option<u32>")]
    pub(super) asn: Option<Spanned<u32>>,
    /// VPN gateways that it has tunnels to.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) gateways: Vec<Text>,
    /// What it announces; without BGP: the prefixes that are there.
    #[serde(default)]
    #[schemars(with = "Vec<AnnounceFile>")]
    pub(super) announce: Vec<Spanned<AnnounceFile>>,
    /// Hosts behind it, each on a link of its own.
    #[serde(default)]
    pub(super) behind: Vec<HostFile>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Circuit")]
pub(super) struct CircuitFile {
    /// Name of the Azure resource: small letters, digits and dashes, at most 11. Its provider edges are NAME-0 and NAME-1.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// ExpressRoute gateways that it is connected to.
    #[schemars(with = "Vec<String>")]
    pub(super) gateways: Vec<Text>,
    /// The site at its other end.
    #[schemars(with = "String")]
    pub(super) site: Text,
    /// The primary link, a /30: the customer has the first address.
    #[schemars(with = "String")]
    pub(super) primary: Text,
    /// The secondary link, a /30.
    #[schemars(with = "String")]
    pub(super) secondary: Text,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Vnet")]
pub(super) struct VnetFile {
    /// Name of the Azure resource.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// The address space, for example 10.1.0.0/16; with IPv6 for example fd01::/48 as well.
    #[schemars(with = "Vec<String>")]
    pub(super) address_prefixes: Vec<Text>,
    /// Its subnets.
    pub(super) subnets: Vec<SubnetFile>,
    /// Its half of each peering; the other virtual network states the other half.
    #[serde(default)]
    pub(super) peerings: Vec<PeeringFile>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Subnet")]
pub(super) struct SubnetFile {
    /// Name within the virtual network.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// The subnet's prefix.
    #[schemars(with = "String")]
    pub(super) prefix: Text,
    /// Its IPv6 prefix, a /64, if it has both families. Who has an IPv4 address in it has the IPv6 address of the same number as well.
    #[schemars(with = "Option<String>")]
    pub(super) prefix_v6: Option<Text>,
    /// Name of a route table to attach.
    #[schemars(with = "Option<String>")]
    pub(super) route_table: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Peering")]
pub(super) struct PeeringFile {
    /// Name of the other virtual network.
    #[schemars(with = "String")]
    pub(super) to: Text,
    /// Take traffic that the other virtual network only forwards (default true).
    #[serde(default = "yes")]
    pub(super) allow_forwarded_traffic: bool,
    /// Let the other virtual network use the route server here.
    #[serde(default)]
    pub(super) allow_gateway_transit: bool,
    /// Use the other virtual network's route server.
    #[serde(default)]
    pub(super) use_remote_gateways: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouteTable")]
pub(super) struct RouteTableFile {
    /// Name of the Azure resource.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// Keep BGP routes away from the subnets that use this table.
    #[serde(default)]
    pub(super) disable_bgp_propagation: bool,
    /// User routes.
    #[serde(default)]
    pub(super) routes: Vec<UserRouteFile>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UserRoute")]
pub(super) struct UserRouteFile {
    /// The destination.
    #[schemars(with = "String")]
    pub(super) prefix: Text,
    /// VirtualAppliance, VirtualApplianceEcmp, VirtualNetworkGateway, VnetLocal, Internet or None.
    #[schemars(with = "String")]
    pub(super) next_hop_type: Text,
    /// The appliance's address, for VirtualAppliance.
    #[schemars(with = "Option<String>")]
    pub(super) next_hop: Option<Text>,
    /// The appliances' addresses, for VirtualApplianceEcmp: at least two.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) next_hops: Vec<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouteServer")]
pub(super) struct RouteServerFile {
    /// Name of the Azure resource, and of the node that holds the two instance addresses.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// The virtual network it lives in.
    #[schemars(with = "String")]
    pub(super) vnet: Text,
    /// Pass on what one NVA announces to the others (default false).
    #[serde(default)]
    pub(super) branch_to_branch: bool,
    /// ExpressRoute (default), VpnGateway or ASPath.
    #[schemars(with = "Option<String>")]
    pub(super) routing_preference: Option<Text>,
    /// Exchange IPv6 routes (default false): beyond Azure.
    #[serde(default)]
    pub(super) ipv6: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Vm")]
pub(super) struct VmFile {
    /// Name of the node: small letters, digits and dashes, at most 13.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// Where it lives: VNET/SUBNET.
    #[schemars(with = "String")]
    pub(super) subnet: Text,
    /// Its address; by default the next free one of the subnet.
    #[schemars(with = "Option<String>")]
    pub(super) address: Option<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Nva")]
pub(super) struct NvaFile {
    /// Name of the node: small letters, digits and dashes, at most 13.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// Where it lives: VNET/SUBNET.
    #[schemars(with = "String")]
    pub(super) subnet: Text,
    /// Its address; by default the next free one of the subnet.
    #[schemars(with = "Option<String>")]
    pub(super) address: Option<Text>,
    /// What speaks BGP: builtin (default), frr, bird, gobgp, openbgpd, exabgp, or external.
    #[schemars(with = "Option<String>", extend("enum" = ["builtin", "frr", "bird", "gobgp", "openbgpd", "exabgp", "external", null]))]
    pub(super) software: Option<Text>,
    /// Its AS number.
    #[schemars(with = "u32")]
    pub(super) asn: Spanned<u32>,
    /// The route server it peers with; by default the one its virtual network can use. `none` for no peering.
    #[schemars(with = "Option<String>")]
    pub(super) route_server: Option<Text>,
    /// Several route servers, of networks that are peered with its own.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) route_servers: Vec<Text>,
    /// What it announces from the start.
    #[serde(default)]
    #[schemars(with = "Vec<AnnounceFile>")]
    pub(super) announce: Vec<Spanned<AnnounceFile>>,
    /// Hosts behind it, each on a link of its own.
    #[serde(default)]
    pub(super) behind: Vec<HostFile>,
    /// Route map for what it announces.
    #[schemars(with = "Option<String>")]
    pub(super) inbound_route_map: Option<Text>,
    /// Route map for what it is told.
    #[schemars(with = "Option<String>")]
    pub(super) outbound_route_map: Option<Text>,
    /// Prefer what it announces before anything else (a setting of its peering, beyond Azure): the higher the better, 0 by default.
    pub(super) import_preference: Option<u32>,
    /// Put its own AS number in place of 65515 in what it passes on to the route server (default false). Needs links, and builtin,
    /// frr or bird.
    #[serde(default)]
    pub(super) as_override: bool,
    /// Write its network interface's effective routes into its kernel (default false): what the platform does with its packets in Azure,
    /// and what it needs where they go to gateways.
    #[serde(default)]
    pub(super) agent: bool,
    /// BFD between it and the route server. Needs builtin, frr or bird.
    #[schemars(with = "Option<BfdFile>")]
    pub(super) bfd: Option<Spanned<BfdFile>>,
    /// Graceful restart between it and the route server: each keeps the other's routes while that is away. Not with external.
    #[schemars(with = "Option<GracefulRestartFile>")]
    pub(super) graceful_restart: Option<Spanned<GracefulRestartFile>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GracefulRestart")]
pub(super) struct GracefulRestartFile {
    /// The NVA is back within so many seconds: 1 to 4095 (default 120).
    #[serde(default = "restart_secs")]
    #[schemars(range(min = 1, max = 4095))]
    pub(super) restart_secs: u16,
    /// After that its routes are a last resort for so many seconds: up to 16777215 (default 0: they go). Needs builtin, frr, bird or gobgp.
    #[serde(default)]
    #[schemars(range(max = 16_777_215))]
    pub(super) long_lived_secs: u32,
}

fn restart_secs() -> u16 {
    120
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bfd")]
pub(super) struct BfdFile {
    /// How often each end sends and can hear, milliseconds: 50 to 60000 (default 300).
    #[serde(default = "bfd_interval_ms")]
    #[schemars(range(min = 50, max = 60_000))]
    pub(super) interval_ms: u32,
    /// So many lost packets are a lost path: 2 to 255 (default 3).
    #[serde(default = "bfd_multiplier")]
    #[schemars(range(min = 2, max = 255))]
    pub(super) multiplier: u8,
    /// BGP waits until BFD is up (default false): at the route server's end.
    #[serde(default)]
    pub(super) strict: bool,
}

fn bfd_interval_ms() -> u32 {
    300
}

fn bfd_multiplier() -> u8 {
    3
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LoadBalancer")]
pub(super) struct LoadBalancerFile {
    /// Name of the node: small letters, digits and dashes, at most 13.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// Where it lives: VNET/SUBNET.
    #[schemars(with = "String")]
    pub(super) subnet: Text,
    /// The frontend's address; by default the next free one of the subnet.
    #[schemars(with = "Option<String>")]
    pub(super) address: Option<Text>,
    /// The NVAs of the same subnet that it spreads flows over, as long as they answer its probe (TCP 179).
    #[schemars(with = "Vec<String>")]
    pub(super) backends: Vec<Text>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Link")]
pub(super) struct LinkFile {
    /// Its name, for `lab link down`: small letters, digits and dashes, at most 13.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// Its two ends.
    #[schemars(with = "[LinkEndFile; 2]")]
    pub(super) ends: Spanned<Vec<LinkEndFile>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LinkEnd")]
pub(super) struct LinkEndFile {
    /// The NVA.
    #[schemars(with = "String")]
    pub(super) nva: Text,
    /// Its address there with the prefix length, for example 172.31.0.1/30. The ends speak BGP with each other; builtin, frr and bird
    /// pass on to the other end what the route server says, and the other way round.
    #[schemars(with = "String")]
    pub(super) address: Text,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RouteMap")]
pub(super) struct RouteMapFile {
    /// Name of the Azure resource.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// The route server that it belongs to.
    #[schemars(with = "String")]
    pub(super) route_server: Text,
    /// Its rules, in order.
    pub(super) rules: Vec<RuleFile>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(super) struct RuleFile {
    /// Its name.
    pub(super) name: String,
    /// All of these must hold; none: every route.
    #[serde(default)]
    pub(super) match_criteria: Vec<CriterionFile>,
    /// What is done then; nothing: the route passes.
    #[serde(default)]
    pub(super) actions: Vec<ActionFile>,
    /// Continue or Terminate (default).
    pub(super) next_step_if_matched: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Criterion")]
pub(super) struct CriterionFile {
    /// Contains, Equals, NotContains or NotEquals.
    pub(super) match_condition: String,
    /// Prefixes.
    #[serde(default)]
    pub(super) route_prefix: Vec<String>,
    /// Communities such as 65001:100.
    #[serde(default)]
    pub(super) community: Vec<String>,
    /// AS numbers.
    #[serde(default)]
    pub(super) as_path: Vec<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Action")]
pub(super) struct ActionFile {
    /// Add, Drop, Remove or Replace.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Prefixes.
    #[serde(default)]
    pub(super) route_prefix: Vec<String>,
    /// Communities such as 65001:100.
    #[serde(default)]
    pub(super) community: Vec<String>,
    /// AS numbers.
    #[serde(default)]
    pub(super) as_path: Vec<u32>,
}

/// A prefix, alone or with path options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Announce")]
pub(super) enum AnnounceFile {
    /// A prefix.
    Plain(String),
    /// A prefix with path options.
    WithOptions(PathFile),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Path")]
pub(super) struct PathFile {
    /// The prefix.
    pub(super) prefix: String,
    /// Put the own AS number in front so many times more.
    #[serde(default)]
    pub(super) as_path_prepend: u8,
    /// AS numbers behind the own one, as if learned from elsewhere.
    #[serde(default)]
    pub(super) as_path: Vec<u32>,
    /// Standard communities, for example 65001:100.
    #[serde(default)]
    pub(super) communities: Vec<String>,
    /// MULTI_EXIT_DISC.
    pub(super) med: Option<u32>,
    /// Another next hop than the NVA itself.
    pub(super) next_hop: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Host")]
pub(super) struct HostFile {
    /// Name of the node: small letters, digits and dashes, at most 13.
    #[schemars(with = "String")]
    pub(super) name: Text,
    /// Its address with the link's prefix length, for example 10.250.0.10/24; the NVA has the first address.
    #[schemars(with = "String")]
    pub(super) address: Text,
    /// The same of IPv6, if it has both families, for example 2001:db8:250::a/64.
    #[schemars(with = "Option<String>")]
    pub(super) address_v6: Option<Text>,
    /// Prefixes that the NVA sends here besides the link's own, for example 0.0.0.0/0.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) routes: Vec<Text>,
}

fn yes() -> bool {
    true
}

/// The JSON Schema of topology files.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(TopologyFile).to_value()
}
