//! The manager's truth: resources and settings, changed by one write at a time, each stored before it is answered; and the intent
//! made from them.
//!
//! ```text
//! request ─► write ─► arm::handle ─► Store::commit ─► state ─► version ─► intent maker ─► intent ─► keepers (one per instance)
//! request ─► read  ─► arm::handle                                         (coalesces)
//! ```
//!
//! Where managers share a store, what the others write comes in beside ([`shared`]): a write is decided on a version, and decided again
//! when the store has gone on meanwhile. So is what is refused.

mod shared;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arm::authorization::{AccessChange, RoleAssignment};
use arm::{Answer, ArmError, Ask, Change, May, Method, Mint, OperationStyle, Outcome, Request, Resources, Settings};
use routeserver::Intent;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use self::shared::{Held, Refreshes};
use super::access;
use super::activity::Asker;
use super::directory::Directory;
use super::keeper::Status;
use super::sign_in::Caller;
use crate::config::Config;
use crate::store::{Activity, ActivityRange, Batch, Operation, Presence, StatesNow, Store, StoreError, Stored, Write};

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
    /// The store is not the one that was followed, see [`shared`].
    held: RwLock<Option<Held>>,
    /// It may be older than what instances follow, until all of ours follow it.
    is_restored: AtomicBool,
    /// The version with which we began.
    began_at: u64,
    /// An instance follows what we have made of it: it is not another deployment's.
    is_ours: watch::Sender<bool>,
    refreshes: Refreshes,
    /// What is the same for each state that is loaded: limits, bindings.
    settings: Settings,
    /// Roles that are not stored.
    granted: RwLock<Vec<RoleAssignment>>,
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
    /// As [`load_for`](Self::load_for), for instances that follow nothing yet.
    #[cfg(test)]
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        config: &Config,
        is_restored: bool,
    ) -> Result<Arc<Core>, StoreError> {
        Core::load_for(store, config, is_restored, &[]).await
    }

    /// Loads what is stored. A configuration other than last time's makes a version of its own, since intent depends on it.
    /// `is_restored`: the operator says that it is a restored backup; embedded stores know that by themselves. `followed`: instances
    /// with the versions that they follow, asked before; where one is newer than the store, the store is held and nothing is written.
    pub(crate) async fn load_for(
        store: Arc<dyn Store>,
        config: &Config,
        is_restored: bool,
        followed: &[(usize, u64)],
    ) -> Result<Arc<Core>, StoreError> {
        let settings = Settings {
            limits: config.limits.clone(),
            bind: config.bind.clone(),
            logs_routes: config.route_log.is_some(),
            agents_need_tokens: config.agents_need_tokens,
            ..Settings::default()
        };
        let stored = store.load().await?;
        let fingerprint = fingerprint(config);
        let is_known = stored.config_fingerprint.as_deref() == Some(&fingerprint);
        let is_restored = is_restored || stored.is_restored;
        let state = State::of(stored, &settings)?;
        let began_at = state.resources.version;
        let core = Arc::new(Core {
            store,
            version: watch::Sender::new(state.resources.version),
            intent: watch::Sender::new(Arc::new(Intent::default())),
            state: RwLock::new(state),
            writing: Mutex::new(SystemMint),
            store_problem: RwLock::default(),
            held: RwLock::default(),
            is_restored: AtomicBool::new(is_restored),
            began_at,
            is_ours: watch::Sender::new(false),
            refreshes: Refreshes::default(),
            settings,
            granted: RwLock::default(),
        });
        let newest = followed.iter().max_by_key(|(_, theirs)| *theirs);
        if let Some((instance, theirs)) = newest.filter(|(_, theirs)| *theirs > began_at && !is_restored) {
            core.hold(Held::by_instance(*instance, began_at, *theirs));
            return Ok(core);
        }
        if !is_known {
            let written = core
                .decided(|_, _| Ok((Some(vec![Write::ConfigFingerprint(fingerprint.clone())]), ())))
                .await;
            if let Err(WriteError::Store(error)) = written {
                return Err(error);
            }
        }
        Ok(core)
    }

    /// Looks at the state; never across an await.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers a request that changes nothing.
    pub(crate) async fn get(&self, caller: &Caller, request: &Request) -> Result<Outcome, ArmError> {
        self.look(|state| handle(state, caller, request, &mut SystemMint)).await
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
        let decide = |state: &State, mint: &mut SystemMint| decide(state, mint, asker, request);
        let (version, decided) = self.decided(decide).await?;
        Ok(match decided {
            Decided::Ask(ask, location) => Written::Ask(ask, location),
            Decided::Done { answer, operation } => Written::Done {
                answer,
                version,
                operation,
            },
        })
    }

    /// Replaces or removes the settings of an ARM id (lower case). `check` sees the state under the write lock and gives the
    /// object to store.
    pub(crate) async fn write_settings(
        self: &Arc<Core>,
        asker: &Asker,
        key: String,
        check: impl Fn(&State) -> Result<Option<Value>, ArmError> + Send + Sync + 'static,
    ) -> Result<u64, ArmError> {
        let decide = move |state: &State, asker: &Asker| {
            let write = match check(state)? {
                Some(body) => Write::PutSettings(key.clone(), body),
                None => Write::DeleteSettings(key.clone()),
            };
            Ok((vec![write, asker.done(200)], ()))
        };
        Ok(self.write_decided(asker, decide).await?.0)
    }

    /// Changes settings of several ARM ids. `decide` sees the state under the write lock and says what to store, with its events.
    pub(crate) async fn write_many_settings(
        self: &Arc<Core>,
        asker: &Asker,
        decide: impl Fn(&State, &Asker) -> Result<Vec<Write>, ArmError> + Send + Sync + 'static,
    ) -> Result<(), ArmError> {
        let decide = move |state: &State, asker: &Asker| Ok((decide(state, asker)?, ()));
        self.write_decided(asker, decide).await.map(|_| ())
    }

    /// Changes the directory. `decide` sees the state under the write lock and says what to store.
    pub(crate) async fn write_directory(
        self: &Arc<Core>,
        asker: &Asker,
        status: u16,
        decide: impl Fn(&State) -> Result<Vec<Write>, ArmError> + Send + Sync + 'static,
    ) -> Result<(), ArmError> {
        let decide = move |state: &State, asker: &Asker| {
            let mut writes = decide(state)?;
            writes.push(asker.done(status));
            Ok((writes, ()))
        };
        self.write_decided(asker, decide).await.map(|_| ())
    }

    /// Changes roles and answers. `decide` sees the state under the write lock.
    pub(crate) async fn write_access(
        self: &Arc<Core>,
        asker: &Asker,
        decide: impl Fn(&State) -> Result<(Vec<AccessChange>, Answer), ArmError> + Send + Sync + 'static,
    ) -> Result<Answer, ArmError> {
        let decide = move |state: &State, asker: &Asker| {
            let (changes, answer) = decide(state)?;
            let mut writes = access::writes(changes).map_err(|_| internal_error())?;
            writes.push(asker.done(answer.status));
            Ok((writes, answer))
        };
        Ok(self.write_decided(asker, decide).await?.1)
    }

    /// In a task of its own, as [`write`](Self::write), by somebody who still may.
    async fn write_decided<T: Send + 'static>(
        self: &Arc<Core>,
        asker: &Asker,
        decide: impl Fn(&State, &Asker) -> Result<(Vec<Write>, T), ArmError> + Send + Sync + 'static,
    ) -> Result<(u64, T), ArmError> {
        let core = Arc::clone(self);
        let asker = asker.clone();
        let done = tokio::spawn(async move {
            let decide = |state: &State, _: &mut SystemMint| {
                access::check_again(state, &asker)?;
                let (writes, outcome) = decide(state, &asker)?;
                Ok((Some(writes), outcome))
            };
            core.decided(decide).await.map_err(ArmError::from)
        });
        done.await.unwrap_or_else(|_| Err(internal_error()))
    }

    /// Gives a role that is not stored.
    pub(crate) fn grant(&self, assignment: RoleAssignment) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.grant(assignment.clone());
        let mut granted = self.granted.write().unwrap_or_else(PoisonError::into_inner);
        granted.push(assignment);
    }

    /// An instance follows a newer version than there is here. A restored backup goes above it; any other store is not the one that
    /// the instance follows.
    pub(crate) async fn is_behind(self: &Arc<Core>, instance: usize, theirs: u64) {
        let core = Arc::clone(self);
        let done = tokio::spawn(async move {
            let _writing = core.writing.lock().await;
            let follows = core.refreshed().await?;
            match follows < theirs {
                false => Ok(()),
                true if core.is_restored() => core.commit_as(follows, theirs + 1, Vec::new()).await.map(|_| ()),
                true => Err(core.hold(Held::by_instance(instance, follows, theirs))),
            }
        });
        match done.await {
            Ok(Ok(())) | Err(_) => {}
            // Somebody else has written; whoever keeps the instance looks again.
            Ok(Err(StoreError::Conflict { .. } | StoreError::WentBack { .. })) => {}
            Ok(Err(error)) => tracing::error!(%error, "it is not known which version the store has"),
        }
    }

    /// Decides on the state as it is and stores what was decided; decides again when somebody else has written in between. With
    /// nothing to store, the state's version.
    ///
    /// What is stored is held against the store's version. What is not, a refusal or that there is nothing to do, must not come of an
    /// old copy either: it counts when the store has nothing newer, or does not answer. Nobody else's write waits for that question.
    async fn decided<T>(
        &self,
        decide: impl Fn(&State, &mut SystemMint) -> Result<(Option<Vec<Write>>, T), ArmError>,
    ) -> Result<(u64, T), WriteError> {
        let mut is_fresh = false;
        for _ in 0..MAX_DECISIONS {
            let mut mint = self.writing.lock().await;
            self.not_held()?;
            let (follows, decided) = self.read(|state| (state.resources.version, decide(state, &mut mint)));
            let comes_of_the_copy = match &decided {
                Ok((Some(writes), _)) => changes_nothing(writes),
                // The instances answer.
                Ok((None, _)) => false,
                Err(_) => true,
            };
            if comes_of_the_copy && !is_fresh {
                drop(mint);
                is_fresh = true;
                match self.refreshed().await {
                    Ok(version) if version > follows => continue,
                    // Without the store the copy is all there is.
                    Ok(_) | Err(StoreError::Away { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                let (writes, outcome) = decided?;
                self.commit(follows, writes.unwrap_or_default()).await?;
                return Ok((follows, outcome));
            }
            let (writes, outcome) = decided?;
            let Some(writes) = writes else {
                return Ok((follows, outcome));
            };
            match self.commit(follows, writes).await {
                Ok(version) => return Ok((version, outcome)),
                Err(StoreError::Conflict { found, .. }) if found < follows => {
                    return Err(self.hold(Held::by_us(found, follows)).into());
                }
                Err(StoreError::Conflict { found, .. }) => self.catch_up(found).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Busy.into())
    }

    async fn commit(&self, follows: u64, writes: Vec<Write>) -> Result<u64, StoreError> {
        if changes_nothing(&writes) {
            let events = writes.into_iter().filter_map(|write| match write {
                Write::Activity(event) => Some(event),
                _ => None,
            });
            self.noted(self.store.record(events.collect()).await)?;
            return Ok(follows);
        }
        self.commit_as(follows, follows + 1, writes).await
    }

    /// Stores, then shows. The write lock is held by the caller.
    async fn commit_as(&self, follows: u64, version: u64, writes: Vec<Write>) -> Result<u64, StoreError> {
        let batch = Batch {
            follows,
            version,
            writes,
        };
        self.noted(self.store.commit(batch.clone()).await)?;
        self.show(batch);
        Ok(version)
    }

    /// Keeps in mind whether writes work.
    fn noted<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        let problem = match &written {
            Ok(_) => None,
            Err(error) if error.is_of_the_request() => return written,
            Err(error) => Some(with_advice(error)),
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
        if let Err(error) = self.not_held() {
            return Some(with_advice(&error));
        }
        if let Some(trouble) = self.store.trouble() {
            return Some(trouble);
        }
        let known = self.store_problem.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Sees whether the store takes writes, and whether it has what is known here, and no more.
    pub(crate) async fn probe_store(&self) {
        // First: nothing is written to a store that is held.
        if let Err(error) = self.refreshed().await {
            tracing::warn!(%error, "what the store has by now is not known");
        }
        if self.not_held().is_ok()
            && let Err(error) = self.noted(self.store.probe().await)
        {
            tracing::error!(%error, advice = error.advice(), "the store takes no writes");
        }
    }

    /// An operation that was not forgotten yet.
    pub(crate) async fn operation(&self, id: &str) -> Result<Option<Operation>, ArmError> {
        let found = self.store.operation(id).await;
        found.map_err(|error| unreadable("The operation", &error))
    }

    /// Adds an event to the activity log. A refusal stays one when the store refuses as well.
    pub(crate) async fn record(&self, event: Activity) {
        // One that is held is somebody else's, or is to be put right.
        if self.not_held().is_err() {
            return;
        }
        if let Err(error) = self.noted(self.store.record(vec![event]).await) {
            tracing::error!(%error, "an event of the activity log cannot be stored");
        }
    }

    /// Events of the activity log.
    pub(crate) async fn activity(&self, range: ActivityRange) -> Result<Vec<(i64, Value)>, ArmError> {
        let events = self.store.activity(range).await;
        events.map_err(|error| unreadable("The activity log", &error))
    }

    /// Forgets old events of the activity log: of no store of which it is not known that it is ours.
    pub(crate) async fn forget_activity(&self, before_micros: i64) {
        if !*self.is_ours.borrow() || self.not_held().is_err() {
            return;
        }
        match self.store.forget_activity(before_micros).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "old events of the activity log are forgotten"),
            Err(error) => tracing::error!(%error, "old events of the activity log cannot be forgotten"),
        }
    }

    /// Waits until an instance follows what was made of this store.
    pub(crate) async fn until_ours(&self) {
        let _ = self.is_ours.subscribe().wait_for(|is_ours| *is_ours).await;
    }

    /// It is a restored backup that not all of our instances follow yet.
    pub(crate) fn is_restored(&self) -> bool {
        self.is_restored.load(Ordering::Relaxed)
    }

    /// Sees that the store is ours when an instance follows a version of it, and that it is no restored backup any more, but the store,
    /// when all do. Ends then.
    pub(crate) async fn settle(self: Arc<Core>, statuses: Vec<watch::Receiver<Status>>) {
        loop {
            sleep(SETTLE_INTERVAL).await;
            let ours = self.began_at.max(1)..=self.read(|state| state.resources.version);
            let follows = |status: &watch::Receiver<Status>| ours.contains(&status.borrow().acknowledged);
            if self.not_held().is_err() {
                continue;
            }
            if statuses.iter().any(follows) {
                self.is_ours.send_replace(true);
            }
            if !statuses.iter().all(follows) {
                continue;
            }
            match self.store.settled().await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "that the backup is followed cannot be noted yet"),
            }
        }
        self.is_restored.store(false, Ordering::Relaxed);
    }

    /// Other managers that share the store.
    pub(crate) fn other_managers(&self) -> Vec<Presence> {
        self.store.presence()
    }

    /// Tells other managers how our instances are now, and sees how theirs are after that.
    pub(crate) async fn meet(&self, states: StatesNow<'_>) -> Result<(), ArmError> {
        let met = self.store.meet(states).await;
        met.map_err(|error| {
            let message = format!("The other manager cannot be told: {}.", with_advice(&error));
            ArmError::new(503, "ServiceUnavailable", message)
        })
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

fn changes_nothing(writes: &[Write]) -> bool {
    writes.iter().all(|write| matches!(write, Write::Activity(_)))
}

/// How often it is seen whether instances follow the store.
const SETTLE_INTERVAL: Duration = Duration::from_millis(250);

/// How often a write is decided again because somebody else has written in between.
const MAX_DECISIONS: usize = 30;

/// What a request comes to.
enum Decided {
    Ask(Ask, String),
    Done {
        answer: Answer,
        operation: Option<Operation>,
    },
}

/// Decides on a request: what is to be stored, if anything, and the answer.
fn decide(
    state: &State,
    mint: &mut SystemMint,
    asker: &Asker,
    request: &Request,
) -> Result<(Option<Vec<Write>>, Decided), ArmError> {
    access::check_again(state, asker)?;
    access::check_linked(state, &asker.caller, request)?;
    let (changes, answer) = match handle(state, &asker.caller, request, mint)? {
        Outcome::Ask(ask, location) => return Ok((None, Decided::Ask(ask, location))),
        Outcome::Done { changes, answer } => (changes, answer),
    };
    if answer.operation == Some(OperationStyle::Deployment) {
        access::check_changes(state, &asker.caller, &changes)?;
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
        writes.extend(done_along(state, asker, request, answer.status, &changes));
    }
    for change in changes {
        if let Change::Delete(key) = &change {
            writes.push(Write::DeleteSettings(key.to_ascii_lowercase()));
            let here = |assignment: &RoleAssignment| assignment.scope.eq_ignore_ascii_case(key);
            writes.extend(access::writes_of_removed(state, here));
        }
        writes.push(Write::Resource(change));
    }
    writes.extend(operation.clone().map(Write::Operation));
    Ok((Some(writes), Decided::Done { answer, operation }))
}

/// Why nothing came of a write.
#[derive(Debug)]
enum WriteError {
    /// It is not allowed, or makes no sense.
    Refused(Box<ArmError>),
    Store(StoreError),
}

impl From<ArmError> for WriteError {
    fn from(error: ArmError) -> WriteError {
        WriteError::Refused(Box::new(error))
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> WriteError {
        WriteError::Store(error)
    }
}

impl From<WriteError> for ArmError {
    fn from(error: WriteError) -> ArmError {
        match error {
            WriteError::Refused(error) => *error,
            WriteError::Store(error) => refused(&error),
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
    /// What was stored, with what is the same for each state.
    fn of(stored: Stored, settings: &Settings) -> Result<State, StoreError> {
        let mut resources = Resources::default();
        resources.version = stored.version;
        for resource in stored.resources {
            resources.put(resource);
        }
        let mut directory = Directory::default();
        for (collection, key, body) in stored.directory {
            directory.put(collection, key, body)?;
        }
        let settings = Settings {
            by_key: stored.settings,
            ..settings.clone()
        };
        Ok(State {
            resources,
            settings,
            directory,
        })
    }

    fn grant(&mut self, assignment: RoleAssignment) {
        let key = assignment.id.to_ascii_lowercase();
        self.directory.access.assignments.insert(key, assignment);
    }

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
    json!({ "release": release, "limits": config.limits, "bind": config.bind, "routeLog": config.route_log,
        "agentTokens": config.agents_need_tokens })
    .to_string()
}

fn subscription_of(path: &str) -> String {
    let mut segments = path.trim_start_matches('/').split('/');
    segments.nth(1).unwrap_or_default().to_ascii_lowercase()
}

fn with_advice(error: &StoreError) -> String {
    format!("{error}. {}", error.advice())
}

fn unreadable(what: &str, error: &StoreError) -> ArmError {
    tracing::error!(%error, "{what} cannot be read");
    match error {
        StoreError::Away { .. } => {
            let message = format!("{what} cannot be read: {}.", with_advice(error));
            ArmError::new(503, "ServiceUnavailable", message)
        }
        _ => internal_error(),
    }
}

fn refused(error: &StoreError) -> ArmError {
    tracing::error!(%error, "a write cannot be stored");
    let advice = error.advice();
    let (status, code, message) = match error {
        StoreError::Away { unsure: true, .. } => (
            503,
            "ServiceUnavailable",
            format!(
                "It is not known whether this was stored, because the store has not answered: {error}. {advice}, then look whether it \
                 is there before trying again."
            ),
        ),
        StoreError::WentBack { .. } => (
            503,
            "StoreWentBack",
            format!("Nothing was changed: {}.", with_advice(error)),
        ),
        StoreError::TooLarge { .. } => (413, "RequestTooLarge", format!("Nothing was changed: {error}.")),
        _ => (
            503,
            "ServiceUnavailable",
            format!("Nothing was changed, because the store refuses: {error}. {advice}, then try again."),
        ),
    };
    ArmError::new(status, code, message)
}

fn internal_error() -> ArmError {
    ArmError::new(
        500,
        "InternalServerError",
        "Something went wrong inside; the manager's log says what.",
    )
}
