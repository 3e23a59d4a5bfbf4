//! The instance process: sockets, clock, and the driver of [`routeserver::Instance`].
//!
//! ```text
//!  BFD's thread (liveness) ────────── Input ───────────┐
//!  control socket (axum) ──────────── Ask ─────────────┤
//!  agents' streams (tonic) ────────── Agent ───────────┤  bounded channels       ┌──────────────────────────┐
//!  connection tasks ───────────────── Connection ──────┼──► Inbox ─────────────► │ driver, on its own thread │
//!  listeners, dials ───────────────── Listen, Dialled ─┘                         │ owns routeserver::Instance │
//!                                                                                └─────────────┬────────────┘
//!    Connection::write (queue bounded by bytes) ◄──────────────────────────────────────────────┤
//!    Agents::send (bounded queue of each agent) ◄───────────────────────────────────────────────┤
//!    Liveness::want, Listener, dial() ◄─────────────────────────────────────────────────────────┘
//! ```
//!
//! The driver never waits for anybody but the inbox, which serves connections in turn. Questions of the control API go through it too,
//! as closures that read the state machine: there is no lock on routing state.

mod agents;
mod control;
mod descriptors;
mod driver;
mod events;
mod intent_file;
mod log;
mod memory;
mod metrics;
mod monotonic;
mod peers;
mod pulse;
mod route_log;
pub(crate) mod run_dir;
pub(crate) use driver::LEAVES_WITHIN;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use agents::{Access, AgentPortProblem, AgentService, Life};
use run_dir::RunDir;

pub use agents::{AgentTls, MAX_AGENTS, MAX_JUDGED, MAX_NICS_PER_AGENT, MAX_WAITING, MAX_WAITING_OCTETS};

/// How to run an instance process.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// 0 or 1: which of each route server's two addresses is ours.
    pub index: usize,
    /// Where `instance-N.sock` and its neighbours live.
    pub run_dir: PathBuf,
    /// Where agents connect.
    pub agent_listen: SocketAddr,
    /// TLS there.
    pub agent_tls: Option<AgentTls>,
    /// Agents no longer count an instance that is silent for so many seconds.
    pub silence_secs: u64,
    /// End when the parent process ends.
    pub die_with_parent: bool,
    /// Gives memory that the allocator keeps back to the system: called when a table has come or gone, then on the driver's thread.
    pub give_back_memory: fn(),
}

impl InstanceOptions {
    /// Whether the agents' port itself keeps strangers out, so that an intent may do without tokens: nobody else reaches it, or it wants
    /// certificates. An error where it must not be opened at all.
    fn keeps_strangers_out(&self) -> Result<bool, InstanceError> {
        match &self.agent_tls {
            _ if self.agent_listen.ip().is_loopback() => Ok(true),
            Some(tls) => Ok(tls.client_ca.is_some()),
            None => Err(InstanceError::AgentsInPlain(self.agent_listen)),
        }
    }
}

/// Why an instance could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another process is this instance already.
    #[error("instance {index} runs already: {} is locked", lock.display())]
    AlreadyRuns {
        /// 0 or 1.
        index: usize,
        /// The file that it holds.
        lock: PathBuf,
    },
    /// A file or socket of the run directory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever connects there would be told the routes of any NIC, and tokens would be read on the way.
    #[error(
        "--agent-listen {0}: another address than loopback needs TLS: --agent-certificate and --agent-key, which `[agents] certificate` and \
         `key` give"
    )]
    AgentsInPlain(SocketAddr),
    /// Something of the process itself.
    #[error("{what}: {source}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The driver's thread ended in a panic.
    #[error("the driver ended unexpectedly")]
    DriverDied,
}

/// Runs until asked to shut down: by SIGTERM, SIGINT or `POST /shutdown`. Peers are told, and soon all has ended, whatever they do
/// (`LEAVES_WITHIN`).
pub async fn run(options: InstanceOptions) -> Result<(), InstanceError> {
    let is_guarded = options.keeps_strangers_out()?;
    let mut terminate = Terminate::new(options.die_with_parent)?;
    descriptors::raise_limit();
    let files = Arc::new(RunDir::claim(&options.run_dir, options.index)?);
    let kept = intent_file::load(&files.intent);
    let epoch = epoch();
    let life = Life::new(options.index, epoch, options.silence_secs);
    let (owner, inbox) = events::inbox();

    let access = Access::new(is_guarded);
    let agents = AgentService::new(owner.clone(), access.clone(), life.clone());
    let (port_problem, file_problem) = (AgentPortProblem::default(), AgentPortProblem::default());
    let agent_server = tokio::spawn(serve_agents(
        agents,
        options.agent_listen,
        options.agent_tls,
        files.clone(),
        [port_problem.clone(), file_problem.clone()],
    ));
    let control_server = tokio::spawn(control::serve(
        files.listen()?,
        owner.clone(),
        files.intent.clone(),
        options.index,
        [access.problem(), port_problem, file_problem],
        access.clone(),
    ));

    let mut instance = routeserver::Instance::new(options.index, epoch, epoch, hash_key(), Instant::now());
    if kept.is_some() {
        // There was a life before: peers may have kept its routes.
        instance.has_restarted();
    }
    let driver = driver::Driver::new(
        options.index,
        instance,
        life,
        (owner.clone(), inbox),
        options.give_back_memory,
    );
    if let Some(order) = kept {
        let version = order.intent.version;
        tracing::info!(version, "following the intent of the life before");
        let tokens = order.intent.agent_tokens.clone();
        owner.order(order).await;
        access.set(tokens.as_ref());
    }
    tracing::info!(instance = options.index, epoch, "instance started");

    // A thread of its own: deciding takes its time, and must not hold up the tasks that read and write.
    let runtime = tokio::runtime::Handle::current();
    let mut driving = tokio::task::spawn_blocking(move || runtime.block_on(driver.run()));
    let ended = tokio::select! {
        ended = &mut driving => ended,
        () = terminate.asked() => {
            owner.input(routeserver::Input::Shutdown).await;
            driving.await
        }
    };
    agent_server.abort();
    control_server.abort();
    tracing::info!(instance = options.index, "instance has left");
    ended.map_err(|_| InstanceError::DriverDied)
}

