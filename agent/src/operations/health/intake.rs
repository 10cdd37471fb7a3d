//! What looks have found is taken in: each issue moves on, people are called, and what may be done is begun.

use std::sync::Arc;

use genesis_storage::{AttemptOutcome, AttemptRecord, IssueState, Moment, Trigger};

use super::check::Check;
use super::life::{self, Happened, Status};
use super::record::{Pending, issue_id, tally};
use super::{ACTOR, Health, Look};
use crate::error::Result;

impl Health {
    /// Takes a batch of results in.
    pub(super) async fn take_in(self: &Arc<Self>, looks: Vec<(Arc<Check>, Look)>) {
        let _alone = self.deciding.lock().await;
        let now = self.outside.clock.moment();
        let mut events = Vec::new();
        {
            let (checks, mut live) = (self.checks(), self.live());
            for (looked_at, look) in looks {
                let id = looked_at.id.clone();
                let (Some(check), Some(seen)) = (checks.get(&id), live.seen.get_mut(&id)) else {
                    continue;
                };
                // Meanwhile it may have been taken out of the configuration, or be another one.
                if **check != *looked_at {
                    continue;
                }
                let happened =
                    seen.known.observe(&check.policy, look.status, &look.detail, &look.at);
                match look.status {
                    Status::Ok | Status::Warn => seen.bad_since = None,
                    Status::Crit | Status::Unknown => {
                        seen.bad_since.get_or_insert_with(|| look.at.clone());
                    }
                }
                if look.status != Status::Unknown {
                    seen.told_at = Some(look.at.clone());
                }
                seen.last = Some(look);
                events.extend(happened.into_iter().map(|what| (id.clone(), what)));
            }
        }
        self.let_nothing_hang(&now);
        self.look_at_the_whole(&now);
        for (id, what) in events {
            self.settle(&id, what, &now);
        }
        self.look_for_cascades(&now);
        self.end_incidents();
        self.decide(&now);
        self.persist().await;
    }

    /// An action whose task broke off by a defect leaves its issue behind: the check tells whether it helped.
    fn let_nothing_hang(&self, now: &Moment) {
        let mut live = self.live();
        if live.busy.is_none() {
            for seen in live.seen.values_mut() {
                if let Some(issue) = &mut seen.known.issue {
                    life::recover(issue, now);
                }
            }
        }
    }

    /// What follows from one thing that happened to an issue.
    pub(super) fn settle(&self, id: &str, what: Happened, now: &Moment) {
        match what {
            Happened::Helped => self.verified(id, AttemptOutcome::Succeeded),
            Happened::DidNotHelp => self.verified(id, AttemptOutcome::Failed),
            Happened::CouldNotVerify => self.verified(id, AttemptOutcome::Unknown),
            Happened::Escalate(trigger) => self.call_people(id, trigger, now, (ACTOR, "")),
            Happened::FlappingBegan | Happened::FlappingEnded => {
                let began = what == Happened::FlappingBegan;
                let (outcome, detail) = match began {
                    true => ("began", "it changes so often that nothing is done about it"),
                    false => ("ended", "it has been steady for long enough"),
                };
                let intent = self.intent(ACTOR, "health.flapping").target(id);
                self.later(Pending::new(intent.outcome(outcome).detail(detail)));
            }
            Happened::CantTell | Happened::CanTell => {
                let outcome = if what == Happened::CantTell { "began" } else { "ended" };
                let detail = self.live().seen.get(id).and_then(|seen| seen.last.clone());
                let intent = self.intent(ACTOR, "health.unknown").target(id).outcome(outcome);
                let detail = detail.map_or_else(String::new, |look| look.detail);
                self.later(Pending::new(intent.detail(detail)));
            }
            Happened::Opened | Happened::Confirmed | Happened::Dropped | Happened::Cleared => {}
        }
    }

    /// The verdict on the attempt that was being verified.
    fn verified(&self, id: &str, outcome: AttemptOutcome) {
        let (issue, after) = {
            let live = self.live();
            let Some(seen) = live.seen.get(id) else { return };
            let after = seen.last.as_ref().map_or_else(String::new, |look| look.detail.clone());
            (seen.known.issue.clone(), after)
        };
        let Some(issue) = issue else { return };
        if let Err(error) = self.conclude(&issue.attempt, outcome, &after, "") {
            tracing::error!(check = id, error = error.chain(), "an attempt could not be concluded");
        }
    }

