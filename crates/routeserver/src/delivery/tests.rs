//! Agents as a model: what they make of the messages must equal what the effective routes say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bgp::IpNet;
use proptest::prelude::*;

use super::*;
use crate::instance::Output;
use crate::intent::{ImportFilter, ImportRule, Intent};
use crate::report::EffectiveRoute;
use crate::testing::*;
use crate::vnet::{Changed, LocRib, Scope, Topology, rows};

const AGENT: AgentId = AgentId(7);

/// One route server's Loc-RIB, the agents' state machine, and one model agent that follows every NIC.
struct World {
    intent: Intent,
    topology: Topology,
    loc_rib: LocRib,
    changed: Arc<Changed>,
    delivery: Delivery,
    agent: ModelAgent,
    /// Whole tables take over nothing for now.
    falls_behind: bool,
    /// Updates as the agent got them, since last asked.
    heard: Vec<ToAgent>,
}

/// An agent that believes what it hears, and checks that it can.
#[derive(Default)]
pub(crate) struct ModelAgent {
    pub(crate) nics: BTreeMap<String, NicAssignment>,
    tables: BTreeMap<TableId, ModelTable>,
}

#[derive(Default)]
struct ModelTable {
    generation: u64,
    groups: BTreeMap<GroupId, Group>,
    routes: BTreeMap<IpNet, TableRoute>,
    hides: Vec<IpNet>,
}

struct FakeRoutes<'a>(&'a LocRib, &'a Arc<Changed>);

impl Routes for FakeRoutes<'_> {
    fn loc_rib(&self, _route_server: &str) -> Option<&LocRib> {
        Some(self.0)
    }
    fn changed(&self, _route_server: &str) -> Option<&Arc<Changed>> {
        Some(self.1)
    }
    fn started_over(&self, _route_server: &str) -> bool {
        false
    }
}

impl World {
    fn new() -> World {
        World::with_layers(true)
    }

    /// With an agent that knows layers, or not.
    fn with_layers(layers: bool) -> World {
        let intent = hub_and_spoke();
        let mut world = World {
            topology: Topology::new(Arc::new(intent.clone()), 0),
            intent,
            loc_rib: LocRib::new(KEY),
            changed: Arc::default(),
            delivery: Delivery::new(KEY),
            agent: ModelAgent::default(),
            falls_behind: false,
            heard: Vec::new(),
        };
        let nics = ["vm", "nva1", "nva2", "spokevm", "peeredvm"].map(str::to_owned);
        world.delivery.follows(AGENT, "model".into(), nics.into(), layers);
        world.settle(false);
        world
    }

    fn bgp(&mut self, changes: &[&str]) {
        self.changes(changes.iter().map(|text| change(text)));
    }

    fn changes(&mut self, changes: impl IntoIterator<Item = rib::Change>) {
        self.changed = Arc::new(self.loc_rib.apply(changes));
        self.settle(false);
    }

    fn intent(&mut self, edit: impl FnOnce(&mut Intent)) {
        edit(&mut self.intent);
        self.topology = Topology::new(Arc::new(self.intent.clone()), 0);
        self.settle(true);
    }

    fn settle(&mut self, topology_changed: bool) {
        let routes = FakeRoutes(&self.loc_rib, &self.changed);
        let mut outputs = VecDeque::new();
        self.delivery.routes_changed(&routes, &mut outputs);
        if topology_changed {
            self.delivery.topology_changed(&self.topology, &routes, &mut outputs);
        }
        if !self.falls_behind {
            self.delivery.catch_up(usize::MAX, &routes, &mut outputs);
        }
        self.delivery
            .sync(usize::MAX, &self.topology, &routes, true, &mut outputs);
        self.changed = Arc::default();
        let to_agent = |output: Output| match output {
            Output::ToAgents { agents, message } if agents.contains(&AGENT) => Some(message),
            _ => None,
        };
        self.told(outputs.into_iter().filter_map(to_agent).collect());
    }

