//! Every noun of the command line against a real server: made, listed, shown, changed, deleted, with `az`'s flags.
#![allow(clippy::unwrap_used)]

#[path = "common/server.rs"]
mod server;

use serde_json::Value;

use server::Server;

#[test]
fn a_token_is_made_for_all_nics_that_it_is_asked_for_or_for_none() {
    let server = Server::with_network();
    let nics = ["vm1", "vm2"].map(|name| {
        let made = server.does(&format!("nic create -g g -n {name} --vnet-name hub --subnet web"));
        made["id"].as_str().unwrap().to_owned()
    });
    let [first, second] = &nics;
    let (code, told) = server.refuses(&format!("agent-token create --nic {first} {second}x"));
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("vm2x"), "{told}");
    for several in [format!("{first} {second}"), first.clone()] {
        let token = server.prints(&format!("agent-token create --nic {several}"));
        assert!(token.starts_with("rwa_"), "{token}");
        server.prints(&format!("agent-token revoke --nic {several}"));
    }
}

#[test]
fn the_common_verbs_are_the_same_for_every_noun() {
    let server = Server::with_network();
    server.does("vnet create -g g -n spoke --address-prefixes 10.78.0.0/16");
    server.does("routeserver create -g g -n rs --vnet-name hub --public-ip-address ip");
    for ip in ["gateway-ip", "er-ip"] {
        server.does(&format!("public-ip create -g g -n {ip}"));
    }
    server.does("vnet-gateway create -g g -n gw --vnet hub --public-ip-addresses gateway-ip --asn 65010");
    server.does("vnet-gateway create -g g -n er --vnet hub --public-ip-addresses er-ip --gateway-type ExpressRoute");
    server.does("express-route create -g g -n circuit --provider Contoso --peering-location Here --bandwidth 50");
    server.does(
        "local-gateway create -g g -n site --gateway-ip-address 198.51.100.7 --local-address-prefixes 192.168.0.0/16",
    );
    let made = [
        (
            "vpn-connection",
            "-g g",
            "tunnel",
            "--vnet-gateway1 gw --local-gateway2 site --shared-key s3cret",
        ),
        (
            "express-route peering",
            "-g g --circuit-name circuit",
            "AzurePrivatePeering",
            "--peer-asn 65020 --vlan-id 7 --primary-peer-subnet 172.16.0.0/30 --secondary-peer-subnet 172.16.0.4/30",
        ),
        (
            "vpn-connection",
            "-g g",
            "circuit-link",
            "--vnet-gateway1 er --express-route-circuit2 circuit",
        ),
        ("nsg", "-g g", "nsg", ""),
        ("route-table", "-g g", "rt", "--disable-bgp-route-propagation"),
        (
            "route-table route",
            "-g g --route-table-name rt",
            "r",
            "--address-prefix 0.0.0.0/0 --next-hop-type None",
        ),
        (
            "nic",
            "-g g",
            "vm",
            "--vnet-name hub --subnet web --network-security-group nsg",
        ),
        (
            "vnet peering",
            "-g g --vnet-name hub",
            "to-spoke",
            "--remote-vnet spoke --allow-vnet-access",
        ),
        (
            "routeserver peering",
            "-g g --routeserver rs",
            "nva",
            "--peer-ip 10.77.1.9 --peer-asn 65001",
        ),
    ];
    for (noun, place, name, flags) in made {
        server.does(&format!("{noun} create {place} -n {name} {flags}"));
        let shown = server.does(&format!("{noun} show {place} -n {name}"));
        assert_eq!(shown["name"], name, "{noun}");
        let listed = server.does(&format!("{noun} list {place}"));
        assert_eq!(listed[0]["name"], name, "{noun}");
        server.does(&format!("{noun} wait {place} -n {name} --created"));
        // By id, without group and parent.
        let id = shown["id"].as_str().unwrap();
        assert_eq!(server.does(&format!("{noun} show -n {id}")), shown, "{noun}");
        let table = server.prints(&format!("{noun} list {place}"));
        assert!(table.contains(name) && table.contains("----"), "{noun}: {table}");
        let yaml = server.prints(&format!("{noun} show {place} -n {name} -o yaml"));
        assert!(yaml.contains(&format!("name: {name}\n")), "{noun}: {yaml}");
    }
    let (code, told) = server.refuses("nsg delete -g g -n nsg");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("InUseNetworkSecurityGroupCannotBeDeleted"), "{told}");
    // Routes stay listed for their table until it goes, whichever way the loop turns.
    for (noun, place, name, _) in made.iter().rev() {
        server.does(&format!("{noun} delete {place} -n {name} --yes"));
        let (code, told) = server.refuses(&format!("{noun} show {place} -n {name}"));
        assert_eq!(code, 3, "{noun}: {told}");
        server.does(&format!("{noun} wait {place} -n {name} --deleted"));
    }
    server.does("vnet-gateway delete -g g -n er --yes");
    let ends = [
        ("local-gateway", "site"),
        ("vnet-gateway", "gw"),
        ("express-route", "circuit"),
        ("routeserver", "rs"),
    ];
    for (noun, name) in ends {
        server.does(&format!("{noun} delete -g g -n {name} --yes"));
        assert_eq!(
            server.does(&format!("{noun} list -g g")),
            Value::Array(Vec::new()),
            "{noun}"
        );
    }
}

