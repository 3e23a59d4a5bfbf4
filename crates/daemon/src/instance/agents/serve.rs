//! The gRPC service: connections, and on each the stream of an agent, from its beginning to its end.
//!
//! ```text
//! listener ─► seat ─► TLS, if it is wanted ─► HTTP/2 ─► Hello ─► access ─► place ─► welcome     one task per connection, one per stream
//!             └──────── judged: PATIENCE, MAX_JUDGED ────────┘
//! ```
//!
//! Thousands of agents stay connected and say little, so what counts is what one connection holds: hyper serves it directly, with
//! buffers for one connection with one stream and nothing in between. Whoever was not let in yet has a seat among few, and not for
//! long, so that nobody without a right keeps out those who have one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::agent::{FromAgent, Hello, from_agent};
use api::follow::{self, Follow};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use routeserver::Input;
use routeserver::delivery::{AgentId, TableId};
use routeserver::report::AgentCounts;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status, Streaming};

use super::AgentEvent;
use super::access::{Access, Rule, TokenHash, shortened};
use super::life::Life;
use super::queue::{AgentQueue, Messages, News};
use crate::allowance::Allowance;
use crate::instance::events::{Happening, Owner};

/// Azure allows 4,000 VMs in the virtual networks of a route server (az §1.1); lost agents come back before their old streams end.
pub const MAX_AGENTS: usize = 16_384;
/// Agents with one token, for each NIC that it is for: one, with what it has left behind and somebody who tries it out. So whoever has a VM's
/// token keeps nobody else out.
const MAX_AGENTS_PER_NIC: usize = 16;
/// NICs of one agent: a host's virtual machines.
pub const MAX_NICS_PER_AGENT: usize = 4_096;
/// Connections of which no agent was let in yet. Others wait in the listener's queue.
pub const MAX_JUDGED: usize = 1_024;
/// From its connection, or from the end of its last stream, an agent has so long until it is let in: TLS, its Hello, and an instance that
/// knows whom to let in.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where others wait for a seat it has only so long.
const PATIENCE_WHEN_CROWDED: Duration = Duration::from_secs(2);
/// How often it is looked whether others wait.
const CROWD_CHECK: Duration = Duration::from_secs(1);
/// Streams of one connection at a time: an agent has one.
const MAX_STREAMS: u32 = 1;
/// Agents that are silent on the connection itself are gone: their host died without a word.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What HTTP/2 may hold of a stream that does not move, by reference: two pieces.
const SEND_BUFFER: usize = 32 << 10;
/// What the kernel may hold that was not sent: the rest is the agent's window.
const UNSENT: u32 = 64 << 10;
/// An agent may say so much before it is read, and it is not read before its token is known: confirmations are short.
const RECEIVE_WINDOW: u32 = 64 << 10;
/// Headers of a request; gRPC's are few.
const MAX_HEADERS: u32 = 8 << 10;
/// How often agents are looked at that take nothing.
const STALL_CHECK: Duration = Duration::from_secs(10);
/// A pause when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Lines in the log of agents that are refused, in a minute.
const REFUSALS_LOGGED: u32 = 20;
/// Octets of an agent's name that people are shown.
const MAX_NAME: usize = 256;
/// Octets of the id of a NIC; those of Azure have some 200.
const MAX_NIC_ID: usize = 2_048;
/// What could not be installed: so many sentences of one NIC are kept, of so many octets.
const MAX_PROBLEMS: usize = 64;
const MAX_PROBLEM: usize = 1_024;

/// The service.
#[derive(Clone, Debug)]
pub(in crate::instance) struct AgentService {
    owner: Owner,
    access: Access,
    life: Life,
    next: Arc<AtomicU64>,
    places: Places,
    refusals: Arc<Mutex<Allowance>>,
}

