//! GoBGP: what it announces lives in its RIB and is told by its own command over gRPC.

use std::fmt::Write;

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Appliance, extra_as_path, program, words};
use crate::error::LabError;
use crate::process::ProcessSpec;
use crate::topology::{Neighbour, Path};

pub(super) fn configuration(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\nlocal-address-list = [\"{}\"]\n",
        nva.asn,
        nva.address,
        appliance.own_addresses().join("\", \"")
    );
    for Neighbour {
        address,
        asn,
        local_v6,
        graceful_restart,
        ..
    } in &appliance.neighbours
    {
        write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {asn}\n\
             [neighbors.timers.config]\nconnect-retry = 2\nidle-hold-time-after-reset = 2\n\
             [neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 8\n"
        )
        .expect("a string takes any text");
        if let Some(restart) = graceful_restart {
            text += &format!(
                "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = {}\nnotification-enabled = true\n\
                 long-lived-enabled = {}\n",
                restart.restart_secs,
                restart.long_lived_secs > 0
            );
        }
        for family in ["ipv4-unicast", "ipv6-unicast"]
            .iter()
            .take(1 + usize::from(local_v6.is_some()))
        {
            text += &format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n");
            let Some(restart) = graceful_restart else { continue };
            text += "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n";
            if restart.long_lived_secs > 0 {
                text += &format!(
                    "[neighbors.afi-safis.long-lived-graceful-restart.config]\nenabled = true\nrestart-time = {}\n",
                    restart.long_lived_secs
                );
            }
        }
    }
    text
}

pub(super) fn processes(appliance: &Appliance<'_>) -> Vec<(&'static str, ProcessSpec)> {
    let file = appliance.file("gobgpd.toml");
    let gobgpd = program("gobgpd");
    // Its API is reachable inside the namespace only.
    let mut argv = vec![
        gobgpd.as_str(),
        "-f",
        &file,
        "--api-hosts",
        "127.0.0.1:50051",
        "--pprof-disable",
    ];
    if appliance.nva.graceful_restart.is_some() {
        // Without this it says that it has not gone on to forward.
        argv.push("--graceful-restart");
    }
    vec![("gobgpd", appliance.process("gobgpd", &argv))]
}

pub(super) fn announce(appliance: &Appliance<'_>, more: &[Path]) -> Result<(), LabError> {
    for path in more {
        let arguments = arguments(appliance, path);
        let argv: Vec<&str> = arguments.iter().map(String::as_str).collect();
        appliance.run_tool_until(&argv, |_| true)?;
    }
    Ok(())
}

fn arguments(appliance: &Appliance<'_>, path: &Path) -> Vec<String> {
    let mut arguments = rib(path.prefix, "add");
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("origin", "igp".to_owned());
    let as_path = extra_as_path(appliance.nva, path);
    if !as_path.is_empty() {
        option("aspath", words(as_path));
    }
    // The session is over IPv4, so its own address is no next hop of IPv6.
    let own = appliance.nva.address_v6.filter(|_| path.is_ipv6()).map(IpAddr::V6);
    if let Some(next_hop) = path.next_hop.or(own) {
        option("nexthop", next_hop.to_string());
    }
    if let Some(med) = path.med {
        option("med", med.to_string());
    }
    if !path.communities.is_empty() {
        let communities = path.communities.iter().map(|(high, low)| format!("{high}:{low}"));
        option("community", communities.collect::<Vec<_>>().join(","));
    }
    arguments
}

pub(super) fn withdraw(appliance: &Appliance<'_>, prefixes: &[IpNet]) -> Result<(), LabError> {
    for prefix in prefixes {
        let arguments = rib(*prefix, "del");
        appliance.run_tool(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// What is done with a prefix.
fn rib(prefix: IpNet, verb: &str) -> Vec<String> {
    let family = match prefix {
        IpNet::V4(_) => "ipv4",
        IpNet::V6(_) => "ipv6",
    };
    let (gobgp, prefix) = (program("gobgp"), prefix.to_string());
    let all = [gobgp.as_str(), "global", "rib", "-a", family, verb, &prefix];
    all.map(str::to_owned).to_vec()
}
