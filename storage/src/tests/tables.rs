//! Each table gives back what was put into it, and says so clearly where it can't.

use proptest::prelude::*;

use super::*;
use crate::record::{Record, decode, encode};
use crate::schema::*;

fn time() -> impl Strategy<Value = Timestamp> {
    (-62_000_000_000i64..250_000_000_000, 0..1_000_000_000)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).unwrap())
}

fn maybe_time() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(time())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/._-]{0,12}", any::<String>()]
}

fn run_state() -> impl Strategy<Value = RunState> {
    use RunState::*;
    prop::sample::select(vec![Running, Succeeded, Failed, Cancelled, Interrupted, Refused, Unknown])
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        prop::collection::btree_map(text(), text(), 0..4)
            .prop_map(|map| serde_json::to_value(map).unwrap()),
    ]
}

prop_compose! {
    fn any_run()(
        id in "[0-9A-HJKMNP-TV-Z]{1,26}", texts in prop::array::uniform5(text()), state in run_state(),
        parameters in json(), started_at in time(), ended_at in maybe_time(),
        verdict in prop::option::of(prop::sample::select(vec![Verdict::Finished, Verdict::Undone, Verdict::Held, Verdict::NothingDone])),
        cancel_requested in any::<bool>(),
        trace_id in "([0-9a-f]{32})?",
    ) -> RunRecord {
        let [kind, actor, reason, summary, error_code] = texts;
        let reconciliation =
            verdict.map(|verdict| ReconciliationRecord { verdict, detail: summary.clone() });
        RunRecord { id, kind, state, actor, reason, parameters, started_at, ended_at, summary, error_code, reconciliation, cancel_requested, trace_id }
    }
}

prop_compose! {
    fn any_step()(
        number in any::<u32>(), texts in prop::array::uniform3(text()),
        state in prop::sample::select(vec![StepState::Intent, StepState::Done, StepState::Failed]),
        started_at in time(), ended_at in maybe_time(),
    ) -> StepRecord {
        let [name, target, detail] = texts;
        StepRecord { number, name, target, state, detail, started_at, ended_at }
    }
}

prop_compose! {
    fn any_segment()(
        log_type in text(), texts in prop::array::uniform5(text()), numbers in prop::array::uniform6(any::<u64>()),
        state in prop::sample::select(SegmentState::ALL.to_vec()), times in prop::array::uniform8(maybe_time()),
        chain_index in prop::option::of(any::<u64>()), since in maybe_time(),
    ) -> SegmentRecord {
        let [source_path, detached_path, sha256, manifest_sha256, archive_name] = texts;
        let [sequence, device, inode, lines, plain_bytes, compressed_bytes] = numbers;
        let [detached_at, initial_at, first_at, last_at, sealed_at, verified_at, local_expired_at, archive_expired_at] = times;
        let waiting = since.map(|since| Waiting { code: "C".to_owned(), subject: source_path.clone(), message: sha256.clone(), since, quarantined: lines % 2 == 0 });
        let taken = since.map(|_| TakenRecord {
            how: if lines % 2 == 0 { TakenHow::Collapse } else { TakenHow::Truncate }, phase: TakenPhase::Copied, device, inode,
            from: lines, until: plain_bytes, remove: compressed_bytes, mark: sha256.clone(), starts_mid_line: lines % 3 == 0, vanished_bytes: sequence,
        });
        let upload_id = taken.as_ref().map(|taken| taken.mark.clone());
        SegmentRecord {
            log_type, sequence, state, source_path, detached_path, device, inode, detached_at, initial_at, first_at, last_at,
            lines, members: lines / 3, plain_bytes, compressed_bytes, sha256, manifest_sha256, chain_index, archive_name, sealed_at, verified_at,
            local_expired_at, archive_expired_at, waiting, taken, upload_id,
        }
    }
}

