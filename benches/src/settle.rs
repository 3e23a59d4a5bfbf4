//! A change of the network's configuration until everything has followed it: ten NVAs with sessions to both instances, and 500 virtual
//! networks that use the route server's, with a VM in each, whose agent follows both instances. Manager and instances run as users run
//! them; the change is a PUT.
//!
//! What has settled is not guessed from a number of routes: after a PUT everybody who hears of a route says when, and when nobody has
//! for longer than anything is ever held back, the last word was the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use crate::api::{Api, LOCATION, network, peering_body};
use crate::follower::Followers;
use crate::load::connect_from;
use crate::network::Network;
use crate::outcome::{Figure, OURS, Outcome, Scenario, Size, percentiles};
use crate::peer::{Listener, Session, counted, for_each_encoded};
use crate::speaker::routewright;
use crate::workload::{DEVICE, SECOND, Shape, Workload};

/// Each NVA announces prefixes of its own,
pub(crate) const APART: Workload = Workload {
    shape: Shape::FanOut,
    peers: 10,
    prefixes: 4_000,
};
/// or all the same: only then is there something to prefer.
const TOGETHER: Workload = Workload {
    shape: Shape::Overlap,
    ..APART
};
/// As many virtual networks as Azure lets a route server's have.
pub(crate) const NETWORKS: u32 = 500;

/// Each change is made so often, and taken back as often.
const ROUNDS: usize = 5;
/// Nothing is held back so long: who has said nothing for this time has said all.
const QUIET: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures each kind of change.
pub(crate) fn run() -> Result<Outcome> {
    let sizes = [
        (Size::Peers, APART.peers.into()),
        (Size::Prefixes, APART.prefixes.into()),
        (Size::Networks, NETWORKS.into()),
    ];
    let mut outcome = Outcome::new(Scenario::Settle, OURS, sizes);
    eprintln!(
        "Settle: {} NVAs with {} routes each, {NETWORKS} virtual networks",
        APART.peers, APART.prefixes
    );
    let world = World::start()?;
    world.say(APART, |workload, peer| workload.encode_table(peer))?;
    for (change, figures) in [
        (Change::BranchToBranch, [Figure::BranchP50Ms, Figure::BranchMaxMs]),
        (
            Change::VnetPeering,
            [Figure::VnetPeeringP50Ms, Figure::VnetPeeringMaxMs],
        ),
        (Change::RouteMap, [Figure::RouteMapP50Ms, Figure::RouteMapMaxMs]),
    ] {
        outcome.set_all(figures, world.measure(change)?);
    }
    world.say(APART, |workload, peer| workload.encode_withdrawal(peer))?;
    world.say(TOGETHER, |workload, peer| workload.encode_table(peer))?;
    outcome.set_all(
        [Figure::PreferenceP50Ms, Figure::PreferenceMaxMs],
        world.measure(Change::Preference)?,
    );
    Ok(outcome)
}

/// What is changed, and changed back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// Off: NVAs no longer hear of each other's routes.
    BranchToBranch,
    /// One virtual network stops using the route server.
    VnetPeering,
    /// The map of an NVA's routes drops all of them.
    RouteMap,
    /// All routes of one NVA go before those of the others.
    Preference,
}

impl Change {
    fn make(self, api: &Api, made: bool) -> Result<()> {
        match self {
            Change::BranchToBranch => api.put(
                &network("virtualHubs/rs"),
                &json!({ "location": LOCATION,
                         "properties": { "sku": "Standard", "allowBranchToBranchTraffic": !made } }),
            ),
            Change::VnetPeering => api.put(
                &network(&format!("virtualNetworks/{}", peering_name(0))),
                &to_hub(!made),
            ),
            Change::RouteMap => api.put(&network(MAP), &map(made)),
            Change::Preference => {
                let id = network("virtualHubs/rs/bgpConnections/p3");
                let settings = if made {
                    json!({ "importPreference": 100 })
                } else {
                    json!({})
                };
                api.put_own(&format!("/routewright/v1{id}/settings"), &settings)
            }
        }
    }

    /// Tables of agents that become others, at the least.
    fn tables(self) -> u64 {
        match self {
            Change::BranchToBranch => 0,
            Change::VnetPeering => 2,
            Change::RouteMap | Change::Preference => 2 * u64::from(NETWORKS),
        }
    }
}

/// Everything that listens, over a server that is set up.
struct World {
    api: Api,
    sessions: Vec<Nva>,
    agents: Vec<Followers>,
    ears: Arc<Ears>,
    _speaker: crate::speaker::Speaker,
    _network: Network,
}

