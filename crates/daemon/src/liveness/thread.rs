//! The thread's loop: read, let time pass, send, tell.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bfd::{Arrival, Input, Output, Path, Seed, Sessions};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::sockets::{Receiver, Sender};
use super::{Key, LivenessEvent, Orders, Wanted, clock, lock};
use crate::connection::identity;

/// So many packets are read from a socket before timers have their turn: more than come between two rounds of all sessions there can be.
const MOST_PER_ROUND: usize = 256;
/// After a round in which a socket still had more: whoever floods us must not take a whole core from BGP, of which this thread is ahead. Far less
/// than any interval.
const BREATH: Duration = Duration::from_millis(1);
/// How often sockets are looked after, and how often sessions tell where they stand.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// When the owner's channel is full, it is tried again so soon.
const TELL_AGAIN: Duration = Duration::from_millis(5);
/// So many events wait for an owner who does not listen; then the oldest go. A session changes its state a few times a second at most.
const MOST_UNTOLD: usize = 65_536;

/// One of our addresses with a port, in one of our networks.
type EndpointKey = (u32, IpAddr, bool);

struct Thread<K, E> {
    sessions: Sessions<K>,
    wanted: BTreeMap<K, Wanted<K>>,
    /// Namespaces by number.
    networks: Vec<Network>,
    receivers: BTreeMap<EndpointKey, Result<Receiver, String>>,
    senders: HashMap<Path, Result<Sender, String>>,
    problems: BTreeMap<K, Option<String>>,
    untold: VecDeque<E>,
    events: mpsc::Sender<E>,
    look_after_at: Instant,
    /// Why it cannot be waited for packets, if so.
    cannot_wait: Option<String>,
}

/// A namespace and which one it was when its sockets were made: another one may take its path.
struct Network {
    path: Option<PathBuf>,
    identity: Option<(u64, u64)>,
}

/// The kernel calls a source address that nobody has an invalid argument.
fn not_sent(error: &io::Error, local: IpAddr) -> String {
    match error.kind() {
        io::ErrorKind::InvalidInput => format!("address not present: {local}"),
        _ => format!("cannot send: {error}"),
    }
}

/// Runs until the owner leaves.
pub(super) fn run<K, E>(orders: &Mutex<Orders<K>>, mut woken: UnixStream, events: mpsc::Sender<E>)
where
    K: Key,
    E: From<LivenessEvent<K>>,
{
    clock::become_urgent();
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    let mut thread = Thread {
        sessions: Sessions::new(Seed::new(high, low)),
        wanted: BTreeMap::new(),
        networks: Vec::new(),
        receivers: BTreeMap::new(),
        senders: HashMap::new(),
        problems: BTreeMap::new(),
        untold: VecDeque::new(),
        events,
        look_after_at: Instant::now(),
        cannot_wait: None,
    };
    loop {
        let (fds, keys) = thread.descriptors(woken.as_raw_fd());
        let ready = match clock::wait(&fds, thread.deadline()) {
            Ok(ready) => {
                thread.cannot_wait = None;
                ready
            }
            Err(error) => {
                // The kernel is short of memory, say. Whoever does not look would take every path for lost: so all are looked at, unasked.
                thread.cannot_wait(&error);
                std::thread::sleep(BREATH);
                vec![true; fds.len()]
            }
        };
        if ready.first() == Some(&true) {
            let mut octets = [0; 64];
            while woken.read(&mut octets).is_ok_and(|read| read > 0) {}
            let (wanted, leave) = {
                let mut orders = lock(orders);
                (orders.wanted.take(), orders.leave)
            };
            if let Some(wanted) = wanted.filter(|_| !leave) {
                thread.want(wanted);
            }
            if leave {
                return thread.want(Vec::new());
            }
        }
        let readable = keys.iter().zip(&ready[1..]).filter(|(_, ready)| **ready);
        let mut is_flooded = false;
        for (key, _) in readable {
            is_flooded |= thread.receive(*key);
        }
        thread.turn();
        if is_flooded {
            std::thread::sleep(BREATH);
        }
    }
}

