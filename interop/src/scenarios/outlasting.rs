//! What outlasts a session, and what does not: graceful restart of either side, long-lived routes, graceful shutdown, BFD.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use lab::topology::{Path, Software};
use lab::watch::{Flow, RouteWatch};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::speaker::Speaker;
use crate::world::{
    INSTANCE_ADDRESSES, LEFT, LEFT_ADDRESS, PATIENCE, RIGHT, RIGHT_ADDRESS, SITE, VMS, WATCHED, WATCHED_ADDRESS, World,
    net, plain,
};

const BEHIND: &str = "10.250.0.0/24";
/// What instances tell NVAs.
const HOME: &str = "10.1.0.0/16";
/// RFC 8326.
const GRACEFUL_SHUTDOWN: (u16, u16) = (0xFFFF, 0);
const PROCESSES: [&str; 2] = ["instance0", "instance1"];

/// ```text
///   left ══ rs      left's BGP is killed and started again; its kernel is not
/// ```
///
/// 1. Both instances keep its routes, in the graceful phase: as good as before.
/// 2. Packets go through it all the while, and none is lost.
/// 3. When it is back and has said its routes again, nothing is stale; no VM's kernel has changed anything.
pub(super) fn the_nva_restarts(world: &mut World) -> Result<()> {
    let prefix = net(BEHIND);
    world.announce(LEFT, plain(prefix))?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;
    let watches = watch(world, &VMS)?;
    let daemon = bgp_of(world, LEFT);
    let flow = flow(world)?;

    world.lab.kill(&daemon)?;
    world.expect_peer("is away and has its routes kept", LEFT, |report| {
        report["state"] != "Established" && report["kept"][0]["phase"] == "graceful"
    })?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;
    world.lab.start(&daemon)?;
    world.expect_sessions(LEFT)?;
    nothing_is_stale(world, LEFT)?;

    unchanged(&watches, prefix)?;
    none_lost(flow)
}

/// Why a speaker cannot have its routes kept.
pub(super) fn cannot_restart(speaker: Speaker) -> Option<&'static str> {
    match speaker.0 {
        Software::Openbgpd => Some("OpenBGPD keeps others' routes and asks nobody to keep its own"),
        _ => None,
    }
}

/// ```text
///   left ══ rs      both instances are killed at once, while there is no manager
/// ```
///
/// 1. The NVA notices, and keeps what it was told: it has its way back.
/// 2. VMs keep their routes, and packets go on.
/// 3. A manager comes, and with it both instances. When they have converged nothing is stale, and no kernel has lost anything meanwhile.
pub(super) fn both_instances_restart(world: &mut World) -> Result<()> {
    let (prefix, home) = (net(BEHIND), net(HOME));
    world.announce(LEFT, plain(prefix))?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;
    let watches = watch(world, &VMS)?;
    let way_back = watch(world, &[LEFT])?;
    let flow = flow(world)?;

    world.lab.kill("manager")?;
    for process in PROCESSES {
        world.lab.kill(process)?;
    }
    world.eventually("the NVA to keep what it was told", keeps)?;
    world.lab.start("manager")?;
    world.expect_api()?;
    world.expect_sessions(LEFT)?;
    world.expect_converged()?;
    nothing_is_stale(world, LEFT)?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;

    none_lost(flow)?;
    never_gone(&watches, prefix)?;
    never_gone(&way_back, home)?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;
    Ok(())
}

/// Why a speaker cannot keep our routes.
pub(super) fn keeps_nothing(speaker: Speaker) -> Option<&'static str> {
    (speaker.0 == Software::Exabgp).then_some("ExaBGP has no table: it keeps nobody's routes")
}

/// What is missing until the NVA has noticed that the sessions are gone and has our routes all the same.
fn keeps(world: &World) -> Result<Vec<String>> {
    let (asked, away): (Vec<String>, &[&str]) = match world.speaker.0 {
        Software::Frr => (
            vtysh(world, LEFT, "bgpd", &["show bgp summary json"]),
            &["\"Established\""],
        ),
        Software::Bird => (birdc(world, &["show", "protocols"]), &["Established"]),
        Software::Gobgp => (words("gobgp neighbor"), &["Establ"]),
        Software::Openbgpd => (bgpctl(world, "show summary"), &[" Established"]),
        // Its kernel tells, and how long nobody listens there does not matter.
        _ => (words("true"), &[]),
    };
    let said = tool(world, &asked)?;
    let mut missing = Vec::new();
    // Of the observer nobody speaks here, so no line may tell of a session.
    if away.iter().any(|word| said.contains(word)) {
        missing.push(format!("it has not noticed: {said}"));
    }
    let routes = match world.speaker.0 {
        Software::Gobgp => tool(world, &words("gobgp global rib"))?,
        Software::Openbgpd => tool(world, &bgpctl(world, "show rib"))?,
        _ => match world.nva_has(LEFT, net(HOME))? {
            true => HOME.to_owned(),
            false => String::new(),
        },
    };
    if !routes.contains(HOME) {
        missing.push(format!("no {HOME}: {routes}"));
    }
    Ok(missing)
}

