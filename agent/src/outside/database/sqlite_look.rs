//! Looks into SQLite's files, which change nothing in them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::Failure;

/// Whoever writes is waited for so long.
const BUSY: Duration = Duration::from_secs(1);
/// Instructions of SQLite between two looks whether anybody still waits for the answer.
const STRIDE: i32 = 10_000;
/// So many faults are told.
const FAULTS: u32 = 20;

/// What `PRAGMA quick_check` finds wrong; nothing is well. A file whose pages are no database's is wrong as well.
///
/// # Errors
/// When it could not be looked at.
pub async fn quick_check(path: &Path) -> Result<Vec<String>, Failure> {
    let sql = format!("PRAGMA quick_check({FAULTS})");
    match texts(path, &sql).await {
        Ok(said) => Ok(said.into_iter().filter(|line| line != "ok").collect()),
        // SQLITE_CORRUPT and SQLITE_NOTADB, whichever of their kinds: that far it did not even get.
        Err(Failure::Refused { code, message })
            if code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 11 | 26)) =>
        {
            Ok(vec![message])
        }
        Err(failure) => Err(failure),
    }
}

/// The one value that a query answers, as text; empty for NULL.
///
/// # Errors
/// What SQLite says, or [`Failure::Odd`].
pub async fn value(path: &Path, sql: &str) -> Result<String, Failure> {
    match texts(path, sql).await?.as_slice() {
        [one] => Ok(one.clone()),
        rows => Err(Failure::Odd(format!("{} rows instead of one", rows.len()))),
    }
}

/// The first column of what a query answers.
async fn texts(path: &Path, sql: &str) -> Result<Vec<String>, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .create_if_missing(false)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let mut connection =
        SqliteConnection::connect_with(&options).await.map_err(|error| failure(&error))?;
    // The work is done by a thread of its own, which would go on for nobody.
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let still = Arc::clone(&wanted.0);
    let mut handle = connection.lock_handle().await.map_err(|error| failure(&error))?;
    handle.set_progress_handler(STRIDE, move || still.load(Ordering::Relaxed));
    drop(handle);
    let sent = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection);
    let rows = sent.await.map_err(|error| failure(&error))?;
    let texts = rows.iter().map(|row| text(row).unwrap_or_default()).collect();
    let _ = connection.close().await;
    Ok(texts)
}

/// As long as this is there, somebody waits.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// SQLite's values have their own types, whatever their columns say.
fn text(row: &sqlx::sqlite::SqliteRow) -> Option<String> {
    let text = row.try_get_unchecked::<Option<String>, _>(0);
    text.ok().flatten()
}

fn failure(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(refused) => Failure::Refused {
            code: refused.code().unwrap_or_default().into_owned(),
            message: refused.message().to_owned(),
        },
        other => Failure::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn file(folder: &Path, rows: u32) -> std::path::PathBuf {
        let path = folder.join("x.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let sql = format!(
            "CREATE TABLE t (i INTEGER PRIMARY KEY, text); CREATE INDEX x ON t (text); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO t SELECT i, hex(randomblob(40)) FROM n"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        path
    }

    #[tokio::test]
    async fn a_damaged_page_is_a_fault_and_a_missing_file_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), 5_000).await;
        assert_eq!(quick_check(&path).await, Ok(Vec::new()));
        assert_eq!(value(&path, "SELECT count(*) FROM t").await.unwrap(), "5000");
        assert_eq!(value(&path, "SELECT 1.5").await.unwrap(), "1.5");
        assert_eq!(value(&path, "SELECT NULL").await.unwrap(), "");
        assert!(matches!(value(&path, "SELECT i FROM t").await, Err(Failure::Odd(_))));
        assert!(matches!(value(&path, "DELETE FROM t").await, Err(Failure::Refused { .. })));
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = whole.len() / 2 / 4096 * 4096;
        damaged[middle..middle + 4096].fill(0xa5);
        std::fs::write(&path, &damaged).unwrap();
        assert!(!quick_check(&path).await.unwrap().is_empty());
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let said = quick_check(&path).await.unwrap();
        assert!(said[0].contains("not a database"), "{said:?}");
        let missing = quick_check(&folder.path().join("none.db")).await;
        assert!(missing.is_err() && !folder.path().join("none.db").exists(), "{missing:?}");
    }
}
