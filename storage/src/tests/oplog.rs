//! The chain: whatever is changed in it is found.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::schema::{HEAD_ROW, META, OPLOG};

const ENTRIES: u64 = 8;

/// A closed file with a few entries; its rows, and its head.
struct Log {
    _folder: TempDir,
    path: std::path::PathBuf,
    rows: Vec<Vec<u8>>,
    head: Head,
}

fn log() -> Log {
    let folder = folder();
    let store = open_in(&folder);
    for number in 1..=ENTRIES {
        let intent = Intent::new(at(number as i64), "tester", "note")
            .target("the log")
            .reason("a reason")
            .detail(format!("entry {number}"))
            .correlation_id("RUN1");
        store.write(intent, |_| Ok::<_, StorageError>(())).unwrap();
    }
    let (path, head) = (store.path().to_owned(), head(&store));
    let entries = store.read(|r| r.oplog().range(1, 100)).unwrap();
    drop(store);
    let rows = entries
        .iter()
        .map(|stored| [&[1], stored.hash.as_slice(), stored.json.as_bytes()].concat())
        .collect();
    Log { _folder: folder, path, rows, head }
}

/// The verification's codes after a change behind the store's back.
fn codes(
    log: &Log,
    expected: Option<Head>,
    f: impl FnOnce(&WriteTransaction),
) -> Vec<(u64, &'static str)> {
    tamper(&log.path, f);
    let verification = verify(&open(&log.path), expected);
    assert_eq!(verification.intact, verification.findings.is_empty());
    verification.findings.iter().map(|finding| (finding.sequence, finding.code)).collect()
}

fn remove(tx: &WriteTransaction, sequence: u64) {
    assert!(tx.open_table(OPLOG).unwrap().remove(sequence).unwrap().is_some());
}

#[test]
fn an_empty_and_an_untouched_log_are_intact() {
    let folder = folder();
    let store = open_in(&folder);
    let empty = verify(&store, None);
    assert!(empty.intact && empty.entries == 0 && empty.head == Head::default());
    assert!(verify(&store, Some(Head::default())).intact);
    drop(store);

    let log = log();
    let store = open(&log.path);
    let verification = verify(&store, Some(log.head));
    assert!(verification.intact, "{verification:?}");
    assert_eq!((verification.entries, verification.head), (ENTRIES, log.head));
}

#[test]
fn the_hash_is_that_of_the_previous_hash_and_the_exact_json() {
    let log = log();
    let entries = open(&log.path).read(|r| r.oplog().range(1, 100)).unwrap();
    let mut previous = [0; 32];
    for (index, stored) in entries.iter().enumerate() {
        let input = [previous.as_slice(), stored.json.as_bytes()].concat();
        previous = Sha256::digest(&input).into();
        assert_eq!(stored.hash, previous);
        assert_eq!(serde_json::from_str::<OplogEntry>(&stored.json).unwrap(), stored.entry);
        assert_eq!(stored.entry.sequence, index as u64 + 1);
        assert_eq!((stored.entry.outcome.as_str(), stored.entry.actor.as_str()), ("ok", "tester"));
    }
    assert_eq!(log.head, Head { sequence: ENTRIES, hash: previous });
}

#[test]
fn deletions_swaps_and_truncations_are_found() {
    let l = log();
    assert_eq!(codes(&l, None, |tx| remove(tx, 3)), [(3, "OPLOG_MISSING")]);
    let l = log();
    assert_eq!(codes(&l, None, |tx| remove(tx, 1)), [(1, "OPLOG_MISSING")]);
    let l = log();
    assert_eq!(codes(&l, None, |tx| remove(tx, ENTRIES)), [(ENTRIES, "OPLOG_TRUNCATED")]);

    // Adjacent and distant swaps.
    for (a, b) in [(3, 4), (2, 7)] {
        let l = log();
        let found = codes(&l, None, |tx| {
            put_raw(tx, OPLOG, a, &l.rows[b as usize - 1]);
            put_raw(tx, OPLOG, b, &l.rows[a as usize - 1]);
        });
        assert_eq!(found, [(a, "OPLOG_REORDERED"), (b, "OPLOG_REORDERED")]);
    }
}

