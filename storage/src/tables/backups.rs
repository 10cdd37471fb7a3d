//! Backups: what was made of what, and how far each is proven.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, check_name, decode, encode};
use crate::schema::BACKUPS;
use crate::view::{Sink, Source};

/// How far a backup is proven. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupLevel {
    /// L0: whoever made it said so.
    Recorded,
    /// L1: every checksum was read and is right.
    Checksums,
    /// L2: restored into a scratch instance that starts and answers.
    Restored,
    /// L3: L2, and the configured queries and row counts are right there.
    Queried,
}

impl BackupLevel {
    /// Each of them, the shallowest first.
    pub const ALL: [Self; 4] = [Self::Recorded, Self::Checksums, Self::Restored, Self::Queried];

    /// "L0" to "L3".
    pub fn name(self) -> &'static str {
        match self {
            Self::Recorded => "L0",
            Self::Checksums => "L1",
            Self::Restored => "L2",
            Self::Queried => "L3",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// The names that are known.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text:?} is not one of L0, L1, L2, L3"))
    }
}

impl fmt::Display for BackupLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is being made.
    Running,
    /// It was made.
    Complete,
    /// It could not be made.
    Failed,
    /// It was made, and verifying it found it wrong.
    Broken,
    /// Its retention is over, and it is deleted.
    Expired,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// A ULID.
    pub id: String,
    /// The database's name, or "agent".
    pub source: String,
    /// "postgres", "sqlite" or "redb".
    pub engine: String,
    /// "builtin", "pgbackrest", "wal-g", "restic".
    pub tool: String,
    /// How it is.
    pub state: BackupState,
    /// As the tool names it; of built-in ones the path.
    pub place: String,
    /// When it was begun: what changed since is not in it.
    pub started_at: Timestamp,
    /// When it was complete, or given up.
    pub ended_at: Option<Timestamp>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Names the system that it is of; empty: not known.
    pub system_identifier: String,
    /// The highest level that it has passed.
    pub level: Option<BackupLevel>,
    /// When it last passed one.
    pub verified_at: Option<Timestamp>,
    /// What verification said last.
    pub detail: String,
    /// The run that made it.
    pub run_id: String,
}

impl Record for BackupRecord {
    const TABLE: &'static str = "backups";
    const VERSION: u8 = 1;
}

/// What a backup must be to count as verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBackup<'a> {
    /// Of what.
    pub source: &'a str,
    /// At least.
    pub level: BackupLevel,
    /// At most so old.
    pub max_age: Duration,
    /// Of this system; `None`: which it must be is not known.
    pub system_identifier: Option<&'a str>,
}

/// Whether there is a verified backup, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // It is one answer, never a list of them.
pub enum VerifiedBackup {
    /// There is.
    Yes(Box<BackupRecord>),
    /// There is none; in words.
    No(String),
    /// It can't be told; in words.
    Unknown(String),
}

/// The newest backup that is verified as deeply as asked for, new enough, of the same system, and not older than one
/// that failed or is broken. `records` are those of the source, in any order.
pub fn verified_backup(
    records: &[BackupRecord],
    wanted: &WantedBackup<'_>,
    now: Timestamp,
) -> VerifiedBackup {
    let mut own: Vec<_> = records.iter().filter(|record| record.source == wanted.source).collect();
    own.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    let source = wanted.source;
    for record in own {
        let id = &record.id;
        match record.state {
            // One that is being made, or has expired, says nothing.
            BackupState::Running | BackupState::Expired => continue,
            BackupState::Failed | BackupState::Broken => {
                let what = if record.state == BackupState::Failed { "failed" } else { "is broken" };
                return VerifiedBackup::No(format!(
                    "the newest backup of {source}, {id} of {}, {what}: {}",
                    record.started_at, record.detail
                ));
            }
            BackupState::Complete => {}
        }
        // Not verified that deeply: an older one may be.
        if record.level.is_none_or(|level| level < wanted.level) {
            continue;
        }
        let age = now.duration_since(record.started_at);
        if age.is_negative() {
            return VerifiedBackup::Unknown(format!(
                "backup {id} is of {}, which is still to come: look at the clock",
                record.started_at
            ));
        }
        if age.unsigned_abs() > wanted.max_age {
            let hours = [age.unsigned_abs(), wanted.max_age].map(|it| it.as_secs_f64() / 3_600.0);
            return VerifiedBackup::No(format!(
                "the newest backup verified to {}, {id}, is {:.1} h old, {:.1} h are allowed",
                wanted.level.name(),
                hours[0],
                hours[1]
            ));
        }
        return match wanted.system_identifier {
            None => VerifiedBackup::Unknown(format!(
                "of which system {source} is can't be told, so backup {id} may be another's"
            )),
            Some(system) if system != record.system_identifier => VerifiedBackup::No(format!(
                "backup {id} is of system {}, and {source} is {system}",
                record.system_identifier
            )),
            Some(_) => VerifiedBackup::Yes(Box::new(record.clone())),
        };
    }
    VerifiedBackup::No(format!(
        "there is no backup of {source} that is verified to {}",
        wanted.level
    ))
}

/// Reads backups.
#[derive(Clone, Copy)]
pub struct Backups<'t> {
    source: Source<'t>,
}

impl<'t> Backups<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The backup of this id.
    pub fn get(&self, id: &str) -> Result<Option<BackupRecord>, StorageError> {
        let view = self.source.view(BACKUPS)?;
        let row = view.get(id)?;
        row.map(|row| decode(&id, row.value())).transpose()
    }

    /// At most `limit` backups, newest first; with a `source` only those of it.
    pub fn list(
        &self,
        source: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BackupRecord>, StorageError> {
        self.source.view(BACKUPS)?.last(limit, |record: &BackupRecord| {
            source.is_none_or(|source| record.source == source)
        })
    }

    /// The backups whose ids begin with `prefix`, at most `limit`.
    pub fn with_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<BackupRecord>, StorageError> {
        self.source.view(BACKUPS)?.with_prefix(prefix, limit)
    }
}

/// Writes backups.
#[derive(Clone, Copy)]
pub struct BackupsWriting<'t> {
    reading: Backups<'t>,
    sink: Sink<'t>,
}

reads_as!(BackupsWriting => Backups, reading);

impl<'t> BackupsWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Backups::new(sink.source()), sink }
    }

    /// Writes or replaces a backup; the oldest that are gone anyway go where there are more than `keep`.
    pub fn put(&self, record: &BackupRecord, keep: usize) -> Result<(), StorageError> {
        check_name(BackupRecord::TABLE, &record.id)?;
        let bytes = encode(&record.id.as_str(), record)?;
        self.sink.edit(BACKUPS)?.insert(record.id.as_str(), bytes.as_slice())?;
        let gone = |record: &&BackupRecord| {
            matches!(record.state, BackupState::Expired | BackupState::Failed)
        };
        let all = self.list(None, usize::MAX)?;
        let mut table = self.sink.edit(BACKUPS)?;
        for old in all.iter().skip(keep).filter(gone) {
            table.remove(old.id.as_str())?;
        }
        Ok(())
    }
}
