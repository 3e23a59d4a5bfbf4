//! The store that the configuration asks for, with the manager's place among those that share it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::keeper::Status;
use crate::config::Config;
use crate::private_file::{PUBLIC, read_or_make};
use crate::store::etcd::{Identity, Place, keep_presence};
use crate::store::{EtcdStore, InstanceState, SqliteStore, Store, StoreError};

/// How often it is seen how the instances are that the others are told of.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Peerings that are told one by one: what is kept of an instance must be small.
const MAX_PEERS_TOLD: usize = 256;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<EtcdStore>,
    place: Place,
    keeper: JoinHandle<()>,
    teller: Option<JoinHandle<()>>,
    /// The data directory is ours, whatever is kept elsewhere.
    _lock: nix::fcntl::Flock<std::fs::File>,
}

impl Opened {
    /// Opens it, and takes the place of the instances that are run here, if the store is shared.
    pub(super) async fn open(
        config: &Config,
        directory: &Path,
        instances: &[usize],
        api: SocketAddr,
    ) -> Result<Opened, StoreError> {
        let Some(etcd) = &config.etcd else {
            let store = Arc::new(SqliteStore::open(directory)?);
            return Ok(Opened { store, shared: None });
        };
        let lock = crate::store::lock(directory)?;
        let identity = identity(directory, api)?;
        let writer: Vec<String> = instances.iter().map(usize::to_string).collect();
        let store = Arc::new(EtcdStore::new(etcd, &writer.join("+"))?);
        let place = store.claim(identity, instances).await?;
        let keeper = tokio::spawn(keep_presence(Arc::clone(&store), place.clone()));
        Ok(Opened {
            store: Arc::clone(&store) as Arc<dyn Store>,
            shared: Some(Shared {
                store,
                place,
                keeper,
                teller: None,
                _lock: lock,
            }),
        })
    }

    /// From now on the others are told how our instances are.
    pub(super) fn tell_of(&mut self, statuses: Vec<(usize, watch::Receiver<Status>)>) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let place = shared.place.clone();
        shared.teller = Some(tokio::spawn(async move {
            loop {
                let states = statuses
                    .iter()
                    .map(|(instance, status)| (*instance, state(&status.borrow())));
                place.say(|| states.collect());
                sleep(LOOK_AGAIN).await;
            }
        }));
    }

    /// The others hear at once that we have left.
    pub(super) async fn close(self) {
        if let Some(shared) = self.shared {
            shared.keeper.abort();
            if let Some(teller) = shared.teller {
                teller.abort();
            }
            shared.store.leave(&shared.place).await;
        }
    }
}

/// What the others are told of an instance.
pub(super) fn state(status: &Status) -> InstanceState {
    let Some(report) = &status.report else {
        return InstanceState::default();
    };
    InstanceState {
        up: true,
        converging: report.converging,
        drained: report.drained,
        intent_version: report.intent_version,
        peers_down: report.peers_down.iter().take(MAX_PEERS_TOLD).cloned().collect(),
        peers_down_count: report.peers_down.len(),
    }
}

fn identity(directory: &Path, api: SocketAddr) -> Result<Identity, StoreError> {
    let path = directory.join("manager-id");
    let make = || Ok(uuid::Uuid::new_v4().to_string());
    let failed = |source| StoreError::Io {
        path: path.clone(),
        source,
    };
    let id = read_or_make(&path, PUBLIC, make, failed)?;
    let machine = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    Ok(Identity {
        id: id.trim().to_owned(),
        machine: machine.unwrap_or_else(|_| "unknown".to_owned()),
        pid: std::process::id(),
        api: api.to_string(),
        since: jiff::Timestamp::now().to_string(),
    })
}
