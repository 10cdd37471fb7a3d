//! The store: one open file, and the ways to read it and to write to it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use redb::ReadTransaction;

use crate::capability::{Bookkeeping, Reading, Writing};
use crate::engine::{Engine, Manner};
use crate::error::{OpenError, StorageError};
use crate::intent::Intent;
use crate::schema::SCHEMA;
use crate::tables::{oplog, series};
use crate::view::Sink;

/// The default of [`Options::cache_bytes`].
pub const DEFAULT_CACHE_BYTES: usize = 4 << 20;

/// How to open a store.
pub struct Options {
    /// How much of the file to keep in memory, in bytes.
    pub cache_bytes: usize,
    /// Called after each commit that appended to the oplog, with the new entry's sequence. It may
    /// read the store. Calls of concurrent writers may come out of order.
    pub on_oplog: Option<Box<dyn Fn(u64) + Send + Sync>>,
    /// Prove every page, also of a file that was closed by a store which had proven it, and which nobody has written to
    /// since.
    pub prove: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: DEFAULT_CACHE_BYTES, on_oplog: None, prove: false }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("cache_bytes", &self.cache_bytes).finish_non_exhaustive()
    }
}

/// An open database file, held exclusively until it is dropped.
///
/// A closure given to [`read`](Self::read), [`write`](Self::write) or
/// [`bookkeep`](Self::bookkeep) must not call the store again (a second writer would wait for the
/// first one for ever), and should be short: writers wait for one another, and
/// [`compact`](Self::compact) waits for all.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    options: Options,
}

/// How far a compaction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The file's length before.
    pub before_bytes: u64,
    /// The file's length afterwards.
    pub after_bytes: u64,
}

impl Store {
    /// Opens the file; creates it (mode 0600, in a folder that must exist) where there is none.
    /// Whatever is there already is opened or refused, never replaced. After an unclean shutdown,
    /// every committed transaction is there and every other one is not.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let manner = Manner { reserved: true, seals: !options.prove };
        let engine = Engine::open(path, options.cache_bytes, &SCHEMA, manner)?;
        Ok(Self { engine, options })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.engine.path()
    }

    /// The file's length in bytes; 0 if it can't be found out.
    pub fn file_bytes(&self) -> u64 {
        self.engine.file_bytes()
    }

    /// Reads one consistent state. Does not wait for writers.
    pub fn read<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&Reading<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.engine.reading(|transaction| f(&Reading::new(transaction, self.failed())))
    }

    /// Runs an audited write transaction. On `Ok`, the changes and the intent's oplog entry are in
    /// one commit, durable on return. On `Err` from the closure, neither is. Where the commit
    /// itself fails, see [`StorageError`].
    pub fn write<T, E: From<StorageError>>(
        &self,
        intent: Intent,
        f: impl FnOnce(&mut Writing<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (value, sequence) = self.engine.transact(|transaction| {
            let value = f(&mut Writing::new(transaction, self.failed()))?;
            let sequence = oplog::append(Sink::new(transaction, self.failed()), intent)?;
            Ok::<_, E>((value, sequence))
        })?;
        self.announce(sequence);
        Ok(value)
    }

    /// Runs a write transaction that leaves no oplog entry, over a closed list of records. Durable
    /// on return; on `Err` nothing is written.
    pub fn bookkeep<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&mut Bookkeeping<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.engine.transact(|transaction| f(&mut Bookkeeping::new(transaction, self.failed())))
    }

    /// Begins a stream of observations: writes its one oplog entry, durable on return.
    pub fn ingest(&self, intent: Intent) -> Result<Ingest<'_>, StorageError> {
        let sequence = self
            .engine
            .transact(|transaction| oplog::append(Sink::new(transaction, self.failed()), intent))?;
        self.announce(sequence);
        Ok(Ingest { store: self })
    }

    /// Closes the file, so that the next opening need not prove it; waits for whoever reads or writes. Who comes later
    /// opens it again. For the end of a process, whose threads may hold this for longer than it lasts.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Rewrites the file without the space that it no longer needs. Waits for all transactions
    /// and keeps new ones waiting; a crash in the middle of it loses nothing.
    pub fn compact(&self) -> Result<Compaction, StorageError> {
        self.engine.compact()
    }

    /// Hands one consistent state to what reads every table as it is.
    pub(crate) fn reading<T>(
        &self,
        f: impl FnOnce(&ReadTransaction) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.engine.reading(f)
    }

    pub(crate) fn failed(&self) -> &AtomicBool {
        self.engine.failed()
    }

    fn announce(&self, sequence: u64) {
        if let Some(on_oplog) = &self.options.on_oplog {
            on_oplog(sequence);
        }
    }
}

/// A stream of observations, see [`Store::ingest`]. Between its calls it holds nothing.
#[derive(Debug)]
pub struct Ingest<'s> {
    store: &'s Store,
}

impl Ingest<'_> {
    /// Writes points, durable on return; one that has the time of an older one replaces it. A
    /// batch is one commit, so larger ones are faster.
    pub fn append(
        &mut self,
        series: &str,
        points: &[(Timestamp, f64)],
    ) -> Result<(), StorageError> {
        let store = self.store;
        store.engine.transact(|tx| series::append(Sink::new(tx, store.failed()), series, points))
    }

    /// Deletes the points of a series before a time; returns how many there were.
    pub fn trim(&mut self, series: &str, before: Timestamp) -> Result<u64, StorageError> {
        let store = self.store;
        store.engine.transact(|tx| series::trim(Sink::new(tx, store.failed()), series, before))
    }
}
