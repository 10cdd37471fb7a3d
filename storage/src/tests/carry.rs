//! Going back to an earlier state without forgetting, and files that were cut off anywhere.

use std::time::Duration;

use super::*;
use crate::tables::parameters::ParameterRecord;

fn parameter(store: &Store, value: &str) {
    set_next(store, value);
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
        fleet: None,
    }
}

fn set_next(store: &Store, value: &str) -> u64 {
    let record = ParameterRecord {
        strategy: "mm".into(),
        name: "size".into(),
        value: value.into(),
        ..ParameterRecord::default()
    };
    store
        .write(intent("parameters.changed"), |writing| writing.parameters().put_next(record))
        .unwrap()
        .version
}

fn breaker(state: BreakerState) -> BreakerRecord {
    BreakerRecord {
        name: "orders".into(),
        state,
        since: Moment { wall: at(1), boot: "b".into(), since_boot: Duration::ZERO },
        lasts: None,
        by: "olga".into(),
        reason: "fills".into(),
        opening: 1,
        failures: 0,
    }
}

fn stop(store: &Store, job: &str) {
    let pause = JobPause { by: "olga".into(), reason: "disk".into(), at: at(2) };
    store
        .write(intent("stopped"), |writing| {
            writing.jobs().set_pause(job, &pause)?;
            writing.breakers().put(&breaker(BreakerState::Open))
        })
        .unwrap();
}

fn stopped(store: &Store, job: &str) -> (bool, Option<BreakerState>) {
    let read = |reading: &Reading<'_>| {
        let breaker = reading.breakers().all()?.pop().map(|it| it.state);
        Ok::<_, StorageError>((reading.jobs().pause(job)?.is_some(), breaker))
    };
    store.read(read).unwrap()
}

#[test]
fn a_breaker_that_was_open_before_a_loss_is_not_closed_by_the_newer_state() {
    use BreakerState::{Closed, HalfOpen, Open};
    for (earlier_state, newer, after) in [
        (Open, Closed, Open),
        (Open, HalfOpen, Open),
        (Open, Open, Open),
        (Closed, Open, Open),
        (HalfOpen, Closed, Closed),
        (Closed, HalfOpen, HalfOpen),
    ] {
        let folder = folder();
        let (live, earlier) =
            (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
        for (path, state) in [(&earlier, earlier_state), (&live, newer)] {
            let store = open(path);
            // Each has a log of its own: the newer one does not go on from the earlier.
            let note = format!("{state:?} at {}", path.display());
            store.write(intent(&note), |writing| writing.breakers().put(&breaker(state))).unwrap();
        }
        let intent = intent("state.restored").correlation_id("R1");
        carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent).unwrap();
        let store = open(&earlier);
        assert_eq!(stopped(&store, "x").1, Some(after), "{earlier_state:?} {newer:?}");
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

    // Done again, as after a crash, it comes to the same.
    for then in [1, before.sequence + 1] {
        let carried =
            carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("state.restored")).unwrap();
        assert_eq!((carried.entries_then, carried.entries_now), (then, before.sequence + 1));
        assert_eq!(carried.broken, None);
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
fn what_is_stopped_stays_stopped_and_no_number_is_given_twice() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    for value in ["20", "30"] {
        parameter(&store, value);
    }
    let numbered = |number: u64| {
        let matrix = MatrixRecord { version: number, ..MatrixRecord::default() };
        let experiment = ExperimentRecord { number, ..ExperimentRecord::default() };
        let baseline = BaselineRecord { operation: "place".into(), ..BaselineRecord::default() };
        (matrix, experiment, baseline)
    };
    let (matrix, experiment, baseline) = numbered(6);
    store
        .write(intent("numbered"), |writing| {
            writing.matrices().put(&matrix)?;
            writing.experiments().put(&experiment)?;
            for _ in 0..15 {
                writing.baselines().put_next(baseline.clone())?;
            }
            Ok::<_, StorageError>(())
        })
        .unwrap();
    stop(&store, "backup");
    drop(store);
    let back = |from: &Path, to: &Path, id: &str| {
        let intent = intent("state.restored").correlation_id(id);
        carry_forward(from, to, DEFAULT_CACHE_BYTES, intent).unwrap()
    };
    let again = folder.path().join("again.redb");
    std::fs::copy(&earlier, &again).unwrap();
    back(&live, &earlier, "R1");
    let store = open(&earlier);
    assert_eq!(value(&store), "10");
    assert_eq!(stopped(&store, "backup"), (true, Some(BreakerState::Open)));
    let next = |reading: &Reading<'_>| {
        let matrix = reading.matrices().next_version()?;
        Ok::<_, StorageError>((matrix, reading.experiments().next_number()?))
    };
    assert_eq!(store.read(next).unwrap(), (7, 7));
    drop(store);
    // Also twice in a row, where nothing was numbered in between.
    back(&earlier, &again, "R2");
    let store = open(&again);
    assert_eq!(store.read(next).unwrap(), (7, 7));
    assert_eq!(set_next(&store, "40"), 4, "2 and 3 were something else");
    let generation = |store: &Store| {
        let baseline = baseline.clone();
        store.write(intent("baselines"), |writing| writing.baselines().put_next(baseline)).unwrap()
    };
    assert_eq!((generation(&store), generation(&store)), (16, 17));
    // What is kept is kept by how many there are, whatever their numbers.
    assert_eq!(store.read(|it| it.parameters().versions("mm", "size")).unwrap().len(), 2);
}

