//! What comes back is what was sent; sending back what came changes nothing; etags, lists, tags and deletes.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{Change, Method, OperationStyle};
use common::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A world with one of each type, and their paths.
fn everything() -> (Lab, Vec<&'static str>) {
    let mut lab = Lab::with_route_server();
    lab.put_net("routeTables/rt", json!({ "location": "westeurope", "tags": { "a": "b" }, "properties": { "routes": [
        { "name": "default", "properties": { "addressPrefix": "0.0.0.0/0", "nextHopType": "virtualappliance", "nextHopIpAddress": "10.1.1.5" } },
        { "name": "ecmp", "properties": { "addressPrefix": "10.9.0.0/16", "nextHopType": "VirtualApplianceEcmp", "nextHop": { "nextHopIpAddresses": ["10.1.1.4", "10.1.1.5"] } } },
    ] } }));
    lab.put_net("networkSecurityGroups/nsg", json!({ "location": "westeurope" }));
    lab.put_net(
        "virtualNetworks/hub/subnets/workload",
        json!({ "properties": {
        "addressPrefix": "10.1.2.0/24", "routeTable": { "id": format!("{NET}/routeTables/rt") },
        "networkSecurityGroup": { "id": format!("{NET}/networkSecurityGroups/nsg") },
    } }),
    );
    lab.put_net("networkInterfaces/vm", nic("hub", "workload", None));
    lab.put_net(
        "virtualNetworks/spoke",
        vnet(&["10.2.0.0/16", "fd00:2::/48"], &[("s", "10.2.0.0/24")]),
    );
    lab.put_net(
        "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
        peering("spoke", &["allowGatewayTransit"]),
    );
    lab.put_net(
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
        peering("hub", &["useRemoteGateways"]),
    );
    let paths = vec![
        "virtualNetworks/hub",
        "virtualNetworks/hub/subnets/RouteServerSubnet",
        "virtualNetworks/hub/subnets/workload",
        "virtualNetworks/spoke",
        "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
        "publicIPAddresses/rs-pip",
        "virtualHubs/rs",
        "virtualHubs/rs/ipConfigurations/Default",
        "virtualHubs/rs/bgpConnections/sdwan",
        "routeTables/rt",
        "routeTables/rt/routes/default",
        "routeTables/rt/routes/ecmp",
        "networkSecurityGroups/nsg",
        "networkInterfaces/vm",
    ];
    (lab, paths)
}

#[test]
fn putting_back_what_was_read_changes_nothing() {
    let (mut lab, paths) = everything();
    for path in paths {
        let shown = lab.get_net(path);
        let changes = lab.changes(Method::Put, &format!("{NET}/{path}"), Some(shown.clone()));
        assert_eq!(changes, [], "{path}");
        assert_eq!(lab.get_net(path), shown);
    }
}

#[test]
fn every_resource_has_what_clients_need() {
    let (mut lab, paths) = everything();
    for path in paths {
        let shown = lab.get_net(path);
        assert_eq!(shown["id"], format!("{NET}/{path}"));
        assert_eq!(shown["name"], path.rsplit('/').next().unwrap());
        assert_eq!(shown["properties"]["provisioningState"], "Succeeded", "{path}");
        assert!(shown["etag"].as_str().unwrap().starts_with("W/\""), "{path}");
        let kind: Vec<&str> = path.split('/').step_by(2).collect();
        assert_eq!(shown["type"], format!("Microsoft.Network/{}", kind.join("/")));
        assert_eq!(shown["location"].is_null(), kind.len() > 1, "{path}");
        let parent = path.rsplit_once('/').unwrap().0;
        let list = lab.get_net(parent);
        assert!(list["value"].as_array().unwrap().contains(&shown), "{path}");
    }
    let all = lab
        .send(
            Method::Get,
            &format!("{S}/providers/microsoft.network/virtualhubs"),
            None,
        )
        .unwrap();
    assert_eq!(all.body.unwrap()["value"].as_array().unwrap().len(), 1);
}

