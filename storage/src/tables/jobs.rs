//! Scheduled jobs: who paused them, and when they last ran.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use super::runs::RunState;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::{JOB_MARKS, JOB_PAUSES};
use crate::view::{Sink, Source};

/// Why a job does not run by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPause {
    /// Who paused it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Record for JobPause {
    const TABLE: &'static str = "job_pauses";
    const VERSION: u8 = 1;
}

/// How far a job's schedule got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMark {
    /// The last due time that was served or skipped.
    pub last_due_at: Option<Timestamp>,
    /// The id of the last run; empty if there was none.
    pub last_run_id: String,
    /// How the last run ended.
    pub last_state: Option<RunState>,
    /// Why the last due time was skipped; empty if it was not.
    pub last_skip: String,
}

impl Record for JobMark {
    const TABLE: &'static str = "job_marks";
    const VERSION: u8 = 1;
}

/// Reads jobs.
#[derive(Clone, Copy)]
pub struct Jobs<'t> {
    source: Source<'t>,
}

impl<'t> Jobs<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The job's pause, if it is paused.
    pub fn pause(&self, name: &str) -> Result<Option<JobPause>, StorageError> {
        let view = self.source.view(JOB_PAUSES)?;
        let row = view.get(name)?;
        row.map(|row| decode(&name, row.value())).transpose()
    }

    /// The job's mark, if it has one yet.
    pub fn mark(&self, name: &str) -> Result<Option<JobMark>, StorageError> {
        let view = self.source.view(JOB_MARKS)?;
        let row = view.get(name)?;
        row.map(|row| decode(&name, row.value())).transpose()
    }
}

/// Writes what needs no oplog entry: the marks.
#[derive(Clone, Copy)]
pub struct JobsBookkeeping<'t> {
    reading: Jobs<'t>,
    sink: Sink<'t>,
}

reads_as!(JobsBookkeeping => Jobs, reading);

impl<'t> JobsBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Jobs::new(sink.source()), sink }
    }

    /// Writes or replaces the job's mark.
    pub fn set_mark(&self, name: &str, mark: &JobMark) -> Result<(), StorageError> {
        check_name(JobMark::TABLE, name)?;
        let bytes = encode(&name, mark)?;
        self.sink.edit(JOB_MARKS)?.insert(name, bytes.as_slice())
    }
}

/// Writes jobs.
#[derive(Clone, Copy)]
pub struct JobsWriting<'t> {
    bookkeeping: JobsBookkeeping<'t>,
    sink: Sink<'t>,
}

reads_as!(JobsWriting => JobsBookkeeping, bookkeeping);

impl<'t> JobsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { bookkeeping: JobsBookkeeping::new(sink), sink }
    }

    /// Pauses the job, or replaces its pause.
    pub fn set_pause(&self, name: &str, pause: &JobPause) -> Result<(), StorageError> {
        check_name(JobPause::TABLE, name)?;
        let bytes = encode(&name, pause)?;
        self.sink.edit(JOB_PAUSES)?.insert(name, bytes.as_slice())
    }

    /// Ends the job's pause; false if it was not paused.
    pub fn clear_pause(&self, name: &str) -> Result<bool, StorageError> {
        self.sink.edit(JOB_PAUSES)?.remove(name)
    }
}
