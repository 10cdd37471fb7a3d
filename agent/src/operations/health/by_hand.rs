//! Actions that people run by hand: whatever their checks say, but not whatever else goes on.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{AttemptOutcome, AttemptRecord};
use serde_json::json;

use super::act::{Leave, Turn};
use super::check::{Check, Deed};
use super::incidents::outcome_word;
use super::life::{self, Status};
use super::{ATTEMPTS_KEPT, Health, stance};
use crate::error::{Error, Result, Unmet};
use crate::outside::failpoint;
use crate::plan::{Plan, demand_reason};
use crate::runs::{Context, Report, Request, SecondCaller, Started};

/// An action that a person asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name.
    pub action: &'a str,
    /// Of which check; empty where only one has it.
    pub check: &'a str,
    /// Whether trades in progress don't hold it back.
    pub despite_trades: bool,
}

impl Health {
    /// The check and the deed that a person asks for.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `ACTION_UNKNOWN`, `ACTION_AMBIGUOUS`.
    fn wanted(&self, wanted: Wanted<'_>) -> Result<(Arc<Check>, Deed)> {
        if !wanted.check.is_empty() {
            self.known_check(wanted.check)?;
        }
        let checks = self.checks();
        let all: Vec<(Arc<Check>, Deed)> = checks
            .values()
            .flat_map(|check| check.deeds().map(move |(deed, _)| (Arc::clone(check), deed.clone())))
            .collect();
        let fits = |(check, deed): &&(Arc<Check>, Deed)| {
            deed.action.name == wanted.action
                && (wanted.check.is_empty() || wanted.check == check.id)
        };
        let fitting: Vec<_> = all.iter().filter(fits).cloned().collect();
        match fitting.as_slice() {
            [one] => Ok(one.clone()),
            [] => {
                let names: Vec<String> =
                    all.iter().map(|(check, deed)| check.budget(&deed.action)).collect();
                let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let message = format!("there is no such action here; there are: {there}");
                Err(Error::not_found("ACTION_UNKNOWN", message))
            }
            several => {
                let names: Vec<&str> = several.iter().map(|(check, _)| check.id.as_str()).collect();
                let message =
                    format!("several checks have it: {}; name one with --check", names.join(", "));
                Err(Error::invalid("ACTION_AMBIGUOUS", message))
            }
        }
    }

    /// What running an action by hand would do.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `ACTION_UNKNOWN`, `ACTION_AMBIGUOUS`, `EMERGENCY`, `ACTION_REFUSED` with what holds it back, and
    /// why it could do nothing.
    pub async fn plan_run(&self, wanted: Wanted<'_>) -> Result<Plan> {
        let (check, deed) = self.wanted(wanted)?;
        self.runs.emergency().check(deed.action.kind, stance(&deed.action))?;
        if deed.action.trade_touching {
            self.trades.look_all().await;
        }
        self.may_run(&check, &deed, wanted.despite_trades)?;
        let steps = self.plan_deed(&check, &deed).await?;
        Ok(Plan::new(deed.action.kind, &[&check.id], steps))
    }

