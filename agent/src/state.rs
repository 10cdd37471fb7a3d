//! The embedded database as the agent's rooms use it: writes off the async threads, one line to each.

use std::sync::Arc;

use genesis_storage::{Bookkeeping, Intent, Reading, Store, Writing};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::outside::tasks;

/// A handle to the agent's state.
#[derive(Clone)]
pub struct State {
    store: Arc<Store>,
    newest: watch::Receiver<u64>,
}

impl State {
    /// Wraps an open store; `newest` follows the sequence number of the newest oplog entry.
    pub fn new(store: Arc<Store>, newest: watch::Receiver<u64>) -> Self {
        Self { store, newest }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Follows the sequence number of the newest oplog entry.
    pub fn newest_entry(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Reads a consistent snapshot. Microseconds, so it may be called from async code.
    ///
    /// # Errors
    /// Those of `f`, or `STORAGE_FAILED`.
    pub fn read<T>(&self, f: impl FnOnce(&Reading) -> Result<T>) -> Result<T> {
        self.store.read(f)
    }

    /// Commits an audited write with its oplog entry; durable when it returns, also when the caller is dropped.
    ///
    /// # Errors
    /// Those of `f` (then nothing is written), or `STORAGE_FAILED`.
    pub async fn write<T: Send + 'static>(
        &self,
        intent: Intent,
        f: impl FnOnce(&mut Writing) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, intent) = (Arc::clone(&self.store), crate::trace::stamp(intent));
        join(tasks::aside(move || store.write(intent, f)).await)
    }

    /// Commits an unaudited write to one of the few tables that allow it.
    ///
    /// # Errors
    /// Those of `f` (then nothing is written), or `STORAGE_FAILED`.
    pub async fn bookkeep<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Bookkeeping) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        join(tasks::aside(move || store.bookkeep(f)).await)
    }

    /// Writes an oplog entry that changes nothing else.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn note(&self, intent: Intent) -> Result<()> {
        self.write(intent, |_| Ok(())).await
    }
}

fn join<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| {
        Err(Error::internal("STORAGE_FAILED", "a write to the embedded database was cut off")
            .caused_by(error))
    })
}
