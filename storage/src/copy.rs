//! A copy of all that a store holds: read in one transaction, written to a new file, and proven on that file.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableHandle, Value, WriteTransaction,
};

use crate::capability::Reading;
use crate::error::{BoxError, StorageError, failure};
use crate::schema::{compare_tables, copy_tables};
use crate::store::{Options, Store};

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Rows of all tables.
    pub rows: u64,
    /// The length of its file.
    pub bytes: u64,
    /// Entries of its oplog, each proven to follow the one before.
    pub oplog_entries: u64,
}

impl Store {
    /// Copies everything as it is now to a new file, which is durable on return and has been opened as a store, compared
    /// row by row with what was read, and its oplog followed from end to end. Writers go on meanwhile;
    /// [`compact`](Self::compact) waits.
    ///
    /// # Errors
    /// When there is something at `path` already, the disk fails, or what was written is not what was read. Whatever is
    /// at `path` then is no copy.
    pub fn copy_to(&self, path: &Path, cache_bytes: usize) -> Result<Copied, StorageError> {
        self.reading(|reading| {
            let rows = fill(reading, path, cache_bytes)?;
            // Read back through a handle of its own, which has nothing of it in memory.
            let store = Store::open(path, Options { cache_bytes, on_oplog: None, prove: true })
                .map_err(|error| copying(path, error))?;
            let (same, entries) = store.reading(|copied| {
                let same = compare_tables(reading, copied).map_err(|error| engine(path, error))?;
                Ok((same, proven(copied, path)?))
            })?;
            if same != rows {
                return Err(copying(path, format!("{rows} rows were written, {same} read back")));
            }
            Ok(Copied { rows, bytes: store.file_bytes(), oplog_entries: entries })
        })
    }

    /// Proves a copy that nobody uses: every page's checksum, every oplog entry. Opening it may write to it, so hand it
    /// one that may be written to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prove(path: &Path, cache_bytes: usize) -> Result<Copied, StorageError> {
        let store = Store::open(path, Options { cache_bytes, on_oplog: None, prove: true })
            .map_err(|error| copying(path, error))?;
        let (rows, oplog_entries) = store.reading(|reading| {
            let rows = compare_tables(reading, reading).map_err(|error| engine(path, error))?;
            Ok((rows, proven(reading, path)?))
        })?;
        Ok(Copied { rows, bytes: store.file_bytes(), oplog_entries })
    }
}

fn fill(reading: &ReadTransaction, path: &Path, cache_bytes: usize) -> Result<u64, StorageError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| copying(path, error))?;
    let synced = file.try_clone().map_err(|error| copying(path, error))?;
    let filled = FileBackend::new(file)
        .and_then(|backend| Builder::new().set_cache_size(cache_bytes).create_with_backend(backend))
        .map_err(redb::Error::from)
        .and_then(|database: Database| {
            let transaction = database.begin_write()?;
            let rows = copy_tables(reading, &transaction)?;
            transaction.commit()?;
            database.close()?;
            Ok(rows)
        });
    let rows = filled.map_err(|error| engine(path, error))?;
    synced.sync_all().map_err(|error| copying(path, error))?;
    Ok(rows)
}

/// How many entries its oplog has, if each follows the one before.
pub(crate) fn proven(reading: &ReadTransaction, path: &Path) -> Result<u64, StorageError> {
    let never = AtomicBool::new(false);
    let verification = Reading::new(reading, &never).oplog().verify(None)?;
    match verification.findings.first() {
        None => Ok(verification.entries),
        Some(finding) => Err(copying(path, format!("{}: {}", finding.code, finding.message))),
    }
}

/// Copies a table; how many rows it has. One that the source does not have yet is made.
pub(crate) fn copy_table<K: Key + 'static, V: Value + 'static>(
    definition: TableDefinition<'static, K, V>,
    from: &ReadTransaction,
    to: &WriteTransaction,
) -> Result<u64, redb::Error> {
    let (from, mut to) = (from.open_table(definition)?, to.open_table(definition)?);
    let mut rows = 0;
    for row in from.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
        rows += 1;
    }
    Ok(rows)
}

/// Compares a table byte for byte; how many rows both have.
pub(crate) fn compare_table<K: Key + 'static, V: Value + 'static>(
    definition: TableDefinition<'static, K, V>,
    one: &ReadTransaction,
    other: &ReadTransaction,
) -> Result<u64, redb::Error> {
    let differs = || redb::Error::Corrupted(format!("table {} differs", definition.name()));
    let (one, other) = (one.open_table(definition)?, other.open_table(definition)?);
    if one.len()? != other.len()? {
        return Err(differs());
    }
    let (mut rows, mut others) = (0, other.iter()?);
    for row in one.iter()? {
        let (key, value) = row?;
        let (other_key, other_value) = others.next().ok_or_else(differs)??;
        let same = K::as_bytes(&key.value()).as_ref() == K::as_bytes(&other_key.value()).as_ref()
            && V::as_bytes(&value.value()).as_ref() == V::as_bytes(&other_value.value()).as_ref();
        if !same {
            return Err(differs());
        }
        rows += 1;
    }
    Ok(rows)
}

fn attempted(path: &Path) -> String {
    format!("copy the database to {}", path.display())
}

fn copying(path: &Path, source: impl Into<BoxError>) -> StorageError {
    StorageError::Redb { attempted: attempted(path), source: source.into() }
}

/// An error while copying says nothing of the handle that is read from: were it marked as failed, the next call would
/// reopen the agent's own file for nothing.
fn engine(path: &Path, error: redb::Error) -> StorageError {
    failure(&AtomicBool::new(false), attempted(path), error)
}
