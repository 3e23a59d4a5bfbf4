//! What management wants of an instance: everything, in one value with a version. The manager makes it from the ARM resources;
//! the instance asks for nothing else. Ids are ARM ids as first written; they compare case-insensitively, so the manager
//! lower-cases the keys it puts here.

use std::net::{IpAddr, Ipv6Addr};

use bgp::{Asn, IpNet, Password};
use rib::Preference;
use serde::{Deserialize, Serialize};

use crate::route_map::{PrefixRange, RouteMap};

/// Everything an instance process is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Grows with every change; an instance that gets a lower one than it has refuses it.
    pub version: u64,
    /// Route servers with an ip configuration.
    pub route_servers: Vec<RouteServerIntent>,
    /// Gateways, and the provider edges of circuits.
    #[serde(default)]
    pub gateways: Vec<GatewayIntent>,
    /// All virtual networks.
    pub virtual_networks: Vec<VirtualNetworkIntent>,
    /// Whether events are made of route changes, for whoever logs them.
    #[serde(default)]
    pub logs_routes: bool,
    /// So many MiB the process may have; 0: as many as there are. Near them the noisiest peer goes.
    #[serde(default)]
    pub memory_mib: u32,
    /// Which token an agent needs for which NIC; `None`: agents need none. The process checks it before the state machine hears of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_tokens: Option<AgentTokens>,
}

/// By the id (lower case) of a NIC, or of a gateway for all its instances: the SHA-256 of the token, in lower-case hex digits.
pub type AgentTokens = std::collections::BTreeMap<String, String>;

/// One route server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteServerIntent {
    /// ARM id, lower case.
    pub id: String,
    /// Its name.
    pub name: String,
    /// 65515 unless a setting of ours says otherwise.
    pub asn: Asn,
    /// The virtual network it is in (id, lower case).
    pub virtual_network: String,
    /// RouteServerSubnet's prefix.
    pub subnet: IpNet,
    /// The addresses of IN_0 and IN_1.
    pub instance_addresses: [IpAddr; 2],
    /// The addresses that they have besides, as next hops of IPv6 routes and for peers with IPv6 addresses.
    #[serde(default)]
    pub instance_addresses_v6: [Option<Ipv6Addr>; 2],
    /// allowBranchToBranchTraffic: NVA-to-NVA and NVA-to-gateway exchange (az §2.4, §2.6).
    pub branch_to_branch: bool,
    /// hubRoutingPreference.
    pub preference: Preference,
    /// Where the address lives: a network namespace path, from `[bind]`; `None`: the process's own.
    pub namespace: Option<String>,
    /// After a start or restart the instance only adds for this long unless End-of-RIB from all peers ends it. Default 120.
    pub converge_secs: u64,
    /// bgpConnections.
    pub peers: Vec<PeerIntent>,
    /// Beyond Azure: exchange IPv6 routes.
    pub ipv6: bool,
    /// Prefixes in all: those originated and those learned (az §1.1); 0: no limit.
    #[serde(default)]
    pub total_routes: u32,
    /// Beyond Azure: routes of NVAs that are gone.
    #[serde(default)]
    pub persist_routes: PersistRoutes,
}

