//! Circuit breakers: where each one is in its life, and what is usual for the operation behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::moment::Moment;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::{BREAKERS, BREAKERS_USUAL};
use crate::view::{Sink, Source};

/// Whether calls go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// They do.
    Closed,
    /// They are rejected.
    Open,
    /// Only probes do.
    HalfOpen,
}

/// Where a breaker is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerRecord {
    /// Of the operation or dependency.
    pub name: String,
    /// Whether calls go through.
    pub state: BreakerState,
    /// Since when.
    pub since: Moment,
    /// In state open: for how long; `None`: until somebody resets it.
    pub lasts: Option<Duration>,
    /// Who opened or closed it last.
    pub by: String,
    /// Why.
    pub reason: String,
    /// So often it has opened from closed.
    pub opening: u64,
    /// So often in a row it did not come back, or not for long.
    pub failures: u32,
}

impl Record for BreakerRecord {
    const TABLE: &'static str = "breakers";
    const VERSION: u8 = 1;
}

/// A share that is usual, and how much more than by chance the windows scatter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsualShare {
    /// Between 0 and 1.
    pub share: f64,
    /// At least 1.
    pub phi: f64,
}

/// What is usual for an operation, as far as it was learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsualRecord {
    /// The breaker.
    pub name: String,
    /// A call that takes longer counts as slow.
    pub slow_after: Option<Duration>,
    /// Of slow calls; holds for that limit only.
    pub slow: Option<UsualShare>,
    /// Of calls that failed.
    pub failed: Option<UsualShare>,
}

impl Record for UsualRecord {
    const TABLE: &'static str = "breakers_usual";
    const VERSION: u8 = 1;
}

/// Reads breakers.
#[derive(Clone, Copy)]
pub struct Breakers<'t> {
    source: Source<'t>,
}

impl<'t> Breakers<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// Every breaker that ever opened and was not forgotten, by name.
    pub fn all(&self) -> Result<Vec<BreakerRecord>, StorageError> {
        let view = self.source.view(BREAKERS)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }

    /// What is usual, for each breaker of which it was learned.
    pub fn usual(&self) -> Result<Vec<UsualRecord>, StorageError> {
        let view = self.source.view(BREAKERS_USUAL)?;
        let rows = view.all()?.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        });
        rows.collect()
    }
}

/// Writes what needs no oplog entry: what was learned.
#[derive(Clone, Copy)]
pub struct BreakersBookkeeping<'t> {
    reading: Breakers<'t>,
    sink: Sink<'t>,
}

reads_as!(BreakersBookkeeping => Breakers, reading);

impl<'t> BreakersBookkeeping<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Breakers::new(sink.source()), sink }
    }

    /// Writes what is usual.
    pub fn put_usual(&self, record: &UsualRecord) -> Result<(), StorageError> {
        check_name(UsualRecord::TABLE, &record.name)?;
        let bytes = encode(&record.name.as_str(), record)?;
        self.sink.edit(BREAKERS_USUAL)?.insert(record.name.as_str(), bytes.as_slice())
    }

    /// Forgets what is usual.
    pub fn forget_usual(&self, name: &str) -> Result<bool, StorageError> {
        self.sink.edit(BREAKERS_USUAL)?.remove(name)
    }
}

/// Writes breakers.
#[derive(Clone, Copy)]
pub struct BreakersWriting<'t> {
    bookkeeping: BreakersBookkeeping<'t>,
    sink: Sink<'t>,
}

reads_as!(BreakersWriting => BreakersBookkeeping, bookkeeping);

impl<'t> BreakersWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { bookkeeping: BreakersBookkeeping::new(sink), sink }
    }

    /// Writes a breaker.
    pub fn put(&self, record: &BreakerRecord) -> Result<(), StorageError> {
        check_name(BreakerRecord::TABLE, &record.name)?;
        let bytes = encode(&record.name.as_str(), record)?;
        self.sink.edit(BREAKERS)?.insert(record.name.as_str(), bytes.as_slice())
    }

    /// Forgets a breaker, and what is usual behind it.
    pub fn forget(&self, name: &str) -> Result<bool, StorageError> {
        self.bookkeeping.forget_usual(name)?;
        self.sink.edit(BREAKERS)?.remove(name)
    }
}