#[test]
fn a_truncation_that_also_rewrites_the_head_shows_against_an_exported_one() {
    let cut = |tx: &WriteTransaction, l: &Log| {
        remove(tx, ENTRIES);
        let mut head = vec![1];
        head.extend((ENTRIES - 1).to_be_bytes());
        head.extend(&l.rows[ENTRIES as usize - 2][1..33]);
        put_raw(tx, META, HEAD_ROW, &head);
    };
    let l = log();
    assert_eq!(codes(&l, None, |tx| cut(tx, &l)), []);
    let l = log();
    assert_eq!(codes(&l, Some(l.head), |tx| cut(tx, &l)), [(ENTRIES, "OPLOG_TRUNCATED")]);

    // Cut and written anew: as long as before, but another chain.
    let l = log();
    tamper(&l.path, |tx| cut(tx, &l));
    let store = open(&l.path);
    store.write(intent("forged"), |_| Ok::<_, StorageError>(())).unwrap();
    assert!(verify(&store, None).intact);
    let findings = verify(&store, Some(l.head)).findings;
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].sequence, findings[0].code), (ENTRIES, "OPLOG_HEAD_MISMATCH"));
    // An older head, from before the cut, still fits.
    let hash = l.rows[3][1..33].try_into().unwrap();
    assert!(verify(&store, Some(Head { sequence: 4, hash })).intact);
}

#[test]
fn a_lost_or_edited_head_is_found_and_overwrites_nothing() {
    for edit in [0, 1, 2] {
        let l = log();
        let found = codes(&l, None, |tx| match edit {
            0 => {
                tx.open_table(META).unwrap().remove(HEAD_ROW).unwrap();
            }
            1 => put_raw(tx, META, HEAD_ROW, &[1; 41][..20]),
            _ => put_raw(tx, META, HEAD_ROW, &{
                let mut head = [0; 41];
                head[0] = 1;
                head[8] = 2;
                head
            }),
        });
        assert!(found.iter().all(|(_, code)| *code == "OPLOG_HEAD_MISMATCH"), "{found:?}");
        assert_eq!(found.len(), 1);
        let store = open(&l.path);
        store.write(intent("next"), |_| Ok::<_, StorageError>(())).unwrap();
        let entries = store.read(|r| r.oplog().range(1, 100)).unwrap();
        assert_eq!(entries.len() as u64, ENTRIES + 1, "the next entry goes behind the last one");
    }
}

#[test]
fn unreadable_entries_are_findings_for_verify_and_errors_for_reads() {
    let l = log();
    let found = codes(&l, None, |tx| {
        put_raw(tx, OPLOG, 2, &[]);
        put_raw(tx, OPLOG, 4, &[1, 2, 3]);
        put_raw(tx, OPLOG, 6, &[9; 50]);
    });
    assert_eq!(found, [(2, "OPLOG_UNREADABLE"), (4, "OPLOG_UNREADABLE"), (6, "OPLOG_UNREADABLE")]);
    let store = open(&l.path);
    let error = store.read(|r| r.oplog().get(6)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record 6 of table oplog has version 9, this version reads up to 1: start the version that wrote it"
    );
    let error = store.read(|r| r.oplog().newest(None, 100, |_| true)).unwrap_err();
    assert!(matches!(error, StorageError::UnknownVersion { found: 9, .. }));
    assert!(store.read(|r| r.oplog().get(4)).unwrap_err().to_string().contains("4 of table oplog"));
}

#[test]
fn findings_are_bounded() {
    let lines = (1..500).map(|n| (n, "no entry", [7; 32]));
    let verification = verify_lines(lines, None);
    assert!(!verification.intact);
    assert_eq!((verification.entries, verification.findings.len()), (499, MAX_FINDINGS));
}

#[test]
fn reads_page_in_both_directions() {
    let log = log();
    let store = open(&log.path);
    let sequences = |found: Vec<StoredEntry>| -> Vec<u64> {
        found.iter().map(|stored| stored.entry.sequence).collect()
    };
    store
        .read(|r| {
            let oplog = r.oplog();
            assert_eq!(sequences(oplog.range(3, 2)?), [3, 4]);
            assert_eq!(sequences(oplog.range(99, 2)?), [0; 0]);
            assert_eq!(sequences(oplog.newest(None, 3, |_| true)?), [8, 7, 6]);
            assert_eq!(sequences(oplog.newest(Some(6), 3, |e| e.sequence % 2 == 1)?), [5, 3, 1]);
            assert_eq!(sequences(oplog.newest(Some(0), 3, |_| true)?), [0; 0]);
            // A search that ends early says so, one that has all it was asked for or has seen all does not.
            for (most, before, limit, stopped_at) in [
                (3, None, 9, Some(6)),
                (3, Some(6), 9, Some(3)),
                (3, None, 1, None),
                (2, Some(3), 9, None),
                (8, None, 9, None),
                (9, None, 9, None),
            ] {
                let searched =
                    oplog.search_through(most, before, limit, |e| e.sequence % 2 == 0)?;
                assert_eq!(searched.stopped_at, stopped_at, "{most} {before:?} {limit}");
            }
            assert_eq!(oplog.get(9)?, None);
            for (second, first) in [(-5, 1), (1, 1), (2, 2), (5, 5), (8, 8), (9, 9)] {
                assert_eq!(oplog.first_since(at(second))?, first, "{second}");
            }
            Ok::<_, StorageError>(())
        })
        .unwrap();
}

