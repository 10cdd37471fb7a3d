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
    let proof = questions(&mut session, source, target, level).await;
    session.close().await;
    proof.unwrap_or_else(|error| Proof::Wrong(format!("the scratch server: {error}")))
}

/// Whether a server answers, and with no: the code of its refusal stands at the end. 57P03 is that it still starts.
fn refused(why: &str) -> bool {
    let code = why.strip_suffix(')').and_then(|why| why.rsplit_once('('));
    code.is_some_and(|(_, code)| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        code.len() == 5 && code.bytes().all(plain) && code != "57P03"
    })
}

async fn questions(
    session: &mut Session,
    source: &Source,
    target: &Postgres,
    level: BackupLevel,
) -> Result<Proof, Failure> {
    let one = session.text("SELECT 1").await?;
    let tables = session.text("SELECT count(*) FROM pg_class").await?;
    if one != "1" || tables.parse::<u64>().map_or(true, |count| count == 0) {
        return Ok(Proof::Wrong(format!("it answers {one} for 1 and has {tables} relations")));
    }
    let started = format!("a scratch server started on it and has {tables} relations");
    if level < BackupLevel::Queried {
        return Ok(Proof::Sound(started));
    }
    for query in &source.queries {
        let found = session.text(&query.sql).await?;
        if !query.expect.is_empty() && found != query.expect {
            let (name, wanted) = (&query.name, &query.expect);
            return Ok(Proof::Wrong(format!(
                "query {name} answers {found:?} instead of {wanted:?}"
            )));
        }
    }
    for count in &source.row_counts {
        let sql = format!("SELECT count(*) FROM {}", sqlite::quote(&count.table));
        let restored = session.text(&sql).await?.parse().unwrap_or(0);
        let live = match count.within {
            None => None,
            Some(_) => match Session::open(target, "backup", Limits::LOOK).await {
                Ok(mut live) => live.text(&sql).await.ok().and_then(|rows| rows.parse().ok()),
                Err(_) => None,
            },
        };
        if count.within.is_some() && live.is_none() {
            return Ok(Proof::Unknown(format!(
                "the live rows of {} can't be counted",
                count.table
            )));
        }
        if let Err(why) = plan::rows(count, restored, live) {
            return Ok(Proof::Wrong(why));
        }
    }
    Ok(Proof::Sound(format!("{started}; {}", questioned(source))))
}

fn questioned(source: &Source) -> String {
    format!("{} queries and {} row counts are right", source.queries.len(), source.row_counts.len())
}

/// Asks a copy of a file of SQLite.
pub(super) async fn file(source: &Source, path: &Path, live: &Path, level: BackupLevel) -> Proof {
    let asked = async {
        let mut file = File::open(path, Access::Read, BUSY).await?;
        let tables = file.value("SELECT count(*) FROM sqlite_schema").await?;
        let found = file.damage(true).await?;
        if !found.is_empty() {
            return Ok(Proof::Wrong(format!("integrity_check: {}", found.join("; "))));
        }
        let opened = format!("a copy of it opens, is sound and has {tables} tables and indexes");
        if level < BackupLevel::Queried {
            return Ok(Proof::Sound(opened));
        }
        for query in &source.queries {
            let found = file.value(&query.sql).await?;
            if !query.expect.is_empty() && found != query.expect {
                let (name, wanted) = (&query.name, &query.expect);
                let why = format!("query {name} answers {found:?} instead of {wanted:?}");
                return Ok(Proof::Wrong(why));
            }
        }
        for count in &source.row_counts {
            let sql = format!("SELECT count(*) FROM {}", sqlite::quote(&count.table));
            let restored = file.value(&sql).await?.parse().unwrap_or(0);
            let live = match count.within {
                None => None,
                Some(_) => match File::open(live, Access::Read, BUSY).await {
                    Ok(mut live) => live.value(&sql).await.ok().and_then(|rows| rows.parse().ok()),
                    Err(_) => None,
                },
            };
            if count.within.is_some() && live.is_none() {
                let why = format!("the live rows of {} can't be counted", count.table);
                return Ok(Proof::Unknown(why));
            }
            if let Err(why) = plan::rows(count, restored, live) {
                return Ok(Proof::Wrong(why));
            }
        }
        Ok::<_, Failure>(Proof::Sound(format!("{opened}; {}", questioned(source))))
    };
    asked.await.unwrap_or_else(|error| Proof::Wrong(format!("its copy: {error}")))
}
