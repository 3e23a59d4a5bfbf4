//! The topology that every seed plays on, and the dice: what can happen.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp::wire::{Community, PathAttributes};
use bgp::{Asn, IpNet};
use rib::Preference;
use routeserver::intent::{
    Intent, NicIntent, PeerIntent, PeeringIntent, RouteServerIntent, RouteTableIntent, SubnetIntent, UserNextHop,
    UserRouteIntent, VirtualNetworkIntent,
};
use routeserver::route_map::{Action, Comparison, Criterion, NextStep, RouteMap, Rule};

use crate::network::Link;
use crate::world::World;

pub mod branches;

pub use branches::{addresses, speaker_at, speaker_of};

/// How many NVAs.
pub const NVAS: usize = 4;
/// NIC ids: three in the hub, the third with the address that some routes name as a third-party next hop, and one in each spoke.
pub const NICS: [&str; 5] = ["/nics/vm1", "/nics/vm2", "/nics/vm3", "/nics/vm4", "/nics/vm5"];
/// The hub's id.
const HUB: &str = "/vnets/hub";
/// Ids of the networks that are spokes now and then.
const SPOKES: [&str; 2] = ["/vnets/spoke1", "/vnets/spoke2"];
/// Last octets apart, the instances' addresses.
pub const INSTANCES: [u32; 2] = [u32::from_be_bytes([10, 1, 255, 4]), u32::from_be_bytes([10, 1, 255, 5])];
/// The route server's id.
pub const ROUTE_SERVER: &str = "/routeservers/rs";

/// What each spoke's address space has more of now and then.
const MORE: [&str; 2] = ["10.13.0.0/16", "10.14.0.0/16"];

/// Address of an NVA, or of a branch's router.
pub fn nva_address(number: usize) -> Ipv4Addr {
    if let Some(branch) = number.checked_sub(NVAS) {
        return branches::BRANCHES[branch];
    }
    Ipv4Addr::new(10, 1, 1, 4 + number as u8)
}

/// A hub with two VM subnets and a route server with every NVA as a peer, and two spokes.
pub fn intent() -> Intent {
    Intent {
        gateways: Vec::new(),
        logs_routes: false,
        memory_mib: 0,
        agent_tokens: None,
        version: 1,
        route_servers: vec![RouteServerIntent {
            id: ROUTE_SERVER.to_owned(),
            name: "rs".to_owned(),
            asn: Asn::AZURE_ROUTE_SERVER,
            virtual_network: HUB.to_owned(),
            subnet: net("10.1.255.0/27"),
            instance_addresses: crate::world::instances(),
            instance_addresses_v6: [None; 2],
            branch_to_branch: false,
            preference: Preference::ExpressRoute,
            namespace: None,
            converge_secs: 120,
            peers: (0..NVAS).map(peer).collect(),
            ipv6: false,
            total_routes: 0,
            persist_routes: routeserver::intent::PersistRoutes::Off,
        }],
        virtual_networks: vec![
            VirtualNetworkIntent {
                subnets: vec![
                    subnet("nva", "10.1.1.0/24"),
                    subnet("a", "10.1.2.0/24"),
                    subnet("b", "10.1.3.0/24"),
                    subnet("RouteServerSubnet", "10.1.255.0/27"),
                ],
                peerings: SPOKES.map(|spoke| peering(spoke, false, true)).into(),
                nics: vec![
                    nic(NICS[0], "a", [10, 1, 2, 4]),
                    nic(NICS[1], "b", [10, 1, 3, 4]),
                    nic(NICS[2], "b", [10, 1, 3, 5]),
                ],
                ..virtual_network(HUB, "10.1.0.0/16")
            },
            VirtualNetworkIntent {
                subnets: vec![subnet("c", "10.3.2.0/24")],
                peerings: vec![peering(HUB, true, false)],
                nics: vec![nic(NICS[3], "c", [10, 3, 2, 4])],
                ..virtual_network(SPOKES[0], "10.3.0.0/16")
            },
            VirtualNetworkIntent {
                subnets: vec![subnet("d", "10.4.2.0/24")],
                peerings: vec![peering(HUB, true, false)],
                nics: vec![nic(NICS[4], "d", [10, 4, 2, 4])],
                ..virtual_network(SPOKES[1], "10.4.0.0/16")
            },
        ],
    }
}

fn virtual_network(id: &str, space: &str) -> VirtualNetworkIntent {
    VirtualNetworkIntent {
        id: id.to_owned(),
        name: id.to_owned(),
        address_space: vec![net(space)],
        subnets: Vec::new(),
        peerings: Vec::new(),
        nics: Vec::new(),
    }
}

fn subnet(name: &str, prefix: &str) -> SubnetIntent {
    SubnetIntent {
        id: format!("/subnets/{name}"),
        name: name.to_owned(),
        prefixes: vec![net(prefix)],
        route_table: None,
    }
}

