//! Hostile peers and load. In every test a healthy pair of peers and an agent stand beside, and must never notice.
//!
//! ```text
//!   10.1.2.1, 10.1.2.2 … hostile ──BGP──►  10.1.1.4   ◄──BGP── 10.1.3.250 healthy: has said routes
//!                                         instance 0  ◄──BGP── 10.1.3.251 watcher: has heard them
//!                                                     ◄─gRPC── an agent:           has them in its table
//! ```
//!
//! The healthy ones have threads of their own, so that what keeps the test busy cannot make them late.

mod attributes;
mod healthy;
mod limits;
mod load;
mod memory;
mod messages;
mod open;
mod paths;
mod raw;
mod transport;

use std::net::IpAddr;

use bgp::IpNet;
use routeserver::intent::PeerIntent;

use crate::instance::{OURS, World, intent, peer};
use crate::world::with_addresses;
use healthy::{HEALTHY, Healthy, WATCHER};

/// All of them.
pub(crate) fn tests() -> Vec<(&'static str, fn())> {
    [
        open::TESTS,
        attributes::TESTS,
        paths::TESTS,
        transport::TESTS,
        limits::TESTS,
        load::TESTS,
        memory::TESTS,
    ]
    .concat()
}

/// An instance with hostile peers, and the healthy ones beside.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) healthy: Healthy,
}

/// The address of hostile peer `n`, from 0; there is room for some 450.
pub(crate) fn hostile(n: usize) -> String {
    let n = n + 1;
    format!("10.1.{}.{}", 2 + n / 250, n % 250 + 1)
}

/// The AS number of hostile peer `n`.
pub(crate) fn asn(n: usize) -> u32 {
    64_600 + n as u32
}

/// The peering's id.
pub(crate) fn id(n: usize) -> String {
    format!("hostile{n}")
}

/// Runs a test against an instance with so many hostile peers, as `edit` wants each; at its end the healthy ones must not have noticed.
pub(crate) fn among<F: Future<Output = Scene>>(
    peers: usize,
    edit: impl Fn(usize, &mut PeerIntent),
    test: impl FnOnce(Scene) -> F,
) {
    let addresses: Vec<String> = (0..peers).map(hostile).collect();
    let ours = [OURS, HEALTHY, WATCHER];
    let all: Vec<&str> = addresses.iter().map(String::as_str).chain(ours).collect();
    let mut wanted: Vec<PeerIntent> = (0..peers)
        .map(|n| {
            let mut wanted = peer(&id(n), &addresses[n], asn(n));
            edit(n, &mut wanted);
            wanted
        })
        .collect();
    wanted.extend(healthy::peers());
    with_addresses(&all, || async {
        let world = World::with(intent(1, wanted)).await;
        let healthy = Healthy::beside(&world).await;
        let mut scene = test(Scene { world, healthy }).await;
        scene.healthy.never_noticed(&scene.world).await;
    });
}

/// A thread with tasks of its own, in the test's namespace: what keeps the test busy cannot make them late.
pub(crate) struct OwnThread(Option<tokio::runtime::Runtime>);

impl OwnThread {
    pub(crate) fn start() -> OwnThread {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        OwnThread(Some(runtime.unwrap()))
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0.as_ref().unwrap()
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Prefix `n` of those that hostile peers say: /24s from 20.0.0.0 on.
pub(crate) fn prefix(n: usize) -> IpNet {
    let address = IpAddr::from((0x1400_0000 + ((n as u32) << 8)).to_be_bytes());
    IpNet::new(address, 24).unwrap()
}

impl Scene {
    /// The report of hostile peer `n`.
    pub(crate) async fn report(&self, n: usize) -> routeserver::report::PeerReport {
        let id = id(n);
        let peers = self.world.control.peers(None).await.unwrap();
        peers.into_iter().find(|peer| peer.id == id).unwrap()
    }

    /// Lets a peer in again that is held off for what it did: the operator's reset.
    pub(crate) async fn pardon(&self, n: usize) {
        self.world.control.reset_peer(&id(n), false).await.unwrap();
    }
}
