//! The gRPC service: connections, and on each the stream of an agent, from its beginning to its end.
//!
//! Thousands of agents stay connected and say little, so what counts is what one connection holds: hyper serves it directly, with
//! buffers for one connection with one stream and nothing in between.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use api::agent::{FromAgent, from_agent};
use api::convert;
use api::follow::{self, Follow};
use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use routeserver::Input;
use routeserver::delivery::{AgentId, TableId};
use routeserver::report::AgentCounts;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, sleep};
use tonic::{Status, Streaming};

use super::AgentEvent;
use super::access::{Access, TokenHash};
use super::queue::{AgentQueue, Messages, News};
use crate::instance::events::{Happening, Owner};

/// Azure allows 4,000 VMs in the virtual networks of a route server (az §1.1); lost agents come back before their old streams end.
pub const MAX_AGENTS: usize = 16_384;
/// NICs of one agent: a host's virtual machines.
pub const MAX_NICS_PER_AGENT: usize = 4_096;
/// Streams of one connection: an agent has one, and perhaps another for a moment.
const MAX_STREAMS: u32 = 4;
/// A connection without a stream is given up after so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents that are silent on the connection itself are gone: their host died without a word.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What HTTP/2 may hold of a stream that does not move, by reference: two pieces.
const SEND_BUFFER: usize = 32 << 10;
/// What the kernel may hold that was not sent: the rest is the agent's window.
const UNSENT: u32 = 64 << 10;
/// An agent may say so much before it is read: confirmations are short, and a long Hello waits for its turn.
const RECEIVE_WINDOW: u32 = 64 << 10;
/// Headers of a request; gRPC's are few.
const MAX_HEADERS: u32 = 8 << 10;
/// How often agents are looked at that take nothing.
const STALL_CHECK: Duration = Duration::from_secs(10);
/// A pause when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The service.
#[derive(Clone, Debug)]
pub(in crate::instance) struct AgentService {
    owner: Owner,
    access: Access,
    welcome: Arc<[Bytes]>,
    next: Arc<AtomicU64>,
    streams: Places,
}

/// Takes agents until aborted.
pub(in crate::instance) async fn serve(service: AgentService, listener: TcpListener) {
    let connections = Places::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an agent cannot connect");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One too many is closed at once.
        if let Some(place) = connections.take() {
            let service = service.clone();
            tokio::spawn(async move {
                serve_connection(service, stream).await;
                drop(place);
            });
        }
    }
}

