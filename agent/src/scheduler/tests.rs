use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use genesis_storage::{Options, RunState, Store};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::*;
use crate::emergency::Emergency;
use crate::outside::ManualClock;

struct Counting(AtomicU32);

#[async_trait]
impl Job for Counting {
    fn name(&self) -> &'static str {
        "test.job"
    }

    fn description(&self) -> &'static str {
        "counts"
    }

    fn schedule(&self) -> Schedule {
        Schedule::parse("02:00").unwrap()
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn spread(&self) -> Duration {
        Duration::ZERO
    }

    async fn run(self: Arc<Self>, _: Context) -> Result<Report> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Report::proven("counted"))
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    job: Arc<Counting>,
    runs: Runs,
    scheduler: Scheduler,
    registry: Registry,
}

impl Bench {
    async fn at(folder: &Path, now: &str) -> Self {
        let store = Arc::new(Store::open(&folder.join("state.redb"), Options::default()).unwrap());
        let state = State::new(store, watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(now.parse().unwrap()));
        let flag = folder.join("EMERGENCY");
        let emergency = Emergency::open(state.clone(), clock.clone(), flag).await.unwrap();
        let runs = Runs::new(state.clone(), Arc::clone(&clock) as Arc<dyn Clock>, emergency);
        let job = Arc::new(Counting(AtomicU32::new(0)));
        let jobs: Vec<Arc<dyn Job>> = vec![Arc::clone(&job) as Arc<dyn Job>];
        let mut registry = Registry::default();
        let host = ("host", Metrics::register(&mut registry));
        let scheduler =
            Scheduler::new(jobs, state, runs.clone(), Arc::clone(&clock) as Arc<dyn Clock>, host);
        Self { clock, job, runs, scheduler, registry }
    }

    /// Sets the wall clock, looks once, and returns how often the job has run by then.
    async fn look_at(&self, now: &str) -> u32 {
        self.clock.set(now.parse().unwrap());
        self.scheduler.look().await.unwrap();
        let last = self.view().mark.unwrap().last_run_id;
        if !last.is_empty() {
            assert_eq!(self.runs.wait(&last).await.unwrap().state, RunState::Succeeded);
        }
        self.job.0.load(Ordering::SeqCst)
    }

    /// Waits until nothing holds the database any more.
    async fn stop(&self) {
        self.runs.drain(Duration::from_secs(5)).await;
    }

