//! The world: two instances, NVAs, VMs, a manager, and the clock. Everything that happens is in one queue; the same seed gives the
//! same history.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::session::ConnectionId;
use bgp::wire::Decoder;
use bgp::{Asn, IpNet};
use rib::HashKey;
use routeserver::delivery::AgentId;
use routeserver::instance::{Input, Instance, Output, PeerKey};
use routeserver::intent::Intent;

use crate::network::{Link, Network, Packet, Side};
use crate::nva::Nva;
use crate::random::Random;
use crate::scenario;
use crate::vm::Vm;

mod speakers;
mod streams;
mod traffic;

/// Something that will happen to a process.
#[derive(Clone, Debug)]
enum Happening {
    /// The manager's push arrives at an instance.
    IntentArrives { instance: usize, intent: Arc<Intent> },
    /// A keeper starts an instance that died.
    InstanceStarts { instance: usize },
    /// An agent's stream reaches an instance.
    StreamOpens { vm: usize, instance: usize },
    /// What a speaker said to another one arrives at its process.
    SpeakerHears {
        instance: usize,
        epoch: u64,
        connection: ConnectionId,
        packet: Packet,
    },
    /// An instance's message reaches an agent.
    AgentHears {
        vm: usize,
        instance: usize,
        stream: AgentId,
        message: Box<api::agent::ToAgent>,
    },
}

/// One instance process.
#[derive(Debug, Default)]
struct Process {
    machine: Option<Instance>,
    epoch: u64,
    decoders: BTreeMap<ConnectionId, Decoder>,
    /// In its run directory: survives the process.
    stored: Option<Arc<Intent>>,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// The clock.
    pub now: Instant,
    /// The seed's numbers.
    pub random: Random,
    /// What management wants.
    pub intent: Intent,
    /// The NVAs.
    pub nvas: Vec<Nva>,
    /// The VMs.
    pub vms: Vec<Vm>,
    /// The network.
    pub network: Network,
    /// The manager's process runs.
    pub manager_alive: bool,
    processes: [Process; 2],
    /// Connections that an instance dialled, with the peer it dialled for.
    dialled: BTreeMap<ConnectionId, PeerKey>,
    /// Connections between speakers, by their ends.
    between: BTreeMap<ConnectionId, speakers::End>,
    /// Connections that an NVA dialled.
    nva_dialled: BTreeSet<ConnectionId>,
    /// Per VM and instance: the open stream, and when the last message on it arrives.
    streams: BTreeMap<(usize, usize), (AgentId, Instant)>,
    /// Per VM and instance: a stream is being opened.
    opening: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(Instant, u64), Happening>,
    sequence: u64,
    /// Something that must never happen, and did.
    finding: Option<String>,
}

impl World {
    /// The scenario's topology with nothing started but what a quiet day has.
    pub fn new(seed: u64) -> World {
        let nics = scenario::NICS.map(str::to_owned);
        World::with(seed, scenario::intent(), scenario::NVAS, &nics)
    }

    /// The same, and every NVA restarts gracefully.
    pub fn with_graceful_restart(seed: u64) -> World {
        let nics = scenario::NICS.map(str::to_owned);
        let mut intent = scenario::intent();
        for peer in intent.route_servers.iter_mut().flat_map(|each| &mut each.peers) {
            peer.graceful_restart = true;
        }
        World::with(seed, intent, scenario::NVAS, &nics)
    }

    /// The same with gateways, a site and a circuit.
    pub fn with_branches(seed: u64) -> World {
        let (intent, nics) = (scenario::branches::branches(), scenario::branches::nics());
        World::with(seed, intent, scenario::branches::ROUTERS, &nics)
    }

    fn with(seed: u64, intent: Intent, routers: usize, nics: &[String]) -> World {
        let now = Instant::now();
        let nvas = (0..routers)
            .map(|number| {
                let asn = Asn(65_001 + number as u32);
                let peers = peers_of(number);
                let mut nva = Nva::new(scenario::nva_address(number), asn, peers, seed ^ number as u64);
                let all = intent.route_servers.iter().flat_map(|each| &each.peers);
                nva.restarts_gracefully = all
                    .filter(|peer| peer.address == nva.address)
                    .any(|peer| peer.graceful_restart);
                nva
            })
            .collect();
        let mut world = World {
            now,
            random: Random::new(seed),
            intent,
            nvas,
            vms: nics.iter().map(|nic| Vm::new(nic)).collect(),
            network: Network::default(),
            manager_alive: true,
            processes: Default::default(),
            dialled: BTreeMap::new(),
            between: BTreeMap::new(),
            nva_dialled: BTreeSet::new(),
            streams: BTreeMap::new(),
            opening: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            finding: None,
        };
        world.heal();
        world
    }

