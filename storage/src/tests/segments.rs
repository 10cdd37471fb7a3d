//! The segments' index and counters, against a model that has neither.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::schema::{SEGMENT_TIMES, SEGMENT_TOTALS};

#[derive(Clone, Debug)]
enum Step {
    Put(&'static str, u64, SegmentState),
    Delete(&'static str, u64),
    /// Steps that are rolled back.
    Fail(Vec<(&'static str, u64, SegmentState)>),
}

fn key() -> impl Strategy<Value = (&'static str, u64)> {
    // Names that are prefixes of one another, and the ends of the sequence's range.
    let names = prop::sample::select(vec!["", "a", "a\0", "ab", "b"]);
    (names, prop_oneof![4 => 0u64..6, 1 => Just(u64::MAX)])
}

fn state() -> impl Strategy<Value = SegmentState> {
    prop::sample::select(SegmentState::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let put =
        || (key(), state()).prop_map(|((log_type, sequence), state)| (log_type, sequence, state));
    prop_oneof![
        5 => put().prop_map(|(t, s, state)| Step::Put(t, s, state)),
        3 => key().prop_map(|(t, s)| Step::Delete(t, s)),
        1 => prop::collection::vec(put(), 1..4).prop_map(Step::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_index_and_the_counters_follow_any_sequence_of_writes(batches in prop::collection::vec(prop::collection::vec(step(), 1..8), 1..8)) {
        let folder = folder();
        let store = open_in(&folder);
        let mut model: BTreeMap<(&str, u64), SegmentRecord> = BTreeMap::new();
        for batch in &batches {
            for step in batch.iter() {
                if let Step::Fail(puts) = step {
                    let failed = store.write(intent("x"), |w| {
                        puts.iter().try_for_each(|(t, s, state)| w.segments().put(&segment(t, *s, *state)))?;
                        w.runs().put_step("none", &super::step(1))
                    });
                    prop_assert!(failed.is_err());
                }
            }
            store.write(intent("x"), |w| {
                for step in batch {
                    match step {
                        Step::Put(t, s, state) => {
                            w.segments().put(&segment(t, *s, *state))?;
                            model.insert((t, *s), segment(t, *s, *state));
                        }
                        Step::Delete(t, s) => {
                            assert_eq!(w.segments().delete(t, *s)?, model.remove(&(*t, *s)).is_some());
                        }
                        Step::Fail(_) => {}
                    }
                }
                Ok::<_, StorageError>(())
            }).unwrap();
            let all: Vec<_> = model.values().cloned().collect();
            let unfinished: Vec<_> = all.iter().filter(|s| s.state < SegmentState::Verified).cloned().collect();
            store.read(|r| {
                let segments = r.segments();
                assert_eq!(segments.unfinished()?, unfinished);
                assert_eq!(segments.list(None, None, usize::MAX)?, all);
                for only in [None, Some(""), Some("a"), Some("ab"), Some("none")] {
                    let of: Vec<_> = all.iter().filter(|s| only.is_none_or(|only| s.log_type == only)).cloned().collect();
                    let mut counts = BTreeMap::new();
                    of.iter().for_each(|s| *counts.entry(s.state).or_insert(0) += 1);
                    assert_eq!(segments.counts(only)?, counts);
                    if let Some(only) = only {
                        let uploaded = [SegmentState::Uploaded, SegmentState::Verified, SegmentState::LocalExpired];
                        let there: Vec<_> = of.iter().filter(|s| uploaded.contains(&s.state)).collect();
                        let totals = segments.totals(only)?;
                        assert_eq!(totals.plain_bytes, there.iter().map(|s| s.plain_bytes).sum::<u64>());
                        assert_eq!(totals.compressed_bytes, there.iter().map(|s| s.compressed_bytes).sum::<u64>());
                    }
                    assert_eq!(segments.list(only, None, usize::MAX)?, of);
                    for after in [0, 3, u64::MAX] {
                        let later: Vec<_> = of.iter().filter(|s| s.sequence > after).cloned().collect();
                        assert_eq!(segments.list(only, Some(after), usize::MAX)?, later);
                        assert_eq!(segments.list(only, Some(after), 2)?, later[..later.len().min(2)]);
                    }
                }
                for ((t, s), record) in &model {
                    assert_eq!(segments.get(t, *s)?.as_ref(), Some(record));
                }
                Ok::<_, StorageError>(())
            }).unwrap();
        }
    }
}

#[test]
fn totals_of_a_file_that_has_none_yet_are_counted() {
    let folder = folder();
    let store = open_in(&folder);
    let verified = |sequence, bytes| SegmentRecord {
        plain_bytes: 10 * bytes,
        compressed_bytes: bytes,
        verified_at: Some(at(bytes as i64)),
        ..segment("app", sequence, SegmentState::Verified)
    };
    let put = |store: &Store, segment: SegmentRecord| {
        store.write(intent("x"), |w| w.segments().put(&segment)).unwrap();
    };
    let totals = |store: &Store| {
        let totals = store.read(|r| r.segments().totals("app")).unwrap();
        (totals.plain_bytes, totals.compressed_bytes, totals.verified_at)
    };
    put(&store, verified(1, 5));
    put(&store, verified(2, 7));
    put(&store, verified(3, 6));
    assert_eq!(totals(&store), (180, 18, Some(at(7))));
    drop(store);
    tamper(&folder.path().join("state.redb"), |transaction| {
        transaction.open_table(SEGMENT_TOTALS).unwrap().remove("app").unwrap();
    });
    let store = open_in(&folder);
    assert_eq!(totals(&store), (180, 18, Some(at(7))));
    put(&store, verified(2, 9));
    put(&store, SegmentRecord { state: SegmentState::ArchiveExpired, ..verified(1, 5) });
    assert_eq!(totals(&store), (150, 15, Some(at(9))));
}

#[test]
fn segments_are_found_by_their_times_also_in_a_file_without_that_index() {
    let folder = folder();
    let store = open_in(&folder);
    let put = |store: &Store, sequence, times: Option<(i64, i64)>| {
        let segment = SegmentRecord {
            first_at: times.map(|(first, _)| at(first)),
            last_at: times.map(|(_, last)| at(last)),
            ..segment("app", sequence, SegmentState::Verified)
        };
        store.write(intent("x"), |w| w.segments().put(&segment)).unwrap();
    };
    let within = |store: &Store, from: i64, until: i64| -> Vec<u64> {
        let nanoseconds = |number| i64::try_from(at(number).as_nanosecond()).unwrap();
        let (from, until) = (nanoseconds(from), nanoseconds(until));
        let found = store.read(|r| r.segments().within("app", from, until));
        found.unwrap().into_iter().map(|segment| segment.sequence).collect()
    };
    // The third has no times yet; the fourth overlaps the first two; another type is between.
    put(&store, 1, Some((10, 20)));
    put(&store, 2, Some((20, 30)));
    put(&store, 3, None);
    put(&store, 4, Some((5, 25)));
    store
        .write(intent("x"), |w| w.segments().put(&segment("apple", 5, SegmentState::Verified)))
        .unwrap();
    let check = |store: &Store| {
        assert_eq!(within(store, 0, 5), [3]);
        assert_eq!(within(store, 0, 6), [3, 4]);
        assert_eq!(within(store, 20, 21), [1, 2, 3, 4], "both ends touch");
        assert_eq!(within(store, 21, 22), [2, 3, 4]);
        assert_eq!(within(store, 26, 99), [2, 3]);
        assert_eq!(within(store, 31, 99), [3]);
    };
    check(&store);
    // A record that is written anew is found by its new times only.
    put(&store, 1, Some((40, 50)));
    assert_eq!(within(&store, 10, 20), [3, 4]);
    assert_eq!(within(&store, 45, 46), [1, 3]);
    put(&store, 1, Some((10, 20)));
    drop(store);
    tamper(&folder.path().join("state.redb"), |transaction| {
        transaction.open_table(SEGMENT_TIMES).unwrap().retain(|_, _| false).unwrap();
    });
    let store = open_in(&folder);
    check(&store);
    put(&store, 6, Some((190, 191)));
    check(&store);
    store.write(intent("x"), |w| w.segments().delete("app", 2)).unwrap();
    assert_eq!(within(&store, 21, 22), [3, 4]);
}

#[test]
fn long_lists_are_read_in_pages_and_the_callback_may_use_the_transaction() {
    let folder = folder();
    let store = open_in(&folder);
    store
        .write(intent("x"), |w| {
            for sequence in 1..=600 {
                w.segments().put(&segment("app", sequence, SegmentState::Active))?;
            }
            w.segments().put(&segment("app", u64::MAX, SegmentState::Active))?;
            w.segments().put(&segment("app2", 1, SegmentState::Active))?;
            let mut seen = Vec::new();
            w.segments().for_each(Some("app"), |segment| {
                // Also in a write transaction, where a table is lent once at a time.
                assert!(w.segments().delete("app", segment.sequence).unwrap());
                seen.push(segment.sequence);
                ControlFlow::Continue(())
            })?;
            assert!(seen.iter().copied().eq((1..=600).chain([u64::MAX])));
            assert_eq!(w.segments().list(None, None, 9)?.len(), 1);
            Ok::<_, StorageError>(())
        })
        .unwrap();
    let mut calls = 0;
    store
        .read(|r| {
            r.segments().for_each(None, |_| {
                calls += 1;
                ControlFlow::Break(())
            })
        })
        .unwrap();
    assert_eq!(calls, 1);
    assert!(store.read(|r| r.segments().list(None, None, 0)).unwrap().is_empty());
}

#[test]
fn states_are_stored_under_their_names() {
    for state in SegmentState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
    }
    assert!(SegmentState::ALL.is_sorted());
}