    /// The agent hears this. While tables only change, no prefix is left without a route that has one before and after.
    fn told(&mut self, messages: Vec<ToAgent>) {
        let only_deltas = messages.iter().all(|message| matches!(message, ToAgent::Delta(_)));
        let mut pictures = vec![self.agent.prefixes()];
        for message in messages {
            self.heard.push(message.clone());
            self.agent.hear(message);
            if only_deltas {
                pictures.push(self.agent.prefixes());
            }
        }
        let (Some(first), Some(last)) = (pictures.first(), pictures.last()) else {
            return;
        };
        let stays: BTreeSet<_> = first.intersection(last).collect();
        for picture in &pictures {
            assert!(
                stays.iter().all(|prefix| picture.contains(*prefix)),
                "no route goes for a moment"
            );
        }
    }

    fn hear(&mut self) -> Vec<ToAgent> {
        std::mem::take(&mut self.heard)
    }

    /// The agent's tables against the effective routes of every NIC.
    fn check(&self) {
        for (nic, assignment) in &self.agent.nics {
            let Some(facts) = self.topology.nic(nic) else {
                assert_eq!(assignment.table, None, "{nic} is no more");
                continue;
            };
            let view = self.topology.view(&facts.place).unwrap();
            let loc_rib = view.speaker.is_some().then_some(&self.loc_rib);
            let own = &facts.addresses;
            let rows = rows(Scope {
                view: &view,
                loc_rib,
                own,
            });
            let mut networks = self.intent.virtual_networks.iter();
            let network = networks.find(|network| network.nics.iter().any(|each| each.id == *nic));
            self.agent.check(nic, &rows, &network.unwrap().address_space);
        }
    }
}

impl ModelAgent {
    /// The NIC's table against its effective routes, in a virtual network with this address space.
    pub(crate) fn check(&self, nic: &str, rows: &[EffectiveRoute], space: &[IpNet]) {
        let assignment = &self.nics[nic];
        let expected = expected_kernel(rows, space, &assignment.subnet_prefixes);
        assert_eq!(self.kernel(assignment), expected, "kernel of {nic}");
        for table in self.layers(assignment) {
            for group in table.groups.values() {
                let used = table.routes.values().any(|route| route.way == Way::Group(group.id));
                assert!(used, "no unused group stays");
                let ours = |address| assignment.addresses.contains(address);
                assert!(!group.fallback.iter().any(ours), "no NIC is its own fallback");
            }
        }
    }

    /// The NIC's table, and the one below.
    fn layers(&self, assignment: &NicAssignment) -> impl Iterator<Item = &ModelTable> {
        let layers = [assignment.table, assignment.base].into_iter().flatten();
        layers.map(|id| &self.tables[&id])
    }

    /// Both layers as one.
    fn kernel(&self, assignment: &NicAssignment) -> BTreeMap<IpNet, String> {
        let mut layers = self.layers(assignment);
        let Some(own) = layers.next() else {
            return BTreeMap::new();
        };
        let mut kernel = layers.next().map(ModelTable::kernel).unwrap_or_default();
        kernel.retain(|prefix, _| !own.hides.iter().any(|hidden| hidden.contains(prefix)));
        kernel.extend(own.kernel());
        kernel
    }

    /// Every prefix of every NIC with a table.
    fn prefixes(&self) -> BTreeSet<(String, IpNet)> {
        let of = |(nic, assignment): (&String, &NicAssignment)| -> Vec<(String, IpNet)> {
            let both = [assignment.table, assignment.base].into_iter().flatten();
            match both.clone().all(|id| self.tables.contains_key(&id)) {
                true => self
                    .kernel(assignment)
                    .into_keys()
                    .map(|prefix| (nic.clone(), prefix))
                    .collect(),
                false => Vec::new(),
            }
        };
        self.nics.iter().flat_map(of).collect()
    }

