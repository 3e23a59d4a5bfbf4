//! The data directory: the store, and the run directory with the sockets of our processes.

use std::path::{Path, PathBuf};

use api::control::socket_path;

use super::serve::{ServeError, ServeOptions};

/// The longest path that a Unix socket may have, its terminating zero not counted (`man 7 unix`).
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// Begins the names of directories of `--dev`; the process id follows.
const DEV_PREFIX: &str = "routewright-dev-";

/// Where things are kept.
#[derive(Debug)]
pub(super) struct DataDir {
    pub(super) path: PathBuf,
    /// Removed when dropped.
    pub(super) temporary: Option<tempfile::TempDir>,
}

impl DataDir {
    pub(super) fn choose(options: &ServeOptions) -> Result<DataDir, ServeError> {
        let place = match &options.data_dir {
            Some(path) => DataDir {
                path: std::path::absolute(path).map_err(io("data directory", path))?,
                temporary: None,
            },
            None if options.dev => {
                remove_leftovers(&std::env::temp_dir());
                let temporary = tempfile::Builder::new()
                    .prefix(&format!("{DEV_PREFIX}{}-", std::process::id()))
                    .tempdir()
                    .map_err(io("temporary directory", &std::env::temp_dir()))?;
                DataDir {
                    path: temporary.path().to_owned(),
                    temporary: Some(temporary),
                }
            }
            None => return Err(ServeError::NoDataDir),
        };
        let socket = socket_path(&place.run_dir(), 0);
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(ServeError::DataDirTooLong { path: place.path });
        }
        Ok(place)
    }

    /// Makes the directories, if they are not there. Called when nothing else can refuse us, so that a refusal leaves nothing.
    pub(super) fn make(&self) -> Result<(), ServeError> {
        let run_dir = self.run_dir();
        std::fs::create_dir_all(&run_dir).map_err(io("data directory", &run_dir))?;
        // Whoever can reach the control sockets may do anything, and the store holds passwords of peers.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&run_dir, private).map_err(io("run directory", &run_dir))
    }

    pub(super) fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run_dir().join("manager.sock")
    }
}

/// Removes what `--dev` processes have left that were killed: their directories carry their process ids. One whose id belongs to
/// another process by now stays for the next time.
fn remove_leftovers(temporary: &Path) {
    use std::os::unix::fs::MetadataExt;
    let own = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(DEV_PREFIX)?.split_once('-'));
        let Some(Ok(pid)) = pid.map(|(pid, _)| pid.parse::<u32>()) else {
            continue;
        };
        let ours = entry
            .metadata()
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own);
        if ours && !Path::new("/proc").join(pid.to_string()).exists() {
            match std::fs::remove_dir_all(entry.path()) {
                Ok(()) => {
                    tracing::info!(path = %entry.path().display(), "removed what a killed --dev process has left")
                }
                Err(error) => tracing::warn!(path = %entry.path().display(), %error, "a leftover cannot be removed"),
            }
        }
    }
}

pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Io { what, path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_killed_dev_processes_are_removed_and_no_others() {
        let place = tempfile::tempdir().unwrap();
        // Above the kernel's highest process id (PID_MAX_LIMIT, 2^22).
        let dead = place.path().join("routewright-dev-4194305-abc");
        let alive = place.path().join(format!("routewright-dev-{}-abc", std::process::id()));
        let foreign = place.path().join("routewright-dev-notes");
        for directory in [&dead, &alive, &foreign] {
            std::fs::create_dir_all(directory.join("run")).unwrap();
        }
        remove_leftovers(place.path());
        assert!(!dead.exists() && alive.exists() && foreign.exists());
    }
}
