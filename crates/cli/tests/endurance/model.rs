//! What a VM's kernel should hold, from scratch and in the plainest words; it knows nothing of sessions, instances or deltas.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use lab::KernelRoute;
use lab::topology::Path;

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through any of these.
    Via(BTreeSet<Ipv4Addr>),
    /// Directly on the link.
    OnLink,
    /// Through the subnet's first address.
    Gateway(Ipv4Addr),
    /// Dropped.
    Blackhole,
}

pub type Table = BTreeMap<Ipv4Net, Way>;

/// An NVA.
#[derive(Clone, Debug)]
pub struct Nva {
    pub name: String,
    pub address: Ipv4Addr,
    pub alive: bool,
    pub admin_down: bool,
    pub announced: BTreeMap<Ipv4Net, Path>,
}

/// A VM: its address, its subnet, and whether the route table is its subnet's.
#[derive(Clone, Copy, Debug)]
pub struct Vm {
    pub name: &'static str,
    pub address: Ipv4Addr,
    pub subnet: Ipv4Net,
    pub has_route_table: bool,
}

/// The virtual network and all that happened to it.
#[derive(Clone, Debug)]
pub struct Model {
    pub nvas: Vec<Nva>,
    pub address_space: Vec<Ipv4Net>,
    pub branch_to_branch: bool,
    pub disable_bgp_propagation: bool,
    /// User routes: through an appliance, or dropped.
    pub user_routes: BTreeMap<Ipv4Net, Option<Ipv4Addr>>,
}

impl Model {
    /// The kernel table of a VM.
    pub fn table(&self, vm: &Vm) -> Table {
        let learned = self.learned();
        let gateway = Way::Gateway(first(vm.subnet));
        let takes_bgp = !(vm.has_route_table && self.disable_bgp_propagation);
        let user_routes = self.user_routes.iter().filter(|_| vm.has_route_table);
        let has_user_default = user_routes.clone().any(|(prefix, _)| *prefix == net("0.0.0.0/0"));
        let is_own = |hops: &BTreeSet<Ipv4Addr>| hops.contains(&vm.address);
        let bgp_default = learned.get(&net("0.0.0.0/0"));
        let bgp_default = takes_bgp && bgp_default.is_some_and(|hops| has_user_default || !is_own(hops));

        let system = system_defaults(&self.address_space, gateway.clone());
        let mut table = Table::new();
        if !bgp_default {
            table.extend(system.clone());
        }
        for prefix in &self.address_space {
            table.insert(*prefix, gateway.clone());
        }
        for (prefix, hops) in learned.into_iter().filter(|_| takes_bgp) {
            if !is_own(&hops) {
                table.insert(prefix, Way::Via(hops));
            } else if let Some(block) = system.get(&prefix).filter(|_| prefix != net("0.0.0.0/0")) {
                // The system route below stays, also under a default route from BGP.
                table.insert(prefix, block.clone());
            }
        }
        for (prefix, appliance) in user_routes {
            let way = appliance.map_or(Way::Blackhole, |address| Way::Via([address].into()));
            table.insert(*prefix, way);
        }
        table.insert(vm.subnet, Way::OnLink);
        table
    }

    /// Next hops per prefix: all accepted paths of the shortest AS path.
    fn learned(&self) -> BTreeMap<Ipv4Net, BTreeSet<Ipv4Addr>> {
        let mut best: BTreeMap<Ipv4Net, (usize, BTreeSet<Ipv4Addr>)> = BTreeMap::new();
        for nva in self.nvas.iter().filter(|nva| nva.alive && !nva.admin_down) {
            for (prefix, path) in nva.announced.iter().filter(|(_, path)| self.accepts(path)) {
                let length = usize::from(path.as_path_prepend) + path.as_path.len();
                let entry = best.entry(*prefix).or_insert((length, BTreeSet::new()));
                if length < entry.0 {
                    *entry = (length, BTreeSet::new());
                }
                if length == entry.0 {
                    let next_hop = path.next_hop.map(|address| address.to_string().parse().unwrap());
                    entry.1.insert(next_hop.unwrap_or(nva.address));
                }
            }
        }
        best.into_iter().map(|(prefix, (_, hops))| (prefix, hops)).collect()
    }

    fn accepts(&self, path: &Path) -> bool {
        let loops = path.as_path.iter().any(|asn| [0, 65515].contains(asn));
        let inside = self.address_space.iter().any(|space| space.contains(&v4(path.prefix)));
        !loops && !inside
    }
}

