//! BFD at work: one thread with sockets, sessions and a clock of its own, so that nothing else that its process does makes it late.
//!
//! ```text
//!   owner (any task)                            thread "bfd" (real-time priority, if it may)
//!   Liveness::want(all) ──► a place for one ──► bfd::Sessions ◄── receiving sockets, one per address and port
//!          ▲                 list, and a wake       │   ▲ timers
//!          │                                        │   └──────── poll(2)
//!          └── bounded channel ◄── LivenessEvent ───┘──► sending sockets, one per session
//! ```
//!
//! What is wanted is state: a later list replaces one that was not looked at yet. In each round what has come in is read before timers are
//! looked at: a thread that was late for once does not take packets that wait for silence.

mod clock;
mod sockets;
mod thread;

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bfd::{Authentication, SessionConfig, SessionStatus, StateChange};
use tokio::sync::mpsc;

/// A session that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<K> {
    /// Its name.
    pub key: K,
    /// Our address.
    pub local: IpAddr,
    /// The neighbour's.
    pub remote: IpAddr,
    /// Path of the network namespace that has our address; `None`: the process's own.
    pub namespace: Option<PathBuf>,
    /// Over several hops (RFC 5883).
    pub multihop: bool,
    /// Packets that arrive with a smaller TTL are dropped; on one link 255, whatever is here.
    pub least_ttl: u8,
    /// How often.
    pub config: SessionConfig,
    /// With which key.
    pub authentication: Option<Authentication>,
}

/// What the thread tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivenessEvent<K> {
    /// A session is in another state.
    Changed {
        /// Which.
        key: K,
        /// How.
        change: StateChange,
        /// Where it stands.
        status: SessionStatus,
    },
    /// Where a session stands, every second.
    Status {
        /// Which.
        key: K,
        /// Where it stands.
        status: SessionStatus,
    },
    /// Whether its packets can be sent and received: said when it changes.
    Problem {
        /// Which.
        key: K,
        /// `None`: they can. Otherwise why not, for people.
        problem: Option<String>,
    },
}

/// What a name of a session must be.
pub trait Key: Clone + Ord + std::hash::Hash + std::fmt::Debug + Send + 'static {}

impl<K: Clone + Ord + std::hash::Hash + std::fmt::Debug + Send + 'static> Key for K {}

/// The thread, until dropped: then neighbours are told that BFD is held down, which says nothing of the path.
#[derive(Debug)]
pub struct Liveness<K> {
    orders: Arc<Mutex<Orders<K>>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What the owner wants and the thread has not looked at yet.
#[derive(Debug)]
struct Orders<K> {
    wanted: Option<Vec<Wanted<K>>>,
    leave: bool,
}

impl<K: Key> Liveness<K> {
    /// Starts the thread, without a session yet.
    pub fn spawn<E>(events: mpsc::Sender<E>) -> io::Result<Liveness<K>>
    where
        E: From<LivenessEvent<K>> + Send + 'static,
    {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let orders = Arc::new(Mutex::new(Orders {
            wanted: None,
            leave: false,
        }));
        let taken = orders.clone();
        let thread = std::thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || thread::run(&taken, woken, events))?;
        Ok(Liveness {
            orders,
            wake,
            thread: Some(thread),
        })
    }

    /// From now on there are to be these sessions and no others. Those that are wanted as before go on.
    pub fn want(&self, wanted: Vec<Wanted<K>>) {
        lock(&self.orders).wanted = Some(wanted);
        self.wake();
    }
}

impl<K> Liveness<K> {
    fn wake(&self) {
        // A full pipe has woken it already.
        let _ = (&self.wake).write(&[1]);
    }
}

impl<K> Drop for Liveness<K> {
    fn drop(&mut self) {
        lock(&self.orders).leave = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<K>(orders: &Mutex<Orders<K>>) -> MutexGuard<'_, Orders<K>> {
    // Nobody panics while holding it, and half a list is none.
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}
