//! Begins a care, or says why not. Scheduled and manual cares take the same path.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{CareOutcome, CareRecord};
use jiff::Timestamp;
use serde_json::json;

use super::care::Care;
use super::config::Instance;
use super::preflight::{ITEMS, NEVER_OVERRIDDEN};
use super::record::{Item, Report, StepOutcome, Truth};
use super::survey::Survey;
use super::turn::Asked;
use super::{Databases, OPTIMIZE, plan};
use crate::emergency::Stance;
use crate::error::{Error, Kind, Result, Unmet};
use crate::outside::database::facts;
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::{Engine, Failure, Postgres, upkeep};
use crate::plan::{Plan, PlanStep, demand_reason};
use crate::runs::{self, Context, Request, SecondCaller, Started};
use crate::scheduler::calendar::Schedule;

/// What somebody wants.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Now, whatever the window says.
    pub force: bool,
    /// The items that don't count.
    pub overrides: Vec<String>,
    /// An admin wants it so, and gives a reason.
    pub despite: bool,
    /// Only this plan; empty: whatever it is.
    pub plan_hash: String,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// Whether care is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is, and may go on for so long.
    Now(Duration),
    /// It is not; when it is next.
    Later(Option<Timestamp>),
}

/// Whether care is due: within its window, and not tried in it yet. `tried` is when it was last begun.
pub fn due(
    schedule: Option<&Schedule>,
    window: Duration,
    tried: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    let Some(schedule) = schedule else { return Due::Later(None) };
    let next = schedule.next_after(now);
    let Some(last) = schedule.last_until(now) else { return Due::Later(next) };
    let since = now.duration_since(last).unsigned_abs();
    if since >= window || tried.is_some_and(|tried| tried >= last && tried <= now) {
        return Due::Later(next);
    }
    Due::Now(window - since)
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// A run.
    Run(Started),
    /// Nothing: it is not due. When it is.
    NotDue(Option<Timestamp>),
}