/// Any record survives its encoding, and no prefix or byte soup makes the decoding panic.
fn survives<R: Record + PartialEq + std::fmt::Debug>(record: &R) -> Result<(), TestCaseError> {
    let bytes = encode(&"key", record).unwrap();
    prop_assert_eq!(bytes[0], R::VERSION);
    prop_assert_eq!(&decode::<R>(&"key", &bytes).unwrap(), record);
    prop_assert!(decode::<R>(&"key", &bytes[..bytes.len() / 2]).is_err());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn runs_and_steps_come_back(runs in prop::collection::btree_map("[0-9A-Z]{1,26}", any_run(), 1..6), steps in prop::collection::btree_map(any::<u32>(), any_step(), 0..6)) {
        let folder = folder();
        let store = open_in(&folder);
        let runs: Vec<RunRecord> = runs.into_iter().map(|(id, run)| RunRecord { id, ..run }).collect();
        let steps: Vec<StepRecord> = steps.into_iter().map(|(number, step)| StepRecord { number, ..step }).collect();
        let first = runs[0].id.clone();
        store.write(intent("x"), |w| runs.iter().try_for_each(|run| w.runs().put(run))).unwrap();
        store.bookkeep(|b| steps.iter().rev().try_for_each(|step| b.runs().put_step(&first, step))).unwrap();
        store.read(|r| {
            let newest_first: Vec<_> = runs.iter().rev().cloned().collect();
            assert_eq!(r.runs().list(None, None, usize::MAX)?, newest_first);
            assert_eq!(r.runs().list(None, None, 2)?, newest_first[..newest_first.len().min(2)]);
            assert_eq!(r.runs().steps(&first)?, steps);
            for run in &runs {
                assert_eq!(r.runs().get(&run.id)?.as_ref(), Some(run));
                let same: Vec<_> = newest_first.iter().filter(|other| other.kind == run.kind && other.state == run.state).cloned().collect();
                assert_eq!(r.runs().list(Some(&run.kind), Some(run.state), usize::MAX)?, same);
                let prefix = &run.id[..1];
                let begins: Vec<_> = runs.iter().filter(|other| other.id.starts_with(prefix)).cloned().collect();
                assert_eq!(r.runs().with_prefix(prefix, usize::MAX)?, begins);
            }
            let running: Vec<_> = newest_first.iter().filter(|run| run.state == RunState::Running).cloned().collect();
            assert_eq!(r.runs().running()?, running);
            Ok::<_, StorageError>(())
        }).unwrap();
    }

    #[test]
    fn pruning_takes_the_oldest_ended_runs(states in prop::collection::vec(run_state(), 0..12), keep in 0usize..8) {
        let folder = folder();
        let store = open_in(&folder);
        let runs: Vec<_> = states.iter().enumerate().map(|(n, state)| run(&format!("{n:02}"), *state)).collect();
        store.write(intent("x"), |w| runs.iter().try_for_each(|run| {
            w.runs().put(run)?;
            w.runs().put_step(&run.id, &step(1))
        })).unwrap();
        let pruned = store.write(intent("prune"), |w| w.runs().prune(keep)).unwrap();
        let ended: Vec<_> = runs.iter().filter(|run| run.state != RunState::Running).collect();
        let excess = ended.len().saturating_sub(keep);
        prop_assert_eq!(pruned, excess);
        for run in &runs {
            let gone = ended[..excess].iter().any(|other| other.id == run.id);
            let (found, steps) = store.read(|r| Ok::<_, StorageError>((r.runs().get(&run.id)?, r.runs().steps(&run.id)?))).unwrap();
            prop_assert_eq!(found.is_none(), gone);
            prop_assert_eq!(steps.is_empty(), gone);
        }
    }

    #[test]
    fn jobs_come_back(name in text(), by in text(), reason in text(), at in time(), last_due_at in maybe_time(), last_state in prop::option::of(run_state())) {
        let folder = folder();
        let store = open_in(&folder);
        let pause = JobPause { by: by.clone(), reason, at };
        let mark = JobMark { last_due_at, last_run_id: by, last_state, last_skip: String::new() };
        store.write(intent("x"), |w| w.jobs().set_pause(&name, &pause)).unwrap();
        store.bookkeep(|b| b.jobs().set_mark(&name, &mark)).unwrap();
        let read = || store.read(|r| Ok::<_, StorageError>((r.jobs().pause(&name)?, r.jobs().mark(&name)?))).unwrap();
        prop_assert_eq!(read(), (Some(pause), Some(mark.clone())));
        let other = format!("{name}x");
        prop_assert_eq!(store.read(|r| r.jobs().mark(&other)).unwrap(), None);
        prop_assert!(store.write(intent("x"), |w| w.jobs().clear_pause(&name)).unwrap());
        prop_assert!(!store.write(intent("x"), |w| w.jobs().clear_pause(&name)).unwrap());
        prop_assert_eq!(read(), (None, Some(mark)));
    }

    #[test]
    fn sources_come_back(sources in prop::collection::btree_map(text(), (any::<u64>(), text(), prop::collection::btree_map(text(), maybe_time(), 0..4)), 0..5)) {
        let folder = folder();
        let store = open_in(&folder);
        let sources: Vec<SourceRecord> = sources.into_iter().map(|(log_type, (next, chain_head, streams))| SourceRecord {
            log_type, next_sequence: next, next_chain_index: next / 2, chain_head,
            streams: streams.into_iter().map(|(path, last_at)| (path, StreamRecord { last_at, head: None })).collect(),
        }).collect();
        store.write(intent("x"), |w| sources.iter().rev().try_for_each(|source| w.sources().put(source))).unwrap();
        prop_assert_eq!(&store.read(|r| r.sources().list()).unwrap(), &sources);
        for source in &sources {
            let read = store.read(|r| r.sources().get(&source.log_type)).unwrap();
            prop_assert_eq!(read.as_ref(), Some(source));
        }
    }

    #[test]
    fn series_come_back_in_order(points in prop::collection::vec((time(), any::<f64>()), 0..40), from in time(), until in time()) {
        let folder = folder();
        let store = open_in(&folder);
        let mut stream = store.ingest(intent("x")).unwrap();
        stream.append("s", &points).unwrap();
        stream.append("r", &[(Timestamp::MIN, 1.0), (Timestamp::MAX, 2.0)]).unwrap();
        let oracle: BTreeMap<_, _> = points.iter().copied().collect();
        let bits = |points: Vec<(Timestamp, f64)>| -> Vec<_> { points.into_iter().map(|(at, v)| (at, v.to_bits())).collect() };
        let (low, high) = (from.min(until), from.max(until));
        let expected: Vec<_> = oracle.range(low..high).map(|(at, value)| (*at, *value)).collect();
        let read = store.read(|r| r.series().range("s", low, high, usize::MAX)).unwrap();
        prop_assert_eq!(bits(read), bits(expected));
        let removed = stream.trim("s", low).unwrap();
        prop_assert_eq!(removed, oracle.range(..low).count() as u64);
        let left = store.read(|r| r.series().range("s", Timestamp::MIN, Timestamp::MAX, usize::MAX)).unwrap();
        prop_assert_eq!(left.len(), oracle.range(low..).count());
    }
}

