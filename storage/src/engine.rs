//! An open file of redb: transactions that are durable and whole, and reopening after an error of the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::error::{OpenError, StorageError, failure};
use crate::open::{self, Held};
use crate::reserve::Reserve;
use crate::schema::Schema;
use crate::seal::seal;
use crate::store::Compaction;

/// An open database file, held exclusively until it is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    path: PathBuf,
    cache_bytes: usize,
    schema: &'static Schema,
    /// None only where reopening failed.
    held: RwLock<Option<Held>>,
    /// The engine refuses to go on until the file is reopened.
    failed: AtomicBool,
    /// So that a full disk does not stop it at once.
    reserve: Option<Reserve>,
    seals: bool,
}

/// How a file is held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Room on the disk is set aside for it.
    pub(crate) reserved: bool,
    /// It is sealed when it is closed, and believed when it is opened with its seal whole.
    pub(crate) seals: bool,
}

impl Engine {
    /// Opens the file; creates it where there is none.
    pub(crate) fn open(
        path: &Path,
        cache_bytes: usize,
        schema: &'static Schema,
        Manner { reserved, seals }: Manner,
    ) -> Result<Self, OpenError> {
        let held = open::open_or_create(path, cache_bytes, schema, seals)?;
        let (path, held) = (path.to_owned(), RwLock::new(Some(held)));
        let reserve = reserved.then(|| Reserve::of(&path));
        let failed = AtomicBool::new(false);
        let engine = Self { path, cache_bytes, schema, held, failed, reserve, seals };
        engine.fill();
        Ok(engine)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes; 0 if it can't be found out.
    pub(crate) fn file_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// What is set by errors after which the file is to be reopened.
    pub(crate) fn failed(&self) -> &AtomicBool {
        &self.failed
    }

    fn fill(&self) {
        if let Some(reserve) = &self.reserve {
            reserve.fill();
        }
    }

    /// Rewrites the file without the space that it no longer needs, see [`crate::Store::compact`].
    pub(crate) fn compact(&self) -> Result<Compaction, StorageError> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        self.reopen(&mut held)?;
        let before_bytes = self.file_bytes();
        if let Some(Held { database, .. }) = held.as_mut() {
            // What was believed by its seal, and what the disk may have changed since.
            match database.check_integrity() {
                Ok(true) => {}
                Ok(false) => {
                    let said = redb::Error::Corrupted("its pages did not fit together".to_owned());
                    return Err(failure(&self.failed, "prove", said));
                }
                Err(error) => return Err(failure(&self.failed, "prove", error)),
            }
            database.compact().map_err(|error| failure(&self.failed, "compact", error))?;
        }
        self.fill();
        Ok(Compaction { before_bytes, after_bytes: self.file_bytes() })
    }

    /// Closes the file, and seals it where it is to be; waits for whoever reads or writes. Who comes later opens it again.
    pub(crate) fn close(&self) {
        let mut slot = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Held { database, file }) = slot.take() {
            // It is written to no more.
            drop(database);
            if self.seals && !self.failed.load(Ordering::Acquire) {
                // Without a seal it is proven when it is opened, which only takes longer.
                let _ = seal(&file);
            }
        }
    }

    /// Hands one consistent state over. Does not wait for writers.
    pub(crate) fn reading<T, E: From<StorageError>>(
        &self,
        f: impl FnOnce(&ReadTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_database(|database| {
            let begun = database.begin_read();
            f(&begun.map_err(|error| failure(&self.failed, "begin reading", error))?)
        })
    }

    /// Runs a write transaction: on `Ok` durable on return, on `Err` nothing is written.
    pub(crate) fn transact<T, E: From<StorageError>>(
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
                    self.fill();
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
        let mut guard = self.held.read().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Acquire) || guard.is_none() {
            drop(guard);
            let mut writing = self.held.write().unwrap_or_else(PoisonError::into_inner);
            self.reopen(&mut writing)?;
            guard = RwLockWriteGuard::downgrade(writing);
        }
        match guard.as_ref() {
            Some(held) => f(&held.database),
            // Not reached: whoever empties the slot fills it before letting go of the lock, or
            // returns the error that kept it empty.
            None => Err(self.needs_restart(open::missing(&self.path)).into()),
        }
    }

    fn reopen(&self, held: &mut Option<Held>) -> Result<(), StorageError> {
        if held.is_some() && !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // Closes the file, and so gives up its lock, before it is opened again.
        *held = None;
        let reopened = open::open(&self.path, self.cache_bytes, self.schema, false);
        *held = Some(reopened.map_err(|error| self.needs_restart(error))?);
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    fn needs_restart(&self, source: OpenError) -> StorageError {
        StorageError::NeedsRestart { path: self.path.clone(), source: Box::new(source) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}
