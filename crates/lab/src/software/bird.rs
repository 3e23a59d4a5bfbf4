//! BIRD 2: announced prefixes are static blackholes that only BGP sees; learned routes go to the kernel.

use std::fmt::Write;

use super::{Appliance, ROUTE_SERVER_ASN, extra_as_path, program};
use crate::error::LabError;
use crate::layout::{StaticRoute, Way};
use crate::process::ProcessSpec;
use crate::topology::{Bfd, Neighbour, Path, Side};

/// Channels, and whether they are of IPv6.
const FAMILIES: [(&str, bool); 2] = [("ipv4", false), ("ipv6", true)];

/// How long one that has restarted waits for its neighbours before it tidies its kernel.
const RECOVERY_SECS: u32 = 60;

pub(super) fn configuration(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = format!(
        "log stderr all;\nrouter id {};\nprotocol device {{ }}\nprotocol direct {{ ipv4; ipv6; }}\n",
        nva.address
    );
    let keeps = nva.graceful_restart.is_some();
    if keeps {
        text += &format!("graceful restart wait {RECOVERY_SECS};\n");
    }
    for (channel, _) in FAMILIES {
        let kernel = if keeps { "graceful restart on; " } else { "" };
        text += &format!(
            "protocol kernel {{ merge paths on; {kernel}{channel} {{ import none; export where source = RTS_BGP; }}; }}\n"
        );
    }
    let mut line = |l: std::fmt::Arguments<'_>| writeln!(text, "{l}").expect("a string takes any text");
    // The kernel has these routes too, but BIRD resolves next hops in its own table.
    let routes = || appliance.static_routes.iter();
    for (channel, ipv6) in FAMILIES {
        line(format_args!("protocol static peers_{channel} {{\n  {channel};"));
        for StaticRoute { prefix, way } in
            routes().filter(|route| route.prefix.prefix_len() > 0 && route.prefix.addr().is_ipv6() == ipv6)
        {
            match way {
                Way::Via(next_hop) => line(format_args!("  route {prefix} via {next_hop};")),
                Way::Over(interface) => line(format_args!("  route {prefix} via \"{interface}\";")),
            }
        }
        line(format_args!("}}\nprotocol static announced_{channel} {{\n  {channel};"));
        for path in appliance.paths_of(ipv6) {
            line(format_args!("  route {} blackhole;", path.prefix));
        }
        line(format_args!("}}"));
    }
    line(format_args!("filter announce {{"));
    // A prefix of one family cannot be compared with a net of the other.
    for (_, ipv6) in FAMILIES {
        let of_family = if ipv6 { "NET_IP6" } else { "NET_IP4" };
        line(format_args!("  if net.type = {of_family} then {{"));
        for path in appliance.paths_of(ipv6) {
            let changes = changes(appliance, path);
            line(format_args!("    if net = {} then {{ {changes}accept; }}", path.prefix));
        }
        line(format_args!("  }}"));
    }
    // What instances tell us begins with their number, and is not for the other instance.
    if appliance.is_transit() {
        let replaced = match nva.as_override {
            true => format!("bgp_path.delete({ROUTE_SERVER_ASN}); bgp_path.prepend({}); ", nva.asn),
            false => String::new(),
        };
        line(format_args!(
            "  if source = RTS_BGP && bgp_path.first != {ROUTE_SERVER_ASN} then {{ {replaced}accept; }}"
        ));
    }
    line(format_args!("  reject;\n}}"));
    if let Some(Bfd {
        interval_ms,
        multiplier,
        ..
    }) = nva.bfd
    {
        line(format_args!(
            "protocol bfd {{\n  multihop {{ interval {interval_ms} ms; idle tx interval 1 s; multiplier {multiplier}; }};\n}}"
        ));
    }
    for (i, neighbour) in appliance.neighbours.iter().enumerate() {
        let Neighbour {
            address,
            asn,
            local,
            local_v6,
            side,
            bfd,
            graceful_restart,
        } = neighbour;
        let hold = neighbour.hold_time_secs();
        let name = match side {
            Side::Azure => "instance",
            Side::Link => "link",
        };
        line(format_args!("protocol bgp {name}{i} {{"));
        line(format_args!(
            "  local {local} as {};\n  neighbor {address} as {asn};\n  hold time {hold};",
            nva.asn
        ));
        line(format_args!(
            "  multihop;\n  connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 4;"
        ));
        if bfd.is_some() {
            line(format_args!("  bfd on;"));
        }
        if let Some(restart) = graceful_restart {
            line(format_args!(
                "  graceful restart on;\n  graceful restart time {};",
                restart.restart_secs
            ));
            if restart.long_lived_secs > 0 {
                line(format_args!(
                    "  long lived graceful restart on;\n  long lived stale time {};",
                    restart.long_lived_secs
                ));
            }
        }
        // What is passed on leads through us; without links a path's own next hop must stay.
        let next_hop = if appliance.is_transit() { "next hop self; " } else { "" };
        let export = match side {
            Side::Azure => "filter announce",
            Side::Link => "where source = RTS_BGP || proto = \"announced_ipv4\"",
        };
        line(format_args!("  ipv4 {{ import all; {next_hop}export {export}; }};"));
        // The session is over IPv4, so its own address is no next hop of IPv6.
        if let Some(own) = local_v6 {
            line(format_args!(
                "  ipv6 {{ import all; next hop address {own}; {next_hop}export {export}; }};"
            ));
        }
        line(format_args!("}}"));
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
    let mut argv = vec![bird.as_str(), "-f", "-c", &files[0], "-s", &files[1], "-P", &files[2]];
    if appliance.nva.graceful_restart.is_some() {
        // Its kernel may have routes of the life before.
        argv.push("-R");
    }
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
