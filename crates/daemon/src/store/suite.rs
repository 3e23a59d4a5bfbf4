//! What every store must do, whatever it is made of; and what only the embedded one promises.
#![allow(clippy::unwrap_used)]

use arm::{Change, Resource};
use serde_json::json;

use super::*;

/// Runs the suite on fresh stores made by `open`.
async fn every_promise_holds<S: Store, F: Fn() -> S>(open: F) {
    a_fresh_store_is_empty(&open()).await;
    what_was_committed_comes_back(&open()).await;
    a_refused_batch_leaves_nothing(&open()).await;
    old_operations_are_forgotten(&open()).await;
    activity_is_read_latest_first_and_forgotten_when_old(&open()).await;
    refusals_push_out_no_writes(&open()).await;
}

async fn a_fresh_store_is_empty(store: &impl Store) {
    assert_eq!(store.load().await.unwrap(), Stored::default());
    assert_eq!(store.operation("none").await.unwrap(), None);
}

async fn what_was_committed_comes_back(store: &impl Store) {
    let operation = operation("op-1");
    store
        .commit(batch(
            0,
            vec![
                put("/A", "1"),
                put("/b", "1"),
                Write::PutSettings("/a".into(), json!({"md5": "x"})),
                Write::PutSettings("/b".into(), json!({})),
                Write::PutEntry(Collection::ServicePrincipals, "c1".into(), json!({"n": 1})),
                Write::PutEntry(Collection::ServicePrincipals, "c2".into(), json!({"n": 1})),
                Write::Operation(operation.clone()),
                Write::ConfigFingerprint("f1".into()),
            ],
        ))
        .await
        .unwrap();
    store
        .commit(batch(
            1,
            vec![
                put("/a", "2"),
                Write::Resource(Change::Delete("/b".into())),
                Write::DeleteSettings("/b".into()),
                Write::PutEntry(Collection::ServicePrincipals, "c1".into(), json!({"n": 2})),
                Write::DeleteEntry(Collection::ServicePrincipals, "c2".into()),
            ],
        ))
        .await
        .unwrap();
    let stored = store.load().await.unwrap();
    assert_eq!(stored.version, 2);
    assert_eq!(stored.resources, vec![resource("/a", "2")]);
    assert_eq!(
        stored.settings,
        BTreeMap::from([("/a".to_owned(), json!({"md5": "x"}))])
    );
    assert_eq!(
        stored.directory,
        vec![(Collection::ServicePrincipals, "c1".to_owned(), json!({"n": 2}))]
    );
    assert_eq!(stored.config_fingerprint.as_deref(), Some("f1"));
    assert_eq!(store.operation("OP-1").await.unwrap(), Some(operation));
}

async fn a_refused_batch_leaves_nothing(store: &impl Store) {
    store.commit(batch(0, vec![put("/a", "1")])).await.unwrap();
    let refused = store.commit(batch(0, vec![put("/b", "1")])).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { found: 1, follows: 0 })),
        "{refused:?}"
    );
    let stored = store.load().await.unwrap();
    assert_eq!(stored.version, 1);
    assert_eq!(stored.resources, vec![resource("/a", "1")]);
}

async fn activity_is_read_latest_first_and_forgotten_when_old(store: &impl Store) {
    let event = |at_micros, name: &str| Activity {
        at_micros,
        subscription: "s".to_owned(),
        is_refusal: false,
        body: json!(name),
    };
    let batch_with_one = batch(0, vec![put("/a", "1"), Write::Activity(event(10, "first"))]);
    store.commit(batch_with_one).await.unwrap();
    store
        .record(vec![event(20, "second"), event(30, "third")])
        .await
        .unwrap();
    assert_eq!(store.load().await.unwrap().version, 1);
    let read = async |from_micros, to_micros, before, limit| -> Vec<(i64, Value)> {
        let subscription = "s".to_owned();
        let range = ActivityRange {
            subscription,
            from_micros,
            to_micros,
            before,
            limit,
        };
        store.activity(range).await.unwrap()
    };
    let third_and_second = vec![(3, json!("third")), (2, json!("second"))];
    assert_eq!(read(15, 30, None, 10).await, third_and_second);
    assert_eq!(read(0, 99, None, 2).await, third_and_second);
    assert_eq!(read(0, 99, Some(2), 2).await, vec![(1, json!("first"))]);
    assert_eq!(store.forget_activity(20).await.unwrap(), 1);
    assert_eq!(read(0, 99, None, 10).await, third_and_second);
}