/// A speaker that is no route server: a gateway of a virtual network, or what a circuit of ExpressRoute ends at (az §2.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayIntent {
    /// ARM id of the gateway or circuit, lower case.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: GatewayKind,
    /// 65515 unless the gateway has a number of its own; 12076 of a provider edge.
    pub asn: Asn,
    /// The virtual network it is in (id, lower case); a provider edge is in none.
    #[serde(default)]
    pub virtual_network: Option<String>,
    /// GatewaySubnet (id, lower case); a provider edge is in none.
    #[serde(default)]
    pub subnet: Option<String>,
    /// The addresses of IN_0 and IN_1; a gateway that is not active-active has no IN_1.
    pub instance_addresses: [Option<IpAddr>; 2],
    /// The addresses that they have besides, as next hops of IPv6 routes.
    #[serde(default)]
    pub instance_addresses_v6: [Option<Ipv6Addr>; 2],
    /// Where each address lives: a network namespace path, from `[bind]`; `None`: the process's own.
    #[serde(default)]
    pub namespaces: [Option<String>; 2],
    /// Real routers speak at these addresses: nothing is spoken for them here, route servers peer with them all the same.
    #[serde(default)]
    pub is_external: bool,
    /// Whom each instance peers with: both instances of a route server, sites, provider edges, gateways.
    pub peers: Vec<PeerIntent>,
    /// Prefixes of sites that speak no BGP (`localNetworkAddressSpace`).
    #[serde(default)]
    pub static_routes: Vec<StaticRouteIntent>,
    /// What is made of them before they compete, for tunnels whose connection has an inbound route map.
    #[serde(default)]
    pub static_route_maps: Vec<StaticRouteMapIntent>,
    /// Of an ExpressRoute gateway: routes that it may tell a circuit (az §1.1); 0: no limit.
    #[serde(default)]
    pub routes_to_circuit: u32,
    /// Beyond Azure: exchange IPv6 routes. Without IPv6 addresses of the gateway those of sites stay there: the next hop that it tells is
    /// IPv4-mapped then, and no speaker of ours takes that.
    #[serde(default)]
    pub ipv6: bool,
}

/// What a [`GatewayIntent`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GatewayKind {
    /// `gatewayType: Vpn`.
    Vpn,
    /// `gatewayType: ExpressRoute`.
    ExpressRoute,
    /// The provider's end of a circuit (MSEE).
    ProviderEdge,
}

/// A prefix behind a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRouteIntent {
    /// Where to.
    pub prefix: IpNet,
    /// The far end of the tunnel.
    pub next_hop: IpAddr,
    /// The peering (id) with the router at that far end, if it speaks BGP: often with another address than the tunnel's own.
    #[serde(default)]
    pub peering: Option<String>,
}

/// The inbound route map of the static routes of one tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRouteMapIntent {
    /// The far end of the tunnel, as its routes have it.
    pub next_hop: IpAddr,
    /// The peering, as its routes have it.
    #[serde(default)]
    pub peering: Option<String>,
    /// What is made of them.
    pub inbound_route_map: RouteMap,
}

/// Whom a peering is with: what is taken and told depends on it (az §2.4, §2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerKind {
    /// A network virtual appliance, of a route server.
    #[default]
    Nva,
    /// A VPN gateway, of a route server.
    VpnGateway,
    /// An ExpressRoute gateway, of a route server or of a provider edge.
    ExpressRouteGateway,
    /// A route server, of a gateway.
    RouteServer,
    /// A site's router: at a tunnel of a VPN gateway, or the customer's edge of a circuit.
    Site,
    /// The provider's edge, of an ExpressRoute gateway.
    ProviderEdge,
}

impl PeerKind {
    /// A route server, a gateway or a provider's edge rather than somebody's router.
    pub(crate) fn is_of_ours(self) -> bool {
        !matches!(self, PeerKind::Nva | PeerKind::Site)
    }
}

