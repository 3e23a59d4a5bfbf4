//! IPv6 beside IPv4, as shipped, with packets of both.

use std::net::IpAddr;

use lab::network_id;
use serde_json::json;

use crate::design::Design;

pub const TESTS: &[(&str, fn())] = &[(
    "both_families_go_through_nvas_spokes_and_gateways_each_by_itself",
    both_families_go_through_nvas_spokes_and_gateways_each_by_itself,
)];

/// On software of others.
pub const WITH_OTHERS: &[(&str, fn())] = &[(
    "frr_and_bird_speak_of_both_families_over_their_ipv4_sessions",
    frr_and_bird_speak_of_both_families_over_their_ipv4_sessions,
)];

const FILE: &str = "dual-stack.yaml";
const SITE: &str = "2001:db8:250::/48";
const BRANCH: &str = "2001:db8:50::/48";
const VMS: [&str; 2] = ["vm1", "vm2"];

fn both_families_go_through_nvas_spokes_and_gateways_each_by_itself() {
    let mut lab = Design::up(FILE);
    let sessions = lab.sessions();
    through_the_nvas(&lab);
    for vm in VMS {
        let way = lab.way_to(vm, "pc", v6(&lab, "pc"));
        let [gateway, site] = &way[..] else { panic!("{way:?}") };
        assert!(gateway.starts_with("vpngw-") && site == "branch", "{way:?}");
    }
    lab.way_to("vm1", "vm2", v6(&lab, "vm2"));
    lab.way_to("pc", "vm2", v6(&lab, "vm2"));

    // A subnet without IPv6 has nothing of it, and all of the rest.
    for prefix in ["::/0", SITE, "fd01::/48"] {
        lab.lacks("old", prefix);
    }
    lab.goes("old", "site", &["sdwan"]);

    lab.withdraw("sdwan", &[net(SITE)]).unwrap();
    for vm in VMS {
        lab.lacks(vm, SITE);
        lab.goes(vm, "site", &["sdwan"]);
    }
    lab.announce("sdwan", &[net(SITE)]).unwrap();
    through_the_nvas(&lab);

    // Off, and IPv6 is as in Azure: none of the route server's business. On again, with every session up meanwhile.
    set_ipv6(&lab, false);
    for vm in VMS {
        lab.lacks(vm, SITE);
        lab.lacks(vm, BRANCH);
        lab.goes(vm, "site", &["sdwan"]);
    }
    lab.lacks("sdwan", "fd01::/48");
    set_ipv6(&lab, true);
    lab.has("sdwan", "fd01::/48");
    through_the_nvas(&lab);
    assert_eq!(lab.sessions(), sessions, "no session has ended");

    // The platform's own default route takes the place of the firewall's.
    lab.kill("firewall").unwrap();
    for vm in VMS {
        lab.leads_to_address(vm, "::/0", first_address_beside(&lab, vm));
    }
    lab.start("firewall").unwrap();
    through_the_nvas(&lab);
}

fn frr_and_bird_speak_of_both_families_over_their_ipv4_sessions() {
    let lab = Design::changed(FILE, |text| {
        let with = |text: String, nva: &str, software: &str| {
            let name = format!("name: {nva}\n");
            text.replace(&name, &format!("{name}    software: {software}\n"))
        };
        with(with(text.to_owned(), "sdwan", "frr"), "firewall", "bird")
    });
    through_the_nvas(&lab);
    for nva in ["sdwan", "firewall"] {
        lab.has(nva, "fd01::/48");
        lab.has(nva, "fd02::/48");
    }
}

fn through_the_nvas(lab: &Design) {
    for vm in VMS {
        for (host, nva) in [("site", "sdwan"), ("internet", "firewall")] {
            lab.goes(vm, host, &[nva]);
            lab.goes_to(vm, host, v6(lab, host), &[nva]);
        }
    }
}

/// A node's IPv6 address.
fn v6(lab: &Design, node: &str) -> IpAddr {
    let layout = lab.layout();
    let addresses = &layout.node(node).unwrap().interfaces[0].addresses;
    addresses.iter().map(|own| own.addr()).find(IpAddr::is_ipv6).unwrap()
}

/// The subnet's first one, where the platform answers.
fn first_address_beside(lab: &Design, vm: &str) -> IpAddr {
    let IpAddr::V6(own) = v6(lab, vm) else {
        unreachable!("it is an IPv6 address")
    };
    let network = own.to_bits() >> 64 << 64;
    IpAddr::V6((network + 1).into())
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn set_ipv6(lab: &Design, on: bool) {
    let path = format!("/routewright/v1{}/settings", network_id("virtualHubs/rs"));
    lab.api().unwrap().put(&path, &json!({ "ipv6": on })).unwrap();
}
