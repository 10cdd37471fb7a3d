//! What is kept: records of the state, and the operation log as it is exported.

use genesis_storage::bytes::KINDS;
use serde_json::Value;

use super::{chosen, first_line};

/// The kind of a record in the first line, then the record: what is read is written so that it reads as the same.
pub fn state_records(data: &[u8]) {
    let (kind, bytes) = first_line(data);
    let (name, again) = chosen(KINDS, kind);
    let Ok(once) = again(bytes) else { return };
    let twice = again(&once);
    assert!(twice.as_ref().is_ok_and(|twice| *twice == once), "{name}: {twice:?}");
}

/// A number of bytes, then an export: read in pieces of so many bytes, the same is wrong with it as with the whole; and
/// where nothing is, the agent's own check finds nothing either.
pub fn oplog_export(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = genesisctl::fuzzing::exported(bytes, 1 << 16).expect("its lines are short");
    let cut = genesisctl::fuzzing::exported(bytes, usize::from(*piece));
    assert_eq!(cut.as_ref(), Some(&whole));
    assert_eq!(whole.intact, whole.findings.is_empty());
    let entries: Vec<_> = bytes.split(|byte| *byte == b'\n').filter_map(entry).collect();
    if whole.intact && entries.first().is_some_and(|(sequence, ..)| *sequence == 1) {
        let verified = genesis_storage::verify_lines(entries, None);
        assert!(verified.intact, "{:?}", verified.findings);
        assert_eq!(verified.entries, whole.entries);
    }
}

/// The number, text and hash of an entry that a line has.
fn entry(line: &[u8]) -> Option<(u64, String, [u8; 32])> {
    let line: Value = serde_json::from_slice(line).ok()?;
    if line.get("head").is_some() {
        return None;
    }
    let sequence = line.get("sequence")?;
    let sequence = sequence.as_u64().or_else(|| sequence.as_str()?.parse().ok())?;
    let hash = hex::decode(line.get("hash")?.as_str()?).ok()?;
    Some((sequence, line.get("json")?.as_str()?.to_owned(), hash.try_into().ok()?))
}