fn nic(id: &str, subnet: &str, address: [u8; 4]) -> NicIntent {
    NicIntent {
        id: id.to_owned(),
        name: id.to_owned(),
        subnet: format!("/subnets/{subnet}"),
        addresses: vec![Ipv4Addr::from(address).into()],
    }
}

fn peering(remote: &str, use_remote_gateways: bool, allow_gateway_transit: bool) -> PeeringIntent {
    PeeringIntent {
        remote: remote.to_owned(),
        use_remote_gateways,
        allow_gateway_transit,
        global: false,
    }
}

fn peer(number: usize) -> PeerIntent {
    let (address, asn) = (nva_address(number).into(), Asn(65_001 + number as u32));
    PeerIntent {
        name: format!("nva{number}"),
        ..PeerIntent::azure(&format!("/peers/nva{number}"), address, asn)
    }
}

/// One thing that happens.
pub fn roll(world: &mut World) -> String {
    let nva = world.random.below(world.nvas.len());
    let vm = world.random.below(world.vms.len());
    let link = Link {
        nva,
        instance: world.random.below(2),
    };
    match world.random.below(30) {
        0..=9 => announce(world, nva),
        10..=13 => withdraw(world, nva),
        14 => said(format!("kill nva{nva}"), || world.kill_nva(nva)),
        15 | 16 => said(format!("start nva{nva}"), || world.start_nva(nva)),
        17 => said(format!("cut {link:?}"), || world.network.cut(link)),
        18 => said(format!("mend {link:?}"), || world.network.mend(link)),
        19 => said(format!("kill instance {}", link.instance), || {
            world.kill_instance(link.instance)
        }),
        20 => said("kill the manager".to_owned(), || world.manager_alive = false),
        21 => said("start the manager".to_owned(), || world.start_manager()),
        22 => said(format!("kill agent {vm}"), || world.kill_agent(vm)),
        23 => said(format!("start agent {vm}"), || world.start_agent(vm)),
        24 => said(format!("carrier lost at {vm}"), || {
            world.vms[vm].kernel.lose_carrier();
            world.vms[vm].look_again();
        }),
        25 => said(format!("meddle at {vm}"), || {
            let which = world.random.below(100);
            world.vms[vm].kernel.meddle(which);
            world.vms[vm].look_again();
        }),
        _ => edit(world),
    }
}

fn said(what: String, act: impl FnOnce()) -> String {
    act();
    what
}

fn announce(world: &mut World, nva: usize) -> String {
    let prefix = prefix(world);
    let own = Asn(65_001 + nva as u32);
    let mut path = vec![own; 1 + world.random.below(3)];
    match world.random.below(12) {
        0 => path.push(Asn::AZURE_ROUTE_SERVER),
        1 => path.push(Asn(0)),
        2 | 3 => path.push(Asn(4_200_000_000)),
        _ => {}
    }
    let next_hop = match world.random.below(10) {
        0 if nva < NVAS => Ipv4Addr::new(10, 1, 1, 100),
        1 if nva < NVAS => Ipv4Addr::new(10, 1, 3, 5),
        _ => nva_address(nva),
    };
    let mut attributes = PathAttributes::builder(next_hop.into()).as_sequence(&path);
    match world.random.below(12) {
        0 => attributes = attributes.add_community(Community::NO_ADVERTISE),
        1 => attributes = attributes.add_community(Community::NO_EXPORT),
        _ => {}
    }
    world.announce(nva, prefix, attributes.build());
    format!("nva{nva} announces {prefix} via {next_hop} path {path:?}")
}

fn withdraw(world: &mut World, nva: usize) -> String {
    let announced: Vec<IpNet> = world.nvas[nva].announced.keys().copied().collect();
    if announced.is_empty() {
        return format!("nva{nva} has nothing to withdraw");
    }
    let prefix = *world.random.pick(&announced);
    world.withdraw(nva, &prefix);
    format!("nva{nva} withdraws {prefix}")
}

/// Few prefixes, so that they meet: some outside, a default, some inside the networks, some that may come inside.
fn prefix(world: &mut World) -> IpNet {
    const SOME: [&str; 16] = [
        "0.0.0.0/0",
        "10.250.0.0/16",
        "10.250.1.0/24",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.128/25",
        "10.2.0.0/16",
        "10.2.7.0/24",
        "10.3.0.0/16",
        "10.3.2.128/25",
        "10.4.7.0/24",
        "10.13.0.0/16",
        "192.168.0.0/16",
        "192.168.3.0/24",
        "172.20.0.0/16",
        "203.0.113.7/32",
    ];
    net(world.random.pick::<&str>(&SOME))
}