/// Takes agents until aborted; over TLS, if there is a configuration of it, as that is at each moment.
pub(in crate::instance) async fn serve(
    service: AgentService,
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
) {
    let seats = Arc::new(Semaphore::new(MAX_JUDGED));
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an agent cannot connect");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // What cannot be set costs speed, or memory for an agent that does not read.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let caller = Caller {
            service: service.clone(),
            peer,
            streams: Arc::new(watch::Sender::new(0)),
        };
        let tls = tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(&tls.borrow())));
        let seats = Arc::clone(&seats);
        tokio::spawn(async move {
            let mut streams = caller.streams.subscribe();
            let mut serving = std::pin::pin!(caller.serve(stream, tls));
            tokio::select! {
                () = &mut serving => return,
                () = too_long(&seats) => return tracing::debug!(%peer, "a connection without an agent is given up"),
                _ = streams.wait_for(|streams| *streams > 0) => drop(seat),
            }
            tokio::select! {
                () = &mut serving => {}
                () = without_agent(&mut streams) => {}
            }
        });
    }
}

/// One that is not let in has waited long enough.
async fn too_long(seats: &Semaphore) {
    sleep(PATIENCE_WHEN_CROWDED).await;
    let checks = (PATIENCE - PATIENCE_WHEN_CROWDED).as_secs() / CROWD_CHECK.as_secs();
    for _ in 0..checks {
        if seats.available_permits() == 0 {
            return;
        }
        sleep(CROWD_CHECK).await;
    }
}

/// A connection that had an agent has had none for a while.
async fn without_agent(streams: &mut watch::Receiver<usize>) {
    loop {
        // Neither fails: whoever serves the connection has the sender.
        let _ = streams.wait_for(|streams| *streams == 0).await;
        if timeout(PATIENCE, streams.wait_for(|streams| *streams > 0))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
struct Caller {
    service: AgentService,
    peer: SocketAddr,
    /// How many of the connection's streams are of agents that were let in.
    streams: Arc<watch::Sender<usize>>,
}

impl Caller {
    async fn serve(&self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            return self.talk(stream).await;
        };
        match tls.accept(stream).await {
            Ok(stream) => self.talk(stream).await,
            Err(error) => tracing::debug!(peer = %self.peer, %error, "a TLS handshake of an agent failed"),
        }
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| {
            let answer = follow::answer(self, request);
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
        // However it ends: the agent comes back.
        let _ = connection.await;
    }
}

impl AgentService {
    pub(in crate::instance) fn new(owner: Owner, access: Access, life: Life) -> AgentService {
        AgentService {
            owner,
            access,
            life,
            next: Arc::default(),
            places: Places::default(),
            refusals: Arc::new(Mutex::new(Allowance::new(REFUSALS_LOGGED, Instant::now()))),
        }
    }

    /// For the person at night, who has a log of bounded size.
    fn log_refusal(&self, peer: SocketAddr, reason: &Status) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = refusals.take(Instant::now()) {
            let reason = reason.message();
            tracing::warn!(%peer, reason, more_before = more, "an agent is refused");
        }
    }
}

impl Follow for Caller {
    type Messages = Messages;

    fn follow(&self, token: Option<&str>, said: Streaming<FromAgent>) -> Result<Messages, Status> {
        let service = &self.service;
        let token = token.map(TokenHash::of);
        // Whoever has no token at all need not be heard further.
        if service.access.is_known()
            && let Err(refusal) = service.access.may_ask(token.as_ref())
        {
            service.log_refusal(self.peer, &refusal);
            return Err(refusal);
        }
        let (queue, messages) = AgentQueue::new();
        let agent = Agent {
            id: AgentId(service.next.fetch_add(1, Ordering::Relaxed)),
            caller: self.clone(),
            queue,
            token,
            nics: Vec::new(),
        };
        tokio::spawn(agent.attend(said));
        Ok(messages)
    }
}

/// At most [`MAX_AGENTS`] of something, and of those with one token as many as the NICs that it is for may have.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_token: HashMap<TokenHash, usize>,
}

/// One of them; given back when dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    token: Option<TokenHash>,
}

impl Places {
    /// For somebody with a token, which is for so many NICs, where tokens are needed; else why not.
    fn take(&self, token: Option<(TokenHash, usize)>) -> Result<Place, Status> {
        let mut taken = self.taken();
        if taken.all >= MAX_AGENTS {
            return Err(Status::resource_exhausted("too many agents"));
        }
        if let Some((token, nics)) = &token {
            let most = nics.saturating_mul(MAX_AGENTS_PER_NIC);
            let of_token = taken.by_token.get(token).copied().unwrap_or_default();
            if of_token >= most {
                let sentence = format!(
                    "{of_token} agents with this token are here, and that is as many as may be: end some of them"
                );
                return Err(Status::resource_exhausted(sentence));
            }
            taken.by_token.insert(token.clone(), of_token + 1);
        }
        taken.all += 1;
        Ok(Place {
            places: self.clone(),
            token: token.map(|(token, _)| token),
        })
    }

