//! Deployments of templates: the route server's quickstart, the language, what is refused, and that a failure leaves nothing.
#![allow(clippy::unwrap_used)]

mod common;

use arm::{ArmError, Method, OperationStyle};
use common::*;
use serde_json::{Value, json};

const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-net";

fn path(name: &str) -> String {
    format!("{GROUP}/providers/Microsoft.Resources/deployments/{name}")
}

fn deployment(template: Value, parameters: Value) -> Value {
    json!({ "properties": { "mode": "Incremental", "template": template, "parameters": parameters } })
}

/// Like the quickstart of Azure's documentation: a network, a subnet as a child, an address, a hub, and what hangs on it.
fn quickstart() -> Value {
    json!({
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "vnetName": { "type": "string", "defaultValue": "hub" },
            "peerAsn": { "type": "string", "defaultValue": "65002" },
            "location": { "type": "string", "defaultValue": "[resourceGroup().location]" },
            "prefix": { "type": "string" },
        },
        "variables": {
            "hubName": "[concat('rs-', uniqueString(resourceGroup().id))]",
            "subnetId": "[resourceId('Microsoft.Network/virtualNetworks/subnets', parameters('vnetName'), 'RouteServerSubnet')]",
        },
        "resources": [
            {
                "type": "Microsoft.Network/virtualHubs/bgpConnections", "apiVersion": "2023-05-01",
                "name": "[format('{0}/{1}', variables('hubName'), 'nva')]",
                "properties": { "peerAsn": "[parameters('peerAsn')]", "peerIp": "10.1.1.4" },
                "dependsOn": [
                    "[resourceId('Microsoft.Network/virtualHubs', variables('hubName'))]",
                    "[resourceId('Microsoft.Network/virtualHubs/ipConfigurations', variables('hubName'), 'ipconfig1')]",
                ],
            },
            {
                "type": "Microsoft.Network/virtualHubs", "apiVersion": "2023-05-01", "name": "[variables('hubName')]",
                "location": "[parameters('location')]", "properties": { "sku": "Standard" },
                "resources": [{
                    "type": "ipConfigurations", "apiVersion": "2023-05-01", "name": "ipconfig1",
                    "properties": {
                        "subnet": { "id": "[variables('subnetId')]" },
                        "publicIPAddress": { "id": "[resourceId('Microsoft.Network/publicIPAddresses', 'pip')]" },
                    },
                    "dependsOn": ["[variables('subnetId')]", "pip"],
                }],
            },
            {
                "type": "Microsoft.Network/virtualNetworks", "apiVersion": "2023-05-01", "name": "[parameters('vnetName')]",
                "location": "[parameters('location')]",
                "properties": {
                    "addressSpace": { "addressPrefixes": ["[parameters('prefix')]"] },
                    "subnets": [
                        { "name": "RouteServerSubnet", "properties": { "addressPrefix": "[cidrSubnet(parameters('prefix'), 26, 0)]" } },
                    ],
                },
            },
            {
                "type": "Microsoft.Network/virtualNetworks/subnets", "apiVersion": "2023-05-01",
                "name": "[concat(parameters('vnetName'), '/RouteServerSubnet')]",
                "properties": { "addressPrefix": "[cidrSubnet(parameters('prefix'), 26, 0)]" },
            },
            {
                "type": "Microsoft.Network/publicIPAddresses", "apiVersion": "2023-05-01", "name": "pip",
                "location": "[parameters('location')]", "sku": { "name": "Standard" },
                "properties": { "publicIPAllocationMethod": "Static" },
            },
        ],
        "outputs": {
            "hub": { "type": "string", "value": "[resourceId('Microsoft.Network/virtualHubs', variables('hubName'))]" },
            "ips": { "type": "array", "value": "[reference(resourceId('Microsoft.Network/virtualHubs', variables('hubName'))).virtualRouterIps]" },
        },
    })
}

