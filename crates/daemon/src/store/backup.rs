//! A copy of everything that a data directory keeps, in one file, taken while the daemon serves; and back again.
//!
//! The file is a SQLite store as of one moment (SQLite's online backup: readers of a WAL hold up no writer), with one table more for the
//! keys and certificates that lie beside it and one for a digest of it all. It holds every secret of the data directory, so only its
//! owner can read it.
//!
//! ```text
//! restore ─► part: copied, digest, brought up to date, loaded ─► renamed over the store ─► finish: keys written, their table dropped
//! ```
//!
//! The name changes hands in one step. Until then the directory is what it was; from then on whoever opens the store finishes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, params};

use super::sqlite::{self, FILE_NAME, io};
use super::{StoreError, digest};
use crate::manager::directory::Directory;
use crate::private_file::{self, PUBLIC, SECRET};

/// What lies beside the store and must come back with it: without these keys, tokens that clients hold and the authority that they
/// trust would be void.
const FILES: [(&str, u32); 3] = [
    ("token-key.pem", SECRET),
    ("tls/ca.pem", PUBLIC),
    ("tls/ca-key.pem", SECRET),
];
/// Somebody else may be writing the last pages of a commit.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Version of the resources.
    pub version: u64,
    /// How many resources.
    pub resources: u64,
    /// Keys and certificates.
    pub files: u64,
}

/// Copies what `directory` keeps to `target`, which must not be there. Somebody may be serving it meanwhile.
pub fn backup(directory: &Path, target: &Path) -> Result<Summary, StoreError> {
    let source = directory.join(FILE_NAME);
    if target.exists() {
        return Err(io(target, std::io::ErrorKind::AlreadyExists.into()));
    }
    let from = open_store(&source, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    sqlite::check_ours(&from, &source)?;
    let part = Part::make(target)?;
    let mut copy = copy(&from, &part.path)?;
    let transaction = copy.transaction()?;
    transaction.execute_batch("CREATE TABLE backup_files (name TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT")?;
    for (name, _) in FILES {
        let path = directory.join(name);
        match fs::read_to_string(&path) {
            Ok(content) => transaction.execute("INSERT INTO backup_files VALUES (?1, ?2)", params![name, content])?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io(&path, error)),
        };
    }
    digest::seal(&transaction)?;
    transaction.commit()?;
    let summary = summary(&copy)?;
    drop(copy);
    part.becomes(target)?;
    Ok(summary)
}