    /// Starts everything that is down and mends every link.
    pub fn heal(&mut self) {
        self.manager_alive = true;
        for nva in 0..self.nvas.len() {
            for instance in 0..2 {
                self.network.mend(Link { nva, instance });
            }
            self.start_nva(nva);
        }
        for vm in &mut self.vms {
            if !vm.is_alive() {
                vm.start(self.now);
            }
        }
        for instance in 0..2 {
            self.start_instance(instance);
        }
        self.push_intent();
    }

    // What can happen to the world.

    /// An NVA's process starts.
    pub fn start_nva(&mut self, nva: usize) {
        if !self.nvas[nva].alive {
            self.nvas[nva].start(self.now, peers_of(nva));
        }
    }

    /// An NVA's process is killed: its kernel closes the connections.
    pub fn kill_nva(&mut self, nva: usize) {
        self.nvas[nva].kill();
        self.network
            .close_all(self.now, &mut self.random, Side::Nva, |link| link.nva == nva);
    }

    /// An NVA announces.
    pub fn announce(&mut self, nva: usize, prefix: IpNet, attributes: bgp::wire::PathAttributes) {
        let wants = self.nvas[nva].announce(prefix, attributes);
        self.carry_out_nva(nva, wants);
    }

    /// An NVA withdraws.
    pub fn withdraw(&mut self, nva: usize, prefix: &IpNet) {
        let wants = self.nvas[nva].withdraw(prefix);
        self.carry_out_nva(nva, wants);
    }

    /// An instance process is killed. The manager's keeper, if there is one, starts it again.
    pub fn kill_instance(&mut self, instance: usize) {
        self.processes[instance].machine = None;
        self.processes[instance].decoders.clear();
        self.network
            .close_all(self.now, &mut self.random, Side::Instance, |link| {
                link.instance == instance
            });
        self.close_between(instance);
        self.streams_end(instance);
        let delay = Duration::from_millis(100 + self.random.below(20_000) as u64);
        self.after(delay, Happening::InstanceStarts { instance });
    }

    /// Whether an instance's process runs.
    pub fn instance(&self, instance: usize) -> Option<&Instance> {
        self.processes[instance].machine.as_ref()
    }

    /// An agent is killed; its kernel stays as it is.
    pub fn kill_agent(&mut self, vm: usize) {
        self.vms[vm].kill();
        for instance in 0..2 {
            self.close_stream(vm, instance);
        }
    }

    /// An agent starts.
    pub fn start_agent(&mut self, vm: usize) {
        if !self.vms[vm].is_alive() {
            self.vms[vm].start(self.now);
        }
    }

    /// Management wants something else: stored at once, pushed while the manager lives.
    pub fn change_intent(&mut self, change: impl FnOnce(&mut Intent)) {
        change(&mut self.intent);
        self.intent.version += 1;
        self.push_intent();
    }

    /// The manager starts again and sends what changed.
    pub fn start_manager(&mut self) {
        self.manager_alive = true;
        for instance in 0..2 {
            if self.processes[instance].machine.is_none() {
                self.after(Duration::from_millis(500), Happening::InstanceStarts { instance });
            }
        }
        self.push_intent();
    }

    // Time.

    /// Lets time pass. An error is a finding.
    pub fn run(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.now + duration;
        loop {
            self.turn();
            if let Some(finding) = self.finding.take() {
                return Err(finding);
            }
            match self.next_event().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = end;
        Ok(())
    }

    fn next_event(&self) -> Option<Instant> {
        let machines = self
            .processes
            .iter()
            .filter_map(|process| process.machine.as_ref()?.poll_timeout());
        let nvas = self.nvas.iter().filter_map(Nva::poll_timeout);
        let vms = self
            .vms
            .iter()
            .enumerate()
            .filter_map(|(number, vm)| vm.poll_timeout(self.open(number)));
        let queue = self.queue.keys().next().map(|(at, _)| *at);
        machines
            .chain(nvas)
            .chain(vms)
            .chain(queue)
            .chain(self.network.next_arrival())
            .min()
    }

    /// Everything that is due now.
    fn turn(&mut self) {
        while let Some(delivery) = self.network.take(self.now) {
            self.deliver(delivery);
        }
        while let Some(key) = self.queue.keys().next().filter(|(at, _)| *at <= self.now).copied() {
            if let Some(happening) = self.queue.remove(&key) {
                self.happen(happening);
            }
        }
        for instance in 0..2 {
            if let Some(machine) = &mut self.processes[instance].machine {
                machine.handle_timeout(self.now);
                machine.settle(self.now);
            }
            self.drain_instance(instance);
        }
        for nva in 0..self.nvas.len() {
            self.nvas[nva].handle_timeout(self.now);
            let wants = self.nvas[nva].poll_wants();
            self.carry_out_nva(nva, wants);
        }
        for vm in 0..self.vms.len() {
            self.open_streams(vm);
            let open = self.open(vm);
            self.vms[vm].handle_timeout(self.now, open);
            if let Err(finding) = self.vms[vm].work(usize::MAX) {
                self.finding.get_or_insert(format!("{}: {finding}", self.vms[vm].nic));
            }
        }
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::IntentArrives { instance, intent } => {
                let process = &mut self.processes[instance];
                if let Some(machine) = &mut process.machine {
                    process.stored = Some(intent.clone());
                    machine.handle(self.now, Input::Intent(intent));
                }
            }
            Happening::InstanceStarts { instance } if self.manager_alive => self.start_instance(instance),
            Happening::InstanceStarts { .. } => {}
            Happening::StreamOpens { vm, instance } => self.stream_opens(vm, instance),
            Happening::SpeakerHears {
                instance,
                epoch,
                connection,
                packet,
            } => self.speaker_hears(instance, epoch, connection, packet),
            Happening::AgentHears {
                vm,
                instance,
                stream,
                message,
            } => {
                if self
                    .streams
                    .get(&(vm, instance))
                    .is_some_and(|(open, _)| *open == stream)
                    && let Err(error) = self.vms[vm].hear(self.now, instance, *message)
                {
                    self.finding
                        .get_or_insert(format!("the agent could not follow: {error}"));
                }
            }
        }
    }

