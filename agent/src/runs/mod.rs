//! The life of a long operation: an id, steps journalled before and after each side effect, progress that
//! can be watched, cancel at safe points, and an end that survives a crash.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use genesis_storage::{Intent, RunRecord, RunState, StepRecord};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::emergency::{Emergency, Stance};
use crate::error::{Error, Kind, Result};
use crate::outside::{Clock, failpoint};
use crate::state::State;
use crate::trace::Trace;

mod cancel;
mod context;
pub mod drill;
mod reconcile;
pub mod remedy;
pub mod rollback;
pub mod rpc;
mod tally;
#[cfg(test)]
mod tests;

pub use context::{Context, Step};
pub use reconcile::Reconcile;

/// At most this many runs at a time.
const ACTIVE_LIMIT: usize = 32;
/// At most this many ended runs are kept.
const KEPT: usize = 2_000;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// So much is done.
    pub done: u64,
    /// Of so much; 0: not known.
    pub total: u64,
    /// Of what.
    pub unit: &'static str,
    /// In words.
    pub message: String,
}

/// A run as it is now.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its record.
    pub record: RunRecord,
    /// Its latest steps.
    pub steps: Vec<StepRecord>,
    /// Its latest progress.
    pub progress: Progress,
}

/// How a run's body ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One line.
    pub summary: String,
    /// Whether what it brought about was read back. `false` makes the run UNKNOWN, never SUCCEEDED.
    pub proven: bool,
}

impl Report {
    /// Done, and read back.
    pub fn proven(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), proven: true }
    }

    /// Ended, but what it brought about is not known.
    pub fn unknown(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), proven: false }
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Request {
    /// Such as "logs.rotate".
    pub kind: &'static str,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// With what.
    pub parameters: Value,
    /// Two runs of one key never go on together, unless the first has released it.
    pub key: String,
    /// What becomes of a second caller with the same key.
    pub second: SecondCaller,
    /// Whether it starts while an emergency is in force.
    pub stance: Stance,
}

/// What becomes of a second caller while a run of the same key goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondCaller {
    /// It is attached to the run going on.
    Attach,
    /// It is refused with RUN_HELD.
    Refuse,
}

/// What was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The run.
    pub id: String,
    /// It was going on already.
    pub attached: bool,
}

struct Active {
    /// See [`Request::key`].
    key: String,
    /// Another of the same key may start: see [`Context::release_key`].
    released: AtomicBool,
    cancel: CancellationToken,
    snapshot: watch::Sender<Snapshot>,
}

impl Active {
    /// Whether it goes on. One that has ended leaves the map a moment later.
    fn goes_on(&self) -> bool {
        self.snapshot.borrow().record.ended_at.is_none()
    }

    /// Whether it keeps others of this key from starting.
    fn holds(&self, key: &str) -> bool {
        self.key == key && !self.released.load(Ordering::Acquire) && self.goes_on()
    }
}

/// All runs of this agent.
#[derive(Clone)]
pub struct Runs {
    state: State,
    clock: Arc<dyn Clock>,
    emergency: Emergency,
    active: Arc<Mutex<HashMap<String, Arc<Active>>>>,
    tasks: TaskTracker,
    stopping: Arc<AtomicBool>,
    ids: Arc<Mutex<ulid::Generator>>,
}

impl Runs {
    /// No runs yet.
    pub fn new(state: State, clock: Arc<dyn Clock>, emergency: Emergency) -> Self {
        Self {
            state,
            clock,
            emergency,
            active: Arc::default(),
            tasks: TaskTracker::new(),
            stopping: Arc::default(),
            ids: Arc::new(Mutex::new(ulid::Generator::new())),
        }
    }

    fn active(&self) -> MutexGuard<'_, HashMap<String, Arc<Active>>> {
        // The map is never left half changed, so a panic elsewhere does not spoil it.
        self.active.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn new_id(&self, now: Timestamp) -> String {
        let mut ids = self.ids.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let at = system_time(now);
        match ids.generate_from_datetime(at) {
            Ok(id) => id.to_string(),
            // 2^80 ids in one millisecond; a fresh random one is as good.
            Err(_) => ulid::Ulid::from_datetime(at).to_string(),
        }
    }

    /// The emergency flag that starts are checked against.
    pub fn emergency(&self) -> &Emergency {
        &self.emergency
    }

    /// How many runs go on.
    pub fn active_count(&self) -> usize {
        self.active().values().filter(|active| active.goes_on()).count()
    }

    /// Whether a run holds this key, and which.
    pub fn active_with_key(&self, key: &str) -> Option<String> {
        self.active().iter().find(|(_, active)| active.holds(key)).map(|(id, _)| id.clone())
    }

