//! One hub, and more than one way out of it: two NVAs for the same, and user routes beside BGP.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use lab::network_id;
use serde_json::{Value, json};

use crate::DEADLINE;
use crate::design::Design;

pub const TESTS: &[(&str, fn())] = &[
    (
        "equal_nvas_share_the_flows_and_take_over_from_each_other",
        equal_nvas_share_the_flows_and_take_over_from_each_other,
    ),
    (
        "a_passive_nva_works_while_the_active_one_is_gone",
        a_passive_nva_works_while_the_active_one_is_gone,
    ),
    (
        "a_user_route_keeps_the_nvas_own_subnet_out_of_the_tunnel",
        a_user_route_keeps_the_nvas_own_subnet_out_of_the_tunnel,
    ),
    (
        "segments_of_a_network_are_behind_different_nvas",
        segments_of_a_network_are_behind_different_nvas,
    ),
    (
        "behind_one_next_hop_nvas_come_and_go_unseen",
        behind_one_next_hop_nvas_come_and_go_unseen,
    ),
    (
        "route_maps_summarise_spokes_and_move_traffic",
        route_maps_summarise_spokes_and_move_traffic,
    ),
    (
        "a_user_route_over_two_appliances_uses_both_whatever_bgp_prefers",
        a_user_route_over_two_appliances_uses_both_whatever_bgp_prefers,
    ),
];

fn equal_nvas_share_the_flows_and_take_over_from_each_other() {
    let mut lab = Design::up("active-active.yaml");
    let (both, vms) = (["sdwan1", "sdwan2"], ["vm1", "vm2"]);
    for vm in vms {
        lab.leads(vm, "10.250.0.0/16", &both);
        lab.leads(vm, "10.251.0.0/16", &["sdwan2"]);
        let way = lab.way(vm, "site1");
        assert!(way.len() == 1 && both.contains(&way[0].as_str()), "{way:?}");
    }
    lab.kill("sdwan1").unwrap();
    for vm in vms {
        lab.leads(vm, "10.250.0.0/16", &["sdwan2"]);
        lab.goes(vm, "site1", &["sdwan2"]);
    }
    lab.start("sdwan1").unwrap();
    lab.kill("sdwan2").unwrap();
    for vm in vms {
        lab.goes(vm, "site1", &["sdwan1"]);
        lab.lacks(vm, "10.251.0.0/16");
    }
    lab.start("sdwan2").unwrap();
    for vm in vms {
        lab.leads(vm, "10.250.0.0/16", &both);
        lab.has(vm, "10.251.0.0/16");
    }
}

fn a_passive_nva_works_while_the_active_one_is_gone() {
    let mut lab = Design::up("active-passive.yaml");
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, "0.0.0.0/0", &["active"]);
        lab.goes(vm, "internet1", &["active"]);
    }
    lab.kill("active").unwrap();
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, "0.0.0.0/0", &["passive"]);
        lab.goes(vm, "internet1", &["passive"]);
    }
    lab.start("active").unwrap();
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, "0.0.0.0/0", &["active"]);
        lab.goes(vm, "internet1", &["active"]);
    }
}

fn a_user_route_keeps_the_nvas_own_subnet_out_of_the_tunnel() {
    let lab = Design::up("forced-tunnelling.yaml");
    lab.goes("vm1", "internet", &["firewall"]);
    lab.does_not_reach("vm2", "internet");
    // What a NIC of the firewall's subnet is programmed with: the user route; the one by BGP is there and Invalid.
    lab.does_not_reach("probe", "internet");
    for node in ["probe", "firewall"] {
        assert_eq!(lab.effective(node, "0.0.0.0/0", "User").unwrap()["state"], "Active");
        let by_bgp = lab.effective(node, "0.0.0.0/0", "VirtualNetworkGateway").unwrap();
        assert_eq!(by_bgp["state"], "Invalid", "{node}");
    }

    let table = network_id("routeTables/nva-out");
    let routes: fn(&mut Value) -> &mut Value = |table| &mut table["properties"]["routes"];
    let outwards = std::cell::RefCell::new(Value::Null);
    lab.change(&table, |table| {
        *outwards.borrow_mut() = std::mem::replace(routes(table), json!([]));
    });
    lab.goes("probe", "internet", &["firewall"]);
    // On the firewall's own NIC the route would lead to itself: Azure loops, we say why it is not there.
    let by_bgp = lab.effective("firewall", "0.0.0.0/0", "VirtualNetworkGateway").unwrap();
    assert!(by_bgp["notInstalled"].is_string(), "{by_bgp:#}");

    lab.change(&table, |table| *routes(table) = outwards.borrow().clone());
    lab.does_not_reach("probe", "internet");
    lab.goes("vm1", "internet", &["firewall"]);
    lab.no_session_ended();
}

fn segments_of_a_network_are_behind_different_nvas() {
    let mut lab = Design::up("microsegmentation.yaml");
    lab.goes("vm-red", "vm-blue", &["fw-red", "fabric"]);
    lab.goes("vm-blue", "vm-red", &["fw-blue", "fabric"]);
    lab.goes("vm-green", "vm-red", &["fabric"]);
    for vm in ["vm-red", "vm-blue"] {
        lab.goes(vm, "internet", &["fw-red"]);
        lab.goes(vm, "partner", &["fw-blue"]);
    }
    lab.does_not_reach("vm-green", "partner");
    lab.lacks("vm-green", "203.0.113.0/24");

    // User routes do not follow a session.
    lab.kill("fw-red").unwrap();
    for vm in ["vm-red", "vm-blue"] {
        lab.does_not_reach(vm, "internet");
    }
    lab.goes("vm-red", "vm-blue", &["fw-red", "fabric"]);

    // Green asks for BGP routes, red is let out of its segment; nothing is restarted for either.
    let table = |name: &str| network_id(&format!("routeTables/{name}"));
    lab.change(&table("no-bgp"), |table| {
        table["properties"]["disableBgpRoutePropagation"] = json!(false);
    });
    lab.goes("vm-green", "partner", &["fw-blue"]);
    lab.change(&table("from-red"), |table| table["properties"]["routes"] = json!([]));
    lab.goes("vm-red", "vm-blue", &["fabric"]);
    lab.start("fw-red").unwrap();
    lab.goes("vm-green", "internet", &["fw-red"]);
}

