//! What people do about an emergency: declare it, close positions, agree to its end, end it.

use std::time::Duration;

use genesis_storage::{ApprovalRecord, EmergencyRecord};

use super::Recovery;
use crate::error::{Error, Result, Unmet};
use crate::fleet::reach::Reach;
use crate::plan::{Plan, PlanStep, demand_reason};

/// So long a disk is waited for before positions are closed without it.
const DISK: Duration = Duration::from_secs(2);

impl Recovery {
    /// What activation would do, on this host or in the whole fleet.
    pub fn plan_activation(&self, fleet: bool) -> Plan {
        let mut plan = self.emergency.plan_activation();
        if fleet {
            let name = &self.fleet.config().name;
            let step =
                PlanStep::new("tell", format!("fleet {name}"), "every member declares it too");
            plan.steps.push(step);
            plan = Plan::new("emergency.activate-fleet", &[&plan.hash], plan.steps);
        }
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

    /// Declares an emergency in the whole fleet, and waits a moment for the others. On this host it is in force whatever
    /// becomes of that.
    ///
    /// # Errors
    /// `PLAN_CHANGED`, and `EMERGENCY_NOT_DURABLE` or `FLEET_UNCONFIGURED`, with which it is in force on this host.
    pub async fn activate_fleet(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<(EmergencyRecord, bool, Reach)> {
        if !plan_hash.is_empty() {
            self.plan_activation(true).accept(plan_hash)?;
        }
        // What was in force before is this host's own, and stays when the fleet's is over.
        let only = !self.emergency.active();
        // The others are not kept waiting by a disk of this host.
        let (activated, declared) = tokio::join!(self.emergency.activate(by, reason, ""), async {
            tokio::task::yield_now().await;
            self.fleet.declare_emergency(only).await
        });
        let (_, was_active) = activated?;
        // Whoever reads of a refusal must not take it that nothing is in force.
        declared.map_err(|mut error| {
            if error.code == "FLEET_UNCONFIGURED" {
                error.message =
                    format!("it is in force on this host, and nowhere else: {}", error.message);
            }
            error
        })?;
        let reach = self.fleet.reach(true).await;
        let record = self.emergency.current().ok_or_else(|| {
            Error::conflict("NO_EMERGENCY", "the emergency was released while it was declared")
        })?;
        Ok((record, was_active, reach))
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

    /// What a release in the whole fleet would do.
    ///
    /// # Errors
    /// `NO_EMERGENCY`.
    pub fn plan_release_fleet(&self) -> Result<Plan> {
        let plan = self.plan_release()?;
        let name = &self.fleet.config().name;
        let tell = PlanStep::new(
            "tell",
            format!("fleet {name}"),
            "members that have it only for the fleet's sake end it",
        );
        let steps = std::iter::once(tell).chain(plan.steps).collect();
        Ok(Plan::new("emergency.release-fleet", &[&plan.hash], steps))
    }

    /// Ends the emergency of the fleet, and this host's.
    ///
    /// # Errors
    /// As [`Recovery::release`], `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `FLEET_CONFLICT`.
    pub async fn release_fleet(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<(EmergencyRecord, Reach)> {
        let plan = self.plan_release()?;
        self.plan_release_fleet()?.accept(plan_hash)?;
        demand_reason(reason, "why may everything start again?")?;
        let epoch = self.epoch_in_force().unwrap_or_default();
        self.course.may_end(epoch)?;
        let flag = self.emergency.plan_release()?.hash;
        // The fleet first: what is released here before would be declared anew for its sake.
        let end = async {
            self.fleet.release_emergency(by, reason).await?;
            match self.emergency.release(by, reason, &flag).await {
                Err(error) if error.code == "NO_EMERGENCY" => {
                    // It has ended for the fleet's sake meanwhile.
                    self.emergency.current().ok_or(error)
                }
                released => released,
            }
        };
        let record = self.course.end(epoch, (by, &plan.hash), end).await?;
        Ok((record, self.fleet.reach(false).await))
    }

    /// Refuses to end an emergency of the fleet on one host alone.
    fn may_leave_fleet(&self) -> Result<()> {
        let record = self.emergency.current().filter(EmergencyRecord::active);
        let mark = record.and_then(|record| record.fleet).filter(|mark| mark.told);
        let (Some(mark), true) = (mark, self.fleet.is_configured()) else { return Ok(()) };
        // What is not known to be over is in force.
        let over = self
            .fleet
            .known_emergency()
            .is_ok_and(|known| known.is_some_and(|it| !it.active() && it.epoch >= mark.epoch));
        if over {
            return Ok(());
        }
        let message = format!(
            "emergency {} is that of fleet {}: release it with --fleet. Where its etcd is gone for good, take [fleet.etcd] \
             out of the configuration, restart the agent, and release it here",
            mark.epoch,
            self.fleet.config().name
        );
        let unmet = Unmet {
            code: "FLEET_EMERGENCY",
            subject: "fleet".to_owned(),
            message: message.clone(),
        };
        Err(Error::refused("FLEET_EMERGENCY", message, vec![unmet]))
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
    /// `NO_EMERGENCY`, `FLEET_EMERGENCY`, `REASON_MISSING`, `CLOSING`, `PLAN_CHANGED`, `APPROVAL_MISSING`,
    /// `STORAGE_FAILED`.
    pub async fn release(
        &self,
        by: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<EmergencyRecord> {
        let plan = self.plan_release()?;
        self.may_leave_fleet()?;
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
