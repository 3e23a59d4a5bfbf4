//! The embedded store: one SQLite file, to be looked at with `sqlite3`. WAL with `synchronous=FULL`, so that a commit is on disk;
//! a lock file beside it, so that a second daemon refuses instead of writing in between.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arm::{Change, Resource};
use futures::FutureExt;
use futures::future::BoxFuture;
use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use super::activity::{self, Activity, ActivityRange};
use super::{Batch, Collection, MAX_OPERATIONS, Operation, Store, StoreError, Stored, Write, backup};

/// The file's name in the data directory.
pub(super) const FILE_NAME: &str = "routewright.sqlite3";
/// "RtWr": tells our files from other programs'.
pub(super) const APPLICATION_ID: i64 = 0x5274_5772;

/// Forward only: entry N takes a file of schema N to N + 1. Entries are never changed once released.
pub(super) const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE resources (
        key TEXT PRIMARY KEY,
        id TEXT NOT NULL,
        kind TEXT NOT NULL,
        etag TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE TABLE settings (
        key TEXT PRIMARY KEY,
        body TEXT NOT NULL
    ) STRICT;
    CREATE TABLE operations (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        subscription TEXT NOT NULL,
        resource TEXT NOT NULL,
        started TEXT NOT NULL,
        status TEXT NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES ('version', '0');
",
    "
    CREATE TABLE directory (
        collection TEXT NOT NULL,
        key TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (collection, key)
    ) STRICT, WITHOUT ROWID;
",
    activity::SCHEMA,
    activity::SCHEMA_WITH_QUOTAS,
];

/// Makes the file, if it isn't there, so that only we can read it: settings hold passwords of peers. SQLite gives the files
/// beside it (WAL) the same mode.
pub(super) fn private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// A store in a data directory.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    /// For the activity log: whoever reads it, however much, holds up no commit (readers of a WAL and its writer never wait for
    /// each other). Closed first, since it can tidy up nothing.
    reading: Arc<Mutex<Connection>>,
    open: Arc<Mutex<Open>>,
    path: PathBuf,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// Which file it is.
    file: FileIdentity,
    /// Held as long as the store is open.
    _lock: Flock<File>,
}

/// Tells a file from another at the same path.
#[derive(Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(path: &Path) -> Result<FileIdentity, StoreError> {
        let metadata = std::fs::metadata(path).map_err(|source| io(path, source))?;
        Ok(FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl SqliteStore {
    /// Opens the store in `directory`, which is made if it isn't there, and brings its schema up to date.
    pub fn open(directory: &Path) -> Result<SqliteStore, StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| io(directory, source))?;
        let lock = lock(directory)?;
        let path = directory.join(FILE_NAME);
        private(&path).map_err(|source| io(&path, source))?;
        let mut connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut connection, &path)?;
        backup::finish(&mut connection, directory)?;
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reading = Connection::open_with_flags(&path, read_only)?;
        Ok(SqliteStore {
            reading: Arc::new(Mutex::new(reading)),
            open: Arc::new(Mutex::new(Open {
                file: FileIdentity::of(&path)?,
                connection,
                _lock: lock,
            })),
            path,
        })
    }

    /// Lets a test bring SQLite into trouble.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn pragma_for_test(&self, name: &str, value: i64) {
        let open = self.open.lock().unwrap();
        open.connection.pragma(None, name, value, |_| Ok(())).unwrap();
    }

    /// Stands for somebody who reads the activity log.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(super) fn hold_reading_for_test(&self) -> std::sync::MutexGuard<'_, Connection> {
        let reading = self.reading.lock().unwrap();
        reading.execute_batch("BEGIN; SELECT count(*) FROM activity").unwrap();
        reading
    }

    /// As [`run`](Self::run), for what writes: not into a file that is there no more.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let path = self.path.clone();
        self.run_open(move |open| match FileIdentity::of(&path) {
            Ok(file) if file == open.file => work(&mut open.connection),
            _ => Err(StoreError::Gone { path }),
        })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        self.run_open(|open| work(&mut open.connection))
    }

    /// Runs on a thread that may block: a commit waits for the disk.
    fn run_open<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Open) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let open = Arc::clone(&self.open);
        async move {
            let done = tokio::task::spawn_blocking(move || {
                // A panic while it was held left no half transaction: SQLite rolls back when the transaction is dropped.
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut open)
            });
            done.await.map_err(|_| StoreError::Closed)?
        }
        .boxed()
    }
}

