//! Experiments: what each tries, by what it is decided, and how it ended. What came in of their trades is in the file of
//! trades.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{floors, reads_as};
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::EXPERIMENTS;
use crate::view::{Sink, Source};

/// What an experiment tries of one parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The parameter.
    pub name: String,
    /// The value that was in force when it began.
    pub control: String,
    /// The version of that.
    pub control_version: u64,
    /// The value that is tried.
    pub variant: String,
}

/// By what an experiment is decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RulesRecord {
    /// The least trades in each arm.
    pub least: u64,
    /// Trades in the smaller arm at which it ends as no difference.
    pub planned: u64,
    /// And at which it ends at last.
    pub most: u64,
    /// The least lift to be promoted.
    pub promote_lift: f64,
    /// The lift at which it is rolled back.
    pub rollback_lift: f64,
    /// The least effect to be promoted.
    pub least_effect: f64,
    /// The error that is allowed.
    pub alpha: f64,
    /// A rollback needs evidence as well.
    pub guarded: bool,
}

/// How an experiment ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConclusionRecord {
    /// When.
    pub at: Timestamp,
    /// How: "promoted", "rolled back", "no difference", "below threshold".
    pub how: String,
    /// Somebody ended it.
    pub forced: bool,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The line of the decision table that held then; 0: none was looked at.
    pub line: u8,
    /// What was tallied by then, in the trades' own form (hexadecimal), by which the decision can be taken again.
    pub tally: String,
    /// What all hosts of the fleet had tallied by then, in the same form, where the fleet ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
}

/// An experiment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRecord {
    /// From 1; its id is `TEST_` and this.
    pub number: u64,
    /// Whose parameters.
    pub strategy: String,
    /// What it tries.
    pub trials: Vec<TrialRecord>,
    /// The variant's share of the units, in hundredths of a percent.
    pub variant_basis_points: u32,
    /// By what significance is judged.
    pub design: String,
    /// By what it is decided.
    pub rules: RulesRecord,
    /// By what units are assigned.
    pub seed: String,
    /// The host that takes the looks.
    pub owner: String,
    /// Names all of the above.
    pub hash: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Who began it.
    pub started_by: String,
    /// Why.
    pub reason: String,
    /// How it ended; `None` while it goes on.
    pub conclusion: Option<ConclusionRecord>,
    /// The fleet's name for it; empty: it is this host's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fleet: String,
}

impl Record for ExperimentRecord {
    const TABLE: &'static str = "experiments";
    const VERSION: u8 = 1;
}

/// Reads experiments.
#[derive(Clone, Copy)]
pub struct Experiments<'t> {
    source: Source<'t>,
}

impl<'t> Experiments<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Result<Option<ExperimentRecord>, StorageError> {
        let view = self.source.view(EXPERIMENTS)?;
        let row = view.get(number)?;
        row.map(|row| decode(&number, row.value())).transpose()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Result<Vec<ExperimentRecord>, StorageError> {
        let view = self.source.view(EXPERIMENTS)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }

    /// The number that the next one has: none that was given before, also by a state that went back since.
    pub fn next_number(&self) -> Result<u64, StorageError> {
        let view = self.source.view(EXPERIMENTS)?;
        let last = view.all()?.next_back().transpose()?.map(|(key, _)| key.value());
        floors::next(self.source, floors::EXPERIMENT, last)
    }
}

/// Writes experiments.
#[derive(Clone, Copy)]
pub struct ExperimentsWriting<'t> {
    reading: Experiments<'t>,
    sink: Sink<'t>,
}

reads_as!(ExperimentsWriting => Experiments, reading);

impl<'t> ExperimentsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Experiments::new(sink.source()), sink }
    }

    /// Writes one.
    pub fn put(&self, record: &ExperimentRecord) -> Result<(), StorageError> {
        let bytes = encode(&record.number, record)?;
        self.sink.edit(EXPERIMENTS)?.insert(record.number, bytes.as_slice())
    }

    /// Forgets one that has ended. The newest stays, so that no number comes twice.
    pub fn forget(&self, number: u64) -> Result<bool, StorageError> {
        self.sink.edit(EXPERIMENTS)?.remove(number)
    }
}
