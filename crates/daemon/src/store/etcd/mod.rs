//! The shared store: etcd, for managers on several machines that hold the same intent.
//!
//! ```text
//!  manager 0 ─┬─ commit ─► transaction: head as I saw it? ─► keys, new head      (one after the other, whoever writes)
//!             ├─ follow ◄─ watch: what manager 1 has written, batch by batch
//!             └─ presence ─ lease: instance 0 is run here
//! ```
//!
//! Every write compares and replaces one record, the head, which holds the version. So a write that was decided on an old view is
//! refused, as a whole, and whoever decided it looks again: two managers lose no update of each other, also where resources only
//! depend on each other. What is too large for one transaction is staged first and becomes true with the head that names it
//! ([`commit`]).

mod activity;
mod client;
pub mod cluster;
mod commit;
mod layout;
mod presence;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

/// etcd's messages and services.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
mod pb {
    tonic::include_proto!("etcdserverpb");
}

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

pub use client::EtcdConfig;
pub use presence::{Identity, Place, keep_presence};

use super::{
    Activity, ActivityRange, Batch, MAX_OPERATIONS, News, Operation, Presence, StatesNow, Store, StoreError, Stored,
    Write,
};
use client::{Client, Failure};
use layout::{Keys, Pending, Seen};

/// A write waits so long for etcd: longer than it takes to choose another leader.
const PATIENCE: Duration = Duration::from_secs(8);
/// When it is known to be away those who look for it wait no longer.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// Keys in one answer.
const PAGE: i64 = 500;

/// A store that several managers share.
#[derive(Debug)]
pub struct EtcdStore {
    client: Client,
    keys: Keys,
    prefix: String,
    endpoints: Vec<String>,
    /// Names this manager among those that write: the instances it runs.
    writer: String,
    /// One write at a time, so that [`layout::Head::last`] is enough to know it again.
    turn: tokio::sync::Mutex<()>,
    following: tokio::sync::Mutex<watch::Following>,
    known: Mutex<Known>,
}

/// What is known without asking.
#[derive(Debug, Default)]
struct Known {
    /// Why etcd does not answer, if it doesn't.
    away: Option<String>,
    /// Somebody else runs an instance of ours: which, and who.
    replaced: Option<String>,
    presence: Vec<Presence>,
    /// What we have claimed.
    place: Option<Place>,
    operations: Operations,
}

/// The latest operations, by id.
#[derive(Debug, Default)]
struct Operations {
    by_id: HashMap<String, Operation>,
    /// As they became known; the first is forgotten first.
    order: VecDeque<String>,
    /// All with numbers up to this one were read.
    read_up_to: u64,
}

impl Operations {
    fn add(&mut self, operation: Operation) {
        let id = operation.id.to_ascii_lowercase();
        if self.by_id.insert(id.clone(), operation).is_some() {
            return;
        }
        self.order.push_back(id);
        while self.order.len() as u64 > MAX_OPERATIONS {
            let forgotten = self.order.pop_front();
            forgotten.map(|id| self.by_id.remove(&id));
        }
    }
}

