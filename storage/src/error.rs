//! What can go wrong: opening a file ([`OpenError`]) and using it ([`StorageError`]).

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a database file could not be opened. Each message says what to do next. The file is left
/// exactly as it was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file was written by a later version.
    #[error(
        "{} was written by a newer version (schema {found}; this one reads up to {supported}): \
         start the version that wrote it, or restore a backup made by this version", path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The schema version in the file.
        found: u32,
        /// The newest schema version that this build reads.
        supported: u32,
    },
    /// The file is shorter than its contents need.
    #[error(
        "{} is cut short ({bytes} bytes are left) and was not touched: restore it from a backup, \
         or move it away to start with an empty state", path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its length as found.
        bytes: u64,
    },
    /// The file's contents contradict their checksums or each other.
    #[error(
        "{} is damaged and was not touched: restore it from a backup, or move it away to start \
         with an empty state", path.display()
    )]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What the check found.
        source: BoxError,
    },
    /// Another open store, in this process or another one, holds the file.
    #[error(
        "{} is in use by another process: stop that agent, or choose another state folder",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused an operation on the file or its folder.
    #[error(
        "could not {attempted} {}: check the folder, its permissions and the disk, then start \
         again", path.display()
    )]
    Io {
        /// What was attempted, as a verb phrase.
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "{} is not a GENESIS database, or its first bytes are damaged; it was not touched: choose \
         another state folder, move the file away, or restore it from a backup", path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
}

impl OpenError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NewerSchema { .. } => "STORAGE_NEWER_SCHEMA",
            Self::Cut { .. } => "STORAGE_CUT",
            Self::Corrupted { .. } => "STORAGE_CORRUPTED",
            Self::InUse { .. } => "STORAGE_IN_USE",
            Self::Io { .. } => "STORAGE_IO",
            Self::NotOurs { .. } => "STORAGE_NOT_OURS",
        }
    }
}

/// Why a read or a write failed.
///
/// After an error of the disk ([`Redb`](Self::Redb), [`OutOfSpace`](Self::OutOfSpace)) in a write,
/// the transaction is applied fully or not at all, and which of the two shows only afterwards. The
/// engine refuses further work on that handle, so the next call reopens the file (which repairs
/// it); only where that fails too, calls return [`NeedsRestart`](Self::NeedsRestart).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database engine failed.
    #[error("could not {attempted}: the database engine failed")]
    Redb {
        /// What was attempted, as a verb phrase.
        attempted: String,
        /// The engine's error.
        source: BoxError,
    },
    /// The disk or the quota is full.
    #[error("could not {attempted}: no space is left for the database; free some and try again")]
    OutOfSpace {
        /// What was attempted, as a verb phrase.
        attempted: String,
        /// The engine's error.
        source: BoxError,
    },
    /// A record could not be read or written as JSON.
    #[error("the record {key} of table {table} is not readable")]
    Record {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What is wrong with it.
        source: BoxError,
    },
    /// A record was written by a later version.
    #[error(
        "the record {key} of table {table} has version {found}, this version reads up to \
         {supported}: start the version that wrote it"
    )]
    UnknownVersion {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// The version in the record.
        found: u8,
        /// The newest version that this build reads.
        supported: u8,
    },
    /// A record or a key is over its limit.
    #[error("the record {key} of table {table} is too large: {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// The table.
        table: &'static str,
        /// The record's key, shortened where the key is what is too large.
        key: String,
        /// The size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A record that the operation needs does not exist.
    #[error("table {table} has no record {key}")]
    NotFound {
        /// The table.
        table: &'static str,
        /// The missing key.
        key: String,
    },
    /// A record that has to follow the newest one does not.
    #[error("the record {key} of table {table} does not follow the newest one, {newest}")]
    NotNewer {
        /// The table.
        table: &'static str,
        /// The key that was to be written.
        key: String,
        /// The newest key there is.
        newest: String,
    },
    /// Reopening the file after an earlier disk error failed.
    #[error(
        "the database {} failed earlier and could not be reopened: mend the disk, then restart \
         the agent", path.display()
    )]
    NeedsRestart {
        /// The file.
        path: PathBuf,
        /// Why it could not be reopened.
        source: Box<OpenError>,
    },
}

impl StorageError {
    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Redb { .. } => "STORAGE_FAILED",
            Self::OutOfSpace { .. } => "STORAGE_OUT_OF_SPACE",
            Self::Record { .. } => "STORAGE_RECORD_UNREADABLE",
            Self::UnknownVersion { .. } => "STORAGE_RECORD_VERSION",
            Self::TooLarge { .. } => "STORAGE_TOO_LARGE",
            Self::NotFound { .. } => "STORAGE_NOT_FOUND",
            Self::NotNewer { .. } => "STORAGE_NOT_NEWER",
            Self::NeedsRestart { .. } => "STORAGE_NEEDS_RESTART",
        }
    }

    /// Whether the file itself is cut, damaged or not ours, so that it can't be read by trying again. Whatever else keeps
    /// it from being read, such as a disk that fails or another process, says nothing of it.
    pub fn is_damage(&self) -> bool {
        let Self::Redb { source, .. } = self else { return false };
        match source.downcast_ref::<OpenError>() {
            Some(OpenError::Cut { .. } | OpenError::NotOurs { .. }) => true,
            // What the engine says after an error of the disk.
            Some(OpenError::Corrupted { source, .. }) => !matches!(
                source.downcast_ref::<redb::Error>(),
                Some(
                    redb::Error::Io(_)
                        | redb::Error::PreviousIo
                        | redb::Error::Backend(_)
                        | redb::Error::DatabaseClosed
                        | redb::Error::LockPoisoned(_)
                )
            ),
            _ => false,
        }
    }

    pub(crate) fn record(table: &'static str, key: &dyn Display, source: BoxError) -> Self {
        Self::Record { table, key: key.to_string(), source }
    }
}

/// Turns an engine error into ours. Errors after which redb refuses every later operation on the
/// handle set `failed`, so that the store reopens the file before the next one.
pub(crate) fn failure(
    failed: &AtomicBool,
    attempted: impl Into<String>,
    error: impl Into<redb::Error>,
) -> StorageError {
    let attempted = attempted.into();
    let error = error.into();
    if matches!(
        error,
        redb::Error::Io(_)
            | redb::Error::PreviousIo
            | redb::Error::Backend(_)
            | redb::Error::Corrupted(_)
            | redb::Error::DatabaseClosed
            | redb::Error::LockPoisoned(_)
    ) {
        failed.store(true, Ordering::Release);
    }
    match &error {
        redb::Error::Io(io)
            if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            StorageError::OutOfSpace { attempted, source: Box::new(error) }
        }
        _ => StorageError::Redb { attempted, source: Box::new(error) },
    }
}
