//! The oplog: append-only and hash-chained. Nobody writes to it but the commit of an audited
//! write or of an ingest stream.
//!
//! A stored entry is one version byte, 32 bytes of hash and the JSON that was hashed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::chain::{Checker, Head, Verification, link};
use crate::error::StorageError;
use crate::intent::Intent;
use crate::record::check_size;
use crate::schema::{HEAD_ROW, META, OPLOG};
use crate::view::{Sink, Source};

const TABLE: &str = "oplog";
const VERSION: u8 = 1;
const HEAD_VERSION: u8 = 1;
const BODY: usize = 33;

/// The most entries that one call of [`Oplog::newest`] looks at.
pub const MAX_SCANNED: usize = 100_000;

/// One action: who did what to what, why, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OplogEntry {
    /// The entry's place in the log, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What, as a stable name.
    pub action: String,
    /// To what; may be empty.
    pub target: String,
    /// Why; may be empty.
    pub reason: String,
    /// `ok`, or an error's code.
    pub outcome: String,
    /// More, for people; may be empty.
    pub detail: String,
    /// The run or request it belongs to; may be empty.
    pub correlation_id: String,
    /// The trace it belongs to, in 32 hex digits; may be empty, and is not written then: older entries have none, and
    /// what was hashed of them stays as it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
}

/// An entry with what the chain is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The entry.
    pub entry: OplogEntry,
    /// The exact text that was hashed.
    pub json: String,
    /// SHA-256 of the previous entry's hash (32 zero bytes before the first) and `json`.
    pub hash: [u8; 32],
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searched {
    /// Newest first.
    pub found: Vec<StoredEntry>,
    /// The oldest entry that was looked at, where the search ended before the oldest there is and before it had found as
    /// many as were asked for.
    pub stopped_at: Option<u64>,
}

/// Reads and verifies the oplog.
#[derive(Clone, Copy)]
pub struct Oplog<'t> {
    source: Source<'t>,
}

