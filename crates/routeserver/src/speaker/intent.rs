//! What an intent says of one speaker, whatever it is: a route server or a gateway, as this instance has it.

use std::net::{IpAddr, Ipv6Addr};

use bgp::{Asn, IpNet};
use rib::{Preference, RouteSource};

use crate::intent::{
    GatewayIntent, GatewayKind, Intent, PeerIntent, PeerKind, PersistRoutes, RouteServerIntent, StaticRouteIntent,
    StaticRouteMapIntent,
};

/// Gateways have no setting for it: as long as route servers by default.
const GATEWAY_CONVERGE_SECS: u64 = 120;

/// What a speaker is: what it takes and tells depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    RouteServer,
    VpnGateway,
    ExpressRouteGateway,
    ProviderEdge,
}

/// One speaker's part of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpeakerIntent {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) asn: Asn,
    /// This instance's address.
    pub(crate) address: IpAddr,
    /// The one that it has besides for IPv6.
    pub(crate) address_v6: Option<Ipv6Addr>,
    /// The addresses of all its instances, of both families.
    pub(crate) instances: Vec<IpAddr>,
    /// Instances that other processes are of the route server that it hears over eBGP: they forward nothing, and where they would send is
    /// not known here (`instance/through.rs`).
    pub(crate) out_of_sight: Vec<IpAddr>,
    pub(crate) namespace: Option<String>,
    /// A provider edge is in none.
    pub(crate) virtual_network: Option<String>,
    /// RouteServerSubnet.
    pub(crate) subnet: Option<IpNet>,
    pub(crate) branch_to_branch: bool,
    pub(crate) preference: Preference,
    pub(crate) converge_secs: u64,
    pub(crate) peers: Vec<PeerIntent>,
    pub(crate) static_routes: Vec<StaticRouteIntent>,
    pub(crate) static_route_maps: Vec<StaticRouteMapIntent>,
    pub(crate) ipv6: bool,
    /// 0: no limit.
    pub(crate) total_routes: u32,
    pub(crate) persist_routes: PersistRoutes,
    /// 0: no limit.
    pub(crate) routes_to_circuit: u32,
}

impl SpeakerIntent {
    /// Every speaker that this instance is.
    pub(crate) fn all(intent: &Intent, instance: usize) -> Vec<SpeakerIntent> {
        let route_servers = intent.route_servers.iter();
        let route_servers = route_servers.map(|each| SpeakerIntent::of_route_server(each, instance));
        let gateways = intent.gateways.iter();
        let gateways = gateways.filter_map(|each| {
            let out_of_sight = out_of_sight(intent, each, instance);
            SpeakerIntent::of_gateway(each, instance, out_of_sight)
        });
        let mut all: Vec<SpeakerIntent> = route_servers.chain(gateways).collect();
        for speaker in &mut all {
            speaker
                .peers
                .retain(|peer| peer.instance.is_none_or(|its| its == instance));
        }
        all
    }

    fn of_route_server(intent: &RouteServerIntent, instance: usize) -> SpeakerIntent {
        SpeakerIntent {
            id: intent.id.clone(),
            role: Role::RouteServer,
            asn: intent.asn,
            address: intent.instance_addresses[instance],
            address_v6: intent.instance_addresses_v6[instance],
            instances: both(intent.instance_addresses.map(Some), intent.instance_addresses_v6).collect(),
            out_of_sight: Vec::new(),
            namespace: intent.namespace.clone(),
            virtual_network: Some(intent.virtual_network.clone()),
            subnet: Some(intent.subnet.trunc()),
            branch_to_branch: intent.branch_to_branch,
            preference: intent.preference,
            converge_secs: intent.converge_secs,
            peers: intent.peers.clone(),
            static_routes: Vec::new(),
            static_route_maps: Vec::new(),
            ipv6: intent.ipv6,
            total_routes: intent.total_routes,
            persist_routes: intent.persist_routes,
            routes_to_circuit: 0,
        }
    }