/// One peering (bgpConnection, or what a gateway brings) with our settings for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerIntent {
    /// ARM id, lower case; unique among all peerings of an intent. Those between a route server and a gateway are no resources; theirs is
    /// the speaker's own id with the other's kind, name and instance behind it: `…/virtualhubs/rs/gateways/vpn-gw-in_0`. A circuit has
    /// `/primary` and `/secondary`.
    pub id: String,
    /// Whom it is with.
    #[serde(default)]
    pub kind: PeerKind,
    /// The instance that alone has it: a circuit's primary and secondary subnets have one provider edge each. `None`: both.
    #[serde(default)]
    pub instance: Option<usize>,
    /// Its name.
    pub name: String,
    /// peerIp.
    pub address: IpAddr,
    /// peerAsn.
    pub asn: Asn,
    /// Proposed hold time, seconds; Azure 180.
    pub hold_time_secs: u16,
    /// A peer that takes nothing from us for so many seconds loses its session (RFC 9687); 0: the RFC's default, the greater of eight
    /// minutes and twice the hold time.
    #[serde(default)]
    pub send_hold_secs: u16,
    /// Whether we dial; on by default.
    pub dial: bool,
    /// Seconds between dials; default 4.
    pub connect_retry_secs: u64,
    /// TCP MD5 password (RFC 2385).
    pub md5_password: Option<Password>,
    /// TTL security (RFC 5082): the largest number of hops the peer may be away; `None`: off.
    pub ttl_security_hops: Option<u8>,
    /// Distinct prefixes allowed; 0: no limit. Azure 4,000 (az §1.1).
    pub route_limit: u32,
    /// Warn at this percentage of the limit; default 80.
    pub route_limit_warning_percent: u8,
    /// Offer enhanced route refresh (RFC 7313); off by default, as in Azure (az §2.1). FRR 8 and 9 never answer a ROUTE-REFRESH of a
    /// speaker that offers it without graceful restart (FRR issue 16126).
    #[serde(default)]
    pub enhanced_route_refresh: bool,
    /// Offer to receive messages of up to 65,535 octets (RFC 8654); off by default, as in Azure (az §2.1).
    #[serde(default)]
    pub extended_messages: bool,
    /// Higher wins before anything else; default 0.
    pub import_preference: u32,
    /// The session is held down by the operator.
    pub admin_down: bool,
    /// Beyond Azure: BFD watches the path to it; `None`: off, as in Azure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdIntent>,
    /// Packets are to go other ways: what the peer says is a last resort, and so is what it is told (RFC 8326).
    #[serde(default)]
    pub drain: bool,
    /// Keep the peer's routes while it restarts, and have it keep ours (RFC 4724, RFC 8538); off by default, as in Azure.
    #[serde(default)]
    pub graceful_restart: bool,
    /// We are back within so many seconds: 1 to 4,095.
    #[serde(default = "default_restart_time_secs")]
    pub graceful_restart_time_secs: u16,
    /// For so long after that routes are of use as a last resort (RFC 9494), both ways; 0: not at all. Needs graceful restart.
    #[serde(default)]
    pub long_lived_stale_time_secs: u32,
    /// What is made of its routes before they compete.
    #[serde(default)]
    pub inbound_route_map: Option<RouteMap>,
    /// What is made of what it is told.
    #[serde(default)]
    pub outbound_route_map: Option<RouteMap>,
}

impl PeerIntent {
    /// A peering with an NVA as Azure makes it (hold time az §2.1, dialling az §2.10, limit az §1.1), with our own settings' defaults. It has its
    /// id for a name.
    pub fn azure(id: &str, address: IpAddr, asn: Asn) -> PeerIntent {
        PeerIntent {
            id: id.to_owned(),
            kind: PeerKind::Nva,
            instance: None,
            name: id.to_owned(),
            address,
            asn,
            hold_time_secs: 180,
            send_hold_secs: 0,
            dial: true,
            connect_retry_secs: 4,
            md5_password: None,
            ttl_security_hops: None,
            route_limit: 4_000,
            route_limit_warning_percent: 80,
            enhanced_route_refresh: false,
            extended_messages: false,
            import_preference: 0,
            admin_down: false,
            bfd: None,
            drain: false,
            graceful_restart: false,
            graceful_restart_time_secs: DEFAULT_RESTART_TIME_SECS,
            long_lived_stale_time_secs: 0,
            inbound_route_map: None,
            outbound_route_map: None,
        }
    }
}

/// How BFD watches the path to a peer (RFC 5880).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdIntent {
    /// How often we would like to send, milliseconds (Desired Min TX Interval).
    pub min_tx_ms: u32,
    /// How often we can hear, milliseconds (Required Min RX Interval).
    pub min_rx_ms: u32,
    /// So many of our packets lost in a row are a lost path, to the peer (Detect Mult).
    pub multiplier: u8,
    /// Over several hops (RFC 5883) or on one link (RFC 5881); `None`: on one link where the peer is in our own subnet.
    #[serde(default)]
    pub multihop: Option<bool>,
    /// BGP waits until BFD is up (draft-ietf-idr-bgp-bfd-strict-mode).
    #[serde(default)]
    pub strict: bool,
    /// Both ends have the same.
    #[serde(default)]
    pub authentication: Option<BfdAuthentication>,
}

