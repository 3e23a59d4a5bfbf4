//! What is others' and only named in a request: it is used, and told of, only with a role on it.

use serde_json::{Value, json};

use super::gateways::make_gateway;
use super::world::principals::{assign, object_id, signed_in};
use super::world::{Answer, GROUP, World};

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";

fn group(name: &str) -> String {
    format!("{SUBSCRIPTION}/resourceGroups/{name}")
}

fn network(group: &str, name: &str) -> String {
    format!("{group}/providers/Microsoft.Network/virtualNetworks/{name}")
}

fn with_space(prefixes: &[&str]) -> Value {
    json!({"location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": prefixes}}})
}

fn peered_with(remote: &str) -> Value {
    json!({"properties": {"remoteVirtualNetwork": {"id": remote}}})
}

async fn made(world: &World, path: &str, body: Value) {
    let answer = world.put(path, body).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn what_is_called_deployments_is_no_deployment_and_needs_a_role_on_what_it_uses() {
    let world = World::new().await;
    world.make_route_server().await;
    let body = json!({"location": "westeurope", "properties": {"ipConfigurations": [
        {"name": "one", "properties": {"subnet": {"id": format!("{}/subnets/nva", network(GROUP, "hub"))}}},
    ]}})
    .to_string();
    for (group, nic) in [(group("other"), "deployments"), (group("Deployments"), "n")] {
        world.put(&group, json!({"location": "westeurope"})).await;
        let token = signed_in(&world, "Network Contributor", &group).await;
        let path = format!("{group}/providers/Microsoft.Network/networkInterfaces/{nic}");
        let refused = world.over_tls("PUT", &path, Some(&token), &body).await;
        assert_refused(&refused, 403, "LinkedAuthorizationFailed");
        assert_eq!(world.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_deployment_uses_and_tells_of_others_only_what_its_author_could_by_hand() {
    let world = World::new().await;
    world.make_route_server().await;
    let other = group("other");
    made(&world, &other, json!({"location": "westeurope"})).await;
    let author = signed_in(&world, "Contributor", &other).await;
    let hub = network(GROUP, "hub");
    // A peering shows the other network's prefixes, and a refusal those that overlap.
    let template = |space: &str| {
        json!({"properties": {"mode": "Incremental", "template": {
            "resources": [
                {"type": "Microsoft.Network/virtualNetworks", "apiVersion": "2024-05-01", "name": "mine",
                    "location": "westeurope", "properties": {"addressSpace": {"addressPrefixes": [space]}}},
                {"type": "Microsoft.Network/virtualNetworks/virtualNetworkPeerings", "apiVersion": "2024-05-01",
                    "name": "mine/p", "properties": peered_with(&hub)["properties"],
                    "dependsOn": ["[resourceId('Microsoft.Network/virtualNetworks', 'mine')]"]},
            ],
            "outputs": {"seen": {"type": "object", "value":
                "[reference(resourceId('Microsoft.Network/virtualNetworks/virtualNetworkPeerings', 'mine', 'p'), '2024-05-01')]"}},
        }}})
        .to_string()
    };
    let deployment = format!("{other}/providers/Microsoft.Resources/deployments/d");
    let validate = format!("{deployment}/validate");
    for (method, path) in [("POST", &validate), ("PUT", &deployment)] {
        for space in ["10.9.0.0/16", "10.1.128.0/17"] {
            let refused = world.over_tls(method, path, Some(&author), &template(space)).await;
            assert_refused(&refused, 403, "LinkedAuthorizationFailed");
            assert!(!refused.text.contains("10.1."), "{}", refused.text);
        }
    }
    assign(&world, &object_id(&author), "Network Contributor", &hub).await;
    for (method, path) in [("POST", &validate), ("PUT", &deployment)] {
        let told = world
            .over_tls(method, path, Some(&author), &template("10.9.0.0/16"))
            .await;
        assert!(
            [200, 201].contains(&told.status) && told.text.contains("10.1.0.0/16"),
            "{method}: {}",
            told.text
        );
    }
}

#[tokio::test]
async fn a_network_that_the_same_one_is_peered_with_is_named_only_to_who_may_read_it() {
    let world = World::new().await;
    world.make_route_server().await;
    let other = group("other");
    made(&world, &other, json!({"location": "westeurope"})).await;
    let (hub, third, spoke) = (network(GROUP, "hub"), network(GROUP, "third"), network(&other, "spoke"));
    made(&world, &third, with_space(&["10.40.0.0/16"])).await;
    made(&world, &spoke, with_space(&["10.9.0.0/16"])).await;
    for (from, to) in [(&hub, &third), (&hub, &spoke), (&spoke, &hub)] {
        let name = to.rsplit('/').next().unwrap();
        made(
            &world,
            &format!("{from}/virtualNetworkPeerings/to-{name}"),
            peered_with(to),
        )
        .await;
    }
    let author = signed_in(&world, "Contributor", &other).await;
    let grown = with_space(&["10.9.0.0/16", "10.40.7.0/24"]).to_string();
    let grow = async || world.over_tls("PUT", &spoke, Some(&author), &grown).await;
    let refused = grow().await;
    assert_refused(&refused, 400, "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet");
    for secret in ["third", "10.40.0.0"] {
        assert!(!refused.text.contains(secret), "{secret}: {}", refused.text);
    }
    assign(&world, &object_id(&author), "Reader", &third).await;
    let refused = grow().await;
    assert_refused(&refused, 400, "VnetAddressSpaceOverlapsWithAlreadyPeeredVnet");
    for told in ["third", "10.40.0.0/16"] {
        assert!(refused.text.contains(told), "{told}: {}", refused.text);
    }
}

#[tokio::test]
async fn to_connect_with_anothers_gateway_or_site_needs_a_role_on_it() {
    let world = World::new().await;
    make_gateway(&world).await;
    let other = group("other");
    made(&world, &other, json!({"location": "westeurope"})).await;
    let author = signed_in(&world, "Contributor", &other).await;
    let net = |group: &str, path: &str| format!("{group}/providers/Microsoft.Network/{path}");
    let (gateway, site) = (
        net(GROUP, "virtualNetworkGateways/gw"),
        net(GROUP, "localNetworkGateways/site"),
    );
    let mine = net(&other, "localNetworkGateways/mine");
    let local = json!({"location": "westeurope", "properties": {
        "gatewayIpAddress": "198.51.100.9", "localNetworkAddressSpace": {"addressPrefixes": ["203.0.113.0/24"]},
    }});
    made(&world, &mine, local).await;
    let properties = |site: &str| {
        json!({
            "connectionType": "IPsec", "virtualNetworkGateway1": {"id": gateway}, "localNetworkGateway2": {"id": site},
        })
    };
    let put = async |site: &str| {
        let path = net(&other, "connections/c");
        let body = json!({"location": "westeurope", "properties": properties(site)});
        world.over_tls("PUT", &path, Some(&author), &body.to_string()).await
    };
    let deploy = async |site: &str| {
        let template = json!({"properties": {"mode": "Incremental", "template": {"resources": [
            {"type": "Microsoft.Network/connections", "apiVersion": "2024-05-01", "name": "c", "location": "westeurope",
                "properties": properties(site)},
        ]}}});
        let path = net(&other, "").replace("Microsoft.Network/", "Microsoft.Resources/deployments/d");
        world.over_tls("PUT", &path, Some(&author), &template.to_string()).await
    };
    let assert_needed = |answer: &Answer, kind: &str| {
        assert_refused(answer, 403, "LinkedAuthorizationFailed");
        let action = format!("Microsoft.Network/{kind}/join/action");
        assert!(answer.text.contains(&action), "{}", answer.text);
    };
    assert_needed(&put(&mine).await, "virtualNetworkGateways");
    assert_needed(&deploy(&mine).await, "virtualNetworkGateways");
    assign(&world, &object_id(&author), "Network Contributor", &gateway).await;
    assert_needed(&put(&site).await, "localNetworkGateways");
    assert_needed(&deploy(&site).await, "localNetworkGateways");
    let taken = put(&mine).await;
    assert_eq!(taken.status, 201, "{}", taken.text);
    let deployed = deploy(&mine).await;
    assert!([200, 201].contains(&deployed.status), "{}", deployed.text);
}
