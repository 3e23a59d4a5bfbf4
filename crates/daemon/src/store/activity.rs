//! The activity log in the embedded store: rows are added and, when they are old or too many, forgotten; never changed. A trigger
//! holds us to it.

use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use super::StoreError;

/// Events that are kept, whatever their age; some 200 MB.
pub const MAX_ACTIVITY: u64 = 200_000;

/// An event of the activity log.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity {
    /// When: microseconds since 1970.
    pub at_micros: i64,
    /// GUID in lower case.
    pub subscription: String,
    /// The event.
    pub body: Value,
}

/// Which events to read, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivityRange {
    /// GUID in lower case.
    pub subscription: String,
    /// Not earlier.
    pub from_micros: i64,
    /// Not later.
    pub to_micros: i64,
    /// Only events written before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: usize,
}

/// The schema; see the parent's migrations.
pub(super) const SCHEMA: &str = "
    CREATE TABLE activity (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        subscription TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX activity_by_time ON activity (at);
    CREATE TRIGGER activity_is_append_only BEFORE UPDATE ON activity
    BEGIN SELECT RAISE(ABORT, 'the activity log is append-only'); END;
";

pub(super) fn add(transaction: &Transaction<'_>, activity: &Activity) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT INTO activity (at, subscription, body) VALUES (?1, ?2, ?3)")?
        .execute(params![
            activity.at_micros,
            activity.subscription,
            activity.body.to_string()
        ])?;
    transaction
        .prepare_cached("DELETE FROM activity WHERE sequence <= ?1")?
        .execute([transaction.last_insert_rowid().saturating_sub_unsigned(MAX_ACTIVITY)])
}

pub(super) fn read(connection: &Connection, range: &ActivityRange) -> Result<Vec<(i64, Value)>, StoreError> {
    let sql = "SELECT sequence, body FROM activity
               WHERE subscription = ?1 AND at BETWEEN ?2 AND ?3 AND sequence < ?4 ORDER BY sequence DESC LIMIT ?5";
    let mut found = connection.prepare_cached(sql)?;
    let limit = i64::try_from(range.limit).unwrap_or(i64::MAX);
    let mut rows = found.query(params![
        range.subscription,
        range.from_micros,
        range.to_micros,
        range.before.unwrap_or(i64::MAX),
        limit
    ])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let body: String = row.get(1)?;
        events.push((sequence, super::sqlite::json("an event of the activity log", &body)?));
    }
    Ok(events)
}

pub(super) fn forget(connection: &Connection, before_micros: i64) -> Result<usize, StoreError> {
    Ok(connection.execute("DELETE FROM activity WHERE at < ?1", [before_micros])?)
}
