//! What people say: switch remediation off and on, release the brake, flag, acknowledge and resume issues. Each
//! with its plan.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{Control, ControlRecord, IncidentRecord, IssueRecord, Trigger};

use super::check::Check;
use super::incidents::{resumed, words};
use super::life;
use super::record::issue_id;
use super::{ACTOR, Health};
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep, demand_reason, lasting};

/// How long remediation is switched off when nothing is said.
const DISABLED_FOR: &str = "4h";
/// The longest it can be.
const DISABLED_AT_MOST: u64 = 7;

fn lasts_or_default(text: &str) -> Result<Duration> {
    lasting(if text.is_empty() { DISABLED_FOR } else { text }, DISABLED_AT_MOST)
}

impl Health {
    /// What switching remediation off would do.
    ///
    /// # Errors
    /// `DURATION_INVALID`.
    pub fn plan_disable(&self, lasts: &str) -> Result<Plan> {
        let lasts = lasts_or_default(lasts)?;
        let now = self.outside.clock.moment();
        let held = self.live().controls.get(&Control::Disabled).filter(|c| c.holds(&now)).cloned();
        let known = held.as_ref().map_or_else(String::new, |held| held.since.wall.to_string());
        let why = match &held {
            Some(held) => format!("takes the place of what {} said", held.by),
            None => "no action begins by itself until then".to_owned(),
        };
        let step = PlanStep::new("disable", format!("remediation for {}", words(lasts)), why);
        Ok(Plan::new("health.remediation.disable", &[&known], vec![step]))
    }

    /// Keeps actions from beginning by themselves for a while: none does once this has returned. Those that have
    /// begun are let finish, and returned.
    ///
    /// # Errors
    /// `DURATION_INVALID`, `REASON_MISSING`, `PLAN_CHANGED`; `STORAGE_FAILED`: it is in force, but not durable yet.
    pub async fn disable(
        &self,
        lasts: &str,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<(ControlRecord, Vec<String>)> {
        let duration = lasts_or_default(lasts)?;
        demand_reason(reason, "remediation is switched off with a reason")?;
        let _alone = self.deciding.lock().await;
        self.plan_disable(lasts)?.accept(plan_hash)?;
        let record = ControlRecord {
            since: self.outside.clock.moment(),
            lasts: Some(duration),
            by: actor.to_owned(),
            reason: reason.to_owned(),
        };
        let intent = self
            .intent(actor, "health.remediation.disabled")
            .reason(reason)
            .detail(format!("for {duration:?}"));
        // In force at once, also on a disk that is full: it is made durable as soon as there is room.
        self.control(intent, vec![(Control::Disabled, Some(record.clone()))]);
        self.write_now().await?;
        Ok((record, self.live().busy.iter().map(|(_, what)| what.clone()).collect()))
    }

    /// What switching remediation on again would do.
    pub fn plan_enable(&self) -> Plan {
        let now = self.outside.clock.moment();
        let live = self.live();
        match live.controls.get(&Control::Disabled).filter(|control| control.holds(&now)) {
            None => Plan::new("health.remediation.enable", &[], Vec::new()),
            Some(held) => {
                let grace = self.config().startup_grace;
                let why =
                    format!("{} switched it off; actions begin again after {grace:?}", held.by);
                let step = PlanStep::new("enable", "remediation", why);
                Plan::new("health.remediation.enable", &[&held.since.wall.to_string()], vec![step])
            }
        }
    }

    /// Lets actions begin by themselves again, after the grace of a start. `true`: they were allowed to already.
    ///
    /// # Errors
    /// `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn enable(&self, plan_hash: &str, (actor, reason): (&str, &str)) -> Result<bool> {
        let _alone = self.deciding.lock().await;
        let plan = self.plan_enable();
        plan.accept(plan_hash)?;
        if plan.steps.is_empty() {
            return Ok(true);
        }
        let now = self.outside.clock.moment();
        let record = resumed(&now, actor, reason);
        let intent = self.intent(actor, "health.remediation.enabled").reason(reason);
        let kept = record.clone();
        self.write_pending().await?;
        self.state
            .write(intent, move |writing| {
                writing.health().clear_control(Control::Disabled)?;
                writing.health().set_control(Control::Resumed, &kept)?;
                Ok::<_, Error>(())
            })
            .await?;
        let mut live = self.live();
        live.controls.remove(&Control::Disabled);
        live.controls.insert(Control::Resumed, record);
        Ok(false)
    }

