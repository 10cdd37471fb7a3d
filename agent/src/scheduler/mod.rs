//! Starts jobs when they are due. Scheduled and manual activations take the same path.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{Intent, JobMark, JobPause, Reading, RunState};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::events::Condition;
use crate::outside::Clock;
use crate::outside::aside::Aside;
use crate::plan::{Plan, PlanStep};
use crate::runs::{Context, Report, Request, Runs, SecondCaller, Started};
use crate::state::State;

pub mod calendar;
pub mod metrics;
pub mod rpc;
#[cfg(test)]
mod tests;
mod told;

use calendar::{Decision, Schedule, Situation};
pub use metrics::Metrics;

/// The longest sleep between two looks, so that a wall clock that jumps is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A job that could not be started is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// Something that happens by itself at set times. Idempotent: it takes no input and looks at the world.
#[async_trait]
pub trait Job: Send + Sync {
    /// Such as "logs.archive-retention"; also the kind of its runs.
    fn name(&self) -> &'static str;
    /// What it does, in a line.
    fn description(&self) -> &'static str;
    /// When.
    fn schedule(&self) -> Schedule;
    /// How late an activation may still start.
    fn grace(&self) -> Duration {
        Duration::from_secs(6 * 3600)
    }
    /// Hosts spread their start over this time.
    fn spread(&self) -> Duration {
        Duration::from_secs(300)
    }
    /// Whether it starts while an emergency is in force.
    fn stance(&self) -> Stance {
        Stance::Refuse
    }
    /// Does it.
    async fn run(self: Arc<Self>, context: Context) -> Result<Report>;
}

/// All jobs of this agent.
#[derive(Clone)]
pub struct Scheduler {
    jobs: Arc<Vec<Arc<dyn Job>>>,
    state: State,
    runs: Runs,
    clock: Arc<dyn Clock>,
    host_id: String,
    metrics: Metrics,
    changed: Arc<Notify>,
    /// What people should hear of is read aside, so that a disk that hangs keeps nobody waiting.
    asked: Arc<Aside<(), Option<Vec<Condition>>>>,
}

/// One job as a person sees it.
#[derive(Debug, Clone)]
pub struct JobView {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// When, as configured.
    pub schedule: String,
    /// Paused, by whom and why.
    pub pause: Option<JobPause>,
    /// How it went last time.
    pub mark: Option<JobMark>,
    /// Next times, this host's delay included.
    pub next: Vec<Timestamp>,
    /// See [`Job::grace`].
    pub grace: Duration,
    /// This host's delay.
    pub splay: Duration,
    /// An activation goes on.
    pub running: bool,
    /// See [`Job::stance`].
    pub stance: Stance,
}

impl Scheduler {
    /// A scheduler over `jobs`.
    pub fn new(
        jobs: Vec<Arc<dyn Job>>,
        state: State,
        runs: Runs,
        clock: Arc<dyn Clock>,
        (host_id, metrics): (&str, Metrics),
    ) -> Self {
        let changed = Arc::new(Notify::new());
        jobs.iter().for_each(|job| metrics.know(job.name()));
        Self {
            jobs: Arc::new(jobs),
            state,
            runs,
            clock,
            host_id: host_id.to_owned(),
            metrics,
            changed,
            asked: Arc::default(),
        }
    }

