//! Drills: what one hopes never to need is practised every quarter, by the code of the real thing against a sandbox. How
//! long it took and where it did not go as it should is kept; what was not practised in time is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{DrillOutcome, DrillRecord, Intent};
use jiff::Timestamp;
use serde_json::json;

use super::config::Wanted;
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::events::{Bell, Condition, Severity};
use crate::outside::Clock;
use crate::plan::{Plan, PlanStep};
use crate::runs::drill::{Occasion, Rehearsal, Rehearsed};
use crate::runs::{Context, Report, Request, Runs, SecondCaller, Started};
use crate::state::State;

mod cut_off;
mod due;
mod emergency;
mod plan;
mod rollback;
#[cfg(test)]
mod tests;

pub use cut_off::DrillTable;
pub use due::DueDrills;
pub use emergency::EmergencyDrill;
pub use plan::Standing;
pub use rollback::RollbackDrill;

/// What a person starts.
pub const RUN: &str = "recovery.drill";
/// The job.
pub const JOB: &str = "recovery.drills";
/// So many drills are kept.
const KEPT: usize = 500;
/// The step of a run that is one drill, around the drill's own.
const UNDER_WAY: &str = "drill";

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
    /// Why there is nothing to practise; empty: there is.
    pub not_applicable: String,
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
            // What can't be practised yet is not overdue, and was so for no time.
            let overdue_at = match view.standing? {
                Standing::NotApplicable => now.saturating_add(self.wanted.every).unwrap_or(now),
                _ => view.overdue_at?,
            };
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
        // By this one it is known after a crash what was under way.
        let under_way = context.begin(UNDER_WAY, drill).await?;
        let (number, started_at) = under_way.begun();
        let id = id_of(&context.id(), number, started_at);
        let began = self.clock.monotonic();
        let rehearsed = rehearsal.rehearse(&name, context).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let blank = DrillRecord {
            id,
            drill: drill.to_owned(),
            started_at,
            ended_at: self.clock.now(),
            outcome: DrillOutcome::Unknown,
            rto_ms: None,
            rpo_ms: None,
            steps: Vec::new(),
            deviations: Vec::new(),
            by: context.actor(),
            reason: context.reason(),
        };
        match rehearsed {
            Ok(rehearsed) => {
                let record = ended(blank, rehearsed, took);
                let code = match record.outcome {
                    DrillOutcome::Passed => "ok",
                    DrillOutcome::Failed => "DRILL_DEVIATED",
                    DrillOutcome::Unknown => "unknown",
                };
                self.keep(&record, "drill.done", code, &context.id()).await?;
                if record.outcome == DrillOutcome::Passed {
                    self.forget(rehearsal.as_ref()).await;
                }
                under_way.done(summary(&record)).await?;
                Ok(record)
            }
            Err(error) => {
                let steps = self.state.read(|it| Ok(it.runs().steps(&context.id())?))?;
                let record = cut_off::record(blank, &steps, number, &error.chain());
                self.keep(&record, "drill.done", error.code, &context.id()).await?;
                under_way.failed(error.chain()).await?;
                Err(error)
            }
        }
    }

    /// Keeps what came of a drill, with an entry of the operation log that says how it ended.
    async fn keep(&self, record: &DrillRecord, action: &str, code: &str, run: &str) -> Result<()> {
        let intent = Intent::new(record.ended_at, record.by.clone(), action)
            .target(record.drill.clone())
            .reason(record.reason.clone())
            .outcome(code)
            .detail(summary(record))
            .correlation_id(run);
        let kept = record.clone();
        self.state.write(intent, move |writing| Ok(writing.drills().put(&kept, KEPT)?)).await?;
        self.bell.ring();
        Ok(())
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
        let view = |name: String| -> Result<View> {
            let of_it = || done.iter().filter(|record| record.drill == name);
            let passed = of_it().find(|record| record.outcome == DrillOutcome::Passed).cloned();
            let at = passed.as_ref().map(|record| record.ended_at);
            let wanted = self.wanted.drills.contains(&name);
            let every = self.wanted.every;
            let kind = name.split(':').next().unwrap_or_default();
            let known = self.rehearsals.iter().find(|rehearsal| rehearsal.kind() == kind);
            let own = name.split_once(':').map_or("", |(_, own)| own);
            let occasion = known.map_or(Ok(Occasion::Always), |known| known.occasion(own))?;
            // Who had nothing to practise before is not late.
            let (since, not_applicable) = match occasion {
                Occasion::Always => (since, String::new()),
                Occasion::Since(first) => (since.max(first), String::new()),
                Occasion::NotYet(why) => (since, why),
            };
            let standing = match not_applicable.is_empty() {
                true => plan::standing(at, since, every, now),
                false => Standing::NotApplicable,
            };
            let overdue_at = plan::overdue_at(at, since, every);
            Ok(View {
                description: known.map_or("", |known| known.description()).to_owned(),
                standing: wanted.then_some(standing),
                overdue_at: (wanted && not_applicable.is_empty()).then_some(overdue_at),
                not_applicable,
                last: of_it().next().cloned(),
                passed,
                name,
            })
        };
        names.into_iter().map(view).collect()
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

/// The id of a drill: of one run, which may do several, always the same.
fn id_of(run: &str, number: u32, at: Timestamp) -> String {
    let run = ulid::Ulid::from_string(run).map_or(0, |it| it.random());
    let at = u64::try_from(at.as_millisecond()).unwrap_or_default();
    ulid::Ulid::from_parts(at, run.wrapping_add(u128::from(number))).to_string()
}

/// What a drill that came to its end has shown: how long it took, and how much would have been lost, only where all was
/// well again. Pure.
fn ended(blank: DrillRecord, rehearsed: Rehearsed, took: Duration) -> DrillRecord {
    let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let outcome = rehearsed.outcome();
    let well = outcome == DrillOutcome::Passed;
    DrillRecord {
        outcome,
        rto_ms: well.then(|| milliseconds(took)),
        rpo_ms: rehearsed.rpo.filter(|_| well).map(milliseconds),
        steps: rehearsed.steps,
        deviations: rehearsed.deviations,
        ..blank
    }
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
            let lost = record.rpo_ms.map(|rpo| format!(", RPO {:.0} s", rpo as f64 / 1_000.0));
            format!("{drill} passed, RTO {seconds:.1} s{}{odd}", lost.unwrap_or_default())
        }
        (DrillOutcome::Failed, _) => format!("{drill} failed: {}", record.deviations.join("; ")),
        (DrillOutcome::Unknown, _) => {
            format!("{drill} proves nothing: {}", record.deviations.join("; "))
        }
    }
}
