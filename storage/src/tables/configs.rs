//! The configuration's generations: each text that was in force.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::CONFIGS;
use crate::view::{Sink, Source};

/// How many generations are kept.
pub const KEPT_GENERATIONS: usize = 100;

/// One configuration that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigGeneration {
    /// Its number; later ones are greater.
    pub generation: u64,
    /// SHA-256 of the text, hexadecimal.
    pub sha256: String,
    /// Where it came from: a path, or `defaults`.
    pub source: String,
    /// The text.
    pub text: String,
    /// When it came into force.
    pub at: Timestamp,
    /// Who brought it into force.
    pub actor: String,
}

impl Record for ConfigGeneration {
    const TABLE: &'static str = "configs";
    const VERSION: u8 = 1;
}

/// Reads configurations.
#[derive(Clone, Copy)]
pub struct Configs<'t> {
    source: Source<'t>,
}

impl<'t> Configs<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The newest generation.
    pub fn current(&self) -> Result<Option<ConfigGeneration>, StorageError> {
        Ok(self.list(1)?.pop())
    }

    /// One generation, if it is still kept.
    pub fn get(&self, generation: u64) -> Result<Option<ConfigGeneration>, StorageError> {
        let view = self.source.view(CONFIGS)?;
        let row = view.get(generation)?;
        row.map(|row| decode(&generation, row.value())).transpose()
    }

    /// At most `limit` generations, newest first.
    pub fn list(&self, limit: usize) -> Result<Vec<ConfigGeneration>, StorageError> {
        let view = self.source.view(CONFIGS)?;
        let rows = view.all()?.rev().take(limit);
        rows.map(|row| row.and_then(|(key, value)| decode(&key.value(), value.value()))).collect()
    }
}

/// Writes configurations.
#[derive(Clone, Copy)]
pub struct ConfigsWriting<'t> {
    reading: Configs<'t>,
    sink: Sink<'t>,
}

reads_as!(ConfigsWriting => Configs, reading);

impl<'t> ConfigsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Configs::new(sink.source()), sink }
    }

    /// Adds a generation, which must be greater than the newest one (`NotNewer` if it is not), and
    /// drops all but the newest [`KEPT_GENERATIONS`].
    pub fn push(&self, config: &ConfigGeneration) -> Result<(), StorageError> {
        let generations: Vec<u64> = {
            let view = self.sink.source().view(CONFIGS)?;
            let rows = view.all()?.rev();
            rows.map(|row| row.map(|(key, _)| key.value())).collect::<Result<_, _>>()?
        };
        if let Some(newest) = generations.first().filter(|newest| **newest >= config.generation) {
            return Err(StorageError::NotNewer {
                table: ConfigGeneration::TABLE,
                key: config.generation.to_string(),
                newest: newest.to_string(),
            });
        }
        let bytes = encode(&config.generation, config)?;
        let mut table = self.sink.edit(CONFIGS)?;
        table.insert(config.generation, bytes.as_slice())?;
        for old in generations.iter().skip(KEPT_GENERATIONS - 1) {
            table.remove(old)?;
        }
        Ok(())
    }
}
