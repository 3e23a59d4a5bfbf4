//! The TCP side of BGP, written once: listen, dial, MD5, TTL security, framing, bounded write buffers. Knows bytes, messages and
//! sockets; knows nothing of sessions or routes. The instance uses it, and so do our own small NVA and the load generators.
//!
//! ```text
//!                   ┌───────────── ListenEvent (Accepted, Problem) ──────────────┐
//!  Listener ────────┘                                                            │
//!   one task per address: binds, tries again while the address is missing,       ▼
//!   admits callers within bounds                                          ┌─────────────┐
//!                                                                         │  the owner  │
//!  dial() ── a future that the owner spawns ── TcpStream ───────────────► │ (one task)  │
//!                                                                         └┬───▲────────┘
//!  Connection::spawn(id, stream, events)                                   │   │ ConnectionEvent
//!    reader task: socket ─► Decoder ─► batches of messages ────────────────┼───┤ (bounded channel: a slow owner
//!    writer task: socket ◄─ WriteQueue (bounded by bytes) ◄────────────────┘   │  slows the peer down through TCP)
//!        └── Drained, Stalled, Moving, Closed ─────────────────────────────────┘
//! ```
//!
//! The owner never waits for a connection: [`Connection::write`] only queues, and says when the queue is [`Pressure::Full`]. So the
//! channel towards the owner always drains, and no two tasks wait for each other.

mod admission;
mod dial;
mod listen;
mod md5;
mod namespace;
mod queue;
mod reader;
mod socket;
mod ttl;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bgp::session::ConnectionId;
use bgp::wire::{DecodeContext, Message, MessageError};
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};

pub use admission::{MAX_CALLERS_PER_SECOND, MAX_PER_ADDRESS, MAX_PER_UNKNOWN_ADDRESS, MAX_UNKNOWN, Permit};
pub use dial::{DIAL_TIMEOUT, DialOptions, dial};
pub(crate) use listen::identity;
pub use listen::{Accepted, ListenEvent, ListenOptions, Listener, PeerSecurity};
pub use namespace::in_namespace;
pub(crate) use namespace::in_namespace_at_once;
pub use queue::{HIGH_WATER_BYTES, LIMIT_BYTES, LOW_WATER_BYTES, Pressure};
pub(crate) use socket::NETWORK_CONTROL;
pub use socket::SocketError;
pub use ttl::DEFAULT_TTL;
pub(crate) use ttl::{set_option, set_ttl};

/// The port of BGP (RFC 4271 §8.2.1.5).
pub const BGP_PORT: u16 = 179;

/// What was written before a close has this long to leave, and the peer this long to close its side.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection tells its owner. Nothing comes after [`ConnectionEvent::Closed`], and nothing after [`Connection::close`] except
/// what was already under way.
#[derive(Clone, Debug)]
pub enum ConnectionEvent {
    /// Messages, in order: as many as were read at once.
    Received {
        /// Which connection.
        connection: ConnectionId,
        /// At least one.
        messages: Vec<Message>,
    },
    /// The bytes that followed make no message; no more is read.
    Malformed {
        /// Which connection.
        connection: ConnectionId,
        /// What and which NOTIFICATION.
        error: MessageError,
    },
    /// The write queue, which was [`Pressure::Full`], takes more again.
    Drained {
        /// Which connection.
        connection: ConnectionId,
    },
    /// Bytes are waiting and the peer has taken none for a while (RFC 9687).
    Stalled {
        /// Which connection.
        connection: ConnectionId,
    },
    /// It takes bytes again.
    Moving {
        /// Which connection.
        connection: ConnectionId,
    },
    /// The connection is gone: FIN, RST, time-out, or a write queue beyond its limit.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// For people.
        reason: String,
    },
}

/// The owner's side of a connection. Dropping it is [`Connection::close`].
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// What the owner's side and the two tasks have in common.
#[derive(Debug)]
struct Shared {
    id: ConnectionId,
    queue: Mutex<queue::WriteQueue>,
    /// Something was queued.
    wake_writer: Notify,
    /// More was queued than the limit.
    overrun: Notify,
    /// Taken over by the reader before it decodes the next bytes.
    context: Mutex<Option<DecodeContext>>,
    life: watch::Sender<Life>,
    /// Counts the connection among its address's until both tasks have ended.
    _permit: Option<Permit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// The owner closes: write what is queued, discard what comes.
    Closing,
    /// One of the tasks has found the connection gone and has told.
    Gone,
}

