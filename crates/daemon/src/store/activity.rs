//! The activity log in the embedded store: rows are added and, when they are old or too many, forgotten; never changed. Triggers hold
//! us to it.
//!
//! Refusals have a quota of their own: whoever is refused again and again pushes out refusals, not what was done.

use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use super::StoreError;

/// Writes that are kept, whatever their age; some 200 MB.
pub const MAX_ACTIVITY: u64 = 200_000;
/// Refusals that are kept, whatever their age; some 50 MB.
pub const MAX_REFUSALS: u64 = 50_000;

/// An event of the activity log.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity {
    /// When: microseconds since 1970.
    pub at_micros: i64,
    /// GUID in lower case.
    pub subscription: String,
    /// Whether nothing was done.
    pub is_refusal: bool,
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

/// Schema 4: what was stored before counts as writes. Counters, since counting 200,000 rows takes too long for every write. In a
/// `BEFORE INSERT` trigger the sequence that SQLite will choose is -1, so only one that was given can be there already.
pub(super) const SCHEMA_WITH_QUOTAS: &str = "
    ALTER TABLE activity ADD COLUMN is_refusal INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX activity_by_subscription ON activity (subscription, sequence, at);
    CREATE INDEX activity_by_kind ON activity (is_refusal, sequence);
    CREATE TABLE activity_counts (
        is_refusal INTEGER PRIMARY KEY,
        events INTEGER NOT NULL
    ) STRICT;
    INSERT INTO activity_counts SELECT 0, count(*) FROM activity;
    INSERT INTO activity_counts VALUES (1, 0);
    CREATE TRIGGER activity_is_counted AFTER INSERT ON activity
    BEGIN UPDATE activity_counts SET events = events + 1 WHERE is_refusal = NEW.is_refusal; END;
    CREATE TRIGGER activity_forgotten_is_counted AFTER DELETE ON activity
    BEGIN UPDATE activity_counts SET events = events - 1 WHERE is_refusal = OLD.is_refusal; END;
    CREATE TRIGGER activity_is_not_replaced BEFORE INSERT ON activity
    WHEN EXISTS (SELECT 1 FROM activity WHERE sequence = NEW.sequence)
    BEGIN SELECT RAISE(ABORT, 'the activity log is append-only'); END;
";

/// By sequence, so that a page is found without sorting; the time is only looked at (`+at`), since almost always the latest are asked for.
pub(super) const READ: &str = "
    SELECT sequence, body FROM activity
    WHERE subscription = ?1 AND +at BETWEEN ?2 AND ?3 AND sequence < ?4 ORDER BY sequence DESC LIMIT ?5";

pub(super) fn add(transaction: &Transaction<'_>, activity: &Activity) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT INTO activity (at, subscription, is_refusal, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            activity.at_micros,
            activity.subscription,
            activity.is_refusal,
            activity.body.to_string()
        ])?;
    let quota = match activity.is_refusal {
        true => MAX_REFUSALS,
        false => MAX_ACTIVITY,
    };
    let count: i64 = transaction
        .prepare_cached("SELECT events FROM activity_counts WHERE is_refusal = ?1")?
        .query_row([activity.is_refusal], |row| row.get(0))?;
    let too_many = count.saturating_sub_unsigned(quota);
    if too_many <= 0 {
        return Ok(0);
    }
    let sql = "DELETE FROM activity WHERE sequence IN
               (SELECT sequence FROM activity WHERE is_refusal = ?1 ORDER BY sequence LIMIT ?2)";
    transaction
        .prepare_cached(sql)?
        .execute(params![activity.is_refusal, too_many])
}

pub(super) fn read(connection: &Connection, range: &ActivityRange) -> Result<Vec<(i64, Value)>, StoreError> {
    let mut found = connection.prepare_cached(READ)?;
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
