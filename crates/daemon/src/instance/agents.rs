//! Agents: the gRPC service that they connect to, and a bounded queue of encoded messages for each.
//!
//! ```text
//!  driver ── AgentQueue::send (bounded) ──► forwarding task: heartbeats ──► HTTP/2 stream ──► agent
//!  driver ◄── AgentEvent (bounded channel) ── listening task ◄───────────── HTTP/2 stream ◄── agent
//! ```

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use api::agent::{FromAgent, from_agent};
use api::convert;
use api::follow::{Follow, FollowServer};
use bytes::Bytes;
use futures::Stream;
use routeserver::Input;
use routeserver::delivery::{AgentId, TableId, ToAgent};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, Streaming};

use super::events::{Happening, Owner};

/// Messages that may wait for one agent. They are shared between agents, so a waiting one costs little.
pub const AGENT_QUEUE: usize = 256;
/// From here on the state machine is asked to hold back; it catches up by snapshot. What is above is for words that are no tables.
pub const AGENT_HIGH_WATER: usize = 192;
/// Down to here it is asked to hold back, once it was.
const AGENT_LOW_WATER: usize = 16;
/// Azure allows 4,000 VMs in the virtual networks of a route server (az §1.1); lost agents come back before their old streams end.
pub const MAX_AGENTS: usize = 16_384;
/// NICs of one agent: a host's virtual machines.
pub const MAX_NICS_PER_AGENT: usize = 4_096;
/// Something is said at least so often.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Agents that are silent on the connection itself are gone: their host died without a word.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What happens with agents.
pub(super) enum AgentEvent {
    /// One has come, and this is how to tell it something.
    Joined(AgentId, AgentQueue),
    /// It said something.
    Said(Input),
    /// Its queue, which was full, takes more again.
    Drained(AgentId),
    /// Its stream ended.
    Gone(AgentId),
}

/// The driver's side of one agent.
#[derive(Debug)]
pub(super) struct AgentQueue {
    messages: mpsc::Sender<Bytes>,
    full: Arc<AtomicBool>,
}

/// The agents that the driver knows.
#[derive(Debug, Default)]
pub(super) struct Agents {
    queues: HashMap<AgentId, AgentQueue>,
}

impl Agents {
    pub(super) fn happened(&mut self, event: AgentEvent) -> Option<Input> {
        match event {
            AgentEvent::Joined(agent, queue) => {
                self.queues.insert(agent, queue);
                None
            }
            AgentEvent::Said(input) => Some(input),
            AgentEvent::Drained(agent) => {
                let full = self.queues.get(&agent)?.is_full();
                Some(Input::AgentBackpressure { agent, full })
            }
            AgentEvent::Gone(agent) => {
                self.queues.remove(&agent);
                Some(Input::AgentGone { agent })
            }
        }
    }

    /// Tells these agents, and says which queues have just become full.
    pub(super) fn send(&mut self, agents: &[AgentId], message: &ToAgent) -> Vec<AgentId> {
        let encoded = convert::encode(message);
        let mut full = Vec::new();
        for agent in agents {
            let Some(queue) = self.queues.get(agent) else { continue };
            match queue.send(encoded.clone()) {
                Ok(false) => {}
                Ok(true) => full.push(*agent),
                // A message is missing from now on: the stream ends, the agent comes back and starts over.
                Err(Lost) => {
                    tracing::warn!(agent = agent.0, "agent takes too little; its stream ends");
                    self.queues.remove(agent);
                }
            }
        }
        full
    }
}

/// The queue is beyond its limit, or its stream has ended.
struct Lost;

impl AgentQueue {
    /// True: it has just become full.
    fn send(&self, message: Bytes) -> Result<bool, Lost> {
        self.messages.try_send(message).map_err(|_| Lost)?;
        if self.waiting() < AGENT_HIGH_WATER || self.full.swap(true, Ordering::SeqCst) {
            return Ok(false);
        }
        // If the agent has taken everything in between, the forwarding task has not seen the mark.
        let drained = self.waiting() <= AGENT_LOW_WATER && self.full.swap(false, Ordering::SeqCst);
        Ok(!drained)
    }

    fn waiting(&self) -> usize {
        self.messages.max_capacity() - self.messages.capacity()
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct AgentService {
    owner: Owner,
    welcome: Bytes,
    next: Arc<AtomicU64>,
    connected: Arc<AtomicUsize>,
}

/// Serves until aborted.
pub(super) async fn serve(service: AgentService, listener: TcpListener) {
    let incoming = TcpListenerStream::new(listener);
    let served = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(FollowServer::new(service))
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "agents can no longer connect");
    }
}