#[test]
fn the_quickstart_template_makes_a_route_server_in_one_step() {
    let mut lab = Lab::new();
    let body = deployment(quickstart(), json!({ "prefix": { "value": "10.1.0.0/16" } }));
    let validated = lab
        .send(Method::Post, &format!("{}/validate", path("d")), Some(body.clone()))
        .unwrap();
    assert_eq!(validated.status, 200);
    assert_eq!(lab.resources.len(), 1, "validation makes nothing");
    let answer = lab.send(Method::Put, &path("d"), Some(body)).unwrap();
    assert_eq!(
        (answer.status, answer.operation),
        (201, Some(OperationStyle::Deployment))
    );
    let shown = lab.send(Method::Get, &path("D"), None).unwrap().body.unwrap();
    let properties = &shown["properties"];
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(properties["outputs"]["ips"]["value"], json!(["10.1.0.4", "10.1.0.5"]));
    assert_eq!(
        properties["parameters"]["vnetName"],
        json!({ "type": "String", "value": "hub" })
    );
    assert_eq!(properties["outputResources"].as_array().unwrap().len(), 6);
    let hub = properties["outputs"]["hub"]["value"].as_str().unwrap().to_owned();
    let hub = lab.send(Method::Get, &hub, None).unwrap().body.unwrap();
    assert_eq!(hub["properties"]["routingState"], "Provisioned");
    let peer = format!("{}/bgpConnections/nva", hub["id"].as_str().unwrap());
    let peer = lab.send(Method::Get, &peer, None).unwrap().body.unwrap();
    assert_eq!(peer["properties"]["peerAsn"], 65002);
    for path in [
        format!("{}/operations", path("d")),
        format!("{GROUP}/deployments/d/operations"),
    ] {
        let operations = lab.send(Method::Get, &path, None).unwrap().body.unwrap();
        assert_eq!(operations["value"].as_array().unwrap().len(), 6);
    }
    let status = lab
        .send(Method::Get, &format!("{}/operationStatuses/x", path("d")), None)
        .unwrap();
    assert_eq!(status.body.unwrap()["status"], "Succeeded");
    // Once more changes the record only.
    let body = deployment(quickstart(), json!({ "prefix": { "value": "10.1.0.0/16" } }));
    let changes = lab.changes(Method::Put, &path("d"), Some(body));
    assert_eq!(changes.len(), 1, "{changes:?}");
    lab.send(Method::Delete, &path("d"), None).unwrap();
    assert_eq!(
        lab.send(Method::Get, &path("d"), None).unwrap_err().code,
        "DeploymentNotFound"
    );
}

#[test]
fn a_template_that_wants_no_parameters_is_deployed_without_any() {
    let mut lab = Lab::new();
    let template = json!({ "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0", "resources": [] });
    let body = json!({ "properties": { "mode": "Incremental", "template": template } });
    let answer = lab.send(Method::Put, &path("d"), Some(body)).unwrap();
    assert_eq!(answer.status, 201);
}

#[test]
fn a_deployment_that_fails_leaves_nothing() {
    let mut lab = Lab::new();
    let before = lab.resources.clone();
    let body = deployment(
        quickstart(),
        json!({ "prefix": { "value": "10.1.0.0/16" }, "peerAsn": { "value": "65515" } }),
    );
    let error = lab.send(Method::Put, &path("d"), Some(body.clone())).unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (400, "DeploymentFailed"));
    assert_eq!(error.details[0].code, "InvalidPeerAsn");
    assert!(
        error.details[0]
            .target
            .as_deref()
            .unwrap()
            .ends_with("/bgpConnections/nva")
    );
    assert_eq!(lab.resources, before);
    let error = lab
        .send(Method::Post, &format!("{}/validate", path("d")), Some(body))
        .unwrap_err();
    assert_eq!(error.code, "InvalidTemplateDeployment");
}

/// What an output comes to.
fn output(value: Value, extra: &[(&str, Value)]) -> Result<Value, ArmError> {
    let mut lab = Lab::new();
    let mut template = json!({ "resources": [], "outputs": { "o": { "type": "object", "value": value } } });
    for (name, section) in extra {
        template[*name] = section.clone();
    }
    let answer = lab.send(Method::Put, &path("d"), Some(deployment(template, json!({}))))?;
    Ok(answer.body.unwrap()["properties"]["outputs"]["o"]["value"].clone())
}

