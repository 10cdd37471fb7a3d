//! Files of SQLite. The file is never opened by other ways than SQLite's own in this process: closing it would drop the
//! locks that the process holds on it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::Failure;

/// A long statement asks so often, in steps of SQLite's machine, whether it is to go on.
const ASK: i32 = 10_000;
/// So many texts are read at most.
const ROWS: usize = 10_000;

/// Tells a long statement to end.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends it soon; its failure is [`Failure::Refused`] with code "9".
    pub fn now(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// One connection to a file.
#[derive(Debug)]
pub struct File {
    connection: SqliteConnection,
    stop: Stop,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Pages {
    /// A page in bytes.
    pub size: u64,
    /// Pages in all.
    pub count: u64,
    /// Pages that hold nothing.
    pub free: u64,
}

impl Pages {
    /// The file's size in bytes.
    pub fn bytes(&self) -> u64 {
        self.size.saturating_mul(self.count)
    }
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its table.
    pub table: String,
    /// It was not made by CREATE INDEX: a constraint needs it.
    pub constraint: bool,
    /// It keeps rows apart.
    pub unique: bool,
    /// Its columns, and whether it is for some rows only.
    pub on: String,
}

impl File {
    /// Opens a file that is there. `busy` is how long a statement waits for others.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] with the reason.
    pub async fn open(path: &Path, read_only: bool, busy: Duration) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .read_only(read_only)
            .busy_timeout(busy)
            .disable_statement_logging();
        let connected = SqliteConnection::connect_with(&options).await;
        let mut connection =
            connected.map_err(|error| Failure::Unreachable(failure(&error).to_string()))?;
        let stop = Stop::default();
        let asked = stop.clone();
        connection
            .lock_handle()
            .await
            .map_err(|error| failure(&error))?
            .set_progress_handler(ASK, move || !asked.0.load(Ordering::Acquire));
        let mut file = Self { connection, stop };
        // Only now is the file read at all.
        file.number("PRAGMA schema_version").await?;
        Ok(file)
    }

    /// What ends its statements.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Runs SQL that answers nothing of interest.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        let sent = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection);
        sent.await.map(|_| ()).map_err(|error| failure(&error))
    }

    /// The rows of a query, of each the columns as texts; NULL is "".
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
        let sent = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        let rows = sent.await.map_err(|error| failure(&error))?;
        let text = |row: &sqlx::sqlite::SqliteRow, column: usize| {
            row.try_get_unchecked::<Option<String>, _>(column).ok().flatten().unwrap_or_default()
        };
        let texts =
            |row: &sqlx::sqlite::SqliteRow| (0..row.len()).map(|it| text(row, it)).collect();
        Ok(rows.iter().take(ROWS).map(texts).collect())
    }

    /// The one whole number that a query answers.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn number(&mut self, sql: &str) -> Result<i64, Failure> {
        let rows = self.rows(sql).await?;
        let first = rows.first().and_then(|row| row.first());
        let number = first.and_then(|text| text.parse().ok());
        number.ok_or_else(|| Failure::Odd(format!("{first:?} instead of a number")))
    }

    /// How its pages are used.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn pages(&mut self) -> Result<Pages, Failure> {
        let number = |number: i64| number.unsigned_abs();
        Ok(Pages {
            size: number(self.number("PRAGMA page_size").await?),
            count: number(self.number("PRAGMA page_count").await?),
            free: number(self.number("PRAGMA freelist_count").await?),
        })
    }

    /// Reads the file for damage; what is wrong, nothing when it is sound. `thorough` compares indexes with tables, too.
    ///
    /// # Errors
    /// What SQLite says, where that is not what is wrong with the file.
    pub async fn damage(&mut self, thorough: bool) -> Result<Vec<String>, Failure> {
        let pragma = if thorough { "integrity_check" } else { "quick_check" };
        match self.rows(&format!("PRAGMA {pragma}(20)")).await {
            Ok(rows) => {
                let said = rows.into_iter().flatten();
                Ok(said.filter(|line| line != "ok").collect())
            }
            Err(failure) if is_damage(&failure) => Ok(vec![failure.to_string()]),
            Err(failure) => Err(failure),
        }
    }

    /// Moves the log of changes into the file and empties it; whether somebody keeps it from that.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn checkpoint(&mut self) -> Result<bool, Failure> {
        Ok(self.number("PRAGMA wal_checkpoint(TRUNCATE)").await? != 0)
    }

    /// Its indexes.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn indexes(&mut self) -> Result<Vec<Index>, Failure> {
        let rows = self
            .rows(
                "SELECT i.name, t.name, i.origin, i.\"unique\", (SELECT group_concat(coalesce(x.name, '(expression)') || CASE x.desc WHEN 1 THEN ' DESC' ELSE '' END || ' ' || x.coll, ', ') \
                 FROM pragma_index_xinfo(i.name) x WHERE x.key = 1) || CASE i.partial WHEN 1 THEN ' where ' || coalesce((SELECT sql FROM sqlite_master m WHERE m.name = i.name), '') ELSE '' END \
                 FROM sqlite_master t, pragma_index_list(t.name) i WHERE t.type = 'table'",
            )
            .await?;
        let index = |row: Vec<String>| {
            let [name, table, origin, unique, on] = <[String; 5]>::try_from(row).ok()?;
            let (constraint, unique) = (origin != "c", unique == "1");
            Some(Index { name, table, constraint, unique, on })
        };
        Ok(rows.into_iter().filter_map(index).collect())
    }

    /// Whether a writer is at work: false where the right to write was to be had within the time that it waits.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn written_to(&mut self) -> Result<bool, Failure> {
        match self.run("BEGIN IMMEDIATE").await {
            Ok(()) => {
                self.run("ROLLBACK").await?;
                Ok(false)
            }
            Err(failure) if is_busy(&failure) => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    /// Closes it, so that what it holds is let go of before this returns.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}

/// Makes a file by this SQL, where nothing is yet.
///
/// # Errors
/// [`Failure::Odd`] where something is there, else what SQLite says.
pub async fn make(path: &Path, sql: &str) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::Odd(format!("{} is there already", path.display())));
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .disable_statement_logging();
    let connected = SqliteConnection::connect_with(&options).await;
    let mut connection = connected.map_err(|error| failure(&error))?;
    let made = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
    let closed = connection.close().await;
    made.map(|_| ()).and(closed).map_err(|error| failure(&error))
}

/// The primary result code: SQLITE_BUSY is 5, SQLITE_CORRUPT 11, SQLITE_NOTADB 26, SQLITE_INTERRUPT 9.
fn primary(failure: &Failure) -> i32 {
    failure.code().parse::<i32>().unwrap_or(0) & 0xff
}

/// Somebody else holds it.
pub fn is_busy(failure: &Failure) -> bool {
    matches!(primary(failure), 5 | 6)
}

/// The file itself is damaged.
pub fn is_damage(failure: &Failure) -> bool {
    matches!(primary(failure), 11 | 26)
}

/// It was told to end.
pub fn is_stopped(failure: &Failure) -> bool {
    primary(failure) == 9
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

    #[tokio::test]
    async fn a_file_is_made_and_none_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        make(&path, "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)").await.unwrap();
        let again = make(&path, "DROP TABLE t").await;
        assert!(matches!(again, Err(Failure::Odd(_))), "{again:?}");
        let mut file = File::open(&path, true, Duration::ZERO).await.unwrap();
        assert_eq!(file.number("SELECT count(*) FROM t").await.unwrap(), 2);
        file.close().await;
        assert!(make(&folder.path().join("x.db"), "no SQL").await.is_err());
    }
}