impl<K: Key, E: From<LivenessEvent<K>>> Thread<K, E> {
    /// What to wait for: the wake, and then receivers with their keys.
    fn descriptors(&self, woken: RawFd) -> (Vec<RawFd>, Vec<EndpointKey>) {
        let open = self
            .receivers
            .iter()
            .filter_map(|(key, receiver)| Some((*key, receiver.as_ref().ok()?)));
        let (keys, receivers): (Vec<_>, Vec<_>) = open.map(|(key, receiver)| (key, receiver.as_raw_fd())).unzip();
        let fds = std::iter::once(woken).chain(receivers).collect();
        (fds, keys)
    }

    fn deadline(&self) -> Option<Instant> {
        let tell_again = (!self.untold.is_empty()).then(|| Instant::now() + TELL_AGAIN);
        let look_after = (!self.wanted.is_empty()).then_some(self.look_after_at);
        let deadlines = [self.sessions.poll_timeout(), tell_again, look_after];
        deadlines.into_iter().flatten().min()
    }

    /// Said once in the log, and with each session as long as it lasts.
    fn cannot_wait(&mut self, error: &io::Error) {
        if self.cannot_wait.is_none() {
            tracing::error!(%error, "BFD cannot wait for packets; it looks for them all the time");
            self.cannot_wait = Some(format!("cannot wait for packets: {error}"));
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        self.sessions.handle_timeout(now);
        self.carry_out();
        if now >= self.look_after_at {
            self.look_after_at = now + LOOK_AFTER;
            self.look_after_sockets();
            self.tell_statuses();
        }
        self.tell_again();
    }

    /// Takes what has come in; whether there may be more.
    fn receive(&mut self, key: EndpointKey) -> bool {
        let (network, local, multihop) = key;
        for _ in 0..MOST_PER_ROUND {
            let Some(Ok(receiver)) = self.receivers.get(&key) else {
                return false;
            };
            let Some(received) = receiver.receive() else {
                return false;
            };
            let path = Path {
                network,
                local,
                remote: received.from.to_canonical(),
                multihop,
            };
            let arrival = Arrival {
                path,
                ttl: received.ttl,
            };
            let octets = received.octets;
            self.sessions
                .handle(Instant::now(), Input::Received { arrival, octets });
            self.carry_out();
        }
        true
    }

    // What is wanted.

    fn want(&mut self, wanted: Vec<Wanted<K>>) {
        let wanted: BTreeMap<K, Wanted<K>> = wanted.into_iter().map(|each| (each.key.clone(), each)).collect();
        let now = Instant::now();
        let gone: Vec<K> = self
            .wanted
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            self.problems.remove(&key);
            self.sessions.handle(now, Input::Drop { key });
        }
        self.carry_out();
        self.wanted = wanted;
        self.open_receivers();
        for each in self.wanted.values().cloned().collect::<Vec<_>>() {
            let path = self.path(&each);
            let Wanted {
                key,
                config,
                authentication,
                least_ttl,
                ..
            } = each;
            let input = Input::Want {
                key,
                path,
                config,
                authentication,
                least_ttl,
            };
            self.sessions.handle(now, input);
        }
        self.carry_out();
    }

    fn path(&mut self, wanted: &Wanted<K>) -> Path {
        Path {
            network: self.network(wanted.namespace.clone()),
            local: wanted.local,
            remote: wanted.remote,
            multihop: wanted.multihop,
        }
    }

    fn network(&mut self, path: Option<PathBuf>) -> u32 {
        let number = self.networks.iter().position(|network| network.path == path);
        let number = number.unwrap_or_else(|| {
            let identity = identity(path.as_deref()).ok().flatten();
            self.networks.push(Network { path, identity });
            self.networks.len() - 1
        });
        number as u32
    }

