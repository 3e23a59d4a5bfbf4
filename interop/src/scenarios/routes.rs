//! Routes of one NVA: from its mouth to the kernels, and away again.

use anyhow::{Result, ensure};
use ipnet::IpNet;
use lab::topology::Path;
use serde_json::json;

use crate::bulk::{self, MANY};
use crate::world::{INSTANCES, LEFT, LEFT_ADDRESS, OBSERVER, PATIENCE, SITE, VMS, World, net, plain};

const BEHIND_LEFT: &str = "10.250.0.0/24";
/// RFC 1997: known by everyone, passed on by no one.
const NO_ADVERTISE: (u16, u16) = (0xFFFF, 0xFF02);

/// ```text
///   site ── left ── 10.250.0.0/24 ──► rs ──► vm1, vm2
/// ```
///
/// 1. Both instances call the route best.
/// 2. Every VM's kernel sends the prefix to the NVA.
/// 3. Packets of every VM go through the NVA to the site and are answered.
/// 4. The API's effective routes say the same as the kernel.
pub(super) fn announced(world: &mut World) -> Result<()> {
    let prefix = net(BEHIND_LEFT);
    world.announce(LEFT, plain(prefix))?;
    world.expect_verdict(LEFT, prefix, "best")?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;
    for vm in VMS {
        let rows = world.api.effective_routes(vm)?;
        let row = rows
            .iter()
            .find(|row| row["addressPrefix"][0] == prefix.to_string().as_str());
        let hops = row.map(|row| row["nextHopIpAddress"].clone());
        ensure!(
            hops == Some(json!([LEFT_ADDRESS])),
            "the effective routes of {vm}: {rows:?}"
        );
    }
    Ok(())
}

/// ```text
///   left ── 10.250.0.0/24, 10.240.0.0/24 ──► rs      left withdraws the first
/// ```
///
/// 1. The withdrawn route is in no report and no kernel.
/// 2. The other one stays where it was, and so does the session.
/// 3. Announced once more, it is back.
pub(super) fn withdrawn(world: &mut World) -> Result<()> {
    let (going, staying) = (net(BEHIND_LEFT), net("10.240.0.0/24"));
    world.announce(LEFT, plain(going))?;
    world.announce(LEFT, plain(staying))?;
    world.expect_kernel(going, &[LEFT_ADDRESS])?;
    world.expect_kernel(staying, &[LEFT_ADDRESS])?;
    let before = world.numbers(LEFT, "establishedCount")?;

    world.withdraw(LEFT, going)?;
    world.expect_no_route(LEFT, going)?;
    world.expect_kernel(going, &[])?;
    world.expect_verdict(LEFT, staying, "best")?;
    world.expect_kernel(staying, &[LEFT_ADDRESS])?;

    world.announce(LEFT, plain(going))?;
    world.expect_kernel(going, &[LEFT_ADDRESS])?;
    ensure!(
        before == world.numbers(LEFT, "establishedCount")?,
        "the session was reset"
    );
    Ok(())
}

/// ```text
///   left ── 10.250.0.0/24, 10.240.0.0/24 NO_ADVERTISE ──► rs (branch-to-branch) ──► observer
/// ```
///
/// 1. Without branch-to-branch the observer is told neither.
/// 2. With it, it is told the first, behind the route server's AS number and the NVA's.
/// 3. It is never told the second, which the VMs have all the same.
/// 4. Without branch-to-branch again, the first is withdrawn from it.
pub(super) fn no_advertise(world: &mut World) -> Result<()> {
    let (open, quiet) = (net(BEHIND_LEFT), net("10.240.0.0/24"));
    let path = Path {
        communities: vec![NO_ADVERTISE],
        ..plain(quiet)
    };
    world.announce(LEFT, plain(open))?;
    world.announce(LEFT, path)?;
    world.expect_kernel(open, &[LEFT_ADDRESS])?;
    world.expect_kernel(quiet, &[LEFT_ADDRESS])?;
    ensure!(
        !told(world, open)?,
        "branch-to-branch is off, and the observer was told {open}"
    );

    world.branch_to_branch(true)?;
    world.eventually("the observer's kernel to have the open prefix", |world| {
        Ok((!world.nva_has(OBSERVER, open)?)
            .then(|| format!("{:?}", world.advertised(OBSERVER)))
            .into_iter()
            .collect())
    })?;
    let advertised = world.advertised(OBSERVER)?;
    let paths: Vec<&str> = advertised
        .iter()
        .filter(|(p, _)| *p == open)
        .map(|(_, path)| path.as_str())
        .collect();
    ensure!(
        paths == ["65515-65001"; INSTANCES],
        "AS paths towards the observer: {paths:?}"
    );
    ensure!(
        !told(world, quiet)?,
        "the observer was told {quiet} in spite of NO_ADVERTISE"
    );
    world.expect_kernel(quiet, &[LEFT_ADDRESS])?;

    world.branch_to_branch(false)?;
    world.eventually("the observer's kernel to lose the prefix", |world| {
        Ok(world
            .nva_has(OBSERVER, open)?
            .then(|| "it is there".to_owned())
            .into_iter()
            .collect())
    })
}

