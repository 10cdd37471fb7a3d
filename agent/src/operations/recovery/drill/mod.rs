//! Drills: what one hopes never to need is practised every quarter, by the code of the real thing against a sandbox. How
//! long it took and where it did not go as it should is kept; what was not practised in time is told.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{
    DrillOutcome, DrillRecord, Intent, ReconciliationRecord, RunRecord, StepRecord, Verdict,
};
use jiff::Timestamp;
use serde_json::json;

use super::config::Wanted;
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::events::{Bell, Condition, Severity};
use crate::outside::Clock;
use crate::plan::{Plan, PlanStep};
use crate::runs::drill::Rehearsal;
use crate::runs::{Context, Reconcile, Report, Request, Runs, SecondCaller, Started};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;
use crate::state::State;

mod emergency;
mod plan;
mod rollback;
#[cfg(test)]
mod tests;

pub use emergency::EmergencyDrill;
pub use plan::Standing;
pub use rollback::RollbackDrill;

/// What a person starts.
pub const RUN: &str = "recovery.drill";
/// The job.
pub const JOB: &str = "recovery.drills";
/// So many drills are kept.
const KEPT: usize = 500;

/// What a person starts beside the job: in an emergency nobody practises.
pub const RUN_KINDS: [(&str, Stance); 1] = [(RUN, Stance::Refuse)];

/// A drill as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Such as "rollback:config".
    pub name: String,
    /// What it does.
    pub description: String,
    /// Whether it has to be done; `None`: it is not among those that are due.
    pub standing: Option<Standing>,
    /// When it is overdue.
    pub overdue_at: Option<Timestamp>,
    /// The newest, however it ended.
    pub last: Option<DrillRecord>,
    /// The newest that passed.
    pub passed: Option<DrillRecord>,
}

/// The drills of this host.
pub struct Drills {
    state: State,
    clock: Arc<dyn Clock>,
    runs: Runs,
    bell: Bell,
    wanted: Wanted,
    rehearsals: Vec<Arc<dyn Rehearsal>>,
    /// Where drills have their folders.
    home: PathBuf,
    /// One at a time, whoever wants it: they share a sandbox.
    alone: tokio::sync::Mutex<()>,
}

impl Drills {
    /// The drills over these rehearsals.
    pub fn new(
        (state, clock, runs, bell): (State, Arc<dyn Clock>, Runs, Bell),
        wanted: Wanted,
        rehearsals: Vec<Arc<dyn Rehearsal>>,
        home: PathBuf,
    ) -> Arc<Self> {
        let alone = tokio::sync::Mutex::default();
        Arc::new(Self { state, clock, runs, bell, wanted, rehearsals, home, alone })
    }

    /// How the drills that are due stand, as metrics show it.
    pub(super) fn gauges(&self) -> Result<Vec<super::metrics::DrillGauge>> {
        let now = self.clock.now();
        let gauge = |view: View| {
            let overdue_at = view.overdue_at?;
            // What it is overdue after begins with the last that passed, or with the host.
            let began = overdue_at.saturating_sub(self.wanted.every).unwrap_or(overdue_at);
            Some(super::metrics::DrillGauge {
                overdue: view.standing == Some(Standing::Overdue),
                rto: view.passed.and_then(|it| it.rto_ms).map(|it| it as f64 / 1_000.0),
                age: now.duration_since(began).as_secs_f64().max(0.0),
                drill: view.name,
            })
        };
        Ok(self.list()?.into_iter().filter_map(gauge).collect())
    }

    /// Takes away what drills that a crash cut off have left.
    pub async fn sweep(&self) {
        let home = self.home.clone();
        let swept = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        if let Ok(Err(error)) = swept.await {
            tracing::warn!(%error, folder = %self.home.display(), "what drills have left can't be removed");
        }
    }

    async fn find(&self, drill: &str) -> Result<(&Arc<dyn Rehearsal>, String)> {
        let (kind, name) = drill.split_once(':').unwrap_or((drill, ""));
        let unknown = |why: String| {
            let kinds: Vec<&str> = self.rehearsals.iter().map(|it| it.kind()).collect();
            let message = format!("{why}; there are: {}", kinds.join(", "));
            Error::not_found("DRILL_NOT_FOUND", message)
        };
        // "emergency:" would be another name for the same.
        let kind = if drill.ends_with(':') { drill } else { kind };
        let found = self.rehearsals.iter().find(|rehearsal| rehearsal.kind() == kind);
        let found = found.ok_or_else(|| unknown(format!("there is no drill {drill:?}")))?;
        found.has(name).await.map_err(unknown)?;
        Ok((found, name.to_owned()))
    }

    /// What a drill would do.
    ///
    /// # Errors
    /// `DRILL_NOT_FOUND`, and the rehearsal's refusal.
    pub async fn plan(&self, drill: &str) -> Result<Plan> {
        let (rehearsal, name) = self.find(drill).await?;
        let mut steps = rehearsal.plan(&name).await?;
        steps.push(PlanStep::new("record", drill, "how long it took, and what deviated"));
        Ok(Plan::new(RUN, &[drill], steps))
    }

