//! `routewright serve`: from options to a running manager, and to its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::control::{ControlClient, intent_path, socket_path};
use api::tls::TlsFileError;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connections::Listening;
use super::core::Core;
use super::keeper::{Keeper, Status};
use super::launch::{Launch, Launcher};
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
/// An instance that runs says what it follows within so long, or what it has kept counts.
const FOLLOWED_PATIENCE: Duration = Duration::from_secs(3);
/// The longest path that a Unix socket may have, its terminating zero not counted (`man 7 unix`).
const MAX_SOCKET_PATH: usize = 107;

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
    let (listener, address) = listen("--listen", options.listen).await?;
    let tls_listener = match options.tls_listen {
        Some(wanted) => Some(listen("--tls-listen", wanted).await?),
        None => None,
    };
    place.make()?;
    let mine: Vec<usize> = (0..2)
        .filter(|index| options.instance.is_none_or(|only| only == *index))
        .collect();
    let api = tls_listener.as_ref().map_or(address, |(_, address)| *address);
    let mut opened = Opened::open(&config, &place.path, &mine, api).await?;
    let mut listening = vec![Listening::Plain(listener), own_socket(&place.socket())?];
    let mut announced = Announced::new(address, &place.path);
    if let Some((listener, address)) = tls_listener {
        let tls = Tls::prepare(&config.tls, &place.path.join("tls"), address)?;
        listening.push(Listening::Tls(listener, TlsAcceptor::from(tls.config)));
        announced.tls = Some(Published {
            address,
            authority: tls.authority,
        });
    }
    let keys = Keys::load_or_make(&place.path.join("token-key.pem"))?;
    // Before the store: it cannot be older than what was made of it before.
    let followed = followed(&place.run_dir(), &mine).await;
    let core = Core::load_for(Arc::clone(&opened.store), &config, options.restored, &followed).await?;
    if options.dev {
        core.grant(access::managed_identity_owns_all());
    }
    let executable = executable(&options)?;

    let (stop, stopping) = watch::channel(false);
    let mut keepers = JoinSet::new();
    let mut instances = Vec::new();
    for &index in &mine {
        let launcher = Launcher::new(Launch {
            index,
            executable: executable.clone(),
            run_dir: place.run_dir(),
            agent_listen: agent_address(&config, options.listen, address, index),
            agent_tls: config.agents_tls.clone(),
            agent_host: config.agents_host.clone(),
            silence_secs: config.silence_secs,
            die_with_parent: place.temporary.is_some(),
        });
        let control = Arc::new(ControlClient::new(socket_path(&place.run_dir(), index)));
        let status = watch::Sender::new(Status::default());
        instances.push(InstanceHandle {
            index,
            control: control.clone(),
            status: status.subscribe(),
        });
        let keeper = Keeper {
            index,
            control,
            status,
            launcher: Some(launcher),
            core: Arc::clone(&core),
            route_log: config.route_log.clone(),
        };
        keepers.spawn(keeper.run(stopping.clone()));
    }
    let statuses = instances
        .iter()
        .map(|it: &InstanceHandle| (it.index, it.status.clone()));
    opened.tell_of(statuses.collect());
    let settler = tokio::spawn(Arc::clone(&core).settle(instances.iter().map(|it| it.status.clone()).collect()));
    let follower = tokio::spawn(Arc::clone(&core).follow());
    let maker = tokio::spawn(Arc::clone(&core).make_intents());
    let forgetter = tokio::spawn(activity::forget_old(Arc::clone(&core), config.audit_days));
    let prober = tokio::spawn(health::probe_store(Arc::clone(&core)));
    let manager = Arc::new(Manager {
        core,
        instances,
        results: Results::default(),
        metrics: Metrics::default(),
        sign_in: SignIn::new(keys, super::DEV_TENANT, &config.auth, options.dev),
        throttle: Throttle::new(config.throttling),
        refusals: activity::Refusals::default(),
        one_legged: Default::default(),
        published: announced.tls.clone(),
        is_shared: config.etcd.is_some(),
        dev: options.dev,
        started: Instant::now(),
    });
    announced.tell(&manager);
    service_manager::ready();
    let comparer = tokio::spawn(one_legged::compare(Arc::clone(&manager)));
    serve(listening, manager, ended()).await;
    service_manager::leaving();
    match options.keep_instances {
        // Nobody looks after them until the next manager does; that is what they are made for.
        true => keepers.shutdown().await,
        false => {
            stop.send_replace(true);
            while keepers.join_next().await.is_some() {}
        }
    }
    follower.abort();
    settler.abort();
    maker.abort();
    forgetter.abort();
    prober.abort();
    comparer.abort();
    opened.close().await;
    let _ = std::fs::remove_file(place.socket());
    Ok(())
}

