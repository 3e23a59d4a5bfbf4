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
    let died = |_| failed(path)(std::io::Error::other("the thread in the namespace died"));
    begin(path, work)?.await.map_err(died)?.map_err(failed(path))?
}

/// The same for a thread that may wait for it: that takes as long as starting a thread.
pub(crate) fn in_namespace_at_once<T, F>(namespace: Option<&Path>, work: F) -> Result<T, SocketError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SocketError> + Send + 'static,
{
    let Some(path) = namespace else { return work() };
    let died = |_| failed(path)(std::io::Error::other("the thread in the namespace died"));
    begin(path, work)?
        .blocking_recv()
        .map_err(died)?
        .map_err(failed(path))?
}

type Answered<T> = oneshot::Receiver<std::io::Result<Result<T, SocketError>>>;

fn begin<T, F>(path: &Path, work: F) -> Result<Answered<T>, SocketError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SocketError> + Send + 'static,
{
    let target = File::open(path).map_err(failed(path))?;
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
        .map_err(failed(path))?;
    Ok(answered)
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> SocketError + Copy + '_ {
    |source| SocketError::Namespace {
        path: path.to_owned(),
        source,
    }
}
