//! One care of a PostgreSQL database: what it does, in its order, as long as it may.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;

use super::config::Instance;
use super::preflight;
use super::record::{Found, Report, StepOutcome, StepReport};
use super::turn::{Cared, Turn};
use super::watch::{self, Watched};
use super::{Databases, plan};
use crate::error::{Error, Kind, Result};
use crate::outside::database::facts::{self, Index, Standing};
use crate::outside::database::postgres::{LOOK, Limits, Session};
use crate::outside::database::{Failure, Postgres};
use crate::runs::{Context, Progress};

/// A reading of what must be so before each step is as good for so long.
const FRESH: Duration = Duration::from_millis(500);
/// So long care waits for what holds it back, before it leaves the rest for the next time.
const WAIT: Duration = Duration::from_secs(60);

/// What one care works with.
pub struct Care {
    pub(super) databases: Arc<Databases>,
    pub(super) instance: Instance,
    pub(super) target: Postgres,
    pub(super) context: Context,
    pub(super) overrides: Vec<String>,
    /// When its window ends, by the monotonic clock.
    pub(super) ends: Duration,
    pub(super) report: Mutex<Report>,
    pub(super) watched: Arc<Watched>,
    /// How the server stood when it began.
    pub(super) standing: Standing,
    pub(super) system: String,
    /// The session that keeps others from caring for it meanwhile.
    turn: tokio::sync::Mutex<Option<Session>>,
    /// In a fleet, what keeps its other hosts from it. The fence of `target` has its token.
    fleet: tokio::sync::Mutex<Option<Box<dyn Turn>>>,
    /// The last reading of what holds care back, and when it was made.
    held: tokio::sync::Mutex<(Option<Duration>, Option<String>)>,
}

