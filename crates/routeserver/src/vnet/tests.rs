//! Effective routes, table-driven: an intent, a Loc-RIB, and what a NIC lists and its kernel does.

use std::sync::Arc;

use crate::intent::Intent;
use crate::report::EffectiveRoute;
use crate::testing::*;
use crate::vnet::*;

struct World {
    intent: Intent,
    loc_rib: LocRib,
}

fn world(user_routes: &[(&str, &[&str])], bgp: &[&str]) -> World {
    let mut intent = hub_and_spoke();
    for (subnet, routes) in user_routes {
        set_user_routes(&mut intent, subnet, routes);
    }
    World {
        intent,
        loc_rib: loc_rib(bgp),
    }
}

impl World {
    fn ask<T>(&self, nic: &str, question: impl FnOnce(Scope<'_>) -> T) -> T {
        let topology = Topology::new(Arc::new(self.intent.clone()), 0);
        let facts = topology.nic(nic).unwrap();
        let view = topology.view(&facts.place).unwrap();
        question(Scope {
            loc_rib: view.speaker.is_some().then_some(&self.loc_rib),
            view: &view,
            own: &facts.addresses,
        })
    }

    fn rows(&self, nic: &str) -> Vec<String> {
        self.ask(nic, rows).iter().map(line).collect()
    }

    /// What the kernel of the NIC does with a prefix.
    fn kernel(&self, nic: &str, prefix: &str) -> String {
        match self.ask(nic, |scope| resolve(scope, &net(prefix))) {
            None => "-".into(),
            Some(resolved) => {
                let target = match resolved.target {
                    Target::NextHops(choice) => format!("{:?} {:?}", choice.next_hops, choice.fallback),
                    other => format!("{other:?}"),
                };
                let system = if resolved.system { " system" } else { "" };
                format!("{target}{system}")
            }
        }
    }
}

fn line(row: &EffectiveRoute) -> String {
    let mut line = format!(
        "{} {} {} {}",
        row.source, row.state, row.address_prefix, row.next_hop_type
    );
    for address in &row.next_hop_ip_address {
        line += &format!(" {address}");
    }
    if row.not_installed.is_some() {
        line += " (not installed)";
    }
    line
}

#[track_caller]
fn check_rows(world: &World, nic: &str, expected: &[&str]) {
    assert_eq!(world.rows(nic), expected, "rows of {nic}");
}

#[track_caller]
fn check_kernel(world: &World, nic: &str, expected: &[(&str, &str)]) {
    for (prefix, way) in expected {
        assert_eq!(world.kernel(nic, prefix), *way, "{prefix} on {nic}");
    }
}

#[test]
fn a_nic_without_anything_else_has_azures_system_routes() {
    let world = world(&[], &[]);
    check_rows(
        &world,
        "vm",
        &[
            "Default Active 0.0.0.0/0 Internet",
            "Default Active 10.0.0.0/8 None",
            "Default Active 10.1.0.0/16 VnetLocal",
            "Default Active 10.2.0.0/16 VNetPeering",
            "Default Active 10.3.0.0/16 VNetPeering",
            "Default Active 100.64.0.0/10 None",
            "Default Active 172.16.0.0/12 None",
            "Default Active 192.168.0.0/16 None",
        ],
    );
    check_kernel(
        &world,
        "vm",
        &[
            ("10.1.2.0/24", "OnLink"),
            ("10.1.0.0/16", "SubnetGateway"),
            ("10.2.0.0/16", "SubnetGateway"),
            ("0.0.0.0/0", "SubnetGateway system"),
            ("172.16.0.0/12", "Blackhole system"),
            ("10.0.0.0/8", "Blackhole system"),
            ("10.1.4.0/24", "-"),
        ],
    );
}

#[test]
fn a_network_that_covers_a_private_block_takes_its_place() {
    let mut world = world(&[], &[]);
    world.intent.virtual_networks[0]
        .address_space
        .push(net("172.16.0.0/12"));
    world.intent.virtual_networks[0].address_space.push(net("192.0.0.0/8"));
    let rows = world.rows("vm");
    assert!(rows.contains(&"Default Active 172.16.0.0/12 VnetLocal".into()));
    assert!(!rows.iter().any(|row| row.contains("192.168.0.0/16")));
    assert!(rows.contains(&"Default Active 10.0.0.0/8 None".into()));
}

#[test]
fn a_global_peering_has_its_own_type() {
    let mut world = world(&[], &[]);
    world.intent.virtual_networks[0].peerings[0].global = true;
    assert!(
        world
            .rows("vm")
            .contains(&"Default Active 10.2.0.0/16 VNetGlobalPeering".into())
    );
}

#[test]
fn bgp_routes_come_to_the_own_network_and_to_spokes_that_use_its_gateways_only() {
    let world = world(&[], &["10.250.0.0/16 10.1.4.4"]);
    let row = "VirtualNetworkGateway Active 10.250.0.0/16 VirtualNetworkGateway 10.1.4.4".to_owned();
    assert!(world.rows("vm").contains(&row));
    assert!(world.rows("spokevm").contains(&row));
    assert!(!world.rows("peeredvm").contains(&row));
}

#[test]
fn a_spoke_gets_bgp_routes_only_while_both_peerings_allow_it() {
    let mut world = world(&[], &["10.250.0.0/16 10.1.4.4"]);
    world.intent.virtual_networks[0].peerings[0].allow_gateway_transit = false;
    check_kernel(&world, "spokevm", &[("10.250.0.0/16", "-")]);
}

#[test]
fn equal_cost_next_hops_are_one_row_with_several_addresses() {
    let world = world(&[], &["10.250.0.0/16 10.1.4.4,10.1.4.5|10.1.4.9"]);
    let row = "VirtualNetworkGateway Active 10.250.0.0/16 VirtualNetworkGateway 10.1.4.4 10.1.4.5";
    assert!(world.rows("vm").contains(&row.into()));
    check_kernel(&world, "vm", &[("10.250.0.0/16", "[10.1.4.4, 10.1.4.5] [10.1.4.9]")]);
}

#[test]
fn a_default_route_from_bgp_makes_internet_and_none_rows_absent() {
    let world = world(&[], &["0.0.0.0/0 10.1.4.4"]);
    check_rows(
        &world,
        "vm",
        &[
            "VirtualNetworkGateway Active 0.0.0.0/0 VirtualNetworkGateway 10.1.4.4",
            "Default Active 10.1.0.0/16 VnetLocal",
            "Default Active 10.2.0.0/16 VNetPeering",
            "Default Active 10.3.0.0/16 VNetPeering",
        ],
    );
    check_kernel(&world, "vm", &[("0.0.0.0/0", "[10.1.4.4] []"), ("172.16.0.0/12", "-")]);
}

#[test]
fn a_user_default_route_leaves_the_system_one_invalid() {
    let world = world(&[("vms", &["0.0.0.0/0 10.1.4.4"])], &[]);
    check_rows(
        &world,
        "vm",
        &[
            "User Active 0.0.0.0/0 VirtualAppliance 10.1.4.4",
            "Default Invalid 0.0.0.0/0 Internet",
            "Default Active 10.0.0.0/8 None",
            "Default Active 10.1.0.0/16 VnetLocal",
            "Default Active 10.2.0.0/16 VNetPeering",
            "Default Active 10.3.0.0/16 VNetPeering",
            "Default Active 100.64.0.0/10 None",
            "Default Active 172.16.0.0/12 None",
            "Default Active 192.168.0.0/16 None",
        ],
    );
}

#[test]
fn a_user_default_route_over_bgps_leaves_only_bgps_row_invalid() {
    let world = world(&[("vms", &["0.0.0.0/0 internet"])], &["0.0.0.0/0 10.1.4.4"]);
    check_rows(
        &world,
        "vm",
        &[
            "User Active 0.0.0.0/0 Internet",
            "VirtualNetworkGateway Invalid 0.0.0.0/0 VirtualNetworkGateway 10.1.4.4",
            "Default Active 10.1.0.0/16 VnetLocal",
            "Default Active 10.2.0.0/16 VNetPeering",
            "Default Active 10.3.0.0/16 VNetPeering",
        ],
    );
    // A user's own Internet route is no system route: it is installed everywhere.
    check_kernel(&world, "vm", &[("0.0.0.0/0", "SubnetGateway")]);
}

#[test]
fn user_routes_win_over_bgp_and_bgp_over_system_for_equal_prefixes() {
    let world = world(
        &[("vms", &["10.250.0.0/16 10.1.4.9"])],
        &["10.250.0.0/16 10.1.4.4", "172.16.0.0/12 10.1.4.4"],
    );
    let rows = world.rows("vm");
    assert!(rows.contains(&"User Active 10.250.0.0/16 VirtualAppliance 10.1.4.9".into()));
    assert!(rows.contains(&"VirtualNetworkGateway Invalid 10.250.0.0/16 VirtualNetworkGateway 10.1.4.4".into()));
    check_kernel(
        &world,
        "vm",
        &[
            ("10.250.0.0/16", "[10.1.4.9] []"),
            ("172.16.0.0/12", "[10.1.4.4] []"),
            ("192.168.0.0/16", "Blackhole system"),
        ],
    );
}

#[test]
fn routes_of_the_network_and_its_peerings_win_over_more_specific_bgp() {
    let world = world(
        &[],
        &[
            "10.1.0.0/16 10.1.4.4",
            "10.1.2.128/25 10.1.4.4",
            "10.3.7.0/24 10.1.4.4",
            "10.0.0.0/8 10.1.4.4",
        ],
    );
    check_kernel(
        &world,
        "vm",
        &[
            ("10.1.0.0/16", "SubnetGateway"),
            ("10.1.2.128/25", "-"),
            ("10.3.7.0/24", "-"),
            ("10.0.0.0/8", "[10.1.4.4] []"),
        ],
    );
    // The spoke is not peered with 10.3.0.0/16: there the same route is programmed.
    check_kernel(
        &world,
        "spokevm",
        &[("10.3.7.0/24", "[10.1.4.4] []"), ("10.1.2.128/25", "-")],
    );
}

#[test]
fn disabled_propagation_keeps_bgp_away_from_one_subnet() {
    let mut world = world(&[], &["0.0.0.0/0 10.1.4.4", "10.250.0.0/16 10.1.4.4"]);
    disable_propagation(&mut world.intent, "vms");
    check_kernel(
        &world,
        "vm",
        &[
            ("10.250.0.0/16", "-"),
            ("0.0.0.0/0", "SubnetGateway system"),
            ("172.16.0.0/12", "Blackhole system"),
        ],
    );
    assert!(
        world
            .ask("vm", rows)
            .iter()
            .all(|row| row.disable_bgp_route_propagation)
    );
    check_kernel(&world, "nva2", &[("10.250.0.0/16", "[10.1.4.4] []")]);
}

#[test]
fn disabled_peering_routes_leave_peered_networks_to_bgp_and_user_routes() {
    let mut world = world(&[("vms", &["10.2.0.0/16 10.1.4.4"])], &["10.3.7.0/24 10.1.4.5"]);
    disable_peering_route(&mut world.intent, "vms");
    check_rows(
        &world,
        "vm",
        &[
            "Default Active 0.0.0.0/0 Internet",
            "Default Active 10.0.0.0/8 None",
            "Default Active 10.1.0.0/16 VnetLocal",
            "User Active 10.2.0.0/16 VirtualAppliance 10.1.4.4",
            "VirtualNetworkGateway Active 10.3.7.0/24 VirtualNetworkGateway 10.1.4.5",
            "Default Active 100.64.0.0/10 None",
            "Default Active 172.16.0.0/12 None",
            "Default Active 192.168.0.0/16 None",
        ],
    );
    // Other subnets keep theirs.
    check_kernel(
        &world,
        "nva2",
        &[("10.3.0.0/16", "SubnetGateway"), ("10.3.7.0/24", "-")],
    );
}

#[test]
fn a_route_is_not_installed_on_a_nic_that_is_its_next_hop() {
    let world = world(&[], &["0.0.0.0/0 10.1.4.4,10.1.4.5", "10.250.0.0/16 10.1.4.5|10.1.4.4"]);
    let rows = world.rows("nva1");
    assert!(rows.contains(
        &"VirtualNetworkGateway Active 0.0.0.0/0 VirtualNetworkGateway 10.1.4.4 10.1.4.5 (not installed)".into()
    ));
    check_kernel(
        &world,
        "nva1",
        &[
            // The system routes below stay.
            ("0.0.0.0/0", "SubnetGateway system"),
            ("172.16.0.0/12", "Blackhole system"),
            // The NIC is no fallback for itself either.
            ("10.250.0.0/16", "[10.1.4.5] []"),
        ],
    );
    check_kernel(&world, "nva2", &[("10.250.0.0/16", "-")]);
}

#[test]
fn a_user_route_to_the_nic_itself_leaves_the_system_route() {
    let world = world(&[("nvas", &["0.0.0.0/0 10.1.4.4", "10.1.0.0/16 10.1.4.4"])], &[]);
    check_kernel(
        &world,
        "nva1",
        &[
            ("0.0.0.0/0", "SubnetGateway system"),
            ("10.1.0.0/16", "SubnetGateway"),
            ("10.1.4.0/24", "OnLink"),
        ],
    );
    check_kernel(&world, "nva2", &[("0.0.0.0/0", "[10.1.4.4] []"), ("10.1.4.0/24", "-")]);
}

#[test]
fn a_user_route_over_the_network_takes_the_own_subnet_off_the_link() {
    let overridden = world(&[("vms", &["10.1.0.0/16 10.1.4.4"])], &[]);
    check_kernel(
        &overridden,
        "vm",
        &[("10.1.0.0/16", "[10.1.4.4] []"), ("10.1.2.0/24", "-")],
    );
    let given_back = world(&[("vms", &["10.1.0.0/16 10.1.4.4", "10.1.2.0/24 local"])], &[]);
    check_kernel(&given_back, "vm", &[("10.1.2.0/24", "OnLink")]);
    let other = world(&[("vms", &["10.1.4.0/24 10.1.4.4", "10.1.2.0/24 10.1.4.4"])], &[]);
    check_kernel(
        &other,
        "vm",
        &[("10.1.2.0/24", "[10.1.4.4] []"), ("10.1.0.0/16", "SubnetGateway")],
    );
}

#[test]
fn user_routes_of_every_type_become_their_way() {
    let world = world(
        &[(
            "vms",
            &[
                "10.9.0.0/16 none",
                "10.8.0.0/16 internet",
                "10.7.0.0/16 10.1.4.5,10.1.4.4",
                "10.6.1.0/24 gateway",
                "10.5.0.0/16 gateway",
                "10.1.9.0/24 local",
            ],
        )],
        &["10.6.0.0/16 10.1.4.4"],
    );
    check_kernel(
        &world,
        "vm",
        &[
            ("10.9.0.0/16", "Blackhole"),
            ("10.8.0.0/16", "SubnetGateway"),
            ("10.7.0.0/16", "[10.1.4.4, 10.1.4.5] []"),
            ("10.6.1.0/24", "[10.1.4.4] []"),
            ("10.5.0.0/16", "Blackhole"),
            ("10.1.9.0/24", "SubnetGateway"),
        ],
    );
    let rows = world.rows("vm");
    assert!(rows.contains(&"User Active 10.7.0.0/16 VirtualApplianceEcmp 10.1.4.5 10.1.4.4".into()));
    assert!(rows.contains(&"User Active 10.6.1.0/24 VirtualNetworkGateway 10.1.4.4".into()));
}