fn told(world: &World, prefix: IpNet) -> Result<bool> {
    Ok(world.advertised(OBSERVER)?.iter().any(|(p, _)| *p == prefix) || world.nva_has(OBSERVER, prefix)?)
}

/// ```text
///   rs ── ROUTE-REFRESH ──► left ── all its routes ──► rs
/// ```
///
/// 1. After a soft reset the NVA sends its routes again: both instances receive UPDATEs although nothing has changed.
/// 2. The session stays, and so does the route.
pub(super) fn refresh(world: &mut World) -> Result<()> {
    let prefix = net(BEHIND_LEFT);
    world.announce(LEFT, plain(prefix))?;
    world.expect_verdict(LEFT, prefix, "best")?;
    let sessions = world.numbers(LEFT, "establishedCount")?;
    let before = world.numbers(LEFT, "updatesReceived")?;
    world.reset(LEFT, true)?;
    world.eventually("the routes to come again", |world| {
        let after = world.numbers(LEFT, "updatesReceived")?;
        let silent = before.iter().zip(&after).any(|(b, a)| a <= b);
        Ok(silent
            .then(|| format!("{before:?} UPDATEs, then {after:?}"))
            .into_iter()
            .collect())
    })?;
    world.expect_verdict(LEFT, prefix, "best")?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    ensure!(
        sessions == world.numbers(LEFT, "establishedCount")?,
        "the session was reset"
    );
    Ok(())
}

/// ```text
///   left ── 10,000 × 20.x.y.0/24 ──► rs (no limits) ──► vm1, vm2
/// ```
///
/// 1. Both instances accept every one.
/// 2. Both kernels hold every one, through the NVA.
/// 3. Withdrawn, they are gone everywhere, and the session has stayed.
pub(super) fn ten_thousand(world: &mut World) -> Result<()> {
    world.set(LEFT, json!({ "routeLimit": 0 }))?;
    world.set_route_server(json!({ "totalRoutes": 0 }))?;
    let sessions = world.numbers(LEFT, "establishedCount")?;
    bulk::announce(world, LEFT)?;
    world.expect_peer("has told 10,000 routes", LEFT, |r| r["routesAccepted"] == MANY)?;
    for vm in VMS {
        let via_left = |r: &&lab::KernelRoute| r.hops.iter().any(|h| h.via == Some(LEFT_ADDRESS));
        world.lab.wait_for_routes(vm, PATIENCE, |all| {
            all.iter().filter(|r| bulk::is_one(r.prefix)).filter(via_left).count() == MANY
        })?;
    }
    bulk::withdraw(world, LEFT)?;
    world.expect_peer("has withdrawn them", LEFT, |r| r["routesReceived"] == 0)?;
    for vm in VMS {
        world
            .lab
            .wait_for_routes(vm, PATIENCE, |all| !all.iter().any(|r| bulk::is_one(r.prefix)))?;
    }
    ensure!(
        sessions == world.numbers(LEFT, "establishedCount")?,
        "the session was reset"
    );
    Ok(())
}
