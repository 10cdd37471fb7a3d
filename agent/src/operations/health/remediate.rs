//! Doing something about an issue: the intent before it, the deed, and its result. Whether it helped is not said here
//! but by the check.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{
    AttemptOutcome, AttemptRecord, IssueState, Moment, ReconciliationRecord, RunRecord, StepRecord,
    Verdict,
};
use serde_json::json;
use tokio::sync::oneshot;

use super::act::{Leave, Turn};
use super::check::{Check, Deed};
use super::decide::Own;
use super::gates::Spent;
use super::life;
use super::record::{Pending, issue_id};
use super::{ACTOR, ATTEMPTS_KEPT, Health, ISSUES_KEPT, stance};
use crate::error::{Error, Kind, Result};
use crate::outside::failpoint;
use crate::plan::PlanStep;
use crate::runs::{Context, Reconcile, Report, Request, SecondCaller};

impl Health {
    pub(super) fn begin(self: &Arc<Self>, check: &Arc<Check>) {
        let Some(deed) = check.action.clone() else { return };
        let Some(turn) = Turn::take(self, check.budget(&deed.action)) else { return };
        let (health, check) = (Arc::clone(self), Arc::clone(check));
        tokio::spawn(async move {
            if let Err(error) = health.attempt(&check, &deed, turn).await {
                tracing::error!(check = check.id, error = error.chain(), "an action was not begun");
            }
        });
    }

    /// Dry run: plans what would be done, once for each episode, and records it.
    pub(super) fn rehearse(self: &Arc<Self>, check: &Arc<Check>) {
        let Some(deed) = check.action.clone() else { return };
        let episode = {
            let mut live = self.live();
            let Some(seen) = live.seen.get_mut(&check.id) else { return };
            let episode = seen.open().map_or(0, |issue| issue.episode);
            if seen.planned == episode {
                return;
            }
            seen.planned = episode;
            episode
        };
        // Another agent may have planned it.
        let attempts = self.state.read(|reading| Ok(reading.health().attempts(&check.id, 50)?));
        let planned = |attempt: &AttemptRecord| {
            attempt.episode == episode && attempt.outcome == AttemptOutcome::DryRun
        };
        if attempts.is_ok_and(|attempts| attempts.iter().any(planned)) {
            return;
        }
        let (health, check) = (Arc::clone(self), Arc::clone(check));
        tokio::spawn(async move {
            let plan = health.plan_deed(&check, &deed).await;
            let _alone = health.deciding.lock().await;
            let Some(mut record) = health.announced(&check, &deed, &plan) else { return };
            record.outcome = AttemptOutcome::DryRun;
            record.number = 0;
            record.ended_at = Some(record.at.wall);
            let intent = health
                .intent(ACTOR, "health.attempt.planned")
                .target(issue_id(&check.id, record.episode))
                .outcome("dry-run")
                .detail(format!("{}: {}", record.action, record.plan.join("; ")))
                .correlation_id(record.id.clone());
            health.metrics.attempted(&record.action, AttemptOutcome::DryRun);
            health.later(Pending { attempt: Some(record), ..Pending::new(intent) });
            health.persist().await;
        });
    }

    /// The record of an attempt that is about to begin; `None` when there is no issue any more.
    pub(super) fn announced(
        &self,
        check: &Check,
        deed: &Deed,
        plan: &Result<Vec<PlanStep>>,
    ) -> Option<AttemptRecord> {
        let plan = match plan {
            Ok(steps) => steps
                .iter()
                .map(|step| format!("{} {}: {}", step.action, step.target, step.reason))
                .collect(),
            Err(error) => vec![format!("can't be done: {}", error.chain())],
        };
        let live = self.live();
        let issue = live.seen.get(&check.id)?.open()?;
        Some(AttemptRecord {
            id: self.new_id(),
            check: check.id.clone(),
            episode: issue.episode,
            number: issue.attempts + 1,
            action: deed.action.name.to_owned(),
            plan,
            destructive: deed.action.destructive,
            actor: ACTOR.to_owned(),
            at: self.outside.clock.moment(),
            ended_at: None,
            outcome: AttemptOutcome::Intent,
            before: issue.detail.clone(),
            after: String::new(),
            detail: String::new(),
        })
    }

