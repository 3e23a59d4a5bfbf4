//! Roles over HTTP: what they let in, what they keep out, and what of a list is shown.

use serde_json::{Value, json};

use super::world::principals::{assign, object_id, signed_in};
use super::world::{Answer, GROUP, World, hub};

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000001";
const OTHER: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/other";

#[tokio::test]
async fn each_role_may_do_what_azures_may_and_no_more() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/nva");
    let learned = format!("{peer}/learnedRoutes");
    let assignment =
        format!("{GROUP}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-0000000000c1");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}}).to_string();
    // Role, and the statuses of: read, change, act, make a group, give a role, list service principals.
    for (role, expected) in [
        ("Owner", [200, 201, 202, 201, 400, 200]),
        ("Contributor", [200, 201, 202, 201, 403, 200]),
        ("Reader", [200, 403, 403, 403, 403, 200]),
        ("Network Contributor", [200, 201, 202, 403, 403, 200]),
        ("", [403; 6]),
    ] {
        let token = signed_in(&world, role, SUBSCRIPTION).await;
        let send =
            async |method: &str, path: &str, body: &str| world.over_tls(method, path, Some(&token), body).await.status;
        let found = [
            send("GET", &hub(""), "").await,
            send("PUT", &peer, &body).await,
            send("POST", &learned, "").await,
            send(
                "PUT",
                &format!("{SUBSCRIPTION}/resourceGroups/fresh-{}", role.len()),
                "{\"location\": \"eastus\"}",
            )
            .await,
            send("PUT", &assignment, "{\"properties\": {}}").await,
            send("GET", "/routewright/v1/service-principals", "").await,
        ];
        assert_eq!(found, expected, "{role}");
        world.delete(&peer).await;
    }
}

#[tokio::test]
async fn a_refusal_names_client_action_and_scope_as_azure_does() {
    let world = World::new().await;
    world.make_route_server().await;
    let token = signed_in(&world, "Reader", GROUP).await;
    let refused = world.over_tls("DELETE", &hub(""), Some(&token), "").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "AuthorizationFailed"));
    let words = refused.body["error"]["message"].as_str().unwrap();
    let middle = format!(
        "with object id '{}' does not have authorization to perform action 'Microsoft.Network/virtualHubs/delete' over scope '{}'",
        object_id(&token),
        hub("")
    );
    assert!(words.contains(&middle), "{words}");
}

#[tokio::test]
async fn lists_show_what_one_may_read_and_nothing_of_others() {
    let world = World::new().await;
    world.make_route_server().await;
    world.put(OTHER, json!({"location": "westeurope"})).await;
    let table = format!("{OTHER}/providers/Microsoft.Network/routeTables/secret");
    world.put(&table, json!({"location": "westeurope"})).await;
    let all = format!("{SUBSCRIPTION}/providers/Microsoft.Network/routeTables");
    let names = |answer: &Answer| -> Vec<String> {
        let items = answer.body["value"]
            .as_array()
            .unwrap_or_else(|| panic!("{}", answer.text));
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let groups = format!("{SUBSCRIPTION}/resourceGroups");
    let subscriptions = "/subscriptions?api-version=2022-12-01";

    let narrow = signed_in(&world, "Reader", GROUP).await;
    let get = async |path: &str| world.over_tls("GET", path, Some(&narrow), "").await;
    assert_eq!(names(&get(&groups).await), ["rg"]);
    assert_eq!(names(&get(&all).await), Vec::<String>::new());
    assert_eq!(get(subscriptions).await.body["value"].as_array().unwrap().len(), 1);
    for hidden in [
        &table,
        OTHER,
        &format!("{OTHER}/providers/Microsoft.Network/routeTables"),
        "/routewright/v1/peers",
        "/metrics",
    ] {
        let answer = get(hidden).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "AuthorizationFailed"),
            "{hidden}"
        );
        assert!(!answer.text.contains("westeurope"));
    }
    let resources = get(&format!("{SUBSCRIPTION}/resources")).await;
    assert!(
        resources.text.contains("virtualHubs") && !resources.text.contains("secret"),
        "{}",
        resources.text
    );

    let nobody = signed_in(&world, "", "").await;
    let get = async |path: &str| world.over_tls("GET", path, Some(&nobody), "").await;
    assert_eq!(get(subscriptions).await.body, json!({"value": []}));
    assert_eq!(get(&groups).await.status, 403);
    // Whether something is there or not, the answer is the same.
    let missing = format!("{OTHER}/providers/Microsoft.Network/routeTables/missing");
    assert_eq!(get(&missing).await.status, get(&table).await.status);
}