#[test]
fn a_log_without_entries_has_none_since_a_moment() {
    let folder = folder();
    let store = open_in(&folder);
    assert_eq!(store.read(|r| r.oplog().first_since(at(0))).unwrap(), 1);
}

/// An export, line by line.
fn lines(log: &Log) -> Vec<(u64, Vec<u8>, [u8; 32])> {
    let rows = log.rows.iter().enumerate();
    rows.map(|(index, row)| (index as u64 + 1, row[33..].to_vec(), row[1..33].try_into().unwrap()))
        .collect()
}

#[test]
fn an_export_is_verified_without_the_store() {
    let log = log();
    let whole = lines(&log);
    let verification = verify_lines(whole.clone(), Some(log.head));
    assert!(verification.intact && verification.head == log.head);
    let first_of = |lines: Vec<_>| {
        let verification = verify_lines(lines, Some(log.head));
        (verification.findings[0].sequence, verification.findings[0].code)
    };
    let mut edited = whole.clone();
    edited.remove(4);
    assert_eq!(first_of(edited), (5, "OPLOG_MISSING"));
    let mut edited = whole.clone();
    edited.pop();
    assert_eq!(first_of(edited), (8, "OPLOG_TRUNCATED"));
    let mut edited = whole.clone();
    edited.swap(2, 3);
    assert!(verify_lines(edited, None).findings.iter().any(|f| f.code == "OPLOG_REORDERED"));
    let mut edited = whole;
    edited.push(edited[0].clone());
    assert_eq!(first_of(edited), (1, "OPLOG_REORDERED"));
}

#[test]
fn every_edited_byte_of_an_export_is_found() {
    let log = log();
    let whole = lines(&log);
    for index in 0..whole.len() {
        for offset in 0..whole[index].1.len() + 32 {
            for mask in [1, 0x20, 0xff] {
                let mut edited = whole.clone();
                let (_, json, hash) = &mut edited[index];
                match offset.checked_sub(32) {
                    Some(offset) => json[offset] ^= mask,
                    None => hash[offset] ^= mask,
                }
                let findings = verify_lines(edited, Some(log.head)).findings;
                // The edited entry alone, but for the last hash, which the head also tells.
                assert_eq!(findings[0].sequence, index as u64 + 1, "{findings:?}");
                assert!(findings.iter().all(|f| f.sequence == findings[0].sequence));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// In the file: any byte of any stored entry, its version and its hash included.
    #[test]
    fn every_edited_byte_of_a_stored_entry_is_found(row in 0..ENTRIES as usize, at in any::<prop::sample::Index>(), mask in 1u8..) {
        let l = log();
        let mut bytes = l.rows[row].clone();
        let offset = at.index(bytes.len());
        bytes[offset] ^= mask;
        let sequence = row as u64 + 1;
        let found = codes(&l, None, |tx| put_raw(tx, OPLOG, sequence, &bytes));
        prop_assert!(found.iter().any(|(s, _)| *s == sequence), "{:?}", found);
        let version_byte = offset == 0;
        let expected = if version_byte { "OPLOG_UNREADABLE" } else { "OPLOG_EDITED" };
        let reordered = found[0].1 == "OPLOG_REORDERED";
        prop_assert!(found[0].1 == expected || reordered, "{:?}", found);
    }

    /// Any set of deleted entries.
    #[test]
    fn every_deletion_is_found(gone in prop::collection::btree_set(1..=ENTRIES, 1..ENTRIES as usize)) {
        let l = log();
        let found = codes(&l, None, |tx| gone.iter().for_each(|sequence| remove(tx, *sequence)));
        let first = *gone.first().unwrap();
        prop_assert_eq!(found[0].0, first);
        prop_assert!(matches!(found[0].1, "OPLOG_MISSING" | "OPLOG_TRUNCATED"));
    }
}