#[test]
fn a_copy_that_was_filled_counts_only_as_long_as_nothing_was_written_since() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    parameter(&store, "20");
    drop(store);
    let carry = || {
        let intent = intent("state.restored").correlation_id("R");
        carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent)
    };
    carry().unwrap();
    assert_eq!(carry().unwrap().rows, 0, "it is there already");
    parameter(&open(&live), "30");
    assert!(matches!(carry(), Err(CarryError::Earlier(_))), "what came since would be lost");
}

#[test]
fn where_nothing_can_go_forward_the_earlier_state_says_so_itself() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    drop(store);
    let gap = GapRecord { at: at(9), lost: false, detail: "it is damaged".into() };
    for _ in 0..2 {
        let intent = intent("state.restored").outcome("STATE_GAP").correlation_id("R");
        leave_gap(&earlier, DEFAULT_CACHE_BYTES, (intent, &gap)).unwrap();
    }
    // By then it can be read after all: what it has would be lost.
    let carried = carry_forward(
        &live,
        &earlier,
        DEFAULT_CACHE_BYTES,
        intent("state.restored").correlation_id("R"),
    );
    assert!(matches!(carried, Err(CarryError::Earlier(_))), "{carried:?}");
    let read = |reading: &Reading<'_>| {
        let newest = reading.oplog().newest(None, 9, |_| true)?;
        let actions: Vec<String> = newest.into_iter().map(|it| it.entry.action).collect();
        Ok::<_, StorageError>((reading.gaps().get()?, actions))
    };
    let (told, actions) = open(&earlier).read(read).unwrap();
    assert_eq!(told.as_ref(), Some(&gap));
    assert_eq!(actions, ["state.restored", "parameters.changed"]);
    // One that is not whole itself is none to go back to.
    tamper(&earlier, |writing| {
        writing.open_table(crate::schema::OPLOG).unwrap().remove(1).unwrap();
    });
    let left = leave_gap(&earlier, DEFAULT_CACHE_BYTES, (intent("state.restored"), &gap));
    assert!(matches!(left, Err(CarryError::Earlier(_))), "{left:?}");
}

#[test]
fn only_a_file_that_is_damaged_is_told_to_be() {
    use std::fs::{File, write};

    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    drop(store);
    let bytes = std::fs::read(&live).unwrap();
    let locked = File::open(&live).unwrap();
    let mut flipped = bytes.clone();
    flipped.iter_mut().skip(4_096).for_each(|byte| *byte ^= 0x55);
    for (content, lock, damaged, what) in [
        (&bytes[..bytes.len() / 2], false, true, "cut"),
        (&[7; 8_192][..], false, true, "something else"),
        (&flipped[..], false, true, "damaged pages"),
        (&bytes[..], true, false, "in use"),
    ] {
        write(&live, content).unwrap();
        if lock {
            locked.lock().unwrap();
        }
        let carried = carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("restored"));
        let Err(CarryError::Live(error)) = carried else { panic!("{what}: {carried:?}") };
        assert_eq!(error.is_damage(), damaged, "{what}: {error:?}");
    }
    locked.unlock().unwrap();
    std::fs::remove_file(&live).unwrap();
    std::fs::create_dir(&live).unwrap();
    let carried = carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("restored"));
    let Err(CarryError::Live(error)) = carried else { panic!("a folder: {carried:?}") };
    assert!(!error.is_damage(), "it can't be opened: {error:?}");
    std::fs::remove_dir(&live).unwrap();
    write(&live, &bytes).unwrap();
    write(&earlier, &bytes[..bytes.len() / 2]).unwrap();
    let carried = carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("restored"));
    assert!(matches!(carried, Err(CarryError::Earlier(_))), "{carried:?}");
}

