//! A spoke that is at home in two hubs, as shipped.

use lab::network_id;

use crate::design::{Design, until};

pub const TESTS: &[(&str, fn())] = &[
    (
        "a_dual_homed_spoke_uses_both_hubs_and_each_takes_over_from_the_other",
        a_dual_homed_spoke_uses_both_hubs_and_each_takes_over_from_the_other,
    ),
    (
        "an_import_preference_makes_one_hub_the_way_and_the_other_its_reserve",
        an_import_preference_makes_one_hub_the_way_and_the_other_its_reserve,
    ),
];

const TOPOLOGY: &str = "dual-homed.yaml";
const DC: &str = "10.50.0.0/16";
const SPOKE: &str = "10.3.0.0/16";

fn a_dual_homed_spoke_uses_both_hubs_and_each_takes_over_from_the_other() {
    let mut lab = Design::up(TOPOLOGY);
    both_ways(&lab);
    // A cut line ends its session: what came over it goes.
    lab.set_link("line-a", false).unwrap();
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, DC, &["nva-b"]);
        lab.goes(vm, "db", &["nva-b", "dc"]);
    }
    lab.set_link("line-a", true).unwrap();
    both_ways(&lab);
    lab.kill("nva-b").unwrap();
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, DC, &["nva-a"]);
        lab.goes(vm, "db", &["nva-a", "dc"]);
    }
    lab.start("nva-b").unwrap();
    both_ways(&lab);
    // A prefix that the spoke gets is heard of in the data centre through both.
    lab.change(&network_id("virtualNetworks/spoke"), |spoke| {
        let prefixes = &mut spoke["properties"]["addressSpace"]["addressPrefixes"];
        *prefixes = serde_json::json!([SPOKE, "10.33.0.0/16"]);
    });
    lab.has("dc", "10.33.0.0/16");
    until("the hubs hear nothing of each other", || {
        ["nva-a", "nva-b"].iter().all(|nva| {
            let routes = lab.kernel_routes(nva).unwrap();
            let others = if *nva == "nva-a" { "10.2.0.0/16" } else { "10.1.0.0/16" };
            !routes.is_empty() && routes.iter().all(|route| route.prefix.to_string() != others)
        })
    });
}

fn both_ways(lab: &Design) {
    lab.has("dc", SPOKE);
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, DC, &["nva-a", "nva-b"]);
        let way = lab.way(vm, "db");
        let through = [["nva-a", "dc"], ["nva-b", "dc"]];
        assert!(through.iter().any(|expected| way == *expected), "{way:?}");
    }
}

fn an_import_preference_makes_one_hub_the_way_and_the_other_its_reserve() {
    let mut lab = Design::changed(TOPOLOGY, |text| {
        text.replace(
            "asn: 65001, route_server: rs",
            "asn: 65001, route_server: rs, import_preference: 100",
        )
    });
    for vm in ["vm1", "vm2"] {
        lab.leads(vm, DC, &["nva-a"]);
    }
    lab.kill("nva-a").unwrap();
    lab.leads("vm1", DC, &["nva-b"]);
    lab.goes("vm1", "db", &["nva-b", "dc"]);
    lab.start("nva-a").unwrap();
    lab.leads("vm1", DC, &["nva-a"]);
    lab.goes("vm1", "db", &["nva-a", "dc"]);
}
