//! The one task that owns everything: sessions, connections, kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, Instant};

use bfd::{SessionConfig, StateChange};
use bgp::session::{ConnectionId, Direction, Input};
use bgp::wire::{CeaseSubcode, Notification};
use daemon::connection::{
    Accepted, BGP_PORT, Connection, ConnectionEvent, DialOptions, ListenEvent, ListenOptions, Listener, Permit, dial,
};
use daemon::liveness::{Liveness, LivenessEvent, Wanted};
use ipnet::IpNet;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::NvaConfig;
use super::control::{self, Request};
use super::kernel::Kernel;
use super::peer::{Peer, Wishes};
use super::transit::{self, Learned};
use crate::topology::{Neighbour, Side};

/// Events that wait for the speaker; a full channel slows connections down through TCP.
const MAX_EVENTS: usize = 256;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// A deadline when there is none.
const FAR_AWAY: Duration = Duration::from_secs(3600);

enum Event {
    Connection(ConnectionEvent),
    Listen(ListenEvent),
    Dialled(Ipv4Addr, Result<TcpStream, String>),
    Bfd(LivenessEvent<Ipv4Addr>),
}

impl From<LivenessEvent<Ipv4Addr>> for Event {
    fn from(event: LivenessEvent<Ipv4Addr>) -> Event {
        Event::Bfd(event)
    }
}

impl From<ConnectionEvent> for Event {
    fn from(event: ConnectionEvent) -> Event {
        Event::Connection(event)
    }
}

impl From<ListenEvent> for Event {
    fn from(event: ListenEvent) -> Event {
        Event::Listen(event)
    }
}

struct Speaker {
    file: PathBuf,
    config: NvaConfig,
    peers: Vec<Peer>,
    kernel: Option<Kernel>,
    /// A life before has left routes in the kernel: until then nothing is taken out, unless all neighbours have told all before.
    recovering_until: Option<Instant>,
    events: mpsc::Sender<Event>,
    last_connection: u64,
}

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(file: &FilePath, config: NvaConfig) -> io::Result<()> {
    let (events, mut incoming) = mpsc::channel(MAX_EVENTS);
    let (requests, mut asked) = mpsc::channel(1);
    let locals: BTreeSet<Ipv4Addr> = config.neighbours.iter().map(|neighbour| neighbour.local).collect();
    let _listeners: Vec<Listener> = locals
        .into_iter()
        .map(|local| Listener::spawn(listen_options(&config, local), events.clone()))
        .collect();
    let _liveness = watch(&config, &events)?;
    control::listen(&config.control, requests)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let restart_secs = config.neighbours.iter().filter_map(|it| it.graceful_restart);
    let restart_secs = restart_secs.map(|it| it.restart_secs).max();
    let kernel = match config.install {
        true => Some(Kernel::open(restart_secs.is_some()).await?),
        false => None,
    };
    let restarted = kernel.as_ref().is_some_and(Kernel::has_routes);
    let recovery = restart_secs.filter(|_| restarted);
    let mut speaker = Speaker {
        file: file.to_owned(),
        peers: config
            .neighbours
            .iter()
            .map(|neighbour| Peer::new(&config, *neighbour, restarted))
            .collect(),
        kernel,
        recovering_until: recovery.map(|secs| Instant::now() + Duration::from_secs(secs.into())),
        config,
        events,
        last_connection: 0,
    };
    for index in 0..speaker.peers.len() {
        speaker.handle(index, Some(Input::Start)).await?;
    }
    loop {
        tokio::select! {
            Some(event) = incoming.recv() => speaker.take(event).await?,
            Some((request, answer)) = asked.recv() => speaker.answer(request, answer),
            () = tokio::time::sleep_until(speaker.deadline().into()) => speaker.fire_timers().await?,
            _ = terminate.recv() => return speaker.farewell().await,
            _ = interrupt.recv() => return speaker.farewell().await,
        }
    }
}

/// BFD with those that it is wanted with; over several hops, since instances are in a subnet of their own.
fn watch(config: &NvaConfig, events: &mpsc::Sender<Event>) -> io::Result<Option<Liveness<Ipv4Addr>>> {
    let wanted = config.neighbours.iter().filter_map(|neighbour| {
        let bfd = neighbour.bfd?;
        let interval = Duration::from_millis(bfd.interval_ms.into());
        Some(Wanted {
            key: neighbour.address,
            local: neighbour.local.into(),
            remote: neighbour.address.into(),
            namespace: None,
            multihop: true,
            least_ttl: 0,
            config: SessionConfig {
                desired_min_tx: interval,
                required_min_rx: interval,
                detect_mult: bfd.multiplier,
            },
            authentication: None,
        })
    });
    let wanted: Vec<Wanted<Ipv4Addr>> = wanted.collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let liveness = Liveness::spawn(events.clone())?;
    liveness.want(wanted);
    Ok(Some(liveness))
}