    /// Every change is made whole before anything could panic.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        let Some(token) = &self.token else {
            return;
        };
        if let Some(of_token) = taken.by_token.get_mut(token) {
            *of_token -= 1;
            if *of_token == 0 {
                taken.by_token.remove(token);
            }
        }
    }
}

/// An agent that was let in, for its connection; until dropped.
struct LetIn {
    streams: Arc<watch::Sender<usize>>,
    _place: Place,
}

impl Drop for LetIn {
    fn drop(&mut self) {
        self.streams.send_modify(|streams| *streams -= 1);
    }
}

/// One agent's stream.
struct Agent {
    id: AgentId,
    caller: Caller,
    queue: AgentQueue,
    token: Option<TokenHash>,
    /// What it follows, in lower case.
    nics: Vec<String>,
}

impl Agent {
    /// From its beginning to its end.
    async fn attend(mut self, mut said: Streaming<FromAgent>) {
        // From before it is judged, so that no change is missed.
        let changes = self.access().changes();
        match self.is_let_in(&mut said).await {
            Ok((_let_in, follows)) => {
                let welcome = self.caller.service.life.welcome();
                self.queue.let_in(welcome.message);
                let joined = AgentEvent::Joined(self.id, self.queue.clone(), welcome.epoch);
                if self.tell(joined).await && self.tell(AgentEvent::Said(follows)).await {
                    let reason = self.listen(said, changes).await;
                    tracing::debug!(agent = self.id.0, reason, "agent's stream ended");
                }
                self.tell(AgentEvent::Gone(self.id)).await;
            }
            Err(refusal) => self.refuse(refusal),
        }
        self.queue.end();
    }

    fn access(&self) -> &Access {
        &self.caller.service.access
    }

    /// Hears its Hello, and lets it in if it may follow what that names; else says why not.
    async fn is_let_in(&mut self, said: &mut Streaming<FromAgent>) -> Result<(LetIn, Input), Status> {
        let judged = timeout(PATIENCE, async {
            // Before it is read at all: a Hello is long.
            self.access().known().await;
            self.access().may_ask(self.token.as_ref())?;
            let hello = hello(said).await?;
            self.follows(hello)
        });
        let follows = judged.await.unwrap_or_else(|_| {
            // Either of the two kept us waiting.
            self.access().may_ask(self.token.as_ref())?;
            Err(Status::deadline_exceeded("no Hello came in time"))
        })?;
        let nics = self.access().nics_of(self.token.as_ref());
        let token = self.token.clone().zip(nics);
        let place = self.caller.service.places.take(token)?;
        let streams = Arc::clone(&self.caller.streams);
        streams.send_modify(|streams| *streams += 1);
        Ok((LetIn { streams, _place: place }, follows))
    }

