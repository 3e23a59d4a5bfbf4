//! The ones who must not notice anything: two NVAs and an agent, on threads of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use api::agent::{TableUpdate, ToAgent, route, to_agent};
use bgp::IpNet;
use routeserver::intent::PeerIntent;
use tokio_stream::StreamExt;

use super::OwnThread;
use crate::instance::{OURS, World, join, net, peer};
use crate::nva::Nva;
use crate::world::{address, until};

/// Has said routes before the hostile ones come.
pub(crate) const HEALTHY: &str = "10.1.3.250";
/// Hears them.
pub(crate) const WATCHER: &str = "10.1.3.251";
const HEALTHY_ASN: u32 = 65_001;
const WATCHER_ASN: u32 = 65_002;
/// Short, so that an instance that is late with its KEEPALIVEs loses the session; long enough for a machine that is busy.
const HOLD_TIME_SECS: u16 = 15;
/// How many routes the healthy one has.
const ROUTES: u8 = 50;

/// The peerings.
pub(crate) fn peers() -> [PeerIntent; 2] {
    [
        peer("healthy", HEALTHY, HEALTHY_ASN),
        peer("watcher", WATCHER, WATCHER_ASN),
    ]
}

/// See the module.
pub(crate) struct Healthy {
    speaker: Nva,
    watcher: Nva,
    table: Arc<Mutex<Table>>,
    routes: Vec<IpNet>,
    epoch: u64,
    /// How often it was asked whether they noticed.
    asked: u8,
    _thread: OwnThread,
}

impl Healthy {
    /// Starts them, and waits until the routes have arrived everywhere.
    pub(crate) async fn beside(world: &World) -> Healthy {
        let thread = OwnThread::start();
        let start = |local: &str, asn: u32| {
            let _runtime = thread.runtime().enter();
            Nva::start_with(local, asn, OURS, None, |config| config.hold_time_secs = HOLD_TIME_SECS)
        };
        let (speaker, watcher) = (start(HEALTHY, HEALTHY_ASN), start(WATCHER, WATCHER_ASN));
        let table = Arc::new(Mutex::new(Table::default()));
        thread
            .runtime()
            .spawn(follow(world.directory.path().to_owned(), Arc::clone(&table)));

        let routes: Vec<IpNet> = (0..ROUTES).map(|n| net(&format!("10.200.{n}.0/24"))).collect();
        speaker.announce(routes.clone()).await;
        let healthy = Healthy {
            speaker,
            watcher,
            table,
            epoch: world.control.health().await.unwrap().epoch,
            routes,
            asked: 0,
            _thread: thread,
        };
        healthy.routes_are_everywhere(&healthy.routes).await;
        let network = net("10.1.0.0/16");
        healthy
            .speaker
            .sees("the virtual network", |seen| seen.learned.contains(&network))
            .await;
        healthy.speaker.watch([network]).await;
        healthy.watcher.watch(healthy.routes.clone()).await;
        healthy.table.lock().unwrap().watched = healthy.routes.clone();
        healthy
    }

    /// The very sessions that there were at the beginning stand, nobody was told anything again, the agent's table is unchanged; and all are
    /// served still: a route that is new gets everywhere.
    pub(crate) async fn never_noticed(&mut self, world: &World) {
        self.asked += 1;
        let canary = net(&format!("10.210.{}.0/24", self.asked));
        self.speaker.announce([canary]).await;
        self.routes_are_everywhere(&[canary]).await;

        assert_eq!(
            world.control.health().await.unwrap().epoch,
            self.epoch,
            "the process is another one"
        );
        for nva in [&self.speaker, &self.watcher] {
            let seen = nva.seen();
            assert!(seen.noticed.is_empty(), "{:?}", seen.noticed);
            assert_eq!((seen.ups, seen.established), (1, true));
        }
        for id in ["healthy", "watcher"] {
            let peers = world.control.peers(None).await.unwrap();
            let report = peers.into_iter().find(|peer| peer.id == id).unwrap();
            assert_eq!(
                (report.established_count, report.last_down),
                (1, None),
                "as the instance sees {id}"
            );
        }
        let table = self.table.lock().unwrap();
        assert!(table.noticed.is_empty(), "the agent: {:?}", table.noticed);
        for route in &self.routes {
            assert_eq!(table.next_hops(route), [address(HEALTHY)], "the agent's {route}");
        }
    }

    async fn routes_are_everywhere(&self, routes: &[IpNet]) {
        self.watcher
            .sees("the routes", |seen| {
                routes.iter().all(|route| seen.learned.contains(route))
            })
            .await;
        until("the agent has the routes", || async {
            let table = self.table.lock().unwrap();
            routes.iter().all(|route| table.next_hops(route) == [address(HEALTHY)])
        })
        .await;
    }
}

/// What an agent holds of the healthy one's routes.
#[derive(Default)]
struct Table {
    /// Of all prefixes of 10.0.0.0/8, by group.
    routes: BTreeMap<IpNet, u32>,
    groups: BTreeMap<u32, Vec<IpAddr>>,
    watched: Vec<IpNet>,
    /// What happened to watched routes.
    noticed: Vec<String>,
    /// A snapshot whose pieces are arriving.
    begun: Option<u64>,
}

impl Table {
    fn next_hops(&self, route: &IpNet) -> &[IpAddr] {
        let group = self.routes.get(route).and_then(|group| self.groups.get(group));
        group.map_or(&[], Vec::as_slice)
    }

    fn hear(&mut self, update: TableUpdate, is_snapshot: bool) {
        let begins = is_snapshot && self.begun != Some(update.generation);
        if begins {
            self.routes.clear();
            self.groups.clear();
        }
        for group in &update.groups {
            let members = group.members.iter().filter_map(|octets| api::convert::address(octets));
            self.groups.insert(group.id, members.collect());
        }
        for id in &update.removed_groups {
            self.groups.remove(id);
        }
        for removed in update.removed.iter().filter_map(api::convert::prefix) {
            self.routes.remove(&removed);
        }
        for route in &update.routes {
            let prefix = route.prefix.as_ref().and_then(api::convert::prefix);
            let (Some(prefix), Some(route::Way::Group(group))) = (prefix, route.way) else {
                continue;
            };
            if net("10.0.0.0/8").contains(&prefix) {
                self.routes.insert(prefix, group);
            }
        }
        self.begun = update.more.then_some(update.generation);
        if update.more {
            // Half a generation is nobody's table.
            return;
        }
        for route in &self.watched {
            if self.next_hops(route) != [address(HEALTHY)] {
                self.noticed
                    .push(format!("{route} changed: {:?}", self.next_hops(route)));
            }
        }
    }
}

/// Follows the VM's NIC until the end.
async fn follow(run_dir: std::path::PathBuf, table: Arc<Mutex<Table>>) {
    let (mut agent, _answers) = join(&run_dir, vec!["vm".into()], false).await;
    while let Some(Ok(ToAgent { body: Some(said) })) = agent.next().await {
        match said {
            to_agent::Body::Snapshot(update) => table.lock().unwrap().hear(update, true),
            to_agent::Body::Delta(update) => table.lock().unwrap().hear(update, false),
            _ => {}
        }
    }
    let mut table = table.lock().unwrap();
    table.noticed.push("the stream ended".to_owned());
}
