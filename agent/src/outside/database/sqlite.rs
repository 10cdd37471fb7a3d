//! Files of SQLite. The file is never opened by other ways than SQLite's own in this process: closing it would drop the
//! locks that the process holds on it.

use std::os::unix::fs::MetadataExt;
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
/// Whoever writes is waited for so long by what only looks.
pub const BUSY: Duration = Duration::from_secs(1);
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

/// What a connection to a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To read what others may write to meanwhile.
    Read,
    /// To read what nobody writes to; nothing is made beside it.
    Still,
    /// To write.
    Write,
}

/// One connection to a file. Whoever drops it waits for nothing any more: what it does ends soon.
#[derive(Debug)]
pub struct File {
    connection: SqliteConnection,
    stop: Unwanted,
}

#[derive(Debug, Default)]
struct Unwanted(Stop);

impl Drop for Unwanted {
    fn drop(&mut self) {
        // The work is done by a thread of its own, which would go on for nobody.
        self.0.now();
    }
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
    /// [`Failure::Unreachable`] with the reason; [`Failure::Refused`] where it is no file of SQLite.
    pub async fn open(path: &Path, access: Access, busy: Duration) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .read_only(access != Access::Write)
            .immutable(access == Access::Still)
            .busy_timeout(busy)
            .disable_statement_logging();
        let connected = SqliteConnection::connect_with(&options).await;
        let mut connection =
            connected.map_err(|error| Failure::Unreachable(failure(&error).to_string()))?;
        let stop = Unwanted::default();
        let asked = stop.0.clone();
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
        self.stop.0.clone()
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

    /// The one value that a query answers in its first column, as text; "" for NULL.
    ///
    /// # Errors
    /// What SQLite says, or [`Failure::Odd`].
    pub async fn value(&mut self, sql: &str) -> Result<String, Failure> {
        match self.rows(sql).await?.as_slice() {
            [row] => Ok(row.first().cloned().unwrap_or_default()),
            rows => Err(Failure::Odd(format!("{} rows instead of one", rows.len()))),
        }
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
                "SELECT i.name, t.name, i.origin, i.\"unique\", (SELECT group_concat(coalesce(x.name, '(expression of ' || i.name || ')') || CASE x.desc WHEN 1 THEN ' DESC' ELSE '' END || ' ' || x.coll, ', ') \
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

    /// Writes all that it holds to a new file.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn copy_into(&mut self, path: &Path) -> Result<(), Failure> {
        self.run(&format!("VACUUM INTO '{}'", path.display().to_string().replace('\'', "''"))).await
    }

    /// Closes it, so that what it holds is let go of before this returns.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}

/// Reads a file for damage, as [`File::damage`] does. One whose pages are no database's is damaged as well.
///
/// # Errors
/// When it could not be looked at.
pub async fn damage(path: &Path, access: Access, thorough: bool) -> Result<Vec<String>, Failure> {
    match File::open(path, access, BUSY).await {
        Ok(mut file) => {
            let found = file.damage(thorough).await;
            file.close().await;
            found
        }
        Err(failure) if is_damage(&failure) => Ok(vec![failure.to_string()]),
        Err(failure) => Err(failure),
    }
}

/// The one value that a query answers, as [`File::value`] has it.
///
/// # Errors
/// What SQLite says, or [`Failure::Odd`].
pub async fn value(path: &Path, sql: &str) -> Result<String, Failure> {
    let mut file = File::open(path, Access::Read, BUSY).await?;
    let value = file.value(sql).await;
    file.close().await;
    value
}

/// What tells the file at this path from another one that takes its place: its inode, and when that was made. SQLite
/// has no identifier of its own (`application_id` is the program's), and an id that the agent kept for the path would
/// still be there when somebody put another database under that name. Both last as long as the file does, over VACUUM
/// and reboots; a restored or replaced file is another system, whose first backup is still to be made.
///
/// # Errors
/// When it can't be looked at.
pub fn identity(path: &Path) -> std::io::Result<String> {
    let facts = std::fs::metadata(path)?;
    let made = facts.created().ok();
    let made = made.and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    let made = made.map_or(0, |made| made.as_nanos());
    Ok(format!("sqlite-{}-{made}", facts.ino()))
}

/// A table's name as it stands in SQL, schema included.
pub fn quote(name: &str) -> String {
    let parts = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
    parts.collect::<Vec<_>>().join(".")
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
        let mut file = File::open(&path, Access::Read, Duration::ZERO).await.unwrap();
        assert_eq!(file.number("SELECT count(*) FROM t").await.unwrap(), 2);
        file.close().await;
        assert!(make(&folder.path().join("x.db"), "no SQL").await.is_err());
    }