/// Our routes in a kernel's table.
pub fn from_kernel(routes: &[KernelRoute]) -> Table {
    let ours = routes.iter().filter(|route| route.protocol == "routewright");
    ours.map(|route| (v4(route.prefix), way(route))).collect()
}

fn way(route: &KernelRoute) -> Way {
    let hops: BTreeSet<Ipv4Addr> = route
        .hops
        .iter()
        .filter_map(|hop| match hop.via {
            Some(std::net::IpAddr::V4(address)) => Some(address),
            _ => None,
        })
        .collect();
    match (route.kind.as_str(), route.nexthop_id, hops.first()) {
        ("blackhole", ..) => Way::Blackhole,
        (_, Some(_), _) => Way::Via(hops),
        (_, None, Some(gateway)) => Way::Gateway(*gateway),
        (_, None, None) => Way::OnLink,
    }
}

/// The kernel table that the API's rows of effective routes mean (`effectiveRouteTable`).
///
/// As in Azure a default route from BGP makes the system's default and blocks absent, and one for a block that block. Where the VM
/// is itself such a route's next hop, the row says that it is not installed and that the system's stay: those are added here.
pub fn from_api(rows: &[serde_json::Value], vm: &Vm, address_space: &[Ipv4Net]) -> Table {
    let text = |row: &serde_json::Value, member: &str| row[member].as_str().unwrap_or_default().to_owned();
    let installed = |row: &&serde_json::Value| text(row, "state") == "Active" && row["notInstalled"].is_null();
    let mut table = Table::new();
    for row in rows.iter().filter(installed) {
        let gateway = Way::Gateway(first(vm.subnet));
        let addresses = row["nextHopIpAddress"].as_array().cloned().unwrap_or_default();
        let addresses = addresses.iter().filter_map(|a| a.as_str()?.parse().ok()).collect();
        let way = match text(row, "nextHopType").as_str() {
            "VnetLocal" | "VNetPeering" | "Internet" => gateway,
            "VirtualNetworkGateway" | "VirtualAppliance" => Way::Via(addresses),
            "None" => Way::Blackhole,
            other => panic!("what is the next hop type {other:?}?"),
        };
        for prefix in row["addressPrefix"].as_array().into_iter().flatten() {
            table.insert(prefix.as_str().unwrap().parse().unwrap(), way.clone());
        }
    }
    let not_installed = rows
        .iter()
        .filter(|row| text(row, "state") == "Active" && !row["notInstalled"].is_null());
    let not_installed: BTreeSet<Ipv4Net> = not_installed
        .filter_map(|row| row["addressPrefix"][0].as_str()?.parse().ok())
        .collect();
    for (prefix, way) in system_defaults(address_space, Way::Gateway(first(vm.subnet))) {
        if not_installed.contains(&prefix) || not_installed.contains(&net("0.0.0.0/0")) {
            table.entry(prefix).or_insert(way);
        }
    }
    table.insert(vm.subnet, Way::OnLink);
    table
}

/// The platform's default route, and the private blocks that it drops, but for those that the virtual network covers.
fn system_defaults(address_space: &[Ipv4Net], gateway: Way) -> Table {
    let blocks = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"].map(net);
    let outside = blocks
        .into_iter()
        .filter(|block| !address_space.iter().any(|prefix| prefix.contains(block)));
    let mut table: Table = outside.map(|block| (block, Way::Blackhole)).collect();
    table.insert(net("0.0.0.0/0"), gateway);
    table
}

/// What is in one table and not, or otherwise, in the other; nothing when they are equal.
pub fn differences(what: &str, table: &Table, expected: &Table) -> Vec<String> {
    const SHOWN: usize = 20;
    let prefixes: BTreeSet<_> = table.keys().chain(expected.keys()).collect();
    let different = prefixes.into_iter().filter(|p| table.get(p) != expected.get(p));
    let words = |way: Option<&Way>| way.map_or("nothing".to_owned(), |way| format!("{way:?}"));
    different
        .take(SHOWN)
        .map(|p| {
            format!(
                "{what}: {p} is {}, should be {}",
                words(table.get(p)),
                words(expected.get(p))
            )
        })
        .collect()
}

fn first(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// The world of these tests is IPv4.
pub fn v4(prefix: IpNet) -> Ipv4Net {
    match prefix {
        IpNet::V4(prefix) => prefix,
        IpNet::V6(prefix) => panic!("{prefix} is in no topology here"),
    }
}

pub fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}
