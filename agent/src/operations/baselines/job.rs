//! The weekly calculation, and the hourly care of the file of observations.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{ReconciliationRecord, RunRecord, StepRecord, Verdict};

use super::calculate::{Calculated, Cause};
use super::{Baselines, RECALCULATE, UPKEEP};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Context, Progress, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// What each kind of run does while an emergency is in force: nothing of it reaches into trading.
pub const RUN_KINDS: [(&str, Stance); 2] = [(RECALCULATE, Stance::GoOn), (UPKEEP, Stance::GoOn)];

/// Jobs of baselines.
pub fn jobs(baselines: &Arc<Baselines>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(Weekly(Arc::clone(baselines))), Arc::new(Hourly(Arc::clone(baselines)))]
}

/// Calculates every baseline anew.
struct Weekly(Arc<Baselines>);

#[async_trait]
impl Job for Weekly {
    fn name(&self) -> &'static str {
        RECALCULATE
    }

    fn description(&self) -> &'static str {
        "calculates every baseline anew from the window of days that is configured"
    }

    fn schedule(&self) -> Schedule {
        self.0.config.load().schedule.clone()
    }

    fn grace(&self) -> Duration {
        // One that was missed is made up for until the next one.
        Duration::from_secs(6 * 86_400)
    }

    fn spread(&self) -> Duration {
        Duration::ZERO
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let names: Vec<String> = self.0.live().numbers.keys().cloned().collect();
        self.0.recalculate_all(&context, names, "weekly").await
    }
}

/// Keeps the file small, and gives new operations their first baseline.
struct Hourly(Arc<Baselines>);

#[async_trait]
impl Job for Hourly {
    fn name(&self) -> &'static str {
        UPKEEP
    }

    fn description(&self) -> &'static str {
        "packs raw observations, lets go of what is past its time, and gives new operations their first baseline"
    }

    fn schedule(&self) -> Schedule {
        Schedule::constant("7 * * * *")
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    fn spread(&self) -> Duration {
        Duration::ZERO
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        match self.0.store() {
            Ok(_) => self.0.upkeep(&context).await,
            // People are told of the file itself.
            Err(error) => Ok(Report::unknown(error.message)),
        }
    }
}

impl Baselines {
    /// Calculates the baselines of these operations, one after the other; each is in force as soon as it is calculated.
    pub(super) async fn recalculate_all(
        self: &Arc<Self>,
        context: &Context,
        names: Vec<String>,
        why: &'static str,
    ) -> Result<Report> {
        let total = names.len();
        let step = context.begin("calculate", &format!("{total} operation(s)")).await?;
        let (mut done, mut few, mut failed) = (0, Vec::new(), Vec::new());
        for name in names {
            context.safe_point()?;
            let cause = Cause { why, by: context.actor(), reason: context.reason() };
            match self.calculate(&name, None, cause).await {
                Ok(Calculated::Generation(_)) => done += 1,
                Ok(Calculated::TooFew(count)) => few.push(format!("{name} ({count})")),
                // One that can't be read keeps the others from nothing.
                Err(error) => failed.push(format!("{name}: {}", error.chain())),
            }
            context.progress(Progress {
                done: (done + few.len() + failed.len()) as u64,
                total: total as u64,
                unit: "operations",
                message: name,
            });
        }
        let mut summary = format!("{done} of {total} baseline(s) calculated");
        if !few.is_empty() {
            let more = few.len().saturating_sub(10);
            few.truncate(10);
            summary = format!("{summary}; too few observations of {}", few.join(", "));
            if more > 0 {
                summary = format!("{summary} and {more} more");
            }
        }
        self.bell.ring();
        if let Some(first) = failed.first() {
            summary = format!("{summary}; {} failed, such as {first}", failed.len());
            step.failed(summary.clone()).await?;
            return Err(Error::internal("BASELINES_FAILED", summary));
        }
        step.done(summary.clone()).await?;
        if total == 1 && done == 0 {
            return Err(Error::refused("TOO_FEW_OBSERVATIONS", summary, Vec::new()));
        }
        Ok(Report::proven(summary))
    }
}

/// What becomes of a calculation, or of the care of the file, that a crash cut off: what was in force is, and the next one
/// does all of it.
pub struct RecalculationTable(pub &'static str);

#[async_trait]
impl Reconcile for RecalculationTable {
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn reconcile(&self, _: &RunRecord, _: &[StepRecord]) -> ReconciliationRecord {
        ReconciliationRecord {
            verdict: Verdict::Finished,
            detail:
                "each operation has its old baseline or its new one; the next run does the rest"
                    .to_owned(),
        }
    }
}
