//! What is known of a segment.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// The states of a segment, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// The live file is being written to.
    Active,
    /// Renamed, but perhaps still held open by a writer.
    Detached,
    /// Compressed and hashed beside the source.
    Sealed,
    /// Copied to the archive.
    Uploaded,
    /// The copy was checked.
    Verified,
    /// The local copy is deleted.
    LocalExpired,
    /// The archive's copy is deleted.
    ArchiveExpired,
}

impl SegmentState {
    /// All states, in the order of life.
    pub const ALL: [Self; 7] = [
        Self::Active,
        Self::Detached,
        Self::Sealed,
        Self::Uploaded,
        Self::Verified,
        Self::LocalExpired,
        Self::ArchiveExpired,
    ];

    /// The state's stable name, as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Detached => "detached",
            Self::Sealed => "sealed",
            Self::Uploaded => "uploaded",
            Self::Verified => "verified",
            Self::LocalExpired => "local_expired",
            Self::ArchiveExpired => "archive_expired",
        }
    }

    pub(super) fn is_unfinished(self) -> bool {
        self < Self::Verified
    }
}

/// What a segment waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// A stable code.
    pub code: String,
    /// What it is about, such as a process or a path.
    pub subject: String,
    /// For people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// A person must mend it; it is looked at from time to time all the same.
    #[serde(default)]
    pub quarantined: bool,
}

/// How the head of a log is taken out of a file that stays in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenHow {
    /// Whole blocks are cut out of the front of the file.
    Collapse,
    /// The file is cut to nothing.
    Truncate,
}

/// How far taking a piece has got. Each phase is committed before the next one touches the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenPhase {
    /// The copy is being written; the log is untouched.
    Copying,
    /// The copy is durable and was compared; the first block of the log may bear the mark.
    Copied,
    /// The first block of the log bears the mark, or is gone already.
    Marked,
    /// The piece is gone from the log, or was to stay.
    Removed,
}

/// A piece that was copied out of a log whose writers keep it open. Offsets and sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenRecord {
    /// How it leaves the log.
    pub how: TakenHow,
    /// How far it is.
    pub phase: TakenPhase,
    /// The device of the log.
    pub device: u64,
    /// The inode of the log.
    pub inode: u64,
    /// Where the piece begins in the log.
    pub from: u64,
    /// Where it ends.
    pub until: u64,
    /// So much is cut out of the front; the rest of the piece stays and is passed over by the next one.
    pub remove: u64,
    /// What is written over the first block before it goes: its absence proves that it went.
    pub mark: String,
    /// The piece begins in the middle of a line.
    pub starts_mid_line: bool,
    /// Written after the last copy and gone with a truncation, as far as it was seen.
    pub vanished_bytes: u64,
}

/// A segment. Sizes are in bytes; times without a value were not reached, or no line had one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The log type it belongs to.
    pub log_type: String,
    /// Its place within the log type, from 1.
    pub sequence: u64,
    /// Where it is in its life.
    pub state: SegmentState,
    /// The live file it was cut from.
    pub source_path: String,
    /// Where the detached file is; empty before.
    pub detached_path: String,
    /// The device of the file.
    pub device: u64,
    /// The inode of the file.
    pub inode: u64,
    /// When it was detached.
    pub detached_at: Option<Timestamp>,
    /// The time that its first lines without one take: the last of the segment before.
    pub initial_at: Option<Timestamp>,
    /// The earliest timestamp of its lines.
    pub first_at: Option<Timestamp>,
    /// The latest timestamp of its lines.
    pub last_at: Option<Timestamp>,
    /// How many lines.
    pub lines: u64,
    /// How many members its file has; 0 where that was not recorded.
    #[serde(default)]
    pub members: u64,
    /// Size before compression.
    pub plain_bytes: u64,
    /// Size after compression.
    pub compressed_bytes: u64,
    /// SHA-256 of the compressed file, hexadecimal; empty before it is sealed.
    pub sha256: String,
    /// SHA-256 of its manifest, hexadecimal; empty before it is sealed.
    pub manifest_sha256: String,
    /// Its place in the chain of manifests.
    pub chain_index: Option<u64>,
    /// The name in the archive, without `.log.gz`; empty before it is sealed.
    pub archive_name: String,
    /// When it was sealed.
    pub sealed_at: Option<Timestamp>,
    /// When the archive's copy was checked.
    pub verified_at: Option<Timestamp>,
    /// When the local copy was deleted.
    pub local_expired_at: Option<Timestamp>,
    /// When the archive's copy was deleted.
    pub archive_expired_at: Option<Timestamp>,
    /// What it waits for, if it does.
    pub waiting: Option<Waiting>,
    /// How it was taken, where its log stayed in place instead of being renamed.
    #[serde(default)]
    pub taken: Option<TakenRecord>,
    /// An upload in parts that goes on, as the archive names it.
    #[serde(default)]
    pub upload_id: Option<String>,
}

impl SegmentRecord {
    /// Whether it was put into the archive and is there still.
    fn is_uploaded(&self) -> bool {
        self.state == SegmentState::Uploaded || self.is_archived()
    }

    /// Whether its archived copy was proven and is there still.
    pub fn is_archived(&self) -> bool {
        matches!(self.state, SegmentState::Verified | SegmentState::LocalExpired)
    }
}

impl Record for SegmentRecord {
    const TABLE: &'static str = "segments";
    const VERSION: u8 = 1;
}

/// What the archive holds of a log type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTotals {
    /// Size before compression, in bytes.
    pub plain_bytes: u64,
    /// Size in the archive, in bytes.
    pub compressed_bytes: u64,
    /// When a segment was last verified.
    pub verified_at: Option<Timestamp>,
}

impl Record for SegmentTotals {
    const TABLE: &'static str = "segment_totals";
    const VERSION: u8 = 1;
}

impl SegmentTotals {
    pub(super) fn count(&mut self, segment: &SegmentRecord) {
        if segment.is_uploaded() {
            self.plain_bytes = self.plain_bytes.saturating_add(segment.plain_bytes);
            self.compressed_bytes = self.compressed_bytes.saturating_add(segment.compressed_bytes);
        }
        self.verified_at = self.verified_at.max(segment.verified_at);
    }

    pub(super) fn discount(&mut self, segment: &SegmentRecord) {
        if segment.is_uploaded() {
            self.plain_bytes = self.plain_bytes.saturating_sub(segment.plain_bytes);
            self.compressed_bytes = self.compressed_bytes.saturating_sub(segment.compressed_bytes);
        }
    }
}