/// Takes agents once it has a port for them, and says in the run directory where.
async fn serve_agents(
    agents: AgentService,
    wanted: SocketAddr,
    tls: Option<AgentTls>,
    files: Arc<RunDir>,
    [port_problem, file_problem]: [AgentPortProblem; 2],
) {
    let before = files.take_agents();
    let is_tls = tls.is_some();
    let tls = match tls {
        Some(tls) => Some(agents::shown(tls, file_problem).await),
        None => None,
    };
    let listener = agents::listen(wanted, before, &port_problem).await;
    let written = listener.local_addr().map_or(Ok(()), |address| {
        tracing::info!(%address, tls = is_tls, "agents may connect");
        files.write_agents(address, is_tls)
    });
    if let Err(error) = written {
        tracing::error!(%error, "where agents connect cannot be told");
    }
    agents::serve(agents, listener, tls).await;
}

/// SIGTERM and SIGINT; SIGHUP, which a closing terminal sends, is ignored.
struct Terminate {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    _hangup: tokio::signal::unix::Signal,
    parent_gone: Option<oneshot::Receiver<()>>,
}

impl Terminate {
    fn new(die_with_parent: bool) -> Result<Terminate, InstanceError> {
        let on = |kind| {
            signal(kind).map_err(|source| InstanceError::Process {
                what: "signal handler",
                source,
            })
        };
        Ok(Terminate {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            _hangup: on(SignalKind::hangup())?,
            parent_gone: die_with_parent.then(parent_gone),
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = async {
                match self.parent_gone.as_mut() {
                    Some(gone) => drop(gone.await),
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// Resolves when nobody holds the other end of our standard input any more. The parent holds it as long as it lives and never
/// writes. (PR_SET_PDEATHSIG would follow the thread that started us, not its process, and miss a death before it is set.)
fn parent_gone() -> oneshot::Receiver<()> {
    let (gone, wait) = oneshot::channel();
    std::thread::spawn(move || {
        // An error means as much as the end: nothing more will be heard of the parent.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = gone.send(());
    });
    wait
}

/// Of 128 bits that nobody outside can know.
fn hash_key() -> rib::HashKey {
    // A version 4 UUID has 122 random ones.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    rib::HashKey::new(high, low)
}

/// Tells this life from all before: later ones are greater unless the clock was set back, and different even then.
fn epoch() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Milliseconds need 41 bits for now.
    (since_1970.as_millis() as u64) << 22 | u64::from(std::process::id() & 0x3f_ffff)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use api::tls::Identity;

    use super::*;

    fn options(listen: &str, tls: Option<AgentTls>) -> InstanceOptions {
        InstanceOptions {
            index: 0,
            run_dir: PathBuf::new(),
            agent_listen: listen.parse().unwrap(),
            agent_tls: tls,
            silence_secs: 10,
            die_with_parent: false,
            give_back_memory: || {},
        }
    }

    #[test]
    fn a_port_that_strangers_reach_needs_tls_and_to_do_without_tokens_certificates_of_agents() {
        let identity = Identity {
            certificate: "/c".into(),
            key: "/k".into(),
        };
        let tls = |client_ca: Option<&str>| {
            let client_ca = client_ca.map(PathBuf::from);
            Some(AgentTls {
                identity: identity.clone(),
                client_ca,
            })
        };
        for (listen, tls, expected) in [
            ("127.0.0.1:0", None, true),
            ("[::1]:1", tls(None), true),
            ("0.0.0.0:1", tls(None), false),
            ("10.0.0.4:1", tls(Some("/ca")), true),
        ] {
            assert_eq!(
                options(listen, tls).keeps_strangers_out().unwrap(),
                expected,
                "{listen}"
            );
        }
    }

    #[tokio::test]
    async fn an_instance_does_not_open_a_port_to_strangers_in_plain_text() {
        let ended = run(options("[::]:0", None)).await.unwrap_err();
        assert!(ended.to_string().contains("needs TLS"), "{ended}");
    }
}