async fn serve_connection(service: AgentService, stream: TcpStream) {
    // What cannot be set costs speed, or memory for an agent that does not read.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    let used = AtomicBool::new(false);
    let service = service_fn(|request| {
        used.store(true, Ordering::Relaxed);
        let answer = follow::answer(&service, request);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(PATIENCE) => {}
    }
    if used.load(Ordering::Relaxed) {
        // However it ends: the agent comes back.
        let _ = connection.await;
    }
}

impl AgentService {
    pub(in crate::instance) fn new(
        owner: Owner,
        access: Access,
        index: usize,
        epoch: u64,
        silence_secs: u64,
    ) -> AgentService {
        AgentService {
            owner,
            access,
            welcome: convert::welcome(index, epoch, silence_secs),
            next: Arc::default(),
            streams: Places::default(),
        }
    }
}

impl Follow for AgentService {
    type Messages = Messages;

    fn follow(&self, token: Option<&str>, said: Streaming<FromAgent>) -> Result<Messages, Status> {
        let token = token.map(TokenHash::of);
        // Whoever has no token at all need not be heard further.
        self.access.may_ask(token.as_ref()).map_err(Status::unauthenticated)?;
        let Some(place) = self.streams.take() else {
            return Err(Status::resource_exhausted("too many agents"));
        };
        let (queue, messages) = AgentQueue::new(Arc::clone(&self.welcome));
        let agent = Agent {
            id: AgentId(self.next.fetch_add(1, Ordering::Relaxed)),
            owner: self.owner.clone(),
            queue,
            access: self.access.clone(),
            token,
            nics: Vec::new(),
            _place: place,
        };
        tokio::spawn(agent.attend(said));
        Ok(messages)
    }
}

/// At most [`MAX_AGENTS`] of something.
#[derive(Clone, Debug, Default)]
struct Places(Arc<AtomicUsize>);

/// One of them; given back when dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Places {
    fn take(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < MAX_AGENTS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One agent's stream.
struct Agent {
    id: AgentId,
    owner: Owner,
    queue: AgentQueue,
    access: Access,
    token: Option<TokenHash>,
    /// What it follows, in lower case.
    nics: Vec<String>,
    _place: Place,
}

impl Agent {
    /// From its beginning to its end.
    async fn attend(mut self, said: Streaming<FromAgent>) {
        if self.tell(AgentEvent::Joined(self.id, self.queue.clone())).await {
            let reason = self.listen(said).await;
            tracing::debug!(agent = self.id.0, reason, "agent's stream ended");
            self.tell(AgentEvent::Gone(self.id)).await;
        }
        self.queue.end();
    }

    /// Hears what the agent and its queue say, and why that stopped.
    async fn listen(&mut self, mut said: Streaming<FromAgent>) -> &'static str {
        let mut check = interval(STALL_CHECK);
        let mut changes = self.access.changes();
        loop {
            let event = tokio::select! {
                // A token that is revoked ends what it allowed.
                Ok(()) = changes.changed() => match self.is_refused() {
                    true => return "may not follow its NICs any more",
                    false => continue,
                },
                heard = said.message() => match heard {
                    Ok(Some(message)) => match self.input(message) {
                        Ok(Some(input)) => AgentEvent::Said(input),
                        Ok(None) => continue,
                        Err(reason) => return reason,
                    },
                    Ok(None) => return "ended by the agent",
                    Err(_) => return "connection lost",
                },
                news = self.queue.news() => match news {
                    News::Drained => AgentEvent::Drained(self.id),
                    News::Closed => return "closed by the agent",
                },
                _ = check.tick() => {
                    self.queue.let_go_if_stalled();
                    continue;
                }
            };
            if !self.tell(event).await {
                return "the instance is leaving";
            }
        }
    }

    /// What a message means; `None` for a word of a later version.
    fn input(&mut self, message: FromAgent) -> Result<Option<Input>, &'static str> {
        Ok(match message.body {
            Some(from_agent::Body::Hello(hello)) => {
                if hello.nics.len() > MAX_NICS_PER_AGENT {
                    return Err("follows too many NICs");
                }
                self.nics = hello.nics.iter().map(|nic| nic.to_lowercase()).collect();
                if self.is_refused() {
                    return Err("may not follow what it asks for");
                }
                Some(Input::AgentFollows {
                    agent: self.id,
                    name: hello.agent,
                    nics: self.nics.clone(),
                    layers: hello.layers,
                })
            }
            Some(from_agent::Body::Installed(installed)) => Some(Input::AgentInstalled {
                agent: self.id,
                nic: installed.nic.to_lowercase(),
                table: TableId(installed.table),
                generation: installed.generation,
                base: installed.base.map(|base| (TableId(base), installed.base_generation)),
                problems: installed.problems,
                counts: AgentCounts {
                    stranded: installed.stranded,
                    repaired: installed.repaired,
                },
            }),
            None => None,
        })
    }

    /// Whether the agent has no right to its NICs; it is told so.
    fn is_refused(&self) -> bool {
        match self.access.may_follow(self.token.as_ref(), &self.nics) {
            Ok(()) => false,
            Err(reason) => {
                tracing::warn!(agent = self.id.0, reason, "an agent is refused");
                self.queue.refuse(reason);
                true
            }
        }
    }

    /// False: the instance is leaving.
    async fn tell(&self, event: AgentEvent) -> bool {
        self.owner.tell(Happening::Agent(event)).await.is_ok()
    }
}
