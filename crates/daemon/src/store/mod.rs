//! What must survive the manager: resources, settings of ours, and the operations clients may still ask for. Intent comes from
//! these; routes are not stored, they come back from the peers.
//!
//! A write is one [`Batch`], all or nothing, and is on disk when [`Store::commit`] returns. Each batch names the version it
//! makes, and a store refuses one that doesn't follow its own: so a store that machines share ([`etcd`]) is behind the same trait as
//! the embedded one.

mod activity;
pub mod backup;
#[cfg(test)]
mod backup_tests;
mod digest;
pub mod etcd;
mod sqlite;
#[cfg(test)]
mod suite;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use arm::{Change, Resource};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use activity::{Activity, ActivityRange, MAX_ACTIVITY, MAX_REFUSALS};
pub use etcd::{EtcdConfig, EtcdStore};
pub use sqlite::SqliteStore;
pub(crate) use sqlite::lock;

/// How many operations are remembered; older ones are forgotten, as clients poll for minutes at most.
pub const MAX_OPERATIONS: u64 = 10_000;

/// All that a manager needs when it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// Of the last batch.
    pub version: u64,
    /// Every resource.
    pub resources: Vec<Resource>,
    /// Settings objects by ARM id (lower case).
    pub settings: BTreeMap<String, Value>,
    /// Who may come in and do what: collection, key, body.
    pub directory: Vec<(Collection, String, Value)>,
    /// The configuration of the last start, to see whether it has changed since.
    pub config_fingerprint: Option<String>,
    /// It is a restored backup that not all instances have followed since.
    pub is_restored: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A change to resources.
    Resource(Change),
    /// Create or replace the settings of an ARM id (lower case).
    PutSettings(String, Value),
    /// Remove the settings of an ARM id (lower case).
    DeleteSettings(String),
    /// Create or replace an entry of the directory.
    PutEntry(Collection, String, Value),
    /// Remove an entry of the directory.
    DeleteEntry(Collection, String),
    /// Remember an operation.
    Operation(Operation),
    /// Add an event to the activity log.
    Activity(Activity),
    /// Replace the fingerprint.
    ConfigFingerprint(String),
}

/// A part of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Collection {
    /// By client id.
    ServicePrincipals,
    /// By id (lower case).
    RoleAssignments,
    /// Custom ones, by GUID.
    RoleDefinitions,
}

impl Collection {
    const ALL: [Collection; 3] = [
        Collection::ServicePrincipals,
        Collection::RoleAssignments,
        Collection::RoleDefinitions,
    ];

    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Collection::ServicePrincipals => "servicePrincipals",
            Collection::RoleAssignments => "roleAssignments",
            Collection::RoleDefinitions => "roleDefinitions",
        }
    }

    fn named(name: &str) -> Option<Collection> {
        Collection::ALL.into_iter().find(|collection| collection.name() == name)
    }
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The version that this batch makes: greater than the store's.
    pub version: u64,
    /// The version it builds on.
    pub follows: u64,
    /// In order.
    pub writes: Vec<Write>,
}

/// What somebody else has written.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// One batch; the next news is of a later one. Our own come back, too.
    Batch(Batch),
    /// Too much has happened to tell it one by one.
    Everything(Stored),
}

/// Another manager that shares the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The instance that it runs.
    pub instance: usize,
    /// The machine's name.
    pub machine: String,
    /// Where its API listens.
    pub api: String,
    /// Since when it is, or was, there; RFC 3339.
    pub since: String,
    /// Since when it is known to be gone, if it is; RFC 3339.
    pub gone_since: Option<String>,
    /// How its instance is, a few seconds ago at most; `None`: it does not say.
    pub state: Option<InstanceState>,
}

