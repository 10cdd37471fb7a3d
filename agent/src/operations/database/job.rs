//! The weekly job: each database whose window is open. And what becomes of a care that a crash cut off.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use genesis_storage::{
    CareOutcome, ReconciliationRecord, RunRecord, RunState, StepRecord, StepState, Verdict,
};

use super::begin::{Begun, Due, Wish};
use super::config::Instance;
use super::record::{StepOutcome, StepReport};
use super::{Databases, OPTIMIZE, ledger};
use crate::error::{Error, Kind, Result};
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::{Engine, upkeep};
use crate::runs::{Context, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// The name of the job.
pub const CARE: &str = "database.care";
/// So many databases are cared for at once. They have one window, mostly, and each its own server.
const AT_ONCE: usize = 4;
/// What may be over in a while.
const HELD: [&str; 6] = [
    "PREFLIGHT_BLOCKED",
    "DATABASE_UNREACHABLE",
    "DATABASE_FAILED",
    "FLEET_HELD",
    "FLEET_UNREACHABLE",
    "FENCE_BLOCKED",
];
/// What clearing up at the start of the agent may take for one index.
const CLEARING: Duration = Duration::from_secs(20);

/// The jobs of databases.
pub fn jobs(databases: &Arc<Databases>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(Care(Arc::clone(databases)))]
}

struct Care(Arc<Databases>);

#[async_trait]
impl Job for Care {
    fn name(&self) -> &'static str {
        CARE
    }

    fn description(&self) -> &'static str {
        "cares for each database whose window is open: vacuum, indexes, verification"
    }

    /// Due whenever one of the databases is.
    fn schedule(&self) -> Schedule {
        let config = self.0.config();
        let schedules = config.instances.iter().filter_map(|it| it.schedule.as_ref());
        Schedule::any(schedules).unwrap_or_else(|| config.schedule.clone())
    }

    fn grace(&self) -> Duration {
        let config = self.0.config();
        config.instances.iter().map(|it| it.window).max().unwrap_or(Duration::from_secs(1_800))
    }

    fn spread(&self) -> Duration {
        // A window is short; that two hosts care for two databases at once harms neither.
        Duration::from_secs(60).min(self.grace() / 10)
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let mut waiting = Vec::new();
        for instance in &self.0.config().instances {
            if matches!(self.0.due(instance)?, Due::Now(_)) {
                waiting.push(instance.clone());
            }
        }
        let (mut told, mut proven, mut failed) = (Vec::new(), true, None);
        loop {
            context.safe_point()?;
            let cares = waiting.into_iter().map(|instance| self.care(instance, &context));
            let ended: Vec<Result<One>> = stream::iter(cares).buffered(AT_ONCE).collect().await;
            // What holds a care back may be over in a while, and its window still open.
            let mut held = Vec::new();
            for one in ended {
                match one? {
                    One::Held(instance, error) => held.push((*instance, error)),
                    One::Ended { said, succeeded, failure } => {
                        told.push(said);
                        proven &= succeeded;
                        failed = failed.or(failure);
                    }
                }
            }
            (waiting, held) = self.0.due_still(held)?;
            for (instance, error) in held {
                // Whoever of the fleet cares for it says how that went.
                if error.code != "FLEET_HELD" {
                    failed.get_or_insert(error.kind);
                }
                told.push(format!("{}: {}", instance.target.name, error.chain()));
            }
            let Some(pause) = waiting.iter().map(pause).min() else { break };
            tokio::select! {
                () = self.0.outside.clock.sleep(pause) => {}
                () = context.cancelled() => context.safe_point()?,
            }
        }
        let summary =
            if told.is_empty() { "no database is due".to_owned() } else { told.join("; ") };
        match failed {
            Some(kind) => Err(Error::new(kind, "CARE_DEGRADED", summary)),
            None => Ok(Report { summary, proven }),
        }
    }
}

/// What became of one database that was due.
enum One {
    /// It is held back, or can't be reached.
    Held(Box<Instance>, Error),
    /// It was cared for, or never will be in this window.
    Ended { said: String, succeeded: bool, failure: Option<Kind> },
}

impl Care {
    /// Cares for one that was due when its window opened.
    async fn care(&self, instance: Instance, context: &Context) -> Result<One> {
        let name = instance.target.name.clone();
        let wish = Wish { actor: context.actor(), reason: context.reason(), ..Wish::default() };
        let run = match self.0.optimize(instance.clone(), wish).await {
            Ok(Begun::Run(started)) => started.id,
            Ok(Begun::NotDue(_)) => {
                let said = format!(
                    "{name}: its window closed while others were cared for; give it another schedule"
                );
                return Ok(One::Ended { said, succeeded: false, failure: Some(Kind::Unavailable) });
            }
            Err(error) if HELD.contains(&error.code) => {
                return Ok(One::Held(Box::new(instance), error));
            }
            // Another agent that cares for it, or somebody who did not wait for us, is as good.
            Err(error) => {
                let other = matches!(error.code, "DATABASE_HELD" | "RUN_HELD" | "FLEET_CARED");
                let failure = (!other).then_some(error.kind);
                let said = format!("{name}: {}", error.chain());
                return Ok(One::Ended { said, succeeded: true, failure });
            }
        };
        let ended = tokio::select! {
            ended = self.0.runs.wait(&run) => ended?,
            () = context.cancelled() => {
                self.0.runs.cancel(&run, "").await?;
                self.0.runs.wait(&run).await?
            }
        };
        Ok(One::Ended {
            said: format!("{name}: {} (run {run})", ended.summary),
            succeeded: ended.state == RunState::Succeeded,
            failure: (ended.state == RunState::Failed).then_some(Kind::Unavailable),
        })
    }
}