    fn may_run(&self, check: &Check, deed: &Deed, despite_trades: bool) -> Result<()> {
        let mut unmet = Vec::new();
        let mut add = |code: &'static str, message: String| {
            unmet.push(Unmet { code, subject: deed.action.name.to_owned(), message });
        };
        if let Some((_, busy)) = &self.live().busy {
            add("CONCURRENCY", format!("{busy} goes on; one action at a time"));
        }
        let guarded = deed.action.trade_touching && !despite_trades;
        if guarded && let Some(why) = super::guard::denial(&self.trades.latest()) {
            add("GUARD", format!("{why}; an admin may pass --despite-trades"));
        }
        if unmet.is_empty() {
            return Ok(());
        }
        let message = format!("{} is held back", check.budget(&deed.action));
        Err(Error::refused("ACTION_REFUSED", message, unmet))
    }

    /// Runs an action by hand, and looks whether its check is well afterwards.
    ///
    /// # Errors
    /// Those of [`Health::plan_run`], `REASON_MISSING` despite trades, `PLAN_CHANGED`, and those of starting a run.
    pub async fn run(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        if wanted.despite_trades {
            demand_reason(&reason, "an action despite trades is run with a reason")?;
        }
        let (check, deed) = self.wanted(wanted)?;
        self.plan_run(wanted).await?.accept(plan_hash)?;
        let request = Request {
            kind: deed.action.kind,
            actor: actor.clone(),
            reason,
            parameters: json!({ "check": check.id, "by_hand": true }),
            key: format!("health/{}", check.id),
            second: SecondCaller::Refuse,
            stance: stance(&deed.action),
        };
        let (health, despite) = (Arc::clone(self), wanted.despite_trades);
        self.runs
            .start(request, move |context| async move {
                health.run_by_hand(&check, &deed, despite, context).await
            })
            .await
    }

    async fn run_by_hand(
        self: &Arc<Self>,
        check: &Arc<Check>,
        deed: &Deed,
        despite_trades: bool,
        context: Context,
    ) -> Result<Report> {
        let before = self.look(check).await.detail;
        let episode = self.open_issue(&check.id).map_or(0, |(_, issue)| issue.episode);
        let mut record = AttemptRecord {
            id: self.new_id(),
            check: check.id.clone(),
            episode,
            number: 0,
            action: deed.action.name.to_owned(),
            plan: vec![deed.means.words()],
            destructive: deed.action.destructive,
            actor: context.actor(),
            at: self.outside.clock.moment(),
            ended_at: None,
            outcome: AttemptOutcome::Intent,
            before,
            after: String::new(),
            detail: String::new(),
        };
        let turn = {
            let _alone = self.deciding.lock().await;
            Turn::take(self, check.budget(&deed.action)).ok_or_else(|| {
                let message = "another action goes on; there is one at a time";
                Error::refused("ACTION_REFUSED", message, Vec::new())
            })?
        };
        self.note_by_hand(&record, "health.attempt.intent", "intent", &context).await?;
        let step = context.begin("act", &check.budget(&deed.action)).await?;
        failpoint::hit("health.before-act");
        let leave = Leave {
            health: Arc::clone(self),
            check: Arc::clone(check),
            deed: deed.clone(),
            context: context.clone(),
            by_hand: Some(despite_trades),
        };
        let (reason, run) = (context.reason(), context.id());
        // What has begun is let finish: it has its own time.
        let done = self.carry_out(check, deed, &leave, &reason, (&run, 0)).await;
        drop(turn);
        match &done {
            Ok(detail) => step.done(detail.clone()).await?,
            Err(error) => step.failed(error.chain()).await?,
        }
        let (outcome, after) = match &done {
            Ok(_) => self.see_whether_it_is_well(check, &context).await,
            Err(_) => (AttemptOutcome::Failed, String::new()),
        };
        record.outcome = outcome;
        record.after = after;
        record.detail = done.as_ref().map_or_else(Error::chain, String::clone);
        record.ended_at = Some(self.outside.clock.now());
        self.metrics.attempted(&record.action, outcome);
        self.note_by_hand(&record, "health.attempt.verified", outcome_word(outcome), &context)
            .await?;
        let detail = done?;
        match outcome {
            AttemptOutcome::Succeeded => Ok(Report::proven(format!("{detail}; {}", record.after))),
            AttemptOutcome::Failed => {
                let message = format!("{detail}, and {} is still bad: {}", check.id, record.after);
                Err(Error::unavailable("REMEDY_DID_NOT_HELP", message))
            }
            _ => Ok(Report::unknown(format!(
                "{detail}; whether it helped can't be told: {}",
                record.after
            ))),
        }
    }

    async fn note_by_hand(
        &self,
        record: &AttemptRecord,
        action: &str,
        outcome: &str,
        context: &Context,
    ) -> Result<()> {
        let intent = self
            .intent(&record.actor, action)
            .target(record.check.clone())
            .reason(context.reason())
            .outcome(outcome)
            .detail(format!("{} by hand: {}", record.action, record.detail))
            .correlation_id(context.id());
        let record = record.clone();
        self.state
            .write(intent, move |writing| {
                Ok(writing.health().put_attempt(&record, ATTEMPTS_KEPT)?)
            })
            .await
    }

    /// Looks at a check until it is well at two looks in a row, or the time for an action to show is over.
    async fn see_whether_it_is_well(
        &self,
        check: &Check,
        context: &Context,
    ) -> (AttemptOutcome, String) {
        let clock = &self.outside.clock;
        let pause = check.policy.interval.min(Duration::from_secs(2));
        let until = clock.monotonic() + check.policy.settle.max(pause * 2);
        let mut well = 0;
        loop {
            let look = self.look(check).await;
            match look.status {
                Status::Ok | Status::Warn => well += 1,
                Status::Crit | Status::Unknown => well = 0,
            }
            if well >= life::CLEAR_CYCLES {
                return (AttemptOutcome::Succeeded, look.detail);
            }
            if clock.monotonic() >= until && well == 0 {
                let outcome = match look.status {
                    Status::Crit => AttemptOutcome::Failed,
                    _ => AttemptOutcome::Unknown,
                };
                return (outcome, look.detail);
            }
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = context.cancelled() => return (AttemptOutcome::Unknown, "nobody waited".to_owned()),
            }
        }
    }
}