fn edit(world: &mut World) -> String {
    if !world.manager_alive {
        return "no manager, no edit".to_owned();
    }
    if world.nvas.len() > NVAS && world.random.below(4) == 0 {
        let choice = world.random.below(3);
        branches::edit(world, choice);
        return format!("edit {choice} of branches");
    }
    let choice = world.random.below(12);
    let nva = world.random.below(NVAS);
    let spoke = world.random.below(SPOKES.len());
    world.change_intent(|intent| match choice {
        0 => intent.route_servers[0].branch_to_branch ^= true,
        1 => toggle(&mut intent.virtual_networks[0].address_space, net("10.2.0.0/16")),
        2 => intent.route_servers[0].peers[nva].admin_down ^= true,
        3 => {
            let table = route_table(intent);
            table.disable_bgp_route_propagation ^= true;
        }
        4 => toggle_peering(intent, spoke),
        5 => {
            let ours = intent.virtual_networks[0].peerings.iter_mut();
            for peering in ours.filter(|peering| peering.remote == SPOKES[spoke]) {
                peering.allow_gateway_transit ^= true;
            }
        }
        6 => {
            for peering in &mut intent.virtual_networks[1 + spoke].peerings {
                peering.use_remote_gateways ^= true;
            }
        }
        7 => toggle(&mut intent.virtual_networks[1 + spoke].address_space, net(MORE[spoke])),
        8 => route_table(intent).disable_peering_route ^= true,
        9 => toggle_map(&mut intent.route_servers[0].peers[nva].inbound_route_map, inbound_map()),
        10 => toggle_map(
            &mut intent.route_servers[0].peers[nva].outbound_route_map,
            outbound_map(),
        ),
        _ => {
            let table = route_table(intent);
            let before = table.routes.len();
            table.routes.retain(|route| route.prefix != net("10.250.0.0/16"));
            if table.routes.len() == before {
                table.routes.push(UserRouteIntent {
                    name: "to-nva".to_owned(),
                    prefix: net("10.250.0.0/16"),
                    next_hop: UserNextHop::VirtualAppliance(vec![nva_address(nva).into()]),
                });
            }
        }
    });
    format!("edit {choice} with nva{nva} and spoke {spoke}")
}

fn toggle_map(map: &mut Option<RouteMap>, other: RouteMap) {
    *map = match map {
        Some(_) => None,
        None => Some(other),
    };
}

/// A summary, something dropped, and a longer path for what is left.
fn inbound_map() -> RouteMap {
    RouteMap {
        rules: vec![
            rule("10.250.0.0/16", Action::ReplacePrefix(net("10.250.0.0/16"))),
            rule("192.168.0.0/16", Action::Drop),
            rule("0.0.0.0/0", Action::AddAsPath(vec![Asn(64_600)])),
        ],
    }
}

/// Networks and what is learned as one prefix, and something dropped.
fn outbound_map() -> RouteMap {
    RouteMap {
        rules: vec![
            rule("10.0.0.0/8", Action::ReplacePrefix(net("10.0.0.0/8"))),
            rule("203.0.113.0/24", Action::Drop),
        ],
    }
}

fn rule(inside: &str, action: Action) -> Rule {
    Rule {
        name: inside.to_owned(),
        criteria: vec![Criterion::Prefix {
            comparison: Comparison::Contains,
            prefixes: vec![net(inside)],
        }],
        actions: vec![action],
        next_step: NextStep::Terminate,
    }
}

/// Both sides, as the manager tells of Connected ones only.
fn toggle_peering(intent: &mut Intent, spoke: usize) {
    let [hub, others @ ..] = &mut intent.virtual_networks[..] else {
        return;
    };
    let before = hub.peerings.len();
    hub.peerings.retain(|peering| peering.remote != SPOKES[spoke]);
    others[spoke].peerings.clear();
    if hub.peerings.len() == before {
        hub.peerings.push(peering(SPOKES[spoke], false, true));
        others[spoke].peerings.push(peering(HUB, true, false));
    }
}

fn route_table(intent: &mut Intent) -> &mut RouteTableIntent {
    intent.virtual_networks[0].subnets[2]
        .route_table
        .get_or_insert_with(|| RouteTableIntent {
            id: "/routetables/rt".to_owned(),
            disable_bgp_route_propagation: false,
            disable_peering_route: false,
            routes: Vec::new(),
            import: None,
        })
}

fn toggle(space: &mut Vec<IpNet>, prefix: IpNet) {
    match space.iter().position(|present| *present == prefix) {
        Some(position) => drop(space.remove(position)),
        None => space.push(prefix),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix written here")
}

/// How long to wait between two rolls.
pub fn pause(world: &mut World) -> Duration {
    Duration::from_millis(world.random.below(3_000) as u64)
}