impl Store for SqliteStore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.run(|connection| load(&connection.transaction()?))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| commit(connection, &batch))
    }

    fn operation(&self, id: &str) -> BoxFuture<'_, Result<Option<Operation>, StoreError>> {
        let id = id.to_ascii_lowercase();
        self.run(move |connection| {
            let sql = "SELECT id, subscription, resource, started, status FROM operations WHERE id = ?1";
            let found = connection.query_row(sql, [id], |row| {
                Ok(Operation {
                    id: row.get(0)?,
                    subscription: row.get(1)?,
                    resource: row.get(2)?,
                    started: row.get(3)?,
                    status: row.get(4)?,
                })
            });
            Ok(found.optional()?)
        })
    }

    fn record(&self, events: Vec<Activity>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(move |connection| {
            let transaction = connection.transaction()?;
            for event in &events {
                activity::add(&transaction, event)?;
            }
            Ok(transaction.commit()?)
        })
    }

    fn activity(&self, range: ActivityRange) -> BoxFuture<'_, Result<Vec<(i64, serde_json::Value)>, StoreError>> {
        let reading = Arc::clone(&self.reading);
        async move {
            let done = tokio::task::spawn_blocking(move || {
                activity::read(&reading.lock().unwrap_or_else(PoisonError::into_inner), &range)
            });
            done.await.map_err(|_| StoreError::Closed)?
        }
        .boxed()
    }

    fn forget_activity(&self, before_micros: i64) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.write(move |connection| activity::forget(connection, before_micros))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(|connection| {
            let sql = "INSERT OR REPLACE INTO meta VALUES ('probe', hex(randomblob(8)))";
            Ok(connection.execute(sql, []).map(|_| ())?)
        })
    }

    fn settled(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.write(|connection| {
            if !is_restored(connection)? {
                // A full disk is no matter then.
                return Ok(());
            }
            connection.execute("DELETE FROM meta WHERE name = ?1", [RESTORED])?;
            Ok(())
        })
    }

    fn describe(&self) -> String {
        format!("sqlite {}", self.path.display())
    }
}

pub(super) fn load(transaction: &Transaction<'_>) -> Result<Stored, StoreError> {
    let mut stored = Stored {
        version: version(transaction)?,
        config_fingerprint: meta(transaction, "config_fingerprint")?,
        is_restored: meta(transaction, RESTORED)?.is_some(),
        ..Stored::default()
    };
    let mut resources = transaction.prepare("SELECT id, kind, etag, body FROM resources ORDER BY key")?;
    let mut rows = resources.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let body: String = row.get(3)?;
        stored.resources.push(Resource {
            kind: row.get(1)?,
            etag: row.get(2)?,
            body: json(&id, &body)?,
            id,
        });
    }
    let mut settings = transaction.prepare("SELECT key, body FROM settings ORDER BY key")?;
    let mut rows = settings.query([])?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let body: String = row.get(1)?;
        let body = json(&key, &body)?;
        stored.settings.insert(key, body);
    }
    load_directory(transaction, &mut stored)?;
    Ok(stored)
}

fn load_directory(transaction: &Transaction<'_>, stored: &mut Stored) -> Result<(), StoreError> {
    let mut entries = transaction.prepare("SELECT collection, key, body FROM directory ORDER BY collection, key")?;
    let mut rows = entries.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let (key, body): (String, String) = (row.get(1)?, row.get(2)?);
        let Some(collection) = Collection::named(&name) else {
            return Err(StoreError::Corrupt {
                what: key,
                problem: format!("it is in {name}, which this release does not know"),
            });
        };
        let body = json(&key, &body)?;
        stored.directory.push((collection, key, body));
    }
    Ok(())
}

fn commit(connection: &mut Connection, batch: &Batch) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let found = version(&transaction)?;
    if found != batch.follows || batch.version <= found {
        return Err(StoreError::Conflict {
            found,
            follows: batch.follows,
        });
    }
    for write in &batch.writes {
        apply(&transaction, write)?;
    }
    set_meta(&transaction, "version", &batch.version.to_string())?;
    transaction.commit()?;
    Ok(())
}

/// Notes in a store that it is a backup which somebody has restored on purpose.
pub(super) fn mark_restored(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    set_meta(&transaction, RESTORED, "1")?;
    Ok(transaction.commit()?)
}

