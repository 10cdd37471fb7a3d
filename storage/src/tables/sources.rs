//! Log sources: what the next segment of each log type continues from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::SOURCES;
use crate::view::{Sink, Source};

/// One file that is being watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// The last timestamp seen in it.
    pub last_at: Option<Timestamp>,
    /// What is archived already of a file that stays in place.
    #[serde(default)]
    pub head: Option<HeadRecord>,
}

/// The beginning of a file that is archived already and could not be cut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRecord {
    /// The device of the file.
    pub device: u64,
    /// The inode of the file.
    pub inode: u64,
    /// So many bytes.
    pub bytes: u64,
    /// Their blake3, hexadecimal: a file that was rewritten does not begin with them.
    pub blake3: String,
    /// What follows them continues a line.
    pub mid_line: bool,
}

/// A log source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The log type.
    pub log_type: String,
    /// The sequence of the next segment, from 1.
    pub next_sequence: u64,
    /// The next place in the chain of manifests, from 1.
    pub next_chain_index: u64,
    /// SHA-256 of the newest manifest, hexadecimal; empty at first.
    pub chain_head: String,
    /// The watched files, by path.
    pub streams: BTreeMap<String, StreamRecord>,
}

impl Record for SourceRecord {
    const TABLE: &'static str = "sources";
    const VERSION: u8 = 1;
}

/// Reads sources.
#[derive(Clone, Copy)]
pub struct Sources<'t> {
    source: Source<'t>,
}

impl<'t> Sources<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// One source.
    pub fn get(&self, log_type: &str) -> Result<Option<SourceRecord>, StorageError> {
        let view = self.source.view(SOURCES)?;
        let row = view.get(log_type)?;
        row.map(|row| decode(&log_type, row.value())).transpose()
    }

    /// All sources, by log type.
    pub fn list(&self) -> Result<Vec<SourceRecord>, StorageError> {
        let view = self.source.view(SOURCES)?;
        let rows = view.all()?;
        rows.map(|row| row.and_then(|(key, value)| decode(&key.value(), value.value()))).collect()
    }
}

/// Writes sources.
#[derive(Clone, Copy)]
pub struct SourcesWriting<'t> {
    reading: Sources<'t>,
    sink: Sink<'t>,
}

reads_as!(SourcesWriting => Sources, reading);

impl<'t> SourcesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Sources::new(sink.source()), sink }
    }

    /// Writes or replaces a source.
    pub fn put(&self, source: &SourceRecord) -> Result<(), StorageError> {
        let log_type = source.log_type.as_str();
        check_name(SourceRecord::TABLE, log_type)?;
        let bytes = encode(&log_type, source)?;
        self.sink.edit(SOURCES)?.insert(log_type, bytes.as_slice())
    }
}