proptest! {
    #[test]
    fn records_survive_their_encoding(run in any_run(), step in any_step(), segment in any_segment(), texts in prop::array::uniform4(text()), at in time(), number in any::<u64>()) {
        survives(&run)?;
        survives(&step)?;
        survives(&segment)?;
        let [a, b, c, d] = texts;
        survives(&Identity { host_id: a.clone(), created_at: at, hostname: b.clone() })?;
        survives(&ConfigGeneration { generation: number, sha256: a, source: b, text: c, at, actor: d })?;
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode::<RunRecord>(&"key", &bytes);
        let _ = decode::<SegmentRecord>(&"key", &[&[1], bytes.as_slice()].concat());
    }
}

#[test]
fn holds_come_back_in_order_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    for id in ["B", "A"] {
        store.write(intent("x"), |w| w.holds().put(&hold(id))).unwrap();
    }
    drop(store);
    let store = open_in(&folder);
    let all = || store.read(|r| r.holds().all()).unwrap();
    assert_eq!(all(), [hold("A"), hold("B")]);
    assert!(store.write(intent("x"), |w| w.holds().remove("A")).unwrap());
    assert!(!store.write(intent("x"), |w| w.holds().remove("A")).unwrap());
    assert_eq!(all(), [hold("B")]);
    assert_eq!(store.read(|r| r.holds().get("B")).unwrap(), Some(hold("B")));
}

