//! FRRouting: zebra and bgpd (and bfdd, if there is BFD) with sockets of their own, so that any number run beside each other and beside the host's.

use std::fmt::Write;

use ipnet::IpNet;

use super::{Appliance, ROUTE_SERVER_ASN, extra_as_path, program, words};
use crate::error::LabError;
use crate::process::ProcessSpec;
use crate::topology::{Bfd, Neighbour, Path, Side};

/// How long FRR waits for more peers of the same kind before it sends its table, in milliseconds.
const COALESCE_MS: u32 = 1;

/// What its BFD sessions take their intervals from.
const BFD_PROFILE: &str = "lab";

/// The highest sequence number of a route map.
const LAST_ENTRY: u32 = 65_535;

pub(super) fn configure(appliance: &Appliance<'_>) -> Result<(), LabError> {
    let name = &appliance.nva.name;
    appliance.write("zebra.conf", &format!("hostname {name}\nlog stdout informational\n"))?;
    // vtysh complains when there is none.
    appliance.write("vtysh.conf", "")?;
    if let Some(bfd) = appliance.nva.bfd {
        appliance.write("bfdd.conf", &bfdd(appliance, bfd))?;
    }
    appliance.write("bgpd.conf", &bgpd(appliance))
}

fn bfdd(appliance: &Appliance<'_>, bfd: Bfd) -> String {
    let Bfd {
        interval_ms,
        multiplier,
        ..
    } = bfd;
    let mut text = format!(
        "hostname {}\nlog stdout informational\nbfd\n profile {BFD_PROFILE}\n  transmit-interval {interval_ms}\n  \
         receive-interval {interval_ms}\n  detect-multiplier {multiplier}\n exit\n",
        appliance.nva.name
    );
    // bgpd (8.4) that has read of BFD in its file tells bfdd so when BGP is up, and not before: a route server that waits for BFD would
    // wait for ever.
    for neighbour in appliance.neighbours.iter().filter(|it| it.bfd.is_some()) {
        let Neighbour { address, local, .. } = neighbour;
        text += &format!(" peer {address} multihop local-address {local}\n  profile {BFD_PROFILE}\n exit\n");
    }
    text + "exit\n"
}

