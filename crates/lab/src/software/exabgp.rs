//! ExaBGP: its routes are in its configuration, read again at SIGUSR1.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;

use nix::sys::signal::Signal;

use super::{Appliance, extra_as_path, program, words};
use crate::error::LabError;
use crate::process::{ProcessId, ProcessSpec};
use crate::topology::{Neighbour, Path};

pub(super) fn configuration(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = String::new();
    for neighbour in &appliance.neighbours {
        let Neighbour {
            address,
            asn,
            local,
            local_v6,
            graceful_restart,
            ..
        } = neighbour;
        let mut line = |l: std::fmt::Arguments<'_>| writeln!(text, "{l}").expect("a string takes any text");
        line(format_args!(
            "neighbor {address} {{\n  router-id {};\n  local-address {local};",
            nva.address
        ));
        line(format_args!(
            "  local-as {};\n  peer-as {asn};\n  outgoing-ttl 8;",
            nva.asn
        ));
        if let Some(restart) = graceful_restart {
            line(format_args!(
                "  capability {{ graceful-restart {}; }}",
                restart.restart_secs
            ));
        }
        let more = if local_v6.is_some() { " ipv6 unicast;" } else { "" };
        line(format_args!("  family {{ ipv4 unicast;{more} }}\n  static {{"));
        let own = |path: &Path| match path.is_ipv6() {
            true => local_v6.map(IpAddr::V6),
            false => Some(IpAddr::V4(*local)),
        };
        for path in appliance.paths {
            if let Some(next_hop) = path.next_hop.or_else(|| own(path)) {
                line(format_args!("    {}", route(appliance, path, next_hop)));
            }
        }
        line(format_args!("  }}\n}}"));
    }
    text
}

fn route(appliance: &Appliance<'_>, path: &Path, next_hop: IpAddr) -> String {
    let mut text = format!("route {} next-hop {next_hop}", path.prefix);
    let extra = extra_as_path(appliance.nva, path);
    if !extra.is_empty() {
        // A path that is given is sent as it is, our own number included.
        text += &format!(" as-path [ {} {} ]", appliance.nva.asn, words(extra));
    }
    if !path.communities.is_empty() {
        let communities = path.communities.iter().map(|(high, low)| format!("{high}:{low}"));
        text += &format!(" community [ {} ]", words(communities));
    }
    if let Some(med) = path.med {
        text += &format!(" med {med}");
    }
    text + ";"
}

pub(super) fn processes(appliance: &Appliance<'_>) -> Vec<(&'static str, ProcessSpec)> {
    let (exabgp, file) = (program("exabgp"), appliance.file("exabgp.conf"));
    let mut process = appliance.process("exabgp", &[&exabgp, &file]);
    let settings = [
        ("exabgp.daemon.user", "root".to_owned()),
        ("exabgp.daemon.drop", "false".to_owned()),
        ("exabgp.daemon.pid", appliance.file("exabgp.pid")),
        ("exabgp.log.destination", "stdout".to_owned()),
        ("exabgp.api.cli", "false".to_owned()),
        ("exabgp.tcp.bind", appliance.own_addresses().join(" ")),
        ("exabgp.tcp.port", "179".to_owned()),
    ];
    process.environment = settings.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    vec![("exabgp", process)]
}

pub(super) fn reload(appliance: &Appliance<'_>) -> Result<(), LabError> {
    let file = appliance.file("exabgp.pid");
    let pid = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    let process = pid
        .and_then(|pid| ProcessId::of(pid).ok())
        .ok_or_else(|| LabError::NotPossible {
            node: appliance.nva.name.clone(),
            reason: "ExaBGP is not running".to_owned(),
        })?;
    process
        .signal(Signal::SIGUSR1)
        .map_err(LabError::system("signalling ExaBGP"))
}