async fn refusals_push_out_no_writes(store: &impl Store) {
    let event = |at_micros, is_refusal| Activity {
        at_micros,
        subscription: "s".to_owned(),
        is_refusal,
        body: json!(at_micros),
    };
    store.record(vec![event(0, false)]).await.unwrap();
    let refusals = i64::try_from(MAX_REFUSALS).unwrap() + 2;
    store
        .record((1..=refusals).map(|at| event(at, true)).collect())
        .await
        .unwrap();
    let earliest = async |to_micros| {
        let range = ActivityRange {
            subscription: "s".to_owned(),
            from_micros: 0,
            to_micros,
            before: None,
            limit: 10,
        };
        store.activity(range).await.unwrap()
    };
    assert_eq!(earliest(3).await, vec![(4, json!(3)), (1, json!(0))]);
    // What was forgotten for its age makes room again.
    assert_eq!(store.forget_activity(10).await.unwrap(), 8);
    store.record((1..=7).map(|at| event(at, true)).collect()).await.unwrap();
    assert_eq!(earliest(10).await.len(), 8);
}

async fn old_operations_are_forgotten(store: &impl Store) {
    let many = (0..MAX_OPERATIONS + 5).map(|n| Write::Operation(operation(&format!("op-{n}"))));
    store.commit(batch(0, many.collect())).await.unwrap();
    assert_eq!(store.operation("op-4").await.unwrap(), None);
    assert!(store.operation("op-5").await.unwrap().is_some());
    assert!(store.operation("op-10004").await.unwrap().is_some());
}

#[tokio::test]
async fn sqlite_keeps_every_promise() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    every_promise_holds(|| {
        count.set(count.get() + 1);
        SqliteStore::open(&directory.path().join(count.get().to_string())).unwrap()
    })
    .await;
}

/// Three members, as in earnest.
#[tokio::test]
async fn etcd_keeps_every_promise() {
    let Some(cluster) = etcd::tests::cluster(3) else {
        return;
    };
    let count = std::cell::Cell::new(0);
    every_promise_holds(|| {
        count.set(count.get() + 1);
        etcd::tests::store(&cluster, &format!("/suite-{}/", count.get()), "0")
    })
    .await;
}

#[tokio::test]
async fn a_closed_store_opens_again_with_everything() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    store.commit(batch(0, vec![put("/a", "1")])).await.unwrap();
    drop(store);
    let store = SqliteStore::open(directory.path()).unwrap();
    assert_eq!(store.load().await.unwrap().resources, vec![resource("/a", "1")]);
}

#[test]
fn nothing_in_the_activity_log_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(directory.path()).unwrap());
    let connection = rusqlite::Connection::open(directory.path().join(sqlite::FILE_NAME)).unwrap();
    connection
        .execute(
            "INSERT INTO activity (at, subscription, body) VALUES (1, 's', '{}')",
            [],
        )
        .unwrap();
    for change in [
        "UPDATE activity SET body = 'x'",
        "INSERT OR REPLACE INTO activity (sequence, at, subscription, body) VALUES (1, 1, 's', 'x')",
        "INSERT INTO activity (sequence, at, subscription, body) VALUES (1, 1, 's', 'x')
         ON CONFLICT DO UPDATE SET body = 'x'",
    ] {
        let refused = connection.execute(change, []).unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{refused}");
    }
}

#[test]
fn a_page_of_the_activity_log_is_found_without_sorting() {
    let directory = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(directory.path()).unwrap());
    let connection = rusqlite::Connection::open(directory.path().join(sqlite::FILE_NAME)).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", activity::READ);
    let mut plan = connection.prepare(&sql).unwrap();
    let steps = plan
        .query_map(rusqlite::params!["s", 0, 9, 9, 9], |row| row.get::<_, String>(3))
        .unwrap();
    let steps: Vec<String> = steps.map(Result::unwrap).collect();
    let [step] = &steps[..] else { panic!("{steps:?}") };
    assert!(
        step.contains("activity_by_subscription (subscription=? AND sequence<?)"),
        "{step}"
    );
}

