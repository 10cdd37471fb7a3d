//! The scheduled calculation, and the daily care of the file of values.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{ReconciliationRecord, RunRecord, StepRecord, Verdict};

use super::rollout::unmet;
use super::writer::Order;
use super::{Matrices, UPDATE, UPKEEP, plan};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Context, Reconcile, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// What each kind of run does while an emergency is in force. A new matrix reaches into trading, so none is calculated
/// then; a rollback is no run, and always possible.
pub const RUN_KINDS: [(&str, Stance); 2] = [(UPDATE, Stance::Refuse), (UPKEEP, Stance::GoOn)];

/// Jobs of matrices.
pub fn jobs(matrices: &Arc<Matrices>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(Daily(Arc::clone(matrices))), Arc::new(Care(Arc::clone(matrices)))]
}

/// Calculates a new matrix.
struct Daily(Arc<Matrices>);

#[async_trait]
impl Job for Daily {
    fn name(&self) -> &'static str {
        UPDATE
    }

    fn description(&self) -> &'static str {
        "calculates a correlation matrix from the window of series, and rolls it out if it is valid"
    }

    fn schedule(&self) -> Schedule {
        self.0.config().schedule.clone()
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(6 * 3_600)
    }

    fn spread(&self) -> Duration {
        Duration::ZERO
    }

    fn stance(&self) -> Stance {
        Stance::Refuse
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        if self.0.calculates().is_err() {
            return Ok(Report::proven("none is calculated here: the fleet's is taken"));
        }
        if let Err(error) = self.0.store() {
            // People are told of the file itself.
            return Ok(Report::unknown(error.message));
        }
        if let Err(error) = self.0.no_rollout() {
            return Ok(Report::unknown(format!("no matrix was calculated: {}", error.message)));
        }
        let names = self.0.names()?;
        if names.is_empty() {
            return Ok(Report::proven("there are no series"));
        }
        let carry = self.0.config().carry;
        self.0.update_in(&context, carry, "scheduled").await
    }
}

/// Forgets what is older than the window.
struct Care(Arc<Matrices>);

#[async_trait]
impl Job for Care {
    fn name(&self) -> &'static str {
        UPKEEP
    }

    fn description(&self) -> &'static str {
        "forgets values of series that are older than the window of matrices"
    }

    fn schedule(&self) -> Schedule {
        Schedule::constant("43 1 * * *")
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
            return Ok(Report::unknown(error.message));
        }
        let oldest = self.0.oldest_kept()?;
        let step = context.begin("keep-small", "the file of values").await?;
        let own = Arc::clone(&self.0);
        let silent = tokio::task::spawn_blocking(move || own.silent_since(oldest)).await;
        let silent = silent.map_err(|error| {
            Error::internal("CALL_PANICKED", "a look at all values hit a defect").caused_by(error)
        })??;
        let gone = self.0.order(|answer| Order::KeepSmall(oldest, silent, answer)).await?;
        step.done(format!("{gone} hours of series")).await?;
        Ok(Report::proven(format!("{gone} hour(s) of series forgotten")))
    }
}

impl Matrices {
    /// The first day whose values are kept: as many days that have some as the window has, whatever the clock says, and
    /// said when they came.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub(super) fn oldest_kept(&self) -> Result<u32> {
        let days = self.days();
        // The day before has the price that the first return is made with.
        let wanted = (days.end() - days.start()) as usize + 2;
        let there = self.store()?.read(|reading| Ok::<_, Error>(reading.days()?))?;
        let newest = there.into_iter().rev().nth(wanted.saturating_sub(1));
        Ok(newest.unwrap_or(0).min(days.start().saturating_sub(1)))
    }

    /// The numbers of series that have no value from a day on.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `STORAGE_FAILED`.
    pub(super) fn silent_since(&self, day: u32) -> Result<BTreeSet<u32>> {
        self.store()?.read(|reading| {
            let names = reading.names()?;
            let mut silent: BTreeSet<u32> = names.into_iter().map(|(_, number)| number).collect();
            reading.hours(day.saturating_mul(24)..=u32::MAX, |_, series, _| {
                silent.remove(&series);
                Ok::<_, Error>(())
            })?;
            Ok(silent)
        })
    }

    /// Calculates a matrix and takes it in.
    pub(super) async fn update_in(
        self: &Arc<Self>,
        context: &Context,
        carry: bool,
        cause: &str,
    ) -> Result<Report> {
        let step = context.begin("calculate", "the window of series").await?;
        let made = match self.making(carry, true).await {
            Ok(made) => made,
            Err(error) => {
                step.failed(error.chain()).await?;
                return Err(error);
            }
        };
        step.done(format!(
            "{} series, {} day(s) of which {} were summed anew",
            made.record.series, made.days, made.fresh
        ))
        .await?;
        context.safe_point()?;
        let step = context.begin("take-in", "the new version").await?;
        let (who, reason) = (context.actor(), context.reason());
        let record = match self.admit(made, cause, (&who, &reason)).await {
            Ok(record) => record,
            Err(error) => {
                step.failed(error.chain()).await?;
                return Err(error);
            }
        };
        self.metrics.updated(&record.state);
        let version = record.version;
        if record.state == plan::REJECTED {
            let why = unmet(&record);
            step.failed(format!("version {version} is rejected: {why}")).await?;
            let message = format!(
                "version {version} is rejected: {why}; `genesisctl matrix show --version {version}` has all criteria"
            );
            return Err(Error::refused("MATRIX_REJECTED", message, Vec::new()));
        }
        let served = self.serving().version(version).is_some();
        let summary = match record.stages.last() {
            Some(stage) => format!(
                "version {version} of {} series is valid, and rolled out to {} % of the consumers",
                record.series, stage.percent
            ),
            None => format!("version {version} of {} series is valid and active", record.series),
        };
        step.done(summary.clone()).await?;
        Ok(if served { Report::proven(summary) } else { Report::unknown(summary) })
    }
}

/// What becomes of a calculation, or of the care of the file, that a crash cut off: a version is there or not, and the
/// next one does all of it.
pub struct UpdateTable(pub &'static str);

#[async_trait]
impl Reconcile for UpdateTable {
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn reconcile(&self, _: &RunRecord, _: &[StepRecord]) -> ReconciliationRecord {
        ReconciliationRecord {
            verdict: Verdict::Finished,
            detail: "the new version is there with its values, or it is not; the next run does all of it"
                .to_owned(),
        }
    }
}
