//! `apply` and `export` against real servers: a design as a file, there and back.
#![allow(clippy::unwrap_used)]

#[path = "common/server.rs"]
mod server;

use server::Server;

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
fn a_role_is_given_to_nobody_whose_name_was_mistyped() {
    let server = Server::start();
    server.does("sp create -n robot");
    let (code, told) = server.refuses("role assignment create --assignee robto --role Reader");
    assert!(code == 2 && told.contains("robto"), "{told}");
    server.does("role assignment create --assignee-object-id bob@elsewhere --role Reader");
    server.does("role assignment create --assignee 3f1e0c7e-0000-4000-8000-000000000001 --role Reader");
}
