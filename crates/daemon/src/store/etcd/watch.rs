//! Following what others write: a watch over the whole prefix, from the revision that was loaded.
//!
//! etcd tells whole revisions, so what one transaction did comes in one piece. A revision in which the head has a new version is a batch;
//! all else (events of the activity log, pieces that are laid down or carried to their places) changes nothing in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::{Asking, Failure, max_message};
use super::layout::{self, HEAD, Head};
use super::pb::watch_client::WatchClient;
use super::pb::watch_request::RequestUnion;
use super::pb::{self, event::EventType};
use super::{EtcdStore, PATIENCE};
use crate::store::{Batch, News, StoreError, Write};

/// Before a watch that has ended is begun again.
const REST: Duration = Duration::from_millis(200);

/// Where the watch is.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Nothing is missing up to this revision; 0: nothing was loaded yet.
    revision: i64,
    /// The version then.
    version: u64,
    stream: Option<Open>,
    /// Batches that came and were not asked for yet.
    waiting: VecDeque<Batch>,
}

#[derive(Debug)]
struct Open {
    answers: Streaming<pb::WatchResponse>,
    /// The watch ends with it.
    _questions: mpsc::Sender<pb::WatchRequest>,
}

impl Following {
    /// What was loaded as of a revision is known. A watch that goes on already is left alone.
    pub(super) fn start_after(&mut self, revision: i64, version: u64) {
        if self.revision == 0 {
            (self.revision, self.version) = (revision, version);
        }
    }
}

/// What a message of the watch means.
enum Told {
    Nothing,
    Events(Vec<pb::Event>),
    /// What lies between is forgotten.
    Compacted,
    Ended(String),
}

impl EtcdStore {
    pub(super) async fn next_news(&self) -> Result<News, StoreError> {
        let mut following = self.following.lock().await;
        loop {
            if let Some(batch) = following.waiting.pop_front() {
                return Ok(News::Batch(batch));
            }
            if following.revision == 0 {
                return self.everything(&mut following).await;
            }
            let Some(open) = &mut following.stream else {
                let open = self.open(following.revision + 1).await;
                let open = self.noted(open).map_err(|failure| failure.into_error(false))?;
                following.stream = Some(open);
                continue;
            };
            match told(open.answers.message().await) {
                Told::Nothing => {}
                Told::Events(events) => {
                    if let Err(error) = self.take(&mut following, events).await {
                        tracing::warn!(%error, "what others wrote cannot be followed; loading everything");
                        following.stream = None;
                        return self.everything(&mut following).await;
                    }
                }
                Told::Compacted => {
                    tracing::info!("etcd has forgotten what lies between; loading everything");
                    following.stream = None;
                    return self.everything(&mut following).await;
                }
                Told::Ended(problem) => {
                    tracing::info!(problem, "the watch has ended, beginning again");
                    following.stream = None;
                    sleep(REST).await;
                }
            }
        }
    }

    async fn everything(&self, following: &mut Following) -> Result<News, StoreError> {
        let (stored, revision) = self.load_all().await?;
        (following.revision, following.version) = (revision, stored.version);
        following.waiting.clear();
        Ok(News::Everything(stored))
    }

    async fn open(&self, from: i64) -> Result<Open, Failure> {
        let (key, range_end) = self.keys.all();
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: from,
            progress_notify: true,
        };
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.client
            .call(PATIENCE, |asking| begin(asking, request.clone()))
            .await
    }

    /// Makes batches of events. A revision's events come together.
    async fn take(&self, following: &mut Following, events: Vec<pb::Event>) -> Result<(), StoreError> {
        let mut revisions: BTreeMap<i64, Vec<(pb::KeyValue, bool)>> = BTreeMap::new();
        for event in events {
            let is_put = event.r#type() == EventType::Put;
            if let Some(row) = event.kv {
                revisions.entry(row.mod_revision).or_default().push((row, is_put));
            }
        }
        for (revision, rows) in revisions {
            if revision <= following.revision {
                continue;
            }
            if let Some(batch) = self.batch(following.version, revision, &rows).await? {
                following.version = batch.version;
                following.waiting.push_back(batch);
            }
            following.revision = revision;
        }
        Ok(())
    }

    async fn batch(
        &self,
        follows: u64,
        revision: i64,
        rows: &[(pb::KeyValue, bool)],
    ) -> Result<Option<Batch>, StoreError> {
        let is_head = |(row, _): &&(pb::KeyValue, bool)| self.keys.rest(&row.key) == Some(HEAD);
        let Some((head, is_put)) = rows.iter().find(is_head) else {
            return Ok(None);
        };
        if !is_put {
            // Somebody has emptied the store by hand. What is in memory and at work stays until something is written.
            return Err(StoreError::Corrupt {
                what: "the head".to_owned(),
                problem: "it was deleted".to_owned(),
            });
        }
        let Head { version, pending, .. } = layout::head(Some(head))?.head;
        if version <= follows {
            return Ok(None);
        }
        let writes = match &pending {
            Some(pending) => self.pending_writes(pending, revision).await?,
            None => self.writes_of(rows)?,
        };
        Ok(Some(Batch {
            version,
            follows,
            writes,
        }))
    }

    fn writes_of(&self, rows: &[(pb::KeyValue, bool)]) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        for (row, is_put) in rows {
            let Some(key) = self.keys.rest(&row.key) else {
                continue;
            };
            let value = is_put.then_some(row.value.as_slice());
            writes.extend(layout::write(key, value)?);
        }
        Ok(writes)
    }
}

async fn begin(asking: Asking, request: pb::WatchRequest) -> Result<Open, tonic::Status> {
    let (questions, asked) = mpsc::channel(1);
    let closed = |_| tonic::Status::unavailable("the watch cannot be begun");
    questions.send(request).await.map_err(closed)?;
    let mut client = WatchClient::new(asking.channel.clone()).max_decoding_message_size(max_message());
    let answers = client.watch(asking.request(ReceiverStream::new(asked))).await?;
    Ok(Open {
        answers: answers.into_inner(),
        _questions: questions,
    })
}

fn told(message: Result<Option<pb::WatchResponse>, tonic::Status>) -> Told {
    match message {
        Ok(Some(answer)) if answer.compact_revision > 0 => Told::Compacted,
        Ok(Some(answer)) if answer.canceled => Told::Ended(answer.cancel_reason),
        Ok(Some(answer)) if answer.events.is_empty() => Told::Nothing,
        Ok(Some(answer)) => Told::Events(answer.events),
        Ok(None) => Told::Ended("etcd has ended it".to_owned()),
        Err(status) => Told::Ended(status.message().to_owned()),
    }
}
