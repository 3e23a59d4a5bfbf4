//! The manager's truth: resources and settings, changed by one write at a time, each stored before it is answered; and the intent
//! made from them.
//!
//! ```text
//! request ─► write ─► arm::handle ─► Store::commit ─► state ─► version ─► intent maker ─► intent ─► keepers (one per instance)
//! request ─► read  ─► arm::handle                                         (coalesces)
//! ```

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arm::authorization::{AccessChange, RoleAssignment};
use arm::{Answer, ArmError, Ask, Change, May, Method, Mint, OperationStyle, Outcome, Request, Resources, Settings};
use routeserver::Intent;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::access;
use super::activity::Asker;
use super::directory::Directory;
use super::sign_in::Caller;
use crate::config::Config;
use crate::store::{Activity, ActivityRange, Batch, Operation, Store, StoreError, Write};

/// Everything that requests are answered from.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) resources: Resources,
    pub(crate) settings: Settings,
    pub(crate) directory: Directory,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Core {
    store: Arc<dyn Store>,
    state: RwLock<State>,
    /// Held by the one write that is going on.
    writing: Mutex<SystemMint>,
    version: watch::Sender<u64>,
    intent: watch::Sender<Arc<Intent>>,
    /// Why the last write could not be stored, if so.
    store_problem: RwLock<Option<String>>,
}

/// What came of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// Stored. The intent of `version` is what instances must follow before it is in force.
    Done {
        answer: Answer,
        version: u64,
        operation: Option<Operation>,
    },
    /// Nothing to store, the instances know the answer.
    Ask(Ask, String),
}

impl Core {
    /// Loads what is stored. A configuration other than last time's makes a version of its own, since intent depends on it.
    pub(crate) async fn load(store: Arc<dyn Store>, config: &Config) -> Result<Arc<Core>, StoreError> {
        let stored = store.load().await?;
        let mut resources = Resources::default();
        resources.version = stored.version;
        for resource in stored.resources {
            resources.put(resource);
        }
        let mut directory = Directory::default();
        for (collection, key, body) in stored.directory {
            directory.put(collection, key, body)?;
        }
        let fingerprint = fingerprint(config);
        if stored.config_fingerprint.as_deref() != Some(&fingerprint) {
            store
                .commit(Batch {
                    follows: resources.version,
                    version: resources.version + 1,
                    writes: vec![Write::ConfigFingerprint(fingerprint)],
                })
                .await?;
            resources.version += 1;
        }
        let state = State {
            settings: Settings {
                limits: config.limits.clone(),
                bind: config.bind.clone(),
                logs_routes: config.route_log.is_some(),
                by_key: stored.settings,
                ..Settings::default()
            },
            resources,
            directory,
        };
        Ok(Arc::new(Core {
            store,
            version: watch::Sender::new(state.resources.version),
            intent: watch::Sender::new(Arc::new(Intent::default())),
            state: RwLock::new(state),
            writing: Mutex::new(SystemMint),
            store_problem: RwLock::default(),
        }))
    }

    /// Looks at the state; never across an await.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers a request that changes nothing.
    pub(crate) fn get(&self, caller: &Caller, request: &Request) -> Result<Outcome, ArmError> {
        self.read(|state| handle(state, caller, request, &mut SystemMint))
    }