#[tokio::test]
async fn paths_that_only_look_harmless_need_the_same_roles() {
    let world = World::new().await;
    world.make_route_server().await;
    let nobody = signed_in(&world, "", "").await;
    let network = "providers/Microsoft.Network";
    for path in [
        format!("{GROUP}/{network}/virtualHubs/operations/bgpConnections"),
        format!("{GROUP}/{network}/virtualHubs/operationresults/bgpConnections"),
        format!("{GROUP}/{network}/virtualHubs/providers"),
        format!("{SUBSCRIPTION}/resourceGroups/providers/{network}/virtualHubs/rs"),
        hub("").to_uppercase(),
        format!("/{}", hub("/")),
        hub("").replace("virtualHubs", "virtual%48ubs"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = world.over_tls(method, &path, Some(&nobody), "{}").await;
            assert!(
                [403, 400].contains(&answer.status),
                "{method} {path}: {} {}",
                answer.status,
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn a_deployment_makes_nothing_that_its_author_could_not_make_by_hand() {
    let world = World::new().await;
    world.make_route_server().await;
    let role = format!(
        "{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-0000000000d1"
    );
    let body = json!({"properties": {
        "roleName": "Deployer", "assignableScopes": [GROUP],
        "permissions": [{"actions": ["Microsoft.Resources/deployments/*"], "notActions": []}],
    }});
    assert_eq!(world.put(&role, body).await.status, 201);
    let deployer = signed_in(&world, "Deployer", GROUP).await;
    let path = format!("{GROUP}/providers/Microsoft.Resources/deployments/d");
    let template = json!({"properties": {"mode": "Incremental", "template": {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": [{"type": "Microsoft.Network/routeTables", "apiVersion": "2024-05-01", "name": "t", "location": "westeurope"}],
    }}})
    .to_string();
    let refused = world.over_tls("PUT", &path, Some(&deployer), &template).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "AuthorizationFailed"),
        "{}",
        refused.text
    );
    assert!(
        refused.text.contains("Microsoft.Network/routeTables/write"),
        "{}",
        refused.text
    );
    assign(&world, &object_id(&deployer), "Network Contributor", GROUP).await;
    assert_eq!(
        world.over_tls("PUT", &path, Some(&deployer), &template).await.status,
        201
    );
}

#[tokio::test]
async fn a_deployment_tells_nothing_that_its_author_could_not_read() {
    let world = World::new().await;
    world.make_route_server().await;
    world.put(OTHER, json!({"location": "westeurope"})).await;
    let author = signed_in(&world, "Contributor", OTHER).await;
    let network = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/hub");
    let missing = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/missing");
    let template = |of: &str, first: Value| {
        json!({"properties": {"mode": "Incremental", "template": {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": [{"type": "Microsoft.Network/routeTables", "apiVersion": "2024-05-01", "name": "t",
                "location": "westeurope", "tags": first}],
            "outputs": {"seen": {"type": "object", "value": format!("[reference({of}, '2024-05-01', 'Full')]")}},
        }}})
        .to_string()
    };
    let path = format!("{OTHER}/providers/Microsoft.Resources/deployments/d");
    let validate = format!("{path}/validate");
    for (method, path) in [("PUT", &path), ("POST", &validate)] {
        let own = "resourceId('Microsoft.Network/routeTables', 't')";
        for (of, tags) in [
            (format!("'{network}'"), json!({})),
            (format!("'{missing}'"), json!({})),
            (
                own.to_owned(),
                json!({"at": format!("[reference('{network}', '2024-05-01').provisioningState]")}),
            ),
        ] {
            let refused = world.over_tls(method, path, Some(&author), &template(&of, tags)).await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (403, "AuthorizationFailed"),
                "{method} {of}: {}",
                refused.text
            );
            assert!(!refused.text.contains("10.1.0.0/16"), "{}", refused.text);
        }
        let told = world
            .over_tls(method, path, Some(&author), &template(own, json!({})))
            .await;
        assert!([200, 201].contains(&told.status), "{method}: {}", told.text);
    }
    assign(&world, &object_id(&author), "Reader", &network).await;
    let body = template(&format!("'{network}'"), json!({}));
    let told = world.over_tls("PUT", &path, Some(&author), &body).await;
    assert!(told.status == 200 && told.text.contains("10.1.0.0/16"), "{}", told.text);
}

