//! What happens to an instance process, and how it comes to the driver: in which order, and how much of it may wait.
//!
//! ```text
//!  BFD's thread ── Input ──► liveness ────────────────────────────────────────────────┐ 0. before all else: a path is lost
//!  control socket, agents' streams ── Ask, Input, Agent ──► control ─────────────────┤ 1. at once
//!  connection tasks ── Connection ──► one queue for each, served in turn ────────────┼─► Inbox::next
//!  listeners, dials ── Listen, Dialled ──► calls ────────────────────────────────────┘ 3. behind what connections have said
//! ```
//!
//! A peer that floods us fills its own queue and stops being read; what another one says is never behind more than one read of it.
//! Calls come last because a peer's new connection must not overtake the end of its old one: the session would refuse it
//! (RFC 4271 §6.8). What BFD tells is a few small words a second, so it can come first.

use std::task::{Context, Poll};
use std::time::Instant;

use api::control::Order;
use futures::stream::{SelectAll, StreamExt};
use futures::{FutureExt, future};
use routeserver::instance::{BfdEvent, PeerKey};
use routeserver::{Input, Instance};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;
use tokio_stream::wrappers::ReceiverStream;

use super::agents::AgentEvent;
use crate::connection::{ConnectionEvent, ListenEvent, SocketError};
use crate::liveness::LivenessEvent;

/// How many questions, inputs and words of agents may wait for the driver, and how many calls.
const CHANNEL_CAPACITY: usize = 64;
/// How many words of BFD may wait for the driver: one for each of more peers than there are, several times.
const LIVENESS_CAPACITY: usize = 1_024;
/// How many reads of one connection may wait for the driver: each is at most 32 KiB on the wire, and four times as much decoded. A full
/// queue makes the connection stop reading, so that TCP slows the peer down.
const MOST_READS: usize = 8;
/// How many reads of all connections together may wait, as long as there are fewer connections than this.
const ALL_READS: usize = 64;
/// After so many in a row from a better place the next place has its turn, if somebody waits there.
const IN_A_ROW: usize = 64;

/// A question: reads the state machine, and answers by itself.
pub(super) type Ask = Box<dyn FnOnce(&Instance, Instant) + Send>;

/// Something that happened.
pub(super) enum Happening {
    Connection(ConnectionEvent),
    Listen(ListenEvent),
    Dialled {
        peer: PeerKey,
        result: Result<TcpStream, SocketError>,
    },
    Agent(AgentEvent),
    Order(Order),
    Input(Input),
    Ask(Ask),
}

impl From<LivenessEvent<PeerKey>> for Happening {
    fn from(event: LivenessEvent<PeerKey>) -> Happening {
        let event = match event {
            LivenessEvent::Changed { key, change, status } => BfdEvent::Changed {
                peer: key,
                change,
                status,
            },
            LivenessEvent::Status { key, status } => BfdEvent::Status { peer: key, status },
            LivenessEvent::Problem { key, problem } => BfdEvent::Problem { peer: key, problem },
        };
        Happening::Input(Input::Bfd(event))
    }
}

impl From<ListenEvent> for Happening {
    fn from(event: ListenEvent) -> Happening {
        Happening::Listen(event)
    }
}

/// The way to the driver, for all but connections.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    liveness: mpsc::Sender<Happening>,
    control: mpsc::Sender<Happening>,
    calls: mpsc::Sender<Happening>,
}

/// The driver has ended: the process is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the instance is leaving")]
pub(super) struct Leaving;

impl Owner {
    /// For listeners.
    pub(super) fn calls(&self) -> mpsc::Sender<Happening> {
        self.calls.clone()
    }

    /// For BFD.
    pub(super) fn liveness(&self) -> mpsc::Sender<Happening> {
        self.liveness.clone()
    }

    /// A dial has ended, well or not.
    pub(super) async fn dialled(&self, peer: PeerKey, result: Result<TcpStream, SocketError>) {
        // A connection nobody waits for any more is dropped.
        let _ = self.calls.send(Happening::Dialled { peer, result }).await;
    }