impl Databases {
    /// Whether care of a database is due now.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn due(&self, instance: &Instance) -> Result<Due> {
        let tried = self.history(Some(&instance.target.name), super::KEPT)?;
        // One that was held back has not been tried.
        let tried = tried.iter().find(|(record, _)| record.outcome != CareOutcome::Blocked);
        let tried = tried.map(|(record, _)| record.started_at);
        Ok(due(instance.schedule.as_ref(), instance.window, tried, self.outside.clock.now()))
    }

    /// What care would do now.
    ///
    /// # Errors
    /// As [`Databases::optimize`].
    pub async fn plan_optimize(&self, instance: &Instance, wish: &Wish) -> Result<Plan> {
        check_overrides(&wish.overrides)?;
        self.runs.emergency().check(OPTIMIZE, Stance::Refuse)?;
        if !wish.force
            && let Due::Later(next) = self.due(instance)?
        {
            let when = next.map_or_else(|| "never by itself".to_owned(), |at| at.to_string());
            let step = PlanStep::new("wait", &instance.target.name, format!("it is due {when}"));
            return Ok(Plan::new(OPTIMIZE, &["not due"], vec![step]));
        }
        match &instance.target.engine {
            Engine::Postgres(target) => {
                let name = &instance.target.name;
                let opened = Session::open(target, "preflight", Limits::LOOK).await;
                let mut session = opened.map_err(|failure| failure.about(name))?;
                let mut survey = self.survey(instance, &mut session).await?;
                session.close().await;
                overriding(&mut survey.items, &wish.overrides);
                blocked(&instance.target.name, &survey.items)?;
                Ok(self.plan_of(instance, &survey, wish))
            }
            Engine::Sqlite(path) => self.plan_sqlite(instance, path, wish).await,
        }
    }

    fn plan_of(&self, instance: &Instance, survey: &Survey, wish: &Wish) -> Plan {
        let mut steps = Vec::new();
        let tables = plan::vacuums(&survey.tables);
        let dead: i64 = tables.iter().map(|table| table.before.dead).sum();
        let reason =
            format!("{dead} dead rows; {} at a time, those with the most first", instance.jobs);
        steps.push(PlanStep::new("vacuum", format!("{} tables", tables.len()), reason));
        let recent = self.rebuilt(&instance.target.name).unwrap_or_default();
        let now = self.outside.clock.now();
        for reindex in plan::reindexes(&survey.indexes, &instance.bloat, &recent, now) {
            let reason = format!("about {:.0} % of it is bloat", reindex.bloat * 100.0);
            steps.push(PlanStep::new("reindex", reindex.name, reason));
        }
        steps.push(PlanStep::new(
            "verify",
            &instance.target.name,
            format!("{} queries 20 times, indexes, connections, backup", instance.bench.len()),
        ));
        let overridden = wish.overrides.join(",");
        Plan::new(OPTIMIZE, &[&instance.target.name, &overridden], steps)
    }

    /// Begins care, if it is due and nothing holds it back.
    ///
    /// # Errors
    /// `PREFLIGHT_BLOCKED`, `DATABASE_HELD`, `FLEET_HELD`, `FLEET_CARED`, `FLEET_UNREACHABLE`, `FENCED`, `FENCE_MISSING`,
    /// `FENCE_BLOCKED`, `RUN_HELD`, `DATABASE_UNREACHABLE`, `OVERRIDE_INVALID`, `REASON_MISSING`, `PLAN_CHANGED`,
    /// `EMERGENCY`, and those of [`runs::Runs::start`].
    pub async fn optimize(self: &Arc<Self>, instance: Instance, wish: Wish) -> Result<Begun> {
        if wish.despite {
            demand_reason(&wish.reason, "overriding the preflight needs a reason")?;
        }
        check_overrides(&wish.overrides)?;
        self.runs.emergency().check(OPTIMIZE, Stance::Refuse)?;
        let lasts = match (wish.force, self.due(&instance)?) {
            (true, _) => instance.window,
            (false, Due::Now(left)) => left,
            (false, Due::Later(next)) => return Ok(Begun::NotDue(next)),
        };
        let ends = self.outside.clock.monotonic().saturating_add(lasts);
        let key = key(&instance.target.name);
        if let Some(run) = self.runs.active_with_key(&key) {
            let message = format!("run {run} cares for it now; `genesisctl run watch {run}`");
            return Err(Error::conflict("RUN_HELD", message));
        }
        match instance.target.engine.clone() {
            Engine::Postgres(target) => self.optimize_postgres(instance, target, wish, ends).await,
            Engine::Sqlite(path) => self.optimize_sqlite(instance, path, wish, ends).await,
        }
    }

    async fn optimize_postgres(
        self: &Arc<Self>,
        instance: Instance,
        target: Postgres,
        wish: Wish,
        ends: Duration,
    ) -> Result<Begun> {
        let name = instance.target.name.clone();
        let about = |failure: Failure| failure.about(&name);
        let run = self.runs.reserve();
        let mut turn = Session::open(&target, "turn", Limits::LOOK).await.map_err(about)?;
        if !turn.direct() {
            // A lock through a pool would be left to whoever gets the connection next.
            let item = super::preflight::pooled();
            return self.refuse(&instance, &wish, vec![item]).await;
        }
        let standing = facts::standing(&mut turn).await.map_err(about)?;
        let asked = Asked { instance: &instance, wish: &wish, standing: &standing, run: &run };
        let (mut target, mut fleet) = (target, None);
        if !upkeep::turn_is_free(&mut turn).await.map_err(about)? {
            // In a fleet, whoever has it may be a host that was overtaken and does not know.
            (target, turn, fleet) = self.overtake((target, turn), &asked, &[]).await?;
            if fleet.is_none() {
                turn.close().await;
                return Err(held(&name));
            }
        }
        let mut survey = self.survey(&instance, &mut turn).await?;
        overriding(&mut survey.items, &wish.overrides);
        if blocked(&name, &survey.items).is_err() {
            turn.close().await;
            return self.refuse(&instance, &wish, survey.items).await;
        }
        self.plan_of(&instance, &survey, &wish).accept(&wish.plan_hash)?;
        if fleet.is_none() {
            (target, turn, fleet) = self.overtake((target, turn), &asked, &survey.items).await?;
        }
        if !upkeep::take_turn(&mut turn).await.map_err(about)? {
            turn.close().await;
            return Err(held(&name));
        }
        let databases = Arc::clone(self);
        let request = request(&instance, &wish);
        let started = self.runs.start_as(run, request, move |context| async move {
            let report = Report { preflight: survey.items.clone(), ..Report::default() };
            let care = Care::new(
                Arc::clone(&databases),
                (instance, target),
                context.clone(),
                wish.overrides,
                (ends, survey.standing),
                (turn, fleet),
                report,
            );
            let care = Arc::new(care);
            let database = care.instance.target.name.clone();
            let announced = care.report().clone();
            databases.begun(&context, &database, &announced).await?;
            let ended = care.run().await;
            let report = care.report().clone();
            // Its locks end with it.
            care.end_turn(ended.is_ok()).await;
            databases.ended(&context, &database, report, ended).await
        });
        Ok(Begun::Run(started.await?))
    }

    /// Keeps that a care was held back, and says so.
    pub(super) async fn refuse(
        &self,
        instance: &Instance,
        wish: &Wish,
        items: Vec<Item>,
    ) -> Result<Begun> {
        self.keep_held(instance, wish, &items).await?;
        Err(refusal(&instance.target.name, &items))
    }

    pub(super) async fn keep_held(
        &self,
        instance: &Instance,
        wish: &Wish,
        items: &[Item],
    ) -> Result<()> {
        let now = self.outside.clock.now();
        let report = Report { preflight: items.to_vec(), ..Report::default() };
        self.keep(CareRecord {
            id: ulid::Ulid::from_datetime(runs::system_time(now)).to_string(),
            database: instance.target.name.clone(),
            outcome: CareOutcome::Blocked,
            actor: wish.actor.clone(),
            started_at: now,
            ended_at: Some(now),
            report: serde_json::to_value(report).unwrap_or_default(),
        })
        .await
    }

    /// Keeps that a care has begun.
    pub(super) async fn begun(
        &self,
        context: &Context,
        database: &str,
        report: &Report,
    ) -> Result<()> {
        self.keep(self.record(context, database, CareOutcome::Running, report)).await
    }

    fn record(
        &self,
        context: &Context,
        database: &str,
        outcome: CareOutcome,
        report: &Report,
    ) -> CareRecord {
        CareRecord {
            id: context.id(),
            database: database.to_owned(),
            outcome,
            actor: context.actor(),
            started_at: context.started_at(),
            ended_at: (outcome != CareOutcome::Running).then(|| self.outside.clock.now()),
            report: serde_json::to_value(report).unwrap_or_default(),
        }
    }

    /// Keeps what came of a care, and says it as the end of its run.
    pub(super) async fn ended(
        &self,
        context: &Context,
        database: &str,
        report: Report,
        ended: Result<()>,
    ) -> Result<runs::Report> {
        let outcome = match &ended {
            // Cancelled, or another host's turn.
            Err(error) if matches!(error.kind, Kind::Cancelled | Kind::Conflict) => {
                CareOutcome::Interrupted
            }
            Err(_) => CareOutcome::Failed,
            Ok(()) if went_well(&report) => CareOutcome::Done,
            Ok(()) => CareOutcome::Degraded,
        };
        self.keep(self.record(context, database, outcome, &report)).await?;
        ended?;
        let summary = summary(&report);
        match outcome {
            CareOutcome::Done => Ok(runs::Report::proven(summary)),
            _ => {
                let first = report.findings.first();
                let why = first.map_or_else(String::new, |it| {
                    format!(": {} {}: {}", it.code, it.subject, it.message)
                });
                Err(Error::unavailable("CARE_DEGRADED", format!("{summary}{why}")))
            }
        }
    }
}

