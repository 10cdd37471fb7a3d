//! What a restored backup is asked: whether it answers, and what is configured.

use std::path::Path;
use std::time::Duration;

use genesis_storage::BackupLevel;

use super::act::Proof;
use super::plan::{self, Source};
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::sqlite::{self, Access, BUSY, File};
use crate::outside::database::{Failure, Postgres};
use crate::outside::{Clock, failpoint};

/// Between two tries to reach a server that starts.
const LOOK: Duration = Duration::from_millis(100);

/// Asks a scratch server as soon as it answers.
pub(super) async fn server(
    clock: &dyn Clock,
    source: &Source,
    target: &Postgres,
    scratch: &Postgres,
    level: BackupLevel,
) -> Proof {
    let limits = Limits { lock: Duration::from_secs(10), statement: source.timeout };
    // Until its process ends, which the caller sees, or takes too long, which ends it.
    let mut session = loop {
        match Session::open(scratch, "scratch", limits).await {
            Ok(session) => break session,
            Err(Failure::Unreachable(why)) if refused(&why) => {
                return Proof::Unknown(format!("the scratch server refuses to be asked: {why}"));
            }
            Err(_) => clock.sleep(LOOK).await,
        }
    };
    failpoint::hit("backup.scratch-started");
    let mut asked = Asked { restored: Restored::Server(&mut session), live: Live::Server(target) };
    let proof = asked.of_a_server(source, level).await;
    session.close().await;
    proof.unwrap_or_else(|proof| proof)
}

/// Whether a server answers, and with no: the code of its refusal stands at the end. 57P03 is that it still starts.
fn refused(why: &str) -> bool {
    let code = why.strip_suffix(')').and_then(|why| why.rsplit_once('('));
    code.is_some_and(|(_, code)| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        code.len() == 5 && code.bytes().all(plain) && code != "57P03"
    })
}

/// What a role has set for itself, and where everybody's tables are.
const IN_PUBLIC: &str =
    "SELECT set_config('search_path', current_setting('search_path') || ', public', false)";

/// What was restored.
enum Restored<'a> {
    Server(&'a mut Session),
    File(&'a mut File),
}

/// What it was made of.
enum Live<'a> {
    Server(&'a Postgres),
    File(&'a Path),
}

impl Live<'_> {
    /// What it answers; `None`: it can't be asked, or fails.
    async fn value(&self, sql: &str) -> Option<String> {
        match self {
            Self::Server(target) => {
                let mut live = Session::open(target, "backup", Limits::LOOK).await.ok()?;
                live.text(IN_PUBLIC).await.ok()?;
                let value = live.text(sql).await.ok();
                live.close().await;
                value
            }
            Self::File(path) => sqlite::value(path, sql).await.ok(),
        }
    }
}

/// Whether a failure says that what is on the disk is not what was written.
fn is_corrupt(failure: &Failure) -> bool {
    // data_corrupted, index_corrupted, undefined_file, io_error.
    matches!(failure.code(), "XX001" | "XX002" | "58P01" | "58030") || sqlite::is_damage(failure)
}

struct Asked<'a> {
    restored: Restored<'a>,
    live: Live<'a>,
}

impl Asked<'_> {
    /// The one value that it answers. What fails there and not in the live database is wrong; what fails in both, or
    /// where nobody can tell, is no fault of the backup.
    async fn value(&mut self, sql: &str) -> Result<String, Proof> {
        let answered = match &mut self.restored {
            Restored::Server(session) => session.text(sql).await,
            Restored::File(file) => file.value(sql).await,
        };
        match answered {
            Ok(value) => Ok(value),
            Err(failure) if is_corrupt(&failure) => Err(Proof::Wrong(failure.to_string())),
            Err(failure) => Err(match self.live.value(sql).await {
                Some(_) => Proof::Wrong(format!("{failure}, and the live database answers")),
                None => {
                    Proof::Unknown(format!("{failure}, as in the live database, if it answers"))
                }
            }),
        }
    }

    async fn of_a_server(&mut self, source: &Source, level: BackupLevel) -> Result<Proof, Proof> {
        let one = self.value("SELECT 1").await?;
        let tables = self.value("SELECT count(*) FROM pg_class").await?;
        if one != "1" || tables.parse::<u64>().map_or(true, |count| count == 0) {
            return Ok(Proof::Wrong(format!("it answers {one} for 1 and has {tables} relations")));
        }
        let started = format!("a scratch server started on it and has {tables} relations");
        if level < BackupLevel::Queried {
            return Ok(Proof::Sound(started));
        }
        self.value(IN_PUBLIC).await?;
        self.questions(source, &started).await
    }

    /// What is configured to be asked.
    async fn questions(&mut self, source: &Source, before: &str) -> Result<Proof, Proof> {
        for query in &source.queries {
            let found = self.value(&query.sql).await?;
            if !query.expect.is_empty() && found != query.expect {
                let (name, wanted) = (&query.name, &query.expect);
                return Ok(Proof::Wrong(format!(
                    "query {name} answers {found:?} instead of {wanted:?}"
                )));
            }
        }
        for count in &source.row_counts {
            let sql = format!("SELECT count(*) FROM {}", sqlite::quote(&count.table));
            let restored = self.value(&sql).await?.parse().unwrap_or(0);
            let live = match count.within {
                None => None,
                Some(_) => self.live.value(&sql).await.and_then(|rows| rows.parse().ok()),
            };
            if count.within.is_some() && live.is_none() {
                let why = format!("the live rows of {} can't be counted", count.table);
                return Ok(Proof::Unknown(why));
            }
            if let Err(why) = plan::rows(count, restored, live) {
                return Ok(Proof::Wrong(why));
            }
        }
        let (queries, counts) = (source.queries.len(), source.row_counts.len());
        Ok(Proof::Sound(format!("{before}; {queries} queries and {counts} row counts are right")))
    }
}

/// Asks a copy of a file of SQLite.
pub(super) async fn file(source: &Source, path: &Path, live: &Path, level: BackupLevel) -> Proof {
    match sqlite::damage(path, Access::Read, true).await {
        Err(failure) => return Proof::Unknown(format!("its copy: {failure}")),
        Ok(found) if found.is_empty() => {}
        Ok(found) => return Proof::Wrong(format!("integrity_check: {}", found.join("; "))),
    }
    let mut file = match File::open(path, Access::Read, BUSY).await {
        Ok(file) => file,
        Err(failure) => return Proof::Unknown(format!("its copy: {failure}")),
    };
    let mut asked = Asked { restored: Restored::File(&mut file), live: Live::File(live) };
    let asking = async {
        let tables = asked.value("SELECT count(*) FROM sqlite_schema").await?;
        let opened = format!("a copy of it opens, is sound and has {tables} tables and indexes");
        match level < BackupLevel::Queried {
            true => Ok(Proof::Sound(opened)),
            false => asked.questions(source, &opened).await,
        }
    };
    let proof = asking.await.unwrap_or_else(|proof| proof);
    file.close().await;
    proof
}