#[test]
fn an_oplog_that_somebody_tampered_with_goes_forward_as_the_evidence_that_it_is() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    parameter(&store, "20");
    parameter(&store, "30");
    drop(store);
    tamper(&live, |writing| {
        let mut oplog = writing.open_table(crate::schema::OPLOG).unwrap();
        oplog.remove(2).unwrap();
    });
    let carried =
        carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent("state.restored")).unwrap();
    assert!(carried.broken.as_deref().unwrap().contains("OPLOG_MISSING"), "{carried:?}");
    let store = open(&earlier);
    assert_eq!(value(&store), "10");
    let verified = store.read(|reading| reading.oplog().verify(None)).unwrap();
    assert_eq!((verified.intact, verified.entries), (false, 3), "{verified:?}");
}

fn course(epoch: u64) -> CourseRecord {
    let approval =
        ApprovalRecord { by: "olga".into(), at: at(5), plan: "p".into(), reason: "over".into() };
    CourseRecord {
        epoch,
        phase: CoursePhase::Closing,
        trouble: epoch.to_string(),
        approvals: vec![approval],
        ..CourseRecord::default()
    }
}

#[test]
fn after_a_loss_what_happened_since_is_added_to_what_the_earlier_state_knows() {
    let folder = folder();
    let (live, earlier) = (folder.path().join("state.redb"), folder.path().join("earlier.redb"));
    let store = open(&live);
    parameter(&store, "10");
    let lease = LeaseRecord { holder: "trading".into(), since: at(5) };
    store
        .write(intent("emergency"), |writing| {
            writing.emergency().put(&emergency(7))?;
            writing.course().put(&course(7))?;
            writing.course().put_lease(Some(&lease))
        })
        .unwrap();
    stop(&store, "backup");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    drop(store);
    std::fs::remove_file(&live).unwrap();
    let store = open(&live);
    store.write(intent("state.lost"), |_| Ok::<_, StorageError>(())).unwrap();
    let run = run("01RUN", RunState::Running);
    store
        .write(intent("emergency"), |writing| {
            writing.emergency().put(&EmergencyRecord { since: at(8), ..emergency(1) })?;
            writing.course().put(&course(1))?;
            writing.course().put_lease(None)?;
            writing.runs().put(&run)
        })
        .unwrap();
    stop(&store, "logs");
    drop(store);
    for _ in 0..2 {
        let restored = intent("state.restored").correlation_id("R");
        let carried = carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, restored).unwrap();
        assert_eq!(carried.entries_now, 7);
    }
    let store = open(&earlier);
    assert_eq!(value(&store), "10");
    let actions: Vec<String> = store
        .read(|reading| {
            assert!(reading.oplog().verify(None)?.intact);
            // 7 is another emergency's.
            assert_eq!(reading.emergency().get()?.map(|it| (it.epoch, it.since)), Some((8, at(8))));
            let course = reading.course().get()?.unwrap();
            assert_eq!(
                (course.epoch, course.phase, course.trouble),
                (8, CoursePhase::Closing, "1".into())
            );
            assert_eq!(course.approvals, [], "they agreed to the release of another number");
            assert_eq!(reading.course().lease()?, None);
            assert_eq!(
                reading.runs().running()?.len(),
                1,
                "what came of it is settled at the start"
            );
            reading.oplog().range(1, 9)
        })
        .unwrap()
        .into_iter()
        .map(|it| it.entry.action)
        .collect();
    let expected = [
        "parameters.changed",
        "emergency",
        "stopped",
        "state.lost",
        "emergency",
        "stopped",
        "state.restored",
    ];
    assert_eq!(actions, expected);
    for job in ["backup", "logs"] {
        assert_eq!(stopped(&store, job), (true, Some(BreakerState::Open)), "{job}");
    }
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
