//! What NICs have in the kernel, on its way to one instance. A newer confirmation of a NIC replaces an unsent one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::agent::Installed;
use tokio::sync::Notify;

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

    /// The next one, when there is one.
    pub(crate) async fn next(&self) -> Installed {
        loop {
            if let Some((_, installed)) = self.lock().pop_first() {
                return installed;
            }
            self.arrived.notified().await;
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
