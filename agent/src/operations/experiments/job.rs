//! The daily care of the file of trades.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{Intent, ReconciliationRecord, RunRecord, StepRecord, Verdict};

use super::writer::Order;
use super::{ACTOR, Experiments, UPKEEP, plan};
use crate::emergency::Stance;
use crate::error::Result;
use crate::runs::{Context, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// What each kind does while an emergency is in force: a promotion reaches into trading, by hand and by itself.
pub const RUN_KINDS: [(&str, Stance); 2] = [(UPKEEP, Stance::GoOn), (PROMOTE, Stance::Refuse)];
/// A variant becomes the value of all units.
pub const PROMOTE: &str = "experiments.promote";

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

    /// Forgets experiments that ended before the last so many did; how many.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, `EXPERIMENTS_UNAVAILABLE`.
    pub async fn forget(&self) -> Result<u64> {
        let most = self.config.load().history;
        let old = plan::forgotten(&self.live().known, most);
        for number in &old {
            // Its trades first: what is left after a crash is found by its record.
            self.order(|answer| Order::Forget(*number, answer)).await?;
            let _alone = self.turn().await?;
            let intent = Intent::new(self.now(), ACTOR, "experiments.forgotten")
                .target(plan::id(*number))
                .reason(format!("{most} that ended later are kept"));
            let number = *number;
            let written =
                self.state.write(intent, move |it| Ok(it.experiments().forget(number)?));
            self.sure(written.await)?;
            let mut live = self.live();
            live.known.remove(&number);
            live.tallies.remove(&number);
        }
        Ok(old.len() as u64)
    }
}

/// Forgets ids of trades that would be late by now, and what ended long ago.
struct Daily(Arc<Experiments>);

#[async_trait]
impl Job for Daily {
    fn name(&self) -> &'static str {
        UPKEEP
    }

    fn description(&self) -> &'static str {
        "forgets the ids of trades that are older than dedup_retention, and experiments that ended long ago"
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
        let step = context.begin("forget", "experiments that ended").await?;
        let ended = self.0.forget().await?;
        step.done(format!("{ended} experiments")).await?;
        Ok(Report::proven(format!("{gone} run(s) of ids and {ended} experiment(s) forgotten")))
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
