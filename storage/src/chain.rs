//! The oplog's hash chain: pure, so that an exported file can be verified like the tables.

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The most findings that a verification reports; `intact` tells about all.
pub const MAX_FINDINGS: usize = 100;

/// The newest entry of an oplog; all zeros for an empty one. Kept outside of the host, it makes a
/// truncated or rewritten oplog show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The newest entry's sequence, 0 if there is none.
    pub sequence: u64,
    /// The newest entry's hash.
    pub hash: [u8; 32],
}

/// What a verification of the chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Whether nothing was found.
    pub intact: bool,
    /// How many entries there are, sound or not.
    pub entries: u64,
    /// The newest entry as it is stored. An unreadable one has a hash of zeros.
    pub head: Head,
    /// What is wrong, oldest first, at most [`MAX_FINDINGS`].
    pub findings: Vec<ChainFinding>,
}

/// One thing that is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFinding {
    /// The entry it is about.
    pub sequence: u64,
    /// `OPLOG_EDITED`, `OPLOG_MISSING`, `OPLOG_REORDERED`, `OPLOG_TRUNCATED`,
    /// `OPLOG_HEAD_MISMATCH` or `OPLOG_UNREADABLE`.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
}

/// Verifies exported entries, as sequence, JSON and hash, from the first one on. With `expected`,
/// a head noted earlier, a missing or rewritten end shows too.
pub fn verify_lines<J: AsRef<[u8]>>(
    lines: impl IntoIterator<Item = (u64, J, [u8; 32])>,
    expected: Option<Head>,
) -> Verification {
    let mut checker = Checker::new(expected);
    for (sequence, json, hash) in lines {
        checker.entry(sequence, Ok((&hash, json.as_ref())));
    }
    checker.finish(None)
}

/// The hash of an entry: SHA-256 of the previous entry's hash and the JSON.
pub(crate) fn link(previous: &[u8; 32], json: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(json).finalize().into()
}

/// Follows the chain entry by entry, in constant memory.
pub(crate) struct Checker {
    next: u64,
    /// The hashes that the next entry may build on. Two after an edited entry: the stored one (if
    /// its JSON was edited) and the computed one (if its hash was), so that one edit is one
    /// finding. None where the previous entry is not known.
    previous: Vec<[u8; 32]>,
    entries: u64,
    newest: u64,
    newest_hash: Option<[u8; 32]>,
    expected: Option<Head>,
    expected_hash: Option<[u8; 32]>,
    intact: bool,
    stopped: bool,
    findings: Vec<ChainFinding>,
}

#[derive(Deserialize)]
struct Sequence {
    sequence: u64,
}

impl Checker {
    pub(crate) fn new(expected: Option<Head>) -> Self {
        Self {
            next: 1,
            previous: vec![[0; 32]],
            entries: 0,
            newest: 0,
            newest_hash: Some([0; 32]),
            expected,
            expected_hash: None,
            intact: true,
            stopped: false,
            findings: Vec::new(),
        }
    }

    /// The next entry in order of keys: its hash and JSON, or why it could not be read.
    pub(crate) fn entry(&mut self, sequence: u64, stored: Result<(&[u8; 32], &[u8]), String>) {
        self.entries += 1;
        if sequence < self.next {
            self.find(sequence, "OPLOG_REORDERED", || {
                format!("entry {sequence} stands after later entries")
            });
            self.previous.clear();
        } else if sequence > self.next {
            let (first, last) = (self.next, sequence - 1);
            self.find(first, "OPLOG_MISSING", || format!("entries {first} to {last} are missing"));
            self.previous.clear();
        }
        self.next = self.next.max(sequence.saturating_add(1));
        let hash = match stored {
            Ok((hash, json)) => Some(self.body(sequence, *hash, json)),
            Err(reason) => {
                self.find(sequence, "OPLOG_UNREADABLE", || {
                    format!("entry {sequence} is not readable: {reason}")
                });
                self.previous.clear();
                None
            }
        };
        if self.expected.is_some_and(|head| head.sequence == sequence) {
            self.expected_hash = hash;
        }
        if sequence >= self.newest {
            (self.newest, self.newest_hash) = (sequence, hash);
        }
    }