/// Makes `directory` what `source` says. Refused while somebody serves it, and when it keeps something already, unless told to `replace`
/// that.
pub fn restore(source: &Path, directory: &Path, replace: bool) -> Result<Summary, StoreError> {
    let from = open_store(source, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    sqlite::check_ours(&from, source)?;
    check_whole(&from, source)?;
    fs::create_dir_all(directory).map_err(|error| io(directory, error))?;
    let _lock = sqlite::lock(directory)?;
    let target = directory.join(FILE_NAME);
    if target.exists() && !replace {
        return Err(StoreError::NotEmpty {
            directory: directory.to_owned(),
        });
    }
    let part = Part::make(&target)?;
    let mut copy = copy(&from, &part.path)?;
    if !digest::holds(&copy)? {
        return Err(damaged(source, "its content is not what its digest is of"));
    }
    let summary = summary(&copy)?;
    sqlite::migrate(&mut copy, source)?;
    check_loads(&mut copy)?;
    sqlite::mark_restored(&mut copy)?;
    drop(copy);
    make_way(&target)?;
    part.becomes(&target)?;
    finish(&mut open_store(&target, OpenFlags::SQLITE_OPEN_READ_WRITE)?, directory)?;
    Ok(summary)
}

/// Writes the keys and certificates of a backup that has become the store of `directory`. A crash may have come between.
pub(super) fn finish(connection: &mut Connection, directory: &Path) -> Result<(), StoreError> {
    if !digest::is_sealed(connection)? {
        return Ok(());
    }
    write_files(connection, directory)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch("DROP TABLE backup_files; DROP TABLE backup_digest")?;
    Ok(transaction.commit()?)
}

/// A WAL of the store that was there would be played into the one that comes. What is in it goes into its own store first, which is
/// whole then until the other takes its name.
pub(super) fn make_way(target: &Path) -> Result<(), StoreError> {
    if !target.exists() {
        return Ok(());
    }
    let checkpoint = || -> Result<(), StoreError> {
        let old = open_store(target, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    };
    if let Err(error) = checkpoint() {
        // It may be broken, and be replaced for that.
        tracing::warn!(%error, "the store that is replaced cannot be read");
    }
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(target, suffix);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&beside, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a manager could start with it.
fn check_loads(connection: &mut Connection) -> Result<(), StoreError> {
    let stored = sqlite::load(&connection.transaction()?)?;
    let mut directory = Directory::default();
    for (collection, key, body) in stored.directory {
        directory.put(collection, key, body)?;
    }
    Ok(())
}

/// Whoever reads a WAL must be able to write beside it.
fn open_store(path: &Path, how: OpenFlags) -> Result<Connection, StoreError> {
    // SQLite itself would say no more than "unable to open database file".
    fs::metadata(path).map_err(|error| io(path, error))?;
    let connection = Connection::open_with_flags(path, how | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    Ok(connection)
}

/// All pages in one step, so that the copy is of one moment.
fn copy(from: &Connection, to: &Path) -> Result<Connection, StoreError> {
    let mut copy = Connection::open(to)?;
    // The file must be whole when it gets its name.
    copy.pragma_update(None, "synchronous", "FULL")?;
    let backup = Backup::new(from, &mut copy)?;
    let deadline = std::time::Instant::now() + BUSY_PATIENCE;
    loop {
        match backup.step(-1)? {
            StepResult::Done => break,
            _ if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                return Err(io(to, std::io::ErrorKind::TimedOut.into()));
            }
        }
    }
    drop(backup);
    // One file, not one with a WAL beside it; a store sets its own mode when it opens.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(copy)
}

fn summary(connection: &Connection) -> Result<Summary, StoreError> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version: String =
        connection.query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))?;
    Ok(Summary {
        version: version.parse().unwrap_or(0),
        resources: count("SELECT count(*) FROM resources")?.unsigned_abs(),
        files: count("SELECT count(*) FROM backup_files")?.unsigned_abs(),
    })
}

fn check_whole(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" if digest::is_sealed(connection)? => Ok(()),
        "ok" => {
            let problem = "it is a store and no backup of one; make one with `routewright backup`";
            Err(damaged(path, problem))
        }
        _ => Err(damaged(path, &found)),
    }
}

fn damaged(path: &Path, problem: &str) -> StoreError {
    StoreError::Corrupt {
        what: path.display().to_string(),
        problem: problem.to_owned(),
    }
}

fn write_files(connection: &Connection, directory: &Path) -> Result<(), StoreError> {
    let mut found = connection.prepare("SELECT name, content FROM backup_files")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        let (name, content): (String, String) = (row.get(0)?, row.get(1)?);
        // Only the names that we know: a backup is not to write anywhere else.
        let Some((name, mode)) = FILES.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| io(parent, error))?;
        }
        private_file::write(&path, *mode, &content).map_err(|error| io(&path, error))?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A file that gets its name when it is whole, and is removed when it never is.
struct Part {
    path: PathBuf,
    is_whole: bool,
}

impl Part {
    fn make(target: &Path) -> Result<Part, StoreError> {
        let path = with_suffix(target, ".part");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&path, error)),
            _ => {}
        }
        sqlite::private(&path).map_err(|error| io(&path, error))?;
        Ok(Part { path, is_whole: false })
    }

    fn becomes(mut self, target: &Path) -> Result<(), StoreError> {
        fs::File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, target))
            .map_err(|error| io(target, error))?;
        self.is_whole = true;
        // The name is on disk when its directory is.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| io(parent, error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_file(&self.path);
        }
    }
}
