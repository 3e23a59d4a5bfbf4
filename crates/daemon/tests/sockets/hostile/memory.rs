//! A process whose memory has a ceiling: whoever fills it goes, and not the process.

use super::messages::{attribute, nlri, update};
use super::raw::Raw;
use super::{Scene, among, asn, hostile, id, prefix};
use crate::instance::{OURS, intent, peer};
use crate::nva::Nva;
use crate::world::until;

crate::tests![at_the_ceiling_of_memory_the_noisiest_peer_goes_and_not_the_process];

/// What the instance has now (`VmRSS`), or has had at most (`VmHWM`), MiB.
fn memory_mib(scene: &Scene, what: &str) -> u64 {
    let path = format!("/proc/{}/status", scene.world.process.0.id());
    let status = std::fs::read_to_string(path).expect("the process has ended");
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// Room above what the instance has without the flood.
const ROOM_MIB: u64 = 96;
/// How long the attribute of each route is that it shares with nobody.
const ATTRIBUTE_OCTETS: usize = 3_000;

fn at_the_ceiling_of_memory_the_noisiest_peer_goes_and_not_the_process() {
    among(
        2,
        |_, _| {},
        |scene| async move {
            // One with a table of a usual size, which is not the noisy one.
            let quiet = Nva::start(&hostile(1), asn(1), OURS, None);
            quiet.announce((40_000..45_000).map(prefix)).await;
            until("its table is held", || async {
                scene.report(1).await.routes_received == 5_000
            })
            .await;

            let ceiling_mib = memory_mib(&scene, "VmRSS") + ROOM_MIB;
            scene.limit_memory(ceiling_mib as u32).await;
            let mut noisy = Raw::establish(0).await;
            let usual = noisy.good_attributes().concat();
            let most = ROOM_MIB as usize * 1024 * 1024 / ATTRIBUTE_OCTETS;
            for n in 0..most {
                let mut value = vec![0; ATTRIBUTE_OCTETS];
                value[..8].copy_from_slice(&(n as u64).to_be_bytes());
                let attributes = [usual.clone(), attribute(0xC0, 99, &value)].concat();
                noisy.send(&update(&[], &attributes, &nlri([prefix(n)]))).await;
            }
            let said = noisy.is_ended().await;
            // Cease / Out of Resources, if it comes through before the connection is gone.
            assert!(matches!(said, None | Some((6, 8))), "{said:?}");
            until("it is known why", || async {
                let reason = scene.report(0).await.last_down.map(|down| down.reason);
                reason.is_some_and(|reason| reason.contains(&format!("ceiling of {ceiling_mib} MiB")))
            })
            .await;
            let metrics = scene.world.control.metrics().await.unwrap();
            assert!(
                metrics.contains("routewright_memory_peers_ended_total{instance=\"0\"} 1"),
                "{metrics}"
            );
            until("memory is not short any more", || async {
                let memory = scene.world.control.health().await.unwrap().memory.unwrap();
                !memory.is_short && memory.last_ended == Some(id(0))
            })
            .await;
            let most = memory_mib(&scene, "VmHWM");
            assert!(most <= ceiling_mib, "it has had {most} of {ceiling_mib} MiB");
            let report = scene.report(1).await;
            assert_eq!(
                (report.established_count, report.last_down, report.routes_received),
                (1, None, 5_000)
            );
            scene
        },
    );
}

impl Scene {
    /// The intent again, with a ceiling.
    async fn limit_memory(&self, mib: u32) {
        let mut wanted = intent(2, (0..2).map(|n| peer(&id(n), &hostile(n), asn(n))).collect());
        wanted.route_servers[0].peers.extend(super::healthy::peers());
        wanted.memory_mib = mib;
        self.world.put(&wanted).await.unwrap();
    }
}
