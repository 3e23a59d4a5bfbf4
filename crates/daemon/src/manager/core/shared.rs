//! A store that other managers write to as well: what they write comes into memory here, in the order in which it was stored.
//!
//! What is in memory is a copy that is a moment behind. Whoever would refuse by it asks the store first how far it is
//! ([`Core::refreshed`]).
//!
//! A store that is older than what was made of it (another prefix, an emptied cluster, a snapshot of last week) would have instances end
//! every session that it does not know. It is *held*: nothing is written, no intent is handed out, and the health says so, until the
//! manager is started again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arm::ArmError;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::{Core, State};
use crate::store::{Batch, News, StoreError, Stored};

/// How long a write that was decided on an old view waits for the news, before it loads everything.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);
/// Before the store is asked again after it did not answer: at first, and at most.
const REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// Who only asks is not kept longer for what others may have written: longer than it takes to find out that the store is away, and then
/// nobody is kept any more.
const LOOK_PATIENCE: Duration = Duration::from_secs(15);

/// Why a store is held.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Its version.
    pub(super) found: u64,
    /// A version that it has had.
    pub(super) followed: u64,
    /// Who knows of that.
    pub(super) whose: String,
}

impl Held {
    pub(super) fn by_us(found: u64, followed: u64) -> Held {
        Held {
            found,
            followed,
            whose: "this manager".to_owned(),
        }
    }

    pub(super) fn by_instance(instance: usize, found: u64, followed: u64) -> Held {
        Held {
            found,
            followed,
            whose: format!("instance {instance}"),
        }
    }

    fn error(&self) -> StoreError {
        StoreError::WentBack {
            found: self.found,
            followed: self.followed,
            whose: self.whose.clone(),
        }
    }
}

/// Looks at how far the store is, which whoever asks meanwhile shares: many who are refused at once ask little.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    /// Begun so far.
    begun: AtomicU64,
    /// The number of the last that went well. One at a time holds it.
    last: Mutex<u64>,
}

impl Core {
    /// Takes on what others write, for ever.
    pub(crate) async fn follow(self: Arc<Core>) {
        let mut rest = REST;
        loop {
            let known = self.version();
            let taken = match self.store.follow().await {
                Ok(News::Batch(batch)) => match self.show(batch) {
                    true => Ok(()),
                    false => self.load_again().await,
                },
                Ok(News::Everything(stored)) if stored.version < known => {
                    Err(self.hold(Held::by_us(stored.version, known)))
                }
                Ok(News::Everything(stored)) => self.show_all(stored),
                Err(error) => Err(error),
            };
            match taken {
                Ok(()) => {
                    rest = REST;
                    continue;
                }
                Err(error @ StoreError::Away { .. }) => {
                    tracing::debug!(%error, "what others write is not known for the moment");
                }
                Err(error) => tracing::warn!(%error, "what others write cannot be followed"),
            }
            sleep(rest).await;
            rest = (rest * 2).min(LONGEST_REST);
        }
    }

    fn version(&self) -> u64 {
        self.read(|state| state.resources.version)
    }

    /// Looks at the state; where that refuses, once more at what others may have written meanwhile. When the store does not say, what
    /// is known here counts.
    pub(crate) async fn look<T, E>(&self, look: impl Fn(&State) -> Result<T, E>) -> Result<T, E> {
        let (seen, looked) = self.read(|state| (state.resources.version, look(state)));
        if looked.is_ok() {
            return looked;
        }
        match timeout(LOOK_PATIENCE, self.refreshed()).await {
            Ok(Ok(version)) if version > seen => self.read(look),
            _ => looked,
        }
    }

    /// Sees, for somebody who only asks, that what others have written is known here, as far as the store says.
    pub(crate) async fn look_again(&self) {
        let _: Result<(), ArmError> = self.look(|_| Err(super::internal_error())).await;
    }

    /// Waits until all that the store has at some moment after this was asked is in memory, and gives the version that is.
    pub(super) async fn refreshed(&self) -> Result<u64, StoreError> {
        let begun = self.refreshes.begun.load(Ordering::SeqCst);
        let mut last = self.refreshes.last.lock().await;
        if *last > begun {
            self.not_held()?;
            return Ok(self.version());
        }
        let number = self.refreshes.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let version = self.refreshed_now().await?;
        *last = number;
        Ok(version)
    }

    async fn refreshed_now(&self) -> Result<u64, StoreError> {
        self.not_held()?;
        let known = self.version();
        let Some(latest) = self.store.latest().await? else {
            return Ok(known);
        };
        if latest < known {
            return Err(self.hold(Held::by_us(latest, known)));
        }
        self.catch_up(latest).await?;
        Ok(self.version())
    }

    /// From now on nothing is written and no intent is handed out.
    pub(super) fn hold(&self, held: Held) -> StoreError {
        let error = held.error();
        let before = self.held.write().unwrap_or_else(PoisonError::into_inner).replace(held);
        if before.is_none() {
            tracing::error!(%error, advice = error.advice(), "the store is held");
        }
        error
    }

    /// # Errors
    ///
    /// Why the store is held.
    pub(crate) fn not_held(&self) -> Result<(), StoreError> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map_or(Ok(()), |held| Err(held.error()))
    }

    /// Shows a batch that is stored. One that is known already changes nothing; `false`: there is one missing in between.
    pub(super) fn show(&self, batch: Batch) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let known = state.resources.version;
        if batch.version <= known || self.not_held().is_err() {
            return true;
        }
        if batch.follows != known {
            return false;
        }
        for write in batch.writes {
            state.apply(write);
        }
        state.resources.version = batch.version;
        drop(state);
        self.version.send_replace(batch.version);
        true
    }

    fn show_all(&self, stored: Stored) -> Result<(), StoreError> {
        let mut loaded = State::of(stored, &self.settings)?;
        for assignment in self.granted.read().unwrap_or_else(PoisonError::into_inner).iter() {
            loaded.grant(assignment.clone());
        }
        let version = loaded.resources.version;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if version > state.resources.version && self.not_held().is_ok() {
            *state = loaded;
            drop(state);
            self.version.send_replace(version);
        }
        Ok(())
    }

    /// Waits until version `found`, which somebody else has made, is in memory.
    pub(super) async fn catch_up(&self, found: u64) -> Result<(), StoreError> {
        let mut versions = self.version.subscribe();
        let come = versions.wait_for(|version| *version >= found);
        let is_here = timeout(NEWS_PATIENCE, come).await.is_ok();
        match is_here {
            true => Ok(()),
            false => self.load_again().await,
        }
    }

    async fn load_again(&self) -> Result<(), StoreError> {
        let loaded = self.store.load().await.and_then(|stored| self.show_all(stored));
        match &loaded {
            Ok(()) | Err(StoreError::Away { .. }) => {}
            Err(error) => tracing::error!(%error, "what is stored cannot be loaded; what was known stays"),
        }
        loaded
    }
}
