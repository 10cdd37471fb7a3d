//! Correlation matrices, version by version: what each was held against, how it was rolled out, and its values.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{floors, reads_as};
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::{MATRICES, MATRIX_VALUES};
use crate::view::{Sink, Source};

/// A criterion that a matrix was held against.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CriterionRecord {
    /// Its name.
    pub name: String,
    /// What was found; `None` where nothing was to be measured.
    pub value: Option<f64>,
    /// What it may be.
    pub limit: f64,
    /// The value has to be at least the limit, not at most.
    pub at_least: bool,
    /// "pass", "fail", "unknown".
    pub verdict: String,
    /// In words.
    pub detail: String,
}

/// A pair of series, and how far it moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MovedRecord {
    /// The one.
    pub one: String,
    /// The other.
    pub other: String,
    /// What was active.
    pub old: f64,
    /// What was calculated.
    pub new: f64,
    /// How unlikely that is as noise.
    pub z: Option<f64>,
}

/// A pair of series without enough to go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LackRecord {
    /// The one.
    pub one: String,
    /// The other.
    pub other: String,
    /// Rows that they have in common.
    pub points: u32,
    /// Why it has no value.
    pub why: String,
}

/// That the nearest definite matrix was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RepairRecord {
    /// The largest change of a pair.
    pub largest: f64,
    /// Of which pair.
    pub pair: (String, String),
    /// All changes together.
    pub frobenius: f64,
    /// How many steps that took.
    pub steps: u32,
}

/// A stage of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Of the consumers that use the new matrix.
    pub percent: u32,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; `None` while it goes on.
    pub ended_at: Option<Timestamp>,
    /// How: "passed", "harmful", "forced"; empty while it goes on.
    pub how: String,
    /// Why, in words.
    pub verdict: String,
    /// What was reported by its end, in the outcomes' own form.
    pub tally: String,
}

/// While a version was active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodRecord {
    /// From when.
    pub from: Timestamp,
    /// Until when; `None`: it still is.
    pub until: Option<Timestamp>,
}

/// How a version is rolled out, fixed when that begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// The share of the consumers in each stage, in percent, ending with 100.
    pub percents: Vec<u32>,
    /// The smaller arm of a stage needs so many outcomes.
    pub outcomes: u64,
    /// The chance that a matrix that does no harm is taken for one that does, over all stages.
    pub alpha: f64,
}

/// A version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MatrixRecord {
    /// From 1.
    pub version: u64,
    /// "canary", "active", "superseded", "rejected", "rolled back".
    pub state: String,
    /// When it was calculated.
    pub calculated_at: Timestamp,
    /// Who had it calculated.
    pub by: String,
    /// Why.
    pub reason: String,
    /// "scheduled", "by hand" or "the fleet".
    pub cause: String,
    /// The first of its days.
    pub window_from: Timestamp,
    /// Up to when values were used.
    pub window_until: Timestamp,
    /// How many series it has.
    pub series: u32,
    /// The fewest rows that a pair has in common.
    pub fewest_points: u32,
    /// What it was held against.
    pub criteria: Vec<CriterionRecord>,
    /// Those that moved most.
    pub worst: Vec<MovedRecord>,
    /// How much all moved, relative to what was active.
    pub frobenius_ratio: Option<f64>,
    /// Pairs without enough to go by: the first of them.
    pub lacking: Vec<LackRecord>,
    /// How many there are.
    pub lacking_total: u32,
    /// How many of those kept what was active.
    pub carried: u32,
    /// What makes it indefinite, with its weight.
    pub indefinite: Vec<(String, f64)>,
    /// That it was made definite.
    pub repair: Option<RepairRecord>,
    /// The version that was active when it became so; 0: none.
    pub replaced: u64,
    /// What it was tried against; 0: nothing.
    pub control: u64,
    /// While it was active, oldest first.
    pub periods: Vec<PeriodRecord>,
    /// When it was used for the last time.
    pub ended_at: Option<Timestamp>,
    /// Who ended that.
    pub ended_by: String,
    /// Why.
    pub ended_reason: String,
    /// Whether its values are kept.
    pub kept: bool,
    /// Names its series and values.
    pub digest: String,
    /// How it is rolled out.
    pub rollout: RolloutRecord,
    /// The stages of that by now.
    pub stages: Vec<StageRecord>,
    /// The number by which the fleet has it; 0: it has not.
    #[serde(default)]
    pub fleet: u64,
}

impl Record for MatrixRecord {
    const TABLE: &'static str = "matrices";
    const VERSION: u8 = 1;
}

/// Reads matrices.
#[derive(Clone, Copy)]
pub struct Matrices<'t> {
    source: Source<'t>,
}

impl<'t> Matrices<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// All versions, oldest first.
    pub fn all(&self) -> Result<Vec<MatrixRecord>, StorageError> {
        let view = self.source.view(MATRICES)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }

    /// The number of the version that comes next: none that was given before, also by a state that went back since.
    pub fn next_version(&self) -> Result<u64, StorageError> {
        let view = self.source.view(MATRICES)?;
        let last = view.all()?.next_back().transpose()?.map(|(key, _)| key.value());
        floors::next(self.source, floors::MATRIX, last)
    }

    /// The values of a version, in the form of the statistics.
    pub fn values(&self, version: u64) -> Result<Option<Vec<u8>>, StorageError> {
        let view = self.source.view(MATRIX_VALUES)?;
        Ok(view.get(version)?.map(|row| row.value().to_vec()))
    }
}

/// Writes matrices.
#[derive(Clone, Copy)]
pub struct MatricesWriting<'t> {
    reading: Matrices<'t>,
    sink: Sink<'t>,
}

reads_as!(MatricesWriting => Matrices, reading);

impl<'t> MatricesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Matrices::new(sink.source()), sink }
    }

    /// Writes what is known of a version.
    pub fn put(&self, record: &MatrixRecord) -> Result<(), StorageError> {
        let bytes = encode(&record.version, record)?;
        self.sink.edit(MATRICES)?.insert(record.version, bytes.as_slice())
    }

    /// Writes the values of a version.
    pub fn put_values(&self, version: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.sink.edit(MATRIX_VALUES)?.insert(version, bytes)
    }

    /// Forgets the values of a version.
    pub fn forget_values(&self, version: u64) -> Result<bool, StorageError> {
        self.sink.edit(MATRIX_VALUES)?.remove(version)
    }

    /// Forgets a version. The newest stays, so that no number comes twice.
    pub fn forget(&self, version: u64) -> Result<bool, StorageError> {
        self.sink.edit(MATRIX_VALUES)?.remove(version)?;
        self.sink.edit(MATRICES)?.remove(version)
    }
}
