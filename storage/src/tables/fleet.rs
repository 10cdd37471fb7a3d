//! What this host remembers of its part in the fleet.

use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::{FLEET_ROW, META};
use crate::view::{Sink, Source};

/// What an agent leaves to the next one of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRecord {
    /// Under which session it was a member.
    pub session: String,
}

impl Record for FleetRecord {
    const TABLE: &'static str = "meta";
    const VERSION: u8 = 1;
}

/// Reads it.
#[derive(Clone, Copy)]
pub struct Fleets<'t> {
    source: Source<'t>,
}

impl<'t> Fleets<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// What is remembered; `None`: this host was never of a fleet.
    pub fn get(&self) -> Result<Option<FleetRecord>, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(FLEET_ROW)?;
        row.map(|row| decode(&FLEET_ROW, row.value())).transpose()
    }
}

/// Writes it.
#[derive(Clone, Copy)]
pub struct FleetsWriting<'t> {
    reading: Fleets<'t>,
    sink: Sink<'t>,
}

reads_as!(FleetsWriting => Fleets, reading);

impl<'t> FleetsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Fleets::new(sink.source()), sink }
    }

    /// Writes or replaces it.
    pub fn put(&self, record: &FleetRecord) -> Result<(), StorageError> {
        let bytes = encode(&FLEET_ROW, record)?;
        self.sink.edit(META)?.insert(FLEET_ROW, bytes.as_slice())
    }
}
