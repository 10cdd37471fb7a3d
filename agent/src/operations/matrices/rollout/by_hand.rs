//! What people change of rollouts and versions by hand: go on, end, go back. Each is planned first.

use std::sync::Arc;

use genesis_stats::correlation::Correlation;
use genesis_storage::MatrixRecord;

use super::super::plan::{self, Back, By, StageEnd};
use super::super::{Matrices, UPDATE};
use super::Change;
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep, demand_reason};

impl Matrices {
    fn running(&self) -> Result<Arc<MatrixRecord>> {
        self.canary().ok_or_else(|| {
            let message =
                "no rollout goes on; `genesisctl matrix history` shows those that did".to_owned();
            Error::not_found("ROLLOUT_NOT_FOUND", message)
        })
    }

    /// What going on to the next stage by hand would do.
    ///
    /// # Errors
    /// `ROLLOUT_NOT_FOUND`, `STORAGE_RECORD_UNREADABLE`.
    pub fn plan_advance(&self) -> Result<Plan> {
        let canary = self.running()?;
        let stage = self.stage_of(&canary)?;
        let (_, _, why) = stage.view();
        let target = format!("version {}", canary.version);
        let end = PlanStep::new("end-stage", target.clone(), format!("{} %: {why}", stage.percent));
        let next = match plan::next_percent(&canary) {
            Some(percent) => {
                PlanStep::new("begin-stage", target, format!("{percent} % of the consumers use it"))
            }
            None => PlanStep::new(
                "activate",
                target,
                format!("all consumers use it, instead of version {}", canary.control),
            ),
        };
        let version = canary.version.to_string();
        let percent = stage.percent.to_string();
        Ok(Plan::new("matrices.advance", &[&version, &percent], vec![end, next]))
    }