fn listen_options(config: &NvaConfig, local: Ipv4Addr) -> ListenOptions {
    ListenOptions {
        name: config.name.as_str().into(),
        local: SocketAddr::new(local.into(), BGP_PORT),
        namespace: None,
        peers: Vec::new(),
    }
}

impl Speaker {
    async fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Connection(event) => self.take_connection_event(event).await,
            Event::Listen(ListenEvent::Accepted(accepted)) => self.accept(accepted).await,
            Event::Listen(ListenEvent::Problem { problem, .. }) => {
                if let Some(problem) = problem {
                    tracing::warn!(problem, "cannot listen");
                }
                Ok(())
            }
            Event::Dialled(address, result) => self.dialled(address, result).await,
            Event::Bfd(LivenessEvent::Changed { key, change, .. }) => self.liveness_changed(key, &change).await,
            Event::Bfd(LivenessEvent::Problem { key, problem }) => {
                tracing::warn!(peer = %key, problem, "BFD");
                Ok(())
            }
            Event::Bfd(LivenessEvent::Status { .. }) => Ok(()),
        }
    }

    async fn liveness_changed(&mut self, address: Ipv4Addr, change: &StateChange) -> io::Result<()> {
        tracing::info!(peer = %address, state = %change.to, diagnostic = %change.diagnostic, "BFD");
        let index = self.peers.iter().position(|p| p.neighbour.address == address);
        let Some(index) = index.filter(|_| change.is_path_lost()) else {
            return Ok(());
        };
        let reset = Input::Reset {
            notification: Notification::cease(CeaseSubcode::BfdDown),
            reason: "BFD is down".to_owned(),
            offence: None,
        };
        self.handle(index, Some(reset)).await
    }

    async fn take_connection_event(&mut self, event: ConnectionEvent) -> io::Result<()> {
        let (connection, inputs) = match event {
            ConnectionEvent::Received { connection, messages } => {
                let inputs = messages
                    .into_iter()
                    .map(|message| Input::Received { connection, message });
                (connection, inputs.collect())
            }
            ConnectionEvent::Malformed { connection, error } => {
                (connection, vec![Input::Malformed { connection, error }])
            }
            ConnectionEvent::Closed { connection, reason } => (connection, vec![Input::Closed { connection, reason }]),
            ConnectionEvent::Stalled { connection } => (connection, vec![Input::WriteBlocked { connection }]),
            ConnectionEvent::Moving { connection } => (connection, vec![Input::WriteResumed { connection }]),
            ConnectionEvent::Drained { connection } => (connection, Vec::new()),
        };
        let Some(index) = self.peers.iter().position(|p| p.has(connection)) else {
            return Ok(());
        };
        let mut all = Wishes::default();
        for input in inputs {
            let wishes = self.peers[index].handle(&self.config, Some(input));
            all.dial |= wishes.dial;
            all.learned |= wishes.learned;
            all.established |= wishes.established;
            all.everything |= wishes.everything;
        }
        self.grant(index, all).await
    }

    async fn accept(&mut self, accepted: Accepted) -> io::Result<()> {
        let IpAddr::V4(from) = accepted.remote.ip() else {
            return Ok(());
        };
        self.connected(from, accepted.stream, Some(accepted.permit), Direction::Accepted)
            .await
    }

    async fn dialled(&mut self, address: Ipv4Addr, result: Result<TcpStream, String>) -> io::Result<()> {
        match result {
            Ok(stream) => self.connected(address, stream, None, Direction::Dialled).await,
            Err(reason) => match self.peers.iter().position(|p| p.neighbour.address == address) {
                Some(index) => self.handle(index, Some(Input::DialFailed { reason })).await,
                None => Ok(()),
            },
        }
    }

    async fn connected(
        &mut self,
        address: Ipv4Addr,
        stream: TcpStream,
        permit: Option<Permit>,
        direction: Direction,
    ) -> io::Result<()> {
        // A stranger's connection is closed by being dropped.
        let Some(index) = self.peers.iter().position(|p| p.neighbour.address == address) else {
            return Ok(());
        };
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let connection = Connection::spawn(id, stream, permit, self.events.clone());
        self.peers[index].add_connection(connection);
        self.handle(
            index,
            Some(Input::Connected {
                connection: id,
                direction,
            }),
        )
        .await
    }

    async fn handle(&mut self, index: usize, input: Option<Input>) -> io::Result<()> {
        let wishes = self.peers[index].handle(&self.config, input);
        self.grant(index, wishes).await
    }

    async fn grant(&mut self, index: usize, wishes: Wishes) -> io::Result<()> {
        if wishes.dial {
            self.dial(self.peers[index].neighbour);
        }
        if wishes.everything {
            let wanted = transit::wanted(&self.config, &told(&self.peers), &self.peers[index].neighbour);
            self.peers[index].tell_everything(&self.config, wanted);
        }
        if wishes.learned && self.has_links() {
            self.tell_all();
        }
        let recovered = self.has_recovered();
        let look = wishes.learned || wishes.established || recovered;
        let tidy = self.recovering_until.is_none();
        if let Some(kernel) = self.kernel.as_mut().filter(|_| look) {
            if wishes.established {
                kernel.look_again();
            }
            let next_hops = transit::next_hops(&told(&self.peers));
            kernel.sync(&next_hops, tidy).await?;
        }
        Ok(())
    }

    /// Whether this is the moment at which a restart is over: everybody has told all, or has had the time for it.
    fn has_recovered(&mut self) -> bool {
        let Some(until) = self.recovering_until else {
            return false;
        };
        if Instant::now() < until && self.peers.iter().any(Peer::is_awaited) {
            return false;
        }
        self.recovering_until = None;
        for peer in &mut self.peers {
            peer.has_recovered(&self.config);
        }
        true
    }

    /// Tells each peer what is different for it now.
    fn tell_all(&mut self) {
        for index in 0..self.peers.len() {
            let wanted = transit::wanted(&self.config, &told(&self.peers), &self.peers[index].neighbour);
            self.peers[index].tell(&self.config, wanted);
        }
    }

    /// Without links there is nobody to pass anything on to.
    fn has_links(&self) -> bool {
        self.peers.iter().any(|peer| peer.neighbour.side == Side::Link)
    }

    fn dial(&self, neighbour: Neighbour) {
        let Neighbour { address, local, .. } = neighbour;
        let options = DialOptions {
            local: local.into(),
            remote: SocketAddr::new(address.into(), BGP_PORT),
            namespace: None,
            md5_password: None,
            ttl_security_hops: None,
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let result = dial(options).await.map_err(|e| e.to_string());
            let _ = events.send(Event::Dialled(address, result)).await;
        });
    }

    fn deadline(&self) -> Instant {
        let deadlines = self.peers.iter().filter_map(Peer::deadline);
        let deadlines = deadlines.chain(self.recovering_until);
        deadlines.min().unwrap_or_else(|| Instant::now() + FAR_AWAY)
    }

    async fn fire_timers(&mut self) -> io::Result<()> {
        for index in 0..self.peers.len() {
            self.handle(index, None).await?;
        }
        Ok(())
    }

    fn answer(&mut self, request: Request, answer: oneshot::Sender<String>) {
        let text = match request {
            Request::Reload => match NvaConfig::read(&self.file) {
                Ok(config) => self.reload(config),
                Err(error) => error.to_string(),
            },
            Request::Status => self.status(),
        };
        let _ = answer.send(text);
    }

    /// Takes over what is announced; all else takes a restart.
    fn reload(&mut self, config: NvaConfig) -> String {
        self.config.announce = config.announce;
        self.tell_all();
        "ok".to_owned()
    }

    fn status(&self) -> String {
        let learned = |p: &Peer| -> BTreeMap<IpNet, IpAddr> {
            p.learned()
                .iter()
                .map(|(prefix, path)| (*prefix, path.next_hop))
                .collect()
        };
        let peers = self
            .peers
            .iter()
            .map(|p| json!({ "address": p.neighbour.address, "state": p.state(), "learned": learned(p) }));
        json!({ "name": self.config.name, "peers": peers.collect::<Vec<_>>() }).to_string()
    }

    /// Tells the peers (RFC 4486: Administrative Shutdown), takes the routes out, and waits until the word is out.
    async fn farewell(&mut self) -> io::Result<()> {
        let ended: Vec<_> = self.peers.iter().flat_map(Peer::connections_ended).collect();
        for index in 0..self.peers.len() {
            let stop = Input::Stop {
                subcode: CeaseSubcode::AdministrativeShutdown,
                reason: "the NVA stops".to_owned(),
            };
            self.handle(index, Some(stop)).await?;
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.sync(&BTreeMap::new(), true).await?;
        }
        // A peer that does not close its side need not be waited for.
        let _ = tokio::time::timeout(FAREWELL, futures::future::join_all(ended)).await;
        let _ = std::fs::remove_file(&self.config.control);
        Ok(())
    }
}

fn told(peers: &[Peer]) -> Vec<(Neighbour, &BTreeMap<IpNet, Learned>)> {
    peers.iter().map(|peer| (peer.neighbour, peer.learned())).collect()
}
