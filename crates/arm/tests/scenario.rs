//! The reference scenario through the API: what is answered, and the intent that comes of it.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{Ask, Method, OperationStyle, Outcome, intent};
use common::*;
use routeserver::intent::PersistRoutes;
use serde_json::{Value, json};

#[test]
fn a_route_server_is_provisioned_by_its_ip_configuration() {
    let mut lab = Lab::new();
    lab.put_net(
        "virtualNetworks/hub",
        vnet(&["10.0.0.0/16"], &[("RouteServerSubnet", "10.0.1.64/27")]),
    );
    lab.put_net("publicIPAddresses/pip", public_ip());
    let created = lab
        .send(
            Method::Put,
            &format!("{NET}/virtualHubs/rs"),
            Some(json!({ "location": "West Europe", "properties": { "sku": "Standard" } })),
        )
        .unwrap();
    assert_eq!((created.status, created.operation), (201, Some(OperationStyle::Put)));
    assert_eq!(created.location, "westeurope");
    let hub = created.body.unwrap();
    assert_eq!(hub["properties"]["routingState"], "None");
    assert_eq!(hub["properties"]["virtualRouterAsn"], 0);
    assert_eq!(hub["properties"]["virtualRouterIps"], json!([]));
    assert!(intent(&lab.resources, &lab.settings).route_servers.is_empty());

    let configuration = lab.put_net(
        "virtualHubs/rs/ipConfigurations/Default",
        ip_configuration("hub", "pip"),
    );
    assert_eq!(
        configuration["properties"]["subnet"],
        json!({ "id": subnet_id("hub", "RouteServerSubnet") })
    );
    let hub = lab.get_net("virtualHubs/rs");
    assert_eq!(hub["kind"], "RouteServer");
    assert_eq!(hub["properties"]["provisioningState"], "Succeeded");
    assert_eq!(hub["properties"]["routingState"], "Provisioned");
    assert_eq!(hub["properties"]["virtualRouterAsn"], 65515);
    assert_eq!(hub["properties"]["virtualRouterIps"], json!(["10.0.1.68", "10.0.1.69"]));
    let ids = json!([{ "id": format!("{NET}/virtualHubs/rs/ipConfigurations/Default") }]);
    assert_eq!(hub["properties"]["ipConfigurations"], ids);
    assert_eq!(
        lab.get_net("virtualNetworks/hub/subnets/RouteServerSubnet")["properties"]["ipConfigurations"],
        ids
    );
    assert_eq!(
        lab.get_net("publicIPAddresses/pip")["properties"]["ipConfiguration"],
        ids[0]
    );
    assert_eq!(
        lab.get_net("publicIPAddresses/pip")["properties"]["ipAddress"],
        "203.0.113.4"
    );
}

#[test]
fn the_reference_scenario_becomes_this_intent() {
    let mut lab = Lab::with_route_server();
    lab.put_net("virtualHubs/rs/bgpConnections/firewall", peer("10.1.1.5", 65002));
    lab.put_net("networkInterfaces/vm1-nic", nic("hub", "workload", None));
    lab.put_net("networkInterfaces/sdwan-nic", nic("hub", "nva", Some("10.1.1.4")));
    lab.put_net(
        "routeTables/rt",
        json!({ "location": "westeurope", "properties": { "routes": [
            { "name": "fw", "properties": { "addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.1.1.5" } },
            { "name": "tag", "properties": { "addressPrefix": "AzureCloud", "nextHopType": "Internet" } },
        ] } }),
    );
    lab.put_net(
        "virtualNetworks/hub/subnets/workload",
        json!({ "properties": { "addressPrefixes": ["10.1.2.0/24"], "routeTable": { "id": format!("{NET}/routetables/RT") } } }),
    );
    lab.put_net("virtualNetworks/spoke", vnet(&["10.2.0.0/16"], &[("s", "10.2.0.0/24")]));
    lab.put_net(
        "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
        peering("spoke", &["allowGatewayTransit"]),
    );
    lab.put_net(
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
        peering("hub", &["useRemoteGateways"]),
    );
    let key = format!("{NET}/virtualHubs/rs/bgpConnections/sdwan").to_lowercase();
    lab.settings.by_key.insert(
        key,
        json!({ "holdTimeSecs": 9, "importPreference": 100, "md5Password": "x" }),
    );
    lab.settings
        .bind
        .insert("10.1.0.0/26".to_owned(), "/run/netns/hub".to_owned());
    let intent = intent(&lab.resources, &lab.settings);
    insta::assert_snapshot!(serde_json::to_string_pretty(&intent).unwrap());
}