    /// Goes on to the next stage by hand.
    ///
    /// # Errors
    /// `ROLLOUT_NOT_FOUND`, `REASON_MISSING`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn advance(&self, hash: &str, (who, reason): (&str, &str)) -> Result<u64> {
        demand_reason(reason, "a stage that somebody ends is told with a reason")?;
        let _alone = self.turn().await?;
        self.plan_advance()?.accept(hash)?;
        let canary = self.running()?;
        self.undecided(&canary)?;
        self.runs.emergency().check(UPDATE, Stance::Refuse)?;
        let stage = self.stage_of(&canary)?;
        let by = By { at: self.now(), who, reason };
        let (_, _, why) = stage.view();
        let verdict = format!("forced by {who}: {reason} ({why})");
        let tally = stage.to_text();
        let end = StageEnd { how: plan::FORCED, verdict: &verdict, tally: &tally };
        let records = plan::advance(&self.versions(), &canary, end, by);
        let detail = format!("the stage of {} % was forced", stage.percent);
        let (action, target) = ("matrices.advanced", canary.version);
        self.change(Change { action, target, detail, by, records, values: None }).await?;
        self.metrics.staged(plan::FORCED);
        Ok(target)
    }

    /// What ending the rollout would do.
    ///
    /// # Errors
    /// `ROLLOUT_NOT_FOUND`, `STORAGE_RECORD_UNREADABLE`.
    pub fn plan_abort(&self) -> Result<Plan> {
        let canary = self.running()?;
        let back = Back::EndRollout(canary.version);
        let version = canary.version.to_string();
        Ok(Plan::new("matrices.abort", &[&version], self.steps_back(back)?))
    }

    /// Ends the rollout.
    ///
    /// # Errors
    /// `ROLLOUT_NOT_FOUND`, `REASON_MISSING`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn abort(&self, hash: &str, (who, reason): (&str, &str)) -> Result<u64> {
        demand_reason(reason, "a rollout that somebody ends is told with a reason")?;
        let _alone = self.turn().await?;
        self.plan_abort()?.accept(hash)?;
        let version = self.running()?.version;
        self.return_to(Back::EndRollout(version), By { at: self.now(), who, reason }).await?;
        Ok(version)
    }

    fn steps_back(&self, back: Back) -> Result<Vec<PlanStep>> {
        let mut steps = Vec::new();
        if let Some(canary) = self.canary() {
            let (_, _, why) = self.stage_of(&canary)?.view();
            let percent = canary.stages.last().map_or(0, |it| it.percent);
            steps.push(PlanStep::new(
                "end-rollout",
                format!("version {}", canary.version),
                format!(
                    "{percent} % of the consumers go back to version {}: {why}",
                    canary.control
                ),
            ));
        }
        if let Back::Activate { from, to } = back {
            let harmful = |it: &&Arc<MatrixRecord>| {
                it.stages.last().is_some_and(|stage| stage.how == plan::HARMFUL)
            };
            if let Some(record) = self.versions().get(&to).filter(harmful) {
                steps.push(PlanStep::new(
                    "mind",
                    format!("version {to}"),
                    format!("it was rolled back for harm: {}", record.ended_reason),
                ));
            }
            steps.push(PlanStep::new(
                "activate",
                format!("version {to}"),
                format!(
                    "all consumers use it, instead of version {from}; `matrix rollback --to {from}` undoes it"
                ),
            ));
        }
        Ok(steps)
    }

    fn way_back(&self, to: u64) -> Result<Back> {
        plan::back(&self.versions(), to).map_err(|(code, why)| match code {
            "MATRIX_NOT_FOUND" => Error::not_found(code, why),
            _ => Error::conflict(code, why),
        })
    }

    /// What going back would do. `to`: the version to go to; 0: the one before.
    ///
    /// # Errors
    /// `MATRIX_NOT_FOUND`, `MATRIX_REJECTED`, `MATRIX_ACTIVE`, `STORAGE_RECORD_UNREADABLE`.
    pub fn plan_rollback(&self, to: u64) -> Result<Plan> {
        let back = self.way_back(to)?;
        let of = match back {
            Back::EndRollout(version) => ["end".to_owned(), version.to_string()],
            Back::Activate { from, to } => [from.to_string(), to.to_string()],
        };
        Ok(Plan::new("matrices.rollback", &[&of[0], &of[1]], self.steps_back(back)?))
    }

    /// Goes back. `to`: the version to go to; 0: the one before. What is active now.
    ///
    /// # Errors
    /// `MATRIX_NOT_FOUND`, `MATRIX_REJECTED`, `MATRIX_ACTIVE`, `REASON_MISSING`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn rollback(
        &self,
        to: u64,
        hash: &str,
        (who, reason): (&str, &str),
    ) -> Result<Arc<MatrixRecord>> {
        demand_reason(reason, "a rollback is told with a reason")?;
        let _alone = self.turn().await?;
        self.plan_rollback(to)?.accept(hash)?;
        let back = self.way_back(to)?;
        if let Back::Activate { to, .. } = back {
            self.readable(to)?;
        }
        self.return_to(back, By { at: self.now(), who, reason }).await?;
        let versions = self.versions();
        plan::in_state(&versions, plan::ACTIVE).cloned().ok_or_else(|| {
            Error::internal("MATRIX_NOT_FOUND", "no version is active after a rollback")
        })
    }

    /// The values of a version can be read: what consumers can't get is not made active.
    pub(super) fn readable(&self, version: u64) -> Result<()> {
        let bytes = self.state.read(|it| Ok(it.matrices().values(version)?))?.unwrap_or_default();
        Correlation::from_bytes(&bytes).map(drop).map_err(|error| {
            let message = format!("the values of version {version} can't be read: {error}");
            Error::internal("STORAGE_RECORD_UNREADABLE", message)
        })
    }

    async fn return_to(&self, back: Back, by: By<'_>) -> Result<()> {
        let tally = match self.canary() {
            // What can't be read keeps nobody from going back.
            Some(canary) => self.stage_of(&canary).map(|it| it.to_text()).unwrap_or_default(),
            None => String::new(),
        };
        let records = plan::go_back(&self.versions(), back, &tally, by);
        let (target, detail) = match back {
            Back::EndRollout(version) => (version, "its rollout was ended".to_owned()),
            Back::Activate { from, to } => (to, format!("active instead of version {from}")),
        };
        let action = "matrices.rolled-back";
        let staged = self.canary().is_some();
        self.change(Change { action, target, detail, by, records, values: None }).await?;
        if staged {
            self.live().stage = None;
            self.metrics.staged(plan::FORCED);
        }
        self.metrics.rolled_back();
        Ok(())
    }
}