    /// Actions were not allowed by the configuration, and are now: they wait as after a start, so that what was
    /// missed does not come in a burst.
    pub(super) async fn allow_again(&self, why: &str) {
        let _alone = self.deciding.lock().await;
        let record = resumed(&self.outside.clock.moment(), ACTOR, why);
        let intent = self.intent(ACTOR, "health.remediation.enabled").detail(why);
        self.control(intent, vec![(Control::Resumed, Some(record))]);
        self.persist().await;
    }

    /// What releasing the brake would do.
    ///
    /// # Errors
    /// `BRAKE_NOT_SET`.
    pub fn plan_release_brake(&self) -> Result<Plan> {
        let brake = self.live().controls.get(&Control::Brake).cloned();
        let brake = brake.ok_or_else(|| {
            Error::conflict("BRAKE_NOT_SET", "the brake is not set; there is nothing to release")
        })?;
        let step = PlanStep::new("release", "brake", brake.reason);
        Ok(Plan::new("health.brake.release", &[&brake.since.wall.to_string()], vec![step]))
    }

    /// Takes the brake off. What was done before does not set it again.
    ///
    /// # Errors
    /// `BRAKE_NOT_SET`, `REASON_MISSING`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn release_brake(
        &self,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<ControlRecord> {
        let _alone = self.deciding.lock().await;
        let plan = self.plan_release_brake()?;
        demand_reason(reason, "the brake is released with a reason")?;
        plan.accept(plan_hash)?;
        let record = resumed(&self.outside.clock.moment(), actor, reason);
        let intent = self.intent(actor, "health.brake.released").reason(reason);
        let kept = record.clone();
        self.write_pending().await?;
        self.state
            .write(intent, move |writing| {
                writing.health().clear_control(Control::Brake)?;
                writing.health().set_control(Control::BrakeReleased, &kept)?;
                Ok::<_, Error>(())
            })
            .await?;
        let brake = {
            let mut live = self.live();
            live.controls.insert(Control::BrakeReleased, record.clone());
            live.controls.remove(&Control::Brake)
        };
        self.end_incidents();
        self.persist().await;
        Ok(brake.unwrap_or(record))
    }

    /// The check and the issue that a person names: "CHECK" for its open issue, or "CHECK#EPISODE".
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `ISSUE_NOT_FOUND`.
    pub fn open_issue(&self, name: &str) -> Result<(Arc<Check>, IssueRecord)> {
        let (id, episode) = self.parse_issue(name);
        let check = self.known_check(id)?;
        let issue = self.live().seen.get(id).and_then(|seen| seen.open().cloned());
        let issue = issue.filter(|issue| episode.is_none_or(|episode| episode == issue.episode));
        let issue = issue.ok_or_else(|| {
            let message = format!("{name} is no open issue; `genesisctl health history --check {id}` has those of the past");
            Error::not_found("ISSUE_NOT_FOUND", message)
        })?;
        Ok((check, issue))
    }

    /// What flagging an issue would do.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `ISSUE_NOT_FOUND`.
    pub fn plan_flag(&self, name: &str) -> Result<Plan> {
        let (check, issue) = self.open_issue(name)?;
        let id = issue_id(&check.id, issue.episode);
        let steps = match issue.escalated {
            Some(_) => Vec::new(),
            None => vec![
                PlanStep::new("open-incident", id.clone(), "people are called about it"),
                PlanStep::new("hold", id.clone(), "nothing more is done about it automatically"),
            ],
        };
        Ok(Plan::new("health.flag", &[&id], steps))
    }