#[test]
fn settings_say_what_becomes_of_routes_when_a_session_ends() {
    let mut lab = Lab::with_route_server();
    let peer = |lab: &Lab| intent(&lab.resources, &lab.settings).route_servers[0].peers[0].clone();
    let before = peer(&lab);
    assert_eq!(
        (before.graceful_restart, before.drain, before.long_lived_stale_time_secs),
        (false, false, 0)
    );
    assert_eq!(before.graceful_restart_time_secs, 120);
    let key = |path: &str| format!("{NET}/{path}").to_lowercase();
    lab.settings.by_key.insert(
        key("virtualHubs/rs/bgpConnections/sdwan"),
        json!({ "gracefulRestart": true, "gracefulRestartTimeSecs": 30, "longLivedStaleTimeSecs": 600, "drain": true }),
    );
    let after = peer(&lab);
    assert_eq!(
        (after.graceful_restart, after.drain, after.long_lived_stale_time_secs),
        (true, true, 600)
    );
    assert_eq!(after.graceful_restart_time_secs, 30);
    for (setting, expected) in [
        (json!("off"), PersistRoutes::Off),
        (json!("forever"), PersistRoutes::Forever),
        (json!(30), PersistRoutes::Minutes(30)),
    ] {
        let settings = json!({ "persistRoutes": setting });
        lab.settings.by_key.insert(key("virtualHubs/rs"), settings);
        let intent = intent(&lab.resources, &lab.settings);
        assert_eq!(intent.route_servers[0].persist_routes, expected);
    }
}

#[test]
fn actions_are_questions_for_the_instances() {
    let mut lab = Lab::with_route_server();
    lab.put_net("networkInterfaces/vm1", nic("hub", "workload", None));
    let key = |path: &str| format!("{NET}/{path}").to_lowercase();
    let peer = "virtualHubs/rs/bgpConnections/sdwan";
    for (path, expected) in [
        (format!("{peer}/learnedRoutes"), Ask::LearnedRoutes(key(peer))),
        (format!("{peer}/AdvertisedRoutes"), Ask::AdvertisedRoutes(key(peer))),
        (
            "networkInterfaces/VM1/effectiveRouteTable".to_owned(),
            Ask::NicEffectiveRoutes(key("networkInterfaces/vm1")),
        ),
        (
            "virtualHubs/rs/effectiveRoutes".to_owned(),
            Ask::HubEffectiveRoutes(key("virtualHubs/rs")),
        ),
    ] {
        let outcome = lab
            .request(request(Method::Post, &format!("{NET}/{path}"), None))
            .unwrap();
        assert_eq!(outcome, Outcome::Ask(expected, "westeurope".to_owned()), "{path}");
    }
    let missing = lab.request(request(
        Method::Post,
        &format!("{NET}/virtualHubs/rs/bgpConnections/x/learnedRoutes"),
        None,
    ));
    assert_eq!(missing.unwrap_err().code, "ResourceNotFound");
}

#[test]
fn connection_states_are_filled_in_one_and_in_lists() {
    let mut lab = Lab::with_route_server();
    let mut one = lab.get_net("virtualHubs/rs/bgpConnections/sdwan");
    let mut list = lab.get_net("virtualHubs/rs/bgpConnections");
    for body in [&mut one, &mut list] {
        arm::fill_connection_states(body, |key| {
            if key.ends_with("/sdwan") {
                "Connected"
            } else {
                "Unknown"
            }
        });
    }
    assert_eq!(one["properties"]["connectionState"], "Connected");
    assert_eq!(list["value"][0]["properties"]["connectionState"], "Connected");
    let mut other: Value = json!([1, "x"]);
    arm::fill_connection_states(&mut other, |_| "Unknown");
}
