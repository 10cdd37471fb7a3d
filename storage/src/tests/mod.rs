//! Tests of the store as a whole, and what they share.

mod atomic;
mod backups;
mod carry;
mod certificates;
mod copy;
mod crashes;
pub(crate) mod faults;
mod health;
mod opening;
mod oplog;
mod requests;
mod seals;
mod segments;
mod tables;
mod transactions;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use redb::{TableDefinition, WriteTransaction};
use tempfile::TempDir;

use crate::*;

/// A folder in memory where the system has one: these tests flush thousands of times, and what a
/// flush means to a disk is not what they test.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(path: &Path) -> Store {
    Store::open(path, Options::default()).unwrap()
}

fn open_in(folder: &TempDir) -> Store {
    open(&folder.path().join("state.redb"))
}

fn refusal(path: &Path) -> OpenError {
    match Store::open(path, Options::default()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn intent(action: &str) -> Intent {
    Intent::new(at(1), "tester", action)
}

/// Changes a closed file behind the store's back.
fn tamper(path: &Path, f: impl FnOnce(&WriteTransaction)) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    f(&transaction);
    transaction.commit().unwrap();
}

fn put_raw<K: redb::Key + 'static>(
    transaction: &WriteTransaction,
    table: TableDefinition<'static, K, &'static [u8]>,
    key: K::SelfType<'_>,
    value: &[u8],
) {
    transaction.open_table(table).unwrap().insert(key, value).unwrap();
}

fn segment(log_type: &str, sequence: u64, state: SegmentState) -> SegmentRecord {
    SegmentRecord {
        log_type: log_type.to_owned(),
        sequence,
        state,
        source_path: "/var/log/app.log".to_owned(),
        detached_path: String::new(),
        device: 1,
        inode: sequence,
        detached_at: None,
        initial_at: None,
        first_at: Some(at(1)),
        last_at: Some(at(2)),
        lines: 10,
        members: 1,
        plain_bytes: 1000,
        compressed_bytes: 100,
        sha256: "ab".repeat(32),
        manifest_sha256: String::new(),
        chain_index: Some(sequence),
        archive_name: format!("host-{log_type}-{sequence}"),
        sealed_at: None,
        verified_at: None,
        local_expired_at: None,
        archive_expired_at: None,
        waiting: None,
        taken: None,
        upload_id: None,
    }
}

fn run(id: &str, state: RunState) -> RunRecord {
    RunRecord {
        id: id.to_owned(),
        kind: "logs.rotate".to_owned(),
        state,
        actor: "tester".to_owned(),
        reason: String::new(),
        parameters: serde_json::json!({"log_type": "app"}),
        started_at: at(0),
        ended_at: None,
        summary: String::new(),
        error_code: String::new(),
        reconciliation: None,
        cancel_requested: false,
        trace_id: String::new(),
    }
}

fn hold(id: &str) -> HoldRecord {
    HoldRecord {
        id: id.to_owned(),
        log_type: "app".to_owned(),
        from: Some(at(0)),
        until: None,
        by: "tester".to_owned(),
        reason: "audit".to_owned(),
        at: at(0),
    }
}

fn step(number: u32) -> StepRecord {
    StepRecord {
        number,
        name: "seal".to_owned(),
        target: "app/1".to_owned(),
        state: StepState::Intent,
        detail: String::new(),
        started_at: at(0),
        ended_at: None,
    }
}

/// Something in every table, over many commits.
fn fill(store: &Store) {
    for number in 1..=12 {
        store
            .write(intent("fill").detail("x".repeat(200)), |w| {
                w.identity().put(&Identity {
                    host_id: "id".to_owned(),
                    created_at: at(0),
                    hostname: "host".to_owned(),
                })?;
                w.segments().put(&segment("app", number, SegmentState::Sealed))?;
                w.holds().put(&hold(&format!("HOLD{number:02}")))?;
                w.health().put_issue(&health::issue("disk", number), 100)?;
                w.health().put_attempt(&health::attempt(&format!("A{number:02}"), "disk"), 100)?;
                w.segments().put(&segment("db", number, SegmentState::Verified))?;
                w.runs().put(&run(&format!("RUN{number:02}"), RunState::Running))?;
                w.jobs().set_pause(
                    "rotate",
                    &JobPause { by: "me".to_owned(), reason: "because".to_owned(), at: at(3) },
                )?;
                w.sources().put(&SourceRecord {
                    log_type: "app".to_owned(),
                    next_sequence: number,
                    next_chain_index: 1,
                    chain_head: String::new(),
                    streams: BTreeMap::from([("/a".to_owned(), StreamRecord::default())]),
                })?;
                w.configs().push(&ConfigGeneration {
                    generation: number,
                    sha256: String::new(),
                    source: "defaults".to_owned(),
                    text: "# nothing\n".repeat(50),
                    at: at(0),
                    actor: "tester".to_owned(),
                })
            })
            .unwrap();
        store
            .bookkeep(|b| {
                b.runs().put_step("RUN01", &step(number as u32))?;
                b.jobs().set_mark("rotate", &JobMark::default())
            })
            .unwrap();
    }
    let points: Vec<_> = (0..500).map(|n| (at(n), n as f64)).collect();
    store.ingest(intent("stream")).unwrap().append("cpu", &points).unwrap();
}

/// All that can be read, as text.
fn dump(store: &Store) -> Result<String, StorageError> {
    store.read(|r| {
        Ok(format!(
            "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?} {:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
            r.identity().get()?,
            r.oplog().range(0, usize::MAX)?,
            r.runs().list(None, None, usize::MAX)?,
            r.runs().running()?,
            (r.health().issues("disk", 99)?, r.health().attempts("", 99)?),
            r.runs().steps("RUN01")?,
            r.jobs().pause("rotate")?,
            r.jobs().mark("rotate")?,
            r.segments().list(None, None, usize::MAX)?,
            (r.segments().unfinished()?, r.segments().counts(None)?),
            r.sources().list()?,
            r.configs().list(usize::MAX)?,
            r.series().range("cpu", Timestamp::MIN, Timestamp::MAX, usize::MAX)?,
        ))
    })
}

fn verify(store: &Store, expected: Option<Head>) -> Verification {
    store.read(|r| r.oplog().verify(expected)).unwrap()
}

fn head(store: &Store) -> Head {
    store.read(|r| r.oplog().head()).unwrap()
}
