//! Small worlds for the tests of this crate.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::{Asn, IpNet};
use rib::{Change, Choice, HashKey, Preference, Rank};

use crate::intent::{
    ImportFilter, Intent, NicIntent, PeeringIntent, RouteServerIntent, RouteTableIntent, SubnetIntent, UserNextHop,
    UserRouteIntent, VirtualNetworkIntent,
};
use crate::vnet::LocRib;

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A hub 10.1.0.0/16 with a route server, subnets `vms` (10.1.2.0/24) and `nvas` (10.1.4.0/24); a spoke 10.2.0.0/16 that uses its
/// gateways; a network 10.3.0.0/16 that is peered but does not. NICs: vm 10.1.2.4, nva1 10.1.4.4, nva2 10.1.4.5, spokevm 10.2.0.4,
/// peeredvm 10.3.0.4.
pub(crate) fn hub_and_spoke() -> Intent {
    Intent {
        gateways: Vec::new(),
        version: 1,
        logs_routes: false,
        memory_mib: 0,
        agent_tokens: None,
        route_servers: vec![route_server()],
        virtual_networks: vec![
            VirtualNetworkIntent {
                subnets: vec![
                    subnet("rs", "10.1.1.0/26"),
                    subnet("vms", "10.1.2.0/24"),
                    subnet("nvas", "10.1.4.0/24"),
                ],
                peerings: vec![peering("spoke", false, true), peering("peered", false, false)],
                nics: vec![
                    nic("vm", "vms", "10.1.2.4"),
                    nic("nva1", "nvas", "10.1.4.4"),
                    nic("nva2", "nvas", "10.1.4.5"),
                ],
                ..virtual_network("hub", "10.1.0.0/16")
            },
            VirtualNetworkIntent {
                subnets: vec![subnet("spokevms", "10.2.0.0/24")],
                peerings: vec![peering("hub", true, false)],
                nics: vec![nic("spokevm", "spokevms", "10.2.0.4")],
                ..virtual_network("spoke", "10.2.0.0/16")
            },
            VirtualNetworkIntent {
                subnets: vec![subnet("peeredvms", "10.3.0.0/24")],
                peerings: vec![peering("hub", false, false)],
                nics: vec![nic("peeredvm", "peeredvms", "10.3.0.4")],
                ..virtual_network("peered", "10.3.0.0/16")
            },
        ],
    }
}

fn route_server() -> RouteServerIntent {
    RouteServerIntent {
        id: "rs1".into(),
        name: "rs1".into(),
        asn: Asn::AZURE_ROUTE_SERVER,
        virtual_network: "hub".into(),
        subnet: net("10.1.1.0/26"),
        instance_addresses: [ip("10.1.1.4"), ip("10.1.1.5")],
        instance_addresses_v6: [None; 2],
        branch_to_branch: false,
        preference: Preference::default(),
        namespace: None,
        converge_secs: 120,
        peers: Vec::new(),
        ipv6: false,
        total_routes: 0,
        persist_routes: crate::intent::PersistRoutes::Off,
    }
}

fn virtual_network(id: &str, space: &str) -> VirtualNetworkIntent {
    VirtualNetworkIntent {
        id: id.into(),
        name: id.into(),
        address_space: vec![net(space)],
        subnets: Vec::new(),
        peerings: Vec::new(),
        nics: Vec::new(),
    }
}

pub(crate) fn subnet(id: &str, prefix: &str) -> SubnetIntent {
    SubnetIntent {
        id: id.into(),
        name: id.into(),
        prefixes: vec![net(prefix)],
        route_table: None,
    }
}

pub(crate) fn peering(remote: &str, use_remote_gateways: bool, allow_gateway_transit: bool) -> PeeringIntent {
    PeeringIntent {
        remote: remote.into(),
        use_remote_gateways,
        allow_gateway_transit,
        global: false,
    }
}

fn nic(id: &str, subnet: &str, address: &str) -> NicIntent {
    NicIntent {
        id: id.into(),
        name: id.into(),
        subnet: subnet.into(),
        addresses: vec![ip(address)],
    }
}

/// The route table of a subnet: `prefix next-hop` each, where the next hop is addresses joined by commas, or `local`,
/// `internet`, `none`, `gateway`.
pub(crate) fn set_user_routes(intent: &mut Intent, subnet: &str, routes: &[&str]) {
    let routes = routes.iter().enumerate().map(|(index, route)| {
        let (prefix, next_hop) = route.split_once(' ').expect("prefix and next hop");
        UserRouteIntent {
            name: format!("udr{index}"),
            prefix: net(prefix),
            next_hop: match next_hop {
                "local" => UserNextHop::VnetLocal,
                "internet" => UserNextHop::Internet,
                "none" => UserNextHop::None,
                "gateway" => UserNextHop::VirtualNetworkGateway,
                addresses => UserNextHop::VirtualAppliance(addresses.split(',').map(ip).collect()),
            },
        }
    });
    let routes = routes.collect();
    let table = &mut find_subnet(intent, subnet).route_table;
    let before = table.take();
    *table = Some(RouteTableIntent {
        id: format!("table-of-{subnet}"),
        disable_bgp_route_propagation: before.as_ref().is_some_and(|table| table.disable_bgp_route_propagation),
        disable_peering_route: before.as_ref().is_some_and(|table| table.disable_peering_route),
        import: before.and_then(|table| table.import),
        routes,
    });
}

pub(crate) fn disable_propagation(intent: &mut Intent, subnet: &str) {
    find_table(intent, subnet).disable_bgp_route_propagation = true;
}

pub(crate) fn disable_peering_route(intent: &mut Intent, subnet: &str) {
    find_table(intent, subnet).disable_peering_route = true;
}

pub(crate) fn set_import(intent: &mut Intent, subnet: &str, import: Option<ImportFilter>) {
    find_table(intent, subnet).import = import;
}

fn find_table<'a>(intent: &'a mut Intent, subnet: &str) -> &'a mut RouteTableIntent {
    let table = &mut find_subnet(intent, subnet).route_table;
    table.get_or_insert_with(|| RouteTableIntent {
        id: format!("table-of-{subnet}"),
        disable_bgp_route_propagation: false,
        disable_peering_route: false,
        routes: Vec::new(),
        import: None,
    })
}

fn find_subnet<'a>(intent: &'a mut Intent, id: &str) -> &'a mut SubnetIntent {
    let networks = intent.virtual_networks.iter_mut();
    let mut subnets = networks.flat_map(|network| &mut network.subnets);
    subnets.find(|subnet| subnet.id == id).expect("a subnet of the intent")
}

/// A key that is none.
pub(crate) const KEY: HashKey = HashKey::new(1, 2);

/// A Loc-RIB of such changes.
pub(crate) fn loc_rib(changes: &[&str]) -> LocRib {
    let mut loc_rib = LocRib::new(KEY);
    loc_rib.apply(changes.iter().map(|text| change(text)));
    loc_rib
}

/// A Loc-RIB change: `prefix next-hops[|fallback]`, addresses joined by commas; without next hops the prefix goes.
pub(crate) fn change(text: &str) -> Change {
    let Some((prefix, hops)) = text.split_once(' ') else {
        return Change {
            prefix: net(text),
            choice: None,
        };
    };
    let (next_hops, fallback) = hops.split_once('|').unwrap_or((hops, ""));
    let addresses = |text: &str| text.split(',').filter(|each| !each.is_empty()).map(ip).collect();
    Change {
        prefix: net(prefix),
        choice: Some(Arc::new(Choice {
            next_hops: addresses(next_hops),
            fallback: addresses(fallback),
            rank: Rank(100),
        })),
    }
}
