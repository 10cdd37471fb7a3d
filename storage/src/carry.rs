//! Going back to an earlier state without forgetting: what happened, what others were told and what is on the disk goes
//! forward into the earlier file; what was decided goes back with it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::capability::Reading;
use crate::chain::{Head, Verification};
use crate::copy::{copy_table, proven};
use crate::engine::{Engine, Manner};
use crate::error::{BoxError, StorageError, failure};
use crate::intent::Intent;
use crate::record::decode;
use crate::schema::{
    self, COURSE_ROW, EMERGENCY_ROW, FLEET_ROW, GAP_ROW, HEAD_ROW, IDENTITY_ROW, LEASE_ROW, META,
    SCHEMA,
};
use crate::tables::breakers::{BreakerRecord, BreakerState};
use crate::tables::floors;
use crate::tables::gaps::{GapRecord, GapsWriting};
use crate::tables::oplog::{self, Oplog, OplogEntry};
use crate::view::Sink;

mod emergency;

/// What was carried forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Rows of all tables that went forward.
    pub rows: u64,
    /// Entries of the oplog that the earlier state had.
    pub entries_then: u64,
    /// And that it has now, the one that tells of it included.
    pub entries_now: u64,
    /// What is wrong with the oplog that went forward, and was before; `None`: each entry follows the one before.
    pub broken: Option<String>,
}