#[test]
fn functions_come_to() {
    let check = |expression: &str, expected: Value| {
        let value =
            output(json!(format!("[{expression}]")), &[]).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(value, expected, "{expression}");
    };
    check("concat('a', 1, 'b')", json!("a1b"));
    check("concat(createArray(1), createArray(2))", json!([1, 2]));
    check("format('{0}-{1:D2}-{{}}', 'x', 7)", json!("x-07-{}"));
    check("if(equals(toLower('A'), 'a'), int('7'), parameters('none'))", json!(7));
    check("and(true(), not(false()), or(false(), true()))", json!(true));
    check("or(true(), variables('none'))", json!(true));
    check("add(mul(3, 4), sub(mod(7, 4), div(9, 2)))", json!(11));
    check("max(createArray(1, 3, 2))", json!(3));
    check("length(split('a,b;c', createArray(',', ';')))", json!(3));
    check("join(take(range(1, 5), 2), '+')", json!("1+2"));
    check("substring('abcdef', 2, 3)", json!("cde"));
    check("padLeft('7', 3, '0')", json!("007"));
    check("replace(trim(' a-b '), '-', '')", json!("ab"));
    check("contains(createObject('Key', 1), 'key')", json!(true));
    check("createObject('a', createArray(1, 2)).a[1]", json!(2));
    check(
        "union(createObject('a', 1), createObject('b', 2))",
        json!({ "a": 1, "b": 2 }),
    );
    check("items(createObject('b', 2, 'a', 1))[0].key", json!("a"));
    check("coalesce(null(), 'x')", json!("x"));
    check("empty('')", json!(true));
    check("string(createArray(1, 'a'))", json!("[1,\"a\"]"));
    check("json('{\"a\": [1]}').a", json!([1]));
    check("cidrHost('10.0.0.0/24', 3)", json!("10.0.0.4"));
    check("cidrSubnet('10.0.0.0/16', 24, 5)", json!("10.0.5.0/24"));
    check("parseCidr('10.144.0.0/20').lastUsable", json!("10.144.15.254"));
    check("length(uniqueString(subscription().id))", json!(13));
    check("guid('a', 'b')", json!("2d796349-8c7e-55ec-9624-54ece82ed031"));
    check("resourceGroup().name", json!("rg-net"));
    check("deployment().name", json!("d"));
    check(
        "resourceId('other', 'Microsoft.Network/virtualHubs/bgpConnections', 'h', 'c')",
        json!(format!(
            "{S}/resourceGroups/other/providers/Microsoft.Network/virtualHubs/h/bgpConnections/c"
        )),
    );
}

#[test]
fn variables_are_made_from_variables_and_loops() {
    let variables = json!({
        "base": "10.0.0.0/16",
        "list": "[variables('nets')]",
        "copy": [{ "name": "nets", "count": 2, "input": "[cidrSubnet('10.0.0.0/16', 24, copyIndex('nets'))]" }],
    });
    let value = output(json!("[last(variables('list'))]"), &[("variables", variables)]).unwrap();
    assert_eq!(value, "10.0.1.0/24");
}

#[test]
fn loops_conditions_and_symbolic_names_make_resources() {
    let mut lab = Lab::new();
    let template = json!({
        "languageVersion": "2.0",
        "resources": {
            "addresses": {
                "type": "Microsoft.Network/publicIPAddresses", "apiVersion": "2024-05-01", "name": "[format('pip{0}', copyIndex())]",
                "copy": { "name": "addresses", "count": 3 }, "location": "westeurope",
                "tags": { "first": "[reference('table').provisioningState]" },
            },
            "none": {
                "type": "Microsoft.Network/publicIPAddresses", "name": "no", "location": "westeurope", "condition": "[equals(1, 2)]",
            },
            "table": {
                "type": "Microsoft.Network/routeTables", "name": "rt", "location": "westeurope", "dependsOn": ["none"],
            },
            "old": { "existing": true, "type": "Microsoft.Network/routeTables", "name": "rt-old" },
        },
        "outputs": { "old": { "type": "string", "value": "[reference('old', '2024-05-01', 'full').location]" } },
    });
    lab.put_net("routeTables/rt-old", json!({ "location": "westeurope" }));
    let answer = lab
        .send(Method::Put, &path("d"), Some(deployment(template, json!({}))))
        .unwrap();
    assert_eq!(
        answer.body.unwrap()["properties"]["outputs"]["old"]["value"],
        "westeurope"
    );
    let address = lab.get_net("publicIPAddresses/pip2");
    assert_eq!(address["tags"]["first"], "Succeeded");
    assert!(lab.resources.get(&format!("{NET}/publicIPAddresses/no")).is_none());
}

