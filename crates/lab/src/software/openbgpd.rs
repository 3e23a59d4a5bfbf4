//! OpenBGPD: drops its privileges to a user of its own, which a user namespace with one user does not have; so it needs root.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::{Appliance, program};
use crate::error::LabError;
use crate::process::ProcessSpec;
use crate::topology::{Neighbour, Path};

pub(super) fn configuration(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = format!(
        "AS {}\nrouter-id {}\nsocket \"{}\"\n",
        nva.asn,
        nva.address,
        appliance.file("bgpd.sock"),
    );
    let mut line = |l: std::fmt::Arguments<'_>| writeln!(text, "{l}").expect("a string takes any text");
    for own in appliance.own_addresses() {
        line(format_args!("listen on {own}"));
    }
    // A set is searched as a tree; ten thousand rules would be gone through for each of ten thousand prefixes.
    line(format_args!("prefix-set announced {{"));
    for path in appliance.paths {
        line(format_args!("  {}", path.prefix));
    }
    line(format_args!("}}\nnetwork prefix-set announced"));
    for Neighbour {
        address,
        asn,
        local,
        local_v6,
        graceful_restart,
        ..
    } in &appliance.neighbours
    {
        line(format_args!(
            "neighbor {address} {{\n  remote-as {asn}\n  local-address {local}"
        ));
        line(format_args!("  multihop 8\n  announce IPv4 unicast"));
        if graceful_restart.is_some() {
            line(format_args!("  announce restart yes"));
        }
        if local_v6.is_some() {
            line(format_args!("  announce IPv6 unicast"));
        }
        line(format_args!("}}"));
    }
    line(format_args!(
        "deny to any\nallow from any\nallow to any prefix-set announced"
    ));
    for path in appliance.paths {
        for change in changes(path, nva.address_v6) {
            line(format_args!("match to any prefix {} set {change}", path.prefix));
        }
    }
    text
}

/// What is set on the way out. On the network itself, NO_ADVERTISE would keep the route from everybody.
fn changes(path: &Path, own_v6: Option<Ipv6Addr>) -> Vec<String> {
    let mut changes = Vec::new();
    if path.as_path_prepend > 0 {
        changes.push(format!("prepend-self {}", path.as_path_prepend));
    }
    changes.extend(
        path.communities
            .iter()
            .map(|(high, low)| format!("community {high}:{low}")),
    );
    changes.extend(path.med.map(|med| format!("metric {med}")));
    // The session is over IPv4, so its own address is no next hop of IPv6.
    let own = own_v6.filter(|_| path.is_ipv6()).map(IpAddr::V6);
    if let Some(next_hop) = path.next_hop.or(own) {
        changes.push(format!("nexthop {next_hop}"));
        // Else a peer that is more than one hop away is told our own address.
        changes.push("nexthop no-modify".to_owned());
    }
    changes
}

/// Where it locks itself in: its user's home, which Debian makes only when its service starts.
pub(super) fn chroot_directory() -> Option<PathBuf> {
    let user = nix::unistd::User::from_name("_openbgpd").ok().flatten();
    user.map(|user| user.dir)
}

pub(super) fn processes(appliance: &Appliance<'_>) -> Vec<(&'static str, ProcessSpec)> {
    let file = appliance.file("bgpd.conf");
    let argv = ["/usr/sbin/bgpd", "-d", "-v", "-f", &file];
    vec![("bgpd", appliance.process("bgpd", &argv))]
}

pub(super) fn reload(appliance: &Appliance<'_>) -> Result<(), LabError> {
    let socket = appliance.file("bgpd.sock");
    // While it still takes in one configuration it refuses the next, and bgpctl calls that a success.
    appliance
        .run_tool_until(&[&program("bgpctl"), "-s", &socket, "reload"], |answer| {
            answer.contains("request processed")
        })
        .map(|_| ())
}
