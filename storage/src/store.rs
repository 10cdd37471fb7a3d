//! The store: one open file, and the ways to read it and to write to it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use jiff::Timestamp;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::capability::{Bookkeeping, Reading, Writing};
use crate::error::{OpenError, StorageError, failure};
use crate::intent::Intent;
use crate::open;
use crate::reserve::Reserve;
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
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: DEFAULT_CACHE_BYTES, on_oplog: None }
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
    path: PathBuf,
    options: Options,
    /// None only where reopening failed.
    database: RwLock<Option<Database>>,
    /// The engine refuses to go on until the file is reopened.
    failed: AtomicBool,
    /// So that a full disk does not stop it at once.
    reserve: Reserve,
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
        let database = open::open_or_create(path, options.cache_bytes)?;
        let (path, database) = (path.to_owned(), RwLock::new(Some(database)));
        let reserve = Reserve::of(&path);
        reserve.fill();
        Ok(Self { path, options, database, failed: AtomicBool::new(false), reserve })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes; 0 if it can't be found out.
    pub fn file_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Reads one consistent state. Does not wait for writers.
    pub fn read<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&Reading<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_database(|database| {
            let transaction = database
                .begin_read()
                .map_err(|error| failure(&self.failed, "begin reading", error))?;
            f(&Reading::new(&transaction, &self.failed))
        })
    }

    /// Runs an audited write transaction. On `Ok`, the changes and the intent's oplog entry are in
    /// one commit, durable on return. On `Err` from the closure, neither is. Where the commit
    /// itself fails, see [`StorageError`].
    pub fn write<T, E: From<StorageError>>(
        &self,
        intent: Intent,
        f: impl FnOnce(&mut Writing<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (value, sequence) = self.transact(|transaction| {
            let value = f(&mut Writing::new(transaction, &self.failed))?;
            let sequence = oplog::append(Sink::new(transaction, &self.failed), intent)?;
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
        self.transact(|transaction| f(&mut Bookkeeping::new(transaction, &self.failed)))
    }

    /// Begins a stream of observations: writes its one oplog entry, durable on return.
    pub fn ingest(&self, intent: Intent) -> Result<Ingest<'_>, StorageError> {
        let sequence = self
            .transact(|transaction| oplog::append(Sink::new(transaction, &self.failed), intent))?;
        self.announce(sequence);
        Ok(Ingest { store: self })
    }

    /// Rewrites the file without the space that it no longer needs. Waits for all transactions
    /// and keeps new ones waiting; a crash in the middle of it loses nothing.
    pub fn compact(&self) -> Result<Compaction, StorageError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        self.reopen(&mut database)?;
        let before_bytes = self.file_bytes();
        if let Some(database) = database.as_mut() {
            database.compact().map_err(|error| failure(&self.failed, "compact", error))?;
        }
        self.reserve.fill();
        Ok(Compaction { before_bytes, after_bytes: self.file_bytes() })
    }

    /// Hands one consistent state to what reads every table as it is.
    pub(crate) fn reading<T>(
        &self,
        f: impl FnOnce(&ReadTransaction) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.with_database(|database| {
            let begun = database.begin_read();
            f(&begun.map_err(|error| failure(&self.failed, "begin reading", error))?)
        })
    }

    fn transact<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&WriteTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_database(|database| {
            let mut transaction = database
                .begin_write()
                .map_err(|error| failure(&self.failed, "begin writing", error))?;
            // A second flush per commit. With one flush only, redb takes a damaged page of the
            // last commit for a torn write after an unclean shutdown, and silently falls back to
            // the commit before it; with two, it reports the damage.
            transaction.set_two_phase_commit(true);
            match f(&transaction) {
                Ok(value) => {
                    transaction.commit().map_err(|error| failure(&self.failed, "commit", error))?;
                    self.reserve.fill();
                    Ok(value)
                }
                Err(error) => {
                    // What counts is the closure's error. A failing abort has its effect on the
                    // next call, which reopens the file.
                    let aborted = transaction.abort();
                    let _ = aborted.map_err(|error| failure(&self.failed, "abort", error));
                    Err(error)
                }
            }
        })
    }

    /// Runs `f` on the open database; reopens it first where an error broke it.
    fn with_database<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Acquire) || guard.is_none() {
            drop(guard);
            let mut writing = self.database.write().unwrap_or_else(PoisonError::into_inner);
            self.reopen(&mut writing)?;
            guard = RwLockWriteGuard::downgrade(writing);
        }
        match guard.as_ref() {
            Some(database) => f(database),
            // Not reached: whoever empties the slot fills it before letting go of the lock, or
            // returns the error that kept it empty.
            None => Err(self.needs_restart(open::missing(&self.path)).into()),
        }
    }

    fn reopen(&self, database: &mut Option<Database>) -> Result<(), StorageError> {
        if database.is_some() && !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // Closes the file, and so gives up its lock, before it is opened again.
        *database = None;
        let reopened = open::open(&self.path, self.options.cache_bytes);
        *database = Some(reopened.map_err(|error| self.needs_restart(error))?);
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    fn needs_restart(&self, source: OpenError) -> StorageError {
        StorageError::NeedsRestart { path: self.path.clone(), source: Box::new(source) }
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
        store.transact(|tx| series::append(Sink::new(tx, &store.failed), series, points))
    }

    /// Deletes the points of a series before a time; returns how many there were.
    pub fn trim(&mut self, series: &str, before: Timestamp) -> Result<u64, StorageError> {
        let store = self.store;
        store.transact(|tx| series::trim(Sink::new(tx, &store.failed), series, before))
    }
}