impl AgentService {
    pub(super) fn new(owner: Owner, index: usize, epoch: u64, silence_secs: u64) -> AgentService {
        AgentService {
            owner,
            welcome: convert::welcome(index, epoch, silence_secs),
            next: Arc::default(),
            connected: Arc::default(),
        }
    }
}

impl Follow for AgentService {
    type Messages = Messages;

    fn follow(&self, request: Request<Streaming<FromAgent>>) -> Result<Messages, Status> {
        let place = Place::take(&self.connected)?;
        let agent = AgentId(self.next.fetch_add(1, Ordering::Relaxed));
        let (messages, queued) = mpsc::channel(AGENT_QUEUE);
        let full = Arc::new(AtomicBool::new(false));
        // One message: what waits, waits in the queue, where it is counted.
        let (out, stream) = mpsc::channel(1);
        let queue = AgentQueue {
            messages,
            full: full.clone(),
        };
        let forwarding = Forwarding {
            agent,
            owner: self.owner.clone(),
            queued,
            full,
            out,
        };
        tokio::spawn(attend(
            agent,
            self.owner.clone(),
            queue,
            request.into_inner(),
            forwarding,
            self.welcome.clone(),
            place,
        ));
        Ok(Messages { stream })
    }
}

/// One of [`MAX_AGENTS`] places.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(connected: &Arc<AtomicUsize>) -> Result<Place, Status> {
        let place = Place(connected.clone());
        if connected.fetch_add(1, Ordering::Relaxed) >= MAX_AGENTS {
            // Dropping the place gives it back.
            return Err(Status::resource_exhausted("too many agents"));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One agent's stream from its beginning to its end.
async fn attend(
    agent: AgentId,
    owner: Owner,
    queue: AgentQueue,
    said: Streaming<FromAgent>,
    forwarding: Forwarding,
    welcome: Bytes,
    _place: Place,
) {
    if owner
        .tell(Happening::Agent(AgentEvent::Joined(agent, queue)))
        .await
        .is_err()
    {
        return;
    }
    let reason = tokio::select! {
        reason = listen(agent, &owner, said) => reason,
        reason = forwarding.run(welcome) => reason,
    };
    tracing::debug!(agent = agent.0, reason, "agent's stream ended");
    let _ = owner.tell(Happening::Agent(AgentEvent::Gone(agent))).await;
}

/// Hears what the agent says, and why it stopped.
async fn listen(agent: AgentId, owner: &Owner, mut said: Streaming<FromAgent>) -> &'static str {
    loop {
        let body = match said.message().await {
            Ok(Some(message)) => message.body,
            Ok(None) => return "ended by the agent",
            Err(_) => return "connection lost",
        };
        let input = match body {
            Some(from_agent::Body::Hello(hello)) => {
                if hello.nics.len() > MAX_NICS_PER_AGENT {
                    return "follows too many NICs";
                }
                let nics = hello.nics.iter().map(|nic| nic.to_lowercase()).collect();
                Input::AgentFollows {
                    agent,
                    name: hello.agent,
                    nics,
                }
            }
            Some(from_agent::Body::Installed(installed)) => Input::AgentInstalled {
                agent,
                nic: installed.nic.to_lowercase(),
                table: TableId(installed.table),
                generation: installed.generation,
                problems: installed.problems,
            },
            // A word of a later version.
            None => continue,
        };
        if owner.tell(Happening::Agent(AgentEvent::Said(input))).await.is_err() {
            return "the instance is leaving";
        }
    }
}

/// From the queue to the stream.
struct Forwarding {
    agent: AgentId,
    owner: Owner,
    queued: mpsc::Receiver<Bytes>,
    full: Arc<AtomicBool>,
    out: mpsc::Sender<Bytes>,
}

impl Forwarding {
    async fn run(mut self, welcome: Bytes) -> &'static str {
        let heartbeat = convert::heartbeat();
        let mut message = welcome;
        loop {
            if self.out.send(message).await.is_err() {
                return "closed by the agent";
            }
            message = match timeout_at(Instant::now() + HEARTBEAT, self.queued.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => return "left behind",
                Err(_) => heartbeat.clone(),
            };
            if self.queued.len() <= AGENT_LOW_WATER && self.full.swap(false, Ordering::SeqCst) {
                let drained = Happening::Agent(AgentEvent::Drained(self.agent));
                if self.owner.tell(drained).await.is_err() {
                    return "the instance is leaving";
                }
            }
        }
    }
}

/// What tonic sends.
#[derive(Debug)]
pub(super) struct Messages {
    stream: mpsc::Receiver<Bytes>,
}

impl Stream for Messages {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_recv(context).map(|message| message.map(Ok))
    }
}