/// ```text
///   site ── left  ── 10.250.0.0/24 ─┐
///                                   ├─► rs      right is killed, and is away longer than its Restart Time
///   site ── right ── 10.250.0.0/24 ─┘
/// ```
///
/// 1. Its routes become a last resort (RFC 9494): VMs use the other NVA alone.
/// 2. Without the other one they are used all the same, and its kernel forwards.
/// 3. When it is back its routes are as any others.
pub(super) fn long_lived(world: &mut World) -> Result<()> {
    let prefix = net(BEHIND);
    world.announce(LEFT, plain(prefix))?;
    world.announce(RIGHT, plain(prefix))?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS, RIGHT_ADDRESS])?;
    let daemon = bgp_of(world, RIGHT);
    world.lab.kill(&daemon)?;
    world.expect_peer("is a last resort", RIGHT, |report| {
        report["kept"][0]["phase"] == "long-lived"
    })?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.withdraw(LEFT, prefix)?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.expect_packets(SITE, &[RIGHT_ADDRESS])?;
    world.lab.start(&daemon)?;
    world.expect_sessions(RIGHT)?;
    nothing_is_stale(world, RIGHT)?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.announce(LEFT, plain(prefix))?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS, RIGHT_ADDRESS])
}

/// Why a speaker's routes cannot be long-lived.
pub(super) fn not_long_lived(speaker: Speaker) -> Option<&'static str> {
    match speaker.0 {
        Software::Openbgpd => Some("OpenBGPD has no RFC 9494"),
        Software::Exabgp => Some("ExaBGP has no RFC 9494"),
        _ => None,
    }
}

/// ```text
///   left  ── 10.250.0.0/24 ─┐
///                           ├─► rs      left, an instance, or left's route is about to go (RFC 8326)
///   right ── 10.250.0.0/24 ─┘
/// ```
///
/// 1. A route with GRACEFUL_SHUTDOWN is a last resort.
/// 2. So are all routes of a drained NVA, which is told ours with that community, as far as it shows what it hears.
/// 3. Of a drained instance the NVA hears it too, and no VM's kernel changes anything: the other instance has the same next hops.
pub(super) fn graceful_shutdown(world: &mut World) -> Result<()> {
    let (prefix, both) = (net(BEHIND), [LEFT_ADDRESS, RIGHT_ADDRESS]);
    world.announce(RIGHT, plain(prefix))?;
    let leaving = Path {
        communities: vec![GRACEFUL_SHUTDOWN],
        ..plain(prefix)
    };
    world.announce(LEFT, leaving)?;
    world.expect_verdict(RIGHT, prefix, "best")?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.withdraw(LEFT, prefix)?;
    world.expect_no_route(LEFT, prefix)?;
    world.announce(LEFT, plain(prefix))?;
    world.expect_kernel(prefix, &both)?;

    world.set(LEFT, json!({ "drain": true }))?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.expect_packets(SITE, &[RIGHT_ADDRESS])?;
    hears_graceful_shutdown(world, true)?;
    world.set(LEFT, json!({}))?;
    world.expect_kernel(prefix, &both)?;
    hears_graceful_shutdown(world, false)?;

    let watches = watch(world, &VMS)?;
    world.drain_instance(0, true)?;
    hears_graceful_shutdown(world, true)?;
    world.drain_instance(0, false)?;
    hears_graceful_shutdown(world, false)?;
    unchanged(&watches, prefix)
}