    pub(crate) fn hear(&mut self, message: ToAgent) {
        match message {
            ToAgent::Nic(assignment) => {
                self.nics.insert(assignment.nic.to_string(), assignment);
            }
            ToAgent::Snapshot(update) => {
                let table = self.tables.entry(update.table).or_default();
                *table = ModelTable::default();
                table.apply(&update);
            }
            ToAgent::Delta(update) => {
                let table = self.tables.get_mut(&update.table).expect("a delta follows a snapshot");
                assert_eq!(table.generation + 1, update.generation);
                table.apply(&update);
            }
            ToAgent::Converged(_) => {}
        }
    }
}

impl ModelTable {
    fn apply(&mut self, update: &TableUpdate) {
        self.generation = update.generation;
        if let Some(hides) = &update.hides {
            self.hides.clone_from(hides);
        }
        for group in &update.groups {
            self.groups.insert(group.id, group.clone());
        }
        for route in &update.routes {
            self.routes.insert(route.prefix, route.clone());
        }
        for prefix in &update.removed {
            assert!(self.routes.remove(prefix).is_some(), "{prefix} was there");
        }
        for id in &update.removed_groups {
            assert!(self.groups.remove(id).is_some());
        }
        for route in self.routes.values() {
            if let Way::Group(id) = route.way {
                assert!(self.groups.contains_key(&id), "every named group exists");
            }
        }
    }

    fn kernel(&self) -> BTreeMap<IpNet, String> {
        let way = |route: &TableRoute| match route.way {
            Way::Group(id) => format!("{:?}", self.groups[&id].members),
            Way::SubnetGateway if route.system => "SubnetGateway system".into(),
            Way::Blackhole if route.system => "Blackhole system".into(),
            other => format!("{other:?}"),
        };
        self.routes.values().map(|route| (route.prefix, way(route))).collect()
    }
}

/// The simple model: rows as listed, to kernel routes.
fn expected_kernel(rows: &[EffectiveRoute], space: &[IpNet], subnet: &[IpNet]) -> BTreeMap<IpNet, String> {
    let mut local: BTreeSet<IpNet> = BTreeSet::new();
    let mut kernel = BTreeMap::new();
    // Not for a filter's sake.
    let is_us = |row: &EffectiveRoute| {
        row.not_installed
            .as_ref()
            .is_some_and(|why| why.contains("own address"))
    };
    // What the list leaves out because of a default route that this NIC cannot use.
    let default_is_us = rows
        .iter()
        .any(|row| row.address_prefix == net("0.0.0.0/0") && row.source == "VirtualNetworkGateway" && is_us(row));
    let blocks = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];
    let blocks = blocks.map(net).into_iter();
    for block in blocks.filter(|block| !space.iter().any(|prefix| prefix.contains(block))) {
        let ours = |row: &EffectiveRoute| row.address_prefix == block && is_us(row);
        if default_is_us || rows.iter().any(ours) {
            kernel.insert(block, "Blackhole system".to_owned());
        }
    }
    let default_user_is_us = rows
        .iter()
        .any(|row| row.address_prefix == net("0.0.0.0/0") && row.source == "User" && is_us(row));
    if default_is_us || default_user_is_us {
        kernel.insert(net("0.0.0.0/0"), "SubnetGateway system".to_owned());
    }
    for row in rows {
        let overridden = row.state == "Invalid"
            && (row.source != "Default"
                || !rows
                    .iter()
                    .any(|other| other.address_prefix == row.address_prefix && is_us(other)));
        if overridden || row.not_installed.is_some() {
            continue;
        }
        let user = row.source == "User";
        let way = match row.next_hop_type.as_str() {
            "VnetLocal" => {
                local.insert(row.address_prefix);
                match subnet.iter().any(|subnet| subnet.contains(&row.address_prefix)) {
                    true => "OnLink".to_owned(),
                    false => "SubnetGateway".to_owned(),
                }
            }
            "VNetPeering" => "SubnetGateway".to_owned(),
            "Internet" if user => "SubnetGateway".to_owned(),
            "Internet" => "SubnetGateway system".to_owned(),
            "None" if user => "Blackhole".to_owned(),
            "None" => "Blackhole system".to_owned(),
            _ if row.next_hop_ip_address.is_empty() => "Blackhole".to_owned(),
            _ => {
                let addresses: BTreeSet<&IpAddr> = row.next_hop_ip_address.iter().collect();
                format!("{:?}", addresses.iter().collect::<Vec<_>>())
            }
        };
        kernel.insert(row.address_prefix, way);
    }
    for subnet in subnet {
        let covering = kernel.keys().filter(|prefix| prefix.contains(subnet));
        let longest = covering.max_by_key(|prefix| prefix.prefix_len()).copied();
        if longest.is_some_and(|longest| local.contains(&longest)) {
            kernel.insert(*subnet, "OnLink".to_owned());
        }
    }
    kernel
}