impl Connection {
    /// Starts the two tasks of a connection. `permit` is that of [`Accepted`].
    pub fn spawn<E>(id: ConnectionId, stream: TcpStream, permit: Option<Permit>, events: mpsc::Sender<E>) -> Connection
    where
        E: From<ConnectionEvent> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            id,
            queue: Mutex::default(),
            wake_writer: Notify::new(),
            overrun: Notify::new(),
            context: Mutex::new(None),
            life: watch::Sender::new(Life::Open),
            _permit: permit,
        });
        let (read_half, write_half) = stream.into_split();
        tokio::spawn(reader::run(read_half, shared.clone(), events.clone()));
        tokio::spawn(writer::run(write_half, shared.clone(), events));
        Connection { shared }
    }

    /// Its name.
    pub fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// Queues whole messages. At [`Pressure::Full`] the owner should hold back routes until [`ConnectionEvent::Drained`]; small messages
    /// may still be written. A queue that grows beyond [`LIMIT_BYTES`] nevertheless costs the connection.
    pub fn write(&self, bytes: Bytes) -> Pressure {
        match self.shared.queue().push(bytes) {
            Ok(pressure) => {
                self.shared.wake_writer.notify_one();
                pressure
            }
            Err(queue::Overrun) => {
                self.shared.overrun.notify_one();
                Pressure::Unchanged
            }
        }
    }

    /// Whether the queue, once [`Pressure::Full`], has not drained yet.
    pub fn is_full(&self) -> bool {
        self.shared.queue().is_full()
    }

    /// Octets that wait to be written.
    pub fn waiting(&self) -> usize {
        self.shared.queue().bytes()
    }

    /// From now on UPDATEs are read in this context. Called before the KEEPALIVE is written that lets the peer send any, so no UPDATE
    /// can have been read before.
    pub fn set_context(&self, context: DecodeContext) {
        *lock(&self.shared.context) = Some(context);
    }

    /// Closes after everything written so far has left, or after [`CLOSE_TIMEOUT`].
    pub fn close(self) {
        drop(self);
    }

    /// Waits until the connection's tasks have ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut life = self.shared.life.subscribe();
        async move { while life.changed().await.is_ok() {} }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.end(Life::Closing);
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, queue::WriteQueue> {
        lock(&self.queue)
    }

    /// Leaves [`Life::Open`]. True for the first who asks.
    fn end(&self, life: Life) -> bool {
        self.life.send_if_modified(|now| {
            let open = *now == Life::Open;
            if open {
                *now = life;
            }
            open
        })
    }

    /// The connection is gone; the owner hears it once, and not at all if it was the owner who closed.
    async fn gone<E: From<ConnectionEvent>>(&self, events: &mpsc::Sender<E>, reason: String) {
        if self.end(Life::Gone) {
            let closed = ConnectionEvent::Closed {
                connection: self.id,
                reason,
            };
            // Without an owner there is nobody to tell.
            let _ = events.send(closed.into()).await;
        }
    }
}

/// A panic while one of these locks is held cannot leave half a change behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// Time stands still but for timers, so what passes is what was waited for.
    #[tokio::test(start_paused = true)]
    async fn a_close_ends_within_its_bound_although_the_peer_takes_nothing_and_never_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let _theirs = theirs.unwrap();
        let (events, _inbox) = mpsc::channel::<ConnectionEvent>(1);
        let connection = Connection::spawn(ConnectionId(1), ours.unwrap(), None, events);
        for _ in 0..LIMIT_BYTES / 65_536 {
            connection.write(Bytes::from(vec![0; 65_536]));
        }
        let (ended, before) = (connection.ended(), Instant::now());
        connection.close();
        ended.await;
        assert!(before.elapsed() <= CLOSE_TIMEOUT, "{:?}", before.elapsed());
    }
}