impl EtcdStore {
    /// A store below a prefix; `writer` names this manager among those that share it. Nobody is asked yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the files that the configuration names.
    pub fn new(config: &EtcdConfig, writer: &str) -> Result<EtcdStore, StoreError> {
        Ok(EtcdStore {
            client: Client::new(config)?,
            keys: Keys::new(&config.prefix),
            prefix: config.prefix.clone(),
            endpoints: config.endpoints.clone(),
            writer: writer.to_owned(),
            turn: tokio::sync::Mutex::default(),
            following: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn patience(&self) -> Duration {
        match self.known().away.is_some() {
            true => SHORT_PATIENCE,
            false => PATIENCE,
        }
    }

    /// Keeps in mind whether etcd answers.
    fn noted<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        let away = match &answer {
            Err(Failure::Away { problems, .. }) => Some(in_words(problems)),
            _ => None,
        };
        let mut known = self.known();
        match (&known.away, &away) {
            (None, Some(problems)) => {
                tracing::error!(%problems, "etcd does not answer: routing goes on, writes are refused");
            }
            (Some(_), None) => tracing::info!("etcd answers again"),
            _ => {}
        }
        known.away = away;
        answer
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, StoreError> {
        let answer = self.client.range(self.patience(), request).await;
        self.noted(answer).map_err(|failure| failure.into_error(false))
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, StoreError> {
        let answer = self.client.txn(self.patience(), request).await;
        self.noted(answer).map_err(|failure| failure.into_error(true))
    }

    /// All keys from `key` to `end` as of `revision` (0: now), page by page; and as of which revision that is.
    async fn all(&self, key: Vec<u8>, end: Vec<u8>, revision: i64) -> Result<(Vec<pb::KeyValue>, i64), StoreError> {
        let mut request = pb::RangeRequest {
            key,
            range_end: end,
            limit: PAGE,
            revision,
            ..Default::default()
        };
        let mut found = Vec::new();
        loop {
            let answer = self.range(request.clone()).await?;
            if request.revision == 0 {
                request.revision = answer.header.map_or(0, |header| header.revision);
            }
            found.extend(answer.kvs);
            let Some(last) = found.last().filter(|_| answer.more) else {
                return Ok((found, request.revision));
            };
            request.key = [&last.key[..], &[0]].concat();
        }
    }

    /// Everything as of one moment; a watch goes on from there.
    async fn load_all(&self) -> Result<(Stored, i64), StoreError> {
        let mut tries = 0;
        loop {
            match self.load_once().await {
                // Compacted while we were reading.
                Err(StoreError::Etcd { code, .. }) if code == tonic::Code::OutOfRange && tries < 10 => tries += 1,
                loaded => return loaded,
            }
        }
    }

    async fn load_once(&self) -> Result<(Stored, i64), StoreError> {
        let mut stored = Stored::default();
        let head = self.range(get(self.keys.below(layout::HEAD))).await?;
        let revision = head.header.map_or(0, |header| header.revision);
        let Seen { head, .. } = layout::head(head.kvs.first())?;
        stored.version = head.version;
        let mut writes = Vec::new();
        for part in ["directory/", "resources/", "settings/"] {
            let key = self.keys.below(part);
            let end = layout::end_of(&key);
            let (rows, _) = self.all(key, end, revision.max(1)).await?;
            for row in rows {
                let key = self.keys.rest(&row.key).unwrap_or_default();
                writes.extend(layout::write(key, Some(&row.value))?);
            }
        }
        let fingerprint = get(self.keys.below(&layout::config(&self.writer)));
        let fingerprint = self.range(fingerprint).await?.kvs.pop();
        stored.config_fingerprint = fingerprint.map(|row| String::from_utf8_lossy(&row.value).into_owned());
        if let Some(pending) = &head.pending {
            writes.extend(self.pending_writes(pending, revision).await?);
        }
        add_up(&mut stored, writes);
        Ok((stored, revision))
    }

    /// What a batch that is stored, but not yet at its place, changes in memory.
    async fn pending_writes(&self, pending: &Pending, revision: i64) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        for (key, value) in self.pieces(pending, revision).await? {
            writes.extend(layout::write(&key, value.as_deref().map(str::as_bytes))?);
        }
        Ok(writes)
    }

    async fn operation_by_id(&self, id: &str) -> Result<Option<Operation>, StoreError> {
        let id = id.to_ascii_lowercase();
        let (found, read_up_to) = {
            let known = self.known();
            let operations = &known.operations;
            (operations.by_id.get(&id).cloned(), operations.read_up_to)
        };
        if found.is_some() {
            return Ok(found);
        }
        // Another manager's, or of a former life. Of a large batch it may not be at its place yet.
        self.answers()?;
        let Seen { head, .. } = self.seen().await?;
        let pending = match &head.pending {
            Some(pending) => self.pieces(pending, 0).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let end = layout::end_of(&self.keys.below("operations/"));
        let from = self.keys.below(&layout::operation(read_up_to + 1));
        let (rows, _) = self.all(from, end, 0).await?;
        let mut known = self.known();
        for (key, value) in &pending {
            if let (Some(_), Some(value)) = (layout::number_of_operation(key), value) {
                let operation = layout::read("an operation", value.as_bytes())?;
                known.operations.add(operation);
            }
        }
        for row in rows {
            let key = self.keys.rest(&row.key).unwrap_or_default();
            if let Some(number) = layout::number_of_operation(key) {
                known.operations.add(layout::read("an operation", &row.value)?);
                known.operations.read_up_to = known.operations.read_up_to.max(number);
            }
        }
        Ok(known.operations.by_id.get(&id).cloned())
    }

    /// Refuses at once while etcd is known to be away, so that nobody waits in a queue of those who all wait for it. Whoever looks for
    /// it ([`keep_presence`], [`Store::follow`], [`Store::probe`]) says when it is back.
    fn answers(&self) -> Result<(), StoreError> {
        match &self.known().away {
            Some(problems) => Err(StoreError::Away {
                problems: problems.clone(),
                unsure: false,
            }),
            None => Ok(()),
        }
    }
}

/// Everything that the writes leave.
fn add_up(stored: &mut Stored, writes: Vec<Write>) {
    use arm::Change;
    let mut resources = BTreeMap::new();
    let mut directory = BTreeMap::new();
    for write in writes {
        match write {
            Write::Resource(Change::Put(resource)) => _ = resources.insert(resource.key(), resource),
            Write::Resource(Change::Delete(key)) => _ = resources.remove(&key),
            Write::PutSettings(key, body) => _ = stored.settings.insert(key, body),
            Write::DeleteSettings(key) => _ = stored.settings.remove(&key),
            Write::PutEntry(collection, key, body) => _ = directory.insert((collection, key), body),
            Write::DeleteEntry(collection, key) => _ = directory.remove(&(collection, key)),
            Write::Operation(_) | Write::Activity(_) | Write::ConfigFingerprint(_) => {}
        }
    }
    stored.resources = resources.into_values().collect();
    let entries = directory.into_iter();
    stored.directory = entries
        .map(|((collection, key), body)| (collection, key, body))
        .collect();
}

fn get(key: Vec<u8>) -> pb::RangeRequest {
    pb::RangeRequest {
        key,
        ..Default::default()
    }
}

fn in_words(problems: &BTreeMap<String, String>) -> String {
    let each: Vec<String> = problems
        .iter()
        .map(|(url, problem)| format!("{url}: {problem}"))
        .collect();
    each.join("; ")
}

impl Failure {
    /// `writing`: what was asked for may have been carried out all the same.
    fn into_error(self, writing: bool) -> StoreError {
        match self {
            Failure::Away {
                problems,
                may_have_arrived,
            } => StoreError::Away {
                problems: in_words(&problems),
                unsure: writing && may_have_arrived,
            },
            Failure::Refused(status) => StoreError::Etcd {
                code: status.code(),
                message: status.message().to_owned(),
            },
        }
    }
}

impl Store for EtcdStore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        async move {
            let (stored, revision) = self.load_all().await?;
            // Whoever follows already holds it, and goes on from where it is.
            if let Ok(mut following) = self.following.try_lock() {
                following.start_after(revision, stored.version);
            }
            Ok(stored)
        }
        .boxed()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.commit_batch(batch).boxed()
    }

    fn latest(&self) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        async move {
            self.answers()?;
            Ok(Some(self.seen().await?.head.version))
        }
        .boxed()
    }

    fn operation(&self, id: &str) -> BoxFuture<'_, Result<Option<Operation>, StoreError>> {
        let id = id.to_owned();
        async move { self.operation_by_id(&id).await }.boxed()
    }