#[tokio::test]
async fn the_pages_of_a_list_tell_nothing_of_what_one_may_not_read() {
    let world = World::new().await;
    world.make_route_server().await;
    world.put(OTHER, json!({"location": "westeurope"})).await;
    let table = |group: &str, name: &str| format!("{group}/providers/Microsoft.Network/routeTables/{name}");
    // In the order of a list the secret ones come after those that may be read.
    let tables = [(OTHER, "a"), (OTHER, "c"), (GROUP, "a-secret"), (GROUP, "z-secret")];
    for (group, name) in tables {
        world.put(&table(group, name), json!({"location": "westeurope"})).await;
    }
    let token = signed_in(&world, "Reader", OTHER).await;
    for list in ["providers/Microsoft.Network/routeTables", "resources", "resourceGroups"] {
        let mut next = format!("{SUBSCRIPTION}/{list}?api-version=2022-01-01&$top=1");
        let mut seen = Vec::new();
        loop {
            let page = world.over_tls("GET", &next, Some(&token), "").await;
            let items = page.body["value"].as_array().unwrap_or_else(|| panic!("{}", page.text));
            assert_eq!(items.len(), 1, "{next}: {}", page.text);
            seen.push(items[0]["name"].as_str().unwrap().to_owned());
            let Some(link) = page.body["nextLink"].as_str() else {
                break;
            };
            let secret: String = b"secret".iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!link.contains(&secret), "{link}");
            next = link.strip_prefix("https://localhost:8443").unwrap().to_owned();
        }
        let expected: &[&str] = if list == "resourceGroups" {
            &["other"]
        } else {
            &["a", "c"]
        };
        assert_eq!(seen, expected, "{list}");
    }
}

#[tokio::test]
async fn custom_roles_take_away_what_their_not_actions_name_and_cannot_raise_their_makers() {
    let world = World::new().await;
    world.make_route_server().await;
    let definition = |guid: &str| {
        format!("{GROUP}/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-0000000000{guid}")
    };
    let role = |name: &str, scope: &str, actions: Value| {
        json!({"properties": {
            "roleName": name, "assignableScopes": [scope],
            "permissions": [{"actions": actions, "notActions": ["*/delete"]}],
        }})
    };
    assert_eq!(
        world
            .put(&definition("e1"), role("Careful", GROUP, json!(["*"])))
            .await
            .status,
        201
    );
    let careful = signed_in(&world, "Careful", GROUP).await;
    assert_eq!(world.over_tls("GET", &hub(""), Some(&careful), "").await.status, 200);
    assert_eq!(world.over_tls("DELETE", &hub(""), Some(&careful), "").await.status, 403);
    world.put(OTHER, json!({"location": "westeurope"})).await;
    let elsewhere = signed_in(&world, "Reader", OTHER).await;
    let seen_from = definition("e1").replace(GROUP, OTHER);
    let hidden = world.over_tls("GET", &seen_from, Some(&elsewhere), "").await;
    assert_eq!(
        (hidden.status, hidden.code().as_str()),
        (404, "RoleDefinitionDoesNotExist")
    );
    assert_eq!(
        world
            .over_tls("GET", &definition("e1"), Some(&careful), "")
            .await
            .status,
        200
    );

    let wider = role("Wider", SUBSCRIPTION, json!(["*"])).to_string();
    let refused = world.over_tls("PUT", &definition("e2"), Some(&careful), &wider).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "AuthorizationFailed"));
    let taken = world.put(&definition("e3"), role("owner", GROUP, json!([]))).await;
    assert_eq!(
        (taken.status, taken.code().as_str()),
        (409, "RoleDefinitionWithSameNameExists")
    );
    let used = world.delete(&definition("e1")).await;
    assert_eq!(
        (used.status, used.code().as_str()),
        (409, "RoleDefinitionHasAssignments")
    );
    let elsewhere = format!(
        "{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-0000000000f1"
    );
    let body = json!({"properties": {"roleDefinitionId": definition("e1"), "principalId": "p"}});
    assert_eq!(
        world.put(&elsewhere, body).await.code(),
        "RoleDefinitionNotAssignableAtScope"
    );
}

