//! A store that other managers write to as well: what they write comes into memory here, in the order in which it was stored.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Core, State};
use crate::store::{Batch, News, StoreError, Stored};

/// How long a write that was decided on an old view waits for the news, before it loads everything.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);
/// Before the store is asked again after it did not answer: at first, and at most.
const REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(2);

impl Core {
    /// Takes on what others write, for ever.
    pub(crate) async fn follow(self: Arc<Core>) {
        let mut rest = REST;
        loop {
            match self.store.follow().await {
                Ok(News::Batch(batch)) => {
                    rest = REST;
                    if !self.show(batch) {
                        self.load_again().await;
                    }
                }
                Ok(News::Everything(stored)) => {
                    rest = REST;
                    self.show_all(stored);
                }
                Err(error) => {
                    tracing::debug!(%error, "what others write is not known for the moment");
                    sleep(rest).await;
                    rest = (rest * 2).min(LONGEST_REST);
                }
            }
        }
    }

    /// Shows a batch that is stored. One that is known already changes nothing; `false`: there is one missing in between.
    pub(super) fn show(&self, batch: Batch) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let known = state.resources.version;
        if batch.version <= known {
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

    fn show_all(&self, stored: Stored) {
        let mut loaded = match State::of(stored, &self.settings) {
            Ok(loaded) => loaded,
            Err(error) => return tracing::error!(%error, "what is stored cannot be read; what was known stays"),
        };
        for assignment in self.granted.read().unwrap_or_else(PoisonError::into_inner).iter() {
            loaded.grant(assignment.clone());
        }
        let version = loaded.resources.version;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if version <= state.resources.version {
            return;
        }
        *state = loaded;
        drop(state);
        self.version.send_replace(version);
    }

    /// Waits until version `found`, which somebody else has made, is in memory.
    pub(super) async fn catch_up(&self, found: u64) {
        let mut versions = self.version.subscribe();
        let come = versions.wait_for(|version| *version >= found);
        if timeout(NEWS_PATIENCE, come).await.is_err() {
            self.load_again().await;
        }
    }

    async fn load_again(&self) {
        match self.store.load().await {
            Ok(stored) => self.show_all(stored),
            Err(error @ StoreError::Away { .. }) => tracing::debug!(%error, "nothing can be loaded for the moment"),
            Err(error) => tracing::error!(%error, "what is stored cannot be loaded"),
        }
    }
}
