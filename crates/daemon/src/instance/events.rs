//! What happens to an instance process, and the way to tell its driver.

use std::time::Instant;

use routeserver::instance::PeerKey;
use routeserver::{Input, Instance};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::agents::AgentEvent;
use crate::connection::{ConnectionEvent, ListenEvent, SocketError};

/// How much may wait for the driver. Each read of a connection is one entry of at most 32 KiB on the wire; a full channel makes
/// connections stop reading, so that TCP slows the peers down.
pub(super) const CHANNEL_CAPACITY: usize = 64;

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
    Input(Input),
    Ask(Ask),
}

impl Happening {
    /// How many BGP messages came with it.
    pub(super) fn messages(&self) -> usize {
        match self {
            Happening::Connection(ConnectionEvent::Received { messages, .. }) => messages.len(),
            _ => 0,
        }
    }
}

impl From<ConnectionEvent> for Happening {
    fn from(event: ConnectionEvent) -> Happening {
        Happening::Connection(event)
    }
}

impl From<ListenEvent> for Happening {
    fn from(event: ListenEvent) -> Happening {
        Happening::Listen(event)
    }
}

/// The way to the driver.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    sender: mpsc::Sender<Happening>,
}

/// The driver has ended: the process is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the instance is leaving")]
pub(super) struct Leaving;

impl Owner {
    pub(super) fn new(sender: mpsc::Sender<Happening>) -> Owner {
        Owner { sender }
    }

    /// For connections and listeners.
    pub(super) fn sender(&self) -> mpsc::Sender<Happening> {
        self.sender.clone()
    }

    /// Waits while the channel is full.
    pub(super) async fn tell(&self, happening: Happening) -> Result<(), Leaving> {
        self.sender.send(happening).await.map_err(|_| Leaving)
    }

    /// An input, as it is. When the driver has ended there is nothing left to tell.
    pub(super) async fn input(&self, input: Input) {
        let _ = self.tell(Happening::Input(input)).await;
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