    /// Starts a drill.
    ///
    /// # Errors
    /// As [`Drills::plan`], `PLAN_CHANGED`, `EMERGENCY`, `RUN_HELD`.
    pub async fn run(
        self: &Arc<Self>,
        drill: &str,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        self.plan(drill).await?.accept(plan_hash)?;
        let request = Request {
            kind: RUN,
            actor,
            reason,
            parameters: json!({ "drill": drill }),
            key: RUN.to_owned(),
            second: SecondCaller::Refuse,
            stance: Stance::Refuse,
        };
        let (own, drill) = (Arc::clone(self), drill.to_owned());
        let body = move |context: Context| async move {
            let record = own.practise(&drill, &context).await?;
            let said = summary(&record);
            match record.outcome {
                DrillOutcome::Passed => Ok(Report::proven(said)),
                DrillOutcome::Unknown => Ok(Report::unknown(said)),
                DrillOutcome::Failed => Err(Error::unavailable("DRILL_DEVIATED", said)),
            }
        };
        self.runs.start(request, body).await
    }

    /// Does a drill and keeps what came of it.
    async fn practise(&self, drill: &str, context: &Context) -> Result<DrillRecord> {
        let (rehearsal, name) = self.find(drill).await?;
        let _alone = tokio::select! {
            alone = self.alone.lock() => alone,
            () = context.cancelled() => return Err(Error::cancelled()),
        };
        let (started_at, began) = (self.clock.now(), self.clock.monotonic());
        let rehearsed = rehearsal.rehearse(&name, context).await?;
        let took = self.clock.monotonic().saturating_sub(began);
        let outcome = rehearsed.outcome();
        let well = outcome == DrillOutcome::Passed;
        let record = DrillRecord {
            // One run of the job does several.
            id: ulid::Ulid::from_datetime(crate::runs::system_time(started_at)).to_string(),
            drill: drill.to_owned(),
            started_at,
            ended_at: self.clock.now(),
            outcome,
            rto_ms: well.then(|| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            steps: rehearsed.steps,
            deviations: rehearsed.deviations,
            by: context.actor(),
            reason: context.reason(),
        };
        let intent = Intent::new(record.ended_at, context.actor(), "drill.done")
            .target(drill)
            .detail(summary(&record));
        let kept = record.clone();
        self.state.write(intent, move |writing| Ok(writing.drills().put(&kept, KEPT)?)).await?;
        self.bell.ring();
        Ok(record)
    }

    /// Every drill that is due from time to time, and every other one that was done.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn list(&self) -> Result<Vec<View>> {
        let now = self.clock.now();
        let (since, done) = self.state.read(|reading| {
            let since = reading.identity().get()?.map_or(now, |identity| identity.created_at);
            Ok((since, reading.drills().list("", usize::MAX)?))
        })?;
        let mut names: Vec<String> = self.wanted.drills.clone();
        let others = done.iter().map(|record| &record.drill);
        let mut others: Vec<&String> = others.filter(|name| !names.contains(name)).collect();
        others.sort();
        others.dedup();
        let others: Vec<String> = others.into_iter().cloned().collect();
        names.extend(others);
        let view = |name: String| {
            let of_it = || done.iter().filter(|record| record.drill == name);
            let passed = of_it().find(|record| record.outcome == DrillOutcome::Passed).cloned();
            let at = passed.as_ref().map(|record| record.ended_at);
            let wanted = self.wanted.drills.contains(&name);
            let every = self.wanted.every;
            let kind = name.split(':').next().unwrap_or_default();
            let known = self.rehearsals.iter().find(|rehearsal| rehearsal.kind() == kind);
            View {
                description: known.map_or("", |known| known.description()).to_owned(),
                standing: wanted.then(|| plan::standing(at, since, every, now)),
                overdue_at: wanted.then(|| plan::overdue_at(at, since, every)),
                last: of_it().next().cloned(),
                passed,
                name,
            }
        };
        Ok(names.into_iter().map(view).collect())
    }

