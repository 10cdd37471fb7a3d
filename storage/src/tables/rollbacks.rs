//! Rollbacks: announced before anything is changed, and what came of each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, encode};
use crate::schema::ROLLBACKS;
use crate::view::{Sink, Source};

/// So many rollbacks are kept.
pub const KEPT_ROLLBACKS: usize = 1_000;

/// What came of a rollback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackOutcome {
    /// It was announced, and goes on, or was cut off.
    #[default]
    Begun,
    /// The component is at the point, which was read back.
    Done,
    /// All is ready for it; it takes place when the agent starts next.
    Staged,
    /// The component is as it was before.
    Failed,
    /// What the component is at is not known.
    Unknown,
}

impl RollbackOutcome {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Staged => "staged",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A rollback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRecord {
    /// A ULID.
    pub id: String,
    /// Such as "config" or "certificate:api".
    pub component: String,
    /// The point that it came from.
    pub from: String,
    /// And what was there: equal content has an equal digest.
    pub from_digest: String,
    /// The point that it goes to.
    pub to: String,
    /// And what is there.
    pub to_digest: String,
    /// The point that it made, where each change makes a new one; empty: none.
    #[serde(default)]
    pub made: String,
    /// When it was begun.
    pub at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// What came of it.
    pub outcome: RollbackOutcome,
    /// In words.
    pub detail: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What the deep check showed afterwards: "good", "bad", "unknown"; empty: there was none.
    #[serde(default)]
    pub health: String,
    /// The incident that was opened; empty: none.
    #[serde(default)]
    pub incident: String,
    /// Its deep check, or the end of its incident, is still to come.
    #[serde(default)]
    pub owed: bool,
}

impl Record for RollbackRecord {
    const TABLE: &'static str = "rollbacks";
    const VERSION: u8 = 1;
}

/// Reads rollbacks.
#[derive(Clone, Copy)]
pub struct Rollbacks<'t> {
    source: Source<'t>,
}

impl<'t> Rollbacks<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// At most `limit` of those that are wanted, newest first.
    pub fn list(
        &self,
        limit: usize,
        wanted: impl Fn(&RollbackRecord) -> bool,
    ) -> Result<Vec<RollbackRecord>, StorageError> {
        self.source.view(ROLLBACKS)?.last(limit, wanted)
    }
}

/// Writes rollbacks.
#[derive(Clone, Copy)]
pub struct RollbacksWriting<'t> {
    reading: Rollbacks<'t>,
    sink: Sink<'t>,
}

reads_as!(RollbacksWriting => Rollbacks, reading);

impl<'t> RollbacksWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Rollbacks::new(sink.source()), sink }
    }

    /// Writes or replaces a rollback; the oldest are forgotten.
    pub fn put(&self, record: &RollbackRecord) -> Result<(), StorageError> {
        check_name(RollbackRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(ROLLBACKS)?.insert(record.id.as_str(), bytes.as_slice())?;
        let all = self.list(usize::MAX, |_| true)?;
        let mut table = self.sink.edit(ROLLBACKS)?;
        for old in all.iter().skip(KEPT_ROLLBACKS) {
            table.remove(old.id.as_str())?;
        }
        Ok(())
    }
}
