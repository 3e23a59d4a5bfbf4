//! A shipped topology as a test has it: brought up from its file, asked which way packets go, changed through the API.
//!
//! All that is asked is waited for: what a machine takes for it is no business of these tests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::harness::TestLab;
use lab::{KernelRoute, Topology, network_id};
use routeserver::report::PeerReport;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{DEADLINE, labs};

/// The newest version that has all that is changed here.
const API_VERSION: &str = "2024-10-01";
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a look waits for each hop: packets may be meant to vanish.
const HOP: Duration = Duration::from_secs(2);

/// A lab from a file of `topologies/`.
pub struct Design {
    lab: TestLab,
    // Goes after the lab.
    _labs: TempDir,
}

impl std::ops::Deref for Design {
    type Target = TestLab;
    fn deref(&self) -> &TestLab {
        &self.lab
    }
}

impl std::ops::DerefMut for Design {
    fn deref_mut(&mut self) -> &mut TestLab {
        &mut self.lab
    }
}

impl Design {
    /// The topology as shipped.
    pub fn up(file: &str) -> Design {
        Design::changed(file, str::to_owned)
    }

    /// The topology with something changed in its file.
    pub fn changed(file: &str, change: impl Fn(&str) -> String) -> Design {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../topologies")
            .join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let topology = Topology::parse(file, &change(&text)).unwrap();
        let labs = labs();
        let name = file.trim_end_matches(".yaml");
        let lab = TestLab::up(&topology, labs.path(), name, false).unwrap();
        Design { lab, _labs: labs }
    }

    /// Waits until packets from one node reach another through exactly these nodes.
    pub fn goes(&self, from: &str, to: &str, through: &[&str]) {
        self.goes_to(from, to, self.address(to), through);
    }

    /// The same to one of the node's addresses.
    pub fn goes_to(&self, from: &str, to: &str, address: IpAddr, through: &[&str]) {
        self.until((from, to, address), |way| way.is_some_and(|way| way == through));
    }

    /// The same without the fabric's routers, which stand for the network itself.
    pub fn crosses(&self, from: &str, to: &str, through: &[&str]) {
        self.until((from, to, self.address(to)), |way| {
            way.is_some_and(|way| way.iter().filter(|node| *node != "fabric").eq(through))
        });
    }

    /// Waits until packets from one node reach another, and says through whom.
    pub fn way(&self, from: &str, to: &str) -> Vec<String> {
        self.way_to(from, to, self.address(to))
    }

    /// The same to one of the node's addresses.
    pub fn way_to(&self, from: &str, to: &str, address: IpAddr) -> Vec<String> {
        self.until((from, to, address), |way| way.is_some()).unwrap()
    }

    /// Waits until packets from one node reach another on such a way.
    pub fn until_way(&self, from: &str, to: &str, holds: impl Fn(&[String]) -> bool) {
        self.until((from, to, self.address(to)), |way| way.is_some_and(&holds));
    }

    /// Waits until packets do not arrive any more.
    pub fn does_not_reach(&self, from: &str, to: &str) {
        self.until((from, to, self.address(to)), |way| way.is_none());
    }