    /// Carries out a request that may change something. It is finished even if nobody waits for it any more: a caller that hangs
    /// up between the store and the state must not part them.
    pub(crate) async fn write(self: &Arc<Core>, asker: &Asker, request: Request) -> Result<Written, ArmError> {
        let core = Arc::clone(self);
        let asker = asker.clone();
        let done = tokio::spawn(async move { core.write_now(&asker, &request).await });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a write panicked");
            Err(internal_error())
        })
    }

    async fn write_now(&self, asker: &Asker, request: &Request) -> Result<Written, ArmError> {
        let mut mint = self.writing.lock().await;
        let outcome = self.read(|state| {
            access::check_again(state, asker)?;
            access::check_linked(state, &asker.caller, request)?;
            handle(state, &asker.caller, request, &mut *mint)
        })?;
        let (changes, answer) = match outcome {
            Outcome::Ask(ask, location) => return Ok(Written::Ask(ask, location)),
            Outcome::Done { changes, answer } => (changes, answer),
        };
        if answer.operation == Some(OperationStyle::Deployment) {
            self.read(|state| access::check_changes(state, &asker.caller, &changes))?;
        }
        let operation = answer.operation.map(|_| Operation {
            id: mint.guid(),
            subscription: subscription_of(&request.path),
            resource: request.path.clone(),
            started: mint.now(),
            status: "Succeeded".to_owned(),
        });
        let mut writes = vec![asker.done(answer.status)];
        if matches!(
            answer.operation,
            Some(OperationStyle::Deployment | OperationStyle::DeleteGroup)
        ) {
            writes.extend(self.read(|state| done_along(state, asker, request, answer.status, &changes)));
        }
        for change in changes {
            if let Change::Delete(key) = &change {
                writes.push(Write::DeleteSettings(key.to_ascii_lowercase()));
                let here = |assignment: &RoleAssignment| assignment.scope.eq_ignore_ascii_case(key);
                writes.extend(self.read(|state| access::writes_of_removed(state, here)));
            }
            writes.push(Write::Resource(change));
        }
        writes.extend(operation.clone().map(Write::Operation));
        let version = self.commit(writes).await.map_err(|error| refused(&error))?;
        Ok(Written::Done {
            answer,
            version,
            operation,
        })
    }

    /// Replaces or removes the settings of an ARM id (lower case). `check` sees the state under the write lock and gives the
    /// object to store.
    pub(crate) async fn write_settings(
        self: &Arc<Core>,
        asker: &Asker,
        key: String,
        check: impl FnOnce(&State) -> Result<Option<Value>, ArmError> + Send + 'static,
    ) -> Result<u64, ArmError> {
        let core = Arc::clone(self);
        let asker = asker.clone();
        let done = tokio::spawn(async move {
            let _writing = core.writing.lock().await;
            core.read(|state| access::check_again(state, &asker))?;
            let event = asker.done(200);
            let write = match core.read(check)? {
                Some(body) => Write::PutSettings(key, body),
                None => Write::DeleteSettings(key),
            };
            core.commit(vec![write, event]).await.map_err(|error| refused(&error))
        });
        done.await.unwrap_or_else(|_| Err(internal_error()))
    }

    /// Changes the directory. `decide` sees the state under the write lock and says what to store.
    pub(crate) async fn write_directory(
        self: &Arc<Core>,
        asker: &Asker,
        status: u16,
        decide: impl FnOnce(&State) -> Result<Vec<Write>, ArmError> + Send + 'static,
    ) -> Result<(), ArmError> {
        let core = Arc::clone(self);
        let asker = asker.clone();
        let done = tokio::spawn(async move {
            let _writing = core.writing.lock().await;
            core.read(|state| access::check_again(state, &asker))?;
            let mut writes = core.read(decide)?;
            writes.push(asker.done(status));
            core.commit(writes).await.map_err(|error| refused(&error))
        });
        done.await.unwrap_or_else(|_| Err(internal_error())).map(|_| ())
    }

    /// Changes roles and answers. `decide` sees the state under the write lock.
    pub(crate) async fn write_access(
        self: &Arc<Core>,
        asker: &Asker,
        decide: impl FnOnce(&State) -> Result<(Vec<AccessChange>, Answer), ArmError> + Send + 'static,
    ) -> Result<Answer, ArmError> {
        let core = Arc::clone(self);
        let asker = asker.clone();
        let done = tokio::spawn(async move {
            let _writing = core.writing.lock().await;
            core.read(|state| access::check_again(state, &asker))?;
            let (changes, answer) = core.read(decide)?;
            let mut writes = access::writes(changes).map_err(|_| internal_error())?;
            writes.push(asker.done(answer.status));
            core.commit(writes).await.map_err(|error| refused(&error))?;
            Ok(answer)
        });
        done.await.unwrap_or_else(|_| Err(internal_error()))
    }

    /// Gives a role that is not stored.
    pub(crate) fn grant(&self, assignment: RoleAssignment) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let key = assignment.id.to_ascii_lowercase();
        state.directory.access.assignments.insert(key, assignment);
    }

    /// Makes a version above `above`: an instance follows a newer intent than this store knows of (a restored backup).
    pub(crate) async fn raise_version(self: &Arc<Core>, above: u64) {
        let core = Arc::clone(self);
        let done = tokio::spawn(async move {
            let _writing = core.writing.lock().await;
            let follows = core.read(|state| state.resources.version);
            match follows <= above {
                true => core.commit_as(above + 1, Vec::new()).await.map(|_| ()),
                false => Ok(()),
            }
        });
        if let Ok(Err(error)) = done.await {
            tracing::error!(%error, "the version cannot be raised above the instance's");
        }
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<u64, StoreError> {
        let version = self.read(|state| state.resources.version);
        let changes_nothing = writes.iter().all(|write| matches!(write, Write::Activity(_)));
        if changes_nothing {
            let events = writes.into_iter().filter_map(|write| match write {
                Write::Activity(event) => Some(event),
                _ => None,
            });
            self.noted(self.store.record(events.collect()).await)?;
            return Ok(version);
        }
        self.commit_as(version + 1, writes).await
    }

    /// Stores, then shows. The write lock is held by the caller.
    async fn commit_as(&self, version: u64, writes: Vec<Write>) -> Result<u64, StoreError> {
        let batch = Batch {
            follows: self.read(|state| state.resources.version),
            version,
            writes,
        };
        self.noted(self.store.commit(batch.clone()).await)?;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            for write in batch.writes {
                state.apply(write);
            }
            state.resources.version = version;
        }
        self.version.send_replace(version);
        Ok(version)
    }

    /// Keeps in mind whether writes work.
    fn noted<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        let problem = match &written {
            Ok(_) => None,
            Err(error) => Some(format!("{error}. {}", error.advice())),
        };
        let mut known = self.store_problem.write().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() && problem.is_none() {
            tracing::info!("the store takes writes again");
        }
        *known = problem;
        written
    }

    /// Why writes are refused, as far as was seen last.
    pub(crate) fn store_problem(&self) -> Option<String> {
        let known = self.store_problem.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Sees whether the store takes writes.
    pub(crate) async fn probe_store(&self) {
        if let Err(error) = self.noted(self.store.probe().await) {
            tracing::error!(%error, advice = error.advice(), "the store takes no writes");
        }
    }

    /// An operation that was not forgotten yet.
    pub(crate) async fn operation(&self, id: &str) -> Option<Operation> {
        self.store.operation(id).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an operation cannot be read");
            None
        })
    }

    /// Adds an event to the activity log. A refusal stays one when the store refuses as well.
    pub(crate) async fn record(&self, event: Activity) {
        if let Err(error) = self.noted(self.store.record(vec![event]).await) {
            tracing::error!(%error, "an event of the activity log cannot be stored");
        }
    }

    /// Events of the activity log.
    pub(crate) async fn activity(&self, range: ActivityRange) -> Result<Vec<(i64, Value)>, ArmError> {
        self.store.activity(range).await.map_err(|error| {
            tracing::error!(%error, "the activity log cannot be read");
            internal_error()
        })
    }

    /// Forgets old events of the activity log.
    pub(crate) async fn forget_activity(&self, before_micros: i64) {
        match self.store.forget_activity(before_micros).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "old events of the activity log are forgotten"),
            Err(error) => tracing::error!(%error, "old events of the activity log cannot be forgotten"),
        }
    }

    /// For people: where things are kept.
    pub(crate) fn store_description(&self) -> String {
        self.store.describe()
    }

    /// The latest intent, as it changes.
    pub(crate) fn intents(&self) -> watch::Receiver<Arc<Intent>> {
        self.intent.subscribe()
    }

    /// Makes intents from versions, for ever; versions that come while one is made, or in the rest after it, are skipped.
    pub(crate) async fn make_intents(self: Arc<Core>) {
        let mut versions = self.version.subscribe();
        loop {
            versions.borrow_and_update();
            let started = Instant::now();
            let core = Arc::clone(&self);
            let made =
                tokio::task::spawn_blocking(move || core.read(|state| arm::intent(&state.resources, &state.settings)));
            match made.await {
                Ok(intent) => {
                    self.intent.send_replace(Arc::new(intent));
                }
                Err(error) => tracing::error!(%error, "no intent can be made"),
            }
            sleep(rest_after(started.elapsed())).await;
            if versions.changed().await.is_err() {
                return;
            }
        }
    }
}