    /// Records how an attempt ended, and tells whoever waits for it.
    ///
    /// # Errors
    /// `STORAGE_FAILED` when it can't be read; what can't be written is written later.
    pub(super) fn conclude(
        &self,
        attempt: &str,
        outcome: AttemptOutcome,
        after: &str,
        detail: &str,
    ) -> Result<()> {
        let Some(mut record) = self.latest(attempt)? else { return Ok(()) };
        record.outcome = outcome;
        record.ended_at = Some(self.outside.clock.now());
        after.clone_into(&mut record.after);
        if !detail.is_empty() {
            detail.clone_into(&mut record.detail);
        }
        let (said, why) = match outcome {
            AttemptOutcome::Succeeded => ("ok", "the condition cleared and stayed clear"),
            AttemptOutcome::NotNeeded => ("not-needed", detail),
            AttemptOutcome::Unknown => ("unknown", "whether it helped can't be told"),
            _ if detail.is_empty() => ("REMEDY_DID_NOT_HELP", "the condition has not cleared"),
            _ => ("ACTION_FAILED", detail),
        };
        let intent = self
            .intent(ACTOR, "health.attempt.verified")
            .target(issue_id(&record.check, record.episode))
            .outcome(said)
            .detail(format!("{} {}: {why}; {after}", record.action, record.number))
            .correlation_id(record.id.clone());
        self.metrics.attempted(&record.action, outcome);
        // What people run counts among the operations.
        let by_itself = record.actor == ACTOR;
        let tally = by_itself.then(|| tally(outcome)).flatten();
        let pending = Pending { tally, ..Pending::new(intent) };
        let issue = self.live().seen.get(&record.check).and_then(|seen| seen.known.issue.clone());
        let issue = issue.filter(|issue| issue.episode == record.episode);
        self.later(Pending { issue, attempt: Some(record), ..pending });
        if let Some(waiting) = self.live().verdicts.remove(attempt) {
            // Whoever started it may have left.
            let _ = waiting.send(outcome);
        }
        Ok(())
    }

    /// What is known of an attempt, also where it could not be written yet.
    fn latest(&self, attempt: &str) -> Result<Option<AttemptRecord>> {
        let of_it = |pending: &Pending| {
            pending.attempt.as_ref().filter(|record| record.id == attempt).cloned()
        };
        let waiting = self.live().pending.iter().rev().find_map(of_it);
        match waiting {
            Some(record) => Ok(Some(record)),
            None => self.state.read(|reading| Ok(reading.health().attempt(attempt)?)),
        }
    }

    /// Calls people about an issue, once. What another issue explains is that one's.
    pub(super) fn call_people(
        &self,
        id: &str,
        trigger: Trigger,
        now: &Moment,
        (by, reason): (&str, &str),
    ) {
        if trigger != Trigger::Flagged && (self.root(id).is_some() || self.checkers_doubted()) {
            return;
        }
        let (Some(check), Some(issue)) = (self.check(id), {
            let mut live = self.live();
            let issue = live.seen.get_mut(id).and_then(|seen| seen.known.issue.as_mut());
            // Once: not again before somebody has taken notice.
            let due = issue.filter(|issue| {
                issue.open() && (issue.escalated.is_none() || issue.acked.is_some())
            });
            due.map(|issue| {
                life::escalate(issue, trigger, now);
                issue.clone()
            })
        }) else {
            return;
        };
        let incident = self.incident_of(&check, &issue, trigger, (by, reason));
        let action =
            if trigger == Trigger::Flagged { "health.flagged" } else { "health.escalated" };
        let intent = self
            .intent(by, action)
            .target(issue_id(id, issue.episode))
            .reason(reason)
            .outcome(trigger.code())
            .detail(incident.title.clone())
            .correlation_id(incident.id.clone());
        self.open_incident(incident, Pending { issue: Some(issue), ..Pending::new(intent) });
    }

    /// The check behind this one, which it depends on and which has an issue itself: from the first bad look on, lest
    /// something is done before it is known which of them it is, and until it is over, lest something is done while
    /// this one recovers with it.
    pub(super) fn root(&self, id: &str) -> Option<String> {
        let checks = self.checks();
        // Most depend on nothing, and this is asked of each that fails, all the time.
        if checks.get(id).is_none_or(|check| check.depends_on.is_empty()) {
            return None;
        }
        let dependencies = super::incidents::dependencies(&checks);
        let live = self.live();
        let open = super::incidents::open(&live.seen);
        super::gates::root(id, &dependencies, &open).map(str::to_owned)
    }
}

/// Whether an issue is beyond the suspicion that it may be none.
pub(super) fn confirmed(state: IssueState) -> bool {
    !matches!(state, IssueState::Suspect | IssueState::Resolved)
}
