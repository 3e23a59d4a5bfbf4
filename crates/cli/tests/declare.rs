//! `apply` and `export` against real servers: a design as a file, there and back.
#![allow(clippy::unwrap_used)]

#[path = "common/server.rs"]
mod server;

use std::path::Path;

use server::{Server, command};
use tempfile::TempDir;

/// A route server with a peer, both with settings of ours.
fn designed() -> Server {
    let server = Server::with_network();
    server.does("routeserver create -g g -n rs --hosted-subnet /subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/hub/subnets/RouteServerSubnet --public-ip-address ip");
    server.does("routeserver peering create -g g --routeserver rs -n nva --peer-ip 10.77.1.4 --peer-asn 65001");
    server.does("routeserver settings -g g -n rs set convergeSecs=30");
    server.does(
        "routeserver peering settings -g g --routeserver rs -n nva set holdTimeSecs=30 dial=false md5Password=hunter2",
    );
    server
}

#[test]
fn what_is_exported_and_applied_to_a_fresh_server_is_exported_the_same_with_its_settings() {
    let server = designed();
    let exported = server.run("export -g g");
    let file = String::from_utf8(exported.stdout).unwrap();
    for part in ["convergeSecs: 30", "holdTimeSecs: 30", "dial: false"] {
        assert!(file.contains(part), "{part} in {file}");
    }
    let told = String::from_utf8(exported.stderr).unwrap();
    assert!(told.contains("md5Password"), "{told}");
    assert!(!file.contains("hunter2") && !file.contains("md5PasswordSet"), "{file}");

    let fresh = Server::start();
    let path = fresh.place.path().join("design.yaml");
    std::fs::write(&path, &file).unwrap();
    fresh.prints(&format!("apply -f {}", path.display()));
    assert_eq!(fresh.prints("export -g g"), file);
    let again = fresh.prints(&format!("apply -f {}", path.display()));
    assert!(again.lines().all(|line| line.starts_with('=')), "{again}");
    // Where it came from nothing differs either, and the password is still there.
    let path = path.display();
    let same = server.prints(&format!("apply -f {path} --prune --yes"));
    assert!(same.lines().all(|line| line.starts_with('=')), "{same}");
    let settings = server.does("routeserver peering settings -g g --routeserver rs -n nva show");
    assert_eq!(settings["md5PasswordSet"], true);
}

#[test]
fn settings_in_a_file_are_compared_changed_and_never_told_when_secret() {
    let server = designed();
    let file = server.prints("export -g g");
    let changed = file.replace("holdTimeSecs: 30", "holdTimeSecs: 9\n    md5Password: geheim");
    let path = server.place.path().join("changed.yaml");
    std::fs::write(&path, &changed).unwrap();
    for dry_run in [" --dry-run", ""] {
        let told = server.prints(&format!("apply -f {}{dry_run}", path.display()));
        assert!(told.contains("settings.holdTimeSecs: 30 -> 9"), "{told}");
        assert!(!told.contains("geheim"), "{told}");
        let settings = server.does("routeserver peering settings -g g --routeserver rs -n nva show");
        let expected = if dry_run.is_empty() { 9 } else { 30 };
        assert_eq!(settings["holdTimeSecs"], expected);
    }
}

#[test]
fn a_dry_run_with_prune_works_before_the_group_is_there() {
    let server = Server::start();
    let path = server.place.path().join("design.yaml");
    let group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/new";
    std::fs::write(
        &path,
        format!("- id: {group}\n  location: westeurope\n- id: {group}/providers/Microsoft.Network/routeTables/t\n  location: westeurope\n"),
    )
    .unwrap();
    let told = server.prints(&format!("apply -f {} --prune --dry-run", path.display()));
    assert_eq!(told.lines().filter(|line| line.starts_with('+')).count(), 2, "{told}");
    assert_eq!(server.refuses("group show -n new").0, 3, "nothing was made");
}

#[test]
fn a_dry_run_is_refused_what_the_server_would_refuse_and_changes_nothing() {
    let server = designed();
    let file = server.prints("export -g g");
    let path = server.place.path().join("design.yaml");
    for (from, to, code) in [
        ("peerAsn: 65001", "peerAsn: 23456", "InvalidPeerAsn"),
        ("peerIp: \"10.77.1.4\"", "peerIp: \"192.0.2.1\"", "InvalidPeerIp"),
    ] {
        assert!(file.contains(from), "{from} in {file}");
        std::fs::write(&path, file.replace(from, to)).unwrap();
        let (exit, told) = server.refuses(&format!("apply -f {} --dry-run", path.display()));
        assert!(exit == 1 && told.contains(code), "{to}: {exit} {told}");
    }
    // What the server takes is told as what would change.
    std::fs::write(&path, file.replace("peerAsn: 65001", "peerAsn: 65009")).unwrap();
    let told = server.prints(&format!("apply -f {} --dry-run", path.display()));
    assert!(told.contains("properties.peerAsn: 65001 -> 65009"), "{told}");
    assert_eq!(server.prints("export -g g"), file);
}