/// Lets in what leads to this next hop.
fn only_through(next_hop: &str) -> ImportFilter {
    let rule = ImportRule {
        name: "mine".into(),
        allow: true,
        prefixes: Vec::new(),
        next_hops: vec![ip(next_hop)],
    };
    ImportFilter {
        rules: vec![rule],
        allow_others: false,
    }
}

fn deltas(heard: &[ToAgent]) -> Vec<Arc<TableUpdate>> {
    let delta = |message: &ToAgent| match message {
        ToAgent::Delta(update) => Some(update.clone()),
        _ => None,
    };
    heard.iter().filter_map(delta).collect()
}

#[test]
fn nics_of_a_subnet_share_a_table_until_one_is_a_next_hop() {
    let mut world = World::new();
    let table = |world: &World, nic: &str| world.agent.nics[nic].table.unwrap();
    assert_eq!(table(&world, "nva1"), table(&world, "nva2"));
    world.bgp(&["10.250.0.0/16 10.1.4.4"]);
    assert_ne!(table(&world, "nva1"), table(&world, "nva2"));
    world.check();
}

#[test]
fn subnets_share_a_base_and_have_what_differs_above_it() {
    let mut world = World::new();
    world.bgp(&["10.250.0.0/16 10.1.4.9", "10.1.7.0/24 10.1.4.9", "0.0.0.0/0 10.1.4.9"]);
    let of = |world: &World, nic: &str| {
        let assignment = &world.agent.nics[nic];
        (assignment.table.unwrap(), assignment.base.unwrap())
    };
    let (vm, spoke) = (of(&world, "vm"), of(&world, "spokevm"));
    assert_eq!(vm.1, spoke.1, "one base");
    assert_ne!(vm.0, spoke.0);
    assert_eq!(world.agent.tables[&vm.1].routes.len(), 3);
    let overlay = &world.agent.tables[&vm.0];
    assert!(overlay.hides.contains(&net("10.1.0.0/16")));
    assert!(!overlay.routes.contains_key(&net("10.250.0.0/16")) && overlay.groups.is_empty());
    // It is told once, however many subnets there are.
    world.hear();
    world.bgp(&["10.250.0.0/16 10.1.4.8", "10.251.0.0/16 10.1.4.8"]);
    let told = deltas(&world.hear());
    assert_eq!(told.iter().map(|delta| delta.table).collect::<Vec<_>>(), [vm.1]);
    world.check();
}

#[test]
fn whole_tables_follow_one_by_one_and_each_gets_its_turn() {
    let mut world = World::with_layers(false);
    world.falls_behind = true;
    world.bgp(&["10.250.0.0/16 10.1.4.9"]);
    let routes = FakeRoutes(&world.loc_rib, &world.changed);
    let mut outputs = VecDeque::new();
    let mut told = Vec::new();
    while world.delivery.is_behind() {
        world.delivery.catch_up(1, &routes, &mut outputs);
        told.push(outputs.drain(..).count());
    }
    assert_eq!(told, [1, 1, 1], "the subnets that hear the route server: a piece each");
}

