//! Holds on archived logs: what is held is not deleted, whatever its age.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::HOLDS;
use crate::view::{Sink, Source};

/// A hold on the lines of a log type within a time range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// A ULID.
    pub id: String,
    /// The log type; empty: all of them.
    pub log_type: String,
    /// From when; `None`: from the beginning.
    pub from: Option<Timestamp>,
    /// Until when, exclusive; `None`: for ever.
    pub until: Option<Timestamp>,
    /// Who holds it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when it is held.
    pub at: Timestamp,
}

impl Record for HoldRecord {
    const TABLE: &'static str = "holds";
    const VERSION: u8 = 1;
}

/// Reads holds.
#[derive(Clone, Copy)]
pub struct Holds<'t> {
    source: Source<'t>,
}

impl<'t> Holds<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The hold of this id.
    pub fn get(&self, id: &str) -> Result<Option<HoldRecord>, StorageError> {
        let view = self.source.view(HOLDS)?;
        let row = view.get(id)?;
        row.map(|row| decode(&id, row.value())).transpose()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Result<Vec<HoldRecord>, StorageError> {
        let view = self.source.view(HOLDS)?;
        let rows = view.all()?;
        rows.map(|row| {
            let (key, value) = row?;
            decode(&key.value(), value.value())
        })
        .collect()
    }
}

/// Writes holds.
#[derive(Clone, Copy)]
pub struct HoldsWriting<'t> {
    reading: Holds<'t>,
    sink: Sink<'t>,
}

reads_as!(HoldsWriting => Holds, reading);

impl<'t> HoldsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Holds::new(sink.source()), sink }
    }

    /// Writes a hold.
    pub fn put(&self, record: &HoldRecord) -> Result<(), StorageError> {
        check_name(HoldRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(HOLDS)?.insert(record.id.as_str(), bytes.as_slice())
    }

    /// Ends a hold; false if there was none.
    pub fn remove(&self, id: &str) -> Result<bool, StorageError> {
        self.sink.edit(HOLDS)?.remove(id)
    }
}