#[tokio::test]
async fn roles_go_with_what_they_were_assigned_at_and_with_whom() {
    let world = World::new().await;
    world.put(OTHER, json!({"location": "westeurope"})).await;
    let token = signed_in(&world, "Reader", OTHER).await;
    let twice = assign(&world, &object_id(&token), "Reader", OTHER).await;
    assert_eq!((twice.status, twice.code().as_str()), (409, "RoleAssignmentExists"));
    let nowhere = assign(&world, "p", "Reader", &format!("{SUBSCRIPTION}/resourceGroups/nowhere")).await;
    assert_eq!(nowhere.status, 404);
    let capital = format!(
        "{SUBSCRIPTION}/resourceGroups/nowhere/Providers/Microsoft.Authorization/roleAssignments/{}",
        uuid::Uuid::new_v4()
    );
    let reader = format!(
        "{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7"
    );
    let body = json!({"properties": {"roleDefinitionId": reader, "principalId": "p"}});
    let nowhere = world.put(&capital, body).await;
    assert_eq!((nowhere.status, nowhere.code().as_str()), (404, "ResourceNotFound"));
    let assignments =
        format!("{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01");
    let count = async |filter: &str| {
        let answer = world.get(&format!("{assignments}{filter}")).await;
        let items = answer.body["value"].as_array().unwrap();
        items
            .iter()
            .filter(|item| item["properties"]["principalId"] == object_id(&token).as_str())
            .count()
    };
    assert_eq!(count("").await, 1);
    assert_eq!(count("&$filter=atScope()").await, 0, "it is below");
    let by = format!("&$filter=principalId%20eq%20'{}'", object_id(&token));
    assert_eq!(count(&by).await, 1);
    world.delete(OTHER).await;
    assert_eq!(count("").await, 0);
    world.put(OTHER, json!({"location": "westeurope"})).await;
    assert_eq!(
        world.over_tls("GET", OTHER, Some(&token), "").await.status,
        403,
        "another group of the same name"
    );
}

#[tokio::test]
async fn to_use_a_subnet_or_an_address_needs_a_role_on_it() {
    let world = World::new().await;
    world.make_route_server().await;
    world.put(OTHER, json!({"location": "westeurope"})).await;
    let token = signed_in(&world, "Network Contributor", OTHER).await;
    let subnet = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/hub/subnets/nva");
    let nic = format!("{OTHER}/providers/Microsoft.Network/networkInterfaces/n");
    let body = json!({"location": "westeurope", "properties": {"ipConfigurations": [
        {"name": "one", "properties": {"subnet": {"id": subnet}}},
    ]}});
    let put = async || world.over_tls("PUT", &nic, Some(&token), &body.to_string()).await;
    let refused = put().await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "LinkedAuthorizationFailed")
    );
    let words = refused.body["error"]["message"].as_str().unwrap();
    assert!(
        words.contains("'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope"),
        "{words}"
    );
    // Nor by way of a deployment.
    let template = json!({"properties": {"mode": "Incremental", "template": {"resources": [
        {"type": "Microsoft.Network/networkInterfaces", "apiVersion": "2023-11-01", "name": "n", "location": "westeurope",
            "properties": body["properties"]},
    ]}}});
    let deployment = format!("{OTHER}/providers/Microsoft.Resources/deployments/d");
    let owner = signed_in(&world, "Owner", OTHER).await;
    let deployed = world
        .over_tls("PUT", &deployment, Some(&owner), &template.to_string())
        .await;
    assert_eq!(deployed.code(), "LinkedAuthorizationFailed", "{}", deployed.text);
    assert_eq!(
        assign(&world, &object_id(&token), "Network Contributor", &subnet)
            .await
            .status,
        201
    );
    assert_eq!(put().await.status, 201);
}