/// Ends a task when it is dropped.
struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Care {
    /// What one care works with.
    pub fn new(
        databases: Arc<Databases>,
        (instance, target): (Instance, Postgres),
        context: Context,
        overrides: Vec<String>,
        (ends, standing): (Duration, Standing),
        (turn, fleet): (Session, Option<Box<dyn Turn>>),
        report: Report,
    ) -> Self {
        let system = standing.system.clone();
        Self {
            databases,
            instance,
            target,
            context,
            overrides,
            ends,
            report: Mutex::new(report),
            watched: Arc::default(),
            system,
            standing,
            turn: tokio::sync::Mutex::new(Some(turn)),
            fleet: tokio::sync::Mutex::new(fleet),
            held: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn report(&self) -> MutexGuard<'_, Report> {
        // Each change of it is complete in itself.
        self.report.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn find(&self, code: &str, subject: &str, message: String) {
        tracing::warn!(database = self.instance.target.name, code, subject, message);
        self.report().findings.push(Found::new(code, subject, message));
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.databases.outside.clock.monotonic()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.databases.outside.clock.now()
    }

    /// What is left of the window.
    pub(super) fn left(&self) -> Duration {
        self.ends.saturating_sub(self.monotonic())
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { lock: self.instance.lock_timeout, statement: self.left() }
    }

    /// For what must be looked at and cleared up even when the window is over.
    pub(super) fn patience(&self) -> Limits {
        Limits { lock: self.instance.lock_timeout, statement: self.left().max(LOOK) }
    }

    /// Lets others care for it again; in a fleet, after the window that it was cared for in.
    pub async fn end_turn(&self, ended: bool) {
        if let Some(turn) = self.turn.lock().await.take() {
            turn.close().await;
        }
        if let Some(fleet) = self.fleet.lock().await.take() {
            let cared = Cared {
                at: self.context.started_at(),
                host: fleet.holder(),
                run: self.context.id(),
            };
            fleet.give_back(ended.then_some(cared)).await;
        }
    }

    /// Whether this host still has its turn in the fleet, as far as it can tell by itself.
    async fn has_turn(&self) -> Result<()> {
        self.fleet.lock().await.as_ref().map_or(Ok(()), |fleet| fleet.check())
    }

    /// Whether nobody has taken over, asked of the database. What broke a session, or made a step fail, may be that.
    ///
    /// # Errors
    /// `FENCED`, and `FENCE_MISSING` where nobody can tell any more. That the server can't be asked is not told here.
    async fn is_not_overtaken(&self) -> Result<()> {
        if self.target.fence.is_none() {
            return Ok(());
        }
        match Session::open(&self.target, "fence", Limits::LOOK).await {
            Ok(session) => session.close().await,
            Err(failure @ (Failure::Fenced(_) | Failure::FenceMissing(_))) => {
                return Err(self.failed(failure));
            }
            Err(failure) => {
                tracing::warn!(%failure, "whether another host took over can't be told")
            }
        }
        Ok(())
    }

    pub(super) async fn open(&self, purpose: &str) -> Result<Session> {
        Session::open(&self.target, purpose, self.limits())
            .await
            .map_err(|failure| failure.about(&self.instance.target.name))
    }

    pub(super) fn failed(&self, failure: Failure) -> Error {
        failure.about(&self.instance.target.name)
    }

    /// Does all of it. What could not be done is in the report.
    ///
    /// # Errors
    /// When it was cancelled, another host took over, or the server can't be reached any more.
    pub async fn run(self: &Arc<Self>) -> Result<()> {
        let ended = self.all_of_it().await;
        // Whatever it ended with: where another host took over, that is why.
        let ended = self.is_not_overtaken().await.and(ended);
        if let Err(error) = &ended
            && error.kind == Kind::Conflict
        {
            self.find(error.code, &self.instance.target.name, error.message.clone());
        }
        ended
    }

    async fn all_of_it(self: &Arc<Self>) -> Result<()> {
        let before = &self.standing;
        let care = Arc::clone(self);
        let watching = watch::serve(
            Arc::clone(&care.watched),
            care.target.clone(),
            Arc::clone(&care.databases.outside.clock),
            care.context.clone(),
            (care.instance.lock_timeout, care.ends),
        );
        let _watching = Abort(tokio::spawn(watching));
        let mut look = self.open("care").await?;
        self.settle_down(&mut look).await?;
        self.clear_leftovers(&mut look).await?;
        self.note_foreign(&mut look).await?;
        let indexes_before = facts::indexes(&mut look).await.map_err(|it| self.failed(it))?;
        let measured = self.measure_queries(&mut look, "before").await?;
        let began_us = before.now_us;
        let tables = facts::tables(&mut look, None).await.map_err(|it| self.failed(it))?;
        self.vacuum(plan::vacuums(&tables)).await?;
        let chosen = self.choose_indexes(&mut look).await?;
        for (place, reindex) in chosen.iter().enumerate() {
            match self.may_go_on().await? {
                None => match self.lacks_room(reindex).await {
                    None => self.reindex(reindex).await?,
                    Some(why) => self.defer("reindex", &reindex.name, &why),
                },
                Some(why) => {
                    let rest = chosen.iter().skip(place);
                    rest.for_each(|left| self.defer("reindex", &left.name, &why));
                    break;
                }
            }
        }
        // What could not be dropped while somebody was in the way may be by now.
        self.settle_down(&mut look).await?;
        self.clear_leftovers(&mut look).await?;
        let tables = facts::tables(&mut look, None).await.map_err(|it| self.failed(it))?;
        self.analyze(&mut look, plan::analyzes(&tables, began_us)).await?;
        self.settle_down(&mut look).await?;
        self.amcheck(&mut look).await?;
        self.verify(&mut look, before, &indexes_before, measured).await?;
        look.close().await;
        Ok(())
    }

    /// Steps limit the session to what is left of the window; looks in between need not much, but that.
    async fn settle_down(&self, look: &mut Session) -> Result<()> {
        look.limit(self.patience()).await.map_err(|it| self.failed(it))
    }

    /// Why no further step may begin; waits a while for that to end.
    ///
    /// # Errors
    /// `CANCELLED`, and where the turn in the fleet is over.
    pub(super) async fn may_go_on(&self) -> Result<Option<String>> {
        let since = self.monotonic();
        loop {
            self.context.safe_point()?;
            self.has_turn().await?;
            if self.left().is_zero() {
                return Ok(Some("the window is over".to_owned()));
            }
            let Some(why) = self.held_back().await? else { return Ok(None) };
            if self.monotonic().saturating_sub(since) >= WAIT {
                return Ok(Some(why));
            }
            self.databases.outside.clock.sleep(FRESH).await;
        }
    }

    /// What holds the next step back, as read a moment ago at most.
    async fn held_back(&self) -> Result<Option<String>> {
        let mut held = self.held.lock().await;
        let fresh = held.0.is_some_and(|at| self.monotonic().saturating_sub(at) < FRESH);
        if !fresh {
            let reading = self.read_what_holds().await?;
            *held = (Some(self.monotonic()), reading);
        }
        Ok(held.1.clone())
    }

    async fn read_what_holds(&self) -> Result<Option<String>> {
        if self.databases.runs.emergency().active() {
            return Ok(Some("an emergency is in force".to_owned()));
        }
        let standing = async {
            let mut session = Session::open(&self.target, "look", Limits::LOOK).await?;
            let standing = facts::standing(&mut session).await;
            session.close().await;
            standing
        };
        if let Some(turn) = self.turn.lock().await.as_mut()
            && let Err(failure) = turn.run("SELECT 1").await
        {
            self.is_not_overtaken().await?;
            return Ok(Some(format!(
                "the session is lost that keeps others from caring for it: {failure}"
            )));
        }
        let name = &self.instance.target.name;
        let (standing, trades) = tokio::join!(standing, self.databases.neighbours.trades(name));
        Ok(match standing {
            Err(failure @ (Failure::Fenced(_) | Failure::FenceMissing(_))) => {
                return Err(self.failed(failure));
            }
            Err(failure) => Some(failure.to_string()),
            Ok(standing) => {
                let disk = self.databases.disk(&self.instance, &standing).await;
                preflight::hold(&self.instance, &standing, &trades, &disk, &self.overrides)
            }
        })
    }

    /// Tells watchers how far it is.
    pub(super) fn tell(&self, done: usize, total: usize, message: String) {
        let (done, total) = (done as u64, total as u64);
        self.context.progress(Progress { done, total, unit: "steps", message });
    }

    /// What is left for the next time.
    pub(super) fn defer(&self, action: &str, target: &str, why: &str) {
        self.report().step(StepReport {
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: StepOutcome::Deferred,
            bytes_before: 0,
            bytes_after: 0,
            took_ms: 0,
            detail: why.to_owned(),
        });
    }

    /// Carries a step out and keeps what came of it: journalled before and after.
    pub(super) async fn step<F>(&self, action: &str, target: &str, act: F) -> Result<StepOutcome>
    where
        F: AsyncFnOnce() -> Done,
    {
        self.has_turn().await?;
        let journal = self.context.begin(action, target).await?;
        let since = self.monotonic();
        let done = act().await;
        let took = self.monotonic().saturating_sub(since);
        let report = StepReport {
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: done.outcome,
            bytes_before: done.bytes.0,
            bytes_after: done.bytes.1,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail: done.detail.clone(),
        };
        self.report().step(report);
        match done.outcome {
            StepOutcome::Done => journal.done(done.detail).await?,
            StepOutcome::Failed | StepOutcome::Deferred => {
                journal.failed(done.detail).await?;
                self.is_not_overtaken().await?;
            }
        }
        Ok(done.outcome)
    }

    /// The indexes to rebuild, measured where the server can.
    async fn choose_indexes(&self, look: &mut Session) -> Result<Vec<plan::Reindex>> {
        let mut indexes = facts::indexes(look).await.map_err(|it| self.failed(it))?;
        self.measure_bloat(look, &mut indexes).await;
        let recent = self.databases.rebuilt(&self.instance.target.name)?;
        Ok(plan::reindexes(&indexes, &self.instance.bloat, &recent, self.now()))
    }

    async fn measure_bloat(&self, look: &mut Session, indexes: &mut [Index]) {
        let Ok(Some(schema)) = facts::extension(look, "pgstattuple").await else { return };
        for oid in plan::worth_measuring(indexes, &self.instance.bloat, u64::MAX) {
            if self.left().is_zero() || self.context.safe_point().is_err() {
                return;
            }
            if look.limit(self.limits()).await.is_err() {
                return;
            }
            // One that it can't read stays estimated.
            let measured = super::act::measured_bloat(look, &schema, oid).await;
            if let Some(index) = indexes.iter_mut().find(|index| index.oid == oid) {
                index.measured = measured.ok();
            }
        }
    }
}

/// How the side effect of a step ended.
pub struct Done {
    pub(super) outcome: StepOutcome,
    pub(super) bytes: (u64, u64),
    pub(super) detail: String,
}

impl Done {
    pub(super) fn new(outcome: StepOutcome, detail: impl Into<String>) -> Self {
        Self { outcome, bytes: (0, 0), detail: detail.into() }
    }
}