fn is_restored(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT count(*) FROM meta WHERE name = ?1";
    Ok(connection.query_row(sql, [RESTORED], |row| row.get::<_, i64>(0))? > 0)
}

/// Name of that note.
const RESTORED: &str = "restored";

fn apply(transaction: &Transaction<'_>, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Resource(Change::Put(resource)) => transaction
            .prepare_cached("INSERT OR REPLACE INTO resources VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                resource.id.to_ascii_lowercase(),
                resource.id,
                resource.kind,
                resource.etag,
                resource.body.to_string(),
            ])?,
        Write::Resource(Change::Delete(key)) => transaction
            .prepare_cached("DELETE FROM resources WHERE key = ?1")?
            .execute([key.to_ascii_lowercase()])?,
        Write::PutSettings(key, body) => transaction
            .prepare_cached("INSERT OR REPLACE INTO settings VALUES (?1, ?2)")?
            .execute(params![key, body.to_string()])?,
        Write::DeleteSettings(key) => transaction
            .prepare_cached("DELETE FROM settings WHERE key = ?1")?
            .execute([key])?,
        Write::PutEntry(collection, key, body) => transaction
            .prepare_cached("INSERT OR REPLACE INTO directory VALUES (?1, ?2, ?3)")?
            .execute(params![collection.name(), key, body.to_string()])?,
        Write::DeleteEntry(collection, key) => transaction
            .prepare_cached("DELETE FROM directory WHERE collection = ?1 AND key = ?2")?
            .execute(params![collection.name(), key])?,
        Write::Operation(operation) => put_operation(transaction, operation)?,
        Write::Activity(event) => activity::add(transaction, event)?,
        Write::ConfigFingerprint(text) => set_meta(transaction, "config_fingerprint", text)?,
    };
    Ok(())
}

fn put_operation(transaction: &Transaction<'_>, operation: &Operation) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO operations (id, subscription, resource, started, status) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            operation.id,
            operation.subscription,
            operation.resource,
            operation.started,
            operation.status,
        ])?;
    transaction
        .prepare_cached("DELETE FROM operations WHERE sequence <= ?1")?
        .execute([transaction.last_insert_rowid().saturating_sub_unsigned(MAX_OPERATIONS)])
}

fn version(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    let text = meta(transaction, "version")?.unwrap_or_default();
    text.parse().map_err(|problem| StoreError::Corrupt {
        what: "the version".to_owned(),
        problem: format!("{problem} ({text:?})"),
    })
}

fn meta(transaction: &Transaction<'_>, name: &str) -> Result<Option<String>, StoreError> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    Ok(transaction.query_row(sql, [name], |row| row.get(0)).optional()?)
}

fn set_meta(transaction: &Transaction<'_>, name: &str, value: &str) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute([name, value])
}

pub(super) fn json(what: &str, text: &str) -> Result<serde_json::Value, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        what: what.to_owned(),
        problem: error.to_string(),
    })
}

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let known = known_schema();
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let found = match tables {
        0 => 0,
        _ => check_ours(&transaction, path)?,
    };
    if found == known {
        // Nothing is written then: a manager that comes back must not need room on a full disk.
        return Ok(());
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

fn known_schema() -> i64 {
    i64::try_from(MIGRATIONS.len()).expect("there are few migrations")
}

/// Refuses a file of another program or of a later release; otherwise its schema version.
pub(super) fn check_ours(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let path = path.to_owned();
    let known = known_schema();
    let application: i64 = match connection.pragma_query_value(None, "application_id", |row| row.get(0)) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => 0,
        read => read?,
    };
    if application != APPLICATION_ID {
        return Err(StoreError::Foreign { path });
    }
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found > known {
        true => Err(StoreError::NewerSchema { path, found, known }),
        false => Ok(found),
    }
}

/// The lock goes with the process, however it ends.
pub(crate) fn lock(directory: &Path) -> Result<Flock<File>, StoreError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io(&path, source))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock
                .set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| writeln!(lock, "{}", std::process::id()));
            written.map_err(|source| io(&path, source))?;
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            let holder = match file.read_to_string(&mut holder) {
                Ok(_) if !holder.trim().is_empty() => Some(holder.trim().to_owned()),
                _ => None,
            };
            Err(StoreError::InUse {
                directory: directory.to_owned(),
                holder,
            })
        }
        Err((_, errno)) => Err(io(&path, errno.into())),
    }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        source,
    }
}
