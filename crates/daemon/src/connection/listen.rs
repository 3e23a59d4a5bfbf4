//! Listening on one of our addresses, for as long as somebody wants it: while the address is missing it is tried again, and when the
//! address (or its namespace) goes away that is noticed.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::Password;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::admission::{Admission, Permit};
use super::socket::{SocketError, bound};
use super::{DEFAULT_TTL, in_namespace, md5, ttl};

/// How often a missing address is looked for, and a present one looked after.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Callers that the kernel keeps while we are busy.
const BACKLOG: i32 = 256;

/// Where to listen, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Comes back with each event: whose address it is.
    pub name: Arc<str>,
    /// Our address and port.
    pub local: SocketAddr,
    /// Path of the network namespace that has the address; `None`: the process's own.
    pub namespace: Option<PathBuf>,
    /// Peers with what protects their connections. Others may call too, but few at a time.
    pub peers: Vec<PeerSecurity>,
}

/// How connections of one peer are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSecurity {
    /// The peer's address.
    pub address: IpAddr,
    /// TCP MD5 password (RFC 2385).
    pub md5_password: Option<Password>,
    /// TTL security (RFC 5082): the largest number of hops the peer may be away, 1 on the link; `None`: off.
    pub ttl_security_hops: Option<u8>,
}

/// What a listener tells its owner.
#[derive(Debug)]
pub enum ListenEvent {
    /// Somebody called.
    Accepted(Accepted),
    /// Whether the listener listens: said at first, and when it changes.
    Problem {
        /// [`ListenOptions::name`].
        name: Arc<str>,
        /// The address.
        local: IpAddr,
        /// `None`: it listens. Otherwise why it doesn't, for people.
        problem: Option<String>,
    },
}

/// A connection that somebody opened to us.
#[derive(Debug)]
pub struct Accepted {
    /// [`ListenOptions::name`].
    pub name: Arc<str>,
    /// Our address and port.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// The connection.
    pub stream: TcpStream,
    /// To be given to [`super::Connection::spawn`].
    pub permit: Permit,
}

/// Listens until dropped.
#[derive(Debug)]
pub struct Listener {
    options: watch::Sender<ListenOptions>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Starts to listen, now or as soon as the address is there.
    pub fn spawn<E>(options: ListenOptions, events: mpsc::Sender<E>) -> Listener
    where
        E: From<ListenEvent> + Send + 'static,
    {
        let (options, changes) = watch::channel(options);
        let task = tokio::spawn(run(changes, events));
        Listener { options, task }
    }

    /// Other peers, or other protection: connections that stand are not touched.
    pub fn set_peers(&self, peers: Vec<PeerSecurity>) {
        self.options.send_if_modified(|options| {
            let changed = options.peers != peers;
            options.peers = peers;
            changed
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<E: From<ListenEvent>>(mut options: watch::Receiver<ListenOptions>, events: mpsc::Sender<E>) {
    let mut admission = Admission::default();
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        check.tick().await;
        let now = options.borrow_and_update().clone();
        let opened = open(&now).await;
        let problem = opened.as_ref().err().map(ToString::to_string);
        tell(&mut told, problem, &now, &events).await;
        if let Ok(open) = opened {
            let error = serve(open, &mut options, &mut admission, &events).await;
            tell(&mut told, Some(error.to_string()), &now, &events).await;
        }
    }
}

async fn tell<E: From<ListenEvent>>(
    told: &mut Option<Option<String>>,
    problem: Option<String>,
    options: &ListenOptions,
    events: &mpsc::Sender<E>,
) {
    if told.as_ref() != Some(&problem) {
        *told = Some(problem.clone());
        let event = ListenEvent::Problem {
            name: options.name.clone(),
            local: options.local.ip(),
            problem,
        };
        // Without an owner there is nobody to tell.
        let _ = events.send(event.into()).await;
    }
}

/// A listening socket and what it stands on.
struct Open {
    listener: TcpListener,
    namespace: Option<(u64, u64)>,
    options: ListenOptions,
}

async fn open(options: &ListenOptions) -> Result<Open, SocketError> {
    let wanted = options.clone();
    let socket = in_namespace(options.namespace.as_deref(), move || {
        let socket = bound(wanted.local, outgoing_ttl(&wanted))?;
        ttl::save_syn(&socket).map_err(SocketError::option("TCP_SAVE_SYN"))?;
        set_keys(&socket, &[], &wanted.peers)?;
        socket.listen(BACKLOG).map_err(|source| SocketError::Bind {
            address: wanted.local,
            source,
        })?;
        Ok(socket)
    })
    .await?;
    let failed = |source| SocketError::Bind {
        address: options.local,
        source,
    };
    let listener = TcpListener::from_std(socket.into()).map_err(failed)?;
    Ok(Open {
        listener,
        namespace: identity(options.namespace.as_deref())?,
        options: options.clone(),
    })
}

/// Takes callers until the address is gone.
async fn serve<E: From<ListenEvent>>(
    mut open: Open,
    options: &mut watch::Receiver<ListenOptions>,
    admission: &mut Admission,
    events: &mpsc::Sender<E>,
) -> SocketError {
    let mut check = interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = open.listener.accept() => match accepted {
                Ok((stream, remote)) => open.welcome(stream, remote, admission, events).await,
                // Out of file descriptors, or the caller has gone already: the check is soon enough.
                Err(error) => {
                    tracing::warn!(local = %open.options.local, %error, "accept");
                    check.tick().await;
                }
            },
            _ = check.tick() => if let Err(error) = open.check().await {
                return error;
            },
            Ok(()) = options.changed() => {
                let changed = options.borrow_and_update().clone();
                if let Err(error) = open.change(changed) {
                    return error;
                }
            }
        }
    }
}

impl Open {
    async fn welcome<E: From<ListenEvent>>(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        admission: &mut Admission,
        events: &mpsc::Sender<E>,
    ) {
        let address = remote.ip();
        let peers: Vec<IpAddr> = self.options.peers.iter().map(|peer| peer.address).collect();
        let permit = match admission.admit(Instant::now(), address, &peers) {
            Ok(permit) => permit,
            Err(refusal) => return tracing::debug!(%remote, ?refusal, "caller turned away"),
        };
        let hops = self
            .options
            .peers
            .iter()
            .find(|peer| peer.address == address)
            .and_then(|peer| peer.ttl_security_hops);
        if hops.is_some_and(|hops| !is_near(&stream, address, hops)) {
            return tracing::debug!(%remote, ?hops, "caller is too far away (RFC 5082)");
        }
        let name = self.options.name.clone();
        let local = stream.local_addr().unwrap_or(self.options.local);
        let accepted = Accepted {
            name,
            local,
            remote,
            stream,
            permit,
        };
        let _ = events.send(ListenEvent::Accepted(accepted).into()).await;
    }