    /// The metrics of the schedule, each line without its prefix and the name of the job.
    fn metrics(&self) -> Vec<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let own = text.lines().filter_map(|line| line.strip_prefix("genesis_schedule_"));
        own.map(|line| line.replace("name=\"test.job\"", "")).collect()
    }

    fn view(&self) -> JobView {
        self.scheduler.list(None, 1).unwrap().remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_for_each_due_time() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::at(folder.path(), "2026-11-23T01:00:00Z").await;
    assert_eq!(bench.look_at("2026-11-23T01:00:00Z").await, 0, "first seen");
    assert_eq!(bench.look_at("2026-11-23T01:59:59Z").await, 0);
    assert_eq!(bench.look_at("2026-11-23T02:00:00Z").await, 1);
    assert_eq!(bench.look_at("2026-11-23T02:00:01Z").await, 1);
    assert_eq!(bench.look_at("2026-11-24T02:00:30Z").await, 2);
    let view = bench.view();
    assert_eq!(view.next, ["2026-11-25T02:00:00Z".parse::<Timestamp>().unwrap()]);
    let record = bench.runs.find(&view.mark.unwrap().last_run_id).unwrap().record;
    assert_eq!(
        (record.actor.as_str(), record.reason.as_str()),
        ("schedule:test.job", "due at 2026-11-24T02:00:00Z")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_the_agent_was_down_is_caught_up_once_or_skipped() {
    let folder = tempfile::tempdir().unwrap();
    {
        let bench = Bench::at(folder.path(), "2026-11-20T01:00:00Z").await;
        bench.look_at("2026-11-20T01:00:00Z").await;
        bench.stop().await;
    }
    {
        // Down over three due times, back within the grace of the last.
        let bench = Bench::at(folder.path(), "2026-11-22T02:30:00Z").await;
        assert_eq!(bench.look_at("2026-11-22T02:30:00Z").await, 1);
        assert_eq!(bench.look_at("2026-11-22T02:31:00Z").await, 1, "caught up once");
        let reason = bench.runs.find("last").unwrap().record.reason;
        assert_eq!(reason, "due at 2026-11-22T02:00:00Z; 2 earlier activations were missed");
        bench.stop().await;
    }
    // Down over one due time, back after its grace.
    let bench = Bench::at(folder.path(), "2026-11-23T04:00:00Z").await;
    bench.scheduler.look().await.unwrap();
    assert_eq!(bench.job.0.load(Ordering::SeqCst), 0);
    let mark = bench.view().mark.unwrap();
    assert!(mark.last_skip.contains("missed by 7200 s"), "{}", mark.last_skip);
    assert_eq!(bench.look_at("2026-11-24T02:00:00Z").await, 1, "the next one is not affected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_job_stays_paused_over_a_restart_and_makes_up_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    {
        let bench = Bench::at(folder.path(), "2026-11-23T01:00:00Z").await;
        bench.look_at("2026-11-23T01:00:00Z").await;
        bench
            .scheduler
            .set_paused("test.job", true, "", "olga".into(), "upgrade".into())
            .await
            .unwrap();
    }
    let bench = Bench::at(folder.path(), "2026-11-23T02:10:00Z").await;
    assert_eq!(bench.look_at("2026-11-23T02:10:00Z").await, 0);
    let pause = bench.view().pause.unwrap();
    assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("olga", "upgrade"));
    bench.scheduler.set_paused("test.job", false, "", "olga".into(), String::new()).await.unwrap();
    assert_eq!(bench.look_at("2026-11-23T02:11:00Z").await, 0, "what was missed stays missed");
    assert_eq!(bench.look_at("2026-11-24T02:00:00Z").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_run_is_the_same_run_and_leaves_the_schedule_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::at(folder.path(), "2026-11-23T01:00:00Z").await;
    bench.look_at("2026-11-23T01:00:00Z").await;
    let started =
        bench.scheduler.run_now("test.job", "", "olga".into(), "test".into()).await.unwrap();
    assert_eq!(bench.runs.wait(&started.id).await.unwrap().kind, "test.job");
    assert_eq!(bench.look_at("2026-11-23T02:00:00Z").await, 2);
    let unknown =
        bench.scheduler.run_now("test.jib", "", "olga".into(), String::new()).await.unwrap_err();
    assert_eq!(unknown.code, "JOB_NOT_FOUND");
    assert!(unknown.message.contains("test.job"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_has_run_and_what_will() {
    let folder = tempfile::tempdir().unwrap();
    let second = |at: &str| at.parse::<Timestamp>().unwrap().as_second();
    {
        let bench = Bench::at(folder.path(), "2026-11-23T01:00:00Z").await;
        let first = bench.metrics();
        // There before anything has run; when it went well last is not known yet.
        assert!(first.contains(&"runs_total{,outcome=\"failed\"} 0".to_owned()), "{first:?}");
        assert!(!first.iter().any(|line| line.starts_with("last_success")), "{first:?}");
        bench.look_at("2026-11-23T01:00:00Z").await;
        bench.look_at("2026-11-23T02:00:00Z").await;
        bench.look_at("2026-11-23T02:00:01Z").await;
        let seen = bench.metrics();
        for line in [
            "runs_total{,outcome=\"succeeded\"} 1".to_owned(),
            format!("last_success_timestamp_seconds{{}} {}", second("2026-11-23T02:00:00Z")),
            format!("next_run_timestamp_seconds{{}} {}", second("2026-11-24T02:00:00Z")),
            "paused{} 0".to_owned(),
        ] {
            assert!(seen.contains(&line), "{line}: {seen:?}");
        }
        let (by, why) = ("olga".to_owned(), "no".to_owned());
        bench.scheduler.set_paused("test.job", true, "", by, why).await.unwrap();
        bench.look_at("2026-11-23T03:00:00Z").await;
        let paused = bench.metrics();
        assert!(paused.contains(&"paused{} 1".to_owned()), "{paused:?}");
        assert!(!paused.iter().any(|line| line.starts_with("next_run")), "{paused:?}");
        bench.stop().await;
    }
    // A restart hides neither.
    let bench = Bench::at(folder.path(), "2026-11-23T04:00:00Z").await;
    bench.scheduler.catch_up().await.unwrap();
    let last = format!("last_success_timestamp_seconds{{}} {}", second("2026-11-23T02:00:00Z"));
    assert!(bench.metrics().contains(&last), "{:?}", bench.metrics());
}