/// Why nothing was carried forward. Both files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The earlier state can't be used.
    #[error("the earlier state can't be used")]
    Earlier(#[source] StorageError),
    /// The state that is in its place can't be opened: [`StorageError::is_damage`] says whether it ever can.
    #[error("the state that is in its place can't be opened")]
    Live(#[source] StorageError),
    /// Both are there, and what goes forward could not be written.
    #[error("what must not go back could not be carried forward")]
    Carrying(#[source] StorageError),
}

impl From<StorageError> for CarryError {
    fn from(error: StorageError) -> Self {
        Self::Carrying(error)
    }
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
    OPLOG RUNS RUNS_RUNNING RUN_STEPS JOB_MARKS JOB_PAUSES SEGMENTS SEGMENTS_UNFINISHED SEGMENT_TIMES SEGMENT_COUNTS
    SEGMENT_TOTALS SOURCES CONFIGS REQUESTS REQUESTS_BY_TIME HOLDS HEALTH_CHECKS HEALTH_ISSUES HEALTH_ATTEMPTS
    HEALTH_CONTROLS ALERTS ALERT_OUTBOX ALERT_DELIVERIES ALERT_SILENCES BREAKERS BACKUPS CERTIFICATES
    CERTIFICATE_GENERATIONS CERTIFICATE_EVENTS DATABASE_CARE DATABASE_LEDGER DEPENDENCY_UPDATES DEPENDENCY_RELEASES
    VULNERABILITY_CLOCKS INCIDENTS ROLLBACKS DRILLS TALLIES
}

/// Of a state that does not go on from the earlier one, since that was lost in between: only what has happened since is
/// added, for the earlier one knows more about the world.
fn copy_since(from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut rows = copy_table(schema::RUNS, from, to)?;
    rows += copy_table(schema::RUNS_RUNNING, from, to)?;
    rows += copy_table(schema::RUN_STEPS, from, to)?;
    rows += copy_table(schema::JOB_MARKS, from, to)?;
    // What was stopped then or is stopped now stays so.
    rows += copy_table(schema::JOB_PAUSES, from, to)?;
    rows += copy_breakers(from, to)?;
    rows += copy_table(schema::REQUESTS, from, to)?;
    rows += copy_table(schema::REQUESTS_BY_TIME, from, to)?;
    rows += copy_table(schema::ALERTS, from, to)?;
    rows += copy_table(schema::ALERT_SILENCES, from, to)?;
    rows += copy_table(schema::BACKUPS, from, to)?;
    rows += copy_table(schema::INCIDENTS, from, to)?;
    rows += copy_table(schema::HOLDS, from, to)?;
    rows += copy_table(schema::HEALTH_ATTEMPTS, from, to)?;
    rows += copy_table(schema::HEALTH_CONTROLS, from, to)?;
    rows += copy_table(schema::CERTIFICATE_EVENTS, from, to)?;
    rows += copy_table(schema::ROLLBACKS, from, to)?;
    rows += copy_table(schema::DRILLS, from, to)?;
    // What still waits to be told is what the newer one has.
    to.delete_table(schema::ALERT_OUTBOX)?;
    rows += copy_table(schema::ALERT_OUTBOX, from, to)?;
    Ok(rows)
}

/// Breakers of the newer state, but for those that are not open there and are in the earlier one.
fn copy_breakers(from: &ReadTransaction, to: &WriteTransaction) -> Result<u64, redb::Error> {
    let open = |bytes: &[u8]| {
        // One that can't be read is not closed by that.
        decode::<BreakerRecord>(&"a breaker", bytes).is_ok_and(|it| it.state == BreakerState::Open)
    };
    let (from, mut to) = (from.open_table(schema::BREAKERS)?, to.open_table(schema::BREAKERS)?);
    let mut rows = 0;
    for row in from.iter()? {
        let (name, newer) = row?;
        let stays = match to.get(name.value())? {
            Some(earlier) => open(earlier.value()) && !open(newer.value()),
            None => false,
        };
        if !stays {
            to.insert(name.value(), newer.value())?;
            rows += 1;
        }
    }
    Ok(rows)
}

/// Carries what must not go back from `live` into `earlier`, in one commit with the oplog entry of `intent`; the oplog
/// that comes of it is proven before. Opening them has proven each of their pages. Both files must be nobody's.
///
/// It may be done again: an `intent` with the same action and correlation id as the newest entry of `earlier` was carried
/// out already, which counts only if nothing was written to `live` since.
///
/// # Errors
/// When either can't be opened, or the disk fails.
pub fn carry_forward(
    live: &Path,
    earlier: &Path,
    cache_bytes: usize,
    intent: Intent,
) -> Result<Carried, CarryError> {
    let from = opened(live, cache_bytes).map_err(CarryError::Live)?;
    let to = opened(earlier, cache_bytes).map_err(CarryError::Earlier)?;
    from.reading(|reading| {
        let filled = to.reading(|earlier| filled(earlier, &intent))?;
        let then = to.reading(|earlier| oplog_of(earlier).head())?;
        if let Some(filled) = filled {
            same_end(&filled, &intent, reading, &to)?;
            let broken = to.reading(|earlier| {
                Ok::<_, StorageError>(wrong(&oplog_of(earlier).verify(None)?))
            })?;
            return Ok(Carried {
                rows: 0,
                entries_then: then.sequence,
                entries_now: then.sequence,
                broken,
            });
        }
        to.transact(|writing| {
            let rows = fill(reading, writing, then)?;
            let sink = Sink::new(writing, to.failed());
            let entries_now = oplog::append(sink, intent)?;
            let broken = wrong(&Oplog::new(sink.source()).verify(None)?);
            if let Some(why) = &broken
                && wrong(&oplog_of(reading).verify(None)?).is_none()
            {
                // It was whole before: this is no copy of it.
                return Err(CarryError::Earlier(carrying(earlier, why.clone())));
            }
            Ok(Carried { rows, entries_then: then.sequence, entries_now, broken })
        })
    })
}

/// Of an earlier state for which there is nothing that could be carried forward: says so in it, with an entry and a gap,
/// so that whoever opens it finds both. It may be done again.
///
/// # Errors
/// When it can't be opened, is not whole, or the disk fails.
pub fn leave_gap(
    earlier: &Path,
    cache_bytes: usize,
    (intent, gap): (Intent, &GapRecord),
) -> Result<(), CarryError> {
    let to = opened(earlier, cache_bytes).map_err(CarryError::Earlier)?;
    to.reading(|reading| proven(reading, earlier)).map_err(CarryError::Earlier)?;
    if to.reading(|reading| filled(reading, &intent))?.is_some() {
        return Ok(());
    }
    to.transact(|writing| {
        let sink = Sink::new(writing, to.failed());
        GapsWriting::new(sink).put(gap)?;
        oplog::append(sink, intent)?;
        Ok::<_, CarryError>(())
    })
}

fn opened(path: &Path, cache_bytes: usize) -> Result<Engine, StorageError> {
    Engine::open(path, cache_bytes, &SCHEMA, Manner::default())
        .map_err(|error| carrying(path, error))
}

fn oplog_of(reading: &ReadTransaction) -> Oplog<'_> {
    static NEVER: AtomicBool = AtomicBool::new(false);
    Reading::new(reading, &NEVER).oplog()
}

fn wrong(verification: &Verification) -> Option<String> {
    verification.findings.first().map(|finding| format!("{}: {}", finding.code, finding.message))
}

/// The newest entry, if it is what an intent left that was carried out before.
fn filled(earlier: &ReadTransaction, intent: &Intent) -> Result<Option<OplogEntry>, StorageError> {
    let newest = oplog_of(earlier).newest(None, 1, |_| true)?.pop().map(|it| it.entry);
    Ok(newest.filter(|it| it.action == intent.action && it.correlation_id == intent.correlation_id))
}

/// Refuses a copy that was filled from something else than what `live` is by now.
fn same_end(
    filled: &OplogEntry,
    intent: &Intent,
    live: &ReadTransaction,
    to: &Engine,
) -> Result<(), CarryError> {
    let newest = oplog_of(live).newest(None, 1, |_| true)?.pop();
    let before = filled.sequence.saturating_sub(1);
    let before = to.reading(|earlier| oplog_of(earlier).get(before))?;
    let same = match (newest, before) {
        (Some(one), Some(other)) if one.entry.sequence == other.entry.sequence => {
            one.hash == other.hash
        }
        // Where the state does not go on from the earlier one, its entries stand behind those of that.
        (Some(one), Some(other)) if one.entry.sequence < other.entry.sequence => {
            OplogEntry { sequence: 0, ..one.entry } == OplogEntry { sequence: 0, ..other.entry }
        }
        (None, _) => true,
        _ => false,
    };
    if same && filled.outcome == intent.outcome {
        return Ok(());
    }
    let why = "it was filled before from what the state in its place is not any more";
    Err(CarryError::Earlier(carrying(Path::new("the copy"), why)))
}

fn fill(
    reading: &ReadTransaction,
    writing: &WriteTransaction,
    then: Head,
) -> Result<u64, StorageError> {
    let never = AtomicBool::new(false);
    let failed = |error| failure(&never, "carry the state forward", error);
    let live = Reading::new(reading, &never);
    let sink = Sink::new(writing, &never);
    let at_head = live.oplog().range(then.sequence, 1)?.pop();
    let goes_on = then.sequence == 0
        || at_head.is_some_and(|it| it.entry.sequence == then.sequence && it.hash == then.hash);
    let mut rows = floors::raise(reading, writing).map_err(failed)?;
    if goes_on {
        rows += copy_forward(reading, writing).map_err(failed)?;
        copy_rows(
            reading,
            writing,
            &[IDENTITY_ROW, HEAD_ROW, EMERGENCY_ROW, COURSE_ROW, LEASE_ROW, FLEET_ROW, GAP_ROW],
        )
        .map_err(failed)?;
        return Ok(rows);
    }
    rows += copy_since(reading, writing).map_err(failed)?;
    emergency::carry(&live, sink)?;
    // Who renews it now: an older one would halt a trading system that gave it up since.
    copy_rows(reading, writing, &[LEASE_ROW]).map_err(failed)?;
    let mut next = 1;
    loop {
        let entries = live.oplog().range(next, 1_000)?;
        let Some(last) = entries.last() else { break };
        next = last.entry.sequence + 1;
        for stored in entries {
            let entry = stored.entry;
            let OplogEntry {
                at,
                actor,
                action,
                target,
                reason,
                outcome,
                detail,
                correlation_id,
                trace_id,
                sequence: _,
            } = entry;
            let intent = Intent {
                at,
                actor,
                action,
                target,
                reason,
                outcome,
                detail,
                correlation_id,
                trace_id,
            };
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
        // Of the floors the higher one counts.
        let mut all: Vec<&str> = FORWARD.iter().chain(BACK).chain(&["FLOORS"]).copied().collect();
        all.sort_unstable();
        let mut there = table_names();
        there.sort_unstable();
        assert_eq!(all, there);
    }
}