/// How long to rest after work on a whole intent that took so long. An intent is made and handed over whole; while writes come
/// without end, that must not take the time that the writes need. A single change never waits, and a rest is short enough for
/// [`keeper::IN_FORCE_PATIENCE`](super::keeper::IN_FORCE_PATIENCE).
pub(crate) fn rest_after(work: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_millis(500);
    (work * 3).min(LONGEST)
}

impl State {
    /// Carries out a request on this copy of what there is, as it would be on the original.
    pub(crate) fn try_out(&mut self, caller: &Caller, request: &Request) -> Result<(), ArmError> {
        access::check_request(self, caller, request)?;
        let Outcome::Done { changes, .. } = handle(self, caller, request, &mut SystemMint)? else {
            return Ok(());
        };
        access::check_changes(self, caller, &changes)?;
        for change in changes {
            if let Change::Delete(key) = &change {
                self.settings.by_key.remove(&key.to_ascii_lowercase());
            }
            self.apply(Write::Resource(change));
        }
        Ok(())
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Resource(Change::Put(resource)) => self.resources.put(resource),
            Write::Resource(Change::Delete(key)) => self.resources.remove(&key),
            Write::PutSettings(key, body) => {
                self.settings.by_key.insert(key, body);
            }
            Write::DeleteSettings(key) => {
                self.settings.by_key.remove(&key);
            }
            Write::PutEntry(collection, key, body) => {
                if let Err(error) = self.directory.put(collection, key, body) {
                    tracing::error!(%error, "what was just written cannot be read");
                }
            }
            Write::DeleteEntry(collection, key) => self.directory.delete(collection, &key),
            Write::Operation(_) | Write::Activity(_) | Write::ConfigFingerprint(_) => {}
        }
    }
}

