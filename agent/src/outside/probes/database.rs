//! What databases tell: whether they answer, what is free of their connections, who waits, and whether they are whole.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::net::{answered, down};
use super::{Measured, Outcome, Probe};
use crate::outside::Clock;
use crate::outside::database::directory::{DEADLOCKS_KEPT, Known};
use crate::outside::database::pooler::Pools;
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::sessions::{Backend, Look};
use crate::outside::database::{Engine, Failure, figures, integrity, sqlite};
use crate::outside::dial;

/// So many sessions or faults are named.
const NAMED: usize = 5;
/// So much of a server's log is searched for its last deadlock, in bytes.
const LOG_TAIL: u32 = 64 << 10;

/// Measures what `probe` asks of this database.
///
/// # Errors
/// Why it can't be told, in words.
pub(super) async fn measure(clock: &dyn Clock, known: &Known, probe: &Probe) -> Outcome {
    let measured = match probe {
        Probe::DatabaseAnswers { .. } => return answers(clock, known).await,
        Probe::DatabasePool { .. } => pool(known).await,
        Probe::DatabasePooler { .. } => pooler(known).await,
        Probe::DatabaseBlocked { patience, .. } => blocked(known, *patience).await,
        Probe::DatabaseDeadlocks { .. } => deadlocks(clock, known).await,
        Probe::DatabaseIntegrity { .. } => whole(known).await,
        Probe::Sql { sql, .. } => {
            let value = figures::number(&known.entry.target.engine, "queue", sql).await;
            let value = value.map_err(|why| format!("database {}: {why}", known.name()))?;
            return Ok(Measured { value, detail: format!("the query says {value}") });
        }
        other => return Err(format!("{other} is not asked of a database")),
    };
    measured.map_err(|failure| format!("database {} {failure}", known.name()))
}

/// Milliseconds until it answers.
async fn answers(clock: &dyn Clock, known: &Known) -> Outcome {
    let shown = format!("database {}", known.name());
    let began = clock.monotonic();
    let said = match &known.entry.target.engine {
        Engine::Postgres(postgres) => {
            match Session::open(postgres, "answers", Limits::LOOK).await {
                Ok(session) => {
                    session.close().await;
                    Ok(())
                }
                Err(failure) => Err(failure),
            }
        }
        Engine::Sqlite(path) => sqlite::value(path, "SELECT 1").await.map(|_| ()),
    };
    let took = clock.monotonic().saturating_sub(began);
    match said {
        Ok(()) => Ok(answered(took, &format!("{shown} answers"))),
        // What is missing then is told by the look at its connections.
        Err(full) if full.no_slot_left() => {
            Ok(answered(took, &format!("{shown} is there and takes no more connections,")))
        }
        Err(failure) => down(dial::Failure::Down(failure.to_string()), &shown),
    }
}

/// Takes a look through the connection that stays open.
async fn look(known: &Known) -> Result<Look, Failure> {
    let mut way_in = known.enter().await?;
    let look = Look::take(&mut way_in.session).await?;
    way_in.keep();
    Ok(look)
}

async fn pool(known: &Known) -> Result<Measured, Failure> {
    let look = match look(known).await {
        // Whoever comes is sent away.
        Err(full) if full.no_slot_left() => {
            let detail = format!("no connection is available: {full}");
            return Ok(Measured { value: 0.0, detail });
        }
        look => look?,
    };
    let groups = look.groups();
    let mut named: Vec<String> =
        groups.iter().take(NAMED).map(|(what, count)| format!("{count} {what}")).collect();
    let rest: usize = groups.iter().skip(NAMED).map(|(_, count)| count).sum();
    if rest > 0 {
        named.push(format!("{rest} others"));
    }
    let value = look.available_percent();
    let detail = format!(
        "{} of {} connections are available ({value:.0} %); {} are reserved; in use: {}",
        look.available(),
        look.usable(),
        look.reserved,
        named.join(", ")
    );
    Ok(Measured { value, detail })
}

async fn pooler(known: &Known) -> Result<Measured, Failure> {
    let console = known.entry.pooler.as_ref();
    let console = console.ok_or_else(|| Failure::Odd("no pgbouncer is configured".to_owned()))?;
    let pools = Pools::ask(console).await?;
    Ok(Measured { value: pools.free_percent(), detail: pools.words() })
}

async fn blocked(known: &Known, patience: Duration) -> Result<Measured, Failure> {
    let look = look(known).await?;
    let waits = |backend: &&Backend| {
        !backend.waits_for.is_empty() && look.age(backend.waiting_since) > patience
    };
    let waiting: Vec<&Backend> = look.backends.iter().filter(waits).collect();
    let named: Vec<String> = waiting
        .iter()
        .take(NAMED)
        .map(|backend| {
            let whom: Vec<String> = backend.waits_for.iter().map(i32::to_string).collect();
            let prepared = match backend.prepared.as_slice() {
                [] => String::new(),
                names => format!(", prepared as {}", names.join(", ")),
            };
            format!(
                "pid {} ({}) for pid {}{prepared} since {} s",
                backend.pid,
                backend.user,
                whom.join(", "),
                look.age(backend.waiting_since).as_secs()
            )
        })
        .collect();
    let detail = match waiting.len() {
        0 => format!("nobody waits for another session for over {patience:?}"),
        count => {
            format!("{count} wait for another session for over {patience:?}: {}", named.join("; "))
        }
    };
    Ok(Measured { value: waiting.len() as f64, detail })
}

