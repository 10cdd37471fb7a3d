//! Every table of every file: what a transaction changes in it, and its entry in the oplog, are found together or not at
//! all, wherever a crash comes. `crashes.rs` crashes long stories of one table; here it is one write of each. A table
//! without a case fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use redb::ReadTransaction;

use super::crashes::crashed;
use super::*;
use crate::backend::Operation;
use crate::engine::{Engine, Manner};
use crate::schema::{self, Schema};

mod cases;

use cases::{AUDITED, BOOKKEPT, IN_ADVISORIES, IN_OBSERVATIONS, IN_TRADES, IN_VALUES};

/// A file: what it is made of, and how two states of it are told apart.
struct Kind {
    schema: &'static Schema,
    changed: fn(&ReadTransaction, &ReadTransaction) -> Vec<&'static str>,
    tables: fn() -> Vec<&'static str>,
}

static STATE: Kind =
    Kind { schema: &schema::SCHEMA, changed: schema::changed_tables, tables: schema::table_names };

macro_rules! kind {
    ($name:ident, $module:ident) => {
        static $name: Kind = Kind {
            schema: &schema::$module::SCHEMA,
            changed: schema::$module::changed_tables,
            tables: schema::$module::table_names,
        };
    };
}

kind!(OBSERVATIONS, observations);
kind!(TRADES, trades);
kind!(VALUES, values);
kind!(ADVISORIES, advisories);

/// A smaller write than this reaches a disk as a whole: it lies within one sector.
const SECTOR: usize = 512;

/// What a power cut may leave of these changes: all of them, none of those that no flush followed, some of them; or the
/// last one is torn.
fn images(
    start: &[u8],
    operations: &[Operation],
    random: &mut u64,
) -> Vec<(&'static str, Vec<u8>)> {
    let done = operations.len();
    let mut images = vec![
        ("all of it", crashed(start, operations, done, || false)),
        ("what was flushed", crashed(start, operations, done, || true)),
    ];
    for _ in 0..2 {
        let some = crashed(start, operations, done, || {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *random >> 63 == 1
        });
        images.push(("some of it", some));
    }
    if let Some(Operation::Write { offset, data }) = operations.last()
        && data.len() > SECTOR
    {
        let mut torn = operations[..done - 1].to_vec();
        torn.push(Operation::Write { offset: *offset, data: data[..data.len() / 2].to_vec() });
        images.push(("the last write torn", crashed(start, &torn, done, || false)));
    }
    images
}

fn opened(kind: &Kind, path: &Path) -> Engine {
    // Every page is proven, as after any crash.
    Engine::open(path, DEFAULT_CACHE_BYTES, kind.schema, Manner::default()).unwrap()
}

fn differing(kind: &Kind, one: &Engine, other: &Engine) -> Vec<&'static str> {
    one.reading(|one| other.reading(|other| Ok::<_, StorageError>((kind.changed)(one, other))))
        .unwrap()
}

/// Crashes `act` at each change that it makes to the file at `path`, the opening and the closing included. `act` calls its
/// argument behind each of its commits. A reopening must find every table as it was at the last commit that `act` was
/// told of, or as it was at the one that went on, byte for byte. Returns the tables that each commit changed.
fn crash_everywhere(
    kind: &Kind,
    path: &Path,
    act: impl FnOnce(&mut dyn FnMut()),
) -> Vec<Vec<&'static str>> {
    let start = fs::read(path).unwrap();
    let kept = folder();
    let snapshot = |number: usize| {
        let to = kept.path().join(format!("{number}.redb"));
        fs::copy(path, &to).unwrap();
        opened(kind, &to)
    };
    let mut states = vec![(0, snapshot(0))];
    faults::record(path);
    act(&mut || {
        let number = states.len();
        states.push((faults::recorded(path).len(), snapshot(number)));
    });
    let operations = faults::recorded(path);
    assert!(states.len() > 1 && operations.len() > states.len(), "it writes");

    let place = kept.path().join("image.redb");
    let mut random = 7;
    let mut last: Option<(Vec<u8>, usize)> = None;
    for done in 0..=operations.len() {
        let least = states.iter().rposition(|(at, _)| *at <= done).unwrap();
        for (how, image) in images(&start, &operations[..done], &mut random) {
            let found = match &last {
                // Opening it again would show the same.
                Some((same, found)) if *same == image => *found,
                _ => {
                    fs::write(&place, &image).unwrap();
                    let reopened = opened(kind, &place);
                    let found = states
                        .iter()
                        .rposition(|(_, state)| differing(kind, &reopened, state).is_empty());
                    found.unwrap_or_else(|| {
                        let differs: Vec<_> = states
                            .iter()
                            .map(|(_, state)| differing(kind, &reopened, state))
                            .collect();
                        panic!("after {done} changes, {how}: part of a commit: {differs:?}")
                    })
                }
            };
            assert!(
                (least..=least + 1).contains(&found),
                "after {done} changes, {how}: the state after {found} commits, when {least} were \
                 acknowledged"
            );
            last = Some((image, found));
        }
    }
    states.windows(2).map(|pair| differing(kind, &pair[0].1, &pair[1].1)).collect()
}