#[test]
fn failures_of_a_day_are_counted_however_many_runs_there_were() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(&folder);
    let ended = |number: u64, state, started: i64, ended: i64| RunRecord {
        started_at: at(started),
        ended_at: Some(at(ended)),
        ..run(&format!("01J{number:023}"), state)
    };
    let day = 86_400;
    store
        .write(intent("x"), |w| {
            w.runs().put(&ended(0, RunState::Failed, 0, 9 * day))?;
            w.runs().put(&ended(1, RunState::Failed, 2 * day, 9 * day))?;
            w.runs().put(&ended(2, RunState::Failed, 8 * day, 8 * day + 1))?;
            w.runs().put(&ended(3, RunState::Failed, 9 * day, 9 * day))?;
            (4..1_000)
                .try_for_each(|n| w.runs().put(&ended(n, RunState::Succeeded, 9 * day, 9 * day)))
        })
        .unwrap();
    let count =
        |states: &[RunState]| store.read(|r| r.runs().count_ended(states, at(9 * day))).unwrap();
    assert_eq!(
        count(&[RunState::Failed, RunState::Interrupted]),
        2,
        "one is too old to be looked at"
    );
    assert_eq!(count(&[RunState::Succeeded]), 996);
}

#[test]
fn the_identity_comes_back() {
    let folder = folder();
    let store = open_in(&folder);
    assert_eq!(store.read(|r| r.identity().get()).unwrap(), None);
    let identity =
        Identity { host_id: "01J".to_owned(), created_at: at(0), hostname: "a".to_owned() };
    store.write(intent("x"), |w| w.identity().put(&identity)).unwrap();
    assert_eq!(store.read(|r| r.identity().get()).unwrap(), Some(identity));
}

#[test]
fn configurations_keep_the_newest_hundred_and_go_up() {
    let folder = folder();
    let store = open_in(&folder);
    let config = |generation| ConfigGeneration {
        generation,
        sha256: String::new(),
        source: "defaults".to_owned(),
        text: format!("# {generation}"),
        at: at(0),
        actor: "tester".to_owned(),
    };
    assert_eq!(store.read(|r| r.configs().current()).unwrap(), None);
    let last = KEPT_GENERATIONS as u64 + 5;
    for generation in 1..=last {
        store.write(intent("x"), |w| w.configs().push(&config(generation))).unwrap();
    }
    for stale in [last, 1] {
        let error = store.write(intent("x"), |w| w.configs().push(&config(stale))).unwrap_err();
        assert_eq!(error.code(), "STORAGE_NOT_NEWER");
    }
    store
        .read(|r| {
            assert_eq!(r.configs().current()?, Some(config(last)));
            assert_eq!(r.configs().get(5)?, None);
            assert_eq!(r.configs().get(6)?, Some(config(6)));
            assert_eq!(r.configs().list(3)?, [config(last), config(last - 1), config(last - 2)]);
            assert_eq!(r.configs().list(usize::MAX)?.len(), KEPT_GENERATIONS);
            Ok::<_, StorageError>(())
        })
        .unwrap();
}

#[test]
fn steps_and_cancels_need_their_run() {
    let folder = folder();
    let store = open_in(&folder);
    store.write(intent("x"), |w| w.runs().put(&run("A", RunState::Succeeded))).unwrap();
    let error = store.bookkeep(|b| b.runs().put_step("B", &step(1))).unwrap_err();
    assert_eq!(error.to_string(), "table runs has no record B");
    assert!(store.bookkeep(|b| b.runs().mark_cancel_requested("B")).is_err());
    assert!(!store.bookkeep(|b| b.runs().mark_cancel_requested("A")).unwrap(), "it has ended");
}

