//! Incidents: what people were called about, from when it began until its condition was over.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::Trigger;
use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, encode};
use crate::schema::INCIDENTS;
use crate::view::{Sink, Source};

/// So many incidents are kept; one that goes on always is.
pub const INCIDENTS_KEPT: usize = 1_000;

/// Where an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncidentState {
    /// Its condition goes on.
    Open,
    /// Its condition is over, and nobody has written down what came of it.
    Over,
    /// Somebody has.
    Closed,
}

/// What a person has written down at an incident's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentClosure {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// How it was resolved.
    pub resolution: String,
    /// What is to be learned from it; empty: nothing, as that person said.
    pub lesson: String,
    /// The page of the runbook that is to be mended; empty: none, as that person said.
    pub runbook: String,
}

/// What people were called about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// A ULID.
    pub id: String,
    /// When people were called.
    pub opened_at: Timestamp,
    /// When its condition was over; `None`: it goes on.
    pub over_at: Option<Timestamp>,
    /// Why.
    pub trigger: Trigger,
    /// In a line.
    pub title: String,
    /// What was known then, and what had been tried.
    pub details: Vec<String>,
    /// The issues it is about: check and episode.
    pub issues: Vec<(String, u64)>,
    /// The failing check that the others depend on; empty: none is known.
    pub root: String,
    /// "low", "medium", "high" or "critical".
    pub severity: String,
    /// Who opened it.
    pub by: String,
    /// What that person said.
    pub reason: String,
    /// How its condition ended, as the agent saw it.
    pub resolution: String,
    /// The page of the runbook.
    pub runbook: String,
    /// What it is about where that is no issue, such as "emergency 3".
    #[serde(default)]
    pub subject: String,
    /// What was written down at its end; `None`: nobody has.
    #[serde(default)]
    pub closed: Option<IncidentClosure>,
}

impl Record for IncidentRecord {
    const TABLE: &'static str = "incidents";
    const VERSION: u8 = 1;
}

impl IncidentRecord {
    /// One that begins, critical, about nothing in particular yet: what more is known is set on it.
    pub fn new(
        (id, opened_at): (String, Timestamp),
        trigger: Trigger,
        title: impl Into<String>,
        by: impl Into<String>,
    ) -> Self {
        Self {
            id,
            opened_at,
            over_at: None,
            trigger,
            title: title.into(),
            details: Vec::new(),
            issues: Vec::new(),
            root: String::new(),
            severity: "critical".to_owned(),
            by: by.into(),
            reason: String::new(),
            resolution: String::new(),
            runbook: String::new(),
            subject: String::new(),
            closed: None,
        }
    }

    /// Whether its condition goes on.
    pub fn open(&self) -> bool {
        self.over_at.is_none()
    }

    /// Where it is.
    pub fn state(&self) -> IncidentState {
        match (self.over_at, &self.closed) {
            (_, Some(_)) => IncidentState::Closed,
            (Some(_), None) => IncidentState::Over,
            (None, None) => IncidentState::Open,
        }
    }
}

/// Reads incidents.
#[derive(Clone, Copy)]
pub struct Incidents<'t> {
    source: Source<'t>,
}

impl<'t> Incidents<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// At most `limit` incidents, newest first; with `open_only` those that go on.
    pub fn list(&self, open_only: bool, limit: usize) -> Result<Vec<IncidentRecord>, StorageError> {
        self.source
            .view(INCIDENTS)?
            .last(limit, |record: &IncidentRecord| !open_only || record.open())
    }

    /// The latest incident of this trigger about this subject.
    pub fn about(
        &self,
        trigger: Trigger,
        subject: &str,
    ) -> Result<Option<IncidentRecord>, StorageError> {
        let about =
            |record: &IncidentRecord| record.trigger == trigger && record.subject == subject;
        Ok(self.source.view(INCIDENTS)?.last(1, about)?.pop())
    }

    /// The incidents whose ids begin with `prefix`, at most `limit`.
    pub fn with_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<IncidentRecord>, StorageError> {
        self.source.view(INCIDENTS)?.with_prefix(prefix, limit)
    }
}

/// Writes incidents.
#[derive(Clone, Copy)]
pub struct IncidentsWriting<'t> {
    reading: Incidents<'t>,
    sink: Sink<'t>,
}

reads_as!(IncidentsWriting => Incidents, reading);

impl<'t> IncidentsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Incidents::new(sink.source()), sink }
    }

    /// Writes or replaces an incident; the oldest that are over go where there are more than `keep`.
    pub fn put(&self, record: &IncidentRecord, keep: usize) -> Result<(), StorageError> {
        check_name(IncidentRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(INCIDENTS)?.insert(record.id.as_str(), bytes.as_slice())?;
        let excess = self.list(false, usize::MAX)?;
        let oldest = excess.iter().skip(keep).filter(|incident| !incident.open());
        let mut table = self.sink.edit(INCIDENTS)?;
        for incident in oldest {
            table.remove(incident.id.as_str())?;
        }
        Ok(())
    }
}
