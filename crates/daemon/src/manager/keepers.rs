//! The instances of this machine: what they follow when we come, and one keeper for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::control::{ControlClient, intent_path, socket_path};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::InstanceHandle;
use super::core::Core;
use super::data_dir::DataDir;
use super::keeper::{Keeper, Status};
use super::launch::{Launch, Launcher};
use super::serve::{ServeError, ServeOptions};
use crate::config::Config;

/// An instance that runs says what it follows within so long, or what it has kept counts.
const FOLLOWED_PATIENCE: Duration = Duration::from_secs(3);

/// Those that keep instances, until they are told to stop.
#[derive(Debug)]
pub(super) struct Keepers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Keepers {
    /// Finds each instance, or starts it. `api` is where the API listens.
    pub(super) fn begin(
        options: &ServeOptions,
        config: &Config,
        place: &DataDir,
        api: SocketAddr,
        core: &Arc<Core>,
    ) -> Result<(Keepers, Vec<InstanceHandle>), ServeError> {
        let executable = executable(options)?;
        let mut keepers = Keepers {
            tasks: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        let instances = options.instances().into_iter().map(|index| {
            let launch = Launch {
                index,
                executable: executable.clone(),
                run_dir: place.run_dir(),
                agent_listen: agent_address(config, options.listen, api, index),
                agent_tls: config.agents_tls.clone(),
                agent_host: config.agents_host.clone(),
                silence_secs: config.silence_secs,
                die_with_parent: place.temporary.is_some(),
            };
            keepers.keep(launch, core, config.route_log.clone())
        });
        let instances = instances.collect();
        Ok((keepers, instances))
    }

    fn keep(&mut self, launch: Launch, core: &Arc<Core>, route_log: Option<String>) -> InstanceHandle {
        let index = launch.index;
        let control = Arc::new(ControlClient::new(socket_path(&launch.run_dir, index)));
        let status = watch::Sender::new(Status::default());
        let handle = InstanceHandle {
            index,
            control: control.clone(),
            status: status.subscribe(),
        };
        let keeper = Keeper {
            index,
            control,
            status,
            launcher: Some(Launcher::new(launch)),
            core: Arc::clone(core),
            route_log,
        };
        self.tasks.spawn(keeper.run(self.stop.subscribe()));
        handle
    }

    /// Sees the instances end as well, unless they are to go on: then nobody looks after them until the next manager does, which is what they
    /// are made for.
    pub(super) async fn end(mut self, instances_go_on: bool) {
        if instances_go_on {
            self.tasks.shutdown().await;
        } else {
            self.stop.send_replace(true);
            while self.tasks.join_next().await.is_some() {}
        }
    }
}

/// Which versions our instances follow: those that run say so, of those that don't it is what they will begin with.
pub(super) async fn followed(run_dir: &Path, mine: &[usize]) -> Vec<(usize, u64)> {
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