    /// Hears what the agent and its queue say, and why that stopped.
    async fn listen(&mut self, mut said: Streaming<FromAgent>, mut changes: watch::Receiver<Rule>) -> &'static str {
        let mut check = interval(STALL_CHECK);
        loop {
            let event = tokio::select! {
                // A token that is revoked ends what it allowed.
                Ok(()) = changes.changed() => match self.access().may_follow(self.token.as_ref(), &self.nics) {
                    Ok(()) => continue,
                    Err(refusal) => {
                        self.refuse(refusal);
                        return "may not follow its NICs any more";
                    }
                },
                heard = said.message() => match heard {
                    Ok(Some(message)) => match self.input(message) {
                        Ok(Some(input)) => AgentEvent::Said(input),
                        Ok(None) => continue,
                        Err(refusal) => {
                            self.refuse(refusal);
                            return "may not follow what it asks for";
                        }
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
    fn input(&mut self, message: FromAgent) -> Result<Option<Input>, Status> {
        Ok(match message.body {
            Some(from_agent::Body::Hello(hello)) => Some(self.follows(hello)?),
            Some(from_agent::Body::Installed(installed)) => Some(Input::AgentInstalled {
                agent: self.id,
                nic: installed.nic.to_lowercase(),
                table: TableId(installed.table),
                generation: installed.generation,
                base: installed.base.map(|base| (TableId(base), installed.base_generation)),
                problems: bounded(installed.problems),
                counts: AgentCounts {
                    stranded: installed.stranded,
                    repaired: installed.repaired,
                },
            }),
            None => None,
        })
    }

    /// What it wants to follow from now on, if it may.
    fn follows(&mut self, hello: Hello) -> Result<Input, Status> {
        if hello.nics.len() > MAX_NICS_PER_AGENT {
            let sentence = format!("an agent follows at most {MAX_NICS_PER_AGENT} NICs: run several agents");
            return Err(Status::invalid_argument(sentence));
        }
        if hello.nics.iter().any(|nic| nic.len() > MAX_NIC_ID) {
            let sentence = format!("no NIC has an id of more than {MAX_NIC_ID} octets");
            return Err(Status::invalid_argument(sentence));
        }
        self.nics = hello.nics.iter().map(|nic| nic.to_lowercase()).collect();
        self.access().may_follow(self.token.as_ref(), &self.nics)?;
        Ok(Input::AgentFollows {
            agent: self.id,
            name: shortened(&hello.agent, MAX_NAME),
            nics: self.nics.clone(),
            layers: hello.layers,
        })
    }

    /// The agent has no right to what it asks for; it is told so.
    fn refuse(&self, refusal: Status) {
        self.caller.service.log_refusal(self.caller.peer, &refusal);
        self.queue.refuse(refusal);
    }

    /// False: the instance is leaving.
    async fn tell(&self, event: AgentEvent) -> bool {
        self.caller.service.owner.tell(Happening::Agent(event)).await.is_ok()
    }
}

/// The first message of an agent.
async fn hello(said: &mut Streaming<FromAgent>) -> Result<Hello, Status> {
    loop {
        let message = said.message().await.map_err(|status| match status.code() {
            // Of more octets than are read.
            Code::OutOfRange => Status::invalid_argument(
                "the agent's Hello is too long: run several agents, each with some of its NICs",
            ),
            _ => status,
        })?;
        match message.map(|message| message.body) {
            Some(Some(from_agent::Body::Hello(hello))) => return Ok(hello),
            Some(Some(_)) => return Err(Status::invalid_argument("an agent says Hello first")),
            // A word of a later version.
            Some(None) => {}
            None => return Err(Status::invalid_argument("an agent says Hello before it leaves")),
        }
    }
}

/// As much of what an agent complains about as people read.
fn bounded(mut problems: Vec<String>) -> Vec<String> {
    if problems.len() > MAX_PROBLEMS {
        let more = problems.len() - MAX_PROBLEMS;
        problems.truncate(MAX_PROBLEMS);
        problems.push(format!("and {more} more"));
    }
    problems.iter().map(|problem| shortened(problem, MAX_PROBLEM)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_token_does_not_take_the_places_of_others() {
        let places = Places::default();
        let take = |token: &str, nics| places.take(Some((TokenHash::of(token), nics)));
        let mut of_one: Vec<Place> = (0..MAX_AGENTS_PER_NIC).map(|_| take("one", 1).unwrap()).collect();
        assert_eq!(take("one", 1).unwrap_err().code(), Code::ResourceExhausted);
        // It is for another NIC, too, from now on.
        of_one.push(take("one", 2).unwrap());
        let other = take("other", 1).unwrap();
        // Revoked in this moment.
        assert!(take("gone", 0).is_err());
        drop(of_one);
        assert!(take("one", 1).is_ok());
        drop(other);
        assert!(places.taken().by_token.is_empty() && places.taken().all == 0);
    }

    #[test]
    fn where_no_tokens_are_needed_there_are_as_many_places_as_there_are() {
        let places = Places::default();
        let all: Vec<Place> = (0..MAX_AGENTS).map(|_| places.take(None).unwrap()).collect();
        assert_eq!(places.take(None).unwrap_err().code(), Code::ResourceExhausted);
        drop(all);
        assert!(places.take(None).is_ok());
    }
}
