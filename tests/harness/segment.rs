//! Segments as genesisctl shows them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A segment as `logs list` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub sequence: u64,
    /// Such as "VERIFIED".
    pub state: String,
    /// Its lines, once sealed.
    pub lines: u64,
    /// Their bytes.
    pub plain_bytes: u64,
    /// Its place in the archive, without `.log.gz`.
    pub archive_name: String,
    /// The code of what it waits for.
    pub waits_for: Option<String>,
}

impl Segment {
    pub(crate) fn read(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        // protobuf's JSON writes 64-bit numbers as text.
        let number = |name: &str| text(name).parse().unwrap_or(0);
        Self {
            sequence: number("sequence"),
            state: text("state").trim_start_matches("SEGMENT_STATE_").to_owned(),
            lines: number("lines"),
            plain_bytes: number("plainBytes"),
            archive_name: text("archiveName"),
            waits_for: value["waiting"]["code"].as_str().map(str::to_owned),
        }
    }

    /// Its compressed file below `root`.
    pub fn file(&self, root: &Path) -> PathBuf {
        root.join(format!("{}.log.gz", self.archive_name))
    }

    /// Its manifest below `root`.
    pub fn manifest(&self, root: &Path) -> PathBuf {
        root.join(format!("{}.manifest.json", self.archive_name))
    }
}