fn went_well(report: &Report) -> bool {
    let done = report.steps.iter().all(|step| step.outcome == StepOutcome::Done);
    done && report.findings.is_empty()
        && report.verification.iter().all(|item| item.truth == Truth::Pass)
}

/// A care in a line.
pub fn summary(report: &Report) -> String {
    let count = |outcome| report.count(outcome);
    format!(
        "{} steps done, {} failed, {} deferred; {} freed; {} findings",
        count(StepOutcome::Done),
        count(StepOutcome::Failed),
        count(StepOutcome::Deferred),
        super::record::size(report.freed()),
        report.findings.len()
    )
}

fn held(name: &str) -> Error {
    let message =
        format!("another agent cares for database {name} now; try again when it has ended");
    Error::conflict("DATABASE_HELD", message)
}

/// One care of a database at a time.
pub fn key(database: &str) -> String {
    format!("database/{database}")
}

pub(super) fn request(instance: &Instance, wish: &Wish) -> Request {
    Request {
        kind: OPTIMIZE,
        actor: wish.actor.clone(),
        reason: wish.reason.clone(),
        parameters: json!({
            "database": instance.target.name, "force": wish.force, "overrides": wish.overrides,
        }),
        key: key(&instance.target.name),
        second: SecondCaller::Refuse,
        stance: Stance::Refuse,
    }
}

/// Marks the items that do not count this time.
pub(super) fn overriding(items: &mut [Item], overrides: &[String]) {
    for item in items {
        item.overridden = item.truth != Truth::Pass && overrides.contains(&item.name);
    }
}

fn check_overrides(overrides: &[String]) -> Result<()> {
    for name in overrides {
        let why = match name.as_str() {
            name if NEVER_OVERRIDDEN.contains(&name) => "is never overridden",
            name if ITEMS.contains(&name) => continue,
            _ => "is no item of the preflight",
        };
        let message = format!("{name:?} {why}; `genesisctl db preflight` shows them");
        return Err(Error::invalid("OVERRIDE_INVALID", message));
    }
    Ok(())
}

/// Whether something holds a care back.
pub(super) fn blocked(database: &str, items: &[Item]) -> Result<()> {
    if items.iter().all(Item::clear) { Ok(()) } else { Err(refusal(database, items)) }
}

/// What holds a care back, item by item.
fn refusal(database: &str, items: &[Item]) -> Error {
    let unmet: Vec<Unmet> = items
        .iter()
        .filter(|item| !item.clear())
        .map(|item| Unmet {
            code: "PREFLIGHT_BLOCKED",
            subject: item.name.clone(),
            message: match item.truth {
                Truth::Unknown => {
                    format!("can't be told (must be {}): {}", item.limit, item.evidence)
                }
                _ => format!("{} (must be {}): {}", item.value, item.limit, item.evidence),
            },
        })
        .collect();
    let names: Vec<&str> = unmet.iter().map(|unmet| unmet.subject.as_str()).collect();
    let message =
        format!("care of {database} is held back by {}; nothing was sent to it", names.join(", "));
    Error::refused("PREFLIGHT_BLOCKED", message, unmet)
}