    // Instances.

    fn start_instance(&mut self, instance: usize) {
        let process = &mut self.processes[instance];
        if process.machine.is_some() {
            return;
        }
        process.epoch += 1;
        let key = HashKey::new(1, 2);
        let mut machine = Instance::new(instance, process.epoch, self.random.number(), key, self.now);
        if process.stored.is_some() {
            machine.has_restarted();
        }
        if let Some(intent) = process.stored.clone() {
            machine.handle(self.now, Input::Intent(intent));
        }
        process.machine = Some(machine);
        self.push_intent();
    }

    fn push_intent(&mut self) {
        if !self.manager_alive {
            return;
        }
        let intent = Arc::new(self.intent.clone());
        for instance in 0..2 {
            let delay = Duration::from_millis(1 + self.random.below(50) as u64);
            self.after(
                delay,
                Happening::IntentArrives {
                    instance,
                    intent: intent.clone(),
                },
            );
        }
    }

    fn drain_instance(&mut self, instance: usize) {
        loop {
            let Some(machine) = &mut self.processes[instance].machine else {
                return;
            };
            let Some(output) = machine.poll_output() else { return };
            self.carry_out_instance(instance, output);
        }
    }

    fn carry_out_instance(&mut self, instance: usize, output: Output) {
        match output {
            Output::Dial { peer, endpoint } if scenario::speaker_at(endpoint.remote).is_some() => {
                self.dial_speaker(instance, peer, &endpoint);
            }
            Output::Dial { peer, endpoint } => {
                let nva = self
                    .nvas
                    .iter()
                    .position(|nva| IpAddr::V4(nva.address) == endpoint.remote);
                let reachable =
                    nva.filter(|nva| self.nvas[*nva].alive && self.network.passes(Link { nva: *nva, instance }));
                match reachable {
                    Some(nva) => {
                        let id = self.network.open(self.now, &mut self.random, Link { nva, instance });
                        self.dialled.insert(id, peer);
                    }
                    None => {
                        let reason = "refused".to_owned();
                        self.instance_hears(instance, Input::DialFailed { peer, reason });
                    }
                }
            }
            Output::SetDecodeContext { connection, context } => {
                if let Some(decoder) = self.processes[instance].decoders.get_mut(&connection) {
                    decoder.set_context(context);
                }
            }
            Output::Write { connection, bytes } if self.between.contains_key(&connection) => {
                self.tell_speaker(connection, Packet::Bytes(bytes));
            }
            Output::Close { connection } if self.between.contains_key(&connection) => {
                self.processes[instance].decoders.remove(&connection);
                self.tell_speaker(connection, Packet::Closed);
                self.between.remove(&connection);
            }
            Output::Write { connection, bytes } => {
                self.network
                    .send(self.now, &mut self.random, connection, Side::Nva, Packet::Bytes(bytes));
            }
            Output::Close { connection } => {
                self.processes[instance].decoders.remove(&connection);
                self.network
                    .close(self.now, &mut self.random, connection, Side::Instance);
            }
            Output::ToAgents { agents, message } => self.tell_agents(instance, &agents, &message),
            // Processes do not stand still here.
            Output::Listen(_) | Output::Bfd(_) | Output::Event(_) | Output::NewLife | Output::Finished => {}
        }
    }

    fn instance_hears(&mut self, instance: usize, input: Input) {
        if let Some(machine) = &mut self.processes[instance].machine {
            machine.handle(self.now, input);
        }
    }
}

/// The addresses that a router peers with.
fn peers_of(router: usize) -> [IpAddr; 2] {
    scenario::addresses(scenario::speaker_of(router))
}

/// Addresses of both instances.
pub fn instances() -> [IpAddr; 2] {
    scenario::INSTANCES.map(|last| Ipv4Addr::from(last).into())
}