impl World {
    fn start() -> Result<World> {
        let links = Network::new(APART.peers)?;
        let (speaker, api) = routewright::start(&links, APART.peers)?;
        add_networks(&api)?;
        api.put(&network(MAP), &map(false))?;
        let routing = json!({ "inboundRouteMap": { "id": network(MAP) } });
        let mut connection = peering_body(0);
        connection["properties"]["routingConfiguration"] = routing;
        api.put(&network("virtualHubs/rs/bgpConnections/p0"), &connection)?;

        let ears = Arc::new(Ears::new());
        let mut sessions = Vec::new();
        for instance in [DEVICE, SECOND] {
            for peer in 0..APART.peers {
                let stream = connect_from(&links, peer, SocketAddr::new(instance.into(), 179))?;
                sessions.push(Nva::listen(Arc::new(Session::new(stream)), peer, &ears));
            }
        }
        let nics: Vec<String> = (0..NETWORKS)
            .map(|n| network(&format!("networkInterfaces/s{n}")).to_lowercase())
            .collect();
        let agents: Vec<Followers> = (api.agent_addresses()?.into_iter())
            .map(|instance| Followers::join(instance, nics.clone()))
            .collect::<Result<_>>()?;
        ensure!(agents.len() == 2, "only {} instances take agents", agents.len());
        for agents in &agents {
            agents.wait(PATIENCE)?;
        }
        Ok(World {
            api,
            sessions,
            agents,
            ears,
            _speaker: speaker,
            _network: links,
        })
    }

    /// Every NVA says the same kind of thing to both instances.
    fn say(&self, workload: Workload, words: impl Fn(Workload, u32) -> Vec<u8> + Sync) -> Result<()> {
        let (tables, started) = (self.tables_changed(), Instant::now());
        thread::scope(|scope| {
            let speaking: Vec<_> = (self.sessions.iter())
                .map(|nva| {
                    let words = &words;
                    scope.spawn(move || nva.session.write(&words(workload, nva.peer)))
                })
                .collect();
            speaking.into_iter().try_for_each(|one| match one.join() {
                Ok(written) => written.context("an NVA cannot write"),
                Err(_) => Err(anyhow::anyhow!("an NVA died")),
            })
        })?;
        let took = self.settled(started, tables + 2 * u64::from(NETWORKS))?;
        eprintln!("  tables: {:.2} s", took.as_secs_f64());
        Ok(())
    }

    /// The middle and the slowest of all rounds, milliseconds.
    fn measure(&self, change: Change) -> Result<[f64; 2]> {
        let mut times = Vec::new();
        let mut held = [None, None];
        for round in 0..2 * ROUNDS {
            let made = round % 2 == 0;
            let tables = self.tables_changed();
            let started = Instant::now();
            change.make(&self.api, made)?;
            let answered = started.elapsed();
            let settled = self.settled(started, tables + change.tables())?.max(answered);
            // Each state is the same every time, and not the other.
            let now = self.sessions.iter().map(|nva| nva.held()).collect::<Vec<usize>>();
            let before = held[usize::from(made)].get_or_insert_with(|| now.clone());
            ensure!(*before == now, "{change:?}: NVAs hold {before:?}, then {now:?}");
            eprintln!(
                "  {change:?}: answered in {:.0} ms, settled in {:.0} ms",
                millis(answered),
                millis(settled)
            );
            times.push(millis(settled));
        }
        ensure!(
            change == Change::Preference || held[0] != held[1],
            "{change:?}: no NVA was told of it"
        );
        times.sort_by(f64::total_cmp);
        let [p50, _, max] = percentiles(&times);
        Ok([p50, max])
    }

