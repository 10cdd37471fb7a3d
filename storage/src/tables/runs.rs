//! Runs: long operations with their steps.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode, pair};
use crate::schema::{RUN_STEPS, RUNS, RUNS_RUNNING};
use crate::view::{Sink, Source};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// It did what it was to do.
    Succeeded,
    /// It failed.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// The agent ended in the middle of it.
    Interrupted,
    /// Its preconditions were not met; nothing was done.
    Refused,
    /// How it went could not be found out.
    Unknown,
}

/// What became of an interrupted run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rest was done.
    Finished,
    /// What was done was taken back.
    Undone,
    /// It was left as it was, for a person to decide.
    Held,
    /// Nothing had been done yet.
    NothingDone,
}

/// The reconciliation of an interrupted run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconciliationRecord {
    /// What became of it.
    pub verdict: Verdict,
    /// More, for people.
    pub detail: String,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// A ULID: runs are ordered by it, so by their start.
    pub id: String,
    /// What kind of operation, as a stable name.
    pub kind: String,
    /// Where it is.
    pub state: RunState,
    /// Who started it.
    pub actor: String,
    /// Why; may be empty.
    pub reason: String,
    /// What it was started with.
    pub parameters: serde_json::Value,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended, once it did.
    pub ended_at: Option<Timestamp>,
    /// How it went, for people; may be empty.
    pub summary: String,
    /// The error's code where it failed or was refused, else empty.
    pub error_code: String,
    /// What became of it after an interruption.
    pub reconciliation: Option<ReconciliationRecord>,
    /// Whether somebody asked for its end.
    pub cancel_requested: bool,
    /// The trace that it belongs to, in 32 hex digits; empty for older ones.
    #[serde(default)]
    pub trace_id: String,
}

impl Record for RunRecord {
    const TABLE: &'static str = "runs";
    const VERSION: u8 = 1;
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// About to be done: after a crash, it may or may not have been.
    Intent,
    /// Done.
    Done,
    /// Tried, and failed.
    Failed,
}

/// One step of a run: one side effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's place in the run.
    pub number: u32,
    /// What is done, as a stable name.
    pub name: String,
    /// What it is done to.
    pub target: String,
    /// Where it is.
    pub state: StepState,
    /// More, for people; may be empty.
    pub detail: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it ended, once it did.
    pub ended_at: Option<Timestamp>,
}

impl Record for StepRecord {
    const TABLE: &'static str = "run_steps";
    const VERSION: u8 = 1;
}

/// Reads runs.
#[derive(Clone, Copy)]
pub struct Runs<'t> {
    source: Source<'t>,
}

impl<'t> Runs<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// One run.
    pub fn get(&self, id: &str) -> Result<Option<RunRecord>, StorageError> {
        let view = self.source.view(RUNS)?;
        let row = view.get(id)?;
        row.map(|row| decode(&id, row.value())).transpose()
    }

    /// How many runs ended in one of `states` at `since` or later. Runs that started more than a week before are
    /// not looked at.
    pub fn count_ended(&self, states: &[RunState], since: Timestamp) -> Result<u64, StorageError> {
        let oldest = since.saturating_sub(SignedDuration::from_hours(7 * 24)).unwrap_or(since);
        let view = self.source.view(RUNS)?;
        let mut count = 0;
        for row in view.all()?.rev() {
            let (key, value) = row?;
            let run: RunRecord = decode(&key.value(), value.value())?;
            if run.started_at < oldest {
                break;
            }
            let ended = run.ended_at.is_some_and(|at| at >= since);
            count += u64::from(ended && states.contains(&run.state));
        }
        Ok(count)
    }

    /// At most `limit` runs of that kind and state, newest first. Looks through all runs kept
    /// where few match; those in state running are found by an index.
    pub fn list(
        &self,
        kind: Option<&str>,
        state: Option<RunState>,
        limit: usize,
    ) -> Result<Vec<RunRecord>, StorageError> {
        let matches = |run: &RunRecord| {
            kind.is_none_or(|kind| run.kind == kind) && state.is_none_or(|state| run.state == state)
        };
        if state == Some(RunState::Running) {
            let mut running = self.running()?;
            running.retain(|run| matches(run));
            running.truncate(limit);
            return Ok(running);
        }
        let mut found = Vec::new();
        let view = self.source.view(RUNS)?;
        for row in view.all()?.rev() {
            if found.len() >= limit {
                break;
            }
            let (key, value) = row?;
            let run = decode(&key.value(), value.value())?;
            if matches(&run) {
                found.push(run);
            }
        }
        Ok(found)
    }

    /// At most `limit` runs whose id begins with `prefix`, oldest first.
    pub fn with_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<RunRecord>, StorageError> {
        self.source.view(RUNS)?.with_prefix(prefix, limit)
    }

    /// The steps of a run, by number.
    pub fn steps(&self, id: &str) -> Result<Vec<StepRecord>, StorageError> {
        let view = self.source.view(RUN_STEPS)?;
        let rows = view.range((id, 0)..=(id, u32::MAX))?;
        rows.map(|row| row.and_then(|(key, value)| decode(&pair(id, key.value().1), value.value())))
            .collect()
    }

    /// All runs in state running, newest first.
    pub fn running(&self) -> Result<Vec<RunRecord>, StorageError> {
        let index = self.source.view(RUNS_RUNNING)?;
        let view = self.source.view(RUNS)?;
        let mut found = Vec::new();
        for row in index.all()?.rev() {
            let (key, _) = row?;
            let Some(value) = view.get(key.value())? else {
                return Err(missing(key.value()));
            };
            found.push(decode(&key.value(), value.value())?);
        }
        Ok(found)
    }
}