/// How BFD packets are authenticated (RFC 5880 §6.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdAuthentication {
    /// How.
    pub kind: bfd::AuthenticationType,
    /// Which of several keys it is, for both ends.
    pub key_id: u8,
    /// The key.
    pub key: Password,
}

/// What the RFC's own example has, and most speakers.
pub const DEFAULT_RESTART_TIME_SECS: u16 = 120;

fn default_restart_time_secs() -> u16 {
    DEFAULT_RESTART_TIME_SECS
}

/// Whether routes of NVAs that are gone are kept as a last resort, whatever these are capable of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PersistRoutes {
    /// As in Azure.
    #[default]
    Off,
    /// Until the NVA is back, or an operator says otherwise.
    Forever,
    /// For so many minutes.
    Minutes(u32),
}

/// One virtual network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualNetworkIntent {
    /// ARM id, lower case.
    pub id: String,
    /// Its name.
    pub name: String,
    /// addressSpace.addressPrefixes.
    pub address_space: Vec<IpNet>,
    /// Its subnets.
    pub subnets: Vec<SubnetIntent>,
    /// Connected peerings.
    pub peerings: Vec<PeeringIntent>,
    /// NICs in its subnets.
    pub nics: Vec<NicIntent>,
}

/// One subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetIntent {
    /// ARM id, lower case.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
    /// The associated route table.
    pub route_table: Option<RouteTableIntent>,
}

/// A route table as one subnet sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTableIntent {
    /// ARM id, lower case.
    pub id: String,
    /// disableBgpRoutePropagation.
    pub disable_bgp_route_propagation: bool,
    /// disablePeeringRoute All: no system routes to peered networks.
    #[serde(default)]
    pub disable_peering_route: bool,
    /// User-defined routes.
    pub routes: Vec<UserRouteIntent>,
    /// Beyond Azure: which BGP routes come to the subnet; `None`: all.
    #[serde(default)]
    pub import: Option<ImportFilter>,
}

/// Which BGP routes come to a subnet: the first rule that matches a route decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFilter {
    /// In their order.
    pub rules: Vec<ImportRule>,
    /// What no rule matches comes (true) or does not.
    pub allow_others: bool,
}

/// One rule of an [`ImportFilter`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRule {
    /// For people: effective routes tell it.
    pub name: String,
    /// What matches comes (true) or does not.
    pub allow: bool,
    /// Prefixes in any of these; empty: all.
    pub prefixes: Vec<PrefixRange>,
    /// Next hops that are any of these; empty: all.
    pub next_hops: Vec<IpAddr>,
}

/// A user-defined route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRouteIntent {
    /// Its name.
    pub name: String,
    /// addressPrefix.
    pub prefix: IpNet,
    /// nextHopType with its addresses.
    pub next_hop: UserNextHop,
}

/// Next hop of a user-defined route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNextHop {
    /// One address, or several with VirtualApplianceEcmp.
    VirtualAppliance(Vec<IpAddr>),
    /// As the system route of the virtual network.
    VnetLocal,
    /// As the system default route.
    Internet,
    /// Dropped.
    None,
    /// Whatever BGP or the gateway says for it.
    VirtualNetworkGateway,
}

/// A Connected virtual network peering, seen from its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeeringIntent {
    /// The other virtual network (id, lower case).
    pub remote: String,
    /// useRemoteGateways: its route server's routes come here, our prefixes go there.
    pub use_remote_gateways: bool,
    /// allowGatewayTransit.
    pub allow_gateway_transit: bool,
    /// Global peering (another region).
    pub global: bool,
}

/// One NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicIntent {
    /// ARM id, lower case.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The subnet (id, lower case).
    pub subnet: String,
    /// Private addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
}
