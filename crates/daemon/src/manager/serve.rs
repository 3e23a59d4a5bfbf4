//! `routewright serve`: from options to a running manager, and to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::tls::TlsFileError;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connections::Listening;
use super::core::Core;
use super::data_dir::{DataDir, MAX_SOCKET_PATH, io};
use super::keepers::{Keepers, followed};
use super::opened::Opened;
use super::sign_in::SignIn;
use super::sign_in::keys::{KeyError, Keys};
use super::throttle::Throttle;
use super::tls::{Tls, TlsError};
use super::{InstanceHandle, Manager, Metrics, Results, access, activity, health, one_legged};
use crate::config::{Config, MAX_CONFIG_BYTES, Mistake};
use crate::service_manager;
use crate::store::StoreError;

/// Requests that are being answered get this long when the manager stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// SIGTERM ends manager and instances within so long, whatever clients and peers do; what remains is for what the runtime still does.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
const _: () = assert!(
    DRAIN_PATIENCE.as_millis() + super::keeper::SHUTDOWN_PATIENCE.as_millis() + 500 < LEAVES_WITHIN.as_millis(),
    "clients, then instances, then the runtime"
);

/// How to run the manager.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Where the store and the run directory live.
    pub data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the API listens with TLS and sign-in, if it does; port 0 takes a free one.
    pub tls_listen: Option<SocketAddr>,
    /// Run only this instance process here.
    pub instance: Option<usize>,
    /// Temporary store unless a data directory is given, development subscription, no sign-in on loopback.
    pub dev: bool,
    /// Leave alone when asked to end, and let the instances go on; not with a temporary store.
    pub keep_instances: bool,
    /// The store is a restored backup: it counts although it is older than what instances follow.
    pub restored: bool,
    /// The executable that instances are started from; `None`: our own.
    pub executable: Option<PathBuf>,
}

