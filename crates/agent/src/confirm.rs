//! What NICs have in the kernel, on its way to one instance. A newer confirmation of a NIC replaces an unsent one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::agent::Installed;
use tokio::sync::Notify;
use tokio::time::sleep;

/// What NICs do they do together, and as long as some are still at it the processors are better with them than with words about it. What is
/// said together costs the instance one turn.
const GATHER: Duration = Duration::from_millis(20);

/// Unsent confirmations, one per NIC at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confirmations {
    unsent: Arc<Mutex<BTreeMap<String, Installed>>>,
    arrived: Arc<Notify>,
}

impl Confirmations {
    /// Leaves a confirmation to be sent.
    pub(crate) fn put(&self, installed: Installed) {
        self.lock().insert(installed.nic.clone(), installed);
        self.arrived.notify_one();
    }

    /// The next one, when there is one; the first of many a moment later.
    pub(crate) async fn next(&self) -> Installed {
        loop {
            if let Some((_, installed)) = self.lock().pop_first() {
                return installed;
            }
            self.arrived.notified().await;
            sleep(GATHER).await;
        }
    }

    /// Forgets what was meant for a stream that has ended.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Installed>> {
        self.unsent.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
