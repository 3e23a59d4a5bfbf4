//! BIRD 2: announced prefixes are static blackholes that only BGP sees; learned routes go to the kernel.

use std::fmt::Write;

use super::{Appliance, ROUTE_SERVER_ASN, extra_as_path, program};
use crate::error::LabError;
use crate::process::ProcessSpec;
use crate::topology::Path;

pub(super) fn configuration(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ }}\nprotocol direct {{ ipv4; }}\n\
         protocol kernel {{ merge paths on; ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n",
        nva.address
    );
    let mut line = |l: std::fmt::Arguments<'_>| writeln!(text, "{l}").expect("a string takes any text");
    // The kernel has this route too, but BIRD resolves next hops in its own table.
    if let Some((subnet, gateway)) = appliance.way_to_peers {
        line(format_args!(
            "protocol static peers {{ ipv4; route {subnet} via {gateway}; }}"
        ));
    }
    line(format_args!("protocol static announced {{\n  ipv4;"));
    for path in appliance.paths {
        line(format_args!("  route {} blackhole;", path.prefix));
    }
    line(format_args!("}}\nfilter announce {{"));
    for path in appliance.paths {
        line(format_args!(
            "  if net = {} then {{ {}accept; }}",
            path.prefix,
            changes(appliance, path)
        ));
    }
    line(format_args!("  reject;\n}}"));
    for (i, peer) in appliance.peers.iter().enumerate() {
        line(format_args!("protocol bgp instance{i} {{"));
        line(format_args!(
            "  local {} as {};\n  neighbor {peer} as {ROUTE_SERVER_ASN};",
            nva.address, nva.asn
        ));
        line(format_args!(
            "  multihop;\n  connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;"
        ));
        line(format_args!("  ipv4 {{ import all; export filter announce; }};\n}}"));
    }
    text
}

fn changes(appliance: &Appliance<'_>, path: &Path) -> String {
    let mut text = String::new();
    for asn in extra_as_path(appliance.nva, path).into_iter().rev() {
        text += &format!("bgp_path.prepend({asn}); ");
    }
    for (high, low) in &path.communities {
        text += &format!("bgp_community.add(({high},{low})); ");
    }
    if let Some(med) = path.med {
        text += &format!("bgp_med = {med}; ");
    }
    if let Some(next_hop) = path.next_hop {
        text += &format!("bgp_next_hop = {next_hop}; ");
    }
    text
}

pub(super) fn processes(appliance: &Appliance<'_>) -> Vec<(&'static str, ProcessSpec)> {
    let files = ["bird.conf", "bird.ctl", "bird.pid"].map(|f| appliance.file(f));
    let bird = program("bird");
    let argv = [bird.as_str(), "-f", "-c", &files[0], "-s", &files[1], "-P", &files[2]];
    vec![("bird", appliance.process("bird", &argv))]
}

pub(super) fn reload(appliance: &Appliance<'_>) -> Result<(), LabError> {
    let socket = appliance.file("bird.ctl");
    appliance
        .run_tool_until(&[&program("birdc"), "-s", &socket, "configure"], |answer| {
            answer.contains("Reconfigured") || answer.contains("Reconfiguration in progress")
        })
        .map(|_| ())
}
