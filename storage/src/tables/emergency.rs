//! The emergency flag: one row, kept when the emergency is over for its epoch and its story.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::{EMERGENCY_ROW, META};
use crate::view::{Sink, Source};

/// The latest emergency of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyRecord {
    /// Grows with each emergency and never goes back: the moment in UTC as a number, year first, or one more than the
    /// last one.
    pub epoch: u64,
    /// When it was declared.
    pub since: Timestamp,
    /// By whom.
    pub activated_by: String,
    /// Why.
    pub reason: String,
    /// How it ended; `None`: it is in force.
    pub release: Option<EmergencyRelease>,
    /// What it has to do with the fleet's emergency; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetMark>,
}

/// What an emergency of this host has to do with one of the whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetMark {
    /// The number of the fleet's.
    pub epoch: u64,
    /// It was declared here for the fleet's sake alone, so that it ends with the fleet's.
    pub only: bool,
    /// The fleet knows of it. Until then it is told whenever what holds the fleet together can be reached.
    pub told: bool,
}

/// The end of an emergency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyRelease {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl EmergencyRecord {
    /// Whether it is in force.
    pub fn active(&self) -> bool {
        self.release.is_none()
    }
}

impl Record for EmergencyRecord {
    const TABLE: &'static str = "meta";
    const VERSION: u8 = 1;
}

/// Reads the emergency flag.
#[derive(Clone, Copy)]
pub struct Emergencies<'t> {
    source: Source<'t>,
}

impl<'t> Emergencies<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The latest emergency, in force or over; `None` before the first.
    pub fn get(&self) -> Result<Option<EmergencyRecord>, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(EMERGENCY_ROW)?;
        row.map(|row| decode(&EMERGENCY_ROW, row.value())).transpose()
    }
}

/// Writes the emergency flag.
#[derive(Clone, Copy)]
pub struct EmergenciesWriting<'t> {
    reading: Emergencies<'t>,
    sink: Sink<'t>,
}

reads_as!(EmergenciesWriting => Emergencies, reading);

impl<'t> EmergenciesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Emergencies::new(sink.source()), sink }
    }

    /// Writes or replaces it.
    pub fn put(&self, record: &EmergencyRecord) -> Result<(), StorageError> {
        let bytes = encode(&EMERGENCY_ROW, record)?;
        self.sink.edit(META)?.insert(EMERGENCY_ROW, bytes.as_slice())
    }
}