    fn body(&mut self, sequence: u64, hash: [u8; 32], json: &[u8]) -> [u8; 32] {
        let computed: Vec<_> = self.previous.iter().map(|p| link(p, json)).collect();
        let sound = computed.is_empty() || computed.contains(&hash);
        let named = serde_json::from_slice::<Sequence>(json).map(|entry| entry.sequence);
        match named {
            Ok(named) if named != sequence => {
                self.find(sequence, "OPLOG_REORDERED", || {
                    format!("entry {sequence} holds what was written as entry {named}")
                });
                self.previous.clear();
                return hash;
            }
            _ if !sound => self.find(sequence, "OPLOG_EDITED", || {
                format!("entry {sequence} does not match its hash")
            }),
            Ok(_) => {}
            Err(error) => self.find(sequence, "OPLOG_UNREADABLE", || {
                format!("entry {sequence} is not an oplog entry: {error}")
            }),
        }
        self.previous.clear();
        self.previous.push(hash);
        if !sound {
            self.previous.extend(computed);
            self.previous.truncate(2);
        }
        hash
    }

    /// Ends the check where the entries could not be read any further.
    pub(crate) fn stop(&mut self, reason: &str) {
        let next = self.next;
        self.stopped = true;
        self.find(next, "OPLOG_UNREADABLE", || {
            format!("the entries from {next} on are not readable: {reason}")
        });
    }

    /// Compares the end with the stored head, where there is one, and with the expected head.
    pub(crate) fn finish(mut self, stored: Option<Result<Head, String>>) -> Verification {
        match stored {
            Some(Ok(head)) => self.compare(head, self.newest_hash, "stored"),
            Some(Err(reason)) => self.find(self.newest, "OPLOG_HEAD_MISMATCH", || {
                format!("the stored head is not readable: {reason}")
            }),
            None => {}
        }
        if let Some(head) = self.expected.filter(|head| head.sequence > 0) {
            let hash = self.expected_hash;
            if head.sequence <= self.newest {
                self.same_hash(head, hash, "expected");
            } else {
                self.compare(head, hash, "expected");
            }
        }
        Verification {
            intact: self.intact,
            entries: self.entries,
            head: Head { sequence: self.newest, hash: self.newest_hash.unwrap_or_default() },
            findings: self.findings,
        }
    }

    fn compare(&mut self, head: Head, hash: Option<[u8; 32]>, which: &str) {
        let newest = self.newest;
        if self.stopped {
            return;
        }
        if head.sequence > newest {
            self.find(newest.saturating_add(1), "OPLOG_TRUNCATED", || {
                format!("the {which} head is entry {}, the last one is {newest}", head.sequence)
            });
        } else if head.sequence < newest {
            self.find(head.sequence, "OPLOG_HEAD_MISMATCH", || {
                format!("the {which} head is entry {}, but entry {newest} exists", head.sequence)
            });
        } else {
            self.same_hash(head, hash, which);
        }
    }

    fn same_hash(&mut self, head: Head, hash: Option<[u8; 32]>, which: &str) {
        // An unreadable entry has been reported as such.
        if hash.is_some_and(|hash| hash != head.hash) {
            self.find(head.sequence, "OPLOG_HEAD_MISMATCH", || {
                format!(
                    "entry {} has hash {}, the {which} head says {}",
                    head.sequence,
                    hex::encode(hash.unwrap_or_default()),
                    hex::encode(head.hash)
                )
            });
        }
    }

    fn find(&mut self, sequence: u64, code: &'static str, message: impl FnOnce() -> String) {
        self.intact = false;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(ChainFinding { sequence, code, message: message() });
        }
    }
}
