//! Copies of a store: whole, proven, and of one moment.

use super::*;

fn entry(store: &Store, target: &str) {
    let intent = Intent::new(Timestamp::UNIX_EPOCH, "test", "test.noted").target(target);
    store.write(intent, |_| Ok::<_, StorageError>(())).unwrap();
}

#[test]
fn a_copy_opens_as_a_store_and_holds_what_there_was() {
    let folder = folder();
    let store = open_in(&folder);
    for number in 0..50 {
        entry(&store, &number.to_string());
    }
    let place = folder.path().join("copy.redb");
    let copied = store.copy_to(&place, DEFAULT_CACHE_BYTES).unwrap();
    assert_eq!(copied.oplog_entries, 50);
    // The entries, the head and the schema's version.
    assert_eq!(copied.rows, 52);
    entry(&store, "later");
    assert_eq!(Store::prove(&place, DEFAULT_CACHE_BYTES).unwrap().oplog_entries, 50);
    let copy = open(&place);
    let head = |store: &Store| store.read(|reading| reading.oplog().head()).unwrap().sequence;
    assert_eq!((head(&copy), head(&store)), (50, 51));
    entry(&copy, "goes on");
    assert_eq!(head(&copy), 51);
    // Never over what is there.
    let said = store.copy_to(&place, DEFAULT_CACHE_BYTES).unwrap_err();
    assert_eq!(said.code(), "STORAGE_FAILED");
    assert_eq!(head(&copy), 51);
    entry(&store, "and so does the original");
}

#[test]
fn a_damaged_copy_is_told() {
    let folder = folder();
    let store = open_in(&folder);
    for number in 0..200 {
        entry(&store, &"x".repeat(500 + number));
    }
    let place = folder.path().join("copy.redb");
    store.copy_to(&place, DEFAULT_CACHE_BYTES).unwrap();
    let sound = std::fs::read(&place).unwrap();
    // In the middle of an entry that many bytes say nothing else about.
    let at = sound.windows(400).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    let mut bytes = sound;
    bytes[at + 200] ^= 1;
    std::fs::write(&place, bytes).unwrap();
    assert!(Store::prove(&place, DEFAULT_CACHE_BYTES).is_err());
}