/// Until a care that was held back is tried again.
fn pause(instance: &Instance) -> Duration {
    (instance.window / 6).clamp(Duration::from_secs(1), Duration::from_secs(300))
}

/// A database whose care was held back, and by what.
type Held = (Instance, Error);

impl Databases {
    /// Of those that were held back, the ones whose window will still be open when they are tried again, and the rest.
    fn due_still(&self, held: Vec<Held>) -> Result<(Vec<Instance>, Vec<Held>)> {
        let (mut again, mut over) = (Vec::new(), Vec::new());
        for (instance, error) in held {
            match self.due(&instance)? {
                Due::Now(left) if left > pause(&instance) => again.push(instance),
                Due::Now(_) | Due::Later(_) => over.push((instance, error)),
            }
        }
        Ok((again, over))
    }
}

/// A care that was cut off: what it may have left is cleared up, as far as the ledger proves it ours. Vacuum and analyse
/// leave nothing; what was not done is done the next time.
pub struct CareTable(pub Arc<Databases>);

#[async_trait]
impl Reconcile for CareTable {
    fn kind(&self) -> &'static str {
        OPTIMIZE
    }

    async fn reconcile(&self, record: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        let name = record.parameters.get("database").and_then(|it| it.as_str()).unwrap_or_default();
        let cleared = self.0.clear_up(name).await;
        if let Err(error) = self.0.interrupted(&record.id, name, steps).await {
            tracing::error!(error = error.chain(), "a care that was cut off is not marked as such");
        }
        let begun = steps.iter().find(|step| step.state == StepState::Intent);
        match (cleared, begun) {
            (Err(why), _) => ReconciliationRecord {
                verdict: Verdict::Held,
                detail: format!("what it left is cleared up by the next care: {why}"),
            },
            (Ok(dropped), _) if !dropped.is_empty() => ReconciliationRecord {
                verdict: Verdict::Undone,
                detail: format!("dropped {}", dropped.join(", ")),
            },
            (Ok(_), Some(step)) => ReconciliationRecord {
                verdict: Verdict::Undone,
                detail: format!("nothing is left of {} {}", step.name, step.target),
            },
            (Ok(_), None) => ReconciliationRecord {
                verdict: Verdict::Finished,
                detail: "every step that it had begun was complete".to_owned(),
            },
        }
    }
}

impl Databases {
    /// Ends our sessions of an agent that is gone, and drops what they left, as far as the ledger proves it ours.
    async fn clear_up(&self, name: &str) -> Result<Vec<String>, String> {
        let mut entries = self.ledger(name).map_err(|error| error.chain())?;
        let instance = match self.instance(name) {
            Ok(instance) => instance,
            Err(_) if entries.is_empty() => return Ok(Vec::new()),
            Err(error) => return Err(error.chain()),
        };
        let Engine::Postgres(target) = &instance.target.engine else { return Ok(Vec::new()) };
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        if self.neighbours.shares() {
            // Another host may care for it at this moment, and whoever cares is in its turn.
            return Err("in a fleet that is done in this host's turn".to_owned());
        }
        let limits = Limits { lock: instance.lock_timeout, statement: CLEARING };
        let mut session =
            Session::open(target, "clear-up", limits).await.map_err(|it| it.to_string())?;
        let standing = crate::outside::database::facts::standing(&mut session);
        let system = standing.await.map_err(|it| it.to_string())?.system;
        entries.retain(|entry| entry.system_identifier == system);
        let mut dropped = Vec::new();
        for entry in entries {
            if !upkeep::end_own(&mut session, entry.session).await.map_err(|it| it.to_string())? {
                return Err(format!("the session {} has not ended yet", entry.session.0));
            }
            let cleared = ledger::clear(&mut session, &entry).await.map_err(|it| it.to_string())?;
            if let Some((index, why)) = cleared.kept.first() {
                return Err(format!("{index} could not be dropped: {why}"));
            }
            self.settle(&entry).await.map_err(|error| error.chain())?;
            dropped.extend(cleared.dropped);
        }
        session.close().await;
        Ok(dropped)
    }

    /// Keeps that a care was cut off, and what it had done until then.
    async fn interrupted(&self, run: &str, name: &str, steps: &[StepRecord]) -> Result<()> {
        let records = self.state.read(|reading| Ok(reading.care().list(Some(name), 10)?))?;
        let Some(mut record) = records.into_iter().find(|record| record.id == run) else {
            return Ok(());
        };
        record.outcome = CareOutcome::Interrupted;
        record.ended_at = Some(self.outside.clock.now());
        let mut report = super::reported(record.clone());
        for step in steps {
            let (outcome, detail) = match step.state {
                StepState::Done => (StepOutcome::Done, step.detail.clone()),
                StepState::Intent => (StepOutcome::Deferred, "the agent stopped in it".to_owned()),
                _ => (StepOutcome::Failed, step.detail.clone()),
            };
            let took = step.ended_at.map(|ended| ended.duration_since(step.started_at));
            report.step(StepReport {
                action: step.name.clone(),
                target: step.target.clone(),
                outcome,
                bytes_before: 0,
                bytes_after: 0,
                took_ms: took.map_or(0, |took| took.unsigned_abs().as_millis() as u64),
                detail,
            });
        }
        record.report = serde_json::to_value(report).unwrap_or_default();
        self.keep(record).await
    }
}
