//! The intent on disk: what this instance follows, so that it knows what to do when it starts and there is no manager.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use api::control::Order;

/// The intent of the life before. One that cannot be read is as good as none: the manager will send another.
pub(super) fn load(path: &Path) -> Option<Order> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the kept intent cannot be read");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(order) => Some(order),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the kept intent makes no sense");
            None
        }
    }
}

/// Replaces the file: after a crash there is the whole of one or the whole of the other. It may hold passwords of peers, so only we
/// read it.
pub(super) fn keep(path: &Path, contents: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    match path.parent() {
        // The rename itself lasts when the directory is on disk.
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use api::control::OrderRef;
    use routeserver::Intent;

    use super::*;

    #[test]
    fn what_was_kept_is_loaded_and_only_we_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance-0.intent.json");
        for version in [1, 2] {
            let intent = Intent {
                version,
                ..Intent::default()
            };
            let route_log = Some("/var/log/routes.jsonl");
            let order = OrderRef {
                intent: &intent,
                route_log,
            };
            keep(&path, &serde_json::to_vec(&order).unwrap()).unwrap();
            let loaded = load(&path).unwrap();
            assert_eq!((&loaded.intent, loaded.route_log.as_deref()), (&intent, route_log));
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn half_a_file_or_none_is_no_intent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("instance-0.intent.json");
        assert_eq!(load(&path), None);
        fs::write(&path, "{\"version\": 1").unwrap();
        assert_eq!(load(&path), None);
    }
}
