//! A digest over everything that a store holds, so that a backup in which one bit has changed is not restored: SQLite's own check looks
//! at the structure of its pages, not at what is written in a row.

use ring::digest::{Context, SHA256};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::StoreError;

/// The table that holds the digest; whatever else is in the file is digested.
const TABLE: &str = "backup_digest";

/// Stores the digest of everything that is there now.
pub(super) fn seal(connection: &Connection) -> Result<(), StoreError> {
    let digest = of(connection)?;
    connection.execute_batch("CREATE TABLE backup_digest (sha256 TEXT NOT NULL) STRICT")?;
    connection.execute("INSERT INTO backup_digest VALUES (?1)", [digest])?;
    Ok(())
}

/// Whether a digest is there.
pub(super) fn is_sealed(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = ?1";
    Ok(connection.query_row(sql, [TABLE], |_| Ok(())).optional()?.is_some())
}

/// Whether everything is as it was when it was sealed.
pub(super) fn holds(connection: &Connection) -> Result<bool, StoreError> {
    let sealed: Option<String> = connection
        .query_row("SELECT sha256 FROM backup_digest", [], |row| row.get(0))
        .optional()?;
    Ok(sealed == Some(of(connection)?))
}

/// SHA-256, in hexadecimal, over the schema and every row. The first two columns of each of our tables tell its rows apart, so that
/// their order is always the same.
fn of(connection: &Connection) -> Result<String, StoreError> {
    let mut context = Context::new(&SHA256);
    let schema: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    context.update(&schema.to_le_bytes());
    let definitions = format!("SELECT type, name, sql FROM sqlite_schema WHERE tbl_name <> '{TABLE}' ORDER BY 1, 2");
    add_rows(&mut context, connection, &definitions)?;
    for table in tables(connection)? {
        add(&mut context, b'n', table.as_bytes());
        let quoted = table.replace('"', "\"\"");
        add_rows(
            &mut context,
            connection,
            &format!("SELECT * FROM \"{quoted}\" ORDER BY 1, 2"),
        )?;
    }
    let digest = context.finish();
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tables(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> ?1 ORDER BY name";
    let mut found = connection.prepare(sql)?;
    let names = found.query_map([TABLE], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn add_rows(context: &mut Context, connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let mut found = connection.prepare(sql)?;
    let columns = found.column_count();
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => add(context, b'0', &[]),
                ValueRef::Integer(number) => add(context, b'i', &number.to_le_bytes()),
                ValueRef::Real(number) => add(context, b'r', &number.to_bits().to_le_bytes()),
                ValueRef::Text(text) => add(context, b't', text),
                ValueRef::Blob(bytes) => add(context, b'b', bytes),
            }
        }
    }
    Ok(())
}

/// With its type and length, so that no two contents are the same bytes.
fn add(context: &mut Context, kind: u8, bytes: &[u8]) {
    context.update(&[kind]);
    context.update(&(bytes.len() as u64).to_le_bytes());
    context.update(bytes);
}