    /// How long after `started` the last word was; not before agents' tables have become others so often in all.
    fn settled(&self, started: Instant, tables: u64) -> Result<Duration> {
        loop {
            let agents = self.agents.iter().map(Followers::last_change);
            let last = agents.fold(self.ears.last(), Instant::max).max(started);
            let changed = self.tables_changed();
            if last.elapsed() > QUIET && changed >= tables {
                return Ok(last - started);
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "no rest within {PATIENCE:?}: agents' tables became others {changed} times, of {tables}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn tables_changed(&self) -> u64 {
        self.agents.iter().map(Followers::changes).sum()
    }
}

const MAP: &str = "virtualHubs/rs/routeMaps/settle";

fn map(drops: bool) -> Value {
    let actions = match drops {
        true => json!([{ "type": "Drop", "parameters": [] }]),
        false => json!([]),
    };
    json!({ "properties": { "rules": [{ "name": "r", "actions": actions }] } })
}

/// Virtual networks that use the hub's route server, with a NIC in each.
fn add_networks(api: &Api) -> Result<()> {
    let resource = |kind: &str, name: String, body: Value| {
        let mut resource = body;
        resource["type"] = format!("Microsoft.Network/{kind}").into();
        resource["apiVersion"] = "2024-05-01".into();
        resource["name"] = name.into();
        resource
    };
    let all = |of: &dyn Fn(u32) -> Value| (0..NETWORKS).map(of).collect::<Vec<Value>>();
    api.deploy(
        "networks",
        &all(&|n| resource("virtualNetworks", format!("s{n}"), spoke(n))),
    )?;
    let peerings = "virtualNetworks/virtualNetworkPeerings";
    api.deploy(
        "offers",
        &all(&|n| resource(peerings, format!("hub/s{n}"), to_spoke(n))),
    )?;
    api.deploy("uses", &all(&|n| resource(peerings, format!("s{n}/hub"), to_hub(true))))?;
    api.deploy(
        "nics",
        &all(&|n| resource("networkInterfaces", format!("s{n}"), nic(n))),
    )
}

/// As an URL has it.
fn peering_name(n: u32) -> String {
    format!("s{n}/virtualNetworkPeerings/hub")
}

fn spoke(n: u32) -> Value {
    let prefix = format!("172.{}.{}.0/24", 20 + n / 256, n % 256);
    json!({ "location": LOCATION, "properties": {
        "addressSpace": { "addressPrefixes": [prefix] },
        "subnets": [{ "name": "vms", "properties": { "addressPrefix": prefix } }] } })
}

fn to_spoke(n: u32) -> Value {
    json!({ "properties": {
        "remoteVirtualNetwork": { "id": network(&format!("virtualNetworks/s{n}")) },
        "allowVirtualNetworkAccess": true, "allowForwardedTraffic": true, "allowGatewayTransit": true } })
}

fn to_hub(uses_it: bool) -> Value {
    json!({ "properties": {
        "remoteVirtualNetwork": { "id": network("virtualNetworks/hub") },
        "allowVirtualNetworkAccess": true, "allowForwardedTraffic": true, "useRemoteGateways": uses_it } })
}

fn nic(n: u32) -> Value {
    json!({ "location": LOCATION, "properties": { "ipConfigurations": [ {
        "name": "ip", "properties": {
            "privateIPAddress": format!("172.{}.{}.5", 20 + n / 256, n % 256), "privateIPAllocationMethod": "Static",
            "subnet": { "id": network(&format!("virtualNetworks/s{n}/subnets/vms")) } } } ] } })
}

/// When some session was last told of a route.
struct Ears {
    start: Instant,
    last_micros: AtomicU64,
}

impl Ears {
    fn new() -> Ears {
        Ears {
            start: Instant::now(),
            last_micros: AtomicU64::new(0),
        }
    }

    fn hear(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_micros.fetch_max(now, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_micros(self.last_micros.load(Ordering::Relaxed))
    }
}

/// One NVA's session with one instance.
struct Nva {
    peer: u32,
    session: Arc<Session>,
    held: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Nva {
    fn listen(session: Arc<Session>, peer: u32, ears: &Arc<Ears>) -> Nva {
        let (held, stop) = (Arc::default(), Arc::default());
        let mut told = Told {
            prefixes: FxHashSet::default(),
            held: Arc::clone(&held),
            ears: Arc::clone(ears),
        };
        let reader = thread::spawn({
            let (session, stop) = (Arc::clone(&session), Arc::clone(&stop));
            move || session.read(&stop, &mut told)
        });
        Nva {
            peer,
            session,
            held,
            stop,
            reader: Some(reader),
        }
    }

    /// Prefixes that it was told and still may use.
    fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

impl Drop for Nva {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.session.close();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// What a session was told.
struct Told {
    prefixes: FxHashSet<u64>,
    held: Arc<AtomicUsize>,
    ears: Arc<Ears>,
}

impl Listener for Told {
    fn update(&mut self, body: &[u8]) {
        let Some((withdrawn, rest)) = counted(body) else { return };
        let Some((_, announced)) = counted(rest) else { return };
        // Five octets at most.
        let key = |prefix: &[u8]| prefix.iter().fold(0, |key, octet| key << 8 | u64::from(*octet));
        for_each_encoded(withdrawn, |prefix| {
            self.prefixes.remove(&key(prefix));
        });
        for_each_encoded(announced, |prefix| {
            self.prefixes.insert(key(prefix));
        });
        if !withdrawn.is_empty() || !announced.is_empty() {
            self.ears.hear();
        }
    }

    fn caught_up(&mut self) {
        self.held.store(self.prefixes.len(), Ordering::Release);
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
