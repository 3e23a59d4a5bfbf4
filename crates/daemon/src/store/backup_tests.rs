//! Backups are whole whatever happens meanwhile, and come back as they were.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backup::{Summary, backup, restore};
use super::suite::{batch, put};
use super::*;

fn filled(directory: &Path) -> SqliteStore {
    let store = SqliteStore::open(directory).unwrap();
    block_on(store.commit(batch(0, vec![put("/left", "1"), put("/right", "1")]))).unwrap();
    std::fs::write(directory.join("token-key.pem"), "secret").unwrap();
    store
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn problem(restored: Result<Summary, StoreError>) -> String {
    restored.unwrap_err().to_string()
}

#[test]
fn a_backup_taken_while_serving_comes_back_with_its_keys() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let file = place.path().join("backup");
    let store = filled(&from);
    let summary = backup(&from, &file).unwrap();
    assert_eq!(
        summary,
        Summary {
            version: 1,
            resources: 2,
            files: 1
        }
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // What is written afterwards is not in it.
    block_on(store.commit(batch(1, vec![put("/later", "1")]))).unwrap();
    assert_eq!(restore(&file, &to, false).unwrap(), summary);
    let stored = block_on(SqliteStore::open(&to).unwrap().load()).unwrap();
    assert_eq!((stored.version, stored.resources.len()), (1, 2));
    assert_eq!(std::fs::read_to_string(to.join("token-key.pem")).unwrap(), "secret");
    assert!(!place.path().join("backup.part").exists());
}

/// Every batch of the writer changes both; a backup that is of no one moment would hold two versions.
#[test]
fn a_backup_is_of_one_moment_however_fast_others_write() {
    let place = tempfile::tempdir().unwrap();
    let store = filled(&place.path().join("from"));
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut version = 1;
            while !ended.load(Ordering::SeqCst) {
                let etag = (version + 1).to_string();
                block_on(store.commit(batch(version, vec![put("/left", &etag), put("/right", &etag)]))).unwrap();
                version += 1;
            }
        });
        let mut last = 0;
        for round in 0..10 {
            let file = place.path().join(format!("backup-{round}"));
            backup(&place.path().join("from"), &file).unwrap();
            let to = place.path().join(format!("to-{round}"));
            restore(&file, &to, false).unwrap();
            let stored = block_on(SqliteStore::open(&to).unwrap().load()).unwrap();
            let version = stored.version.to_string();
            assert!(
                stored.resources.iter().all(|resource| resource.etag == version),
                "{stored:?}"
            );
            assert!(stored.version >= last);
            last = stored.version;
        }
        ended.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_directory_that_is_served_or_keeps_something_is_not_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let (from, file) = (place.path().join("from"), place.path().join("backup"));
    let store = filled(&from);
    backup(&from, &file).unwrap();
    assert!(
        backup(&from, &file).is_err(),
        "a backup that is there is not overwritten"
    );
    let refused = problem(restore(&file, &from, true));
    assert!(refused.contains("is used by another routewright serve"), "{refused}");
    block_on(store.commit(batch(1, vec![put("/later", "1")]))).unwrap();
    drop(store);
    let refused = problem(restore(&file, &from, false));
    assert!(refused.contains("--replace"), "{refused}");
    restore(&file, &from, true).unwrap();
    let stored = block_on(SqliteStore::open(&from).unwrap().load()).unwrap();
    assert_eq!((stored.version, stored.resources.len()), (1, 2));
}

#[test]
fn what_is_no_whole_backup_of_ours_is_refused_and_leaves_the_directory_alone() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let file = place.path().join("backup");
    drop(filled(&from));
    backup(&from, &file).unwrap();
    let refused_with = |words: &str| {
        let refused = problem(restore(&file, &to, false));
        assert!(refused.contains(words), "{refused}");
        assert!(!to.join(sqlite::FILE_NAME).exists());
    };
    let whole = std::fs::read(&file).unwrap();

    rusqlite::Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    refused_with("use the release that wrote it");

    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let refused = problem(restore(&file, &to, false));
    assert!(!to.join(sqlite::FILE_NAME).exists(), "{refused}");

    std::fs::write(
        &file,
        "no database at all, but some text that is long enough to look like one",
    )
    .unwrap();
    refused_with("of another program");

    std::fs::copy(from.join(sqlite::FILE_NAME), &file).unwrap();
    refused_with("no backup");

    std::fs::remove_file(&file).unwrap();
    refused_with("No such file");
    assert!(problem(backup(&place.path().join("nowhere"), &file)).contains("No such file"));
}
