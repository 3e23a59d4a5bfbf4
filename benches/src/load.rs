//! The load: all peers of a workload, each with a receiver that checks what it is told.

use std::cell::Cell;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use socket2::{Domain, Socket, Type};

use crate::network::Network;
use crate::peer::{Expected, Holding, Receiver, Session, establish};
use crate::workload::{Workload, address_of, device};

/// A speaker that has not answered an OPEN by then will not.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// A session's socket buffers: those of a busy host, so that none of the speakers waits for the load.
const SOCKET_BUFFER: usize = 4 << 20;

/// How often somebody is heard of while everybody waits. BIRD 2.0 goes to sleep for 3 s with the rest of a table still to be sent, when
/// the event that would send it was scheduled after the last look at the list of events; whatever arrives wakes it. Its
/// sleep is not what is measured.
const NUDGE: Duration = Duration::from_millis(10);

/// How often the speaker's health is looked at.
const CHECK: Duration = Duration::from_millis(500);

/// Something that a speaker is waited for, how long, and what ends it early.
pub(crate) struct Step<'a> {
    pub(crate) what: &'static str,
    pub(crate) started: Instant,
    pub(crate) patience: Duration,
    /// Fails when it makes no sense to wait on.
    pub(crate) health: &'a dyn Fn() -> Result<()>,
}

/// A step took longer than the patience that was there for it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: not within {secs} s; right/held per peer: {state}")]
pub(crate) struct NotWithin {
    what: &'static str,
    pub(crate) secs: u64,
    state: String,
}

/// Established sessions, by peer.
pub(crate) struct Load {
    pub(crate) sessions: Vec<Arc<Session>>,
    pub(crate) holdings: Vec<Arc<Holding>>,
    expected: Arc<Expected>,
    /// Peer 0 has left, by our own will.
    without_0: Cell<bool>,
    stop: Arc<AtomicBool>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Establishes all peers that announce.
    pub(crate) fn establish(network: &Network, workload: Workload) -> Result<Load> {
        let mut load = Load {
            sessions: Vec::new(),
            holdings: Vec::new(),
            expected: Arc::new(Expected::of(workload)),
            without_0: Cell::new(false),
            stop: Arc::default(),
            readers: Vec::new(),
        };
        for peer in 0..workload.peers {
            load.join(network, peer)?;
        }
        Ok(load)
    }

    /// One peer more.
    pub(crate) fn join(&mut self, network: &Network, peer: u32) -> Result<()> {
        let stream = connect_from(network, peer, SocketAddr::new(device(), 179))?;
        let session = Arc::new(Session::new(stream));
        let holding = Arc::new(Holding::default());
        let receiver = Receiver::new(session.clone(), holding.clone(), peer, self.expected.clone());
        let stop = self.stop.clone();
        self.readers.push(thread::spawn(move || receiver.run(&stop)));
        self.sessions.push(session);
        self.holdings.push(holding);
        Ok(())
    }

    /// Peer 0 dies.
    pub(crate) fn kill_0(&self) -> Result<()> {
        self.without_0.set(true);
        Ok(self.sessions[0].close()?)
    }

    /// Everybody writes at once what is his, and waits until `done` says so of every peer.
    pub(crate) fn send_and_wait(
        &self,
        messages: &[Vec<u8>],
        step: &Step<'_>,
        done: impl Fn(u32, &Holding) -> bool,
    ) -> Result<()> {
        thread::scope(|scope| {
            let writers: Vec<_> = (self.sessions.iter().zip(messages))
                .filter(|(_, bytes)| !bytes.is_empty())
                .map(|(session, bytes)| scope.spawn(move || session.write(bytes)))
                .collect();
            let outcome = self.wait(step, done);
            if outcome.is_err() {
                // Else a speaker that reads no more would hold its writer for ever.
                self.close();
                return outcome;
            }
            for writer in writers {
                writer.join().map_err(|_| anyhow!("a writer died"))??;
            }
            Ok(())
        })
    }

    /// Waits until `done` says so of every peer.
    pub(crate) fn wait(&self, step: &Step<'_>, done: impl Fn(u32, &Holding) -> bool) -> Result<()> {
        let (mut next, mut nudged, mut checked) = (0, Instant::now(), Instant::now());
        while next < self.holdings.len() {
            if done(next as u32, &self.holdings[next]) {
                next += 1;
                continue;
            }
            next = 0;
            if step.started.elapsed() > step.patience {
                return Err(self.not_within(step).into());
            }
            if nudged.elapsed() > NUDGE {
                nudged = Instant::now();
                self.sessions[1].keepalive();
            }
            if checked.elapsed() > CHECK {
                checked = Instant::now();
                (step.health)()?;
                self.check_connections()?;
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    fn check_connections(&self) -> Result<()> {
        let closed = |holding: &Arc<Holding>| holding.closed.load(Ordering::Acquire);
        let from = usize::from(self.without_0.get());
        if let Some(peer) = self.holdings.iter().skip(from).position(closed) {
            bail!("the speaker closed the session of peer {}", peer + from);
        }
        Ok(())
    }

    fn not_within(&self, step: &Step<'_>) -> NotWithin {
        let one = |h: &Arc<Holding>| {
            format!(
                "{}/{} ",
                h.right.load(Ordering::Acquire),
                h.held.load(Ordering::Acquire)
            )
        };
        NotWithin {
            what: step.what,
            secs: step.patience.as_secs(),
            state: self.holdings.iter().take(SHOWN_PEERS).map(one).collect(),
        }
    }

    fn close(&self) {
        for session in &self.sessions {
            // It may be closed already.
            let _ = session.close();
        }
    }
}

/// So many peers' states are shown when a step was given up.
const SHOWN_PEERS: usize = 10;

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.close();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// An Established session from the load's namespace.
pub(crate) fn connect_from(network: &Network, peer: u32, to: SocketAddr) -> Result<TcpStream> {
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            network.enter_load()?;
            connect(peer, to)
        });
        connecting
            .join()
            .unwrap_or_else(|_| bail!("the connecting thread died"))
    })
}

fn connect(peer: u32, to: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + ESTABLISH_TIMEOUT;
    loop {
        match try_connect(peer, to) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn try_connect(peer: u32, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&SocketAddr::new(address_of(peer).into(), 0).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    socket.set_tcp_nodelay(true)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    establish(&mut stream, peer)?;
    Ok(stream)
}
