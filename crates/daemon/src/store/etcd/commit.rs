//! Writing: one transaction that compares the head and replaces it.
//!
//! A batch that is too large for a transaction is first laid down in pieces that mean nothing (`staged/`). The transaction that makes
//! its version only names them in the head; whoever loads or follows counts them in. Then, and before anything else is written, the
//! pieces are carried to their places, by the writer or, if it has died, by the next one. So a batch of any size is there or not.

use super::layout::{self, Counted, HEAD, Head, MAX_OPS, MAX_TXN_BYTES, Orders, Pending, Seen};
use super::pb::{self, compare, request_op, response_op};
use super::{EtcdStore, get};
use crate::store::{Batch, MAX_OPERATIONS, StoreError, Write};

/// How often a write is tried again because others have written in between, without making a version.
const MAX_TRIES: usize = 50;

/// Pieces of one batch: each is compared by the transaction that makes it true.
const MAX_PIECES: usize = 100;
/// Values are escaped once more in a piece, which doubles them at worst.
const MAX_PIECE_BYTES: usize = MAX_TXN_BYTES / 2;
/// A batch that is not laid down in this time never will be.
const STAGING_SECS: u64 = 600;

/// A piece of a staged batch: keys below the prefix with their values.
type Piece = Vec<(String, Option<String>)>;

/// What a write does beside replacing the head.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) head: Head,
    pub(super) orders: Orders,
    /// Keys that go, below the prefix: from, to (not included).
    pub(super) cleared: Vec<(String, String)>,
}

impl EtcdStore {
    pub(super) async fn commit_batch(&self, batch: Batch) -> Result<(), StoreError> {
        self.answers()?;
        let written = self
            .write(|head| {
                if head.version != batch.follows || batch.version <= head.version {
                    return Err(StoreError::Conflict {
                        found: head.version,
                        follows: batch.follows,
                    });
                }
                let (orders, counted) = layout::orders(head, &self.writer, &batch.writes)?;
                Ok(self.plan(head, Some(batch.version), orders, counted))
            })
            .await?;
        // Whoever asks how it went is answered also without etcd.
        for write in batch.writes {
            if let Write::Operation(operation) = write {
                self.known().operations.add(operation);
            }
        }
        self.trimmed(&written).await;
        Ok(())
    }

    pub(super) fn plan(&self, head: &Head, version: Option<u64>, orders: Orders, counted: Counted) -> Plan {
        let mut next = counted.added_to(head);
        next.version = version.unwrap_or(head.version);
        let mut cleared = Vec::new();
        if counted.operations > 0
            && let Some(kept_from) = (next.operations + 1).checked_sub(MAX_OPERATIONS)
        {
            // What this batch itself brings is not in the range, since etcd refuses to do two things to a key.
            let kept_from = kept_from.min(head.operations + 1);
            cleared.push((layout::operation(0), layout::operation(kept_from)));
        }
        Plan {
            head: next,
            orders,
            cleared,
        }
    }

    /// Makes a plan on the head as it is and carries it out, and again when somebody else has written meanwhile. Gives the head
    /// that it leaves.
    pub(super) async fn write(&self, plan: impl Fn(&Head) -> Result<Plan, StoreError>) -> Result<Head, StoreError> {
        let _turn = self.turn.lock().await;
        if let Some(problem) = self.known().replaced.clone() {
            return Err(StoreError::Replaced(problem));
        }
        // Begins with the time, so that what a dead writer has left can be told from what is being laid down.
        let id = format!("{:012}-{}", now_secs(), uuid::Uuid::new_v4());
        // Read through a quorum, so that an etcd without one refuses before anything is sent.
        let mut seen = self.seen().await?;
        for _ in 0..MAX_TRIES {
            if seen.head.pending.is_some() {
                self.carry_to_its_places(&seen).await?;
                seen = self.seen().await?;
                continue;
            }
            let mut plan = plan(&seen.head)?;
            plan.head.last.insert(self.writer.clone(), id.clone());
            let Some(staged) = self.stage_if_large(&seen, &mut plan, &id).await? else {
                seen = self.seen().await?;
                continue;
            };
            match self.replace(&seen, &plan, staged).await? {
                Ok(revision) => {
                    let head = plan.head.clone();
                    if head.pending.is_some() {
                        let seen = Seen { head, revision };
                        // It is true already; whoever writes next does this if we cannot.
                        if let Err(error) = self.carry_to_its_places(&seen).await {
                            tracing::warn!(%error, "a large batch is stored, but not at its place yet");
                        }
                    }
                    return Ok(plan.head);
                }
                // The answer to an earlier try was lost: it was carried out.
                Err(found) if found.head.last.get(&self.writer) == Some(&id) => return Ok(found.head),
                Err(found) => seen = found,
            }
        }
        Err(StoreError::Busy)
    }