/// Writes what needs no oplog entry: the progress of a run.
#[derive(Clone, Copy)]
pub struct RunsBookkeeping<'t> {
    reading: Runs<'t>,
    sink: Sink<'t>,
}

reads_as!(RunsBookkeeping => Runs, reading);

impl<'t> RunsBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Runs::new(sink.source()), sink }
    }

    /// Writes or replaces a step of an existing run; `NotFound` where there is no such run.
    pub fn put_step(&self, id: &str, step: &StepRecord) -> Result<(), StorageError> {
        if self.sink.edit(RUNS)?.get(id)?.is_none() {
            return Err(missing(id));
        }
        let bytes = encode(&pair(id, step.number), step)?;
        self.sink.edit(RUN_STEPS)?.insert((id, step.number), bytes.as_slice())
    }

    /// Notes that somebody asked for the run's end. False where it has ended already; `NotFound`
    /// where there is no such run.
    pub fn mark_cancel_requested(&self, id: &str) -> Result<bool, StorageError> {
        let mut run = self.get(id)?.ok_or_else(|| missing(id))?;
        if run.state != RunState::Running {
            return Ok(false);
        }
        run.cancel_requested = true;
        let bytes = encode(&id, &run)?;
        self.sink.edit(RUNS)?.insert(id, bytes.as_slice())?;
        Ok(true)
    }
}

/// Writes runs.
#[derive(Clone, Copy)]
pub struct RunsWriting<'t> {
    bookkeeping: RunsBookkeeping<'t>,
    sink: Sink<'t>,
}

reads_as!(RunsWriting => RunsBookkeeping, bookkeeping);

impl<'t> RunsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { bookkeeping: RunsBookkeeping::new(sink), sink }
    }

    /// Writes or replaces a run.
    pub fn put(&self, run: &RunRecord) -> Result<(), StorageError> {
        let id = run.id.as_str();
        check_name(RunRecord::TABLE, id)?;
        let bytes = encode(&id, run)?;
        self.sink.edit(RUNS)?.insert(id, bytes.as_slice())?;
        let mut index = self.sink.edit(RUNS_RUNNING)?;
        if run.state == RunState::Running {
            index.insert(id, ())
        } else {
            index.remove(id).map(|_| ())
        }
    }

    /// Deletes ended runs with their steps, oldest first, until at most `keep` ended ones are
    /// left. Runs in state running stay and don't count. Returns how many were deleted.
    pub fn prune(&self, keep: usize) -> Result<usize, StorageError> {
        let source = self.sink.source();
        let doomed: Vec<String> = {
            let running = source.view(RUNS_RUNNING)?;
            let runs = source.view(RUNS)?;
            let ended = runs.len()?.saturating_sub(running.len()?);
            let excess = usize::try_from(ended).unwrap_or(usize::MAX).saturating_sub(keep);
            let mut doomed = Vec::new();
            for row in runs.all()? {
                if doomed.len() >= excess {
                    break;
                }
                let (key, _) = row?;
                if running.get(key.value())?.is_none() {
                    doomed.push(key.value().to_owned());
                }
            }
            doomed
        };
        let mut runs = self.sink.edit(RUNS)?;
        let mut steps = self.sink.edit(RUN_STEPS)?;
        for id in &doomed {
            runs.remove(id.as_str())?;
            steps.remove_range((id.as_str(), 0)..=(id.as_str(), u32::MAX))?;
        }
        Ok(doomed.len())
    }
}

fn missing(id: &str) -> StorageError {
    StorageError::NotFound { table: RunRecord::TABLE, key: id.to_owned() }
}