    /// A drill that was done, by its id, the beginning of that, or "last".
    ///
    /// # Errors
    /// `DRILL_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn report(&self, id: &str) -> Result<DrillRecord> {
        let not_found = |why: String| Error::not_found("DRILL_NOT_FOUND", why);
        if id == "last" {
            let newest = self.state.read(|reading| Ok(reading.drills().list("", 1)?))?.pop();
            return newest.ok_or_else(|| not_found("no drill was done yet".to_owned()));
        }
        let wanted = id.to_ascii_uppercase();
        if !(4..=26).contains(&wanted.len()) {
            let why = format!("{id:?} is no drill's id nor its first four characters or more");
            return Err(not_found(why));
        }
        let found = self.state.read(|reading| Ok(reading.drills().with_prefix(&wanted, 2)?))?;
        match <[DrillRecord; 1]>::try_from(found) {
            Ok([drill]) => Ok(drill),
            Err(found) if found.is_empty() => Err(not_found(format!("no drill has the id {id}"))),
            Err(_) => Err(not_found(format!("{id} is the beginning of several drills' ids"))),
        }
    }

    /// What people should hear of drills.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn conditions(&self) -> Result<Vec<Condition>> {
        let overdue = self.list()?.into_iter().filter(|it| it.standing == Some(Standing::Overdue));
        Ok(overdue.map(|view| self.condition(&view)).collect())
    }

    fn condition(&self, view: &View) -> Condition {
        let days = self.wanted.every.as_secs() / 86_400;
        let last = view.last.as_ref().map(|record| format!("the last one: {}", summary(record)));
        Condition {
            key: format!("recovery/drill/{}", view.name),
            subject: format!("drill {}", view.name),
            severity: Severity::Low,
            title: format!("drill {} has not passed for {days} days", view.name),
            details: last
                .into_iter()
                .chain([format!("genesisctl drill run {}", view.name)])
                .collect(),
            runbook: "drills".to_owned(),
            since: view.overdue_at.unwrap_or_default(),
            behind: Vec::new(),
        }
    }
}

/// A folder for one drill, which goes when that is over.
async fn folder(home: PathBuf) -> Result<tempfile::TempDir> {
    let made = tokio::task::spawn_blocking(move || {
        crate::outside::files::create_folders(&home)?;
        tempfile::Builder::new().prefix("d").tempdir_in(home)
    });
    let failed = || Error::unavailable("DRILL_FAILED", "the drill's folder can't be made");
    let folder = made.await.map_err(|error| failed().caused_by(error))?;
    folder.map_err(|error| failed().caused_by(error))
}

/// A drill in a line.
fn summary(record: &DrillRecord) -> String {
    let drill = &record.drill;
    match (record.outcome, record.rto_ms) {
        (DrillOutcome::Passed, rto) => {
            let seconds = rto.unwrap_or_default() as f64 / 1_000.0;
            let odd = match record.deviations.as_slice() {
                [] => String::new(),
                odd => format!("; {}", odd.join("; ")),
            };
            format!("{drill} passed, RTO {seconds:.1} s{odd}")
        }
        (DrillOutcome::Failed, _) => format!("{drill} failed: {}", record.deviations.join("; ")),
        (DrillOutcome::Unknown, _) => {
            format!("{drill} proves nothing: {}", record.deviations.join("; "))
        }
    }
}

/// The job that does the drills that are due.
pub struct DueDrills(pub Arc<Drills>);

#[async_trait]
impl Job for DueDrills {
    fn name(&self) -> &'static str {
        JOB
    }

    fn description(&self) -> &'static str {
        "practises what one hopes never to need, against sandboxes"
    }

    fn schedule(&self) -> Schedule {
        self.0.wanted.schedule.clone()
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let due = self.0.list()?.into_iter();
        let due =
            due.filter(|view| matches!(view.standing, Some(Standing::Due | Standing::Overdue)));
        let (mut said, mut worst) = (Vec::new(), DrillOutcome::Passed);
        for view in due {
            context.safe_point()?;
            let outcome = match self.0.practise(&view.name, &context).await {
                Ok(record) => {
                    said.push(summary(&record));
                    record.outcome
                }
                Err(error) if error.kind == crate::error::Kind::Cancelled => return Err(error),
                // One that can't be done keeps no other from being done.
                Err(error) => {
                    said.push(format!("{} could not be practised: {}", view.name, error.chain()));
                    DrillOutcome::Unknown
                }
            };
            worst = match (worst, outcome) {
                (DrillOutcome::Failed, _) | (_, DrillOutcome::Failed) => DrillOutcome::Failed,
                (DrillOutcome::Unknown, _) | (_, DrillOutcome::Unknown) => DrillOutcome::Unknown,
                _ => DrillOutcome::Passed,
            };
        }
        let said = if said.is_empty() { "no drill is due".to_owned() } else { said.join("; ") };
        match worst {
            DrillOutcome::Passed => Ok(Report::proven(said)),
            DrillOutcome::Unknown => Ok(Report::unknown(said)),
            DrillOutcome::Failed => Err(Error::unavailable("DRILL_DEVIATED", said)),
        }
    }
}

/// What becomes of drills that a crash cut off: their folders are taken away before.
pub struct DrillTable(pub &'static str);

#[async_trait]
impl Reconcile for DrillTable {
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn reconcile(&self, _: &RunRecord, _: &[StepRecord]) -> ReconciliationRecord {
        ReconciliationRecord {
            verdict: Verdict::Finished,
            detail: "nothing that is in use was touched, and what the drill had made is taken away"
                .to_owned(),
        }
    }
}