#[test]
fn updates_change_what_they_name_and_nothing_else() {
    let server = Server::with_network();
    server.does("nsg create -g g -n nsg --tags owner=net");
    let subnet = server.does("vnet subnet update -g g --vnet-name hub -n web --network-security-group nsg");
    assert!(subnet["networkSecurityGroup"]["id"].as_str().unwrap().ends_with("/nsg"));
    let subnet = server.does("vnet subnet update -g g --vnet-name hub -n web --network-security-group ''");
    assert_eq!(subnet["networkSecurityGroup"], Value::Null);
    assert_eq!(subnet["addressPrefix"], "10.77.1.0/24");
    server
        .does("nic create -g g -n vm --vnet-name hub --subnet web --network-security-group nsg --public-ip-address ip");
    let nic = server.does("nic update -g g -n vm --ip-forwarding --network-security-group ''");
    assert_eq!(nic["enableIPForwarding"], true);
    assert_eq!(nic["networkSecurityGroup"], Value::Null);
    assert!(nic["ipConfigurations"][0]["publicIPAddress"]["id"].is_string());
    server.does("public-ip create -g g -n gateway-ip");
    server.does("vnet-gateway create -g g -n gw --vnet hub --public-ip-addresses gateway-ip");
    let gateway = server.does("vnet-gateway update -g g -n gw --enable-bgp --asn 65020 --sku VpnGw2AZ");
    assert_eq!(gateway["bgpSettings"]["asn"], 65020);
    assert_eq!(gateway["sku"]["name"], "VpnGw2AZ");
    for question in [
        "list-bgp-peer-status",
        "list-learned-routes",
        "list-advertised-routes --peer 10.77.0.4",
    ] {
        let answer = server.does(&format!("vnet-gateway {question} -g g -n gw"));
        assert!(answer.is_array(), "{question}: {answer}");
    }
}

#[test]
fn a_template_is_validated_deployed_and_told() {
    let server = Server::start();
    server.does("group create -n g -l westeurope");
    let template = server.place.path().join("first.json");
    let text = r#"{
        // Comments are fine.
        "parameters": { "name": { "type": "string" }, "off": { "type": "bool", "defaultValue": false } },
        "resources": [{ "type": "Microsoft.Network/routeTables", "name": "[parameters('name')]", "location": "westeurope",
                        "properties": { "disableBgpRoutePropagation": "[parameters('off')]" } }]
    }"#;
    std::fs::write(&template, text).unwrap();
    let file = template.display();
    server.does(&format!("deployment group validate -g g -f {file} -p name=rt"));
    assert_eq!(server.does("route-table list -g g"), Value::Array(Vec::new()));
    let done = server.does(&format!("deployment group create -g g -f {file} -p name=rt off=true"));
    assert_eq!(
        (&done["name"], &done["provisioningState"]),
        (&"first".into(), &"Succeeded".into())
    );
    assert_eq!(
        server.does("route-table show -g g -n rt")["disableBgpRoutePropagation"],
        true
    );
    assert_eq!(server.does("deployment group list -g g")[0]["name"], "first");
    let operations = server.does("deployment operation group list -g g -n first");
    assert_eq!(operations[0]["targetResource"]["resourceName"], "rt");
    let (code, told) = server.refuses(&format!("deployment group create -g g -f {file}"));
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("name"), "{told}");
}

