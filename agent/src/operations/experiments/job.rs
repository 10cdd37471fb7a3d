//! The daily care of the file of trades.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{ReconciliationRecord, RunRecord, StepRecord, Verdict};

use super::writer::Order;
use super::{Experiments, UPKEEP};
use crate::emergency::Stance;
use crate::error::Result;
use crate::runs::{Context, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// What each kind of run does while an emergency is in force: nothing of it reaches into trading.
pub const RUN_KINDS: [(&str, Stance); 1] = [(UPKEEP, Stance::GoOn)];

/// Jobs of experiments.
pub fn jobs(experiments: &Arc<Experiments>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(Daily(Arc::clone(experiments)))]
}

impl Experiments {
    /// Forgets runs of ids whose trades would be late by now; how many.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, `EXPERIMENTS_UNAVAILABLE`.
    pub async fn keep_small(&self) -> Result<u64> {
        self.order(Order::KeepSmall).await
    }
}

/// Forgets ids of trades that would be late by now.
struct Daily(Arc<Experiments>);

#[async_trait]
impl Job for Daily {
    fn name(&self) -> &'static str {
        UPKEEP
    }

    fn description(&self) -> &'static str {
        "forgets the ids of trades that are older than dedup_retention"
    }

    fn schedule(&self) -> Schedule {
        Schedule::constant("23 1 * * *")
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(86_400)
    }

    fn spread(&self) -> Duration {
        Duration::ZERO
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        if let Err(error) = self.0.store() {
            // People are told of the file itself.
            return Ok(Report::unknown(error.message));
        }
        let step = context.begin("keep-small", "the file of trades").await?;
        let gone = self.0.keep_small().await?;
        step.done(format!("{gone} runs of ids")).await?;
        Ok(Report::proven(format!("{gone} run(s) of ids forgotten")))
    }
}

/// What becomes of a care that a crash cut off: the next one does all of it.
pub struct UpkeepTable;

#[async_trait]
impl Reconcile for UpkeepTable {
    fn kind(&self) -> &'static str {
        UPKEEP
    }

    async fn reconcile(&self, _: &RunRecord, _: &[StepRecord]) -> ReconciliationRecord {
        ReconciliationRecord {
            verdict: Verdict::Finished,
            detail: "each run of ids is there or gone as a whole; the next care does the rest"
                .to_owned(),
        }
    }
}