    fn record(&self, events: Vec<Activity>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.record_events(events).boxed()
    }

    fn activity(&self, range: ActivityRange) -> BoxFuture<'_, Result<Vec<(i64, Value)>, StoreError>> {
        self.read_events(range).boxed()
    }

    fn forget_activity(&self, before_micros: i64) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.forget_events(before_micros).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let put = self.put(&format!("probe/{}", self.writer), String::new());
            let request = pb::TxnRequest {
                success: vec![put],
                ..Default::default()
            };
            self.txn(request).await.map(|_| ())
        }
        .boxed()
    }

    fn describe(&self) -> String {
        format!("etcd {} below {}", self.endpoints.join(", "), self.prefix)
    }

    fn follow(&self) -> BoxFuture<'_, Result<News, StoreError>> {
        self.next_news().boxed()
    }

    fn trouble(&self) -> Option<String> {
        let known = self.known();
        let away = known.away.as_ref().map(|problems| {
            StoreError::Away {
                problems: problems.clone(),
                unsure: false,
            }
            .to_string()
        });
        known.replaced.clone().or(away)
    }

    fn presence(&self) -> Vec<Presence> {
        self.known().presence.clone()
    }

    fn meet<'a>(&'a self, states: StatesNow<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let Some(place) = self.known().place.clone() else {
                return Ok(());
            };
            self.answers()?;
            place.say(states);
            EtcdStore::meet(self, &place).await
        }
        .boxed()
    }
}