    /// Waits while the channel is full.
    pub(super) async fn tell(&self, happening: Happening) -> Result<(), Leaving> {
        self.control.send(happening).await.map_err(|_| Leaving)
    }

    /// An input, as it is. When the driver has ended there is nothing left to tell.
    pub(super) async fn input(&self, input: Input) {
        let _ = self.tell(Happening::Input(input)).await;
    }

    /// What the manager wants.
    pub(super) async fn order(&self, order: Order) {
        let _ = self.tell(Happening::Order(order)).await;
    }

    /// Asks the state machine.
    pub(super) async fn ask<T, F>(&self, question: F) -> Result<T, Leaving>
    where
        T: Send + 'static,
        F: FnOnce(&Instance, Instant) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let ask: Ask = Box::new(move |instance, now| {
            // Whoever asked may have gone.
            let _ = answer.send(question(instance, now));
        });
        self.tell(Happening::Ask(ask)).await?;
        answered.await.map_err(|_| Leaving)
    }
}

/// Where the driver finds what has happened.
#[derive(Debug)]
pub(super) struct Inbox {
    liveness: mpsc::Receiver<Happening>,
    control: mpsc::Receiver<Happening>,
    connections: SelectAll<ReceiverStream<ConnectionEvent>>,
    calls: mpsc::Receiver<Happening>,
    /// So many came from `control` since connections had their turn,
    control_in_a_row: usize,
    /// and so many from connections while somebody was calling.
    while_calling: usize,
}

/// The two ends of the way to the driver.
pub(super) fn inbox() -> (Owner, Inbox) {
    let (liveness, alive) = mpsc::channel(LIVENESS_CAPACITY);
    let (control, controlled) = mpsc::channel(CHANNEL_CAPACITY);
    let (calls, calling) = mpsc::channel(CHANNEL_CAPACITY);
    let inbox = Inbox {
        liveness: alive,
        control: controlled,
        connections: SelectAll::new(),
        calls: calling,
        control_in_a_row: 0,
        while_calling: 0,
    };
    let owner = Owner {
        liveness,
        control,
        calls,
    };
    (owner, inbox)
}

/// The queue of one connection when there are so many.
pub(super) fn connection_queue(connections: usize) -> (mpsc::Sender<ConnectionEvent>, mpsc::Receiver<ConnectionEvent>) {
    mpsc::channel((ALL_READS / connections.max(1)).clamp(1, MOST_READS))
}

impl Inbox {
    /// Serves one more connection, until its tasks have ended.
    pub(super) fn add(&mut self, connection: mpsc::Receiver<ConnectionEvent>) {
        self.connections.push(ReceiverStream::new(connection));
    }

