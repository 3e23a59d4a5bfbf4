//! Many agents in one process, as cheap as can be: each a connection that speaks the agent protocol, counts the routes of its table and
//! confirms each generation. Messages about tables are the same for all, so what was decoded for one agent is not decoded again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::agent::{FromAgent, Hello, Installed, TableUpdate, ToAgent, from_agent, to_agent::Body};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prost::Message;
use rustc_hash::FxBuildHasher;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// HTTP/2 windows, as the agent's own.
const WINDOW: u32 = 4 << 20;
/// The prefix of a gRPC message: compressed or not, and its length.
const PREFIX: usize = 5;
/// Messages kept decoded.
const KEPT_MESSAGES: usize = 4096;
/// In place of a number of routes: any whole table will do.
const ANY: u32 = u32::MAX;

/// Agents that have connected, or are about to; they leave when this is dropped.
pub(crate) struct Followers {
    board: Arc<Board>,
    done: mpsc::Receiver<Result<Instant>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What all agents look at.
struct Board {
    agents: usize,
    /// The round in the upper half, the number of routes that is waited for in the lower.
    wanted: AtomicU64,
    /// Agents that have them.
    reached: AtomicUsize,
    /// Routes of the table that reached it last.
    held: AtomicUsize,
    start: Instant,
    /// Generations that agents were told to their ends, and when the last was.
    changes: AtomicU64,
    last_change_micros: AtomicU64,
    leave: Notify,
    done: mpsc::Sender<Result<Instant>>,
}

impl Followers {
    /// One agent for each NIC, all at once; [`Followers::wait`] says when all have a table.
    pub(crate) fn join(instance: SocketAddr, nics: Vec<String>) -> Result<Followers> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let (sender, done) = mpsc::channel();
        let board = Arc::new(Board {
            agents: nics.len(),
            wanted: AtomicU64::new(u64::from(ANY)),
            reached: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            start: Instant::now(),
            changes: AtomicU64::new(0),
            last_change_micros: AtomicU64::new(0),
            leave: Notify::new(),
            done: sender,
        });
        let thread = thread::spawn({
            let board = Arc::clone(&board);
            move || follow_all(&board, instance, nics)
        });
        Ok(Followers {
            board,
            done,
            thread: Some(thread),
        })
    }

    /// From now on this number of routes is waited for.
    pub(crate) fn expect(&self, routes: usize) {
        self.board.reached.store(0, Ordering::SeqCst);
        let round = (self.board.wanted.load(Ordering::SeqCst) >> 32) + 1;
        let wanted = round << 32 | routes as u64;
        self.board.wanted.store(wanted, Ordering::SeqCst);
    }

    /// When the last agent had what is waited for.
    pub(crate) fn wait(&self, patience: Duration) -> Result<Instant> {
        self.done.recv_timeout(patience).map_err(|_| {
            let (reached, agents) = (self.board.reached.load(Ordering::SeqCst), self.board.agents);
            anyhow!("{reached} of {agents} agents had it after {patience:?}")
        })?
    }

    /// When an agent's table last became another.
    pub(crate) fn last_change(&self) -> Instant {
        self.board.start + Duration::from_micros(self.board.last_change_micros.load(Ordering::SeqCst))
    }

    /// How often an agent's table became another.
    pub(crate) fn changes(&self) -> u64 {
        self.board.changes.load(Ordering::SeqCst)
    }

    /// Routes of the agents' table, system routes included.
    pub(crate) fn held(&self) -> usize {
        self.board.held.load(Ordering::SeqCst)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.board.leave.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread of all agents.
fn follow_all(board: &Arc<Board>, instance: SocketAddr, nics: Vec<String>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return board.fail(error.into()),
    };
    let local = LocalSet::new();
    let known = Rc::new(RefCell::new(Known::default()));
    for nic in nics {
        let (board, known) = (Arc::clone(board), Rc::clone(&known));
        local.spawn_local(async move {
            if let Err(error) = follow(&board, &known, instance, &nic).await {
                board.fail(error.context(format!("the agent of {nic}")));
            }
        });
    }
    runtime.block_on(local.run_until(board.leave.notified()));
}

impl Board {
    fn fail(&self, error: anyhow::Error) {
        // Whoever no longer waits need not know.
        let _ = self.done.send(Err(error));
    }