/// A state in which there is something already.
fn seeded(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("state.redb");
    let store = open(&path);
    store
        .write(intent("seed"), |w| {
            w.runs().put(&run("RUN01", RunState::Running))?;
            w.segments().put(&segment("app", 1, SegmentState::Active))?;
            w.holds().put(&hold("HOLD01"))
        })
        .unwrap();
    path
}

#[test]
fn every_table_of_the_state_has_a_write_that_is_crashed() {
    let named = AUDITED.iter().map(|(table, _)| *table).chain(["SERIES", "FLOORS"]);
    let named: BTreeSet<&str> = named.collect();
    assert_eq!(named, (STATE.tables)().into_iter().collect());
    for (table, _) in BOOKKEPT {
        assert!(named.contains(table), "{table}");
    }
}

#[test]
fn an_audited_write_and_its_entry_are_found_together_or_not_at_all() {
    for (table, change) in AUDITED {
        let folder = folder();
        let path = seeded(&folder);
        let changed = crash_everywhere(&STATE, &path, |committed| {
            let store = open(&path);
            // So long that entries fill more than one page.
            let intent = intent(table).detail("d".repeat(300));
            store.write(intent, |w| change(w)).unwrap();
            committed();
        });
        for wanted in [*table, "OPLOG", "META"] {
            assert!(changed[0].contains(&wanted), "{table}: {changed:?}");
        }
    }
}

#[test]
fn what_is_bookkept_is_whole_or_not_there_and_has_no_entry() {
    for (table, change) in BOOKKEPT {
        let folder = folder();
        let path = seeded(&folder);
        let changed = crash_everywhere(&STATE, &path, |committed| {
            let store = open(&path);
            store.bookkeep(|b| change(b)).unwrap();
            committed();
        });
        assert!(changed[0].contains(table), "{table}: {changed:?}");
        assert!(!changed[0].contains(&"OPLOG"), "{table}: {changed:?}");
    }
}

#[test]
fn a_stream_has_its_entry_before_its_first_point() {
    let folder = folder();
    let path = seeded(&folder);
    let changed = crash_everywhere(&STATE, &path, |committed| {
        let store = open(&path);
        let mut stream = store.ingest(intent("stream")).unwrap();
        committed();
        stream.append("cpu", &[(at(1), 1.0), (at(2), 2.0)]).unwrap();
        committed();
    });
    assert_eq!(changed, [vec!["META", "OPLOG"], vec!["SERIES"]]);
}

#[test]
fn an_earlier_state_is_filled_as_a_whole_or_not_at_all() {
    let folder = folder();
    let (live, earlier) = (seeded(&folder), folder.path().join("earlier.redb"));
    let set = |store: &Store, value: &str| {
        let record = ParameterRecord {
            strategy: "mm".into(),
            name: "size".into(),
            value: value.into(),
            ..ParameterRecord::default()
        };
        store.write(intent("set"), |w| w.parameters().put_next(record)).unwrap();
    };
    let store = open(&live);
    set(&store, "10");
    store.copy_to(&earlier, DEFAULT_CACHE_BYTES).unwrap();
    set(&store, "20");
    drop(store);
    let changed = crash_everywhere(&STATE, &earlier, |committed| {
        let intent = intent("state.restored").correlation_id("R");
        carry_forward(&live, &earlier, DEFAULT_CACHE_BYTES, intent).unwrap();
        committed();
    });
    for wanted in ["FLOORS", "OPLOG", "META"] {
        assert!(changed[0].contains(&wanted), "{changed:?}");
    }
    assert!(!changed[0].contains(&"PARAMETERS"), "what was decided goes back: {changed:?}");
}

/// A file beside the state: each of its tables but `unwritten`, which holds the version only, has a write that is whole or
/// not there.
macro_rules! whole_or_not_there {
    ($test:ident, $kind:ident, $file:ident, $cases:ident, $unwritten:expr) => {
        #[test]
        fn $test() {
            let mut named: BTreeSet<&str> = BTreeSet::from($unwritten);
            for (table, change) in $cases {
                let folder = folder();
                let path = folder.path().join("beside.redb");
                drop($file::open(&path, DEFAULT_CACHE_BYTES).unwrap());
                let changed = crash_everywhere(&$kind, &path, |committed| {
                    let file = $file::open(&path, DEFAULT_CACHE_BYTES).unwrap();
                    file.write(*change).unwrap();
                    committed();
                });
                assert!(changed[0].contains(table), "{table}: {changed:?}");
                named.insert(table);
            }
            assert_eq!(named, ($kind.tables)().into_iter().collect());
        }
    };
}

whole_or_not_there!(
    observations_are_whole_or_not_there,
    OBSERVATIONS,
    Observations,
    IN_OBSERVATIONS,
    []
);
whole_or_not_there!(trades_are_whole_or_not_there, TRADES, Trades, IN_TRADES, ["TRADES"]);
whole_or_not_there!(values_are_whole_or_not_there, VALUES, Values, IN_VALUES, ["VALUES"]);
whole_or_not_there!(
    advisories_are_whole_or_not_there,
    ADVISORIES,
    Advisories,
    IN_ADVISORIES,
    ["ADVISORIES"]
);