    /// The next thing that happens.
    pub(super) async fn next(&mut self) -> Happening {
        future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The next thing, if it has happened already.
    pub(super) fn try_next(&mut self) -> Option<Happening> {
        // Whoever polls next leaves a waker that is more than nobody's; and no budget: nothing is waited for.
        unconstrained(self.next()).now_or_never()
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Happening> {
        if let Poll::Ready(Some(happening)) = self.liveness.poll_recv(context) {
            return Poll::Ready(happening);
        }
        if self.control_in_a_row < IN_A_ROW
            && let Some(happening) = self.poll_control(context)
        {
            return Poll::Ready(happening);
        }
        self.control_in_a_row = 0;
        if self.while_calling < IN_A_ROW
            && let Some(happening) = self.poll_connections(context)
        {
            return Poll::Ready(happening);
        }
        self.while_calling = 0;
        if let Poll::Ready(Some(happening)) = self.calls.poll_recv(context) {
            return Poll::Ready(happening);
        }
        // Nobody has waited behind those who were passed over.
        let passed_over = self.poll_connections(context).or_else(|| self.poll_control(context));
        passed_over.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_control(&mut self, context: &mut Context<'_>) -> Option<Happening> {
        match self.control.poll_recv(context) {
            Poll::Ready(happening) => happening.inspect(|_| self.control_in_a_row += 1),
            Poll::Pending => None,
        }
    }

    fn poll_connections(&mut self, context: &mut Context<'_>) -> Option<Happening> {
        match self.connections.poll_next_unpin(context) {
            Poll::Ready(Some(event)) => {
                self.while_calling = if self.calls.is_empty() {
                    0
                } else {
                    self.while_calling + 1
                };
                Some(Happening::Connection(event))
            }
            // Without a connection there is nothing to wait for.
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bgp::session::ConnectionId;

    use super::*;

    fn said(connection: u64) -> ConnectionEvent {
        ConnectionEvent::Drained {
            connection: ConnectionId(connection),
        }
    }

    fn called() -> Happening {
        Happening::Listen(ListenEvent::Problem {
            local: std::net::Ipv4Addr::LOCALHOST.into(),
            name: "rs".into(),
            problem: None,
        })
    }

    /// Who is served, in order, until nobody waits: `c` control, digits connections, `l` calls.
    fn served(inbox: &mut Inbox) -> String {
        let who = |happening| match happening {
            Happening::Connection(ConnectionEvent::Drained { connection }) => connection.0.to_string(),
            Happening::Listen(_) => "l".to_owned(),
            Happening::Input(_) => "c".to_owned(),
            _ => "?".to_owned(),
        };
        std::iter::from_fn(|| inbox.try_next()).map(who).collect()
    }

    #[tokio::test]
    async fn a_peer_that_floods_is_served_in_turn_with_the_others() {
        let (_owner, mut inbox) = inbox();
        let (flood, queue) = connection_queue(3);
        inbox.add(queue);
        while flood.try_send(said(1)).is_ok() {}
        let (quiet, queue) = connection_queue(3);
        inbox.add(queue);
        quiet.try_send(said(2)).unwrap();
        assert_eq!(served(&mut inbox), "121111111");

        while flood.try_send(said(1)).is_ok() {}
        assert!(matches!(inbox.try_next(), Some(Happening::Connection(_))));
        quiet.try_send(said(2)).unwrap();
        assert_eq!(served(&mut inbox)[..2].matches('2').count(), 1);
    }

    #[tokio::test]
    async fn control_comes_first_and_calls_come_behind_what_connections_have_said() {
        let (owner, mut inbox) = inbox();
        let (peer, queue) = connection_queue(1);
        inbox.add(queue);
        owner.calls().try_send(called()).unwrap();
        for _ in 0..2 {
            peer.try_send(said(1)).unwrap();
            owner.input(Input::Shutdown).await;
        }
        assert_eq!(served(&mut inbox), "cc11l");
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_behind_somebody_who_never_pauses() {
        let (owner, mut inbox) = inbox();
        let (peer, queue) = connection_queue(1);
        inbox.add(queue);
        owner.calls().try_send(called()).unwrap();
        let mut order = String::new();
        while !order.contains('l') && order.len() < 10 * IN_A_ROW * IN_A_ROW {
            let _ = peer.try_send(said(1));
            let _ = owner.control.try_send(Happening::Input(Input::Shutdown));
            order.push(match inbox.try_next() {
                Some(Happening::Listen(_)) => 'l',
                Some(Happening::Connection(_)) => '1',
                Some(_) => 'c',
                None => '-',
            });
        }
        assert!(order.contains('l') && order.contains('1'), "{order}");
    }

    #[tokio::test]
    async fn a_word_of_a_connection_that_was_added_later_wakes_the_driver() {
        let (_owner, mut inbox) = inbox();
        let (peer, queue) = connection_queue(1);
        inbox.add(queue);
        assert!(inbox.try_next().is_none());
        tokio::spawn(async move { peer.send(said(7)).await.unwrap() });
        assert!(matches!(inbox.next().await, Happening::Connection(_)));
    }

    #[test]
    fn queues_are_short_when_there_are_many() {
        let capacity = |connections| connection_queue(connections).0.max_capacity();
        assert_eq!([0, 8, 32, 500].map(capacity), [8, 8, 2, 1]);
    }
}
