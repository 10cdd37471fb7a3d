//! Going back to an earlier state without forgetting: what happened, what others were told and what is on the disk goes
//! forward into the earlier file; what was decided goes back with it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, WriteTransaction};

use crate::capability::Reading;
use crate::chain::Head;
use crate::copy::{copy_table, proven};
use crate::engine::Engine;
use crate::error::{BoxError, StorageError, failure};
use crate::intent::Intent;
use crate::schema::{
    self, COURSE_ROW, EMERGENCY_ROW, GAP_ROW, HEAD_ROW, IDENTITY_ROW, LEASE_ROW, META, SCHEMA,
};
use crate::tables::emergency::EmergenciesWriting;
use crate::tables::oplog::{self, OplogEntry};
use crate::view::Sink;

/// What was carried forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Rows of all tables that went forward.
    pub rows: u64,
    /// Entries of the oplog that the earlier state had.
    pub entries_then: u64,
    /// And that it has now, the one that tells of it included: each proven to follow the one before.
    pub entries_now: u64,
}

macro_rules! forward {
    ($($name:ident)*) => {
        /// The tables that go forward, by name: what is not among them goes back.
        #[cfg(test)]
        const FORWARD: &[&str] = &[$(stringify!($name)),*];

        fn copy_forward(from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, redb::Error> {
            let mut rows = 0;
            $(
                to.delete_table(schema::$name)?;
                rows += copy_table(schema::$name, from, to)?;
            )*
            Ok(rows)
        }
    };
}

forward! {
    OPLOG RUNS RUNS_RUNNING RUN_STEPS JOB_MARKS SEGMENTS SEGMENTS_UNFINISHED SEGMENT_TIMES SEGMENT_COUNTS
    SEGMENT_TOTALS SOURCES CONFIGS REQUESTS REQUESTS_BY_TIME HOLDS HEALTH_CHECKS HEALTH_ISSUES HEALTH_ATTEMPTS
    HEALTH_CONTROLS ALERTS ALERT_OUTBOX ALERT_DELIVERIES ALERT_SILENCES BACKUPS CERTIFICATES CERTIFICATE_GENERATIONS
    CERTIFICATE_EVENTS DATABASE_CARE DATABASE_LEDGER DEPENDENCY_UPDATES DEPENDENCY_RELEASES VULNERABILITY_CLOCKS
    INCIDENTS ROLLBACKS DRILLS TALLIES
}

/// Of a state that does not go on from the earlier one, since that was lost in between: only what has happened since is
/// added, for the earlier one knows more about the world.
fn copy_since(from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut rows = copy_table(schema::RUNS, from, to)?;
    rows += copy_table(schema::RUN_STEPS, from, to)?;
    rows += copy_table(schema::REQUESTS, from, to)?;
    rows += copy_table(schema::REQUESTS_BY_TIME, from, to)?;
    rows += copy_table(schema::ALERTS, from, to)?;
    rows += copy_table(schema::ALERT_SILENCES, from, to)?;
    rows += copy_table(schema::BACKUPS, from, to)?;
    rows += copy_table(schema::INCIDENTS, from, to)?;
    rows += copy_table(schema::HOLDS, from, to)?;
    rows += copy_table(schema::HEALTH_CONTROLS, from, to)?;
    rows += copy_table(schema::ROLLBACKS, from, to)?;
    rows += copy_table(schema::DRILLS, from, to)?;
    // What still waits to be told is what the newer one has.
    to.delete_table(schema::ALERT_OUTBOX)?;
    rows += copy_table(schema::ALERT_OUTBOX, from, to)?;
    Ok(rows)
}

/// Carries what must not go back from `live` into `earlier`, in one commit with the oplog entry of `intent`, and proves
/// the result. Both files must be nobody's. It may be done again: an `intent` with the same action and correlation id as
/// the newest entry of `earlier` was carried out already.
///
/// # Errors
/// When either can't be opened, or the disk fails; `earlier` is then as it was.
pub fn carry_forward(
    live: &Path,
    earlier: &Path,
    cache_bytes: usize,
    intent: Intent,
) -> Result<Carried, StorageError> {
    let opened = |path: &Path| {
        Engine::open(path, cache_bytes, &SCHEMA, false).map_err(|error| carrying(path, error))
    };
    let (from, to) = (opened(live)?, opened(earlier)?);
    let (then, newest) = to.reading(|reading| {
        let never = AtomicBool::new(false);
        let log = Reading::new(reading, &never).oplog();
        Ok::<_, StorageError>((log.head()?, log.newest(None, 1, |_| true)?.pop()))
    })?;
    let again = newest.is_some_and(|it| {
        it.entry.action == intent.action && it.entry.correlation_id == intent.correlation_id
    });
    let rows = match again {
        true => 0,
        false => from.reading(|reading| {
            to.transact(|writing| {
                let rows = fill(reading, writing, then)?;
                oplog::append(Sink::new(writing, to.failed()), intent)?;
                Ok::<_, StorageError>(rows)
            })
        })?,
    };
    let entries_now = to.reading(|reading| proven(reading, earlier))?;
    Ok(Carried { rows, entries_then: then.sequence, entries_now })
}

fn fill(
    reading: &ReadTransaction,
    writing: &WriteTransaction,
    then: Head,
) -> Result<u64, StorageError> {
    let never = AtomicBool::new(false);
    let failed = |error| failure(&never, "carry the state forward", error);
    let live = Reading::new(reading, &never);
    let at_head = live.oplog().range(then.sequence, 1)?.pop();
    let goes_on = then.sequence == 0
        || at_head.is_some_and(|it| it.entry.sequence == then.sequence && it.hash == then.hash);
    if goes_on {
        let rows = copy_forward(reading, writing).map_err(failed)?;
        copy_rows(
            reading,
            writing,
            &[IDENTITY_ROW, HEAD_ROW, EMERGENCY_ROW, COURSE_ROW, LEASE_ROW, GAP_ROW],
        )
        .map_err(failed)?;
        return Ok(rows);
    }
    let mut rows = copy_since(reading, writing).map_err(failed)?;
    let sink = Sink::new(writing, &never);
    // An epoch never comes twice, and what is in force stays so.
    let (newer, older) = (live.emergency().get()?, EmergenciesWriting::new(sink));
    let before = older.get()?;
    if let Some(mut newer) = newer {
        newer.epoch = newer.epoch.max(before.as_ref().map_or(0, |it| it.epoch));
        older.put(&newer)?;
    }
    let mut next = 1;
    loop {
        let entries = live.oplog().range(next, 1_000)?;
        let Some(last) = entries.last() else { break };
        next = last.entry.sequence + 1;
        for stored in entries {
            let OplogEntry { at, actor, action, target, reason, outcome, .. } = stored.entry;
            let (detail, correlation_id) = (stored.entry.detail, stored.entry.correlation_id);
            let intent =
                Intent { at, actor, action, target, reason, outcome, detail, correlation_id };
            oplog::append(sink, intent)?;
            rows += 1;
        }
    }
    Ok(rows)
}

/// Rows of `META` that go forward: whose state it is, the end of the oplog, the emergency, in force or over, the gap.
fn copy_rows(
    from: &ReadTransaction,
    to: &WriteTransaction,
    rows: &[&str],
) -> Result<(), redb::Error> {
    let (from, mut to) = (from.open_table(META)?, to.open_table(META)?);
    for row in rows {
        match from.get(*row)? {
            Some(value) => drop(to.insert(*row, value.value())?),
            None => drop(to.remove(*row)?),
        }
    }
    Ok(())
}

fn carrying(path: &Path, source: impl Into<BoxError>) -> StorageError {
    let attempted = format!("carry the state forward: open {}", path.display());
    StorageError::Redb { attempted, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::table_names;

    /// The tables that go back with the file: what was decided, by people or by calculation.
    const BACK: &[&str] = &[
        "META",
        "JOB_PAUSES",
        "BREAKERS",
        "BREAKERS_USUAL",
        "IGNORED_FINDINGS",
        "SERIES",
        "BASELINES",
        "BASELINE_EPISODES",
        "EXPERIMENTS",
        "MATRICES",
        "MATRIX_VALUES",
        "PARAMETERS",
    ];

    #[test]
    fn every_table_goes_forward_or_back() {
        let mut all: Vec<&str> = FORWARD.iter().chain(BACK).copied().collect();
        all.sort_unstable();
        let mut there = table_names();
        there.sort_unstable();
        assert_eq!(all, there);
    }
}