/// How an instance is, as its manager tells the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceState {
    /// It answers its manager.
    pub up: bool,
    /// It has not yet heard End-of-RIB from every peer.
    pub converging: bool,
    /// The operator wants packets to go through the other one.
    pub drained: bool,
    /// Version of the intent that it follows.
    pub intent_version: u64,
    /// Peerings that should be Established and are not, ids; not more than some hundreds.
    pub peers_down: Vec<String>,
    /// How many there are.
    pub peers_down_count: usize,
}

/// A long-running operation in Azure's eyes; here it has succeeded when it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The guid in its URL.
    pub id: String,
    /// Subscription of the resource.
    pub subscription: String,
    /// Id of the resource.
    pub resource: String,
    /// RFC 3339.
    pub started: String,
    /// `Succeeded`.
    pub status: String,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has it open.
    #[error(
        "{} is used by another routewright serve{}: stop that one, or give this one its own --data-dir",
        directory.display(),
        holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// Its process id, if it left one.
        holder: Option<String>,
    },
    /// A restore would overwrite what is there.
    #[error("{} keeps a store already: restore into another directory, or say --replace to lose what it keeps", directory.display())]
    NotEmpty {
        /// The data directory.
        directory: PathBuf,
    },
    /// The directory or a file in it cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody removed or replaced the file below us: SQLite would go on writing what nobody will ever read.
    #[error("{} is gone, or another file is in its place", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error(
        "{} has schema {found}, this release knows up to {known}: use the release that wrote it",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another kind of file.
    #[error("{} is a SQLite file of another program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A stored value makes no sense.
    #[error("{what} in the store cannot be read: {problem}")]
    Corrupt {
        /// Which entry.
        what: String,
        /// Why.
        problem: String,
    },
    /// Somebody wrote in between.
    #[error("the store is at version {found}, the write builds on {follows}")]
    Conflict {
        /// The store's.
        found: u64,
        /// The batch's.
        follows: u64,
    },
    /// etcd is not there, or has no quorum.
    #[error("etcd does not answer ({problems})")]
    Away {
        /// What each endpoint says or does not say.
        problems: String,
        /// The write was sent: it may be stored, or become so when etcd is back.
        unsure: bool,
    },
    /// etcd says no.
    #[error("etcd refuses ({code}): {message}")]
    Etcd {
        /// gRPC's code.
        code: tonic::Code,
        /// Why.
        message: String,
    },
    /// `[store]` names files that cannot be used.
    #[error("[store]: {0}")]
    EtcdConfig(String),
    /// A later release wrote it.
    #[error("the store in etcd has layout {found}, this release knows up to {known}: use the release that wrote it")]
    NewerLayout {
        /// Its layout.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// More than etcd can take.
    #[error(
        "{what} is too large for etcd: {bytes} bytes of at most {most}; make it smaller, or make the change in parts"
    )]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        bytes: usize,
        /// What can be.
        most: usize,
    },
    /// Others write all the time.
    #[error("others write to the store all the time")]
    Busy,
    /// It is older than what was made of it.
    #[error(
        "the store is at version {found}, and {whose} follows version {followed} of it: this is another store, or it went back to an \
         older state. Instances keep what they follow, nothing is written"
    )]
    WentBack {
        /// The store's version.
        found: u64,
        /// A version that it has had.
        followed: u64,
        /// Who knows of it.
        whose: String,
    },
    /// Another manager runs this instance.
    #[error(
        "instance {instance} is run by process {pid} on {machine} since {since}: give this machine the other number with --instance, \
         or stop that one"
    )]
    NumberTaken {
        /// Which.
        instance: usize,
        /// Where.
        machine: String,
        /// Process id there.
        pid: u32,
        /// Since when.
        since: String,
    },
    /// Another manager has taken our instance while etcd did not hear of us.
    #[error("{0}")]
    Replaced(String),
    /// SQLite says no.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The store's thread is gone: the process is ending.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// It says something about what was to be written, not about the store.
    pub(crate) fn is_of_the_request(&self) -> bool {
        matches!(
            self,
            StoreError::Conflict { .. } | StoreError::TooLarge { .. } | StoreError::Busy
        )
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        use rusqlite::ErrorCode;
        let error = match self {
            StoreError::Sqlite(error) => error,
            StoreError::Away { .. } => {
                return "Routing goes on as it is. See that most members of the etcd cluster run and can be reached from here";
            }
            StoreError::Etcd {
                code: tonic::Code::ResourceExhausted,
                ..
            } => return "etcd is out of space or of breath: compact and defragment it, or raise its quota",
            StoreError::Etcd { code, message }
                if *code == tonic::Code::PermissionDenied
                    || message.contains("auth")
                    || message.contains("user name") =>
            {
                return "See that the user of [store] exists in etcd and may read and write below the prefix";
            }
            StoreError::TooLarge { .. } => return "Write less at once",
            StoreError::Busy | StoreError::Conflict { .. } => return "Wait a moment",
            StoreError::Replaced(_) | StoreError::NumberTaken { .. } => return "Stop one of the two managers",
            StoreError::WentBack { .. } => {
                return "See that [store] (endpoints, prefix) and --data-dir name the right store, and that it has its newest state, then \
                        start this manager again; if it is a backup that was restored on purpose, start it with --restored";
            }
            StoreError::Gone { .. } => {
                return "Put the file back, or stop serve and start it with a restored backup; what is running goes on";
            }
            _ => return "The manager's log says more",
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "Free some space on the disk of the data directory",
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                "Make the data directory writable: its file system may be mounted read-only, or somebody else owns its files"
            }
            Some(ErrorCode::SystemIoFailure) => {
                "Look after the disk of the data directory (full, or broken); the kernel's log says more"
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                "The store's file is damaged: stop serve and restore a backup"
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "Another program has the store's file open for writing: end that"
            }
            _ => "The manager's log says more",
        }
    }
}