    /// One attempt: the condition is read again, the plan made, the gates asked once more, the intent written; only
    /// then the action begins.
    async fn attempt(self: &Arc<Self>, check: &Arc<Check>, deed: &Deed, turn: Turn) -> Result<()> {
        let Some(look) = self.needed(check, deed).await else { return Ok(()) };
        let plan = self.plan_deed(check, deed).await;
        if deed.action.trade_touching {
            self.trades.look_all().await;
        }
        let record = {
            let alone = self.deciding.lock().await;
            let now = self.outside.clock.moment();
            let denied = self.denied(check, &now, Own::Begins);
            let record = self.announced(check, deed, &plan);
            let (true, Some(record)) = (denied.is_empty(), record) else {
                self.remember(&check.id, &denied, &now);
                return Ok(());
            };
            self.announce(check, &record, &now).await?;
            failpoint::hit("health.intent");
            drop(alone);
            record
        };
        let attempt = record.id.clone();
        if let Err(error) = plan {
            let why = error.chain();
            self.carried_out(check, &record, Err(why)).await;
            return Ok(());
        }
        let request = Request {
            kind: deed.action.kind,
            actor: ACTOR.to_owned(),
            reason: format!("{} is bad: {}", check.id, look.detail),
            parameters: json!({ "check": check.id, "episode": record.episode, "attempt": attempt }),
            key: format!("health/{}", check.id),
            second: SecondCaller::Refuse,
            stance: stance(&deed.action),
        };
        let (health, this, done) = (Arc::clone(self), Arc::clone(check), deed.clone());
        let kept = record.clone();
        let started = self
            .runs
            .start(request, move |context| async move {
                health.carry_through(&this, &done, &kept, (context, turn)).await
            })
            .await;
        if let Err(error) = started {
            self.withdraw(check, &attempt, &error.chain()).await;
        }
        Ok(())
    }

    /// Writes the intent: from here on the attempt counts, however it ends.
    async fn announce(&self, check: &Check, record: &AttemptRecord, now: &Moment) -> Result<()> {
        let issue = self.live().seen.get(&check.id).and_then(|seen| seen.known.issue.clone());
        let Some(mut issue) = issue else { return Ok(()) };
        life::begin_attempt(&mut issue, &record.id, now);
        let intent = self
            .intent(ACTOR, "health.attempt.intent")
            .target(issue_id(&check.id, record.episode))
            .outcome("intent")
            .detail(format!("{} {}: {}", record.action, record.number, record.plan.join("; ")))
            .correlation_id(record.id.clone());
        let (written, attempt) = (issue.clone(), record.clone());
        self.write_pending().await?;
        self.state
            .write(intent, move |writing| {
                writing.health().put_issue(&written, ISSUES_KEPT)?;
                writing.health().put_attempt(&attempt, ATTEMPTS_KEPT)?;
                Ok::<_, Error>(())
            })
            .await?;
        let mut live = self.live();
        if let Some(seen) = live.seen.get_mut(&check.id) {
            seen.known.issue = Some(issue.clone());
            seen.stored.issue = Some(issue);
        }
        let day = Duration::from_secs(86_400);
        live.spent.retain(|spent| now.since(&spent.at) < day);
        live.spent.push(Spent {
            attempt: record.id.clone(),
            action: format!("{} of {}", record.action, record.check),
            destructive: record.destructive,
            at: now.clone(),
        });
        Ok(())
    }

    /// The body of an attempt's run: the deed, then the verdict of the check.
    async fn carry_through(
        self: &Arc<Self>,
        check: &Arc<Check>,
        deed: &Deed,
        record: &AttemptRecord,
        (context, turn): (Context, Turn),
    ) -> Result<Report> {
        let step = match context.begin("act", &check.budget(&deed.action)).await {
            Ok(step) => step,
            Err(error) => {
                self.withdraw(check, &record.id, &error.chain()).await;
                return Err(error);
            }
        };
        failpoint::hit("health.before-act");
        failpoint::pause("health.before-act");
        let leave = Leave {
            health: Arc::clone(self),
            check: Arc::clone(check),
            deed: deed.clone(),
            context: context.clone(),
            by_hand: None,
        };
        let (reason, run) = (context.reason(), context.id());
        // What has begun is let finish: it has its own time.
        let done = self.carry_out(check, deed, &leave, &reason, (&run, record.number)).await;
        failpoint::hit("health.after-act");
        let (told, verdict) = oneshot::channel();
        self.live().verdicts.insert(record.id.clone(), told);
        // What the journal of the run can't take (a full disk) is no reason to leave the issue as it is.
        let journalled = match &done {
            Ok(detail) => step.done(detail.clone()).await,
            Err(error) => step.failed(error.chain()).await,
        };
        if let Err(error) = journalled {
            tracing::error!(error = error.chain(), "the end of an action could not be journalled");
        }
        let held_back =
            |error: &Error| error.code == "ACTION_REFUSED" || error.kind == Kind::Cancelled;
        match &done {
            Err(error) if held_back(error) => {
                self.withdraw(check, &record.id, &error.chain()).await;
            }
            Ok(detail) => self.carried_out(check, record, Ok(detail.clone())).await,
            Err(error) => self.carried_out(check, record, Err(error.chain())).await,
        }
        drop(turn);
        let detail = done?;
        let verdict = tokio::select! {
            verdict = verdict => verdict.ok(),
            () = context.cancelled() => None,
        };
        match verdict {
            Some(AttemptOutcome::Succeeded) => {
                Ok(Report::proven(format!("{} helped: {detail}", record.action)))
            }
            Some(AttemptOutcome::Failed) => {
                let message = format!(
                    "{} was carried out ({detail}), and {} has not cleared",
                    record.action, check.id
                );
                Err(Error::unavailable("REMEDY_DID_NOT_HELP", message))
            }
            _ => Ok(Report::unknown(format!(
                "{} was carried out ({detail}); whether it helped is not known yet",
                record.action
            ))),
        }
    }