    /// Looks and starts for ever.
    pub async fn serve(self) {
        let mut emergency = self.runs.emergency().follow();
        if let Err(error) = self.catch_up().await {
            tracing::error!(error = error.chain(), "the last runs of the jobs can't be read");
        }
        loop {
            let wait = match self.look().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(
                        error = error.chain(),
                        "the scheduler could not look at its jobs"
                    );
                    LONGEST_SLEEP
                }
            };
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = self.changed.notified() => {}
                // Its sender lives as long as the runs.
                _ = emergency.changed() => {}
            }
        }
    }

    /// Starts what is due and returns how long nothing will be.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn look(&self) -> Result<Duration> {
        let mut wait = LONGEST_SLEEP;
        for job in self.jobs.iter() {
            let now = self.clock.now();
            let name = job.name();
            let (mark, pause) = self
                .state
                .read(|reading| Ok((reading.jobs().mark(name)?, reading.jobs().pause(name)?)))?;
            let next = self.upcoming(job.as_ref(), now, 1).pop();
            self.metrics.due(name, next, pause.is_some());
            let Some(last_due) = mark.as_ref().and_then(|mark| mark.last_due_at) else {
                // First seen: due times before now are nobody's to make up for.
                self.mark(name, now, None, String::new()).await?;
                continue;
            };
            let situation = Situation {
                now,
                last_due,
                paused: pause.is_some(),
                running: self.runs.active_with_key(name).is_some(),
                held: job.stance() == Stance::Refuse && self.runs.emergency().active(),
                grace: job.grace(),
                splay: calendar::splay(&self.host_id, name, job.spread()),
            };
            match calendar::decide(&job.schedule(), &situation) {
                Decision::Wait(until) => {
                    let left =
                        Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
                    wait = wait.min(left.max(Duration::from_millis(1)));
                }
                Decision::Never => {}
                Decision::Skip { due, why } => {
                    tracing::warn!(job = name, %due, why, "scheduled activation skipped");
                    self.state
                        .note(
                            Intent::new(now, "schedule", "schedule.skipped")
                                .target(name)
                                .detail(&*why),
                        )
                        .await?;
                    self.mark(name, due, None, format!("{due}: {why}")).await?;
                }
                Decision::Run { due, missed } => {
                    let reason = match missed {
                        0 => format!("due at {due}"),
                        _ => format!("due at {due}; {missed} earlier activations were missed"),
                    };
                    // Marked after it starts: jobs are idempotent, so after a crash in between once more is
                    // better than not at all.
                    match self.activate(Arc::clone(job), format!("schedule:{name}"), reason).await {
                        Ok(started) => {
                            self.mark(name, due, Some(started.id), String::new()).await?
                        }
                        Err(error) => {
                            // Still due, so the next look tries again until its grace is over.
                            tracing::error!(
                                job = name,
                                error = error.chain(),
                                "the job could not be started"
                            );
                            wait = wait.min(RETRY);
                        }
                    }
                }
            }
        }
        Ok(wait)
    }

    async fn activate(&self, job: Arc<dyn Job>, actor: String, reason: String) -> Result<Started> {
        let request = Request {
            kind: job.name(),
            actor,
            reason,
            parameters: json!({}),
            key: job.name().to_owned(),
            second: SecondCaller::Attach,
            stance: job.stance(),
        };
        let (metrics, clock) = (self.metrics.clone(), Arc::clone(&self.clock));
        let body = move |context| async move {
            let name = job.name();
            let going = metrics.begin(name);
            let ended = job.run(context).await;
            if going.end(&ended) {
                metrics.succeeded(name, clock.now());
            }
            ended
        };
        self.runs.start(request, body).await
    }

    /// A crash between the start of a run and its mark leaves the mark behind: people would not hear how the run
    /// ended. And a restart must not hide how long the last good run is ago.
    async fn catch_up(&self) -> Result<()> {
        for job in self.jobs.iter() {
            let name = job.name();
            let good = self.state.read(|reading| {
                Ok(reading.runs().list(Some(name), Some(RunState::Succeeded), 1)?.pop())
            })?;
            if let Some(at) = good.and_then(|run| run.ended_at) {
                self.metrics.succeeded(name, at);
            }
            let latest = self.state.read(|reading| {
                let known = reading.jobs().mark(name)?.unwrap_or_default().last_run_id;
                let latest = reading.runs().list(Some(name), None, 1)?.pop();
                Ok(latest.map(|run| run.id).filter(|id| *id > known))
            })?;
            let Some(id) = latest else { continue };
            self.state
                .bookkeep(move |books| {
                    let mut mark = books.jobs().mark(name)?.unwrap_or_default();
                    mark.last_run_id = id;
                    Ok(books.jobs().set_mark(name, &mark)?)
                })
                .await?;
        }
        Ok(())
    }

    async fn mark(
        &self,
        name: &'static str,
        due: Timestamp,
        run: Option<String>,
        skip: String,
    ) -> Result<()> {
        self.state
            .bookkeep(move |books| {
                let mut mark = books.jobs().mark(name)?.unwrap_or_default();
                mark.last_due_at = Some(due);
                mark.last_skip = skip;
                if let Some(run) = run {
                    mark.last_run_id = run;
                }
                Ok(books.jobs().set_mark(name, &mark)?)
            })
            .await
    }

    fn job(&self, name: &str) -> Result<&Arc<dyn Job>> {
        self.jobs.iter().find(|job| job.name() == name).ok_or_else(|| {
            let known: Vec<&str> = self.jobs.iter().map(|job| job.name()).collect();
            Error::not_found(
                "JOB_NOT_FOUND",
                format!("there is no job {name:?}; there are: {}", known.join(", ")),
            )
        })
    }

    /// What running a job now would do.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`, `EMERGENCY`.
    pub fn plan_run(&self, name: &str) -> Result<Plan> {
        let job = self.job(name)?;
        self.runs.emergency().check(job.name(), job.stance())?;
        let going_on = self.runs.active_with_key(job.name());
        let step = match &going_on {
            Some(id) => PlanStep::new("attach", id.clone(), "it goes on already"),
            None => PlanStep::new("run", job.name(), job.description()),
        };
        Ok(Plan::new("schedule.run", &[], vec![step]))
    }

    /// What pausing or resuming a job would do.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn plan_pause(&self, name: &str, paused: bool) -> Result<Plan> {
        let name = self.job(name)?.name();
        let now = self.state.read(|reading| Ok(reading.jobs().pause(name)?))?;
        let was = now.map_or_else(String::new, |pause| format!("paused by {}", pause.by));
        let why = match (was.as_str(), paused) {
            ("", true) => "it does not start by itself until it is resumed",
            ("", false) => "it is not paused; what was missed by now is skipped",
            (_, true) => "it is paused already; who and why are written anew",
            (_, false) => "it starts by itself again; what was missed is skipped",
        };
        let action = if paused { "pause" } else { "resume" };
        Ok(Plan::new("schedule.pause", &[&was], vec![PlanStep::new(action, name, why)]))
    }

    /// Runs a job now, as its schedule would.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`, `PLAN_CHANGED`, and those of [`Runs::start`].
    pub async fn run_now(
        &self,
        name: &str,
        plan_hash: &str,
        actor: String,
        reason: String,
    ) -> Result<Started> {
        let job = Arc::clone(self.job(name)?);
        self.plan_run(name)?.accept(plan_hash)?;
        let name = job.name();
        let started = self.activate(job, actor, reason).await?;
        let id = started.id.clone();
        self.state
            .bookkeep(move |books| {
                let mut mark = books.jobs().mark(name)?.unwrap_or_default();
                mark.last_run_id = id;
                Ok(books.jobs().set_mark(name, &mark)?)
            })
            .await?;
        Ok(started)
    }

    /// Keeps a job from starting by itself, or lets it again.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn set_paused(
        &self,
        name: &str,
        paused: bool,
        plan_hash: &str,
        actor: String,
        reason: String,
    ) -> Result<JobView> {
        let name = self.job(name)?.name();
        self.plan_pause(name, paused)?.accept(plan_hash)?;
        let now = self.clock.now();
        let action = if paused { "schedule.paused" } else { "schedule.resumed" };
        let intent = Intent::new(now, actor.clone(), action).target(name).reason(reason.clone());
        self.state
            .write(intent, move |writing| {
                if paused {
                    writing.jobs().set_pause(name, &JobPause { by: actor, reason, at: now })?;
                } else {
                    writing.jobs().clear_pause(name)?;
                }
                Ok(())
            })
            .await?;
        if !paused {
            // What was missed while it was paused stays missed.
            self.mark(name, now, None, String::new()).await?;
        }
        self.changed.notify_one();
        self.view(name, now, 1)
    }

    /// The next times of a job as seen from `at`, this host's delay included.
    fn upcoming(&self, job: &dyn Job, at: Timestamp, next: usize) -> Vec<Timestamp> {
        let splay = calendar::splay(&self.host_id, job.name(), job.spread());
        let splay = jiff::SignedDuration::try_from(splay).unwrap_or_default();
        let schedule = job.schedule();
        let mut times = Vec::new();
        let mut from = at.saturating_sub(splay).unwrap_or(at);
        while times.len() < next {
            let Some(due) = schedule.next_after(from) else { break };
            times.push(due.saturating_add(splay).unwrap_or(due));
            from = due;
        }
        times
    }

    fn view(&self, name: &str, at: Timestamp, next: usize) -> Result<JobView> {
        let job = self.job(name)?;
        let name = job.name();
        let (mark, pause) =
            self.state.read(|reading| Ok((marked(reading, name)?, reading.jobs().pause(name)?)))?;
        let splay = calendar::splay(&self.host_id, name, job.spread());
        Ok(JobView {
            name,
            description: job.description(),
            schedule: job.schedule().to_string(),
            pause,
            mark,
            next: self.upcoming(job.as_ref(), at, next),
            grace: job.grace(),
            splay,
            running: self.runs.active_with_key(name).is_some(),
            stance: job.stance(),
        })
    }

    /// Every job with its next times as seen from `at` (`None`: now).
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn list(&self, at: Option<Timestamp>, next: usize) -> Result<Vec<JobView>> {
        let at = at.unwrap_or_else(|| self.clock.now());
        self.jobs.iter().map(|job| self.view(job.name(), at, next)).collect()
    }
}

/// What is known of a job's last run, with how it ended, which its run's record says.
fn marked(reading: &Reading, name: &str) -> Result<Option<JobMark>> {
    let Some(mut mark) = reading.jobs().mark(name)? else { return Ok(None) };
    if !mark.last_run_id.is_empty() {
        mark.last_state = reading.runs().get(&mark.last_run_id)?.map(|run| run.state);
    }
    Ok(Some(mark))
}
