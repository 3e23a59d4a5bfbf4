//! Limits of what a route server serves: virtual networks and VMs (az §1.1).
#![allow(clippy::unwrap_used)]

mod common;

use arm::Method;
use common::*;
use serde_json::Value;

/// A spoke whose own peering uses the hub's gateway; what comes of the hub's side, which connects them.
fn connect(lab: &mut Lab, index: usize) -> Result<(), arm::ArmError> {
    let name = format!("spoke{index}");
    lab.put_net(
        &format!("virtualNetworks/{name}"),
        vnet(
            &[&format!("10.{}.0.0/16", index + 10)],
            &[("s", &format!("10.{}.0.0/24", index + 10))],
        ),
    );
    let hubs = format!("virtualNetworks/hub/virtualNetworkPeerings/{name}");
    lab.put_net(&hubs, peering(&name, &["allowGatewayTransit"]));
    let theirs = format!("{NET}/virtualNetworks/{name}/virtualNetworkPeerings/hub");
    let body: Value = peering("hub", &["useRemoteGateways"]);
    lab.send(Method::Put, &theirs, Some(body)).map(|_| ())
}

#[test]
fn a_network_too_many_behind_a_route_server_is_refused_with_numbers_and_what_to_change() {
    let mut lab = Lab::with_route_server();
    lab.settings.limits.vnets = 2;
    connect(&mut lab, 0).unwrap();
    let refused = connect(&mut lab, 1).unwrap_err();
    assert_eq!(refused.code, "VnetCountLimitReached");
    for part in ["'rs'", "Current virtual networks: 2", "max limit: 2", "[limits] vnets"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    lab.put_net("virtualNetworks/alone", vnet(&["10.99.0.0/16"], &[]));
    lab.settings.limits.vnets = 0;
    connect(&mut lab, 1).unwrap();
    // A limit below what there is refuses only what makes it worse.
    lab.settings.limits.vnets = 1;
    lab.put_net(
        "virtualNetworks/spoke1",
        vnet(&["10.11.0.0/16"], &[("s", "10.11.0.0/24"), ("t", "10.11.1.0/24")]),
    );
}

#[test]
fn a_vm_too_many_is_refused_in_the_route_servers_network_and_in_spokes_but_not_elsewhere() {
    let mut lab = Lab::with_route_server();
    connect(&mut lab, 0).unwrap();
    lab.put_net(
        "virtualNetworks/alone",
        vnet(&["10.99.0.0/16"], &[("s", "10.99.0.0/24")]),
    );
    lab.settings.limits.vms = 2;
    lab.put_net("networkInterfaces/a", nic("hub", "workload", None));
    lab.put_net("networkInterfaces/b", nic("spoke0", "s", None));
    let code = "NetworkInterfaceCountLimitReached";
    assert_eq!(lab.refusal("networkInterfaces/c", nic("hub", "workload", None)), code);
    assert_eq!(lab.refusal("networkInterfaces/c", nic("spoke0", "s", None)), code);
    lab.put_net("networkInterfaces/c", nic("alone", "s", None));
    lab.put_net("networkInterfaces/a", nic("hub", "nva", None));
    lab.delete_net("networkInterfaces/b").unwrap();
    lab.put_net("networkInterfaces/d", nic("hub", "workload", None));
}

#[test]
fn each_further_unit_of_capacity_is_a_thousand_vms_more() {
    let mut lab = Lab::with_route_server();
    lab.settings.limits.vms = 1;
    lab.put_net("networkInterfaces/a", nic("hub", "workload", None));
    let code = "NetworkInterfaceCountLimitReached";
    assert_eq!(lab.refusal("networkInterfaces/b", nic("hub", "workload", None)), code);
    let units = |count: u32| {
        serde_json::json!({ "location": "westeurope", "properties": {
            "sku": "Standard", "virtualRouterAutoScaleConfiguration": { "minCapacity": count },
        } })
    };
    lab.put_net("virtualHubs/rs", units(0));
    assert_eq!(lab.refusal("networkInterfaces/b", nic("hub", "workload", None)), code);
    lab.put_net("virtualHubs/rs", units(3));
    lab.put_net("networkInterfaces/b", nic("hub", "workload", None));
}

#[test]
fn a_route_server_has_at_most_48_units() {
    let mut lab = Lab::with_route_server();
    let units = |count: u32| {
        serde_json::json!({ "location": "westeurope", "properties": {
            "sku": "Standard", "virtualRouterAutoScaleConfiguration": { "minCapacity": count },
        } })
    };
    for count in [49, i32::MAX as u32] {
        assert_eq!(lab.refusal("virtualHubs/rs", units(count)), "InvalidRequestFormat");
    }
    lab.put_net("virtualHubs/rs", units(48));
}