    /// Calls people about an open issue. `None`: they were called before, and nothing was changed.
    ///
    /// # Errors
    /// Those of [`Health::plan_flag`], `REASON_MISSING`, `PLAN_CHANGED`.
    pub async fn flag(
        self: &Arc<Self>,
        name: &str,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<(IssueRecord, Option<IncidentRecord>)> {
        demand_reason(reason, "an issue is flagged with a reason")?;
        let _alone = self.deciding.lock().await;
        let plan = self.plan_flag(name)?;
        plan.accept(plan_hash)?;
        let (check, issue) = self.open_issue(name)?;
        if plan.steps.is_empty() {
            return Ok((issue, None));
        }
        let now = self.outside.clock.moment();
        self.call_people(&check.id, Trigger::Flagged, &now, (actor, reason));
        self.write_now().await?;
        let (_, issue) = self.open_issue(name)?;
        Ok((issue, self.live().incidents.last().cloned()))
    }

    /// The open incident about an issue.
    pub fn incident_about(&self, check: &str, episode: u64) -> Option<IncidentRecord> {
        let live = self.live();
        let about = |incident: &&IncidentRecord| {
            incident.issues.iter().any(|(id, number)| id == check && *number == episode)
        };
        live.incidents.iter().rev().find(about).cloned()
    }

    fn escalated(&self, name: &str) -> Result<(Arc<Check>, IssueRecord)> {
        let (check, issue) = self.open_issue(name)?;
        // One whose attempts are used up waits for people, whether they could be called or not.
        if issue.escalated.is_none() && issue.attempts < life::ATTEMPTS {
            let message =
                format!("nobody was called about {name} yet; there is nothing to take notice of");
            return Err(Error::conflict("ISSUE_NOT_ESCALATED", message));
        }
        Ok((check, issue))
    }

    /// What acknowledging (or with `fresh` resuming) an issue would do.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `ISSUE_NOT_FOUND`, `ISSUE_NOT_ESCALATED`.
    pub fn plan_ack(&self, name: &str, fresh: bool) -> Result<Plan> {
        let (check, issue) = self.escalated(name)?;
        let id = issue_id(&check.id, issue.episode);
        let left = life::ATTEMPTS.saturating_sub(issue.attempts);
        let (verb, why) = match fresh {
            true => ("resume", format!("automation goes on with {} attempts", life::ATTEMPTS)),
            false => ("ack", format!("automation goes on with {left} attempt(s) left")),
        };
        let acked = issue.acked.as_ref().map_or_else(String::new, |(_, at, _)| at.to_string());
        Ok(Plan::new(
            verb,
            &[&issue.attempts.to_string(), &acked],
            vec![PlanStep::new(verb, id, why)],
        ))
    }

    /// Takes notice of an issue about which people were called; with `fresh` automation gets a new count of
    /// attempts.
    ///
    /// # Errors
    /// Those of [`Health::plan_ack`], `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn ack(
        &self,
        name: &str,
        fresh: bool,
        plan_hash: &str,
        (actor, reason): (&str, &str),
    ) -> Result<IssueRecord> {
        let _alone = self.deciding.lock().await;
        self.plan_ack(name, fresh)?.accept(plan_hash)?;
        let (check, mut issue) = self.escalated(name)?;
        let now = self.outside.clock.moment();
        match fresh {
            true => life::resume(&mut issue, actor, reason, &now),
            false => life::ack(&mut issue, actor, reason, &now),
        }
        let action = if fresh { "health.resumed" } else { "health.acked" };
        let intent =
            self.intent(actor, action).target(issue_id(&check.id, issue.episode)).reason(reason);
        let kept = issue.clone();
        self.write_pending().await?;
        self.state
            .write(intent, move |writing| {
                Ok(writing.health().put_issue(&kept, super::ISSUES_KEPT)?)
            })
            .await?;
        if let Some(seen) = self.live().seen.get_mut(&check.id) {
            seen.known.issue = Some(issue.clone());
            seen.stored.issue = Some(issue.clone());
        }
        Ok(issue)
    }

    /// Writes what waits, and says whether that went well.
    async fn write_now(&self) -> Result<()> {
        self.persist().await;
        match self.live().pending.is_empty() {
            true => Ok(()),
            false => Err(Error::unavailable(
                "STORAGE_FAILED",
                "it is in force, and could not be made durable yet; it is tried again with the next look",
            )),
        }
    }
}

impl Health {
    /// A check's id, and an episode where one is named. A folder may have a # in its name, and so the check of it.
    pub(super) fn parse_issue<'n>(&self, name: &'n str) -> (&'n str, Option<u64>) {
        if self.check(name).is_some() {
            return (name, None);
        }
        match name.rsplit_once('#') {
            Some((check, episode)) => match episode.parse() {
                Ok(episode) => (check, Some(episode)),
                Err(_) => (name, None),
            },
            None => (name, None),
        }
    }
}
