//! What the service manager that started us is told (systemd's `sd_notify` protocol), if one did.

use std::sync::Once;
use std::time::Duration;

use sd_notify::NotifyState;

/// All that was asked for is there. From now on the watchdog, where there is one, hears of us as long as this runtime works.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn ready() {
    tell(NotifyState::Ready);
    if let Some(patience) = sd_notify::watchdog_enabled() {
        tokio::spawn(show_life(patience / 2));
    }
}

/// We end, because we were asked to.
pub fn leaving() {
    tell(NotifyState::Stopping);
}

async fn show_life(every: Duration) {
    let mut beat = tokio::time::interval(every);
    loop {
        beat.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    /// Nobody is deaf and hears again: one word of it is enough, however long the watchdog's beat goes on.
    static TOLD: Once = Once::new();
    if let Err(error) = sd_notify::notify(&[state]) {
        TOLD.call_once(|| tracing::warn!(%error, "the service manager cannot be told how we are (NOTIFY_SOCKET)"));
    }
}
