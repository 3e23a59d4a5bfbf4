//! Gateways over HTTP: their diagnostics come from both instances, and connections say how they are.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::{GROUP, World};

fn net(path: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Network/{path}")
}

/// A VPN gateway in the route server's network, with a site that speaks no BGP.
pub(super) async fn make_gateway(world: &World) {
    world.make_route_server().await;
    let reference = |path: &str| json!({ "id": net(path) });
    let subnet = json!({ "properties": { "addressPrefix": "10.1.9.0/27" } });
    let public = json!({ "location": "westeurope", "sku": { "name": "Standard" }, "properties": { "publicIPAllocationMethod": "Static" } });
    let configuration = json!({ "name": "c", "properties": {
        "subnet": reference("virtualNetworks/hub/subnets/GatewaySubnet"), "publicIPAddress": reference("publicIPAddresses/gw-pip"),
    } });
    let gateway = json!({ "location": "westeurope", "properties": { "gatewayType": "Vpn", "enableBgp": true, "ipConfigurations": [configuration] } });
    let site = json!({ "location": "westeurope", "properties": {
        "gatewayIpAddress": "198.51.100.7", "localNetworkAddressSpace": { "addressPrefixes": ["192.168.0.0/16"] },
    } });
    let connection = json!({ "location": "westeurope", "properties": {
        "connectionType": "IPsec", "virtualNetworkGateway1": reference("virtualNetworkGateways/gw"),
        "localNetworkGateway2": reference("localNetworkGateways/site"),
    } });
    for (path, body) in [
        ("virtualNetworks/hub/subnets/GatewaySubnet", subnet),
        ("publicIPAddresses/gw-pip", public),
        ("virtualNetworkGateways/gw", gateway),
        ("localNetworkGateways/site", site),
        ("connections/c", connection),
    ] {
        let answer = world.put(&net(path), body).await;
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.body);
    }
}

/// What a POST comes to.
async fn ask(world: &World, path: &str) -> Value {
    let asked = world.post(&net(path)).await;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let location = asked.header("location");
    world
        .get(location.trim_start_matches("http://localhost:8080"))
        .await
        .body
}

#[tokio::test]
async fn a_gateways_diagnostics_are_asked_of_both_instances() {
    let world = World::new().await;
    make_gateway(&world).await;
    let status = ask(&world, "virtualNetworkGateways/gw/getBgpPeerStatus").await;
    assert_eq!(status["value"][0]["neighbor"], "10.1.9.4", "{status}");
    assert_eq!(status["value"][0]["state"], "Unknown");
    let learned = ask(&world, "virtualNetworkGateways/gw/getLearnedRoutes").await;
    let networks: Vec<&str> = learned["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["network"].as_str().unwrap())
        .collect();
    assert_eq!(networks, ["10.1.0.0/16", "10.250.0.0/16"], "{learned}");
    let path = format!(
        "{}?api-version=2023-09-01&peer=10.1.255.4",
        net("virtualNetworkGateways/gw/getAdvertisedRoutes")
    );
    assert_eq!(world.post(&path).await.status, 202);
    let refused = world.post(&net("virtualNetworkGateways/gw/getAdvertisedRoutes")).await;
    assert_eq!(refused.code(), "InvalidPeer");
}

#[tokio::test]
async fn a_connection_without_bgp_is_connected_while_an_instance_of_its_gateway_is_there() {
    let world = World::new().await;
    make_gateway(&world).await;
    let status = async || {
        let one = world.get(&net("connections/c")).await.body;
        let all = world.get(&net("connections")).await.body;
        assert_eq!(
            one["properties"]["connectionStatus"],
            all["value"][0]["properties"]["connectionStatus"]
        );
        one["properties"]["connectionStatus"].as_str().unwrap().to_owned()
    };
    assert_eq!(status().await, "Connected");
    for fake in &world.fakes {
        fake.down.store(true, Ordering::Relaxed);
    }
    let up = || {
        world
            .manager
            .instances
            .iter()
            .any(|instance| instance.status.borrow().is_up())
    };
    world.until(|| !up()).await;
    assert_eq!(status().await, "NotConnected");
}