#[test]
fn secrets_are_not_shown() {
    let mut lab = Lab::new();
    let template = json!({
        "parameters": { "key": { "type": "securestring" } }, "resources": [],
        "outputs": { "key": { "type": "securestring", "value": "[parameters('key')]" } },
    });
    let body = deployment(template, json!({ "key": { "value": "s3cret" } }));
    let shown = lab.put(&path("d"), body).to_string();
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn templates_are_refused_for() {
    let hub = |extra: Value| {
        let mut hub = json!({ "type": "Microsoft.Network/virtualHubs", "name": "h", "location": "westeurope" });
        hub.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "resources": [hub] })
    };
    let typed =
        |kind: &str, name: &str| json!({ "resources": [{ "type": kind, "name": name, "location": "westeurope" }] });
    let cycle = json!({ "resources": [
        { "type": "Microsoft.Network/routeTables", "name": "a", "location": "w", "dependsOn": ["b"] },
        { "type": "Microsoft.Network/routeTables", "name": "b", "location": "w", "dependsOn": ["a"] },
    ] });
    let mut doubling = serde_json::Map::from_iter([("v0".to_owned(), json!("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"))]);
    for at in 1..40 {
        let before = at - 1;
        doubling.insert(
            format!("v{at}"),
            json!(format!("[concat(variables('v{before}'), variables('v{before}'))]")),
        );
    }
    let cases = [
        (json!({}), "no 'resources'"),
        (
            json!({ "resources": [], "functions": [{ "namespace": "n" }] }),
            "'functions'",
        ),
        (
            json!({ "resources": [], "$schema": "https://x/subscriptionDeploymentTemplate.json#" }),
            "resource group",
        ),
        (
            typed("Microsoft.Compute/virtualMachines", "vm"),
            "Microsoft.Compute/virtualMachines",
        ),
        (typed("Microsoft.Resources/deployments", "inner"), "nested deployment"),
        (typed("Microsoft.Network/virtualHubs", "a/b"), "name segments"),
        (typed("Microsoft.Network/virtualHubs", "[nope('a')]"), "'nope'"),
        (typed("Microsoft.Network/virtualHubs", "[concat('a'"), "valid"),
        (hub(json!({ "name": "[parameters('p')]" })), "'p'"),
        (hub(json!({ "name": "[variables('v')]" })), "'v'"),
        (hub(json!({ "name": "[reference('x').y]" })), "'reference'"),
        (hub(json!({ "dependsOn": ["other"] })), "not defined in the template"),
        (hub(json!({ "scope": "x" })), "'scope'"),
        (hub(json!({ "copy": { "name": "c", "count": 801 } })), "800"),
        (hub(json!({ "copy": { "name": "c", "count": 2 } })), "multiple times"),
        (hub(json!({ "condition": "yes" })), "condition"),
        (cycle, "Circular dependency"),
        (
            json!({ "resources": [], "parameters": { "p": { "type": "string" } } }),
            "not provided",
        ),
        (
            json!({ "resources": [], "parameters": { "p": { "type": "int", "defaultValue": "x" } } }),
            "expected int",
        ),
        (
            json!({ "resources": [], "parameters": { "p": { "type": "string", "defaultValue": "x", "allowedValues": ["y"] } } }),
            "not one of",
        ),
        (
            json!({ "resources": [], "parameters": { "p": { "type": "int", "defaultValue": 9, "maxValue": 8 } } }),
            "maxValue",
        ),
        (
            json!({ "resources": [], "variables": { "a": "[variables('b')]", "b": "[variables('a')]" },
                "outputs": { "o": { "type": "string", "value": "[variables('a')]" } } }),
            "defined by itself",
        ),
        (
            json!({ "resources": [], "variables": doubling, "outputs": { "o": { "type": "string", "value": "[variables('v39')]" } } }),
            "than",
        ),
    ];
    for (template, words) in cases {
        let mut lab = Lab::new();
        let sent = lab.send(Method::Put, &path("d"), Some(deployment(template.clone(), json!({}))));
        let error = sent.expect_err(&template.to_string());
        let told = error.body().to_string();
        assert!(told.contains(words), "{template}: {told}");
        assert!(error.status < 500);
    }
}

#[test]
fn requests_are_refused_for() {
    let mut lab = Lab::new();
    let mut refused = |body: Value, words: &str| {
        let error = lab.send(Method::Put, &path("d"), Some(body)).unwrap_err();
        assert!(error.message.contains(words), "{error}");
    };
    let template = json!({ "resources": [] });
    refused(json!([]), "object");
    refused(json!({}), "properties");
    refused(json!({ "properties": { "mode": "Incremental" } }), "template");
    refused(
        json!({ "properties": { "mode": "Complete", "template": template } }),
        "Complete",
    );
    refused(json!({ "properties": { "mode": "x", "template": template } }), "mode");
    refused(
        json!({ "properties": { "templateLink": { "uri": "https://x" } } }),
        "templateLink",
    );
    refused(deployment(template.clone(), json!({ "q": { "value": 1 } })), "'q'");
    refused(deployment(template.clone(), json!([])), "object");
    let name = "d".repeat(65);
    let error = lab
        .send(Method::Put, &path(&name), Some(deployment(template, json!({}))))
        .unwrap_err();
    assert_eq!(error.code, "InvalidDeploymentName");
    let error = lab
        .send(Method::Post, &format!("{}/whatIf", path("d")), None)
        .unwrap_err();
    assert_eq!(error.code, "InvalidAction");
}