#[test]
fn records_of_a_later_version_name_their_table_and_key() {
    let folder = folder();
    let store = open_in(&folder);
    let path = store.path().to_owned();
    store.write(intent("x"), |w| w.runs().put(&run("A", RunState::Running))).unwrap();
    drop(store);
    tamper(&path, |tx| {
        put_raw(tx, RUNS, "A", &[2, b'{', b'}']);
        put_raw(tx, RUN_STEPS, ("A", 3), &[2]);
        put_raw(tx, SEGMENTS, ("app", 7), &[2]);
        put_raw(tx, SOURCES, "app", &[9]);
        put_raw(tx, CONFIGS, 4, &[2]);
        put_raw(tx, JOB_MARKS, "rotate", &[2]);
        put_raw(tx, JOB_PAUSES, "rotate", &[1, b'[']);
        put_raw(tx, META, IDENTITY_ROW, &[]);
    });
    let store = open(&path);
    let unknown = |error: Option<StorageError>, table, key: &str| match error {
        Some(StorageError::UnknownVersion { table: t, key: k, .. }) => {
            assert_eq!((t, k.as_str()), (table, key));
        }
        other => panic!("{other:?}"),
    };
    unknown(store.read(|r| r.runs().get("A")).err(), "runs", "A");
    unknown(store.read(|r| r.runs().list(None, None, 9)).err(), "runs", "A");
    unknown(store.read(|r| r.runs().running()).err(), "runs", "A");
    unknown(store.read(|r| r.runs().steps("A")).err(), "run_steps", "A/3");
    unknown(store.read(|r| r.segments().list(None, None, 9)).err(), "segments", "app/7");
    unknown(store.read(|r| r.sources().list()).err(), "sources", "app");
    unknown(store.read(|r| r.configs().current()).err(), "configs", "4");
    unknown(store.read(|r| r.jobs().mark("rotate")).err(), "job_marks", "rotate");
    // It is not overwritten either, since its state is part of the counters.
    let put =
        store.write(intent("x"), |w| w.segments().put(&segment("app", 7, SegmentState::Active)));
    unknown(put.err(), "segments", "app/7");
    let error = store.read(|r| r.jobs().pause("rotate")).unwrap_err();
    assert_eq!(error.to_string(), "the record rotate of table job_pauses is not readable");
    let error = store.read(|r| r.identity().get()).unwrap_err();
    assert_eq!(error.code(), "STORAGE_RECORD_UNREADABLE");
}

#[test]
fn oversized_records_and_names_are_refused() {
    let folder = folder();
    let store = open_in(&folder);
    let long = "n".repeat(MAX_KEY_BYTES + 1);
    let big = Intent::new(at(0), "me", "x").detail("d".repeat(MAX_RECORD_BYTES));
    let refused: [Result<(), StorageError>; 5] = [
        store.write(intent("x"), |w| w.segments().put(&segment(&long, 1, SegmentState::Active))),
        store.write(intent("x"), |w| w.runs().put(&run(&long, RunState::Running))),
        store.bookkeep(|b| b.jobs().set_mark(&long, &JobMark::default())),
        store.ingest(intent("x")).unwrap().append(&long, &[(at(0), 1.0)]),
        store.write(big, |w| w.runs().put(&run("A", RunState::Running))),
    ];
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().code(), "STORAGE_TOO_LARGE");
    }
    assert_eq!(store.read(|r| r.runs().get("A")).unwrap(), None, "no change without its entry");
    assert_eq!(head(&store).sequence, 1, "only the stream's entry");
}

/// A record that changed its shape, read from its older version.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Renamed {
    name: String,
}

impl Record for Renamed {
    const TABLE: &'static str = "renamed";
    const VERSION: u8 = 3;

    fn upgrade(version: u8, json: &[u8]) -> Option<Result<Self, serde_json::Error>> {
        (version == 2).then(|| serde_json::from_slice(json).map(|name| Self { name }))
    }
}

#[test]
fn records_of_earlier_versions_are_upgraded() {
    let new = Renamed { name: "x".to_owned() };
    assert_eq!(decode::<Renamed>(&1, b"\x02\"x\"").unwrap(), new);
    assert_eq!(decode::<Renamed>(&1, &encode(&1, &new).unwrap()).unwrap(), new);
    for (version, known) in [(1, false), (2, true), (3, true), (4, false)] {
        let error = decode::<Renamed>(&1, &[version, b'?']).unwrap_err();
        assert_eq!(matches!(error, StorageError::UnknownVersion { .. }), !known, "{version}");
    }
}