    /// The result of the deed itself.
    async fn carried_out(
        self: &Arc<Self>,
        check: &Check,
        record: &AttemptRecord,
        outcome: Result<String, String>,
    ) {
        let _alone = self.deciding.lock().await;
        let now = self.outside.clock.moment();
        let mut happened = Vec::new();
        let issue = {
            let mut live = self.live();
            let issue = live.seen.get_mut(&check.id).and_then(|seen| seen.known.issue.as_mut());
            issue.filter(|issue| issue.attempt == record.id).map(|issue| {
                match outcome {
                    Ok(_) => life::enter(issue, IssueState::Verifying, &now),
                    Err(_) => life::in_vain(issue, &check.policy, &now, &mut happened),
                }
                issue.clone()
            })
        };
        match outcome {
            // Its check is not configured any more, and nobody will look whether it helped.
            Ok(detail) if issue.is_none() => {
                if let Err(error) = self.conclude(&record.id, AttemptOutcome::Unknown, "", &detail)
                {
                    tracing::error!(error = error.chain(), "an attempt could not be concluded");
                }
            }
            Ok(detail) => {
                let intent = self
                    .intent(ACTOR, "health.attempt.result")
                    .target(issue_id(&check.id, record.episode))
                    .outcome("done")
                    .detail(format!("{} {}: {detail}", record.action, record.number))
                    .correlation_id(record.id.clone());
                let attempt =
                    AttemptRecord { outcome: AttemptOutcome::Done, detail, ..record.clone() };
                self.later(Pending { issue, attempt: Some(attempt), ..Pending::new(intent) });
            }
            Err(why) => {
                let after = record.before.clone();
                if let Err(error) = self.conclude(&record.id, AttemptOutcome::Failed, &after, &why)
                {
                    tracing::error!(error = error.chain(), "an attempt could not be concluded");
                }
            }
        }
        for what in happened {
            self.settle(&check.id, what, &now);
        }
        self.persist().await;
    }

    /// An attempt was announced and then held back before anything had begun.
    async fn withdraw(self: &Arc<Self>, check: &Check, attempt: &str, why: &str) {
        let _alone = self.deciding.lock().await;
        let now = self.outside.clock.moment();
        {
            let mut live = self.live();
            // It was none, as far as budgets and the brake care.
            live.spent.retain(|spent| spent.attempt != attempt);
            let issue = live.seen.get_mut(&check.id).and_then(|seen| seen.known.issue.as_mut());
            if let Some(issue) = issue.filter(|issue| issue.attempt == attempt) {
                life::withdrawn(issue, &now);
            }
        }
        if let Err(error) = self.conclude(attempt, AttemptOutcome::NotNeeded, "", why) {
            tracing::error!(error = error.chain(), "an attempt could not be withdrawn");
        }
        self.persist().await;
    }
}

/// What an action knows about being cut off: the check tells whether it helped, and it is never simply repeated.
pub struct RemediationTable(pub &'static str);

#[async_trait]
impl Reconcile for RemediationTable {
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn reconcile(&self, _: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        match steps.first() {
            None => ReconciliationRecord {
                verdict: Verdict::NothingDone,
                detail: "the action had not begun; it counts as an attempt".into(),
            },
            Some(step) => ReconciliationRecord {
                verdict: Verdict::Held,
                detail: format!(
                    "{} may or may not have been carried out; its check tells whether it helped, and it counts as an attempt",
                    step.target
                ),
            },
        }
    }
}
