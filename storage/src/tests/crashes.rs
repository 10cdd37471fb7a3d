//! Crashes and power losses after any single change of the file.

use std::fs;
use std::path::Path;

use super::*;
use crate::backend::Operation;

/// What is in the file after the first `done` changes, where `lost` tells which of those that no
/// flush followed did not reach the disk.
pub(super) fn crashed(
    start: &[u8],
    operations: &[Operation],
    done: usize,
    mut lost: impl FnMut() -> bool,
) -> Vec<u8> {
    let mut image = start.to_vec();
    let flushed = operations[..done]
        .iter()
        .rposition(|operation| matches!(operation, Operation::Sync))
        .unwrap_or(0);
    for (index, operation) in operations[..done].iter().enumerate() {
        if index > flushed && lost() {
            continue;
        }
        match operation {
            Operation::Write { offset, data } => {
                let offset = *offset as usize;
                // Growing was lost, but the file system grows a file that is written to.
                image.resize(image.len().max(offset + data.len()), 0);
                image[offset..][..data.len()].copy_from_slice(data);
            }
            Operation::SetLen(length) => image.resize(*length as usize, 0),
            Operation::Sync => {}
        }
    }
    image
}

fn put(store: &Store, number: u64) {
    store
        .write(intent("put").detail("d".repeat(300)), |w| {
            w.segments().put(&segment("app", number, SegmentState::Active))
        })
        .unwrap();
}

/// Crashes `act` after each of its changes; `acknowledged` is what it had finished by then.
fn crash_everywhere(path: &Path, act: impl FnOnce(&Store, &mut dyn FnMut(&Store))) {
    let store = open(path);
    put(&store, 1);
    let start = fs::read(path).unwrap();
    faults::record(path);
    // The length of the record and the head at each acknowledgement.
    let mut acknowledged = vec![(0, head(&store))];
    act(&store, &mut |store| acknowledged.push((faults::recorded(path).len(), head(store))));
    let operations = faults::recorded(path);
    drop(store);

    let folder = folder();
    let path = folder.path().join("image.redb");
    let mut random = 7u64;
    for done in 0..=operations.len() {
        let (_, least) = acknowledged.iter().rev().find(|(at, _)| *at <= done).unwrap();
        for loss in 0..4 {
            let image = crashed(&start, &operations, done, || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match loss {
                    0 => false,
                    1 => true,
                    _ => random >> 63 == 1,
                }
            });
            fs::write(&path, &image).unwrap();
            let store = Store::open(&path, Options::default())
                .unwrap_or_else(|error| panic!("after {done} changes, {loss}: {error:?}"));
            let verification = verify(&store, Some(*least));
            assert!(verification.intact, "after {done} changes, {loss}: {verification:?}");
            let newest = verification.head.sequence;
            assert!(newest <= least.sequence + 1, "after {done} changes, {loss}");
            let segments = store.read(|r| r.segments().list(None, None, 999)).unwrap();
            assert_eq!(segments.len() as u64, newest, "an entry for each segment");
            let counts = store.read(|r| r.segments().counts(None)).unwrap();
            assert_eq!(counts[&SegmentState::Active], newest);
        }
    }
}

#[test]
fn no_crash_loses_an_acknowledged_write() {
    let folder = folder();
    crash_everywhere(&folder.path().join("state.redb"), |store, acknowledge| {
        for number in 2..=7 {
            put(store, number);
            acknowledge(store);
        }
    });
}

#[test]
fn no_crash_in_a_compaction_loses_anything() {
    let folder = folder();
    crash_everywhere(&folder.path().join("state.redb"), |store, acknowledge| {
        for number in 2..=12 {
            put(store, number);
            acknowledge(store);
        }
        store.compact().unwrap();
        acknowledge(store);
        put(store, 13);
        acknowledge(store);
    });
}

#[test]
fn no_crash_while_reopening_loses_anything() {
    let folder = folder();
    let path = folder.path().join("state.redb");
    crash_everywhere(&path, |store, acknowledge| {
        // A failed write: the next call closes the file and opens it again.
        faults::fail(store.path(), 5);
        let failed: Result<(), StorageError> = store.write(intent("fails"), |_| Ok(()));
        assert!(failed.is_err());
        faults::clear(store.path());
        put(store, 2);
        acknowledge(store);
    });
}
