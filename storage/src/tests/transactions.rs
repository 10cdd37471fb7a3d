//! Audited and unaudited writes, faults of the disk, compaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn put(store: &Store, number: u64) -> Result<(), StorageError> {
    let detail = format!("segment {number}");
    store.write(intent("put").detail(detail), |w| {
        w.segments().put(&segment("app", number, SegmentState::Active))
    })
}

#[test]
fn the_change_and_its_entry_are_one_commit() {
    let folder = folder();
    let store = open_in(&folder);
    put(&store, 1).unwrap();
    assert_eq!(head(&store).sequence, 1);
    let entry = store.read(|r| r.oplog().get(1)).unwrap().unwrap().entry;
    assert_eq!((entry.action.as_str(), entry.detail.as_str()), ("put", "segment 1"));

    #[derive(Debug, PartialEq)]
    struct Refused;
    impl From<StorageError> for Refused {
        fn from(_: StorageError) -> Self {
            Self
        }
    }
    let refused = store.write(intent("refused"), |w| {
        w.segments().put(&segment("app", 2, SegmentState::Active))?;
        assert!(w.segments().get("app", 2)?.is_some(), "a transaction reads its own writes");
        Err::<(), _>(Refused)
    });
    assert_eq!(refused, Err(Refused));
    // In memory, and as a crash right now would leave it on the disk.
    let copy = store.path().with_extension("copy");
    std::fs::copy(store.path(), &copy).unwrap();
    for store in [store, open(&copy)] {
        assert_eq!(head(&store).sequence, 1, "no entry");
        assert_eq!(store.read(|r| r.segments().get("app", 2)).unwrap(), None, "no change");
        assert_eq!(store.read(|r| r.segments().unfinished()).unwrap().len(), 1);
        assert!(verify(&store, None).intact);
    }
}

#[test]
fn a_panicking_closure_leaves_nothing_and_the_store_goes_on() {
    let folder = folder();
    let store = open_in(&folder);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write(intent("panics"), |w| {
            w.segments().put(&segment("app", 1, SegmentState::Active))?;
            panic!("a bug in the closure");
            #[expect(unreachable_code, reason = "names the closure's type")]
            Ok::<(), StorageError>(())
        })
    }));
    assert!(panicked.is_err());
    put(&store, 2).unwrap();
    assert_eq!(head(&store).sequence, 1);
    assert_eq!(store.read(|r| r.segments().get("app", 1)).unwrap(), None);
    let path = store.path().to_owned();
    drop(store);
    assert_eq!(head(&open(&path)).sequence, 1);
}

