//! What long-running verbs share: a runtime and a log on stderr.

use std::future::Future;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// How long what still runs may go on when all else has ended.
const LAST: Duration = Duration::from_millis(500);

/// Runs a future on a multi-threaded runtime.
pub(crate) fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(crate::memory::before_sleep)
        .build()
        .context("the asynchronous runtime does not start")?;
    let output = runtime.block_on(future);
    // What blocks, a write to a disk that hangs for example, must not keep a process that was told to leave.
    runtime.shutdown_timeout(LAST);
    Ok(output)
}

/// Logs to stderr: `info` and above unless `RUST_LOG` says otherwise; colours only for people.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .finish();
    // A second call (in tests) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