/// Whether the NVA has heard GRACEFUL_SHUTDOWN with the virtual network's prefix; builtin and ExaBGP do not show communities.
fn hears_graceful_shutdown(world: &World, expected: bool) -> Result<()> {
    let (asked, word) = match world.speaker.0 {
        Software::Frr => (
            vtysh(world, LEFT, "bgpd", &[&format!("show bgp ipv4 unicast {HOME}")]),
            "graceful-shutdown",
        ),
        Software::Bird => (birdc(world, &["show", "route", HOME, "all"]), "(65535,0)"),
        Software::Gobgp => (words(&format!("gobgp global rib {HOME}")), "planned-shut"),
        Software::Openbgpd => (bgpctl(world, &format!("show rib detail {HOME}")), "GRACEFUL_SHUTDOWN"),
        _ => return Ok(()),
    };
    world.eventually("the NVA to hear of GRACEFUL_SHUTDOWN, or no more", |world| {
        let said = tool(world, &asked)?;
        let has = said.to_lowercase().contains(&word.to_lowercase());
        Ok((has != expected).then_some(said).into_iter().collect())
    })
}

/// ```text
///   watched ══ rs, with BFD      watched's link goes down: no FIN, no RST, only silence
/// ```
///
/// 1. BFD is up on both sessions.
/// 2. When packets do not arrive any more both sessions end, and say that it was BFD: long before the hold time of 180 s. The routes go.
/// 3. When the link is back, so are BFD, sessions and routes.
/// 4. The NVA's operator holds BFD down (FRR): that is no lost path, and BGP goes on.
pub(super) fn bfd(world: &mut World) -> Result<()> {
    let prefix = net(BEHIND);
    world.announce(WATCHED, plain(prefix))?;
    world.expect_kernel(prefix, &[WATCHED_ADDRESS])?;
    let is_up = |report: &serde_json::Value| report["state"] == "Established" && report["bfd"]["state"] == "Up";
    world.expect_peer("is watched by BFD", WATCHED, is_up)?;

    world.lab.set_link(WATCHED, false)?;
    world.lab.wait_for_peer(WATCHED, false, PATIENCE)?;
    world.expect_peer("is down since BFD is", WATCHED, |report| {
        report["lastDown"]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("BFD"))
    })?;
    world.expect_kernel(prefix, &[])?;

    world.lab.set_link(WATCHED, true)?;
    world.expect_sessions(WATCHED)?;
    world.expect_peer("is watched by BFD again", WATCHED, is_up)?;
    world.expect_kernel(prefix, &[WATCHED_ADDRESS])?;
    match world.speaker.0 {
        Software::Frr => held_down(world, prefix),
        _ => Ok(()),
    }
}

/// ```text
///   watched ══ rs, with BFD      both instances are stopped until watched has given them up
/// ```
///
/// 1. The NVA hears nothing: its sessions end, and with them its way back.
/// 2. The instances go on. VMs' kernels have changed nothing, neither by then nor when all is back.
/// 3. Sessions and the NVA's way back are there again.
pub(super) fn instances_stand_still(world: &mut World) -> Result<()> {
    let (prefix, home) = (net(BEHIND), net(HOME));
    world.announce(WATCHED, plain(prefix))?;
    world.expect_kernel(prefix, &[WATCHED_ADDRESS])?;
    world.expect_peer("is watched by BFD", WATCHED, |report| report["bfd"]["state"] == "Up")?;
    world.expect_converged()?;
    way_back(world, home, true)?;
    let watches = watch(world, &VMS)?;
    signal(world, Signal::SIGSTOP)?;
    let gave_up = way_back(world, home, false);
    signal(world, Signal::SIGCONT)?;
    gave_up?;

    world.expect_sessions(WATCHED)?;
    way_back(world, home, true)?;
    world.expect_converged()?;
    unchanged(&watches, prefix)?;
    world.expect_kernel(prefix, &[WATCHED_ADDRESS])
}

fn signal(world: &World, signal: Signal) -> Result<()> {
    for instance in PROCESSES {
        world.lab.signal(instance, signal)?;
    }
    Ok(())
}

/// Whether the NVA knows the way to the virtual network.
fn way_back(world: &World, home: IpNet, expected: bool) -> Result<()> {
    world.eventually("the NVA's way back, or none", |world| {
        let has = world.nva_has(WATCHED, home)?;
        Ok((has != expected)
            .then(|| format!("it has one: {has}"))
            .into_iter()
            .collect())
    })
}