#[test]
fn a_dry_run_over_groups_asks_about_what_needs_no_other_group_and_says_what_it_left_out() {
    let server = Server::start();
    let network = |group: &str| {
        format!(
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/v"
        )
    };
    let mut file = String::new();
    for (group, space) in [("a", "10.8.0.0/16"), ("b", "10.9.0.0/16")] {
        server.does(&format!("group create -n {group} -l westeurope"));
        file += &format!(
            "- id: {}\n  location: westeurope\n  properties: {{addressSpace: {{addressPrefixes: [\"{space}\"]}}}}\n",
            network(group)
        );
    }
    file += &format!(
        "- id: {}/virtualNetworkPeerings/to-a\n  properties: {{remoteVirtualNetwork: {{id: {}}}}}\n",
        network("b"),
        network("a")
    );
    let path = server.place.path().join("design.yaml");
    std::fs::write(&path, file.replace("10.9.0.0/16", "10.9.0.1/16")).unwrap();
    let (exit, told) = server.refuses(&format!("apply -f {} --dry-run", path.display()));
    assert!(exit == 1 && told.contains("10.9.0.1/16"), "{exit} {told}");
    std::fs::write(&path, file).unwrap();
    let output = server.run(&format!("apply -f {} --dry-run", path.display()));
    let warned = server::told(&output);
    assert!(output.status.success(), "{warned}");
    assert!(
        warned.contains("1 of the resources in") && warned.contains("/b: "),
        "{warned}"
    );
    let told = server.prints(&format!("apply -f {}", path.display()));
    assert_eq!(told.as_bytes(), output.stdout);
}

#[test]
fn either_side_of_a_peering_that_was_deleted_is_restored() {
    let server = Server::with_network();
    server.does("vnet create -g g -n spoke --address-prefixes 10.78.0.0/16");
    let sides = [("hub", "spoke"), ("spoke", "hub")];
    for (network, remote) in sides {
        server.does(&format!(
            "vnet peering create -g g --vnet-name {network} -n to-{remote} --remote-vnet {remote} --allow-vnet-access"
        ));
    }
    let file = server.prints("export -g g");
    let path = server.place.path().join("design.yaml");
    std::fs::write(&path, &file).unwrap();
    let apply = format!("apply -f {}", path.display());
    for (network, remote) in sides {
        server.does(&format!(
            "vnet peering delete -g g --vnet-name {network} -n to-{remote} --yes"
        ));
        for dry_run in [" --dry-run", ""] {
            let told = server.prints(&format!("{apply}{dry_run}"));
            let count = |sign: &str| told.lines().filter(|line| line.starts_with(sign)).count();
            assert_eq!((count("+"), count("~")), (1, 1), "{told}");
        }
        for (network, remote) in sides {
            let side = server.does(&format!("vnet peering show -g g --vnet-name {network} -n to-{remote}"));
            assert_eq!(side["peeringState"], "Connected", "{side}");
        }
        assert_eq!(server.prints("export -g g"), file);
        let again = server.prints(&apply);
        assert!(again.lines().all(|line| line.starts_with('=')), "{again}");
    }
}

#[test]
fn what_is_not_in_the_file_is_deleted_with_prune_and_a_word_of_consent_alone() {
    let server = designed();
    let path = server.place.path().join("design.yaml");
    std::fs::write(&path, server.prints("export -g g")).unwrap();
    server.does("route-table create -g g -n extra");
    server.does("routeserver peering create -g g --routeserver rs -n second --peer-ip 10.77.1.5 --peer-asn 65002");
    let apply = format!("apply -f {} --prune", path.display());
    let told = server.prints(&format!("{apply} --dry-run"));
    let deleted = |told: &str| told.lines().filter(|line| line.starts_with("- ")).count();
    assert_eq!(deleted(&told), 2, "{told}");
    let (code, told) = server.refuses(&apply);
    assert!(code == 2 && told.contains("--yes"), "{told}");
    assert_eq!(server.does("route-table list -g g").as_array().unwrap().len(), 1);
    let told = server.prints(&format!("{apply} --yes"));
    assert_eq!(deleted(&told), 2, "{told}");
    assert!(server.does("route-table list -g g").as_array().unwrap().is_empty());
    let peers = server.does("routeserver peering list -g g --routeserver rs");
    assert_eq!(peers.as_array().unwrap().len(), 1);
}