#[test]
fn an_agent_that_knows_no_layers_gets_whole_tables() {
    let mut world = World::with_layers(false);
    world.bgp(&["10.250.0.0/16 10.1.4.9"]);
    assert!(world.agent.nics.values().all(|assignment| assignment.base.is_none()));
    world.check();
}

#[test]
fn where_nothing_is_propagated_there_is_no_base() {
    let mut world = World::new();
    world.intent(|intent| disable_propagation(intent, "vms"));
    assert_eq!(world.agent.nics["vm"].base, None);
    world.check();
}

#[test]
fn where_a_filter_looks_at_routes_there_is_no_base_until_it_goes() {
    let mut world = World::new();
    world.bgp(&["10.250.0.0/16 10.1.4.8,10.1.4.9", "0.0.0.0/0 10.1.4.9"]);
    world.intent(|intent| set_import(intent, "vms", Some(only_through("10.1.4.9"))));
    assert_eq!(world.agent.nics["vm"].base, None);
    assert!(world.agent.nics["spokevm"].base.is_some());
    world.check();
    world.bgp(&["10.250.0.0/16 10.1.4.8", "10.251.0.0/16 10.1.4.9"]);
    world.check();
    world.intent(|intent| set_import(intent, "vms", None));
    assert_eq!(world.agent.nics["vm"].base, world.agent.nics["spokevm"].base);
    world.check();
}

#[test]
fn agents_of_which_each_has_tables_made_for_it_are_told_in_turn() {
    let mut world = World::with_layers(false);
    world.delivery.gone(AGENT);
    for (id, nic) in [(1, "vm"), (2, "spokevm"), (3, "peeredvm")] {
        world.delivery.follows(AgentId(id), nic.into(), vec![nic.into()], false);
    }
    let routes = FakeRoutes(&world.loc_rib, &world.changed);
    let mut turns = Vec::new();
    while world.delivery.has_work_left() {
        let mut outputs = VecDeque::new();
        world.delivery.sync(1, &world.topology, &routes, true, &mut outputs);
        let told = outputs.into_iter().filter_map(|output| match output {
            Output::ToAgents { agents, .. } => agents.first().copied(),
            _ => None,
        });
        let told: BTreeSet<AgentId> = told.collect();
        turns.push(told.into_iter().collect::<Vec<_>>());
    }
    assert_eq!(turns, [[AgentId(1)], [AgentId(2)], [AgentId(3)]]);
}

#[test]
fn the_death_of_an_nva_with_ten_thousand_routes_is_one_group_per_table() {
    let mut world = World::new();
    let prefixes: Vec<String> = (0..10_000u32)
        .map(|i| format!("{}/24", IpAddr::from((0x1400_0000 + i * 256).to_be_bytes())))
        .collect();
    let with = |hops: &str| -> Vec<rib::Change> {
        prefixes
            .iter()
            .map(|prefix| change(&format!("{prefix} {hops}")))
            .collect()
    };
    // The second NVA has some routes of its own already.
    world.bgp(&["30.0.0.0/8 10.1.4.5", "31.0.0.0/8 10.1.4.5"]);
    world.changes(with("10.1.4.4|10.1.4.5"));
    world.hear();
    for hops in ["10.1.4.5", "10.1.4.4|10.1.4.5", "10.1.4.4,10.1.4.5", "10.1.4.5"] {
        world.changes(with(hops));
        let heard = world.hear();
        for delta in deltas(&heard) {
            // A NIC that is a next hop has or has not the routes: there they come and go.
            let changed = delta.routes.len() + delta.removed.len();
            let private = world.agent.nics["nva1"].table == Some(delta.table)
                || world.agent.nics["nva2"].table == Some(delta.table);
            assert!(
                private || (changed == 0 && delta.groups.len() == 1),
                "{changed} routes changed"
            );
        }
        assert!(!heard.is_empty());
        world.check();
    }
}