#[test]
fn watchers_hear_of_each_audited_commit_only() {
    let folder = folder();
    let heard = Arc::new(AtomicU64::new(0));
    let on_oplog = {
        let heard = heard.clone();
        Some(Box::new(move |sequence| heard.store(sequence, Ordering::SeqCst)) as Box<_>)
    };
    let options = Options { on_oplog, ..Options::default() };
    let store = Store::open(&folder.path().join("state.redb"), options).unwrap();
    put(&store, 1).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    store.bookkeep(|b| b.jobs().set_mark("rotate", &JobMark::default())).unwrap();
    let failed = store.write(intent("x"), |w| w.runs().put_step("none", &step(1)));
    assert!(matches!(failed, Err(StorageError::NotFound { table: "runs", .. })));
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    store.ingest(intent("stream")).unwrap();
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

/// What bookkeeping must not be able to do, as methods that are found only where the writing type
/// has none of the name: one that gained it would no longer compile without arguments.
mod absences {
    use super::*;

    struct Absent;

    trait Writes {
        fn put(&self) -> Absent {
            Absent
        }
        fn prune(&self) -> Absent {
            Absent
        }
        fn delete(&self) -> Absent {
            Absent
        }
        fn push(&self) -> Absent {
            Absent
        }
        fn set_pause(&self) -> Absent {
            Absent
        }
        fn clear_pause(&self) -> Absent {
            Absent
        }
    }

    impl Writes for RunsBookkeeping<'_> {}
    impl Writes for JobsBookkeeping<'_> {}
    impl Writes for Identities<'_> {}
    impl Writes for Emergencies<'_> {}
    impl Writes for Segments<'_> {}
    impl Writes for Sources<'_> {}
    impl Writes for Configs<'_> {}

    #[test]
    fn bookkeeping_writes_steps_and_marks_only() {
        let folder = folder();
        let store = open_in(&folder);
        store.write(intent("start"), |w| w.runs().put(&run("A", RunState::Running))).unwrap();
        store
            .bookkeep(|b| {
                let Absent = b.runs().put();
                let Absent = b.runs().prune();
                let Absent = b.jobs().set_pause();
                let Absent = b.jobs().clear_pause();
                let Absent = b.identity().put();
                let Absent = b.emergency().put();
                let Absent = b.segments().put();
                let Absent = b.segments().delete();
                let Absent = b.sources().put();
                let Absent = b.configs().push();
                b.runs().put_step("A", &step(1))?;
                assert!(b.runs().mark_cancel_requested("A")?);
                b.jobs().set_mark("rotate", &JobMark::default())
            })
            .unwrap();
        assert_eq!(head(&store).sequence, 1, "no entry for bookkeeping");
        assert!(store.read(|r| r.runs().get("A")).unwrap().unwrap().cancel_requested);
    }
}

#[test]
fn a_stream_has_one_entry_and_its_batches_stay() {
    let folder = folder();
    let store = open_in(&folder);
    let mut stream = store.ingest(intent("stream")).unwrap();
    for minute in 0..20 {
        let points: Vec<_> = (0..60).map(|s| (at(minute * 60 + s), s as f64)).collect();
        stream.append("cpu", &points).unwrap();
    }
    stream.append("load", &[(at(5), f64::MIN_POSITIVE)]).unwrap();
    assert_eq!(stream.trim("cpu", at(600)).unwrap(), 600);
    assert_eq!(head(&store).sequence, 1);
    let path = store.path().to_owned();
    drop(store);
    let store = open(&path);
    let range = |name, from, until| store.read(|r| r.series().range(name, from, until, 10_000));
    assert_eq!(range("cpu", Timestamp::MIN, Timestamp::MAX).unwrap().len(), 600);
    assert_eq!(range("cpu", at(600), at(602)).unwrap(), [(at(600), 0.0), (at(601), 1.0)]);
    assert_eq!(range("cpu", at(602), at(600)).unwrap(), []);
    assert_eq!(range("load", at(5), at(6)).unwrap().len(), 1, "trimming keeps to its series");
    assert_eq!(verify(&store, None).entries, 1);
}

#[test]
fn a_full_disk_fails_the_write_and_nothing_else() {
    let folder = folder();
    let store = open_in(&folder);
    put(&store, 1).unwrap();
    for errno in [ENOSPC, EIO] {
        let before = head(&store);
        faults::fail(store.path(), errno);
        let error = put(&store, 2).unwrap_err();
        if errno == ENOSPC {
            assert!(
                matches!(&error, StorageError::OutOfSpace { attempted, .. } if !attempted.is_empty()),
                "{error:?}"
            );
            assert!(error.to_string().contains("free some"));
        } else {
            let said = error.to_string();
            assert!(
                said.starts_with("could not ") && said.ends_with("the database engine failed"),
                "{said}"
            );
        }
        // With the fault still there: a clear answer each time, and no panic.
        for _ in 0..3 {
            assert!(put(&store, 2).is_err());
        }
        faults::clear(store.path());
        assert_eq!(head(&store), before, "what failed did not happen");
        put(&store, 2).unwrap();
        assert_eq!(head(&store).sequence, before.sequence + 1);
        assert!(verify(&store, None).intact);
    }
}

#[test]
fn reading_goes_on_while_the_disk_is_full() {
    let folder = folder();
    let store = open_in(&folder);
    fill(&store);
    let contents = dump(&store).unwrap();
    faults::fail(store.path(), ENOSPC);
    put(&store, 99).unwrap_err();
    // Reopening after the failed commit writes what a repair writes; a full disk has room for it,
    // since it overwrites, but this fault doesn't let it through.
    match dump(&store) {
        Ok(read) => assert_eq!(read, contents),
        Err(error) => assert_eq!(error.code(), "STORAGE_NEEDS_RESTART"),
    }
    faults::clear(store.path());
    assert_eq!(dump(&store).unwrap(), contents);
}

#[test]
fn a_file_that_is_gone_after_a_fault_needs_a_restart() {
    let folder = folder();
    let store = open_in(&folder);
    put(&store, 1).unwrap();
    faults::fail(store.path(), EIO);
    put(&store, 2).unwrap_err();
    faults::clear(store.path());
    std::fs::remove_file(store.path()).unwrap();
    for _ in 0..2 {
        let error = put(&store, 2).unwrap_err();
        assert_eq!(error.code(), "STORAGE_NEEDS_RESTART");
        assert!(error.to_string().contains("restart the agent"), "{error}");
    }
    assert!(!store.path().exists(), "no fresh file in its place");
}

#[test]
fn compaction_shrinks_and_keeps_everything() {
    let folder = folder();
    let store = open_in(&folder);
    fill(&store);
    let points: Vec<_> = (0..40_000).map(|n| (at(n), n as f64)).collect();
    let mut stream = store.ingest(intent("bulk")).unwrap();
    stream.append("bulk", &points).unwrap();
    stream.trim("bulk", at(39_990)).unwrap();
    let contents = dump(&store).unwrap();
    let compaction = store.compact().unwrap();
    assert!(compaction.after_bytes < compaction.before_bytes / 2, "{compaction:?}");
    assert_eq!(compaction.after_bytes, store.file_bytes());
    assert_eq!(dump(&store).unwrap(), contents);
    put(&store, 99).unwrap();
    assert!(verify(&store, None).intact);
    let path = store.path().to_owned();
    drop(store);
    assert_eq!(
        open(&path).read(|r| r.series().range("bulk", at(0), at(99_999), 99)).unwrap().len(),
        10
    );
}

#[test]
fn compaction_waits_for_the_others() {
    let folder = folder();
    let store = open_in(&folder);
    fill(&store);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..20 {
                    put(store, 100 + thread * 100 + number).unwrap();
                    dump(store).unwrap();
                }
            });
        }
        for _ in 0..5 {
            store.compact().unwrap();
        }
    });
    assert_eq!(store.read(|r| r.segments().list(Some("app"), Some(99), 999)).unwrap().len(), 60);
    let verification = verify(&store, None);
    assert!(verification.intact && verification.entries == 13 + 60);
}