    /// Journals a run and starts its body, which goes on when the caller leaves.
    ///
    /// # Errors
    /// `EMERGENCY` for what refuses while one is in force, `RUN_HELD` when a run of the same key goes on and
    /// the request says so, `TOO_MANY_RUNS`, `STORAGE_FAILED`.
    pub async fn start<F, Fut>(&self, request: Request, body: F) -> Result<Started>
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Report>> + Send + 'static,
    {
        self.start_as(self.reserve(), request, body).await
    }

    /// The id of a run that is yet to start, for what must be had before it does and names it.
    pub fn reserve(&self) -> String {
        self.new_id(self.clock.now())
    }

    /// Starts a run as [`Runs::start`] does, with an id of [`Runs::reserve`].
    ///
    /// # Errors
    /// As [`Runs::start`].
    pub async fn start_as<F, Fut>(&self, id: String, request: Request, body: F) -> Result<Started>
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Report>> + Send + 'static,
    {
        self.emergency.check(request.kind, request.stance)?;
        let now = self.clock.now();
        // What happens by itself begins a trace.
        let trace = crate::trace::current().unwrap_or_else(Trace::begin);
        let record = RunRecord {
            id,
            kind: request.kind.to_owned(),
            state: RunState::Running,
            actor: request.actor,
            reason: request.reason,
            parameters: request.parameters,
            started_at: now,
            ended_at: None,
            summary: String::new(),
            error_code: String::new(),
            reconciliation: None,
            cancel_requested: false,
            trace_id: trace.id(),
        };
        let id = record.id.clone();
        let snapshot =
            Snapshot { record: record.clone(), steps: Vec::new(), progress: Progress::default() };
        let entry = Arc::new(Active {
            key: request.key.clone(),
            released: AtomicBool::new(false),
            cancel: CancellationToken::new(),
            snapshot: watch::Sender::new(snapshot),
        });
        {
            let mut active = self.active();
            if self.stopping.load(Ordering::Acquire) {
                return Err(Error::unavailable(
                    "AGENT_STOPPING",
                    "the agent is stopping; nothing new is begun",
                ));
            }
            let going_on = active
                .iter()
                .find(|(_, other)| other.holds(&request.key))
                .map(|(id, _)| id.clone());
            match (going_on, request.second) {
                (Some(id), SecondCaller::Attach) => return Ok(Started { id, attached: true }),
                (Some(id), SecondCaller::Refuse) => {
                    let message = format!(
                        "run {id} ({}) still goes on; watch it with `genesisctl run watch {id}`",
                        request.kind
                    );
                    return Err(Error::conflict("RUN_HELD", message));
                }
                (None, _) if active.len() >= ACTIVE_LIMIT => {
                    return Err(Error::unavailable(
                        "TOO_MANY_RUNS",
                        format!("{ACTIVE_LIMIT} runs go on already"),
                    )
                    .retry_after(Duration::from_secs(5)));
                }
                (None, _) => active.insert(id.clone(), Arc::clone(&entry)),
            };
        }
        // The task owns the run from here on, so that a caller who leaves can't strand it in the map.
        let (told, started) = tokio::sync::oneshot::channel();
        let runs = self.clone();
        let span = tracing::error_span!(
            "run",
            kind = record.kind,
            run = record.id,
            trace_id = record.trace_id,
            state = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let owned = async move {
            let journalled = runs.journal(record.clone(), "run.started", "intent").await;
            failpoint::hit("run.started");
            let go_on = journalled.is_ok();
            let _ = told.send(journalled);
            if go_on {
                let context = Context::new(runs.clone(), Arc::clone(&entry));
                // A task of its own, so that a panic of the body ends this run and nothing else.
                let body = trace.cover(body(context).in_current_span());
                let outcome = match tokio::spawn(body).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Error::internal(
                        "RUN_PANICKED",
                        "the run hit a defect of the agent; see its log",
                    )),
                };
                runs.end(&entry, outcome).await;
            }
            runs.active().remove(&record.id);
        };
        self.tasks.spawn(trace.cover(owned.instrument(span)));
        match started.await {
            Ok(journalled) => journalled.map(|()| Started { id, attached: false }),
            Err(_) => Err(Error::internal("STORAGE_FAILED", "the run could not be journalled")),
        }
    }

    async fn journal(&self, record: RunRecord, event: &str, outcome: &str) -> Result<()> {
        let intent = Intent::new(self.clock.now(), record.actor.clone(), event)
            .target(record.kind.clone())
            .reason(record.reason.clone())
            .outcome(outcome)
            .detail(record.summary.clone())
            .correlation_id(record.id.clone())
            .trace_id(record.trace_id.clone());
        let day = record.ended_at.map(|at| at.as_second().div_euclid(86_400));
        let day = day.and_then(|day| u32::try_from(day).ok());
        self.state
            .write(intent, move |writing| {
                writing.runs().put(&record)?;
                writing.runs().prune(KEPT)?;
                if let (Some(day), Some(outcome)) = (day, tally::tally(&record)) {
                    writing.count().count(day, &format!("operation/{outcome}"))?;
                    // By kind as well, since the runs themselves are not kept for so long.
                    writing
                        .count()
                        .count(day, &format!("operation-of/{}/{outcome}", record.kind))?;
                }
                Ok(())
            })
            .await
    }

    async fn end(&self, entry: &Active, outcome: Result<Report>) {
        let mut record = entry.snapshot.borrow().record.clone();
        record.ended_at = Some(self.clock.now());
        record.cancel_requested = entry.cancel.is_cancelled();
        match outcome {
            Ok(report) => {
                record.state = if report.proven { RunState::Succeeded } else { RunState::Unknown };
                record.summary = report.summary;
            }
            Err(error) => {
                record.state = match error.kind {
                    Kind::Cancelled => RunState::Cancelled,
                    Kind::Refused => RunState::Refused,
                    _ => RunState::Failed,
                };
                record.summary = error.chain();
                record.error_code = error.code.to_owned();
            }
        }
        let span = tracing::Span::current();
        span.record("state", tracing::field::debug(record.state));
        if matches!(record.state, RunState::Failed | RunState::Unknown) {
            span.record("otel.status_code", "ERROR");
        }
        failpoint::hit("run.before-end");
        let outcome = match record.state {
            RunState::Succeeded => "ok".to_owned(),
            RunState::Unknown => "unknown".to_owned(),
            _ => record.error_code.clone(),
        };
        if let Err(error) = self.journal(record.clone(), "run.ended", &outcome).await {
            // Left RUNNING in the journal, it is found and reconciled at the next start.
            tracing::error!(
                run = record.id,
                error = error.chain(),
                "the end of a run could not be journalled"
            );
        }
        tracing::info!(run = record.id, kind = record.kind, state = ?record.state, summary = record.summary, "run ended");
        entry.snapshot.send_modify(|snapshot| snapshot.record = record);
    }

    /// Finds a run by id, unique beginning, or "last".
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`.
    pub fn find(&self, id: &str) -> Result<Snapshot> {
        let not_found = |why: &str| Error::not_found("RUN_NOT_FOUND", why);
        let wanted = id.to_ascii_uppercase();
        // One that was started this moment may not be journalled yet.
        if let Some(active) = self.active().get(&wanted) {
            return Ok(active.snapshot.borrow().clone());
        }
        let record = self.state.read(|reading| {
            if id == "last" {
                let newest = reading.runs().list(None, None, 1)?;
                return newest
                    .into_iter()
                    .next()
                    .ok_or_else(|| not_found("there has been no run yet"));
            }
            if wanted.len() < 4 || wanted.len() > 26 {
                return Err(not_found(&format!(
                    "{id:?} is no run id nor its first four characters or more"
                )));
            }
            let mut found = reading.runs().with_prefix(&wanted, 2)?;
            match found.len() {
                1 => Ok(found.remove(0)),
                0 => Err(not_found(&format!("there is no run {id}"))),
                _ => Err(not_found(&format!("{id} is the beginning of several run ids"))),
            }
        })?;
        if let Some(active) = self.active().get(&record.id) {
            return Ok(active.snapshot.borrow().clone());
        }
        let steps = self.state.read(|reading| Ok(reading.runs().steps(&record.id)?))?;
        Ok(Snapshot { record, steps, progress: Progress::default() })
    }

    /// Follows a run that goes on; `None` when it has ended.
    pub fn watch(&self, id: &str) -> Option<watch::Receiver<Snapshot>> {
        self.active().get(id).map(|active| active.snapshot.subscribe())
    }

    /// Waits until a run has ended and returns its record.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`.
    pub async fn wait(&self, id: &str) -> Result<RunRecord> {
        if let Some(mut receiver) = self.watch(id) {
            // An error means that the run ended and left the map.
            let _ = receiver.wait_for(|snapshot| snapshot.record.ended_at.is_some()).await;
        }
        Ok(self.find(id)?.record)
    }

    /// Asks every run to stop and waits for them at most `limit`; those that did not are reconciled at the
    /// next start.
    pub async fn drain(&self, limit: Duration) {
        {
            let active = self.active();
            self.stopping.store(true, Ordering::Release);
            for active in active.values() {
                active.cancel.cancel();
            }
        }
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.clock.sleep(limit) => {
                tracing::warn!(left = self.active_count(), "runs did not reach a safe point in time");
            }
        }
    }
}

/// An instant as ids want it; one before 1970 counts as 1970.
pub fn system_time(at: Timestamp) -> std::time::SystemTime {
    at.max(Timestamp::UNIX_EPOCH).try_into().unwrap_or(std::time::SystemTime::UNIX_EPOCH)
}
