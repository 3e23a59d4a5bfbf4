//! OpenBGPD: drops its privileges to a user of its own, which a user namespace with one user does not have; so it needs root.

use std::fmt::Write;
use std::path::PathBuf;

use super::{Appliance, ROUTE_SERVER_ASN, program};
use crate::error::LabError;
use crate::process::ProcessSpec;
use crate::topology::Path;

pub(super) fn configuration(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = format!(
        "AS {}\nrouter-id {}\nlisten on {}\nsocket \"{}\"\n",
        nva.asn,
        nva.address,
        nva.address,
        appliance.file("bgpd.sock"),
    );
    let mut line = |l: std::fmt::Arguments<'_>| writeln!(text, "{l}").expect("a string takes any text");
    for path in appliance.paths {
        line(format_args!("network {}{}", path.prefix, attributes(path)));
    }
    for peer in &appliance.peers {
        line(format_args!(
            "neighbor {peer} {{\n  remote-as {ROUTE_SERVER_ASN}\n  local-address {}",
            nva.address
        ));
        line(format_args!("  multihop 8\n  announce IPv4 unicast\n}}"));
    }
    line(format_args!("deny to any\nallow from any"));
    for path in appliance.paths {
        line(format_args!("allow to any prefix {}", path.prefix));
    }
    text
}

fn attributes(path: &Path) -> String {
    let mut set = Vec::new();
    if path.as_path_prepend > 0 {
        set.push(format!("prepend-self {}", path.as_path_prepend));
    }
    set.extend(
        path.communities
            .iter()
            .map(|(high, low)| format!("community {high}:{low}")),
    );
    set.extend(path.med.map(|med| format!("metric {med}")));
    set.extend(path.next_hop.map(|next_hop| format!("nexthop {next_hop}")));
    if set.is_empty() {
        String::new()
    } else {
        format!(" set {{ {} }}", set.join(" "))
    }
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
    appliance
        .run_tool(&[&program("bgpctl"), "-s", &appliance.file("bgpd.sock"), "reload"])
        .map(|_| ())
}
