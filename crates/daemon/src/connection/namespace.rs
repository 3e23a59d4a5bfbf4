//! Work in another network namespace.
//!
//! A thread of its own enters it and ends with the work: inside a user namespace there is no way back to the host's network
//! namespace, so no thread of the runtime may ever go. A socket stays in the namespace that it was made in, whoever uses it.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::socket::SocketError;

/// Does short work in the network namespace with this path (`/run/netns/NAME`, `/proc/PID/ns/net`), or here without one.
pub async fn in_namespace<T, F>(namespace: Option<&Path>, work: F) -> Result<T, SocketError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SocketError> + Send + 'static,
{
    let Some(path) = namespace else { return work() };
    let failed = |source: std::io::Error| SocketError::Namespace {
        path: path.to_owned(),
        source,
    };
    let target = File::open(path).map_err(failed)?;
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .spawn(move || {
            let done = setns(&target, CloneFlags::CLONE_NEWNET)
                .map_err(std::io::Error::from)
                .map(|()| work());
            // The asker may have given up in the meantime.
            let _ = answer.send(done);
        })
        .map_err(failed)?;
    let done = answered
        .await
        .map_err(|_| failed(std::io::Error::other("the thread in the namespace died")))?;
    done.map_err(failed)?
}