#[test]
fn a_route_server_whose_second_step_fails_leaves_nothing() {
    let server = Server::with_network();
    let web = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/hub/subnets/web";
    let (code, told) = server.refuses(&format!(
        "routeserver create -g g -n rs --hosted-subnet {web} --public-ip-address ip"
    ));
    assert!(code == 1 && told.contains("InvalidRouteServerSubnetName"), "{told}");
    assert_eq!(server.refuses("routeserver show -g g -n rs").0, 3);
}

#[test]
fn a_backup_taken_while_serving_is_served_again_with_everything() {
    let server = designed();
    let place = server.place.path();
    let (data, backup, other) = (place.join("data"), place.join("b1"), place.join("other"));
    let run = |verb: &str, data: &Path| {
        let done = command(&[verb, "--data-dir"]).arg(data).arg(&backup).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run("backup", &data);
    let file = server.prints("export -g g");
    run("restore", &other);
    let restored = Server::over(&other, TempDir::new().unwrap());
    assert_eq!(restored.prints("export -g g"), file);
    let settings = restored.does("routeserver peering settings -g g --routeserver rs -n nva show");
    assert_eq!(settings["md5PasswordSet"], true);
}

#[test]
fn a_role_is_given_to_nobody_whose_name_was_mistyped() {
    let server = Server::start();
    server.does("sp create -n robot");
    let (code, told) = server.refuses("role assignment create --assignee robto --role Reader");
    assert!(code == 2 && told.contains("robto"), "{told}");
    server.does("role assignment create --assignee-object-id bob@elsewhere --role Reader");
    server.does("role assignment create --assignee 3f1e0c7e-0000-4000-8000-000000000001 --role Reader");
}

#[test]
fn a_dry_run_with_routes_shows_what_would_change_in_the_whole_network() {
    let server = Server::with_network();
    server.does("nic create -g g -n vm --vnet-name hub --subnet web");
    let file = server.prints("export -g g");
    let path = server.place.path().join("wider.yaml");
    let (from, to) = ("- 10.77.0.0/16\n", "- 10.77.0.0/16\n      - 10.78.0.0/16\n");
    assert!(file.contains(from), "{file}");
    std::fs::write(&path, file.replace(from, to)).unwrap();
    let command = format!("apply -f {} --dry-run --routes", path.display());
    let told = server.until(&command, |output| {
        // Both instances have started and say so.
        let told = String::from_utf8_lossy(&output.stdout);
        told.matches("web (1 NICs)").count() == 2
    });
    let told = String::from_utf8(told.stdout).unwrap();
    let row = told.lines().find(|line| line.contains("web (1 NICs)")).unwrap();
    for part in ["appears", "10.78.0.0/16", "VnetLocal"] {
        assert!(row.contains(part), "{part} in {told}");
    }
    assert_eq!(server.prints("export -g g"), file);
}

#[test]
fn route_maps_and_what_is_imported_are_exported_and_applied_with_their_settings() {
    let server = designed();
    let of = "-g g --routeserver rs";
    let rules = r#"[{name: r, actions: [{type: Replace, parameters: [{routePrefix: [10.0.0.0/8]}]}]}]"#;
    server.does(&format!("routeserver route-map create {of} -n in1 --rules '{rules}'"));
    let set = r#"set 'rules={"r": {"match": {"prefixes": [{"prefix": "10.0.0.0/8", "le": 24}]}, "set": {"keepAttributes": true}}}'"#;
    server.does(&format!("routeserver route-map settings {of} -n in1 {set}"));
    server.does(&format!(
        "routeserver peering update {of} -n nva --inbound-route-map in1"
    ));
    server.does("route-table create -g g -n rt");
    let set = r#"set 'import=[{"name": "no-lab", "action": "Deny", "prefixes": [{"prefix": "10.66.0.0/16"}]}]'"#;
    server.does(&format!("route-table settings -g g -n rt {set}"));
    let file = server.prints("export -g g");
    for part in ["keepAttributes: true", "no-lab", "inboundRouteMap"] {
        assert!(file.contains(part), "{part} in {file}");
    }
    let fresh = Server::start();
    let path = fresh.place.path().join("design.yaml");
    std::fs::write(&path, &file).unwrap();
    fresh.prints(&format!("apply -f {}", path.display()));
    assert_eq!(fresh.prints("export -g g"), file);
}