fn handle(state: &State, caller: &Caller, request: &Request, mint: &mut dyn Mint) -> Result<Outcome, ArmError> {
    let may = May {
        read: &|id| access::may_read(state, caller, id),
        write: &|id, body| access::may_write(state, caller, id, body),
    };
    arm::handle(&state.resources, &state.settings, request, may, mint)
}

/// Events of what a deployment makes and what goes with a group.
fn done_along(state: &State, asker: &Asker, request: &Request, status: u16, changes: &[Change]) -> Vec<Write> {
    let event = |change: &Change| {
        let (method, id) = match change {
            Change::Put(resource) => (Method::Put, resource.id.as_str()),
            Change::Delete(key) => (Method::Delete, key.as_str()),
        };
        let before = state.resources.get(id);
        let is_same = matches!((change, before), (Change::Put(resource), Some(before)) if before.body == resource.body);
        if is_same || id.eq_ignore_ascii_case(&request.path) {
            return None;
        }
        let id = before.map_or(id, |before| before.id.as_str());
        let needed = arm::authorization::needed(method, id)?;
        Some(asker.done_along(status, needed.action, needed.scope))
    };
    changes.iter().filter_map(event).collect()
}

/// Random GUIDs and the wall clock.
#[derive(Debug)]
pub(crate) struct SystemMint;

impl Mint for SystemMint {
    fn guid(&mut self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    fn now(&mut self) -> String {
        jiff::Timestamp::now().to_string()
    }
}

/// The configuration as far as intent depends on it, and the release that makes the intent.
fn fingerprint(config: &Config) -> String {
    let release = env!("CARGO_PKG_VERSION");
    json!({ "release": release, "limits": config.limits, "bind": config.bind, "routeLog": config.route_log })
        .to_string()
}

fn subscription_of(path: &str) -> String {
    let mut segments = path.trim_start_matches('/').split('/');
    segments.nth(1).unwrap_or_default().to_ascii_lowercase()
}

fn refused(error: &StoreError) -> ArmError {
    tracing::error!(%error, "a write cannot be stored");
    ArmError::new(
        503,
        "ServiceUnavailable",
        format!(
            "Nothing was changed, because the store refuses: {error}. {}, then try again.",
            error.advice()
        ),
    )
}

fn internal_error() -> ArmError {
    ArmError::new(
        500,
        "InternalServerError",
        "Something went wrong inside; the manager's log says what.",
    )
}