#[test]
fn a_change_touches_only_its_prefix() {
    let mut world = World::new();
    world.bgp(&["10.250.0.0/16 10.1.4.4", "10.251.0.0/16 10.1.4.4", "0.0.0.0/0 10.1.4.4"]);
    world.hear();
    world.bgp(&["10.251.0.0/16"]);
    let heard = world.hear();
    let deltas = deltas(&heard);
    assert!(!deltas.is_empty());
    for delta in deltas {
        assert_eq!(delta.removed, [net("10.251.0.0/16")]);
        assert!(delta.routes.is_empty() && delta.groups.is_empty());
    }
}

#[test]
fn what_changes_nothing_is_not_told() {
    let mut world = World::new();
    world.bgp(&["10.250.0.0/16 10.1.4.4"]);
    world.hear();
    world.bgp(&["10.250.0.0/16 10.1.4.4"]);
    world.intent(|intent| intent.version += 1);
    assert_eq!(world.hear(), []);
}

#[test]
fn a_slow_agent_catches_up_by_snapshot() {
    let mut world = World::new();
    world.hear();
    world.delivery.backpressure(AGENT, true);
    world.bgp(&["10.250.0.0/16 10.1.4.9"]);
    world.bgp(&["10.251.0.0/16 10.1.4.9"]);
    assert_eq!(world.hear(), []);
    world.delivery.backpressure(AGENT, false);
    world.bgp(&["10.252.0.0/16 10.1.4.9"]);
    let heard = world.hear();
    let of = |kind: fn(&ToAgent) -> bool| heard.iter().filter(|message| kind(message)).count();
    assert_eq!(of(|message| matches!(message, ToAgent::Nic(_))), world.agent.nics.len());
    assert_eq!(
        of(|message| matches!(message, ToAgent::Snapshot(_))),
        world.delivery.table_count()
    );
    assert_eq!(of(|message| matches!(message, ToAgent::Delta(_))), 0);
    world.check();
    world.bgp(&["10.251.0.0/16"]);
    assert!(world.hear().iter().all(|message| matches!(message, ToAgent::Delta(_))));
    world.check();
}

#[test]
fn what_was_told_just_before_an_agent_was_full_is_told_again_although_nothing_changed() {
    let mut world = World::new();
    world.bgp(&["10.250.0.0/16 10.1.4.9"]);
    world.delivery.backpressure(AGENT, true);
    // Whatever it was told is lost.
    world.agent = ModelAgent::default();
    world.delivery.backpressure(AGENT, false);
    world.settle(false);
    assert_eq!(world.agent.nics.len(), 5);
    world.check();
    assert!(matches!(world.heard.last(), Some(ToAgent::Converged(true))));
}

#[test]
fn an_unknown_nic_has_no_table_until_it_is_known() {
    let mut world = World::new();
    world
        .delivery
        .follows(AGENT, "model".into(), vec!["later".into()], true);
    world.settle(false);
    assert_eq!(world.agent.nics["later"].table, None);
    world.intent(|intent| {
        let mut nic = intent.virtual_networks[0].nics[0].clone();
        nic.id = "later".into();
        nic.addresses = vec![ip("10.1.2.9")];
        intent.virtual_networks[0].nics.push(nic);
    });
    let assignment = &world.agent.nics["later"];
    assert!(assignment.table.is_some());
    assert_eq!(assignment.subnet_prefixes, [net("10.1.2.0/24")]);
    assert_eq!(assignment.gateways, [ip("10.1.2.1")]);
}

