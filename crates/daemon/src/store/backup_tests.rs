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

#[test]
fn a_backup_with_one_changed_byte_is_refused_and_what_it_would_replace_stays() {
    let place = tempfile::tempdir().unwrap();
    let (from, file) = (place.path().join("from"), place.path().join("backup"));
    drop(filled(&from));
    backup(&from, &file).unwrap();
    let whole = std::fs::read(&file).unwrap();
    // In the body of a resource, and in a key.
    for word in ["\"nested\"", "secret"] {
        let at = whole.windows(word.len()).position(|bytes| bytes == word.as_bytes());
        let mut changed = whole.clone();
        changed[at.unwrap() + 2] ^= 1;
        std::fs::write(&file, changed).unwrap();
        let refused = problem(restore(&file, &from, true));
        assert!(refused.contains("digest"), "{refused}");
    }
    let stored = block_on(SqliteStore::open(&from).unwrap().load()).unwrap();
    assert_eq!((stored.version, stored.resources.len()), (1, 2));
    assert_eq!(std::fs::read_to_string(from.join("token-key.pem")).unwrap(), "secret");
}

#[test]
fn a_backup_that_no_manager_could_start_with_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let file = place.path().join("backup");
    let no_role = Write::PutEntry(Collection::RoleAssignments, "r".into(), serde_json::json!([]));
    block_on(filled(&from).commit(batch(1, vec![no_role]))).unwrap();
    backup(&from, &file).unwrap();
    let refused = problem(restore(&file, &to, false));
    assert!(refused.contains("roleAssignments r"), "{refused}");
    assert!(!to.join(sqlite::FILE_NAME).exists());
}

/// A crash after the new store has its name and before its keys are written.
#[test]
fn a_restore_that_was_cut_off_is_finished_by_whoever_opens_the_store() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let file = place.path().join("backup");
    drop(filled(&from));
    backup(&from, &file).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("token-key.pem"), "of another store").unwrap();
    std::fs::copy(&file, to.join(sqlite::FILE_NAME)).unwrap();
    drop(SqliteStore::open(&to).unwrap());
    assert_eq!(std::fs::read_to_string(to.join("token-key.pem")).unwrap(), "secret");
    // Only once: keys that are made anew later stay.
    std::fs::write(to.join("token-key.pem"), "made anew").unwrap();
    drop(SqliteStore::open(&to).unwrap());
    assert_eq!(std::fs::read_to_string(to.join("token-key.pem")).unwrap(), "made anew");
}

/// A crash after the WAL of the old store is gone and before the new one has its name; the daemon before had crashed as well.
#[test]
fn a_store_that_makes_way_keeps_what_its_wal_held() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    let store = filled(&from);
    std::fs::create_dir(&to).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{}{suffix}", sqlite::FILE_NAME);
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
    drop(store);
    super::backup::make_way(&to.join(sqlite::FILE_NAME)).unwrap();
    assert!(!to.join(format!("{}-wal", sqlite::FILE_NAME)).exists());
    let stored = block_on(SqliteStore::open(&to).unwrap().load()).unwrap();
    assert_eq!((stored.version, stored.resources.len()), (1, 2));
}
