//! What a run's body works with: journalled steps, safe points, progress.

use std::sync::{Arc, Mutex};

use genesis_storage::{StepRecord, StepState};

use super::{Active, Progress, Runs};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// At most this many steps are kept in a watched snapshot; the journal holds all.
const SNAPSHOT_STEPS: usize = 200;
/// At most this many steps of one run are journalled.
const STEP_LIMIT: u32 = 10_000;

/// What a run's body works with.
#[derive(Clone)]
pub struct Context {
    runs: Runs,
    entry: Arc<Active>,
    steps: Arc<Mutex<u32>>,
}

impl Context {
    pub(super) fn new(runs: Runs, entry: Arc<Active>) -> Self {
        Self { runs, entry, steps: Arc::default() }
    }

    /// The run's id.
    pub fn id(&self) -> String {
        self.entry.snapshot.borrow().record.id.clone()
    }

    /// Who started it.
    pub fn actor(&self) -> String {
        self.entry.snapshot.borrow().record.actor.clone()
    }

    /// When it was started.
    pub fn started_at(&self) -> jiff::Timestamp {
        self.entry.snapshot.borrow().record.started_at
    }

    /// Why.
    pub fn reason(&self) -> String {
        self.entry.snapshot.borrow().record.reason.clone()
    }

    /// Returns an error when the run is to stop; called at each safe point.
    ///
    /// # Errors
    /// `CANCELLED`.
    pub fn safe_point(&self) -> Result<()> {
        if self.entry.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Lets another run of the same key start from now on: for a run that has done what must not be done
    /// twice at a time, and only watches on.
    pub fn release_key(&self) {
        self.entry.released.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Resolves when the run is to stop.
    pub async fn cancelled(&self) {
        self.entry.cancel.cancelled().await;
    }

    /// Tells watchers how far it is. Not journalled.
    pub fn progress(&self, progress: Progress) {
        self.entry.snapshot.send_modify(|snapshot| snapshot.progress = progress);
    }

    /// Journals that a step begins; call [`Step::done`] or [`Step::failed`] after its side effect.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, or `TOO_MANY_STEPS`.
    pub async fn begin(&self, name: &str, target: &str) -> Result<Step> {
        let number = {
            let mut steps = self.steps.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *steps += 1;
            *steps
        };
        if number > STEP_LIMIT {
            return Err(Error::internal(
                "TOO_MANY_STEPS",
                format!("a run has at most {STEP_LIMIT} steps"),
            ));
        }
        let record = StepRecord {
            number,
            name: name.to_owned(),
            target: target.to_owned(),
            state: StepState::Intent,
            detail: String::new(),
            started_at: self.runs.clock.now(),
            ended_at: None,
        };
        let span = tracing::error_span!("step", name, target, state = tracing::field::Empty);
        let step = Step { context: self.clone(), record, span };
        step.write().await?;
        failpoint::hit(&format!("step.{name}"));
        Ok(step)
    }
}

/// A step that has begun.
pub struct Step {
    context: Context,
    record: StepRecord,
    /// Lasts as long as the step.
    span: tracing::Span,
}

impl Step {
    /// Its place in the run, and when it was begun.
    pub fn begun(&self) -> (u32, jiff::Timestamp) {
        (self.record.number, self.record.started_at)
    }

    /// Journals that it happened.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn done(self, detail: impl Into<String>) -> Result<()> {
        self.finish(StepState::Done, detail.into()).await
    }

    /// Journals that it did not.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn failed(self, detail: impl Into<String>) -> Result<()> {
        self.finish(StepState::Failed, detail.into()).await
    }

    async fn finish(mut self, state: StepState, detail: String) -> Result<()> {
        self.record.state = state;
        self.span.record("state", tracing::field::debug(state));
        self.record.detail = detail;
        self.record.ended_at = Some(self.context.runs.clock.now());
        self.write().await
    }

    async fn write(&self) -> Result<()> {
        let (id, record) = (self.context.id(), self.record.clone());
        self.context
            .runs
            .state
            .bookkeep(move |books| Ok(books.runs().put_step(&id, &record)?))
            .await?;
        let record = self.record.clone();
        self.context.entry.snapshot.send_modify(|snapshot| {
            match snapshot.steps.iter_mut().rev().find(|step| step.number == record.number) {
                Some(step) => *step = record,
                None => snapshot.steps.push(record),
            }
            if snapshot.steps.len() > SNAPSHOT_STEPS {
                snapshot.steps.remove(0);
            }
        });
        Ok(())
    }
}
