//! The instance's files in the run directory: lock, control socket, agents' address, intent.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;
use tokio::net::UnixListener;

use super::InstanceError;

/// The files, ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct RunDir {
    socket: PathBuf,
    agents: PathBuf,
    pub(super) intent: PathBuf,
    /// The kernel lets go of it when the process ends, however it ends.
    _lock: Flock<File>,
}

impl RunDir {
    /// Refuses when another process holds them.
    pub(crate) fn claim(directory: &Path, index: usize) -> Result<RunDir, InstanceError> {
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let path = lock_path(directory, index);
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(&path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| InstanceError::AlreadyRuns {
            index,
            lock: path.clone(),
        })?;
        // Who holds it, for a manager that did not start us and has to end us.
        lock.set_len(0)
            .and_then(|()| (&*lock).write_all(std::process::id().to_string().as_bytes()))
            .map_err(failed(&path))?;
        Ok(RunDir {
            socket: api::control::socket_path(directory, index),
            agents: api::control::agents_path(directory, index),
            intent: api::control::intent_path(directory, index),
            _lock: lock,
        })
    }

    /// The control socket. It replaces one that a life before has left, and nobody but us may use it from its first moment.
    pub(super) fn listen(&self) -> Result<UnixListener, InstanceError> {
        let next = self.socket.with_extension("next");
        let _ = fs::remove_file(&next);
        let listener = UnixListener::bind(&next).map_err(failed(&next))?;
        fs::set_permissions(&next, Permissions::from_mode(0o600)).map_err(failed(&next))?;
        fs::rename(&next, &self.socket).map_err(failed(&self.socket))?;
        Ok(listener)
    }

    /// Where agents reached the life before. Nobody is to be sent there until we listen again.
    pub(super) fn take_agents(&self) -> Option<SocketAddr> {
        let before = fs::read_to_string(&self.agents).ok()?;
        let before = before.trim().trim_start_matches(api::control::AGENTS_TLS).parse().ok();
        let _ = fs::remove_file(&self.agents);
        before
    }

    /// Where agents reach us, for the manager.
    pub(super) fn write_agents(&self, address: SocketAddr, is_tls: bool) -> Result<(), InstanceError> {
        let scheme = if is_tls { api::control::AGENTS_TLS } else { "" };
        let next = self.agents.with_extension("agents.next");
        fs::write(&next, format!("{scheme}{address}\n")).map_err(failed(&next))?;
        fs::rename(&next, &self.agents).map_err(failed(&self.agents))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Best effort: whoever finds a socket without a listener knows what it means.
        let _ = fs::remove_file(&self.socket);
    }
}

/// The file that a living instance holds locked and that has its process id.
pub(crate) fn lock_path(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("instance-{index}.lock"))
}

/// The process that holds instance `index`'s files, if one does and has said who it is.
pub(crate) fn holder(directory: &Path, index: usize) -> Option<Pid> {
    let file = File::open(lock_path(directory, index)).ok()?;
    // Let go of at once, if it was free. Only whoever starts instances asks, so no start is disturbed.
    let mut file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => return None,
        Err((held, _)) => held,
    };
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> InstanceError + use<> {
    let path = path.to_owned();
    move |source| InstanceError::File { path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_instance_is_refused_until_the_first_has_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = RunDir::claim(directory.path(), 0).unwrap();
        let _listener = first.listen().unwrap();
        let second = RunDir::claim(directory.path(), 0);
        assert!(matches!(second, Err(InstanceError::AlreadyRuns { index: 0, .. })));
        assert!(RunDir::claim(directory.path(), 1).is_ok());
        drop(first);
        assert!(RunDir::claim(directory.path(), 0).unwrap().listen().is_ok());
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_instance_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let socket = api::control::socket_path(directory.path(), 0);
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let claimed = RunDir::claim(directory.path(), 0).unwrap();
        let _listener = claimed.listen().unwrap();
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }
}
