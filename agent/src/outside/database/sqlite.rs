//! Connections to files of SQLite, and what a file is beside its contents.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::Failure;
use super::postgres::failure;

/// So long a statement waits for a lock of somebody else.
const BUSY: Duration = Duration::from_secs(5);

/// One connection, which can't write.
#[derive(Debug)]
pub struct Sqlite {
    connection: SqliteConnection,
}

impl Sqlite {
    /// Opens a file that others may write to meanwhile.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] where there is none, or it is none.
    pub async fn read(path: &Path) -> Result<Self, Failure> {
        Self::open(SqliteConnectOptions::new().filename(path).read_only(true)).await
    }

    /// Opens a file that nobody writes to; nothing is made beside it.
    ///
    /// # Errors
    /// As [`Sqlite::read`].
    pub async fn read_still(path: &Path) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
        Self::open(options).await
    }

    async fn open(options: SqliteConnectOptions) -> Result<Self, Failure> {
        let options =
            options.create_if_missing(false).busy_timeout(BUSY).disable_statement_logging();
        let connected = SqliteConnection::connect_with(&options).await;
        let mut opened = Self {
            connection: connected.map_err(|error| Failure::Unreachable(error.to_string()))?,
        };
        // Nothing is read before, so that any file would do.
        opened.ask("SELECT count(*) FROM sqlite_schema").await?;
        Ok(opened)
    }

    /// Runs a statement that answers nothing of interest.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        let sent = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await;
        sent.map(|_| ()).map_err(|error| failure(&error))
    }

    /// The first column of each row that a query answers, as text; NULL is empty.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn texts(&mut self, sql: &str) -> Result<Vec<String>, Failure> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        let rows: Vec<SqliteRow> = rows.await.map_err(|error| failure(&error))?;
        let text = |row: &SqliteRow| {
            // SQLite itself makes a text of whatever it is.
            let text = row.try_get_unchecked::<Option<String>, _>(0);
            text.map(Option::unwrap_or_default).map_err(|error| failure(&error))
        };
        rows.iter().map(text).collect()
    }

    /// The one text that a query answers.
    ///
    /// # Errors
    /// What SQLite says, or [`Failure::Odd`].
    pub async fn ask(&mut self, sql: &str) -> Result<String, Failure> {
        let mut texts = self.texts(sql).await?;
        match texts.len() {
            1 => Ok(texts.remove(0)),
            rows => Err(Failure::Odd(format!("{rows} rows instead of one"))),
        }
    }

    /// What `PRAGMA integrity_check` finds; nothing: it is sound.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn integrity_check(&mut self) -> Result<Vec<String>, Failure> {
        let found = self.texts("PRAGMA integrity_check(10)").await?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// Writes all that it holds to a new file.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn copy_into(&mut self, path: &Path) -> Result<(), Failure> {
        self.run(&format!("VACUUM INTO '{}'", path.display().to_string().replace('\'', "''"))).await
    }

    /// Says goodbye.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn made(path: &Path) {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1,'x'),(2,'y')";
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_is_read_copied_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("a.db"), folder.path().join("it's.db"));
        made(&path).await;
        let mut file = Sqlite::read(&path).await.unwrap();
        assert_eq!(file.ask("SELECT count(*) FROM t").await.unwrap(), "2");
        assert_eq!(file.texts("SELECT b FROM t ORDER BY a").await.unwrap(), ["x", "y"]);
        assert_eq!(file.integrity_check().await.unwrap(), Vec::<String>::new());
        assert!(file.run("DELETE FROM t").await.is_err(), "it can't write");
        file.copy_into(&copy).await.unwrap();
        assert!(file.copy_into(&copy).await.is_err(), "never over what is there");
        file.close().await;
        let mut still = Sqlite::read_still(&copy).await.unwrap();
        assert_eq!(still.ask("SELECT sum(a) FROM t").await.unwrap(), "3");
        still.close().await;
        assert_ne!(identity(&path).unwrap(), identity(&copy).unwrap());
        assert_eq!(identity(&path).unwrap(), identity(&path).unwrap());
    }

    #[tokio::test]
    async fn what_is_no_database_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        assert!(Sqlite::read(&path).await.is_err());
        assert!(!path.exists());
        std::fs::write(&path, "no database, and long enough to be taken for one".repeat(50))
            .unwrap();
        assert!(Sqlite::read(&path).await.is_err());
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quote("main.a\"b"), "\"main\".\"a\"\"b\"");
    }
}