async fn deadlocks(clock: &dyn Clock, known: &Known) -> Result<Measured, Failure> {
    let mut way_in = known.enter().await?;
    let look = Look::take(&mut way_in.session).await?;
    let grown = lock(&known.deadlocks).grown(clock.monotonic(), look.deadlocks, DEADLOCKS_KEPT);
    let queries = match grown {
        0 => Vec::new(),
        _ => last_deadlock(&mut way_in.session).await,
    };
    way_in.keep();
    let minutes = DEADLOCKS_KEPT.as_secs() / 60;
    let detail = match (grown, queries.as_slice()) {
        (0, _) => format!(
            "no deadlock within {minutes} minutes, {} since statistics began",
            look.deadlocks
        ),
        (_, []) => format!(
            "{grown} deadlocks within {minutes} minutes, which the server has ended; their queries are in its log, \
             which can't be read from here: look for \"deadlock detected\""
        ),
        (_, queries) => format!(
            "{grown} deadlocks within {minutes} minutes, which the server has ended; the last was between {}",
            queries.join(" and ")
        ),
    };
    Ok(Measured { value: grown as f64, detail })
}

/// The queries of the last deadlock in the server's log, where the agent's role may read it; else none.
async fn last_deadlock(session: &mut Session) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce((SELECT encode(pg_read_binary_file(f, greatest((pg_stat_file(f)).size - {LOG_TAIL}, 0), {LOG_TAIL}), 'hex') \
         FROM pg_current_logfile() f WHERE f IS NOT NULL), '')"
    );
    let Ok(hex) = session.text(&sql).await else { return Vec::new() };
    let text = hex::decode(hex).unwrap_or_default();
    queries_of(&String::from_utf8_lossy(&text))
}

fn queries_of(log: &str) -> Vec<String> {
    let Some((_, last)) = log.rsplit_once("deadlock detected") else { return Vec::new() };
    let query = |line: &str| {
        let rest = line.trim_start().strip_prefix("Process ")?;
        let (pid, query) = rest.split_once(": ")?;
        let shown: String = query.chars().take(150).collect();
        pid.parse::<u32>().is_ok().then(|| format!("{shown:?} (pid {pid})"))
    };
    // Those of this one stand before the next entry but its detail.
    last.lines().take_while(|line| !line.contains("HINT:")).filter_map(query).collect()
}

async fn whole(known: &Known) -> Result<Measured, Failure> {
    let (count, faults, notes) = match &known.entry.target.engine {
        Engine::Sqlite(path) => {
            let faults = sqlite::damage(path, sqlite::Access::Read, false).await?;
            (faults.len() as u64, faults, vec!["quick_check".to_owned()])
        }
        Engine::Postgres(postgres) => {
            let mut session = Session::open(postgres, "integrity", Limits::LOOK).await?;
            let after = *lock(&known.last_index);
            let found = integrity::look(&mut session, after).await?;
            session.close().await;
            *lock(&known.last_index) = found.last_index;
            (found.count(), found.faults, found.notes)
        }
    };
    let named: Vec<&str> = faults.iter().take(NAMED).map(String::as_str).collect();
    let notes = notes.join("; ");
    let detail = match (count, named.as_slice()) {
        (0, _) => format!("no fault was found: {notes}"),
        (count, []) => format!("{count} faults: {notes}"),
        (count, named) => format!("{count} faults: {}; {notes}", named.join("; ")),
    };
    Ok(Measured { value: count as f64, detail })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queries_of_the_last_deadlock_are_found_in_a_log() {
        let log = "x ERROR:  deadlock detected\n\
                   x DETAIL:  Process 1 waits for ShareLock on transaction 5; blocked by process 2.\n\
                   \tProcess 2 waits for ShareLock on transaction 4; blocked by process 1.\n\
                   \tProcess 1: UPDATE old\n\tProcess 2: UPDATE old\n\
                   x HINT:  See server log for query details.\n\
                   y ERROR:  deadlock detected\n\
                   y DETAIL:  Process 3 waits for ShareLock on transaction 5; blocked by process 4.\n\
                   \tProcess 4 waits for ShareLock on transaction 4; blocked by process 3.\n\
                   \tProcess 3: UPDATE a SET x = 1: why\n\tProcess 4: UPDATE b\n\
                   y HINT:  See server log for query details.\n\
                   z LOG:  Process 9: not of it\n";
        assert_eq!(
            queries_of(log),
            ["\"UPDATE a SET x = 1: why\" (pid 3)", "\"UPDATE b\" (pid 4)"]
        );
        assert_eq!(queries_of("nothing of the kind"), [""; 0]);
    }
}