#[test]
fn roles_are_given_listed_and_taken_away() {
    let server = Server::start();
    server.does("group create -n g -l westeurope");
    server.does("sp create -n robot");
    let group = server.does("group show -n g")["id"].as_str().unwrap().to_owned();
    server.does(&format!(
        "role assignment create --assignee robot --role Reader --scope {group}"
    ));
    let listed = server.does(&format!("role assignment list --assignee robot --scope {group}"));
    assert_eq!(listed[0]["roleDefinitionName"], "Reader");
    let id = listed[0]["id"].as_str().unwrap();
    server.does(&format!("role assignment delete --ids {id}"));
    let listed = server.does(&format!("role assignment list --assignee robot --scope {group}"));
    assert_eq!(listed, Value::Array(Vec::new()));

    let file = server.place.path().join("role.json");
    let role = format!(
        r#"{{ "Name": "Peer admin", "Description": "Peers only.", "Actions": ["Microsoft.Network/virtualHubs/bgpConnections/*"],
             "NotActions": [], "AssignableScopes": ["{group}"] }}"#
    );
    std::fs::write(&file, role).unwrap();
    server.does(&format!("role definition create --role-definition {}", file.display()));
    assert_eq!(
        server.does("role definition list -n 'peer admin'")[0]["roleName"],
        "Peer admin"
    );
    server.does("role definition delete -n 'Peer admin'");
    assert_eq!(
        server.does("role definition list -n 'peer admin'"),
        Value::Array(Vec::new())
    );
}

#[test]
fn the_activity_log_and_metrics_tell_what_was_done_and_how_things_are() {
    let server = Server::with_network();
    server.does("routeserver create -g g -n rs --vnet-name hub --public-ip-address ip");
    server.refuses("public-ip delete -g g -n ip");
    let events = server.does("monitor activity-log list -g g --offset 1h --max-events 500");
    let told = |status: &str, operation: &str| {
        let mut events = events.as_array().unwrap().iter();
        events.any(|it| it["status"]["value"] == status && it["operationName"]["value"] == operation)
    };
    assert!(told("Succeeded", "Microsoft.Network/virtualHubs/write"), "{events}");
    assert!(told("Failed", "Microsoft.Network/publicIPAddresses/delete"), "{events}");
    let id = server.does("routeserver show -g g -n rs")["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let table = server.prints(&format!(
        "monitor metrics list --resource {id} --metric RoutingInfrastructureUnits"
    ));
    assert!(table.contains("RoutingInfrastructureUnits"), "{table}");
    let definitions = server.does(&format!("monitor metrics list-definitions --resource {id}"));
    assert_eq!(definitions.as_array().unwrap().len(), 5);
}

const RULE: &str = r#"--match-criteria "[{matchCondition: Contains, routePrefix: [10.0.0.0/8]}]" --actions "[{type: Add, parameters: [{asPath: [\"64600\"]}]}]" --next-step Terminate"#;

/// A route server with a peering, as most tests of route maps need it.
fn with_peering() -> Server {
    let server = Server::with_network();
    server.does("routeserver create -g g -n rs --vnet-name hub --public-ip-address ip");
    server.does("routeserver peering create -g g --routeserver rs -n nva --peer-ip 10.77.1.9 --peer-asn 65001");
    server
}

