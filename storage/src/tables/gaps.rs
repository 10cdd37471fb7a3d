//! The latest gap in what this file knows: what was before it was lost, or could not be carried forward.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::{GAP_ROW, META};
use crate::view::{Sink, Source};

/// A gap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRecord {
    /// When it was noticed.
    pub at: Timestamp,
    /// The file was gone; otherwise an earlier state took its place, and nothing could be carried forward.
    pub lost: bool,
    /// What is known of it, in words.
    pub detail: String,
}

impl GapRecord {
    /// Whether people should still hear of it: for a week.
    pub fn is_told(&self, now: Timestamp) -> bool {
        now.duration_since(self.at) < jiff::SignedDuration::from_hours(7 * 24)
    }
}

impl Record for GapRecord {
    const TABLE: &'static str = "meta";
    const VERSION: u8 = 1;
}

/// Reads the gap.
#[derive(Clone, Copy)]
pub struct Gaps<'t> {
    source: Source<'t>,
}

impl<'t> Gaps<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The latest gap; `None`: there has been none.
    pub fn get(&self) -> Result<Option<GapRecord>, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(GAP_ROW)?;
        row.map(|row| decode(&GAP_ROW, row.value())).transpose()
    }
}

/// Writes the gap.
#[derive(Clone, Copy)]
pub struct GapsWriting<'t> {
    reading: Gaps<'t>,
    sink: Sink<'t>,
}

reads_as!(GapsWriting => Gaps, reading);

impl<'t> GapsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Gaps::new(sink.source()), sink }
    }

    /// Writes or replaces it.
    pub fn put(&self, record: &GapRecord) -> Result<(), StorageError> {
        let bytes = encode(&GAP_ROW, record)?;
        self.sink.edit(META)?.insert(GAP_ROW, bytes.as_slice())
    }
}
