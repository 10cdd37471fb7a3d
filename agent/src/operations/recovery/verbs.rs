//! What people do about an emergency: declare it, close positions, agree to its end, end it.

use std::time::Duration;

use genesis_storage::{ApprovalRecord, EmergencyRecord};

use super::Recovery;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep, demand_reason};

/// So long a disk is waited for before positions are closed without it.
const DISK: Duration = Duration::from_secs(2);

impl Recovery {
    /// What activation would do.
    pub fn plan_activation(&self) -> Plan {
        let mut plan = self.emergency.plan_activation();
        if !plan.steps.is_empty() && self.course.configured() {
            let step = |action: &str, target: &str, why: &str| PlanStep::new(action, target, why);
            plan.steps.extend([
                step("halt", "the trading system", "no order leaves any more"),
                step("cancel", "orders at every venue", "those that protect a position stay"),
            ]);
        }
        plan
    }

    /// Declares an emergency; it is durable when this returns. One that is in force stays as it is, and is returned with
    /// `true`. Trading is halted from then on, by the course.
    ///
    /// # Errors
    /// `PLAN_CHANGED`, `EMERGENCY_NOT_DURABLE`.
    pub async fn activate(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<(EmergencyRecord, bool)> {
        self.emergency.activate(by, reason, plan_hash).await
    }

    /// What closing all positions would do.
    ///
    /// # Errors
    /// `TRADING_UNCONFIGURED`.
    pub fn plan_close(&self) -> Result<Plan> {
        let epoch = self.epoch_in_force();
        let trading = self.course.plan_to_close(epoch)?;
        let flag = self.emergency.plan_activation();
        if epoch.is_some_and(|epoch| self.course.closing(epoch)) {
            return Ok(Plan::new("emergency.close", &[&flag.hash, "closing"], Vec::new()));
        }
        let steps = flag.steps.into_iter().chain(trading).collect();
        Ok(Plan::new("emergency.close", &[&flag.hash], steps))
    }

    /// Has all positions closed, in an emergency that is declared where none is in force; whether they were being closed
    /// already.
    ///
    /// # Errors
    /// `PLAN_CHANGED` and nothing was done; `TRADING_UNCONFIGURED` and the emergency is in force.
    pub async fn close(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<(EmergencyRecord, bool)> {
        if !plan_hash.is_empty() {
            self.plan_close()?.accept(plan_hash)?;
        }
        // It is in force in memory at once, and what is open at the venues does not wait for a disk.
        let declaring = self.emergency.activate(by, reason, "");
        let record = match tokio::time::timeout(DISK, declaring).await {
            Ok(Ok((record, _))) => record,
            late => {
                let current = self.emergency.current().filter(EmergencyRecord::active);
                let Some(record) = current else {
                    return Err(late.ok().and_then(Result::err).unwrap_or_else(|| {
                        let message = "the emergency was released while it was declared";
                        Error::conflict("NO_EMERGENCY", message)
                    }));
                };
                tracing::error!("the emergency is not durable yet");
                record
            }
        };
        let was_closing = self.course.ask_to_close(record.epoch, by, reason).await?;
        Ok((record, was_closing))
    }

    /// What a release would do.
    ///
    /// # Errors
    /// `NO_EMERGENCY`.
    pub fn plan_release(&self) -> Result<Plan> {
        let flag = self.emergency.plan_release()?;
        let epoch = self.epoch_in_force().unwrap_or_default();
        let situation = self.course.situation(epoch);
        let situation: Vec<&str> =
            std::iter::once(&flag.hash).chain(&situation).map(String::as_str).collect();
        let resume = self.course.plan_to_resume(epoch);
        let steps = flag.steps.into_iter().chain(resume).collect();
        Ok(Plan::new("emergency.release", &situation, steps))
    }

    /// Ends the emergency; trading goes on from then, by the course.
    ///
    /// # Errors
    /// `NO_EMERGENCY`, `REASON_MISSING`, `CLOSING`, `PLAN_CHANGED`, `APPROVAL_MISSING`, `STORAGE_FAILED`.
    pub async fn release(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<EmergencyRecord> {
        let plan = self.plan_release()?;
        demand_reason(reason, "why may everything start again?")?;
        let epoch = self.epoch_in_force().unwrap_or_default();
        self.course.may_end(epoch)?;
        plan.accept(plan_hash)?;
        // The flag's own plan names the emergency: the next one is not ended by this.
        let flag = self.emergency.plan_release()?.hash;
        let end = self.emergency.release(by, reason, &flag);
        self.course.end(epoch, (by, &plan.hash), end).await
    }

    /// What an approval would agree to: the plan of the release, by its hash.
    ///
    /// # Errors
    /// `NO_EMERGENCY`, `APPROVALS_NOT_NEEDED`, `ALREADY_APPROVED`.
    pub fn plan_approval(&self, by: &str) -> Result<Plan> {
        let plan = self.plan_release()?;
        let epoch = self.epoch_in_force().unwrap_or_default();
        self.course.may_approve(epoch, by, &plan.hash)?;
        Ok(plan)
    }

    /// Agrees to the release as it is planned now; the approvals that count.
    ///
    /// # Errors
    /// As [`Recovery::plan_approval`], `CLOSING`, `REASON_MISSING`, and `PLAN_CHANGED`.
    pub async fn approve(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<Vec<ApprovalRecord>> {
        let plan = self.plan_release()?;
        demand_reason(reason, "why may everything start again?")?;
        let epoch = self.epoch_in_force().unwrap_or_default();
        self.course.may_end(epoch)?;
        plan.accept(plan_hash)?;
        self.course.approve(epoch, by, reason, &plan.hash).await
    }

    /// The approvals that count for the release as it is planned now.
    pub fn approvals(&self) -> Vec<ApprovalRecord> {
        let (Some(epoch), Ok(plan)) = (self.epoch_in_force(), self.plan_release()) else {
            return Vec::new();
        };
        self.course.valid_approvals(epoch, &plan.hash)
    }

    fn epoch_in_force(&self) -> Option<u64> {
        self.emergency.current().filter(EmergencyRecord::active).map(|record| record.epoch)
    }
}
