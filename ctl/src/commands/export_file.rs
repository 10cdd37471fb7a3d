//! Verifying an exported oplog without any agent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use genesis_client::v1::{Finding, Head, VerifyOplogResponse};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The longest line that is read, in bytes: a message of the agent is never longer.
const LINE_LIMIT: u64 = 64 << 20;

/// As many as an agent reports.
const FINDINGS_LIMIT: usize = 100;

/// Checks the exported file: each entry's hash over the one before it, their numbers, and that the file
/// reaches its own head and, if given, contains the `expected` one. In an export that does not begin at
/// the first entry, the first one's own hash can't be checked; it anchors the others.
pub(super) fn verify(path: &Path, expected: Option<Head>) -> io::Result<VerifyOplogResponse> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    verify_lines(&mut BufReader::with_capacity(256 << 10, file), expected)
}

pub(super) fn verify_lines(
    lines: &mut impl BufRead,
    expected: Option<Head>,
) -> io::Result<VerifyOplogResponse> {
    let mut check = Check { expected, ..Check::default() };
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        if lines.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == LINE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            check.line(number, &line);
        }
    }
    Ok(check.end())
}

/// One line of an export.
enum Line {
    Entry { sequence: u64, json: String, hash: [u8; 32] },
    Head(Head),
}

#[derive(Default)]
struct Check {
    expected: Option<Head>,
    expected_seen: bool,
    entries: u64,
    first: u64,
    last: Option<(u64, [u8; 32])>,
    head: Option<Head>,
    findings: Vec<Finding>,
    /// Set with the first finding, kept when further ones find no room.
    broken: bool,
}

impl Check {
    fn line(&mut self, number: u64, line: &[u8]) {
        let parsed = parse(line);
        if self.head.is_some() {
            self.found("OPLOG_REORDERED", number, format!("line {number} stands behind the head"));
            return;
        }
        match parsed {
            Some(Line::Head(head)) => self.head = Some(head),
            Some(Line::Entry { sequence, json, hash }) => self.entry(sequence, &json, hash),
            None => self.found(
                "OPLOG_UNREADABLE",
                number,
                format!("line {number} is neither an entry nor the head"),
            ),
        }
    }

    fn entry(&mut self, sequence: u64, json: &str, hash: [u8; 32]) {
        let previous = match self.last {
            None => {
                self.first = sequence;
                (sequence == 1).then_some([0; 32])
            }
            Some((last, _)) if sequence <= last => {
                let message = format!("entry {sequence} stands behind entry {last}");
                self.found("OPLOG_REORDERED", sequence, message);
                None
            }
            Some((last, _)) if sequence - last > 1 => {
                let message = format!("entries {} to {} are missing", last + 1, sequence - 1);
                self.found("OPLOG_MISSING", last + 1, message);
                None
            }
            Some((_, hash)) => Some(hash),
        };
        let computed = previous.map(|previous| {
            let mut hasher = Sha256::new();
            hasher.update(previous);
            hasher.update(json.as_bytes());
            <[u8; 32]>::from(hasher.finalize())
        });
        // Each entry is measured against the hash that is stored before it, so that one edit is one finding.
        if computed.is_some_and(|computed| computed != hash) || own_number(json) != Some(sequence) {
            let message = format!("entry {sequence} was edited: its hash does not fit its text");
            self.found("OPLOG_EDITED", sequence, message);
        }
        if let Some(expected) = self.expected.as_ref().filter(|head| head.sequence == sequence) {
            self.expected_seen = true;
            if expected.hash != hex::encode(hash) {
                let message =
                    format!("entry {sequence} is not the one that the expected head names");
                self.found("OPLOG_HEAD_MISMATCH", sequence, message);
            }
        }
        self.entries += 1;
        self.last = Some((sequence, hash));
    }

    fn end(mut self) -> VerifyOplogResponse {
        let last = self.last.map_or_else(
            || Head { sequence: 0, hash: hex::encode([0; 32]) },
            |(sequence, hash)| Head { sequence, hash: hex::encode(hash) },
        );
        match self.head.take() {
            None => {
                let message = "the file ends without its head: it was cut off";
                self.found("OPLOG_TRUNCATED", last.sequence, message.into());
            }
            Some(head) if head.sequence > last.sequence => {
                let message =
                    format!("the file names head {}, but ends at {}", head.sequence, last.sequence);
                self.found("OPLOG_TRUNCATED", last.sequence, message);
            }
            Some(head) if head != last => {
                let message = format!("the file's head is not its last entry, {}", last.sequence);
                self.found("OPLOG_HEAD_MISMATCH", last.sequence, message);
            }
            Some(_) => {}
        }
        let unseen = self.expected.take().filter(|head| head.sequence > 0 && !self.expected_seen);
        if let Some(head) = unseen {
            let message = if self.entries > 0 && head.sequence < self.first {
                format!("the file begins at {}, behind the expected head", self.first)
            } else {
                format!("the file does not hold entry {}, the expected head", head.sequence)
            };
            self.found("OPLOG_TRUNCATED", head.sequence, message);
        }
        VerifyOplogResponse {
            intact: !self.broken,
            entries: self.entries,
            head: Some(last),
            findings: self.findings,
            // A file is of no fleet.
            fleet: None,
        }
    }

