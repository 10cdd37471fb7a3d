use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{Options, RunState, StepState, Store, Verdict};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::*;
use crate::outside::ManualClock;

async fn runs_in(folder: &Path) -> Runs {
    let store = Store::open(&folder.join("state.redb"), Options::default()).unwrap();
    let (_, newest) = watch::channel(0);
    let clock = ManualClock::new("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap());
    let (state, clock) = (State::new(Arc::new(store), newest), Arc::new(clock));
    let flag = folder.join("EMERGENCY");
    let emergency = Emergency::open(state.clone(), clock.clone(), flag).await.unwrap();
    Runs::new(state, clock, emergency)
}

fn request(key: &str, second: SecondCaller) -> Request {
    Request {
        kind: "test.kind",
        actor: "somebody".into(),
        reason: "because".into(),
        parameters: json!({}),
        key: key.into(),
        second,
        stance: Stance::Refuse,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_journalled_from_start_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs_in(folder.path()).await;
    let started = runs
        .start(request("a", SecondCaller::Refuse), |context| async move {
            let step = context.begin("one", "target").await?;
            step.done("did it").await?;
            Ok(Report::proven("all done"))
        })
        .await
        .unwrap();
    let record = runs.wait(&started.id).await.unwrap();
    assert_eq!((record.state, record.summary.as_str()), (RunState::Succeeded, "all done"));
    let found = runs.find(&started.id[..12].to_lowercase()).unwrap();
    assert_eq!(found.steps.len(), 1);
    assert_eq!((found.steps[0].state, found.steps[0].detail.as_str()), (StepState::Done, "did it"));
    assert_eq!(runs.find("last").unwrap().record.id, started.id);
    let actions: Vec<String> = runs
        .state
        .read(|reading| Ok(reading.oplog().range(1, 10)?))
        .unwrap()
        .into_iter()
        .map(|stored| {
            format!("{} {} {}", stored.entry.action, stored.entry.actor, stored.entry.outcome)
        })
        .collect();
    assert_eq!(actions, ["run.started somebody intent", "run.ended somebody ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_body_ends_decides_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs_in(folder.path()).await;
    type Body = fn() -> Result<Report>;
    let cases: [(Body, RunState, &str); 6] = [
        (|| Ok(Report::proven("")), RunState::Succeeded, ""),
        (|| Ok(Report::unknown("")), RunState::Unknown, ""),
        (|| Err(Error::unavailable("X", "x")), RunState::Failed, "X"),
        (|| Err(Error::refused("Y", "y", vec![])), RunState::Refused, "Y"),
        (|| Err(Error::cancelled()), RunState::Cancelled, "CANCELLED"),
        (|| panic!("a defect"), RunState::Failed, "RUN_PANICKED"),
    ];
    for (body, state, code) in cases {
        let started = runs
            .start(request("a", SecondCaller::Refuse), move |_| async move { body() })
            .await
            .unwrap();
        let record = runs.wait(&started.id).await.unwrap();
        assert_eq!((record.state, record.error_code.as_str()), (state, code));
    }
    assert_eq!(runs.active_count(), 0, "an ended run leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_caller_is_attached_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs_in(folder.path()).await;
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let first = runs
        .start(request("a", SecondCaller::Attach), move |_| async move {
            wait.notified().await;
            Ok(Report::proven(""))
        })
        .await
        .unwrap();
    let body = |_: Context| async { Ok(Report::proven("")) };
    let second = runs.start(request("a", SecondCaller::Attach), body).await.unwrap();
    assert_eq!(second, Started { id: first.id.clone(), attached: true });
    let refused = runs.start(request("a", SecondCaller::Refuse), body).await.unwrap_err();
    assert_eq!(refused.code, "RUN_HELD");
    assert!(refused.message.contains(&first.id));
    assert!(!runs.start(request("b", SecondCaller::Refuse), body).await.unwrap().attached);
    go.notify_one();
    assert_eq!(runs.wait(&first.id).await.unwrap().state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_released_its_key_lets_the_next_one_start() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs_in(folder.path()).await;
    let (go, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, tell) = (Arc::clone(&go), Arc::clone(&released));
    let first = runs
        .start(request("a", SecondCaller::Refuse), move |context| async move {
            context.release_key();
            tell.notify_one();
            wait.notified().await;
            Ok(Report::proven(""))
        })
        .await
        .unwrap();
    released.notified().await;
    assert_eq!(runs.active_with_key("a"), None);
    let body = |_: Context| async { Ok(Report::proven("")) };
    let second = runs.start(request("a", SecondCaller::Refuse), body).await.unwrap();
    assert!(!second.attached && second.id != first.id);
    assert_eq!(runs.wait(&second.id).await.unwrap().state, RunState::Succeeded);
    go.notify_one();
    assert_eq!(runs.wait(&first.id).await.unwrap().state, RunState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_at_the_next_safe_point_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs_in(folder.path()).await;
    let started = runs
        .start(request("a", SecondCaller::Refuse), |context| async move {
            context.cancelled().await;
            context.safe_point()?;
            Ok(Report::proven("not reached"))
        })
        .await
        .unwrap();
    runs.cancel(&started.id, "").await.unwrap();
    let record = runs.wait(&started.id).await.unwrap();
    assert_eq!(record.state, RunState::Cancelled);
    assert!(record.cancel_requested);
    assert_eq!(runs.cancel(&started.id, "").await.unwrap_err().code, "RUN_ENDED");
    assert_eq!(
        runs.cancel("01ARZ3NDEKTSV4RRFFQ69G5FAV", "").await.unwrap_err().code,
        "RUN_NOT_FOUND"
    );
    assert_eq!(runs.find("0").unwrap_err().code, "RUN_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_than_the_limit_are_turned_away_with_a_time_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs_in(folder.path()).await;
    for number in 0..ACTIVE_LIMIT {
        let body = |context: Context| async move {
            context.cancelled().await;
            Err(Error::cancelled())
        };
        runs.start(request(&number.to_string(), SecondCaller::Refuse), body).await.unwrap();
    }
    let body = |_: Context| async { Ok(Report::proven("")) };
    let error = runs.start(request("one more", SecondCaller::Refuse), body).await.unwrap_err();
    assert_eq!(error.code, "TOO_MANY_RUNS");
    assert!(error.retry_after.is_some());
    runs.drain(Duration::from_secs(5)).await;
    assert_eq!(runs.active_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_cut_off_is_interrupted_with_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let cut_off = {
        let runs = runs_in(folder.path()).await;
        // The end is never journalled: the record stays RUNNING, as after a crash.
        let mut ids = Vec::new();
        for begin in [None, Some(false), Some(true)] {
            let (told, stepped) = tokio::sync::oneshot::channel();
            let body = move |context: Context| async move {
                if let Some(done) = begin {
                    let step = context.begin("one", "x").await?;
                    if done {
                        step.done("").await?;
                    }
                }
                let _ = told.send(());
                std::future::pending::<()>().await;
                Ok(Report::proven(""))
            };
            ids.push(
                runs.start(request(&format!("{begin:?}"), SecondCaller::Refuse), body)
                    .await
                    .unwrap()
                    .id,
            );
            stepped.await.unwrap();
        }
        let store = Arc::clone(runs.state.store());
        std::fs::copy(store.path(), folder.path().join("copy.redb")).unwrap();
        ids
    };
    let after = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("copy.redb"), after.path().join("state.redb")).unwrap();
    let runs = runs_in(after.path()).await;
    assert_eq!(runs.reconcile(&[]).await.unwrap(), 3);
    let verdicts: Vec<Verdict> = cut_off
        .iter()
        .map(|id| {
            let record = runs.find(id).unwrap().record;
            assert_eq!(record.state, RunState::Interrupted);
            record.reconciliation.unwrap().verdict
        })
        .collect();
    assert_eq!(verdicts, [Verdict::NothingDone, Verdict::Held, Verdict::Finished]);
    assert_eq!(runs.reconcile(&[]).await.unwrap(), 0, "once");
}