/// Which versions our instances follow: those that run say so, of those that don't it is what they will begin with.
async fn followed(run_dir: &Path, mine: &[usize]) -> Vec<(usize, u64)> {
    #[derive(serde::Deserialize)]
    struct Kept {
        intent: Version,
    }
    #[derive(serde::Deserialize)]
    struct Version {
        version: u64,
    }
    let mut followed = Vec::new();
    for &index in mine {
        let control = ControlClient::new(socket_path(run_dir, index));
        let version = match tokio::time::timeout(FOLLOWED_PATIENCE, control.health()).await {
            Ok(Ok(report)) => Some(report.intent_version),
            _ => {
                let kept = tokio::fs::read(intent_path(run_dir, index)).await.ok();
                let kept = kept.and_then(|kept| serde_json::from_slice::<Kept>(&kept).ok());
                kept.map(|kept| kept.intent.version)
            }
        };
        followed.extend(version.map(|version| (index, version)));
    }
    followed
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

/// What a person and a program want to know first: addresses on stdout, the rest in the log.
struct Announced {
    address: SocketAddr,
    tls: Option<Published>,
    data: PathBuf,
}

/// What clients of https need to know.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) address: SocketAddr,
    /// File of the authority to trust, if it is ours.
    pub(super) authority: Option<PathBuf>,
}

impl Announced {
    fn new(address: SocketAddr, data: &Path) -> Announced {
        Announced {
            address,
            tls: None,
            data: data.to_owned(),
        }
    }

    fn tell(&self, manager: &Manager) {
        use std::io::Write;
        let Announced { address, tls, data } = self;
        let mut stdout = std::io::stdout().lock();
        // Whoever started us may have closed stdout; that is no reason to stop.
        let _ = writeln!(stdout, "routewright API http://{address}");
        if let Some(Published { address, authority }) = tls {
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

/// Agents of instance 0 are next to the API, those of instance 1 one further; a free port for the API means free ones for them.
fn agent_address(config: &Config, wanted: SocketAddr, actual: SocketAddr, index: usize) -> SocketAddr {
    let step = u16::try_from(index).expect("there are two instances");
    let port = match config.agents_listen {
        Some(listen) => {
            return SocketAddr::new(
                listen.ip(),
                match listen.port() {
                    0 => 0,
                    port => port.saturating_add(step),
                },
            );
        }
        None if wanted.port() == 0 => 0,
        None => actual.port().checked_add(1 + step).unwrap_or(0),
    };
    SocketAddr::new(actual.ip(), port)
}

fn executable(options: &ServeOptions) -> Result<PathBuf, ServeError> {
    match &options.executable {
        Some(path) => Ok(path.clone()),

        None => std::env::current_exe().map_err(|source| ServeError::Io {
            what: "our own executable",
            path: PathBuf::from("/proc/self/exe"),
            source,
        }),
    }
}

/// Begins the names of directories of `--dev`; the process id follows.
const DEV_PREFIX: &str = "routewright-dev-";

/// Where things are kept.
#[derive(Debug)]
struct DataDir {
    path: PathBuf,
    /// Removed when dropped.
    temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    fn choose(options: &ServeOptions) -> Result<DataDir, ServeError> {
        let place = match &options.data_dir {
            Some(path) => DataDir {
                path: std::path::absolute(path).map_err(io("data directory", path))?,
                temporary: None,
            },
            None if options.dev => {
                remove_leftovers(&std::env::temp_dir());
                let temporary = tempfile::Builder::new()
                    .prefix(&format!("{DEV_PREFIX}{}-", std::process::id()))
                    .tempdir()
                    .map_err(io("temporary directory", &std::env::temp_dir()))?;
                DataDir {
                    path: temporary.path().to_owned(),
                    temporary: Some(temporary),
                }
            }
            None => return Err(ServeError::NoDataDir),
        };
        let socket = socket_path(&place.run_dir(), 0);
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(ServeError::DataDirTooLong { path: place.path });
        }
        Ok(place)
    }

    /// Makes the directories, if they are not there. Called when nothing else can refuse us, so that a refusal leaves nothing.
    fn make(&self) -> Result<(), ServeError> {
        let run_dir = self.run_dir();
        std::fs::create_dir_all(&run_dir).map_err(io("data directory", &run_dir))?;
        // Whoever can reach the control sockets may do anything, and the store holds passwords of peers.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&run_dir, private).map_err(io("run directory", &run_dir))
    }

    fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    fn socket(&self) -> PathBuf {
        self.run_dir().join("manager.sock")
    }
}

/// Removes what `--dev` processes have left that were killed: their directories carry their process ids. One whose id belongs to
/// another process by now stays for the next time.
fn remove_leftovers(temporary: &Path) {
    use std::os::unix::fs::MetadataExt;
    let own = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(DEV_PREFIX)?.split_once('-'));
        let Some(Ok(pid)) = pid.map(|(pid, _)| pid.parse::<u32>()) else {
            continue;
        };
        let ours = entry
            .metadata()
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        if ours && !Path::new("/proc").join(pid.to_string()).exists() {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => {
                    tracing::info!(path = %entry.path().display(), "removed what a killed --dev process has left")
                }
                Err(error) => tracing::warn!(path = %entry.path().display(), %error, "a leftover cannot be removed"),
            }
        }
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Io { what, path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_killed_dev_processes_are_removed_and_no_others() {
        let place = tempfile::tempdir().unwrap();
        // Above the kernel's highest process id (PID_MAX_LIMIT, 2^22).
        let dead = place.path().join("routewright-dev-4194305-abc");
        let alive = place.path().join(format!("routewright-dev-{}-abc", std::process::id()));
        let foreign = place.path().join("routewright-dev-notes");
        for directory in [&dead, &alive, &foreign] {
            std::fs::create_dir_all(directory.join("run")).unwrap();
        }
        remove_leftovers(place.path());
        assert!(!dead.exists() && alive.exists() && foreign.exists());
    }
}
