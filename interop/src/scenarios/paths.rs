//! More than one way to a prefix.

use anyhow::Result;
use lab::topology::Path;

use crate::world::{FAR, LEFT, LEFT_ADDRESS, RIGHT, RIGHT_ADDRESS, SITE, World, net, plain};

const SHARED: &str = "10.250.0.0/24";

/// ```text
///   site ── left  ── 10.250.0.0/24 ─┐
///                                   ├─► rs ──► vm1, vm2: both next hops
///   site ── right ── 10.250.0.0/24 ─┘
/// ```
///
/// 1. The kernels share the load between both NVAs, and packets arrive through one or the other.
/// 2. When the NVA that carried a VM's packets is killed, the other one carries them.
/// 3. When it is back, both are used again.
pub(super) fn equal_cost(world: &mut World) -> Result<()> {
    let prefix = net(SHARED);
    let both = [LEFT_ADDRESS, RIGHT_ADDRESS];
    world.announce(LEFT, plain(prefix))?;
    world.announce(RIGHT, plain(prefix))?;
    world.expect_kernel(prefix, &both)?;
    let used = world.expect_packets(SITE, &both)?;

    let (going, staying) = if used == LEFT_ADDRESS {
        (LEFT, RIGHT_ADDRESS)
    } else {
        (RIGHT, LEFT_ADDRESS)
    };
    world.lab.kill(going)?;
    world.expect_kernel(prefix, &[staying])?;
    world.expect_packets(SITE, &[staying])?;

    world.lab.start(going)?;
    world.expect_kernel(prefix, &both)?;
    world.expect_packets(SITE, &both)?;
    Ok(())
}

/// ```text
///   site ── left  ── 10.250.0.0/24, AS path 65001 ──────────────┐
///                                                               ├─► rs
///   site ── right ── 10.250.0.0/24, AS path 65002 65002 65002 ──┘
/// ```
///
/// 1. The shorter AS path is best (RFC 4271 §9.1.2.2 a), the longer one lost, and says at which step.
/// 2. Only the active NVA is in the kernels, and packets go through it.
/// 3. When it withdraws, the passive one takes over; when it announces again, it takes back.
pub(super) fn active_and_passive(world: &mut World) -> Result<()> {
    let prefix = net(SHARED);
    let passive = Path {
        as_path_prepend: 2,
        ..plain(prefix)
    };
    world.announce(RIGHT, passive)?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.announce(LEFT, plain(prefix))?;
    world.expect_verdict(LEFT, prefix, "best")?;
    world.expect_verdict(RIGHT, prefix, "lost: ")?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;

    world.withdraw(LEFT, prefix)?;
    world.expect_verdict(RIGHT, prefix, "best")?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.expect_packets(SITE, &[RIGHT_ADDRESS])?;

    world.announce(LEFT, plain(prefix))?;
    world.expect_kernel(prefix, &[LEFT_ADDRESS])?;
    world.expect_packets(SITE, &[LEFT_ADDRESS])?;
    Ok(())
}

/// ```text
///   left ── 10.252.0.0/24, next hop right ──► rs ──► vm1, vm2 ── right ── far
/// ```
///
/// 1. The next hop is taken as told (az §2.6: NVAs behind a load balancer, or in pairs).
/// 2. Packets go to the next hop, not to who announced it.
/// 3. The announcing NVA's withdrawal removes the route.
pub(super) fn third_party_next_hop(world: &mut World) -> Result<()> {
    let prefix = net("10.252.0.0/24");
    let path = Path {
        next_hop: Some(RIGHT_ADDRESS),
        ..plain(prefix)
    };
    world.announce(LEFT, path)?;
    world.expect_verdict(LEFT, prefix, "best")?;
    world.expect_kernel(prefix, &[RIGHT_ADDRESS])?;
    world.expect_packets(FAR, &[RIGHT_ADDRESS])?;
    world.withdraw(LEFT, prefix)?;
    world.expect_kernel(prefix, &[])
}