    #[tokio::test]
    async fn a_file_is_read_and_copied_and_told_from_its_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.db"), folder.path().join("it's.db"));
        make(&path, "PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1,'x'),(2,'y')")
            .await
            .unwrap();
        let mut file = File::open(&path, Access::Read, BUSY).await.unwrap();
        assert_eq!(
            file.rows("SELECT b, a FROM t ORDER BY a").await.unwrap(),
            [["x", "1"], ["y", "2"]]
        );
        assert!(file.run("DELETE FROM t").await.is_err(), "it can't write");
        file.copy_into(&copy).await.unwrap();
        assert!(file.copy_into(&copy).await.is_err(), "never over what is there");
        file.close().await;
        let mut still = File::open(&copy, Access::Still, BUSY).await.unwrap();
        assert_eq!(still.value("SELECT sum(a) FROM t").await.unwrap(), "3");
        still.close().await;
        assert_eq!(damage(&copy, Access::Still, true).await, Ok(Vec::new()));
        assert_ne!(identity(&path).unwrap(), identity(&copy).unwrap());
        assert_eq!(identity(&path).unwrap(), identity(&path).unwrap());
    }

    #[tokio::test]
    async fn a_damaged_page_is_a_fault_and_a_missing_file_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let sql = "CREATE TABLE t (i INTEGER PRIMARY KEY, text); CREATE INDEX x ON t (text); \
                   WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
                   INSERT INTO t SELECT i, hex(randomblob(40)) FROM n";
        make(&path, sql).await.unwrap();
        let quick = async |path: &Path| damage(path, Access::Read, false).await;
        assert_eq!(quick(&path).await, Ok(Vec::new()));
        assert_eq!(value(&path, "SELECT count(*) FROM t").await.unwrap(), "5000");
        assert_eq!(value(&path, "SELECT 1.5").await.unwrap(), "1.5");
        assert_eq!(value(&path, "SELECT NULL").await.unwrap(), "");
        assert!(matches!(value(&path, "SELECT i FROM t").await, Err(Failure::Odd(_))));
        assert!(matches!(value(&path, "DELETE FROM t").await, Err(Failure::Refused { .. })));
        let mut damaged = std::fs::read(&path).unwrap();
        let middle = damaged.len() / 2 / 4096 * 4096;
        damaged[middle..middle + 4096].fill(0xa5);
        std::fs::write(&path, &damaged).unwrap();
        assert!(!quick(&path).await.unwrap().is_empty());
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let said = quick(&path).await.unwrap();
        assert!(said[0].contains("not a database"), "{said:?}");
        let missing = quick(&folder.path().join("none.db")).await;
        assert!(missing.is_err() && !folder.path().join("none.db").exists(), "{missing:?}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        make(&path, "CREATE TABLE t (a)").await.unwrap();
        let mut file = File::open(&path, Access::Read, BUSY).await.unwrap();
        let stop = file.stop();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let asked = tokio::time::timeout(Duration::from_millis(50), file.value(endless)).await;
        assert!(asked.is_err(), "it has no end");
        assert!(!stop.0.load(Ordering::Acquire));
        drop(file);
        assert!(stop.0.load(Ordering::Acquire));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("main.a\"b"), "\"main\".\"a\"\"b\"");
    }
}