/// Looks how our instances are, by number.
pub type StatesNow<'a> = Box<dyn FnOnce() -> BTreeMap<usize, InstanceState> + Send + 'a>;

/// Where the manager keeps things.
pub trait Store: Debug + Send + Sync {
    /// Everything, as of one moment.
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>>;
    /// All or nothing; on disk when it returns.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>>;
    /// An operation that was not forgotten yet.
    fn operation(&self, id: &str) -> BoxFuture<'_, Result<Option<Operation>, StoreError>>;
    /// Adds events to the activity log without making a version.
    fn record(&self, events: Vec<Activity>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Events of the activity log with their sequence numbers, the latest first.
    fn activity(&self, range: ActivityRange) -> BoxFuture<'_, Result<Vec<(i64, Value)>, StoreError>>;
    /// Forgets events that are older (microseconds since 1970).
    fn forget_activity(&self, before_micros: i64) -> BoxFuture<'_, Result<usize, StoreError>>;
    /// Writes something that means nothing, to see whether writes work.
    fn probe(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Instances follow it: it is no restored backup any more.
    fn settled(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }
    /// For people: kind and place.
    fn describe(&self) -> String;
    /// The version of the last batch, whoever has stored it, at some moment after this was asked. `None`: nobody else writes here, so
    /// whoever asks knows it.
    fn latest(&self) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        std::future::ready(Ok(None)).boxed()
    }
    /// Waits for what others write. A store that is ours alone has no news, ever.
    fn follow(&self) -> BoxFuture<'_, Result<News, StoreError>> {
        std::future::pending().boxed()
    }
    /// Why writes would be refused now, as far as it is known without trying.
    fn trouble(&self) -> Option<String> {
        None
    }
    /// Tells whoever shares it how our instances are now, and sees how theirs are after that ([`presence`](Self::presence)).
    fn meet<'a>(&'a self, _states: StatesNow<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }
    /// Who else shares it.
    fn presence(&self) -> Vec<Presence> {
        Vec::new()
    }
}