    fn until(
        &self,
        (from, to, address): (&str, &str, IpAddr),
        holds: impl Fn(Option<&[String]>) -> bool,
    ) -> Option<Vec<String>> {
        let end = Instant::now() + DEADLINE;
        loop {
            let probe = self.lab.probe(from, to, address, HOP);
            let way = probe.reached.then_some(probe.through);
            if holds(way.as_deref()) {
                return way;
            }
            let routes = || self.lab.kernel_routes(from).unwrap();
            assert!(
                Instant::now() < end,
                "{from} to {to} goes through {way:?}; {from} has {:#?}",
                routes()
            );
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// A node's first address.
    pub fn address(&self, node: &str) -> IpAddr {
        let layout = self.lab.layout();
        let node = layout.node(node).unwrap();
        node.interfaces[0].addresses[0].addr()
    }

    /// Waits until a kernel's route to a prefix has exactly these nodes as next hops.
    pub fn leads(&self, node: &str, to: &str, through: &[&str]) {
        let mut wanted: Vec<_> = through.iter().map(|name| self.address(name)).collect();
        wanted.sort();
        self.wait(node, |routes| next_hops(routes, to) == wanted);
    }

    /// Waits until a kernel's route to a prefix has this address as its only next hop.
    pub fn leads_to_address(&self, node: &str, to: &str, through: IpAddr) {
        self.wait(node, |routes| next_hops(routes, to) == [through]);
    }

    /// Waits until a kernel has a route to a prefix.
    pub fn has(&self, node: &str, to: &str) {
        self.wait(node, |routes| has(routes, to));
    }

    /// Waits until a kernel has no route to a prefix.
    pub fn lacks(&self, node: &str, to: &str) {
        self.wait(node, |routes| !has(routes, to));
    }

    /// Waits until a kernel's routes are as wanted.
    pub fn wait(&self, node: &str, condition: impl Fn(&[KernelRoute]) -> bool) {
        self.lab.wait_for_routes(node, DEADLINE, condition).unwrap();
    }

    /// As `az … update` does: GET, change, PUT.
    pub fn change(&self, id: &str, change: impl Fn(&mut Value)) {
        let api = self.lab.api().unwrap();
        let path = format!("{id}?api-version={API_VERSION}");
        let mut body = api.get(&path).unwrap();
        change(&mut body);
        api.put(&path, &body).unwrap();
    }

    /// The row of a network interface's effective routes for a prefix that comes from a source.
    pub fn effective(&self, node: &str, to: &str, source: &str) -> Option<Value> {
        let rows = self.lab.api().unwrap().effective_routes(node).unwrap();
        let is_it = |row: &&Value| row["addressPrefix"][0] == to && row["source"] == source;
        rows.iter().find(is_it).cloned()
    }

    /// What an action of the route server says of an NVA's peering, as a list.
    pub fn ask(&self, action: &str, nva: &str) -> Value {
        self.ask_of(action, &network_id(&format!("virtualHubs/rs/bgpConnections/{nva}")))
    }

    /// The same of any connection, a gateway's too.
    pub fn ask_of(&self, action: &str, connection: &str) -> Value {
        let path = network_id(&format!("virtualHubs/rs/{action}?api-version={API_VERSION}"));
        let body = json!({ "resourceUri": connection });
        let answer = self.lab.api().unwrap().ask(&path, Some(&body)).unwrap();
        answer["value"].clone()
    }

    /// Waits until every session is Established; how often each has become so.
    pub fn sessions(&self) -> BTreeMap<(String, usize), u64> {
        let all = || self.lab.api().unwrap().peers().unwrap();
        until("every session is Established", || {
            all().iter().all(|peer| peer.state == "Established")
        });
        let count = |peer: PeerReport| ((peer.id, peer.instance), peer.established_count);
        all().into_iter().map(count).collect()
    }

    /// Whether every session has been there since its beginning.
    pub fn no_session_ended(&self) {
        for peer in self.lab.api().unwrap().peers().unwrap() {
            assert_eq!(
                (peer.state.as_str(), peer.established_count),
                ("Established", 1),
                "{peer:#?}"
            );
        }
    }
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn has(routes: &[KernelRoute], to: &str) -> bool {
    let to: IpNet = to.parse().unwrap();
    routes.iter().any(|route| route.prefix == to)
}

/// Those of the route that is used, in order.
fn next_hops(routes: &[KernelRoute], to: &str) -> Vec<IpAddr> {
    let to: IpNet = to.parse().unwrap();
    let used = routes.iter().filter(|r| r.prefix == to).min_by_key(|r| r.metric);
    let hops = used.into_iter().flat_map(|route| &route.hops);
    let mut all: Vec<IpAddr> = hops.filter_map(|hop| hop.via).collect();
    all.sort();
    all
}