    fn changed(&self) {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_change_micros.store(now, Ordering::SeqCst);
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// An agent has so many routes. `met` is the round in which it last had what was wanted.
    fn holds(&self, routes: usize, met: &mut Option<u64>) {
        let wanted = self.wanted.load(Ordering::SeqCst);
        let is_it = wanted as u32 == ANY || wanted as u32 as usize == routes;
        if !is_it || met.replace(wanted) == Some(wanted) {
            return;
        }
        self.held.store(routes, Ordering::SeqCst);
        if self.reached.fetch_add(1, Ordering::SeqCst) + 1 == self.agents {
            let _ = self.done.send(Ok(Instant::now()));
        }
    }
}

/// One agent from its connection to its end.
async fn follow(board: &Board, known: &RefCell<Known>, instance: SocketAddr, nic: &str) -> Result<()> {
    let stream = TcpStream::connect(instance).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake::<_, Bytes>(stream)
        .await?;
    // One task for both: the connection moves the octets, the stream takes them.
    tokio::select! {
        ended = connection => Ok(ended?),
        ended = converse(client, board, known, nic) => ended,
    }
}

async fn converse(
    mut client: h2::client::SendRequest<Bytes>,
    board: &Board,
    known: &RefCell<Known>,
    nic: &str,
) -> Result<()> {
    let request = http::Request::post("http://instance/routewright.agent.v1.Routes/Follow")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut out) = client.send_request(request, false)?;
    let hello = Hello {
        agent: "bench".to_owned(),
        nics: vec![nic.to_owned()],
        layers: true,
    };
    out.send_data(framed(from_agent::Body::Hello(hello)), false)?;
    let mut body = answer.await?.into_body();
    let mut buffer = BytesMut::new();
    let mut tables = Tables::default();
    let mut met = None;
    while let Some(octets) = body.data().await {
        let octets = octets?;
        body.flow_control().release_capacity(octets.len())?;
        buffer.put(octets);
        while let Some(message) = next_message(&mut buffer) {
            let news = known.borrow_mut().decoded(message)?;
            if tables.hear(&news)? {
                board.changed();
                board.holds(tables.routes(), &mut met);
                let installed = tables.installed(nic);
                out.send_data(framed(from_agent::Body::Installed(installed)), false)?;
            }
        }
    }
    bail!("the instance ended the stream")
}

fn framed(body: from_agent::Body) -> Bytes {
    let message = FromAgent { body: Some(body) };
    let mut out = BytesMut::with_capacity(PREFIX + message.encoded_len());
    out.put_u8(0);
    out.put_u32(message.encoded_len() as u32);
    out.put(message.encode_to_vec().as_slice());
    out.freeze()
}

fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let mut prefix = buffer.get(1..PREFIX)?;
    let length = prefix.get_u32() as usize;
    if buffer.len() < PREFIX + length {
        return None;
    }
    buffer.advance(PREFIX);
    Some(buffer.split_to(length).freeze())
}

/// Messages decoded lately.
#[derive(Default)]
struct Known(HashMap<Bytes, News, FxBuildHasher>);

impl Known {
    fn decoded(&mut self, message: Bytes) -> Result<News> {
        if let Some(news) = self.0.get(&message) {
            return Ok(*news);
        }
        let news = News::of(ToAgent::decode(message.clone())?);
        if self.0.len() >= KEPT_MESSAGES {
            self.0.clear();
        }
        self.0.insert(message, news);
        Ok(news)
    }
}

/// What a message means for the number of routes.
#[derive(Clone, Copy)]
enum News {
    Nic { table: Option<u64>, base: Option<u64> },
    Snapshot(Counts),
    Delta(Counts),
    Else,
}

#[derive(Clone, Copy)]
struct Counts {
    table: u64,
    generation: u64,
    routes: usize,
    removed: usize,
    /// Another piece of the same generation follows.
    more: bool,
}

impl News {
    fn of(message: ToAgent) -> News {
        match message.body {
            Some(Body::Nic(nic)) => News::Nic {
                table: nic.table,
                base: nic.base,
            },
            Some(Body::Snapshot(update)) => News::Snapshot(Counts::of(&update)),
            Some(Body::Delta(update)) => News::Delta(Counts::of(&update)),
            _ => News::Else,
        }
    }
}

impl Counts {
    fn of(update: &TableUpdate) -> Counts {
        Counts {
            table: update.table,
            generation: update.generation,
            routes: update.routes.len(),
            removed: update.removed.len(),
            more: update.more,
        }
    }
}

/// What the NIC follows: its table, and the base below it.
#[derive(Default)]
struct Tables {
    names: Vec<u64>,
    by_name: HashMap<u64, Table, FxBuildHasher>,
}

impl Tables {
    /// Whether what the NIC has is another, and whole.
    fn hear(&mut self, news: &News) -> Result<bool> {
        let (counts, is_snapshot) = match news {
            News::Else => return Ok(false),
            News::Nic { table, base } => {
                self.names = table.iter().chain(base).copied().collect();
                let names = &self.names;
                self.by_name.retain(|name, _| names.contains(name));
                return Ok(self.are_whole());
            }
            News::Snapshot(counts) => (counts, true),
            News::Delta(counts) => (counts, false),
        };
        if !self.names.contains(&counts.table) {
            return Ok(false);
        }
        let table = self.by_name.entry(counts.table).or_default();
        Ok(table.hear(counts, is_snapshot)? && self.are_whole())
    }

    fn are_whole(&self) -> bool {
        let mut tables = self.names.iter().map(|name| self.by_name.get(name));
        !self.names.is_empty() && tables.all(|table| table.is_some_and(|table| !table.unfinished))
    }

    /// Of both together. The load announces nothing that an overlay has, too.
    fn routes(&self) -> usize {
        self.by_name.values().map(|table| table.routes).sum()
    }

    fn installed(&self, nic: &str) -> Installed {
        let generation = |name: &u64| self.by_name.get(name).map_or(0, |table| table.generation);
        let (own, base) = (self.names.first(), self.names.get(1));
        Installed {
            nic: nic.to_owned(),
            table: own.copied().unwrap_or_default(),
            generation: own.map_or(0, generation),
            problems: Vec::new(),
            base: base.copied(),
            base_generation: base.map_or(0, generation),
            ..Installed::default()
        }
    }
}

/// As much of a table as tells whether it is complete.
#[derive(Default)]
struct Table {
    generation: u64,
    routes: usize,
    /// In the middle of an update.
    unfinished: bool,
}

impl Table {
    /// Whether the update is complete.
    fn hear(&mut self, counts: &Counts, is_snapshot: bool) -> Result<bool> {
        let continues = self.unfinished && self.generation == counts.generation;
        if is_snapshot && !continues {
            self.routes = 0;
        }
        ensure!(
            is_snapshot || continues || self.generation + 1 == counts.generation,
            "a generation is missing"
        );
        // The load announces no prefix that is there already, and withdraws none that is not.
        *self = Table {
            generation: counts.generation,
            routes: self.routes + counts.routes - counts.removed,
            unfinished: counts.more,
        };
        Ok(!counts.more)
    }
}
