//! What may be done now, and why the rest may not.

use std::sync::Arc;

use genesis_storage::{Control, Denial, IssueState, Moment};

use super::Health;
use super::check::Check;
use super::gates::{self, Candidate, Denied, Situation, Spent};
use super::life::{self, Status};

/// The code of what has nothing to be done about.
pub(super) const NO_ACTION: &str = "NO_ACTION";

/// Whose question it is whether an action may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// It waits for others, and for itself.
    Waits,
    /// It has been chosen and is about to begin, so that it does not stand in its own way.
    Begins,
}

impl Health {
    /// Begins what may be begun, and records why the rest may not.
    pub(super) fn decide(self: &Arc<Self>, now: &Moment) {
        let checks = self.checks();
        let mut waiting: Vec<_> = {
            let live = self.live();
            let open = live.seen.iter().filter_map(|(id, seen)| Some((id, seen.open()?)));
            open.filter(|(_, issue)| life::actionable(issue))
                .filter_map(|(id, issue)| Some((checks.get(id)?.clone(), issue.opened.clone())))
                .collect()
        };
        self.ask_about_trades(waiting.iter().map(|(check, _)| &**check));
        // The worst first, of those the oldest.
        waiting.sort_by_key(|(check, opened)| (std::cmp::Reverse(check.severity), opened.wall));
        for (check, _) in waiting {
            let denied = self.denied(&check, now, Own::Waits);
            let codes: Vec<&str> = denied.iter().map(|denied| denied.code).collect();
            match codes.as_slice() {
                [] if self.would_storm(now) => self.brake(now),
                [] => self.begin(&check),
                [gates::DRY_RUN] => self.rehearse(&check),
                _ => {}
            }
            let denied =
                if codes.is_empty() { self.denied(&check, now, Own::Waits) } else { denied };
            self.remember(&check.id, &denied, now);
        }
    }

    fn would_storm(&self, now: &Moment) -> bool {
        let live = self.live();
        let released = live.controls.get(&Control::BrakeReleased).map(|record| &record.since);
        let since_release = |spent: &&Spent| {
            released.is_none_or(|released| now.since(&spent.at) < now.since(released))
        };
        let spent: Vec<Spent> = live.spent.iter().filter(since_release).cloned().collect();
        gates::storm(&spent, now)
    }

    /// Why nothing may be done about a check's issue now; empty: something may.
    pub(super) fn denied(&self, check: &Check, now: &Moment, own: Own) -> Vec<Denied> {
        let Some(deed) = &check.action else {
            let message = "no action is configured for it; it is left to people".to_owned();
            return vec![Denied { code: NO_ACTION, message }];
        };
        let config = self.config();
        let root = self.root(&check.id);
        let budget = check.budget(&deed.action);
        // A run of it may go on after its action has ended, until it is known whether that helped.
        let held = self.runs.active_with_key(&format!("health/{}", check.id));
        let held = held.map(|run| format!("run {run} of this check"));
        let trades = self.trades.latest();
        let live = self.live();
        let Some((seen, issue)) =
            live.seen.get(&check.id).and_then(|seen| Some((seen, seen.open()?)))
        else {
            return Vec::new();
        };
        let control = |control: Control| live.controls.get(&control);
        let disabled = match control(Control::Disabled).filter(|record| record.holds(now)) {
            Some(record) => Some(format!(
                "{} has switched remediation off: {}",
                record.by,
                if record.reason.is_empty() { "no reason given" } else { &record.reason }
            )),
            None if !config.remediation => {
                Some("remediation is off in the configuration".to_owned())
            }
            None => None,
        };
        let reason = |of: Control| control(of).map(|record| record.reason.as_str());
        let candidate = Candidate {
            action: &budget,
            destructive: deed.action.destructive,
            trade_touching: deed.action.trade_touching,
            goes_on: deed.action.goes_on,
            interval: check.policy.interval,
            signal_at: seen.told_at.as_ref().unwrap_or(&issue.opened),
            flapping: seen.known.check.flapping,
            cooldown: (issue.state == IssueState::Cooldown)
                .then_some((&issue.since, issue.cooldown)),
            root: root.as_deref(),
            escalated: issue.escalated.is_some() && issue.acked.is_none(),
            attempts: issue.attempts,
        };
        let busy = live.busy.as_ref().map(|(_, what)| what.as_str());
        let busy = busy.filter(|what| own == Own::Waits || *what != budget);
        let situation = Situation {
            now,
            started: &self.started,
            resumed: control(Control::Resumed).map(|record| &record.since),
            startup_grace: config.startup_grace,
            dry_run: config.dry_run,
            disabled: disabled.as_deref(),
            brake: reason(Control::Brake),
            checker_suspect: reason(Control::CheckerSuspect),
            emergency: self.runs.emergency().active(),
            busy: busy.or(held.as_deref()),
            spent: &live.spent,
            trades: trades.critical,
            told_by: &trades.evidence,
        };
        let mut denied = gates::denied(&candidate, &situation);
        if seen.last.as_ref().is_some_and(|look| look.status != Status::Crit)
            && !denied.iter().any(|denied| denied.code == "STALE_SIGNAL")
        {
            let message = "the latest look does not show the condition".to_owned();
            denied.push(Denied { code: "STALE_SIGNAL", message });
        }
        denied
    }

    /// Keeps what denies, each since when.
    pub(super) fn remember(&self, id: &str, denied: &[Denied], now: &Moment) {
        let mut live = self.live();
        let Some(issue) = live.seen.get_mut(id).and_then(|seen| seen.known.issue.as_mut()) else {
            return;
        };
        let before = std::mem::take(&mut issue.denials);
        issue.denials = denied
            .iter()
            .map(|denied| {
                let known = before.iter().find(|denial| denial.code == denied.code);
                if known.is_none() {
                    self.metrics.denied(denied.code);
                }
                Denial {
                    code: denied.code.to_owned(),
                    message: denied.message.clone(),
                    since: known.map_or(now.wall, |denial| denial.since),
                }
            })
            .collect();
    }
}