fn bgpd(appliance: &Appliance<'_>) -> String {
    let nva = appliance.nva;
    let mut text = String::new();
    let mut line = |l: std::fmt::Arguments<'_>| writeln!(text, "{l}").expect("a string takes any text");
    line(format_args!("hostname {}\nlog stdout informational", nva.name));
    // Before whom it is for: a peer that comes up before the policy is read is told End-of-RIB without any routes, and those seconds later.
    for path in appliance.paths {
        for command in policy(appliance, path) {
            line(format_args!("{command}"));
        }
    }
    // Our own networks have an empty AS path here. What instances tell us begins with their number, and is not for the other instance.
    let (own, azure) = ("^$", format!("^{ROUTE_SERVER_ASN}(_|$)"));
    let (to_azure, to_links) = match appliance.is_transit() {
        true => (format!("deny {azure}\nbgp as-path access-list AZURE permit .*"), ".*"),
        false => (format!("permit {own}"), own),
    };
    line(format_args!("bgp as-path access-list AZURE {to_azure}"));
    line(format_args!("bgp as-path access-list LINK permit {to_links}"));
    line(format_args!(
        "route-map ANNOUNCE permit {LAST_ENTRY}\n match as-path AZURE\nexit\nroute-map PASS permit {LAST_ENTRY}\n match as-path LINK\nexit"
    ));
    line(format_args!("router bgp {}\n bgp router-id {}", nva.asn, nva.address));
    line(format_args!(
        " bgp log-neighbor-changes\n no bgp ebgp-requires-policy\n no bgp network import-check"
    ));
    // FRR waits a second before it tells a new peer its table, and forgets to withdraw what a changed route map made it tell
    // within that second (8.4.4).
    line(format_args!(" coalesce-time {COALESCE_MS}"));
    if let Some(restart) = nva.graceful_restart {
        // Its kernel keeps the routes while bgpd is away (the F bit).
        line(format_args!(
            " bgp graceful-restart\n bgp graceful-restart preserve-fw-state"
        ));
        line(format_args!(
            " bgp graceful-restart restart-time {}",
            restart.restart_secs
        ));
        if restart.long_lived_secs > 0 {
            line(format_args!(
                " bgp long-lived-graceful-restart stale-time {}",
                restart.long_lived_secs
            ));
        }
    }
    for neighbour in &appliance.neighbours {
        let (peer, asn, hold) = (neighbour.address, neighbour.asn, neighbour.hold_time_secs());
        line(format_args!(" neighbor {peer} remote-as {asn}"));
        line(format_args!(" neighbor {peer} timers {} {hold}", hold / 3));
        line(format_args!(" neighbor {peer} ebgp-multihop 8"));
        // When two connections have crossed, FRR (8.4) forgets that the peer is over several hops, and finds its routes inaccessible.
        line(format_args!(" neighbor {peer} disable-connected-check"));
        line(format_args!(" neighbor {peer} timers connect 2"));
        if neighbour.bfd.is_some() {
            // Without a source it has no BFD session over several hops before BGP is up.
            line(format_args!(" neighbor {peer} update-source {}", neighbour.local));
            line(format_args!(
                " neighbor {peer} bfd\n neighbor {peer} bfd profile {BFD_PROFILE}"
            ));
        }
    }
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        line(format_args!(" address-family {family} unicast"));
        for path in appliance.paths_of(ipv6) {
            line(format_args!("  network {}", path.prefix));
        }
        // Sessions are over IPv4; there IPv4 is spoken of without being told to.
        let spoken = |neighbour: &&Neighbour| !ipv6 || neighbour.local_v6.is_some();
        for Neighbour {
            address: peer, side, ..
        } in appliance.neighbours.iter().filter(spoken)
        {
            if ipv6 {
                line(format_args!("  neighbor {peer} activate"));
            }
            line(format_args!("  neighbor {peer} soft-reconfiguration inbound"));
            line(format_args!("  neighbor {peer} route-map {} out", policy_of(*side)));
            if appliance.nva.as_override && *side == Side::Azure {
                line(format_args!("  neighbor {peer} as-override"));
            }
        }
        line(format_args!(" exit-address-family"));
    }
    line(format_args!("exit"));
    text
}

/// The route map towards a side: path options of prefixes are for route servers.
fn policy_of(side: Side) -> &'static str {
    match side {
        Side::Azure => "ANNOUNCE",
        Side::Link => "PASS",
    }
}

/// A route map entry of its own for each prefix with options.
fn policy(appliance: &Appliance<'_>, path: &Path) -> Vec<String> {
    if *path == Path::plain(path.prefix) {
        return Vec::new();
    }
    let name = list_name(path.prefix);
    let (ip, next_hop) = match path.is_ipv6() {
        true => ("ipv6", "ipv6 next-hop global"),
        false => ("ip", "ip next-hop"),
    };
    let mut commands = vec![
        format!("{ip} prefix-list {name} seq 5 permit {}", path.prefix),
        format!("route-map ANNOUNCE permit {}", sequence(path.prefix)),
        format!(" match {ip} address prefix-list {name}"),
    ];
    let as_path = extra_as_path(appliance.nva, path);
    if !as_path.is_empty() {
        commands.push(format!(" set as-path prepend {}", words(as_path)));
    }
    if !path.communities.is_empty() {
        let communities = path.communities.iter().map(|(high, low)| format!("{high}:{low}"));
        commands.push(format!(" set community {}", words(communities)));
    }
    if let Some(med) = path.med {
        commands.push(format!(" set metric {med}"));
    }
    if let Some(address) = path.next_hop {
        commands.push(format!(" set {next_hop} {address}"));
    }
    commands.push("exit".to_owned());
    commands
}

fn list_name(prefix: IpNet) -> String {
    format!("P-{}-{}", prefix.network(), prefix.prefix_len())
}