    /// `None`: others speak for it, or it has no such instance.
    fn of_gateway(intent: &GatewayIntent, instance: usize, out_of_sight: Vec<IpAddr>) -> Option<SpeakerIntent> {
        let address = intent.instance_addresses[instance].filter(|_| !intent.is_external)?;
        Some(SpeakerIntent {
            id: intent.id.clone(),
            role: match intent.kind {
                GatewayKind::Vpn => Role::VpnGateway,
                GatewayKind::ExpressRoute => Role::ExpressRouteGateway,
                GatewayKind::ProviderEdge => Role::ProviderEdge,
            },
            asn: intent.asn,
            address,
            address_v6: intent.instance_addresses_v6[instance],
            instances: both(intent.instance_addresses, intent.instance_addresses_v6).collect(),
            out_of_sight,
            namespace: intent.namespaces[instance].clone(),
            virtual_network: intent.virtual_network.clone(),
            subnet: None,
            // Gateways always pass on what they hear; that a route server tells them little is its own matter.
            branch_to_branch: true,
            // Among sites the shorter path (see `precedence`).
            preference: Preference::ASPath,
            converge_secs: GATEWAY_CONVERGE_SECS,
            peers: intent.peers.clone(),
            static_routes: intent.static_routes.clone(),
            static_route_maps: intent.static_route_maps.clone(),
            ipv6: intent.ipv6,
            total_routes: 0,
            persist_routes: PersistRoutes::Off,
            routes_to_circuit: intent.routes_to_circuit,
        })
    }

    /// Its own address on the session with a peer.
    pub(crate) fn address_towards(&self, peer: IpAddr) -> IpAddr {
        match self.address_v6 {
            Some(v6) if peer.is_ipv6() => v6.into(),
            _ => self.address,
        }
    }

    /// Its own addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.address).chain(self.address_v6.map(IpAddr::V6))
    }

    /// Whether sessions survive the change. Peers are looked at one by one.
    pub(crate) fn keeps_sessions(&self, after: &SpeakerIntent) -> bool {
        self.role == after.role
            && self.asn == after.asn
            && self.address == after.address
            && self.namespace == after.namespace
    }
}

/// The instances of other processes of the route server in a gateway's network, if that has another AS number.
fn out_of_sight(intent: &Intent, gateway: &GatewayIntent, instance: usize) -> Vec<IpAddr> {
    let route_servers = intent.route_servers.iter();
    let heard_over_ebgp = route_servers.filter(|route_server| {
        gateway.virtual_network.as_ref() == Some(&route_server.virtual_network) && gateway.asn != route_server.asn
    });
    let addresses = heard_over_ebgp.flat_map(|route_server| {
        let mut v4 = route_server.instance_addresses.map(Some);
        let mut v6 = route_server.instance_addresses_v6;
        (v4[instance], v6[instance]) = (None, None);
        both(v4, v6)
    });
    addresses.collect()
}

/// The addresses of both families that instances have.
fn both(v4: [Option<IpAddr>; 2], v6: [Option<Ipv6Addr>; 2]) -> impl Iterator<Item = IpAddr> {
    let v6 = v6.into_iter().flatten().map(IpAddr::V6);
    v4.into_iter().flatten().chain(v6)
}

/// What a gateway adds to the import preference of whom it hears from outside, so that it prefers them to route servers, and a provider's
/// edge the customer to gateways, whatever the paths are. Else what it tells a route server would depend on what it has heard from there
/// before: a circuit that comes back, of which an NVA has told a shorter path meanwhile, would not be used again (az §2.5: Azure does not
/// promise that it is).
pub(crate) fn precedence(source: RouteSource) -> u32 {
    match source {
        RouteSource::Site | RouteSource::ProviderEdge | RouteSource::Static => 1,
        _ => 0,
    }
}

/// A kind of peer as policy sees what comes from it.
pub(crate) fn source_of(kind: PeerKind) -> RouteSource {
    match kind {
        PeerKind::Nva => RouteSource::Nva,
        PeerKind::VpnGateway => RouteSource::VpnGateway,
        PeerKind::ExpressRouteGateway => RouteSource::ExpressRoute,
        PeerKind::RouteServer => RouteSource::RouteServer,
        PeerKind::Site => RouteSource::Site,
        PeerKind::ProviderEdge => RouteSource::ProviderEdge,
    }
}