/// Why the manager could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Tokens and passwords of peers must not cross a network in plain.
    #[error("--listen {0}: only a loopback address such as 127.0.0.1:8080 is allowed; use --tls-listen for others")]
    NotLoopback(SocketAddr),
    /// Neither a place to keep things nor leave to forget them.
    #[error(
        "say where to keep things with --data-dir DIR, or use --dev for a temporary store that is gone when serve ends"
    )]
    NoDataDir,
    /// Mistakes in the configuration file, all of them.
    #[error("{}", list(path, mistakes))]
    Config {
        /// The file.
        path: PathBuf,
        /// In order.
        mistakes: Vec<Mistake>,
    },
    /// A file or directory cannot be used.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What it is to us.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody has the port, or we may not have it.
    #[error("cannot listen on {address}: {source}; choose another with {option} (port 0 takes a free one)")]
    Listen {
        /// What said so.
        option: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Unix sockets have short names.
    #[error(
        "--data-dir {}: the path is too long for the Unix sockets in it (at most {} characters)",
        path.display(),
        MAX_SOCKET_PATH - "/run/instance-0.sock".len()
    )]
    DataDirTooLong {
        /// The data directory.
        path: PathBuf,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key that tokens are signed with.
    #[error("sign-in: {0}")]
    Key(#[from] KeyError),
    /// Certificates and keys.
    #[error("--tls-listen: {0}")]
    Tls(#[from] TlsError),
    /// Those that agents are shown.
    #[error("[agents] certificate, key, client_ca: {0}")]
    AgentTls(#[from] TlsFileError),
}

fn list(path: &Path, mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes
        .iter()
        .map(|mistake| format!("{}:{mistake}", path.display()))
        .collect();
    lines.join("\n")
}

/// Reads the configuration as [`run`] would, and does nothing else.
pub fn check(config: Option<&Path>) -> Result<Config, ServeError> {
    let Some(path) = config else {
        return Ok(Config::default());
    };
    let io = |source| ServeError::Io {
        what: "configuration",
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(io)?.len() > MAX_CONFIG_BYTES {
        return Err(io(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    Config::parse(&text).map_err(|mistakes| ServeError::Config {
        path: path.to_owned(),
        mistakes,
    })
}

impl ServeOptions {
    /// The instances that run on this machine.
    pub(super) fn instances(&self) -> Vec<usize> {
        let is_here = |index: &usize| self.instance.is_none_or(|only| only == *index);
        (0..2).filter(is_here).collect()
    }
}

/// Runs until SIGTERM or SIGINT, then asks the instances to end as well, unless they are to go on. Prints the API's address on stdout when it is there.
pub async fn run(options: ServeOptions) -> Result<(), ServeError> {
    if !options.listen.ip().is_loopback() {
        return Err(ServeError::NotLoopback(options.listen));
    }
    let config = check(options.config.as_deref())?;
    if let Some(tls) = &config.agents_tls {
        tls.load()?;
    }
    let place = DataDir::choose(&options)?;
    let bound = Bound::bind(&options).await?;
    let address = bound.plain.1;
    place.make()?;
    let mine = options.instances();
    let mut opened = Opened::open(&config, &place.path, &mine, bound.reached_at()).await?;
    let (listening, tls) = bound.prepare(&config, &place)?;
    let keys = Keys::load_or_make(&place.path.join("token-key.pem"))?;
    // Before the store: it cannot be older than what was made of it before.
    let followed = followed(&place.run_dir(), &mine).await;
    let core = Core::load_for(Arc::clone(&opened.store), &config, options.restored, &followed).await?;
    if options.dev {
        core.grant(access::managed_identity_owns_all());
    }
    let (keepers, instances) = Keepers::begin(&options, &config, &place, address, &core)?;
    opened.tell_of(instances.iter().map(|it| (it.index, it.status.clone())).collect());
    let mut chores = chores(&core, &instances, config.audit_days);
    let manager = Arc::new(Manager {
        core,
        instances,
        results: Results::default(),
        metrics: Metrics::default(),
        sign_in: SignIn::new(keys, super::DEV_TENANT, &config.auth, options.dev),
        throttle: Throttle::new(config.throttling),
        refusals: activity::Refusals::default(),
        one_legged: Default::default(),
        published: tls,
        is_shared: config.etcd.is_some(),
        dev: options.dev,
        started: Instant::now(),
    });
    announce(&manager, address, &place.path);
    service_manager::ready();
    chores.spawn(one_legged::compare(Arc::clone(&manager)));
    serve(listening, manager, ended()).await;
    service_manager::leaving();
    keepers.end(options.keep_instances).await;
    chores.abort_all();
    opened.close().await;
    let _ = std::fs::remove_file(place.socket());
    Ok(())
}

/// What goes on beside requests, until it is shut down.
fn chores(core: &Arc<Core>, instances: &[InstanceHandle], audit_days: u32) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    let statuses = instances.iter().map(|instance| instance.status.clone());
    chores.spawn(Arc::clone(core).settle(statuses.collect()));
    chores.spawn(Arc::clone(core).follow());
    chores.spawn(Arc::clone(core).make_intents());
    chores.spawn(activity::forget_old(Arc::clone(core), audit_days));
    chores.spawn(health::probe_store(Arc::clone(core)));
    chores
}

/// The ports that we have, and nobody is answered on yet.
struct Bound {
    plain: (TcpListener, SocketAddr),
    tls: Option<(TcpListener, SocketAddr)>,
}

impl Bound {
    async fn bind(options: &ServeOptions) -> Result<Bound, ServeError> {
        let plain = listen("--listen", options.listen).await?;
        let tls = match options.tls_listen {
            Some(wanted) => Some(listen("--tls-listen", wanted).await?),
            None => None,
        };
        Ok(Bound { plain, tls })
    }

    /// Where others are told that the API is.
    fn reached_at(&self) -> SocketAddr {
        self.tls.as_ref().map_or(self.plain.1, |(_, address)| *address)
    }

    /// With the socket of the data directory, and TLS where it is wanted.
    fn prepare(self, config: &Config, place: &DataDir) -> Result<(Vec<Listening>, Option<Published>), ServeError> {
        let mut listening = vec![Listening::Plain(self.plain.0), own_socket(&place.socket())?];
        let Some((listener, address)) = self.tls else {
            return Ok((listening, None));
        };
        let tls = Tls::prepare(&config.tls, &place.path.join("tls"), address)?;
        listening.push(Listening::Tls(listener, TlsAcceptor::from(tls.config)));
        let authority = tls.authority;
        Ok((listening, Some(Published { address, authority })))
    }
}

/// Answers requests until `end`, then finishes those that are there.
async fn serve(listening: Vec<Listening>, manager: Arc<Manager>, end: impl Future<Output = ()>) {
    let (drain, draining) = watch::channel(false);
    let mut serving = JoinSet::new();
    for listening in listening {
        serving.spawn(listening.serve(Arc::clone(&manager), draining.clone()));
    }
    end.await;
    drain.send_replace(true);
    let all_ended = async { while serving.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_PATIENCE, all_ended).await.is_err() {
        tracing::debug!("requests that were still being answered are cut off");
    }
}

/// The API for whoever may enter the run directory: us and root.
fn own_socket(path: &Path) -> Result<Listening, ServeError> {
    // Nobody listens there: we hold the store's lock.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path)
        .map(Listening::Socket)
        .map_err(io("socket", path))
}

/// What clients of https need to know.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) address: SocketAddr,
    /// File of the authority to trust, if it is ours.
    pub(super) authority: Option<PathBuf>,
}

/// What a person and a program want to know first: addresses on stdout, the rest in the log.
fn announce(manager: &Manager, address: SocketAddr, data: &Path) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    // Whoever started us may have closed stdout; that is no reason to stop.
    let _ = writeln!(stdout, "routewright API http://{address}");
    if let Some(Published { address, authority }) = &manager.published {
        let _ = writeln!(stdout, "routewright API https://{address}");
        if let Some(authority) = authority {
            tracing::info!(authority = %authority.display(), "clients of https must trust our certificate authority");
        }
    }
    let _ = stdout.flush();
    tracing::info!(data = %data.display(), "keeping things");
    if manager.dev {
        let subscription = super::DEV_SUBSCRIPTION;
        tracing::info!(subscription, "development: no sign-in on loopback, any location");
        tracing::info!("try: curl http://{address}/routewright/v1/health");
    }
}

async fn listen(option: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| ServeError::Listen {
        option,
        address,
        source,
    })
}

/// Waits for SIGTERM or SIGINT.
async fn ended() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be handled; only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: leaving"),
        _ = interrupt.recv() => tracing::info!("SIGINT: leaving"),
    }
}
