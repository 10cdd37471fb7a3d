//! The retention jobs on real files, under a clock that the test sets.

use std::path::Path;
use std::sync::Arc;

use genesis_storage::{Options, RunState, SegmentState, Store};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::config::{Config as AgentConfig, Places};
use crate::emergency::{Emergency, Stance};
use crate::operations::logs::job::{self, ARCHIVE_RETENTION, LOCAL_RETENTION};
use crate::operations::logs::metrics::Metrics;
use crate::operations::logs::pipeline::Half;
use crate::operations::logs::{HostIdentity, Logs, OwnLog};
use crate::outside::{Clock, ManualClock, Outside};
use crate::runs::{Request, Runs, SecondCaller};
use crate::state::State;

struct NoOwnLog;

impl OwnLog for NoOwnLog {
    fn reopen(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Log archival of a host with one segment, whose last line is of 2026-01-01T00:00:00Z.
struct Bench {
    clock: Arc<ManualClock>,
    runs: Runs,
    logs: Arc<Logs>,
}

const LAST: &str = "2026-01-01T00:00:00Z";

impl Bench {
    async fn new(folder: &Path) -> Self {
        let (log, folder) = (folder.join("log/t.log"), folder.join("state"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, format!("2025-12-31T23:59:59Z first\n{LAST} last\n")).unwrap();
        let places = Places { state: folder.clone(), socket: folder.join("agent.sock") };
        let text = format!(
            "[[logs.source]]\ntype = \"trading\"\npaths = [{log:?}]\nreopen = \"by-itself\"\n"
        );
        let config = AgentConfig::parse(&text, "test", &places).config.unwrap();
        let store = Arc::new(Store::open(&folder.join("state.redb"), Options::default()).unwrap());
        let state = State::new(store, watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(LAST.parse().unwrap()));
        let seam: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let flag = folder.join("EMERGENCY");
        let emergency = Emergency::open(state.clone(), Arc::clone(&seam), flag).await.unwrap();
        let runs = Runs::new(state.clone(), Arc::clone(&seam), emergency);
        let logs = Arc::new(Logs::new(
            state,
            Outside { clock: seam, ..Outside::real() },
            runs.clone(),
            HostIdentity { id: "id".into(), name: "host".into() },
            Arc::new(NoOwnLog),
            config.logs,
            Metrics::default(),
        ));
        let source = logs.config().source("trading").cloned().unwrap();
        assert_eq!(logs.cut(&source, &log, "test", "test", 1).await.unwrap(), Some(1));
        for half in [Half::Seal, Half::Ship] {
            logs.advance_half(half).await.unwrap();
        }
        let bench = Self { clock, runs, logs };
        assert_eq!(bench.state(), SegmentState::Verified);
        bench
    }

    fn state(&self) -> SegmentState {
        let segment = self.logs.state.read(|reading| Ok(reading.segments().get("trading", 1)?));
        segment.unwrap().unwrap().state
    }

    /// Holds the type; the hold's id.
    async fn hold(&self) -> String {
        let held = self.logs.hold("trading", "", "", "auditor".into(), "audit".into()).await;
        held.unwrap().0.record.id
    }

    async fn release(&self, id: &str) {
        self.logs.release(id, "", "auditor".into(), "over".into()).await.unwrap();
    }

    /// Sets the wall clock to so long after the last line and runs a job; the state that the segment is in then.
    async fn after(&self, name: &'static str, days: i64, seconds: i64) -> SegmentState {
        let last: Timestamp = LAST.parse().unwrap();
        self.clock.set(last + SignedDuration::from_secs(days * 86_400 + seconds));
        let job = job::jobs(&self.logs).into_iter().find(|job| job.name() == name).unwrap();
        let request = Request {
            kind: name,
            actor: "test".into(),
            reason: "test".into(),
            parameters: serde_json::json!({}),
            key: name.into(),
            second: SecondCaller::Refuse,
            stance: Stance::GoOn,
        };
        let started = self.runs.start(request, move |context| job.run(context)).await.unwrap();
        assert_eq!(self.runs.wait(&started.id).await.unwrap().state, RunState::Succeeded);
        self.state()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_copies_go_after_30_days_and_archived_ones_after_365_to_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    let verified = SegmentState::Verified;
    assert_eq!(bench.after(LOCAL_RETENTION, 29, 86_399).await, verified);
    assert_eq!(bench.after(LOCAL_RETENTION, 30, 0).await, verified, "at the second it stays");
    let hold = bench.hold().await;
    assert_eq!(bench.after(LOCAL_RETENTION, 30, 1).await, verified, "a hold wins");
    bench.release(&hold).await;
    assert_eq!(bench.after(LOCAL_RETENTION, 30, 1).await, SegmentState::LocalExpired);

    let expired = SegmentState::LocalExpired;
    // A clock that was wrong for a while has deleted nothing, and deletes nothing once it is right again.
    assert_eq!(bench.after(ARCHIVE_RETENTION, -9_000, 0).await, expired);
    assert_eq!(bench.after(ARCHIVE_RETENTION, 364, 86_399).await, expired);
    assert_eq!(bench.after(ARCHIVE_RETENTION, 365, 0).await, expired, "at the second it stays");
    let hold = bench.hold().await;
    assert_eq!(bench.after(ARCHIVE_RETENTION, 365, 1).await, expired, "a hold wins");
    bench.release(&hold).await;
    assert_eq!(bench.after(ARCHIVE_RETENTION, 365, 1).await, SegmentState::ArchiveExpired);
    bench.runs.drain(std::time::Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_in_the_moment_of_the_deletion_is_not_too_late() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path()).await;
    // As a job that has made its plan, and then somebody holds what is in it.
    let segment = bench
        .logs
        .state
        .read(|reading| Ok(reading.segments().get("trading", 1)?))
        .unwrap()
        .unwrap();
    bench.hold().await;
    let root = bench.logs.config().local_dir.clone();
    for state in [SegmentState::LocalExpired, SegmentState::ArchiveExpired] {
        assert!(!bench.logs.delete_copy(&segment, state, &root, None).await.unwrap(), "{state:?}");
    }
    let local = crate::operations::logs::act::segment_file(&root, &segment.archive_name);
    assert!(local.exists());
    let archive = bench.logs.archive().unwrap();
    let name = format!("{}.log.gz", segment.archive_name);
    assert!(archive.size(&name).await.unwrap().is_some());
    bench.runs.drain(std::time::Duration::from_secs(5)).await;
}
