//! The hub with branches: a VPN gateway with a site, and an ExpressRoute gateway with a circuit and a customer, both instances of each.

use std::net::{IpAddr, Ipv4Addr};

use bgp::{Asn, IpNet};
use rib::Preference;
use routeserver::intent::{GatewayIntent, GatewayKind, Intent, PeerIntent, PeerKind, StaticRouteIntent};

use super::{HUB, NICS, NVAS, ROUTE_SERVER, intent, net, peer, subnet};
use crate::world::World;

/// The site's router.
pub const SITE: usize = NVAS;
/// The customer's.
pub const CUSTOMER: usize = NVAS + 1;
/// NVAs, the site's router and the customer's.
pub const ROUTERS: usize = NVAS + 2;

/// The site's and the customer's address.
pub const BRANCHES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 101, 1), Ipv4Addr::new(192, 168, 103, 1)];
/// The far end of a tunnel behind which nobody speaks BGP.
pub const TUNNEL: Ipv4Addr = Ipv4Addr::new(192, 168, 109, 1);
/// What is there.
pub const BEHIND_TUNNEL: &str = "10.77.0.0/16";

/// Ids of the gateways.
pub const VPN: &str = "/gateways/vpn";
/// See [`VPN`].
pub const EXPRESS_ROUTE: &str = "/gateways/er";
/// The provider's edge.
pub const EDGE: &str = "/circuits/edge";

/// Addresses of a speaker's instances.
pub fn addresses(speaker: &str) -> [IpAddr; 2] {
    match speaker {
        VPN => [[10, 1, 254, 4], [10, 1, 254, 5]].map(IpAddr::from),
        EXPRESS_ROUTE => [[10, 1, 254, 6], [10, 1, 254, 7]].map(IpAddr::from),
        EDGE => [[10, 200, 0, 1], [10, 200, 0, 2]].map(IpAddr::from),
        _ => crate::world::instances(),
    }
}

/// Whose peer a router is.
pub fn speaker_of(router: usize) -> &'static str {
    match router {
        SITE => VPN,
        CUSTOMER => EDGE,
        _ => ROUTE_SERVER,
    }
}

/// Which speaker's instance has an address.
pub fn speaker_at(address: IpAddr) -> Option<(&'static str, usize)> {
    let speakers = [ROUTE_SERVER, VPN, EXPRESS_ROUTE, EDGE].into_iter();
    let mut ends = speakers.flat_map(|id| addresses(id).into_iter().enumerate().map(move |end| (id, end)));
    let (id, (instance, _)) = ends.find(|(_, (_, there))| *there == address)?;
    Some((id, instance))
}

/// The NICs that agents follow: instances of gateways beside the VMs, each known to one process.
pub fn nics() -> Vec<String> {
    let instances = [(VPN, 0), (VPN, 1), (EXPRESS_ROUTE, 0), (EDGE, 1)];
    let instances = instances.map(|(gateway, instance)| format!("{gateway}/instances/{instance}"));
    NICS.map(str::to_owned).into_iter().chain(instances).collect()
}

/// The scenario's topology with gateways.
pub fn branches() -> Intent {
    let mut intent = intent();
    intent.virtual_networks[0]
        .subnets
        .push(subnet("GatewaySubnet", "10.1.254.0/27"));
    let route_server = &mut intent.route_servers[0];
    route_server.branch_to_branch = true;
    let vpn = with_both(ROUTE_SERVER, PeerKind::VpnGateway, VPN, Asn::AZURE_ROUTE_SERVER);
    let express_route = with_both(
        ROUTE_SERVER,
        PeerKind::ExpressRouteGateway,
        EXPRESS_ROUTE,
        Asn::AZURE_ROUTE_SERVER,
    );
    route_server.peers.extend(vpn.into_iter().chain(express_route));
    let to_route_server = |id| with_both(id, PeerKind::RouteServer, ROUTE_SERVER, Asn::AZURE_ROUTE_SERVER);
    let mut of_vpn = to_route_server(VPN);
    of_vpn.push(branch(SITE));
    let mut of_express_route = to_route_server(EXPRESS_ROUTE);
    of_express_route.extend(with_both(EXPRESS_ROUTE, PeerKind::ProviderEdge, EDGE, Asn(12_076)));
    let mut of_edge = with_both(
        EDGE,
        PeerKind::ExpressRouteGateway,
        EXPRESS_ROUTE,
        Asn::AZURE_ROUTE_SERVER,
    );
    of_edge.push(branch(CUSTOMER));
    intent.gateways = vec![
        gateway(VPN, GatewayKind::Vpn, Asn::AZURE_ROUTE_SERVER, of_vpn),
        gateway(
            EXPRESS_ROUTE,
            GatewayKind::ExpressRoute,
            Asn::AZURE_ROUTE_SERVER,
            of_express_route,
        ),
        gateway(EDGE, GatewayKind::ProviderEdge, Asn(12_076), of_edge),
    ];
    intent
}

fn gateway(id: &str, kind: GatewayKind, asn: Asn, peers: Vec<PeerIntent>) -> GatewayIntent {
    let is_edge = kind == GatewayKind::ProviderEdge;
    GatewayIntent {
        id: id.to_owned(),
        name: id.to_owned(),
        kind,
        asn,
        virtual_network: (!is_edge).then(|| HUB.to_owned()),
        subnet: (!is_edge).then(|| "/subnets/GatewaySubnet".to_owned()),
        instance_addresses: addresses(id).map(Some),
        instance_addresses_v6: [None; 2],
        namespaces: [None, None],
        is_external: false,
        peers,
        static_routes: Vec::new(),
        static_route_maps: Vec::new(),
        routes_to_circuit: 1_000,
        ipv6: false,
    }
}

fn with_both(of: &str, kind: PeerKind, other: &str, asn: Asn) -> Vec<PeerIntent> {
    let ends = addresses(other).into_iter().enumerate();
    let peering = |(instance, address)| PeerIntent {
        id: format!("{of}{other}/{instance}"),
        kind,
        address,
        asn,
        ..peer(0)
    };
    ends.map(peering).collect()
}

fn branch(router: usize) -> PeerIntent {
    PeerIntent {
        kind: PeerKind::Site,
        ..peer(router)
    }
}

/// What may be edited of branches.
pub(super) fn edit(world: &mut World, choice: usize) {
    let preferences = [Preference::ExpressRoute, Preference::VpnGateway, Preference::ASPath];
    let preference = *world.random.pick(&preferences);
    world.change_intent(|intent| match choice {
        0 => intent.route_servers[0].preference = preference,
        1 => intent.route_servers[0].branch_to_branch ^= true,
        _ => {
            let routes = &mut intent.gateways[0].static_routes;
            match routes.pop() {
                Some(_) => {}
                None => routes.push(StaticRouteIntent {
                    prefix: behind_tunnel(),
                    next_hop: TUNNEL.into(),
                    peering: None,
                }),
            }
        }
    });
}

/// [`BEHIND_TUNNEL`].
pub fn behind_tunnel() -> IpNet {
    net(BEHIND_TUNNEL)
}