#[test]
fn a_table_lives_as_long_as_it_is_followed() {
    let mut world = World::new();
    world.delivery.gone(AGENT);
    assert!(world.delivery.is_idle());
    assert!(world.delivery.reports(0, 1).is_empty());
    assert_eq!(world.delivery.table_count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Bgp(Vec<String>),
    UserRoutes(&'static str, Vec<String>),
    Propagation(&'static str),
    Import(&'static str, Option<&'static str>),
    Transit(bool),
    Space(Vec<&'static str>),
    Address(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let prefix = prop::sample::select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.1.4.0/24",
        "10.2.0.0/16",
        "10.3.8.0/24",
        "10.250.0.0/16",
        "10.250.4.0/24",
        "20.0.0.0/8",
        "20.1.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
    ]);
    let hops = prop::sample::select(vec![
        "",
        " 10.1.4.4",
        " 10.1.4.5",
        " 10.1.4.4,10.1.4.5",
        " 10.1.4.4|10.1.4.5",
        " 10.1.4.5|10.1.4.4",
        " 10.1.4.9|10.1.4.4",
        " 10.2.0.4",
        " 10.1.2.4,10.1.4.9",
    ]);
    let bgp = (prefix.clone(), hops).prop_map(|(prefix, hops)| format!("{prefix}{hops}"));
    let user_hop = prop::sample::select(vec![
        "local",
        "internet",
        "none",
        "gateway",
        "10.1.4.4",
        "10.1.4.9",
        "10.1.4.5,10.1.2.4",
    ]);
    let user = (prefix, user_hop).prop_map(|(prefix, hop)| format!("{prefix} {hop}"));
    let filtered = prop::sample::select(vec!["10.1.4.4", "10.1.4.9", "10.1.2.4"]);
    let subnet = prop::sample::select(vec!["vms", "nvas", "spokevms", "peeredvms"]);
    let space = prop::sample::subsequence(vec!["10.1.0.0/16", "20.1.0.0/16", "192.168.0.0/24"], 1..=3);
    prop_oneof![
        6 => prop::collection::vec(bgp, 1..8).prop_map(Step::Bgp),
        2 => (subnet.clone(), prop::collection::vec(user, 0..4)).prop_map(|(subnet, user)| Step::UserRoutes(subnet, user)),
        1 => (subnet.clone(), prop::option::of(filtered)).prop_map(|(subnet, next_hop)| Step::Import(subnet, next_hop)),
        1 => subnet.prop_map(Step::Propagation),
        1 => any::<bool>().prop_map(Step::Transit),
        1 => space.prop_map(Step::Space),
        1 => prop::sample::select(vec!["10.1.4.4", "10.1.4.9", "10.1.4.77"]).prop_map(Step::Address),
    ]
}

impl World {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Bgp(changes) => {
                let mut last: BTreeMap<IpNet, rib::Change> = BTreeMap::new();
                for text in changes {
                    let change = change(text);
                    last.insert(change.prefix, change);
                }
                self.changes(last.into_values());
            }
            Step::UserRoutes(subnet, routes) => self.intent(|intent| {
                let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
                set_user_routes(intent, subnet, &routes);
            }),
            Step::Propagation(subnet) => self.intent(|intent| disable_propagation(intent, subnet)),
            Step::Import(subnet, next_hop) => {
                self.intent(|intent| set_import(intent, subnet, next_hop.map(only_through)));
            }
            Step::Transit(on) => self.intent(|intent| {
                intent.virtual_networks[1].peerings = vec![peering("hub", *on, false)];
            }),
            Step::Space(space) => self.intent(|intent| {
                intent.virtual_networks[0].address_space = space.iter().map(|text| net(text)).collect();
            }),
            Step::Address(address) => self.intent(|intent| {
                intent.virtual_networks[0].nics[1].addresses = vec![ip(address)];
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn tables_made_of_deltas_equal_the_effective_routes(
        layers in any::<bool>(),
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut world = World::with_layers(layers);
        for step in &steps {
            world.take(step);
            world.check();
        }
    }

    #[test]
    fn tables_that_fell_behind_catch_up(layers in any::<bool>(), steps in prop::collection::vec(step(), 1..12)) {
        let mut world = World::with_layers(layers);
        world.falls_behind = true;
        for step in &steps {
            world.take(step);
        }
        world.falls_behind = false;
        world.settle(false);
        world.settle(false);
        world.check();
    }
}
