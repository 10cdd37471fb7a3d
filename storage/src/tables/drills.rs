//! Drills: what was practised, how long it took, and where it did not go as it should.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, encode};
use crate::schema::DRILLS;
use crate::view::{Sink, Source};

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillOutcome {
    /// All of it was seen to work.
    Passed,
    /// Something did not.
    Failed,
    /// Something could not be seen.
    Unknown,
}

/// A step of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillStep {
    /// What was done.
    pub name: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What was seen of it.
    pub outcome: DrillOutcome,
    /// In words.
    pub detail: String,
}

/// What was practised once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// A ULID, that of its run.
    pub id: String,
    /// Such as "emergency", "restore", "rollback:config".
    pub drill: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was over.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: DrillOutcome,
    /// How long it took until all was well again, in milliseconds: the time to recover. `None`: it was not.
    pub rto_ms: Option<u64>,
    /// How much would have been lost, in milliseconds: the age of what it went back to when it began. `None`: nothing
    /// was gone back to that has an age, or it was not seen to work.
    #[serde(default)]
    pub rpo_ms: Option<u64>,
    /// In their order.
    pub steps: Vec<DrillStep>,
    /// Where it did not go as it should.
    pub deviations: Vec<String>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Record for DrillRecord {
    const TABLE: &'static str = "drills";
    const VERSION: u8 = 1;
}

/// Reads drills.
#[derive(Clone, Copy)]
pub struct Drills<'t> {
    source: Source<'t>,
}

impl<'t> Drills<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// At most `limit` of them, newest first; with a name those of one drill.
    pub fn list(&self, drill: &str, limit: usize) -> Result<Vec<DrillRecord>, StorageError> {
        self.source
            .view(DRILLS)?
            .last(limit, |record: &DrillRecord| drill.is_empty() || record.drill == drill)
    }

    /// Those whose ids begin with `prefix`, at most `limit`.
    pub fn with_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<DrillRecord>, StorageError> {
        self.source.view(DRILLS)?.with_prefix(prefix, limit)
    }

    /// The newest of a drill that passed.
    pub fn last_passed(&self, drill: &str) -> Result<Option<DrillRecord>, StorageError> {
        let passed =
            |record: &DrillRecord| record.drill == drill && record.outcome == DrillOutcome::Passed;
        Ok(self.source.view(DRILLS)?.last(1, passed)?.pop())
    }
}

/// Writes drills.
#[derive(Clone, Copy)]
pub struct DrillsWriting<'t> {
    reading: Drills<'t>,
    sink: Sink<'t>,
}

reads_as!(DrillsWriting => Drills, reading);

impl<'t> DrillsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Drills::new(sink.source()), sink }
    }

    /// Keeps one; the oldest go where there are more than `keep`, but for the last of each drill that passed.
    pub fn put(&self, record: &DrillRecord, keep: usize) -> Result<(), StorageError> {
        check_name(DrillRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(DRILLS)?.insert(record.id.as_str(), bytes.as_slice())?;
        let all = self.list("", usize::MAX)?;
        let mut proven = std::collections::BTreeSet::new();
        let mut gone = Vec::new();
        for (index, old) in all.iter().enumerate() {
            let last_passed =
                old.outcome == DrillOutcome::Passed && proven.insert(old.drill.as_str());
            if index >= keep && !last_passed {
                gone.push(old.id.as_str());
            }
        }
        let mut table = self.sink.edit(DRILLS)?;
        for id in gone {
            table.remove(id)?;
        }
        Ok(())
    }
}