    fn open_receivers(&mut self) {
        let all: Vec<Wanted<K>> = self.wanted.values().cloned().collect();
        let paths: BTreeSet<EndpointKey> = all
            .iter()
            .map(|wanted| self.path(wanted))
            .map(|path| (path.network, path.local, path.multihop))
            .collect();
        // A neighbour that is told good-bye answers nothing that we would need.
        self.receivers.retain(|key, _| paths.contains(key));
        for key in paths {
            let (network, local, multihop) = key;
            let namespace = self.networks[network as usize].path.clone();
            let receiver = self.receivers.entry(key).or_insert_with(|| Err(String::new()));
            if receiver.is_err() {
                *receiver = Receiver::open(namespace.as_deref(), local, multihop).map_err(|error| error.to_string());
            }
        }
    }

    // What is to be done.

    fn carry_out(&mut self) {
        while let Some(output) = self.sessions.poll_output() {
            match output {
                Output::Transmit { key, path, octets } => self.send(&key, path, &octets),
                Output::Changed { key, change } => {
                    let status = self.sessions.status(&key);
                    if let Some(status) = status {
                        self.tell(LivenessEvent::Changed { key, change, status });
                    }
                }
                Output::Gone { path, .. } => drop(self.senders.remove(&path)),
            }
        }
    }

    fn send(&mut self, key: &K, path: Path, octets: &[u8]) {
        let namespace = self.networks[path.network as usize].path.clone();
        let sender = self.senders.entry(path).or_insert_with(|| {
            let random = uuid::Uuid::new_v4().as_u128() as u16;
            let opened = Sender::open(namespace.as_deref(), path.local, path.remote, path.multihop, random);
            opened.map_err(|error| error.to_string())
        });
        let mut problem = match sender {
            Ok(sender) => sender.send(octets).err().map(|error| not_sent(&error, path.local)),
            Err(error) => Some(error.clone()),
        };
        let endpoint = (path.network, path.local, path.multihop);
        if let Some(Err(error)) = self.receivers.get(&endpoint) {
            problem = Some(error.clone());
        }
        let problem = problem.or_else(|| self.cannot_wait.clone());
        let is_news = self.problems.get(key).is_none_or(|told| *told != problem);
        if is_news && self.wanted.contains_key(key) {
            let was_told = self.problems.insert(key.clone(), problem.clone()).is_some();
            // That all is well need not be said first.
            if was_told || problem.is_some() {
                let key = key.clone();
                self.tell(LivenessEvent::Problem { key, problem });
            }
        }
    }

    /// Namespaces come, go, and come again as others; what could not be opened is tried again.
    fn look_after_sockets(&mut self) {
        for number in 0..self.networks.len() {
            let identity = identity(self.networks[number].path.as_deref()).ok().flatten();
            if self.networks[number].identity != identity {
                self.networks[number].identity = identity;
                let number = number as u32;
                self.receivers.retain(|(network, ..), _| *network != number);
                self.senders.retain(|path, _| path.network != number);
            }
        }
        self.senders.retain(|_, sender| sender.is_ok());
        self.open_receivers();
    }

    // What is told.

    fn tell_statuses(&mut self) {
        let statuses: Vec<_> = self
            .sessions
            .statuses()
            .map(|(key, _, status)| (key.clone(), status))
            .collect();
        for (key, status) in statuses {
            // They come again: nobody waits for them.
            let event = LivenessEvent::Status { key, status };
            if self.untold.is_empty() {
                let _ = self.events.try_send(event.into());
            }
        }
    }

    fn tell(&mut self, event: LivenessEvent<K>) {
        self.untold.push_back(event.into());
        self.tell_again();
    }

    fn tell_again(&mut self) {
        while let Some(event) = self.untold.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.untold.push_front(event);
                    break;
                }
                // Nobody listens any more.
                Err(TrySendError::Closed(_)) => self.untold.clear(),
            }
        }
        while self.untold.len() > MOST_UNTOLD {
            self.untold.pop_front();
        }
    }
}