    fn found(&mut self, code: &str, subject: u64, message: String) {
        self.broken = true;
        if self.findings.len() < FINDINGS_LIMIT {
            self.findings.push(Finding {
                code: code.into(),
                subject: subject.to_string(),
                message,
            });
        }
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let hash = |value: &Value| value.get("hash")?.as_str().map(str::to_ascii_lowercase);
    if let Some(head) = value.get("head") {
        let hash = hash(head).filter(|hash| hash.len() == 64)?;
        return Some(Line::Head(Head { sequence: number(head.get("sequence")?)?, hash }));
    }
    Some(Line::Entry {
        sequence: number(value.get("sequence")?)?,
        json: value.get("json")?.as_str()?.to_owned(),
        hash: hex::decode(hash(&value)?).ok()?.try_into().ok()?,
    })
}

/// 64-bit integers are strings in protobuf JSON, numbers elsewhere.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The sequence number that the hashed text itself carries.
fn own_number(json: &str) -> Option<u64> {
    number(serde_json::from_str::<Value>(json).ok()?.get("sequence")?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An export of `count` entries from `first` on, line by line, the head last.
    fn export(first: u64, count: u64) -> Vec<String> {
        let mut previous = [0u8; 32];
        let mut lines = Vec::new();
        for sequence in 1..first + count {
            let json = format!(r#"{{"sequence":{sequence},"action":"a{sequence}"}}"#);
            let mut bytes = previous.to_vec();
            bytes.extend_from_slice(json.as_bytes());
            previous = Sha256::digest(&bytes).into();
            if sequence >= first {
                let hash = hex::encode(previous);
                let line = serde_json::json!({ "sequence": sequence.to_string(), "hash": hash, "json": json });
                lines.push(line.to_string());
            }
        }
        let head =
            serde_json::json!({ "sequence": first + count - 1, "hash": hex::encode(previous) });
        lines.push(serde_json::json!({ "head": head }).to_string());
        lines
    }

    fn check(lines: &[String], expected: Option<Head>) -> VerifyOplogResponse {
        verify_lines(&mut lines.join("\n").as_bytes(), expected).unwrap()
    }

    fn codes(response: &VerifyOplogResponse) -> Vec<&str> {
        response.findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    #[test]
    fn whole_exports_are_intact() {
        for (first, count) in [(1, 5), (3, 4), (1, 1)] {
            let response = check(&export(first, count), None);
            assert!(response.intact, "{:?}", response.findings);
            assert_eq!(
                (response.entries, response.head.unwrap().sequence),
                (count, first + count - 1)
            );
        }
        assert!(check(&export(1, 0), None).intact);
    }

    #[test]
    fn each_kind_of_tampering_is_named() {
        let whole = export(1, 5);
        let mut edited = whole.clone();
        edited[2] = edited[2].replace("a3", "b3");
        assert_eq!(codes(&check(&edited, None)), ["OPLOG_EDITED"]);

        let mut missing = whole.clone();
        missing.remove(2);
        assert_eq!(codes(&check(&missing, None)), ["OPLOG_MISSING"]);

        let mut reordered = whole.clone();
        reordered.swap(1, 2);
        assert!(codes(&check(&reordered, None)).contains(&"OPLOG_REORDERED"));

        let cut = &whole[..3];
        assert_eq!(codes(&check(cut, None)), ["OPLOG_TRUNCATED"]);
        let mut shorter = whole.clone();
        shorter.remove(4);
        assert_eq!(codes(&check(&shorter, None)), ["OPLOG_TRUNCATED"]);

        let mut noise = whole.clone();
        noise[1] = "{\"x\":1}".into();
        assert!(codes(&check(&noise, None)).contains(&"OPLOG_UNREADABLE"));
        assert!(!check(&[], None).intact);
    }

    #[test]
    fn a_head_kept_elsewhere_shows_a_rewritten_log() {
        let hash = |lines: &[String], at: usize| {
            serde_json::from_str::<Value>(&lines[at]).unwrap()["hash"].as_str().unwrap().to_owned()
        };
        let whole = export(1, 5);
        let head = Head { sequence: 3, hash: hash(&whole, 2) };
        assert!(check(&whole, Some(head.clone())).intact);
        let other = Head { hash: "00".repeat(32), ..head };
        assert_eq!(codes(&check(&whole, Some(other))), ["OPLOG_HEAD_MISMATCH"]);
        let later = Head { sequence: 9, hash: "00".repeat(32) };
        assert_eq!(codes(&check(&whole, Some(later))), ["OPLOG_TRUNCATED"]);
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_an_entry_is_found(at in 0usize..4096, bit in 0u8..8) {
            let lines = export(1, 4);
            let mut bytes = lines.join("\n").into_bytes();
            let entries = bytes.len() - lines[4].len() - 1;
            let at = at % entries;
            bytes[at] ^= 1 << bit;
            // A hash in the other case is the same hash.
            let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) && a.is_ascii_hexdigit();
            let original = lines.join("\n").into_bytes();
            let response = verify_lines(&mut bytes.as_slice(), None).unwrap();
            prop_assert!(!response.intact || same(original[at], bytes[at]), "byte {at} bit {bit}");
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = verify_lines(&mut bytes.as_slice(), None);
        }
    }
}