/// A place in the route map that depends on the prefix alone, so that announcing twice changes nothing.
fn sequence(prefix: IpNet) -> u32 {
    let number = match prefix {
        IpNet::V4(prefix) => u32::from(prefix.network()),
        IpNet::V6(prefix) => prefix
            .network()
            .segments()
            .iter()
            .fold(0x1234, |mixed: u32, segment| mixed.rotate_left(9) ^ u32::from(*segment)),
    };
    let mixed = number.wrapping_mul(0x9E37_79B1) ^ u32::from(prefix.prefix_len());
    (mixed >> 8) % (LAST_ENTRY - 1) + 1
}

pub(super) fn processes(appliance: &Appliance<'_>) -> Vec<(&'static str, ProcessSpec)> {
    let directory = appliance.directory.display().to_string();
    let daemon = |name: &'static str, more: &[&str]| {
        let program = format!("/usr/lib/frr/{name}");
        let files = ["conf", "pid"].map(|suffix| appliance.file(&format!("{name}.{suffix}")));
        let socket = appliance.file("zserv.api");
        // As root it needs to be in the group that may use its sockets; a user namespace knows no other user.
        let mut argv = vec![program.as_str(), "-f", &files[0], "-i", &files[1], "-z", &socket];
        argv.extend(["--vty_socket", &directory, "-P", "0", "-u", "root", "-g", "frrvty"]);
        argv.extend(more);
        (name, appliance.process(name, &argv))
    };
    let mut listen = vec!["-S", "-p", "179"];
    let own = appliance.own_addresses();
    listen.extend(own.iter().flat_map(|address| ["-l", address.as_str()]));
    let (name, mut zebra) = daemon("zebra", &[]);
    // bgpd that does not find zebra tries again after ten seconds. Until then it knows no interface, and what it announces without
    // knowing its own addresses (an IPv6 next hop of `::ffff:…`) it never says again.
    zebra.listens_at = Some(appliance.file("zserv.api").into());
    let mut all = vec![(name, zebra)];
    if appliance.nva.bfd.is_some() {
        let socket = appliance.file("bfdd.sock");
        all.push(daemon("bfdd", &["--bfdctl", &socket]));
    }
    all.push(daemon("bgpd", &listen));
    all
}

pub(super) fn announce(appliance: &Appliance<'_>, more: &[Path]) -> Result<(), LabError> {
    let mut commands = Vec::new();
    for path in more {
        commands.push(format!("no route-map ANNOUNCE permit {}", sequence(path.prefix)));
        commands.extend(policy(appliance, path));
    }
    let prefixes: Vec<IpNet> = more.iter().map(|path| path.prefix).collect();
    commands.extend(network_commands(appliance, "network", &prefixes));
    vtysh(appliance, &commands)
}

pub(super) fn withdraw(appliance: &Appliance<'_>, prefixes: &[IpNet]) -> Result<(), LabError> {
    let commands = network_commands(appliance, "no network", prefixes);
    vtysh(appliance, &commands)
}

fn network_commands(appliance: &Appliance<'_>, verb: &str, prefixes: &[IpNet]) -> Vec<String> {
    let mut all = vec![format!("router bgp {}", appliance.nva.asn)];
    for (family, ipv6) in [("ipv4", false), ("ipv6", true)] {
        let mut of_family = prefixes.iter().filter(|p| p.addr().is_ipv6() == ipv6).peekable();
        if of_family.peek().is_some() {
            all.push(format!("address-family {family} unicast"));
            all.extend(of_family.map(|prefix| format!("{verb} {prefix}")));
            all.push("exit-address-family".to_owned());
        }
    }
    all
}

/// Through a file: the arguments of a process have a bound, what is announced at once has none.
fn vtysh(appliance: &Appliance<'_>, commands: &[String]) -> Result<(), LabError> {
    appliance.write("commands.vty", &(commands.join("\n") + "\n"))?;
    let (program, directory) = (program("vtysh"), appliance.directory.display().to_string());
    let (sockets, file) = (
        ["--config_dir", &directory, "--vty_socket", &directory],
        appliance.file("commands.vty"),
    );
    let argv = [[program.as_str()].as_slice(), &sockets, &["-d", "bgpd", "-f", &file]].concat();
    appliance.run_tool_until(&argv, |_| true).map(|_| ())
}