#[tokio::test]
async fn our_own_api_tells_routes_only_to_who_may_ask_azures_for_them() {
    let world = World::new().await;
    world.make_route_server().await;
    let peer = hub("/bgpConnections/nva");
    let body = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    assert_eq!(world.put(&peer, body).await.status, 201);
    let nic = format!("{GROUP}/providers/Microsoft.Network/networkInterfaces/n");
    let subnet = format!("{GROUP}/providers/Microsoft.Network/virtualNetworks/hub/subnets/nva");
    let body = json!({"location": "westeurope", "properties": {"ipConfigurations": [
        {"name": "one", "properties": {"subnet": {"id": subnet}}},
    ]}});
    assert_eq!(world.put(&nic, body).await.status, 201);
    let reader = signed_in(&world, "Reader", SUBSCRIPTION).await;
    let contributor = signed_in(&world, "Network Contributor", GROUP).await;
    for (path, action) in [
        (format!("peers{peer}/routes"), "bgpConnections/learnedRoutes/action"),
        (
            format!("peers{peer}/advertised"),
            "bgpConnections/advertisedRoutes/action",
        ),
        (format!("routes?peer={peer}"), "bgpConnections/learnedRoutes/action"),
        (
            format!("routes?routeServer={}", hub("")),
            "bgpConnections/learnedRoutes/action",
        ),
        (
            format!("effective-routes?nic={nic}"),
            "networkInterfaces/effectiveRouteTable/action",
        ),
    ] {
        let path = format!("/routewright/v1/{path}");
        let refused = world.over_tls("GET", &path, Some(&reader), "").await;
        assert!(
            refused.status == 403 && refused.text.contains(action),
            "{path}: {}",
            refused.text
        );
        let told = world.over_tls("GET", &path, Some(&contributor), "").await;
        assert_eq!(told.status, 200, "{path}: {}", told.text);
    }
    let path = format!("/routewright/v1/peers{peer}");
    assert_eq!(world.over_tls("GET", &path, Some(&reader), "").await.status, 200);
}

#[tokio::test]
async fn a_role_that_is_taken_away_while_a_body_is_sent_writes_nothing() {
    let world = World::new().await;
    world.make_route_server().await;
    let settings = format!("/routewright/v1{}/settings", hub("/bgpConnections/nva"));
    let peer = json!({"properties": {"peerIp": "10.1.1.4", "peerAsn": 65001}});
    assert_eq!(world.put(&hub("/bgpConnections/nva"), peer).await.status, 201);
    let assignment = format!(
        "{GROUP}/providers/Microsoft.Authorization/roleAssignments/{}",
        uuid::Uuid::new_v4()
    );
    let table = format!("{GROUP}/providers/Microsoft.Network/routeTables/late?api-version=2022-01-01");
    let reader =
        format!("{GROUP}/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7");
    for (method, path, body) in [
        ("PUT", table.clone(), json!({"location": "westeurope"})),
        ("PUT", settings, json!({"holdTimeSecs": 90})),
        (
            "POST",
            "/routewright/v1/service-principals".to_owned(),
            json!({"displayName": "late"}),
        ),
        (
            "PUT",
            format!("{assignment}?api-version=2022-04-01"),
            json!({"properties": {"roleDefinitionId": reader, "principalId": "p"}}),
        ),
    ] {
        let owner = signed_in(&world, "", "").await;
        let assigned = assign(&world, &object_id(&owner), "Owner", SUBSCRIPTION).await;
        let role = assigned.body["id"].as_str().unwrap().to_owned();
        let before = world.version();
        let (asked, is_asked) = tokio::sync::oneshot::channel();
        let (go_on, rest) = tokio::sync::oneshot::channel::<()>();
        let late = futures::stream::once(async move {
            // The body is asked for when the role was looked at.
            asked.send(()).unwrap();
            rest.await.unwrap();
            Ok::<_, std::convert::Infallible>(body.to_string())
        });
        let mut request = http::Request::builder()
            .method(method)
            .uri(&path)
            .header("host", "localhost:8443")
            .header("authorization", format!("Bearer {owner}"))
            .body(axum::body::Body::from_stream(late))
            .unwrap();
        request.extensions_mut().insert(crate::manager::connections::Way::Tls);
        let take_away = async {
            is_asked.await.unwrap();
            assert_eq!(world.delete(&role).await.status, 200);
            go_on.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(world.send(request), take_away);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (403, "AuthorizationFailed"),
            "{path}: {}",
            answer.text
        );
        assert_eq!(world.version(), before + 1, "{path}: only the role went");
    }
}