#[test]
fn the_shapes_are_those_of_azure() {
    let (mut lab, _) = everything();
    insta::assert_snapshot!("hub", pretty(&lab.get_net("virtualHubs/rs")));
    insta::assert_snapshot!("virtual_network", pretty(&lab.get_net("virtualNetworks/spoke")));
    insta::assert_snapshot!("network_interface", pretty(&lab.get_net("networkInterfaces/vm")));
    insta::assert_snapshot!("route_table", pretty(&lab.get_net("routeTables/rt")));
    insta::assert_snapshot!("public_address", pretty(&lab.get_net("publicIPAddresses/rs-pip")));
    insta::assert_snapshot!("peer", pretty(&lab.get_net("virtualHubs/rs/bgpConnections/sdwan")));
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[test]
fn ids_keep_their_first_casing_and_are_found_in_any() {
    let mut lab = Lab::with_route_server();
    let path = format!("{}/VIRTUALHUBS/RS", NET.to_uppercase());
    let hub = lab.send(Method::Get, &path, None).unwrap().body.unwrap();
    assert_eq!(hub["id"], format!("{NET}/virtualHubs/rs"));
    let changed = lab.put(
        &path,
        json!({ "location": "westeurope", "properties": { "allowBranchToBranchTraffic": "true" } }),
    );
    assert_eq!(changed["id"], format!("{NET}/virtualHubs/rs"));
    assert_eq!(changed["name"], "rs");
    assert_eq!(changed["properties"]["allowBranchToBranchTraffic"], true);
    // The update kept the children.
    assert_eq!(changed["properties"]["bgpConnections"].as_array().unwrap().len(), 1);
    let peer = lab.put(&format!("{path}/BGPCONNECTIONS/SdWan"), peer("10.1.1.7", 65001));
    assert_eq!(peer["name"], "sdwan");
}

#[test]
fn etags_guard_writes() {
    let mut lab = Lab::with_route_server();
    let path = format!("{NET}/virtualHubs/rs");
    let etag = lab.get_net("virtualHubs/rs")["etag"].as_str().unwrap().to_owned();
    let put = |lab: &mut Lab, path: &str, if_match: Option<&str>, if_none_match: Option<&str>, tag: &str| {
        let mut request = request(
            Method::Put,
            path,
            Some(json!({ "location": "westeurope", "tags": { "t": tag } })),
        );
        request.if_match = if_match.map(str::to_owned);
        request.if_none_match = if_none_match.map(str::to_owned);
        lab.request(request)
            .map(|_| ())
            .map_err(|error| (error.status, error.code))
    };
    let refused = Err((412, "PreconditionFailedEtagMismatch".to_owned()));
    assert_eq!(put(&mut lab, &path, None, Some("*"), "0"), refused);
    assert_eq!(put(&mut lab, &path, Some("W/\"other\""), None, "1"), refused);
    assert_eq!(put(&mut lab, &path, Some(&etag), None, "2"), Ok(()));
    assert_eq!(put(&mut lab, &path, Some(&etag), None, "3"), refused);
    assert_eq!(put(&mut lab, &path, Some("*"), None, "4"), Ok(()));
    let fresh = format!("{NET}/virtualHubs/rs2");
    assert_eq!(put(&mut lab, &fresh, Some("*"), None, "5"), refused);
    assert_eq!(put(&mut lab, &fresh, None, Some("*"), "6"), Ok(()));
}

#[test]
fn a_parents_etag_changes_with_its_children() {
    let mut lab = Lab::with_route_server();
    let before = lab.get_net("virtualNetworks/hub")["etag"].clone();
    lab.put_net(
        "virtualNetworks/hub/subnets/more",
        json!({ "properties": { "addressPrefix": "10.1.9.0/24" } }),
    );
    let after = lab.get_net("virtualNetworks/hub")["etag"].clone();
    assert_ne!(before, after);
    lab.delete_net("virtualNetworks/hub/subnets/more").unwrap();
    assert_ne!(lab.get_net("virtualNetworks/hub")["etag"], after);
}

#[test]
fn a_network_put_without_subnets_keeps_them_and_with_some_replaces_them() {
    let mut lab = Lab::new();
    lab.put_net(
        "virtualNetworks/v",
        vnet(&["10.0.0.0/16"], &[("a", "10.0.0.0/24"), ("b", "10.0.1.0/24")]),
    );
    let names = |shown: &Value| -> Vec<String> {
        let subnets = shown["properties"]["subnets"].as_array().unwrap();
        subnets
            .iter()
            .map(|subnet| format!("{} {}", subnet["name"], subnet["properties"]["addressPrefix"]))
            .collect()
    };
    let space = json!({ "location": "westeurope", "properties": { "addressSpace": { "addressPrefixes": ["10.0.0.0/16", "10.9.0.0/16"] } } });
    assert_eq!(names(&lab.put_net("virtualNetworks/v", space)).len(), 2);
    // Two subnets may change places in one request.
    let swapped = vnet(&["10.0.0.0/16"], &[("a", "10.0.1.0/24"), ("b", "10.0.0.0/24")]);
    assert_eq!(
        names(&lab.put_net("virtualNetworks/v", swapped)),
        [r#""a" "10.0.1.0/24""#, r#""b" "10.0.0.0/24""#]
    );
    let fewer = vnet(&["10.0.0.0/16"], &[("b", "10.0.0.0/24"), ("c", "10.0.2.0/24")]);
    assert_eq!(
        names(&lab.put_net("virtualNetworks/v", fewer)),
        [r#""b" "10.0.0.0/24""#, r#""c" "10.0.2.0/24""#]
    );
}

#[test]
fn addresses_are_allocated_from_the_fourth_and_stay() {
    let mut lab = Lab::with_route_server();
    let address = |shown: &Value| shown["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"].clone();
    assert_eq!(
        address(&lab.put_net("networkInterfaces/a", nic("hub", "workload", None))),
        "10.1.2.4"
    );
    lab.put_net("networkInterfaces/s", nic("hub", "workload", Some("10.1.2.5")));
    assert_eq!(
        address(&lab.put_net("networkInterfaces/b", nic("hub", "workload", None))),
        "10.1.2.6"
    );
    lab.delete_net("networkInterfaces/a").unwrap();
    assert_eq!(
        address(&lab.put_net("networkInterfaces/b", nic("hub", "workload", None))),
        "10.1.2.6"
    );
    assert_eq!(
        address(&lab.put_net("networkInterfaces/c", nic("hub", "workload", None))),
        "10.1.2.4"
    );
}

#[test]
fn peerings_know_their_state() {
    let (mut lab, _) = everything();
    let state = |lab: &mut Lab, path: &str| lab.get_net(path)["properties"]["peeringState"].clone();
    let (ours, theirs) = (
        "virtualNetworks/hub/virtualNetworkPeerings/to-spoke",
        "virtualNetworks/spoke/virtualNetworkPeerings/to-hub",
    );
    assert_eq!(state(&mut lab, ours), "Connected");
    lab.delete_net(theirs).unwrap();
    assert_eq!(state(&mut lab, ours), "Disconnected");
    // The side that was left must be written first, as in Azure.
    assert_eq!(
        lab.refusal(theirs, peering("hub", &["useRemoteGateways"])),
        "RemotePeeringIsDisconnected"
    );
    let written = lab.put_net(ours, peering("spoke", &["allowGatewayTransit"]));
    assert_eq!(written["properties"]["peeringState"], "Initiated");
    assert_eq!(written["properties"]["peeringSyncLevel"], "RemoteNotInSync");
    let other = lab.put_net(theirs, peering("hub", &["useRemoteGateways"]));
    assert_eq!(other["properties"]["peeringState"], "Connected");
    assert_eq!(other["properties"]["peeringSyncLevel"], "FullyInSync");
    assert_eq!(state(&mut lab, ours), "Connected");
    lab.delete_net("virtualNetworks/spoke").unwrap();
    assert_eq!(state(&mut lab, ours), "Disconnected");
    lab.put_net("virtualNetworks/a", vnet(&["10.77.0.0/16"], &[]));
    lab.put_net("virtualNetworks/hub/virtualNetworkPeerings/to-a", peering("a", &[]));
    assert_eq!(
        state(&mut lab, "virtualNetworks/hub/virtualNetworkPeerings/to-a"),
        "Initiated"
    );
}

#[test]
fn deletes_answer_as_azure_does() {
    let mut lab = Lab::with_route_server();
    for (path, status, operation) in [
        ("virtualHubs/rs/bgpConnections/none", 204, None),
        ("virtualHubs/none/ipConfigurations/Default", 204, None),
        (
            "virtualHubs/rs/ipConfigurations/Default",
            202,
            Some(OperationStyle::Delete),
        ),
        ("virtualHubs/rs", 202, Some(OperationStyle::Delete)),
        ("virtualNetworks/hub", 200, None),
    ] {
        let answer = lab.delete_net(path).unwrap();
        assert_eq!(
            (answer.status, answer.operation, answer.body),
            (status, operation, None),
            "{path}"
        );
    }
    // The route server took its peerings with it, the network its subnets.
    assert_eq!(lab.resources.len(), 2);
}

#[test]
fn a_group_takes_all_that_is_in_it() {
    let (mut lab, _) = everything();
    let group = format!("{S}/resourcegroups/RG-NET");
    let answer = lab.send(Method::Delete, &group, None).unwrap();
    assert_eq!(
        (answer.status, answer.operation),
        (202, Some(OperationStyle::DeleteGroup))
    );
    assert!(lab.resources.is_empty());
    assert_eq!(lab.read_anew(), lab.resources);
}

#[test]
fn a_group_stays_while_another_needs_something_in_it() {
    let mut lab = Lab::with_route_server();
    lab.put(
        &format!("{S}/resourceGroups/other"),
        json!({ "location": "westeurope" }),
    );
    let other = NET.replace("rg-net", "other");
    lab.put(&format!("{other}/networkInterfaces/vm"), nic("hub", "workload", None));
    let error = lab
        .send(Method::Delete, &format!("{S}/resourceGroups/rg-net"), None)
        .unwrap_err();
    assert_eq!(error.code, "InUseSubnetCannotBeDeleted");
}

#[test]
fn groups_and_subscriptions_are_told() {
    let mut lab = Lab::new();
    let get = |lab: &mut Lab, path: &str| lab.send(Method::Get, path, None).unwrap().body.unwrap();
    let group = get(&mut lab, &format!("{S}/resourcegroups/RG-net"));
    let expected = json!({ "id": format!("{S}/resourceGroups/rg-net"), "name": "rg-net", "type": "Microsoft.Resources/resourceGroups",
        "location": "westeurope", "properties": { "provisioningState": "Succeeded" } });
    assert_eq!(group, expected);
    assert_eq!(
        get(&mut lab, &format!("{S}/resourcegroups"))["value"],
        json!([expected])
    );
    assert_eq!(
        get(&mut lab, "/subscriptions")["value"][0]["subscriptionId"],
        "00000000-0000-0000-0000-000000000001"
    );
    assert_eq!(get(&mut lab, S)["state"], "Enabled");
    assert_eq!(
        get(&mut lab, &format!("{S}/providers/microsoft.network"))["registrationState"],
        "Registered"
    );
    assert!(
        !get(&mut lab, &format!("{S}/locations"))["value"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        lab.send(Method::Head, &format!("{S}/resourcegroups/rg-net"), None)
            .unwrap()
            .status,
        204
    );
    let patched = lab
        .send(
            Method::Patch,
            &format!("{S}/resourcegroups/rg-net"),
            Some(json!({ "tags": { "a": "b" } })),
        )
        .unwrap();
    assert_eq!(patched.body.unwrap()["tags"]["a"], "b");
}

#[test]
fn tags_are_patched() {
    let mut lab = Lab::with_route_server();
    let path = format!("{NET}/virtualHubs/rs");
    let patch = |lab: &mut Lab, body: Value| lab.send(Method::Patch, &path, Some(body));
    let shown = patch(&mut lab, json!({ "tags": { "owner": "net" } }))
        .unwrap()
        .body
        .unwrap();
    assert_eq!(shown["tags"], json!({ "owner": "net" }));
    assert_eq!(shown["properties"]["sku"], "Standard");
    assert_eq!(
        patch(&mut lab, json!({ "properties": {} })).unwrap_err().code,
        "InvalidPatchContent"
    );
}

#[test]
fn the_generic_list_is_filtered() {
    let (mut lab, _) = everything();
    let mut request = request(Method::Get, &format!("{S}/resources"), None);
    request.query.push((
        "$filter".to_owned(),
        "resourceGroup eq 'RG-net' and resourceType eq 'Microsoft.Network/virtualHubs'".to_owned(),
    ));
    let outcome = lab.request(request).unwrap();
    let arm::Outcome::Done { answer, changes } = outcome else {
        panic!()
    };
    assert_eq!(changes, Vec::<Change>::new());
    let value = answer.body.unwrap()["value"].clone();
    assert_eq!(value.as_array().unwrap().len(), 1);
    assert_eq!(value[0]["name"], "rs");
}

/// JSON that is often close to what is wanted.
fn json_near_the_mark() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "westeurope",
            "10.0.0.0/16",
            "10.1.2.0/24",
            "10.1.1.9",
            "Standard",
            "Static",
            "Dynamic",
            "VirtualAppliance",
            "Internet",
            "VirtualApplianceEcmp",
            "0.0.0.0/0",
            "true",
            "65010",
            "name",
            "fd00::/64",
            "::/0",
            "10.1.0.0/16",
        ])
        .prop_map(Value::from),
        prop::sample::select(vec![
            "virtualNetworks/hub",
            "virtualNetworks/spoke",
            "virtualNetworks/hub/subnets/nva",
            "virtualNetworks/hub/subnets/RouteServerSubnet",
            "publicIPAddresses/rs-pip",
            "routeTables/rt",
            "networkSecurityGroups/nsg",
            "none",
            "virtualHubs/rs",
        ])
        .prop_map(|path| json!({ "id": format!("{NET}/{path}") })),
    ];
    let name = prop::sample::select(vec![
        "location",
        "tags",
        "sku",
        "name",
        "properties",
        "addressSpace",
        "addressPrefixes",
        "addressPrefix",
        "subnets",
        "subnet",
        "id",
        "peerIp",
        "peerAsn",
        "publicIPAddress",
        "ipConfigurations",
        "routes",
        "nextHopType",
        "nextHopIpAddress",
        "nextHop",
        "nextHopIpAddresses",
        "remoteVirtualNetwork",
        "useRemoteGateways",
        "privateIPAddress",
        "privateIPAllocationMethod",
        "routeTable",
        "primary",
        "zones",
        "virtualNetworkPeerings",
        "networkSecurityGroup",
        "securityRules",
        "provisioningState",
        "dnsSettings",
        "unknownMember",
        "nicType",
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

/// Puts arbitrary members over a body that is right.
fn overlay(mut good: Value, odd: Value) -> Value {
    match (&mut good, odd) {
        (Value::Object(good), Value::Object(odd)) => {
            for (name, value) in odd {
                let under = good.remove(&name).unwrap_or(Value::Null);
                good.insert(name, overlay(under, value));
            }
        }
        (good, odd) => *good = odd,
    }
    good
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_body_gives_an_error_or_a_resource_that_is_stable(which in 0_usize..15, odd in json_near_the_mark(), on_top in any::<bool>()) {
        let (mut lab, paths) = everything();
        let path = format!("{NET}/{}", paths[which]);
        let body = if on_top { overlay(lab.get_net(paths[which]), odd) } else { odd };
        if let Ok(answer) = lab.send(Method::Put, &path, Some(body)) {
            let shown = lab.get_net(paths[which]);
            prop_assert_eq!(answer.body.as_ref(), Some(&shown));
            prop_assert_eq!(lab.changes(Method::Put, &path, Some(shown)), vec![]);
            prop_assert_eq!(&lab.read_anew(), &lab.resources);
            let _ = arm::intent(&lab.resources, &lab.settings);
        }
    }

    #[test]
    fn any_path_is_answered(path in "(/subscriptions/00000000-0000-0000-0000-000000000001)?(/[a-zA-Zé.]{0,12}){0,7}", post in any::<bool>()) {
        let mut lab = Lab::new();
        let method = if post { Method::Post } else { Method::Get };
        let _ = lab.request(request(method, &path, None));
    }
}