fn behind_one_next_hop_nvas_come_and_go_unseen() {
    let mut lab = Design::up("next-hop-ip.yaml");
    let site = "10.250.0.0/16";
    let by = |way: &[String]| match way {
        [lb, nva] if lb == "lb" => nva.clone(),
        other => panic!("not through the balancer and one NVA: {other:?}"),
    };
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, site, &["lb"]);
    }
    let used = by(&lab.way("vm1", "site1"));
    let other = if used == "nva1" { "nva2" } else { "nva1" };
    let written = lab.kernel_routes("vm1").unwrap();
    lab.kill(&used).unwrap();
    lab.wait_for_peer(&used, false, DEADLINE).unwrap();
    lab.goes("vm1", "site1", &["lb", other]);
    assert_eq!(lab.kernel_routes("vm1").unwrap(), written, "the VM knows nothing of it");
    lab.start(&used).unwrap();
    lab.goes("vm1", "site1", &["lb", &used]);

    for nva in ["nva1", "nva2"] {
        lab.kill(nva).unwrap();
    }
    lab.lacks("vm1", site);
    lab.does_not_reach("vm1", "site1");
}

fn route_maps_summarise_spokes_and_move_traffic() {
    let lab = Design::up("route-maps.yaml");
    let vms = ["vm1", "vm2", "vm3"];
    let (all, spokes) = ("10.0.0.0/8", ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
    lab.has("sdwan", all);
    for spoke in spokes {
        lab.lacks("sdwan", spoke);
        lab.has("backup", spoke);
    }
    lab.lacks("backup", all);
    let summary = json!([{ "prefix": all, "bgpCommunities": "", "asPath": "65515" }]);
    assert_eq!(lab.ask("outboundRoutes", "sdwan"), summary);
    for vm in vms {
        lab.goes(vm, "site1", &["sdwan"]);
    }
    let heard = lab.ask("inboundRoutes", "backup");
    assert_eq!(heard[0]["asPath"], "65002-65002-65002", "{heard:#}");

    // The other one is made the second choice, and then nobody.
    attach(&lab, "backup", json!({}));
    for vm in vms {
        lab.leads(vm, "10.250.0.0/16", &["sdwan", "backup"]);
    }
    let longer = json!({ "inboundRouteMap": { "id": network_id("virtualHubs/rs/routeMaps/longer") } });
    attach(&lab, "sdwan", longer.clone());
    for vm in vms {
        lab.goes(vm, "site1", &["backup"]);
    }
    for spoke in spokes {
        lab.has("sdwan", spoke);
    }
    attach(&lab, "backup", longer);
    for vm in vms {
        lab.leads(vm, "10.250.0.0/16", &["sdwan", "backup"]);
    }
    lab.no_session_ended();
}

/// A peering's route maps, all of them.
fn attach(lab: &Design, nva: &str, maps: Value) {
    let peering = network_id(&format!("virtualHubs/rs/bgpConnections/{nva}"));
    lab.change(&peering, |peering| {
        peering["properties"]["routingConfiguration"] = maps.clone();
    });
}

fn a_user_route_over_two_appliances_uses_both_whatever_bgp_prefers() {
    let mut lab = Design::up("ecmp-user-route.yaml");
    let both = ["fw1", "fw2"];
    lab.leads("vm-spread", "0.0.0.0/0", &both);
    lab.leads("vm-bgp", "0.0.0.0/0", &["fw1"]);
    spread_over(&lab, "vm-spread", &both);
    spread_over(&lab, "vm-bgp", &["fw1"]);
    lab.way("vm-spread", "internet1");
    let row = lab.effective("vm-spread", "0.0.0.0/0", "User").unwrap();
    assert_eq!(row["nextHopIpAddress"], json!(["10.1.1.4", "10.1.1.5"]));
    // BGP sees an appliance die, a user route does not.
    lab.kill("fw1").unwrap();
    lab.leads("vm-bgp", "0.0.0.0/0", &["fw2"]);
    lab.goes("vm-bgp", "internet2", &["fw2"]);
    lab.leads("vm-spread", "0.0.0.0/0", &both);
}

/// Waits until packets to many addresses have gone out by all of these, and by nobody else. (Nobody has most of the addresses: who
/// forwards first is all that is asked.)
fn spread_over(lab: &Design, from: &str, all: &[&str]) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut seen = BTreeSet::new();
    let addresses = (11..=250).map(|host| Ipv4Addr::new(198, 51, 100, host));
    for address in addresses {
        let probe = lab.probe(from, "nobody", address.into(), PATIENCE);
        seen.extend(probe.through.into_iter().next().filter(|hop| hop.starts_with("fw")));
        if all.len() > 1 && seen.len() == all.len() || address.octets()[3] == 24 && all.len() == 1 {
            break;
        }
    }
    assert!(seen.iter().eq(all), "{from} sends through {seen:?}");
}