    /// The address may have left its interface, and the namespace may be another one under the same name.
    async fn check(&self) -> Result<(), SocketError> {
        let local = self.options.local;
        in_namespace(self.options.namespace.as_deref(), move || {
            bound(SocketAddr::new(local.ip(), 0), DEFAULT_TTL).map(drop)
        })
        .await?;
        if identity(self.options.namespace.as_deref())? != self.namespace {
            return Err(SocketError::AddressNotPresent { address: local.ip() });
        }
        Ok(())
    }

    fn change(&mut self, options: ListenOptions) -> Result<(), SocketError> {
        let socket = SockRef::from(&self.listener);
        set_keys(&socket, &self.options.peers, &options.peers)?;
        ttl::set_ttl(&socket, options.local.ip(), outgoing_ttl(&options)).map_err(SocketError::option("TTL"))?;
        self.options = options;
        Ok(())
    }
}

/// The SYN/ACK to a peer with TTL security must leave with 255; to the others that does no harm.
fn outgoing_ttl(options: &ListenOptions) -> u8 {
    match options.peers.iter().any(|peer| peer.ttl_security_hops.is_some()) {
        true => 255,
        false => DEFAULT_TTL,
    }
}

/// The kernel checks every further packet; the SYN came before it knew the peer, so we look at that ourselves.
fn is_near(stream: &TcpStream, address: IpAddr, hops: u8) -> bool {
    let least = ttl::least_ttl(hops);
    ttl::set_least_ttl(stream, address, least).is_ok() && ttl::syn_ttl(stream, address).is_some_and(|ttl| ttl >= least)
}

/// From the keys that are set to the keys that are wanted.
fn set_keys(socket: &Socket, before: &[PeerSecurity], wanted: &[PeerSecurity]) -> Result<(), SocketError> {
    let has_key = |peer: &&PeerSecurity| peer.md5_password.is_some();
    for old in before.iter().filter(has_key) {
        let stays = wanted.iter().filter(has_key).any(|peer| peer.address == old.address);
        if !stays {
            md5::set_key(socket, old.address, None).map_err(SocketError::option("TCP_MD5SIG"))?;
        }
    }
    for peer in wanted.iter().filter(has_key) {
        md5::set_key(socket, peer.address, peer.md5_password.as_ref()).map_err(SocketError::option("TCP_MD5SIG"))?;
    }
    Ok(())
}

/// Tells a namespace from another one that has taken its path.
pub(crate) fn identity(namespace: Option<&Path>) -> Result<Option<(u64, u64)>, SocketError> {
    let Some(path) = namespace else { return Ok(None) };
    let failed = |source| SocketError::Namespace {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    Ok(Some((metadata.dev(), metadata.ino())))
}
