//! Care of databases: what was done and what came of it, and the ledger of what may be left behind.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, encode};
use crate::schema::{DATABASE_CARE, DATABASE_LEDGER};
use crate::view::{Sink, Source};

/// How a care ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CareOutcome {
    /// It goes on.
    Running,
    /// All was done, and read back.
    Done,
    /// Something was not done, or got worse.
    Degraded,
    /// The preflight held it back; nothing was sent.
    Blocked,
    /// It failed.
    Failed,
    /// The agent stopped in the middle.
    Interrupted,
}

/// One care of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CareRecord {
    /// The run's id (a ULID); of one that was blocked a ULID of its own.
    pub id: String,
    /// The database.
    pub database: String,
    /// How it ended.
    pub outcome: CareOutcome,
    /// Who asked for it.
    pub actor: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What was measured before, done and measured after, as the care of databases writes it.
    pub report: Value,
}

impl Record for CareRecord {
    const TABLE: &'static str = "database_care";
    const VERSION: u8 = 1;
}

/// Something that is begun in a database and must be gone once it has ended, whoever ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// The database's name and what it is about, such as "trades/index/16402".
    pub key: String,
    /// The database.
    pub database: String,
    /// The system that it was begun in.
    pub system_identifier: String,
    /// The schema and name of the index, and of its table.
    pub index: (String, String),
    /// Its table.
    pub table: (String, String),
    /// The index's object id when it was begun, and its table's.
    pub index_oid: u32,
    /// See there.
    pub table_oid: u32,
    /// Invalid indexes of that table that were there before: others'.
    pub foreign: Vec<u32>,
    /// Indexes that were seen to be built by our own session.
    pub built: Vec<u32>,
    /// Our session: its process and when it began, in microseconds since 1970.
    pub session: (i32, i64),
    /// The run.
    pub run_id: String,
    /// When.
    pub at: Timestamp,
}

impl Record for LedgerRecord {
    const TABLE: &'static str = "database_ledger";
    const VERSION: u8 = 1;
}

/// Reads the care of databases.
#[derive(Clone, Copy)]
pub struct Care<'t> {
    source: Source<'t>,
}

impl<'t> Care<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// At most `limit` cares, newest first; with a `database` only those of it.
    pub fn list(
        &self,
        database: Option<&str>,
        limit: usize,
    ) -> Result<Vec<CareRecord>, StorageError> {
        self.source.view(DATABASE_CARE)?.last(limit, |record: &CareRecord| {
            database.is_none_or(|database| record.database == database)
        })
    }

    /// What is in the ledger of a database, in order of its keys.
    pub fn ledger(&self, database: &str) -> Result<Vec<LedgerRecord>, StorageError> {
        let prefix = format!("{database}/");
        self.source.view(DATABASE_LEDGER)?.with_prefix(&prefix, usize::MAX)
    }
}

/// Writes the care of databases.
#[derive(Clone, Copy)]
pub struct CareWriting<'t> {
    reading: Care<'t>,
    sink: Sink<'t>,
}

reads_as!(CareWriting => Care, reading);

impl<'t> CareWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Care::new(sink.source()), sink }
    }

    /// Writes or replaces a care; the oldest go where there are more than `keep`.
    pub fn put(&self, record: &CareRecord, keep: usize) -> Result<(), StorageError> {
        check_name(CareRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(DATABASE_CARE)?.insert(record.id.as_str(), bytes.as_slice())?;
        let all = self.list(None, usize::MAX)?;
        let mut table = self.sink.edit(DATABASE_CARE)?;
        for old in all.iter().skip(keep) {
            table.remove(old.id.as_str())?;
        }
        Ok(())
    }

    /// Writes or replaces an entry of the ledger.
    pub fn announce(&self, record: &LedgerRecord) -> Result<(), StorageError> {
        check_name(LedgerRecord::TABLE, &record.key)?;
        let bytes = encode(&record.key.as_str(), record)?;
        self.sink.edit(DATABASE_LEDGER)?.insert(record.key.as_str(), bytes.as_slice())
    }

    /// Takes an entry out of the ledger: what it was about is proven to be gone.
    pub fn settle(&self, key: &str) -> Result<bool, StorageError> {
        self.sink.edit(DATABASE_LEDGER)?.remove(key)
    }
}