#[test]
fn route_maps_are_made_of_rules_attached_and_taken_away_again() {
    let server = with_peering();
    let of = "-g g --routeserver rs";
    server.does(&format!("routeserver route-map create {of} -n in1"));
    let rule = format!("routeserver route-map rule add {of} --route-map-name in1");
    server.does(&format!("{rule} -n longer {RULE}"));
    server.does(&format!(
        "{rule} -n first --rule-index 0 --actions \"[{{type: Drop}}]\""
    ));
    let rules = "-g g --vhub-name rs --route-map-name in1";
    let listed = server.does(&format!("routeserver route-map rule list {rules}"));
    assert_eq!(
        (&listed[0]["name"], &listed[1]["name"]),
        (&"first".into(), &"longer".into())
    );
    assert_eq!(listed[1]["actions"][0]["parameters"][0]["asPath"][0], "64600");
    let shown = server.does(&format!("routeserver route-map rule show {rules} -n longer"));
    assert_eq!(shown["nextStepIfMatched"], "Terminate");
    server.does(&format!("routeserver route-map rule delete {rules} -n first --yes"));
    let (_, told) = server.refuses(&format!("routeserver route-map rule delete {rules} -n first --yes"));
    assert!(told.contains("no rule 'first'"), "{told}");
    let set = r#"set 'rules={"longer": {"set": {"importPreference": 200}}}'"#;
    server.does(&format!("routeserver route-map settings {of} -n in1 {set}"));

    let peering = format!("{of} -n nva");
    let routing = |answer: &Value| answer["routingConfiguration"].clone();
    let attached = server.does(&format!(
        "routeserver peering update {peering} --inbound-route-map in1 --outbound-route-map in1"
    ));
    for direction in ["inboundRouteMap", "outboundRouteMap"] {
        let id = routing(&attached)[direction]["id"].as_str().unwrap().to_owned();
        assert!(id.ends_with("/virtualHubs/rs/routeMaps/in1"), "{id}");
    }
    let (code, told) = server.refuses(&format!("routeserver route-map delete {of} -n in1 --yes"));
    assert!(code == 1 && told.contains("InUseRouteMapCannotBeDeleted"), "{told}");
    for verb in ["list-inbound-routes", "list-outbound-routes"] {
        server.does(&format!("routeserver peering {verb} {peering}"));
    }
    // What is not said stays.
    let detached = server.does(&format!("routeserver peering update {peering} --inbound-route-map ''"));
    assert_eq!(routing(&detached)["inboundRouteMap"], Value::Null);
    assert!(routing(&detached)["outboundRouteMap"].is_object());
    server.does(&format!("routeserver peering update {peering} --outbound-route-map ''"));
    server.does(&format!(
        "routeserver route-map update {of} -n in1 --rules \"[{{name: only}}]\""
    ));
    server.does(&format!("routeserver route-map delete {of} -n in1 --yes"));
}

#[test]
fn a_dry_run_of_the_command_line_changes_nothing_and_is_refused_what_a_write_would_be() {
    let server = with_peering();
    let of = "-g g --routeserver rs";
    let before = server.does("routeserver show -g g -n rs");
    server.until(
        "routeserver update -g g -n rs --allow-b2b-traffic true --dry-run",
        |output| output.status.success(),
    );
    assert_eq!(server.does("routeserver show -g g -n rs"), before);
    server.does(&format!(
        "routeserver peering update {of} -n nva --peer-asn 65009 --dry-run"
    ));
    let shown = server.does(&format!("routeserver peering show {of} -n nva"));
    assert_eq!(shown["peerAsn"], 65001);
    let (_, told) = server.refuses(&format!(
        "routeserver peering update {of} -n nva --peer-asn 65515 --dry-run"
    ));
    assert!(told.contains("InvalidPeerAsn"), "{told}");
    server.does(&format!(
        "routeserver route-map create {of} -n in1 --dry-run {}",
        "--rules \"[{name: r}]\""
    ));
    let (code, _) = server.refuses(&format!("routeserver route-map show {of} -n in1"));
    assert_eq!(code, 3);
}