fn held_down(world: &World, prefix: IpNet) -> Result<()> {
    let sessions = world.numbers(WATCHED, "establishedCount")?;
    let watches = watch(world, &VMS)?;
    hold_down(world, "shutdown")?;
    world.expect_peer("holds BFD down", WATCHED, |report| {
        report["state"] == "Established" && report["bfd"]["remoteState"] == "AdminDown"
    })?;
    hold_down(world, "no shutdown")?;
    world.expect_peer("is watched by BFD once more", WATCHED, |report| {
        report["bfd"]["state"] == "Up"
    })?;
    let after = world.numbers(WATCHED, "establishedCount")?;
    ensure!(after == sessions, "sessions ended: {sessions:?} before, {after:?} now");
    unchanged(&watches, prefix)
}

fn hold_down(world: &World, word: &str) -> Result<()> {
    for instance in INSTANCE_ADDRESSES {
        let session = format!("peer {instance} multihop local-address {WATCHED_ADDRESS}");
        let argv = vtysh(world, WATCHED, "bfdd", &["configure terminal", "bfd", &session, word]);
        world.tool(WATCHED, &argv.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Why there is no BFD with a speaker.
pub(super) fn has_no_bfd(speaker: Speaker) -> Option<&'static str> {
    match speaker.0 {
        Software::Gobgp | Software::Openbgpd | Software::Exabgp => Some("the speaker has no BFD of its own"),
        _ => None,
    }
}

/// The process that speaks BGP: with FRR the kernel's routes are another one's.
fn bgp_of(world: &World, node: &str) -> String {
    match world.speaker.0 {
        Software::Frr => format!("{node}.bgpd"),
        _ => node.to_owned(),
    }
}

fn nothing_is_stale(world: &World, node: &str) -> Result<()> {
    world.expect_peer("has told all again", node, |report| {
        let kept = report["kept"].as_array().is_none_or(Vec::is_empty);
        report["state"] == "Established" && report["routesStale"] == 0 && kept
    })
}

fn watch<'a>(world: &World, nodes: &[&'a str]) -> Result<Vec<(&'a str, RouteWatch)>> {
    let all = nodes
        .iter()
        .map(|node| Ok((*node, RouteWatch::start(&world.lab.namespace(node)?)?)));
    all.collect()
}

fn never_gone(watches: &[(&str, RouteWatch)], prefix: IpNet) -> Result<()> {
    for (node, watch) in watches {
        let changes = watch.changes_of(prefix)?;
        ensure!(
            changes.iter().all(|change| !change.gone),
            "the kernel of {node} has lost {prefix}: {changes:?}"
        );
    }
    Ok(())
}

fn unchanged(watches: &[(&str, RouteWatch)], prefix: IpNet) -> Result<()> {
    for (node, watch) in watches {
        let changes = watch.changes_of(prefix)?;
        ensure!(
            changes.is_empty(),
            "the kernel of {node} has changed {prefix}: {changes:?}"
        );
    }
    Ok(())
}

/// Packets of the first VM to the site, all the while.
fn flow(world: &World) -> Result<Flow> {
    let IpAddr::V4(site) = SITE else {
        return Flow::start(&world.lab.namespace(VMS[0])?, Ipv4Addr::UNSPECIFIED).context("the site has IPv4");
    };
    Ok(Flow::start(&world.lab.namespace(VMS[0])?, site)?)
}

fn none_lost(flow: Flow) -> Result<()> {
    let echoes = flow.end()?;
    ensure!(
        echoes.sent > 0 && echoes.lost.is_empty(),
        "packets were lost: {echoes:?}"
    );
    Ok(())
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What has FRR's daemon of a node carry out these commands.
fn vtysh(world: &World, node: &str, daemon: &str, commands: &[&str]) -> Vec<String> {
    let directory = world.nva_file(node, "").display().to_string();
    let argv = [
        "vtysh",
        "--config_dir",
        &directory,
        "--vty_socket",
        &directory,
        "-d",
        daemon,
    ];
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    argv.into_iter().chain(commands).map(str::to_owned).collect()
}

fn birdc(world: &World, command: &[&str]) -> Vec<String> {
    let socket = world.nva_file(LEFT, "bird.ctl").display().to_string();
    let argv = [&["birdc", "-s", &socket], command].concat();
    argv.into_iter().map(str::to_owned).collect()
}

fn bgpctl(world: &World, command: &str) -> Vec<String> {
    let socket = world.nva_file(LEFT, "bgpd.sock").display().to_string();
    let head = ["bgpctl", "-s", &socket].map(str::to_owned);
    head.into_iter().chain(words(command)).collect()
}

fn tool(world: &World, argv: &[String]) -> Result<String> {
    world.tool(LEFT, &argv.iter().map(String::as_str).collect::<Vec<_>>())
}