/// The reader stands still in the middle of a page.
#[test]
fn whoever_reads_the_activity_log_holds_up_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    let page = store.hold_reading_for_test();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let committed = async {
        let commit = store.commit(batch(0, vec![put("/a", "1")]));
        tokio::time::timeout(std::time::Duration::from_secs(180), commit).await
    };
    let committed = runtime.enable_time().build().unwrap().block_on(committed);
    committed.unwrap().unwrap();
    drop(page);
}

/// What each released schema's file looked like is what its migrations make of an empty file.
#[tokio::test]
async fn a_file_of_every_earlier_schema_is_taken_over_with_what_it_holds() {
    for schema in 1..=sqlite::MIGRATIONS.len() {
        let steps = &sqlite::MIGRATIONS[..schema];
        let directory = tempfile::tempdir().unwrap();
        let connection = rusqlite::Connection::open(directory.path().join(sqlite::FILE_NAME)).unwrap();
        for step in steps {
            connection.execute_batch(step).unwrap();
        }
        connection
            .pragma_update(None, "user_version", i64::try_from(schema).unwrap())
            .unwrap();
        connection
            .pragma_update(None, "application_id", sqlite::APPLICATION_ID)
            .unwrap();
        connection
            .execute_batch(
                "UPDATE meta SET value = '7' WHERE name = 'version';
                 INSERT INTO resources VALUES ('/a', '/a', 'Microsoft.Network/virtualHubs', '1', '{\"z\":1,\"a\":{\"nested\":[1,2]}}');
                 INSERT INTO settings VALUES ('/a', '{\"x\":1}');",
            )
            .unwrap();
        drop(connection);
        let store = SqliteStore::open(directory.path()).unwrap();
        let stored = store.load().await.unwrap();
        assert_eq!(stored.version, 7, "schema {schema}");
        assert_eq!(stored.resources, vec![resource("/a", "1")]);
        assert_eq!(stored.settings["/a"], json!({"x": 1}));
        store.commit(batch(7, vec![put("/b", "1")])).await.unwrap();
        let principal = Write::PutEntry(Collection::ServicePrincipals, "c".into(), json!({}));
        store.commit(batch(8, vec![principal])).await.unwrap();
        store.record(Vec::new()).await.unwrap();
    }
}

#[test]
fn a_second_daemon_is_refused_and_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _first = SqliteStore::open(directory.path()).unwrap();
    let refused = SqliteStore::open(directory.path()).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    assert!(refused.contains("--data-dir"), "{refused}");
}

#[test]
fn a_file_of_a_later_release_or_of_another_program_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(directory.path()).unwrap());
    let file = directory.path().join(sqlite::FILE_NAME);
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let refused = SqliteStore::open(directory.path()).unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 99, .. }),
        "{refused:?}"
    );

    std::fs::remove_file(&file).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute("CREATE TABLE theirs (x)", []).unwrap();
    drop(connection);
    let refused = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused:?}");
}

pub(super) fn batch(follows: u64, writes: Vec<Write>) -> Batch {
    Batch {
        version: follows + 1,
        follows,
        writes,
    }
}

pub(super) fn put(id: &str, etag: &str) -> Write {
    Write::Resource(Change::Put(resource(id, etag)))
}

fn resource(id: &str, etag: &str) -> Resource {
    Resource {
        id: id.to_owned(),
        kind: "Microsoft.Network/virtualHubs".to_owned(),
        etag: etag.to_owned(),
        body: json!({"z": 1, "a": {"nested": [1, 2]}}),
    }
}

pub(crate) fn operation(id: &str) -> Operation {
    Operation {
        id: id.to_owned(),
        subscription: "s".to_owned(),
        resource: "/a".to_owned(),
        started: "2026-11-20T00:00:00Z".to_owned(),
        status: "Succeeded".to_owned(),
    }
}