impl<'t> Oplog<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The newest entry's sequence and hash; all zeros if there is none.
    pub fn head(&self) -> Result<Head, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(HEAD_ROW)?;
        row.map_or(Ok(Head::default()), |row| {
            parse_head(row.value())
                .map_err(|reason| StorageError::record("meta", &HEAD_ROW, reason.into()))
        })
    }

    /// One entry.
    pub fn get(&self, sequence: u64) -> Result<Option<StoredEntry>, StorageError> {
        let view = self.source.view(OPLOG)?;
        let row = view.get(sequence)?;
        row.map(|row| parse(sequence, row.value())).transpose()
    }

    /// At most `limit` entries from `from` on, oldest first.
    pub fn range(&self, from: u64, limit: usize) -> Result<Vec<StoredEntry>, StorageError> {
        let view = self.source.view(OPLOG)?;
        let rows = view.range(from..)?.take(limit);
        rows.map(|row| row.and_then(|(key, value)| parse(key.value(), value.value()))).collect()
    }

    /// The sequence of the first entry from `at` on; one past the newest where there is none. Time grows with the
    /// sequence; where a clock was set back, it is near.
    pub fn first_since(&self, at: Timestamp) -> Result<u64, StorageError> {
        let view = self.source.view(OPLOG)?;
        let first = view.all()?.next().transpose()?.map_or(1, |(key, _)| key.value());
        let (mut low, mut high) = (first, self.head()?.sequence + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            // What is missing, since somebody tampered with the log, counts as what comes next.
            let entry = view.range(middle..)?.next().transpose()?;
            let earlier = match entry {
                Some((key, value)) => parse(key.value(), value.value())?.entry.at < at,
                None => false,
            };
            if earlier {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// At most `limit` entries that pass the filter, newest first, from before `before` or from
    /// the newest on. Looks at no more than [`MAX_SCANNED`] entries.
    pub fn newest(
        &self,
        before: Option<u64>,
        limit: usize,
        filter: impl Fn(&OplogEntry) -> bool,
    ) -> Result<Vec<StoredEntry>, StorageError> {
        Ok(self.search(before, limit, filter)?.found)
    }

    /// As [`Oplog::newest`], with how far was looked.
    pub fn search(
        &self,
        before: Option<u64>,
        limit: usize,
        filter: impl Fn(&OplogEntry) -> bool,
    ) -> Result<Searched, StorageError> {
        self.search_through(MAX_SCANNED, before, limit, filter)
    }

    pub(crate) fn search_through(
        &self,
        most: usize,
        before: Option<u64>,
        limit: usize,
        filter: impl Fn(&OplogEntry) -> bool,
    ) -> Result<Searched, StorageError> {
        let mut found = Vec::new();
        let view = self.source.view(OPLOG)?;
        let mut looked_at = None;
        for (scanned, row) in view.range(..before.unwrap_or(u64::MAX))?.rev().enumerate() {
            if found.len() >= limit {
                break;
            }
            if scanned >= most {
                return Ok(Searched { found, stopped_at: looked_at });
            }
            let (key, value) = row?;
            let stored = parse(key.value(), value.value())?;
            looked_at = Some(stored.entry.sequence);
            if filter(&stored.entry) {
                found.push(stored);
            }
        }
        Ok(Searched { found, stopped_at: None })
    }

    /// Follows the whole chain, and compares its end with the stored head and with `expected`, a
    /// head that was noted elsewhere earlier. Entries that can't be read are findings. Memory is
    /// bounded; time is that of reading the log once.
    pub fn verify(&self, expected: Option<Head>) -> Result<Verification, StorageError> {
        let mut checker = Checker::new(expected);
        let view = self.source.view(OPLOG)?;
        for row in view.all()? {
            match row {
                Ok((key, value)) => checker.entry(key.value(), split(value.value())),
                Err(error) => {
                    checker.stop(&error.to_string());
                    break;
                }
            }
        }
        let meta = self.source.view(META)?;
        let stored = match meta.get(HEAD_ROW)? {
            Some(row) => parse_head(row.value()),
            // A log that was never written to has no head.
            None => Ok(Head::default()),
        };
        Ok(checker.finish(Some(stored)))
    }
}

/// Appends the intent's entry; returns its sequence.
pub(crate) fn append(sink: Sink<'_>, intent: Intent) -> Result<u64, StorageError> {
    let head = end(sink)?;
    let sequence = head.sequence + 1;
    let Intent { at, actor, action, target, reason, outcome, detail, correlation_id, trace_id } =
        intent;
    let entry = OplogEntry {
        sequence,
        at,
        actor,
        action,
        target,
        reason,
        outcome,
        detail,
        correlation_id,
        trace_id,
    };
    let json = serde_json::to_vec(&entry)
        .map_err(|error| StorageError::record(TABLE, &sequence, Box::new(error)))?;
    let hash = link(&head.hash, &json);
    let mut bytes = Vec::with_capacity(BODY + json.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&hash);
    bytes.extend_from_slice(&json);
    check_size(TABLE, &sequence, bytes.len())?;
    sink.edit(OPLOG)?.insert(sequence, bytes.as_slice())?;
    let head = encode_head(Head { sequence, hash });
    sink.edit(META)?.insert(HEAD_ROW, head.as_slice())?;
    Ok(sequence)
}

/// Where the log goes on. An entry is never overwritten, even where somebody tampered with the
/// head or the entries: the chain goes on behind whichever is further, and `verify` tells.
fn end(sink: Sink<'_>) -> Result<Head, StorageError> {
    let stored = Oplog::new(sink.source()).head();
    let view = sink.source().view(OPLOG)?;
    let last = match view.all()?.next_back().transpose()? {
        Some((key, value)) => {
            let hash = split(value.value()).map(|(hash, _)| *hash).unwrap_or_default();
            Head { sequence: key.value(), hash }
        }
        None => Head::default(),
    };
    let head = match stored {
        Ok(head) if head.sequence >= last.sequence => head,
        Ok(_) | Err(StorageError::Record { .. }) => last,
        Err(error) => return Err(error),
    };
    if head.sequence == u64::MAX {
        return Err(StorageError::record(TABLE, &head.sequence, "no sequence is left".into()));
    }
    Ok(head)
}

fn encode_head(head: Head) -> [u8; 41] {
    let mut bytes = [HEAD_VERSION; 41];
    bytes[1..9].copy_from_slice(&head.sequence.to_be_bytes());
    bytes[9..].copy_from_slice(&head.hash);
    bytes
}

fn parse_head(bytes: &[u8]) -> Result<Head, String> {
    let parts = bytes.split_first_chunk::<1>().and_then(|(version, rest)| {
        let (sequence, hash) = rest.split_first_chunk::<8>()?;
        Some((version[0], u64::from_be_bytes(*sequence), hash))
    });
    match parts {
        Some((HEAD_VERSION, sequence, hash)) => match hash.try_into() {
            Ok(hash) => Ok(Head { sequence, hash }),
            Err(_) => Err(format!("{} bytes instead of 41", bytes.len())),
        },
        Some((version, ..)) => Err(format!("version {version} is not known")),
        None => Err(format!("{} bytes instead of 41", bytes.len())),
    }
}

/// The hash and the JSON of a stored entry.
fn split(bytes: &[u8]) -> Result<(&[u8; 32], &[u8]), String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            rest.split_first_chunk::<32>().ok_or_else(|| "it is too short".to_owned())
        }
        Some((version, _)) => Err(format!("version {version} is not known")),
        None => Err("it is empty".to_owned()),
    }
}

fn parse(sequence: u64, bytes: &[u8]) -> Result<StoredEntry, StorageError> {
    if let Some(&found) = bytes.first()
        && found > VERSION
    {
        let key = sequence.to_string();
        return Err(StorageError::UnknownVersion { table: TABLE, key, found, supported: VERSION });
    }
    let unreadable = |source| StorageError::record(TABLE, &sequence, source);
    let (hash, json) = split(bytes).map_err(|reason| unreadable(reason.into()))?;
    let json = std::str::from_utf8(json).map_err(|error| unreadable(Box::new(error)))?;
    let entry = serde_json::from_str(json).map_err(|error| unreadable(Box::new(error)))?;
    Ok(StoredEntry { entry, json: json.to_owned(), hash: *hash })
}

/// Reads a stored entry; what would be stored of it, with the hash that it has.
pub(crate) fn again(bytes: &[u8]) -> Result<Vec<u8>, StorageError> {
    let StoredEntry { entry, hash, .. } = parse(0, bytes)?;
    let json = serde_json::to_vec(&entry)
        .map_err(|error| StorageError::record(TABLE, &0, Box::new(error)))?;
    Ok([&[VERSION][..], &hash, &json].concat())
}

/// Reads a stored head; what would be stored of it.
pub(crate) fn head_again(bytes: &[u8]) -> Result<Vec<u8>, StorageError> {
    let head = parse_head(bytes)
        .map_err(|reason| StorageError::record("meta", &HEAD_ROW, reason.into()))?;
    Ok(encode_head(head).to_vec())
}
