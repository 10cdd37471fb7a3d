//! The parameters of strategies, version by version.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{floors, reads_as};
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode, pair};
use crate::schema::PARAMETERS;
use crate::view::{Sink, Source};

/// So many versions of a parameter are kept.
pub const KEPT_VERSIONS: u64 = 100;

/// A version of a parameter that is the whole fleet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetVersion {
    /// From 1, one more with each change.
    pub version: u64,
    /// When it was made.
    pub at: Timestamp,
}

/// One version of a parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRecord {
    /// The strategy.
    pub strategy: String,
    /// Its parameter.
    pub name: String,
    /// From 1, one more with each change.
    pub version: u64,
    /// The value.
    pub value: String,
    /// When it came into force.
    pub set_at: Timestamp,
    /// Who set it.
    pub set_by: String,
    /// Why.
    pub reason: String,
    /// How it came about: "set", "promoted", "rolled back".
    pub cause: String,
    /// The experiment that promoted it; empty: none.
    pub experiment: String,
    /// The version whose value it has, where somebody went back; 0: none, or it is not known.
    #[serde(default)]
    pub restores: u64,
    /// The fleet's version that was last taken over here, by this version or before it; `None`: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetVersion>,
}

impl Record for ParameterRecord {
    const TABLE: &'static str = "parameters";
    const VERSION: u8 = 1;
}

/// Neither has a slash in it.
fn key(strategy: &str, name: &str) -> String {
    format!("{strategy}/{name}")
}

/// Reads parameters.
#[derive(Clone, Copy)]
pub struct Parameters<'t> {
    source: Source<'t>,
}

impl<'t> Parameters<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The versions of a parameter that are kept, oldest first.
    pub fn versions(
        &self,
        strategy: &str,
        name: &str,
    ) -> Result<Vec<ParameterRecord>, StorageError> {
        let key = key(strategy, name);
        let view = self.source.view(PARAMETERS)?;
        let rows = view.range((key.as_str(), 0)..=(key.as_str(), u64::MAX))?.map(|row| {
            let (at, value) = row?;
            decode(&pair(&key, at.value().1), value.value())
        });
        rows.collect()
    }

    /// The version in force.
    pub fn current(
        &self,
        strategy: &str,
        name: &str,
    ) -> Result<Option<ParameterRecord>, StorageError> {
        let key = key(strategy, name);
        let view = self.source.view(PARAMETERS)?;
        let last = view.range((key.as_str(), 0)..=(key.as_str(), u64::MAX))?.next_back();
        let Some(row) = last else { return Ok(None) };
        let (at, value) = row?;
        decode(&pair(&key, at.value().1), value.value()).map(Some)
    }

    /// The number of the version that comes next: none that was given before, also by a state that went back since.
    pub fn next_version(&self, strategy: &str, name: &str) -> Result<u64, StorageError> {
        let last = self.current(strategy, name)?.map(|last| last.version);
        floors::next(self.source, &floors::of_parameter(&key(strategy, name)), last)
    }

    /// Every version that is kept, by strategy, parameter and version.
    pub fn all(&self) -> Result<Vec<ParameterRecord>, StorageError> {
        let view = self.source.view(PARAMETERS)?;
        let rows = view.all()?.map(|row| {
            let (at, value) = row?;
            let (key, version) = at.value();
            decode(&pair(key, version), value.value())
        });
        rows.collect()
    }
}

/// Writes parameters.
#[derive(Clone, Copy)]
pub struct ParametersWriting<'t> {
    reading: Parameters<'t>,
    sink: Sink<'t>,
}

reads_as!(ParametersWriting => Parameters, reading);

impl<'t> ParametersWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Parameters::new(sink.source()), sink }
    }

    /// Writes the next version of a parameter under its number, with which it is returned. The oldest are forgotten.
    pub fn put_next(&self, mut record: ParameterRecord) -> Result<ParameterRecord, StorageError> {
        let key = key(&record.strategy, &record.name);
        check_name(ParameterRecord::TABLE, &key)?;
        record.version = self.reading.next_version(&record.strategy, &record.name)?;
        if record.fleet.is_none() {
            let last = self.reading.current(&record.strategy, &record.name)?;
            record.fleet = last.and_then(|last| last.fleet);
        }
        let bytes = encode(&pair(&key, record.version), &record)?;
        let mut table = self.sink.edit(PARAMETERS)?;
        table.insert((key.as_str(), record.version), bytes.as_slice())?;
        drop(table);
        // By how many there are: numbers are left out where a state went back.
        let there = self.reading.versions(&record.strategy, &record.name)?;
        let spare =
            there.len().saturating_sub(usize::try_from(KEPT_VERSIONS).unwrap_or(usize::MAX));
        if let Some(oldest) = spare.checked_sub(1).and_then(|last| there.get(last)) {
            let mut table = self.sink.edit(PARAMETERS)?;
            table.remove_range((key.as_str(), 0)..=(key.as_str(), oldest.version))?;
        }
        Ok(record)
    }
}
