//! Going back to an earlier state without forgetting, and files that were cut off anywhere.

use super::*;
use crate::tables::parameters::ParameterRecord;

fn parameter(store: &Store, value: &str) {
    let record = ParameterRecord {
        strategy: "mm".into(),
        name: "size".into(),
        value: value.into(),
        ..ParameterRecord::default()
    };
    store
        .write(intent("parameters.changed"), |writing| {
            writing.parameters().put_next(record).map(drop)
        })
        .unwrap();
}

fn value(store: &Store) -> String {
    let read = |reading: &Reading<'_>| reading.parameters().current("mm", "size");
    store.read(read).unwrap().unwrap().value
}

fn emergency(epoch: u64) -> EmergencyRecord {
    EmergencyRecord {
        epoch,
        since: at(5),
        activated_by: "olga".into(),
        reason: "feed".into(),
        release: None,
    }
}

#[test]
fn what_was_decided_goes_back_and_what_happened_goes_forward() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    parameter(&store, "20");
    store.write(intent("emergency"), |writing| writing.emergency().put(&emergency(3))).unwrap();
    let request = RequestRecord { digest: "d".into(), at: at(6), answer: Some("00".into()) };
    store.bookkeep(|writing| writing.requests().put("R1", &request)).unwrap();
    let before = store.read(|reading| reading.oplog().head()).unwrap();
    drop(store);

    for _ in 0..2 {
        // Done again, as after a crash, it comes to the same.
        let carried =
            carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("state.restored")).unwrap();
        assert_eq!(
            (carried.entries_then < before.sequence + 2, carried.entries_now),
            (true, before.sequence + 1)
        );
    }
    let store = open(&earlier);
    assert_eq!(value(&store), "10");
    store
        .read(|reading| {
            assert_eq!(reading.emergency().get()?, Some(emergency(3)));
            assert_eq!(reading.requests().get("R1")?, Some(request.clone()));
            let verification = reading.oplog().verify(Some(before))?;
            assert!(verification.intact, "{verification:?}");
            assert_eq!(verification.entries, before.sequence + 1);
            Ok::<_, StorageError>(())
        })
        .unwrap();
    assert_eq!(value(&open(&live)), "20", "the state before is as it was");
}

#[test]
fn after_a_loss_what_happened_since_is_added_to_what_the_earlier_state_knows() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.write(intent("emergency"), |writing| writing.emergency().put(&emergency(7))).unwrap();
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    drop(store);
    std::fs::remove_file(&live).unwrap();
    let store = open(&live);
    store.write(intent("state.lost"), |_| Ok::<_, StorageError>(())).unwrap();
    store.write(intent("emergency"), |writing| writing.emergency().put(&emergency(1))).unwrap();
    drop(store);
    for _ in 0..2 {
        let restored = intent("state.restored").correlation_id("R");
        let carried = carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, restored).unwrap();
        assert_eq!(carried.entries_now, 5);
    }
    let store = open(&earlier);
    assert_eq!(value(&store), "10");
    let actions: Vec<String> = store
        .read(|reading| {
            assert!(reading.oplog().verify(None)?.intact);
            assert_eq!(reading.emergency().get()?.map(|it| it.epoch), Some(7));
            reading.oplog().range(1, 9)
        })
        .unwrap()
        .into_iter()
        .map(|it| it.entry.action)
        .collect();
    let expected = ["parameters.changed", "emergency", "state.lost", "emergency", "state.restored"];
    assert_eq!(actions, expected);
}

#[test]
fn nothing_is_carried_from_a_state_that_can_not_be_read() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    drop(store);
    let bytes = std::fs::read(&earlier).unwrap();
    std::fs::write(&live, vec![7; 8_192]).unwrap();
    carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("state.restored")).unwrap_err();
    assert_eq!(std::fs::read(&earlier).unwrap(), bytes, "it is as it was");
}

/// A deterministic sequence, the same on every machine.
fn offsets(count: usize, below: u64) -> impl Iterator<Item = u64> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    })
    .take(count)
}

#[test]
fn a_state_that_was_cut_off_anywhere_is_refused_or_whole_and_never_empty() {
    let folder = folder();
    let path = folder.path().join("state.redb");
    let store = open(&path);
    for number in 0..60 {
        parameter(&store, &number.to_string());
        store
            .write(intent("segment"), |writing| {
                writing.segments().put(&segment("app", number, SegmentState::Verified))
            })
            .unwrap();
    }
    let head = store.read(|reading| reading.oplog().head()).unwrap();
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    let length = bytes.len() as u64;
    let odd = [0, 1, 320, 4_095, 4_096, 4_097, length - 4_096, length - 1];
    let (mut whole, mut refused) = (0, 0);
    for offset in odd.into_iter().chain(offsets(1_000, length)) {
        let cut = folder.path().join("cut.redb");
        std::fs::write(&cut, &bytes[..offset as usize]).unwrap();
        match Store::open(&cut, Options::default()) {
            Ok(store) => {
                let now = store.read(|reading| {
                    let verification = reading.oplog().verify(Some(head))?;
                    assert!(verification.intact, "cut at {offset}: {verification:?}");
                    reading.oplog().head()
                });
                assert_eq!(now.unwrap(), head, "cut at {offset}");
                assert_eq!(value(&store), "59", "cut at {offset}");
                whole += 1;
            }
            Err(error) => {
                let told = error.to_string();
                assert!(
                    told.contains("restore"),
                    "cut at {offset}: {told} does not say what to do"
                );
                let left = std::fs::read(&cut).unwrap();
                assert!(left == bytes[..offset as usize], "cut at {offset}: it was touched");
                refused += 1;
            }
        }
        std::fs::remove_file(&cut).unwrap();
    }
    assert!(refused > 0, "{whole} of them were whole");
}