    /// The head, as a quorum knows it.
    pub(super) async fn seen(&self) -> Result<Seen, StoreError> {
        let answer = self.range(get(self.keys.below(HEAD))).await?;
        layout::head(answer.kvs.first())
    }

    /// Carries out a plan if the head is still as it was seen, and gives the new head's revision; else the head that is there.
    pub(super) async fn replace(
        &self,
        seen: &Seen,
        plan: &Plan,
        staged: usize,
    ) -> Result<Result<i64, Seen>, StoreError> {
        let mut compare = vec![self.unchanged(seen)];
        let mut success = Vec::new();
        match &plan.head.pending {
            // Nobody has tidied the pieces away.
            Some(pending) => {
                compare.extend((0..staged).map(|piece| self.is_there(&layout::staged(&pending.batch, piece))))
            }
            None => success.extend(plan.orders.iter().map(|(key, value)| self.order(key, value.clone()))),
        }
        success.extend(plan.cleared.iter().map(|(from, to)| self.clear(from, to)));
        let head = serde_json::to_string(&plan.head).map_err(|error| corrupt(&error))?;
        success.push(self.put(HEAD, head));
        let request = pb::TxnRequest {
            compare,
            success,
            failure: vec![pb::RequestOp {
                request: Some(request_op::Request::RequestRange(get(self.keys.below(HEAD)))),
            }],
        };
        let answer = self.txn(request).await?;
        if answer.succeeded {
            return Ok(Ok(answer.header.map_or(0, |header| header.revision)));
        }
        let found = answer
            .responses
            .into_iter()
            .find_map(|response| match response.response {
                Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
        layout::head(found.as_ref()).map(Err)
    }

    /// Lays down what is too large for one transaction; the plan then only names it. Gives the number of pieces; `None`: somebody
    /// else has written meanwhile.
    pub(super) async fn stage_if_large(
        &self,
        seen: &Seen,
        plan: &mut Plan,
        batch: &str,
    ) -> Result<Option<usize>, StoreError> {
        let bytes: usize = plan.orders.iter().map(size).sum();
        if plan.orders.len() <= MAX_OPS && bytes <= MAX_TXN_BYTES {
            return Ok(Some(0));
        }
        let pieces = pieces(std::mem::take(&mut plan.orders), usize::MAX, MAX_PIECE_BYTES);
        if pieces.len() > MAX_PIECES {
            return Err(StoreError::TooLarge {
                what: "the whole change".to_owned(),
                bytes,
                most: MAX_PIECES * MAX_PIECE_BYTES,
            });
        }
        // What dead writers left that never became true: as the head is, it names none of it.
        let old = format!("staged/{:012}", now_secs().saturating_sub(STAGING_SECS));
        let tidied = self.txn(pb::TxnRequest {
            compare: vec![self.unchanged(seen)],
            success: vec![self.clear("staged/", &old)],
            ..Default::default()
        });
        if !tidied.await?.succeeded {
            return Ok(None);
        }
        for (number, piece) in pieces.iter().enumerate() {
            let text = serde_json::to_string(piece).map_err(|error| corrupt(&error))?;
            let put = self.put(&layout::staged(batch, number), text);
            self.txn(pb::TxnRequest {
                success: vec![put],
                ..Default::default()
            })
            .await?;
        }
        plan.head.pending = Some(Pending {
            batch: batch.to_owned(),
            pieces: pieces.len(),
        });
        Ok(Some(pieces.len()))
    }

    /// All pieces of a staged batch, as of a revision.
    pub(super) async fn pieces(&self, pending: &Pending, revision: i64) -> Result<Piece, StoreError> {
        let mut all = Vec::new();
        for number in 0..pending.pieces {
            let request = pb::RangeRequest {
                revision,
                ..get(self.keys.below(&layout::staged(&pending.batch, number)))
            };
            let Some(row) = self.range(request).await?.kvs.pop() else {
                return Err(StoreError::Corrupt {
                    what: format!("the batch {}", pending.batch),
                    problem: format!("piece {number} of {} is missing", pending.pieces),
                });
            };
            all.extend(layout::read::<Piece>("a staged batch", &row.value)?);
        }
        Ok(all)
    }

    /// Puts what a pending batch holds where it belongs, as long as nobody else has done so.
    async fn carry_to_its_places(&self, seen: &Seen) -> Result<(), StoreError> {
        let Some(pending) = &seen.head.pending else {
            return Ok(());
        };
        let orders = match self.pieces(pending, 0).await {
            Ok(orders) => orders.into_iter().collect(),
            // Somebody else has done it.
            Err(_) if self.seen().await?.revision != seen.revision => return Ok(()),
            Err(error) => return Err(error),
        };
        for piece in pieces(orders, MAX_OPS, MAX_TXN_BYTES) {
            let success = piece.into_iter().map(|(key, value)| self.order(&key, value)).collect();
            let request = pb::TxnRequest {
                compare: vec![self.unchanged(seen)],
                success,
                ..Default::default()
            };
            if !self.txn(request).await?.succeeded {
                return Ok(());
            }
        }
        let mut head = seen.head.clone();
        head.pending = None;
        let prefix = format!("staged/{}/", pending.batch);
        let cleared = vec![(prefix.clone(), format!("{prefix}~"))];
        let plan = Plan {
            head,
            cleared,
            ..Plan::default()
        };
        self.replace(seen, &plan, 0).await.map(|_| ())
    }

    fn unchanged(&self, seen: &Seen) -> pb::Compare {
        pb::Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: self.keys.below(HEAD),
            target_union: Some(compare::TargetUnion::ModRevision(seen.revision)),
        }
    }

    fn is_there(&self, key: &str) -> pb::Compare {
        pb::Compare {
            result: compare::CompareResult::Greater.into(),
            target: compare::CompareTarget::Create.into(),
            key: self.keys.below(key),
            target_union: Some(compare::TargetUnion::CreateRevision(0)),
        }
    }

    pub(super) fn put(&self, key: &str, value: String) -> pb::RequestOp {
        self.order(key, Some(value))
    }

    fn order(&self, key: &str, value: Option<String>) -> pb::RequestOp {
        let key = self.keys.below(key);
        let request = match value {
            Some(value) => request_op::Request::RequestPut(pb::PutRequest {
                key,
                value: value.into_bytes(),
                lease: 0,
            }),
            None => request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key,
                range_end: Vec::new(),
            }),
        };
        pb::RequestOp { request: Some(request) }
    }

    fn clear(&self, from: &str, to: &str) -> pb::RequestOp {
        let request = pb::DeleteRangeRequest {
            key: self.keys.below(from),
            range_end: self.keys.below(to),
        };
        pb::RequestOp {
            request: Some(request_op::Request::RequestDeleteRange(request)),
        }
    }
}

fn now_secs() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

fn size((key, value): (&String, &Option<String>)) -> usize {
    key.len() + value.as_ref().map_or(0, String::len)
}

/// In order, each with at most so many keys and bytes (one that is larger alone).
fn pieces(orders: Orders, most: usize, most_bytes: usize) -> Vec<Piece> {
    let mut pieces = vec![Piece::new()];
    let mut bytes = 0;
    for (key, value) in orders {
        let size = size((&key, &value));
        let is_full = |piece: &Piece| !piece.is_empty() && (piece.len() == most || bytes + size > most_bytes);
        if pieces.last().is_some_and(is_full) {
            pieces.push(Piece::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(piece) = pieces.last_mut() {
            piece.push((key, value));
        }
    }
    pieces
}

fn corrupt(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        what: "what is to be written".to_owned(),
        problem: error.to_string(),
    }
}
